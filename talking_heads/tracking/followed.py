"""Points of a person that no detector finds, followed from frame to frame: the shoulders, and spots in the hair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..head.head import of_one_room
from .hair import NUM_SPOTS, HairTracker
from .shoulders import ShoulderTracker

SHOULDERS, HAIR = 0, slice(1, 1 + NUM_SPOTS)
"""Their places among the followed points."""
NUM_FOLLOWED = HAIR.stop
BACKGROUND = 26
"""Levels of a person's mask below which it is the background."""
COMPARED_ROWS = 256
"""Rows of photos whose backgrounds are compared."""


class PointTracker:
    """Follows them through the frames of one clip."""

    def __init__(self) -> None:
        self._shoulders, self._hair = ShoulderTracker(), HairTracker()

    def see(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray:
        """The next frame, uint8 RGB (H, W, 3), and the face (L, 2) in it, or None -> (NUM_FOLLOWED, 2) in pixels of the
        frame. NaN for what is not seen."""
        shoulders = self._shoulders.see(frame, face)
        if shoulders is None:
            shoulders = np.full(2, np.nan)
        return np.concatenate([shoulders[None], self._hair.see(frame, face)])


def followed_in_photos(
    photos: Sequence[np.ndarray], masks: Sequence[np.ndarray], faces: Sequence[np.ndarray]
) -> np.ndarray:
    """Points followed from photo to photo, float (K, NUM_FOLLOWED, 2) in their pixels: in those that come from one film
    with the first, NaN in others. ``photos`` uint8 RGB (H, W, 3) as they were taken, ``masks`` uint8 (H, W) of the
    person, ``faces`` (L, 2) each."""
    tracker = PointTracker()
    result = np.full((len(photos), NUM_FOLLOWED, 2), np.nan)
    step = max(photos[0].shape[0] // COMPARED_ROWS, 1)
    backgrounds = [mask[::step, ::step] < BACKGROUND for mask in masks]
    for k, (photo, face) in enumerate(zip(photos, faces, strict=True)):
        if photo.shape == photos[0].shape and of_one_room(
            photo[::step, ::step], backgrounds[k], photos[0][::step, ::step], backgrounds[0]
        ):
            result[k] = tracker.see(photo, face)
    return result
