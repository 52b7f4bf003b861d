"""Finds the videos and photos of a folder, and who is seen in them."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from talking_heads.errors import (
    UnreadableMediaError,
)

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg", ".gif", ".m4v"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Job:
    """One clip to make: a video, or all photos of one person."""

    name: str
    files: tuple[Path, ...]
    person: str
    split: str
    licence: str
    source: str

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() in VIDEO_SUFFIXES


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
        person = row.get("identity") or (relative.parts[0] if len(relative.parts) > 1 else path.stem)
        split, licence = row.get("split") or "train", row.get("licence") or ""
        if suffix in VIDEO_SUFFIXES:
            name = "__".join([person, *relative.with_suffix("").parts])
            jobs.append(Job(_file_name(name), (path,), person, split, licence, relative.as_posix()))
        else:
            stills[person, split].append((path, licence))
    for (person, split), photos in stills.items():
        files = tuple(path for path, _ in photos)
        source = files[0].relative_to(folder).as_posix()
        licence = "; ".join(sorted({licence for _, licence in photos if licence}))
        jobs.append(Job(_file_name(f"{person}__stills"), files, person, split, licence, source))
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
