"""Fits a driver's motion to landmarks: pose, expression and gaze, frame after frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ..head.fit import FrameFit, FrameFitter, pose_at_rest
from ..head.head import Head
from ..head.model import FaceModel, face_model
from ..head.motion import Motion
from ..head.person_fit import fit_person, spots_in_hair
from ..head.retarget import frame_of, most_neutral, motion_of
from ..head.smoothing import smoothed, smoothed_in_pieces
from .crops import Crop, crop_around
from .points import HAIR, SHOULDERS
from .tracks import Stretch, Track

IDENTITY_FRAMES = 8
"""Faces of a driver that the identity coefficients are fitted to: enough to tell a round face from puffed cheeks."""
FIRST_STEPS, STEPS = 10, 3
"""Gauss-Newton steps for a frame: from the neutral face, and from the fit of the frame before."""
MAX_ERROR = 0.035
"""Mean distance of landmarks, in sizes of the face, above which a frame is fitted anew, and if that does not help
counts as one in which no face was seen."""


class DriverFitter:
    """Fits the frames of one driver, each from the one before."""

    def __init__(self, crop: Crop, fitter: FrameFitter, start: FrameFit, shoulders: np.ndarray | None = None) -> None:
        self.crop = crop
        self._fitter, self._start = fitter, start
        self._last: FrameFit | None = None
        self._scale = fitter.camera.scale
        self._shoulders = np.full(2, np.nan) if shoulders is None else shoulders

    @classmethod
    def of(
        cls,
        faces: np.ndarray,
        frame_size: tuple[int, int],
        followed: np.ndarray | None = None,
        model: FaceModel | None = None,
    ) -> DriverFitter:
        """A fitter for the driver of ``faces`` (N, L, 2), with points ``followed`` (N, NUM_FOLLOWED, 2), in pixels of
        frames of ``frame_size`` (height, width)."""
        model = face_model() if model is None else model
        crop = crop_around(faces, frame_size)
        chosen = np.unique(np.linspace(0, len(faces) - 1, min(IDENTITY_FRAMES, len(faces))).round().astype(int))
        person = fit_person(model, [in_crop(crop, face) for face in faces[chosen]])
        camera = person.photos[0].camera  # one for all
        rest = pose_at_rest([photo.frame.rotation for photo in person.photos])
        hair, shoulders = None, None
        if followed is not None:
            frames = [photo.frame for photo in person.photos]
            places = in_crop(crop, followed[chosen, HAIR])
            hair = spots_in_hair(model, person.identity_coefficients, camera, frames, places)
            shoulders = followed[np.isfinite(followed[:, SHOULDERS]).all(axis=1).argmax(), SHOULDERS]
        fitter = FrameFitter(model, person.identity_coefficients, camera, rest=rest, hair=hair)
        return cls(crop, fitter, fitter.start(), shoulders)

    @classmethod
    def of_person(cls, head: Head, crop: Crop, followed: np.ndarray | None = None) -> DriverFitter:
        """A fitter for the person of a head, with frames in that photo's ``crop``: for people who drive themselves.
        ``followed`` (K, NUM_FOLLOWED, 2): points in the photos, in pixels of the frame."""
        view, photos = head.primary_view, [each.fit.frame for each in head.views]
        hair, shoulders = None, None
        if followed is not None:
            places = in_crop(crop, followed[:, HAIR])
            hair = spots_in_hair(head.model, head.identity_coefficients, view.fit.camera, photos, places)
            shoulders = followed[head.primary, SHOULDERS]
        rest = pose_at_rest([photo.rotation for photo in photos])
        fitter = FrameFitter(head.model, head.identity_coefficients, view.fit.camera, view.offset, rest=rest, hair=hair)
        return cls(crop, fitter, view.fit.frame, shoulders)

    def fit(self, face: np.ndarray, followed: np.ndarray | None = None) -> FrameFit:
        """The next face (L, 2) and points ``followed`` (NUM_FOLLOWED, 2) in pixels of the frame."""
        points = in_crop(self.crop, face)
        hair = None if followed is None else in_crop(self.crop, followed[HAIR])
        frame = None
        if self._last is not None:
            frame = self._fitter.fit(points, self._last, STEPS, hair)
        if frame is None or frame.error > MAX_ERROR:
            frame = self._fitter.fit(points, self._start, FIRST_STEPS, hair if frame is None else None)
        self._last = frame if frame.error <= MAX_ERROR else None
        shoulders = None if followed is None else self._in_cm(followed[SHOULDERS])
        return replace(frame, shoulders=shoulders)

    def fit_all(self, faces: np.ndarray, followed: np.ndarray | None = None) -> list[FrameFit]:
        """The next faces (T, L, 2) and points ``followed`` (T, NUM_FOLLOWED, 2), one after the other."""
        points = [None] * len(faces) if followed is None else followed
        return [self.fit(face, point) for face, point in zip(faces, points, strict=True)]

    def _in_cm(self, place: np.ndarray) -> np.ndarray | None:
        """Where the shoulders are, (2,) pixels of the frame -> cm to the right and up, or None where nobody knows."""
        start, end = in_crop(self.crop, np.stack([self._shoulders, place]))
        way: np.ndarray = (end - start) / self._scale * [1, -1]
        return way if np.isfinite(way).all() else None


def in_crop(crop: Crop, face: np.ndarray) -> np.ndarray:
    """Points (..., 2) in pixels of a picture -> sides of the crop."""
    size = 1024
    return (crop.to_crop(face, size) + 0.5) / size


def motion_of_track(track: Track, driver: DriverFitter | None = None) -> Motion:
    """All frames of a track, with a driver of that track's own faces unless one is given."""
    if driver is None:
        known = track.seen if track.seen.any() else np.ones(len(track), bool)
        followed = None if track.followed is None else track.followed[known]
        driver = DriverFitter.of(track.landmarks[known], track.frame_size, followed)
    frames = driver.fit_all(track.landmarks, track.followed)
    return smoothed(_held(motion_of(frames, track.fps, track.seen), frames))


