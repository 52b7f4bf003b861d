"""Discriminators of mouth, eyes and face at full resolution: does this part look real, whoever it is?

Not in the paper, whose discriminator gives one score to a whole image. What a generator paints over a rendered head
differs from it in a mouth or a lid, and of a whole image that is too little to be told apart: the projection
discriminator stayed at chance. These are taught without spectral norm and held by R1 (Mescheder et al. 2018); as in
face restoration (Wang et al. 2021, GFP-GAN) each sees one part of the face alone. They belong to a run of training and
are not published.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import losses
from .identity_net import CHIP

PARTS = {"mouth": (74, 112, 64, 56), "eyes": (74, 47, 112, 48), "face": (75, 82, 128, 128)}
"""Centre (x, y), width and height of each part in the aligned face, in pixels of ``CHIP``. At 256 pixels the aligned
face is about as large as in the picture, so little is lost by cutting it out."""
CHANNELS = (32, 64, 128, 256)
SLOPE = 0.2
PART_WEIGHTS = {"mouth": 1.0, "eyes": 0.4, "face": 0.4}
"""What the scores of each part weigh: eyes and skin come from the photo, and are spoilt before they are mended."""
PENALISED = 4
"""R1 is computed on one of so many images: it costs as much as all the rest."""


def cut_part(images: Tensor, chips: Tensor, part: str) -> Tensor:
    """A part (B, C, h, w) of images (B, C, H, W), float32; ``chips`` (B, 2, 3): see ``chip_transform``."""
    x, y, width, height = PARTS[part]
    in_chip = torch.tensor([[width / CHIP, 0, 2 * x / CHIP - 1], [0, height / CHIP, 2 * y / CHIP - 1], [0, 0, 1]])
    grid = F.affine_grid(chips.float() @ in_chip.to(chips), [*images.shape[:2], height, width], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


class PartDiscriminator(nn.Module):
    """Convolutions of stride 2 and a score for each place that is left, from a picture and its landmark image."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, *CHANNELS)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(widths, CHANNELS, strict=False))
        self.last = nn.Conv2d(CHANNELS[-1], CHANNELS[-1], 3, 1, 1)
        self.score = nn.Conv2d(CHANNELS[-1], 1, 1)
        for layer in (*self.down, self.last, self.score):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)

    def forward(self, parts: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 6, h, w) -> scores (B, 1, h / 16, w / 16) and the activations of each layer."""
        activations = []
        x = parts
        for layer in (*self.down, self.last):
            x = F.leaky_relu(layer(x), SLOPE)
            activations.append(x)
        return self.score(x), activations


class PartDiscriminators(nn.Module):
    """One ``PartDiscriminator`` for each of ``PARTS``."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: PartDiscriminator() for name in PARTS})

    def forward(self, images: Tensor, landmark_images: Tensor, chips: Tensor) -> dict[str, tuple[Tensor, list[Tensor]]]:
        """Two (B, 3, H, W) in [-1, 1], and where their faces are (B, 2, 3) -> of each part scores and activations."""
        both = torch.cat([images.float(), landmark_images.float()], dim=1)
        return {name: net(cut_part(both, chips, name)) for name, net in self.parts.items()}


def part_adversarial_terms(
    part_discriminators: nn.Module, fakes: Tensor, images: Tensor, landmark_images: Tensor, chips: Tensor,
    weights: losses.LossWeights,
) -> dict[str, Tensor]:  # fmt: skip
    """What E and G are taught by the parts: minus their scores and the distance of their activations, both weighted.

    Images (B, 3, H, W) in [-1, 1]. The discriminators are constants here.
    """
    with losses.held_constant(part_discriminators) as judges:
        judged = judges(fakes, landmark_images, chips)
        with torch.no_grad():
            real = judges(images, landmark_images, chips)
    scores = [PART_WEIGHTS[name] * losses.adversarial(judged[name][0]) for name in judged]
    features = [losses.feature_matching(judged[name][1], real[name][1]) for name in judged]
    return {
        "parts": weights.parts * torch.stack(scores).sum(),
        "part_features": weights.part_features * torch.stack(features).sum(),
    }


def part_discriminator_loss(
    part_discriminators: nn.Module, fakes: Tensor, images: Tensor, landmark_images: Tensor, chips: Tensor, gamma: float
) -> dict[str, Tensor]:
    """The hinge losses of the parts' scores (as (6)), and R1: gamma / 2 times the mean squared norm of the gradient of
    the mean score of a real part with respect to its pixels."""
    number = len(images)
    both = torch.cat([images, fakes.detach()])
    judged = part_discriminators(both, landmark_images.repeat(2, 1, 1, 1), chips.repeat(2, 1, 1))
    hinges = torch.stack([losses.hinge(*scores.chunk(2)) for scores, _ in judged.values()]).sum()
    if gamma <= 0:
        return {"part_hinge": hinges}
    some = slice(0, -(-number // PENALISED))
    inner: Any = getattr(part_discriminators, "module", part_discriminators)
    penalties = []
    with torch.autocast(images.device.type, enabled=False):  # gradients of gradients are too small for 16 bit
        real = torch.cat([images[some].float(), landmark_images[some].float()], dim=1)
        for name in PARTS:
            net = inner.parts[name]
            part = cut_part(real, chips[some], name).requires_grad_()
            (gradient,) = torch.autograd.grad(net(part)[0].mean(dim=(1, 2, 3)).sum(), part, create_graph=True)
            penalties.append(gradient.square().sum(dim=(1, 2, 3)).mean())
    return {"part_hinge": hinges, "r1": gamma / 2 * torch.stack(penalties).sum()}
