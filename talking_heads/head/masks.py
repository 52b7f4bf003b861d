"""Where a photo shows the person: the segmenter's mask, mended; and what is behind him or her."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .filters import fill_holes, fill_with_texture, follow_edges
from .model import smoothstep

ANALYSIS = 512
"""Pixels of a crop's side at which a photo is taken apart. Distances in pixels are meant at this size."""
MIN_PERSON = 0.5
"""Share of the face that a person's mask covers, below which it is not believed: the person is the face then."""
UNKNOWN_BACKGROUND = 19
"""Pixels around the person in which the background is not trusted: hair that the mask misses."""
MASK_ERROR = 33
"""Pixels across which masks err."""
STRUCTURE_SIGMA, STRUCTURE = 6, (0.04, 0.015)
"""Pixels of the largest structures that make a background uneven; and how uneven it is, of 0..1, from which on no pixel
is taken out of the mask, and up to which it counts as plain."""
UNLIKE_BACKGROUND = (0.04, 0.1)
"""Difference of a pixel from the background's colour, of 0..1, up to which it is background, and from which on it is
the person."""
FACE_ABOVE_COLLAR = 0.75
"""Share of the face's height, from the top, that lies above any collar: clothes may be as grey as the wall."""
BACKGROUND_DETAIL = 6
"""Pixels of the largest structures of a background that are continued behind the person."""


class Analysis(NamedTuple):
    """The size at which a photo is taken apart."""

    crop_side: int
    """Pixels."""

    def scaled(self, distance: int) -> int:
        """Pixels at ANALYSIS -> pixels of this size, one at least."""
        return max(1, round(distance * self.crop_side / ANALYSIS))

    def window(self, width: int) -> int:
        """Width of a filter, odd or even as it is at ANALYSIS."""
        return width if self.crop_side == ANALYSIS else 2 * round(0.5 * (width * self.crop_side / ANALYSIS - 1)) + 1


def person_mask(mask: np.ndarray, colour: np.ndarray, face: np.ndarray, analysis: Analysis) -> np.ndarray:
    """The segmenter's ``mask`` (H, W) and the photo (H, W, 3), both 0..1, and the ``face``, bool (H, W) -> the mask
    with the photo's outlines, float32 (H, W) in 0..1."""
    if mask[face].mean() < MIN_PERSON:
        mask = face.astype(np.float32)
    person = follow_edges(mask, colour.mean(axis=2), analysis.scaled(7))
    return _without_background(person, colour, face, analysis)


def _without_background(person: np.ndarray, colour: np.ndarray, face: np.ndarray, analysis: Analysis) -> np.ndarray:
    """The mask without what looks like the plain background beside it and is neither face nor clothes: segmenters close
    the corner between ear and neck, and the gaps between curls."""
    known = far_from(person, analysis)
    sigma = analysis.scaled(STRUCTURE_SIGMA)
    # On an uneven background nobody can say what a pixel would be without the person.
    uneven = known * np.abs(colour - ndimage.gaussian_filter(colour, (sigma, sigma, 0))).max(axis=2)
    uneven = fill_holes(ndimage.gaussian_filter(uneven, sigma)[..., None], known)[..., 0]
    unlike = smoothstep(*UNLIKE_BACKGROUND, np.abs(colour - fill_holes(colour, known)).max(axis=2))
    background = smoothstep(*STRUCTURE, uneven) * (1 - unlike)
    inner = face | (ndimage.minimum_filter(person, analysis.window(MASK_ERROR)) > 0.5)
    rows = np.flatnonzero(face.any(axis=1))
    inner[round(rows[0] + FACE_ABOVE_COLLAR * (rows[-1] - rows[0])) :] = True
    return np.where(inner, person, np.minimum(person, 1 - background)).astype(np.float32)


def far_from(person: np.ndarray, analysis: Analysis) -> np.ndarray:
    """The person's mask (H, W) -> float32 (H, W): 1 where the photo shows the background for certain, else 0."""
    return (ndimage.maximum_filter(person, analysis.window(UNKNOWN_BACKGROUND)) < 0.15).astype(np.float32)


def background_behind(person: np.ndarray, colour: np.ndarray, analysis: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """The person's mask (H, W) and the photo (H, W, 3) in 0..1 -> the photo without the person, float32, and where that
    is what the photo shows, float32 (H, W), 0 or 1."""
    known = far_from(person, analysis)
    return fill_with_texture(colour, known, analysis.scaled(BACKGROUND_DETAIL)), known
