"""Sound that is still coming -> the movement of a face that says it, frame by frame, LOOK_AHEAD later.

Phones are what the recogniser takes for likely at that moment; a filter that was learned from just such phones
(``python -m train.streamed_voice``) says where the lips are. All else is as for whole files: see ``mouth``. What comes
out depends on the sound alone, not on the pieces in which it came.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from pathlib import Path

import numpy as np

from ..head.motion import Motion
from ..media.pieces import PieceReader, Resampler, SoundPiece
from .mouth import GATE, Context, MouthModel, closures, emphasis, features, spoken_coefficients
from .phones import SILENCE, VOWELS, Phone
from .recogniser import RATE, PhoneStream
from .sound import BANDS, DITHER, FEATURE_RATE, Voice
from .spectrum import USUAL, WINDOW, Spectrum
from .speech import check_liveliness
from .streamed_life import STRESS_AHEAD, Heard, StreamedLife

ASSET = Path(__file__).parent / "mouth_streamed.safetensors"
FPS = 25
PAST, LOOK_AHEAD = 0.3, 0.16
"""Seconds that are known before and after the moment that is shown."""
STREAMED = Context(np.arange(-24, 17, 4), np.arange(-16, 17, 4))
"""Context of the filter around a frame."""
_NEED = round(LOOK_AHEAD * RATE) + WINDOW // 2
"""Samples after a frame's moment that it needs."""
_FRAME = RATE // FPS
_FLOOR_SECONDS, _SWING = 2.5, 0.15
"""A voice swings: where it is nowhere so much louder than the softest moment before, it is noise."""
_SILENT = 3e4
"""Steps of 16 bits that silence reaches, by the root of the voice's level: 30 dB below the voice."""
_LET_GO = 0.12
"""Seconds in which the mouth leaves what was interrupted."""
_STRESS, _STRONG = 0.08, 0.3
"""How much louder than the recent voice a vowel is that counts as stressed, and as fully stressed."""
_LATE = 0.02
"""Weight of a new frame in the recent voice's loudness, an average over about two seconds of speech."""


@cache
def streamed_mouth() -> MouthModel:
    """The bundled one, loaded once."""
    return MouthModel.load(ASSET, STREAMED)


class Listener:
    """Hears sound, and knows what was heard around the present moment."""

    def __init__(self, level: float = USUAL) -> None:
        """``level``: see Spectrum."""
        self._spectrum, self._phones = Spectrum(level), PhoneStream()
        self._dither = np.random.default_rng(0)
        self._rows = np.zeros((round(PAST * FEATURE_RATE), BANDS), np.float32)
        self._first = -len(self._rows)  # row of the sound with which they begin
        self._softness: deque[float] = deque(maxlen=round(_FLOOR_SECONDS * FPS))
        self.heard = 0
        """Samples so far."""

    @property
    def level(self) -> float:
        """How loud the voice is, see Spectrum."""
        return self._spectrum.level

    def hear(self, samples: np.ndarray) -> None:
        """int16 (n,) at RATE."""
        self.heard += len(samples)
        rows = self._spectrum.push(samples.astype(np.float32) / 32768)
        self._rows = np.concatenate([self._rows, rows])
        if len(rows):
            self._softness.append(float(rows.mean()))
        drop = max(0, len(self._rows) - round((PAST + LOOK_AHEAD + 0.2) * FEATURE_RATE))
        self._rows, self._first = self._rows[drop:], self._first + drop
        noisy = samples + DITHER * self._dither.standard_normal(len(samples), np.float32)
        self._phones.push(np.clip(noisy, -32768, 32767).astype(np.int16))

    def around(self, second: float) -> Voice:
        """From PAST before to LOOK_AHEAD after a second of the sound; times count from there."""
        begin, length = second - PAST, round((PAST + LOOK_AHEAD) * FEATURE_RATE) + 1
        first = round(begin * FEATURE_RATE) - self._first
        rows = self._rows[np.clip(np.arange(first, first + length), 0, len(self._rows) - 1)]
        seconds = PAST + LOOK_AHEAD
        before = list(self._softness)
        before = before[: max(1, len(before) - round(seconds * FPS))] if len(before) > FPS else before
        swing = np.convolve(rows.mean(axis=1), np.ones(5) / 5, mode="valid").max() - min(before, default=0.0)
        if swing < _SWING:
            return Voice((), rows, seconds)
        phones = [(max(p.start - begin, 0.0), min(p.end - begin, seconds), p.name) for p in self._phones.phones(begin)]
        return Voice(tuple(Phone(a, b, name) for a, b, name in phones if b > a), rows, seconds)


def streamed_features(voice: Voice) -> np.ndarray:
    """(1, F): what the filter sees of what a Listener heard around a moment."""
    return features(voice, np.array([PAST]), STREAMED)


