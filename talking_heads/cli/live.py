"""The command live: photos that move like whoever is before the camera, in a window and where else it is wanted."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import NoFaceError

if TYPE_CHECKING:
    import numpy as np

    from ..live import Live
    from ..media.camera import Window
    from ..media.virtual_camera import VirtualCamera
    from ..media.writing import VideoWriter

from .options import (
    Detector,
    Device,
    Engine,
    Face,
    FrameSize,
    Model,
    OpaqueBackgroundOption,
    Parts,
    Photos,
    SavedAvatar,
    Strength,
    app,
)
from .shared import (
    check_one_of,
    check_other_file,
    check_photos,
    later_of,
    load_avatar,
    load_signing_pipeline,
    milliseconds,
    pixels_for,
    printed_notes,
)


@app.command()
def live(
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    source: Annotated[str, typer.Option(help="Number of a camera, or a clip, which is played in real time.")] = "0",
    output: Annotated[Path | None, typer.Option(help="An mp4 of what was to be seen.", show_default=False)] = None,
    virtual_camera: Annotated[
        bool,
        typer.Option("--virtual-camera", help="Also a camera for video calls; its pictures say AI-generated."),
    ] = False,
    head: Strength = 1.0,
    expression: Strength = 1.0,
    gaze: Strength = 1.0,
    parts: Parts = None,
    size: FrameSize = None,
    background: OpaqueBackgroundOption = "keep",
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Photos (or an avatar) that move like whoever is before the camera, at once; ends with q, Escape or Ctrl-C."""
    from ..files import check_writable
    from ..media.background import parse_background
    from ..media.camera import Window, in_real_time, read_camera
    from ..media.reading import probe, read_frames
    from ..media.virtual_camera import VirtualCamera

    check_one_of(photos, avatar)
    backdrop = parse_background(background)
    if backdrop.is_transparent:
        raise typer.BadParameter(
            "a window has something behind it; transparent is for files.", param_hint="--background"
        )
    if output is not None:
        check_writable(output)
    fps = 25.0 if source.isdecimal() else probe(source).fps
    if output is not None and not source.isdecimal():
        check_other_file(output, Path(source))
    other = VirtualCamera(fps) if virtual_camera else None
    check_photos(photos or [])
    pipe = load_signing_pipeline(model, detector, device, engine)
    with contextlib.ExitStack() as stack:
        stack.enter_context(printed_notes())
        person = load_avatar(avatar, pipe) if avatar else pipe.create_avatar(photos or [], face)
        pixels = pixels_for(pipe, person, size, backdrop)
        heads = stack.enter_context(
            pipe.live(
                person, head=head, expression=expression, gaze=gaze, parts=parts or (), size=pixels, background=backdrop
            )
        )
        if other is not None:
            stack.callback(other.close)
            typer.echo(f"virtual camera: {other.open(pipe.frame_size(person, pixels or pipe.image_size))}", err=True)
        camera = read_camera(int(source)) if source.isdecimal() else in_real_time(read_frames(source), fps)
        writer = None if output is None else stack.enter_context(_live_writer(output, fps))
        window = stack.enter_context(contextlib.closing(Window("AI-generated")))
        _Session(heads, window, writer, other, fps).run(camera, source)
    if output is not None:
        typer.echo(output)


def _live_writer(output: Path, fps: float) -> VideoWriter:
    from ..media.signing import sign
    from ..media.writing import AI_GENERATED, VideoWriter

    return VideoWriter(output, fps, metadata=AI_GENERATED, finish=partial(sign, title=output.name))


class _Session:
    """A live avatar from the first frame of the camera to the last picture, in a window and where else it is wanted."""

    def __init__(
        self, heads: Live, window: Window, writer: VideoWriter | None, other: VirtualCamera | None, fps: float
    ) -> None:
        self.heads, self.window, self.writer, self.other, self.fps = heads, window, writer, other, fps
        self.begin, self.stop = time.perf_counter(), threading.Event()
        self.seen: np.ndarray | None = None
        """The newest picture."""

    def run(self, camera: Generator[np.ndarray], source: str) -> None:
        """Raises NoFaceError, which names the ``source``, if nothing was painted, and what the camera raises."""
        from ..media.marks import marked_picture

        self._show(camera)
        last = self.heads.wait()
        self._record()
        self.seen = later_of(last, self.seen)
        if self.seen is None:
            raise NoFaceError(f"No face was seen in {source}. Sit in the light, facing the camera.")
        if self.writer is not None and (last is not None or self.writer.num_frames == 0):
            self.writer.write(marked_picture(self.seen, label=False))
        delays = [milliseconds(self.heads.delay(share)) for share in (0.5, 0.95)]
        typer.echo(
            f"{self.heads.painted} of {self.heads.pushed} frames painted; frame to picture {delays[0]} "
            f"at the median, {delays[1]} for 95 of 100"
        )

    def _show(self, camera: Generator[np.ndarray]) -> None:
        """Shows pictures until the camera, or whoever watches, has enough."""
        from ..media.marks import marked

        # In a thread of its own, so that a picture is shown when it is painted and not when the next frame has come.
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
            stack.callback(self.stop.set)
            watching = pool.submit(self._watch, camera)
            # Ctrl-C is how this ends: what was seen until then is kept.
            with contextlib.suppress(KeyboardInterrupt):
                while not watching.done():
                    picture = self.heads.take(timeout=1 / self.fps)
                    self._record()
                    self.seen = later_of(picture, self.seen)
                    if self.other is not None and picture is not None:
                        # The invisible mark takes 15 ms.
                        self.other.show(next(marked([picture], label=True, invisible=False)))
                    if self.seen is not None and not self.window.show(self.seen):
                        break
            self.stop.set()
            watching.result()

    def _watch(self, camera: Generator[np.ndarray]) -> None:
        with contextlib.closing(camera):
            for frame in camera:
                if self.stop.is_set():
                    return
                self.heads.offer(frame)

    def _record(self) -> None:
        """Writes the last picture as often as time has passed, whatever the camera's rate."""
        from ..media.marks import marked_picture

        if self.writer is not None and self.seen is not None:
            due = math.floor((time.perf_counter() - self.begin) * self.fps) + 1
            for _ in range(due - self.writer.num_frames):
                self.writer.write(marked_picture(self.seen, label=False))
