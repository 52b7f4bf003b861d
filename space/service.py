"""What the page and its endpoints do: paths and numbers in, paths and pictures out. Nothing here knows of a page."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.errors import FaceError, TalkingHeadsError, UnreadableMediaError
from talking_heads.examples import EXAMPLE
from talking_heads.expressions import FaceControls
from talking_heads.faces import Portrait, Track
from talking_heads.motion import Motion
from talking_heads.pipeline import FrameGenerator
from talking_heads.presets import load_preset
from talking_heads.provenance import marked, marked_picture
from talking_heads.video import probe, read_frames, save_gif
from train.finetune import fine_tune_avatar

from .person import Person
from .settings import LimitError, Limits
from .sitting import Sitting
from .work import Clock, Pace, Say, Work

Pictures = tuple[tuple[np.ndarray, str], ...]
Output = Literal["head", "side by side", "in the photo"]
OUTPUTS: tuple[Output, ...] = ("head", "side by side", "in the photo")
PREVIEWS = 4
"""How many times fine-tuning shows how far it is."""
GIF_FPS, GIF_SIDE = 12.5, 320
PREVIEW_CONTROLS = FaceControls(yaw=15, mouth=0.3)
"""The pose in which fine-tuning shows the person: one that no photo shows."""


class ConsentError(TalkingHeadsError):
    """Nobody has said yet that the person in the photos agrees."""


@dataclass(frozen=True)
class Wish:
    """How a person shall move, and what the video shows. ``start`` and ``end`` are seconds of the clip."""

    driving: str | None = None
    preset: str | None = None
    motion: Motion = "relative"
    head: float = 1.0
    expression: float = 1.0
    gaze: float = 1.0
    start: float | None = None
    end: float | None = None
    output: Output = "head"
    label: bool = True

    def __post_init__(self) -> None:
        """Raises LimitError for values that no slider gives."""
        if bool(self.driving) == bool(self.preset):
            raise LimitError("Choose what drives the person: a clip, or a preset motion.")
        for name in ("head", "expression", "gaze"):
            if getattr(self, name) is None or not 0 <= getattr(self, name) <= 2:
                raise LimitError(f"{name} must lie between 0 and 2.")
        for name in ("start", "end"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < float("inf"):
                raise LimitError(f"{name} must be a second of the clip, 0 or later.")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise LimitError("The end must lie behind the start.")


@dataclass(frozen=True)
class Report:
    """How far a piece of work is."""

    stage: str
    done: int = 0
    total: int | None = None
    left: float | None = None
    """Seconds until everything is done, if that is known."""
    picture: np.ndarray | None = None
    """The latest frame, uint8 RGB (H, W, 3)."""
    pictures: Pictures = ()
    """What there is to compare, with captions."""


@dataclass(frozen=True)
class Made:
    """The last of the reports: what has become of the work."""

    avatar: Avatar
    video: Path | None = None
    warnings: tuple[str, ...] = ()
    """Sentences on what the viewer may notice."""
    pictures: Pictures = ()


OnGpu = Callable[[Callable[..., Any], Callable[..., int]], Callable[..., Any]]
"""Decorates what computes; the second function says for how many seconds at most, of the same arguments."""


class Studio:
    """One model, used by many visitors at once: nothing of theirs is kept here.

    Faces are looked for where the page runs; the networks run in ``_embed``, ``_paint``, ``_tune`` and ``_pose``. A
    host that lends its GPU by the call runs those four in another process, which the detector's threads do not reach.
    """

    def __init__(
        self, pipe: TalkingHeadPipeline, limits: Limits, free: Sequence[Path] = (), on_gpu: OnGpu | None = None
    ) -> None:
        """``free``: photos for which nobody's consent is needed, because nobody is in them or all the world may."""
        self.pipe, self.limits, self.pace = pipe, limits, Pace()
        self._free = {_digest(path) for path in free}
        self.can_live = on_gpu is None
        """Whether the networks stay at hand between two frames."""
        if on_gpu is not None:
            self._embed = on_gpu(self._embed, lambda *_: 10)  # type: ignore[method-assign]
            self._pose = on_gpu(self._pose, lambda *_: 10)  # type: ignore[method-assign]
            self._paint = on_gpu(self._paint, lambda _a, track, *_: 15 + len(track) // 25)  # type: ignore[method-assign]
            self._tune = on_gpu(self._tune, lambda _a, steps: 30 + steps)  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------------------------- checking

    def check_consent(self, person: Person, consent: bool) -> None:
        """Raises ConsentError, and FaceError where there is nobody who could consent."""
        if not person.sights and person.avatar is None:
            raise FaceError("Add at least one photo, or load an avatar.")
        if not consent and not (person.sights and all(_digest(Path(s.path)) in self._free for s in person.sights)):
            raise ConsentError("Confirm first that the person in the photos is you, or agrees.")

    def check_wish(self, wish: Wish, *, has_photos: bool = True) -> int:
        """What can be known before any work; the number of frames there will be. Raises TalkingHeadsError."""
        if wish.output == "side by side" and not wish.driving:
            raise LimitError("A preset has no clip to show beside the person. Choose another output, or a clip.")
        if wish.output == "in the photo" and not has_photos:
            raise LimitError("An avatar does not hold the whole photo. Add the photo, or choose another output.")
        if wish.preset:
            return len(load_preset(wish.preset))
        assert wish.driving
        self.check_file(wish.driving)
        info = probe(wish.driving)
        begin = wish.start or 0.0
        length = None if info.duration is None else min(info.duration, wish.end or info.duration) - begin
        if length is not None and length > self.limits.seconds + 0.5:
            raise LimitError(
                f"{length:.0f} s of the clip are too many: {self.limits.seconds} s are the limit here. "
                "Set its start and end."
            )
        return max(1, round((length or self.limits.seconds) * info.fps))

    def check_file(self, path: str) -> None:
        """Raises LimitError for a file that is too large, UnreadableMediaError for one that was deleted meanwhile."""
        if not Path(path).is_file():
            raise UnreadableMediaError(f"{Path(path).name} is no longer here: uploads are deleted. Add it again.")
        size = Path(path).stat().st_size / 1e6
        if size > self.limits.megabytes:
            raise LimitError(
                f"{Path(path).name} has {size:.0f} MB; {self.limits.megabytes} MB are the limit here. Make it smaller."
            )

    def duration(self, wish: Wish, frames: int) -> float | None:
        """Seconds that so many ``frames`` (``check_wish``) will take here, or None where nobody knows yet."""
        return self.pace.estimate(**({"tracking": frames} if wish.driving else {}), painting=frames)

    # --------------------------------------------------------------------------------------------------------- person

    def look(self, paths: Sequence[str], before: Person | None = None) -> Person:
        """Finds the faces in photos. Raises LimitError; what is wrong with one photo is said in its picture."""
        if len(paths) > self.limits.photos:
            raise LimitError(f"These are {len(paths)} photos. Give at most {self.limits.photos}.")
        return Person.in_photos(paths, self.pipe.detector, self.limits.megapixels, before)

    def avatar_of(self, person: Person) -> Avatar:
        """The person's avatar in ordinary memory, made now if there is none yet. Raises FaceError."""
        if person.avatar is None:
            person.avatar = self._new_avatar(person)
        return person.avatar

    def _new_avatar(self, person: Person) -> Avatar:
        if not person.sights:
            raise FaceError("Add at least one photo.")
        return self._embed(*self.pipe.look_at(person.portraits()))

    # ---------------------------------------------------------------------------------------------------------- work

    def animate(self, person: Person, wish: Wish, folder: Path) -> Iterator[Report | Made]:
        """Makes the video, an mp4 in ``folder``. Raises TalkingHeadsError."""
        yield Report("looking")
        frames = self.check_wish(wish, has_photos=bool(person.sights))
        avatar = self.avatar_of(person)
        portrait = person.portrait(0) if wish.output == "in the photo" else None
        if wish.preset:
            track = load_preset(wish.preset)
        else:
            work = Work(lambda say: self._track(wish, frames, say))
            yield from work
            track = work.result
        yield from self._paint(avatar, track, portrait, wish, folder)

    def personalise(self, person: Person, steps: int) -> Iterator[Report | Made]:
        """Fine-tunes to the person's photos, with pictures of before, of the way there, and after."""
        if not 1 <= steps <= self.limits.steps:
            raise LimitError(f"Choose 1 to {self.limits.steps} steps.")
        yield Report("looking")
        yield from self._tune(self._new_avatar(person), steps)

    def edit(self, person: Person, controls: FaceControls) -> np.ndarray:
        """One picture of the person, uint8 RGB (H, H, 3), without any marks: they are for whoever saves it."""
        return self._pose(self.avatar_of(person), controls)

    def sit(self, person: Person, shape: tuple[int, ...]) -> Sitting:
        """The person's avatar, ready to move like whoever is seen in frames of ``shape`` (H, W, 3).

        Raises FaceError, IncompatibleAvatarError.
        """
        return Sitting(self.pipe.live(self._here(self.avatar_of(person))), person, shape)

    def _track(self, wish: Wish, frames: int, say: Say) -> Track:
        clock = Clock(self.pace, {"tracking": frames, "painting": frames})
        end = min(wish.end or np.inf, (wish.start or 0.0) + self.limits.seconds)
        return self.pipe.track(
            wish.driving or "", start=wish.start, end=end,
            on_progress=lambda stage, done, total: say(Report(stage, done, total, clock.left(stage, done, total))),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------- networks

    def _here(self, avatar: Avatar) -> Avatar:
        """The avatar where the networks are."""
        if avatar.style.device.type == self.pipe.device.type:
            return avatar
        return copy.deepcopy(avatar).to(self.pipe.device)

    def _embed(self, crops: np.ndarray, landmarks: np.ndarray) -> Avatar:
        return self.pipe.avatar_from_shots(crops, landmarks).to("cpu")

    def _pose(self, avatar: Avatar, controls: FaceControls) -> np.ndarray:
        return self.pipe.edit(self._here(avatar), controls)

    def _preview(self, avatar: Avatar) -> np.ndarray:
        return marked_picture(self.pipe.edit(avatar, PREVIEW_CONTROLS), label=True)

    def _paint(
        self, avatar: Avatar, track: Track, portrait: Portrait | None, wish: Wish, folder: Path
    ) -> Iterator[Report | Made]:
        clock = Clock(self.pace, {"painting": len(track)})
        video = self.pipe(
            self._here(avatar), track, motion=wish.motion, head=wish.head, expression=wish.expression, gaze=wish.gaze,
            into=portrait,
        )  # fmt: skip
        tap = _Tap(video.frames)
        video = replace(
            video, frames=tap, driving=Path(wish.driving) if wish.driving else None, start=wish.start or 0.0
        )
        save = video.save_side_by_side if wish.output == "side by side" else video.save

        def do(say: Say) -> Path:
            def progress(stage: str, done: int, total: int | None) -> None:
                say(Report(stage, done, total, clock.left(stage, done, total), tap.last))

            return save(folder / "talking-head.mp4", progress, label=wish.label)

        work = Work(do)
        for report in work:
            # What is shown on the way is marked as what is made in the end.
            picture = None if report.picture is None else marked_picture(report.picture, label=True)
            yield replace(report, picture=picture)
        yield Made(avatar, work.result, tuple(video.warnings))

    def _tune(self, avatar: Avatar, steps: int) -> Iterator[Report | Made]:
        start = self._here(avatar)
        pictures = [(self._preview(start), "before")]
        clock = Clock(self.pace, {"fine-tuning": steps})

        def do(say: Say) -> Avatar:
            def progress(done: int, total: int, _terms: dict[str, float]) -> None:
                left = clock.left("fine-tuning", done, total)
                say(Report("fine-tuning", done, total, left, pictures=tuple(pictures)))

            def show(done: int, tuned: Avatar) -> None:
                if done < steps:
                    pictures.append((self._preview(tuned), f"step {done}"))

            progress(0, steps, {})
            every = max(1, -(-steps // PREVIEWS))
            return fine_tune_avatar(self.pipe, start, steps, on_step=progress, on_avatar=show, avatar_every=every)

        work = Work(do)
        yield from work
        pictures.append((self._preview(work.result), f"after {steps} steps"))
        yield Made(work.result.to("cpu"), pictures=tuple(pictures))

    # --------------------------------------------------------------------------------------------------------- beside

    def gif(self, video: str, folder: Path) -> Path:
        """A small GIF of a video that was made here: every second frame, at most GIF_SIDE pixels."""
        output = folder / "talking-head.gif"
        save_gif(read_frames(video, max_side=GIF_SIDE, fps=GIF_FPS), output, GIF_FPS)
        return output

    def warm_up(self, photo: Path) -> None:
        """Animates a few frames, so that the first visitor neither waits longer nor asks how long it takes in vain."""
        began = time.monotonic()
        track = self.pipe.track(EXAMPLE, end=0.4)
        self.pace.learn("tracking", (time.monotonic() - began) / len(track))
        avatar = self.pipe.create_avatar([photo])
        for _ in range(2):  # the first round is slower
            began = time.monotonic()
            frames = len(list(marked(self.pipe(avatar, track), label=True)))
            seconds = (time.monotonic() - began) / frames
        self.pace.learn("painting", seconds)


class _Tap:
    """Frames that run through; the latest is kept."""

    def __init__(self, frames: Callable[[], FrameGenerator]) -> None:
        self.last: np.ndarray | None = None
        self._frames = frames

    def __call__(self) -> FrameGenerator:
        for frame in self._frames():
            self.last = frame
            yield frame


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
