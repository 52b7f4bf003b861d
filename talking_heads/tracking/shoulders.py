"""A person's shoulders followed through the frames of a clip: how far they have moved, by the optical flow below the
chin. No detector says where shoulders are, and the head alone does not: some people nod, others lean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..head.motion import gone_along
from .crops import face_size
from .regions import contrast, cut, dense_flow, inside, median_flow
from .segmentation import person_around

EARS = [0, 16]
"""Landmarks that a turn of the head hardly moves."""
FACE_PIXELS = 72
"""Pixels of a face's height at which flow is computed: a hundredth of a head is two thirds of a pixel."""
BELOW_CHIN = (0.08, 1.0)
"""Where shoulders are looked for, in heights of the face below the chin."""
ASIDE = 1.1
"""Half the width of that region, in heights of the face."""
SHAPE = (round((BELOW_CHIN[1] - BELOW_CHIN[0]) * FACE_PIXELS), round(2 * ASIDE * FACE_PIXELS))
"""(h, w): height and width of the region as it is compared."""
LEAST_HEIGHT = 0.08
"""A region that the frame's edge leaves lower than this shows too little."""
LEAST_PIXELS = 60
LEAST_CONTRAST = 6.0
"""Levels of 255 by which neighbouring pixels must differ to be followed."""
FOLLOWED = 0.4
"""Share of the person's pixels that is followed: those with the most contrast."""
FURTHEST = 0.3
"""Way, in heights of the face, after which the shoulders are looked at anew: errors add up only then."""
RESIZED = 1.2
"""Change of the face's size after which they are, too."""
ALIKE = 20.0
"""Levels of 255 within which a pixel that is followed must look as before: else a hand or a caption covers it."""
LEAST_ALIKE = 0.4
"""Share of the pixels of which that must be true; else the shoulders are taken to go with the head."""
GIVEN_UP = 250
"""Frames after which, if they still do not, they are looked at anew."""
WAIT = 10
"""Frames after one that shows no shoulders, before the next is looked at for them."""
SWAY = 0.08
"""Heights of the face: ``motion.SWAY`` of shoulders that are covered for a while."""


@dataclass(frozen=True)
class _Keyframe:
    """The frame that later ones are compared with."""

    corner: np.ndarray
    """(2,) pixels of the frame: the region's upper left corner."""
    picture: np.ndarray
    """uint8 (h, w): grey."""
    followed: np.ndarray
    """int (n, 2): columns and rows of the person's pixels with enough contrast."""
    place: np.ndarray
    """(2,) pixels of the frame: where the shoulders were."""
    face_size: float

    def to_frame(self, moved: np.ndarray) -> np.ndarray:
        """(2, 3): pixels of the region -> of a frame in which it has ``moved`` (2,) pixels."""
        return _to_frame(self.corner + moved, self.face_size)


class ShoulderTracker:
    """Follows one person's shoulders, frame by frame."""

    def __init__(self) -> None:
        self._flow = dense_flow()
        self._keyframe: _Keyframe | None = None
        self._place = np.zeros(2)
        self._lost = self._wait = 0
        self._last_seen = self._place, self._place  # shoulders and head

    def see(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray | None:
        """The next frame, uint8 RGB (H, W, 3), and the face (L, 2) in it -> (2,) pixels of the frame: a point that
        moves as the shoulders do, and lay at the chin when they were first seen. Where the face was not seen it has not
        moved; None as long as there were none."""
        if face is None:
            return None if self._keyframe is None else self._place
        if self._keyframe is None:
            self._place = face[8].astype(float)
            self._last_seen = self._place, face[EARS].mean(axis=0)
            self._look(frame, face)
            return None if self._keyframe is None else self._place
        keyframe = self._keyframe
        moved = np.round(self._place - keyframe.place)  # so that only the rest is left to find
        to_frame = keyframe.to_frame(moved)
        now = cut(frame, to_frame, SHAPE)
        flow = self._flow.calc(keyframe.picture, now, None)
        visible = inside(to_frame, keyframe.followed, frame)
        found = median_flow(flow, (keyframe.picture, now), keyframe.followed, visible, ALIKE, LEAST_ALIKE)
        head, size = face[EARS].mean(axis=0), face_size(face)
        if found is not None:
            self._place = keyframe.place + moved + found * keyframe.face_size / FACE_PIXELS
            self._lost, self._last_seen = 0, (self._place, head)
        else:
            place, head_then = self._last_seen
            self._lost += 1
            self._place = place + gone_along(head - head_then, SWAY * size)
        if self._lost > GIVEN_UP or (not self._lost and self._is_far(keyframe, face)):
            self._look(frame, face)
        return self._place

    def _look(self, frame: np.ndarray, face: np.ndarray) -> None:
        """Takes a frame as the keyframe, if it shows shoulders; after one that does not, some are not looked at."""
        self._wait -= 1
        if self._wait > 0:
            return
        keyframe = _keyframe(frame, face, self._place)
        if keyframe is None:
            self._wait = WAIT
        else:
            self._keyframe, self._lost = keyframe, 0

    def _is_far(self, keyframe: _Keyframe, face: np.ndarray) -> bool:
        """Whether what is seen differs so much from the keyframe that another is better."""
        resized = face_size(face) / keyframe.face_size
        way = np.linalg.norm(self._place - keyframe.place) / keyframe.face_size
        return bool(way > FURTHEST or not 1 / RESIZED < resized < RESIZED)


def _keyframe(frame: np.ndarray, face: np.ndarray, place: np.ndarray) -> _Keyframe | None:
    """What is to be followed in a frame; None where it does not show the shoulders."""
    size, (x, y) = face_size(face), face[8]
    corner = np.array([x - ASIDE * size, y + BELOW_CHIN[0] * size]).round()
    if len(frame) - corner[1] < LEAST_HEIGHT * size:
        return None
    to_frame = _to_frame(corner, size)
    picture = cut(frame, to_frame, SHAPE)
    differs = contrast(picture)
    followed = differs > LEAST_CONTRAST
    if followed.sum() < LEAST_PIXELS:  # before the segmenter is asked, which takes longer than all else
        return None
    person = person_around(frame, face, to_frame, SHAPE)
    followed &= person
    if followed.sum() < LEAST_PIXELS:
        return None
    followed &= differs >= np.quantile(differs[person], 1 - FOLLOWED)
    return _Keyframe(corner, picture, np.argwhere(followed)[:, ::-1], place, size)


def _to_frame(corner: np.ndarray, size: float) -> np.ndarray:
    """(2, 3): pixels of the region -> of a frame, by the ``corner`` (2,) and the size of a face in it."""
    return np.column_stack([np.eye(2) * size / FACE_PIXELS, corner])
