"""One person, ready to be painted: embedding, AdaIN parameters, photos and, once fine-tuned, a generator of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .errors import OutputError
from .hub import FORMAT_VERSION, WEIGHTS_NAME, load_strictly, resolve, written_whole
from .images import to_float
from .landmarks import NUM_LANDMARKS
from .models import Generator
from .models.layers import settings_of
from .video import check_writable


def check_folder(folder: Path) -> None:
    """Find out before the work that an avatar cannot be saved in ``folder``. Raises OutputError."""
    if not folder.exists():
        check_writable(folder, (folder.suffix.lower(),))
    elif not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no avatar. Choose another folder.")


class Avatar(ModelMixin, ConfigMixin):
    """What is kept of a person. Made by ``TalkingHeadPipeline.create_avatar`` or ``train.fine_tune``.

    ``embedding`` (N,): e, the mean over the photos. ``style`` (S,): psi', P e at first. ``photos`` uint8
    (K, 3, H, H) and ``landmarks`` float32 (K, L, 2) in their pixels: what source conditioning warps, and the geometry
    that relative motion is carried over to. ``generator``: this person's own, or None to be painted by the base model.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int,
        style_dim: int,
        num_photos: int,
        image_size: int = 256,
        base_model: str = "",
        base_revision: str = "",
        own_generator: dict[str, Any] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        """``base_revision`` is the fingerprint of the base model's weights; ``own_generator`` its configuration."""
        super().__init__()
        if num_photos < 1:
            raise ValueError("an avatar needs at least one photo")
        self.style = nn.Parameter(torch.zeros(style_dim))
        self.register_buffer("embedding", torch.zeros(embedding_dim))
        self.register_buffer("photos", torch.zeros(num_photos, 3, image_size, image_size, dtype=torch.uint8))
        self.register_buffer("landmarks", torch.zeros(num_photos, NUM_LANDMARKS, 2))
        self.generator = Generator(**own_generator) if own_generator is not None else None

    @classmethod
    def create(
        cls,
        embedding: Tensor,
        style: Tensor,
        photos: np.ndarray,
        landmarks: np.ndarray,
        base_model: str,
        base_revision: str,
        generator: Generator | None = None,
    ) -> Self:
        """From values: embedding (N,), style (S,), photos uint8 (K, H, H, 3), landmarks float32 (K, L, 2)."""
        avatar = cls(
            embedding_dim=len(embedding),
            style_dim=len(style),
            num_photos=len(photos),
            image_size=photos.shape[1],
            base_model=base_model,
            base_revision=base_revision,
            own_generator=None if generator is None else settings_of(generator.config),
        )
        with torch.no_grad():
            avatar.embedding.copy_(embedding)
            avatar.style.copy_(style)
            avatar.photos.copy_(torch.from_numpy(np.ascontiguousarray(photos)).permute(0, 3, 1, 2))
            avatar.landmarks.copy_(torch.from_numpy(np.ascontiguousarray(landmarks)))
        if avatar.generator is not None and generator is not None:
            avatar.generator.load_state_dict(generator.state_dict())
        return avatar.eval()

    def with_shots(self, photos: np.ndarray, landmarks: np.ndarray) -> Self:
        """The same person, painted over other photos: uint8 (K, H, H, 3) and landmarks float32 (K, L, 2)."""
        return type(self).create(
            self.embedding, self.style.detach(), photos, landmarks, self.config.base_model, self.config.base_revision,
            self.generator,
        ).to(self.photos.device)  # fmt: skip

    @property
    def photo_images(self) -> np.ndarray:
        """The photos as the model sees them: uint8 RGB (K, H, H, 3)."""
        return self.photos.permute(0, 2, 3, 1).cpu().numpy()

    @property
    def shots(self) -> Tensor:
        """The photos as network inputs: float32 (K, 3, H, H) in [-1, 1]."""
        return to_float(self.photo_images).to(self.photos.device)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Writes ``config.json`` and the weights into a folder; beside first, then renamed. Raises OutputError.

        An existing avatar in that folder is replaced; a folder with anything else in it is refused.
        """
        folder = Path(save_directory)
        check_folder(folder)
        with written_whole(folder) as beside:
            super().save_pretrained(beside, **kwargs)

    def push_to_hub(self, repo_id: str, private: bool = True, **kwargs: Any) -> str:
        """Uploads to ``repo_id`` of the Hub: private unless asked otherwise, because a face is personal data."""
        return super().push_to_hub(repo_id, private=private, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """A saved avatar from a folder or "org/name" of the Hub (``revision``, ``cache_dir``, ``local_files_only``).

        Raises InvalidModelError where it is missing, damaged, or something else.
        """
        options = {key: kwargs.pop(key) for key in ("revision", "cache_dir", "local_files_only") if key in kwargs}
        if kwargs:
            raise ValueError(f"unknown options {sorted(kwargs)}")
        source = os.fspath(pretrained_model_name_or_path)
        folder = resolve(source, marker="config.json", patterns=[WEIGHTS_NAME], **options)
        return load_strictly(cls, folder)
