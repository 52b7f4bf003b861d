"""A visitor's person: which photos, whose face in each, and the avatar once there is one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from talking_heads import Avatar
from talking_heads.drawing import PARTS
from talking_heads.errors import FaceError, NoFaceError, TalkingHeadsError
from talking_heads.media.images import read_photo
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.tracking.finding import main_faces

from .settings import LimitError

SHOWN = 512
"""Pixels of the longer side of a photo that is shown back."""
GOOD, BAD = (255, 196, 0), (230, 60, 60)
NO_PHOTO = Image.new("RGB", (SHOWN, SHOWN), (90, 90, 90))


@dataclass(frozen=True, eq=False)
class PhotoAnalysis:
    """The faces in one photo, of which only the path is kept."""

    path: str
    faces: tuple[np.ndarray, ...] = field(default=(), repr=False)
    """(L, 2) each, from left to right, in pixels of the photo as it is read."""
    problem: str = ""
    """A sentence, where nothing can be done with the photo."""
    too_large: bool = False
    """Whether it is too large to be shown."""
    detector: str = ""
    """The detector's name."""

    @classmethod
    def of(cls, path: str, detector: LandmarkDetector, megapixels: int) -> PhotoAnalysis:
        """Reads the photo and looks for faces; what a user can cause becomes the ``problem``."""
        try:
            check_pixels(path, megapixels)
            return cls(path, tuple(main_faces(read_photo(path), detector)), detector=detector.name)
        except TalkingHeadsError as error:
            too_large = isinstance(error, LimitError)
            return cls(path, problem=str(error), too_large=too_large, detector=detector.name)


@dataclass
class Person:
    """The photos of one visitor, or an avatar that was loaded. Lives as long as the visit."""

    analyses: list[PhotoAnalysis] = field(default_factory=list)
    picked: dict[str, int] = field(default_factory=dict)
    """Which face was chosen, where a photo shows several."""
    avatar: Avatar | None = None
    """Made from these photos, fine-tuned to them, or loaded from a file; None until then."""

    @classmethod
    def in_photos(
        cls, paths: Sequence[str], detector: LandmarkDetector, megapixels: int, before: Person | None = None
    ) -> Person:
        """Looks at each photo that ``before`` has not seen with this detector; an avatar stays while the photos do."""
        before = before or cls()
        known = {analysis.path: analysis for analysis in before.analyses if analysis.detector == detector.name}
        analyses = [known[path] if path in known else PhotoAnalysis.of(path, detector, megapixels) for path in paths]
        person = cls(analyses, {path: face for path, face in before.picked.items() if path in known})
        if analyses == before.analyses:
            person.avatar = before.avatar
        return person

    def pick(self, number: int, face: int) -> Person:
        """With one face of photo ``number`` (from 0) chosen: another person, so the avatar is dropped."""
        return Person(self.analyses, self.picked | {self.analyses[number].path: face})

    def with_face(self, face: int) -> Person:
        """With that face (from 1, from the left) chosen in every photo. Raises NoFaceError."""
        for number, analysis in enumerate(self.analyses, start=1):
            count = len(analysis.faces)
            if analysis.faces and not 1 <= face <= count:
                faces = "is 1 face" if count == 1 else f"are {count} faces"
                where = "the photo" if len(self.analyses) == 1 else f"photo {number}"
                raise NoFaceError(f"There {faces} in {where}, and no face {face}. Count from the left, from 1.")
        picked = {analysis.path: face - 1 for analysis in self.analyses if len(analysis.faces) > 1}
        return Person(self.analyses, picked)

    def several(self) -> int | None:
        """The first photo (from 0) that shows several people."""
        return next((number for number, analysis in enumerate(self.analyses) if len(analysis.faces) > 1), None)

    def everybody(self, number: int) -> list[Portrait]:
        """All people in photo ``number`` (from 0), from left to right. Raises FaceError where there are none."""
        analysis = self.analyses[number]
        if analysis.problem:
            raise FaceError(analysis.problem)
        photo = read_photo(analysis.path)
        return [Portrait.of(photo, face) for face in analysis.faces]

    def asked(self) -> int | None:
        """The photo of which a face is asked for: the first undecided one, else the first that shows several."""
        undecided = self.undecided()
        return self.several() if undecided is None else undecided

    def undecided(self) -> int | None:
        """The first photo in which a face must be chosen yet."""
        for number, analysis in enumerate(self.analyses):
            if len(analysis.faces) > 1 and analysis.path not in self.picked:
                return number
        return None

    def portraits(self) -> list[Portrait]:
        """Reads the photos again. Raises FaceError where one of them cannot be used as it is."""
        return [self.portrait(number) for number in range(len(self.analyses))]

    def portrait(self, number: int) -> Portrait:
        """Reads photo ``number`` (from 0) again. Raises FaceError where it cannot be used as it is."""
        analysis = self.analyses[number]
        name = "the photo" if len(self.analyses) == 1 else f"photo {number + 1}"
        if analysis.problem:
            raise FaceError(analysis.problem.replace("the photo", name, 1))
        if len(analysis.faces) > 1 and analysis.path not in self.picked:
            raise FaceError(f"There are {len(analysis.faces)} faces in {name}. Choose whose it is.")
        return Portrait.of(read_photo(analysis.path), analysis.faces[self.picked.get(analysis.path, 0)])

    def pictures(self) -> list[tuple[Image.Image, str]]:
        """Each photo with its crop and landmarks, and a caption."""
        return [picture(analysis, self.picked, number) for number, analysis in enumerate(self.analyses, start=1)]


