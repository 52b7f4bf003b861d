"""How lips move when people speak, learned from films of people who say known sentences.

    python -m train.voice --clips ../shared/data --output talking_heads/voice/mouth.safetensors

``--clips``: a folder with ``clips.csv`` (file, identity, split) and clips of the GRID corpus (Cooke et al. 2006, CC BY
4.0), whose names spell what is said: "bbaf2n" is "bin blue at f two now". Of the speakers of split "train" the lips
are followed, the sound is aligned with the sentence, and a filter from phones and loudness to the shape of the lips is
fitted: the mean of ridge regression and a small network. Everybody's lips are scaled to the same widest opening first,
and nobody counts for more than ``MAX_CLIPS`` clips. Printed is how well each speaker is foretold by the others.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track as with_bar
from safetensors.numpy import save
from torch import nn

from talking_heads.errors import FaceError, UnreadableMediaError
from talking_heads.head.fit import MOUTH_AND_LIDS
from talking_heads.head.model import face_model
from talking_heads.head.motion import Motion
from talking_heads.media.reading import probe, read_frames
from talking_heads.tracking.detectors import LandmarkDetector, load_detector
from talking_heads.tracking.motion_fitting import motion_of_track
from talking_heads.tracking.tracks import track_face
from talking_heads.voice.mouth import LIPS, VISEMES, MouthModel, closures, features, opening, symmetric
from talking_heads.voice.sound import Voice, listen

from .terminal import mistakes_in_one_line

MAX_CLIPS = 20
"""Most clips of one speaker."""
FULL_WEIGHT = 4
"""Clips for which a speaker counts in full; of more, each counts for less."""
PENALTY = 10.0
"""Penalty of the ridge regression, chosen among 3 to 60 by how well speakers are predicted from the others: a smaller
one is better with the text, a larger one without."""
HIDDEN, EPOCHS = 128, 60
"""Hidden units of the network, and epochs of its training."""
WIDEST = 1.25
"""cm between the inner lips that 95 of 100 frames stay below, as the model speaks: that of the clearer speakers."""
STRENGTH = (1.8, 1.15, 1.15)
"""By which regression's shapes are too weak, to the side, in height and in depth: it foretells the mean of what people
do. To the side it finds less than half of what is to be seen, as detectors of landmarks hardly follow rounded lips."""

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WORDS: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", _ONES, strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


@dataclass(frozen=True)
class Spoken:
    """A clip: what is heard in it, and what the lips do meanwhile."""

    path: Path
    speaker: str
    voice: Voice = field(repr=False)
    times: np.ndarray = field(repr=False)
    """(T,) seconds of the frames."""
    lips: np.ndarray = field(repr=False)
    """(T, 3 LIPS) cm from where they are when they meet."""

    @property
    def opening(self) -> np.ndarray:
        """(T,) cm between the inner lips."""
        return opening(self.lips.reshape(-1, LIPS, 3))


def sentence_of(path: str | Path) -> str | None:
    """What is said in a clip of GRID, by its name; None for a name that spells nothing."""
    letters = Path(path).stem[-6:]
    if len(letters) < len(_WORDS) or any(letter not in words for letter, words in zip(letters, _WORDS, strict=True)):
        return None
    return " ".join(words[letter] for letter, words in zip(letters, _WORDS, strict=True))


def grid_clips(folder: Path, split: str) -> list[tuple[Path, str]]:
    """(path, speaker) of the clips of GRID whose names spell a sentence. Raises UnreadableMediaError if none does."""
    try:
        with (folder / "clips.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UnreadableMediaError(
            f"{folder} has no clips.csv that can be read. Give the folder of the clips."
        ) from error
    clips: list[tuple[Path, str]] = []
    for row in rows:
        speaker, path = row["identity"], folder / row["file"]
        known = "GRID" in row.get("licence", "") and row["split"] == split and sentence_of(path) and path.is_file()
        if known and sum(other == speaker for _, other in clips) < MAX_CLIPS:
            clips.append((path, speaker))
    if not clips:
        raise UnreadableMediaError(f"{folder / 'clips.csv'} names no clip of GRID of the split {split}.")
    return clips


def lips_of(motion: Motion) -> np.ndarray:
    """(T, 3 LIPS) cm: the outlines of the lips of the mean face, from where they are when they meet; symmetric."""
    model = face_model()
    vertices = model.landmark_vertices[MOUTH_AND_LIDS[-LIPS:]]
    points = np.tensordot(
        motion.coefficients[:, : len(model.expression_basis)], model.expression_basis[:, vertices], axes=1
    )
    points = symmetric(points + motion.detail.reshape(len(motion), -1, 3)[:, -LIPS:])
    order = np.argsort(opening(points))
    met = points[order[: max(3, len(order) // 10)]].mean(axis=0)
    lips: np.ndarray = (points - met).reshape(len(points), -1)
    return lips


def follow(path: Path, speaker: str, detector: LandmarkDetector) -> Spoken:
    """Follows the lips of a clip, and aligns its sound. Raises NoFaceError and UnreadableMediaError."""
    info = probe(path)
    motion = motion_of_track(track_face(read_frames(path, fps=info.fps), detector, info.fps))
    return Spoken(path, speaker, listen(path, sentence_of(path)), np.arange(len(motion)) / motion.fps, lips_of(motion))


def weights_of(clips: Sequence[Spoken]) -> np.ndarray:
    """(T of all,): how much each frame counts."""
    speakers = [clip.speaker for clip in clips]
    return np.concatenate(
        [np.full(len(clip.times), min(1.0, FULL_WEIGHT / speakers.count(clip.speaker))) for clip in clips]
    )


def ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: float = PENALTY) -> tuple[np.ndarray, np.ndarray]:
    """Weights (F, C) and bias (C,) of y (T, C) from x (T, F); the bias is not held back."""
    mean_x, mean_y = np.average(x, axis=0, weights=weights), np.average(y, axis=0, weights=weights)
    x, y = x - mean_x, y - mean_y
    weighted = (x * weights[:, None]).T
    slope = np.linalg.solve(weighted @ x + penalty * np.eye(x.shape[1]), weighted @ y)
    return slope, mean_y - mean_x @ slope


def scaled(clips: Sequence[Spoken]) -> np.ndarray:
    """(T of all, 3 LIPS): each speaker's lips, as if all opened them equally wide (WIDEST)."""
    widest = {
        speaker: np.quantile(np.concatenate([clip.opening for clip in clips if clip.speaker == speaker]), 0.95)
        for speaker in {clip.speaker for clip in clips}
    }
    return np.concatenate([clip.lips * (WIDEST / widest[clip.speaker]) for clip in clips])


