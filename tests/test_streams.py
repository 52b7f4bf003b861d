"""Made ahead: the same items, errors in their place, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from talking_heads.media.streams import ahead


def running() -> int:
    return sum(thread.name == "ahead" for thread in threading.enumerate())


def test_items_and_their_order_are_kept() -> None:
    assert list(ahead(range(50), most=3)) == list(range(50))
    assert list(ahead([])) == []
    assert list(ahead([None, None])) == [None, None]
    assert running() == 0


def test_they_are_made_elsewhere_and_no_more_than_asked_for() -> None:
    threads, made = set(), threading.Semaphore(0)

    def items() -> Iterator[int]:
        for k in range(100):
            threads.add(threading.current_thread())
            made.release()
            yield k

    stream = ahead(items(), most=3)
    assert next(stream) == 0
    for _ in range(5):  # one was taken, three wait, and one is in the maker's hand
        assert made.acquire(timeout=5)
    assert not made.acquire(timeout=0.3)
    assert threads.isdisjoint({threading.current_thread()})
    stream.close()
    assert running() == 0


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_errors_come_where_they_happened(kind: type[BaseException]) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise kind("broken")

    stream = ahead(items())
    assert next(stream) == 1
    with pytest.raises(kind, match="broken"):
        next(stream)
    assert running() == 0


def test_leaving_early_closes_the_source() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = ahead(items())
    assert next(stream) == 0
    stream.close()
    assert closed.is_set() and running() == 0
