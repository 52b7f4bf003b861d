"""A tiny model on disk: real networks with random weights, through the real saving code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.generator import GAIN_SPEED
from train.config import PRESETS, ModelConfig
from train.export import folded, save_model
from train.identity_net import STAGES

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


def save_tiny_identity_net(path: Path, channels: int = 8) -> Path:
    """Writes the network of ``train.identity_net`` with few channels and random weights."""
    rng = np.random.default_rng(0)
    arrays = {"fc": rng.normal(0, 1, (channels, 128))}

    def layer(name: str, inputs: int = channels, side: int = 3) -> None:
        deviation = (2 / (inputs * side**2)) ** 0.5
        arrays[f"{name}.conv.filters"] = rng.normal(0, deviation, (side, side, inputs, channels))
        arrays[f"{name}.conv.bias"] = arrays[f"{name}.scale.biases"] = np.zeros(channels)
        arrays[f"{name}.scale.weights"] = np.full(channels, 0.7)

    layer("conv32_down", 3, 7)
    blocks = [f"{stage}_{i + 1}" for stage, count in STAGES for i in range(count)]
    blocks += [f"{stage}_down" for stage, _ in STAGES[1:]] + ["conv256_down_out"]
    for name in (f"{block}.conv{i}" for block in blocks for i in (1, 2)):
        layer(name)
    np.savez(path, **{name: values.astype(np.float16) for name, values in arrays.items()})
    return path
