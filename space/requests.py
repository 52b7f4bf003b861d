"""Requests of a visitor: how a person shall move, how large, before what. Nothing here opens a file."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Literal

from PIL import ImageColor

from talking_heads.dubbing import DUBBED_PARTS
from talking_heads.errors import TalkingHeadsError
from talking_heads.head.motion import PARTS
from talking_heads.head.retarget import Mode
from talking_heads.media.background import Background
from talking_heads.pipeline import Size
from talking_heads.tracking.detectors import DETECTORS
from talking_heads.voice.liveliness import MAX_LIVELINESS

from .settings import LimitError

Output = Literal["head", "side by side", "in the photo"]
OUTPUTS: tuple[Output, ...] = ("head", "side by side", "in the photo")
FrameSize = Literal["auto", "256", "512", "photo"]
SIZES: tuple[FrameSize, ...] = ("auto", "256", "512", "photo")
Part = Literal["lips", "eyes", "brows", "expression", "head"]
DubbedPart = Literal["lips", "eyes", "brows", "expression"]
Detector = Literal["mediapipe", "face-alignment"]
KEEP = Background("keep")
MAX_PEOPLE = 4
"""People of one photo who move at once, at most."""
MAX_TEXT = 5_000
"""Letters: some five minutes of speech."""


class ConsentError(TalkingHeadsError):
    """Nobody has said yet that the person in the photos agrees."""


@dataclass(frozen=True)
class FrameOptions:
    """How large frames are, and what is behind the person. Made by ``Service.frame_options``."""

    size: FrameSize = "auto"
    background: Background = KEEP

    @property
    def pixels(self) -> Size:
        """The size as the pipeline takes it."""
        if self.size == "auto":
            return None
        return "photo" if self.size == "photo" else int(self.size)


@dataclass(frozen=True)
class DriverRequest:
    """The driver of a person: one of a clip, a preset, a motion file and a voice."""

    driving: str | None = None
    preset: str | None = None
    motion_file: str | None = None
    """A CSV of Live Link Face, or JSON of MediaPipe or Audio2Face."""
    voice: str | None = None
    """A sound file, or a clip, whose voice the person speaks with."""
    text: str = ""
    """What the voice says, if that is known."""
    liveliness: float = 1.0
    """How much a voice moves head, eyes and brows: 0 the mouth alone, to 2."""
    start: float | None = None
    end: float | None = None
    """Seconds of the clip or motion file."""
    detector: Detector = "mediapipe"

    def __post_init__(self) -> None:
        """Raises LimitError for values that nothing on the page gives."""
        if sum(map(bool, (self.driving, self.preset, self.motion_file, self.voice))) != 1:
            raise LimitError("Choose what drives the person: a clip, a voice, a preset motion, or a motion file.")
        if len(self.text) > MAX_TEXT:
            raise LimitError(f"The text has {len(self.text)} letters; {MAX_TEXT} are the limit here. Leave it out.")
        check_strengths(MAX_LIVELINESS, liveliness=self.liveliness)
        check_span(self.start, self.end)
        check_detector(self.detector)


@dataclass(frozen=True)
class AnimateRequest(DriverRequest):
    """How a person shall move, and what the video shows."""

    motion: Mode = "relative"
    head: float = 1.0
    expression: float = 1.0
    gaze: float = 1.0
    parts: tuple[str, ...] = ()
    """Only these of ``PARTS`` move; all if there are none."""
    output: Output = "head"
    label: bool = True
    frames: FrameOptions = FrameOptions()

    def __post_init__(self) -> None:
        """Raises LimitError for values that no slider gives."""
        super().__post_init__()
        if self.voice and self.motion == "absolute":
            raise LimitError("A voice has no pose of its own. Choose the kind relative.")
        check_strengths(2, head=self.head, expression=self.expression, gaze=self.gaze)
        check_parts(self.parts, tuple(PARTS))
        background = self.frames.background
        if self.output == "in the photo" and not background.keeps:
            raise LimitError('A background goes with the head alone. Show "head", or keep the background.')
        if self.output == "side by side" and background.is_transparent:
            raise LimitError("Side by side nothing can be transparent. Choose another background, or show the head.")


@dataclass(frozen=True)
class DubRequest:
    """Which parts of a face shall move otherwise in a person's own film."""

    film: str
    driver: DriverRequest
    parts: tuple[str, ...] = ("lips",)
    """Some of ``DUBBED_PARTS``."""
    expression: float = 1.0
    gaze: float = 1.0
    start: float | None = None
    end: float | None = None
    """Seconds of the film."""
    label: bool = True

    def __post_init__(self) -> None:
        """Raises LimitError."""
        if not self.film:
            raise LimitError("Add a film of one person.")
        if not self.parts:
            raise LimitError(f"Choose what is moved: {', '.join(DUBBED_PARTS)}.")
        check_parts(self.parts, DUBBED_PARTS)
        check_strengths(2, expression=self.expression, gaze=self.gaze)
        check_span(self.start, self.end)


