"""speak: a photo speaks with sound that is still coming."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    Detector,
    Device,
    Engine,
    Face,
    FrameSize,
    Label,
    Liveliness,
    Model,
    OpaqueBackgroundOption,
    Photos,
    SavedAvatar,
    Seed,
    app,
)
from .shared import (
    check_one_of,
    check_other_file,
    check_photos,
    load_avatar,
    load_signing_pipeline,
    pixels_for,
    printed_notes,
)

if TYPE_CHECKING:
    from ..media.camera import Window
    from ..media.pieces import SoundPiece
    from ..speaking import Speaker

RAW_RATE, FILE_RATE = 16_000, 48_000
"""Samples a second of raw sound unless another rate is given, and at which files are read."""


@app.command()
def speak(
    input: Annotated[str, typer.Option(help="A sound file, or - for raw sound on stdin: s16le, one channel.")] = "-",
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    rate: Annotated[
        int | None,
        typer.Option(help="Samples a second of raw sound.", min=8000, max=96000, show_default=str(RAW_RATE)),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="An mp4 with the sound; without it a window.", show_default=False)
    ] = None,
    pass_sound: Annotated[
        bool,
        typer.Option(
            "--pass-sound", help="With a window: the sound on stdout, raw, in step: | aplay -f S16_LE -r 16000"
        ),
    ] = False,
    liveliness: Liveliness = 1.0,
    seed: Seed = 0,
    size: FrameSize = None,
    background: OpaqueBackgroundOption = "keep",
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Photos (or an avatar) that speak while the sound is still coming; ends with the sound, q, Escape or Ctrl-C."""
    from ..media.background import parse_background
    from ..media.sound import read_sound

    check_one_of(photos, avatar)
    if input != "-" and rate is not None:
        raise typer.BadParameter("a file says its own; it is for --input -.", param_hint="--rate")
    if output is not None and pass_sound:
        raise typer.BadParameter("the file has the sound; it goes with the window.", param_hint="--pass-sound")
    backdrop = parse_background(background)
    if backdrop.is_transparent:
        raise typer.BadParameter("an mp4 or a window has something behind it.", param_hint="--background")
    pieces: Iterable[SoundPiece] = _raw_pieces() if input == "-" else read_sound(input, FILE_RATE)
    samples = (rate or RAW_RATE) if input == "-" else FILE_RATE
    window = _window() if output is None else None
    if output is not None:
        _check_output(output, input)
    check_photos(photos or [])
    pipe = load_signing_pipeline(model, detector, device, engine)
    with printed_notes():
        person = load_avatar(avatar, pipe) if avatar else pipe.create_avatar(photos or [], face)
        speaker = pipe.speaker(
            person, rate=samples, liveliness=liveliness, seed=seed, size=pixels_for(pipe, person, size, backdrop),
            background=backdrop,
        )  # fmt: skip
        if window is not None:
            _show(speaker, pieces, window, pass_sound=pass_sound)
        elif output is not None:
            _film(speaker, pieces, output, label=label)
    if output is not None:
        typer.echo(output)


def _window() -> Window:
    from ..media.camera import Window

    window = Window("AI-generated")
    if not window.is_there:
        raise typer.BadParameter("there is no screen here: give the mp4 to write.", param_hint="--output")
    return window


def _check_output(output: Path, input: str) -> None:
    from ..files import check_writable

    check_writable(output)
    if input != "-":
        check_other_file(output, Path(input), "sound")


def _raw_pieces() -> Iterator[bytes]:
    """Pieces of sound from stdin, as soon as they come."""
    while piece := os.read(sys.stdin.fileno(), 8192):
        yield piece


def _film(speaker: Speaker, pieces: Iterable[SoundPiece], output: Path, *, label: bool) -> None:
    """Writes a video while sound comes, until it ends or Ctrl-C; what was painted until then is kept."""
    from ..media.marks import marked
    from ..media.pieces import SpokenFilm
    from ..media.signing import sign
    from ..speaking import speak
    from ..voice.streaming import FPS

    with (
        SpokenFilm(output, FPS, speaker.rate, partial(sign, title=output.name)) as film,
        contextlib.suppress(KeyboardInterrupt),
    ):
        for picture, sound in speak(speaker, pieces):
            film.speak(next(marked([picture], label=label)), sound)


def _show(speaker: Speaker, pieces: Iterable[SoundPiece], window: Window, *, pass_sound: bool) -> None:
    """In a window, by the clock; sound is read in a thread of its own."""

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for piece in pieces:
                speaker.wait_for_room()
                speaker.push(piece)
            speaker.end()

    with contextlib.closing(window), speaker:
        threading.Thread(target=read, name="sound", daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            for picture, sound in speaker.play():
                if pass_sound:
                    sys.stdout.buffer.write(sound.tobytes())
                    sys.stdout.buffer.flush()
                if not window.show(picture):
                    break
