"""The projection discriminator D(x, y, i; theta, W, w0, b) of the paper: is this the person i in pose y, and real?"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .layers import Encoder, Factory


class Discriminator(ModelMixin, ConfigMixin):
    """D = V(x, y)^T (W_i + w0) + b (equation 4); V is an encoder as the embedder's with one more block at 4x4.

    W is not in here: the column W_i comes in as ``identity``. It lives in training (one column a person) and is never
    published; in fine-tuning ``identity`` is a trainable vector that starts at e, so that identity + w0 is w'.
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
            last_block=True,
        )
        # Not small: spectral norm keeps V's differences small, and what tells real from painted is their product.
        self.w0 = nn.Parameter(torch.randn(channels[-1]))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, landmark_images: Tensor, identity: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Two (B, 3, H, W) in [-1, 1] and W_i (B, N) or (N,) -> scores (B,) and the activations after each block."""
        x = torch.cat([landmark_images, images], dim=1).contiguous(memory_format=torch.channels_last)
        vector, activations = self.encoder(x)
        return (vector * (identity + self.w0)).sum(dim=1) + self.b, activations
