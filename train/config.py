"""Configurations of networks and training: frozen dataclasses, and the presets tiny, default, paper and paper-128."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talking_heads.errors import InvalidModelError

from .losses import LossWeights

if TYPE_CHECKING:
    from talking_heads import TalkingHeadPipeline


@dataclass(frozen=True)
class ModelConfig:
    """Keyword arguments of the three networks' constructors; what is not given is the paper's."""

    embedder: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    discriminator: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetaConfig:
    """One run of meta-learning. The defaults are the preset ``paper``: the paper's values, or those of known code."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights.paper_v2)
    image_size: int = 256
    """Resolution of training; the networks are convolutional, so a run may start below their nominal size."""
    num_shots: int = 8
    """K."""
    fewest_shots: int | None = None
    """K of each step is drawn between this and ``num_shots``, so that one photo is as usual as many; if None it is
    always ``num_shots``, as in the paper."""
    batch_size: int = 8
    """Of one device."""
    accumulate: int = 1
    """Batches of a device whose mean gradient makes one step."""
    steps: int = 100_000
    minutes: float = 0.0
    """Where it is not 0, a run also ends after so many minutes, those of earlier starts counted in, and cools down by
    the clock."""
    generator_rate: float = 5e-5
    discriminator_rate: float = 2e-4
    betas: tuple[float, float] = (0.0, 0.999)
    cooldown: float = 0.0
    """Share of the steps (or of the minutes), at the end, over which the learning rates fall to zero."""
    ema: float = 0.999
    discriminator_steps: int = 1
    """Updates of D for each of E and G."""
    part_gamma: float = 1.0
    """Strength of R1, which holds the discriminators of the face's parts (part_discriminators.py)."""
    adversarial_from: int = 0
    """Step at which the discriminator joins; before, content and pixels alone are cheaper and steadier."""
    discriminator_warmup: int = 0
    """Steps in which D, having joined, learns but does not teach: embeddings that were trained without it are large,
    its first scores then lie in the hundreds, and what they teach undoes a generator within a few steps."""
    real_targets: float = 0.7
    """Share of an animated still's groups whose target is the untouched photo; in the others it is the first shot: a
    photo that has to blink, speak and turn, which is what happens in use."""
    targets_per_head: int = 4
    """So many consecutive episodes share a first shot, whose head takes longer to build than a target to draw."""
    reuse: int = 1
    """How often each sample is seen before it is gone, on a device that trains faster than processes render."""
    candidates: int = 1
    """The target is the one of so many random frames of a video that differs most from the first shot: frames of a
    speaking person are much alike, and what is alike teaches nothing."""
    face_weight: float = 0.0
    mouth_weight: float = 0.0
    eye_weight: float = 0.0
    """What the face, mouth and eyes weigh more than the rest in the pixel term."""
    degraded_share: float = 0.0
    """Share of groups whose shots have lost pixels and are compressed, while the target is as sharp as ever."""
    stills_share: float = 0.5
    """Share of groups that come from photos, the others from videos."""
    mirror: float = 0.5
    """Share of groups that are mirrored."""
    jitter: float = 1.0
    """How strongly colours and framing of an episode change; 0 for fine-tuning, which must learn one person's own."""
    feature_net: str = ""
    """Path of the weights that the content term uses (features.py)."""
    identity_net: str = ""
    """Path of the weights that the identity term uses (identity.py)."""
    seed: int = 0


_TINY = dict(image_size=32, patch_size=1, attention_resolution=0)

