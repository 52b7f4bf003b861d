"""Sound -> phones and their times, by pocketsphinx: with the text by alignment, without by what is most likely.

Its acoustic model is American English. Sound passes in pieces: what is kept of a long file are its phones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableMediaError
from .phones import PHONES, SILENCE, Phone
from .text import MAX_WORDS, guessed_phones, words_of

logger = logging.getLogger(__name__)

RATE = 16_000
"""Samples a second that the recogniser hears."""
FRAME = 0.01
"""Seconds of its frames."""
STRETCH = (8.0, 16.0)
"""Seconds of sound that are decoded at a time, at least and at most: cut where it is quietest."""
MIN_SCORE = -21.0
"""Mean score of a frame of aligned speech below which a text is another one than what is said."""
_NARROW: dict[str, float] = {}
_WIDE = {"beam": 1e-90, "wbeam": 1e-70, "pbeam": 1e-90}
_OnDone = Callable[[float], None]

TextMismatch = (
    "The text does not fit the sound: its words are not heard there in this order. Correct the text, or leave it out."
)


def phones_of_sound(blocks: Iterable[np.ndarray], on_done: _OnDone | None = None) -> Iterator[Phone]:
    """int16 blocks at RATE -> the phones that are likely, in order, silences among them.

    ``on_done`` is called with the seconds of sound that are done.
    """
    decoder = _decoder(allphone=_model_path("en-us-phone.lm.bin"), lw=2.0, beam=1e-20, pbeam=1e-20, dict=None)
    start = 0.0
    for stretch in _stretches(blocks):
        for name, first, last in _decoded(decoder, stretch):
            yield Phone(start + first * FRAME, start + (last + 1) * FRAME, _plain(name))
        start += len(stretch) / RATE
        if on_done is not None:
            on_done(start)


def phones_of_text(sound: Callable[[], Iterable[np.ndarray]], text: str, on_done: _OnDone | None = None) -> list[Phone]:
    """Phones of a text, each where it is heard. ``sound`` gives the same int16 blocks at RATE each time it is called.

    Words that the dictionary lacks are guessed by their letters, with a warning in the log. Raises
    UnreadableMediaError for a text without words, and for one that is not what is said.
    """
    words = words_of(text)
    if not words:
        raise UnreadableMediaError("The text holds no words of Latin letters. Correct it, or leave it out.")
    if len(words) > MAX_WORDS:
        raise UnreadableMediaError(f"The text has more than {MAX_WORDS:,} words. Cut sound and text into parts.")
    spoken = _spoken_words(sound, words, on_done)
    if spoken is None:
        raise UnreadableMediaError(TextMismatch)
    phones, score, frames = _aligned(sound(), spoken, words, on_done)
    if score < MIN_SCORE * max(frames, 1):
        raise UnreadableMediaError(TextMismatch)
    return phones


def _spoken_words(
    sound: Callable[[], Iterable[np.ndarray]], words: list[str], on_done: _OnDone | None
) -> list[tuple[str, int, int]] | None:
    """(word, first, last frame) of all words and silences; None where they cannot be heard in this order."""
    for beams in (_NARROW, _WIDE):
        decoder = _decoder(**beams)
        _teach(decoder, words)
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        done = 0
        for block in sound():
            decoder.process_raw(block.tobytes(), no_search=False, full_utt=False)
            done += len(block)
            if on_done is not None:
                on_done(done / RATE / 2)
        decoder.end_utt()
        if decoder.hyp() is not None:
            found = [(s.word, s.start_frame, s.end_frame) for s in decoder.seg()]
            if sum(not _is_quiet(word) for word, _, _ in found) == len(words):
                return found
        if done > 60 * RATE:
            return None  # a wide search of a long sound takes minutes
    return None


def _aligned(
    blocks: Iterable[np.ndarray], spoken: list[tuple[str, int, int]], words: list[str], on_done: _OnDone | None
) -> tuple[list[Phone], float, int]:
    """The phones of words whose places are known, and how well they fit: sum of scores, and frames of speech."""
    decoder = _decoder()
    _teach(decoder, words)
    phones: list[Phone] = []
    total, frames = 0.0, 0
    source = _Cutter(blocks)
    for group in _groups(spoken):
        first, last = group[0][1], group[-1][2] + 1
        samples = source.take(round(first * FRAME * RATE), round(last * FRAME * RATE))
        found = _align_group(decoder, samples, [word for word, _, _ in group if not _is_quiet(word)])
        for name, start, duration, score in found or _evenly(decoder, group):
            at = first + start
            phones.append(Phone(at * FRAME, (at + duration) * FRAME, _plain(name)))
            if _plain(name) != SILENCE:
                total, frames = total + score, frames + duration
        if on_done is not None:
            on_done((source.total / RATE + last * FRAME) / 2)
    return phones, total, frames


def _align_group(decoder: Any, samples: np.ndarray, words: list[str]) -> list[tuple[str, int, int, float]]:
    if not words or len(samples) < RATE // 20:
        return []
    decoder.set_align_text(" ".join(_base(word) for word in words))
    if not _decoded(decoder, samples):
        return []
    try:
        decoder.set_alignment()
    except RuntimeError:  # nothing to align
        return []
    _hear(decoder, samples)  # asking this search for segments would crash
    alignment = decoder.get_alignment()
    if alignment is None:
        return []
    return [(phone.name, phone.start, phone.duration, phone.score) for phone in alignment.phones()]


def _evenly(decoder: Any, group: list[tuple[str, int, int]]) -> Iterator[tuple[str, int, int, float]]:
    """Where a stretch is too hurried to be aligned: the phones of each word, equally long."""
    first = group[0][1]
    for word, start, end in group:
        names = [SILENCE] if _is_quiet(word) else (decoder.lookup_word(word) or SILENCE).split()
        edges = np.linspace(start, end + 1, len(names) + 1).round().astype(int) - first
        for name, at, until in zip(names, edges, edges[1:], strict=False):
            yield name, int(at), int(until - at), MIN_SCORE * int(until - at)


def _groups(spoken: list[tuple[str, int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    """Words that are aligned together: until a silence once STRETCH's least is full, or its most."""
    group: list[tuple[str, int, int]] = []
    for entry in spoken:
        group.append(entry)
        seconds = (entry[2] - group[0][1]) * FRAME
        if (seconds >= STRETCH[0] and _is_quiet(entry[0])) or seconds >= STRETCH[1]:
            yield group
            group = []
    if group:
        yield group


