"""Motion presets: short driving motions that need no clip. They are written down here and come from nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .expressions import FaceControls, mean_face

if TYPE_CHECKING:
    from .faces import Track

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
SIZE, FACE = 256, 146.0
"""Side of the frames, and size of the face in them, in pixels: as in a crop."""

Keys = dict[str, list[tuple[float, float]]]
"""Of each control that moves: (second, value); the first and the last value are 0."""


def load_preset(name: str) -> Track:
    """A preset's motion on the mean face: 25 frames a second, 3 to 6 s, at rest in the first and in the last frame.

    Raises ValueError for a name that is none of PRESETS.
    """
    from .faces import Track  # brings torch

    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}. Choose one of {', '.join(PRESETS)}.")
    seconds, keys = _KEYS[name]
    times = np.arange(round(seconds * FPS) + 1) / FPS
    curves = {control: _eased(times, points) for control, points in keys.items()}
    for control, sway in _sway(times).items():
        curves[control] = curves.get(control, 0.0) + sway
    frames = [dict(zip(curves, map(float, values), strict=True)) for values in zip(*curves.values(), strict=True)]
    landmarks = np.stack([mean_face(FaceControls(**values)) for values in frames]) * FACE + 0.5 * SIZE
    return Track(landmarks.astype(np.float32), FPS, (SIZE, SIZE), np.ones(len(times), dtype=bool))


def _eased(times: np.ndarray, keys: list[tuple[float, float]]) -> np.ndarray:
    """Key values (second, value) -> (T,), each reached and left without haste (smoothstep); held outside of them."""
    when, values = (np.array(column) for column in zip(*keys, strict=True))
    after = np.clip(np.searchsorted(when, times, side="right"), 1, len(when) - 1)
    share = np.clip((times - when[after - 1]) / (when[after] - when[after - 1]), 0.0, 1.0)
    share = share * share * (3 - 2 * share)
    return values[after - 1] + share * (values[after] - values[after - 1])


def _sway(times: np.ndarray) -> dict[str, np.ndarray]:
    """What no living head is without: slow small turns, in degrees, that begin and end at nothing."""
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


def _speech(*sounds: tuple[float, float, float]) -> Keys:
    """(second, mouth, lips) of each sound, from and to rest -> keys of both."""
    return {
        "mouth": [(second, mouth) for second, mouth, _ in sounds],
        "lips": [(second, lips) for second, _, lips in sounds],
    }


# fmt: off
_KEYS: dict[str, tuple[float, Keys]] = {
    "talking": (6.0, _speech(
        # Closed lips (m, b, p), wide ones (e, i), open (a) and round (o, u), at the pace of speech: 4 to 5 syllables a
        # second, none like the one before.
        (0.30, 0.0, 0.0), (0.42, 0.28, -0.3), (0.56, 0.10, -0.5), (0.68, 0.38, 0.5), (0.84, 0.14, 0.9),
        (0.98, 0.0, 0.2), (1.08, 0.0, 0.0), (1.20, 0.55, -0.2), (1.34, 0.22, -0.1), (1.46, 0.12, -0.7),
        (1.58, 0.30, -0.4), (1.72, 0.05, 0.0), (1.82, 0.20, 0.8), (1.96, 0.10, 0.5), (2.10, 0.42, 0.0),
        (2.28, 0.0, -0.2), (2.70, 0.0, 0.0), (2.82, 0.18, -0.6), (2.94, 0.08, -0.3), (3.06, 0.48, 0.1),
        (3.22, 0.25, 0.6), (3.36, 0.12, 1.0), (3.50, 0.0, 0.2), (3.58, 0.0, 0.0), (3.70, 0.34, -0.4),
        (3.82, 0.15, -0.2), (3.94, 0.60, 0.0), (4.14, 0.20, -0.5), (4.26, 0.10, -0.7), (4.40, 0.26, 0.3),
        (4.54, 0.08, 0.7), (4.66, 0.32, 0.4), (4.86, 0.14, -0.3), (5.02, 0.0, -0.1), (5.30, 0.0, 0.0),
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
