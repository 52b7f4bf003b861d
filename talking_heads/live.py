"""A camera's frames in, the avatar's frames out, at whatever speed this machine has."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from .head.fit import FrameFit
from .head.retarget import most_neutral, motion_of
from .landmarks import eye_distance
from .tracking.detectors import LandmarkDetector
from .tracking.motion_fitting import MAX_ERROR, DriverFitter
from .tracking.points import PointTracker
from .tracking.tracks import Follower

FPS = 25
"""Frames a second that a camera is taken to have, where it is about how long a face was away."""
SETTLING_SECONDS = 1.0
"""After a face is first seen: until then a more neutral frame becomes the one that relative motion counts from."""
STEADINESS, TOLERANCE = 0.6, 0.02
"""How much of its last place a point keeps that has hardly moved, and by how much of the distance between the eyes it
moves before it keeps little of that."""
DELAYS_KEPT = 1000
"""Delays of so many last pictures are known."""

Show = Callable[[FrameFit, FrameFit], np.ndarray]
"""(the driver's frame, the driver's neutral frame) -> picture."""
REFIT_EVERY = 8
"""Every so many frames, while it settles, and at its end, the driver's identity is taken from all faces so far."""


class Live:
    """Made by ``TalkingHeadPipeline.live``; paints in a thread of its own.

        with pipe.live(avatar) as live:
            for frame in camera:
                painted = live.push(frame)

    While a frame is painted only the newest of those that come meanwhile is kept: what is late is dropped, and the
    delay stays within the time of two frames. Relative motion counts from the most neutral face of the first second.
    """

    def __init__(self, show: Show, detector: LandmarkDetector) -> None:
        self.pushed = 0
        """Frames that were pushed so far."""
        self.painted = 0
        """Frames that were painted so far; the others were late, or showed no face."""
        self._show = show
        self._follower = Follower(detector, FPS)
        self._points = PointTracker()
        self._faces: list[np.ndarray] = []  # of the time of settling
        self._followed: list[np.ndarray] = []  # in their frames
        self._settled = 0  # so many of them are taken into account
        self._settled_at: float | None = None
        self._driver: DriverFitter | None = None
        self._neutral: FrameFit
        self._steady: np.ndarray | None = None
        self._delays: deque[float] = deque(maxlen=DELAYS_KEPT)
        self._change = threading.Condition()
        self._waiting: tuple[float, np.ndarray] | None = None
        self._result: tuple[float, np.ndarray] | None = None
        self._busy = False
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def push(self, frame: np.ndarray) -> np.ndarray | None:
        """Hands over a frame, as ``offer``, and gives the newest painted frame at once, or None.

        None where none was finished since the last call. ValueError after ``close``; what goes wrong in painting is
        raised by the next call.
        """
        self.offer(frame)
        with self._change:
            return self._take()

    def offer(self, frame: np.ndarray) -> None:
        """Hands over a frame, uint8 RGB (H, W, 3), all of one size, for who waits for the result with ``take``.

        ValueError after ``close``.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        with self._change:
            if self._closed:
                raise ValueError("this was closed")
            self.pushed += 1
            self._waiting = (time.perf_counter(), frame.copy())
            self._change.notify_all()

    def take(self, timeout: float) -> np.ndarray | None:
        """The newest painted frame, as soon as there is one that was not taken yet; None after ``timeout`` seconds.

        For who shows the frames, beside a thread that offers them: sooner than with the next call of ``push``. What
        goes wrong in painting is raised here.
        """
        with self._change:
            self._change.wait_for(lambda: self._error or self._result or self._closed, timeout)
            return self._take()

    def wait(self) -> np.ndarray | None:
        """Waits until the last frame that was pushed is painted: that one, or None where there was nothing to paint."""
        with self._change:
            self._change.wait_for(lambda: self._error or not (self._busy or self._waiting))
            return self._take()

    def delay(self, share: float = 0.5) -> float | None:
        """Seconds from handing a frame over to getting it painted, at most, for ``share`` of the last frames."""
        return float(np.quantile(self._delays, share)) if self._delays else None

    def close(self) -> None:
        """Ends the thread, after the frame that it is at."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()

    def _take(self) -> np.ndarray | None:
        if self._error is not None:
            raise self._error
        if self._result is None:
            return None
        (begun, painted), self._result = self._result, None
        self._delays.append(time.perf_counter() - begun)
        return painted

    def _work(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._closed or self._waiting)
                if self._closed or self._waiting is None:
                    return
                (begun, frame), self._waiting = self._waiting, None
                self._busy = True
            try:
                painted = self._answer(frame, begun)
            except BaseException as error:  # noqa: BLE001  (raised again, where it is awaited)
                with self._change:
                    self._error = error
                    self._change.notify_all()
                return
            with self._change:
                if painted is not None:
                    self.painted += 1
                    self._result = (begun, painted)
                    self._change.notify_all()

    def _answer(self, frame: np.ndarray, now: float) -> np.ndarray | None:
        face = self._follower.see(frame)
        turned = self._follower.turned(frame)
        followed = self._points.see(turned, face)
        if face is None:
            return None
        if self._settled_at is None:
            self._settled_at = now + SETTLING_SECONDS
        settling = now < self._settled_at
        if settling or self._driver is None:
            self._faces.append(face)
            self._followed.append(followed)
        if self._driver is None or len(self._faces) - self._settled >= (REFIT_EVERY if settling else 1):
            self._settle(turned.shape)
        self._steady = steadied(face, self._steady)
        assert self._driver is not None
        fitted = self._driver.fit(self._steady, followed)
        return self._show(fitted, self._neutral) if fitted.error <= MAX_ERROR else None

    def _settle(self, shape: tuple[int, ...]) -> None:
        """Finds out who drives, and the most neutral of the faces that were seen."""
        self._settled = len(self._faces)
        faces, followed = np.stack(self._faces), np.stack(self._followed)
        self._driver = DriverFitter.of(faces, (shape[0], shape[1]), followed)
        frames = self._driver.fit_all(faces, followed)
        self._neutral = frames[most_neutral(motion_of(frames, FPS))]


def steadied(face: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """A face (L, 2) without the detector's jitter, from what is known of the past: see ``tracking.tracks.smooth``.

    A point keeps to its last place where it has hardly moved, and is where it is seen as soon as it moves.
    """
    if before is None:
        return face
    moved = np.sum((face - before) ** 2, axis=-1, keepdims=True)
    kept = STEADINESS * np.exp(-0.5 * moved / max(TOLERANCE * float(eye_distance(face)), 1e-6) ** 2)
    return (face + kept * (before - face)).astype(np.float32)
