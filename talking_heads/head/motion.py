"""The vocabulary of movement: 52 ARKit coefficients, angles of the head and of the eyes, and the way of the head."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np


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
    "head": ("head", "translation", "shoulders"),
}
"""Parts that can be taken from a motion: coefficients, and the names of other fields of Motion."""

GAZE_AT_ONE = (25.0, 20.0)
"""Degrees to the side and up or down of an eye whose eyeLook coefficient is one."""
MAX_ROWS = 1_000_000
"""Rows that a file may have: 4 hours and a half at 60 a second."""

_ALL_SEEN = np.zeros(0, bool)
_NO_DETAIL = np.zeros((0, 0), np.float32)
DETAIL_LIDS, DETAIL_LIPS = slice(0, 36), slice(36, 96)
_WIDTHS = {"coefficients": len(COEFFICIENTS), "head": 3, "gaze": 4, "translation": 3, "detail": DETAIL_LIPS.stop}


SWAY = 1.5
"""cm: on a shorter way of the head the shoulders mostly stay, on a longer one they mostly go along."""


def gone_along(way: np.ndarray, sway: float = SWAY) -> np.ndarray:
    """How far shoulders go that nobody has seen, for a ``way`` (N,) of the head; in its unit, as ``sway``."""
    result: np.ndarray = way * (way @ way / (way @ way + sway**2))
    return result


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
    shoulders: np.ndarray | None = None
    """float32 (T, 2) cm to the image's right and up: where the shoulders are. None: they follow the head."""

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
        if self.shoulders is not None:
            shoulders = np.asarray(self.shoulders, np.float32)
            if shoulders.shape != (*frames, 2) or not np.isfinite(shoulders).all():
                raise ValueError(f"shoulders must be finite, of the shape (frames, 2), got {shoulders.shape}")
            object.__setattr__(self, "shoulders", shoulders)
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
        """A motion without movement: all zeros."""
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
            None if self.shoulders is None else self.shoulders[frames],
        )

    def _shoulders(self) -> np.ndarray:
        """(T, 2): as they are known, or as they follow the head."""
        if self.shoulders is not None:
            return self.shoulders
        return np.stack([gone_along(way)[:2] for way in self.translation - self.translation[0]])

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
            shoulders=None if self.shoulders is None else self.shoulders * head,
        )

    def only(self, *parts: str) -> Motion:
        """The motion of the parts alone; all else at rest. Raises ValueError for a name that is none of PARTS."""
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
        shoulders = other.shoulders if "shoulders" in names else self.shoulders
        return Motion(coefficients=mixed, **taken, fps=self.fps, seen=seen, detail=detail, shoulders=shoulders)

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

        The translation goes to three columns more, TranslationX, TranslationY, TranslationZ in cm, if any is not 0,
        and where shoulders are known they go to ShouldersX and ShouldersY.
        ``seen`` and ``detail`` are not kept. Timecodes count at the rate rounded up and are such that the second row
        begins a second, so that the rate can be told from two rows on.
        """
        from .motion_csv import write_csv

        write_csv(self, Path(path))

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
        from .motion_csv import read_csv
        from .motion_json import read_json

        path = Path(path)
        return (read_json if path.suffix.lower() == ".json" else read_csv)(path, fps)


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
    """Blend of two motions of as many frames: 0 gives ``a``, 1 gives ``b``; ``share`` is (T, 1)."""
    return Motion(
        np.clip(a.coefficients + share * (b.coefficients - a.coefficients), 0, 1),
        a.head + share * (b.head - a.head),
        a.gaze + share * (b.gaze - a.gaze),
        a.translation + share * (b.translation - a.translation),
        a.fps,
        a.seen & b.seen,
        a.detail + share * (b.detail - a.detail),
        _if_known([a, b], lambda one, other: one + share * (other - one)),
    )


def _joined(motions: list[Motion]) -> Motion:
    values = {name: np.concatenate([getattr(motion, name) for motion in motions]) for name in _WIDTHS}
    seen = np.concatenate([motion.seen for motion in motions])
    shoulders = _if_known(motions, lambda *parts: np.concatenate(parts))
    return Motion(**values, fps=motions[0].fps, seen=seen, shoulders=shoulders)


def _if_known(motions: list[Motion], combine: Callable[..., np.ndarray]) -> np.ndarray | None:
    """What becomes of their shoulders; None where none of the motions says where they are."""
    if all(motion.shoulders is None for motion in motions):
        return None
    return combine(*(motion._shoulders() for motion in motions))
