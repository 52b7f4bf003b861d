"""Gaze: eyeballs that turn about their centres, and the lids that go with them."""

from __future__ import annotations

import numpy as np

from .model import FaceModel
from .motion import GAZE_AT_ONE

GAZE_NAMES = tuple(f"eyeLook{way}{side}" for side in ("Left", "Right") for way in ("Down", "In", "Out", "Up"))


def with_gaze(model: FaceModel, expression: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Expression (E,) whose eyeLook coefficients follow gaze (2, 2) in degrees: lids go with the eyes."""
    result = expression.copy()
    for eye, side, out in ((0, "Left", 1), (1, "Right", -1)):
        to_side, down = gaze[eye] / GAZE_AT_ONE
        amounts = {"Out": out * to_side, "In": -out * to_side, "Down": down, "Up": -down}
        for way, amount in amounts.items():
            result[model.index(f"eyeLook{way}{side}")] = np.clip(amount, 0, 1)
    return result


def turn_eyes(model: FaceModel, vertices: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) in the model's axes with the eyeballs turned by gaze (2, 2), in degrees, about their centres."""
    result = vertices.copy()
    for eye, centre in enumerate(eye_centres(model, vertices)):
        ball = model.eye == eye
        result[ball] = (vertices[ball] - centre) @ eye_rotation(gaze[eye]).T.astype(np.float32) + centre
    return result


def eye_centres(model: FaceModel, vertices: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) -> float32 (2, 3): the middles of the left and of the right eyeball."""
    moved = [(vertices - model.mean)[model.eye == eye].mean(axis=0) for eye in (0, 1)]
    return model.eyeball_centres + np.array(moved, np.float32)


def eye_rotation(angles: np.ndarray) -> np.ndarray:
    """Gaze (to the image's right, down) in degrees -> (3, 3) in the model's axes."""
    side, down = np.radians(angles)
    about_y = np.array([[np.cos(side), 0, np.sin(side)], [0, 1, 0], [-np.sin(side), 0, np.cos(side)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(down), -np.sin(down)], [0, np.sin(down), np.cos(down)]])
    return about_y @ about_x
