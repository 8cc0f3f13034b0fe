"""How long a run still takes: less with every second, with what a build has done, and with what has ended."""

from __future__ import annotations

import time

from ccstore.build.estimate import Limits
from ccstore.build.forecast import Forecast
from ccstore.build.plan import Planned
from ccstore.events import Finished, Progressed, Started
from ccstore.model.graph import Build, Graph, Ref


def forecast(jobs: int = 1, **seconds: float | None) -> Forecast:
    """Builds that need nothing, and `last`, which needs them all."""
    steps = {
        name: Build(
            name, name, ("sh",), None, inputs={each: Ref(each) for each in seconds if name == "last" != each}
        )
        for name in seconds
    }
    planned = [Planned(name, "build", "", expected=each, expected_cpu=each) for name, each in seconds.items()]
    return Forecast(planned, Graph(dict(steps)), Limits(jobs, 1, 99))


def about(found: tuple[float, bool], seconds: float, complete: bool = True) -> bool:
    return abs(found[0] - seconds) < 0.5 and found[1] == complete


def test_a_run_from_begin_to_end() -> None:
    found = forecast(a=10, b=4, last=3)
    assert about(found.remaining(), 17)
    found(Started("a", "build"))
    time.sleep(0.6)
    assert 16 < found.remaining()[0] < 16.5
    found(Finished("a", "build", 0.6))
    assert about(found.remaining(), 7)
    found(Finished("b", "build", 0.6))
    found(Finished("last", "build", 0.6))
    assert found.remaining() == (0.0, True)


def test_what_runs_keeps_its_place() -> None:
    found = forecast(jobs=1, short=5, long=50)
    assert about(found.remaining(), 55)
    both = forecast(jobs=2, short=5, long=50, longer=60)
    both(Started("short", "build"))
    both(Started("long", "build"))
    assert about(both.remaining(), 65)  # else `longer` would go first


def test_a_build_that_is_late_goes_on_as_fast_as_it_went() -> None:
    found = forecast(a=0.2, last=5)
    began = time.monotonic()
    found(Started("a", "build"))
    time.sleep(0.3)
    assert found.remaining()[0] == 5
    found(Progressed("a", 1, 4, "lines"))
    assert 5.9 < found.remaining()[0] < 5 + 3 * (time.monotonic() - began)
    found(Progressed("a", 5, 4, "lines"))
    assert found.remaining()[0] == 5


def test_what_is_not_known_is_said_until_it_is_done() -> None:
    found = forecast(a=None, last=5)
    assert found.remaining() == (5, False)
    found(Finished("a", "build", 1))
    assert found.remaining() == (5, True)
