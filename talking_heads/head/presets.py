"""Faces moved by ten sliders, and motion presets that need no clip. Presets are written down here and come from nobody.

Both are changes from a rest, to be added to what a photo shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .motion import COEFFICIENTS, INDEX, Motion

RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-25, 25),
    "pitch": (-15, 15),
    "roll": (-20, 20),
    "mouth": (0, 1),
    "lips": (-1, 1),
    "smile": (-1, 1),
    "eyelids": (-1, 1),
    "brows": (-1, 1),
    "gaze_x": (-1, 1),
    "gaze_y": (-1, 1),
}
"""Lowest and highest value of each control; 0 is as in the photo. Beyond them pictures are no longer believable."""

GAZE = (25.0, 20.0)
"""Degrees that the eyes turn sideways, and up or down, at full strength."""
_LOOK = 35.0  # degrees that a full eyeLook coefficient of ARKit stands for, as recordings show


def _both(**strengths: float) -> dict[str, float]:
    return {name + side: strength for name, strength in strengths.items() for side in ("Left", "Right")}


_SHAPES: dict[str, dict[str, float]] = {
    "mouth+": {"jawOpen": 0.7, **_both(mouthLowerDown=0.25, mouthUpperUp=0.25)},
    "lips+": {"mouthPucker": 0.75, "mouthFunnel": 0.4},
    "lips-": _both(mouthStretch=0.5, mouthSmile=0.3),
    "smile+": _both(mouthSmile=0.9, cheekSquint=0.4, mouthDimple=0.1),
    "smile-": {"mouthShrugLower": 0.3, **_both(mouthFrown=0.9)},
    "eyelids+": _both(eyeWide=1.0),
    "eyelids-": _both(eyeBlink=1.0),
    "brows+": {"browInnerUp": 1.0, **_both(browOuterUp=1.0)},
    "brows-": _both(browDown=1.0),
    "gaze_x+": {"eyeLookOutLeft": GAZE[0] / _LOOK, "eyeLookInRight": GAZE[0] / _LOOK},
    "gaze_x-": {"eyeLookInLeft": GAZE[0] / _LOOK, "eyeLookOutRight": GAZE[0] / _LOOK},
    "gaze_y+": _both(eyeLookDown=GAZE[1] / _LOOK),
    "gaze_y-": _both(eyeLookUp=GAZE[1] / _LOOK),
}
"""Coefficients of each direction of a control at full strength."""


@dataclass(frozen=True)
class FaceControls:
    """A pose and an expression, relative to a photo's. Raises ValueError for a value out of RANGES or no number.

    Right and down are the image's; the image's right is the person's left.
    """

    yaw: float = 0.0
    """Degrees; positive: to the right."""
    pitch: float = 0.0
    """Degrees; positive: down."""
    roll: float = 0.0
    """Degrees in the image; positive: clockwise."""
    mouth: float = 0.0
    """0 as in the photo, 1 wide open."""
    lips: float = 0.0
    """-1 drawn wide, as for "ee", 1 rounded, as for "oo"."""
    smile: float = 0.0
    """-1 corners of the mouth down, 1 up."""
    eyelids: float = 0.0
    """-1 closed, 0 as in the photo, 1 wide open."""
    brows: float = 0.0
    """-1 lowered, 1 raised."""
    gaze_x: float = 0.0
    """-1 to the left, 1 to the right."""
    gaze_y: float = 0.0
    """-1 up, 1 down."""
    coefficients: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Changes of single coefficients of ARKit, -1..1 by name. ValueError for a name that is none of theirs."""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # so written, nan is refused as well
                raise ValueError(f"{name} must lie between {low} and {high}, got {value}")
        for name, value in self.coefficients.items():
            if name not in INDEX:
                raise ValueError(f"There is no coefficient {name!r}. Their names are those of ARKit, such as jawOpen.")
            if not -1 <= value <= 1:
                raise ValueError(f"{name} must lie between -1 and 1, got {value}")
        object.__setattr__(self, "coefficients", dict(self.coefficients))

    def motion(self, fps: float = 25.0) -> Motion:
        """A motion of one frame: what the controls ask for beyond rest."""
        curves = {name: np.array([getattr(self, name)], np.float64) for name in RANGES}
        added = {name: np.array([value], np.float64) for name, value in self.coefficients.items()}
        return _motion(curves | added, 1, fps)

    def opposite(self, fps: float = 25.0) -> Motion:
        """A motion of one frame: what the controls reduce below rest. ``motion`` counts from it."""
        return _motion({name: np.array([-value], np.float64) for name, value in self.coefficients.items()}, 1, fps)


