"""The generator G(y, e; psi, P) of the paper: a landmark image and a person's style -> the person in that pose."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin  # diffusers looks ModelMixin up in this module
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import DownBlock, Factory, SelfAttention, StyledBlock, adaptive_instance_norm, blocks_at, check_sizes

RENDER_CHANNELS = 9
"""Channels of the argument ``render``: 0 to 2 the rendered picture, 3 to 5 the photo, 6 trust, 7 layer, 8 stillness;
see ``head.render.Rendered.generator_planes``."""
SEEN_CHANNELS = RENDER_CHANNELS - 1
"""The network sees so many of them: stillness only masks its correction."""
MAX_CORRECTION = 1.0
"""How far the output may differ from the render, of a range of 2."""
GAIN_SPEED = 16.0
"""Adam moves every parameter by about its rate a step. Alone, the gain would need thousands of steps until corrections
reach from grey to black; with this factor it needs hundreds."""


class Generator(ModelMixin, ConfigMixin):
    """Image-to-image network of residual blocks whose AdaIN coefficients are psi_hat = P e (section 3.1).

    Two designs in one class:

    * ``render_conditioned=False``, the paper's: input is the landmark image, output is painted from nothing.
    * ``render_conditioned=True``: input is also the head, rendered in the target's pose, the photo as it is, and what
      is known of the render (``head/render.py``). Encoder features reach the decoder at equal resolution (``skips``).
      The output is the render and a bounded correction, none where the head has not moved. The correction's gain starts
      at zero: training starts at the render and moves away from it only where that helps.

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
        render_conditioned: bool = False,
        skips: bool = False,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(image_size, patch_size, channels)
        if not 0 <= num_middle_blocks <= 64:
            raise ValueError(f"num_middle_blocks must lie between 0 and 64, got {num_middle_blocks}")
        make = Factory(spectral_norm)
        n = len(channels)
        inputs = (3 + SEEN_CHANNELS * render_conditioned) * patch_size**2
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
        if render_conditioned:
            self.gain = nn.Parameter(torch.zeros(3 * patch_size**2))
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
        render: Tensor | None = None,
    ) -> Tensor:
        """Frames (B, 3, H, W), nominally in [-1, 1].

        landmark_images (B, 3, H, W) in [-1, 1]; either ``embedding`` e (B, N), or ``style`` psi' (B, S) or (S,);
        a render-conditioned generator needs ``render`` (B, RENDER_CHANNELS, H, W), see ``head.render``.
        """
        if (embedding is None) == (style is None):
            raise ValueError("give either embedding or style")
        if (render is None) == self.config.render_conditioned:
            raise ValueError("give render exactly when the generator is render-conditioned")
        if style is None:
            style = self.projection(embedding)
        if style.ndim == 1:
            style = style.expand(landmark_images.shape[0], -1)
        styles = self._split(style)

        x = landmark_images
        if render is not None:
            x = torch.cat([x, render[:, :SEEN_CHANNELS]], dim=1)
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))  # now and not in the first convolution: half as much to move
        # The order matters for speed: the other way round takes a third longer.
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
        if render is None:
            return torch.tanh(F.pixel_shuffle(self.to_rgb(x).float(), self.config.patch_size))
        correction = self.to_rgb(x).float() * (GAIN_SPEED * self.gain[:, None, None])
        # Contiguous: from here on planes are worked on, and slices of channels that lie side by side cost tenfold.
        correction = MAX_CORRECTION * torch.tanh(F.pixel_shuffle(correction.contiguous(), self.config.patch_size))
        picture, still = render[:, :3].float(), render[:, SEEN_CHANNELS:].float()
        return picture + (1 - still) * correction
