"""Ed25519 keys and signatures as Nix has them, and the bytes that Nix signs for a store object.

Source: RFC 8032 for Ed25519; Nix manual, `nix key generate-secret` and "Store path". A key is `<name>:<base64>`:
32 bytes when it is public, 64 when it is secret (the seed, then the public key). A name is chosen freely; as a rule
it is the host of the cache and a number, so that a key can be replaced by the next one. Signing is
deterministic: a key gives one signature for some bytes, and it is the one that Nix gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.signature import Signature, check_key_name, join, split

SEED_SIZE = PUBLIC_SIZE = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Knows whether a signature was made by the secret key that goes with it."""

    name: str
    value: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.value) != PUBLIC_SIZE:
            raise ValueError(f"a public key has {PUBLIC_SIZE} bytes, not {len(self.value)}")

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Raises ValueError for anything but the one text form of a public key."""
        return cls(*split(text))

    def verifies(self, signature: Signature, data: bytes) -> bool:
        """Whether `signature`, which may bear another key's name, is this key's for `data`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.value).verify(signature.value, data)
        except InvalidSignature:
            return False
        return signature.name == self.name

    def __str__(self) -> str:
        return join(self.name, self.value)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Signs. Its text form is for a file that only its owner can read; `repr` does not show the seed."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.seed) != SEED_SIZE:
            raise ValueError(f"the seed of a secret key has {SEED_SIZE} bytes, not {len(self.seed)}")

    @classmethod
    def generate(cls, name: str) -> SecretKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Raises ValueError for anything but the one text form of a secret key; the message has none of it."""
        name, data = split(text)
        if len(data) == PUBLIC_SIZE:
            raise ValueError(f"this is the public key {name!r}, and only a secret one signs")
        if len(data) != SEED_SIZE + PUBLIC_SIZE:
            raise ValueError(f"a secret key has {SEED_SIZE + PUBLIC_SIZE} bytes, not {len(data)}")
        key = cls(name, data[:SEED_SIZE])
        if key.public.value != data[SEED_SIZE:]:
            raise ValueError(f"the two halves of the secret key {name!r} do not belong together")
        return key

    @property
    def public(self) -> PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return PublicKey(self.name, key.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> Signature:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Signature(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).sign(data))

    def secret_text(self) -> str:
        """The text form, secret half included: what a key file holds."""
        return join(self.name, self.seed + self.public.value)


def fingerprint(path: str, nar_hash: Sha256, nar_size: int, references: Iterable[str] = ()) -> bytes:
    """What Nix signs for the object at the store path `path`; paths are logical ones (`/nix/store/…`)."""
    return f"1;{path};sha256:{nar_hash.nix32};{nar_size};{','.join(sorted(references))}".encode()


def object_fingerprint(info: ObjectInfo) -> bytes:
    """What Nix signs for an object of ours, which never refers to another."""
    return fingerprint(info.path.logical, info.nar_hash, info.nar_size)


def trusted(signatures: Iterable[Signature], keys: Iterable[PublicKey], data: bytes) -> Signature | None:
    """The first signature for `data` that one of `keys` made; None if there is none."""
    by_name: dict[str, list[PublicKey]] = {}
    for key in keys:
        by_name.setdefault(key.name, []).append(key)
    for signature in signatures:
        if any(key.verifies(signature, data) for key in by_name.get(signature.name, ())):
            return signature
    return None
