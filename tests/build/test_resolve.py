"""What counts as known: every output, each from a clean build, and a record that agrees with itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ccstore.build.resolve import known_outputs
from ccstore.model.derivation import Derivation
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import PURITIES, OutputId, Purity, Realisation
from ccstore.model.storepath import StorePath

STEP = Derivation("step", ("sh",), outputs=("out", "dev"))
DIGEST = Sha256.of(b"content")


def realisations(**purity: Purity) -> dict[OutputId, Realisation]:
    found = {}
    for output, how in purity.items():
        identity = OutputId(STEP.id, output)
        info = ObjectInfo(StorePath.of_content(STEP.object_name(output), DIGEST), DIGEST, 100)
        found[identity] = Realisation(identity, info, purity=how)
    return found


def test_clean_realisations_of_all_outputs_answer() -> None:
    assert set(known_outputs(STEP, realisations(out="clean", dev="clean").get)) == {"out", "dev"}


def test_half_an_answer_is_none() -> None:
    assert known_outputs(STEP, realisations(out="clean").get) == {}


@pytest.mark.parametrize("made", PURITIES)
@pytest.mark.parametrize("accepts", PURITIES)
def test_what_is_less_pure_than_asked_for_is_no_answer(made: Purity, accepts: Purity) -> None:
    found = known_outputs(STEP, realisations(out="clean", dev=made).get, accepts)
    assert bool(found) == (PURITIES.index(made) <= PURITIES.index(accepts))


def test_an_incremental_result_answers_only_who_asks_for_it() -> None:
    assert known_outputs(STEP, realisations(out="clean", dev="assisted").get)
    assert not known_outputs(STEP, realisations(out="clean", dev="incremental").get)


def test_a_realisation_reads_back() -> None:
    for each in realisations(out="clean", dev="assisted").values():
        assert Realisation.from_json(each.to_json()) == each


def test_a_path_that_is_not_of_this_content_is_refused() -> None:
    [good] = realisations(out="clean").values()
    other = Sha256.of(b"other")
    for path in (StorePath.of_content("step", other), StorePath(good.object.path.hash, "another")):
        wrong = replace(good, object=replace(good.object, path=path))
        with pytest.raises(ValueError, match="is not the path of an object with the NAR hash"):
            Realisation.from_json(wrong.to_json())
