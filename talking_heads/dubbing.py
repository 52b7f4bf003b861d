"""A person's own film with another motion of the lips, the eyes or the whole expression: the rest stays the film's.

The film is followed once. Its frames become the photos of an avatar; the head is posed as in each frame, with the named
parts moved by somebody else, and what that shows around these parts is put into the frame. A frame in which nothing
changes is the film's own.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .avatar import Shots
from .errors import NoFaceError
from .head.filters import fill_holes
from .head.fit import FrameFit
from .head.head import Head
from .head.motion import DETAIL_LIDS, DETAIL_LIPS, PARTS, Motion
from .head.render import Renderer
from .head.retarget import HeadRetargeter, MotionOptions, frame_of, most_neutral
from .landmarks import INNER_LIP, LEFT_EYE, OUTER_LIP, RIGHT_EYE
from .media.reading import read_frames
from .media.streams import ahead
from .pasting import Place
from .result import FrameGenerator
from .tracking.crops import Crop, Portrait, crop_around
from .tracking.motion_fitting import DriverFitter, motion_of_track
from .tracking.tracks import Track

DUBBED_PARTS = ("lips", "eyes", "brows", "expression")
"""Parts that a driver may move; the head stays as in the film."""
PHOTOS = 8
"""Frames of the film that its avatar is made of."""
MIN_FRAMES = 8
"""Frames with a face that a film must have."""
STILL = 0.004
"""Sides of the crop by which a part's landmarks move at most in a frame that is left as it is."""
REACH, FEATHER = 0.035, 0.02
"""Sides of the crop by which a part's region reaches beyond its landmarks, and over which it fades."""
LIGHT_SIDE = 64
"""Pixels at which the difference in light between film and head is worked out."""
MAX_LIGHT = 30.0
"""Levels of 255 by which light may differ; more is a difference of content."""


@dataclass(frozen=True)
class Film:
    """A film, or its seconds ``start`` to ``end``."""

    path: str | Path
    start: float | None = None
    end: float | None = None

    def frames(self, fps: float) -> Iterator[np.ndarray]:
        """uint8 RGB (H, W, 3) each."""
        return read_frames(self.path, start=self.start, end=self.end, fps=fps)


@dataclass(frozen=True)
class FilmedPerson:
    """Where and how the person of a film moves in it."""

    film: Film
    crop: Crop
    """One crop for the whole film."""
    photos: tuple[int, ...]
    """Numbers of the frames that an avatar is made of."""
    track: Track

    @classmethod
    def of(cls, film: Film, track: Track) -> FilmedPerson:
        """``track``: of the film's frames. Raises NoFaceError where the face is hardly seen."""
        seen = np.flatnonzero(track.seen)
        if len(seen) < MIN_FRAMES:
            raise NoFaceError(f"A face is seen in {len(seen)} frames of the film only; {MIN_FRAMES} are needed.")
        chosen = seen[np.linspace(0, len(seen) - 1, PHOTOS).round().astype(int)]
        faces = track.landmarks[seen]
        gaps = np.linalg.norm(faces[:, 62] - faces[:, 66], axis=1)
        chosen = np.unique(np.append(chosen, [seen[gaps.argmax()], seen[gaps.argmin()]]))  # teeth, and closed lips
        return cls(film, crop_around(faces, track.frame_size), tuple(int(k) for k in chosen), track)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames that were followed, uint8 RGB (H, W, 3) each."""
        return self.film.frames(self.track.fps)

    def shots(self) -> Shots:
        """Shots for an avatar, out of the frames that were followed."""
        with contextlib.closing(ahead(self.frames())) as frames:
            wanted = enumerate(islice(frames, self.photos[-1] + 1))
            portraits = [Portrait(frame, self.track.landmarks[k], self.crop) for k, frame in wanted if k in self.photos]
        return Shots.of(portraits, self._followed_in_photos)

    def motion(self, head: Head) -> Motion:
        """How the film moves the person's own head."""
        return motion_of_track(self.track, DriverFitter.of_person(head, self.crop, self._followed_in_photos))

    @property
    def _followed_in_photos(self) -> np.ndarray | None:
        return None if self.track.followed is None else self.track.followed[list(self.photos)]


def check_dubbed_parts(parts: Sequence[str]) -> None:
    """ValueError unless all of ``parts``, one at least, are of DUBBED_PARTS."""
    unknown = [part for part in parts if part not in DUBBED_PARTS]
    if unknown or not parts:
        raise ValueError(f"choose parts among {', '.join(DUBBED_PARTS)}, got {', '.join(unknown) or 'none'}")


def poses(head: Head, film: Motion, driver: Motion, options: MotionOptions) -> Iterator[tuple[FrameFit, FrameFit]]:
    """For each frame of the film the person as filmed, and with the parts of ``options`` moved by the driver.

    The driver, at the film's rate, is at rest after its end.
    """
    count = len(head.model.expression_names)
    neutral = frame_of(driver, most_neutral(driver), count)
    retarget = HeadRetargeter(head, options)
    names = {name for part in options.parts for name in PARTS[part]}
    moved = np.array([name in names for name in head.model.expression_names])
    lids, lips = "eyeBlinkLeft" in names, "jawOpen" in names
    for k in range(len(film)):
        own = frame_of(film, k, count)
        other = retarget(frame_of(driver, k, count) if k < len(driver) else neutral, neutral)
        detail = own.detail.reshape(-1).copy()
        for wanted, part in ((lids, DETAIL_LIDS), (lips, DETAIL_LIPS)):
            if wanted:
                detail[part] = other.detail.reshape(-1)[part]
        yield (
            own,
            replace(
                own,
                expression=np.where(moved, other.expression, own.expression).astype(np.float32),
                gaze=other.gaze if "gaze" in names else own.gaze,
                detail=detail.reshape(own.detail.shape),
            ),
        )


