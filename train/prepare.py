"""Videos and photos -> prepared clips (data/clips.py): one face track each, cropped as at inference, with landmarks and
masks.

    python -m train.prepare --input FOLDER --output FOLDER [--index INDEX.csv] [--workers 8]
    python -m train.prepare --input FOLDER --output FOLDER --shards 1000 [--ray auto]       millions of clips

Takes any folder of videos and photos. Who is who: the column ``identity`` of the index (with ``file`` and, optionally,
``split`` and ``licence``); without an index, the name of the file's folder inside of the input (VoxCeleb's
person/video/clip.mp4 gives the person), or of the file itself where it lies at the top. Photos of one person become one
clip of kind "stills". Run again after an interruption: what is there is not made again. ``report.json`` says what was
kept, what was dropped, and why; ``report.png`` and ``dropped.png`` show some of both. What trains on them then:
``python -m train.meta --clips FOLDER --output RUN``.

Clips are files of their own, or, with ``--shards``, go into tars (data/shards.py), each made of so many sources by one
process. With ``--ray`` the same work is done on the machines of a Ray cluster, which need the folders in common.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talking_heads.tracking.detectors import DETECTORS

from .data.jobs import find_jobs
from .data.prepare_folder import prepare, write_dropped, write_report
from .terminal import mistakes_in_one_line


def main(
    input: Annotated[
        Path,
        typer.Option(help="Folder of videos and photos, searched through and through.", exists=True, file_okay=False),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the prepared clips.")],
    index: Annotated[
        Path | None, typer.Option(help="CSV with the columns file, identity, split, licence.", exists=True)
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the crops in pixels.", min=64)] = 256,
    max_frames: Annotated[int, typer.Option(help="At most this many frames of a video, spread over it.", min=2)] = 250,
    detector: Annotated[str, typer.Option(help="mediapipe or face-alignment.")] = "mediapipe",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    shards: Annotated[
        int | None, typer.Option(help="Videos and people's photos a webdataset shard; else each is a file.", min=1)
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster, or auto: works there.")] = None,
) -> None:
    """Turn a folder of videos and photos into prepared clips for training."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    if detector not in DETECTORS:
        raise typer.BadParameter(f"choose one of {', '.join(DETECTORS)}", param_hint="--detector")
    outcomes = []
    columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TextColumn("clips,"), TimeRemainingColumn())
    with mistakes_in_one_line():
        jobs = find_jobs(input, index, leave_out=output)
        with Progress(*columns) as progress:
            bar = progress.add_task("", total=len(jobs))
            for outcome in prepare(jobs, output, detector, size, max_frames, workers, shards, ray):
                outcomes.append(outcome)
                progress.advance(bar)
        reasons = write_report(outcomes, output)
        write_dropped(outcomes, input, output)
    dropped = sum(reasons.values())
    if dropped:
        table = Table("dropped", "clips")
        for reason, number in reasons.items():
            table.add_row(reason, str(number))
        Console().print(table)
    typer.echo(f"{len(outcomes) - dropped} clips in {output}, {dropped} dropped; see {output / 'report.json'}.")


if __name__ == "__main__":
    typer.run(main)
