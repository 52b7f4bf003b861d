"""Commands that make videos: animate, dub, group, live."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import NoFaceError
from ..head.presets import PRESETS

if TYPE_CHECKING:
    import numpy as np

    from ..live import Live
    from ..media.camera import Window
    from ..media.virtual_camera import VirtualCamera
    from ..media.writing import VideoWriter

from .options import (
    MOTION,
    PICTURE,
    BackgroundOption,
    Detector,
    Device,
    Driving,
    DubbedParts,
    End,
    Engine,
    Face,
    FrameSize,
    Label,
    Liveliness,
    Model,
    OpaqueBackgroundOption,
    Parts,
    PhoneTimes,
    Photos,
    Said,
    SavedAvatar,
    Seed,
    Start,
    Strength,
    app,
    known_preset,
)
from .shared import (
    Driver,
    DriverOptions,
    check_one_of,
    check_other_file,
    check_photos,
    later_of,
    load_avatar,
    load_driver,
    load_signing_pipeline,
    milliseconds,
    pixels_for,
    printed_notes,
    progress_bars,
)


@app.command()
def animate(
    output: Annotated[Path, typer.Option(help="The mp4, webm or mov to write.")],
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    driving: Driving = None,
    motion_file: Annotated[
        Path | None,
        typer.Option(
            help="Motion of track or Live Link Face (csv), MediaPipe or Audio2Face (json), at its own frame rate.",
            show_default=False,
            rich_help_panel=MOTION,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Motion that needs no file: {', '.join(PRESETS)}.",
            callback=known_preset,
            show_default=False,
            rich_help_panel=MOTION,
        ),
    ] = None,
    voice: Annotated[
        Path | None,
        typer.Option(
            help="Sound (or a clip) of somebody who speaks: the photo speaks with it.",
            show_default=False,
            rich_help_panel=MOTION,
        ),
    ] = None,
    text: Said = None,
    phones: PhoneTimes = None,
    liveliness: Liveliness = 1.0,
    seed: Seed = 0,
    motion: Annotated[
        Literal["relative", "absolute"],
        typer.Option(
            help="Carry over what changes in the driver's face, or its pose and expression as they are.",
            rich_help_panel=MOTION,
        ),
    ] = "relative",
    head: Strength = 1.0,
    expression: Strength = 1.0,
    gaze: Strength = 1.0,
    parts: Parts = None,
    start: Start = None,
    end: End = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Follow the clip while painting: sooner; its first second sets the neutral pose.",
            rich_help_panel=MOTION,
        ),
    ] = False,
    size: FrameSize = None,
    background: BackgroundOption = "keep",
    in_photo: Annotated[
        bool,
        typer.Option("--in-photo", help="Show the whole first photo, its head in motion.", rich_help_panel=PICTURE),
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show the clip beside the result.", rich_help_panel=PICTURE)
    ] = False,
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Photos (or an avatar) and a clip, a voice, a motion file or a preset -> a video, with sound if that has any."""
    from ..files import check_writable
    from ..media.background import check_output, parse_background
    from ..media.writing import VIDEO_SUFFIXES

    check_one_of(photos, avatar)
    given = DriverOptions(driving, voice, motion_file, preset, text, phones, liveliness, seed)
    given.check()
    if voice is not None and motion == "absolute":
        raise typer.BadParameter("a voice has no pose of its own: it goes with relative.", param_hint="--motion")
    if driving is None and (start is not None or end is not None or side_by_side or stream):
        raise typer.BadParameter("they are for clips.", param_hint="--start / --end / --side-by-side / --stream")
    if in_photo and not photos:
        raise typer.BadParameter("an avatar does not hold the whole photo: give photos.", param_hint="--in-photo")
    # Errors that can be known before the work are raised before it.
    backdrop = parse_background(background)
    if in_photo and (size or not backdrop.keeps):
        raise typer.BadParameter(
            "it shows the photo as it is, without --size and --background.", param_hint="--in-photo"
        )
    if side_by_side and backdrop.is_transparent:
        raise typer.BadParameter("it goes with no transparent background.", param_hint="--side-by-side")
    check_output(backdrop, output)
    check_writable(output, (".mp4",) if side_by_side else VIDEO_SUFFIXES)
    with printed_notes() as notes:
        driver = load_driver(given, output)
        check_photos(photos or [])
        pipe = load_signing_pipeline(model, detector, device, engine)
        with progress_bars() as show:
            portraits = pipe.portraits(photos, face) if photos else []
            person = load_avatar(avatar, pipe) if avatar else pipe.create_avatar(portraits)
            pixels = pixels_for(pipe, person, size, backdrop)
            video = pipe(
                person, driver.motion, motion=motion, head=head, expression=expression, gaze=gaze, parts=parts or (),
                start=start, end=end, into=portraits[0] if in_photo else None, size=pixels, background=backdrop,
                stream=stream, sound=driver.voice, on_progress=show,
            )  # fmt: skip
            (video.save_side_by_side if side_by_side else video.save)(output, show, label=label)
            notes.extend(video.warnings)
    typer.echo(output)


