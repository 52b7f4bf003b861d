"""Movements of a head besides speech: it nods at what is stressed, blinks, glances about, sways, and takes breath.

All of it is drawn from a seed, so that the same voice gives the same film, and is scaled by one number. A head whose
voice is silent lives on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..head.motion import COEFFICIENTS, INDEX
from .phones import VOWELS
from .sound import FEATURE_RATE, Voice

MAX_LIVELINESS = 2.0

BLINK_EVERY = (2.0, 5.0)
"""Seconds between blinks."""
BLINK = (0.12, 0.04, 0.2)
"""Seconds in which lids close, stay, and open."""
GLANCE_EVERY, GLANCE_LASTS = (2.5, 6.0), (0.4, 1.4)
GLANCE = (7.0, 3.5)
"""Degrees that a glance goes to the side, and up or down, as standard deviations."""
SACCADE = 0.06
"""Seconds that eyes take for a glance."""
LOOK_AT_ONE = 35.0
"""Degrees of gaze at which recordings have coefficients eyeLook* of one."""
NOD = 2.6
"""Degrees down at the strongest stress."""
NOD_APART = 0.7
"""Seconds between two nods at least."""
PAUSE = 0.4
"""Seconds of silence in which breath is taken."""
BREATH_EVERY = 3.8
"""Seconds between breaths in a long silence."""
SWAY = (1.5, 0.9, 0.8)
"""Degrees of yaw, pitch and roll by which a head sways, as standard deviations."""
FADE = 0.6
"""Seconds in which all this begins: the first frame is the photo."""


@dataclass(frozen=True)
class Life:
    """Movements that are added to a speaking mouth."""

    coefficients: np.ndarray
    """(T, 52)"""
    head: np.ndarray
    """(T, 3) degrees."""
    gaze: np.ndarray
    """(T, 4) degrees."""
    translation: np.ndarray
    """(T, 3) cm."""


def life(voice: Voice, times: np.ndarray, liveliness: float, seed: int) -> Life:
    """Movements at seconds ``times`` (T,), in rising order. ``liveliness`` 0: none, 1: as people, 2: twice that."""
    rng = np.random.default_rng(seed)
    coefficients = np.zeros((len(times), len(COEFFICIENTS)))
    head, translation = np.zeros((len(times), 3)), np.zeros((len(times), 3))
    if liveliness == 0:
        return Life(coefficients, head, np.zeros((len(times), 4)), translation)
    # Each draws from a generator of its own: what one of them draws does not change the others.
    sway, blinks, glances, nods = rng.spawn(4)
    begin = eased(np.clip(times / FADE, 0, 1))
    for axis, degrees in enumerate(SWAY):
        head[:, axis] += degrees * _wander(times, voice.seconds, sway)
    translation[:, 0] += 0.08 * _wander(times, voice.seconds, sway)
    _nod(voice, times, head, coefficients, nods)
    _breathe(voice, times, head, translation, coefficients)
    look = _glances(times, voice, glances)
    head[:, :2] += 0.25 * _lagging(look, times)
    gaze = np.tile(liveliness * begin[:, None] * look, 2)
    coefficients *= liveliness * begin[:, None]
    look_coefficients(gaze, coefficients)
    lids = _blinks(times, voice, liveliness, blinks)
    for side in ("Left", "Right"):
        coefficients[:, INDEX["eyeBlink" + side]] = lids
    scale = liveliness * begin[:, None]
    return Life(np.clip(coefficients, 0, 1), scale * head, gaze, scale * translation)


def eased(share: np.ndarray) -> np.ndarray:
    """0..1 -> 0..1, slowly at both ends."""
    eased: np.ndarray = share * share * (3 - 2 * share)
    return eased


def _wander(times: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) a slow random curve of unit variance: random values 1.1 s apart, with smooth curves between them."""
    from scipy.interpolate import CubicSpline

    knots = np.arange(-2, seconds / 1.1 + 4)
    values = rng.normal(size=len(knots))
    values = np.convolve(values, [0.25, 0.5, 0.25], mode="same") / 0.61
    curve: np.ndarray = CubicSpline(knots * 1.1, np.clip(values, -2, 2))(times)
    return curve


def stresses(voice: Voice) -> list[tuple[float, float]]:
    """(second, strength 0 to 1) of the vowels that stand out in loudness, NOD_APART at least."""
    loudness = voice.loudness
    found = []
    for phone in voice.phones:
        if phone.name not in VOWELS:
            continue
        first, last = (
            round(phone.start * FEATURE_RATE),
            max(round(phone.end * FEATURE_RATE), round(phone.start * FEATURE_RATE) + 1),
        )
        around = loudness[max(0, first - FEATURE_RATE) : last + FEATURE_RATE]
        part = loudness[first:last]
        if not len(part):
            continue
        above = float(part.mean() - around.mean()) + 1.5 * (phone.end - phone.start)
        found.append((phone.start + float(np.argmax(part)) / FEATURE_RATE, above))
    chosen: list[tuple[float, float]] = []
    for second, above in sorted(found, key=lambda one: -one[1]):
        if above > 0.15 and all(abs(second - other) >= NOD_APART for other, _ in chosen):
            chosen.append((second, min(above / 0.6, 1.0)))
    return sorted(chosen)


