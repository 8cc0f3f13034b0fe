"""A failed build that was kept, as a shell script that runs it again in the same kind of container."""

from __future__ import annotations

import shlex

from ccstore.executor import docker_sandbox, launch
from ccstore.executor.launch import OWNER, USUAL
from ccstore.ports import BuildRequest

_HEAD = """\
# runs the build again on what it left; needs `docker` and `tar`, and DOCKER_HOST as it was
set -e
name=ccstore-again-$$
texts=$(mktemp -d)
clean() { rm -r "$texts"; docker rm --force --volumes "$name-in" "$name"; docker volume rm "$name-in"; }
trap 'clean >/dev/null' EXIT
pack() { folder=$1; shift; tar --owner=%(owner)d --group=%(owner)d "$@" -C "$folder" -c .; }
docker create --name "$name-in" --volume "$name-in:/in" %(image)s true >/dev/null
mkdir -p "$texts/.builder"
"""
_TAIL = """\
pack "$texts" | docker cp - "$name-in:/in"
docker create --name "$name" %(options)s \\
  --volume "$name-in:/in:ro" --volume /build --volume /tmp --volume /out \\
  %(image)s %(command)s >/dev/null
"""


def command(request: BuildRequest, image: str, memory: int) -> str:
    """An output that began as an input begins as that again; its other folders are as the build left them."""
    words = {
        "owner": OWNER,
        "image": image,
        "options": shlex.join(_options(request, memory)),
        "command": shlex.join(launch.command(request)),
    }
    lines = [_HEAD % words]
    for name, text in sorted(request.files.items()):
        place = f'"$texts"/{shlex.quote(".builder/" + name)}'
        lines.append(f'mkdir -p "$(dirname {place})" && printf %s {shlex.quote(text)} > {place}\n')
    for name, tree in sorted(request.inputs.items()):
        lines.append(f'docker cp {shlex.quote(str(tree.path))} "$name-in":{shlex.quote("/in/" + name)}\n')
    lines.append(_TAIL % words)
    for output, name in sorted(request.overlays.items()):
        source, change = shlex.quote(str(request.inputs[name].path)), shlex.quote(f"s,^[.],{output},")
        lines.append(f'pack {source} --mode=u+w --transform={change} | docker cp - "$name:/out"\n')
    folders = {"/build": request.scratch / "build", "/tmp": request.scratch / "tmp"}  # noqa: S108
    if not request.overlays:
        folders["/out"] = request.staging
    for place, folder in folders.items():
        lines.append(f'pack {shlex.quote(str(folder))} | docker cp - "$name:{place}"\n')
    return "".join([*lines, 'docker start --attach "$name"\n'])


def _options(request: BuildRequest, memory: int) -> list[str]:
    network = ["--network", "host"] if request.network else ["--network", "none"]
    return [
        *network,
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--user", f"{OWNER}:{OWNER}", "--hostname", USUAL.hostname),
        *("--ipc", "private", "--shm-size", str(docker_sandbox.SHARED_MEMORY)),
        *("--pids-limit", str(docker_sandbox.PROCESSES), "--memory", str(memory)),
        *("--tmpfs", "/sys:ro,size=4k,mode=555"),
    ]
