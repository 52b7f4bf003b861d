"""A face followed through the frames of a clip: gaps bridged or held, jitter smoothed, other people left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import NoFaceError
from ..landmarks import NUM_LANDMARKS, eye_distance
from .crops import face_size, roll
from .detectors import LandmarkDetector
from .finding import find_faces, find_in_halves, find_large, nearest, turn_back, window_around
from .points import HAIR, SHOULDERS, PointTracker

BRIDGED_SECONDS = 0.5
"""Gaps in a track up to this long are interpolated; longer ones are held and reported."""
SMOOTHED_FRAMES = 3
"""How many frames to both sides smoothing looks at."""
STRETCH = 8
"""Frames that a track grows by while it is made."""
KNOWN_SECONDS = 0.8
"""How much of a clip is seen before the first of its track is given."""


@dataclass(frozen=True)
class Gap:
    """Frames ``first..last`` (inclusive) in which no face was seen and the last pose is held."""

    first: int
    last: int

    def sentence(self, fps: float) -> str:
        """A sentence for users: "No face between 0:04 and 0:07: the last pose is held."."""
        first, end = _clock(self.first / fps), _clock(np.ceil((self.last + 1) / fps))
        return f"No face between {first} and {end}: the last pose is held."


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass(frozen=True)
class Track:
    """One person through a clip. Frames are not kept: a long clip needs no more memory than its points."""

    landmarks: np.ndarray
    """float32 (T, L, 2), smoothed, in pixels of the clip's (upright) frames."""
    fps: float
    frame_size: tuple[int, int]
    """(height, width) of the clip's frames."""
    seen: np.ndarray = field(repr=False)
    """bool (T,): whether the detector saw the face in this frame."""
    gaps: tuple[Gap, ...] = ()
    followed: np.ndarray | None = field(default=None, repr=False)
    """float32 (T, NUM_FOLLOWED, 2) in pixels: points that flow has followed, see points.py; NaN where they are not
    seen. Shoulders are known in all frames or, of a clip whose first face shows none, in none. None for a clip of which
    landmarks are all that is known."""

    @classmethod
    def of_picture(cls, landmarks: np.ndarray, shape: tuple[int, ...]) -> Track:
        """One picture of ``shape`` (H, W, ...) as a clip: landmarks (L, 2)."""
        return cls(landmarks[None], 25.0, (shape[0], shape[1]), np.ones(1, bool))

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each held gap."""
        return [gap.sentence(self.fps) for gap in self.gaps]


class Follower:
    """Looks for one person's face in one frame after another: the largest of the first frame that shows any.

    A phone held sideways is noticed then: all frames are turned by ``turns`` quarters (np.rot90), and so are faces.
    """

    def __init__(self, detector: LandmarkDetector, fps: float) -> None:
        self.last: np.ndarray | None = None
        """The face (L, 2) as it was seen last."""
        self.turns = 0
        self._detector = detector
        self._fps = fps
        self._missed = 0

    def turned(self, frame: np.ndarray) -> np.ndarray:
        """The frame as faces stand upright in it."""
        return np.ascontiguousarray(np.rot90(frame, self.turns)) if self.turns else frame

    def see(self, frame: np.ndarray) -> np.ndarray | None:
        """The face (L, 2) in the next frame, uint8 RGB (H, W, 3) of one size, in pixels of the turned frame."""
        turned, last, missed = self.turned(frame), self.last, self._missed
        face = None if last is None else _follow(turned, last, self._detector)
        # A search of the whole frame is slow when nobody is there: less often the longer the face is away.
        if face is None and (missed < 3 or missed % 5 == 0):
            faces = find_faces(turned, self._detector) if last is None else _find_again(turned, self._detector)
            if last is not None and missed <= BRIDGED_SECONDS * self._fps:  # nobody leaps: that is somebody else
                faces = [face for face in faces if np.linalg.norm((face - last).mean(axis=0)) < face_size(last)]
            face = nearest(faces, last)
            if face is not None and last is None:
                extra = _quarter_turns(face)
                if extra:  # turn all frames once instead of searching each
                    self.turns = (self.turns + extra) % 4
                    face = _follow(self.turned(frame), None, self._detector)
        self._missed = 0 if face is not None else missed + 1
        if face is not None:
            self.last = face
        return face


@dataclass(frozen=True)
class Stretch:
    """Some frames of a track, and what is known of those that come after them."""

    landmarks: np.ndarray
    """float32 (n, L, 2), smoothed, in pixels of the clip's (upright) frames."""
    seen: np.ndarray
    """bool (n,): whether the detector saw the face in this frame."""
    known: np.ndarray
    """float32 (m, L, 2): faces that were seen in these frames and after them, of the first KNOWN_SECONDS at least."""
    frame_size: tuple[int, int]
    """(height, width) of the clip's frames."""
    followed: np.ndarray | None = None
    """float32 (n, NUM_FOLLOWED, 2) pixels, as of a ``Track``; and in the frames of ``known``, (m, NUM_FOLLOWED, 2)."""
    known_followed: np.ndarray | None = None