def dubbed(
    person: FilmedPerson,
    head: Head,
    driver: Motion,
    options: MotionOptions,
    paint: Callable[[Iterable[FrameFit]], FrameGenerator],
    size: int,
) -> FrameGenerator:
    """The film's frames, uint8 (H, W, 3), with the parts of ``options`` moved by the driver.

    ``paint`` makes of poses the crop of ``size`` pixels that shows them, some poses ahead.
    """
    inlay, renderer, waiting = Inlay(person, options.parts, size), Renderer(head, size), deque[FrameFit]()

    def wanted() -> Iterator[FrameFit]:
        for filmed, other in poses(head, person.motion(head), driver, options):
            waiting.extend((filmed, other))
            yield other

    with contextlib.closing(ahead(person.frames())) as pictures, contextlib.closing(paint(wanted())) as painted:
        for picture, crop, seen in zip(pictures, painted, person.track.seen, strict=False):
            before, after = (renderer.landmarks(waiting.popleft()) for _ in range(2))
            if not seen or inlay.unchanged(before, after):
                yield picture
            else:
                yield inlay.put(picture, crop, before, after)


class Inlay:
    """Puts painted parts of a face into the frames of a film."""

    def __init__(self, person: FilmedPerson, parts: Sequence[str], size: int) -> None:
        """``size``: pixels of the painted crop's side."""
        self.person, self.size = person, size
        self._outlines = [_OUTLINES[part] for part in parts]
        self._spots = np.unique(np.concatenate([np.concatenate(outlines) for outlines in self._outlines]))
        self._place = Place(person.crop, person.track.frame_size, size)

    def unchanged(self, own: np.ndarray, moved: np.ndarray) -> bool:
        """Whether landmarks (L, 2) in pixels of the crop, as filmed and as wanted, are the same for the parts."""
        way = np.linalg.norm(own[self._spots] - moved[self._spots], axis=1).max()
        return bool(way < STILL * self.size)

    def put(self, frame: np.ndarray, painted: np.ndarray, own: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Frame uint8 (H, W, 3) and painted crop uint8 (S, S, 3), landmarks as above -> uint8 (H, W, 3)."""
        region = self._region(own, moved)
        filmed = self.person.crop.cut(frame, self.size).astype(np.float32)
        change = painted.astype(np.float32) - filmed
        change = region[..., None] * (change - self._light(change, region))
        return self._place.add(frame, change)

    def _region(self, own: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """float32 (S, S) in 0..1: where the parts are or come to be."""
        picture = Image.new("L", (self.size, self.size))
        draw = ImageDraw.Draw(picture)
        for outlines in self._outlines:
            for spots in outlines:
                hull = convex_hull(np.concatenate([own[spots], moved[spots]]))
                draw.polygon([tuple(point) for point in hull.tolist()], fill=255)
        wide = picture.filter(ImageFilter.MaxFilter(2 * round(REACH * self.size) + 1))
        soft = wide.filter(ImageFilter.GaussianBlur(FEATHER * self.size))
        return np.asarray(soft, np.float32) / 255

    def _light(self, change: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Difference in light between painted and filmed skin around the region, continued into it."""
        step = self.size // LIGHT_SIDE
        known = (region < 0.02).astype(np.float32) * (np.abs(change).max(axis=2) < MAX_LIGHT)
        small = [part.reshape(LIGHT_SIDE, step, LIGHT_SIDE, step, -1).mean(axis=(1, 3))
                 for part in (change * known[..., None], known)]  # fmt: skip
        weight = small[1][..., 0]
        light = fill_holes(small[0] / np.maximum(small[1], 1e-3), (weight > 0.3) * weight)
        return np.repeat(np.repeat(light, step, axis=0), step, axis=1)


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Points (N, 2) -> those on their hull, in order around it."""
    from scipy.spatial import ConvexHull

    hull: np.ndarray = points[ConvexHull(points).vertices]
    return hull


def _spots(*groups: slice | Sequence[int]) -> np.ndarray:
    return np.concatenate([np.arange(68)[group] if isinstance(group, slice) else np.array(group) for group in groups])


_MOUTH = _spots(OUTER_LIP, INNER_LIP, range(4, 13), range(31, 36))
_EYES = [_spots(RIGHT_EYE, [18, 20]), _spots(LEFT_EYE, [23, 25])]
_OUTLINES: dict[str, list[np.ndarray]] = {
    "lips": [_MOUTH],
    "eyes": _EYES,
    "brows": [_spots(range(17, 22), RIGHT_EYE), _spots(range(22, 27), LEFT_EYE)],
    "expression": [_spots(range(1, 16), range(17, 27))],
}
"""For each part the landmarks whose hulls are its regions."""
