"""A person who speaks with sound that is still coming, and lives on in silence.

    for picture, sound in pipe.speak(avatar, pieces):   # as soon as there is sound enough
        ...

or, by the clock, with sound that is pushed from other threads:

    with pipe.speaker(avatar) as speaker:
        speaker.push(piece)
        for picture, sound in speaker.play():
            ...
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Self

import numpy as np

from .head.motion import Motion
from .media.pieces import SoundPiece
from .voice.streaming import FPS, SpeechStream

SpokenFrame = tuple[np.ndarray, np.ndarray]
"""A picture, uint8 RGB (S, S, 3), and the sound that goes with it, int16 (n,) at the rate of what was pushed."""
SpokenFrames = Generator[SpokenFrame, None, None]

PATIENCE = 0.25
"""Seconds after a piece of sound for which the next one is waited for, before silence takes its place. What comes all
at once, as from a synthesiser, has been played by then: only a microphone that stalls holds up a frame."""
LATE = 0.1
"""Seconds behind the clock from which on pictures are left out."""
OWED = 0.3
"""Seconds of silence at most that were put in and are left out again, where the sound is silent itself, and comes as it
is spoken: of what a synthesiser gave all at once nothing is left out while more than this waits."""
MOST = 60.0
"""Seconds of sound that ``wait_for_room`` lets wait."""


class Speaker:
    """Made by ``TalkingHeadPipeline.speaker``. All methods may be called from any thread."""

    def __init__(self, stream: SpeechStream, show: Callable[[Motion], np.ndarray]) -> None:
        self._stream, self._show = stream, show
        self._change = threading.Condition()
        self._ended = self._closed = False
        self._owed = 0.0
        self._pushed = -PATIENCE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def rate(self) -> int:
        """Samples a second of the sound, in and out."""
        return self._stream.rate

    @property
    def seconds(self) -> float:
        """Duration of the output so far, which is where the next frame begins."""
        return self._stream.seconds

    @property
    def pending(self) -> float:
        """Seconds of sound that are still to come out."""
        return self._stream.pending

    def push(self, piece: SoundPiece) -> None:
        """Sound, one channel, of any length: bytes of s16le, int16, or floating point in [-1, 1].

        Raises ValueError for anything else, and after ``end`` and ``close``.
        """
        with self._change:
            if self._ended or self._closed:
                raise ValueError("this was ended")
            self._stream.push(piece)
            self._pushed = time.perf_counter()
            self._change.notify_all()

    def wait_for_room(self) -> None:
        """Waits until less than MOST seconds of sound are left, for callers that push faster than it can be played."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self._stream.pending < MOST)

    def interrupt(self) -> None:
        """Drops all sound that has not come out yet; the lips close, and life goes on."""
        with self._change:
            self._stream.interrupt()
            self._change.notify_all()

    def end(self) -> None:
        """No more sound will be pushed: ``play`` ends with what there is."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def close(self) -> None:
        """Ends ``play`` at once."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def ready(self) -> SpokenFrames:
        """The frames for which there is sound enough; after ``end``, all."""
        while True:
            with self._change:
                if not self._stream.ready:
                    if not self._ended or self._stream.pending <= 0:
                        return
                    self._stream.end()
                motion, sound = self._stream.step()
            yield self._show(motion), sound

    def rest(self) -> SpokenFrame:
        """The next frame at once, with silence in place of sound that is not there."""
        with self._change:
            if not self._stream.ready:
                self._stream.rest()
            motion, sound = self._stream.step()
        return self._show(motion), sound

    def play(self) -> SpokenFrames:
        """Frames by the clock, FPS a second, for ever, or until ``end`` or ``close``.

        A frame comes when it is due and its sound is there. Where no sound comes, silence does. A machine that is too
        slow leaves pictures out: the next one comes with the sound of all of them.
        """
        due = time.perf_counter()
        while True:
            with self._change:
                while not self._can_go_on() and (left := max(due, self._pushed + PATIENCE) - time.perf_counter()) > 0:
                    self._change.wait(left)
                if self._closed or (self._ended and self._stream.pending <= 0):
                    return
                if not self._stream.ready:
                    due = max(due, time.perf_counter())
                motion, sound = self._next()
                sounds = [sound]
                while time.perf_counter() - due > LATE and self._stream.ready:
                    motion, sound = self._stream.step()
                    sounds.append(sound)
                    due += 1 / FPS
                self._change.notify_all()
            picture = self._show(motion)
            time.sleep(max(0.0, due - time.perf_counter()))
            yield picture, np.concatenate(sounds)
            due = max(due + 1 / FPS, time.perf_counter() - 1)

    def _can_go_on(self) -> bool:
        return self._closed or self._ended or self._stream.ready

    def _next(self) -> tuple[Motion, np.ndarray]:
        """The next frame's motion and sound, with silence where sound is lacking, which is made up for later."""
        step = 1 / FPS
        if not self._stream.ready and self._ended:
            self._stream.end()
        elif not self._stream.ready:
            self._stream.rest()
            self._owed = min(self._owed + step, OWED)
        elif self._owed >= step and 2 * step <= self._stream.unheard <= OWED + step and self._stream.drop(step):
            self._owed -= step
        return self._stream.step()


def speak(speaker: Speaker, pieces: Iterable[SoundPiece | None]) -> SpokenFrames:
    """Frames as soon as there is sound enough for them. None, or an empty piece, is one frame of silence."""
    with speaker:
        for piece in pieces:
            if piece is None or not len(piece):
                yield speaker.rest()
            else:
                speaker.push(piece)
                yield from speaker.ready()
        speaker.end()
        yield from speaker.ready()
