"""Videos and photos -> prepared clips (clips.py): one face track each, cropped as at inference, with landmarks and
masks.

    python -m train.prepare --input FOLDER --output FOLDER [--index INDEX.csv] [--workers 8]
    python -m train.prepare --input FOLDER --output FOLDER --shards 1000 [--ray auto]       millions of clips

Takes any folder of videos and photos. Who is who: the column ``identity`` of the index (with ``file`` and, optionally,
``split`` and ``licence``); without an index, the name of the file's folder inside of the input (VoxCeleb's
person/video/clip.mp4 gives the person), or of the file itself where it lies at the top. Photos of one person become one
clip of kind "stills". Run again after an interruption: what is there is not made again. ``report.json`` says what was
kept, what was dropped, and why; ``report.png`` and ``dropped.png`` show some of both.

Clips are files of their own, or, with ``--shards``, go into tars (shards.py), each made of so many sources by one
process. With ``--ray`` the same work is done on the machines of a Ray cluster, which need the folders in common.
"""

from __future__ import annotations

import contextlib
import csv
import json
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageFilter, ImageOps

from talking_heads.errors import (
    FaceError,
    MissingDependencyError,
    NoFaceError,
    SeveralFacesError,
    TalkingHeadsError,
    UnreadableMediaError,
)
from talking_heads.faces import Crop, crop_around, face_size, main_faces, only_face, track_face
from talking_heads.images import read_photo
from talking_heads.landmarks import DETECTORS, LandmarkDetector, load_detector
from talking_heads.segmentation import person_mask
from talking_heads.video import contact_sheet, probe, read_frames, save_image

from .clips import (
    Clip,
    ClipMeta,
    canvas_margin,
    canvas_side,
    cut_mask,
    in_crop,
    load_clip,
    make_clip,
    widened,
    write_clip,
    written_beside,
)
from .shards import load_shard, read_index, save_shard, shard_paths
from .terminal import mistakes_in_one_line

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg", ".gif", ".m4v"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
MIN_FACE_PIXELS = 64.0
"""Faces smaller than this (hairline to chin) are dropped: enlarged fourfold, they would teach blur."""
MIN_SEEN = 0.5
MIN_FRAMES = 8
MIN_SHARPNESS = 3.0
CUT = 40.0
"""Mean difference of two frames' thumbnails, 0 to 255, from which the one does not follow on the other."""
MAX_FROZEN = 0.5
"""Share of frames that may be like the one before."""
LOOKS = 5
"""Frames of a video that are looked at for other people and for blur."""
SHOWN = 64
"""Clips on a contact sheet."""


@dataclass(frozen=True)
class Job:
    """One clip to make: a video, or all photos of one person."""

    name: str
    files: tuple[Path, ...]
    identity: str
    split: str
    licence: str
    source: str

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``dropped`` is a reason, or empty for a clip that was kept."""

    name: str
    source: str
    frames: int
    dropped: str = ""
    notes: tuple[str, ...] = ()
    reason: str = ""
    """Of ``dropped`` in two words, to be counted."""


class RefusedError(FaceError):
    """A clip that shows a face, and of which nothing good could be learned; ``reason`` in two words."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Options:
    """How clips are made, and where they go."""

    output: Path
    detector: str = "mediapipe"
    size: int = 256
    max_frames: int = 250


def find_jobs(folder: Path, index: Path | None, leave_out: Path | None = None) -> list[Job]:
    """The clips that can be made from a folder, save what lies in ``leave_out``, in the order of their names."""
    rows = _read_index(index) if index else {}
    stills: dict[tuple[str, str], list[tuple[Path, str]]] = defaultdict(list)
    jobs = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        suffix = path.suffix.lower()
        if suffix not in VIDEO_SUFFIXES | PHOTO_SUFFIXES:
            continue
        if leave_out is not None and path.resolve().is_relative_to(leave_out.resolve()):
            continue
        relative = path.relative_to(folder)
        row = _row_for(relative, folder, rows)
        if index and row is None:
            continue
        row = row or {}
        identity = row.get("identity") or (relative.parts[0] if len(relative.parts) > 1 else path.stem)
        split, licence = row.get("split") or "train", row.get("licence") or ""
        if suffix in VIDEO_SUFFIXES:
            name = "__".join([identity, *relative.with_suffix("").parts])
            jobs.append(Job(_file_name(name), (path,), identity, split, licence, relative.as_posix()))
        else:
            stills[identity, split].append((path, licence))
    for (identity, split), photos in stills.items():
        files = tuple(path for path, _ in photos)
        source = files[0].relative_to(folder).as_posix()
        licence = "; ".join(sorted({licence for _, licence in photos if licence}))
        jobs.append(Job(_file_name(f"{identity}__stills"), files, identity, split, licence, source))
    if not jobs:
        which = f" that {index} names" if index else ""
        raise UnreadableMediaError(f"There are no videos or photos in {folder}{which}. Give a folder that holds some.")
    # Two files that differ in their suffix only, or photos of one person in two splits, would share a name.
    names = Counter(job.name for job in jobs)
    jobs = [job if names[job.name] == 1 else replace(job, name=_longer_name(job)) for job in jobs]
    return sorted(jobs, key=lambda job: job.name)


