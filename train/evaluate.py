"""The paper's protocol on any folder of clips: self-reenactment of people whom the model has never seen.

    python -m train.evaluate --model MODEL --clips FOLDER --output FOLDER [--shots 1 --shots 8] [--fine-tune STEPS]
        [--identity-net mobilefacenet.npz] [--dlib-net dlib_face_resnet.npz]
        [--inception inception-2015-12-05.pt] [--portraits FOLDER]

Of each clip's frames with a face, the T source frames are spread over the first half, beginning with the first frame,
and the hold-out frames over the second half: they are the same for every T. All share the clip's one crop. An avatar is
made of the sources; its head is fitted to the landmarks of each hold-out frame (absolute motion), and what each method
makes of that is compared with the frame. Three methods need no network: ``still`` is the first source, ``warp`` the
source that the pipeline would choose, bent to the landmarks (warp_baseline.py), ``render`` the drawn head alone.
``feed-forward`` is the pipeline: the network's correction over that drawing. Frames are made at the size that the
pipeline chooses, 512 pixels where the clip's crop has enough of them, and compared at that of the network, 256: larger
ones are averaged. The row ``truth`` puts the true frames in the painted ones' place: its CSIM is what a person reaches
among real frames. The same people are compared by dlib's face recognition ResNet, whose weights anybody can have (CC0):
by the Euclidean distance of its descriptors, as dlib itself does, whose threshold for one person is 0.6. A model that
was trained with that network as its identity loss should not be judged by it alone: the tables say so where the model's
training.json or card names it. Jitter is that of the 16 consecutive frames of the second half in which the face moves
least, over that of the same frames as they were filmed. FID is that of all hold-out frames of all clips at one T
together: it comes with the last clip and without an interval. With few frames it is biased upwards, so it is comparable
only at the same number of frames.

A table of its own has the hold-out frames in which the head is turned by 12 degrees and more: by the angle between its
pose and that of the source nearest to it. Its numbers are means over these frames of all clips together.

Writes ``results.json``, ``results.md`` and ``sheets/``: one contact sheet for each clip and T. With ``--portraits``
people are also driven by others: see train/evaluation/reenact.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from talking_heads.errors import NoFaceError, UnreadableMediaError
from talking_heads.pipeline import MAX_PHOTOS

from .data.jobs import Job, find_jobs
from .evaluation.protocol import Options, Outcome, cross_reenact, evaluate, pipeline_and_metrics
from .evaluation.reenact import (
    MIN_FRAMES,
    DrivenByClip,
    DrivenPortrait,
    Driver,
    file_names,
    find_portraits,
    save_contact_sheets,
    write_cross,
)
from .evaluation.results import described, identity_notes, write_results
from .terminal import mistakes_in_one_line

Done = TypeVar("Done")


def main(
    clips: Annotated[
        Path, typer.Option(help="Folder of clips, searched through and through.", exists=True, file_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Folder for what is measured.", file_okay=False)],
    model: Annotated[str | None, typer.Option(help="Folder or org/name; else the bundled model.")] = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="T, the number of source frames; may be given again.", show_default="1")
    ] = None,
    fine_tune: Annotated[int, typer.Option(help="Steps of fine-tuning; 0 for feed-forward only.", min=0)] = 0,
    fine_tune_preset: Annotated[str, typer.Option(help="How that is done, see train.finetune --preset.")] = "default",
    feature_net: Annotated[
        Path | None, typer.Option(help="Weights for the perceptual distance and for fine-tuning's content loss.")
    ] = None,
    identity_net: Annotated[Path | None, typer.Option(help="Weights of MobileFaceNet, for CSIM.")] = None,
    dlib_net: Annotated[
        Path | None,
        typer.Option(help="Arrays of dlib's face recognition network (.npz), for the distance of its descriptors."),
    ] = None,
    inception: Annotated[Path | None, typer.Option(help="The file inception-2015-12-05.pt, for FID.")] = None,
    frames: Annotated[
        int | None, typer.Option(help="Hold-out frames of a clip, at most.", min=2, show_default="32; field: all")
    ] = None,
    protocol: Annotated[
        Literal["paper", "field"],
        typer.Option(help="field: the first frame is the source, all others are targets (train/evaluation/field.py)."),
    ] = "paper",
    portraits: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos: measure cross-reenactment, too, each photo driven by every clip.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    cross_frames: Annotated[
        int, typer.Option(help="Frames of a clip that drive a portrait, at most.", min=MIN_FRAMES)
    ] = 48,
    limit: Annotated[int | None, typer.Option(help="Stop after this many clips.", min=1)] = None,
    index: Annotated[
        Path | None, typer.Option(help="CSV with the columns file, identity, split: who is who.", exists=True)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the clips that the index puts in this split.")] = None,
    seed: Annotated[int, typer.Option(help="Of fine-tuning and of the bootstrap.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Measure a model on people in clips."""
    chosen = tuple(dict.fromkeys(shots or [1]))
    if not all(1 <= number <= MAX_PHOTOS for number in chosen):
        raise typer.BadParameter(f"choose from 1 to {MAX_PHOTOS}", param_hint="--shots")
    options = Options(
        model=model, output=output, shots=chosen, fine_tune=fine_tune, fine_tune_preset=fine_tune_preset,
        feature_net=feature_net, identity_net=identity_net, dlib_net=dlib_net, inception=inception, frames=frames,
        protocol=protocol, portraits=portraits, cross_frames=cross_frames, seed=seed,
    )  # fmt: skip
    with mistakes_in_one_line():
        jobs = [job for job in find_jobs(clips, index, leave_out=output) if job.is_video]
        _measure([job for job in jobs if split in (None, job.split)][:limit], clips, options, workers)


