"""The application, and the options that commands have in common."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import __version__
from ..head.motion import COEFFICIENTS, PARTS
from ..head.presets import PRESETS, RANGES

if TYPE_CHECKING:
    pass


MANY = ("--photos", "--parts", "--coefficient", "--drivers")
"""Options that take every value up to the next option."""

app = typer.Typer(
    help="Photos of a person and a driving clip in, a video of that person moving like the clip out.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


# ------------------------------------------------------------------------------------------------------------ options


def finite(value: float | None) -> float | None:
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


def known_parts(parts: list[str] | None) -> list[str] | None:
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
Driving = Annotated[
    Path | None, typer.Option(help="Clip whose motion is taken.", show_default=False, rich_help_panel=MOTION)
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="|".join(PARTS), help="Move these alone: --parts lips eyes", callback=known_parts, show_default="all",
        rich_help_panel=MOTION,
    ),
]  # fmt: skip
DubbedParts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="lips|eyes|brows|expression", help="What is moved: --parts lips eyes", show_default="lips",
        callback=known_parts, rich_help_panel=MOTION,
    ),
]  # fmt: skip
Strength = Annotated[
    float,
    typer.Option(
        help="Of what is carried over: 0 none, 1 as the driver.", callback=finite, min=0, max=2, rich_help_panel=MOTION
    ),
]
Start = Annotated[
    float | None, typer.Option(help="Second of the clip to begin at.", callback=finite, rich_help_panel=MOTION)
]
End = Annotated[
    float | None, typer.Option(help="Second of the clip to end at.", callback=finite, rich_help_panel=MOTION)
]
FrameSize = Annotated[
    Literal["256", "512", "photo"] | None,
    typer.Option(
        help="Pixels of the side, or those that the photo has.", show_default="512 if the photo has them",
        rich_help_panel=PICTURE,
    ),
]  # fmt: skip
BackgroundOption = Annotated[
    str,
    typer.Option(
        "--background", help="keep, blur, transparent, a colour, or a picture's path.", rich_help_panel=PICTURE
    ),
]
OpaqueBackgroundOption = Annotated[
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
        help="Of a voice's head, eyes and brows: 0 the mouth alone, 1 as people do.", callback=finite, min=0, max=2,
        rich_help_panel=MOTION,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of what liveliness draws at random.", min=0, rich_help_panel=MOTION)]


def known_preset(name: str | None) -> str | None:
    if name is not None and name not in PRESETS:
        raise typer.BadParameter(f"{name} is none of {', '.join(PRESETS)}.")
    return name


def control(name: str, text: str) -> Any:
    low, high = RANGES[name]
    return typer.Option(help=text, callback=finite, min=low, max=high, rich_help_panel="Controls")


Coefficients = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Add -1 to 1 to a coefficient of ARKit: --coefficient jawOpen=0.5 cheekPuff=1",
        show_default=False,
        rich_help_panel="Controls",
    ),
]


def coefficients(words: Sequence[str]) -> dict[str, float]:
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
