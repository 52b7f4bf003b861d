"""Long work for a visitor: in a thread of its own, so that it says how far it is and stops when nobody waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import numpy as np

from talking_heads.result import ProgressCallback

from .reports import Report

T = TypeVar("T")
BEAT = 0.5
"""Seconds after which the work is reported again although there is nothing new."""
PAUSE = 0.2
"""Seconds at least between two reports: each is a message to a browser, or a picture."""


class Cancelled(Exception):  # noqa: N818  (no error: somebody left)
    """Raised within the work, by ``report``, when its result is no longer wanted."""


ReportCallback = Callable[[Any], None]


class Work(Generic[T]):
    """``for report in work: ...`` runs it; then its ``result`` is there. Leaving the loop early cancels it.

    ``do(report)`` is called in a thread; whatever it says comes out of the loop, the latest where it says more than is
    taken. What it raises is raised by the loop.
    """

    result: T

    def __init__(self, do: Callable[[ReportCallback], T]) -> None:
        self._do = do

    def __iter__(self) -> Generator[Any, None, None]:
        events: queue.Queue[tuple[str, Any]] = queue.Queue()
        unwanted = threading.Event()

        def report(what: Any) -> None:
            if unwanted.is_set():
                raise Cancelled
            events.put(("reported", what))

        def run() -> None:
            try:
                events.put(("done", self._do(report)))
            except BaseException as error:  # noqa: BLE001  (all of it belongs to the other thread)
                events.put(("failed", error))

        thread = threading.Thread(target=run, name="work", daemon=True)
        thread.start()
        try:
            last: Any = None
            reported = 0.0
            while True:
                kind, value = _latest(events)
                if kind == "done":
                    self.result = value
                    return
                if kind == "failed":
                    raise value
                if kind == "reported":
                    last = value
                if last is not None and time.monotonic() - reported > PAUSE:
                    yield last
                    reported = time.monotonic()
        finally:
            # Not waited for: gradio closes generators on its event loop, where nobody else would be served meanwhile.
            unwanted.set()


def _latest(events: queue.Queue[tuple[str, Any]]) -> tuple[str, Any]:
    """The newest event, where several wait; ("nothing", None) after a beat without any."""
    try:
        event = events.get(timeout=BEAT)
    except queue.Empty:
        return "nothing", None
    while event[0] == "reported" and not events.empty():
        event = events.get()
    return event


class RateEstimate:
    """Seconds that a frame (or a step) of each kind of work takes here, learned from the work itself."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def learn(self, stage: str, seconds: float) -> None:
        """A frame took so long: moves the estimate a third of the way."""
        known = self._seconds.get(stage, seconds)
        self._seconds[stage] = known + (seconds - known) / 3

    def estimate(self, **counts: int) -> float | None:
        """Seconds for so many frames of each stage; None while a stage has never been done here."""
        if not all(stage in self._seconds for stage in counts):
            return None
        return sum(self._seconds[stage] * count for stage, count in counts.items())


class Clock:
    """How long the stages of one piece of work still take. ``rates`` learns from it."""

    def __init__(self, rates: RateEstimate, later: dict[str, int]) -> None:
        """``later``: the stages to come, and their number of frames."""
        self.rates, self.later = rates, dict(later)
        self._stage, self._began, self._first = "", 0.0, 0

    def left(self, stage: str, done: int, total: int | None) -> float | None:
        """Seconds until all stages are done, or None where that is not known."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
        self.later.pop(stage, None)
        frames = done - self._first
        if total is None:
            return None
        rate = (now - self._began) / frames if frames else self.rates.estimate(**{stage: 1})
        rest = self.rates.estimate(**self.later)
        if done >= total and frames:
            self.rates.learn(stage, (now - self._began) / frames)
        return None if rate is None or rest is None else rate * (total - done) + rest

    def reporter(
        self, report: ReportCallback, picture: Callable[[], np.ndarray | None] = lambda: None
    ) -> ProgressCallback:
        """What the library calls with its progress: ``report`` is told, with the time left and the latest picture."""

        def tell(stage: str, done: int, total: int | None) -> None:
            report(Report(stage, done, total, self.left(stage, done, total), picture()))

        return tell


def in_words(seconds: float) -> str:
    """75.0 -> "about 1 min 15 s"."""
    whole = max(1, round(seconds))
    if whole >= 20:
        whole = 5 * round(whole / 5)
    minutes, rest = divmod(whole, 60)
    return " ".join(["about", *([f"{minutes} min"] * (minutes > 0)), *([f"{rest} s"] * (rest > 0))])