def _motion(curves: Mapping[str, np.ndarray], frames: int, fps: float) -> Motion:
    """Curves (T,) of controls, and of coefficients to add -> the motion that they make; sums are clipped to 0..1."""
    total = np.zeros((frames, len(COEFFICIENTS)))
    for name, shape in _SHAPES.items():
        control, sign = name[:-1], 1.0 if name.endswith("+") else -1.0
        if control in curves:
            strength = np.maximum(sign * curves[control], 0.0)
            for coefficient, share in shape.items():
                total[:, INDEX[coefficient]] += share * strength
    for name in INDEX.keys() & curves.keys():
        total[:, INDEX[name]] += curves[name]
    none = np.zeros(frames)
    look = np.stack([curves.get(name, none) * turn for name, turn in zip(("gaze_x", "gaze_y"), GAZE, strict=True)], 1)
    return Motion(
        coefficients=np.clip(total, 0.0, 1.0),
        head=np.stack([curves.get(name, none) for name in ("yaw", "pitch", "roll")], axis=1),
        gaze=np.tile(look, 2),
        translation=np.zeros((frames, 3)),
        fps=fps,
    )


PRESETS = {
    "talking": "Speaks a few sentences, with small nods and two blinks.",
    "smile": "A smile that comes slowly, stays and goes.",
    "laugh": "Laughs with an open mouth and closed eyes.",
    "nod": "Nods three times.",
    "shake": "Shakes the head.",
    "look-around": "Looks to one side and to the other, the eyes first.",
    "surprise": "Brows up, eyes wide, mouth open.",
    "blink": "Holds still and blinks once.",
}
"""Names and what they show."""

FPS = 25.0
"""Rate of the presets."""

Keys = dict[str, list[tuple[float, float]]]
"""Key values (second, value) of each control or coefficient that moves; the first and the last value are 0."""