def _file_name(text: str) -> str:
    return text.replace("/", "_").replace("\\", "_").lstrip(".")


def _longer_name(job: Job) -> str:
    return f"{job.name}__{job.files[0].suffix[1:] if job.is_video else f'photos_{job.split}'}"


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableMediaError(f"{path} is not a CSV file in UTF-8 ({error}). Save it again.") from error
    if not rows or "file" not in rows[0]:
        raise UnreadableMediaError(f"{path} has no column 'file'. An index needs: file, identity, split.")
    return {row["file"]: row for row in rows}


def _row_for(relative: Path, folder: Path, rows: dict[str, dict[str, str]]) -> dict[str, str] | None:
    """An index may name files from the input folder or from a folder above it."""
    full = (folder.resolve() / relative).parts
    for start in range(len(full) - len(relative.parts), max(len(full) - len(relative.parts) - 4, 0), -1):
        row = rows.get("/".join(full[start:]))
        if row is not None:
            return row
    return None


def prepare_video(job: Job, detector: LandmarkDetector, size: int, max_frames: int) -> Clip:
    """Two passes over the file, so that it is never in memory: track, then crop at most ``max_frames`` frames."""
    path = job.files[0]
    fps = probe(path).fps
    steps: list[float] = []
    track = track_face(_watched(read_frames(path, fps=fps), steps), detector, fps, name=path.name)
    face = float(np.median([face_size(points) for points in track.landmarks[track.seen]]))
    if face < MIN_FACE_PIXELS:
        raise RefusedError("small face", f"The face is {face:.0f} px high; {MIN_FACE_PIXELS:.0f} are needed.")
    if track.seen.mean() < MIN_SEEN or track.seen.sum() < MIN_FRAMES:
        raise RefusedError("seldom seen", f"A face is seen in {track.seen.sum()} of {len(track)} frames only.")
    if max(steps) > CUT:
        raise RefusedError("cut", f"There is a cut at {(1 + int(np.argmax(steps))) / fps:.1f} s.")
    frozen = float(np.mean([step == 0 for step in steps]))
    if frozen > MAX_FROZEN:
        raise RefusedError("frozen", f"{100 * frozen:.0f} % of the frames are like the one before.")
    usable = np.flatnonzero(track.seen)
    kept = usable[np.linspace(0, len(usable) - 1, min(max_frames, len(usable))).round().astype(int)]
    looks = set(kept[np.linspace(0, len(kept) - 1, LOOKS).round().astype(int)].tolist())
    wanted, canvases, masks, crop, crowded = set(kept.tolist()), [], [], None, 0
    for i, frame in enumerate(read_frames(path, fps=fps)):
        crop = crop or crop_around(track.landmarks[track.seen], frame.shape[:2])
        if i in wanted:
            canvas, mask = _canvas(crop, frame, size)
            canvases.append(canvas)
            masks.append(mask)
        if i in looks:
            with contextlib.suppress(NoFaceError):  # a search without a hint may miss whom the track follows
                crowded += len(main_faces(frame, detector)) > 1
    if crowded > len(looks) // 2:
        raise RefusedError(
            "two people", f"Two people are seen in {crowded} of {len(looks)} frames that were looked at."
        )
    crops = [_crop_of(canvas, size) for canvas in canvases]
    _check_sharpness(crops)
    assert crop is not None
    landmarks = in_crop(crop.to_crop(track.landmarks[kept], size), size)
    return make_clip(canvases, masks, landmarks, _meta(job, "video", fps, face, crops, float(track.seen.mean())))


