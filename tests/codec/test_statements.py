"""What caches say of realisations: golden bytes that are signed, merging, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.codec import statements
from ccstore.codec.signing import SecretKey, trusted
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath

HASH = Sha256.parse("sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=")
HELLO = ObjectInfo(StorePath.of_content("hello.txt", HASH), HASH, 120)
OUTPUT = OutputId("a" * 64, "out")
FIRST = Realisation(OUTPUT, HELLO, (OutputId("b" * 64, "out"),), "substituted", "sandbox")
KEYS = [SecretKey(f"key-{number}", bytes([number] * 32)) for number in range(3)]


def signed(realisation: Realisation, *keys: SecretKey) -> Realisation:
    return realisation.with_signatures(tuple(key.sign(realisation.statement()) for key in keys))


def test_the_signed_bytes_never_change() -> None:
    """A change here makes every signature in every cache worthless."""
    assert FIRST.statement() == (
        b"d8:executor7:sandbox2:id68:" + b"a" * 64 + b"^out6:inputsl68:" + b"b" * 64 + b"^oute"
        b"8:nar-hash64:1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13"
        b"8:nar-sizei120e4:path53:/nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
        b"6:purity5:clean4:type21:ccstore-realisation-1e"
    )
    assert replace(FIRST, origin="built").statement() == FIRST.statement()
    [signature] = signed(FIRST, KEYS[1]).signatures
    # by OpenSSL 3.0: `openssl pkeyutl -sign -rawin`
    value = "TLhOjCb+TBZkOLMrpy9ZR+gDL1iUfJJfehNdlag9w3+WIlrUvqKPTdGFzG4amOd50WKs1qnNlZXqE5iVzz8JBg=="
    assert str(signature) == f"key-1:{value}"


def test_the_file_of_an_output() -> None:
    both = (signed(FIRST, KEYS[0]), signed(replace(FIRST, inputs=()), KEYS[1], KEYS[2]))
    data = statements.encode(OUTPUT, both)
    assert statements.decode(data, OUTPUT) == both
    assert statements.name(OUTPUT) == f"realisations/{'a' * 64}.out.json"
    value = json.loads(data)
    assert value["id"] == str(OUTPUT)
    assert value["realisations"][0]["path"] == "i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"


def test_signatures_of_the_same_are_merged() -> None:
    theirs = (signed(FIRST, KEYS[0]),)
    [merged] = statements.merged(theirs, signed(FIRST, KEYS[1]))
    assert {each.name for each in merged.signatures} == {"key-0", "key-1"}
    for key in KEYS[:2]:
        assert trusted(merged.signatures, [key.public], merged.statement())
    assert statements.merged((merged,), signed(FIRST, KEYS[0])) == (merged,)


def test_something_else_stands_beside_it_and_a_key_has_one_word() -> None:
    other = replace(FIRST, inputs=())
    two = statements.merged((signed(FIRST, KEYS[0], KEYS[1]),), signed(other, KEYS[1], KEYS[2]))
    assert [[sig.name for sig in each.signatures] for each in two] == [["key-0"], ["key-1", "key-2"]]
    assert statements.merged(two, signed(other, KEYS[0])) == (signed(other, *KEYS),)


def test_they_do_not_grow_for_ever() -> None:
    found: tuple[Realisation, ...] = ()
    for number in range(100):
        key = SecretKey(f"key-{number}", bytes(32))
        found = statements.merged(found, signed(replace(FIRST, executor=f"e{number}"), key))
    assert len(found) == 32
    assert found[-1].executor == "e99"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
VALUE = json.loads(statements.encode(OUTPUT, [signed(FIRST, KEYS[0])]))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        statements.decode(data, OUTPUT)


@given(st.sampled_from(sorted(VALUE)), JSON)
def test_any_value_of_a_file_is_checked(key: str, value: object) -> None:
    data = json.dumps({**VALUE, key: value}).encode()
    if (key, value) == ("realisations", []) or VALUE[key] == value:
        return
    with pytest.raises(ValueError):
        statements.decode(data, OUTPUT)


@given(st.sampled_from(sorted(VALUE["realisations"][0])), JSON)
def test_any_value_of_a_realisation_is_checked(key: str, value: object) -> None:
    data = json.dumps({**VALUE, "realisations": [{**VALUE["realisations"][0], key: value}]}).encode()
    try:
        [found] = statements.decode(data, OUTPUT)
    except ValueError:
        return
    assert json.loads(statements.encode(OUTPUT, [found]))["realisations"][0][key] == value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a', '"A'),
        ('"format": 1', '"format": 2'),
        ("i9pmr", "i9pms"),
        ("hello.txt", "other.txt"),
        ("i9pmr", "../i9pmr"),
        ('"narSize": 120', '"narSize": true'),
        ('"narSize": 120', '"narSize": 0'),
        ('"narSize": 120', '"narSize": 1e3'),
        ("sha256-H", "sha256-I"),
        ("bbb^out", "bb^out"),
        ("bbb^out", "bbb^../x"),
        ('"clean"', '"dirty"'),
        ('"sandbox"', '"\\ud800"'),
        ("key-0:", "key 0:"),
    ],
)
def test_what_is_refused(old: str, new: str) -> None:
    text = statements.encode(OUTPUT, [signed(FIRST, KEYS[0])]).decode()
    assert old in text
    with pytest.raises(ValueError):
        statements.decode(text.replace(old, new, 1).encode(), OUTPUT)


def test_it_is_bounded() -> None:
    for hostile in (b"[" * 500_000, b" " * (statements.MAX_SIZE + 1), b'{"format": ' + b"9" * 5000 + b"}"):
        with pytest.raises(ValueError):
            statements.decode(hostile, OUTPUT)
