"""Checkpoints of a run of meta-learning: written whole, kept in small number, read by any number of processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn

from talking_heads import TalkingHeadPipeline
from talking_heads.errors import InvalidModelError
from talking_heads.models import Discriminator
from talking_heads.models.layers import load_folded, settings_of

from .files import written_beside
from .trainer import Trainer

KEPT_CHECKPOINTS = 2
PEOPLE = "people.json"
"""File in a checkpoint: names of people in the order of the columns of W."""


def checkpoints(output: Path) -> list[Path]:
    """A run's checkpoints, the newest last."""
    return sorted(p for p in output.glob("step-*") if p.suffix != ".tmp")


def save_checkpoint(trainer: Trainer) -> Path:
    """A checkpoint named by its step; written beside, then renamed; only the newest few are kept."""
    folder = trainer.output / f"step-{trainer.progress.step:07d}"
    if folder.exists():
        return folder
    beside = folder.with_suffix(".tmp")
    accelerator = trainer.accelerator
    accelerator.wait_for_everyone()  # all have looked
    hook = accelerator.register_save_state_pre_hook(_save_unwrapped)
    accelerator.save_state(str(beside))
    hook.remove()
    accelerator.wait_for_everyone()  # all have written
    if accelerator.is_main_process:
        write_json(beside / PEOPLE, list(trainer.data.identities))
        beside.replace(folder)
        for old in checkpoints(trainer.output)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)
    return folder


def load_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Goes on from a checkpoint, with this run's learning rates. InvalidModelError where it does not fit."""
    people = folder / PEOPLE
    if people.is_file() and json.loads(people.read_text(encoding="utf-8")) != list(trainer.data.identities):
        raise InvalidModelError(f"{folder} was trained on other people. Give the clips that it began with.")
    hook = trainer.accelerator.register_load_state_pre_hook(_load_unwrapped)
    try:
        trainer.accelerator.load_state(str(folder))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise InvalidModelError(f"{folder} does not fit this configuration or these clips ({error}).") from error
    finally:
        hook.remove()
    trainer.set_rates()


def start_from_model(trainer: Trainer, folder: Path) -> None:
    """Begins with the networks of a published model, whose W and optimisers nobody kept.

    InvalidModelError where it is none, or does not fit this configuration.
    """
    pipe = TalkingHeadPipeline.from_pretrained(folder)
    discriminator = trainer.accelerator.unwrap_model(trainer.discriminator)
    try:
        for net, start in ((trainer.embedder, pipe.embedder), (trainer.generator, pipe.generator)):
            load_folded(trainer.accelerator.unwrap_model(net), start.state_dict())
        if not pipe.has_discriminator:
            trainer.accelerator.print("The discriminator begins anew: the model has none.")
        elif _design(published := pipe.load_discriminator()) != _design(discriminator):
            trainer.accelerator.print("The discriminator begins anew: that of the model is of another design.")
        else:
            load_folded(discriminator, published.state_dict())
    except (ValueError, RuntimeError) as error:
        raise InvalidModelError(f"{folder} does not fit this configuration ({error}).") from error
    for name, net in (("embedder", trainer.embedder), ("generator", trainer.generator)):
        trainer.averages[name].restart(trainer.accelerator.unwrap_model(net))


def _design(discriminator: Discriminator) -> dict[str, Any]:
    """The arguments it was constructed with; published ones have their spectral norm folded."""
    return settings_of(discriminator.config) | {"spectral_norm": True}


def write_json(path: Path, value: Any) -> None:
    """Writes a value, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _save_unwrapped(models: list[nn.Module], weights: list[dict[str, Tensor]], _folder: str) -> None:
    """Keys without the prefix of data parallelism, so that any number of processes can go on."""
    for state in weights:
        for key in list(state):
            state[key.removeprefix("module.")] = state.pop(key)


def _load_unwrapped(models: list[nn.Module], folder: str) -> None:
    for i, model in enumerate(models):
        inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        load_model(inner, Path(folder) / f"model{f'_{i}' if i else ''}.safetensors")
    models.clear()  # accelerate has none left to load
