"""How well lips that a voice drives follow those that were filmed with it.

    python -m train.evaluate_voice --clips ../shared/data [--output voice.md]

Of each clip of GRID of the split "validation" (see train/voice.py; nobody of them is learned from) the most neutral
frame is the photo. It is animated four times: by the film's own motion, which is the most that can be reached, by its
sound with the text, by its sound alone, and by its sound as it comes (``SpeechStream``). Landmarks are then found in
the painted frames as in the filmed ones, and the opening of the mouth (the mean distance of the inner lips, in
distances of the eyes) is compared:

* ``correlation`` with the film's opening, the mean of the clips, and of each speaker's;
* ``offset`` in ms: where the mean cross-correlation of all clips is highest; positive: the painted lips are late;
* ``lips meet``: the share of all p, b and m, as the text places them, at which the opening falls below a tenth of the
  clip's widest, within 40 ms of the phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track as with_bar

from talking_heads import TalkingHeadPipeline
from talking_heads.head.motion import Motion
from talking_heads.head.retarget import most_neutral
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.sound import read_sound
from talking_heads.tracking.tracks import Track, track_face
from talking_heads.voice.phones import BILABIALS, Phone
from talking_heads.voice.sound import listen
from talking_heads.voice.speech import spoken
from talking_heads.voice.streaming import FPS, SpeechStream

from .terminal import mistakes_in_one_line
from .voice import grid_clips, sentence_of

METHODS = ("film", "text", "sound", "streamed")
NAMES = {
    "film": "the film's own motion",
    "text": "voice, with the text",
    "sound": "voice, without the text",
    "streamed": "voice, while it is still coming",
}
MAX_LAG = 8
"""Frames that lips are shifted by, at most."""
NEAR = 0.04
"""Seconds around a phone in which lips may meet."""
CLOSED = 0.1
"""Share of the widest opening below which lips count as closed."""
_LEFT_EYE, _RIGHT_EYE = slice(42, 48), slice(36, 42)
_UPPER, _LOWER = slice(61, 64), [67, 66, 65]


@dataclass(frozen=True)
class Measured:
    """One clip."""

    clip: str
    speaker: str
    fps: float
    bilabials: tuple[Phone, ...]
    filmed: np.ndarray = field(repr=False)
    """(T,) opening in distances of the eyes."""
    painted: dict[str, np.ndarray] = field(repr=False)
    """The same of each of METHODS."""


def openings(track: Track) -> np.ndarray:
    """(T,) of the mouth, in distances of the eyes."""
    points = track.landmarks
    eyes = np.linalg.norm(points[:, _LEFT_EYE].mean(axis=1) - points[:, _RIGHT_EYE].mean(axis=1), axis=1)
    gaps = np.linalg.norm(points[:, _UPPER] - points[:, _LOWER], axis=2).mean(axis=1)
    mouth: np.ndarray = gaps / eyes
    return mouth


def measure(pipe: TalkingHeadPipeline, path: Path, speaker: str) -> Measured:
    """Animates the clip's most neutral frame in each way, and looks at the lips."""
    info = probe(path)
    filmed = pipe.track_landmarks(path)
    motion = pipe.track(path)
    photo = next(frame for k, frame in enumerate(read_frames(path, fps=info.fps)) if k == most_neutral(motion))
    avatar = pipe.create_avatar([photo])
    heard = listen(path, sentence_of(path))

    def seen(driving: Motion, sound: Path | None) -> np.ndarray:
        video = pipe(avatar, driving[: len(filmed.landmarks)], sound=sound, size=pipe.image_size)
        return openings(track_face(video, pipe.detector, info.fps))

    painted = {
        "film": seen(motion, None),
        "text": seen(spoken(heard, fps=info.fps), path),
        "sound": seen(spoken(listen(path), fps=info.fps), path),
        "streamed": seen(streamed(path).resampled(info.fps), path),
    }
    bilabials = tuple(phone for phone in heard.phones if phone.name in BILABIALS)
    return Measured(path.name, speaker, info.fps, bilabials, openings(filmed), painted)


