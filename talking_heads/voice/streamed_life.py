"""``liveliness`` for sound that is still coming: drawn frame by frame, in speech and in silence, without an end.

The same seed and the same sound give the same life.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..head.motion import COEFFICIENTS, INDEX
from .liveliness import (
    BLINK,
    BLINK_EVERY,
    BREATH_EVERY,
    FADE,
    GLANCE,
    GLANCE_EVERY,
    GLANCE_LASTS,
    NOD,
    NOD_APART,
    PAUSE,
    SACCADE,
    SWAY,
    Life,
    eased,
    look_coefficients,
)

KNOT = 1.1
"""Seconds between the random values through which a head sways."""
_SPREAD = 0.69
"""Standard deviation of a cubic B-spline through values of unit variance."""
_DRIFT = (0.3, 1.1)
"""Seconds between two small jumps of the eyes, of less than a degree."""


@dataclass(frozen=True)
class Heard:
    """What a frame's liveliness depends on in the voice."""

    quiet: float
    """Seconds since somebody spoke; 0 in speech."""
    stress: float = 0.0
    """0 to 1, at the moment in which a stressed vowel is heard that comes STRESS_AHEAD later."""


STRESS_AHEAD = 0.12
"""Seconds from being heard to being spoken: a nod begins before its vowel."""


class StreamedLife:
    """``step`` gives the next frame's life; what is kept is what is going on."""

    def __init__(self, liveliness: float, seed: int, fps: float) -> None:
        self._liveliness, self._step, self._frame = liveliness, 1 / fps, 0
        # Each draws from a generator of its own: what one of them draws does not change the others.
        self._sway, self._blinks, self._glances, self._nods = np.random.default_rng(seed).spawn(4)
        self._knots = self._sway.normal(size=(4, 4))
        self._next_knot = KNOT
        self._blink = -1.0
        self._next_blink = self._blinks.uniform(0.3, 1.0)
        self._glance, self._target = (-1.0, -1.0), np.zeros(2)
        self._next_glance = self._glances.uniform(0.3, 1.0) + GLANCE_EVERY[0]
        self._jump, self._next_jump = np.zeros(2), 0.0
        self._followed = np.zeros(2)
        self._nodding: list[tuple[float, float, float]] = []
        self._breath = 0.0

    def step(self, heard: Heard) -> Life:
        """Arrays of one frame."""
        time = self._frame * self._step
        self._frame += 1
        coefficients, head, translation = np.zeros((1, len(COEFFICIENTS))), np.zeros((1, 3)), np.zeros((1, 3))
        if self._liveliness == 0:
            return Life(coefficients, head, np.zeros((1, 4)), translation)
        sway = self._swayed(time)
        head[0] = sway[:3] * SWAY
        translation[0, 0] = 0.08 * sway[3]
        self._nod(time, heard.stress, head[0], coefficients[0])
        self._breathe(heard.quiet, head[0], translation[0])
        look = self._looked(time)
        keep = np.exp(-self._step / 0.25)
        self._followed = keep * self._followed + (1 - keep) * look
        head[0, :2] += 0.25 * self._followed
        scale = self._liveliness * float(eased(np.clip(time / FADE, 0, 1)))
        gaze = np.tile(scale * look[None], 2)
        coefficients *= scale
        look_coefficients(gaze, coefficients)
        lids = self._blinked(time, heard.quiet)
        for side in ("Left", "Right"):
            coefficients[0, INDEX["eyeBlink" + side]] = lids
        return Life(np.clip(coefficients, 0, 1), scale * head, gaze, scale * translation)

    def _swayed(self, time: float) -> np.ndarray:
        """(4,) slow random curves of unit variance: cubic B-splines."""
        while time >= self._next_knot:
            self._knots = np.concatenate([self._knots[1:], self._sway.normal(size=(1, 4))])
            self._next_knot += KNOT
        u = 1 - (self._next_knot - time) / KNOT
        weights = np.array([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6
        curve: np.ndarray = weights @ np.clip(self._knots, -2, 2) / _SPREAD
        return curve

    def _nod(self, time: float, stress: float, head: np.ndarray, coefficients: np.ndarray) -> None:
        """Down at what is stressed; brows rise with the stronger ones."""
        last = self._nodding[-1][0] if self._nodding else -1e9
        if stress > 0 and time + STRESS_AHEAD - last >= NOD_APART:
            weight = stress * self._nods.uniform(0.5, 1.0)
            self._nodding.append((time + STRESS_AHEAD, weight, self._nods.normal(0, 0.35)))
        self._nodding = [nod for nod in self._nodding if time - nod[0] < 1.2]
        for second, weight, roll in self._nodding:
            since = time - second
            down = float(np.exp(-0.5 * ((since - 0.08) / (0.1 if since < 0.08 else 0.22)) ** 2))
            down *= float(np.clip((since + STRESS_AHEAD) / 0.1, 0, 1))
            head[1] += NOD * weight * down
            head[2] += roll * weight * down
            if weight > 0.5:
                coefficients[INDEX["browInnerUp"]] += 0.22 * weight * down
                for side in ("Left", "Right"):
                    coefficients[INDEX["browOuterUp" + side]] += 0.16 * weight * down

    def _breathe(self, quiet: float, head: np.ndarray, translation: np.ndarray) -> None:
        """A breath in a pause: shoulders lift the head, which goes back a little."""
        since = (quiet - PAUSE) % BREATH_EVERY - 1.2
        rise = float(np.exp(-0.5 * (since / (0.42 if since < 0 else 0.5)) ** 2)) if quiet > PAUSE else 0.0
        keep = np.exp(-self._step / 0.12)
        self._breath = keep * self._breath + (1 - keep) * rise
        translation[1] += 0.14 * self._breath
        head[1] -= 0.8 * self._breath

    def _blinked(self, time: float, quiet: float) -> float:
        """0 open to 1 closed. A livelier face blinks more often, not further."""
        close, stay, reopen = BLINK
        rate = 0.5 + 0.5 * self._liveliness
        pause = 0.2 < quiet < 0.3 and time - self._blink > BLINK_EVERY[0] / rate
        if time >= self._next_blink or pause:
            self._blink = time + close
            self._next_blink = self._blink + self._blinks.uniform(*BLINK_EVERY) / rate
        since = time - self._blink
        level = 1 + since / close if since < 0 else 1 - (since - stay) / reopen
        return float(eased(np.clip(level, 0, 1)))

    def _looked(self, time: float) -> np.ndarray:
        """(2,) degrees: to the side and down. Between glances the eyes stay almost still."""
        if time >= self._next_glance:
            self._target = np.clip(self._glances.normal(0, 1, 2), -1.8, 1.8) * GLANCE
            self._target[1] -= 0.5
            self._glance = (time, time + self._glances.uniform(*GLANCE_LASTS))
            self._next_glance = time + self._glances.uniform(*GLANCE_EVERY)
        if time >= self._next_jump:
            self._jump, self._next_jump = self._glances.normal(0, 0.45, 2), time + self._glances.uniform(*_DRIFT)
        start, end = self._glance
        gone = eased(np.clip((time - start) / SACCADE, 0, 1)) * eased(np.clip((end - time) / SACCADE, 0, 1))
        return np.asarray(gone * self._target + self._jump)
