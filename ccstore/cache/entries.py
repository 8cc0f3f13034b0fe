"""What a binary cache holds, so that any static web server, object store or folder can be one, and Nix can use it.

    nix-cache-info                             StoreDir, WantMassQuery, Priority
    <hash of a store path>.narinfo             what is known of an object, signed (ccstore.codec.narinfo)
    nar/<SHA-256 of the file>.nar.zst          its NAR, compressed
    realisations/<derivation id>.<output>.json ours: what derivations gave, signed (ccstore.codec.statements)

Each names what comes before it in this order: NAR, narinfo, realisation; so written, whatever stops a push leaves
nothing that names what is not there. A realisation may stand alone: whoever has it can go on from it without the
object. Nix keeps its own realisations in the same folder, as `<hash>!<output>.doi`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccstore.cache.problems import invalid
from ccstore.codec import narinfo, statements
from ccstore.codec.narinfo import NarInfo
from ccstore.errors import CcError
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import LOGICAL_STORE, StorePath
from ccstore.ports import BinaryCache

INFO = "nix-cache-info"
DEFAULT_PRIORITY = 50  # Nix's, for caches that say nothing
OWN_INFO = f"StoreDir: {LOGICAL_STORE}\nWantMassQuery: 1\nPriority: 40\n".encode()
MAX_INFO = 1 << 16


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What `nix-cache-info` says. The cache with the lowest `priority` is asked first."""

    store: str
    mass_query: bool = False
    priority: int | None = None


def read_info(cache: BinaryCache) -> CacheInfo | None:
    """What the cache says of itself, None if it says nothing. Raises `cache-invalid`."""
    data = cache.read(INFO, MAX_INFO)
    if data is None:
        return None
    lines = (line.partition(":") for line in data.decode(errors="replace").splitlines() if line.strip())
    values = {key.strip(): value.strip() for key, _, value in lines}
    priority = values.get("Priority", "")
    if "StoreDir" not in values or (priority and not (priority.isdecimal() and len(priority) < 10)):
        raise invalid(cache.url, INFO, "it does not say which store it is of, or its priority is no number")
    return CacheInfo(
        values["StoreDir"], values.get("WantMassQuery") == "1", int(priority) if priority else None
    )


def require_cache(cache: BinaryCache) -> CacheInfo:
    """What the cache says of itself. Raises `not-a-cache` where there is none, or one of another store."""
    info = read_info(cache)
    if info is None:
        hint = "check the URL; `ccstore cache push` makes a cache, and needs to be allowed to write"
        raise CcError(
            "not-a-cache", f"there is no {INFO}, so this is no binary cache", where=cache.url, hint=hint
        )
    if info.store != LOGICAL_STORE:
        hint = f"only a cache of {LOGICAL_STORE} has objects under the names that they have here"
        raise CcError("not-a-cache", f"this cache is of the store {info.store}", where=cache.url, hint=hint)
    return info


def narinfo_name(path: StorePath) -> str:
    return path.hash + narinfo.SUFFIX


def read_narinfo(cache: BinaryCache, path: StorePath) -> NarInfo | None:
    """What the cache says of the object `path`, None if nothing. Raises `cache-invalid`."""
    name = narinfo_name(path)
    data = cache.read(name, narinfo.MAX_SIZE)
    try:
        found = narinfo.decode(data) if data is not None else None
    except ValueError as error:
        raise invalid(cache.url, name, str(error)) from error
    if found and found.object.path != path:
        raise invalid(cache.url, name, f"it is about {found.object.path}, not about {path}")
    return found


def check_object(cache: BinaryCache, found: NarInfo, wanted: ObjectInfo) -> None:
    """Raises `cache-invalid` if the cache's object cannot be `wanted`, before any of it is fetched."""
    if found.object != wanted or not found.is_content_addressed:
        problem = "it says another content than its store path does"
        raise invalid(cache.url, narinfo_name(wanted.path), problem)


def read_statements(cache: BinaryCache, output: OutputId) -> tuple[Realisation, ...]:
    """What the cache says that `output` gave, whoever signed it. Raises `cache-invalid`."""
    name = statements.name(output)
    data = cache.read(name, statements.MAX_SIZE)
    try:
        return statements.decode(data, output) if data is not None else ()
    except ValueError as error:
        raise invalid(cache.url, name, str(error)) from error
