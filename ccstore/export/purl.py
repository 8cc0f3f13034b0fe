"""Package URLs: names that scanners know things by.

Source: Package URL specification and its types deb, github, oci and generic.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from packageurl import PackageURL

from ccstore.codec.oci import Reference
from ccstore.model.hashes import Sha256


def debian(name: str, version: str, architecture: str, suite: str) -> str:
    return str(PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": suite}))


def git(name: str, url: str, commit: str) -> str:
    """A repository on GitHub has a type of its own."""
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git").split("/")
    if parts.hostname == "github.com" and len(path) == 2:
        return str(PackageURL("github", path[0], path[1], commit))
    return str(PackageURL("generic", None, name, commit, {"vcs_url": f"git+{url}@{commit}"}))


def download(name: str, urls: tuple[str, ...], sha256: Sha256) -> str:
    public = [each for each in urls if each.startswith(("https://", "http://"))]
    qualifiers = {"checksum": f"sha256:{sha256.hex}", **({"download_url": public[0]} if public else {})}
    return str(PackageURL("generic", None, name, None, qualifiers))


def image(reference: str, digest: Sha256) -> str:
    """`reference` is as in a recipe; only a registry is a place that others know."""
    found = Reference.parse(reference)
    name = found.repository.rpartition("/")[2] or "image"
    place = {"repository_url": f"{found.registry}/{found.repository}"} if found.place == "registry" else {}
    tag = {"tag": found.tag} if found.tag else {}
    return str(PackageURL("oci", None, name, f"sha256:{digest.hex}", place | tag))