PRESETS: dict[str, MetaConfig] = {
    # Seconds on a CPU: for tests.
    "tiny": MetaConfig(
        model=ModelConfig(
            embedder=_TINY | {"channels": [8, 16, 16]},
            generator=_TINY
            | {
                "channels": [8, 16],
                "num_middle_blocks": 1,
                "embedding_dim": 16,
                "up_attention_resolution": 0,
                "render_conditioned": True,
                "skips": True,
            },
            discriminator=_TINY | {"channels": [8, 16, 16]},
        ),
        losses=LossWeights(squeezenet=0.0),
        image_size=32,
        num_shots=2,
        batch_size=2,
        steps=4,
        generator_rate=1e-3,
        discriminator_rate=1e-3,
        ema=0.9,
        mouth_weight=5.0,
        eye_weight=5.0,
    ),
    # What is bundled: the paper's system over a rendered head, small enough for a CPU.
    "default": MetaConfig(
        model=ModelConfig(
            embedder={"channels": [32, 64, 128, 256, 256], "patch_size": 2},
            generator={
                "channels": [48, 96, 224],
                "num_middle_blocks": 4,
                "embedding_dim": 256,
                "patch_size": 4,
                "attention_resolution": 16,
                # At 64x64 it would take more time on a CPU than the convolutions around it.
                "up_attention_resolution": 0,
                "render_conditioned": True,
                "skips": True,
            },
            discriminator={"channels": [32, 64, 128, 256, 256], "patch_size": 2, "patch_block": 2},
        ),
        # The discriminator learns, but does not teach: in as few steps as a CPU takes it does not get to know painted
        # from real (its hinge loss stays above 2, which is chance), and what such a one teaches spoils a face.
        losses=LossWeights(squeezenet=2.0, adversarial=0.0, feature_matching=0.0, match=2.0),
        num_shots=2,
        batch_size=4,
        steps=4000,
        generator_rate=4e-4,
        discriminator_rate=4e-4,
        betas=(0.5, 0.99),
        cooldown=0.4,
        adversarial_from=3400,
        discriminator_warmup=100,
        candidates=4,
        face_weight=2.0,
        mouth_weight=8.0,
        eye_weight=8.0,
        stills_share=0.6,
        degraded_share=0.2,
    ),
    # Twice as many steps of D as of E and G, and no augmentation.
    "paper": MetaConfig(discriminator_steps=2, mirror=0.0, jitter=0.0),
    # The paper's design (landmark image and AdaIN alone, all of its losses) at 128 pixels, small enough for two cores.
    # Not the paper's: widths, patches of 2 x 2 pixels, rates, scaled scores (see ``Discriminator``), K of 1 to 4,
    # augmentation (there are a thousand times fewer frames), VGG16 in the place of VGG19 and VGGFace, a pixel term,
    # without which VGG16's poolings leave a pattern of dots, and weights by which what D teaches is, as a gradient with
    # respect to the picture, about a third of what content and pixels do.
    "paper-128": MetaConfig(
        model=ModelConfig(
            embedder={"image_size": 128, "channels": [32, 64, 128, 256], "patch_size": 2, "attention_resolution": 16},
            generator={
                "image_size": 128,
                "channels": [56, 112, 208],
                "num_middle_blocks": 3,
                "embedding_dim": 256,
                "patch_size": 2,
                "attention_resolution": 16,
                "up_attention_resolution": 32,
            },
            discriminator={
                "image_size": 128,
                "channels": [32, 64, 128, 256],
                "patch_size": 2,
                "attention_resolution": 16,
                "score_scale": 1 / 256,
            },
        ),
        losses=LossWeights(squeezenet=0.0, vgg16=5e-2, pixel=25.0, adversarial=2.0, feature_matching=30.0),
        image_size=128,
        num_shots=4,
        fewest_shots=1,
        batch_size=8,
        steps=6000,
        generator_rate=4e-4,
        discriminator_rate=4e-4,
        betas=(0.5, 0.999),
        cooldown=0.3,
        discriminator_steps=2,
        stills_share=0.9,
        jitter=0.5,
    ),
}


def preset(name: str, **changes: Any) -> MetaConfig:
    """A preset by name with some fields changed. ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


def as_photographed(pipe: TalkingHeadPipeline, **changes: Any) -> MetaConfig:
    """Of episodes as the pipeline's networks take them, with people as their photos show them: nothing is mirrored,
    framed or coloured anew, or degraded. ``changes``: of other fields."""
    config = preset("default", image_size=pipe.image_size, jitter=0.0, mirror=0.0, degraded_share=0.0, **changes)
    generator = config.model.generator | {"render_conditioned": bool(pipe.generator.config.render_conditioned)}
    return replace(config, model=replace(config.model, generator=generator))


def read_config(path: Path) -> MetaConfig:
    """The ``config.json`` of a run. Raises InvalidModelError for a file that is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        model, weights, betas = ModelConfig(**values["model"]), LossWeights(**values["losses"]), tuple(values["betas"])
        return MetaConfig(**(values | {"model": model, "losses": weights, "betas": betas}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModelError(f"{path} is not the configuration of a run ({error}).") from error