def motion_in_pieces(stretches: Iterable[Stretch], fps: float) -> Iterator[tuple[Motion, FrameFit]]:
    """A motion while its clip is still followed: pieces, each with the driver's neutral frame.

    The neutral frame is chosen among those of the first second.
    """
    driver, neutral = None, None

    def pieces() -> Iterator[Motion]:
        nonlocal driver, neutral
        for stretch in stretches:
            if driver is None:
                driver = DriverFitter.of(stretch.known, stretch.frame_size, stretch.known_followed)
                known = driver.fit_all(stretch.known, stretch.known_followed)
                start = smoothed(_held(motion_of(known, fps), known))
                neutral = before = frame_of(start, most_neutral(start), len(known[0].expression))
            # Where the fit fails at the start of a piece, the last frame of the one before is held.
            frames = [before, *driver.fit_all(stretch.landmarks, stretch.followed)]
            yield _held(motion_of(frames, fps, np.array([True, *stretch.seen])), frames)[1:]
            before = next((frame for frame in reversed(frames) if frame.error <= MAX_ERROR), before)

    for piece in smoothed_in_pieces(pieces()):
        assert neutral is not None
        yield piece, neutral


def _held(motion: Motion, frames: list[FrameFit]) -> Motion:
    """Holds the frame before where a fit failed, as where no face is seen."""
    failed = np.array([frame.error > MAX_ERROR for frame in frames])
    if not failed.any():
        return motion
    if failed.all():
        failed[0] = False
    source = np.arange(len(frames))
    good = np.flatnonzero(~failed)
    source = good[np.clip(np.searchsorted(good, source, side="right") - 1, 0, None)]
    return Motion(
        motion.coefficients[source], motion.head[source], motion.gaze[source], motion.translation[source],
        motion.fps, motion.seen & ~failed, motion.detail[source],
        None if motion.shoulders is None else motion.shoulders[source],
    )  # fmt: skip
