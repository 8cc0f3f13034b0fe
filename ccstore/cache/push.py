"""Pushing to a binary cache: objects, then what is said of them.

For one object: compress its NAR to a file without a name; give it its name; write the narinfo. What is there already
is not sent again: a narinfo whose NAR is there gets our signature added, and a NAR that is there without a narinfo (a
push was interrupted) only the narinfo. Realisations come last, when all objects are there. `fault` is called with the
name of each step that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccstore.cache import entries
from ccstore.cache.pack import DEFAULT, Packed, Packing, pack
from ccstore.cache.parallel import OBJECTS, each
from ccstore.codec import narinfo, statements
from ccstore.codec.compression import SUFFIXES
from ccstore.codec.narinfo import NarInfo, content_address
from ccstore.codec.signing import SecretKey, object_fingerprint
from ccstore.errors import CcError
from ccstore.events import Progressed, Sink, reported
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import Realisation
from ccstore.ports import BinaryCache, Cancel, Fault, no_fault

RECORDS = 16  # at once
# what `fault` is told, in this order; `temporary` also before each file is given its name
STEPS = ("info", "pack", "temporary", "nar", "narinfo", "realisation")


@dataclass(frozen=True, slots=True)
class Parcel:
    """An object to push, and where its content lies on this host."""

    info: ObjectInfo
    tree: Path


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one object. `size` is that of its compressed file."""

    info: ObjectInfo
    state: Literal["sent", "signed", "present"]
    size: int


@dataclass(frozen=True, slots=True)
class Push:
    """One push. `scratch` is a folder for what has to wait; `force` sends again what is there."""

    cache: BinaryCache
    key: SecretKey
    scratch: Path
    sink: Sink
    cancel: Cancel
    packing: Packing = DEFAULT
    force: bool = False
    fault: Fault = no_fault

    def run(self, parcels: Sequence[Parcel], realisations: Sequence[Realisation]) -> list[Pushed]:
        """Pushes everything, the realisations last; the first failure ends the rest.

        Raises `not-a-cache`, `object-damaged` for an object that is not what its name says, and what the cache
        raises.
        """
        self._begin()
        pushed = each(OBJECTS, self.object, parcels, self.cancel)
        each(RECORDS, self.realisation, realisations, self.cancel)
        return pushed

    def _begin(self) -> None:
        """Makes the cache if there is none."""
        if entries.read_info(self.cache) is None:
            self.cache.update(
                entries.INFO,
                lambda there: entries.OWN_INFO if there is None else None,
                entries.MAX_INFO,
                self.fault,
            )
        entries.require_cache(self.cache)
        self.fault("info")

    def object(self, parcel: Parcel) -> Pushed:
        """Puts one object there, unless it is there."""
        info = parcel.info
        there = self._there(info)
        if there:
            return self._signed(there)
        with reported(self.sink, info.path.name, "push"), self.cache.incoming(self.scratch) as incoming:
            packed = pack(parcel.tree, info.nar_size, self.packing, incoming.write, self._progress(info))
            if (packed.nar_hash, packed.nar_size) != (info.nar_hash, info.nar_size):
                raise damaged(parcel)
            self.fault("pack")
            name = f"nar/{packed.file_hash.nix32}{SUFFIXES[self.packing.method]}"
            if self.force or not self.cache.holds(name, packed.file_size):
                incoming.place(name, self.fault)
            self.fault("nar")
            self._write_narinfo(self._described(info, name, packed))
        return Pushed(info, "sent", packed.file_size)

    def _there(self, info: ObjectInfo) -> NarInfo | None:
        """What the cache says of the object, if it has all of it."""
        if self.force:
            return None
        try:
            found = entries.read_narinfo(self.cache, info.path)
            if found is None or found.file_size is None:
                return None
            entries.check_object(self.cache, found, info)
        except CcError as error:
            if error.code != "cache-invalid":
                raise
            return None  # it is replaced
        return found if self.cache.holds(found.url, found.file_size) else None

    def _signed(self, there: NarInfo) -> Pushed:
        """Adds our signature to what is there."""
        signature = self.key.sign(there.fingerprint())
        size = there.file_size or 0
        if signature in there.signatures:
            return Pushed(there.object, "present", size)
        self._write_narinfo(there.with_signatures((signature,)))
        return Pushed(there.object, "signed", size)

    def _described(self, info: ObjectInfo, name: str, packed: Packed) -> NarInfo:
        return NarInfo(
            info,
            name,
            self.packing.method,
            packed.file_hash,
            packed.file_size,
            signatures=(self.key.sign(object_fingerprint(info)),),
            ca=content_address(info.nar_hash),
        )

    def _write_narinfo(self, ours: NarInfo) -> None:
        """Writes the narinfo; signatures that are there for the same object stay."""

        def change(data: bytes | None) -> bytes:
            try:
                theirs = narinfo.decode(data) if data is not None else ours
            except ValueError:
                theirs = ours
            same = theirs.fingerprint() == ours.fingerprint()
            return (ours.with_signatures(theirs.signatures) if same else ours).encode()

        name = entries.narinfo_name(ours.object.path)
        self.cache.update(name, change, narinfo.MAX_SIZE, self.fault)
        self.fault("narinfo")

    def realisation(self, realisation: Realisation) -> None:
        """Says there what a derivation gave, beside what others say."""
        signature = self.key.sign(realisation.statement())
        ours = realisation.with_signatures((signature,))

        def change(data: bytes | None) -> bytes | None:
            try:
                theirs = statements.decode(data, ours.id) if data is not None else ()
            except ValueError:
                theirs = ()
            now = statements.encode(ours.id, statements.merged(theirs, ours))
            return now if now != data else None

        self.cache.update(statements.name(ours.id), change, statements.MAX_SIZE, self.fault)
        self.fault("realisation")

    def _progress(self, info: ObjectInfo) -> Callable[[int], None]:
        def progress(done: int) -> None:
            if self.cancel.cancelled:
                raise CcError("interrupted", f"the push of {info.path.name} was interrupted")
            self.sink(Progressed(info.path.name, done, info.nar_size, "bytes"))

        return progress


def damaged(parcel: Parcel) -> CcError:
    return CcError(
        "object-damaged",
        f"{parcel.info.path} is not what its name says, and was not pushed",
        where=str(parcel.tree),
        hint="`ccstore verify --repair` makes it again",
    )
