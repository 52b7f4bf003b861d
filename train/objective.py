"""What one step minimises: the terms of losses.py put together, for meta-learning and for fine-tuning alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from talking_heads.models import Discriminator

from . import losses
from .features import SqueezeNetFeatures, load_feature_net
from .identity import IdentityNet
from .losses import LossWeights

CONTENT_WEIGHTS = {"vgg19": 1.5e-1, "vgg16": 1.5e-1, "vggface": 2.5e-2, "squeezenet": 2.0}
"""What a network's term weighs where the configuration was made for other networks: as in the presets made for it."""


class ContentNets(nn.Module):
    """The frozen networks of L_CNT, each with the weight and the form of the term that goes with it."""

    def __init__(self, paths: Sequence[str | Path], weights: LossWeights) -> None:
        """``paths`` of published weights decide which terms there are; ``self.weights`` is what they weigh.

        ValueError where ``weights`` has a content term and no network is given at all.
        """
        super().__init__()
        self.nets = nn.ModuleList(load_feature_net(path) for path in paths)
        given = {_name(net) for net in self.nets}
        wanted = [name for name in CONTENT_WEIGHTS if getattr(weights, name) > 0]
        if wanted and not given:
            raise ValueError(
                f"the content loss needs the weights of {' and '.join(wanted)}, or of another feature network: "
                "give their files (--feature-net)"
            )
        terms = {
            name: (getattr(weights, name) or default) * (name in given) for name, default in CONTENT_WEIGHTS.items()
        }
        self.weights = replace(weights, **terms)

    def forward(self, fakes: Tensor, images: Tensor) -> Tensor:
        """Weighted sum over the networks, both inputs (B, 3, H, W) in [-1, 1]."""
        total = fakes.new_zeros(())
        for net in self.nets:
            with torch.no_grad():
                reals = net(images)
            distance = losses.normalised_content if isinstance(net, SqueezeNetFeatures) else losses.content
            total = total + getattr(self.weights, _name(net)) * distance(net(fakes), reals)
        return total


def _name(net: nn.Module) -> str:
    return type(net).__name__.removesuffix("Features").lower()


def generator_terms(
    fakes: Tensor,
    images: Tensor,
    landmark_images: Tensor,
    identity: Tensor,
    discriminator: Discriminator | None,
    content: ContentNets,
    weights: LossWeights,
    weight_map: Tensor | None = None,
    identity_net: IdentityNet | None = None,
    chips: Tensor | None = None,
) -> dict[str, Tensor]:
    """L_CNT + L_ADV and our terms of pixels and identity, by name, each already weighted.

    fakes, images, landmark_images: (B, 3, H, W); identity: W_i (B, N) or (N,), a constant here; ``chips`` (B, 2, 3):
    where the faces are, for ``identity_net``. Without a discriminator, or with both of its weights zero, there is no
    L_ADV.
    """
    terms = {"content": content(fakes, images)}
    if weights.pixel > 0:
        terms["pixel"] = weights.pixel * losses.pixel(fakes, images, weight_map)
    if identity_net is not None and weights.identity > 0:
        if chips is None:
            raise ValueError("the identity term needs to know where the faces are")
        with torch.no_grad():
            reals_like = identity_net(images, chips)
        terms["identity"] = weights.identity * losses.identity(identity_net(fakes, chips), reals_like)
    if discriminator is not None and max(weights.adversarial, weights.patches, weights.feature_matching) > 0:
        learning = [p for p in discriminator.parameters() if p.requires_grad]
        discriminator.requires_grad_(False)  # it teaches here and learns elsewhere
        try:
            fake = discriminator(fakes, landmark_images, identity.detach())
            with torch.no_grad():
                real = discriminator(images, landmark_images, identity)
        finally:
            for parameter in learning:  # what fine-tuning has frozen stays so
                parameter.requires_grad_(True)
        terms["adversarial"] = weights.adversarial * losses.adversarial(fake.scores)
        if fake.patches is not None:
            terms["patches"] = weights.patches * losses.adversarial(fake.patches)
        terms["feature_matching"] = weights.feature_matching * losses.feature_matching(
            fake.activations, real.activations
        )
    return terms


def discriminator_loss(
    discriminator: nn.Module, fakes: Tensor, images: Tensor, landmark_images: Tensor, identity: Tensor
) -> Tensor:
    """L_DSC, the hinge loss, on real and (detached) painted images in one pass; identity: (B, N) or (N,).

    With patch scores it is the sum of both kinds' hinge losses.
    """
    both = torch.cat([images, fakes.detach()])
    if identity.ndim == 2:
        identity = identity.repeat(2, 1)  # (2B, N)
    judged = discriminator(both, landmark_images.repeat(2, 1, 1, 1), identity)
    loss = losses.hinge(*judged.scores.chunk(2))
    return loss if judged.patches is None else loss + losses.hinge(*judged.patches.chunk(2))


def as_numbers(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Detached Python numbers, for a log."""
    return {name: float(value.detach()) for name, value in terms.items()}
