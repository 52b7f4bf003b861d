"""Videos and photos -> prepared clips (clips.py): one face track each, cropped as at inference, with landmarks.

    python -m train.prepare --input FOLDER --output FOLDER [--index INDEX.csv]

Takes any folder of videos and photos. Who is who: the column ``identity`` of the index (with ``file`` and, optionally,
``split`` and ``licence``); without an index, the name of the file's folder inside of the input (VoxCeleb's
person/video/clip.mp4 gives the person), or of the file itself where it lies at the top. Photos of one person become one
clip of kind "stills". Run again after an interruption: what is there is not made again. ``report.json`` says what was
kept, what was dropped, and why.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageFilter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from talking_heads.errors import NoFaceError, TalkingHeadsError, UnreadableMediaError
from talking_heads.faces import crop_around, face_size, only_face, track_face
from talking_heads.images import read_photo
from talking_heads.landmarks import DETECTORS, LandmarkDetector, load_detector
from talking_heads.video import contact_sheet, probe, read_frames, save_image

from .clips import ClipMeta, load_clip, save_clip
from .terminal import mistakes_in_one_line

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg", ".gif", ".m4v"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
MIN_FACE_PIXELS = 64.0
"""Faces smaller than this (hairline to chin) are dropped: enlarged fourfold, they would teach blur."""
MIN_SEEN = 0.5
MIN_FRAMES = 8


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


def prepare_video(
    job: Job, detector: LandmarkDetector, size: int, max_frames: int
) -> tuple[list[np.ndarray], np.ndarray, ClipMeta]:
    """Two passes over the file, so that it is never in memory: track, then crop at most ``max_frames`` frames."""
    path = job.files[0]
    fps = probe(path).fps
    track = track_face(read_frames(path, fps=fps), detector, fps, name=path.name)
    face = float(np.median([face_size(points) for points in track.landmarks[track.seen]]))
    if face < MIN_FACE_PIXELS:
        raise NoFaceError(f"The face is {face:.0f} px high; {MIN_FACE_PIXELS:.0f} are needed.")
    if track.seen.mean() < MIN_SEEN or track.seen.sum() < MIN_FRAMES:
        raise NoFaceError(f"A face is seen in {track.seen.sum()} of {len(track)} frames only.")
    usable = np.flatnonzero(track.seen)
    kept = usable[np.linspace(0, len(usable) - 1, min(max_frames, len(usable))).round().astype(int)]
    wanted, frames, crop = set(kept.tolist()), [], None
    for i, frame in enumerate(read_frames(path, fps=fps)):
        crop = crop or crop_around(track.landmarks[track.seen], frame.shape[:2])
        if i in wanted:
            frames.append(crop.cut(frame, size))
    assert crop is not None
    landmarks = crop.to_crop(track.landmarks[kept], size)
    return frames, landmarks, _meta(job, "video", fps, face, frames, float(track.seen.mean()))


def prepare_stills(
    job: Job, detector: LandmarkDetector, size: int
) -> tuple[list[np.ndarray], np.ndarray, ClipMeta, list[str]]:
    """Each photo on its own crop; photos that cannot be used are left out and named in the last value."""
    frames, landmarks, faces, notes = [], [], [], []
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
        frames.append(crop.cut(image, size))
        landmarks.append(crop.to_crop(points, size))
        faces.append(face_size(points))
    if not frames:
        raise NoFaceError(" ".join(notes))
    meta = _meta(job, "stills", 0.0, float(np.median(faces)), frames, len(frames) / len(job.files))
    return frames, np.stack(landmarks), meta, notes


def _meta(job: Job, kind: str, fps: float, face: float, frames: list[np.ndarray], seen: float) -> ClipMeta:
    extra = {"face_pixels": face, "sharpness": sharpness(frames[len(frames) // 2]), "seen": seen}
    return ClipMeta(job.identity, job.source, job.split, fps, job.licence, kind, extra)


def sharpness(image: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey image: under about 3 is blurred."""
    grey = Image.fromarray(image).convert("L")
    kernel = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
    return float(np.asarray(grey.filter(kernel), dtype=np.float32)[1:-1, 1:-1].std())