class _Cutter:
    """Pieces of a stream of blocks, asked for in order."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._held = np.zeros(0, np.int16)
        self._start = 0  # of what is held, in samples
        self.total = 0

    def take(self, first: int, last: int) -> np.ndarray:
        while self._start + len(self._held) < last:
            block = next(self._blocks, None)
            if block is None:
                break
            self.total += len(block)
            self._held = np.concatenate([self._held, block])
        drop = max(0, first - self._start)
        self._held, self._start = self._held[drop:], self._start + drop
        return self._held[: last - self._start]


def _stretches(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The sound in pieces of STRETCH seconds, cut where it is quietest."""
    least, most = (round(seconds * RATE) for seconds in STRETCH)
    step = RATE // 20
    held = np.zeros(0, np.int16)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= most:
            later = held[least:most].astype(np.float32).reshape(-1, step)
            power = np.convolve((later**2).mean(axis=1), np.ones(4) / 4, mode="same")
            cut = least + (int(np.argmin(power)) * step + step // 2) // 160 * 160
            yield held[:cut]
            held = held[cut:]
    if len(held):
        yield held


def _hear(decoder: Any, samples: np.ndarray) -> None:
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()


def _decoded(decoder: Any, samples: np.ndarray) -> list[tuple[str, int, int]]:
    if len(samples) < RATE // 20:  # shorter than what the recogniser's windows need
        return []
    _hear(decoder, samples)
    # Silent stretches have no hypothesis, and asking for their segments raises.
    return [] if decoder.hyp() is None else [(s.word, s.start_frame, s.end_frame) for s in decoder.seg()]


def _teach(decoder: Any, words: list[str]) -> None:
    unknown = [word for word in dict.fromkeys(words) if decoder.lookup_word(word) is None]
    for word in unknown:
        decoder.add_word(word, guessed_phones(word), update=False)
    if unknown:
        shown = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        logger.warning("The dictionary lacks %s: spoken as they are spelled. Respell what is wrong.", shown)


def _decoder(**options: Any) -> Any:
    import pocketsphinx

    return pocketsphinx.Decoder(**({"lm": None, "loglevel": "FATAL"} | options))


def _model_path(name: str) -> str:
    import pocketsphinx

    return str(Path(pocketsphinx.get_model_path()) / "en-us" / name)


def _base(word: str) -> str:
    return word.split("(")[0]


def _is_quiet(word: str) -> bool:
    return word.startswith(("<", "+", "[")) or word in ("SIL", "(NULL)")


def _plain(name: str) -> str:
    return name if name in PHONES else SILENCE
