"""``talking-heads benchmark --speak``: how fast, and how late, a photo speaks with sound that is still coming.

Sound comes in real time, in pieces of 40 ms, from a thread of its own, as from a microphone; it is the bundled clip's,
time and again. The delay of a frame is counted from the moment at which the first sample of its sound would have been
spoken, so that filling a piece counts, to the moment at which the frame with the lips is there.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .examples import EXAMPLE

if TYPE_CHECKING:
    from .pipeline import TalkingHeadPipeline
    from .speaking import Speaker

PIECE = 0.04
"""Seconds of sound that come at a time."""
RATE = 16_000


def measure_speech(pipe: TalkingHeadPipeline, photo: np.ndarray, seconds: float = 10.0) -> dict[str, Any]:
    """JSON values; ``photo`` is uint8 RGB (H, W, 3), of one face."""
    from .voice.streaming import FPS, LOOK_AHEAD

    avatar = pipe.create_avatar([photo])
    with pipe.speaker(avatar, rate=RATE, size=pipe.image_size) as speaker:
        sound = _sound(seconds)
        shown, begin = _in_real_time(speaker, sound)
    placed = np.array(_placed(shown, sound))
    delays = 1000 * (placed[:, 0] - begin - placed[:, 1])
    covered = sum(len(piece) for _, piece in shown) * FPS // RATE
    # The rate that this machine could reach, were the sound there: without waiting for the clock.
    with pipe.speaker(avatar, rate=RATE, size=pipe.image_size) as speaker:
        speaker.push(_sound(min(seconds, 5.0)))
        start = time.perf_counter()
        count = sum(1 for _ in speaker.ready())
        fastest = count / (time.perf_counter() - start)
    return {
        "seconds": seconds,
        "size": pipe.image_size,
        "piece_ms": round(1000 * PIECE),
        "look_ahead_ms": round(1000 * LOOK_AHEAD),
        "frames": len(shown),
        "frames_left_out": covered - len(shown),
        "frames_per_second": round((len(shown) - 1) / (shown[-1][0] - shown[0][0]), 2),
        "frames_per_second_at_most": round(fastest, 2),
        "delay_median_ms": round(float(np.median(delays)), 1),
        "delay_95_of_100_ms": round(float(np.quantile(delays, 0.95)), 1),
    }


def _sound(seconds: float) -> np.ndarray:
    """int16 (n,) at RATE, no two stretches of which are equal, not even the silent ones."""
    from .media.sound import read_sound

    said = np.concatenate(list(read_sound(EXAMPLE, RATE)))
    count = round(seconds * RATE)
    noise = np.random.default_rng(0).integers(-3, 4, count)
    return np.rint(32000 * np.tile(said, count // len(said) + 1)[:count] + noise).astype(np.int16)


def _in_real_time(speaker: Speaker, sound: np.ndarray) -> tuple[list[tuple[float, np.ndarray]], float]:
    """(moment at which a frame came, its sound), and the moment at which the sound began."""
    step = round(PIECE * RATE)
    begin = time.perf_counter()

    def feed() -> None:
        for number, at in enumerate(range(0, len(sound), step), start=1):
            time.sleep(max(0.0, begin + number * PIECE - time.perf_counter()))
            speaker.push(sound[at : at + step])
        speaker.end()

    thread = threading.Thread(target=feed, name="microphone", daemon=True)
    thread.start()
    shown = []
    for _, said in speaker.play():
        shown.append((time.perf_counter(), said))
    thread.join()
    return shown, begin


def _placed(shown: list[tuple[float, np.ndarray]], sound: np.ndarray) -> list[tuple[float, float]]:
    """Where the sound of each frame lies in what was pushed; frames with silence that was put in are left out."""
    whole, placed, at = sound.tobytes(), [], 0
    for moment, piece in shown:
        found = whole.find(piece.tobytes(), at, at + 4 * RATE)
        if found >= 0:
            placed.append((moment, found / 2 / RATE))
            at = found + 2 * len(piece)
    return placed