_load_detector = cache(load_detector)  # one a process: loading costs more than a clip


def _run(job: Job, output: Path, detector_name: str, size: int, max_frames: int) -> Outcome:
    target = output / f"{job.name}.npz"
    if target.is_file():
        with contextlib.suppress(UnreadableMediaError):  # a damaged one is made again
            return Outcome(job.name, job.source, len(load_clip(target)))
    detector = _load_detector(detector_name)
    notes: list[str] = []
    try:
        if job.is_video:
            frames, landmarks, meta = prepare_video(job, detector, size, max_frames)
        else:
            frames, landmarks, meta, notes = prepare_stills(job, detector, size)
    except TalkingHeadsError as error:
        return Outcome(job.name, job.source, 0, dropped=str(error))
    save_clip(target, frames, landmarks, meta)
    return Outcome(job.name, job.source, len(frames), notes=tuple(notes))


def prepare(
    jobs: list[Job], output: Path, detector: str = "mediapipe", size: int = 256, max_frames: int = 250, workers: int = 1
) -> Iterator[Outcome]:
    """Makes the clips, in ``workers`` processes; yields each outcome as it comes."""
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.glob(".*.npz.*.tmp"):  # of a run that was killed: one run at a time writes into a folder
        leftover.unlink()
    if workers == 1:
        for job in jobs:
            yield _run(job, output, detector, size, max_frames)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_run, job, output, detector, size, max_frames) for job in jobs]
        for task in as_completed(tasks):
            yield task.result()


def write_report(outcomes: list[Outcome], output: Path) -> None:
    """``report.json`` (what was kept and dropped, and why) and ``report.png`` (one frame of up to 64 clips)."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.name)
    kept = [outcome for outcome in outcomes if not outcome.dropped]
    earlier = _earlier_notes(output / "report.json")
    notes = {outcome.name: list(outcome.notes) or earlier.get(outcome.name, []) for outcome in kept}
    report = {
        "clips": len(kept),
        "frames": sum(outcome.frames for outcome in kept),
        "dropped": [asdict(outcome) for outcome in outcomes if outcome.dropped],
        "notes": {name: sentences for name, sentences in notes.items() if sentences},
    }
    beside = output / ".report.json.tmp"
    beside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    beside.replace(output / "report.json")
    if kept:
        chosen = [kept[i] for i in np.linspace(0, len(kept) - 1, min(64, len(kept))).astype(int)]
        cells = [load_clip(output / f"{outcome.name}.npz").frame(0, 128)[0] for outcome in chosen]
        save_image(contact_sheet([cells[i : i + 8] for i in range(0, len(cells), 8)], size=128), output / "report.png")


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
) -> None:
    """Turn a folder of videos and photos into prepared clips for training."""
    if detector not in DETECTORS:
        raise typer.BadParameter(f"choose one of {', '.join(DETECTORS)}", param_hint="--detector")
    outcomes = []
    columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TextColumn("clips,"), TimeRemainingColumn())
    with mistakes_in_one_line():
        jobs = find_jobs(input, index, leave_out=output)
        with Progress(*columns) as progress:
            bar = progress.add_task("", total=len(jobs))
            for outcome in prepare(jobs, output, detector, size, max_frames, workers):
                outcomes.append(outcome)
                progress.advance(bar)
        write_report(outcomes, output)
    dropped = [outcome for outcome in outcomes if outcome.dropped]
    typer.echo(
        f"{len(outcomes) - len(dropped)} clips in {output}, {len(dropped)} dropped; see {output / 'report.json'}."
    )


if __name__ == "__main__":
    typer.run(main)
