"""Analysis of a voice: phones with their times, and how loud each band of the sound is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import UnreadableMediaError
from ..media.sound import read_sound, sound_duration
from .phones import SILENCE, Phone, in_order, read_phones
from .recogniser import RATE, phones_of_sound, phones_of_text

logger = logging.getLogger(__name__)

FEATURE_RATE = 100
"""Frames of the loudness a second."""
BANDS = 10
DITHER = 8.0
"""Noise of this standard deviation, in steps of 16 bits, is added: -72 dB. In the absolute silence between the words of
a synthesised voice the recogniser's logarithms lose their way: half of such sentences could not be aligned."""
MAX_SECONDS = 3600
_WINDOW, _HOP, _FFT = 400, RATE // FEATURE_RATE, 512
_BAND_EDGES = (100.0, 7000.0)  # Hz
_FLOOR = 1e-6
_LEAST_RANGE = 3.0
"""Nepers between quiet and loud that are taken for the whole range at least: noise alone is not stretched to speech."""

ProgressCallback = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Voice:
    """The analysed voice of a file."""

    phones: tuple[Phone, ...]
    """In order; what lies between them is silence."""
    bands: np.ndarray = field(repr=False)
    """float32 (N, BANDS): loudness of each band of frequencies, FEATURE_RATE times a second; about 0 where the voice is
    quietest, 1 where it is loudest."""
    seconds: float

    @property
    def loudness(self) -> np.ndarray:
        """float32 (N,): of all bands together, 0 to about 1."""
        loudness: np.ndarray = np.clip(self.bands.mean(axis=1), 0, None)
        return loudness

    def pauses(self, least: float) -> list[tuple[float, float]]:
        """(start, end) in seconds of what is no speech for ``least`` seconds or more, in order."""
        spoken = [phone for phone in self.phones if phone.name != SILENCE]
        ends = [0.0, *(phone.end for phone in spoken)]
        starts = [*(phone.start for phone in spoken), self.seconds]
        return [(a, b) for a, b in zip(ends, starts, strict=True) if b - a >= least]


def listen(
    path: str | Path,
    text: str | None = None,
    phones: str | Path | Sequence[Phone] | None = None,
    on_progress: ProgressCallback | None = None,
) -> Voice:
    """A sound file, or the sound of a clip -> what is heard in it.

    ``text``: what is said, which makes phones and times more exact. ``phones``: those of another aligner, or the path
    of their CSV (``phones.read_phones``). ``on_progress`` hears of the stage "listening", in seconds. Raises
    UnreadableMediaError, and ValueError for text and phones both.
    """
    if text is not None and phones is not None:
        raise ValueError("give either the text or its phones, not both")
    path = Path(path)
    known = None if phones is None else read_phones(phones) if isinstance(phones, str | Path) else in_order(phones)
    stated = sound_duration(path)
    if stated is not None and stated > MAX_SECONDS:
        raise UnreadableMediaError(f"{path.name} is longer than an hour. Cut it into parts.")

    def tell(seconds: float) -> None:
        if on_progress is not None:
            on_progress("listening", round(seconds), None if stated is None else max(round(stated), round(seconds)))

    meter = _Meter()
    if known is None and text is None:
        known = in_order(phones_of_sound(meter.passing(_samples(path)), tell))
    else:
        for _ in meter.passing(_samples(path)):
            pass
        if known is None:
            known = in_order(phones_of_text(lambda: _samples(path), str(text), tell))
    tell(meter.seconds)
    known = _within(known, meter.seconds, path)
    if all(phone.name == SILENCE for phone in known):
        logger.warning("No speech is heard in %s: the mouth rests.", path.name)
    return Voice(known, meter.bands(), meter.seconds)


def _within(phones: tuple[Phone, ...], seconds: float, path: Path) -> tuple[Phone, ...]:
    """The phones that lie within the sound. Raises UnreadableMediaError where none does."""
    kept = tuple(Phone(p.start, min(p.end, seconds), p.name) for p in phones if p.start < seconds)
    if phones and not kept:
        raise UnreadableMediaError(
            f"The phones begin after the {seconds:.1f} s of {path.name}. Give those of this sound."
        )
    if phones and phones[-1].end > seconds + 0.5:
        logger.warning("The phones go on to %.1f s, the sound of %s to %.1f s.", phones[-1].end, path.name, seconds)
    return kept


def _samples(path: Path) -> Iterator[np.ndarray]:
    """int16 blocks at RATE of half a second each, with DITHER."""
    held: list[np.ndarray] = []
    rng = np.random.default_rng(0)
    for block in read_sound(path, RATE):
        noisy = np.nan_to_num(block) * 32767 + DITHER * rng.standard_normal(len(block), np.float32)
        held.append(np.clip(noisy, -32768, 32767).astype(np.int16))
        if sum(map(len, held)) >= RATE // 2:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


class _Meter:
    """Measures the loudness of bands in a stream of samples."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._tail = np.zeros(_WINDOW // 2, np.float32)
        self._samples = 0

    @property
    def seconds(self) -> float:
        return self._samples / RATE

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self._samples += len(block)
            self._measure(block.astype(np.float32) / 32768)
            yield block

    def _measure(self, block: np.ndarray) -> None:
        samples = np.concatenate([self._tail, block])
        count = max(0, (len(samples) - _WINDOW) // _HOP + 1)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[: count * _HOP : _HOP]
            power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), _FFT)) ** 2
            self._rows.append(np.log(power @ mel_filters() + _FLOOR).astype(np.float32))
        self._tail = samples[count * _HOP :]

    def bands(self) -> np.ndarray:
        """See Voice.bands."""
        self._measure(np.zeros(_WINDOW, np.float32))
        length = max(1, math.ceil(self.seconds * FEATURE_RATE))
        logs = np.concatenate(self._rows)[:length]
        logs = np.pad(logs, ((0, length - len(logs)), (0, 0)), mode="edge")
        quiet, loud = np.quantile(logs, 0.1, axis=0), np.quantile(logs, 0.95, axis=0)
        scaled: np.ndarray = np.clip((logs - quiet) / np.maximum(loud - quiet, _LEAST_RANGE), -0.5, 1.5)
        return scaled.astype(np.float32)


@cache
def mel_filters() -> np.ndarray:
    """(frequencies, BANDS): triangles that overlap, evenly spaced on the mel scale."""
    low, high = (2595 * math.log10(1 + edge / 700) for edge in _BAND_EDGES)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(_FFT, 1 / RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters: np.ndarray = np.clip(np.minimum(rising, falling), 0, None)
    return filters
