"""The blocks that embedder, generator and discriminator are made of (paper, section 3.4; BigGAN's residual blocks)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum
from torch.nn.utils.parametrize import is_parametrized

NORM_EPS = 1e-4
CPU_KERNEL_FROM = 1024
"""Pixels from which torch normalises groups of one channel in channels_last by a fast kernel. By the one for fewer, a
batch of eight at 16 x 16 x 224 takes 7 ms in bf16 and 2 ms in float32; ours 0.4 and 0.7."""


class Factory:
    """Makes convolutions and linear layers, all with spectral norm or all without (folded, for inference).

    Weights start orthogonal (as BigGAN's) and biases at zero. Spectral norm divides a random matrix by far more than
    its usual gain: behind a few such layers, all images would look alike, drowned by the biases.
    """

    def __init__(self, spectral_norm: bool) -> None:
        self.spectral_norm = spectral_norm

    def wrap(self, layer: nn.Conv2d | nn.Linear) -> nn.Module:
        if not self.spectral_norm:
            return layer
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        return normalise_spectrum(layer)

    def conv(self, inputs: int, outputs: int, size: int = 3, bias: bool = True) -> nn.Module:
        """A convolution that keeps the resolution (zero padding)."""
        return self.wrap(nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias))

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        return self.wrap(nn.Linear(inputs, outputs))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over space, (B, C, H, W) -> two float32 (B, C).

    Written as matrix products, which on a CPU are several times faster in channels_last and 16 bit than the reduction
    kernels and need no copy. In 16 bit each row is averaged on its own, so that the rounding of these averages averages
    out; in float32 one product takes half the time.
    """
    b, c, h, w = x.shape
    chunks = h if x.element_size() == 2 else 1
    pixels = x.permute(0, 2, 3, 1).reshape(b * chunks, -1, c)  # a view in channels_last
    count = h * w // chunks
    share = x.new_full((1, 1, 1), 1.0 / count).expand(b * chunks, 1, count)
    mean = torch.bmm(share, pixels).float().reshape(b, chunks, c).mean(dim=1)
    square = torch.bmm(share, pixels * pixels).float().reshape(b, chunks, c).mean(dim=1)
    return mean, (square - mean * mean).clamp_min(0.0)


def adaptive_instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """AdaIN: IN(x) * weight + bias with (B, C) coefficients, no "1 +" offset. The result has x's type and layout."""
    if x.device.type == "cpu" and not torch.is_grad_enabled() and (torch.jit.is_tracing() or _large(x)):
        # A CPU's own kernel is up to three times as fast forward; backward it is slower than what follows. Engines that
        # a traced network goes to have a fast one for every size.
        normalised = F.group_norm(x, int(x.shape[1]), eps=NORM_EPS)  # to a tracer, sizes are tensors
        return torch.addcmul(bias.to(x.dtype)[..., None, None], normalised, weight.to(x.dtype)[..., None, None])
    mean, variance = channel_statistics(x)
    scale = weight.float() * torch.rsqrt(variance + NORM_EPS)
    shift = bias.float() - mean * scale
    return torch.addcmul(shift.to(x.dtype)[..., None, None], x, scale.to(x.dtype)[..., None, None])


def _large(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] >= CPU_KERNEL_FROM


class InstanceNorm(nn.Module):
    """Instance norm with learned coefficients of its own, for the landmark image's encoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], -1)
        return adaptive_instance_norm(x, self.weight.expand(shape), self.bias.expand(shape))


class DownBlock(nn.Module):
    """Residual block [norm] ReLU conv [norm] ReLU conv, average pool; (B, in, H, W) -> (B, out, H/2, W/2).

    ``norm_first`` and ``norm_second`` say whether instance norm stands before each convolution.
    """

    def __init__(self, make: Factory, inputs: int, outputs: int, norm_first: bool, norm_second: bool) -> None:
        super().__init__()
        self.norm1 = InstanceNorm(inputs) if norm_first else nn.Identity()
        self.conv1 = make.conv(inputs, outputs, bias=not norm_second)
        self.norm2 = InstanceNorm(outputs) if norm_second else nn.Identity()
        self.conv2 = make.conv(outputs, outputs)
        self.skip = make.conv(inputs, outputs, size=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        # A 1x1 convolution and the pool commute: pooling first is a quarter of the work.
        return F.avg_pool2d(y, 2) + self.skip(F.avg_pool2d(x, 2))


class PlainBlock(nn.Module):
    """Residual block without norm at constant size: the discriminator's additional block at 4x4."""

    def __init__(self, make: Factory, channels: int) -> None:
        super().__init__()
        self.conv1 = make.conv(channels, channels)
        self.conv2 = make.conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class StyledBlock(nn.Module):
    """Residual block with AdaIN before each convolution; ``upsample`` doubles the resolution (nearest)."""

    def __init__(self, make: Factory, inputs: int, outputs: int, upsample: bool) -> None:
        super().__init__()
        self.styled_channels = (inputs, outputs)  # of its two AdaINs, in their order
        self.upsample = upsample
        self.conv1 = make.conv(inputs, outputs, bias=False)
        self.conv2 = make.conv(outputs, outputs)
        self.skip = make.conv(inputs, outputs, size=1) if upsample or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, styles: list[tuple[Tensor, Tensor]]) -> Tensor:
        """``styles``: (weight, bias), each (B, C), for each of ``styled_channels``."""
        y = F.relu(adaptive_instance_norm(x, *styles[0]), inplace=True)
        skip = self.skip(x)
        if self.upsample:
            y, skip = F.interpolate(y, scale_factor=2.0), F.interpolate(skip, scale_factor=2.0)
        y = F.relu(adaptive_instance_norm(self.conv1(y), *styles[1]), inplace=True)
        return self.conv2(y) + skip


