"""The vocabulary of movement: 52 ARKit coefficients, angles of the head and of the eyes, and the way of the head.

Motion is stored as the app Live Link Face stores it, one CSV row a frame. What its recordings and the programs that
exchange such files show:

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
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import UnreadableMediaError
from ..files import unreadable, written_whole

_log = logging.getLogger(__name__)


def _both(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("Left", "Right"))


_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")

COEFFICIENTS: tuple[str, ...] = (
    *(name + "Left" for name in _EYE),
    *(name + "Right" for name in _EYE),
    *("jawForward", "jawRight", "jawLeft", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft"),
    *_both("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_both("mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *_both("browDown"),
    "browInnerUp",
    *_both("browOuterUp"),
    "cheekPuff",
    *_both("cheekSquint", "noseSneer"),
    "tongueOut",
)
"""The 52 names of ARKit, in the order of the columns. Left and right are the person's."""

INDEX: dict[str, int] = {name: k for k, name in enumerate(COEFFICIENTS)}
"""Column of each coefficient."""


def _starting(*starts: str) -> tuple[str, ...]:
    return tuple(name for name in COEFFICIENTS if name.startswith(starts))


PARTS: dict[str, tuple[str, ...]] = {
    "lips": _starting("jaw", "mouth", "tongueOut", "cheekPuff"),
    "eyes": (*_starting("eye", "cheekSquint"), "gaze"),
    "brows": _starting("brow"),
    "expression": (*COEFFICIENTS, "gaze"),
    "head": ("head", "translation"),
}
"""What can be taken from a motion: coefficients, and the names of other fields of Motion."""

