"""What the page and its endpoints do: paths and numbers in, paths and pictures out. Nothing here knows of a page."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from PIL import ImageColor

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots, make_head
from talking_heads.errors import FaceError, MissingDependencyError, TalkingHeadsError, UnreadableMediaError
from talking_heads.examples import EXAMPLE
from talking_heads.head.fit import fit_warnings
from talking_heads.head.motion import PARTS, Motion
from talking_heads.head.presets import FaceControls, load_preset
from talking_heads.head.retarget import Mode
from talking_heads.live import Live
from talking_heads.media.background import Background
from talking_heads.media.images import read_photo
from talking_heads.media.marks import marked, marked_picture
from talking_heads.media.reading import MAX_FPS, probe, read_frames
from talking_heads.media.sound import sound_duration
from talking_heads.media.writing import save_gif
from talking_heads.pasting import paste_back
from talking_heads.pipeline import Size
from talking_heads.result import FrameGenerator, TalkingHeadVideo
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import DETECTORS, load_detector
from talking_heads.voice.liveliness import MAX_LIVELINESS
from train.finetune import fine_tune_avatar

from .person import Person, check_pixels
from .settings import LimitError, Limits
from .work import Clock, RateEstimate, ReportCallback, Work

logger = logging.getLogger(__name__)

Pictures = tuple[tuple[np.ndarray, str], ...]
Output = Literal["head", "side by side", "in the photo"]
OUTPUTS: tuple[Output, ...] = ("head", "side by side", "in the photo")
FrameSize = Literal["auto", "256", "512", "photo"]
SIZES: tuple[FrameSize, ...] = ("auto", "256", "512", "photo")
Part = Literal["lips", "eyes", "brows", "expression", "head"]
Detector = Literal["mediapipe", "face-alignment"]
PREVIEWS = 4
"""How many times fine-tuning shows how far it is."""
GIF_FPS, GIF_SIDE = 12.5, 320
PREVIEW_CONTROLS = FaceControls(yaw=15, mouth=0.3)
"""The pose in which fine-tuning shows the person: one that no photo shows."""
KEEP = Background("keep")
VOICE_FPS = 25
MAX_TEXT = 5_000
"""Letters: some five minutes of speech."""
MOTION_MEGABYTES = 20
"""Of a motion file: a minute at 60 frames a second has 3."""


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
class AnimateRequest:
    """How a person shall move, and what the video shows. ``start`` and ``end`` are seconds of the clip or file."""

    driving: str | None = None
    preset: str | None = None
    motion: Mode = "relative"
    head: float = 1.0
    expression: float = 1.0
    gaze: float = 1.0
    start: float | None = None
    end: float | None = None
    output: Output = "head"
    label: bool = True
    motion_file: str | None = None
    """A CSV of Live Link Face that drives instead of a clip."""
    parts: tuple[str, ...] = ()
    """Only these of ``PARTS`` move; all if there are none."""
    frames: FrameOptions = FrameOptions()
    detector: Detector = "mediapipe"
    voice: str | None = None
    """A sound file, or a clip, whose voice the person speaks with, instead of a clip that drives."""
    text: str = ""
    """What the voice says, if that is known."""
    liveliness: float = 1.0
    """How much a voice moves head, eyes and brows: 0 the mouth alone, to 2."""

    def __post_init__(self) -> None:
        """Raises LimitError for values that no slider gives."""
        if sum(map(bool, (self.driving, self.preset, self.motion_file, self.voice))) != 1:
            raise LimitError("Choose what drives the person: a clip, a voice, a preset motion, or a motion file.")
        if self.voice and self.motion == "absolute":
            raise LimitError("A voice has no pose of its own. Choose the kind relative.")
        if len(self.text) > MAX_TEXT:
            raise LimitError(f"The text has {len(self.text)} letters; {MAX_TEXT} are the limit here. Leave it out.")
        if self.liveliness is None or not 0 <= self.liveliness <= MAX_LIVELINESS:
            raise LimitError(f"liveliness must lie between 0 and {MAX_LIVELINESS:g}.")
        for name in ("head", "expression", "gaze"):
            if getattr(self, name) is None or not 0 <= getattr(self, name) <= 2:
                raise LimitError(f"{name} must lie between 0 and 2.")
        for part in self.parts:
            if part not in PARTS:
                raise LimitError(f"There is no part {part!r}. Choose among {', '.join(PARTS)}.")
        check_span(self.start, self.end)
        check_detector(self.detector)
        background = self.frames.background
        if self.output == "in the photo" and not background.keeps:
            raise LimitError('A background goes with the head alone. Show "head", or keep the background.')
        if self.output == "side by side" and background.is_transparent:
            raise LimitError("Side by side nothing can be transparent. Choose another background, or show the head.")


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


@dataclass(frozen=True)
class Report:
    """How far a piece of work is."""

    stage: str
    done: int = 0
    total: int | None = None
    left: float | None = None
    """Seconds until everything is done, if that is known."""
    picture: np.ndarray | None = None
    """The latest frame, uint8 RGB (H, W, 3) or RGBA (H, W, 4)."""
    pictures: Pictures = ()
    """What there is to compare, with captions."""


@dataclass(frozen=True)
class WorkResult:
    """The last of the reports: what has become of the work."""

    file: Path | None = None
    """A video, or a motion."""
    avatar: Avatar | None = None
    """One that was fine-tuned."""
    warnings: tuple[str, ...] = ()
    """Sentences on what the viewer may notice."""
    pictures: Pictures = ()


OnGpu = Callable[[Callable[..., Any], Callable[..., int]], Callable[..., Any]]
"""Decorates what computes; the second function says for how many seconds at most, of the same arguments."""


class Service:
    """One model, used by many visitors at once: nothing of theirs is kept here.

    A host that lends its GPU by the call runs ``_embed``, ``_paint``, ``_tune`` and ``_pose`` in a fork of this
    process, which none of its threads reach. Therefore everything that mediapipe does (landmarks, cutting persons out)
    is done before, here, as is the fit of heads, which needs no GPU; and nothing is rendered here, which uses threads.
    """

    def __init__(
        self, pipe: TalkingHeadPipeline, limits: Limits, free: Sequence[Path] = (), on_gpu: OnGpu | None = None
    ) -> None:
        """``free``: photos for which nobody's consent is needed, because nobody is in them or all the world may."""
        self.pipe, self.limits, self.rates = pipe, limits, RateEstimate()
        self._free = {_digest(path) for path in free}
        self._pipes = {"mediapipe": pipe}
        self._loading = threading.Lock()
        self._notes: WeakKeyDictionary[Avatar, tuple[str, ...]] = WeakKeyDictionary()
        self.can_live = on_gpu is None
        """Whether the networks stay at hand between two frames."""
        if on_gpu is not None:
            self._embed = on_gpu(self._embed, lambda *_: 10)  # type: ignore[method-assign]
            self._pose = on_gpu(self._pose, lambda *_: 15)  # type: ignore[method-assign]
            self._paint = on_gpu(self._paint, _painting_seconds)  # type: ignore[method-assign]
            self._tune = on_gpu(self._tune, lambda _a, steps: 30 + steps)  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------------------------- checking

    def check_consent(self, person: Person, consent: bool) -> None:
        """Raises ConsentError, and FaceError where there is nobody who could consent."""
        if not person.analyses and person.avatar is None:
            raise FaceError("Add at least one photo, or load an avatar.")
        if not consent and not (person.analyses and all(_digest(Path(s.path)) in self._free for s in person.analyses)):
            raise ConsentError("Confirm first that the person in the photos is you, or agrees.")

    def check_request(self, request: AnimateRequest, *, has_photos: bool = True) -> int:
        """What can be known before any work; the number of frames there will be. Raises TalkingHeadsError."""
        if request.output == "side by side" and not request.driving:
            source = "preset" if request.preset else "voice" if request.voice else "motion file"
            raise LimitError(f"A {source} has no clip to show beside the person. Choose another output, or a clip.")
        if request.output == "in the photo" and not has_photos:
            raise LimitError("An avatar does not hold the whole photo. Add the photo, or choose another output.")
        if request.driving:
            return self.check_clip(request.driving, request.start, request.end)
        if request.voice:
            return self._check_voice(request.voice)
        return len(self._motion_without_clip(request)[0])

    def check_clip(self, clip: str | None, start: float | None, end: float | None) -> int:
        """The number of frames that will be followed. Raises TalkingHeadsError."""
        check_span(start, end)
        if not clip:
            raise LimitError("Add a clip.")
        self.check_file(clip)
        info = probe(clip)
        length = None if info.duration is None else min(info.duration, end or info.duration) - (start or 0.0)
        self._check_seconds(length or 0.0, "clip")
        return max(1, round((length or self.limits.seconds) * info.fps))

    def _check_voice(self, voice: str) -> int:
        """The number of frames that the person will speak. Raises TalkingHeadsError."""
        self.check_file(voice)
        seconds = sound_duration(voice)
        if seconds is not None and seconds > self.limits.seconds + 0.5:
            raise LimitError(
                f"{seconds:.0f} s of the voice are too many: {self.limits.seconds} s are the limit here. Shorten it."
            )
        return max(1, round((seconds or self.limits.seconds) * VOICE_FPS))

    def check_file(self, path: str, megabytes: int | None = None) -> None:
        """Raises LimitError for a file that is too large, UnreadableMediaError for one that was deleted meanwhile."""
        if not Path(path).is_file():
            raise UnreadableMediaError(f"{Path(path).name} is no longer here: uploads are deleted. Add it again.")
        limit = min(megabytes or self.limits.megabytes, self.limits.megabytes)
        size = Path(path).stat().st_size / 1e6
        if size > limit:
            raise LimitError(f"{Path(path).name} has {size:.0f} MB; {limit} MB are the limit here. Make it smaller.")

    def _check_seconds(self, length: float, what: str) -> None:
        if length > self.limits.seconds + 0.5:
            raise LimitError(
                f"{length:.0f} s of the {what} are too many: {self.limits.seconds} s are the limit here. "
                "Set its start and end."
            )

    def duration(self, request: AnimateRequest, frames: int) -> float | None:
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
            return FrameOptions(size, Background("picture", picture=read_photo(picture)))  # type: ignore[arg-type]
        word = (background or "keep").strip().lower()
        for kind in ("keep", "blur", "transparent"):
            if word == kind:
                return FrameOptions(size, Background(kind))  # type: ignore[arg-type]
        if word == "picture":
            raise LimitError("Add the picture that shall be behind the person, or choose another background.")
        return FrameOptions(size, Background("colour", colour=colour_of(word)))  # type: ignore[arg-type]

    # --------------------------------------------------------------------------------------------------------- person

    def look(self, paths: Sequence[str], before: Person | None = None, detector: str = "mediapipe") -> Person:
        """Finds the faces in photos. Raises LimitError; what is wrong with one photo is said in its picture."""
        if len(paths) > self.limits.photos:
            raise LimitError(f"These are {len(paths)} photos. Give at most {self.limits.photos}.")
        return Person.in_photos(paths, self._with(detector).detector, self.limits.megapixels, before)

    def avatar_of(self, person: Person) -> Avatar:
        """The person's avatar in ordinary memory, made now if there is none yet. Raises FaceError."""
        if person.avatar is None:
            person.avatar = self._new_avatar(person)
        return person.avatar

    def _new_avatar(self, person: Person) -> Avatar:
        if not person.analyses:
            raise FaceError("Add at least one photo.")
        shots = Shots.of(person.portraits())
        return self._embed(shots, make_head(shots))

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
        if request.driving:
            work = Work(lambda report: self._tracked(request.driving, request, frames, {"painting": frames}, report))
            yield from work
            motion = work.result
        elif request.voice:
            hearing = Work(lambda report: self._heard(request, frames, report))
            yield from hearing
            motion, remarks = hearing.result
            notes += remarks
        else:
            motion, remarks = self._motion_without_clip(request)
            notes += remarks
        for report in self._paint(_fitted(avatar), motion, portrait, request, folder):
            if isinstance(report, WorkResult):
                yield replace(report, warnings=(*notes, *report.warnings))
            else:
                yield report

    def track(
        self, clip: str | None, start: float | None, end: float | None, detector: Detector, folder: Path
    ) -> Iterator[Report | WorkResult]:
        """How the face in a clip moves, as a CSV of Live Link Face in ``folder``. Raises TalkingHeadsError."""
        yield Report("looking")
        frames = self.check_clip(clip, start, end)
        request = AnimateRequest(clip, start=start, end=end, detector=detector)
        work = Work(lambda report: self._tracked(clip, request, frames, {}, report))
        yield from work
        path = folder / "motion.csv"
        work.result.save(path)
        unseen = int((~work.result.seen).sum())
        note = f"No face is seen in {unseen} of {len(work.result)} frames; the file holds the pose before them."
        yield WorkResult(path, warnings=(note,) * bool(unseen))

    def personalise(self, person: Person, steps: int) -> Iterator[Report | WorkResult]:
        """Fine-tunes to the person's photos, with pictures of before, of the way there, and after."""
        if not 1 <= steps <= self.limits.steps:
            raise LimitError(f"Choose 1 to {self.limits.steps} steps.")
        yield Report("looking")
        yield from self._tune(self._new_avatar(person), steps)

    def edit(self, person: Person, controls: FaceControls, frames: FrameOptions = FrameOptions()) -> np.ndarray:
        """One picture of the person, uint8 RGB (H, H, 3) or RGBA, without any marks: they are for whoever saves it."""
        avatar = self.avatar_of(person)
        self._check_size(avatar, frames)
        return self._pose(_fitted(avatar), controls, frames)

    def live(self, person: Person, frames: FrameOptions = FrameOptions(), detector: Detector = "mediapipe") -> Live:
        """The person's avatar, ready to move like whoever is before a camera.

        Raises FaceError, IncompatibleAvatarError, LimitError, MissingDependencyError.
        """
        avatar = self._here(self.avatar_of(person))
        self._check_size(avatar, frames)
        return self._with(detector).live(avatar, size=frames.pixels, background=frames.background)

    def _check_size(self, avatar: Avatar, frames: FrameOptions) -> None:
        try:
            self.pipe.frame_size(avatar, frames.pixels)
        except ValueError:
            raise LimitError(
                f"This model does not paint {frames.size} pixels. Choose the size auto, or photo."
            ) from None

    def _tracked(
        self, clip: str | None, request: AnimateRequest, frames: int, later: dict[str, int], report: ReportCallback
    ) -> Motion:
        clock = Clock(self.rates, {"tracking": frames} | later)
        end = min(request.end or np.inf, (request.start or 0.0) + self.limits.seconds)
        return self._with(request.detector).track(
            clip or "", start=request.start, end=end,
            on_progress=lambda stage, done, total: report(Report(stage, done, total, clock.left(stage, done, total))),
        )  # fmt: skip

    def _heard(self, request: AnimateRequest, frames: int, report: ReportCallback) -> tuple[Motion, tuple[str, ...]]:
        """The motion of a voice, and what is to be said about it. Raises TalkingHeadsError."""
        clock = Clock(self.rates, {"listening": frames, "painting": frames})

        def progress(stage: str, seconds: int, total: int | None) -> None:
            done, all_ = seconds * VOICE_FPS, None if total is None else total * VOICE_FPS
            report(Report(stage, done, all_, clock.left(stage, done, all_)))

        with notes_of_the_library() as notes:
            motion = Motion.from_voice(
                request.voice or "", request.text.strip() or None, liveliness=request.liveliness, fps=VOICE_FPS,
                on_progress=progress,
            )  # fmt: skip
        # What a file states of its length may be wrong.
        return motion[: round((self.limits.seconds + 0.5) * VOICE_FPS)], tuple(dict.fromkeys(notes))

    def _motion_without_clip(self, request: AnimateRequest) -> tuple[Motion, tuple[str, ...]]:
        """That of a preset, or of a file and what is to be said about it. Raises TalkingHeadsError."""
        if request.preset:
            return load_preset(request.preset), ()
        assert request.motion_file
        self.check_file(request.motion_file, MOTION_MEGABYTES)
        with notes_of_the_library() as notes:
            motion = Motion.load(request.motion_file)
        end = min(request.end or np.inf, motion.duration)
        self._check_seconds(end - (request.start or 0.0), "motion file")
        first, last = round((request.start or 0.0) * motion.fps), max(1, round(end * motion.fps))
        if first >= last:
            raise UnreadableMediaError(f"The motion file has {motion.duration:.1f} s. Choose an earlier start.")
        motion = motion[first:last]
        return motion.resampled(MAX_FPS) if motion.fps > MAX_FPS else motion, tuple(notes)

    # ------------------------------------------------------------------------------------------------------- networks

    def _here(self, avatar: Avatar) -> Avatar:
        """The avatar where the networks are."""
        if avatar.style.device.type == self.pipe.device.type:
            return avatar
        return copy.deepcopy(avatar).to(self.pipe.device)

    def _embed(self, shots: Shots, head: Any) -> Avatar:
        return self.pipe.avatar_from_shots(shots, head).to("cpu")

    def _pose(self, avatar: Avatar, controls: FaceControls, frames: FrameOptions) -> np.ndarray:
        return self.pipe.edit(self._here(avatar), controls, size=frames.pixels, background=frames.background)

    def _preview(self, avatar: Avatar) -> np.ndarray:
        return marked_picture(self.pipe.edit(avatar, PREVIEW_CONTROLS), label=True)

    def _paint(
        self, avatar: Avatar, motion: Motion, portrait: Portrait | None, request: AnimateRequest, folder: Path
    ) -> Iterator[Report | WorkResult]:
        clock = Clock(self.rates, {"painting": len(motion)})
        video = self._video(self._here(avatar), motion, portrait, request)
        tap = _Tap(video.frames)
        video = replace(
            video, frames=tap, driving=Path(request.driving) if request.driving else None, start=request.start or 0.0
        )
        save = video.save_side_by_side if request.output == "side by side" else video.save
        suffix = ".webm" if request.frames.background.is_transparent else ".mp4"

        def do(report: ReportCallback) -> Path:
            def progress(stage: str, done: int, total: int | None) -> None:
                report(Report(stage, done, total, clock.left(stage, done, total), tap.last))

            return save(folder / f"talking-head{suffix}", progress, label=request.label)

        work = Work(do)
        for report in work:
            # What is shown on the way is marked as what is made in the end.
            picture = None if report.picture is None else marked_picture(report.picture, label=True)
            yield replace(report, picture=picture)
        yield WorkResult(work.result, warnings=tuple(video.warnings))

    def _video(
        self, avatar: Avatar, motion: Motion, portrait: Portrait | None, request: AnimateRequest
    ) -> TalkingHeadVideo:
        options: dict[str, Any] = {
            "motion": request.motion,
            "head": request.head,
            "expression": request.expression,
            "gaze": request.gaze,
            "parts": request.parts,
            "neutral": Motion.rest(1, motion.fps) if request.preset else None,
            "sound": request.voice,
        }
        if portrait is None:
            frames = request.frames
            return self.pipe(avatar, motion, size=frames.pixels, background=frames.background, **options)
        # Not the pipeline's ``into``, which would cut the person out of the photo: see above.
        video = self.pipe(avatar, motion, size="photo", **options)

        def whole_photos() -> FrameGenerator:
            with contextlib.closing(video.frames()) as heads:
                yield from paste_back(heads, portrait)

        return replace(video, frames=whole_photos)

    def _tune(self, avatar: Avatar, steps: int) -> Iterator[Report | WorkResult]:
        start = self._here(avatar)
        pictures = [(self._preview(start), "before")]
        clock = Clock(self.rates, {"fine-tuning": steps})

        def do(report: ReportCallback) -> Avatar:
            def progress(done: int, total: int, _terms: dict[str, float]) -> None:
                left = clock.left("fine-tuning", done, total)
                report(Report("fine-tuning", done, total, left, pictures=tuple(pictures)))

            def show(done: int, tuned: Avatar) -> None:
                if done < steps:
                    pictures.append((self._preview(tuned), f"step {done}"))

            progress(0, steps, {})
            every = max(1, -(-steps // PREVIEWS))
            return fine_tune_avatar(self.pipe, start, steps, on_step=progress, on_avatar=show, avatar_every=every)

        work = Work(do)
        yield from work
        pictures.append((self._preview(work.result), f"after {steps} steps"))
        yield WorkResult(avatar=work.result.to("cpu"), pictures=tuple(pictures))

    # --------------------------------------------------------------------------------------------------------- beside

    def gif(self, video: str, folder: Path) -> Path:
        """A small GIF of a video that was made here: every second frame, at most GIF_SIDE pixels."""
        output = folder / "talking-head.gif"
        save_gif(read_frames(video, max_side=GIF_SIDE, fps=GIF_FPS), output, GIF_FPS)
        return output

    def warm_up(self, photo: Path) -> threading.Thread:
        """Begins, in a thread, what would hold up the first visitor: the renderer is compiled when it is first used.

        Where the GPU is lent, another process compiles, into numba's cache: see the class. Else a few frames are
        painted, which also tells how long that takes here.
        """

        def work() -> None:
            try:
                if self.can_live:
                    self._rehearse(photo)
                else:
                    command = [sys.executable, "-m", "space.warm_up", str(photo)]
                    subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, check=True)
            except Exception:  # visitors will be told what is wrong
                logger.exception("The rehearsal failed.")

        thread = threading.Thread(target=work, name="warm-up", daemon=True)
        thread.start()
        return thread

    def _rehearse(self, photo: Path) -> None:
        avatar = self.pipe.create_avatar([photo])
        self.pipe.edit(avatar, FaceControls())
        began = time.monotonic()
        motion = self.pipe.track(EXAMPLE, end=0.4)
        self.rates.learn("tracking", (time.monotonic() - began) / len(motion))
        for _ in range(2):  # the first round is slower
            began = time.monotonic()
            frames = len(list(marked(self.pipe(avatar, motion), label=True)))
            seconds = (time.monotonic() - began) / frames
        self.rates.learn("painting", seconds)


class _Tap:
    """Frames that run through; the latest is kept."""

    def __init__(self, frames: Callable[[], FrameGenerator]) -> None:
        self.last: np.ndarray | None = None
        self._frames = frames

    def __call__(self) -> FrameGenerator:
        for frame in self._frames():
            self.last = frame
            yield frame


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


@contextlib.contextmanager
def notes_of_the_library() -> Iterator[list[str]]:
    """What the library warns of meanwhile in this thread: other visitors have theirs."""
    notes: list[str] = []
    mine = threading.get_ident()

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                notes.append(record.getMessage())

    handler, library = Notes(logging.WARNING), logging.getLogger("talking_heads")
    library.addHandler(handler)
    try:
        yield notes
    finally:
        library.removeHandler(handler)


def _fitted(avatar: Avatar) -> Avatar:
    """The avatar with its head made, which is kept when it goes to another process."""
    _ = avatar.head
    return avatar


def _painting_seconds(
    _avatar: Avatar, motion: Motion, portrait: Portrait | None, request: AnimateRequest, _folder: Path
) -> int:
    """What the video takes at most on a lent GPU: up to 20 frames a second, of large photos 8."""
    large = portrait is not None or request.frames.size == "photo"
    return 15 + len(motion) // (8 if large else 20)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
