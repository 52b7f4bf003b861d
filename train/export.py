"""Export of trained networks: folds spectral norm, and writes the folder that ``from_pretrained`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from talking_heads import TalkingHeadPipeline
from talking_heads.files import replacing_folder
from talking_heads.hub import TRAINING
from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.layers import converge_spectral_norms, folded_state, load_folded, settings_of

Net = TypeVar("Net", Embedder, Generator, Discriminator)


def folded(model: Net) -> Net:
    """A copy of a network in training for inference: spectral norm folded into the weights, on the CPU, in eval mode.

    The power iterations of ``model`` are brought to their end first: averaged weights have other singular vectors.
    """
    converge_spectral_norms(model)
    plain = type(model)(**(settings_of(model.config) | {"spectral_norm": False}))
    plain.load_state_dict({key: value.float().cpu() for key, value in folded_state(model).items()})
    return plain.eval()


def trainable(model: Net) -> Net:
    """A copy of a folded network for training: with spectral norm, and computing the same."""
    copy = type(model)(**(settings_of(model.config) | {"spectral_norm": True}))
    load_folded(copy, {key: value.float().cpu() for key, value in model.state_dict().items()})
    return copy.train()


def save_model(
    embedder: Embedder,
    generator: Generator,
    discriminator: Discriminator,
    folder: Path,
    dtype: torch.dtype = torch.float16,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Writes the pipeline and, beside it for fine-tuning, the discriminator; replaces what was there, whole or not.

    The networks are ``folded``, as ``Run.averaged`` returns them. ``training``: what the model's card says of how it
    came about. A README.md in the folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not diffusers' own ``to``, which warns of layers to be kept in float32 where there are none.
    networks: Any = [nn.Module.to(deepcopy(net), dtype) for net in (embedder, generator, discriminator)]
    with replacing_folder(folder) as beside:
        TalkingHeadPipeline(networks[0], networks[1]).save_pretrained(beside)
        networks[2].save_pretrained(beside / "discriminator")
        if training is not None:
            (beside / TRAINING).write_text(json.dumps(training, indent=1), encoding="utf-8")
