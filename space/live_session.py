"""A visitor before the camera, and the avatar that moves like them."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

from talking_heads.live import Live
from talking_heads.media.marks import marked

from .person import Person

IDLE_SECONDS = 5.0
"""Seconds without a frame after which the visitor counts as gone: no event tells of every way to leave."""
COUNTED = 20
"""Frames over which the shown rate is averaged."""


class LiveSession:
    """Closes itself, and with it the ``live`` that it was given, once no frame has come for IDLE_SECONDS."""

    def __init__(self, live: Live, person: Person, shape: tuple[int, ...], options: tuple[object, ...] = ()) -> None:
        """``live`` is of the person's avatar, made with ``options``, and for frames of ``shape`` (H, W, 3)."""
        self._live, self._person, self._avatar, self._made_for = live, person, person.avatar, (shape, options)
        self._last = time.monotonic()
        self._painted: deque[tuple[float, int]] = deque(maxlen=COUNTED)
        self._use = threading.RLock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="session", daemon=True).start()

    def serves(self, person: Person, shape: tuple[int, ...], options: tuple[object, ...] = ()) -> bool:
        """Whether it can go on with frames of this shape for this person, whose avatar may have changed."""
        same = person is self._person and person.avatar is self._avatar and (shape, options) == self._made_for
        return same and not self._closed.is_set()

    def see(self, frame: np.ndarray, *, label: bool) -> np.ndarray | None:
        """The avatar as the frame, uint8 RGB (H, W, 3), moves it, or None where no face is seen or this was closed.

        Waits until it is painted: what the camera sees meanwhile is dropped by gradio, which keeps the newest frame.
        """
        with self._use:
            if self._closed.is_set():
                return None
            self._live.push(frame)
            picture = self._live.wait()
            self._last = time.monotonic()
            self._painted.append((self._last, self._live.painted))
        # There is no watermark in the live view: it costs 15 ms a frame.
        return None if picture is None else next(marked([picture], label=label, invisible=False))

    def pace(self) -> tuple[float, float] | None:
        """Frames painted a second of late, and the seconds that one takes; None before the second frame."""
        delay = self._live.delay()
        if len(self._painted) < 2 or delay is None:
            return None
        (begin, before), (end, now) = self._painted[0], self._painted[-1]
        return (now - before) / (end - begin), delay

    def close(self) -> None:
        """Ends it, after the frame that it is at."""
        with self._use:
            self._closed.set()
            self._live.close()

    def _watch(self) -> None:
        while not self._closed.wait(self._last + IDLE_SECONDS - time.monotonic()):
            with self._use:
                if time.monotonic() - self._last >= IDLE_SECONDS:
                    self.close()
