"""Code that commands share: checks before the work, loading, progress and notes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from .. import _training_tools
from ..errors import OutputError, UnreadableMediaError
from ..head.motion import Motion
from ..head.presets import load_preset

if TYPE_CHECKING:
    import numpy as np

    from ..avatar import Avatar
    from ..media.background import Background
    from ..pipeline import Size, TalkingHeadPipeline
    from ..result import FrameGenerator, ProgressCallback, TalkingHeadVideo
    from ..tracking.crops import Portrait


def later_of(new: np.ndarray | None, old: np.ndarray | None) -> np.ndarray | None:
    return old if new is None else new


def milliseconds(seconds: float | None) -> str:
    return f"{1000 * (seconds or 0.0):.0f} ms"


def check_one_of(photos: Sequence[Path] | None, avatar: str | None) -> None:
    if bool(photos) == bool(avatar):
        raise typer.BadParameter("give either photos or an avatar.", param_hint="--photos / --avatar")


def checked_text(text: str | None, phones: Path | None = None) -> str | None:
    if text is not None and phones is not None:
        raise typer.BadParameter("give either the text or its phones.", param_hint="--text / --phones")
    return text


def check_no_voice(text: str | None, phones: Path | None) -> None:
    if text is not None or phones is not None:
        raise typer.BadParameter("they are for a voice.", param_hint="--text / --phones")


def check_other_file(output: Path, driving: Path, what: str = "driving clip") -> None:
    if output.exists() and output.samefile(driving):
        raise OutputError(f"{output} is the {what} itself. Choose another output.")


@dataclass(frozen=True)
class DriverOptions:
    """A command's options that say what moves a person: one of the first four is given."""

    driving: Path | None = None
    voice: Path | None = None
    motion_file: Path | None = None
    preset: str | None = None
    text: str | None = None
    phones: Path | None = None
    liveliness: float = 1.0
    seed: int = 0

    def check(self, *, presets: bool = True) -> None:
        """Raises BadParameter unless one is given, and ``text`` and ``phones`` with a voice alone.

        ``presets``: whether the command takes a preset.
        """
        names = ("driving", "voice", "motion_file", "preset")[: 4 if presets else 3]
        if sum(getattr(self, name) is not None for name in names) != 1:
            *first, last = ("a clip", "a voice", "a motion file", "a preset")[: len(names)]
            hint = " / ".join("--" + name.replace("_", "-") for name in names)
            raise typer.BadParameter(f"give either {', '.join(first)} or {last}.", param_hint=hint)
        if self.voice is None:
            check_no_voice(self.text, self.phones)


class Driver(NamedTuple):
    """The driver of an avatar."""

    motion: Path | Motion
    """A path is a clip's, which is still to be followed."""
    voice: Path | None = None
    """The sound file that the motion speaks with."""


def load_driver(given: DriverOptions, output: Path) -> Driver:
    """The one of a clip, a voice, a motion file and a preset that is given; a voice is listened to, with a bar."""
    from ..media.reading import probe
    from ..media.sound import sound_duration

    if given.driving is not None:
        probe(given.driving)
        check_other_file(output, given.driving)
        return Driver(given.driving)
    if given.voice is not None:
        sound_duration(given.voice)
        check_other_file(output, given.voice, "voice")
        said = checked_text(given.text, given.phones)
        with progress_bars() as show:
            motion = Motion.from_voice(
                given.voice, said, given.phones, liveliness=given.liveliness, seed=given.seed, on_progress=show
            )
        return Driver(motion, given.voice)
    return Driver(load_preset(str(given.preset)) if given.motion_file is None else Motion.load(given.motion_file))


def check_photos(photos: Sequence[Path]) -> None:
    for photo in photos:
        if not photo.is_file():
            raise UnreadableMediaError(f"The photo {photo} does not exist. Check the path.")
    from ..pipeline import MAX_PHOTOS  # brings torch: last

    if len(photos) > MAX_PHOTOS:
        raise typer.BadParameter(f"{len(photos)} photos are too many; choose {MAX_PHOTOS}.", param_hint="--photos")


def load_pipeline(model: str | None, detector: str, device: str | None, engine: str = "auto") -> TalkingHeadPipeline:
    from ..pipeline import TalkingHeadPipeline
    from ..tracking.detectors import load_detector

    chosen = device_for(device)
    if engine == "openvino" and chosen != "cpu":
        raise typer.BadParameter(f"openvino is for the device cpu, not for {chosen}.", param_hint="--engine")
    pipe = TalkingHeadPipeline.from_pretrained(model, engine=engine)
    pipe.to(chosen)
    pipe.detector = load_detector(detector, chosen)
    return pipe


def load_signing_pipeline(
    model: str | None, detector: str, device: str | None, engine: str = "auto"
) -> TalkingHeadPipeline:
    """The same for a command that signs what it makes: what it signs with is checked first."""
    from ..media.signing import check_credentials

    check_credentials()
    return load_pipeline(model, detector, device, engine)


def device_for(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        # Each backend has its own error for not being there, in paragraphs.
        raise typer.BadParameter(f"{name} cannot be used on this machine; cpu can.", param_hint="--device") from None
    return name


def pixels_for(pipe: TalkingHeadPipeline, person: Avatar, size: str | None, backdrop: Background) -> Size:
    """--size as the pipeline takes it, and whether the model can show that at all."""
    pixels: Size = "photo" if size == "photo" else None if size is None else int(size)
    if (size or not backdrop.keeps) and not (person.generator or pipe.generator).config.render_conditioned:
        raise typer.BadParameter(
            "this model paints the whole picture itself, in one size.", param_hint="--size / --background"
        )
    try:
        pipe.frame_size(person, pixels)
    except ValueError as error:  # no multiple of the network's own size
        raise typer.BadParameter(f"{error}.", param_hint="--size") from None
    return pixels


def load_avatar(source: str, pipe: TalkingHeadPipeline) -> Avatar:
    from ..avatar import Avatar

    return Avatar.from_pretrained(source).to(pipe.device)


def fine_tuned_avatar(
    pipe: TalkingHeadPipeline, photos: Sequence[Portrait], steps: int, show: ProgressCallback
) -> Avatar:
    fine_tune = _training_tools("finetune").fine_tune
    return fine_tune(pipe, photos, steps=steps, on_step=lambda step, *_: show("fine-tuning", step, steps))


def keeping(video: TalkingHeadVideo, chosen: set[int], kept: list[np.ndarray]) -> TalkingHeadVideo:
    """The same video, of which the ``chosen`` frames are also put into ``kept`` when they are painted."""

    def frames() -> FrameGenerator:
        for k, frame in enumerate(video):
            if k in chosen:
                kept.append(frame)
            yield frame

    return replace(video, frames=frames)


@contextlib.contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A bar for each stage, on stderr, if that is a terminal: in a log a bar is noise."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield show


@contextlib.contextmanager
def printed_notes() -> Iterator[list[str]]:
    """Sentences to print when the work is done, below the bars; what the library logs meanwhile is among them."""
    notes: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("talking_heads")
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
    for note in dict.fromkeys(notes):
        typer.echo(f"Warning: {note}", err=True)
