"""Provenance and bills of materials: of a tiny kernel as a user has them, and of this repository's guests."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccstore.build import documents
from ccstore.build.workspace import Workspace
from ccstore.codec.signing import SecretKey
from ccstore.errors import CcError
from ccstore.model.derivation import FixedOutput
from ccstore.model.graph import Build, Ref
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store.session import Session
from ccstore.store.store import Store
from tests.conftest import REPOSITORY, Shell, TinyProject, clone_store, write
from tests.export.documents import check_sbom, check_statement, related

KEY = SecretKey("cache.example.org-1", bytes(range(32)))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The secret key; beside it the public one, and another."""
    file = tmp_path / "key"
    for key, name in ((KEY, "key"), (SecretKey("other-1", bytes(32)), "other")):
        (tmp_path / name).write_text(key.secret_text())
        (tmp_path / f"{name}.pub").write_text(str(key.public))
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_provenance_says_what_the_kernel_was_made_of(session_kernel: TinyProject) -> None:
    value = json.loads(session_kernel.shell.run("export", "kernel", "--provenance").stdout)
    check_statement(value)
    path = session_kernel.shell.path("kernel")
    digests = {each["name"]: each["digest"].get("sha256") for each in value["subject"]}
    assert digests.pop(path.name) is None
    assert digests.keys() == {each.name for each in path.iterdir()}
    assert digests["vmlinux"] == sha256(path / "vmlinux")
    build = value["predicate"]["buildDefinition"]
    found = {each["name"]: each for each in build["resolvedDependencies"]}
    assert found["kernel.source"]["uri"].endswith("/tinylinux.tar.xz")
    assert found["kernel.source"]["digest"] == {"sha256": sha256(session_kernel.root / "tinylinux.tar.xz")}
    assert found["toolchain.bash"]["uri"].startswith("pkg:deb/debian/bash@5.2")
    assert found["toolchain.bash"]["downloadLocation"].startswith("mirror://debian/pool/main/b/bash/bash_5.2")
    fragment = session_kernel.root / "config/10-devices.config"
    assert found["config/10-devices.config"]["digest"] == {"sha256": sha256(fragment)}
    assert build["externalParameters"]["recipes"]["kernel"]["version"] == "1.0.0"
    assert (
        build["internalParameters"]["id"]
        == json.loads(session_kernel.shell.run("show", "kernel").stdout)[0]["id"]
    )
    made = {each["name"] for each in value["predicate"]["runDetails"]["byproducts"]}
    assert made == {"kernel.tree", "kernel.patched", "kernel.kconfig", "kernel.config", "toolchain"}


def test_a_bill_of_materials_says_what_the_kernel_consists_of(
    session_kernel: TinyProject, tmp_path: Path
) -> None:
    file = tmp_path / "kernel.spdx.json"
    assert session_kernel.shell.run("export", "kernel", "--sbom", "-o", str(file)).stdout == f"{file}\n"
    check_sbom(file)
    value = json.loads(file.read_text())
    assert value["creationInfo"]["created"] == "1970-01-01T00:00:01Z"
    assert related(value, "DESCRIBES") == {("document", "kernel")}
    assert ("kernel", "./vmlinux") in related(value, "CONTAINS")
    assert ("bash", "kernel") in related(value, "BUILD_TOOL_OF")
    made = related(value, "GENERATED_FROM")
    assert {("kernel", "kernel-config"), ("kernel-config", "config/10-devices.config")} <= made
    assert {("kernel-patched", "patches"), ("kernel-tree", "kernel-source")} <= made
    [bash] = [each for each in value["packages"] if each["name"] == "bash"]
    assert bash["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/bash@5.2")
    assert bash["checksums"][0]["algorithm"] == "SHA256"
    assert bash["licenseConcluded"] == "NOASSERTION"
    assert value["packages"][0]["versionInfo"] == "1.0.0"


def test_another_store_gives_the_same(
    session_kernel: TinyProject, session_store: Path, tmp_path: Path
) -> None:
    """One that built it itself, without what it was made of being there any more."""
    other = Shell(session_kernel.root, clone_store(session_store, tmp_path / "other"))
    for after in ("a build", "a collection"):
        for kind in ("--provenance", "--sbom"):
            first = session_kernel.shell.run("export", "kernel", kind).stdout
            assert other.run("export", "kernel", kind).stdout == first, after
        other.run("gc", "--no-keep-inputs")


