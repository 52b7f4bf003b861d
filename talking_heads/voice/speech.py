"""A voice -> the motion of a face that speaks with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..head.motion import Motion
from .liveliness import MAX_LIVELINESS, life
from .mouth import mouth_coefficients
from .phones import Phone
from .sound import ProgressCallback, Voice, listen

MAX_FPS = 60.0


def motion_of_voice(
    path: str | os.PathLike[str],
    text: str | None = None,
    phones: str | os.PathLike[str] | Sequence[Phone] | None = None,
    *,
    liveliness: float = 1.0,
    seed: int = 0,
    fps: float = 25.0,
    on_progress: ProgressCallback | None = None,
) -> Motion:
    """A sound file, or the sound of a clip -> changes from a rest, as long as the sound; the first frame is the rest.

    ``text``: what is said, in English; ``phones``: those of another aligner, or a CSV with the columns start, end,
    phone; without both the phones are recognised. ``liveliness``: 0 (the mouth alone) to 2; ``seed``: of all that is
    drawn at random for it. ``on_progress`` hears of the stage "listening", in seconds. Raises ValueError for numbers
    out of range, and UnreadableMediaError for what is no sound, and for a text or phones that do not fit it.
    """
    check_liveliness(liveliness)
    if not 1 <= fps <= MAX_FPS:
        raise ValueError(f"fps must lie between 1 and {MAX_FPS:g}, got {fps}")
    if isinstance(phones, os.PathLike):
        phones = Path(phones)
    return spoken(listen(Path(path), text, phones, on_progress), liveliness, seed, fps)


def check_liveliness(liveliness: float) -> None:
    """Raises ValueError for what is out of range."""
    if not 0 <= liveliness <= MAX_LIVELINESS:  # so written, nan is refused as well
        raise ValueError(f"liveliness must lie between 0 and {MAX_LIVELINESS:g}, got {liveliness}")


def spoken(voice: Voice, liveliness: float = 1.0, seed: int = 0, fps: float = 25.0) -> Motion:
    """The motion of a face that says what is heard. Numbers as for ``motion_of_voice``."""
    times = np.arange(max(1, round(voice.seconds * fps))) / fps
    lively = life(voice, times, liveliness, seed)
    coefficients = np.clip(mouth_coefficients(voice, times) + lively.coefficients, 0, 1)
    coefficients[0] = 0  # from which the changes of all others count
    return Motion(coefficients, lively.head, lively.gaze, lively.translation, fps)
