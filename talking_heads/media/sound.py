"""Sound of films: read as blocks of samples, whose time 0 is that of the pictures, and written into a film."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from ..errors import UnreadableMediaError
from .containers import (
    LONGEST_STILL,
    SOUND_FORMATS,
    audio_stream,
    av,
    decode,
    duration_of,
    open_container,
    picture_stream,
    sound_format,
    stamp_of,
)
from .reading import inspect

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

_SOUND_JITTER = 0.02  # s by which the stamps of sound may be off before it is moved


def sound_duration(path: str | Path) -> float | None:
    """Seconds that a sound file, or the sound of a clip, states; None where it states nothing.

    Raises UnreadableMediaError for what holds no sound.
    """
    with _open_sound(Path(path)) as (container, stream):
        return duration_of(container, stream)


def read_sound(path: str | Path, rate: int = 16_000) -> Iterator[np.ndarray]:
    """The sound of a file as one channel, float32 (n,) in [-1, 1], block by block; ``rate`` samples a second.

    It begins where VideoWriter begins it: at the first picture of a clip, or with the first sample of a sound file.
    Raises UnreadableMediaError at the call for what holds no sound; at the first block where nothing of it decodes.
    """
    sound = Sound.of(Path(path), Fraction(0), rate, "mono")
    if sound is None:
        raise UnreadableMediaError(f"{Path(path).name} holds no sound. Give a file in which somebody speaks.")
    return _blocks(sound, Path(path))


def _blocks(sound: Sound, path: Path) -> Iterator[np.ndarray]:
    if not sound.has_more():
        raise UnreadableMediaError(f"No sound of {path.name} can be decoded. Export it again, as wav for instance.")
    for block in sound:
        yield block[0]


@contextlib.contextmanager
def _open_sound(path: Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    with open_container(path, "sound", SOUND_FORMATS, "a wav, mp3, m4a, flac, ogg, or a clip with sound") as container:
        stream = audio_stream(container)
        if stream is None:
            raise UnreadableMediaError(f"{path.name} holds no sound. Give a file in which somebody speaks.")
        yield container, stream


class Sound:
    """The sound of a file from ``start`` seconds after its ``zero`` on, as blocks for an encoder."""

    def __init__(self, path: Path, zero: Fraction, start: Fraction, rate: int, layout: str) -> None:
        self.rate, self.layout = rate, layout
        self._blocks = self._read(path, zero, round(start * rate))
        self._next: np.ndarray | None = None
        self._given = 0  # samples

    @classmethod
    def of(cls, path: Path, start: Fraction, rate: int | None = None, layout: str | None = None) -> Sound | None:
        """Time 0 is the first picture, or, in a sound file, the first sample. None for a clip without sound.

        ``rate`` (samples per second) and ``layout``: unless the file shall choose. Raises UnreadableMediaError.
        """
        with open_container(path, "file", SOUND_FORMATS, "a clip or a sound file") as container:
            pictured = picture_stream(container) is not None
            sound = sound_format(container)
            if not pictured and sound is None:
                raise UnreadableMediaError(f"{path.name} holds neither pictures nor sound that can be decoded.")
            zero = None if pictured else _first_sound(container)
        if zero is None:
            clip = inspect(path)
            zero, sound = clip.zero, clip.sound
        return None if sound is None else cls(path, zero, start, rate or sound[0], layout or sound[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        """All that was not given yet: float32 (channels, n) in [-1, 1]."""
        while self.has_more():
            assert self._next is not None
            block, self._next = self._next, None
            yield block

    def has_more(self) -> bool:
        if self._next is None:
            self._next = next(self._blocks, None)
        return self._next is not None

    def until(self, time: Fraction) -> Iterator[AudioFrame]:
        """The blocks up to ``time`` (seconds) that were not given yet; the last one is cut there."""
        end = round(time * self.rate)
        while self._given < end and self.has_more():
            assert self._next is not None
            now, later = np.split(self._next, [end - self._given], axis=1)
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(now), format="fltp", layout=self.layout)
            block.sample_rate, block.pts, block.time_base = self.rate, self._given, Fraction(1, self.rate)
            self._next = later if later.size else None
            self._given += now.shape[1]
            yield block

    def _read(self, path: Path, zero: Fraction, begin: int) -> Iterator[np.ndarray]:
        """float32 (channels, n) in [-1, 1] from sample ``begin`` on; silence fills what the file leaves out."""
        with _open_sound(path) as (container, stream):
            resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
            position: int | None = None  # in samples since the first picture
            for frame in decode(container, stream):
                for block in resampler.resample(frame):
                    samples: np.ndarray = block.to_ndarray()
                    stamp = stamp_of(block, zero)
                    due = (position or 0) if stamp is None else round(stamp * self.rate)
                    if position is None:
                        position = min(due, 0)
                    gap = due - position
                    if _SOUND_JITTER * self.rate < gap <= LONGEST_STILL * self.rate:
                        samples = np.pad(samples, ((0, 0), (gap, 0)))
                    elif -self.rate <= gap < -_SOUND_JITTER * self.rate:
                        samples = samples[:, -gap:]
                    # Else the stamp is right, or it is broken: carry on.
                    position += samples.shape[1]
                    skipped = max(0, samples.shape[1] - max(0, position - begin))
                    if skipped < samples.shape[1]:
                        yield samples[:, skipped:]


class WrittenSound(Protocol):
    """What a film's sound comes from: ``Sound``, or pieces that are handed over while it is written."""

    rate: int
    """Samples a second."""
    layout: str

    def until(self, time: Fraction) -> Iterable[AudioFrame]:
        """The blocks up to ``time`` (seconds) that were not given yet."""
        ...


class SoundTrack:
    """The sound of a film that is being written."""

    def __init__(self, container: OutputContainer, sound: WrittenSound, encoder: str) -> None:
        """``encoder``: as FFmpeg calls it. Before the first frame is written."""
        self._container, self._sound = container, sound
        stream = container.add_stream(encoder, sound.rate, layout=sound.layout, bit_rate=160_000)
        self._stream = cast("AudioStream", stream)

    def carry_on(self, end: Fraction) -> None:
        """Writes the sound up to ``end``, the seconds that the frames last so far."""
        for block in self._sound.until(end):
            self._container.mux(self._stream.encode(block))

    def finish(self) -> None:
        """Writes what the encoder has kept."""
        self._container.mux(self._stream.encode(None))


def _first_sound(container: InputContainer) -> Fraction:
    """The time stamp in seconds of the first sound that decodes, else 0."""
    stream = audio_stream(container)
    first = None if stream is None else next(decode(container, stream), None)
    return (None if first is None else stamp_of(first)) or Fraction(0)
