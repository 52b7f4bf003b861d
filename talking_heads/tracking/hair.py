"""Hair followed through the frames of a clip: three spots around and above the face, by optical flow.

Landmarks lie on skin that moves when people speak; what lies above it turns with the skull alone, and tells how far the
head has turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..landmarks import FACE_OUTLINE, NOSE_BRIDGE
from .crops import face_size
from .regions import contrast, cut, dense_flow, inside, inverse, joined, mapped, median_flow, similarity
from .segmentation import person_around

NUM_SPOTS = 3
"""At the image's left, in the middle and at its right."""
FACE_PIXELS = 144
"""Pixels of a face's height at which flow is computed. At 108 drawn heads lie worse, at 72 worse still."""
ABOVE_EYES, BELOW_EYES, ASIDE = 0.95, 0.05, 0.72
"""Where hair is looked for, in heights of the face from between the eyes."""
SHAPE = (round((ABOVE_EYES + BELOW_EYES) * FACE_PIXELS), round(2 * ASIDE * FACE_PIXELS))
"""(h, w): height and width of that region as it is compared."""
ZONES = ((-ASIDE, -0.12), (-0.22, 0.22), (0.12, ASIDE))
"""Columns of the region, in heights of the face, in which each spot's pixels lie."""
STEADY = [0, 1, 15, 16, *range(NOSE_BRIDGE.start, NOSE_BRIDGE.stop), 36, 39, 42, 45]
"""Landmarks that speech moves least: they say how the region lies in a frame."""
LEAST_PIXELS = 160
"""A zone in which fewer pixels can be followed shows too little."""
LEAST_CONTRAST = 5.0
"""Levels of 255 by which neighbouring pixels must differ to be followed."""
FOLLOWED = 0.5
"""Share of a zone's pixels that may be followed: those with the most contrast."""
MOST_PIXELS = 400
"""So many of these are followed at most."""
ALIKE = 25.0
"""Levels of 255 within which a pixel that is followed must look as before."""
LEAST_ALIKE = 0.5
"""Share of a zone's pixels of which that must be true; else its spot is not seen."""
TURNED = 0.03
"""Change of STEADY, in sizes of the face, after which a frame becomes a keyframe: hair looks different then."""
NEARER = 0.75
"""Share of that change at which another keyframe takes over."""
MOST_KEYFRAMES = 24
"""A head that turns further than so many show is followed from those that there are."""
WAIT = 10
"""Frames after one that shows no hair, before the next is looked at for it."""


@dataclass(frozen=True)
class _Keyframe:
    """A frame that later ones are compared with."""

    face: np.ndarray
    """(L, 2) pixels of the frame."""
    to_frame: np.ndarray
    """(2, 3): pixels of the region -> of the frame."""
    picture: np.ndarray
    """uint8 (h, w): grey."""
    zones: tuple[np.ndarray, ...]
    """NUM_SPOTS times int (n, 2): columns and rows of the pixels that are followed, or none."""
    spots: np.ndarray
    """(NUM_SPOTS, 2) pixels of the region; NaN for what is not seen."""


