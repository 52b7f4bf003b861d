"""A person's shoulders followed through the frames of a clip: how far they have moved, by the optical flow below the
chin. No detector says where shoulders are, and the head alone does not: some people nod, others lean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..head.motion import gone_along
from .crops import face_size
from .segmentation import person_mask

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
SWAY = 0.08
"""Heights of the face: ``motion.SWAY`` of shoulders that are covered for a while."""


@dataclass(frozen=True)
class _Key:
    """The frame that later ones are compared with."""

    corner: np.ndarray
    """(2,) pixels of the frame: the region's upper left corner."""
    picture: np.ndarray
    """uint8 (h, w): grey."""
    followed: np.ndarray
    """bool (h, w): pixels of the person with enough contrast."""
    place: np.ndarray
    """(2,) pixels of the frame: where the shoulders were."""
    face_size: float

    @property
    def scale(self) -> float:
        """Pixels of the region for one of the frame."""
        return FACE_PIXELS / self.face_size


class ShoulderTracker:
    """Follows one person's shoulders, frame by frame."""

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
        self._key: _Key | None = None
        self._place = np.zeros(2)
        self._lost = 0
        self._last_seen = self._place, self._place  # shoulders and head

    def see(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray | None:
        """The next frame, uint8 RGB (H, W, 3), and the face (L, 2) in it -> (2,) pixels to the right and down by which
        the shoulders have moved since they were first seen. Where the face was not seen they have not moved; None as
        long as there were none."""
        if face is None or self._key is None:
            if face is not None:
                self._key = _look(frame, face, self._place)
                self._last_seen = self._place, face[EARS].mean(axis=0)
            return None if self._key is None else self._place
        key = self._key
        moved = np.round(self._place - key.place)  # so that only the rest is left to find
        now = _cut(frame, key.corner + moved, key.scale)
        flow = self._flow.calc(key.picture, now, None)
        change = _seen_at(now, flow)[key.followed] - key.picture[key.followed].astype(np.float32)
        alike = np.abs(change - np.median(change)) < ALIKE  # whatever the exposure does
        head, size = face[EARS].mean(axis=0), face_size(face)
        if alike.mean() >= LEAST_ALIKE:
            self._place = key.place + moved + np.median(flow[key.followed][alike], axis=0) / key.scale
            self._lost, self._last_seen = 0, (self._place, head)
        else:
            place, head_then = self._last_seen
            self._lost += 1
            self._place = place + gone_along(head - head_then, SWAY * size)
        if self._lost > GIVEN_UP or (not self._lost and self._is_far(key, face)):
            self._key, self._lost = _look(frame, face, self._place) or key, 0
        return self._place

    def _is_far(self, key: _Key, face: np.ndarray) -> bool:
        """Whether what is seen differs so much from the key's frame that another is better."""
        resized = face_size(face) / key.face_size
        way = np.linalg.norm(self._place - key.place) / key.face_size
        return bool(way > FURTHEST or not 1 / RESIZED < resized < RESIZED)


def _seen_at(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """float32 (h, w): a grey picture where ``flow`` (h, w, 2) leads to."""
    import cv2

    rows, columns = np.indices(picture.shape, np.float32)
    return cv2.remap(
        picture.astype(np.float32), columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _look(frame: np.ndarray, face: np.ndarray, place: np.ndarray) -> _Key | None:
    """What is to be followed in a frame; None where it does not show the shoulders."""
    import cv2

    size, (x, y) = face_size(face), face[8]
    corner = np.array([x - ASIDE * size, y + BELOW_CHIN[0] * size]).round()
    if len(frame) - corner[1] < LEAST_HEIGHT * size:
        return None
    picture = _cut(frame, corner, FACE_PIXELS / size)
    contrast = np.hypot(*np.gradient(cv2.GaussianBlur(picture, (3, 3), 0).astype(np.float32)))
    followed = contrast > LEAST_CONTRAST
    if followed.sum() < LEAST_PIXELS:  # before the segmenter is asked, which takes longer than all else
        return None
    person = _person(frame, corner, size)
    followed &= person
    if followed.sum() < LEAST_PIXELS:
        return None
    followed &= contrast >= np.quantile(contrast[person], 1 - FOLLOWED)
    return _Key(corner, picture, followed, place, size)


def _person(frame: np.ndarray, corner: np.ndarray, size: float) -> np.ndarray:
    """Where in a region the person is, bool (h, w). The segmenter knows people by their heads: it gets that, too."""
    height, width = frame.shape[:2]
    scale = FACE_PIXELS / size
    right, bottom = np.minimum(corner + np.array(SHAPE[::-1]) / scale, [width, height]).astype(int)
    left, top = np.maximum(corner - [0, 1.5 * size], 0).astype(int)
    mask = person_mask(frame[top:bottom, left:right])
    return _cut(mask, corner - [left, top], scale, outside=0.0) > 0.5


def _cut(frame: np.ndarray, corner: np.ndarray, scale: float, outside: float | None = None) -> np.ndarray:
    """A region of a frame at another scale, grey (h, w); beyond the frame its edge goes on, or it is ``outside``."""
    import cv2

    # Only what is needed is worked on; one that is much larger is averaged first, or sampling would alias.
    reduction = max(int(1 / scale), 1)
    height, width = frame.shape[:2]
    edge = 2 * reduction
    left, top = np.clip(corner.astype(int) - edge, 0, np.maximum([width - edge, height - edge], 0))
    right, bottom = np.maximum(corner + np.array(SHAPE[::-1]) / scale, [left, top]).astype(int) + edge
    part = frame[top:bottom, left:right]
    if reduction > 1:
        part = cv2.resize(part, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    place = (corner - [left, top] + 0.5) / reduction - 0.5
    matrix = np.array([[1 / (scale * reduction), 0, place[0]], [0, 1 / (scale * reduction), place[1]]])
    cut = cv2.warpAffine(
        part, matrix, SHAPE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT, borderValue=outside or 0,
    )  # fmt: skip
    return cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY) if cut.ndim == 3 else cut
