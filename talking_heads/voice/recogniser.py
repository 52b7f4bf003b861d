"""Sound -> phones and their times, by pocketsphinx: with the text by alignment, without by what is most likely.

Its acoustic model is American English. Sound passes in pieces: what is kept of a long file are its phones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
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
LONGEST, QUIET, OVERLAP = 12.0, 0.35, 0.4
"""Seconds of an utterance in a stream at most, of the pause that ends one, and with which the next one begins."""
MIN_SCORE, LOW_SCORE = -36.0, -27.0
"""Mean scores of a frame of aligned speech: below the first a text is another one than what is said, below the second
perhaps. In 61 clips the right text had -34 at least, and -17 on average; of 160 wrong texts three in four could not be
aligned, or had less than the first."""
MIN_AGREEMENT, LOW_AGREEMENT = 0.47, 0.55
"""Shares of the frames in which text and sound have the same kind of phone, in the same way: 0.71 on average for right
texts, 0.37 for wrong ones."""
_BEAMS: tuple[dict[str, float], ...] = (
    {},
    {"beam": 1e-90, "wbeam": 1e-70, "pbeam": 1e-90},
    {"beam": 1e-200, "wbeam": 1e-200, "pbeam": 1e-200},
)
"""Beam widths from the usual one to those with which no search fails, which take several times as long."""
_KINDS = (
    "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW",
    "M N NG",
    "F V S Z SH ZH TH DH HH CH JH",
    "P B T D K G",
    "L R W Y",
)
_KIND = {name: kind for kind, names in enumerate(_KINDS) for name in names.split()}
OnDone = Callable[[float], None]
Word = tuple[str, int, int]
"""A word or a silence, its first and its last frame."""
_Aligned = tuple[str, int, int, float | None]
"""A phone, its first frame, how many it has, and how well they fit, if that was measured."""
_GROUP = (2.0, 6.0)
"""Seconds of words whose phones are searched together, at least and at most."""
_FEW = 3
"""Words for which a wide search is fast."""
_SAMPLES = round(FRAME * RATE)

TEXT_MISMATCH = (
    "The text does not fit the sound: its words are not heard there in this order. Correct the text, or leave it out."
)


def phones_of_sound(blocks: Iterable[np.ndarray], on_done: OnDone | None = None) -> Iterator[Phone]:
    """int16 blocks at RATE -> the phones that are likely, in order, silences among them.

    ``on_done`` is called with the seconds of sound that are done.
    """
    decoder = _sound_decoder()
    start = 0.0
    for stretch in _stretches(blocks):
        for name, first, last in _decoded(decoder, stretch):
            yield Phone(start + first * FRAME, start + (last + 1) * FRAME, _plain(name))
        start += len(stretch) / RATE
        if on_done is not None:
            on_done(start)


class PhoneStream:
    """The phones of sound that is still coming, as far as they can be told by now.

    The last of them change while more is heard. Utterances are ended in pauses, and after LONGEST at the latest, so
    that what is kept does not grow.
    """

    def __init__(self) -> None:
        self._decoder = _sound_decoder()
        self._decoder.start_utt()
        self._samples = 0
        self._start = self._seam = 0.0  # seconds: of the utterance, and from which on its phones are taken
        self._before: list[Phone] = []
        self._now: list[Phone] = []
        self._last = np.zeros(0, np.int16)

    def push(self, samples: np.ndarray) -> None:
        """int16 (n,) at RATE. What is likely by now is searched anew with each call: a few are better than many."""
        self._samples += len(samples)
        self._last = np.concatenate([self._last, samples])[-round(OVERLAP * RATE) :]
        self._hear(samples)
        now = self._samples / RATE
        quiet = now - max((phone.end for phone in self._now if phone.name != SILENCE), default=self._start)
        if now - self._start > LONGEST or (now - self._start > 1 and quiet > QUIET):
            self._begin_anew(now)

    def phones(self, since: float) -> list[Phone]:
        """The phones that end after second ``since`` of all sound, in order; not further back than OVERLAP."""
        return [phone for phone in (*self._before, *self._now) if phone.end > since]

    def _begin_anew(self, now: float) -> None:
        """Ends the utterance; the next one begins with the last OVERLAP, which it hears again."""
        seam = now - OVERLAP / 2
        kept = [phone for phone in (*self._before, *self._now) if phone.end > now - 2 * OVERLAP and phone.start < seam]
        self._before = [Phone(phone.start, min(phone.end, seam), phone.name) for phone in kept]
        _ended(self._decoder)
        self._decoder.start_utt()
        self._start, self._seam = now - len(self._last) / RATE, seam
        self._hear(self._last)

    def _hear(self, samples: np.ndarray) -> None:
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=False)
        found = [] if self._decoder.hyp() is None else self._decoder.seg()  # without a hypothesis, asking would raise
        times = ((self._start + s.start_frame * FRAME, self._start + (s.end_frame + 1) * FRAME, s.word) for s in found)
        self._now = [Phone(max(a, self._seam), b, _plain(name)) for a, b, name in times if b > self._seam]


def phones_of_text(sound: Callable[[], Iterable[np.ndarray]], text: str, on_done: OnDone | None = None) -> list[Phone]:
    """Phones of a text, each where it is heard. ``sound`` gives the same int16 blocks at RATE each time it is called.

    Words that the dictionary lacks are guessed by their letters, with a warning in the log. Raises
    UnreadableMediaError for a text without words, and for one that is not what is said.
    """
    words = words_of(text)
    if not words:
        raise UnreadableMediaError("The text holds no words of Latin letters. Correct it, or leave it out.")
    if len(words) > MAX_WORDS:
        raise UnreadableMediaError(f"The text has more than {MAX_WORDS:,} words. Cut sound and text into parts.")
    spoken: list[Word] | None = None

    def part(number: int) -> OnDone:
        """Three times the sound is heard; each counts for a third of its seconds."""
        whole = 0.0 if spoken is None else spoken[-1][2] * FRAME
        return lambda seconds: None if on_done is None else on_done((number * whole + seconds) / 3)

    spoken = _spoken_words(sound, words, part(0))
    if spoken is None:
        raise UnreadableMediaError(TEXT_MISMATCH)
    phones, score = _aligned(sound(), spoken, words, part(1))
    agreement = _agreement(phones, list(phones_of_sound(sound(), part(2))))
    if score < MIN_SCORE or agreement < MIN_AGREEMENT or (score < LOW_SCORE and agreement < LOW_AGREEMENT):
        raise UnreadableMediaError(TEXT_MISMATCH)
    return phones


def _agreement(phones: Sequence[Phone], heard: Sequence[Phone]) -> float:
    """The share of frames of speech in which both have a phone of the same kind."""
    frames = round(max((one[-1].end for one in (phones, heard) if one), default=0.0) / FRAME)
    kinds = np.full((2, frames), -1)
    for row, said in zip(kinds, (phones, heard), strict=True):
        for phone in said:
            row[round(phone.start / FRAME) : round(phone.end / FRAME)] = _KIND.get(phone.name, -1)
    speech = (kinds >= 0).any(axis=0)
    return float((kinds[0] == kinds[1])[speech].mean()) if speech.any() else 0.0


def _spoken_words(sound: Callable[[], Iterable[np.ndarray]], words: list[str], on_done: OnDone) -> list[Word] | None:
    """(word, first, last frame) of all words and silences; None where they cannot be heard in this order."""
    for beams in _BEAMS[:2]:
        decoder = _decoder(**beams)
        _teach(decoder, words)
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        done = 0
        for block in sound():
            decoder.process_raw(block.tobytes(), no_search=False, full_utt=False)
            done += len(block)
            on_done(done / RATE)
        if _ended(decoder) and decoder.hyp() is not None:
            found = [(s.word, s.start_frame, s.end_frame) for s in decoder.seg() if s.end_frame > s.start_frame]
            if sum(not _is_quiet(word) for word, _, _ in found) == len(words):
                return found
        if done > 120 * RATE:
            return None  # a wide search of a long sound takes minutes
    return None


def _aligned(
    blocks: Iterable[np.ndarray], spoken: Sequence[Word], words: list[str], on_done: OnDone
) -> tuple[list[Phone], float]:
    """The phones of words whose places are known, and the mean score of a frame of speech."""
    aligner, source = _Aligner(words), _Cutter(blocks)
    phones: list[Phone] = []
    total, frames = 0.0, 0
    for group in _groups(spoken):
        for name, start, duration, score in aligner.align(source, group):
            phones.append(Phone(start * FRAME, (start + duration) * FRAME, _plain(name)))
            if name in PHONES and score is not None:
                total, frames = total + score, frames + duration
        on_done((group[-1][2] + 1) * FRAME)
    return phones, total / max(frames, 1)


class _Aligner:
    """Finds the phones of words whose places are known."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._decoders: dict[int, Any] = {}

    def align(self, source: _Cutter, group: Sequence[Word]) -> Iterator[_Aligned]:
        """Aligns consecutive words and silences. A search that fails is halved; one for few words is widened before."""
        said = [_base(word) for word, _, _ in group if not _is_quiet(word)]
        first, last = group[0][1], group[-1][2] + 1
        if not said:
            yield SILENCE, first, last - first, None
            return
        samples = source.view(first * _SAMPLES, (last + 3) * _SAMPLES)  # the recogniser's windows reach that far
        for width in range(len(_BEAMS) if len(said) <= _FEW else 1):
            if found := self._search(self._decoder(width), samples, said):
                yield from ((name, first + start, duration, score) for name, start, duration, score in found)
                return
        if len(group) > 1:
            middle = len(group) // 2
            yield from self.align(source, group[:middle])
            yield from self.align(source, group[middle:])
        else:
            yield from self._evenly(group[0])

    def _decoder(self, width: int) -> Any:
        if width not in self._decoders:
            self._decoders[width] = _decoder(**_BEAMS[width])
            _teach(self._decoders[width], self._words)
        return self._decoders[width]

    @staticmethod
    def _search(decoder: Any, samples: np.ndarray, words: list[str]) -> list[_Aligned]:
        decoder.set_align_text(" ".join(words))
        if sum(not _is_quiet(word) for word, _, _ in _decoded(decoder, samples)) != len(words):
            return []
        try:
            decoder.set_alignment()
        except RuntimeError:  # nothing to align
            return []
        ended = _hear(decoder, samples)  # asking this search for segments would crash
        alignment = decoder.get_alignment() if ended else None
        if alignment is None:
            return []
        return [(phone.name, phone.start, phone.duration, phone.score) for phone in alignment.phones()]

    def _evenly(self, spoken: Word) -> Iterator[_Aligned]:
        """A word that is too hurried to be aligned: its phones are equally long."""
        word, start, end = spoken
        names = (self._decoder(0).lookup_word(_base(word)) or SILENCE).split()
        edges = np.linspace(start, end + 1, len(names) + 1).round().astype(int)
        for name, at, until in zip(names, edges, edges[1:], strict=False):
            yield name, int(at), int(until - at), None


