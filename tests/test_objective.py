"""What a step minimises: who gets which gradient, what each term weighs, and what a missing network says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talking_heads.models import Discriminator
from train import losses
from train.config import PRESETS
from train.features import SqueezeNetFeatures
from train.losses import LossWeights
from train.objective import CONTENT_WEIGHTS, ContentNets, as_numbers, discriminator_loss, generator_terms

WEIGHTS = LossWeights(squeezenet=0.0, adversarial=2.0, feature_matching=3.0, pixel=5.0)
NO_CONTENT = ContentNets([], WEIGHTS)


@pytest.fixture
def judge() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(**PRESETS["tiny"].model.discriminator)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    images = {name: torch.rand(3, 3, 32, 32) * 2 - 1 for name in ("fakes", "images", "landmark_images")}
    images["fakes"].requires_grad_(True)
    return images | {"identity": torch.randn(3, 16, requires_grad=True)}


def terms_of(
    batch: dict[str, Tensor], judge: Discriminator | None, weights: LossWeights = WEIGHTS
) -> dict[str, Tensor]:
    return generator_terms(**batch, discriminator=judge, content=NO_CONTENT, weights=weights, weight_map=ones())


def ones() -> Tensor:
    return torch.ones(3, 1, 32, 32)


def test_terms_are_the_papers_and_weighted(batch, judge):
    judge.eval()  # the power iterations stand still, so that scores can be computed again
    terms = terms_of(batch, judge)
    assert set(terms) == {"content", "pixel", "adversarial", "feature_matching"}
    scores, fakes, _ = judge(batch["fakes"], batch["landmark_images"], batch["identity"])
    _, reals, _ = judge(batch["images"], batch["landmark_images"], batch["identity"])
    torch.testing.assert_close(terms["adversarial"], -2.0 * scores.mean())
    torch.testing.assert_close(terms["feature_matching"], 3.0 * losses.feature_matching(fakes, reals))
    torch.testing.assert_close(terms["pixel"], 5.0 * (batch["fakes"] - batch["images"]).abs().mean())
    assert terms["content"] == 0


def test_without_a_discriminator_there_is_no_adversarial_term(batch):
    assert set(terms_of(batch, None)) == {"content", "pixel"}
    assert set(terms_of(batch, None, replace(WEIGHTS, pixel=0.0))) == {"content"}


def test_a_discriminator_without_weight_is_not_asked(batch, judge):
    asked: list[int] = []
    judge.register_forward_hook(lambda *_: asked.append(1))
    terms_of(batch, judge)
    assert len(asked) == 2
    assert set(terms_of(batch, judge, replace(WEIGHTS, adversarial=0.0, feature_matching=0.0))) == {"content", "pixel"}
    assert len(asked) == 2


def test_the_generator_step_reaches_the_images_and_neither_discriminator_nor_identity(batch, judge):
    sum(terms_of(batch, judge).values()).backward()
    assert batch["fakes"].grad.abs().sum() > 0
    assert batch["identity"].grad is None
    assert all(parameter.grad is None for parameter in judge.parameters())


def test_adversarial_gradient_alone_reaches_the_images(batch, judge):
    for name in ("adversarial", "feature_matching"):
        (gradient,) = torch.autograd.grad(terms_of(batch, judge)[name], batch["fakes"])
        assert gradient.abs().sum() > 0


def test_the_discriminator_step_reaches_discriminator_and_identity_and_not_the_images(batch, judge):
    discriminator_loss(judge, **batch).backward()
    assert batch["fakes"].grad is None
    assert batch["identity"].grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in judge.parameters())


def test_the_hinge_is_that_of_real_and_fake(batch, judge):
    judge.eval()
    real = judge(batch["images"], batch["landmark_images"], batch["identity"])
    fake = judge(batch["fakes"], batch["landmark_images"], batch["identity"])
    expected = torch.relu(1 - real.scores).mean() + torch.relu(1 + fake.scores).mean()
    torch.testing.assert_close(discriminator_loss(judge, **batch), expected)


def test_patches_are_scored_beside_the_person(batch):
    torch.manual_seed(0)
    judge = Discriminator(**PRESETS["tiny"].model.discriminator | {"patch_block": 1}).eval()
    assert terms_of(batch, judge)["patches"] == 0  # asked for or not, they are counted by their weight
    terms = terms_of(batch, judge, replace(WEIGHTS, patches=0.5))
    real = judge(batch["images"], batch["landmark_images"], batch["identity"])
    fake = judge(batch["fakes"], batch["landmark_images"], batch["identity"])
    assert real.patches.shape == (3, 1, 8, 8)
    torch.testing.assert_close(terms["patches"], -0.5 * fake.patches.mean())
    both = [torch.relu(1 - real[k]).mean() + torch.relu(1 + fake[k]).mean() for k in (0, 2)]
    torch.testing.assert_close(discriminator_loss(judge, **batch), sum(both))
    discriminator_loss(judge, **batch).backward()
    assert all(parameter.grad is not None for parameter in judge.parameters())
    # A patch's score is of its surroundings alone: another corner does not change it.
    changed = batch["images"].clone()
    changed[..., :8, :8] = 0
    after = judge(changed, batch["landmark_images"], batch["identity"]).patches
    torch.testing.assert_close(after[..., -1, -1], real.patches[..., -1, -1])
    assert (after[..., 0, 0] - real.patches[..., 0, 0]).abs().min() > 0


def test_one_persons_identity_serves_a_whole_batch(batch, judge):
    """Fine-tuning: identity is (N,)."""
    judge.eval()
    one = batch["identity"][0].detach()
    many = one.expand(3, -1)
    torch.testing.assert_close(
        discriminator_loss(judge, **(batch | {"identity": one})),
        discriminator_loss(judge, **(batch | {"identity": many})),
    )
    terms = terms_of(batch | {"identity": one}, judge), terms_of(batch | {"identity": many}, judge)
    torch.testing.assert_close(*terms)


def test_what_is_frozen_stays_frozen_also_after_an_error(batch, judge):
    judge.w0.requires_grad_(False)
    terms_of(batch, judge)
    assert [name for name, p in judge.named_parameters() if not p.requires_grad] == ["w0"]
    with pytest.raises(RuntimeError):
        terms_of(batch | {"landmark_images": torch.zeros(1, 3, 8, 8)}, judge)
    assert [name for name, p in judge.named_parameters() if not p.requires_grad] == ["w0"]


def test_a_content_net_that_is_weighted_must_be_given():
    for name in ("vgg19", "vgg16", "vggface", "squeezenet"):
        weights = replace(LossWeights(squeezenet=0.0), **{name: 1.0})
        with pytest.raises(ValueError, match=f"needs the weights of {name}, or of another .*--feature-net"):
            ContentNets([], weights)
    with pytest.raises(ValueError, match="needs the weights of vgg19 and vggface, or"):
        ContentNets([], LossWeights.paper_v2())


def test_content_is_the_weighted_distance_of_its_network(tmp_path: Path):
    torch.manual_seed(0)
    net = SqueezeNetFeatures()
    path = tmp_path / "net.npz"
    np.savez(path, **{name: value.numpy() for name, value in net.state_dict().items()})
    content = ContentNets([path], LossWeights(squeezenet=4.0))
    fakes, images = torch.rand(1, 3, 64, 64, requires_grad=True), torch.rand(1, 3, 64, 64, requires_grad=True)
    value = content(fakes, images)
    torch.testing.assert_close(value, 4.0 * losses.normalised_content(net(fakes), net(images)))
    value.backward()
    assert fakes.grad.abs().sum() > 0 and images.grad is None
    assert all(not parameter.requires_grad for parameter in content.parameters())
    assert content(images, images) == 0


def test_the_networks_that_are_given_decide_which_content_terms_there_are(tmp_path: Path):
    """The paper's preset with SqueezeNet in the place of VGG19 and VGGFace; explicit weights stay."""
    path = tmp_path / "net.npz"
    np.savez(path, **{name: value.numpy() for name, value in SqueezeNetFeatures().state_dict().items()})
    paper = LossWeights.paper_v2()
    assert ContentNets([path], paper).weights == replace(paper, vgg19=0.0, vggface=0.0, squeezenet=2.0)
    assert ContentNets([path], LossWeights(squeezenet=3.0)).weights == LossWeights(squeezenet=3.0)
    assert ContentNets([], WEIGHTS).weights == WEIGHTS


def test_weights_by_network_are_those_of_the_presets():
    assert CONTENT_WEIGHTS["squeezenet"] == PRESETS["default"].losses.squeezenet
    paper = PRESETS["paper"].losses
    assert (CONTENT_WEIGHTS["vgg19"], CONTENT_WEIGHTS["vggface"]) == (paper.vgg19, paper.vggface)


def test_numbers_for_a_log():
    assert as_numbers({"a": torch.tensor(2.5, requires_grad=True)}) == {"a": 2.5}