def streamed(path: Path) -> Motion:
    """What is said in a clip, as if its sound were still coming."""
    stream = SpeechStream()
    for block in read_sound(path):
        stream.push(block)
    motions = []
    while stream.pending > 0:
        stream.end()
        motions.append(stream.step()[0])
    return Motion(
        coefficients=np.concatenate([one.coefficients for one in motions]),
        head=np.concatenate([one.head for one in motions]),
        gaze=np.concatenate([one.gaze for one in motions]),
        translation=np.concatenate([one.translation for one in motions]),
        fps=FPS,
    )


def correlation(one: np.ndarray, other: np.ndarray, lag: int = 0) -> float:
    """Correlation of two curves, the first ``lag`` frames later, over the frames that both have."""
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    a, b = (one[lag:], other[: length - lag]) if lag >= 0 else (one[:lag], other[-lag:])
    return float(np.corrcoef(a, b)[0, 1])


def offset(clips: Sequence[Measured], method: str) -> float:
    """Milliseconds by which the painted lips are late: the top of a parabola through the highest correlations."""
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    curve = np.array([np.mean([correlation(c.painted[method], c.filmed, int(lag)) for c in clips]) for lag in lags])
    top = int(np.clip(np.argmax(curve), 1, len(curve) - 2))
    before, here, after = curve[top - 1 : top + 2]
    shift = 0.5 * (before - after) / (before - 2 * here + after)
    return float(1000 * (lags[top] + shift) / clips[0].fps)


def meetings(mouths: Iterable[tuple[Measured, np.ndarray]]) -> tuple[int, int]:
    """Clips, each with the openings of a mouth -> at how many p, b and m the lips meet, and how many there are."""
    met = total = 0
    for clip, gaps in mouths:
        for phone in clip.bilabials:
            first = max(0, int(np.floor((phone.start - NEAR) * clip.fps)))
            near = gaps[first : int(np.ceil((phone.end + NEAR) * clip.fps)) + 1]
            if len(near):
                total += 1
                met += bool(near.min() < CLOSED * gaps.max())
    return met, total


def table(clips: Sequence[Measured]) -> str:
    """Markdown."""
    speakers = sorted({clip.speaker for clip in clips})
    lines = [
        f"| driven by | correlation | {' | '.join(speakers)} | offset, ms | lips meet |",
        f"|---|---|{'---|' * len(speakers)}---|---|",
    ]
    for method in METHODS:
        by_speaker = [
            np.mean([correlation(c.painted[method], c.filmed) for c in clips if c.speaker == speaker])
            for speaker in speakers
        ]
        mean = np.mean([correlation(c.painted[method], c.filmed) for c in clips])
        met, total = meetings((clip, clip.painted[method]) for clip in clips)
        values = " | ".join(f"{value:.2f}" for value in by_speaker)
        lines.append(f"| {NAMES[method]} | {mean:.2f} | {values} | {offset(clips, method):+.0f} | {met} of {total} |")
    met, total = meetings((clip, clip.filmed) for clip in clips)
    lines.append(f"| filmed, not painted | 1 |{' 1 |' * len(speakers)} 0 | {met} of {total} |")
    return "\n".join(lines)


def main(
    *,
    clips: Annotated[Path, typer.Option(help="Folder with clips.csv and the clips of GRID.", exists=True)],
    output: Annotated[Path | None, typer.Option(help="A Markdown file for the table.", show_default="print")] = None,
    model: Annotated[str | None, typer.Option(help="Folder or org/name; else the bundled model.")] = None,
) -> None:
    """Compare lips that a voice drives with those that were filmed. Takes a few minutes."""
    with mistakes_in_one_line():
        found = grid_clips(clips, "validation")
        pipe = TalkingHeadPipeline.from_pretrained(model)
        text = table([measure(pipe, *one) for one in with_bar(found, "measuring")])
        if output is not None:
            output.write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
