"""Trained networks -> a folder that ``TalkingHeadPipeline.from_pretrained`` reads."""

from __future__ import annotations

import os
import shutil
from copy import deepcopy
from pathlib import Path

import torch

from talking_heads import TalkingHeadPipeline
from talking_heads.models import Discriminator, Embedder, Generator


def save_model(
    embedder: Embedder,
    generator: Generator,
    discriminator: Discriminator,
    folder: Path,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes the pipeline and, beside it for fine-tuning, the discriminator; replaces what was there, whole or not.

    The networks are those that ``Run.averaged`` returns: spectral norm folded. A README.md in the folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        networks = [deepcopy(net).to(dtype) for net in (embedder, generator, discriminator)]
        TalkingHeadPipeline(networks[0], networks[1]).save_pretrained(beside)
        networks[2].save_pretrained(beside / "discriminator")
        card = folder / "README.md"
        if card.is_file():
            shutil.copy(card, beside)
        if folder.exists():
            folder.replace(old)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
