"""Fine-tuning to a new person (section 3.3 of the paper): from a few photos to an avatar with a generator of its own.

    python -m train.finetune --photos a.jpg --photos b.jpg --output AVATAR [--steps 40] [--push me/ada]

Starts where meta-learning says: psi' = P e becomes a vector that is trained itself, and the discriminator's
w' = w0 + e likewise. L_CNT + L_ADV for G' (unless told else, without its first part: see DEFAULT_WEIGHTS), the hinge
loss for D', no L_MCH. With ``--preset paper`` it is done as the paper does: all of L_ADV, its weights, rates and betas.
The feed-forward variant is ``pipe.create_avatar``: the same avatar at step 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import default_collate

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots, check_folder
from talking_heads.engines import autocast
from talking_heads.errors import NoFaceError
from talking_heads.head.filters import resized
from talking_heads.head.photo import REACH
from talking_heads.hub import check_push
from talking_heads.pipeline import Photo

from .config import PRESETS, as_photographed, preset
from .data.clips import Clip, ClipMeta, canvas_side, make_clip
from .data.episodes import Episode, EpisodeDataset
from .data.photo_animation import AnimatablePhoto, animate
from .export import folded, trainable
from .losses import LossNets, LossWeights
from .terminal import mistakes_in_one_line
from .trainer import Networks, as_numbers, minimize_with, training_step

COPIES = 24
"""Animated frames of all photos together; at least four of each."""

OnStep = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, the terms of the loss); what it raises cancels the work."""


@dataclass(frozen=True)
class Previews:
    """The avatar, to be looked at while the work goes on."""

    show: Callable[[int, Avatar], None]
    """Called with (steps done, the avatar as it is then)."""
    every: int = 10
    """Steps from one to the next."""


DEFAULT_WEIGHTS = LossWeights(adversarial=0.0, match=0.0)
"""With a content network. -D(x_hat, y, i) is left out: the bundled discriminator knows painted from real no better than
chance, and what such a one teaches spoils a face (an untrained one took the structural similarity of unseen frames from
0.81 to 0.67 in 40 steps). Its activations do teach."""
WEIGHTS_ALONE = replace(DEFAULT_WEIGHTS, squeezenet=0.0, feature_matching=100.0)
"""Weights without a content network: feature matching and pixels, for which nothing needs to be downloaded."""


@dataclass(frozen=True)
class FineTuning:
    """How an avatar is tuned."""

    weights: LossWeights | None = None
    """Weights of the losses; the weight of L_MCH is ignored. None: DEFAULT_WEIGHTS, or WEIGHTS_ALONE without a content
    network."""
    batch_size: int = 4
    generator_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    betas: tuple[float, float] = PRESETS["default"].betas
    discriminator_steps: int = 1

    @classmethod
    def of_preset(cls, name: str) -> FineTuning:
        """As a preset's meta-learning does it; that of ``default`` is what is meant where nothing is said. ValueError
        for an unknown name."""
        if name == "default":
            return cls()
        config = preset(name)
        return cls(
            config.losses, config.batch_size, config.generator_rate, config.discriminator_rate, config.betas,
            config.discriminator_steps,
        )  # fmt: skip


def fine_tune(pipe: TalkingHeadPipeline, photos: Sequence[Photo], steps: int = 40, **options: Any) -> Avatar:
    """A new avatar whose generator is tuned to the photos; neither ``pipe`` nor anything passed in is changed.

    ``options`` are those of ``fine_tune_avatar``. Raises what it and ``pipe.create_avatar`` raise.
    """
    _check_steps(steps)
    return fine_tune_avatar(pipe, pipe.create_avatar(photos), steps, **options)


