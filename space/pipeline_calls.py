"""The page's calls to the pipeline, on ZeroGPU for the length of a call: embedding, painting, fine-tuning."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.dubbing import FilmedPerson
from talking_heads.head.motion import Motion
from talking_heads.head.presets import FaceControls
from talking_heads.media.marks import marked_picture
from talking_heads.pasting import paste_back
from talking_heads.result import FrameGenerator, TalkingHeadVideo
from talking_heads.tracking.crops import Portrait
from train.finetune import Previews, fine_tune_avatar

from .reports import Report, WorkResult
from .requests import AnimateRequest, DubRequest, FrameOptions, GroupRequest
from .work import Clock, RateEstimate, ReportCallback, Work

PREVIEWS = 4
"""How many times fine-tuning shows how far it is."""
PREVIEW_CONTROLS = FaceControls(yaw=15, mouth=0.3)
"""The pose in which fine-tuning shows the person: one that no photo shows."""

OnGpu = Callable[[Callable[..., Any], Callable[..., int]], Callable[..., Any]]
"""Decorates what computes; the second function says for how many seconds at most, of the same arguments."""


@dataclass(frozen=True, eq=False)
class GroupMember:
    """Somebody in a photo who shall move."""

    avatar: Avatar
    motion: Motion
    speaks: bool
    """Whether the motion is that of a voice."""


class Painter:
    """One model on one device.

    A host that lends its GPU by the call runs the public methods in a fork of this process, which none of its threads
    reach. Therefore everything that mediapipe does (landmarks, cutting persons out) is done before, elsewhere, as is
    the fit of heads, which needs no GPU; and nothing is rendered outside of these methods, which uses threads.
    """

    def __init__(self, pipe: TalkingHeadPipeline, rates: RateEstimate, on_gpu: OnGpu | None = None) -> None:
        self.pipe, self.rates = pipe, rates
        if on_gpu is not None:
            self.embed = on_gpu(self.embed, lambda *_: 10)  # type: ignore[method-assign]
            self.pose = on_gpu(self.pose, lambda *_: 15)  # type: ignore[method-assign]
            self.paint = on_gpu(self.paint, _painting_seconds)  # type: ignore[method-assign]
            self.paint_film = on_gpu(self.paint_film, _film_seconds)  # type: ignore[method-assign]
            self.paint_group = on_gpu(self.paint_group, _group_seconds)  # type: ignore[method-assign]
            self.tune = on_gpu(self.tune, lambda _a, steps: 30 + steps)  # type: ignore[method-assign]

    def here(self, avatar: Avatar) -> Avatar:
        """The avatar where the networks are."""
        if avatar.style.device.type == self.pipe.device.type:
            return avatar
        return copy.deepcopy(avatar).to(self.pipe.device)

    def embed(self, shots: Shots, head: Any) -> Avatar:
        """An avatar in ordinary memory."""
        return self.pipe.avatar_from_shots(shots, head).to("cpu")

    def pose(self, avatar: Avatar, controls: FaceControls, frames: FrameOptions) -> np.ndarray:
        """One picture, uint8 RGB (H, H, 3) or RGBA, without any marks."""
        return self.pipe.edit(self.here(avatar), controls, size=frames.pixels, background=frames.background)

    def paint(
        self, avatar: Avatar, motion: Motion, portrait: Portrait | None, request: AnimateRequest, folder: Path
    ) -> Iterator[Report | WorkResult]:
        """Writes the video into ``folder``; ``portrait``: the photo that the head goes back into."""
        video = self._video(self.here(avatar), motion, portrait, request)
        video = replace(video, driving=Path(request.driving) if request.driving else None, start=request.start or 0.0)
        suffix = ".webm" if request.frames.background.is_transparent else ".mp4"
        path, clock = folder / f"talking-head{suffix}", Clock(self.rates, {"painting": len(motion)})
        yield from self._written(video, path, request.label, clock, beside=request.output == "side by side")

    def paint_film(
        self, avatar: Avatar, person: FilmedPerson, motion: Motion, request: DubRequest, folder: Path
    ) -> Iterator[Report | WorkResult]:
        """Writes the person's film, with parts of the face moved, into ``folder``."""
        video = self.pipe.dub_followed(
            person, self.here(avatar), motion, parts=request.parts, expression=request.expression,
            gaze=request.gaze, sound=request.driver.voice or request.driver.driving,
        )  # fmt: skip
        clock = Clock(RateEstimate(), {"painting": len(video)})  # a film's frames have a speed of their own
        yield from self._written(video, folder / "talking-head.mp4", request.label, clock)

    def paint_group(
        self,
        people: Sequence[Portrait],
        moved: Sequence[GroupMember | None],
        sound: str | None,
        request: GroupRequest,
        folder: Path,
    ) -> Iterator[Report | WorkResult]:
        """Writes a photo in which several people move into ``folder``; one of ``moved`` for each of ``people``."""
        video = self.pipe.animate_group(
            people, [None if member is None else member.motion for member in moved],
            avatars=[None if member is None else self.here(member.avatar) for member in moved],
            speaking=[member is not None and member.speaks for member in moved], sound=sound, head=request.head,
            expression=request.expression, gaze=request.gaze, parts=request.parts,
        )  # fmt: skip
        clock = Clock(RateEstimate(), {"painting": len(video)})  # a group's frames have a speed of their own
        yield from self._written(video, folder / "talking-head.mp4", request.label, clock)

    def tune(self, avatar: Avatar, steps: int) -> Iterator[Report | WorkResult]:
        """Fine-tunes a copy, with pictures of before, of the way there, and after."""
        start = self.here(avatar)
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
            return fine_tune_avatar(self.pipe, start, steps, on_step=progress, previews=Previews(show, every))

        work = Work(do)
        yield from work
        pictures.append((self._preview(work.result), f"after {steps} steps"))
        yield WorkResult(avatar=work.result.to("cpu"), pictures=tuple(pictures))

    def _preview(self, avatar: Avatar) -> np.ndarray:
        return marked_picture(self.pipe.edit(avatar, PREVIEW_CONTROLS), label=True)

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

    @staticmethod
    def _written(
        video: TalkingHeadVideo, path: Path, label: bool, clock: Clock, beside: bool = False
    ) -> Iterator[Report | WorkResult]:
        """Writes a video, ``beside`` its clip if wanted, and shows the latest frame on the way."""
        tap = _Tap(video.frames)
        video = replace(video, frames=tap)
        save = video.save_side_by_side if beside else video.save
        work = Work(lambda report: save(path, clock.reporter(report, lambda: tap.last), label=label))
        for report in work:
            # Previews carry the same marks as the result.
            picture = None if report.picture is None else marked_picture(report.picture, label=True)
            yield replace(report, picture=picture)
        yield WorkResult(work.result, warnings=tuple(video.warnings))


class _Tap:
    """Frames that run through; the latest is kept."""

    def __init__(self, frames: Callable[[], FrameGenerator]) -> None:
        self.last: np.ndarray | None = None
        self._frames = frames

    def __call__(self) -> FrameGenerator:
        for frame in self._frames():
            self.last = frame
            yield frame


def _group_seconds(_people: Sequence[Portrait], moved: Sequence[GroupMember | None], *_: Any) -> int:
    return 15 + sum(len(member.motion) for member in moved if member is not None) // 8


def _film_seconds(_avatar: Avatar, person: FilmedPerson, _motion: Motion, _request: DubRequest, _folder: Path) -> int:
    return 15 + len(person.track) // 8


def _painting_seconds(
    _avatar: Avatar, motion: Motion, portrait: Portrait | None, request: AnimateRequest, _folder: Path
) -> int:
    """What the video takes at most on a lent GPU: up to 20 frames a second, of large photos 8."""
    large = portrait is not None or request.frames.size == "photo"
    return 15 + len(motion) // (8 if large else 20)
