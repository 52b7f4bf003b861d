"""Many videos by one command: batch."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import TalkingHeadsError, UnreadableMediaError
from ..files import written_whole
from .options import Detector, Device, Engine, Label, Model, app
from .shared import (
    DriverOptions,
    check_photos,
    load_avatar,
    load_driver,
    load_signing_pipeline,
    pixels_for,
    printed_notes,
    progress_bars,
)

if TYPE_CHECKING:
    from ..pipeline import TalkingHeadPipeline

SOURCES = ("driving", "voice", "motion_file", "preset")
COLUMNS = ("photos", "avatar", *SOURCES, "text", "parts", "size", "background", "output")
REPORT = ("row", "output", "result", "seconds", "sentence")


@dataclass(frozen=True)
class Job:
    """One row of a file of jobs."""

    row: int
    values: dict[str, str]
    folder: Path
    """Folder of the CSV file: relative paths in it start there."""

    @property
    def output(self) -> Path:
        return self.folder / self.values["output"]

    def path(self, column: str) -> Path:
        return self.folder / self.values[column]

    def words(self, column: str) -> list[str]:
        return self.values.get(column, "").split()


def read_jobs(path: Path) -> list[Job]:
    """Raises UnreadableMediaError with a sentence that names the row and the column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = [name.strip() for name in rows.fieldnames or ()]
            unknown = [name for name in names if name not in COLUMNS]
            if unknown or "output" not in names:
                wrong = f"has unknown columns: {', '.join(unknown)}" if unknown else "lacks the column output"
                raise UnreadableMediaError(f"{path} {wrong}. There are {', '.join(COLUMNS)}.")
            cells = [[(cell or "").strip() for cell in row.values()] for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise UnreadableMediaError(f"{path} is no CSV of jobs ({error}).") from error
    jobs = []
    for number, row in enumerate(cells, start=2):
        values = {name: cell for name, cell in zip(names, row, strict=True) if cell}
        if not values:
            continue
        for needed, choice in (("photos or avatar", ("photos", "avatar")), ("one driver", SOURCES)):
            if sum(name in values for name in choice) != 1:
                raise UnreadableMediaError(f"{path}, row {number}: give {needed}, one of {', '.join(choice)}.")
        if "output" not in values:
            raise UnreadableMediaError(f"{path}, row {number}: say where the output goes.")
        jobs.append(Job(number, values, path.parent))
    if not jobs:
        raise UnreadableMediaError(f"{path} holds no jobs.")
    return jobs


@app.command()
def batch(
    jobs: Annotated[Path, typer.Argument(help=f"A csv with a row for each video: {', '.join(COLUMNS)}.")],
    report: Annotated[
        Path | None, typer.Option(help="The csv to write.", show_default="beside the jobs, -report.csv")
    ] = None,
    label: Label = False,
    model: Model = None,
    detector: Detector = "mediapipe",
    device: Device = None,
    engine: Engine = "auto",
) -> None:
    """Many videos with one start; what is there already is left, and a row that fails does not stop the others."""
    wanted = read_jobs(jobs)
    place = jobs.with_name(f"{jobs.stem}-report.csv") if report is None else report
    pipe = load_signing_pipeline(model, detector, device, engine)
    lines: list[dict[str, Any]] = []
    for count, job in enumerate(wanted, start=1):
        typer.echo(f"{count} of {len(wanted)}: {job.output}", err=True)
        lines.append(_done(job, pipe, label))
        _write_report(place, lines)
    failed = sum(line["result"] == "failed" for line in lines)
    typer.echo(place)
    if failed:
        raise UnreadableMediaError(f"{failed} of {len(wanted)} jobs failed; {place} says why.")


def _done(job: Job, pipe: TalkingHeadPipeline, label: bool) -> dict[str, Any]:
    """A line of the report."""
    line: dict[str, Any] = {"row": job.row, "output": str(job.output), "sentence": ""}
    if job.output.exists():
        return line | {"result": "was there", "seconds": ""}
    begin = time.monotonic()
    try:
        with printed_notes():
            _make(job, pipe, label)
    except (TalkingHeadsError, ValueError, typer.BadParameter) as error:
        return line | {"result": "failed", "seconds": "", "sentence": " ".join(str(error).split())}
    return line | {"result": "made", "seconds": f"{time.monotonic() - begin:.1f}"}


def _make(job: Job, pipe: TalkingHeadPipeline, label: bool) -> None:
    from ..media.background import check_output, parse_background

    photos = [job.folder / word for word in job.words("photos")]
    check_photos(photos)
    backdrop = parse_background(job.values.get("background", "keep"))
    check_output(backdrop, job.output)
    files = {name: job.path(name) for name in SOURCES if name in job.values}
    given = DriverOptions(
        files.get("driving"), files.get("voice"), files.get("motion_file"), job.values.get("preset"),
        text=job.values.get("text"),
    )  # fmt: skip
    driver = load_driver(given, job.output)
    person = load_avatar(str(job.path("avatar")), pipe) if "avatar" in job.values else pipe.create_avatar(photos)
    pixels = pixels_for(pipe, person, job.values.get("size"), backdrop)
    with progress_bars() as show:
        video = pipe(
            person, driver.motion, parts=job.words("parts"), size=pixels, background=backdrop, sound=driver.voice,
            on_progress=show,
        )  # fmt: skip
        video.save(job.output, show, label=label)


def _write_report(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Written anew after each job."""
    with written_whole(path, "utf-8") as file:
        writer = csv.DictWriter(file, REPORT)
        writer.writeheader()
        writer.writerows(lines)
