"""Work that goes on in another thread while its results are used, in constant memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], most: int = 4) -> Generator[T, None, None]:
    """The same items in the same order, made in a thread of their own, up to ``most`` before they are asked for.

    What making them raises is raised here, in its place. Closing this iterator, by leaving a loop too, ends the thread
    before it makes another item, waits for it, and closes ``items``.
    """
    made: queue.Queue[tuple[T | None, BaseException | None] | None] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: tuple[T | None, BaseException | None] | None) -> None:
        while not stopped.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        source = iter(items)
        try:
            for item in source:
                put((item, None))
                if stopped.is_set():
                    break
            if hasattr(source, "close"):
                source.close()
        except BaseException as error:  # noqa: BLE001  (raised again, where it is awaited)
            put((None, error))
        else:
            put(None)

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            value, error = item
            if error is not None:
                raise error
            yield value  # type: ignore[misc]  # a value wherever there is no error
    finally:
        stopped.set()
        thread.join()
