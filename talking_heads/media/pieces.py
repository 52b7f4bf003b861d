"""Sound that comes in pieces: what a caller may hand over, another rate, and a film that is written with its sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .containers import av
from .writing import AI_GENERATED, VideoWriter

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

RATES = (8_000, 96_000)
"""Samples a second that sound may have."""

SoundPiece = bytes | bytearray | memoryview | np.ndarray
"""One channel, any length: bytes are s16le; arrays int16, or floating point in [-1, 1]."""


class PieceReader:
    """Pieces as int16 (n,). A sample that two pieces share is put together again."""

    def __init__(self) -> None:
        self._half = b""

    def read(self, piece: SoundPiece) -> np.ndarray:
        """Raises ValueError for arrays of other types, and for more than one channel."""
        if not isinstance(piece, np.ndarray):
            held = self._half + bytes(piece)
            even = len(held) // 2 * 2
            self._half = held[even:]
            return np.frombuffer(held[:even], "<i2").astype(np.int16)
        if piece.ndim != 1:
            raise ValueError(f"sound must be one channel of shape (samples,), got {piece.shape}")
        if piece.dtype == np.int16:
            return piece.copy()
        if piece.dtype.kind != "f":
            raise ValueError(f"sound must be bytes of s16le, int16, or floating point in [-1, 1], got {piece.dtype}")
        return np.rint(32767 * np.clip(np.nan_to_num(piece), -1, 1)).astype(np.int16)


class Resampler:
    """int16 pieces at one rate -> the same at another one."""

    def __init__(self, rate: int, wanted: int) -> None:
        """Raises ValueError for a rate outside RATES."""
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"rate must lie between {RATES[0]} and {RATES[1]} samples a second, got {rate}")
        self._rate = rate
        self._resampler = None if rate == wanted else av.AudioResampler(format="s16", layout="mono", rate=wanted)
        self._given = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """int16 (n,) -> int16 (m,); the last few samples come with the next call."""
        if self._resampler is None or not len(samples):
            return samples
        frame = _frame(samples, self._rate, self._given)
        self._given += len(samples)
        made = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        return np.concatenate([np.zeros(0, np.int16), *made])


class SpokenFilm(VideoWriter):
    """A VideoWriter whose frames come with their sound: ``speak``."""

    def __init__(self, path: str | Path, fps: float, rate: int, finish: Callable[[Path], None] | None = None) -> None:
        """``rate``: of the sound, samples a second. Marked as AI_GENERATED; else as VideoWriter."""
        super().__init__(path, fps, metadata=AI_GENERATED, finish=finish)
        self._pieces = _Pieces(rate, self._encoding.sound_rate or 48_000)
        self._sound: Any = self._pieces

    def speak(self, frame: np.ndarray, sound: np.ndarray) -> None:
        """Appends a frame, as ``write``, and its sound, int16 (n,)."""
        self._pieces.add(sound)
        self.write(frame)


class _Pieces:
    """Sound as VideoWriter asks for it, from pieces that are handed over."""

    layout = "mono"

    def __init__(self, rate: int, wanted: int) -> None:
        self.rate = wanted
        self._resampler = Resampler(rate, wanted)
        self._held = np.zeros(0, np.int16)
        self._given = 0

    def add(self, sound: np.ndarray) -> None:
        self._held = np.concatenate([self._held, self._resampler.push(sound)])

    def has_more(self) -> bool:
        return True

    def until(self, time: Fraction) -> list[AudioFrame]:
        """The sound up to ``time`` (seconds) that was not given yet."""
        count = min(round(time * self.rate) - self._given, len(self._held))
        if count <= 0:
            return []
        frame = _frame(self._held[:count], self.rate, self._given, "fltp")
        self._held, self._given = self._held[count:], self._given + count
        return [frame]


def _frame(samples: np.ndarray, rate: int, position: int, form: str = "s16") -> AudioFrame:
    values = samples if form == "s16" else samples.astype(np.float32) / 32768
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[None]), format=form, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
    return frame