GAZE_AT_ONE = (25.0, 20.0)
"""Degrees to the side and up or down of an eye whose eyeLook coefficient is one."""
_ANGLES = (
    *("HeadYaw", "HeadPitch", "HeadRoll"),
    *("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
)
_TRANSLATION = ("TranslationX", "TranslationY", "TranslationZ")
_VALUES = (*(name[0].upper() + name[1:] for name in COEFFICIENTS), *_ANGLES)
_TOLERATED = ("TongueOut", "LeftEyeRoll", "RightEyeRoll")
_HEAD_SIGNS = np.array([-1.0, 1.0, 1.0])
_GAZE_SIGNS = np.array([-1.0, 1.0, -1.0, 1.0])
_GAZE = [3, 4, 6, 7]  # among _ANGLES

MAX_ROWS = 1_000_000
"""Rows that a file may have: 4 hours and a half at 60 a second."""
_CHUNK = 20_000
_HALF_TURN = 3.15  # radians; what exceeds it must be degrees
_DEFAULT_FPS = 60.0

_ALL_SEEN = np.zeros(0, bool)
_NO_DETAIL = np.zeros((0, 0), np.float32)
DETAIL_LIDS, DETAIL_LIPS = slice(0, 36), slice(36, 96)
_WIDTHS = {"coefficients": len(COEFFICIENTS), "head": 3, "gaze": 4, "translation": 3, "detail": DETAIL_LIPS.stop}


@dataclass(frozen=True, eq=False)
class Motion:
    """How a face moves, frame by frame. Raises ValueError for wrong shapes, values or rates, and for no frames.

    Signs of all angles, in degrees: yaw is positive towards the image's right (the person's left), pitch down, roll
    clockwise in the image. A motion may hold what a camera saw, or changes from a rest (as presets do).
    """

    coefficients: np.ndarray
    """float32 (T, 52) in 0..1, in the order of COEFFICIENTS."""
    head: np.ndarray
    """float32 (T, 3) degrees: yaw, pitch, roll."""
    gaze: np.ndarray
    """float32 (T, 4) degrees from straight ahead in the head: left eye yaw, pitch, right eye yaw, pitch."""
    translation: np.ndarray
    """float32 (T, 3) cm: to the image's right, up, towards the camera."""
    fps: float
    """Frames a second."""
    seen: np.ndarray = field(default_factory=lambda: _ALL_SEEN)
    """bool (T,): whether the face was seen; where it was not, values are guesses. Left out: seen in all frames."""
    detail: np.ndarray = field(default_factory=lambda: _NO_DETAIL, repr=False)
    """float32 (T, 96) cm: what coefficients cannot say of lids (12 points) and lips (20), see ``fit.MOUTH_AND_LIDS``,
    x, y, z each in the head's axes. Left out: none. Files do not keep it."""

    def __post_init__(self) -> None:
        frames = np.shape(self.coefficients)[:1]
        if self.detail is _NO_DETAIL:
            object.__setattr__(self, "detail", np.zeros((*frames, DETAIL_LIPS.stop), np.float32))
        for name, width in _WIDTHS.items():
            values = np.asarray(getattr(self, name), np.float32)
            if values.shape != (*frames, width):
                raise ValueError(f"{name} must have the shape (frames, {width}), got {values.shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite")
            object.__setattr__(self, name, values)
        if frames == (0,):
            raise ValueError("a motion has one frame at least")
        low, high = float(self.coefficients.min()), float(self.coefficients.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(f"coefficients must lie between 0 and 1, got {low if low < -1e-3 else high:g}")
        if low < 0 or high > 1:  # rounding
            object.__setattr__(self, "coefficients", np.clip(self.coefficients, 0, 1))
        object.__setattr__(self, "fps", _checked_fps(self.fps))
        seen = np.ones(frames, bool) if self.seen is _ALL_SEEN else np.asarray(self.seen)
        if seen.shape != frames or seen.dtype != bool:
            raise ValueError(f"seen must be bool of the shape (frames,), got {seen.dtype} {seen.shape}")
        object.__setattr__(self, "seen", seen)

    @classmethod
    def rest(cls, frames: int, fps: float) -> Motion:
        """Nothing moves: all zeros."""
        zeros = {name: np.zeros((frames, width)) for name, width in _WIDTHS.items()}
        return cls(**zeros, fps=fps)

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, frames: slice) -> Motion:
        """Some of the frames, at the same rate; a step other than 1 therefore changes the speed."""
        if not isinstance(frames, slice):
            raise TypeError("a motion is cut by slices, such as motion[3:4]")
        return self._taken(frames)

    @property
    def duration(self) -> float:
        """Seconds; each frame lasts 1 / fps."""
        return len(self) / self.fps

    def _taken(self, frames: slice | np.ndarray) -> Motion:
        return Motion(
            self.coefficients[frames],
            self.head[frames],
            self.gaze[frames],
            self.translation[frames],
            self.fps,
            self.seen[frames],
            self.detail[frames],
        )

    def scaled(self, head: float = 1.0, expression: float = 1.0, gaze: float = 1.0) -> Motion:
        """Stronger or weaker, by factors of 0 or more (ValueError). Coefficients are clipped to 0..1.

        ``head`` scales angles and translation, ``gaze`` the eyes' angles and eyeLook*, ``expression`` the rest.
        """
        for name, factor in (("head", head), ("expression", expression), ("gaze", gaze)):
            if not 0 <= factor < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {factor}")
        factors = np.array([gaze if name.startswith("eyeLook") else expression for name in COEFFICIENTS])
        return replace(
            self,
            coefficients=np.clip(self.coefficients * factors, 0, 1),
            head=self.head * head,
            gaze=self.gaze * gaze,
            translation=self.translation * head,
            detail=self.detail * expression,
        )

    def only(self, *parts: str) -> Motion:
        """What the parts hold; all else at rest. Raises ValueError for a name that is none of PARTS."""
        return Motion.rest(len(self), self.fps)._with(self, parts, self.seen)

    def with_parts(self, other: Motion, *parts: str) -> Motion:
        """This motion with parts of another, which must have as many frames and the same rate (ValueError).

        Raises ValueError for a name that is none of PARTS.
        """
        if len(other) != len(self) or not math.isclose(other.fps, self.fps, rel_tol=1e-6):
            raise ValueError(
                f"both motions must have the same frames and rate, got {len(self)} at {self.fps:g} and {len(other)} "
                f"at {other.fps:g}"
            )
        return self._with(other, parts, self.seen & other.seen)

    def _with(self, other: Motion, parts: Iterable[str], seen: np.ndarray) -> Motion:
        names: set[str] = set()
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"There is no part {part!r}. Choose among {', '.join(PARTS)}.")
            names.update(PARTS[part])
        columns = np.array([name in names for name in COEFFICIENTS])
        taken = {
            name: np.array(getattr(other if name in names else self, name)) for name in ("head", "gaze", "translation")
        }
        mixed = np.where(columns, other.coefficients, self.coefficients)
        detail = self.detail.copy()
        for columns_of, sign in ((DETAIL_LIDS, "eyeBlinkLeft"), (DETAIL_LIPS, "jawOpen")):
            if sign in names:
                detail[:, columns_of] = other.detail[:, columns_of]
        return Motion(coefficients=mixed, **taken, fps=self.fps, seen=seen, detail=detail)

    def resampled(self, fps: float) -> Motion:
        """The same movement at another rate, linear between frames; lasts as long, to the nearest frame."""
        fps = _checked_fps(fps)
        if fps == self.fps:
            return self._taken(slice(None))
        at = np.arange(max(round(self.duration * fps), 1)) * (self.fps / fps)
        at = np.minimum(at, len(self) - 1)
        before = np.floor(at).astype(int)
        after = np.minimum(before + 1, len(self) - 1)
        share = (at - before)[:, None]
        return replace(
            _mixed(self._taken(before), self._taken(after), share), fps=fps, seen=self.seen[np.rint(at).astype(int)]
        )

    def then(self, other: Motion, fade: float = 0.2) -> Motion:
        """This motion, then another (brought to the rate of this one), overlapping by ``fade`` seconds.

        The shorter of the two overlaps in full if it is shorter than that. ValueError for a fade below 0.
        """
        if not 0 <= fade < math.inf:
            raise ValueError(f"fade must be 0 seconds or more, got {fade}")
        other = other.resampled(self.fps)
        n = min(round(fade * self.fps), len(self), len(other))
        if n == 0:
            return _joined([self, other])
        share = (np.arange(1, n + 1) / (n + 1))[:, None]
        middle = _mixed(self._taken(slice(len(self) - n, None)), other._taken(slice(n)), share)
        pieces = [self[: len(self) - n] if n < len(self) else None, middle, other[n:] if n < len(other) else None]
        return _joined([piece for piece in pieces if piece is not None])

    def looped(self, seconds: float) -> Motion:
        """Again and again until ``seconds`` are full, to the nearest frame; cut if shorter. ValueError at 0 or less."""
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds must be above 0, got {seconds}")
        return self._taken(np.arange(max(round(seconds * self.fps), 1)) % len(self))

    @classmethod
    def from_voice(
        cls,
        path: str | os.PathLike[str],
        text: str | None = None,
        phones: str | os.PathLike[str] | None = None,
        *,
        liveliness: float = 1.0,
        seed: int = 0,
        fps: float = 25.0,
        on_progress: Callable[[str, int, int | None], None] | None = None,
    ) -> Motion:
        """A face that says what is heard in a sound file or a clip, as changes from a rest: see ``voice.speech``.

        ``text``: what is said, which makes the lips more exact; ``phones``: a CSV of an aligner instead. ``liveliness``
        0 to 2: how much head, eyes and brows move, 0: the mouth alone; ``seed`` chooses how. Raises ValueError and
        UnreadableMediaError.
        """
        from ..voice.speech import motion_of_voice

        return motion_of_voice(
            path, text, phones, liveliness=liveliness, seed=seed, fps=fps, on_progress=on_progress
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV as Live Link Face does, six decimals; beside first, then renamed. Raises OutputError.

        The translation goes to three columns more, TranslationX, TranslationY, TranslationZ in cm, if any is not 0.
        ``seen`` is not kept. Timecodes count at the rate rounded up and are such that the second row begins a second,
        so that the rate can be told from two rows on.
        """
        path = Path(path)
        names = ["Timecode", "BlendShapeCount", *_VALUES]
        angles = np.zeros((len(self), len(_ANGLES)))
        angles[:, :3] = np.radians(_within_half_turn(self.head)) * _HEAD_SIGNS
        angles[:, _GAZE] = np.radians(_within_half_turn(self.gaze)) * _GAZE_SIGNS
        columns = [self.coefficients, angles]
        if self.translation.any():
            names += _TRANSLATION
            columns.append(self.translation)
        line = "%s," + str(len(_VALUES)) + ",%.6f" * (len(names) - 2) + "\n"
        with written_whole(path) as file:
            file.write(",".join(names) + "\n")
            for start in range(0, len(self), _CHUNK):
                rows = slice(start, start + _CHUNK)
                values = np.concatenate([column[rows].astype(np.float64) for column in columns], axis=1)
                values = np.round(values, 6) + 0.0  # no -0.0
                times = _timecodes(np.arange(start, start + len(values)), self.fps)
                file.writelines(line % (time, *row) for time, row in zip(times, values.tolist(), strict=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str], fps: float | None = None) -> Motion:
        """Read a CSV of Live Link Face, or one that another program wrote like it: any order of columns, any case. A
        file that ends in .json is read as blendshapes of MediaPipe or Audio2Face, see ``motion_json``.

        ``fps`` overrules the timecodes; without it, one row alone is read at 60. Raises UnreadableMediaError with a
        sentence for a file that is missing, empty, no such CSV, or has unknown or missing columns, cells that are no
        finite numbers, or more than MAX_ROWS rows. A warning is logged for what is tolerated: no TongueOut or roll of
        the eyes (0), coefficients beyond 0..1 (clipped), angles that can only be degrees (read as such). Where no face
        was seen (BlendShapeCount 0) the values before are held.
        """
        if fps is not None:
            fps = _checked_fps(fps)
        path = Path(path)
        if path.suffix.lower() == ".json":
            from .motion_json import read_json

            return read_json(path, fps)
        try:
            with path.open(encoding="utf-8-sig") as file:
                return _read(file, path, fps)
        except UnicodeDecodeError as error:
            raise UnreadableMediaError(_not_ours(path)) from error
        except OSError as error:
            raise unreadable(path, error) from error


def head_rotation(angles_deg: np.ndarray | Sequence[float]) -> np.ndarray:
    """Yaw, pitch, roll (..., 3) in degrees -> float64 (..., 3, 3), with the signs of Motion: yaw first, roll last.

    Axes: x to the image's right, y up, z towards the viewer. A column vector is turned by ``R @ v``.
    """
    yaw, pitch, roll = np.moveaxis(np.radians(np.asarray(angles_deg, np.float64)), -1, 0)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*cells: np.ndarray) -> np.ndarray:
        return np.stack(cells, axis=-1).reshape(*yaw.shape, 3, 3)

    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    about_z = matrix(cr, sr, zero, -sr, cr, zero, zero, zero, one)
    return about_z @ about_x @ about_y


def head_angles(rotation: np.ndarray) -> np.ndarray:
    """The inverse of ``head_rotation``: (..., 3, 3) -> float64 (..., 3) degrees; pitch within +-90."""
    r = np.asarray(rotation, np.float64)
    yaw = np.arctan2(-r[..., 2, 0], r[..., 2, 2])
    pitch = np.arcsin(np.clip(r[..., 2, 1], -1, 1))
    roll = np.arctan2(r[..., 0, 1], r[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def _checked_fps(fps: float) -> float:
    if not 0 < fps < math.inf:  # so written, nan is refused as well
        raise ValueError(f"fps must be above 0, got {fps}")
    return float(fps)


def _mixed(a: Motion, b: Motion, share: np.ndarray) -> Motion:
    """Between two motions of as many frames: 0 gives ``a``, 1 gives ``b``; ``share`` is (T, 1)."""
    return Motion(
        np.clip(a.coefficients + share * (b.coefficients - a.coefficients), 0, 1),
        a.head + share * (b.head - a.head),
        a.gaze + share * (b.gaze - a.gaze),
        a.translation + share * (b.translation - a.translation),
        a.fps,
        a.seen & b.seen,
        a.detail + share * (b.detail - a.detail),
    )


def _joined(motions: list[Motion]) -> Motion:
    values = {name: np.concatenate([getattr(motion, name) for motion in motions]) for name in _WIDTHS}
    return Motion(**values, fps=motions[0].fps, seen=np.concatenate([motion.seen for motion in motions]))


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
    """How many frames the clock counts in a second: above all that it shows, and such that rows come evenly."""
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
    known = {name.lower(): name for name in ("Timecode", "BlendShapeCount", *_VALUES, *_TRANSLATION)}
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
    if any(name in found for name in _TRANSLATION):
        wanted += _TRANSLATION
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
    numeric = [name for name in ("BlendShapeCount", *_VALUES, *_TRANSLATION) if name in at]
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
    )