class HairTracker:
    """Follows one person's hair, frame by frame. A head that comes back is compared with the keyframe that it was first
    seen in, so errors add up only while it turns on."""

    def __init__(self) -> None:
        self._flow = dense_flow()
        self._keyframes: list[_Keyframe] = []
        self._current = 0
        self._wait = 0

    def see(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray:
        """The next frame, uint8 RGB (H, W, 3), and the face (L, 2) in it -> (NUM_SPOTS, 2) pixels of the frame: where
        the spots are now. NaN for those that are not seen."""
        unknown = np.full((NUM_SPOTS, 2), np.nan)
        if face is None:
            return unknown
        if not self._keyframes:
            self._add(frame, face, unknown)
            return mapped(self._keyframes[0].to_frame, self._keyframes[0].spots) if self._keyframes else unknown
        changes = [_change(keyframe.face, face) for keyframe in self._keyframes]
        nearest = int(np.argmin(changes))
        if changes[nearest] < NEARER * changes[self._current]:
            self._current = nearest
        spots = self._follow(self._keyframes[self._current], frame, face)
        if changes[nearest] > TURNED and len(self._keyframes) < MOST_KEYFRAMES and np.isfinite(spots).any():
            self._add(frame, face, spots)
        return spots

    def _add(self, frame: np.ndarray, face: np.ndarray, spots: np.ndarray) -> None:
        """Takes a frame as a keyframe, if it shows hair; after one that does not, some are not looked at."""
        self._wait -= 1
        if self._wait > 0:
            return
        # A spot that was seen once and is hidden now is not sought elsewhere: it would be another one.
        known = np.any([np.isfinite(keyframe.spots).all(axis=1) for keyframe in self._keyframes], axis=0)
        keyframe = _keyframe(frame, face, spots, np.broadcast_to(known, NUM_SPOTS))
        if keyframe is None:
            self._wait = WAIT
            return
        self._current = len(self._keyframes)
        self._keyframes.append(keyframe)

    def _follow(self, keyframe: _Keyframe, frame: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Where a keyframe's spots are in a frame, (NUM_SPOTS, 2) pixels."""
        to_frame = joined(similarity(keyframe.face[STEADY], face[STEADY]), keyframe.to_frame)
        now = cut(frame, to_frame, SHAPE)
        flow = self._flow.calc(keyframe.picture, now, None)
        spots = np.full((NUM_SPOTS, 2), np.nan)
        for k, pixels in enumerate(keyframe.zones):
            if len(pixels):
                visible = inside(to_frame, pixels, frame)
                moved = median_flow(flow, (keyframe.picture, now), pixels, visible, ALIKE, LEAST_ALIKE)
                spots[k] = np.nan if moved is None else keyframe.spots[k] + moved
        return mapped(to_frame, spots)


def _keyframe(frame: np.ndarray, face: np.ndarray, spots: np.ndarray, known: np.ndarray) -> _Keyframe | None:
    """What is to be followed in a frame, in which ``spots`` (NUM_SPOTS, 2) lie, NaN for those that are not seen; those
    that are not ``known``, bool (NUM_SPOTS,), are chosen. None where it shows no hair."""
    to_frame = _region(face)
    picture = cut(frame, to_frame, SHAPE)
    differs = contrast(picture)
    everywhere = np.indices(SHAPE)[::-1].reshape(2, -1).T
    followed = (differs > LEAST_CONTRAST) & ~_skin(face, to_frame)
    followed &= inside(to_frame, everywhere, frame).reshape(SHAPE)
    if followed.sum() < LEAST_PIXELS:  # before the segmenter is asked, which takes longer than all else
        return None
    followed &= person_around(frame, face, to_frame, SHAPE)
    columns = (np.arange(SHAPE[1]) + 0.5) / FACE_PIXELS - ASIDE
    places = mapped(inverse(to_frame), spots)
    zones = [np.empty((0, 2), int)] * NUM_SPOTS
    for k, (left, right) in enumerate(ZONES):
        zone = followed & (columns >= left) & (columns <= right)
        seen = bool(np.isfinite(places[k]).all())
        if zone.sum() < LEAST_PIXELS or (known[k] and not seen):
            places[k] = np.nan
            continue
        pixels = np.argwhere(zone & (differs >= np.quantile(differs[zone], 1 - FOLLOWED)))[:, ::-1]
        if not seen:
            places[k] = pixels.mean(axis=0)
        zones[k] = pixels[np.linspace(0, len(pixels) - 1, min(len(pixels), MOST_PIXELS)).astype(int)]
    return _Keyframe(face, to_frame, picture, tuple(zones), places) if any(map(len, zones)) else None


def _region(face: np.ndarray) -> np.ndarray:
    """(2, 3): how the region lies in a frame, upright as the face."""
    across = face[45] - face[36]
    across = across / max(float(np.linalg.norm(across)), 1e-6) * face_size(face) / FACE_PIXELS
    down = np.array([-across[1], across[0]])
    corner = face[[36, 45]].mean(axis=0) - FACE_PIXELS * (ASIDE * across + ABOVE_EYES * down)
    return np.column_stack([across, down, corner])


def _skin(face: np.ndarray, to_frame: np.ndarray) -> np.ndarray:
    """bool (h, w): the face in a region, from hairline to chin."""
    import cv2

    outline = mapped(inverse(to_frame), face[list(FACE_OUTLINE)]).round().astype(np.int32)
    return cv2.fillPoly(np.zeros(SHAPE, np.uint8), [outline], 1) > 0


def _change(face: np.ndarray, other: np.ndarray) -> float:
    """How far two faces (L, 2) differ in STEADY, in sizes of the face, wherever they are and however large."""
    moved = mapped(similarity(face[STEADY], other[STEADY]), face[STEADY])
    return float(np.sqrt(((moved - other[STEADY]) ** 2).sum(axis=1).mean()) / face_size(other))