def test_signed_documents_are_verified(session_kernel: TinyProject, keys: Path, tmp_path: Path) -> None:
    for kind, name in (("--provenance", "kernel.intoto.jsonl"), ("--sbom", "kernel.spdx.json")):
        file = tmp_path / name
        session_kernel.shell.run("export", "kernel", kind, "--key", str(keys), "-o", str(file))
        verify = ("export", "kernel", "--verify", str(file), "--key")
        done = session_kernel.shell.run(*verify, f"{keys}.pub")
        assert done.stdout.startswith(f"{file}: signed by {KEY.name}, about /nix/store/")
        assert "to the letter" in done.stdout
        value = json.loads(session_kernel.shell.run(*verify, str(keys), "--json").stdout)
        assert (value["key"], value["same"]) == (KEY.name, True)
        other = session_kernel.shell.run(*verify, f"{tmp_path}/other.pub", status=4)
        assert "[signature-invalid]" in other.stderr
        assert "wanted: other-1" in other.stderr
        wrong = session_kernel.shell.run("export", "kernel.config", *verify[2:], f"{keys}.pub", status=4)
        assert "[hash-mismatch]" in wrong.stderr
        changed = tmp_path / f"changed-{name}"
        text = file.read_text()
        changed.write_text(text.replace("eyJ" if kind == "--provenance" else "vmlinux", "xxx", 1))
        changed.write_text(
            changed.read_text() if changed.read_text() != text else text.replace("ICJ", "ICK", 1)
        )
        (tmp_path / f"changed-{name}.sig").write_text(f"{KEY.sign(b'')}\n")
        broken = session_kernel.shell.run(
            "export", "kernel", "--verify", str(changed), *verify[4:], f"{keys}.pub", status=4
        )
        assert "[signature-invalid]" in broken.stderr


