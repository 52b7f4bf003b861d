"""From pixels to a face that a network can use: finding, following, smoothing, cropping.

Detectors (landmarks.py) look at one picture. This file makes them work on what people have: small faces, phones held
sideways, several people, frames in which nobody is to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .errors import NoFaceError, SeveralFacesError
from .landmarks import NUM_LANDMARKS, LandmarkDetector, eye_distance, mirror_landmarks

CROP_SCALE = 1.75
"""Side of a crop over the size of the face (hairline to chin): some hair and some neck, as in VoxCeleb crops."""
MIN_CROP_SCALE = 1.3
"""The tightest crop, for pictures that hold little more than the face."""
SMALL_FACE = 0.4
"""Of the picture's longer side: there is room for others as large as a smaller face."""
RIVAL_SIZE = 0.6
"""A second face in a photo counts when its size is at least this share of the largest one's."""
SAME_FACE = 0.04
"""How far apart, in sizes of the face, the points of two readings of one face may lie on average."""
MIN_TILE = 128
"""Pixels below which a part of a picture is not searched on its own."""
BRIDGED_SECONDS = 0.5
"""Gaps in a track up to this long are interpolated; longer ones are held and reported."""
SMOOTHED_FRAMES = 3
"""How many frames to both sides smoothing looks at."""
STRETCH = 8
"""Frames that a track grows by while it is made."""
KNOWN_SECONDS = 0.8
"""How much of a clip is seen before the first of its track is given."""


# ---------------------------------------------------------------------------------------------------------- finding