@torch.random.fork_rng(devices=[])  # building networks must not advance the caller's random numbers
def fine_tune_avatar(
    pipe: TalkingHeadPipeline,
    start: Avatar,
    steps: int = 40,
    *,
    feature_net: str | Path | Sequence[str | Path] | None = None,
    settings: FineTuning = FineTuning(),
    seed: int = 0,
    on_step: OnStep | None = None,
    previews: Previews | None = None,
) -> Avatar:
    """A new avatar, tuned to the photos of one that ``pipe`` made; neither of the two is changed.

    Each photo is animated, and the network learns to get from its copies back to the untouched photo; and, where there
    are several, from one photo to the other. ``feature_net``: weights of a content network, or of several
    (features.py). ``on_step`` hears of each step, ``previews`` sees the avatar after some of them.
    Raises InvalidModelError without a discriminator; ValueError for steps < 1, and for losses without their network.
    """
    _check_steps(steps)
    content = [feature_net] if isinstance(feature_net, str | Path) else list(feature_net or ())
    weights = settings.weights or (DEFAULT_WEIGHTS if content else WEIGHTS_ALONE)
    device = pipe.device
    person = _Person(pipe, start)
    loss_nets = LossNets(replace(weights, match=0.0, identity=0.0), content).to(device)
    config = as_photographed(pipe, num_shots=1, seed=seed, stills_share=1.0, real_targets=1.0)
    clips = clips_of(start.shots, pipe.image_size, seed, person.conditioned)
    batch_size, rates = settings.batch_size, (settings.generator_rate, settings.discriminator_rate)
    episodes = EpisodeDataset(clips, config, steps * batch_size)
    optimizers = [
        torch.optim.Adam(parameters, lr=rate, betas=settings.betas)
        for parameters, rate in zip(person.parameters(), rates, strict=True)
    ]
    minimize_generator, minimize_discriminator = (
        minimize_with(optimizer, partial(autocast, device)) for optimizer in optimizers
    )

    for step in range(steps):
        # Falling to zero: where steps are few, there is no time for an average to calm what the last ones do.
        _set_rates(optimizers, [rate * (1 - step / steps) for rate in rates])
        samples = default_collate([episodes[i] for i in range(step * batch_size, (step + 1) * batch_size)])
        batch = cast(Episode, {name: value.to(device) for name, value in samples.items()})
        terms = training_step(
            person.networks(), [batch], loss_nets, minimize_generator, minimize_discriminator,
            settings.discriminator_steps,
        )  # fmt: skip
        if on_step is not None:
            on_step(step + 1, steps, as_numbers(terms))
        if previews is not None and (step + 1) % previews.every == 0:
            previews.show(step + 1, person.avatar(pipe))

    return person.avatar(pipe)


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[float]) -> None:
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate


class _Person:
    """The networks of section 3.3, which begin as meta-learning's for this person: G' with psi', D' with w'."""

    def __init__(self, pipe: TalkingHeadPipeline, start: Avatar) -> None:
        """Raises InvalidModelError where ``pipe`` has no discriminator."""
        self.start = start
        self.generator = trainable(pipe.generator).to(pipe.device)
        self.discriminator = trainable(pipe.load_discriminator()).to(pipe.device)
        self.style = nn.Parameter(start.style.detach().clone())  # psi' = P e
        self.identity = nn.Parameter(start.embedding.detach().clone())  # with the frozen w0: w' = w0 + e
        self.discriminator.w0.requires_grad_(False)
        self.conditioned = bool(self.generator.config.render_conditioned)

    def networks(self) -> Networks:
        """The networks as a step takes them."""
        return Networks(
            embed=lambda _shots, _landmarks: self.style,
            generate=lambda landmark_images, style, render: self.generator(
                landmark_images, style=style, render=render if self.conditioned else None
            ),
            discriminator=self.discriminator,
            identity=lambda who: self.identity.expand(len(who), -1),
        )

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """psi and psi', then theta, b and w'. P has done its work: psi' is trained in its place."""
        psi = [p for name, p in self.generator.named_parameters() if not name.startswith("projection")]
        theta = [p for p in self.discriminator.parameters() if p.requires_grad]
        return [*psi, self.style], [*theta, self.identity]

    def avatar(self, pipe: TalkingHeadPipeline) -> Avatar:
        """The person as they are now."""
        start = self.start
        return Avatar.create(
            start.embedding, self.style.detach(), start.shots, pipe.name, pipe.fingerprint, folded(self.generator),
            pipe.commit, start.head,
        ).to(pipe.device)  # fmt: skip


