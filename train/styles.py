"""Tests of what a model has learned of people: the embedding's styles, and the discriminator.

    python -m train.styles --clips PREPARED [--model MODEL] [--shots 4] [--people 32]

People are those of the validation split, in episodes as in meta-learning: K shots, and another frame as the target. If
AdaIN carries a person, painting him or her in another person's style changes the picture, and one's own style is nearer
to the target. If the discriminator knows painted from real, its hinge loss lies below 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.utils.data import default_collate

from talking_heads import TalkingHeadPipeline
from talking_heads.models.discriminator import Judgement

from .config import as_photographed
from .data.episodes import Episode, EpisodeDataset
from .losses import hinge
from .terminal import mistakes_in_one_line

FACE_WEIGHT, MOUTH_WEIGHT = 1.0, 2.0
"""Weights of ``Episode.weights``, which then say where face (2) and mouth (3) are."""
LEVELS = 127.5


@dataclass(frozen=True)
class StyleTest:
    """Means over people; differences in levels of 255."""

    people: int
    face: float
    """How much another person's style changes the face, the mouth included."""
    mouth: float
    own_is_nearer: float
    """Share of people whose own style is nearer to the target, in the face."""
    discriminator: DiscriminatorTest | None
    """None where the model has no discriminator."""


@dataclass(frozen=True)
class DiscriminatorTest:
    """The discriminator on people outside W: W_i is their embedding, as at the start of fine-tuning."""

    hinge: float
    """L_DSC (6) of the projection score; 2 is chance."""
    right: float
    """Share of people whose photo scores higher than what is painted of them."""
    patch_hinge: float | None
    """The same of the patches' scores, where there are any."""


def episodes_of(
    pipe: TalkingHeadPipeline, folders: list[Path], shots: int, people: int, seed: int
) -> Iterator[Episode]:
    """One of each of the first ``people`` of the validation split, at the model's size, nothing degraded."""
    config = as_photographed(
        pipe, num_shots=shots, seed=seed, face_weight=FACE_WEIGHT, mouth_weight=MOUTH_WEIGHT, eye_weight=FACE_WEIGHT
    )
    data = EpisodeDataset.from_folders(folders, config, people * config.targets_per_head, split="validation")
    seen: set[int] = set()
    for group in range(8 * people):  # people come in random order, and videos between photos
        episode = data[group * config.targets_per_head]
        if int(episode["identity"]) not in seen:
            seen.add(int(episode["identity"]))
            yield episode
        if len(seen) == min(people, len(data.identities)):
            return


@torch.inference_mode()
def compare_styles(pipe: TalkingHeadPipeline, episodes: list[Episode]) -> StyleTest:
    """Each episode in its own style and in that of the next one. ValueError for fewer than two."""
    if len(episodes) < 2:
        raise ValueError("give episodes of two people at least")
    conditioned = bool(pipe.generator.config.render_conditioned)
    discriminator = pipe.load_discriminator() if pipe.has_discriminator else None
    embeddings = [pipe.embedder(e["shots"][None], e["shot_landmarks"][None]).mean(dim=1) for e in episodes]
    sums = torch.zeros(3)
    judged: list[tuple[Judgement, Judgement]] = []
    for k, episode in enumerate(episodes):
        batch = default_collate([episode])
        own, other = (
            pipe.generator(
                batch["landmark_image"], embedding=embedding, render=batch["render"] if conditioned else None
            )
            for embedding in (embeddings[k], embeddings[(k + 1) % len(episodes)])
        )
        weights = batch["weights"]
        face, mouth = weights > 1, weights > 1 + FACE_WEIGHT
        near = _distance(own, batch["image"], face) < _distance(other, batch["image"], face)
        sums += torch.tensor([_distance(own, other, face), _distance(own, other, mouth), float(near)])
        if discriminator is not None:
            real, fake = (
                discriminator(image, batch["landmark_image"], embeddings[k]) for image in (batch["image"], own)
            )
            judged.append((real, fake))
    face_change, mouth_change, nearer = (sums / len(episodes)).tolist()
    return StyleTest(len(episodes), face_change, mouth_change, nearer, _judge(judged) if judged else None)


def _judge(judged: list[tuple[Judgement, Judgement]]) -> DiscriminatorTest:
    """Judgements of what is real and of what is painted, of one person each."""
    real, fake = (torch.cat([pair[k].scores for pair in judged]) for k in (0, 1))
    patches = [hinge(a.patches, b.patches) for a, b in judged if a.patches is not None and b.patches is not None]
    return DiscriminatorTest(
        float(hinge(real, fake)),
        float((real > fake).float().mean()),
        float(torch.stack(patches).mean()) if patches else None,
    )


def _distance(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Mean |a - b| in levels of 255, of images (1, 3, H, W) in [-1, 1] where ``where`` (1, 1, H, W) is."""
    distance = (a - b).abs().mean(dim=1, keepdim=True)[where]
    return LEVELS * float(distance.mean()) if len(distance) else 0.0


def main(
    clips: Annotated[list[Path], typer.Option(help="Folder of prepared clips; may be given several times.")],
    model: Annotated[str | None, typer.Option(help="Folder, org/name, or a bundled one's name.")] = None,
    shots: Annotated[int, typer.Option(help="K.", min=1)] = 4,
    people: Annotated[int, typer.Option(help="At most.", min=2)] = 32,
    seed: Annotated[int, typer.Option(help="Of the episodes.")] = 0,
) -> None:
    """Measure what another person's style changes."""
    with mistakes_in_one_line(ValueError):
        pipe = TalkingHeadPipeline.from_pretrained(model)
        found = compare_styles(pipe, list(episodes_of(pipe, clips, shots, people, seed)))
    typer.echo(
        f"{found.people} people. Another person's style changes the face by {found.face:.1f} and the mouth by "
        f"{found.mouth:.1f} levels of 255; one's own is nearer to the target for {100 * found.own_is_nearer:.0f} %."
    )
    if (eye := found.discriminator) is not None:
        patches = "" if eye.patch_hinge is None else f", of patches {eye.patch_hinge:.2f}"
        typer.echo(
            f"Discriminator: hinge loss {eye.hinge:.2f}{patches} (2 is chance); it scores the photo higher than what "
            f"is painted for {100 * eye.right:.0f} %."
        )


if __name__ == "__main__":
    typer.run(main)
