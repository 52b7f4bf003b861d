"""Measures of colours: how red, how colourful, and in which light."""

from __future__ import annotations

import numpy as np

USUAL_COLOURFULNESS = 0.3
"""Colourfulness of skin in a colour photo."""


def colourfulness(colour: np.ndarray) -> float:
    """0 for a grey (3,), 1 for a pure red."""
    return float((colour.max() - colour.min()) / max(float(colour.max()), 1e-3))


def share_of_colour(skin: np.ndarray) -> float:
    """0 for a grey photo to 1 for one in colour, by its skin (3,)."""
    return min(1.0, colourfulness(skin) / USUAL_COLOURFULNESS)


def redness(colours: np.ndarray) -> np.ndarray:
    """(N, 3) in 0..1 -> (N,): red over the mean of the other two, in shares of the colour's mean."""
    result: np.ndarray = (colours[:, 0] - colours[:, 1:].mean(axis=1)) / np.maximum(colours.mean(axis=1), 0.05)
    return result


def light_on(skin: np.ndarray, whites: np.ndarray) -> np.ndarray:
    """Colours in 0..1 of the skin (3,) and of the eyes' whites (N, 3) -> the light on teeth, (3,).

    Its strength is that of the brightest white; its colour is between that of the white and of white light, because the
    whites that a small photo shows are half lid.
    """
    brightest = whites[whites.mean(axis=1).argmax()]
    strength = float(np.clip(brightest.mean() * 1.25, 0.5, 0.92))
    cast = brightest / max(float(brightest.mean()), 1e-3)
    warm = skin / max(float(skin.mean()), 1e-3)
    # The colour of skin in white light, over its mean: nearer to grey in a photo with few colours.
    usual = 1 + min(1.0, colourfulness(skin) / USUAL_COLOURFULNESS) * (np.array([1.25, 0.95, 0.80]) - 1)
    cast = 0.5 * cast + 0.5 * warm / usual
    return strength * np.clip(0.4 + 0.6 * cast, 0.8, 1.2)
