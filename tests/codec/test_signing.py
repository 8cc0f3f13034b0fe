"""Keys, signatures and fingerprints: vectors that a real Nix made, a real Nix beside, and what is refused."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.codec.keyfile import parse_public, read_secret, write_pair
from ccstore.codec.nar import nar_hash
from ccstore.codec.signing import PublicKey, SecretKey, fingerprint, object_fingerprint, trusted
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.signature import Signature, merged
from ccstore.model.storepath import StorePath
from tests.codec.nixlib import Nix

# by Nix 2.8: `nix-store --generate-binary-cache-key`, `nix store sign`
NAME = "cache.example.org-1"
SECRET = f"{NAME}:WMPQnmTQpHDlHB9pmTOfv1gysaB+LaBm3lPCk8rKxWQP6jnfeOqosiqtLbQXuGnR5S0+S7LFKqdRYB2xpYx15A=="
PUBLIC = "cache.example.org-1:D+o533jqqLIqrS20F7hp0eUtPkuyxSqnUWAdsaWMdeQ="
HELLO = "/nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
HELLO_HASH = Sha256.parse("sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=")
HELLO_SIGNATURE = (
    f"{NAME}:VEaM9e2WTHj0VB9x9aWwB+1Hgd8VaZfdTCA14XsP/Kz59RhU3Elxv3FDWOq4oZD1BQA4swIBYCmSQGzRdv5ZAw=="
)
names = st.text("abcXYZ019.-_", min_size=1, max_size=40)


@pytest.fixture
def nix(tool: Callable[[str], str], tmp_path: Path) -> Nix:
    return Nix(tool, tmp_path / "nix")


def test_the_keys_and_signatures_of_nix() -> None:
    secret, public = SecretKey.parse(SECRET), PublicKey.parse(PUBLIC)
    assert secret.public == public
    assert secret.secret_text() == SECRET
    assert str(public) == PUBLIC
    info = ObjectInfo(StorePath.parse(HELLO), HELLO_HASH, 120)
    signed = secret.sign(object_fingerprint(info))
    assert str(signed) == HELLO_SIGNATURE
    assert public.verifies(Signature.parse(HELLO_SIGNATURE), object_fingerprint(info))


def test_a_fingerprint_lists_references_in_order() -> None:
    text = fingerprint("/nix/store/x", HELLO_HASH, 120, ["/nix/store/b", "/nix/store/a"])
    digest = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"
    assert text == f"1;/nix/store/x;sha256:{digest};120;/nix/store/a,/nix/store/b".encode()


def test_nix_signs_as_we_do_and_takes_our_keys(nix: Nix, tmp_path: Path) -> None:
    key = SecretKey.generate("own.example.org-7")
    public_file = write_pair(key, tmp_path / "key")
    text = (tmp_path / "key").read_text()
    assert nix.lines("nix", "key", "convert-secret-to-public", stdin=text) == [public_file.read_text()]
    content = tmp_path / "content"
    content.write_text("signed\n")
    [path] = nix.lines("nix-store", "--add", str(content))
    nix.run("nix", "store", "sign", "--key-file", str(tmp_path / "key"), path)
    [found] = json.loads(nix.run("nix", "path-info", "--json", path).stdout)
    info = ObjectInfo(StorePath.parse(path), *nar_hash(content))
    assert found["signatures"] == [str(key.sign(object_fingerprint(info)))]
    nix.run("nix", "store", "verify", "--trusted-public-keys", str(key.public), path)


def test_we_take_the_keys_of_nix(nix: Nix, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("secret", "public")]
    nix.run("nix-store", "--generate-binary-cache-key", "nix.example.org-1", *files)
    key = read_secret(tmp_path / "secret")
    assert key.public == parse_public((tmp_path / "public").read_text())


@given(names, st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.binary(max_size=200))
def test_a_signature_is_of_one_key_and_one_text(name: str, seed: bytes, data: bytes, other: bytes) -> None:
    key = SecretKey(name, seed)
    assert SecretKey.parse(key.secret_text()) == key
    assert PublicKey.parse(str(key.public)) == key.public
    signed = key.sign(data)
    assert Signature.parse(str(signed)) == signed
    assert key.public.verifies(signed, data)
    assert key.public.verifies(signed, other) == (other == data)
    assert not SecretKey(name, bytes(31) + b"\1").public.verifies(signed, data)
    assert not key.public.verifies(Signature(f"{name}x", signed.value), data)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (Signature.parse, PublicKey.parse, SecretKey.parse):
        with pytest.raises(ValueError):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLIC.partition(":")[2],
        PUBLIC.replace("=", ""),
        PUBLIC + "=",
        PUBLIC + "\n",
        f" {PUBLIC}",
        PUBLIC.replace("eQ=", "eR="),  # spare bits that are not zero
        PUBLIC.replace("cache.", "cache "),
        ":" + PUBLIC.partition(":")[2],
        SECRET,
        HELLO_SIGNATURE,
    ],
)
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ValueError):
        PublicKey.parse(text)
    with pytest.raises(CcError) as caught:
        parse_public(text)
    assert caught.value.code == "key-invalid"


def test_a_secret_key_never_shows(tmp_path: Path) -> None:
    swapped = SECRET[:60] + ("A" if SECRET[60] != "A" else "B") + SECRET[61:]
    for text in (PUBLIC, swapped, SECRET[:-8], SECRET * 50, "secret", ""):
        (tmp_path / "key").write_text(text)
        with pytest.raises(CcError) as caught:
            read_secret(tmp_path / "key")
        assert caught.value.code == "key-invalid"
        assert "WMPQnmTQ" not in str(caught.value) + str(caught.value.hint)
    assert "WMPQnmTQ" not in repr(SecretKey.parse(SECRET))
    with pytest.raises(CcError) as caught:
        read_secret(tmp_path / "nothing")
    assert caught.value.code == "file-missing"


def test_a_pair_of_files(tmp_path: Path) -> None:
    key = SecretKey.generate("x-1")
    assert write_pair(key, tmp_path / "key") == tmp_path / "key.pub"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert read_secret(tmp_path / "key") == key
    assert parse_public((tmp_path / "key.pub").read_text()) == key.public
    for absent in ("key", "key.pub"):
        content = (tmp_path / absent).read_text()
        (tmp_path / absent).unlink()
        with pytest.raises(CcError) as caught:
            write_pair(SecretKey.generate("x-2"), tmp_path / "key")
        assert caught.value.code == "output-exists"
        assert not (tmp_path / absent).exists()
        (tmp_path / absent).write_text(content)


def test_signatures_of_several_keys() -> None:
    first, second, third = (SecretKey.generate(name) for name in ("a", "b", "b"))
    signatures = merged((first.sign(b"x"),), (second.sign(b"x"), first.sign(b"x")))
    assert [each.name for each in signatures] == ["a", "b"]
    assert trusted(signatures, [second.public], b"x") == second.sign(b"x")
    assert trusted(signatures, [third.public, second.public], b"x") == second.sign(b"x")
    assert trusted(signatures, [third.public], b"x") is None
    assert trusted(signatures, [first.public, second.public], b"y") is None
    assert trusted((), [first.public], b"") is None
