"""The generator G(y, e; psi, P) of the paper: a landmark image and a person's style -> the person in that pose."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from ..warping import SOURCE_CHANNELS, displaced
from .layers import DownBlock, Factory, SelfAttention, StyledBlock, adaptive_instance_norm, blocks_at, check_sizes

GAIN_SPEED = 16.0
"""Adam moves every parameter by about its rate a step. Alone, the gain would need thousands of steps until corrections
reach from grey to black; with this factor it needs hundreds."""
MAX_FLOW = 0.08
"""How far the flow may move the warped photo, in sides of the image."""
STILL_AT_START = -3.0
"""Logit of the share that the unmoved photo has in the output before training."""


class Generator(ModelMixin, ConfigMixin):
    """Image-to-image network of residual blocks whose AdaIN coefficients are psi_hat = P e (section 3.3).

    Two designs in one class:

    * ``source_conditioned=False``, the paper's: input is the landmark image, output is painted from nothing.
    * ``source_conditioned=True``: input is also the photo, warped to the target's landmarks and as it is, and what is
      known of the warp (warping.py). Encoder features reach the decoder at equal resolution (``skips``). The output is
      three layers: the warped photo, moved on by a small flow; where a mask says so the photo as it is, for what does
      not move with the head; and a correction painted over both. The gains of flow, mask and correction start at
      zero: training starts at the warp and moves away from it only where that helps.

    ``patch_size`` 2 works on 2x2 pixels folded into channels. ``attention_resolution`` is for the down blocks,
    ``up_attention_resolution`` for the up blocks; 0 leaves it out. Stateless: nothing is stored during forward.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 256,
        channels: list[int] = [64, 128, 256, 512],  # noqa: B006  (config defaults are never changed)
        num_middle_blocks: int = 4,
        embedding_dim: int = 512,
        patch_size: int = 1,
        attention_resolution: int = 32,
        up_attention_resolution: int = 64,
        source_conditioned: bool = False,
        skips: bool = False,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(image_size, patch_size, channels)
        if not 0 <= num_middle_blocks <= 64:
            raise ValueError(f"num_middle_blocks must lie between 0 and 64, got {num_middle_blocks}")
        make = Factory(spectral_norm)
        n = len(channels)
        inputs = (3 + SOURCE_CHANNELS * source_conditioned) * patch_size**2
        widths = [inputs, *channels]
        self.down = nn.ModuleList(
            DownBlock(make, a, b, norm_first=i > 0, norm_second=True) for i, (a, b) in enumerate(pairwise(widths))
        )
        down_attention = blocks_at(attention_resolution, image_size, patch_size, n)
        self.down_attention = nn.ModuleDict({str(i): SelfAttention(make, channels[i]) for i in down_attention})
        self.middle = nn.ModuleList(
            StyledBlock(make, channels[-1], channels[-1], upsample=False) for _ in range(num_middle_blocks)
        )
        # Up blocks mirror the down blocks: to the width that the encoder had at that resolution.
        up = [channels[-1], *reversed([channels[0], *channels[:-1]])] if skips else [channels[-1], *reversed(channels)]
        self.up = nn.ModuleList(StyledBlock(make, a, b, upsample=True) for a, b in pairwise(up))
        up_sizes = [image_size // patch_size // 2 ** (n - 1 - i) for i in range(n)]
        self.up_attention = nn.ModuleDict(
            {str(i): SelfAttention(make, up[i + 1]) for i in range(n) if up_sizes[i] == up_attention_resolution}
        )
        self.to_rgb = make.conv(up[-1], 3 * patch_size**2)
        if source_conditioned:
            self.gain = nn.Parameter(torch.zeros(3 * patch_size**2))
            self.to_flow = make.conv(up[-1], 3)  # flow (x, y) and mask
            self.flow_gain = nn.Parameter(torch.zeros(3))
        self._styled = [c for block in [*self.middle, *self.up] for c in block.styled_channels] + [up[-1]]
        self.projection = make.linear(embedding_dim, self.style_dim)
        bias: Any = self.projection.bias
        with torch.no_grad():  # start as plain instance norm: weights one, biases zero
            bias.copy_(self._neutral_style())

    @property
    def style_dim(self) -> int:
        """S, the number of AdaIN coefficients: a weight and a bias for each channel of each AdaIN."""
        return 2 * sum(self._styled)

    def _neutral_style(self) -> Tensor:
        return torch.cat([torch.cat([torch.ones(c), torch.zeros(c)]) for c in self._styled])

    def _split(self, style: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = style.split([2 * c for c in self._styled], dim=1)
        return [(part[:, : part.shape[1] // 2], part[:, part.shape[1] // 2 :]) for part in parts]

    def forward(
        self,
        landmark_images: Tensor,
        embedding: Tensor | None = None,
        style: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Frames (B, 3, H, W), nominally in [-1, 1].

        landmark_images (B, 3, H, W) in [-1, 1]; either ``embedding`` e (B, N), or ``style`` psi' (B, S) or (S,);
        a source-conditioned generator needs ``source`` (B, SOURCE_CHANNELS, H, W), see ``warping.source_planes``.
        """
        if (embedding is None) == (style is None):
            raise ValueError("give either embedding or style")
        if (source is None) == self.config.source_conditioned:
            raise ValueError("give source exactly when the generator is source-conditioned")
        if style is None:
            style = self.projection(embedding)
        if style.ndim == 1:
            style = style.expand(landmark_images.shape[0], -1)
        styles = self._split(style)

        x = landmark_images
        if source is not None:
            warped, photo, trust, shown = source.split([3, 3, 1, 1], dim=1)
            x = torch.cat([x, warped * shown, photo, 2 * trust - 1, 2 * shown - 1], dim=1)
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))  # now and not in the first convolution: half as much to move
        # In this order: the other way round takes a third longer.
        x = F.pixel_unshuffle(x.contiguous(memory_format=torch.channels_last), self.config.patch_size)
        features = []
        for i, block in enumerate(self.down):
            x = block(x)
            if str(i) in self.down_attention:
                x = self.down_attention[str(i)](x)
            features.append(x)
        features.pop()  # the last one is x itself
        for block in self.middle:
            x = block(x, [styles.pop(0), styles.pop(0)])
        for i, block in enumerate(self.up):
            x = block(x, [styles.pop(0), styles.pop(0)])
            if str(i) in self.up_attention:
                x = self.up_attention[str(i)](x)
            if self.config.skips and features:
                x = x + features.pop()
        x = F.relu(adaptive_instance_norm(x, *styles.pop(0)))
        if source is None:
            return torch.tanh(F.pixel_shuffle(self.to_rgb(x).float(), self.config.patch_size))
        return self._layers(x, source)

    def _layers(self, x: Tensor, source: Tensor) -> Tensor:
        """Features (B, C, H/p, W/p) and ``source`` -> frames: warped photo, photo as it is, correction."""
        size = source.shape[-2:]
        gain = GAIN_SPEED * self.flow_gain[:, None, None]
        # Contiguous: from here on planes are worked on, and slices of channels that lie side by side cost tenfold.
        geometry = (self.to_flow(x).float() * gain).contiguous()
        geometry = F.interpolate(geometry, size=size, mode="bilinear", align_corners=False)
        # In float32 even where the networks are not: 16 bit tell places apart by half a pixel at best.
        warped, photo, _, shown = source.float().split([3, 3, 1, 1], dim=1)
        warped = displaced(warped, MAX_FLOW * torch.tanh(geometry[:, :2])) * shown
        still = torch.sigmoid(geometry[:, 2:] + STILL_AT_START)
        correction = self.to_rgb(x).float() * (GAIN_SPEED * self.gain[:, None, None])
        correction = 2 * torch.tanh(F.pixel_shuffle(correction.contiguous(), self.config.patch_size))
        return warped + still * (photo - warped) + correction
