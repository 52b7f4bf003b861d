"""Files of motion as the app Live Link Face writes them: one CSV row a frame.

What its recordings and the programs that exchange such files show:

* The header is ``Timecode,BlendShapeCount,EyeBlinkLeft,...,TongueOut,HeadYaw,...,RightEyeRoll``: names in UpperCamel.
* ``Timecode`` is ``HH:MM:SS:FF.mmm``, a time of day. FF counts frames within the second at the rate of the clock, which
  need not be the rate of the rows (a clock of 60 with a row every second frame is common), and .mmm is thousandths of a
  frame. Some programs write milliseconds in place of FF.
* ``BlendShapeCount`` is 61: the 52 coefficients and 9 angles. It is 0, and cells may be missing, where no face was
  seen.
* Angles are radians. In recordings the eyes' yaw falls when they look to the person's left, and the pitch rises when
  they look down, by about 0.61 a unit of the coefficients eyeLook*.

Assumed, as recordings with angles of the head were not at hand: they have the signs that senders to Unreal give them,
which are those of the eyes: HeadYaw positive towards the person's right, HeadPitch down, HeadRoll clockwise in the
image; they are applied in the order of ``head_rotation``; a device held upright; and a clock that shows real time.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import math
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import UnreadableMediaError
from ..files import unreadable, written_whole
from .motion import COEFFICIENTS, MAX_ROWS, Motion

_log = logging.getLogger(__name__)

_ANGLES = (
    *("HeadYaw", "HeadPitch", "HeadRoll"),
    *("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
)
_TRANSLATION, _SHOULDERS = ("TranslationX", "TranslationY", "TranslationZ"), ("ShouldersX", "ShouldersY")
_VALUES = (*(name[0].upper() + name[1:] for name in COEFFICIENTS), *_ANGLES)
_NUMERIC = ("BlendShapeCount", *_VALUES, *_TRANSLATION, *_SHOULDERS)
_TOLERATED = ("TongueOut", "LeftEyeRoll", "RightEyeRoll")
_HEAD_SIGNS = np.array([-1.0, 1.0, 1.0])
_GAZE_SIGNS = np.array([-1.0, 1.0, -1.0, 1.0])
_GAZE = [3, 4, 6, 7]  # among _ANGLES

_CHUNK = 20_000
_HALF_TURN = 3.15  # radians; what exceeds it must be degrees
_DEFAULT_FPS = 60.0


def write_csv(motion: Motion, path: Path) -> None:
    """See ``Motion.save``."""
    names = ["Timecode", "BlendShapeCount", *_VALUES]
    angles = np.zeros((len(motion), len(_ANGLES)))
    angles[:, :3] = np.radians(_within_half_turn(motion.head)) * _HEAD_SIGNS
    angles[:, _GAZE] = np.radians(_within_half_turn(motion.gaze)) * _GAZE_SIGNS
    columns = [motion.coefficients, angles]
    if motion.translation.any():
        names += _TRANSLATION
        columns.append(motion.translation)
    if motion.shoulders is not None:
        names += _SHOULDERS
        columns.append(motion.shoulders)
    line = "%s," + str(len(_VALUES)) + ",%.6f" * (len(names) - 2) + "\n"
    with written_whole(path) as file:
        file.write(",".join(names) + "\n")
        for start in range(0, len(motion), _CHUNK):
            rows = slice(start, start + _CHUNK)
            values = np.concatenate([column[rows].astype(np.float64) for column in columns], axis=1)
            values = np.round(values, 6) + 0.0  # no -0.0
            times = _timecodes(np.arange(start, start + len(values)), motion.fps)
            file.writelines(line % (time, *row) for time, row in zip(times, values.tolist(), strict=True))


def read_csv(path: Path, fps: float | None = None) -> Motion:
    """See ``Motion.load``."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return _read(file, path, fps)
    except UnicodeDecodeError as error:
        raise UnreadableMediaError(_not_ours(path)) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _within_half_turn(degrees: np.ndarray) -> np.ndarray:
    degrees = degrees.astype(np.float64)
    return np.where(np.abs(degrees) > 180, (degrees + 180) % 360 - 180, degrees)


# Timecodes ------------------------------------------------------------------------------------------------------------


