"""How lips move with sound that is still coming: learned from the films of ``train.voice``.

    python -m train.streamed_voice --clips ../shared/data --output talking_heads/voice/mouth_streamed.safetensors

The filter sees what ``SpeechStream`` has when it must show a frame: the phones that the recogniser takes for likely
160 ms later, without the text, and the loudness of bands. Each clip is heard several times, louder and softer, with
noise, and after silences of other lengths. Printed is how well each speaker is foretold by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track as with_bar

from talking_heads.media.sound import read_sound
from talking_heads.tracking.detectors import load_detector
from talking_heads.voice.mouth import LIPS, MouthModel, opening
from talking_heads.voice.recogniser import RATE
from talking_heads.voice.spectrum import WINDOW
from talking_heads.voice.streaming import LOOK_AHEAD, Listener, streamed_features

from .terminal import mistakes_in_one_line
from .voice import PENALTY, Spoken, followed, grid_clips, met_lips, network, ridge, save_mouth, scaled, weights_of

HEARINGS = 3
"""Times that each clip is recognised: once as it is, then with noise and another loudness."""
GAIN = (-10.0, 5.0)
NOISE = (25.0, 30.0, 40.0, 50.0)
"""dB: of the sound, and by which noise is below it."""
LEAD = 5
"""Frames of silence before a clip, at most."""


@dataclass(frozen=True)
class Heard:
    """A clip as it was heard once."""

    clip: Spoken
    features: np.ndarray = field(repr=False)
    """(T, F)"""
    lips: np.ndarray = field(repr=False)
    """(T, 3 LIPS) cm, see ``train.voice.scaled``."""


def hear(clip: Spoken, samples: np.ndarray, hearing: int, rng: np.random.Generator) -> np.ndarray:
    """(T, F): what is known of a clip's sound, float (n,) at RATE, when its frames must be shown; as it is in the first
    hearing."""
    lead = np.zeros(0)
    if hearing:
        lead = np.zeros(int(rng.integers(0, LEAD)) * RATE // 25)
        level = np.sqrt(np.mean(samples**2)) * 10 ** (-rng.choice(NOISE) / 20)
        samples = 10 ** (rng.uniform(*GAIN) / 20) * (samples + level * rng.standard_normal(len(samples)))
    sound = np.concatenate([lead, samples, np.zeros(RATE)])
    sound = np.rint(32767 * np.clip(sound, -1, 1)).astype(np.int16)
    listener, rows = Listener(), []
    for time in clip.times + len(lead) / RATE:
        end = round((time + LOOK_AHEAD) * RATE) + WINDOW // 2
        listener.hear(sound[listener.heard : end])
        rows.append(streamed_features(listener.around(float(time)))[0])
    return np.stack(rows)


def fit(heard: Sequence[Heard]) -> MouthModel:
    """As ``train.voice.fit``."""
    clips = [one.clip for one in heard]
    seen, lips = (np.concatenate([getattr(one, name) for one in heard]) for name in ("features", "lips"))
    weights = np.minimum(1.0, HEARINGS * weights_of(clips))
    slope, bias = ridge(seen, lips, weights, PENALTY * HEARINGS)
    hidden, hidden_bias, output, output_bias = network(seen, lips, weights)
    return MouthModel(slope / 2, (bias + output_bias) / 2, hidden, hidden_bias, output / 2, met_lips(clips))


def foretold(heard: Sequence[Heard]) -> dict[str, float]:
    """For each speaker the correlation of the opening with what is learned from the others: mean of the hearings."""
    found = {}
    for speaker in sorted({one.clip.speaker for one in heard}):
        model = fit([one for one in heard if one.clip.speaker != speaker])
        own = [one for one in heard if one.clip.speaker == speaker]
        guesses = [opening(model.lips(one.features).reshape(-1, LIPS, 3)) for one in own]
        found[speaker] = float(
            np.mean([np.corrcoef(guess, one.clip.opening)[0, 1] for guess, one in zip(guesses, own, strict=True)])
        )
    return found


def hearings(clips: Sequence[Spoken]) -> list[Heard]:
    """All clips, HEARINGS times each."""
    rng = np.random.default_rng(0)
    lips = np.split(scaled(clips), np.cumsum([len(clip.times) for clip in clips])[:-1])
    found = []
    for clip, shapes in with_bar(list(zip(clips, lips, strict=True)), "listening"):
        samples = np.concatenate(list(read_sound(clip.path, RATE)))
        found += [Heard(clip, hear(clip, samples, k, rng), shapes) for k in range(HEARINGS)]
    return found


def main(
    *,
    clips: Annotated[Path, typer.Option(help="Folder with clips.csv and the clips of GRID.", exists=True)],
    output: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Learn how lips move with sound that is still coming. Takes about six minutes."""
    with mistakes_in_one_line():
        spoken = followed(with_bar(grid_clips(clips, "train"), "following lips"), load_detector())
        heard = hearings(spoken)
        for speaker, correlation in foretold(heard).items():
            typer.echo(f"{speaker}: correlation of the opening {correlation:.2f}")
        save_mouth(fit(heard), spoken, output, "python -m train.streamed_voice")
    typer.echo(output)


if __name__ == "__main__":
    typer.run(main)
