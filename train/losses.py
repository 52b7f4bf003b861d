"""The paper's losses, in the paper's order: one pure function a term, each a scalar, averaged over the batch.

    L(phi, psi, P, theta, W, w0, b) = L_CNT + L_ADV + L_MCH    (3)    L_ADV = -D(x_hat, y, i) + L_FM    (4)
    L_DSC = max(0, 1 + D(x_hat, y, i)) + max(0, 1 - D(x, y, i))                                         (6)

``trainer.training_step`` puts them together. What is real is a constant in every term of L: it is detached here, so
that no caller can forget. The terms carry no weights; those stand together in ``LossWeights``. Sums run in float32,
also on bfloat16 inputs. The numbers are those of the paper's equations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import SqueezeNetFeatures, load_feature_net
from .identity_net import IdentityNet

CONTENT_WEIGHTS = {"vgg19": 1.5e-1, "vgg16": 1.5e-1, "vggface": 2.5e-2, "squeezenet": 2.0}
"""What a network's term weighs where the configuration was made for other networks: as in the presets made for it."""


@dataclass(frozen=True)
class LossWeights:
    """What each term is multiplied by; 0 switches a term off.

    The defaults are ours, for the freely available SqueezeNet in the place of VGG19 and VGGFace. ``paper_v1`` and
    ``paper_v2`` are the two versions of the paper: v2 raised the content weights and lowered that of the match.

    Attributes:
        vgg19: of ``content`` over VGG19 activations.
        vgg16: of ``content`` over VGG16 activations; not in the paper.
        vggface: of ``content`` over VGGFace activations.
        squeezenet: of ``normalised_content`` over SqueezeNet activations.
        adversarial: of ``adversarial`` on D's scores.
        patches: of ``adversarial`` on the scores of D's patches, where it has any; not in the paper.
        parts: of ``adversarial`` on the scores of the parts of the face (part_discriminators.py); not in the paper.
        part_features: of ``feature_matching`` on their activations; not in the paper.
        feature_matching: of ``feature_matching``.
        match: of ``match``; 0 in the feed-forward (FF) variant and in fine-tuning.
        pixel: of ``pixel``; not in the paper.
        identity: of ``identity``; not in the paper.
    """

    vgg19: float = 0.0
    vgg16: float = 0.0
    vggface: float = 0.0
    squeezenet: float = 4.0
    adversarial: float = 1.0
    patches: float = 0.0
    parts: float = 0.0
    part_features: float = 0.0
    feature_matching: float = 10.0
    match: float = 10.0
    pixel: float = 10.0
    identity: float = 0.0

    @classmethod
    def paper_v1(cls) -> LossWeights:
        """arXiv version 1, May 2019."""
        return cls(vgg19=1e-2, vggface=2e-3, squeezenet=0.0, match=80.0, pixel=0.0)

    @classmethod
    def paper_v2(cls) -> LossWeights:
        """arXiv version 2, September 2019: the ICCV text."""
        return cls(vgg19=1.5e-1, vggface=2.5e-2, squeezenet=0.0, match=10.0, pixel=0.0)