def _canvas(crop: Crop, image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop of ``size`` pixels with its margins, uint8 (C, C, 3), and the mask of the person, uint8 (C, C)."""
    wide, side = widened(crop), canvas_side(size)
    return wide.cut(image, side), cut_mask(wide, person_mask(image), side)


def _crop_of(canvas: np.ndarray, size: int) -> np.ndarray:
    edge = canvas_margin(size)
    return np.ascontiguousarray(canvas[edge : edge + size, edge : edge + size])


def _watched(frames: Iterator[np.ndarray], steps: list[float]) -> Iterator[np.ndarray]:
    """The frames as they are; ``steps`` gets the mean difference of each to the one before, 0 where nothing moved."""
    before = None
    for frame in frames:
        now = np.asarray(Image.fromarray(frame).convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
        if before is not None:
            difference = np.abs(now - before)
            steps.append(float(difference.mean()) if difference.max() > 1 else 0.0)
        before = now
        yield frame


def _check_sharpness(frames: list[np.ndarray]) -> None:
    """RefusedError where most crops are blurred."""
    looks = [frames[i] for i in np.linspace(0, len(frames) - 1, min(LOOKS, len(frames))).round().astype(int)]
    measured = float(np.median([sharpness(frame) for frame in looks]))
    if measured < MIN_SHARPNESS:
        raise RefusedError("blurred", f"The face is blurred: sharpness {measured:.1f}, {MIN_SHARPNESS:.0f} is needed.")


def prepare_stills(job: Job, detector: LandmarkDetector, size: int) -> tuple[Clip, list[str]]:
    """Each photo on its own crop; photos that cannot be used are left out and named in the last value."""
    canvases, masks, landmarks, faces, notes = [], [], [], [], []
    for path in job.files:
        try:
            image = read_photo(path)
            points = only_face(image, detector, path.name)
        except TalkingHeadsError as error:
            notes.append(str(error))
            continue
        if face_size(points) < MIN_FACE_PIXELS:
            notes.append(f"The face in {path.name} is too small.")
            continue
        crop = crop_around(points, image.shape[:2])
        canvas, mask = _canvas(crop, image, size)
        canvases.append(canvas)
        masks.append(mask)
        landmarks.append(in_crop(crop.to_crop(points, size), size))
        faces.append(face_size(points))
    if not canvases:
        raise NoFaceError(" ".join(notes))
    crops = [_crop_of(canvas, size) for canvas in canvases]
    _check_sharpness(crops)
    meta = _meta(job, "stills", 0.0, float(np.median(faces)), crops, len(crops) / len(job.files))
    return make_clip(canvases, masks, np.stack(landmarks), meta), notes


def _meta(job: Job, kind: str, fps: float, face: float, frames: list[np.ndarray], seen: float) -> ClipMeta:
    extra = {"face_pixels": face, "sharpness": sharpness(frames[len(frames) // 2]), "seen": seen}
    return ClipMeta(job.identity, job.source, job.split, fps, job.licence, kind, extra)


def sharpness(image: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey image: under about 3 is blurred."""
    grey = Image.fromarray(image).convert("L")
    kernel = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
    return float(np.asarray(grey.filter(kernel), dtype=np.float32)[1:-1, 1:-1].std())


_load_detector = cache(load_detector)  # one a process: loading costs more than a clip


def _make(job: Job, options: Options) -> tuple[Outcome, Clip | None]:
    """The clip of a job, or none, and why."""
    detector = _load_detector(options.detector)
    notes: list[str] = []
    try:
        if job.is_video:
            clip = prepare_video(job, detector, options.size, options.max_frames)
        else:
            clip, notes = prepare_stills(job, detector, options.size)
    except TalkingHeadsError as error:
        return Outcome(job.name, job.source, 0, dropped=str(error), reason=_reason(error)), None
    return Outcome(job.name, job.source, len(clip), notes=tuple(notes)), clip


def _reason(error: TalkingHeadsError) -> str:
    if isinstance(error, RefusedError):
        return error.reason
    if isinstance(error, SeveralFacesError):
        return "two people"
    return "no face" if isinstance(error, NoFaceError) else "unreadable"


@dataclass(frozen=True)
class Task:
    """What one process does at a time: a clip of its own file, or a shard where ``number`` is one."""

    jobs: tuple[Job, ...]
    number: int | None = None


def run_task(task: Task, options: Options) -> list[Outcome]:
    """The same on one machine and on many: doing it twice makes the same files again."""
    if task.number is None:
        return [_run(job, options) for job in task.jobs]
    made = [_make(job, options) for job in task.jobs]
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
    outcome, clip = _make(job, options)
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
    """By Ray Data, which gives the task of a process or machine that dies to another one."""
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
        _save_sheet(cells, output / "report.png")
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
        _save_sheet(cells, output / "dropped.png")


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


def _save_sheet(cells: list[np.ndarray], path: Path) -> None:
    save_image(contact_sheet([cells[i : i + 8] for i in range(0, len(cells), 8)], size=128), path)


def _earlier_notes(report: Path) -> dict[str, list[str]]:
    """Of clips that this run found ready made."""
    try:
        return dict(json.loads(report.read_text(encoding="utf-8"))["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