def _groups(spoken: Sequence[Word]) -> Iterator[list[Word]]:
    """Words that are aligned together: until a silence once the least of _GROUP is full, or the most."""
    group: list[Word] = []
    for entry in spoken:
        group.append(entry)
        seconds = (entry[2] - group[0][1]) * FRAME
        if (seconds >= _GROUP[0] and _is_quiet(entry[0])) or seconds >= _GROUP[1]:
            yield group
            group = []
    if group:
        yield group


class _Cutter:
    """Pieces of a stream of blocks. What lies STRETCH's most before a piece is forgotten."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._held = np.zeros(0, np.int16)
        self._start = 0  # of what is held, in samples

    def view(self, first: int, last: int) -> np.ndarray:
        """Samples ``first`` to ``last``, as many as there are."""
        while self._start + len(self._held) < last and (block := next(self._blocks, None)) is not None:
            self._held = np.concatenate([self._held, block])
        drop = max(0, first - self._start - round(2 * STRETCH[1] * RATE))
        self._held, self._start = self._held[drop:], self._start + drop
        return self._held[first - self._start : last - self._start]


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


def _hear(decoder: Any, samples: np.ndarray) -> bool:
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
    return _ended(decoder)


def _ended(decoder: Any) -> bool:
    """Ends an utterance; False where a search did not get to the end of its words."""
    try:
        decoder.end_utt()
    except RuntimeError:
        return False
    return True


def _decoded(decoder: Any, samples: np.ndarray) -> list[Word]:
    if len(samples) < RATE // 20:  # shorter than what the recogniser's windows need
        return []
    # Silent stretches have no hypothesis, and asking for their segments raises.
    if not _hear(decoder, samples) or decoder.hyp() is None:
        return []
    return [(s.word, s.start_frame, s.end_frame) for s in decoder.seg()]


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


def _sound_decoder() -> Any:
    """A recogniser of phones, which needs no text."""
    return _decoder(allphone=_model_path("en-us-phone.lm.bin"), lw=2.0, beam=1e-20, pbeam=1e-20, dict=None)


def _model_path(name: str) -> str:
    import pocketsphinx

    return str(Path(pocketsphinx.get_model_path()) / "en-us" / name)


def _base(word: str) -> str:
    return word.split("(", maxsplit=1)[0]


def _is_quiet(word: str) -> bool:
    return word.startswith(("<", "+", "[")) or word in ("SIL", "(NULL)")


def _plain(name: str) -> str:
    return name if name in PHONES else SILENCE