def follow_face(
    frames: Iterable[np.ndarray],
    detector: LandmarkDetector,
    fps: float,
    on_frame: Callable[[int], None] | None = None,
    name: str = "the clip",
) -> Iterator[Stretch]:
    """Follows the largest face of the first frame that shows one, and gives its track while the clip goes on.

    A stretch comes when later frames can no longer change it: SMOOTHED_FRAMES later, or about a second where the face
    was missed; before the first detection there is none. ``frames`` are uint8 RGB (H, W, 3) of one size; they are
    looked at and dropped. ``on_frame(count)`` is called after each. Raises NoFaceError at the end when no frame shows a
    face.
    """
    follower, pending, points = Follower(detector, fps), _Pending(fps), PointTracker()
    for count, frame in enumerate(frames, start=1):
        face = follower.see(frame)
        followed = points.see(follower.turned(frame), face)
        if follower.turns:
            face = None if face is None else turn_back(face, follower.turns, frame.shape)
            followed = turn_back(followed, follower.turns, frame.shape)
        pending.add(face, followed, frame.shape)
        if on_frame is not None:
            on_frame(count)
        if follower.last is None or count < KNOWN_SECONDS * fps:
            continue
        end = pending.settled()
        if end - pending.done >= STRETCH and (stretch := pending.take(end)):
            yield stretch
    if follower.last is None:
        raise NoFaceError(f"No face found in {name}. Use a clip in which one face is seen from the front.")
    if pending.done < pending.count:
        stretch = pending.take(pending.count)
        assert stretch is not None
        yield stretch


