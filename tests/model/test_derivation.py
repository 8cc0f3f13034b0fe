"""The bytes that identify a derivation: golden, canonical, and nothing in them that should not be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccstore.errors import CcError
from ccstore.model import bencode
from ccstore.model.derivation import Derivation, FixedOutput, decode
from ccstore.model.graph import Build, Graph, Local, Ref
from ccstore.model.hashes import Sha256

TREE, CONFIG, ROOT = Sha256.of(b"tree"), Sha256.of(b"config"), Sha256.of(b"root")
KERNEL = Derivation(
    name="kernel",
    argv=("/bin/sh", "/in/.builder/kernel.sh"),
    root=ROOT,
    inputs={"tree": TREE, "config": CONFIG},
    files={"kernel.sh": "make\n"},
    env={"SOURCE_DATE_EPOCH": "1", "MODULES": "0"},
    outputs=("out", "dev"),
)
# changes only with the encoder or the sandbox policy, and then everything is built again: never by accident
GOLDEN = (
    b"d4:argvl7:/bin/sh22:/in/.builder/kernel.she3:envd7:MODULES1:017:SOURCE_DATE_EPOCH1:1e5:filesd9:kernel.sh5:make\n"
    b"e6:inputsd6:config64:"
    + CONFIG.hex.encode()
    + b"4:tree64:"
    + TREE.hex.encode()
    + b"e4:name6:kernel7:outputsl3:dev3:oute"
    b"8:overlaysde8:platform12:x86_64-linux6:policyi1e4:root64:"
    + ROOT.hex.encode()
    + b"4:type20:ccstore-derivation-1e"
)


def test_golden_bytes() -> None:
    assert KERNEL.encode() == GOLDEN


def test_golden_id() -> None:
    assert KERNEL.id == "9cf498c91b4946855bb603beae6ee2b229d1406f56a2ee37a931ce269c8204d6"


def test_golden_fixed_output() -> None:
    fixed = FixedOutput("kernel-source", "flat", TREE)
    assert fixed.encode() == (
        b"d6:method4:flat4:name13:kernel-source6:sha25664:" + TREE.hex.encode() + b"4:type15:ccstore-fixed-1e"
    )
    assert decode(fixed.encode()) == fixed


def test_golden_image() -> None:
    fixed = FixedOutput("busybox-image", "oci", TREE)
    assert fixed.encode() == (
        b"d6:method3:oci4:name13:busybox-image6:sha25664:" + TREE.hex.encode() + b"4:type15:ccstore-fixed-1e"
    )
    assert decode(fixed.encode()) == fixed


def test_the_same_hash_of_something_else_is_another_fixed_output() -> None:
    assert len({FixedOutput("x", method, TREE).id for method in ("flat", "nar", "oci")}) == 3


def test_an_unknown_method_is_refused() -> None:
    data = FixedOutput("x", "oci", TREE).encode().replace(b"3:oci", b"3:ico")
    with pytest.raises(ValueError, match="unknown method"):
        decode(data)


def test_order_of_keys_and_outputs_does_not_matter() -> None:
    other = dataclasses.replace(
        KERNEL,
        inputs={"config": CONFIG, "tree": TREE},
        env={"MODULES": "0", "SOURCE_DATE_EPOCH": "1"},
        outputs=("dev", "out"),
    )
    assert other.id == KERNEL.id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "kernel2"},
        {"argv": ("/bin/sh",)},
        {"root": TREE},
        {"inputs": {"tree": TREE, "config": TREE}},
        {"inputs": {"tree": CONFIG, "config": TREE}},
        {"files": {"kernel.sh": "make -s\n"}},
        {"env": {"SOURCE_DATE_EPOCH": "2", "MODULES": "0"}},
        {"outputs": ("out",)},
        {"overlays": {"out": "tree"}},
        {"platform": "aarch64-linux"},
        {"policy": 2},
    ],
)
def test_everything_that_can_change_an_output_is_in_the_id(change: dict[str, object]) -> None:
    assert dataclasses.replace(KERNEL, **change).id != KERNEL.id  # type: ignore[arg-type]


def test_decode_reads_back() -> None:
    again = decode(KERNEL.encode())
    assert again.encode() == KERNEL.encode()
    assert isinstance(again, Derivation)
    assert again.inputs == KERNEL.inputs


VALUES: st.SearchStrategy[bencode.Value] = st.recursive(
    st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_bencode_reads_back(value: bencode.Value) -> None:
    assert bencode.decode(bencode.encode(value)) == value


@given(st.binary(max_size=60))
def test_bencode_refuses_or_is_canonical(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except ValueError:
        return
    assert bencode.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i01e",
        b"i-0e",
        b"2:a",
        b"-2:",
        b"dl-04:oe",
        b"+1:a",
        b"l",
        b"d1:bi1e1:ai1ee",
        b"i1ei2e",
        b"1:\xff",
        b"di1ei2ee",
        b"l" * 5000,
    ],
)
def test_bencode_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        bencode.decode(data)


def _step(name: str, *inputs: str) -> Build:
    return Build(name, name, ("/bin/true",), None, {each: Ref(each) for each in inputs})


def test_a_circle_is_named() -> None:
    graph = Graph({"a": _step("a", "b"), "b": _step("b", "c"), "c": _step("c", "b")})
    with pytest.raises(CcError) as caught:
        graph.closure(Ref("a"))
    assert caught.value.code == "recipe-cycle"
    assert "b → c → b" in caught.value.message


def test_closure_has_inputs_first() -> None:
    graph = Graph({"a": _step("a", "b", "c"), "b": _step("b", "c"), "c": Local("c", "c", Path("c"))})
    assert [step.name for step in graph.closure(Ref("a"))] == ["c", "b", "a"]


def test_a_misspelt_target_is_suggested() -> None:
    graph = Graph({"kernel.config": _step("kernel.config")})
    with pytest.raises(CcError) as caught:
        graph.find("kernel.confg")
    assert caught.value.code == "recipe-unknown"
    assert "kernel.config" in (caught.value.hint or "")


def test_an_output_that_a_step_does_not_have() -> None:
    with pytest.raises(CcError) as caught:
        Graph({"a": _step("a")}).find("a^dev")
    assert caught.value.code == "recipe-unknown"
