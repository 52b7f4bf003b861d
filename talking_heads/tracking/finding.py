"""Faces found in pictures as people have them: small, sideways, several, or none."""

from __future__ import annotations

import numpy as np

from ..errors import NoFaceError, SeveralFacesError
from ..landmarks import mirror_landmarks
from .crops import face_size, roll
from .detectors import LandmarkDetector

SMALL_FACE = 0.4
"""Share of the picture's longer side: beside a smaller face there is room for others as large."""
RIVAL_SIZE = 0.6
"""A second face in a photo counts when its size is at least this share of the largest one's."""
SAME_FACE = 0.04
"""How far apart, in sizes of the face, the points of two readings of one face may lie on average."""
MIN_TILE = 128
"""Pixels below which a part of a picture is not searched on its own."""


def find_faces(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """All faces of an upright or sideways picture, the largest first: float32 (L, 2) each, in pixels of ``image``.

    Looks at the whole picture, then at overlapping tiles of a half and of a quarter of its longer side (small faces),
    then at the picture turned by 90, 270 and 180 degrees (phones); the first look that finds somebody decides where
    faces are, and a closer look at each from four sides decides which way up they are.
    """
    for look in (find_large, find_in_halves, _find_in_quarters, _find_turned):
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


def find_large(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """Faces that fill much of the picture."""
    return detector.detect(image)


def find_in_halves(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    """Smaller ones: in overlapping tiles of half the longer side."""
    return _find_in_tiles(image, max(image.shape[:2]) // 2, detector)


def _find_in_quarters(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    return _find_in_tiles(image, max(image.shape[:2]) // 4, detector)


def _find_turned(image: np.ndarray, detector: LandmarkDetector) -> list[np.ndarray]:
    for turns in (1, 3, 2):
        turned = np.ascontiguousarray(np.rot90(image, turns))
        faces = [turn_back(face, turns, image.shape) for face in detector.detect(turned)]
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
        found = [turn_back(other, turns, window.shape) for other in detector.detect(turned)]
        closest = nearest(found, readings[0])
        if closest is not None:
            readings[turns] = closest
    agreeing = {
        turns: [other for other in readings if _distance(reading, readings[other]) < 0.15 * face_size(face)]
        for turns, reading in readings.items()
    }
    most = max(agreeing.values(), key=len)  # the first of equals: the face as it is
    # Among these, the rotation in which the head stood most nearly upright is the most exact.
    best = min(most, key=lambda turns: abs(np.angle(np.exp(1j * (roll(readings[turns]) - turns * np.pi / 2)))))
    return face if best == 0 else (readings[best] + corner)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance between the points of two faces."""
    return float(np.linalg.norm(a - b, axis=1).mean())


def nearest(faces: list[np.ndarray], last: np.ndarray | None) -> np.ndarray | None:
    if not faces:
        return None
    if last is None:
        return faces[0]
    distances = [np.linalg.norm(face.mean(axis=0) - last.mean(axis=0)) for face in faces]
    return faces[int(np.argmin(distances))]


def window_around(image: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a face that was seen is looked for: a part of the picture, which may be empty, and its corner (x, y)."""
    height, width = image.shape[:2]
    centre, reach = face.mean(axis=0), 1.1 * face_size(face)
    x0, y0 = np.floor((centre - reach).clip(0, [width, height])).astype(int)
    x1, y1 = np.ceil((centre + reach).clip(0, [width, height])).astype(int)
    return image[y0:y1, x0:x1], np.array([x0, y0], dtype=np.float32)


def turn_back(face: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates in np.rot90(image, turns) -> coordinates in the image of ``shape`` (height, width, ...)."""
    height, width = shape[:2]
    x, y = face[:, 0], face[:, 1]
    back = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[turns]
    return np.stack(back, axis=1).astype(np.float32)


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
        closer = [_right_way_up(face, image, detector) for face in find_in_halves(image, detector)]
        faces = sorted(_without_doubles([*faces, *closer]), key=face_size, reverse=True)
    large = [face for face in faces if face_size(face) >= RIVAL_SIZE * face_size(faces[0])]
    return sorted(large, key=lambda face: float(face[:, 0].mean()))
