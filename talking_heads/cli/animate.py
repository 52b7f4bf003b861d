"""Commands that make videos: animate, dub, group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import NoFaceError
from ..head.presets import PRESETS
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
    load_avatar,
    load_driver,
    load_signing_pipeline,
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