def load_preset(name: str) -> Motion:
    """A preset's motion: 25 frames a second, 3 to 6 s, at rest in the first and in the last frame.

    Raises ValueError for a name that is none of PRESETS.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}. Choose one of {', '.join(PRESETS)}.")
    seconds, keys = _KEYS[name]
    times = np.arange(round(seconds * FPS) + 1) / FPS
    curves = {moved: _eased(times, points) for moved, points in keys.items()}
    for control, sway in _sway(times).items():
        curves[control] = curves.get(control, 0.0) + sway
    return _motion(curves, len(times), FPS)


def _eased(times: np.ndarray, keys: list[tuple[float, float]]) -> np.ndarray:
    """Key values (second, value) -> (T,), each reached and left without haste (smoothstep); held outside of them."""
    when, values = (np.array(column) for column in zip(*keys, strict=True))
    after = np.clip(np.searchsorted(when, times, side="right"), 1, len(when) - 1)
    share = np.clip((times - when[after - 1]) / (when[after] - when[after - 1]), 0.0, 1.0)
    share = share * share * (3 - 2 * share)
    return values[after - 1] + share * (values[after] - values[after - 1])


def _sway(times: np.ndarray) -> dict[str, np.ndarray]:
    """Slow small turns of a living head, in degrees, that begin and end at zero."""
    end = times[-1]
    fade = np.sin(np.pi * times / end) ** 2
    return {
        "yaw": 0.9 * fade * np.sin(1.7 * times),
        "pitch": 0.7 * fade * np.sin(2.3 * times + 1.0),
        "roll": 0.6 * fade * np.sin(1.3 * times + 2.0),
    }


def _blink(*seconds: float) -> list[tuple[float, float]]:
    """Keys of the eyelids: they close within 0.12 s, rest, and open within 0.2 s."""
    return [key for at in seconds for key in ((at - 0.12, 0.0), (at, -1.0), (at + 0.04, -1.0), (at + 0.24, 0.0))]


M = -1.0
"""Instead of how open a mouth is: closed lips, as m, b and p close them, over a jaw that is not quite shut."""

_PRESSED = {"jawOpen": 0.06, "mouthClose": 0.06, "mouthRollLower": 0.2, "mouthRollUpper": 0.15} | _both(mouthPress=0.35)
"""Coefficients that close the lips: mouthClose undoes jawOpen."""


def _speech(*sounds: tuple[float, float, float]) -> Keys:
    """(second, mouth, lips) of each sound, from and to rest -> keys of both, and of what closed lips add."""
    keys = {
        "mouth": [(second, max(mouth, 0.0)) for second, mouth, _ in sounds],
        "lips": [(second, lips) for second, _, lips in sounds],
    }
    for name, strength in _PRESSED.items():
        keys[name] = [(second, strength if mouth == M else 0.0) for second, mouth, _ in sounds]
    return keys


# fmt: off
_KEYS: dict[str, tuple[float, Keys]] = {
    "talking": (6.0, _speech(
        # Closed lips (m, b, p: M), wide ones (e, i), open (a) and round (o, u), at the pace of speech: 4 to 5 syllables
        # a second, none like the one before.
        (0.30, 0.0, 0.0), (0.42, 0.28, -0.3), (0.56, 0.10, -0.5), (0.68, 0.38, 0.5), (0.84, 0.14, 0.9),
        (0.98, M, 0.2), (1.08, M, 0.0), (1.20, 0.55, -0.2), (1.34, 0.22, -0.1), (1.46, 0.12, -0.7),
        (1.58, 0.30, -0.4), (1.72, M, 0.0), (1.82, 0.20, 0.8), (1.96, 0.10, 0.5), (2.10, 0.42, 0.0),
        (2.28, 0.0, -0.2), (2.70, 0.0, 0.0), (2.82, 0.18, -0.6), (2.94, 0.08, -0.3), (3.06, 0.48, 0.1),
        (3.22, 0.25, 0.6), (3.36, 0.12, 1.0), (3.50, M, 0.2), (3.58, M, 0.0), (3.70, 0.34, -0.4),
        (3.82, 0.15, -0.2), (3.94, 0.60, 0.0), (4.14, 0.20, -0.5), (4.26, 0.10, -0.7), (4.40, 0.26, 0.3),
        (4.54, M, 0.3), (4.66, 0.32, 0.4), (4.86, 0.14, -0.3), (5.02, 0.0, -0.1), (5.30, 0.0, 0.0),
    ) | {
        "eyelids": _blink(1.0, 3.56),
        "brows": [(0.9, 0.0), (1.2, 0.5), (1.8, 0.1), (2.4, 0.0), (3.6, 0.0), (3.95, 0.6), (4.6, 0.1), (5.3, 0.0)],
        "pitch": [(0.3, 0.0), (0.7, -2.5), (1.25, 3.5), (1.9, 0.0), (2.6, 1.5), (3.1, -1.5), (3.95, 4.0), (4.7, 0.5),
                  (5.5, 0.0)],
        "yaw": [(0.3, 0.0), (1.2, 4.0), (2.4, 3.0), (3.2, -4.5), (4.4, -3.0), (5.6, 0.0)],
        "roll": [(0.5, 0.0), (1.6, -2.0), (3.4, 2.0), (5.4, 0.0)],
        "smile": [(4.4, 0.0), (5.0, 0.3), (5.3, 0.3), (5.8, 0.0)],
    }),
    "smile": (4.0, {
        "smile": [(0.4, 0.0), (1.3, 0.9), (2.6, 0.8), (3.6, 0.0)],
        "mouth": [(0.7, 0.0), (1.4, 0.12), (2.5, 0.12), (3.1, 0.0)],
        "eyelids": [*_blink(0.4), (0.8, 0.0), (1.4, -0.15), (2.5, -0.15), *_blink(3.1)],
        "brows": [(0.5, 0.0), (1.1, 0.25), (2.8, 0.1), (3.5, 0.0)],
        "roll": [(0.5, 0.0), (1.5, 4.0), (2.6, 3.5), (3.7, 0.0)],
        "pitch": [(0.5, 0.0), (1.3, -2.0), (2.6, -1.5), (3.6, 0.0)],
    }),
    "laugh": (4.0, {
        "smile": [(0.4, 0.0), (0.9, 1.0), (2.4, 0.9), (3.2, 0.0)],
        "mouth": [(0.4, 0.0), (0.8, 0.45), (0.95, 0.3), (1.1, 0.5), (1.25, 0.32), (1.4, 0.5), (1.55, 0.3), (1.7, 0.45),
                  (1.9, 0.25), (2.1, 0.4), (2.6, 0.15), (3.2, 0.0)],
        "eyelids": [(0.4, 0.0), (0.9, -0.7), (1.8, -0.8), (2.5, -0.3), (3.3, 0.0)],
        "brows": [(0.3, 0.0), (0.8, 0.4), (2.4, 0.2), (3.2, 0.0)],
        "pitch": [(0.3, 0.0), (0.9, -7.0), (1.1, -5.0), (1.25, -7.5), (1.4, -5.0), (1.6, -7.0), (2.2, 3.0), (3.7, 0.0)],
        "roll": [(0.4, 0.0), (1.3, -4.0), (2.4, 2.0), (3.6, 0.0)],
    }),
    "nod": (3.0, {
        "pitch": [(0.2, 0.0), (0.4, -2.0), (0.75, 10.0), (1.05, -1.0), (1.4, 9.0), (1.7, -0.5), (2.0, 6.0), (2.5, 0.0)],
        "eyelids": _blink(0.7),
        "brows": [(0.2, 0.0), (0.5, 0.3), (1.5, 0.1), (2.5, 0.0)],
        "smile": [(0.4, 0.0), (1.2, 0.25), (2.0, 0.2), (2.8, 0.0)],
    }),
    "shake": (3.0, {
        "yaw": [(0.2, 0.0), (0.5, 11.0), (0.9, -11.0), (1.3, 9.0), (1.7, -7.0), (2.1, 3.0), (2.5, 0.0)],
        "eyelids": [(0.2, 0.0), (0.5, -0.25), (0.78, -0.25), (0.9, -1.0), (0.94, -1.0), (1.14, -0.25), (2.0, -0.2),
                    (2.5, 0.0)],
        "brows": [(0.2, 0.0), (0.6, -0.5), (1.8, -0.4), (2.6, 0.0)],
        "smile": [(0.2, 0.0), (0.7, -0.4), (1.8, -0.4), (2.6, 0.0)],
    }),
    "look-around": (6.0, {
        "gaze_x": [(0.3, 0.0), (0.5, 0.8), (1.1, 0.3), (1.9, 0.4), (2.1, -0.6), (2.4, -0.8), (3.2, -0.4), (4.2, -0.3),
                   (4.4, 0.5), (5.0, 0.0)],
        "gaze_y": [(3.2, 0.0), (3.4, -0.5), (4.1, -0.4), (4.5, 0.0)],
        "yaw": [(0.4, 0.0), (1.1, 17.0), (1.9, 17.0), (3.0, -17.0), (4.2, -15.0), (5.3, 0.0)],
        "pitch": [(0.4, 0.0), (1.2, 2.0), (3.2, 0.0), (3.8, -6.0), (4.4, -4.0), (5.3, 0.0)],
        "roll": [(0.4, 0.0), (1.3, 3.0), (3.1, -3.0), (5.3, 0.0)],
        "brows": [(3.1, 0.0), (3.6, 0.4), (4.2, 0.3), (5.0, 0.0)],
        "eyelids": _blink(0.55, 2.2, 4.5),
    }),
    "surprise": (3.6, {
        "brows": [(0.4, 0.0), (0.7, 1.0), (2.0, 0.9), (3.0, 0.0)],
        "eyelids": [*_blink(0.3), (0.56, 0.0), (0.8, 1.0), (2.0, 0.9), *_blink(2.6)],
        "mouth": [(0.45, 0.0), (0.85, 0.6), (2.0, 0.5), (2.9, 0.0)],
        "lips": [(0.45, 0.0), (0.9, 0.5), (2.0, 0.4), (2.9, 0.0)],
        "pitch": [(0.4, 0.0), (0.8, -5.0), (2.0, -4.0), (3.2, 0.0)],
    }),
    "blink": (3.0, {"eyelids": _blink(1.4)}),
}
# fmt: on