class SpeechStream:
    """Sound in, frames of motion with their sound out. Nothing grows; the same sound and seed give the same frames."""

    def __init__(self, rate: int = RATE, liveliness: float = 1.0, seed: int = 0) -> None:
        """``rate``: samples a second of what is pushed; ``liveliness`` and ``seed`` as for ``Motion.from_voice``.

        Raises ValueError for numbers out of range.
        """
        check_liveliness(liveliness)
        self.rate = rate
        self._reader, self._resampler = PieceReader(), Resampler(rate, RATE)
        self._listener = Listener()
        self._life = StreamedLife(liveliness, seed, FPS)
        self._sound = np.zeros(0, np.int16)  # at ``rate``, from the frame that is next on
        self._coming = np.zeros(0, np.int16)  # at RATE, not heard yet
        self._number = self._since = 0  # of frames, and of those since the listener began
        self._mouth = np.zeros(0)
        self._left = np.zeros(0)
        self._leaving = 0.0
        self._quiet, self._loudness = 1.0, 0.3
        self._stressed = False

    @property
    def seconds(self) -> float:
        """Duration of the frames so far."""
        return self._number / FPS

    @property
    def pending(self) -> float:
        """Seconds of sound that are still to be shown."""
        return len(self._sound) / self.rate

    @property
    def unheard(self) -> float:
        """Seconds of sound that no frame has been waiting for yet."""
        return len(self._coming) / RATE

    @property
    def ready(self) -> bool:
        """Whether there is sound enough for the next frame."""
        return len(self._coming) >= self._needed()

    def push(self, piece: SoundPiece) -> None:
        """Sound of any length. Raises ValueError for what is none, see PieceReader."""
        samples = self._reader.read(piece)
        self._sound = np.concatenate([self._sound, samples])
        self._coming = np.concatenate([self._coming, self._resampler.push(samples)])

    def rest(self) -> None:
        """Silence, as much as the next frame lacks, before the sound that was not heard yet."""
        lacking = max(0, self._needed() - len(self._coming))
        at = max(0, len(self._sound) - round(len(self._coming) * self.rate / RATE))
        silence = np.zeros(round(lacking * self.rate / RATE), np.int16)
        self._sound = np.concatenate([self._sound[:at], silence, self._sound[at:]])
        self._coming = np.concatenate([np.zeros(lacking, np.int16), self._coming])

    def end(self) -> None:
        """Silence after the sound, as much as the next frame lacks."""
        lacking = max(0, self._needed() - len(self._coming))
        self._coming = np.concatenate([self._coming, np.zeros(lacking, np.int16)])

    def drop(self, seconds: float) -> bool:
        """Leaves out so much of the sound that was not heard yet, if it is there and silent; whether it was."""
        count, source = round(seconds * RATE), round(seconds * self.rate)
        at = len(self._sound) - round(len(self._coming) * self.rate / RATE)
        silent = np.exp(self._listener.level / 2) * _SILENT
        if len(self._coming) < count or at < 0 or np.abs(self._coming[:count].astype(int)).max() > silent:
            return False
        self._coming = self._coming[count:]
        self._sound = np.concatenate([self._sound[:at], self._sound[at + source :]])
        return True

    def interrupt(self) -> None:
        """Drops all sound that is still to be shown; the lips close."""
        self._sound, self._coming = np.zeros(0, np.int16), np.zeros(0, np.int16)
        self._resampler, self._reader = Resampler(self.rate, RATE), PieceReader()
        self._listener, self._since = Listener(self._listener.level), 0
        self._left, self._leaving = self._mouth, _LET_GO

    def step(self) -> tuple[Motion, np.ndarray]:
        """The next frame, changes from a rest, and its sound, int16 (n,) at ``rate``. ValueError if it is not ready."""
        if not self.ready:
            raise ValueError("push more sound first, or let it rest")
        needed = self._needed()
        if needed > 0:
            self._listener.hear(self._coming[:needed])
            self._coming = self._coming[needed:]
        voice = self._listener.around(self._since / FPS)
        coefficients = self._spoken(voice)
        life = self._life.step(self._heard(voice))
        motion = Motion(np.clip(coefficients + life.coefficients, 0, 1), life.head, life.gaze, life.translation, FPS)
        edges = [round(number * self.rate / FPS) for number in (self._number, self._number + 1)]
        count = edges[1] - edges[0]
        sound = np.pad(self._sound[:count], (0, max(0, count - len(self._sound))))
        self._sound = self._sound[count:]
        self._number += 1
        self._since += 1
        return motion, sound

    def _needed(self) -> int:
        """Samples that the listener lacks for the next frame."""
        return self._since * _FRAME + _NEED - self._listener.heard

    def _spoken(self, voice: Voice) -> np.ndarray:
        """(1, 52): what the mouth does."""
        times = PAST + np.arange(-1, 2) / FPS  # a phone that is shorter than a frame closes the lips in one of them
        shapes = _speaking(voice) * streamed_mouth().lips(streamed_features(voice))
        coefficients = spoken_coefficients(shapes, closures(voice, times)[1:2], *emphasis(voice, times[1:2]))
        if self._leaving > 0:
            self._leaving = max(0.0, self._leaving - 1 / FPS)
            share = self._leaving / _LET_GO
            coefficients = share * self._left + (1 - share) * coefficients
        self._mouth = coefficients
        return coefficients

    def _heard(self, voice: Voice) -> Heard:
        """What a frame's liveliness depends on."""
        self._quiet = 0.0 if _spoken_at(voice, PAST) else self._quiet + 1 / FPS
        at = round((PAST + STRESS_AHEAD) * FEATURE_RATE)
        loudness = voice.loudness
        near = float(loudness[at - 2 : at + 3].mean())
        vowel = any(p.name in VOWELS and p.start <= PAST + STRESS_AHEAD < p.end for p in voice.phones)
        above = near - self._loudness
        if _spoken_at(voice, PAST + STRESS_AHEAD):
            self._loudness += _LATE * above
        return Heard(self._quiet, min(above / _STRONG, 1.0) if vowel and above > _STRESS else 0.0)


def _spoken_at(voice: Voice, second: float) -> bool:
    return any(phone.start <= second < phone.end and phone.name != SILENCE for phone in voice.phones)


def _speaking(voice: Voice) -> float:
    """0 in silence, 1 in speech, with slopes: what is coming is known for less time than what was."""
    level = 0.0
    for phone in voice.phones:
        if phone.name != SILENCE:
            away = max(phone.start - PAST, 0) / LOOK_AHEAD + max(PAST - phone.end, 0) / GATE
            level = max(level, min(2 - 2 * away, 1))
    return level * level * (3 - 2 * level)