def network(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """A network of one hidden layer, y (T, C) from x (T, F): hidden (F, H), its bias, output (H, C) and its bias.

    Noise and dropout keep it from learning single people.
    """
    torch.manual_seed(0)
    middle, spread = x.mean(axis=0), x.std(axis=0) + 0.05
    mean, scale = y.mean(axis=0), y.std()
    inputs, targets = (torch.tensor(v, dtype=torch.float32) for v in ((x - middle) / spread, (y - mean) / scale))
    importance = torch.tensor(weights, dtype=torch.float32)[:, None]
    first, last = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, y.shape[1])
    layers = nn.Sequential(nn.Dropout(0.25), first, nn.ReLU(), nn.Dropout(0.5), last)
    optimizer = torch.optim.AdamW(layers.parameters(), 2e-3, weight_decay=0.1)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(inputs)).split(256):
            noisy = inputs[chosen] + 0.2 * torch.randn_like(inputs[chosen])
            loss = (importance[chosen] * (layers(noisy) - targets[chosen]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        hidden, hidden_bias = first.weight.double().numpy().T / spread[:, None], first.bias.double().numpy()
        output, output_bias = last.weight.double().numpy().T, last.bias.double().numpy()
    return hidden, hidden_bias - middle @ hidden, scale * output, mean + scale * output_bias


def fit(clips: Sequence[Spoken]) -> MouthModel:
    """The mean of ridge regression and a network, each better than the other at something; as strong as they say."""
    seen, lips, weights = np.concatenate([features(c.voice, c.times) for c in clips]), scaled(clips), weights_of(clips)
    slope, bias = ridge(seen, lips, weights)
    hidden, hidden_bias, output, output_bias = network(seen, lips, weights)
    return MouthModel(slope / 2, (bias + output_bias) / 2, hidden, hidden_bias, output / 2, met_lips(clips))


def met_lips(clips: Sequence[Spoken]) -> np.ndarray:
    """(3 LIPS,) cm: the mean shape of lips that meet for p, b or m."""
    shut = np.concatenate([closures(clip.voice, clip.times) for clip in clips]) > 0.99
    lips = scaled(clips)
    shut &= opening(lips.reshape(-1, LIPS, 3)) < 0.1 * WIDEST
    mean: np.ndarray = lips[shut].mean(axis=0)
    return mean


def foretold(clips: Sequence[Spoken]) -> dict[str, float]:
    """For each speaker the correlation of the opening with what is learned from the others: mean of the clips."""
    found = {}
    for speaker in sorted({clip.speaker for clip in clips}):
        model = fit([clip for clip in clips if clip.speaker != speaker])
        own = [clip for clip in clips if clip.speaker == speaker]
        guesses = [opening(model.lips(features(c.voice, c.times)).reshape(-1, LIPS, 3)) for c in own]
        found[speaker] = float(
            np.mean([np.corrcoef(guess, clip.opening)[0, 1] for guess, clip in zip(guesses, own, strict=True)])
        )
    return found


def save_mouth(model: MouthModel, clips: Sequence[Spoken], output: Path, maker: str = "python -m train.voice") -> None:
    """Writes a filter that was fitted to clips, at its full STRENGTH; whole or not at all."""
    strength = np.tile(STRENGTH, LIPS)
    arrays = asdict(model)
    for name in ("weights", "bias", "output"):
        arrays[name] = strength * arrays[name]
    speakers = sorted({clip.speaker for clip in clips})
    words = {
        "maker": maker,
        "source": "GRID audio-visual speech corpus, Cooke et al. 2006, CC BY 4.0, doi 10.5281/zenodo.3625687",
        "clips": f"{len(clips)} clips of {len(speakers)} speakers",
        "visemes": json.dumps(VISEMES),
    }
    part = output.with_name(f".{output.name}.part")
    try:
        part.write_bytes(save({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}, words))
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def followed(found: Iterable[tuple[Path, str]], detector: LandmarkDetector) -> list[Spoken]:
    """All clips that can be followed; why another one cannot is printed."""
    clips = []
    for path, speaker in found:
        try:
            clips.append(follow(path, speaker, detector))
        except (FaceError, UnreadableMediaError) as error:
            typer.echo(f"{path.name} is left out: {error}")
    return clips


def main(
    *,
    clips: Annotated[Path, typer.Option(help="Folder with clips.csv and the clips of GRID.", exists=True)],
    output: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Learn how lips move in speech. Takes about three minutes."""
    with mistakes_in_one_line():
        found = with_bar(grid_clips(clips, "train"), "following lips")
        spoken = followed(found, load_detector())
        if len({clip.speaker for clip in spoken}) < 2:
            raise UnreadableMediaError("At least two speakers are needed. Give more clips.")
        for speaker, correlation in foretold(spoken).items():
            typer.echo(f"{speaker}: correlation of the opening {correlation:.2f}")
        save_mouth(fit(spoken), spoken, output)
    typer.echo(output)


if __name__ == "__main__":
    typer.run(main)