class _Pending:
    """Detections from which the next frames of a track are made, and those before that they depend on."""

    def __init__(self, fps: float) -> None:
        self.count = 0
        """Frames that were added."""
        self.done = 0
        """Frames that were given."""
        self._bridged = BRIDGED_SECONDS * fps
        # Frames that later ones can still change: by interpolation, by what is dropped as a lone detection
        # (``_believed``), and by smoothing; two for rounding.
        self._margin = int(2 * self._bridged) + 2 + SMOOTHED_FRAMES
        self._found: list[np.ndarray | None] = []  # from frame ``first`` on; before ``done`` without lone detections
        self._first = 0
        self._followed: list[np.ndarray] = []  # from frame ``done`` on
        self._first_shoulders = np.full(2, np.nan)
        self._held: np.ndarray | None = None  # the last face before ``first``
        self._frame_size = (0, 0)

    def add(self, face: np.ndarray | None, followed: np.ndarray, frame_shape: tuple[int, ...]) -> None:
        """The next frame's face (L, 2), or None where none was seen, and ``followed`` (NUM_FOLLOWED, 2)."""
        self._found.append(face)
        self._followed.append(followed)
        self._frame_size = (frame_shape[0], frame_shape[1])
        self.count += 1

    def settled(self) -> int:
        """The end of the frames that later ones cannot change."""
        # Where the face is seen in all frames, only smoothing looks ahead.
        missed = any(face is None for face in self._found[self.done - self._first :])
        return self.count - (self._margin if missed else SMOOTHED_FRAMES)

    def take(self, end: int) -> Stretch | None:
        """Frames ``done`` to ``end``, or None where no face was seen before ``end``."""
        begin, stop = self.done - self._first, end - self._first
        seen = _believed(self._found, max(1.0, self._bridged), begin)
        if end == self.count and self._held is None and not any(face is not None for face in seen):
            seen = self._found  # the one face of the clip is one
        if self._held is None and not any(face is not None for face in seen[:stop]):
            return None
        followed = self._points()
        followed[[face is None for face in seen[begin:]], HAIR] = np.nan  # what was seen there was no face
        del self._followed[: end - self.done]
        stretch = _finish(seen, self._held, self._bridged, slice(begin, stop), self._frame_size, followed)
        self._found[begin:stop] = seen[begin:stop]
        self.done = end
        drop = max(0, self.done - self._margin - self._first)
        self._held = next((face for face in reversed(self._found[:drop]) if face is not None), self._held)
        del self._found[:drop]
        self._first += drop
        return stretch

    def _points(self) -> np.ndarray:
        """float32 (m, NUM_FOLLOWED, 2): what was followed in the frames from ``done`` on."""
        points = np.stack(self._followed).astype(np.float32)
        shoulders = points[:, SHOULDERS]
        known = np.isfinite(shoulders).all(axis=1)
        if self.done == 0 and known.any():
            self._first_shoulders = shoulders[known][0]
        shoulders[~known] = self._first_shoulders  # as long as they are not seen they are where they will be
        if np.isnan(self._first_shoulders).any():  # a clip that shows none at its start
            shoulders[:] = np.nan
        return points


def track_face(
    frames: Iterable[np.ndarray],
    detector: LandmarkDetector,
    fps: float,
    on_frame: Callable[[int], None] | None = None,
    name: str = "the clip",
) -> Track:
    """All of ``follow_face`` in one piece. Arguments and errors are the same."""
    # Grown in place: of as many small arrays, once they are joined, the allocator would keep the holes.
    landmarks = np.empty((0, NUM_LANDMARKS, 2), np.float32)
    flags: list[bool] = []
    followed: list[np.ndarray] = []
    frame_size = (0, 0)
    for stretch in follow_face(frames, detector, fps, on_frame, name):
        begin, end = len(flags), len(flags) + len(stretch.seen)
        if end > len(landmarks):
            landmarks.resize((2 * end, NUM_LANDMARKS, 2), refcheck=False)
        landmarks[begin:end] = stretch.landmarks
        flags += stretch.seen.tolist()
        assert stretch.followed is not None
        followed.append(stretch.followed)
        frame_size = stretch.frame_size
    landmarks.resize((len(flags), NUM_LANDMARKS, 2), refcheck=False)
    seen = np.array(flags)
    return Track(landmarks, fps, frame_size, seen, held_gaps(seen, fps), np.concatenate(followed))


def held_gaps(seen: np.ndarray, fps: float) -> tuple[Gap, ...]:
    """The gaps in which the last pose is held; ``seen`` is a Track's."""
    return tuple(Gap(first, last) for first, last in _runs(~seen) if last - first + 1 > BRIDGED_SECONDS * fps)


def _believed(found: list[np.ndarray | None], apart: float, settled: int = 0) -> list[np.ndarray | None]:
    """Drops faces that are seen more than ``apart`` frames after the last and before the next detection.

    A face that is found again is followed from then on; one that is gone with the next frame was none. The first
    ``settled`` frames are left as they are.
    """
    seen = np.flatnonzero([face is not None for face in found])
    gaps = np.diff(np.concatenate([[-np.inf], seen, [np.inf]]))
    lonely = seen[np.minimum(gaps[:-1], gaps[1:]) > apart]
    result = list(found)
    for k in lonely[lonely >= settled]:
        result[k] = None
    return result


