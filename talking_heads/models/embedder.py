"""The embedder E(x, y; phi) of the paper: a photo and its landmark image -> a vector that knows who, not how."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from .layers import Encoder, Factory


class Embedder(ModelMixin, ConfigMixin):
    """Residual down blocks without normalisation, ReLU, sum over space (section 3.4).

    ``channels[-1]`` is N, the embedding's dimension. ``patch_size`` 2 folds 2x2 pixels into channels first: a quarter
    of the arithmetic at the finest resolution. ``attention_resolution`` 0 leaves self-attention out.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 256,
        channels: list[int] = [64, 128, 256, 512, 512, 512],  # noqa: B006  (config defaults are never changed)
        patch_size: int = 1,
        attention_resolution: int = 32,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            Factory(spectral_norm),
            inputs=6,
            channels=list(channels),
            image_size=image_size,
            patch_size=patch_size,
            attention_resolution=attention_resolution,
            last_block=False,
        )

    @property
    def embedding_dim(self) -> int:
        """N, the length of an embedding."""
        return int(self.config.channels[-1])

    def forward(self, images: Tensor, landmark_images: Tensor) -> Tensor:
        """e_i(s) of K shots: two (B, K, 3, H, W) in [-1, 1] -> embeddings (B, K, N). Their mean over K is e_i."""
        if images.ndim != 5 or images.shape != landmark_images.shape:
            raise ValueError(f"expected two (B, K, 3, H, W), got {tuple(images.shape)}, {tuple(landmark_images.shape)}")
        x = torch.cat([landmark_images, images], dim=2).flatten(0, 1)  # (B K, 6, H, W)
        vectors, _ = self.encoder(x.contiguous(memory_format=torch.channels_last))
        return vectors.unflatten(0, images.shape[:2])