def clips_of(shots: Shots, size: int, seed: int, animated: bool) -> list[Clip]:
    """Data for fine-tuning from a person's photos, at ``size`` pixels a crop: the photos, and each one animated.

    A photo that the face model cannot follow is not.
    """
    side = canvas_side(size)
    canvases = [resized(np.ascontiguousarray(canvas), side) for canvas in shots.canvases]
    masks = [resized(np.ascontiguousarray(mask), side) for mask in shots.masks]
    clips = [make_clip(canvases, masks, shots.landmarks, ClipMeta("person", "photos", kind="stills"))]
    if not animated:
        return clips
    number = max(4, COPIES // len(canvases))
    for k, (canvas, mask, landmarks) in enumerate(zip(canvases, masks, shots.landmarks, strict=True)):
        edge = (round(REACH * side) - side) // 2
        wider, wider_mask = np.pad(canvas, ((edge, edge), (edge, edge), (0, 0)), "edge"), np.pad(mask, edge, "edge")
        with contextlib.suppress(NoFaceError):
            photo = AnimatablePhoto.of(wider, wider_mask, landmarks, analysis=max(256, size))
            frames, their_masks, points, _ = animate(photo, None, number + 1, np.random.default_rng([seed, k]))
            clips.append(make_clip(frames, their_masks, points, ClipMeta("person", f"photo {k}", kind="animated")))
    return clips


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be positive, got {steps}")


def main(
    photos: Annotated[list[Path], typer.Option(help="A photo of the person; give the option once for each.")],
    output: Annotated[Path, typer.Option(help="Folder for the avatar.")],
    model: Annotated[str | None, typer.Option(help="Base model: folder or org/name; else the bundled one.")] = None,
    steps: Annotated[int, typer.Option(help="Updates; 40 takes about a minute on a CPU.", min=1)] = 40,
    feature_net: Annotated[
        str, typer.Option(help="Weights of a content network, if there are some; several with commas.")
    ] = "",
    preset_name: Annotated[
        str,
        typer.Option(
            "--preset",
            help=f"Losses, rates and batches: one of {', '.join(PRESETS)}; all but default need a content network.",
        ),
    ] = "default",
    seed: Annotated[int, typer.Option(help="Of the episodes.")] = 0,
    push: Annotated[
        str | None, typer.Option(help="Repository of the Hub (me/name) for the avatar as well; a private one.")
    ] = None,
) -> None:
    """Fine-tune a person's avatar from photos."""
    columns = (
        TextColumn("fine-tuning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps,"),
        TimeRemainingColumn(),
    )
    with mistakes_in_one_line(ValueError):
        settings = FineTuning.of_preset(preset_name)
        check_folder(output)
        if push is not None:
            check_push("avatar", push, private=True)
        pipe = TalkingHeadPipeline.from_pretrained(model)
        with Progress(*columns) as progress:
            bar = progress.add_task("", total=steps)
            avatar = fine_tune(
                pipe, photos, steps, feature_net=[path for path in feature_net.split(",") if path], settings=settings,
                seed=seed,
                on_step=lambda done, _total, _terms: progress.update(bar, completed=done),
            )  # fmt: skip
        avatar.save_pretrained(output)
        if push is not None:
            typer.echo(avatar.push_to_hub(push).repo_url)
    typer.echo(
        f"The avatar is in {output}. Animate it: python -m talking_heads animate --avatar {output} --driving CLIP"
    )


if __name__ == "__main__":
    typer.run(main)