def _timecodes(index: np.ndarray, fps: float) -> list[str]:
    """HH:MM:SS:FF.mmm of frames; the frame of index 1 begins a second."""
    rate = math.ceil(fps - 1e-6)
    time = math.ceil(1 / fps - 1e-9) + (index - 1) / fps
    seconds = np.floor(time + 1e-9)
    ticks = np.maximum(np.rint((time - seconds) * rate * 1000), 0).astype(np.int64)
    seconds = seconds.astype(np.int64) + ticks // (rate * 1000)
    frames, thousandths = np.divmod(ticks % (rate * 1000), 1000)
    minutes = seconds // 60
    table = np.stack([minutes // 60 % 24, minutes % 60, seconds % 60, frames, thousandths], axis=1)
    return [f"{h:02}:{m:02}:{s:02}:{f:02}.{rest:03}" for h, m, s, f, rest in table.tolist()]


def _timecode(text: str) -> tuple[float, float]:
    """Seconds of the day, and frames of the clock, of HH:MM:SS:FF.mmm or HH:MM:SS.mmm. Raises ValueError."""
    hours, minutes, seconds, *frames = text.replace(";", ":").split(":")  # ; marks dropped frame numbers
    if len(frames) > 1:
        raise ValueError(text)
    time = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    counted = float(frames[0]) if frames else 0.0
    if not (0 <= time < math.inf and 0 <= counted < math.inf):
        raise ValueError(text)
    return time, counted


def _rate(seconds: np.ndarray, frames: np.ndarray) -> float | None:
    """Rows a second, from seconds (T,) of the day and frames (T,) of the clock; None if they do not tell."""
    if len(seconds) < 2:
        return None
    seconds = seconds + 86400.0 * np.cumsum(np.diff(seconds, prepend=seconds[0]) < -43200)  # past midnight
    clock = _clock(seconds, frames)
    span = float(seconds[-1] + frames[-1] / clock - seconds[0] - frames[0] / clock)
    if span <= 0:
        return None
    fps = (len(seconds) - 1) / span
    # Thousandths of frames at both ends leave this much open, within which a usual rate is likelier.
    open_ = 1.2e-3 * fps * fps / clock / (len(seconds) - 1)
    usual = min((round(fps), round(2 * fps) / 2, round(fps * 1.001) / 1.001), key=lambda rate: abs(rate - fps))
    return usual if 0 < abs(usual - fps) <= open_ and usual > 0 else fps


def _clock(seconds: np.ndarray, frames: np.ndarray) -> int:
    """Frames that the clock counts in a second: more than any that it shows, and such that rows come evenly."""
    least = int(frames.max()) + 1
    count = len(seconds)
    if count == 2 and seconds[1] > seconds[0] and frames[1] == 0:  # as ``save`` writes them
        for clock in (least, least + 1):
            if math.ceil(clock / (clock * (seconds[1] - seconds[0]) - frames[0]) - 1e-2) == clock:
                return clock
    if count > 2 and seconds[-1] > seconds[0]:
        # seconds + frames / clock = start + index * step, solved for 1 / clock, step and start
        index = np.arange(count) / count
        system = np.stack([index, np.ones(count), -frames], axis=1)
        solution, _, rank, _ = np.linalg.lstsq(system, seconds - seconds[0], rcond=None)
        if rank == 3 and solution[2] > 1e-6:
            return max(round(1 / float(solution[2])), least)
    return next((usual for usual in (24, 25, 30, 48, 50, 60, 100, 120, 240, 1000) if usual >= least), least)


# Reading --------------------------------------------------------------------------------------------------------------


def _not_ours(path: Path) -> str:
    return f"{path} is no CSV of Live Link Face. Choose a file with the columns Timecode, EyeBlinkLeft and so on."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _columns(header: str, path: Path, timed: bool) -> tuple[dict[str, int], int]:
    """Where each column is, and how many there are. Says which are unknown, twice there, or missing."""
    cells = [cell.strip() for cell in next(csv.reader([header]))]
    known = {name.lower(): name for name in ("Timecode", *_NUMERIC)}
    names = [known.get(cell.lower()) for cell in cells]
    found: dict[str, int] = {name: k for k, name in enumerate(names) if name is not None}
    if not any(name in found for name in _VALUES):
        raise UnreadableMediaError(_not_ours(path))
    unknown = [cell or "(no name)" for cell, name in zip(cells, names, strict=True) if name is None]
    if unknown:
        raise UnreadableMediaError(f"{path} has unknown columns: {_listed(unknown)}. Remove them.")
    twice = [name for name in found if names.count(name) > 1]
    if twice:
        raise UnreadableMediaError(f"{path} has columns twice: {_listed(twice)}. Remove one of each.")
    wanted = [*(["Timecode"] if timed else []), *_VALUES]
    for group in (_TRANSLATION, _SHOULDERS):
        if any(name in found for name in group):
            wanted += group
    missing = [name for name in wanted if name not in found]
    lacking = [name for name in missing if name not in _TOLERATED]
    if lacking:
        raise UnreadableMediaError(f"{path} lacks columns: {_listed(lacking)}. Export it with all of them.")
    if missing:
        _log.warning("%s lacks %s: taken as 0.", path, _listed(missing))
    return found, len(cells)


def _read(file: TextIO, path: Path, fps: float | None) -> Motion:
    header = file.readline(1 << 16)
    if not header.strip():
        raise UnreadableMediaError(f"{path} is empty. Choose another file.")
    if "\0" in header:
        raise UnreadableMediaError(_not_ours(path))
    at, width = _columns(header, path, timed=fps is None)
    numeric = [name for name in _NUMERIC if name in at]
    blocks: list[np.ndarray] = []
    times: list[np.ndarray] = []
    rows, count = 1, 0
    while lines := list(islice(file, _CHUNK)):
        numbered = [(rows + k, line) for k, line in enumerate(lines, start=1) if line.strip()]
        rows += len(lines)
        count += len(numbered)
        if count > MAX_ROWS:
            raise UnreadableMediaError(f"{path} has more than {MAX_ROWS:,} rows. Cut it into shorter files.")
        if numbered:
            numbered = [(row, _whole(line, row, at, width, path)) for row, line in numbered]
            blocks.append(_block(numbered, at, numeric, path))
            if fps is None:
                times.append(_times(numbered, at["Timecode"], path))
    if not blocks:
        raise UnreadableMediaError(f"{path} has a header but no rows. Choose another file.")
    table = np.concatenate(blocks)
    blocks.clear()
    if fps is None:
        fps = _rate(*np.concatenate(times).T)
        if fps is None:
            _log.warning("The timecodes of %s do not tell its rate: taken as %g a second.", path, _DEFAULT_FPS)
            fps = _DEFAULT_FPS
    return _motion(table, {name: k for k, name in enumerate(numeric)}, fps, path)


def _whole(line: str, row: int, at: dict[str, int], width: int, path: Path) -> str:
    """A row with as many cells as the header; one without a face may have less and gets zeros."""
    if line.count(",") == width - 1 and ",," not in line:
        return line
    cells = [cell.strip() for cell in line.split(",")]
    counted = at.get("BlendShapeCount", width)
    if len(cells) > counted and cells[counted] == "0" and len(cells) <= width:
        return ",".join(cell or "0" for cell in cells + [""] * (width - len(cells)))
    if len(cells) != width:
        raise UnreadableMediaError(
            f"{path} has {len(cells)} cells in row {row} where the header has {width}. Correct or remove that row."
        )
    return line


def _block(numbered: list[tuple[int, str]], at: dict[str, int], numeric: list[str], path: Path) -> np.ndarray:
    """Rows -> float32 (rows, columns) in the order of ``numeric``. Names the first cell that is no finite number."""
    lines = [line for _, line in numbered]
    columns = [at[name] for name in numeric]
    with contextlib.suppress(ValueError):
        values = np.loadtxt(
            lines, np.float32, comments=None, delimiter=",", usecols=columns, quotechar='"', ndmin=2, encoding=None
        )
        if np.isfinite(values).all():
            return values
    for row, line in numbered:
        cells = next(csv.reader([line]))
        for name in numeric:
            cell = cells[at[name]].strip() if at[name] < len(cells) else ""
            if not _finite(cell):
                raise UnreadableMediaError(
                    f"{path} has {cell[:40]!r} in row {row}, column {name}, where a number is needed. Correct that row."
                )
    raise UnreadableMediaError(_not_ours(path))


def _finite(cell: str) -> bool:
    try:
        return abs(float(cell)) < float(np.finfo(np.float32).max)
    except ValueError:
        return False


def _times(numbered: list[tuple[int, str]], column: int, path: Path) -> np.ndarray:
    """Timecodes -> float64 (rows, 2): seconds and frames."""
    times = []
    for row, line in numbered:
        cell = line.split(",", column + 1)[column].strip().strip('"')
        try:
            times.append(_timecode(cell))
        except ValueError:
            raise UnreadableMediaError(
                f"{path} has {cell[:40]!r} in row {row}, column Timecode, where HH:MM:SS:FF.mmm is needed. Correct it, "
                "or say how many frames a second there are."
            ) from None
    return np.array(times)


def _motion(table: np.ndarray, at: dict[str, int], fps: float, path: Path) -> Motion:
    def columns(names: Iterable[str]) -> np.ndarray:
        zero = np.zeros(len(table), np.float32)
        return np.stack([table[:, at[name]] if name in at else zero for name in names], axis=1)

    seen = table[:, at["BlendShapeCount"]] > 0 if "BlendShapeCount" in at else np.ones(len(table), bool)
    if not seen.any():
        if not np.delete(table, at["BlendShapeCount"], axis=1).any():
            raise UnreadableMediaError(f"{path} has no row in which a face was seen. Choose another file.")
        seen = ~seen  # a program that does not count
    if not seen.all():
        last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
        table = table[np.where(last < 0, np.argmax(seen), last)]
    coefficients = columns(_VALUES[: len(COEFFICIENTS)])
    beyond = int(((coefficients < -1e-3) | (coefficients > 1 + 1e-3)).sum())
    if beyond:
        _log.warning("%s has %d coefficients beyond 0 and 1: clipped.", path, beyond)
    angles = columns(_ANGLES)
    if np.abs(angles).max() > _HALF_TURN:
        _log.warning("%s has angles beyond half a turn of radians: read as degrees.", path)
    else:
        angles = np.degrees(angles)
    return Motion(
        np.clip(coefficients, 0, 1),
        angles[:, :3] * _HEAD_SIGNS,
        angles[:, _GAZE] * _GAZE_SIGNS,
        columns(_TRANSLATION),
        fps,
        seen,
        shoulders=columns(_SHOULDERS) if _SHOULDERS[0] in at else None,
    )
