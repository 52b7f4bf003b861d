"""Phones and loudness -> the shape of the lips -> coefficients of ARKit.

The mean of a linear filter and a small network, learned by ``python -m train.voice`` from people who were filmed while
they spoke, looks 240 ms into the past and the future: what a lip does for a sound begins before it and depends on its
neighbours (coarticulation). It says where the lips are; the coefficients that put them there are found by non-negative
least squares. Lips that must meet, at p, b and m, are made to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import InvalidModelError
from ..head.fit import MOUTH_AND_LIDS
from ..head.model import FaceModel, face_model
from ..head.motion import COEFFICIENTS, INDEX
from .phones import BILABIALS, SILENCE, VOWELS, Phone
from .sound import BANDS, FEATURE_RATE, Voice

ASSET = Path(__file__).parent / "mouth.safetensors"

VISEMES: tuple[tuple[str, ...], ...] = (
    (SILENCE,), BILABIALS, ("F", "V"), ("TH", "DH"), ("T", "D", "N"), ("L",), ("S", "Z"), ("SH", "CH", "JH", "ZH"),
    ("K", "G", "NG", "HH"), ("R", "ER"), ("W",), ("IY", "Y"), ("IH",), ("EH", "AE"), ("AH",), ("AA",), ("AO",),
    ("UW", "UH"),
)  # fmt: skip
"""Phones that look alike."""
_VISEME = {name: number for number, names in enumerate(VISEMES) for name in names}
_DIPHTHONGS = {"AW": ("AA", "UW"), "AY": ("AA", "IH"), "OY": ("AO", "IH"), "EY": ("EH", "IY"), "OW": ("AO", "UW")}

PHONE_LAGS = np.arange(-24, 25, 4)
"""Lags at which the filter sees the phones, in frames of 10 ms."""
BAND_LAGS = np.arange(-16, 17, 4)
_PHONE_BLUR = np.array([1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0])
_BAND_BLUR = np.ones(5)
_BAND_WEIGHT = 2.0
"""Weight of the loudness against the phones: ridge regression suppresses features of small scale."""
_EMPHASIS_BLUR = np.hanning(19)[1:-1]


@dataclass(frozen=True)
class Context:
    """The context that a filter sees around a moment."""

    phone_lags: np.ndarray = field(repr=False)
    """In frames of 10 ms."""
    band_lags: np.ndarray = field(repr=False)

    @property
    def features(self) -> int:
        """Numbers that it sees."""
        return len(VISEMES) * len(self.phone_lags) + BANDS * len(self.band_lags)


WHOLE = Context(PHONE_LAGS, BAND_LAGS)
"""Context for sound that is complete before lips are computed."""

LIPS = 20
"""Points of the outer and the inner outline of the lips."""
_MIRROR = [6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 16, 15, 14, 13, 12, 19, 18, 17]
_UPPER, _LOWER = [13, 14, 15], [19, 18, 17]

SINGLE = (
    *("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
)
DOUBLE = ("mouthSmile", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp")
"""Coefficients that say what lips do in speech; those of two sides move together."""
_NOISE, _PRIOR = 0.07, 0.3
"""cm that a shape is not believed, and the usual strength of a coefficient."""
_SELDOM = {"mouthRollLower": 0.1, "mouthRollUpper": 0.1, "mouthPress": 0.1}
"""Usual strengths of what makes lips thin."""

ROUNDED = {"W": 0.35, "UW": 0.35, "UH": 0.2, "AO": 0.2, "SH": 0.3, "R": 0.12}
"""How much a viseme rounds the lips besides what was learned: of rounding, landmarks show the least."""
PARTED = 0.3
"""cm by which lips are apart in a vowel at least."""
PRESSED = {"mouthRollLower": 0.05, "mouthPressLeft": 0.2, "mouthPressRight": 0.2}
"""Coefficients that are added where the lips meet."""
CLOSING, OPENING = 0.07, 0.07
"""Seconds in which lips meet before p, b and m, and in which they part."""
_CHUNK = 5000
"""Frames whose features are in memory at a time."""
GATE = 0.3
"""Seconds in which the mouth comes to rest in silence, and leaves it."""


@dataclass(frozen=True)
class LipShapes:
    """How coefficients move the lips of the mean face, and the other way round."""

    basis: np.ndarray = field(repr=False)
    """(3 LIPS, C) cm at full strength of SINGLE and DOUBLE."""
    gap: np.ndarray = field(repr=False)
    """(C,) cm by which each opens the lips."""

    @classmethod
    def of(cls, model: FaceModel) -> LipShapes:
        vertices = model.landmark_vertices[MOUTH_AND_LIDS[-LIPS:]]

        def moved(*names: str) -> np.ndarray:
            by = sum(model.expression_basis[model.index(name)][vertices] for name in names)
            return symmetric(np.asarray(by)[None])[0].reshape(-1)

        columns = [moved(name) for name in SINGLE] + [moved(name + "Left", name + "Right") for name in DOUBLE]
        basis = np.stack(columns, axis=1).astype(float)
        return cls(basis, opening(basis.T.reshape(-1, LIPS, 3)))

    def coefficients(self, shapes: np.ndarray) -> np.ndarray:
        """(T, 3 LIPS) cm from rest -> (T, C) in 0..1."""
        from scipy.optimize import nnls

        usual = np.array([_SELDOM.get(name, _PRIOR) for name in (*SINGLE, *DOUBLE)])
        system = np.concatenate([self.basis, np.diag(_NOISE / usual)])
        nothing = np.zeros(len(usual))
        # Lips that are foretold to be more than closed only touch.
        jaw = SINGLE.index("jawOpen")
        deep = np.maximum(-opening(shapes.reshape(-1, LIPS, 3)), 0)
        shapes = shapes + deep[:, None] / self.gap[jaw] * self.basis[:, jaw]
        found = [nnls(system, np.concatenate([shape, nothing]))[0] for shape in shapes]
        return np.clip(np.stack(found), 0, 1)


def symmetric(points: np.ndarray) -> np.ndarray:
    """(T, LIPS, 3) -> the same, the mean with its mirror image."""
    mirrored = points[:, _MIRROR] * [-1, 1, 1]
    mean: np.ndarray = (points + mirrored) / 2
    return mean


def opening(points: np.ndarray) -> np.ndarray:
    """(T, LIPS, 3) cm -> (T,) cm between the inner lips."""
    gap: np.ndarray = points[:, _UPPER, 1].mean(axis=1) - points[:, _LOWER, 1].mean(axis=1)
    return gap


@cache
def lip_shapes() -> LipShapes:
    """The shapes of the bundled face model."""
    return LipShapes.of(face_model())


@dataclass(frozen=True)
class MouthModel:
    """The learned filter: lips = features weights + bias + relu(features hidden + hidden_bias) output."""

    weights: np.ndarray = field(repr=False)
    """(F, 3 LIPS) cm, for the F features of a Context."""
    bias: np.ndarray = field(repr=False)
    """(3 LIPS,) cm."""
    hidden: np.ndarray = field(repr=False)
    """(F, H)"""
    hidden_bias: np.ndarray = field(repr=False)
    """(H,)"""
    output: np.ndarray = field(repr=False)
    """(H, 3 LIPS) cm."""
    closed: np.ndarray = field(repr=False)
    """(3 LIPS,) cm: the mean shape of lips that meet."""

    @classmethod
    def load(cls, path: str | Path = ASSET, context: Context = WHOLE) -> MouthModel:
        """Read a file of ``train.voice``, for what ``context`` sees. Raises InvalidModelError for another one."""
        try:
            with safe_open(path, framework="np") as file:
                values = {name: file.get_tensor(name).astype(float) for name in cls.__dataclass_fields__}
                visemes = json.loads((file.metadata() or {})["visemes"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InvalidModelError(f"{path} is no model of a mouth ({error}). Install the package anew.") from error
        if visemes != [list(names) for names in VISEMES] or values["weights"].shape != (context.features, 3 * LIPS):
            raise InvalidModelError(f"{path} is of another version of this software. Make it again: train.voice.")
        return cls(**values)

    def lips(self, seen: np.ndarray) -> np.ndarray:
        """(T, F) -> (T, 3 LIPS) cm from rest."""
        lips: np.ndarray = (
            seen @ self.weights + self.bias + np.maximum(seen @ self.hidden + self.hidden_bias, 0) @ self.output
        )
        return lips

    def shapes(self, voice: Voice, times: np.ndarray) -> np.ndarray:
        """(T, 3 LIPS) cm from rest at seconds ``times`` (T,)."""
        shapes = [self.lips(features(voice, times[start : start + _CHUNK])) for start in range(0, len(times), _CHUNK)]
        return np.concatenate(shapes) * speaking(voice, times)[:, None]


@cache
def mouth_model() -> MouthModel:
    """The bundled one, loaded once."""
    return MouthModel.load()


def features(voice: Voice, times: np.ndarray, context: Context = WHOLE) -> np.ndarray:
    """Features of the filter at seconds ``times``: (T, F)."""
    seen = _blurred(_activity(voice.phones, len(voice.bands)), _PHONE_BLUR)
    heard = _BAND_WEIGHT * _blurred(voice.bands.astype(float), _BAND_BLUR)
    at = np.rint(np.asarray(times) * FEATURE_RATE).astype(int)[:, None]
    rows = [
        values[np.clip(at + lags, 0, len(values) - 1)].reshape(len(at), -1)
        for values, lags in ((seen, context.phone_lags), (heard, context.band_lags))
    ]
    return np.concatenate(rows, axis=1)


def _activity(phones: Sequence[Phone], length: int) -> np.ndarray:
    """(length, visemes) 0 or 1, FEATURE_RATE times a second."""
    active = np.zeros((length, len(VISEMES)))
    active[:, 0] = 1
    for phone in phones:
        start, end = round(phone.start * FEATURE_RATE), round(phone.end * FEATURE_RATE)
        names = _DIPHTHONGS.get(phone.name, (phone.name,))
        edges = np.linspace(start, end, len(names) + 1).astype(int)
        for name, first, last in zip(names, edges, edges[1:], strict=False):
            active[first:last] = 0
            active[first:last, _VISEME[name]] = 1
    return active


def _blurred(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(N, C), each column averaged over neighbours."""
    reach = len(kernel) // 2
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    total = sum(weight * padded[k : k + len(values)] for k, weight in enumerate(kernel / kernel.sum()))
    return np.asarray(total)