@dataclass(frozen=True)
class GroupRequest:
    """Who of a photo shall move, and how."""

    drivers: tuple[DriverRequest | None, ...]
    """One for each face, from the left; None, and who comes after the last, stays as in the photo."""
    head: float = 1.0
    expression: float = 1.0
    gaze: float = 1.0
    parts: tuple[str, ...] = ()
    label: bool = True

    def __post_init__(self) -> None:
        """Raises LimitError."""
        moved = sum(driver is not None for driver in self.drivers)
        if not 1 <= moved <= MAX_PEOPLE:
            raise LimitError(f"Choose for 1 to {MAX_PEOPLE} people what moves them.")
        check_strengths(2, head=self.head, expression=self.expression, gaze=self.gaze)
        check_parts(self.parts, tuple(PARTS))


def check_strengths(most: float, **values: float | None) -> None:
    """Numbers from 0 to ``most``, by their names. Raises LimitError."""
    for name, value in values.items():
        if value is None or not 0 <= value <= most:
            raise LimitError(f"{name} must lie between 0 and {most:g}.")


def check_parts(parts: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises LimitError for a part of the face that there is not."""
    for part in parts:
        if part not in known:
            raise LimitError(f"There is no part {part!r}. Choose among {', '.join(known)}.")


def check_span(start: float | None, end: float | None) -> None:
    """Seconds of a clip. Raises LimitError."""
    for name, second in (("start", start), ("end", end)):
        if second is not None and not 0 <= second < float("inf"):
            raise LimitError(f"{name} must be a second of the clip, 0 or later.")
    if end is not None and end <= (start or 0.0):
        raise LimitError("The end must lie behind the start.")


def check_detector(name: str) -> None:
    """Raises LimitError for one that there is not."""
    if name not in DETECTORS:
        raise LimitError(f"There is no detector {name!r}. Choose one of {', '.join(DETECTORS)}.")


def colour_of(text: str) -> tuple[int, int, int]:
    """RGB of "#20a040", "green" or "rgb(32, 160, 64)"; of "rgba(32.4, 160, 64, 1)" as colour pickers write it, too.

    Raises LimitError.
    """
    picked = re.fullmatch(r"rgba?\(\s*([\d.]{1,9}),\s*([\d.]{1,9}),\s*([\d.]{1,9})\s*(?:,\s*[\d.]{1,9})?\)", text)
    with contextlib.suppress(ValueError):
        values = tuple(round(float(x)) for x in picked.groups()) if picked else ImageColor.getrgb(text)
        if len(values) == 3 and max(values) <= 255:
            return values
    raise LimitError(
        f'"{text[:40]}" is no background. Give "keep", "blur", "transparent", a colour such as "#20a040" or "green", '
        "or a picture."
    )