def find_faces(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """All faces of an upright or sideways picture, the largest first: float32 (L, 2) each, in pixels of ``image``.

    Looks at the whole picture, then at overlapping tiles of a half and of a quarter of its longer side (small faces),
    then at the picture turned by 90, 270 and 180 degrees (phones); the first look that finds somebody decides where
    faces are, and a closer look at each from four sides decides which way up they are.
    """
    for look in (_find_large, _find_in_halves, _find_in_quarters, _find_turned):
        faces = look(image, detector)
        if faces:
            return _without_doubles([_right_way_up(face, image, detector) for face in faces])
    return []


def _without_doubles(faces: list[np.ndarray]) -> list[np.ndarray]:
    """Turned faces, and those where tiles overlap, are reported twice: of readings in one place the largest is kept."""
    kept: list[np.ndarray] = []
    for face in faces:
        if all(np.linalg.norm((face - other).mean(axis=0)) > 0.5 * face_size(other) for other in kept):
            kept.append(face)
    return kept


def _find_large(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    return detector.detect(image)


def _find_in_halves(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    return _find_in_tiles(image, max(image.shape[:2]) // 2, detector)


def _find_in_quarters(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    return _find_in_tiles(image, max(image.shape[:2]) // 4, detector)


def _find_turned(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    for turns in (1, 3, 2):
        turned = np.ascontiguousarray(np.rot90(image, turns))
        faces = [_turn_back(face, turns, image.shape) for face in detector.detect(turned)]
        if faces:
            return faces
    return []


def _find_in_tiles(image: np.ndarray, side: int, detector: LandmarkDetector) -> list[np.ndarray]:
    """Faces of all tiles, the largest first; tiles of ``side`` pixels overlap by half, so some are found twice.

    In so many tiles a detector sees faces in clouds and curtains, too. A face is believed that the mirrored tile shows
    in the same place: real ones differ by less than a hundredth of their size, the others by ten times that, if they
    are seen again at all.
    """
    height, width = image.shape[:2]
    if side < MIN_TILE:
        return []
    faces: list[np.ndarray] = []
    for top in _tile_starts(height, side):
        for left in _tile_starts(width, side):
            tile = image[top : top + side, left : left + side]
            seen = detector.detect(tile)
            if not seen:
                continue
            mirrored = detector.detect(np.ascontiguousarray(tile[:, ::-1]))
            again = [mirror_landmarks(face, tile.shape[1]) for face in mirrored]
            faces += [
                face + np.array([left, top], dtype=np.float32)
                for face in seen
                if any(_distance(face, other) < SAME_FACE * face_size(face) for other in again)
            ]
    return sorted(faces, key=face_size, reverse=True)


def _tile_starts(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` begin that cover ``length`` and overlap by half or a little more."""
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / (0.5 * side)))
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def _right_way_up(face: np.ndarray, image: np.ndarray, detector: LandmarkDetector) -> np.ndarray:
    """The reading of a face on which most of four looks agree: as it is, and turned by quarters.

    A detector knows a face on its side, but takes one on its head for another face, upright where it is not. Such a
    reading stands alone: the looks from the sides and from the other end agree with each other.
    """
    window, corner = window_around(image, face)
    readings = {0: face - corner}  # by the number of quarter turns
    for turns in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(window, turns))
        found = [_turn_back(other, turns, window.shape) for other in detector.detect(turned)]
        nearest = _nearest(found, readings[0])
        if nearest is not None:
            readings[turns] = nearest
    agreeing = {
        turns: [other for other in readings if _distance(reading, readings[other]) < 0.15 * face_size(face)]
        for turns, reading in readings.items()
    }
    most = max(agreeing.values(), key=len)  # the first of equals: the face as it is
    # Of these, the look in which the head stood most nearly upright saw best.
    best = min(most, key=lambda turns: abs(np.angle(np.exp(1j * (roll(readings[turns]) - turns * np.pi / 2)))))
    return face if best == 0 else (readings[best] + corner)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance between the points of two faces."""
    return float(np.linalg.norm(a - b, axis=1).mean())


def window_around(image: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a face that was seen is looked for: a part of the picture, which may be empty, and its corner (x, y)."""
    height, width = image.shape[:2]
    centre, reach = face.mean(axis=0), 1.1 * face_size(face)
    x0, y0 = np.floor((centre - reach).clip(0, [width, height])).astype(int)
    x1, y1 = np.ceil((centre + reach).clip(0, [width, height])).astype(int)
    return image[y0:y1, x0:x1], np.array([x0, y0], dtype=np.float32)


def _turn_back(face: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates in np.rot90(image, turns) -> coordinates in the image of ``shape`` (height, width, ...)."""
    height, width = shape[:2]
    x, y = face[:, 0], face[:, 1]
    back = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[turns]
    return np.stack(back, axis=1).astype(np.float32)


def face_size(landmarks: np.ndarray) -> float:
    """Size of one face in pixels: the distance from hairline to chin, or from ear to ear where that is longer.

    Along the face's own axes, so that a turned picture gives the same size.
    """
    height = np.linalg.norm(landmarks[73] - landmarks[8])
    width = np.linalg.norm(landmarks[0] - landmarks[16])
    return float(max(height, 1.2 * width))


def only_face(
    image: np.ndarray, detector: LandmarkDetector, name: str = "the photo", number: int | None = None
) -> np.ndarray:
    """The landmarks (L, 2) of the one person in a photo, or of face ``number`` (from 1, counted from the left); people
    in the far background are overlooked.

    Raises NoFaceError and SeveralFacesError; ``name`` ("photo 2") is what their sentences call the photo.
    """
    rivals = main_faces(image, detector, name)
    if number is not None:
        if not 1 <= number <= len(rivals):
            count = "is 1 face" if len(rivals) == 1 else f"are {len(rivals)} faces"
            raise NoFaceError(f"There {count} in {name}, and no face {number}. Count from the left, from 1.")
        return rivals[number - 1]
    if len(rivals) > 1:
        raise SeveralFacesError(
            f"There are {len(rivals)} faces in {name}. Say which one is meant, counted from the left (face 1 to "
            f"{len(rivals)}), or crop it so that one person is left."
        )
    return rivals[0]


def main_faces(image: np.ndarray, detector: LandmarkDetector, name: str = "the photo") -> list[np.ndarray]:
    """The faces of a photo that could be meant, from left to right, (L, 2) each: without people in the far background.

    Raises NoFaceError; ``name`` ("photo 2") is what its sentence calls the photo.
    """
    faces = find_faces(image, detector)
    if not faces:
        raise NoFaceError(f"No face found in {name}. Use a well-lit photo that shows the whole face from the front.")
    if face_size(faces[0]) < SMALL_FACE * max(image.shape[:2]):  # a look at the whole picture misses some of a group
        closer = [_right_way_up(face, image, detector) for face in _find_in_halves(image, detector)]
        faces = sorted(_without_doubles([*faces, *closer]), key=face_size, reverse=True)
    large = [face for face in faces if face_size(face) >= RIVAL_SIZE * face_size(faces[0])]
    return sorted(large, key=lambda face: float(face[:, 0].mean()))


# --------------------------------------------------------------------------------------------------------- cropping


@dataclass(frozen=True)
class Crop:
    """A square cut out of a picture: centre (x, y) and side in pixels, turned by ``angle`` radians (clockwise)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> np.ndarray:
        """(2, 3): pixels of the ``size`` x ``size`` crop -> pixels of the picture."""
        scale = self.side / size
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = 0.5 * (size - 1)
        return np.array(
            [[cos, -sin, self.x - cos * middle + sin * middle], [sin, cos, self.y - sin * middle - cos * middle]]
        )

    def to_crop(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points (..., 2) of the picture -> float32 (..., 2) in pixels of the crop."""
        matrix = self.matrix(size)
        return ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (size, size, 3), bicubic; beyond the picture's edge its edge pixels go on."""
        matrix = self.matrix(size)
        reduction = int(self.side / size)
        if reduction > 1:  # sampling a much larger picture would alias
            image = np.asarray(Image.fromarray(image).reduce(reduction))
            matrix = (matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]])) / reduction - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        height, width = image.shape[:2]
        steps = np.arange(size)
        grid = np.stack(np.meshgrid(steps, steps), axis=-1) @ matrix[:, :2].T + matrix[:, 2]  # (size, size, 2) pixels
        grid = (2 * grid + 1) / np.array([width, height]) - 1
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        cut = F.grid_sample(
            pixels, torch.from_numpy(grid)[None].float(), mode="bicubic", padding_mode="border", align_corners=False
        )
        return cut[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Portrait:
    """A photo and where in it the person is: what an avatar is made of, and what a head is pasted back into."""

    image: np.ndarray = field(repr=False)
    """uint8 RGB (H, W, 3)."""
    landmarks: np.ndarray = field(repr=False)
    """float32 (L, 2) in pixels of the image."""
    crop: Crop

    @classmethod
    def of(cls, image: np.ndarray, landmarks: np.ndarray) -> Portrait:
        """With the crop that goes with the landmarks."""
        return cls(image, landmarks, crop_around(landmarks, (image.shape[0], image.shape[1])))

    def shot(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """What a network sees: the crop, uint8 (size, size, 3), and the landmarks in its pixels, float32 (L, 2)."""
        return self.crop.cut(self.image, size), self.crop.to_crop(self.landmarks, size)


def roll(landmarks: np.ndarray) -> np.ndarray:
    """In-plane rotation in radians, clockwise, (..., L, 2) -> (...): from the eyes' outer corners."""
    across = landmarks[..., 45, :] - landmarks[..., 36, :]
    return np.arctan2(across[..., 1], across[..., 0])


def crop_around(track: np.ndarray, frame_size: tuple[int, int]) -> Crop:
    """One crop for a photo (L, 2) or a whole clip (T, L, 2): median place, size and rotation, so that it never moves.

    ``frame_size`` is (height, width) of the picture: a crop that would reach beyond it is shifted and, down to
    MIN_CROP_SCALE, made smaller, because invented borders look worse than a tight crop.
    """
    faces = track.reshape(-1, NUM_LANDMARKS, 2)
    angles = roll(faces)
    # The median of angles that may wrap around: relative to their mean direction.
    mean = np.angle(np.exp(1j * angles).mean())
    angle = float(mean + np.median(np.angle(np.exp(1j * (angles - mean)))))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.stack([0.5 * (np.min(face @ turn, axis=0) + np.max(face @ turn, axis=0)) for face in faces])
    centre = np.median(upright, axis=0) @ turn.T
    size = float(np.median([face_size(face) for face in faces]))
    height, width = frame_size
    spread = abs(np.cos(angle)) + abs(np.sin(angle))  # a turned square reaches further
    side = max(MIN_CROP_SCALE * size, min(CROP_SCALE * size, height / spread, width / spread))
    half = 0.5 * side * spread
    x, y = (
        float(np.clip(middle, half - 0.5, length - 0.5 - half)) if 2 * half <= length else 0.5 * (length - 1)
        for middle, length in zip(centre, (width, height), strict=True)
    )
    return Crop(x, y, side, angle)


# -------------------------------------------------------------------------------------------------------- following


@dataclass(frozen=True)
class Gap:
    """Frames ``first..last`` (inclusive) in which no face was seen and the last pose is held."""

    first: int
    last: int

    def sentence(self, fps: float) -> str:
        """For a person: "No face between 0:04 and 0:07: the last pose is held."."""
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
            face = _nearest(faces, last)
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


def follow_face(
    frames: Iterable[np.ndarray],
    detector: LandmarkDetector,
    fps: float,
    on_frame: Callable[[int], None] | None = None,
    name: str = "the clip",
) -> Iterator[Stretch]:
    """Follows the largest face of the first frame that shows one, and gives its track while the clip goes on.

    A stretch comes when what follows it can no longer change it, a few frames later, or a second where the face was
    not seen; before the first sight there is none. ``frames`` are uint8 RGB (H, W, 3) of one size; they are looked at
    and dropped. ``on_frame(count)`` is called after each. Raises NoFaceError at the end when no frame shows a face.
    """
    bridged = BRIDGED_SECONDS * fps
    # What is interpolated reaches so far, whether a sight is believed in depends on as much again, smoothing on both.
    margin = int(2 * bridged) + 2 + SMOOTHED_FRAMES
    found: list[np.ndarray | None] = []  # from frame ``first`` on; before frame ``done`` what was no face is gone
    first = done = count = 0
    held: np.ndarray | None = None  # the last face before ``first``
    frame_size = (0, 0)
    follower = Follower(detector, fps)

    def next_stretch(end: int) -> Stretch | None:
        """Frames ``done`` to ``end``, or None where no face was seen before ``end``."""
        nonlocal first, done, held
        seen = _believed(found, max(1.0, bridged), done - first)
        if end == count and held is None and not any(face is not None for face in seen):
            seen = found  # the one face of the clip is one
        if held is None and not any(face is not None for face in seen[: end - first]):
            return None
        stretch = _finish(seen, held, bridged, slice(done - first, end - first), frame_size)
        found[done - first : end - first] = seen[done - first : end - first]
        done = end
        drop = max(0, done - margin - first)
        held = next((face for face in reversed(found[:drop]) if face is not None), held)
        del found[:drop]
        first += drop
        return stretch

    for frame in frames:
        frame_size, face = (frame.shape[0], frame.shape[1]), follower.see(frame)
        if face is not None and follower.turns:
            face = _turn_back(face, follower.turns, frame.shape)
        found.append(face)
        count += 1
        if on_frame is not None:
            on_frame(count)
        if follower.last is None or count < KNOWN_SECONDS * fps:
            continue
        # A face that is seen all the time leaves nothing open but smoothing.
        end = count - (margin if any(face is None for face in found[done - first :]) else SMOOTHED_FRAMES)
        if end - done >= STRETCH and (stretch := next_stretch(end)):
            yield stretch
    if follower.last is None:
        raise NoFaceError(f"No face found in {name}. Use a clip in which one face is seen from the front.")
    if done < count:
        stretch = next_stretch(count)
        assert stretch is not None
        yield stretch


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
    frame_size = (0, 0)
    for stretch in follow_face(frames, detector, fps, on_frame, name):
        begin, end = len(flags), len(flags) + len(stretch.seen)
        if end > len(landmarks):
            landmarks.resize((2 * end, NUM_LANDMARKS, 2), refcheck=False)
        landmarks[begin:end] = stretch.landmarks
        flags += stretch.seen.tolist()
        frame_size = stretch.frame_size
    landmarks.resize((len(flags), NUM_LANDMARKS, 2), refcheck=False)
    seen = np.array(flags)
    return Track(landmarks, fps, frame_size, seen, held_gaps(seen, fps))


def held_gaps(seen: np.ndarray, fps: float) -> tuple[Gap, ...]:
    """The gaps in which the last pose is held; ``seen`` is a Track's."""
    return tuple(Gap(first, last) for first, last in _runs(~seen) if last - first + 1 > BRIDGED_SECONDS * fps)


def _believed(found: list[np.ndarray | None], apart: float, settled: int = 0) -> list[np.ndarray | None]:
    """Without the faces that are seen more than ``apart`` frames after the last and before the next sight.

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
        return _nearest(detector.detect(frame), None)
    window, corner = window_around(frame, last)
    if min(window.shape[:2]) < 16:
        return None
    return _nearest([face + corner for face in detector.detect(window)], last)


def _find_again(frame: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """All faces where one was lost: its frames already stand upright, and tiny faces are not worth the time."""
    return _find_large(frame, detector) or _find_in_halves(frame, detector)


def _nearest(faces: list[np.ndarray], last: np.ndarray | None) -> np.ndarray | None:
    if not faces:
        return None
    if last is None:
        return faces[0]
    distances = [np.linalg.norm(face.mean(axis=0) - last.mean(axis=0)) for face in faces]
    return faces[int(np.argmin(distances))]


def _finish(
    found: list[np.ndarray | None], held: np.ndarray | None, bridged: float, wanted: slice, frame_size: tuple[int, int]
) -> Stretch:
    """The frames ``wanted`` of a part of a clip, whose other frames are what smoothing and gaps need to know.

    ``held``: the face that was seen last before this part, if there was one.
    """
    seen = np.array([face is not None for face in found])
    filled = np.empty((len(found), NUM_LANDMARKS, 2), np.float32)
    filled[seen] = [face for face in found if face is not None] or np.empty_like(filled[:0])
    for first, last in _runs(~seen):
        before = filled[first - 1] if first > 0 else held
        after = filled[last + 1] if last + 1 < len(found) else None
        number = last - first + 1
        if before is None or after is None or number > bridged:
            # Before the first sight there is nothing to hold but the first pose itself.
            filled[first : last + 1] = after if before is None else before
        else:
            share = np.arange(1, number + 1, dtype=np.float32)[:, None, None] / (number + 1)
            filled[first : last + 1] = before + share * (after - before)
    known = filled[wanted.start :][seen[wanted.start :]]
    near = slice(max(0, wanted.start - SMOOTHED_FRAMES), wanted.stop + SMOOTHED_FRAMES)
    landmarks = smooth(filled[near])[wanted.start - near.start :][: wanted.stop - wanted.start].copy()
    return Stretch(
        landmarks, seen[wanted], known if len(known) else filled[wanted.start : wanted.start + 1], frame_size
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
