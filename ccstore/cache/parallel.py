"""Several objects at once, to or from a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ccstore.ports import Cancel

OBJECTS = 4  # at once
T = TypeVar("T")
U = TypeVar("U")


def each(threads: int, work: Callable[[T], U], things: Sequence[T], cancel: Cancel) -> list[U]:
    """What `work` makes of each of `things`, in their order. The first failure ends the rest by `cancel`."""
    if len(things) < 2:
        return [work(thing) for thing in things]
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(threads, thread_name_prefix="cache") as pool:
        futures = [pool.submit(work, thing) for thing in things]
        try:
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            return [future.result() for future in futures if future in ended]
        except BaseException:
            cancel.cancel()
            pool.shutdown(cancel_futures=True)
            raise
