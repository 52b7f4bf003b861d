"""Points of a person that no detector finds, followed from frame to frame: one of the shoulders, three in the hair."""

from __future__ import annotations

import numpy as np

from .hair import NUM_SPOTS, HairTracker
from .shoulders import ShoulderTracker

SHOULDERS, HAIR = 0, slice(1, 1 + NUM_SPOTS)
"""Their places among the points that are followed."""
NUM_FOLLOWED = HAIR.stop


class PointTracker:
    """Follows these points through the frames of one clip."""

    def __init__(self) -> None:
        self._shoulders, self._hair = ShoulderTracker(), HairTracker()

    def see(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray:
        """The next frame, uint8 RGB (H, W, 3), and the face (L, 2) in it, or None -> (NUM_FOLLOWED, 2) in pixels of the
        frame. NaN for what is not seen."""
        shoulders = self._shoulders.see(frame, face)
        if shoulders is None:
            shoulders = np.full(2, np.nan)
        return np.concatenate([shoulders[None], self._hair.see(frame, face)])
