"""The command line: ``talking-heads`` or ``python -m talking_heads``.

Exit codes: 0, done; 1, ``verify`` found no mark; 2, something the user can put right, said in one line on stderr; 130,
stopped with Ctrl-C. An output file is whole or not there. Torch and the models are imported within the commands: help
comes at once.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import __version__, _training_tools
from .errors import NoFaceError, OutputError, TalkingHeadsError, UnreadableMediaError
from .examples import EXAMPLE
from .head.motion import COEFFICIENTS, PARTS, Motion
from .head.presets import PRESETS, RANGES, FaceControls, load_preset

if TYPE_CHECKING:
    import numpy as np

    from .avatar import Avatar
    from .background import Background
    from .faces import Portrait
    from .pipeline import FrameGenerator, ProgressCallback, Size, TalkingHeadPipeline, TalkingHeadVideo

MANY = ("--photos", "--parts", "--coefficient", "--drivers")
"""Options that take every value up to the next option."""

app = typer.Typer(
    help="Photos of a person and a driving clip in, a video of that person moving like the clip out.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


# ------------------------------------------------------------------------------------------------------------ options


def _finite(value: float | None) -> float | None:
    """``nan`` and ``inf`` are numbers to Python and pass every limit."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"talking-heads {__version__}")
        raise typer.Exit


PERSON, MOTION, PICTURE, MACHINE = "Person", "Motion", "Picture", "Model and machine"
"""Groups of options in the help of a command."""


def _known_parts(parts: list[str] | None) -> list[str] | None:
    for part in parts or []:
        if part not in PARTS:
            raise typer.BadParameter(f"{part} is none of {', '.join(PARTS)}.")
    return parts


Photos = Annotated[
    list[Path] | None,
    typer.Option(help="1 to 32 photos of one person: --photos a.jpg b.jpg", show_default=False, rich_help_panel=PERSON),
]
Face = Annotated[
    int | None,
    typer.Option(
        help="Which face is meant in photos with several, from 1, counted from the left.", min=1, rich_help_panel=PERSON
    ),
]
SavedAvatar = Annotated[
    str | None, typer.Option(help="A saved avatar instead of photos: folder or org/name.", rich_help_panel=PERSON)
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="|".join(PARTS), help="Move these alone: --parts lips eyes", callback=_known_parts, show_default="all",
        rich_help_panel=MOTION,
    ),
]  # fmt: skip
Strength = Annotated[
    float,
    typer.Option(
        help="Of what is carried over: 0 none, 1 as the driver.", callback=_finite, min=0, max=2, rich_help_panel=MOTION
    ),
]
Start = Annotated[
    float | None, typer.Option(help="Second of the clip to begin at.", callback=_finite, rich_help_panel=MOTION)
]
End = Annotated[
    float | None, typer.Option(help="Second of the clip to end at.", callback=_finite, rich_help_panel=MOTION)
]
FrameSize = Annotated[
    Literal["256", "512", "photo"] | None,
    typer.Option(
        help="Pixels of the side, or those that the photo has.", show_default="512 if the photo has them",
        rich_help_panel=PICTURE,
    ),
]  # fmt: skip
Wall = Annotated[
    str,
    typer.Option(
        "--background", help="keep, blur, transparent, a colour, or a picture's path.", rich_help_panel=PICTURE
    ),
]
OpaqueWall = Annotated[
    str, typer.Option("--background", help="keep, blur, a colour, or a picture's path.", rich_help_panel=PICTURE)
]
Label = Annotated[
    bool, typer.Option("--label/--no-label", help='Write "AI-generated" into a corner.', rich_help_panel=PICTURE)
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Folder of a model, or org/name of the Hub.", show_default="the bundled one", rich_help_panel=MACHINE
    ),
]
Detector = Annotated[
    Literal["mediapipe", "face-alignment"],
    typer.Option(help="Finds the landmarks of faces.", rich_help_panel=MACHINE),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="cuda if there is one", rich_help_panel=MACHINE),
]
Engine = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option(
        help="Computes the network; auto: OpenVINO for long clips on a CPU, where it is installed.",
        rich_help_panel=MACHINE,
    ),
]


