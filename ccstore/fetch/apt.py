"""The Debian archives that a Debian machine itself uses, read from apt's sources.

Both formats (sources.list(5)): one-line (`deb [options] URI suite component…`, in `sources.list` and
`sources.list.d/*.list`) and deb822 (`sources.list.d/*.sources`). An archive counts when it is Debian's own: a
suite of Debian (not its security archive, whose pool is another one), component `main`, and no keyring that
belongs to somebody else. A wrong guess costs one failed request, never a wrong file: hashes decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_CLASSES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "experimental")
_SUITES = frozenset((*_CLASSES, "buster", "bullseye", "bookworm", "trixie", "forky", "duke"))
# pockets that share the pool of the suite they belong to
_POCKETS = ("-updates", "-proposed-updates", "-backports", "-backports-sloppy")
_ONE_LINE = re.compile(r"deb(?:-src)?\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<rest>\S.*)")
_NO = frozenset({"no", "false", "without", "off", "disable", "0"})


@dataclass(frozen=True, slots=True)
class AptSource:
    """One entry of apt's sources; `signed_by` is empty when it names none."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def debian_archives(apt_root: Path) -> list[str]:
    """Base URLs (http, https, file) of Debian's main archive, in apt's order, without repetition."""
    found: dict[str, None] = {}
    for source in read_sources(apt_root):
        if _is_debian(source):
            for uri in source.uris:
                found.update(dict.fromkeys(_expand(uri)))
    return list(found)


def read_sources(apt_root: Path) -> Iterator[AptSource]:
    """Every enabled entry of `sources.list` and `sources.list.d/`; unreadable files are left out."""
    folder = apt_root / "sources.list.d"
    parts = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in [apt_root / "sources.list", *parts]:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        yield from parse_one_line(text) if path.suffix == ".list" else parse_deb822(text)


def parse_one_line(text: str) -> Iterator[AptSource]:
    """The entries of a `.list` file."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if not match:
            continue
        options = dict(item.partition("=")[::2] for item in (match["options"] or "").split())
        suite, *components = match["rest"].split()
        yield AptSource((match["uri"],), (suite,), tuple(components), options.get("signed-by", ""))


def parse_deb822(text: str) -> Iterator[AptSource]:
    """The enabled entries of a `.sources` file."""
    for fields in _paragraphs(text):
        if fields.get("enabled", "yes").lower() in _NO:
            continue
        if not {"deb", "deb-src"} & set(fields.get("types", "").split()):
            continue
        yield AptSource(
            tuple(fields.get("uris", "").split()),
            tuple(fields.get("suites", "").split()),
            tuple(fields.get("components", "").split()),
            fields.get("signed-by", ""),
        )


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    from debian.deb822 import Deb822

    for paragraph in Deb822.iter_paragraphs(text.splitlines(), use_apt_pkg=False):
        yield {str(key).lower(): str(value).strip() for key, value in paragraph.items()}


def _is_debian(source: AptSource) -> bool:
    return (
        "main" in source.components
        and any(_is_suite(suite) for suite in source.suites)
        and not _is_foreign_keyring(source.signed_by)
    )


def _is_suite(suite: str) -> bool:
    for pocket in _POCKETS:
        suite = suite.removesuffix(pocket)
    return suite in _SUITES


def _is_foreign_keyring(signed_by: str) -> bool:
    """A key in the file itself or a fingerprint says nothing, a keyring's name does."""
    paths = [word for word in re.split(r"[\s,]+", signed_by) if word.startswith("/")]
    if not paths or "BEGIN PGP" in signed_by:
        return False
    return not any("debian-archive" in path for path in paths)


def _expand(uri: str) -> Iterator[str]:
    """The URLs behind one URI of apt: itself, or the lines of the list that `mirror+file:` names."""
    scheme, _, rest = uri.partition(":")
    if "$(" in uri:
        return
    if scheme in ("http", "https"):
        yield uri
    elif scheme in ("file", "copy"):
        yield "file://" + urlsplit(f"file:{rest}").path
    elif scheme == "mirror+file":
        yield from _mirror_list(Path(unquote(urlsplit(f"file:{rest}").path)))


def _mirror_list(path: Path) -> Sequence[str]:
    """The http(s) URLs of an apt-transport-mirror(1) list: one a line, options after a tab."""
    if not path.is_file():
        return ()
    lines = (line.partition("#")[0].split() for line in path.read_text(errors="replace").splitlines())
    return [words[0] for words in lines if words and words[0].startswith(("http://", "https://"))]