@app.command()
def dub(
    video: Annotated[Path, typer.Option(help="A film of one person, whose parts are moved.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The mp4 to write.")],
    driving: Driving = None,
    motion_file: Annotated[
        Path | None,
        typer.Option(help="Motion (csv or json) instead of a clip.", show_default=False, rich_help_panel=MOTION),
    ] = None,
    voice: Annotated[
        Path | None,
        typer.Option(help="What shall be said instead, as sound.", show_default=False, rich_help_panel=MOTION),
    ] = None,
    text: Said = None,
    phones: PhoneTimes = None,
    parts: DubbedParts = None,
    expression: Strength = 1.0,
    gaze: Strength = 1.0,
    start: Start = None,
    end: End = None,
    sound: Annotated[
        Path | None,
        typer.Option(
            help="A file whose sound the result gets.", show_default="the clip's or voice's, or the film's",
            rich_help_panel=MOTION,
        ),
    ] = None,
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:  # fmt: skip
    """A person's own film, its lips (or eyes, or whole expression) moved by a clip or voice; all else is the film's."""
    from ..files import check_writable
    from ..media.reading import probe

    given = DriverOptions(driving, voice, motion_file, text=text, phones=phones, liveliness=0)
    given.check(presets=False)
    if "head" in (parts or ()):
        raise typer.BadParameter("the head stays as in the film.", param_hint="--parts")
    check_writable(output)
    for path in filter(None, (video, sound)):
        check_other_file(output, path)
    probe(video)
    with printed_notes() as notes:
        driver = load_driver(given, output)
        pipe = load_signing_pipeline(model, detector, device, engine)
        with progress_bars() as show:
            result = pipe.dub(
                video, driver.motion, parts=parts or ("lips",), expression=expression, gaze=gaze, start=start, end=end,
                sound=sound or driver.voice, on_progress=show,
            )  # fmt: skip
            result.save(output, show, label=label)
            notes.extend(result.warnings)
    typer.echo(output)


@app.command()
def group(
    photo: Annotated[Path, typer.Option(help="A photo of several people.", show_default=False)],
    drivers: Annotated[
        list[str],
        typer.Option(
            metavar="[N=]SOURCE",
            help="Who is moved by what: 1=a.mp4 2=nod 3=speech.wav (from the left), or one for all. A source is a "
            "clip, a motion file, a voice or a preset.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="The mp4 to write.")],
    head: Strength = 1.0,
    expression: Strength = 1.0,
    gaze: Strength = 1.0,
    parts: Parts = None,
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """A photo of several people, each moved by a driver of their own; the sound is that of the first that has one."""
    from ..files import check_writable

    check_writable(output)
    check_photos([photo])
    wanted = _sources(drivers)
    with printed_notes() as notes:
        pipe = load_signing_pipeline(model, detector, device, engine)
        people = pipe.people(photo)
        numbers = range(1, len(people) + 1)
        beyond = [number for number in wanted if number is not None and number not in numbers]
        if beyond:
            raise NoFaceError(f"There are {len(people)} faces in the photo, and no face {beyond[0]}.")
        chosen = [wanted.get(number, wanted.get(None)) for number in numbers]
        found = {source: _driver_of(source, output) for source in chosen if source is not None}
        sounds = [found[source].voice or found[source].motion for source in chosen if source is not None]
        with progress_bars() as show:
            video = pipe.animate_group(
                people, [None if source is None else found[source].motion for source in chosen],
                speaking=[source is not None and found[source].voice is not None for source in chosen],
                head=head, expression=expression, gaze=gaze, parts=parts or (),
                sound=next((sound for sound in sounds if isinstance(sound, Path)), None), on_progress=show,
            )  # fmt: skip
            video.save(output, show, label=label)
            notes.extend(video.warnings)
    typer.echo(output)


def _sources(words: Sequence[str]) -> dict[int | None, str]:
    """``N=SOURCE`` and ``SOURCE`` -> sources by the number of a face; that of None is for all others."""
    found: dict[int | None, str] = {}
    for word in words:
        number, equals, source = word.partition("=")
        key = int(number) if equals and number.isdecimal() else None
        if key in found:
            whom = "everybody" if key is None else f"face {key}"
            raise typer.BadParameter(f"there are two drivers for {whom}.", param_hint="--drivers")
        found[key] = word if key is None else source
    return found


def _driver_of(source: str, output: Path) -> Driver:
    """A preset, a motion file, a voice or a clip."""
    from ..media.reading import has_pictures

    path = Path(source)
    if source in PRESETS:
        return load_driver(DriverOptions(preset=source), output)
    if path.suffix.lower() in (".csv", ".json"):
        return load_driver(DriverOptions(motion_file=path), output)
    if has_pictures(path):
        return load_driver(DriverOptions(driving=path), output)
    return load_driver(DriverOptions(voice=path), output)


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
