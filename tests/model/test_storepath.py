"""Store paths and base32 against vectors that a real nix printed (`nix-store --add`, `nix hash to-base32`)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.model import nix32
from ccstore.model.hashes import Sha256
from ccstore.model.storepath import StorePath, check_name

# printf hello > hello.txt; nix-store --add hello.txt; nix hash path --base16 / --base32 hello.txt
HELLO = {
    "hex": "0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969",
    "nix32": "0sg9f58l1jj88w6pdrfdpj5x9b1zrwszk84j81zvby36q9whhhqa",
    "sri": "sha256-CkMIecJm+LV/QJKg+TXPP6zUi7zN5XYNR0jKQFFx6Wk=",
    "path": "/nix/store/xfp2hphvk98rkk9ywlqpp587rjdcgnc2-hello.txt",
}


@given(st.binary(min_size=0, max_size=64))
def test_base32_reads_back_what_it_writes(data: bytes) -> None:
    assert nix32.decode(nix32.encode(data), len(data)) == data


@pytest.mark.parametrize("text", ["", "e" * 52, "0" * 51, "z" * 52])
def test_base32_refuses_what_is_no_32_bytes(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        nix32.decode(text, 32)


@pytest.mark.parametrize("form", ["hex", "nix32", "sri"])
def test_every_text_form_of_a_digest_is_read(form: str) -> None:
    assert Sha256.parse(HELLO[form]).hex == HELLO["hex"]


def test_text_forms_are_nix_s() -> None:
    digest = Sha256.parse(HELLO["hex"])
    assert (digest.nix32, digest.sri) == (HELLO["nix32"], HELLO["sri"])


def test_store_path_is_nix_s() -> None:
    path = StorePath.of_content("hello.txt", Sha256.parse(HELLO["hex"]))
    assert path.logical == HELLO["path"]
    assert StorePath.parse(HELLO["path"]) == path
    assert StorePath.parse(path.base) == path


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", ".-x", "..-x", "ä", "a b", "x" * 212])
def test_names_that_nix_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


@pytest.mark.parametrize("name", [".config", "...", "libstdc++6", "a_b?c=d", "x" * 211])
def test_names_that_nix_takes(name: str) -> None:
    check_name(name)


def test_a_short_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Sha256(hashlib.sha1(b"", usedforsecurity=False).digest())