def speaking(voice: Voice, times: np.ndarray) -> np.ndarray:
    """(T,): 0 in silence, 1 in speech, with slopes of GATE."""
    level = np.zeros(len(times))
    for start, end in _spoken_stretches(voice):
        distance = np.maximum(np.maximum(start - times, times - end), 0)
        level = np.maximum(level, 1 - np.clip(distance / GATE, 0, 1))
    smooth: np.ndarray = level * level * (3 - 2 * level)
    return smooth


def _spoken_stretches(voice: Voice) -> list[tuple[float, float]]:
    """(start, end) in seconds of speech without a pause in which the mouth could come to rest."""
    edges = [0.0]
    for start, end in voice.pauses(2 * GATE):
        edges += [start, end]
    edges.append(voice.seconds)
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def closures(voice: Voice, times: np.ndarray) -> np.ndarray:
    """(T,): 1 where the lips must meet, and how far they are on the way there, 0 to 1. ``times``: evenly spaced.

    However short a p, b or m is, one moment of ``times`` at least is closed.
    """
    closed = np.zeros(len(times))
    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    for phone in voice.phones:
        if phone.name not in BILABIALS:
            continue
        # The end of a p or b is the burst, when lips are open already.
        last = phone.end if phone.name == "M" else phone.start + 0.7 * (phone.end - phone.start)
        nearest = float(times[np.argmin(np.abs(times - (phone.start + last) / 2))]) if len(times) else 0.0
        start, end = min(phone.start, nearest), max(last, nearest)
        reach = np.where(times < start, start - times, np.maximum(times - end, 0))
        slope = np.where(times < start, max(CLOSING, step), max(OPENING, step))
        closed = np.maximum(closed, 1 - np.clip(reach / slope, 0, 1))
    smooth: np.ndarray = closed * closed * (3 - 2 * closed)
    return smooth