class SelfAttention(nn.Module):
    """Self-attention of SAGAN: keys and values at half resolution, result scaled by a gain that starts at zero."""

    def __init__(self, make: Factory, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = make.conv(channels, inner, size=1, bias=False)
        self.key = make.conv(channels, inner, size=1, bias=False)
        self.value = make.conv(channels, channels // 2, size=1, bias=False)
        self.out = make.conv(channels // 2, channels, size=1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        def rows(y: Tensor) -> Tensor:
            return y.flatten(2).transpose(1, 2)  # (B, positions, C)

        query = rows(self.query(x))
        key, value = rows(F.max_pool2d(self.key(x), 2)), rows(F.max_pool2d(self.value(x), 2))
        # SAGAN does not divide by sqrt(C).
        mixed = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.gain.to(x.dtype) * self.out(mixed)


class Encoder(nn.Module):
    """Residual down blocks without norm, then ReLU and sum over space: what embedder and discriminator share.

    (B, C, H, W) -> vector (B, channels[-1]) and the activations after each block. At another resolution than
    ``image_size`` the sum is scaled to the number of positions there, so that training may start on small images.
    """

    def __init__(
        self,
        make: Factory,
        inputs: int,
        channels: list[int],
        image_size: int,
        patch_size: int,
        attention_resolution: int,
        last_block: bool,
    ) -> None:
        super().__init__()
        check_sizes(image_size, patch_size, channels)
        attention_blocks = blocks_at(attention_resolution, image_size, patch_size, len(channels))
        self.positions = (image_size // patch_size // 2 ** len(channels)) ** 2
        self.patch_size = patch_size
        widths = [inputs * patch_size**2, *channels]
        self.blocks = nn.ModuleList(
            DownBlock(make, a, b, norm_first=False, norm_second=False) for a, b in pairwise(widths)
        )
        self.attention = nn.ModuleDict({str(i): SelfAttention(make, channels[i]) for i in attention_blocks})
        if last_block:
            self.blocks.append(PlainBlock(make, channels[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.pixel_unshuffle(x, self.patch_size)
        activations = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
            activations.append(x)
        # Sums over up to hundreds of positions: not in 16 bit.
        return F.relu(x).float().mean(dim=(2, 3)) * self.positions, activations


def blocks_at(resolution: int, image_size: int, patch_size: int, num_blocks: int) -> list[int]:
    """Indices of the down blocks whose output has ``resolution``, for self-attention "at 32x32"."""
    sizes = [image_size // patch_size // 2 ** (i + 1) for i in range(num_blocks)]
    return [i for i, size in enumerate(sizes) if size == resolution]


def check_sizes(image_size: int, patch_size: int, channels: list[int]) -> None:
    """ValueError unless ``image_size`` can be halved once a block and every count is positive."""
    if patch_size not in (1, 2, 4):
        raise ValueError(f"patch_size must be 1, 2 or 4, got {patch_size}")
    if not channels or min(channels) < 1:
        raise ValueError(f"channels must be positive numbers, got {channels}")
    step = patch_size * 2 ** len(channels)
    if image_size < step or image_size % step:
        raise ValueError(f"image_size must be a multiple of {step} for {len(channels)} blocks, got {image_size}")


def folded_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``model`` with spectral norm folded: keys and values of the same network without it."""
    was_training = model.training
    model.eval()  # in train mode, reading a weight would move the power iteration
    state = {}
    for name, value in model.state_dict().items():
        if ".parametrizations." not in name:
            state[name] = value.detach().clone()
        elif name.endswith(".parametrizations.weight.original"):
            owner = name.removesuffix(".parametrizations.weight.original")
            weight: Any = model.get_submodule(owner).weight
            state[owner + ".weight"] = weight.detach().clone()
    model.train(was_training)
    return state


def load_folded(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads a folded state into a network with spectral norm. Folded weights have norm 1, so it computes the same."""
    own = model.state_dict()
    target = {}
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        parametrised = f"{owner}.parametrizations.{leaf}.original"
        target[parametrised if parametrised in own else name] = value
    missing = [k for k in own if k not in target and not k.endswith(("._u", "._v"))]
    unexpected = [k for k in target if k not in own]
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")
    model.load_state_dict(target, strict=False)
    converge_spectral_norms(model)


@torch.no_grad()
def converge_spectral_norms(model: nn.Module) -> None:
    """Sets all power iterations to where they would end, for weights that did not come from training step by step.

    From the eigenvectors of the smaller Gram matrix: where the largest singular values lie close together, even
    hundreds of iterations stop short.
    """
    for module in model.modules():
        if is_parametrized(module, "weight"):
            parametrization: Any = module.get_submodule("parametrizations.weight")
            matrix = parametrization.original.flatten(1).double()
            rows, columns = matrix.shape
            if rows <= columns:
                u = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
                v = F.normalize(matrix.T @ u, dim=0)
            else:
                v = torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -1]
                u = F.normalize(matrix @ v, dim=0)
            parametrization[0]._u.copy_(u)
            parametrization[0]._v.copy_(v)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that a network was constructed with, without diffusers' own notes, which start with an underscore."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
