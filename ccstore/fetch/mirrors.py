"""Which base URLs the name in `mirror://NAME/path` stands for.

A name is looked up in: the variable CCSTORE_MIRROR_<NAME>, the user's configuration, the project's, the machine's
own apt sources (for `debian`, on a Debian), the public mirrors below. The first of these that knows the name
decides alone, so whoever sets a mirror is sure that nobody else is asked. Mirrors never enter a derivation's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ccstore.errors import CcError

SCHEME = "mirror://"
PUBLIC: Mapping[str, Sequence[str]] = {
    "debian": ("https://mirrors.edge.kernel.org/debian/", "https://mirrors.kernel.org/debian/"),
    "kernel": (
        "https://cdn.kernel.org/pub/linux/kernel/",
        "https://mirrors.edge.kernel.org/pub/linux/kernel/",
        "https://www.kernel.org/pub/linux/kernel/",
    ),
    "gnu": ("https://ftpmirror.gnu.org/gnu/", "https://ftp.gnu.org/gnu/"),
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class Mirrors:
    """Base URLs by mirror name, in order of preference; `fallback` is asked for a name that is not listed."""

    def __init__(
        self,
        names: Mapping[str, Sequence[str]],
        fallback: Callable[[str], Sequence[str]] = lambda _name: (),
    ) -> None:
        self._names = {_key(name): tuple(_checked(name, bases)) for name, bases in names.items()}
        self._fallback = fallback

    @classmethod
    def from_host(
        cls,
        environ: Mapping[str, str],
        user_config: Mapping[str, list[str]],
        project_config: Mapping[str, list[str]],
        apt_root: Path = Path("/etc/apt"),
        os_release: Path = Path("/etc/os-release"),
    ) -> Mirrors:
        """The mirrors of this machine, user and project. apt's files are read when `debian` is first needed.

        Raises `config-invalid` for a base that is no http, https or file URL.
        """
        merged: dict[str, Sequence[str]] = {}
        for config in (project_config, user_config, _from_environment(environ)):
            merged.update({_key(name): bases for name, bases in config.items() if bases})

        def fallback(name: str) -> Sequence[str]:
            own = _own_debian(apt_root, os_release) if name == "debian" else ()
            return own or PUBLIC.get(name, ())

        return cls(merged, fallback)

    def bases(self, name: str) -> tuple[str, ...]:
        """The base URLs of mirror `name`, each ending in a slash. Raises `mirror-unknown`."""
        key = _key(name)
        if key not in self._names:
            self._names[key] = tuple(_checked(name, self._fallback(name)))
        if not self._names[key]:
            raise CcError(
                "mirror-unknown",
                f"no mirror is called {name!r}",
                hint=f"set {variable(name)} to its base URLs, or name it under `mirrors` in the configuration",
            )
        return self._names[key]

    def resolve(self, url: str) -> list[str]:
        """Every URL that `url` stands for, in order; one that is not `mirror://` stands for itself.

        Raises `mirror-unknown` for a name without mirrors, `recipe-invalid` for a URL without name or path.
        """
        if not url.startswith(SCHEME):
            return [url]
        name, _, path = url.removeprefix(SCHEME).partition("/")
        if not _NAME.fullmatch(name) or not path.strip("/"):
            raise CcError(
                "recipe-invalid", f"{url!r} is not mirror://NAME/path", hint="NAME is a-z, 0-9 and -"
            )
        return [base + path.lstrip("/") for base in self.bases(name)]


def variable(name: str) -> str:
    """The environment variable that defines mirror `name`."""
    return "CCSTORE_MIRROR_" + name.upper().replace("-", "_")


def _key(name: str) -> str:
    # a variable cannot tell `-` from `_`, so names that differ in nothing else are one
    return name.lower().replace("_", "-")


def _from_environment(environ: Mapping[str, str]) -> dict[str, list[str]]:
    prefix = variable("")
    return {
        key.removeprefix(prefix): value.split() for key, value in environ.items() if key.startswith(prefix)
    }


def _own_debian(apt_root: Path, os_release: Path) -> Sequence[str]:
    if not _is_debian(os_release):
        return ()
    from ccstore.fetch.apt import debian_archives

    return debian_archives(apt_root)


def _is_debian(os_release: Path) -> bool:
    if not os_release.is_file():
        return False
    lines = os_release.read_text(errors="replace").splitlines()
    return any(line.strip() in ("ID=debian", 'ID="debian"', "ID='debian'") for line in lines)


def _checked(name: str, bases: Sequence[str]) -> list[str]:
    for base in bases:
        if not _is_base(base):
            raise CcError(
                "config-invalid",
                f"mirror {name!r}: {base!r} is no http, https or file URL",
                hint=f"correct {variable(name)} or the configuration's `mirrors`",
            )
    return [base.rstrip("/") + "/" for base in bases]


def _is_base(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.netloc) if parts.scheme in ("http", "https") else text.startswith("file:///")
