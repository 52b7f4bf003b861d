"""The projection discriminator D(x, y, i; theta, W, w0, b) of the paper: is this the person i in pose y, and real?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .layers import Encoder, Factory


class Judgement(NamedTuple):
    """Outputs of a discriminator for a batch."""

    scores: Tensor
    """(B,): D."""
    activations: list[Tensor]
    """Features after each block (B, C, h, w)."""
    patches: Tensor | None
    """(B, 1, h, w): a score for each place of ``patch_block``'s activation."""


class Discriminator(ModelMixin, ConfigMixin):
    """D = V(x, y)^T (W_i + w0) + b (equation 5); V is an encoder as the embedder's with one more block at 4x4.

    With ``patch_block`` it also scores patches, as a PatchGAN does: whether each place of that block's activation looks
    real, whoever it is. The paper's has none: one score for a whole image says little of where a mouth is wrong.

    ``score_scale`` multiplies D. The paper has none: with 1, scores are sums over positions and channels. They start in
    the hundreds where W starts at embeddings, and a hinge of that height undoes what G knows within some steps.

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
        patch_block: int | None = None,
        score_scale: float = 1.0,
    ) -> None:
        super().__init__()
        make = Factory(spectral_norm)
        self.encoder = Encoder(
            make,
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
        self.patch_head = None if patch_block is None else make.conv(channels[patch_block], 1, size=1)

    def forward(self, images: Tensor, landmark_images: Tensor, identity: Tensor) -> Judgement:
        """Two (B, 3, H, W) in [-1, 1] and W_i (B, N) or (N,) -> what D says of them."""
        x = torch.cat([landmark_images, images], dim=1).contiguous(memory_format=torch.channels_last)
        vector, activations = self.encoder(x)
        scores = self.config.score_scale * (vector * (identity + self.w0)).sum(dim=1) + self.b
        if self.patch_head is None:
            return Judgement(scores, activations, None)
        return Judgement(scores, activations, self.patch_head(torch.relu(activations[self.config.patch_block])))