def _measure(jobs: Sequence[Job], clips: Path, options: Options, workers: int) -> None:
    """Raises UnreadableMediaError where the folder ``clips`` gave no jobs."""
    if not jobs:
        raise UnreadableMediaError(f"There are no clips to evaluate in {clips}. Give a folder that holds some.")
    # What is wrong with them is known before anything is measured.
    notes, portraits = identity_notes(options), options.portraits
    people = None
    if portraits is not None:
        people = find_portraits(pipeline_and_metrics(options)[0], portraits, leave_out=options.output)
    _measure_clips(jobs, options, workers)
    if people is not None:
        _measure_pairs(jobs, *people, options, notes, workers)


def _measure_clips(jobs: Sequence[Job], options: Options, workers: int) -> None:
    (options.output / "sheets").mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    with contextlib.closing(_with_bar("evaluating", len(jobs), evaluate(jobs, options, workers))) as running:
        for outcome in running:
            outcomes.append(outcome)
            # Written after each clip, so that an interrupted run has some.
            write_results(outcomes, options, finished=len(outcomes) == len(jobs))
    dropped = _count_dropped(outcomes)
    report = options.output / ("field.md" if options.protocol == "field" else "results.md")
    typer.echo(f"{len(outcomes) - dropped} clips measured, {dropped} left out; see {report}.")


def _measure_pairs(
    jobs: Sequence[Job],
    portraits: Sequence[DrivenPortrait],
    left_out: Mapping[str, str],
    options: Options,
    notes: Sequence[str],
    workers: int,
) -> None:
    (options.output / "cross").mkdir(parents=True, exist_ok=True)
    names = file_names([job.source for job in jobs])
    drivers = [Driver(job.source, name, job.files[0]) for job, name in zip(jobs, names, strict=True)]
    driven: list[DrivenByClip] = []
    work = cross_reenact(drivers, portraits, options, workers)
    try:
        with contextlib.closing(_with_bar("driving portraits", len(drivers), work)) as running:
            for one in running:
                driven.append(one)
                write_cross(driven, portraits, left_out, described(options), notes, options.output, options.seed)
    finally:  # a contact sheet shows all clips: drawn once, after an interrupted run as well
        save_contact_sheets(driven, portraits, options.output)
    dropped = _count_dropped(driven)
    typer.echo(
        f"{len(portraits)} portraits driven by {len(driven) - dropped} clips, {len(left_out)} portraits and "
        f"{dropped} clips left out; see {options.output / 'cross.md'}."
    )


def _with_bar(what: str, total: int, running: Generator[Done]) -> Generator[Done]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("clips,"), TimeRemainingColumn())
    with Progress(*columns) as progress, contextlib.closing(running):
        bar = progress.add_task("", total=total)
        for outcome in running:
            yield outcome
            progress.advance(bar)


def _count_dropped(outcomes: Sequence[Outcome] | Sequence[DrivenByClip]) -> int:
    """Raises NoFaceError if that is all of them."""
    if all(outcome.dropped for outcome in outcomes):
        raise NoFaceError(f"None of the clips can be used. {outcomes[0].clip}: {outcomes[0].dropped}")
    return sum(bool(outcome.dropped) for outcome in outcomes)


if __name__ == "__main__":
    typer.run(main)
