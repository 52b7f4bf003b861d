"""A detector's jitter taken out of motion, while blinks and lips stay crisp: a bilateral filter along time.

Each value is averaged with those of the frames around it, which count less the further they are in time and the more
they differ. Jitter is an order of magnitude smaller than a movement, so the one is averaged and the other left alone;
being symmetric in time, nothing lags. Lids and lips are averaged over few frames, the head and the brows over more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from .motion import COEFFICIENTS, Motion

REACH = 5
"""Frames to both sides that are looked at."""


@dataclass(frozen=True)
class _Filter:
    frames: float
    """Standard deviation in time."""
    tolerance: float
    """Standard deviation in the value's own unit."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(T, C) -> the same, float32."""
        padded = np.pad(values, ((REACH, REACH), (0, 0)), mode="edge")
        total, weights = np.zeros(values.shape), np.zeros(values.shape)
        for shift in range(-REACH, REACH + 1):
            other = padded[REACH + shift : REACH + shift + len(values)]
            weight = np.exp(-0.5 * (shift / self.frames) ** 2 - 0.5 * ((other - values) / self.tolerance) ** 2)
            total += weight * other
            weights += weight
        return (total / weights).astype(np.float32)


_QUICK = np.array([name.startswith(("eye", "jaw", "mouth", "tongue")) for name in COEFFICIENTS])
_QUICK_COEFFICIENTS, _SLOW_COEFFICIENTS = _Filter(1.0, 0.05), _Filter(2.5, 0.1)
_HEAD, _TRANSLATION, _GAZE, _DETAIL = _Filter(2.0, 0.8), _Filter(2.0, 0.15), _Filter(1.5, 2.0), _Filter(1.5, 0.03)
_SHOULDERS = _TRANSLATION


def smoothed(motion: Motion) -> Motion:
    """The motion without jitter."""
    coefficients = np.empty_like(motion.coefficients)
    coefficients[:, _QUICK] = _QUICK_COEFFICIENTS(motion.coefficients[:, _QUICK])
    coefficients[:, ~_QUICK] = _SLOW_COEFFICIENTS(motion.coefficients[:, ~_QUICK])
    head = np.degrees(np.unwrap(np.radians(motion.head), axis=0))  # no jump from 180 to -180 degrees
    return replace(
        motion,
        coefficients=coefficients,
        head=_HEAD(head),
        translation=_TRANSLATION(motion.translation),
        gaze=_GAZE(motion.gaze),
        detail=_DETAIL(motion.detail),
        shoulders=None if motion.shoulders is None else _SHOULDERS(motion.shoulders),
    )


def smoothed_in_pieces(pieces: Iterable[Motion]) -> Iterator[Motion]:
    """As ``smoothed``, for a motion that is not known to its end yet: the same values, REACH frames later."""
    known: Motion | None = None  # REACH frames that have been given already, then those that have not
    given = 0
    for piece in pieces:
        known = piece if known is None else joined(known, piece)
        ready = len(known) - REACH
        if ready > given:
            yield smoothed(known)[given:ready]
            drop = max(0, ready - REACH)
            known, given = known[drop:], ready - drop
    if known is not None and given < len(known):
        yield smoothed(known)[given:]


def joined(one: Motion, other: Motion) -> Motion:
    """One motion after the other, at the same rate."""
    return one.then(other, fade=0)