def _nod(voice: Voice, times: np.ndarray, head: np.ndarray, coefficients: np.ndarray, rng: np.random.Generator) -> None:
    """Down at what is stressed, up a little before; brows rise with the stronger ones."""
    for second, strength in stresses(voice):
        weight, roll = rng.uniform(0.5, 1.0) * strength, rng.normal(0, 0.35)
        near = slice(*np.searchsorted(times, (second - 0.6, second + 1.0)))
        since = times[near] - second
        down = np.exp(-0.5 * ((since - 0.06) / np.where(since < 0.06, 0.11, 0.22)) ** 2)
        up = np.exp(-0.5 * ((since + 0.28) / 0.12) ** 2)
        head[near, 1] += NOD * weight * (down - 0.3 * up)
        head[near, 2] += roll * weight * down
        if strength > 0.6:
            lift = np.exp(-0.5 * (since / np.where(since < 0, 0.14, 0.28)) ** 2) * weight
            coefficients[near, INDEX["browInnerUp"]] += 0.22 * lift
            for side in ("Left", "Right"):
                coefficients[near, INDEX["browOuterUp" + side]] += 0.16 * lift


def _breathe(
    voice: Voice, times: np.ndarray, head: np.ndarray, translation: np.ndarray, coefficients: np.ndarray
) -> None:
    """Breaths in pauses: shoulders lift the head, which goes back a little, and lips part before the next word."""
    for start, end in voice.pauses(PAUSE):
        count = max(1, round((end - start) / BREATH_EVERY))
        for breath in range(count):
            top = end - 0.12 - breath * (end - start) / count
            length = min(1.2, (end - start) / count)
            near = slice(*np.searchsorted(times, (top - length, top + 0.9)))
            since = times[near] - top
            rise = np.exp(-0.5 * (since / np.where(since < 0, 0.35 * length, 0.3)) ** 2)
            translation[near, 1] += 0.14 * rise
            head[near, 1] -= 0.8 * rise
            if breath == 0 and end < voice.seconds - 0.05:  # through the mouth, just before a word
                lips = np.exp(-0.5 * ((since + 0.05) / np.where(since < -0.05, 0.13, 0.06)) ** 2)
                coefficients[near, INDEX["jawOpen"]] += 0.035 * lips


def _blinks(times: np.ndarray, voice: Voice, liveliness: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) 0 open to 1 closed. A livelier face blinks more often, not further."""
    close, stay, reopen = BLINK
    closed = np.zeros(len(times))
    pauses = [start + 0.08 for start, _ in voice.pauses(0.25)]
    rate = 0.5 + 0.5 * liveliness
    for second in _moments(voice.seconds, (BLINK_EVERY[0] / rate, BLINK_EVERY[1] / rate), rng, pauses):
        since = times - second
        level = np.where(since < 0, 1 + since / close, 1 - (since - stay) / reopen)
        closed = np.maximum(closed, np.clip(level, 0, 1))
    return eased(closed)


def _moments(
    seconds: float, apart: tuple[float, float], rng: np.random.Generator, better: list[float] | None = None
) -> Iterator[float]:
    """Random seconds, ``apart`` from one another; one of ``better`` where there is one in reach."""
    last = rng.uniform(0.3, 1.0) - apart[0]
    while last < seconds:
        choices = [moment for moment in better or () if apart[0] <= moment - last <= apart[1]]
        last = choices[0] if choices else last + rng.uniform(*apart)
        if last < seconds - 0.25:
            yield last


def _glances(times: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """(T, 2) degrees: to the side and down. Between glances the eyes stay almost still."""
    look = np.zeros((len(times), 2))
    for second in _moments(voice.seconds, GLANCE_EVERY, rng):
        target = np.clip(rng.normal(0, 1, 2), -1.8, 1.8) * GLANCE
        target[1] -= 0.5
        end = second + rng.uniform(*GLANCE_LASTS)
        gone = eased(np.clip((times - second) / SACCADE, 0, 1)) * eased(np.clip((end - times) / SACCADE, 0, 1))
        look += gone[:, None] * target
    # Fixations drift and jump by less than a degree.
    starts = np.cumsum(rng.uniform(0.3, 1.1, int(voice.seconds / 0.3) + 4))
    jumps = rng.normal(0, 0.45, (len(starts) + 1, 2))
    return look + jumps[np.searchsorted(starts, times)]


def _lagging(look: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T, 2): the head follows the eyes, later and slowly."""
    if len(times) < 2:
        return look
    step = float(times[1] - times[0])
    keep = np.exp(-step / 0.25)
    followed, at = np.zeros_like(look), np.zeros(2)
    for k, target in enumerate(look):
        at = keep * at + (1 - keep) * target
        followed[k] = at
    return followed


def look_coefficients(gaze: np.ndarray, coefficients: np.ndarray) -> None:
    """The coefficients eyeLook* that go with a gaze, for programs that read no angles."""
    across, down = gaze[:, 0] / LOOK_AT_ONE, gaze[:, 1] / LOOK_AT_ONE
    for name, strength in (
        ("eyeLookOutLeft", across), ("eyeLookInRight", across), ("eyeLookInLeft", -across),
        ("eyeLookOutRight", -across), ("eyeLookDownLeft", down), ("eyeLookDownRight", down),
        ("eyeLookUpLeft", -down), ("eyeLookUpRight", -down),
    ):  # fmt: skip
        coefficients[:, INDEX[name]] = np.maximum(strength, 0)
