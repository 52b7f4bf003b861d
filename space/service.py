"""The work behind the page and its endpoints: paths and numbers in, paths and pictures out; independent of gradio."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots, make_head
from talking_heads.dubbing import Film, FilmedPerson
from talking_heads.errors import FaceError, MissingDependencyError, NoFaceError
from talking_heads.head.fit_checks import fit_warnings
from talking_heads.head.motion import Motion
from talking_heads.head.presets import FaceControls
from talking_heads.live import Live
from talking_heads.media.background import Background
from talking_heads.media.images import read_photo
from talking_heads.media.reading import read_frames
from talking_heads.media.writing import save_gif
from talking_heads.tracking.detectors import load_detector

from . import warm_up
from .motion_loader import MotionLoader
from .person import Person, check_pixels
from .pipeline_calls import GroupMember, OnGpu, Painter
from .reports import Report, WorkResult
from .requests import (
    SIZES,
    AnimateRequest,
    ConsentError,
    Detector,
    DriverRequest,
    DubRequest,
    FrameOptions,
    FrameSize,
    GroupRequest,
    check_detector,
    colour_of,
)
from .settings import LimitError, Limits
from .work import Clock, RateEstimate

logger = logging.getLogger(__name__)

GIF_FPS, GIF_SIDE = 12.5, 320
AS_IT_IS = FrameOptions()


class Service:
    """One model, used by many visitors at once: nothing of theirs is kept here."""

    def __init__(
        self, pipe: TalkingHeadPipeline, limits: Limits, free: Sequence[Path] = (), on_gpu: OnGpu | None = None
    ) -> None:
        """``free``: photos for which nobody's consent is needed, because nobody is in them or all the world may."""
        self.pipe, self.limits, self.rates = pipe, limits, RateEstimate()
        self.painter = Painter(pipe, self.rates, on_gpu)
        self.motions = MotionLoader(limits, self.rates, self._with)
        self._free = {_digest(path) for path in free}
        self._pipes = {"mediapipe": pipe}
        self._loading = threading.Lock()
        self._notes: WeakKeyDictionary[Avatar, tuple[str, ...]] = WeakKeyDictionary()
        self.can_live = on_gpu is None
        """Whether the networks stay on the device between two frames."""

    @property
    def usual_size(self) -> FrameSize:
        """What the page begins with: 512 pixels where the model paints them for every photo."""
        config = self.pipe.generator.config
        return "512" if config.render_conditioned and 2 * config.image_size == 512 else "auto"

    # ------------------------------------------------------------------------------------------------------- checking

    def check_consent(self, person: Person, consent: bool) -> None:
        """Raises ConsentError, and FaceError where there is nobody who could consent."""
        if not person.analyses and person.avatar is None:
            raise FaceError("Add at least one photo, or load an avatar.")
        if not consent and not self.is_free([analysis.path for analysis in person.analyses]):
            raise ConsentError("Confirm first that the person in the photos is you, or agrees.")

    def is_free(self, paths: Sequence[str]) -> bool:
        """Whether nobody's consent is needed for these photos or films; there is at least one."""
        return bool(paths) and all(_digest(Path(path)) in self._free for path in paths)

    def check_request(self, request: AnimateRequest, *, has_photos: bool = True) -> int:
        """What can be known before any work; the number of frames there will be. Raises TalkingHeadsError."""
        if request.output == "side by side" and not request.driving:
            source = "preset" if request.preset else "voice" if request.voice else "motion file"
            raise LimitError(f"A {source} has no clip to show beside the person. Choose another output, or a clip.")
        if request.output == "in the photo" and not has_photos:
            raise LimitError("An avatar does not hold the whole photo. Add the photo, or choose another output.")
        return self.motions.count(request)

    def check_dub(self, request: DubRequest, consent: bool) -> int:
        """What can be known before any work; the number of frames there will be. Raises TalkingHeadsError."""
        frames = self.motions.check_clip(request.film, request.start, request.end, "film")
        self.motions.count(request.driver)
        if not consent and not self.is_free([request.film]):
            raise ConsentError("Confirm first that the person in the film is you, or agrees.")
        return frames

    def check_file(self, path: str) -> None:
        """Raises LimitError for a file that is too large, UnreadableMediaError for one that was deleted meanwhile."""
        self.motions.check_file(path)

    def duration(self, request: DriverRequest, frames: int) -> float | None:
        """Seconds that so many ``frames`` (``check_request``) will take here, or None where nobody knows yet."""
        first = {"tracking": frames} if request.driving else {"listening": frames} if request.voice else {}
        return self.rates.estimate(**first, painting=frames)

    def frame_options(self, size: str = "auto", background: str = "keep", picture: str | None = None) -> FrameOptions:
        """``background``: keep, blur, transparent or a colour; ``picture``: an uploaded file that takes its place.

        A word is never opened as a file. Raises TalkingHeadsError.
        """
        if size not in SIZES:
            raise LimitError(f"There is no size {size!r}. Choose one of {', '.join(SIZES)}.")
        if picture:
            self.check_file(picture)
            check_pixels(picture, self.limits.megapixels)
            return FrameOptions(size, Background("picture", picture=read_photo(picture)))
        word = (background or "keep").strip().lower()
        for kind in ("keep", "blur", "transparent"):
            if word == kind:
                return FrameOptions(size, Background(kind))
        if word == "picture":
            raise LimitError("Add the picture that shall be behind the person, or choose another background.")
        return FrameOptions(size, Background("colour", colour=colour_of(word)))

    # --------------------------------------------------------------------------------------------------------- person

    def look(
        self,
        paths: Sequence[str],
        before: Person | None = None,
        detector: str = "mediapipe",
        face: float | None = None,
    ) -> Person:
        """Finds the faces in photos. Raises LimitError; what is wrong with one photo is said in its picture.

        ``face``: the one that is meant where there are several, from 1, from the left; NoFaceError without it.
        """
        if len(paths) > self.limits.photos:
            raise LimitError(f"These are {len(paths)} photos. Give at most {self.limits.photos}.")
        person = Person.in_photos(paths, self._with(detector).detector, self.limits.megapixels, before)
        return person if face is None else person.with_face(int(face))

    def avatar_of(self, person: Person) -> Avatar:
        """The person's avatar in ordinary memory, made now if there is none yet. Raises FaceError."""
        if person.avatar is None:
            person.avatar = self._new_avatar(person)
        return person.avatar

    def _new_avatar(self, person: Person) -> Avatar:
        if not person.analyses:
            raise FaceError("Add at least one photo.")
        shots = Shots.of(person.portraits())
        return self.painter.embed(shots, make_head(shots))

    def notes_on(self, avatar: Avatar) -> tuple[str, ...]:
        """Sentences on photos that are hard to follow, or show different people."""
        if avatar not in self._notes:  # 0.2 s a photo
            self._notes[avatar] = tuple(fit_warnings(avatar.head, avatar.landmarks.cpu().numpy()))
        return self._notes[avatar]

    def _with(self, detector: str) -> TalkingHeadPipeline:
        """The pipeline with that detector; networks and all are the same. Raises MissingDependencyError."""
        check_detector(detector)
        with self._loading:
            if detector not in self._pipes:
                pipe = copy.copy(self.pipe)
                try:
                    pipe.detector = load_detector(detector, str(self.pipe.device) if self.can_live else "cpu")
                except MissingDependencyError as error:
                    logger.warning("A visitor asked for %s. %s", detector, error)
                    raise MissingDependencyError(
                        f"The detector {detector} is not installed here: its package or its weights are missing. "
                        "Choose mediapipe."
                    ) from None
                self._pipes[detector] = pipe
        return self._pipes[detector]

    # ---------------------------------------------------------------------------------------------------------- work

    def animate(self, person: Person, request: AnimateRequest, folder: Path) -> Iterator[Report | WorkResult]:
        """Makes the video in ``folder``: an mp4, or a webm where it is transparent. Raises TalkingHeadsError."""
        yield Report("looking")
        frames = self.check_request(request, has_photos=bool(person.analyses))
        avatar = self.avatar_of(person)
        self._check_size(avatar, request.frames)
        notes = self.notes_on(avatar)
        portrait = person.portrait(0) if request.output == "in the photo" else None
        if portrait is not None and len(person.analyses) > 1:
            avatar = avatar.with_shots(Shots.of([portrait]))
        motion, remarks = yield from self.motions.motion(request, painted=frames)
        for report in self.painter.paint(_fitted(avatar), motion, portrait, request, folder):
            yield _with_notes(report, (*notes, *remarks))

    def dub(self, request: DubRequest, folder: Path) -> Iterator[Report | WorkResult]:
        """Makes an mp4 of a film, parts of which move otherwise, in ``folder``. Raises TalkingHeadsError."""
        yield Report("looking")
        frames = self.motions.check_clip(request.film, request.start, request.end, "film")
        request = replace(request, end=self.motions.last_second(request.start, request.end))
        clock = Clock(self.rates, {"tracking": frames})
        track = yield from self.motions.track(request.film, request.start, request.end, request.driver.detector, clock)
        person = FilmedPerson.of(Film(request.film, request.start, request.end), track)
        motion, notes = yield from self.motions.motion(request.driver)
        yield Report("looking")
        shots = person.shots()
        avatar = self.painter.embed(shots, make_head(shots))
        for report in self.painter.paint_film(_fitted(avatar), person, motion, request, folder):
            yield _with_notes(report, notes)

    def animate_group(
        self, person: Person, number: int, request: GroupRequest, folder: Path
    ) -> Iterator[Report | WorkResult]:
        """Makes an mp4 of photo ``number`` (from 0), in which several people move. Raises TalkingHeadsError."""
        yield Report("looking")
        people = person.everybody(number)
        for face, driver in enumerate(request.drivers, start=1):
            if driver is not None:
                self.motions.count(driver)
                if face > len(people):
                    raise NoFaceError(f"There are {len(people)} faces in the photo, and no face {face}.")
        found: dict[DriverRequest, Motion] = {}
        notes: list[str] = []
        for driver in request.drivers:
            if driver is not None and driver not in found:
                found[driver], remarks = yield from self.motions.motion(driver)
                notes += remarks
        moved: list[GroupMember | None] = [None] * len(people)
        for k, driver in enumerate(request.drivers):
            if driver is not None:
                yield Report("looking")
                shots = Shots.of([people[k]])
                avatar = _fitted(self.painter.embed(shots, make_head(shots)))
                moved[k] = GroupMember(avatar, found[driver], speaks=driver.voice is not None)
        sounds = [driver.voice or driver.driving for driver in request.drivers if driver is not None]
        sound = next((sound for sound in sounds if sound), None)
        for report in self.painter.paint_group(people, moved, sound, request, folder):
            yield _with_notes(report, tuple(notes))

    def track(
        self, clip: str | None, start: float | None, end: float | None, detector: Detector, folder: Path
    ) -> Iterator[Report | WorkResult]:
        """How the face in a clip moves, as a CSV of Live Link Face in ``folder``. Raises TalkingHeadsError."""
        yield Report("looking")
        self.motions.check_clip(clip, start, end)
        motion, _ = yield from self.motions.motion(DriverRequest(clip, start=start, end=end, detector=detector))
        path = folder / "motion.csv"
        motion.save(path)
        unseen = int((~motion.seen).sum())
        note = f"No face is seen in {unseen} of {len(motion)} frames; the file holds the pose before them."
        yield WorkResult(path, warnings=(note,) * bool(unseen))

    def personalise(self, person: Person, steps: int) -> Iterator[Report | WorkResult]:
        """Fine-tunes to the person's photos, with pictures of before, of the way there, and after."""
        if not 1 <= steps <= self.limits.steps:
            raise LimitError(f"Choose 1 to {self.limits.steps} steps.")
        yield Report("looking")
        yield from self.painter.tune(self._new_avatar(person), steps)

    def edit(self, person: Person, controls: FaceControls, frames: FrameOptions = AS_IT_IS) -> np.ndarray:
        """One picture of the person, uint8 RGB (H, H, 3) or RGBA, without any marks: they are for whoever saves it."""
        avatar = self.avatar_of(person)
        self._check_size(avatar, frames)
        return self.painter.pose(_fitted(avatar), controls, frames)

    def live(self, person: Person, frames: FrameOptions = AS_IT_IS, detector: Detector = "mediapipe") -> Live:
        """The person's avatar, ready to move like whoever is before a camera.

        Raises FaceError, IncompatibleAvatarError, LimitError, MissingDependencyError.
        """
        avatar = self.painter.here(self.avatar_of(person))
        self._check_size(avatar, frames)
        size = self.pipe.frame_size(avatar, frames.pixels)
        return self._with(detector).live(avatar, size=size, background=frames.background)

    def _check_size(self, avatar: Avatar, frames: FrameOptions) -> None:
        try:
            self.pipe.frame_size(avatar, frames.pixels)
        except ValueError:
            raise LimitError(
                f"This model does not paint {frames.size} pixels. Choose the size auto, or photo."
            ) from None

    # --------------------------------------------------------------------------------------------------------- beside

    def gif(self, video: str, folder: Path) -> Path:
        """A small GIF of a video that was made here: every second frame, at most GIF_SIDE pixels."""
        output = folder / "talking-head.gif"
        save_gif(read_frames(video, max_side=GIF_SIDE, fps=GIF_FPS), output, GIF_FPS)
        return output

    def warm_up(self, photo: Path) -> threading.Thread:
        """Begins, in a thread, what would hold up the first visitor: see ``warm_up``."""

        def work() -> None:
            try:
                if self.can_live:
                    warm_up.rehearse(self.pipe, self.rates, photo, FrameOptions(self.usual_size).pixels)
                else:
                    warm_up.compile_elsewhere(photo)
            except Exception:  # visitors will be told what is wrong
                logger.exception("The rehearsal failed.")

        thread = threading.Thread(target=work, name="warm-up", daemon=True)
        thread.start()
        return thread


def _with_notes(report: Report | WorkResult, notes: tuple[str, ...]) -> Report | WorkResult:
    """A result that also says what was noticed before."""
    if isinstance(report, WorkResult):
        return replace(report, warnings=tuple(dict.fromkeys((*notes, *report.warnings))))
    return report


def _fitted(avatar: Avatar) -> Avatar:
    """The avatar with its head made, which is kept when it goes to another process."""
    _ = avatar.head
    return avatar


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
