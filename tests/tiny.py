"""A tiny model on disk: real networks with random weights, through the real saving code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from talking_heads.models.generator import GAIN_SPEED
from train.config import PRESETS, ModelConfig
from train.export import folded, save_model
from train.meta import build_networks

SIZE = 64


def tiny_config(source_conditioned: bool = True) -> ModelConfig:
    """The preset "tiny" at 64 px."""
    model = PRESETS["tiny"].model
    shared = {"image_size": SIZE}
    return replace(
        model,
        embedder=model.embedder | shared,
        generator=model.generator | shared | {"source_conditioned": source_conditioned},
        discriminator=model.discriminator | shared,
    )


def save_tiny_model(folder: Path, seed: int = 0, source_conditioned: bool = True) -> Path:
    """Writes a model whose output depends on everything that goes in."""
    config = tiny_config(source_conditioned)
    torch.manual_seed(seed)
    networks = build_networks(config)
    if source_conditioned:  # as after some training; with a gain of zero the output is the warp
        torch.nn.init.constant_(networks[1].gain, 0.1 / GAIN_SPEED)
    embedder, generator, discriminator = (folded(net) for net in networks)
    save_model(embedder, generator, discriminator, folder)
    return folder
