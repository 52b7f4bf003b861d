"""Cameras, and a window to look at: OpenCV stays behind this file. It comes with the landmark detectors."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

import numpy as np

from ..errors import MissingDependencyError, UnreadableMediaError

T = TypeVar("T")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"OpenCV, which reads cameras, cannot be loaded ({error}). Install it: pip install mediapipe==0.10.14 "
            "(on Debian and Ubuntu also: apt-get install libgl1)."
        ) from None
    return cv2


def read_camera(number: int) -> Generator[np.ndarray, None, None]:
    """The pictures of a camera as they come, uint8 RGB (H, W, 3), for ever. Raises UnreadableMediaError."""
    cv2 = _opencv()
    camera = cv2.VideoCapture(number)
    try:
        while True:
            there, picture = camera.read()
            if not there:
                raise UnreadableMediaError(
                    f"Camera {number} gives no pictures. Connect it, close what else uses it, or give another number."
                )
            yield np.ascontiguousarray(picture[..., ::-1])
    finally:
        camera.release()


def in_real_time(frames: Iterable[T], fps: float) -> Generator[T, None, None]:
    """The same, each when its time has come: ``fps`` a second."""
    begin = time.perf_counter()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, begin + number / fps - time.perf_counter()))
        yield frame


class Window:
    """Shows frames on the screen; on a machine without one it does nothing."""

    def __init__(self, title: str) -> None:
        self._title = title
        # Without a display, OpenCV ends the process.
        there = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        self._cv2 = _opencv() if there else None

    @property
    def is_there(self) -> bool:
        """Whether there is a screen to show it on."""
        return self._cv2 is not None

    def show(self, frame: np.ndarray) -> bool:
        """Shows uint8 RGB (H, W, 3); False once the user has pressed Escape or q."""
        if self._cv2 is None:
            return True
        try:
            self._cv2.imshow(self._title, frame[..., ::-1])
            return self._cv2.waitKey(1) & 0xFF not in (27, ord("q"))
        except self._cv2.error:  # built without windows
            self._cv2 = None
            return True

    def close(self) -> None:
        """Takes it off the screen."""
        if self._cv2 is not None:
            with contextlib.suppress(self._cv2.error):
                self._cv2.destroyAllWindows()