def _quarter_turns(face: np.ndarray) -> int:
    """How often np.rot90 must turn the frame so that the face stands within 45 degrees of upright."""
    return int(np.round(float(roll(face)) / (np.pi / 2))) % 4


def _follow(frame: np.ndarray, last: np.ndarray | None, detector: LandmarkDetector) -> np.ndarray | None:
    """The face in a window around where it was: faster, and sure to be the same person."""
    if last is None:
        return nearest(detector.detect(frame), None)
    window, corner = window_around(frame, last)
    if min(window.shape[:2]) < 16:
        return None
    return nearest([face + corner for face in detector.detect(window)], last)


def _find_again(frame: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """All faces where one was lost: its frames already stand upright, and tiny faces are not worth the time."""
    return find_large(frame, detector) or find_in_halves(frame, detector)


def _finish(
    found: list[np.ndarray | None],
    held: np.ndarray | None,
    bridged: float,
    wanted: slice,
    frame_size: tuple[int, int],
    followed: np.ndarray,
) -> Stretch:
    """The frames ``wanted`` of a part of a clip, whose other frames are what smoothing and gaps need to know.

    ``held``: the face that was seen last before this part, if there was one; ``followed``: from the frames ``wanted``
    on.
    """
    seen = np.array([face is not None for face in found])
    filled = np.empty((len(found), NUM_LANDMARKS, 2), np.float32)
    filled[seen] = [face for face in found if face is not None] or np.empty_like(filled[:0])
    for first, last in _runs(~seen):
        before = filled[first - 1] if first > 0 else held
        after = filled[last + 1] if last + 1 < len(found) else None
        number = last - first + 1
        if before is None or after is None or number > bridged:
            # Before the first detection there is only the first pose to hold.
            filled[first : last + 1] = after if before is None else before
        else:
            share = np.arange(1, number + 1, dtype=np.float32)[:, None, None] / (number + 1)
            filled[first : last + 1] = before + share * (after - before)
    looked_at = seen[wanted.start :]
    if not looked_at.any():
        looked_at = np.arange(len(looked_at)) == 0
    number = wanted.stop - wanted.start
    near = slice(max(0, wanted.start - SMOOTHED_FRAMES), wanted.stop + SMOOTHED_FRAMES)
    return Stretch(
        smooth(filled[near])[wanted.start - near.start :][:number].copy(),
        seen[wanted],
        filled[wanted.start :][looked_at],
        frame_size,
        followed[:number],
        followed[looked_at],
    )


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def smooth(track: np.ndarray, tolerance: float = 0.02) -> np.ndarray:
    """Removes a detector's jitter and keeps blinks and lips crisp: a bilateral filter along time, (T, L, 2) -> same.

    One of SMOOTHED_FRAMES to either side counts by its distance in time and by how far the point has moved meanwhile
    (``tolerance`` of the eye distance, standard deviation). Jitter is an order of magnitude smaller than a blink, so
    the one is averaged and the other is left alone; being symmetric in time, nothing lags.
    """
    if len(track) < 3:
        return track
    reach, frames = SMOOTHED_FRAMES, 0.5 * SMOOTHED_FRAMES  # which is the standard deviation
    scale = tolerance * np.median(eye_distance(track))
    padded = np.pad(track, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    total, weights = np.zeros_like(track), np.zeros((*track.shape[:2], 1), dtype=track.dtype)
    for shift in range(-reach, reach + 1):
        other = padded[reach + shift : reach + shift + len(track)]
        moved = np.sum((other - track) ** 2, axis=-1, keepdims=True)
        weight = np.exp(-0.5 * (shift / frames) ** 2 - 0.5 * moved / max(scale, 1e-6) ** 2)
        total += weight * other
        weights += weight
    return total / weights
