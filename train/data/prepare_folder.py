"""All clips of a folder: in one process or several, on a cluster, as files or in shards; and the report."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from talking_heads.errors import (
    MissingDependencyError,
    TalkingHeadsError,
    UnreadableMediaError,
)
from talking_heads.media.composing import contact_sheet
from talking_heads.media.images import read_photo, save_image
from talking_heads.media.reading import read_frames

from ..files import written_beside
from .clips import (
    Clip,
    load_clip,
    write_clip,
)
from .jobs import VIDEO_SUFFIXES, Job
from .prepare_clip import Options, Outcome, prepare_job
from .shards import load_shard, read_index, save_shard, shard_paths

SHOWN = 64
"""Clips on a contact sheet."""


@dataclass(frozen=True)
class Task:
    """Work for one process at a time: a clip in a file of its own, or a shard where ``number`` is given."""

    jobs: tuple[Job, ...]
    number: int | None = None


def run_task(task: Task, options: Options) -> list[Outcome]:
    """The same on one machine and on many: doing it twice makes the same files again."""
    if task.number is None:
        return [_run(job, options) for job in task.jobs]
    made = [prepare_job(job, options) for job in task.jobs]
    # webdataset takes what follows the first dot for a name's kind
    clips = {outcome.name.replace(".", "_"): clip for outcome, clip in made if clip is not None}
    outcomes = [outcome for outcome, _ in made]
    save_shard(options.output, task.number, clips, [asdict(outcome) for outcome in outcomes])
    return outcomes


def _run(job: Job, options: Options) -> Outcome:
    target = options.output / f"{job.name}.npz"
    if target.is_file():
        with contextlib.suppress(UnreadableMediaError):  # a damaged one is made again
            return Outcome(job.name, job.source, len(load_clip(target)))
    outcome, clip = prepare_job(job, options)
    if clip is not None:
        write_clip(target, clip)
    return outcome


def prepare(
    jobs: list[Job],
    output: Path,
    detector: str = "mediapipe",
    size: int = 256,
    max_frames: int = 250,
    workers: int = 1,
    shards: int | None = None,
    ray: str | None = None,
) -> Iterator[Outcome]:
    """Makes the clips, in ``workers`` processes or on the Ray cluster ``ray``; yields each outcome as it comes.

    ``shards``: how many sources make a shard; without it each clip is a file. MissingDependencyError without Ray.
    """
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.glob(".*.tmp"):  # of a run that was killed: one run at a time writes into a folder
        leftover.unlink()
    options = Options(output, detector, size, max_frames)
    if shards is None:
        tasks = [Task((job,)) for job in jobs]
    else:
        done = _in_shards(output)
        yield from (done[job.name] for job in jobs if job.name in done)
        tasks = _shard_tasks([job for job in jobs if job.name not in done], output, shards)
    if ray is not None:
        results = _on_cluster(tasks, options, ray)
    elif workers == 1:
        results = (run_task(task, options) for task in tasks)
    else:
        results = _in_pool(tasks, options, workers)
    for outcomes in results:
        yield from outcomes


def _in_shards(output: Path) -> dict[str, Outcome]:
    """What became of jobs whose shards are whole, by name."""
    done = {}
    for path in sorted(output.glob("shard-*.json")):
        with contextlib.suppress(UnreadableMediaError):  # a damaged one is made again
            load_shard(path)
            for source in read_index(path)["sources"]:
                done[source["name"]] = Outcome(**source | {"notes": tuple(source["notes"])})
    return done


def _shard_tasks(jobs: list[Job], output: Path, size: int) -> list[Task]:
    """Tasks for what is left to do, under the first free numbers: a run that goes on makes the shards of one that did
    not stop, and files that have come since make new ones."""
    parts = [tuple(jobs[i : i + size]) for i in range(0, len(jobs), size)]
    free = (number for number in count() if not shard_paths(output, number)[1].is_file())
    return [Task(part, number) for part, number in zip(parts, free, strict=False)]


def _in_pool(tasks: list[Task], options: Options, workers: int) -> Iterator[list[Outcome]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = [pool.submit(run_task, task, options) for task in tasks]
        try:
            for result in as_completed(results):
                yield result.result()
        except BrokenProcessPool:
            raise TalkingHeadsError(
                "A process was killed, perhaps for want of memory. Give the same command again, with fewer workers if "
                "it happens again: what is made stays."
            ) from None


def _on_cluster(tasks: list[Task], options: Options, address: str) -> Iterator[list[Outcome]]:
    """Runs tasks with Ray Data, which gives the task of a process or machine that dies to another one."""
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("Ray is not installed. Install it: pip install talking-heads[ray].") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address)
        except (ConnectionError, ValueError) as error:
            raise TalkingHeadsError(f"There is no Ray cluster at {address} ({error}). Start one: ray start.") from None
    # Arrow has columns for numbers and bytes, not for ours.
    rows = [{"task": pickle.dumps(task)} for task in tasks]
    if not rows:
        return

    def work(row: dict[str, bytes]) -> dict[str, bytes]:
        return {"outcomes": pickle.dumps(run_task(pickle.loads(row["task"]), options))}

    blocks = min(len(rows), 10_000)  # what is lost with a process is done again by the block
    for row in ray.data.from_items(rows, override_num_blocks=blocks).map(work).iter_rows():
        yield pickle.loads(row["outcomes"])


def write_report(outcomes: list[Outcome], output: Path) -> dict[str, int]:
    """``report.json`` (what was kept and dropped, and why) and contact sheets of some of both; returns the counts.

    ``report.png`` has one frame of up to 64 clips; ``dropped.png`` is written by ``write_dropped``.
    """
    outcomes = sorted(outcomes, key=lambda outcome: outcome.name)
    kept = [outcome for outcome in outcomes if not outcome.dropped]
    earlier = _earlier_notes(output / "report.json")
    notes = {outcome.name: list(outcome.notes) or earlier.get(outcome.name, []) for outcome in kept}
    reasons = dict(Counter(outcome.reason for outcome in outcomes if outcome.dropped).most_common())
    report = {
        "clips": len(kept),
        "frames": sum(outcome.frames for outcome in kept),
        "reasons": reasons,
        "dropped": [asdict(outcome) for outcome in outcomes if outcome.dropped],
        "notes": {name: sentences for name, sentences in notes.items() if sentences},
    }
    with written_beside(output / "report.json") as beside:
        beside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    if kept:
        stored = _stored(output)
        cells = [stored[outcome.name]().frame(0, 128)[0] for outcome in _some(kept)]
        _save_contact_sheet(cells, output / "report.png")
    return reasons


def write_dropped(outcomes: list[Outcome], folder: Path, output: Path) -> None:
    """``dropped.png``: the first frames of up to 64 sources that were dropped and can be read, by reason."""
    dropped = sorted((outcome for outcome in outcomes if outcome.dropped), key=lambda one: (one.reason, one.name))
    cells = []
    for outcome in _some(dropped):
        path = folder / outcome.source
        with contextlib.suppress(TalkingHeadsError):
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            frame = next(iter(read_frames(path))) if is_video else read_photo(path)
            cells.append(np.asarray(ImageOps.pad(Image.fromarray(frame), (128, 128))))
    if cells:
        _save_contact_sheet(cells, output / "dropped.png")


def _some(outcomes: list[Outcome]) -> list[Outcome]:
    if not outcomes:
        return []
    return [outcomes[i] for i in np.linspace(0, len(outcomes) - 1, min(SHOWN, len(outcomes))).astype(int)]


def _stored(output: Path) -> dict[str, Callable[[], Clip]]:
    """How to load each clip of a folder, by the name of its job."""
    stored: dict[str, Callable[[], Clip]] = {path.stem: partial(load_clip, path) for path in output.glob("*.npz")}
    for path in output.glob("shard-*.json"):
        names = [source["name"] for source in read_index(path)["sources"] if not source["dropped"]]
        stored |= {name: partial(_nth, path, i) for i, name in enumerate(names)}
    return stored


def _nth(path: Path, number: int) -> Clip:
    return load_shard(path)[number]


def _save_contact_sheet(cells: list[np.ndarray], path: Path) -> None:
    save_image(contact_sheet([cells[i : i + 8] for i in range(0, len(cells), 8)], size=128), path)


def _earlier_notes(report: Path) -> dict[str, list[str]]:
    """Notes from an earlier report, for clips that this run found ready made."""
    try:
        return dict(json.loads(report.read_text(encoding="utf-8"))["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
