"""Commands on one person: edit, avatar, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..examples import EXAMPLE
from ..head.presets import FaceControls

if TYPE_CHECKING:
    import numpy as np


from .options import (
    MOTION,
    BackgroundOption,
    Coefficients,
    Detector,
    Device,
    Engine,
    Face,
    FrameSize,
    Label,
    Model,
    Parts,
    Photos,
    SavedAvatar,
    app,
    coefficients,
    control,
)
from .shared import (
    check_one_of,
    check_photos,
    fine_tuned_avatar,
    keeping,
    load_avatar,
    load_pipeline,
    load_signing_pipeline,
    pixels_for,
    printed_notes,
    progress_bars,
)


@app.command()
def edit(
    output: Annotated[Path, typer.Option(help="The png to write.")],
    photos: Photos = None,
    face: Face = None,
    avatar: SavedAvatar = None,
    yaw: Annotated[float, control("yaw", "Degrees to the right of the image.")] = 0.0,
    pitch: Annotated[float, control("pitch", "Degrees down.")] = 0.0,
    roll: Annotated[float, control("roll", "Degrees clockwise.")] = 0.0,
    mouth: Annotated[float, control("mouth", "1: wide open.")] = 0.0,
    lips: Annotated[float, control("lips", "-1: drawn wide, 1: rounded.")] = 0.0,
    smile: Annotated[float, control("smile", "-1: corners of the mouth down, 1: up.")] = 0.0,
    eyelids: Annotated[float, control("eyelids", "-1: closed, 1: wide open.")] = 0.0,
    brows: Annotated[float, control("brows", "-1: lowered, 1: raised.")] = 0.0,
    gaze_x: Annotated[float, control("gaze_x", "-1: to the left of the image, 1: to the right.")] = 0.0,
    gaze_y: Annotated[float, control("gaze_y", "-1: up, 1: down.")] = 0.0,
    coefficient: Coefficients = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="A picture of anybody whose pose and expression are taken, instead of controls.",
            show_default=False,
            rich_help_panel=MOTION,
        ),
    ] = None,
    parts: Parts = None,
    size: FrameSize = None,
    background: BackgroundOption = "keep",
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
) -> None:
    """Photos (or an avatar) -> a png of the person with another pose and expression; 0 is as in the photo."""
    from ..files import check_writable
    from ..media.background import parse_background

    check_one_of(photos, avatar)
    controls = FaceControls(
        yaw=yaw, pitch=pitch, roll=roll, mouth=mouth, lips=lips, smile=smile, eyelids=eyelids, brows=brows,
        gaze_x=gaze_x, gaze_y=gaze_y, coefficients=coefficients(coefficient or []),
    )  # fmt: skip
    if like is not None and controls != FaceControls():
        raise typer.BadParameter("it goes without controls.", param_hint="--like")
    if like is None and parts:
        raise typer.BadParameter("they are for --like.", param_hint="--parts")
    backdrop = parse_background(background)
    check_writable(output, (".png",))
    check_photos([*(photos or []), *([like] if like else [])])
    pipe = load_signing_pipeline(model, detector, device)
    from ..media.signing import save_picture  # brings torch: last

    with printed_notes():
        person = load_avatar(avatar, pipe) if avatar else pipe.create_avatar(photos or [], face)
        pixels = pixels_for(pipe, person, size, backdrop)
        if like is None:
            picture = pipe.edit(person, controls, size=pixels, background=backdrop)
        else:
            picture = pipe.imitate(person, like, parts=parts or (), size=pixels, background=backdrop)
        save_picture(picture, output, label=label)
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
    from ..avatar import check_folder

    if not photos:
        raise typer.BadParameter("give at least one photo.", param_hint="--photos")
    check_folder(output)
    check_photos(photos)
    pipe = load_pipeline(model, detector, device)
    with printed_notes(), progress_bars() as show:
        portraits = pipe.portraits(photos, face)
        person = fine_tuned_avatar(pipe, portraits, steps, show) if steps else pipe.create_avatar(portraits)
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

    from ..files import check_writable
    from ..media.composing import contact_sheet
    from ..media.images import save_image
    from ..media.reading import read_frames

    overview = output.with_suffix(".png")
    check_writable(output)
    check_writable(overview, (".png",))
    photo = astronaut()
    pipe = load_pipeline(model, "mediapipe", device, engine)
    with printed_notes() as notes, progress_bars() as show:
        video = pipe(pipe.create_avatar([photo]), EXAMPLE, on_progress=show)
        notes.extend(video.warnings)
        chosen = {round(k * (len(video) - 1) / 5) for k in range(6)}
        result: list[np.ndarray] = []
        keeping(video, chosen, result).save(output, show)
        driving = [frame for k, frame in enumerate(read_frames(EXAMPLE, fps=video.fps)) if k in chosen]
        save_image(contact_sheet([[photo], driving, result]), overview)
    typer.echo(f"{output}  the video\n{overview}  photo, frames of the driving clip, frames of the video")