def test_configured_keys_sign_and_verify(session_kernel: TinyProject, keys: Path, tmp_path: Path) -> None:
    """Those that sign what is pushed to a cache, and those that are trusted of caches."""
    write(
        tmp_path / "config/ccstore/config.yml",
        f"signing-key: {keys}\ncaches: [{{url: 'file:///x', keys: ['{KEY.public}']}}]\n",
    )
    shell = Shell(
        session_kernel.root, session_kernel.shell.store, {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    )
    for kind in ("--provenance", "--sbom"):
        file = tmp_path / f"kernel{kind}"
        shell.run("export", "kernel", kind, "-o", str(file))
        assert f"signed by {KEY.name}" in shell.run("export", "kernel", "--verify", str(file)).stdout
    assert (
        json.loads(shell.run("export", "kernel", "--provenance").stdout)["signatures"][0]["keyid"] == KEY.name
    )
    plain = shell.run("export", "kernel", "--sbom")
    assert json.loads(plain.stdout)["spdxVersion"] == "SPDX-2.3"
    assert "is not signed" in plain.stderr


def test_openssl_verifies_what_the_readme_says(
    session_kernel: TinyProject, keys: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("openssl")
    tool("jq")
    for kind, name in (("--provenance", "kernel.intoto.jsonl"), ("--sbom", "kernel.spdx.json")):
        session_kernel.shell.run("export", "kernel", kind, "--key", str(keys), "-o", str(tmp_path / name))
    readme = (REPOSITORY / "README.md").read_text()
    [script] = [each for each in readme.split("```sh\n") if "openssl pkeyutl" in each]
    script = script.partition("```")[0].replace("cache.key.pub", "key.pub")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verified Successfully") == 2
    assert json.loads((tmp_path / "statement.json").read_text())["_type"] == "https://in-toto.io/Statement/v1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one of"),
        (("--provenance", "--sbom"), "give one of"),
        (("--to", "tar", "--sbom"), "give one of"),
        (("--to", "tar", "-o", "x", "--key", "y"), "--key is for documents"),
        (("--sbom", "--tag", "x"), "--tag is for images"),
        (("--sbom", "--json"), "JSON already"),
        (("--sbom", "--key", "{keys}"), "cannot be signed"),
        (("--verify", "x"), "needs a public key"),
        (("--verify", "x", "--key", "y", "-o", "z"), "no --output"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: tuple[str, ...], said: str, session_kernel: TinyProject, keys: Path
) -> None:
    done = session_kernel.shell.run(
        "export", "kernel", *(each.format(keys=keys) for each in arguments), status=2
    )
    assert said in done.stderr
    assert done.stdout == ""


def test_what_is_not_built_has_no_documents(session_kernel: TinyProject) -> None:
    assert "[usage]" in session_kernel.shell.run("export", "kernel.source", "--sbom", status=2).stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """This repository's project, and a store that says of everything in it that it was made; the guests are there."""
    store = tmp_path_factory.mktemp("pretended") / "store"
    Store.open(store).close()
    with Workspace.open(REPOSITORY, store) as work, work.store.session() as session:
        targets = [work.graph.find(each) for each in ("clear-containers", "clear-containers-systemd")]
        for step in work.graph.closure(*targets):
            _pretend(work, session, step.name, there=step.name in [each.step for each in targets])
        yield work


def _pretend(work: Workspace, session: Session, name: str, *, there: bool) -> None:
    here = work.resolve([Ref(name)])[name]
    derivation = here.derivation
    assert derivation is not None
    if here.outputs:
        return
    found = []
    for output in derivation.outputs:
        label = derivation.name if isinstance(derivation, FixedOutput) else derivation.object_name(output)
        digest = Sha256(hashlib.sha256(f"{name}^{output}".encode()).digest())
        info = ObjectInfo(StorePath.of_content(label, digest), digest, 96)
        if there:
            with session.staging("x") as staging:
                (staging / "f").write_text(name)
                info = session.register(staging / "f", label)
        executor = "sandbox" if isinstance(here.step, Build) else "fetch"
        found.append(Realisation(OutputId(derivation.id, output), info, executor=executor))
    work.store.realisations.record(derivation, found)


def document(work: Workspace, target: str, kind: documents.Kind) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(documents.write(work, target, kind))
    return value


def test_a_guest_contains_its_kernel_and_its_parts(repository: Workspace, tmp_path: Path) -> None:
    value = document(repository, "clear-containers", "sbom")
    (tmp_path / "guest.spdx.json").write_text(json.dumps(value))
    check_sbom(tmp_path / "guest.spdx.json")
    image = "clear-containers-vmlinux+initrd"
    contained = related(value, "CONTAINS")
    assert {(image, "kernel"), (image, "clear-containers-rootfs")} <= contained
    inside = {other for one, other in contained if one == "clear-containers-rootfs"}
    assert {"crun", "guest-init", "rngd", "sysctl"} <= inside
    assert {("crun", "crun-source"), ("hyperstart", "hyperstart-source")} <= related(value, "GENERATED_FROM")
    assert {("gcc", "kernel"), ("gcc", "crun"), ("toolchain", "kernel")} <= related(value, "BUILD_TOOL_OF")
    assert ("gcc", image) not in contained
    [source] = [each for each in value["packages"] if each["name"] == "hyperstart-source"]
    assert source["downloadLocation"].startswith("git+https://github.com/hyperhq/hyperstart@c0c07d21")
    assert source["externalRefs"][0]["referenceLocator"].startswith("pkg:github/hyperhq/hyperstart@c0c07d21")


def test_a_guest_of_debian_packages_contains_them(repository: Workspace, tmp_path: Path) -> None:
    value = document(repository, "clear-containers-systemd", "sbom")
    (tmp_path / "guest.spdx.json").write_text(json.dumps(value))
    check_sbom(tmp_path / "guest.spdx.json")
    assert ("systemd-root", "systemd") in related(value, "CONTAINS")
    assert not any(one == "systemd" for one, _ in related(value, "BUILD_TOOL_OF"))


def test_provenance_of_a_guest_names_its_sources(repository: Workspace) -> None:
    value = document(repository, "clear-containers", "provenance")
    check_statement(value)
    found = {each["name"]: each for each in value["predicate"]["buildDefinition"]["resolvedDependencies"]}
    source = found["hyperstart-source"]
    assert source["uri"].startswith("git+https://github.com/hyperhq/hyperstart@c0c07d21")
    assert source["digest"]["gitCommit"] == source["uri"].rpartition("@")[2]
    assert found["kernel.source"]["uri"].startswith("mirror://debian/pool/main/l/linux/linux_6.1")
    assert len([each for each in found.values() if each.get("uri", "").startswith("pkg:deb/debian/")]) > 200


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"spdxVersion": 1}',
        b"{" * 5000,
        b'{"payloadType": "x", "payload": "", "signatures": []}',
    ],
)
def test_what_is_no_document(text: bytes, repository: Workspace) -> None:
    with pytest.raises(CcError) as caught:
        documents.check(repository, "clear-containers", text, None, [KEY.public])
    assert caught.value.code == "signature-invalid"


def test_a_signed_document_about_nothing(repository: Workspace) -> None:
    """Whatever somebody signed who is trusted."""
    for text in (b"[]", b"{}", b'{"subject": 1}', b'{"subject": [{"name": "x", "digest": {}}]}'):
        with pytest.raises(CcError) as caught:
            documents.check(
                repository, "clear-containers", documents.enveloped(text, KEY), None, [KEY.public]
            )
        assert caught.value.code in ("signature-invalid", "hash-mismatch")
    sbom = b'{"spdxVersion": "SPDX-2.3", "packages": [{"externalRefs": [1]}]}'
    with pytest.raises(CcError) as caught:
        documents.check(repository, "clear-containers", sbom, documents.detached(sbom, KEY), [KEY.public])
    assert caught.value.code == "hash-mismatch"


def test_a_signature_that_is_none(repository: Workspace) -> None:
    sbom = documents.write(repository, "clear-containers", "sbom")
    for signature in (b"", b"\xff", b"x:" + base64.b64encode(bytes(64)), b"nothing"):
        with pytest.raises(CcError) as caught:
            documents.check(repository, "clear-containers", sbom, signature, [KEY.public])
        assert caught.value.code == "signature-invalid"
