"""SHA-256 digests, the only hash that identifies anything (DESIGN, rule 5)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from ccstore.model import nix32


@dataclass(frozen=True, slots=True, order=True)
class Sha256:
    """32 bytes, with the text forms that people and Nix use."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != 32:
            raise ValueError(f"a SHA-256 digest has 32 bytes, not {len(self.digest)}")

    @classmethod
    def of(cls, data: bytes) -> Sha256:
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str) -> Sha256:
        """Reads hex, `sha256-<base64>` (SRI), `sha256:<hex or nix-base32>`; raises ValueError."""
        if text.startswith("sha256-"):
            try:
                return cls(base64.b64decode(text[7:], validate=True))
            except binascii.Error as error:
                raise ValueError(f"{text!r} is not base64 after 'sha256-'") from error
        body = text.removeprefix("sha256:")
        if len(body) == 64:
            return cls(bytes.fromhex(body))
        if len(body) == 52:
            return cls(nix32.decode(body, 32))
        raise ValueError(f"{text!r} is no SHA-256: 64 hex digits, 52 of nix-base32, or sha256-<base64> is")

    @property
    def hex(self) -> str:
        return self.digest.hex()

    @property
    def sri(self) -> str:
        """Subresource Integrity form, what `nix hash path` prints."""
        return "sha256-" + base64.b64encode(self.digest).decode()

    @property
    def nix32(self) -> str:
        return nix32.encode(self.digest)

    def __str__(self) -> str:
        return self.sri