Said = Annotated[
    str | None,
    typer.Option(
        "--text", help="What the voice says: lips become more exact.", show_default=False, rich_help_panel=MOTION
    ),
]
PhoneTimes = Annotated[
    Path | None,
    typer.Option(
        "--phones", help="Of the voice, from another aligner: csv of start, end, phone.", show_default=False,
        rich_help_panel=MOTION,
    ),
]  # fmt: skip
Liveliness = Annotated[
    float,
    typer.Option(
        help="Of a voice's head, eyes and brows: 0 the mouth alone, 1 as people do.", callback=_finite, min=0, max=2,
        rich_help_panel=MOTION,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of what liveliness draws at random.", min=0, rich_help_panel=MOTION)]


def _known_preset(name: str | None) -> str | None:
    if name is not None and name not in PRESETS:
        raise typer.BadParameter(f"{name} is none of {', '.join(PRESETS)}.")
    return name


def _control(name: str, text: str) -> Any:
    low, high = RANGES[name]
    return typer.Option(help=text, callback=_finite, min=low, max=high, rich_help_panel="Controls")


def _coefficients(words: Sequence[str]) -> dict[str, float]:
    """NAME=VALUE, names in any case -> values in -1..1 by the names of ARKit."""
    known = {name.lower(): name for name in COEFFICIENTS}
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        if name.lower() not in known:
            near = [known[key] for key in known if name and name.lower() in key]
            near = near or [known[key] for key in difflib.get_close_matches(name.lower(), known, 4)]
            advice = (
                f"did you mean {', '.join(near[:6])}?" if near else "ARKit's are jawOpen, mouthSmileLeft and so on."
            )
            raise typer.BadParameter(
                f"there is no {name or 'nameless'} coefficient; {advice}", param_hint="--coefficient"
            )
        name = known[name.lower()]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not -1 <= value <= 1:
            raise typer.BadParameter(
                f"{name} must lie between -1 and 1, such as {name}=0.5, got {text or 'nothing'}.",
                param_hint="--coefficient",
            )
        found[name] = value
    return found


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


# ----------------------------------------------------------------------------------------------------------- commands


@app.command()
def animate(
    output: Annotated[Path, typer.Option(help="The mp4, webm or mov to write.")],
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    driving: Annotated[
        Path | None, typer.Option(help="Clip whose motion is taken.", show_default=False, rich_help_panel=MOTION)
    ] = None,
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
            callback=_known_preset,
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
    background: Wall = "keep",
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
    from .background import check_output, parse_background
    from .video import VIDEO_SUFFIXES, check_writable, probe, sound_duration

    _check_one_of(photos, avatar)
    if sum(source is not None for source in (driving, voice, motion_file, preset)) != 1:
        raise typer.BadParameter(
            "give either a clip, a voice, a motion file or a preset.",
            param_hint="--driving / --voice / --motion-file / --preset",
        )
    if voice is None:
        _check_no_voice(text, phones)
    elif motion == "absolute":
        raise typer.BadParameter("a voice has no pose of its own: it goes with relative.", param_hint="--motion")
    if driving is None and (start is not None or end is not None or side_by_side or stream):
        raise typer.BadParameter("they are for clips.", param_hint="--start / --end / --side-by-side / --stream")
    if in_photo and not photos:
        raise typer.BadParameter("an avatar does not hold the whole photo: give photos.", param_hint="--in-photo")
    # What can be known before the work is said before the work.
    wall = parse_background(background)
    if in_photo and (size or not wall.keeps):
        raise typer.BadParameter(
            "it shows the photo as it is, without --size and --background.", param_hint="--in-photo"
        )
    if side_by_side and wall.is_transparent:
        raise typer.BadParameter("it goes with no transparent background.", param_hint="--side-by-side")
    check_output(wall, output)
    check_writable(output, (".mp4",) if side_by_side else VIDEO_SUFFIXES)
    driver: Path | Motion
    with _notes() as notes:
        if driving is not None:
            driver = driving
            probe(driving)
            _check_other_file(output, driving)
        elif voice is not None:
            sound_duration(voice)
            _check_other_file(output, voice, "voice")
            with _progress_bars() as show:
                driver = Motion.from_voice(
                    voice, _checked_text(text, phones), phones, liveliness=liveliness, seed=seed, on_progress=show
                )
        else:
            driver = load_preset(str(preset)) if motion_file is None else Motion.load(motion_file)
        _check_photos(photos or [])
        from .provenance import check_credentials  # brings torch: last

        check_credentials()
        pipe = _load(model, detector, device, engine)
        with _progress_bars() as show:
            portraits = pipe.portraits(photos, face) if photos else []
            person = _load_avatar(avatar, pipe) if avatar else pipe.create_avatar(portraits)
            pixels = _pixels(pipe, person, size, wall)
            video = pipe(
                person, driver, motion=motion, head=head, expression=expression, gaze=gaze, parts=parts or (),
                start=start, end=end, into=portraits[0] if in_photo else None, size=pixels, background=wall,
                stream=stream, sound=voice, on_progress=show,
            )  # fmt: skip
            (video.save_side_by_side if side_by_side else video.save)(output, show, label=label)
            notes.extend(video.warnings)
    typer.echo(output)


@app.command()
def align(
    voice: Annotated[Path, typer.Argument(help="A sound file, or a clip with sound.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The csv to write: start, end (seconds), phone (ARPAbet).")],
    text: Said = None,
) -> None:
    """A voice -> its phones and their times, to be corrected and given to ``animate --voice --phones``."""
    from .video import check_writable
    from .voice.phones import write_phones
    from .voice.sound import listen

    check_writable(output, (".csv",))
    with _notes(), _progress_bars() as show:
        write_phones(listen(voice, _checked_text(text), on_progress=show).phones, output)
    typer.echo(output)


@app.command()
def track(
    clip: Annotated[Path, typer.Argument(help="A clip of a face, or the sound of a voice.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The csv to write, with the columns of Live Link Face.")],
    start: Start = None,
    end: End = None,
    text: Said = None,
    phones: PhoneTimes = None,
    liveliness: Liveliness = 1.0,
    seed: Seed = 0,
    detector: Detector = "mediapipe",
) -> None:
    """A clip -> how the face in it moves, or a voice -> how one does that says it; for other programs, and
    ``animate --motion-file``."""
    from .video import check_writable, has_pictures, probe

    check_writable(output, (".csv",))
    if not has_pictures(clip):
        if start is not None or end is not None:
            raise typer.BadParameter("they are for clips.", param_hint="--start / --end")
        with _notes(), _progress_bars() as show:
            Motion.from_voice(
                clip, _checked_text(text, phones), phones, liveliness=liveliness, seed=seed, on_progress=show
            ).save(output)
        typer.echo(output)
        return
    _check_no_voice(text, phones)
    probe(clip)
    from .faces import held_gaps

    pipe = _load(None, detector, None)
    with _notes() as notes, _progress_bars() as show:
        motion = pipe.track(clip, start=start, end=end, on_progress=show)
        motion.save(output)
        notes.extend(gap.sentence(motion.fps) for gap in held_gaps(motion.seen, motion.fps))
    typer.echo(output)


@app.command()
def dub(
    video: Annotated[Path, typer.Option(help="A film of one person, whose parts are moved.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The mp4 to write.")],
    driving: Annotated[
        Path | None, typer.Option(help="Clip whose motion is taken.", show_default=False, rich_help_panel=MOTION)
    ] = None,
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
    parts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="lips|eyes|brows|expression", help="What is moved: --parts lips eyes", show_default="lips",
            callback=_known_parts, rich_help_panel=MOTION,
        ),
    ] = None,
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
    from .video import check_writable, probe, sound_duration

    if sum(source is not None for source in (driving, voice, motion_file)) != 1:
        raise typer.BadParameter(
            "give either a clip, a voice or a motion file.", param_hint="--driving / --voice / --motion-file"
        )
    if voice is None:
        _check_no_voice(text, phones)
    if "head" in (parts or ()):
        raise typer.BadParameter("the head stays as in the film.", param_hint="--parts")
    check_writable(output)
    for path in (video, driving, voice, sound):
        if path is not None:
            _check_other_file(output, path)
    probe(video)
    with _notes() as notes:
        driver: Path | Motion
        if driving is not None:
            driver = driving
            probe(driving)
        elif voice is not None:
            sound_duration(voice)
            with _progress_bars() as show:
                said = _checked_text(text, phones)
                driver, sound = Motion.from_voice(voice, said, phones, liveliness=0, on_progress=show), sound or voice
        else:
            driver = Motion.load(str(motion_file))
        from .provenance import check_credentials  # brings torch: last

        check_credentials()
        pipe = _load(model, detector, device, engine)
        with _progress_bars() as show:
            result = pipe.dub(
                video, driver, parts=parts or ("lips",), expression=expression, gaze=gaze, start=start, end=end,
                sound=sound, on_progress=show,
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
    from .video import check_writable

    check_writable(output)
    _check_photos([photo])
    wanted = _sources(drivers)
    with _notes() as notes:
        from .provenance import check_credentials  # brings torch: last

        check_credentials()
        pipe = _load(model, detector, device, engine)
        people = pipe.people(photo)
        numbers = range(1, len(people) + 1)
        beyond = [number for number in wanted if number is not None and number not in numbers]
        if beyond:
            raise NoFaceError(f"There are {len(people)} faces in the photo, and no face {beyond[0]}.")
        chosen = [wanted.get(number, wanted.get(None)) for number in numbers]
        with _progress_bars() as show:
            motions = {source: _motion_of_source(source, pipe, output, show) for source in chosen if source is not None}
            video = pipe.animate_group(
                people, [None if source is None else motions[source][0] for source in chosen],
                head=head, expression=expression, gaze=gaze, parts=parts or (),
                sound=next((sound for _, sound in motions.values() if sound is not None), None), on_progress=show,
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


def _motion_of_source(
    source: str, pipe: TalkingHeadPipeline, output: Path, show: ProgressCallback
) -> tuple[Motion, Path | None]:
    """A preset, a motion file, a voice or a clip -> its motion, and the file whose sound goes with it."""
    from .video import has_pictures, sound_duration

    if source in PRESETS:
        return load_preset(source), None
    path = Path(source)
    if path.suffix.lower() in (".csv", ".json"):
        return Motion.load(path), None
    _check_other_file(output, path)
    if not has_pictures(path):
        sound_duration(path)
        return Motion.from_voice(path, on_progress=show), path
    return pipe.track(path, on_progress=show), path


@app.command()
def live(
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    source: Annotated[str, typer.Option(help="Number of a camera, or a clip, which is played in real time.")] = "0",
    output: Annotated[Path | None, typer.Option(help="An mp4 of what was to be seen.", show_default=False)] = None,
    head: Strength = 1.0,
    expression: Strength = 1.0,
    gaze: Strength = 1.0,
    parts: Parts = None,
    size: FrameSize = None,
    background: OpaqueWall = "keep",
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Photos (or an avatar) that move like whoever is before the camera, at once; ends with q, Escape or Ctrl-C."""
    from .background import parse_background
    from .camera import Window, in_real_time, read_camera
    from .video import AI_GENERATED, VideoWriter, check_writable, probe, read_frames

    _check_one_of(photos, avatar)
    wall = parse_background(background)
    if wall.is_transparent:
        raise typer.BadParameter(
            "a window has something behind it; transparent is for files.", param_hint="--background"
        )
    if output is not None:
        check_writable(output)
    fps = 25.0
    if not source.isdecimal():
        fps = probe(source).fps
        if output is not None:
            _check_other_file(output, Path(source))
    _check_photos(photos or [])
    from .provenance import check_credentials, marked_picture, sign  # brings torch: last

    check_credentials()
    pipe = _load(model, detector, device, engine)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_notes())
        person = _load_avatar(avatar, pipe) if avatar else pipe.create_avatar(photos or [], face)
        pixels = _pixels(pipe, person, size, wall)
        heads = stack.enter_context(
            pipe.live(
                person, head=head, expression=expression, gaze=gaze, parts=parts or (), size=pixels, background=wall
            )
        )
        camera = read_camera(int(source)) if source.isdecimal() else in_real_time(read_frames(source), fps)
        stop = threading.Event()

        def watch() -> None:
            with contextlib.closing(camera):
                for frame in camera:
                    if stop.is_set():
                        return
                    heads.offer(frame)

        writer = None
        if output is not None:
            finish = partial(sign, title=output.name)
            writer = stack.enter_context(VideoWriter(output, fps, metadata=AI_GENERATED, finish=finish))
        window = stack.enter_context(contextlib.closing(Window("AI-generated")))
        begin = time.perf_counter()
        seen: np.ndarray | None = None

        def record() -> None:
            """What is to be seen, as often as time has passed, whatever the camera's rate."""
            if writer is not None and seen is not None:
                for _ in range(math.floor((time.perf_counter() - begin) * fps) + 1 - writer.num_frames):
                    writer.write(marked_picture(seen, label=False))

        # In a thread of its own, so that a picture is shown when it is painted and not when the next frame has come.
        pool = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(stop.set)
        watching = pool.submit(watch)
        # Ctrl-C is how this ends: what was seen until then is kept.
        with contextlib.suppress(KeyboardInterrupt):
            while not watching.done():
                picture = heads.take(timeout=1 / fps)
                record()
                seen = _later(picture, seen)
                if seen is not None and not window.show(seen):
                    break
        stop.set()
        watching.result()
        last = heads.wait()
        record()
        seen = _later(last, seen)
        if seen is None:
            raise NoFaceError(f"No face was seen in {source}. Sit in the light, facing the camera.")
        if writer is not None and (last is not None or writer.num_frames == 0):
            writer.write(marked_picture(seen, label=False))
        typer.echo(
            f"{heads.painted} of {heads.pushed} frames painted; frame to picture {_milliseconds(heads.delay(0.5))} "
            f"at the median, {_milliseconds(heads.delay(0.95))} for 95 of 100"
        )
    if output is not None:
        typer.echo(output)


@app.command()
def edit(
    output: Annotated[Path, typer.Option(help="The png to write.")],
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    yaw: Annotated[float, _control("yaw", "Degrees to the right of the image.")] = 0.0,
    pitch: Annotated[float, _control("pitch", "Degrees down.")] = 0.0,
    roll: Annotated[float, _control("roll", "Degrees clockwise.")] = 0.0,
    mouth: Annotated[float, _control("mouth", "1: wide open.")] = 0.0,
    lips: Annotated[float, _control("lips", "-1: drawn wide, 1: rounded.")] = 0.0,
    smile: Annotated[float, _control("smile", "-1: corners of the mouth down, 1: up.")] = 0.0,
    eyelids: Annotated[float, _control("eyelids", "-1: closed, 1: wide open.")] = 0.0,
    brows: Annotated[float, _control("brows", "-1: lowered, 1: raised.")] = 0.0,
    gaze_x: Annotated[float, _control("gaze_x", "-1: to the left of the image, 1: to the right.")] = 0.0,
    gaze_y: Annotated[float, _control("gaze_y", "-1: up, 1: down.")] = 0.0,
    coefficient: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Add -1 to 1 to a coefficient of ARKit: --coefficient jawOpen=0.5 cheekPuff=1",
            show_default=False,
            rich_help_panel="Controls",
        ),
    ] = None,
    size: FrameSize = None,
    background: Wall = "keep",
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
) -> None:
    """Photos (or an avatar) -> a png of the person with another pose and expression; 0 is as in the photo."""
    from .background import parse_background
    from .video import check_writable

    _check_one_of(photos, avatar)
    controls = FaceControls(
        yaw=yaw, pitch=pitch, roll=roll, mouth=mouth, lips=lips, smile=smile, eyelids=eyelids, brows=brows,
        gaze_x=gaze_x, gaze_y=gaze_y, coefficients=_coefficients(coefficient or []),
    )  # fmt: skip
    wall = parse_background(background)
    check_writable(output, (".png",))
    _check_photos(photos or [])
    from .provenance import check_credentials, save_picture  # brings torch: last

    check_credentials()
    pipe = _load(model, detector, device)
    with _notes():
        person = _load_avatar(avatar, pipe) if avatar else pipe.create_avatar(photos or [], face)
        pixels = _pixels(pipe, person, size, wall)
        save_picture(pipe.edit(person, controls, size=pixels, background=wall), output, label=label)
    typer.echo(output)


@app.command("avatar")
def make_avatar(
    output: Annotated[Path, typer.Option(help="Folder for the avatar.")],
    photos: Photos = None,
    face: Face = None,
    steps: Annotated[int, typer.Option(help="Steps of fine-tuning to this person; 0: none.", min=0)] = 0,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
) -> None:
    """Photos -> a saved avatar, for ``animate --avatar``."""
    from .avatar import check_folder

    if not photos:
        raise typer.BadParameter("give at least one photo.", param_hint="--photos")
    check_folder(output)
    _check_photos(photos)
    pipe = _load(model, detector, device)
    with _notes(), _progress_bars() as show:
        portraits = pipe.portraits(photos, face)
        person = _fine_tuned(pipe, portraits, steps, show) if steps else pipe.create_avatar(portraits)
        person.save_pretrained(output)
    typer.echo(output)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="The mp4 to write; a contact sheet (png) goes beside it.")] = Path(
        "talking-head.mp4"
    ),
    model: Model = None,
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """A portrait of the public domain and the bundled clip -> a video, and a contact sheet to look at."""
    from skimage.data import astronaut

    from .video import check_writable, contact_sheet, read_frames, save_image

    sheet = output.with_suffix(".png")
    check_writable(output)
    check_writable(sheet, (".png",))
    photo = astronaut()
    pipe = _load(model, "mediapipe", device, engine)
    with _notes() as notes, _progress_bars() as show:
        video = pipe(pipe.create_avatar([photo]), EXAMPLE, on_progress=show)
        notes.extend(video.warnings)
        chosen = {round(k * (len(video) - 1) / 5) for k in range(6)}
        result: list[np.ndarray] = []
        _keeping(video, chosen, result).save(output, show)
        driving = [frame for k, frame in enumerate(read_frames(EXAMPLE, fps=video.fps)) if k in chosen]
        save_image(contact_sheet([[photo], driving, result]), sheet)
    typer.echo(f"{output}  the video\n{sheet}  photo, frames of the driving clip, frames of the video")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A video, GIF or picture.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a file carries marks of generated media. Exit code 0: it does; 1: none was found."""
    from .provenance import verify

    findings = verify(file)
    if as_json:
        found = {"file": str(file), "generated": findings.generated, **asdict(findings)}
        typer.echo(json.dumps(found | {"sentences": findings.sentences}, indent=2))
    else:
        typer.echo("\n".join(findings.sentences))
    if not findings.generated:
        raise typer.Exit(1)


@app.command()
def benchmark(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seconds: Annotated[
        float, typer.Option(help="Length of the clip, or of each preset's training.", callback=_finite, min=0.2)
    ] = 10.0,
    training: Annotated[bool, typer.Option("--training", help="Meta-learning instead of animation.")] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also the peak memory of a short and of a long clip; takes long.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Length of the long clip of --memory.", callback=_finite, min=0.01, show_default="10"),
    ] = None,
    fine_tuning: Annotated[
        bool, typer.Option("--fine-tuning", help="Also how long fine-tuning to one and to eight photos takes.")
    ] = False,
    size: Annotated[
        Literal["256", "512"] | None, typer.Option(help="Measure clips of this size alone.", show_default="both")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="A png to draw; also measures clips of a tenth to twice --seconds.", show_default=False),
    ] = None,
    networks: Annotated[
        bool,
        typer.Option(
            "--networks", help="The networks alone, with CUDA graphs where they are: needs no detector and no films."
        ),
    ] = False,
    model: Model = None,
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Measure this machine: each part of the work, and a clip from end to end; or how fast it meta-trains."""
    from .benchmark import SIZES, as_table, measure, measure_networks_alone

    if training and (model or device or engine != "auto" or memory or fine_tuning or size or plot or networks):
        raise typer.BadParameter("it goes with no other option than --json and --seconds.", param_hint="--training")
    if networks and (engine != "auto" or memory or fine_tuning or size or plot):
        raise typer.BadParameter("it goes with --json, --seconds, --model and --device.", param_hint="--networks")
    if minutes is not None and not memory:
        raise typer.BadParameter("it is for --memory.", param_hint="--minutes")
    if plot is not None:
        from .video import check_writable

        check_writable(plot, (".png",))
    if training:
        measured = _training_tools("benchmark").measure(seconds)
    elif networks:
        measured = measure_networks_alone(seconds, model, None if device is None else _device(device))
    else:
        tools = partial(_training_tools, "benchmark") if fine_tuning else None  # imported late: loading is measured
        with _progress_bars() as show:
            measured = measure(
                seconds, model, None if device is None else _device(device), engine,
                sizes=SIZES if size is None else (int(size),), lengths=plot is not None,
                memory_minutes=(minutes or 10.0) if memory else None, training_tools=tools, on_progress=show,
            )  # fmt: skip
    typer.echo(json.dumps(measured, indent=2) if as_json else as_table(measured))
    if plot is not None:
        from .plots import plot_speed
        from .video import save_image

        save_image(plot_speed(measured), plot)


@app.command("export")
def export_network(
    output: Annotated[Path, typer.Option(help="Folder for the files.")],
    format: Annotated[Literal["onnx", "openvino"], typer.Option(help="What the other program reads.")],
    avatar: Annotated[
        str | None, typer.Option(help="A saved avatar: its generator, if it has one, style, and an example.")
    ] = None,
    model: Model = None,
) -> None:
    """The generator for other programs, compared with the original before it is there."""
    from .engines import export
    from .pipeline import TalkingHeadPipeline

    pipe = TalkingHeadPipeline.from_pretrained(model)
    person = None if avatar is None else _load_avatar(avatar, pipe)
    if person is not None:
        pipe.check_fits(person)
    export((person and person.generator) or pipe.generator, output, format, person)
    typer.echo(output)


# -------------------------------------------------------------------------------------------------------------- parts


def _later(new: np.ndarray | None, old: np.ndarray | None) -> np.ndarray | None:
    return old if new is None else new


def _milliseconds(seconds: float | None) -> str:
    return f"{1000 * (seconds or 0.0):.0f} ms"


def _check_one_of(photos: Sequence[Path] | None, avatar: str | None) -> None:
    if bool(photos) == bool(avatar):
        raise typer.BadParameter("give either photos or an avatar.", param_hint="--photos / --avatar")


def _checked_text(text: str | None, phones: Path | None = None) -> str | None:
    if text is not None and phones is not None:
        raise typer.BadParameter("give either the text or its phones.", param_hint="--text / --phones")
    return text


def _check_no_voice(text: str | None, phones: Path | None) -> None:
    if text is not None or phones is not None:
        raise typer.BadParameter("they are for a voice.", param_hint="--text / --phones")


def _check_other_file(output: Path, driving: Path, what: str = "driving clip") -> None:
    if output.exists() and output.samefile(driving):
        raise OutputError(f"{output} is the {what} itself. Choose another output.")


def _check_photos(photos: Sequence[Path]) -> None:
    for photo in photos:
        if not photo.is_file():
            raise UnreadableMediaError(f"The photo {photo} does not exist. Check the path.")
    from .pipeline import MAX_PHOTOS  # brings torch: last

    if len(photos) > MAX_PHOTOS:
        raise typer.BadParameter(f"{len(photos)} photos are too many; choose {MAX_PHOTOS}.", param_hint="--photos")


def _load(model: str | None, detector: str, device: str | None, engine: str = "auto") -> TalkingHeadPipeline:
    from .landmarks import load_detector
    from .pipeline import TalkingHeadPipeline

    chosen = _device(device)
    if engine == "openvino" and chosen != "cpu":
        raise typer.BadParameter(f"openvino is for the device cpu, not for {chosen}.", param_hint="--engine")
    pipe = TalkingHeadPipeline.from_pretrained(model, engine=engine)
    pipe.to(chosen)
    pipe.detector = load_detector(detector, chosen)
    return pipe


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        # Each backend has its own error for not being there, in paragraphs.
        raise typer.BadParameter(f"{name} cannot be used on this machine; cpu can.", param_hint="--device") from None
    return name


def _pixels(pipe: TalkingHeadPipeline, person: Avatar, size: str | None, wall: Background) -> Size:
    """--size as the pipeline takes it, and whether the model can show that at all."""
    pixels: Size = "photo" if size == "photo" else None if size is None else int(size)
    if (size or not wall.keeps) and not (person.generator or pipe.generator).config.render_conditioned:
        raise typer.BadParameter(
            "this model paints the whole picture itself, in one size.", param_hint="--size / --background"
        )
    try:
        pipe.frame_size(person, pixels)
    except ValueError as error:  # no multiple of the network's own size
        raise typer.BadParameter(f"{error}.", param_hint="--size") from None
    return pixels


def _load_avatar(source: str, pipe: TalkingHeadPipeline) -> Avatar:
    from .avatar import Avatar

    return Avatar.from_pretrained(source).to(pipe.device)


def _fine_tuned(pipe: TalkingHeadPipeline, photos: Sequence[Portrait], steps: int, show: ProgressCallback) -> Avatar:
    fine_tune = _training_tools("finetune").fine_tune
    return fine_tune(pipe, photos, steps=steps, on_step=lambda step, *_: show("fine-tuning", step, steps))


def _keeping(video: TalkingHeadVideo, chosen: set[int], kept: list[np.ndarray]) -> TalkingHeadVideo:
    """The same video, of which the ``chosen`` frames are also put into ``kept`` when they are painted."""

    def frames() -> FrameGenerator:
        for k, frame in enumerate(video):
            if k in chosen:
                kept.append(frame)
            yield frame

    return replace(video, frames=frames)


@contextlib.contextmanager
def _progress_bars() -> Iterator[ProgressCallback]:
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
def _notes() -> Iterator[list[str]]:
    """Sentences to print when the work is done, below the bars; what the library logs meanwhile is among them."""
    notes: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
    for note in dict.fromkeys(notes):
        typer.echo(f"Warning: {note}", err=True)


# --------------------------------------------------------------------------------------------------------------- main


def spread(arguments: Sequence[str]) -> list[str]:
    """``--photos a b`` -> ``--photos a --photos b``: shells expand ``*.jpg`` this way. So for all of MANY.

    Commands with such options have no bare words. A photo whose name begins with a dash is given as ``./-name.jpg``.
    """
    result: list[str] = []
    option: str | None = None
    fresh = False
    for word in arguments:
        if word.startswith("-") and word != "-":
            option, fresh = (word if word in MANY else None), True
        elif option is not None and not fresh:
            result.append(option)
        else:
            fresh = False
        result.append(word)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: runs ``arguments`` (the process's own when None) and returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(spread(arguments) or ["--help"], prog_name="talking-heads", standalone_mode=False)
    except TalkingHeadsError as error:
        return _complain(str(error))
    except typer.TyperException as error:  # a wrong command, option or value
        return _complain(getattr(error, "format_message", error.__str__)())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    return int(code or 0)


def _complain(sentence: str) -> int:
    typer.echo(f"Error: {' '.join(sentence.split())}", err=True)
    return 2
