"""`ccstore runtime-config`: the configuration file of a container runtime that boots a guest."""

from __future__ import annotations

from pathlib import Path

import click

from ccstore.build.workspace import Options, Workspace
from ccstore.cli.console import progress
from ccstore.cli.context import open_workspace, store_option, target_argument
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.guest.runtimes import HYPERVISOR, Runtime, RuntimeConfig, runtime_config


@click.command("runtime-config")
@target_argument
@click.option(
    "--for",
    "runtime",
    type=click.Choice(["cc-oci-runtime", "cc-runtime", "kata"]),
    required=True,
    help="The runtime.",
)
@click.option("--file", "name", metavar="NAME", help="Which file to print, where a runtime reads several.")
@click.option("--output", "-o", metavar="DIR", help="Write all files into DIR, and print their paths.")
@click.option(
    "--hypervisor", metavar="PATH", default=HYPERVISOR, help="The runtime's QEMU.", show_default=True
)
@store_option
def command(
    target: str, runtime: Runtime, name: str | None, output: str | None, hypervisor: str, store: str | None
) -> None:
    """Print the complete file that a runtime reads to boot TARGET, a guest or one of its formats.

    \b
    ccstore runtime-config clear-containers.vmlinux+pmem --for cc-runtime > configuration.toml
    ccstore runtime-config clear-containers.vmlinux+pmem --for cc-oci-runtime --output /etc/cc-oci-runtime
    ccstore runtime-config clear-containers.vmlinux+erofs+verity --for kata
    """
    if name and output:
        raise CcError("usage", "--output writes all files, --file prints one", hint="give one of them")
    with open_workspace(store) as work, progress() as sink:
        config = runtime_config(_realized(work, target, sink), runtime, hypervisor)
        for note in config.notes:
            sink(Noted(note, runtime))
    if output:
        _write(config, Path(output))
    else:
        click.echo(_chosen(config, name), nl=False)


def _realized(work: Workspace, target: str, sink: Sink) -> Path:
    [realisation] = work.realize([target], sink=sink, options=Options()).values()
    return work.store.objects.path(realisation.object.path)


def _chosen(config: RuntimeConfig, name: str | None) -> str:
    files = config.files
    wanted = name or next(iter(files))
    if wanted not in files:
        raise CcError("usage", f"there is no file {wanted!r}", hint=f"there is {', '.join(files)}")
    return files[wanted]


def _write(config: RuntimeConfig, folder: Path) -> None:
    """Writes the files, but over none that is there."""
    for name, text in config.files.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                file.write(text)
        except FileExistsError as error:
            raise CcError("output-exists", f"{path} is there already", hint="move it away first") from error
        except OSError as error:
            raise CcError(
                "output-refused",
                f"{path} cannot be written: {error.strerror}",
                hint="give --output a folder that you may write to",
            ) from error
        click.echo(str(path))