def content(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> Tensor:
    """L_CNT of one network: sum_l mean |F_l(x_hat) - F_l(x)|, the L1 distance of its activations at each tap l.

    ``fakes`` and ``reals`` are lists of (B,C_l,H_l,W_l) from a network in features.py; reals are detached.
    """
    return torch.stack([_l1(fake, real) for fake, real in zip(fakes, reals, strict=True)]).sum()


def normalised_content(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> Tensor:
    """L_CNT with each tap in its own unit: mean_l ( mean |F_l(x_hat) - F_l(x)| / mean |F_l(x)| ). Not the paper's.

    Activations differ by an order of magnitude between taps, and raw L1 lets the largest decide. Here every tap counts
    the same, and a network's overall scale drops out: 0 is equal, 1 is the price of an image without any features.
    """
    terms = [
        _l1(fake, real) / _mean(real.detach().abs()).clamp_min(1e-6) for fake, real in zip(fakes, reals, strict=True)
    ]
    return torch.stack(terms).mean()


def adversarial(fake_scores: Tensor) -> Tensor:
    """The first part of L_ADV (4): -D(x_hat, y, i), from scores (B,) or (B, 1, h, w)."""
    return -_mean(fake_scores)


def feature_matching(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> Tensor:
    """L_FM, the second part of L_ADV: the L1 distance of the discriminator's activations after each residual block.

    ``fakes`` and ``reals`` are lists of (B,C_l,H_l,W_l); reals are detached. Averaged over the blocks.
    """
    return torch.stack([_l1(fake, real) for fake, real in zip(fakes, reals, strict=True)]).mean()


def match(embeddings: Tensor, identities: Tensor) -> Tensor:
    """L_MCH: |e_i - W_i|, both (B,N), averaged over N. W_i is detached: the embedder follows the discriminator.

    It is what lets fine-tuning start the discriminator of an unseen person from the embedder's estimate.
    """
    return _l1(embeddings, identities)


def pixel(fakes: Tensor, images: Tensor, weight_map: Tensor) -> Tensor:
    """Weighted L1 over pixels: sum w |x_hat - x| / sum w. Ours, not the paper's.

    Images are (B,3,H,W) in [-1,1]; ``weight_map`` is (B,1,H,W), not negative. Divided by the map's sum, so a map that
    stresses the mouth moves attention there without raising the term as a whole; a constant map gives the plain mean.
    """
    if weight_map.shape != (images.shape[0], 1, *images.shape[2:]):
        raise ValueError(f"expected a weight map (B, 1, H, W) for {tuple(images.shape)}, got {tuple(weight_map.shape)}")
    weights = weight_map.detach().float()
    distances = (fakes.float() - images.detach().float()).abs().mean(dim=1, keepdim=True)  # (B,1,H,W)
    return (weights * distances).sum() / weights.sum().clamp_min(1e-6)


def identity(fakes: Tensor, reals: Tensor) -> Tensor:
    """mean |f(x_hat) - f(x)|_2 of a network that tells people apart, both (B, 128); reals are detached."""
    return _mean((fakes.float() - reals.detach().float()).square().sum(dim=1).add(1e-6).sqrt())


def hinge(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """L_DSC (6): max(0, 1 + D(x_hat, y, i)) + max(0, 1 - D(x, y, i)), from scores (B,) or (B, 1, h, w).

    Detach x_hat before D.
    """
    return _mean(F.relu(1.0 + fake_scores)) + _mean(F.relu(1.0 - real_scores))


@contextmanager
def held_constant(discriminator: nn.Module) -> Iterator[nn.Module]:
    """The discriminator, whose weights get no gradients within."""
    discriminator = getattr(discriminator, "module", discriminator)  # without its data parallelism: nothing to exchange
    learning = [p for p in discriminator.parameters() if p.requires_grad]
    discriminator.requires_grad_(False)
    try:
        yield discriminator
    finally:
        for parameter in learning:  # what fine-tuning has frozen stays so
            parameter.requires_grad_(True)


def adversarial_terms(
    discriminator: nn.Module, fakes: Tensor, images: Tensor, landmark_images: Tensor, identity: Tensor,
    weights: LossWeights,
) -> dict[str, Tensor]:  # fmt: skip
    """L_ADV (4), its two parts by name and weighted; and, where D scores patches, their term.

    Images (B, 3, H, W) in [-1, 1]; identity: W_i (B, N) or (N,). D and W are constants here. Empty where no part has
    a weight: then D need not be asked.
    """
    if max(weights.adversarial, weights.patches, weights.feature_matching) <= 0:
        return {}
    with held_constant(discriminator) as D:
        fake = D(fakes, landmark_images, identity.detach())
        with torch.no_grad():
            real = D(images, landmark_images, identity)
    terms = {"adversarial": weights.adversarial * adversarial(fake.scores)}
    if fake.patches is not None:
        terms["patches"] = weights.patches * adversarial(fake.patches)
    terms["feature_matching"] = weights.feature_matching * feature_matching(fake.activations, real.activations)
    return terms


def discriminator_loss(
    discriminator: nn.Module, fakes: Tensor, images: Tensor, landmark_images: Tensor, identity: Tensor
) -> Tensor:
    """L_DSC (6) on real and (detached) generated images in one pass; identity: W_i (B, N) or (N,).

    With patch scores it is the sum of both kinds' hinge losses.
    """
    both = torch.cat([images, fakes.detach()])
    if identity.ndim == 2:
        identity = identity.repeat(2, 1)  # (2B, N)
    judged = discriminator(both, landmark_images.repeat(2, 1, 1, 1), identity)
    loss = hinge(*judged.scores.chunk(2))
    return loss if judged.patches is None else loss + hinge(*judged.patches.chunk(2))


class LossNets(nn.Module):
    """The frozen networks that images are compared by, and what each term weighs."""

    def __init__(
        self, weights: LossWeights, content: Sequence[str | Path] = (), identity: str | Path | None = None
    ) -> None:
        """``content``: files of published weights, which decide what L_CNT is made of; ``identity``: the file of the
        identity term's network. ``self.weights`` is what all terms weigh with these networks.

        ValueError where ``weights`` has a term whose network is not given.
        """
        super().__init__()
        self.content_nets = nn.ModuleList(load_feature_net(path) for path in content)
        given = {_name(net) for net in self.content_nets}
        wanted = [name for name in CONTENT_WEIGHTS if getattr(weights, name) > 0]
        if wanted and not given:
            raise ValueError(
                f"the content loss needs the weights of {' and '.join(wanted)}, or of another feature network: "
                "give their files (--feature-net)"
            )
        if weights.identity > 0 and not identity:
            raise ValueError("the identity term needs the weights of its network: give them (--identity-net)")
        self.identity_net = IdentityNet(identity) if identity and weights.identity > 0 else None
        terms = {
            name: (getattr(weights, name) or default) * (name in given) for name, default in CONTENT_WEIGHTS.items()
        }
        self.weights = replace(weights, **terms)

    def content(self, fakes: Tensor, images: Tensor) -> Tensor:
        """L_CNT, the weighted sum over the networks; both inputs (B, 3, H, W) in [-1, 1]."""
        total = fakes.new_zeros(())
        for net in self.content_nets:
            with torch.no_grad():
                reals = net(images)
            distance = normalised_content if isinstance(net, SqueezeNetFeatures) else content
            total = total + getattr(self.weights, _name(net)) * distance(net(fakes), reals)
        return total

    def identity(self, fakes: Tensor, images: Tensor, chips: Tensor) -> Tensor:
        """The identity term, without its weight; ``chips`` (B, 2, 3): where the faces are (``chip_transform``)."""
        if self.identity_net is None:
            raise ValueError("the identity term has no network")
        with torch.no_grad():
            reals = self.identity_net(images, chips)
        return identity(self.identity_net(fakes, chips), reals)


def _name(net: nn.Module) -> str:
    return type(net).__name__.removesuffix("Features").lower()


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """How unlike two batches of images look: lists of activations (B,C_l,H_l,W_l) -> (B,), 0 (equal) to 2. A metric.

    mean_l mean_{h,w} || a_l / |a_l|  -  b_l / |b_l| ||^2 with unit length over the channels. This is LPIPS without its
    learned channel weights: compare it only with itself, never with published LPIPS numbers.
    """
    per_tap = [
        (F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)).square().sum(dim=1).mean(dim=(1, 2))  # (B,)
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(per_tap).mean(dim=0)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dtype=torch.float32)


def _l1(fake: Tensor, real: Tensor) -> Tensor:
    """mean |fake - real| with real as a constant. A shape mismatch is an error, never broadcast away."""
    if fake.shape != real.shape:
        raise ValueError(f"expected equal shapes, got {tuple(fake.shape)} and {tuple(real.shape)}")
    return _mean((fake - real.detach()).abs())
