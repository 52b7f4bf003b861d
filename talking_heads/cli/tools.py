"""verify, benchmark, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import _training_tools
from ..files import check_writable
from .options import Device, Engine, Model, app, finite
from .shared import device_for, load_avatar, progress_bars

if TYPE_CHECKING:
    from ..benchmark import Loading


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A video, GIF or picture.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a file carries marks of generated media. Exit code 0: it does; 1: none was found."""
    from ..media.verifying import verify

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
        float, typer.Option(help="Length of the clip, or of each preset's training.", callback=finite, min=0.2)
    ] = 10.0,
    training: Annotated[bool, typer.Option("--training", help="Meta-learning instead of animation.")] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also the peak memory of a short and of a long clip; takes long.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Length of the long clip of --memory.", callback=finite, min=0.01, show_default="10"),
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
    speak: Annotated[
        bool,
        typer.Option("--speak", help="Speaking with sound that comes in real time: frames a second, and the delay."),
    ] = False,
    model: Model = None,
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Measure this machine: each part of the work, and a clip from end to end; or how fast it meta-trains."""
    from ..benchmark import Loading, as_table, measure_networks_alone, measure_speech_alone

    loading = Loading(model, device, engine)
    of_clips = bool(memory or fine_tuning or size or plot)
    _check_alone(loading, of_clips, training=training, networks=networks, speak=speak)
    if minutes is not None and not memory:
        raise typer.BadParameter("it is for --memory.", param_hint="--minutes")
    if plot is not None:
        check_writable(plot, (".png",))
    loading = loading._replace(device=None if device is None else device_for(device))
    if training:
        measured = _training_tools("benchmark").measure(seconds)
    elif networks:
        measured = measure_networks_alone(seconds, loading)
    elif speak:
        measured = measure_speech_alone(seconds, loading)
    else:
        memory_minutes = (minutes or 10.0) if memory else None
        measured = _measure_clips(seconds, loading, size, plot is not None, memory_minutes, fine_tuning)
    typer.echo(json.dumps(measured, indent=2) if as_json else as_table(measured))
    if plot is not None:
        _save_plot(measured, plot)


def _check_alone(loading: Loading, of_clips: bool, *, training: bool, networks: bool, speak: bool) -> None:
    """Raises BadParameter where something else is measured than clips, and an option does not go with that.

    ``of_clips``: whether there is an option that is for clips.
    """
    own_engine = loading.engine != "auto"
    if training and (loading.model or loading.device or own_engine or of_clips or networks or speak):
        raise typer.BadParameter("it goes with no other option than --json and --seconds.", param_hint="--training")
    if networks and (own_engine or of_clips):
        raise typer.BadParameter("it goes with --json, --seconds, --model and --device.", param_hint="--networks")
    if speak and (of_clips or networks):
        raise typer.BadParameter(
            "it goes with --json, --seconds, --model, --device and --engine.", param_hint="--speak"
        )


def _measure_clips(
    seconds: float, loading: Loading, size: str | None, lengths: bool, memory_minutes: float | None, fine_tuning: bool
) -> dict[str, Any]:
    from ..benchmark import SIZES, measure

    tools = partial(_training_tools, "benchmark") if fine_tuning else None  # imported late: loading is measured
    with progress_bars() as show:
        return measure(
            seconds, loading, sizes=SIZES if size is None else (int(size),), lengths=lengths,
            memory_minutes=memory_minutes, training_tools=tools, on_progress=show,
        )  # fmt: skip


def _save_plot(measured: dict[str, Any], path: Path) -> None:
    from ..media.images import save_image
    from ..plots import plot_speed

    save_image(plot_speed(measured), path)


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
    from ..engines import export
    from ..pipeline import TalkingHeadPipeline

    pipe = TalkingHeadPipeline.from_pretrained(model)
    person = None if avatar is None else load_avatar(avatar, pipe)
    if person is not None:
        pipe.check_fits(person)
    export((person and person.generator) or pipe.generator, output, format, person)
    typer.echo(output)
