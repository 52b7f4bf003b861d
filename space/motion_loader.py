"""Loads the motion that drives a person: a clip is tracked, a voice heard, a preset or motion file read."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np

from talking_heads import TalkingHeadPipeline
from talking_heads.errors import UnreadableMediaError
from talking_heads.head.motion import Motion
from talking_heads.head.presets import PRESETS, load_preset
from talking_heads.media.reading import MAX_FPS, has_pictures, probe
from talking_heads.media.sound import sound_duration
from talking_heads.tracking.motion_fitting import motion_of_track
from talking_heads.tracking.tracks import Track

from .reports import Report
from .requests import Detector, DriverRequest, check_span
from .settings import LimitError, Limits
from .work import Clock, RateEstimate, ReportCallback, Work

VOICE_FPS = 25
MOTION_MEGABYTES = 20
"""Size limit of a motion file: a minute at 60 frames a second has 3."""

Notes = tuple[str, ...]
"""Sentences on what the viewer may notice."""


class MotionLoader:
    """Checks a driver against the limits, and makes its Motion."""

    def __init__(
        self, limits: Limits, rates: RateEstimate, pipeline_with: Callable[[str], TalkingHeadPipeline]
    ) -> None:
        """``pipeline_with``: the pipeline with a detector, by its name."""
        self.limits, self.rates, self._pipeline_with = limits, rates, pipeline_with

    def request_for(self, source: str, detector: Detector = "mediapipe") -> DriverRequest:
        """For a preset's name, or an uploaded clip, voice or motion file, told apart by what it holds.

        Raises TalkingHeadsError.
        """
        if source in PRESETS:
            return DriverRequest(preset=source)
        self.check_file(source)
        if source.lower().endswith((".csv", ".json")):
            return DriverRequest(motion_file=source)
        if has_pictures(source):
            return DriverRequest(driving=source, detector=detector)
        return DriverRequest(voice=source)

    def count(self, request: DriverRequest) -> int:
        """The number of frames that there will be, as far as files say. Raises TalkingHeadsError."""
        if request.driving:
            return self.check_clip(request.driving, request.start, request.end)
        if request.voice:
            return self._check_voice(request.voice)
        return len(self.without_clip(request)[0])

    def motion(
        self, request: DriverRequest, painted: int | None = None
    ) -> Generator[Report, None, tuple[Motion, Notes]]:
        """Tells how far it is; gives the motion and its notes in the end. Raises TalkingHeadsError.

        ``painted``: frames that are painted afterwards, which counts for how long everything takes.
        """
        frames, later = self.count(request), {} if painted is None else {"painting": painted}
        if request.driving:
            clock = Clock(self.rates, {"tracking": frames} | later)
            track = yield from self.track(request.driving, request.start, request.end, request.detector, clock)
            return motion_of_track(track), ()
        if request.voice:
            hearing = Work(
                lambda report: self._heard(request, Clock(self.rates, {"listening": frames} | later), report)
            )
            yield from hearing
            return hearing.result
        return self.without_clip(request)

    def track(
        self, clip: str, start: float | None, end: float | None, detector: str, clock: Clock
    ) -> Generator[Report, None, Track]:
        """The landmarks of the face in a clip, which was checked. Raises TalkingHeadsError."""
        last = self.last_second(start, end)
        pipe = self._pipeline_with(detector)
        work = Work(
            lambda report: pipe.track_landmarks(clip, start=start, end=last, on_progress=clock.reporter(report))
        )
        yield from work
        return work.result

    def last_second(self, start: float | None, end: float | None) -> float:
        """Where a clip ends at the latest: what a file states of its length may be wrong."""
        return min(end or np.inf, (start or 0.0) + self.limits.seconds)

    def without_clip(self, request: DriverRequest) -> tuple[Motion, Notes]:
        """The motion of a preset, or of a file and what is to be said about it. Raises TalkingHeadsError."""
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

    def check_clip(self, clip: str | None, start: float | None, end: float | None, what: str = "clip") -> int:
        """The number of frames that will be followed. Raises TalkingHeadsError."""
        check_span(start, end)
        if not clip:
            raise LimitError(f"Add a {what}.")
        self.check_file(clip)
        info = probe(clip)
        length = None if info.duration is None else min(info.duration, end or info.duration) - (start or 0.0)
        self._check_seconds(length or 0.0, what)
        return max(1, round((length or self.limits.seconds) * info.fps))

    def check_file(self, path: str, megabytes: int | None = None) -> None:
        """Raises LimitError for a file that is too large, UnreadableMediaError for one that was deleted meanwhile."""
        if not Path(path).is_file():
            raise UnreadableMediaError(f"{Path(path).name} is no longer here: uploads are deleted. Add it again.")
        limit = min(megabytes or self.limits.megabytes, self.limits.megabytes)
        size = Path(path).stat().st_size / 1e6
        if size > limit:
            raise LimitError(f"{Path(path).name} has {size:.0f} MB; {limit} MB are the limit here. Make it smaller.")

    def _check_voice(self, voice: str) -> int:
        self.check_file(voice)
        seconds = sound_duration(voice)
        if seconds is not None and seconds > self.limits.seconds + 0.5:
            raise LimitError(
                f"{seconds:.0f} s of the voice are too many: {self.limits.seconds} s are the limit here. Shorten it."
            )
        return max(1, round((seconds or self.limits.seconds) * VOICE_FPS))

    def _check_seconds(self, length: float, what: str) -> None:
        if length > self.limits.seconds + 0.5:
            raise LimitError(
                f"{length:.0f} s of the {what} are too many: {self.limits.seconds} s are the limit here. "
                "Set its start and end."
            )

    def _heard(self, request: DriverRequest, clock: Clock, report: ReportCallback) -> tuple[Motion, Notes]:
        tell = clock.reporter(report)

        def progress(stage: str, seconds: int, total: int | None) -> None:
            tell(stage, seconds * VOICE_FPS, None if total is None else total * VOICE_FPS)

        with notes_of_the_library() as notes:
            motion = Motion.from_voice(
                request.voice or "", request.text.strip() or None, liveliness=request.liveliness, fps=VOICE_FPS,
                on_progress=progress,
            )  # fmt: skip
        # What a file states of its length may be wrong.
        return motion[: round((self.limits.seconds + 0.5) * VOICE_FPS)], tuple(dict.fromkeys(notes))


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
