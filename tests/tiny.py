"""A tiny model on disk: real networks with random weights, through the real saving code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.generator import GAIN_SPEED
from train.config import PRESETS, ModelConfig
from train.export import folded, save_model

SIZE = 64


def tiny_config(render_conditioned: bool = True, size: int = SIZE) -> ModelConfig:
    """The preset "tiny" at ``size`` px."""
    model = PRESETS["tiny"].model
    shared = {"image_size": size}
    return replace(
        model,
        embedder=model.embedder | shared,
        generator=model.generator | shared | {"render_conditioned": render_conditioned},
        discriminator=model.discriminator | shared,
    )


def save_tiny_model(
    folder: Path, seed: int = 0, render_conditioned: bool = True, size: int = SIZE, gain: float = 0.1
) -> Path:
    """Writes a model whose output depends on everything that goes in; with a ``gain`` of 0 it is the render alone."""
    config = tiny_config(render_conditioned, size)
    torch.manual_seed(seed)
    networks = Embedder(**config.embedder), Generator(**config.generator), Discriminator(**config.discriminator)
    if render_conditioned:  # as after some training
        torch.nn.init.constant_(networks[1].gain, gain / GAIN_SPEED)
    embedder, generator, discriminator = (folded(net) for net in networks)
    save_model(embedder, generator, discriminator, folder)
    return folder
