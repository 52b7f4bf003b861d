"""Sound in pieces of any length -> how loud each band of frequencies is, from moment to moment, at once.

Nothing here looks ahead, and nothing grows: what is kept is one window of sound and one level, by which a quiet voice
and a loud one are heard alike.
"""

from __future__ import annotations

import math

import numpy as np

from .recogniser import RATE
from .sound import BANDS, FEATURE_RATE, mel_filters

WINDOW, _HOP, _FFT = 400, RATE // FEATURE_RATE, 512
_FLOOR = 1e-14  # power a Hz: far below the steps of 16 bits
_SPAN = 9.0
"""Nepers of power below a voice's level that are still told from silence."""
USUAL, _QUIETEST = -12.5, -17.0
"""Level of a voice, log power a Hz, before it is known, and the least that is taken for one."""
_RISE, _FALL, _NEAR = 0.15, 0.003, 4.0
"""The level goes up by this share of what is missing, and down by so much, a row, in sound that is near it: neither
silence nor what is far softer than the voice moves it."""


class Spectrum:
    """Loudness of one sound's bands. ``push`` gives the rows whose windows are complete."""

    def __init__(self, level: float = USUAL) -> None:
        self.level = level
        """Log power a Hz of the voice, as far as it is known."""
        self._taper = np.hanning(WINDOW + 2)[1:-1].astype(np.float32)
        self._filters = mel_filters() / mel_filters().sum(axis=0) / (RATE * float((self._taper**2).sum()))
        self._held = np.zeros(WINDOW // 2, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """float32 (n,) in [-1, 1] at RATE -> float32 (rows, BANDS): 0 silent, 1 about as loud as a voice.

        Row k belongs to the moment k / FEATURE_RATE, and needs WINDOW / 2 samples after it.
        """
        held = np.concatenate([self._held, samples])
        count = max(0, (len(held) - WINDOW) // _HOP + 1)
        self._held = held[count * _HOP :]
        if not count:
            return np.zeros((0, BANDS), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(held, WINDOW)[: count * _HOP : _HOP] * self._taper
        power = np.abs(np.fft.rfft(windows, _FFT)) ** 2 @ self._filters
        return np.stack([self._heard(row) for row in power]).astype(np.float32)

    def _heard(self, power: np.ndarray) -> np.ndarray:
        loudness = math.log(float(power.mean()) + _FLOOR)
        if loudness > self.level:
            self.level += _RISE * (loudness - self.level)
        elif loudness > self.level - _NEAR:
            self.level = max(self.level - _FALL, _QUIETEST)
        heard: np.ndarray = np.clip((np.log(power + _FLOOR) - self.level) / _SPAN + 1, 0, 1.5)
        return heard