def picture(analysis: PhotoAnalysis, picked: Mapping[str, int], number: int) -> tuple[Image.Image, str]:
    """One photo as the model sees it, at most SHOWN pixels large, and what to know about it."""
    try:
        photo = NO_PHOTO if analysis.too_large else Image.fromarray(read_photo(analysis.path))
    except TalkingHeadsError:
        photo = NO_PHOTO
    scale = SHOWN / max(photo.size)
    shown = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    draw = ImageDraw.Draw(shown)
    width = max(2, SHOWN // 170)
    if analysis.problem:
        draw.rectangle((0, 0, shown.width - 1, shown.height - 1), outline=BAD, width=2 * width)
        return shown, f"{number}: {analysis.problem}"
    if len(analysis.faces) > 1 and analysis.path not in picked:
        _number(draw, analysis, scale, width)
        return shown, f"{number}: {len(analysis.faces)} faces. Choose one below."
    face = analysis.faces[picked.get(analysis.path, 0)]
    crop = Portrait.of(np.asarray(photo), face).crop
    edges = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])  # of a crop of one pixel
    corners = edges @ crop.matrix(1)[:, :2].T + crop.matrix(1)[:, 2]
    draw.line([tuple(corner * scale) for corner in corners], fill=GOOD, width=width)
    for part in PARTS:
        points = [tuple(point * scale) for point in face[part.first : part.last + 1]]
        draw.line(points + points[:1] * part.closed, fill=part.colour, width=width)
    return shown, f"{number}: ready" + (f", face {picked[analysis.path] + 1}" if analysis.path in picked else "")


def numbered(analysis: PhotoAnalysis) -> Image.Image:
    """A photo in which each face has its number, at most SHOWN pixels large."""
    photo = Image.fromarray(read_photo(analysis.path))
    scale = SHOWN / max(photo.size)
    shown = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    _number(ImageDraw.Draw(shown), analysis, scale, max(2, SHOWN // 170))
    return shown


def _number(draw: ImageDraw.ImageDraw, analysis: PhotoAnalysis, scale: float, width: int) -> None:
    font = ImageFont.load_default(SHOWN / 16)
    for label, face in enumerate(analysis.faces, start=1):
        low, high = face.min(axis=0) * scale, face.max(axis=0) * scale
        draw.rectangle((*low, *high), outline=GOOD, width=width)
        draw.text(tuple(low + 2 * width), str(label), fill=GOOD, font=font, stroke_width=2, stroke_fill="black")


def check_pixels(path: str, megapixels: int) -> None:
    """Reads the size before a picture is decoded. Raises LimitError for a large one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                pixels = image.width * image.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return  # whoever reads it has a sentence for what is no picture
    if pixels > megapixels * 10**6:
        raise LimitError(
            f"{Path(path).name} has {pixels / 1e6:.0f} million pixels; {megapixels} million are the limit here. "
            "Make it smaller."
        )