def emphasis(voice: Voice, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) and (T,): how much lips are rounded besides what was learned, and 0 to 1 in vowels."""
    strengths = np.zeros((len(VISEMES), 2))
    for name, strength in ROUNDED.items():
        strengths[_VISEME[name], 0] = strength
    for name in VOWELS:
        if name in _VISEME:
            strengths[_VISEME[name], 1] = 1
    active = _blurred(_activity(voice.phones, len(voice.bands)) @ strengths, _EMPHASIS_BLUR)
    at = np.clip(np.rint(times * FEATURE_RATE).astype(int), 0, len(active) - 1)
    return active[at, 0], active[at, 1]


def mouth_coefficients(voice: Voice, times: np.ndarray) -> np.ndarray:
    """float64 (T, 52): what the mouth does at seconds ``times``, evenly spaced; all else is at rest."""
    shapes = mouth_model().shapes(voice, times)
    return spoken_coefficients(shapes, closures(voice, times), *emphasis(voice, times))


def spoken_coefficients(shapes: np.ndarray, closed: np.ndarray, rounded: np.ndarray, vowel: np.ndarray) -> np.ndarray:
    """float64 (T, 52): lips of ``shapes`` (T, 3 LIPS), made to meet, to round and to part: see ``closures`` and
    ``emphasis``."""
    model, lips = mouth_model(), lip_shapes()
    shut = closed[:, None]
    lacking = np.maximum(PARTED * vowel - opening(shapes.reshape(-1, LIPS, 3)), 0)
    jaw = SINGLE.index("jawOpen")
    shapes = shapes + np.where(vowel > 0, lacking, 0)[:, None] / lips.gap[jaw] * lips.basis[:, jaw]
    shapes = (1 - shut) * shapes + shut * model.closed
    found = lips.coefficients(shapes)
    pucker = SINGLE.index("mouthPucker")
    found[:, pucker] = np.clip(found[:, pucker] + rounded, 0, 1)
    # mouthClose alone closes the gap that is left where lips must meet.
    open_by = np.maximum(found @ lips.gap, 0)[:, None] * shut
    close = SINGLE.index("mouthClose")
    found[:, close] = np.clip(found[:, close] - open_by[:, 0] / lips.gap[close], 0, 1)
    result = np.zeros((len(shapes), len(COEFFICIENTS)))
    for column, name in enumerate(SINGLE):
        result[:, INDEX[name]] = found[:, column]
    for column, name in enumerate(DOUBLE, start=len(SINGLE)):
        for side in ("Left", "Right"):
            result[:, INDEX[name + side]] = found[:, column]
    for name, strength in PRESSED.items():
        result[:, INDEX[name]] = np.maximum(result[:, INDEX[name]], strength * shut[:, 0])
    return np.clip(result, 0, 1)
