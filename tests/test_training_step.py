"""A step of training: who gets which gradient, what each term weighs, and that it is the paper's, written out."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from talking_heads.models import Discriminator
from train import losses
from train.config import PRESETS
from train.features import SqueezeNetFeatures
from train.losses import CONTENT_WEIGHTS, LossNets, LossWeights, adversarial_terms, discriminator_loss
from train.trainer import Networks, as_numbers, build_networks, minimize_with, training_step

WEIGHTS = LossWeights(squeezenet=0.0, adversarial=2.0, feature_matching=3.0, pixel=5.0)
PEOPLE = 5


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(**PRESETS["tiny"].model.discriminator)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    images = {name: torch.rand(3, 3, 32, 32) * 2 - 1 for name in ("fakes", "images", "landmark_images")}
    images["fakes"].requires_grad_(True)
    return images | {"identity": torch.randn(3, 16, requires_grad=True)}


def terms_of(
    batch: dict[str, Tensor], discriminator: Discriminator, weights: LossWeights = WEIGHTS
) -> dict[str, Tensor]:
    return adversarial_terms(discriminator, **batch, weights=weights)


# ----------------------------------------------------------------------------------------------------- the whole step


class Setup:
    """The tiny networks, W and their optimisers, always from the same start; an SGD shows plain gradients."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.E, self.G, self.D = build_networks(PRESETS["tiny"].model)
        self.W = nn.Parameter(torch.randn(PEOPLE, 16))
        self.generator_optimizer = torch.optim.SGD([*self.E.parameters(), *self.G.parameters()], lr=1e-3)
        self.discriminator_optimizer = torch.optim.SGD([*self.D.parameters(), self.W], lr=1e-3)

    def networks(self) -> Networks:
        return Networks(
            embed=lambda shots, lines: self.E(shots, lines).mean(dim=1),
            generate=lambda lines, embedding, render: self.G(lines, embedding=embedding, render=render),
            discriminator=self.D,
            identity=lambda who: self.W[who],
        )

    def step(self, batches: list[dict[str, Tensor]], weights: LossWeights, **options: object) -> dict[str, Tensor]:
        optimizers = (self.generator_optimizer, self.discriminator_optimizer)
        minimizers = [minimize_with(optimizer, contextlib.nullcontext) for optimizer in optimizers]
        return training_step(self.networks(), batches, LossNets(weights), *minimizers, **options)

    def state(self) -> dict[str, Tensor]:
        nets = {"E": self.E, "G": self.G, "D": self.D}
        values = {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}
        return values | {"W": self.W.detach()}


def episode(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    images = {name: torch.rand(2, 3, 32, 32) * 2 - 1 for name in ("image", "landmark_image")}
    shots = {name: torch.rand(2, 3, 3, 32, 32) * 2 - 1 for name in ("shots", "shot_landmarks")}
    return images | shots | {
        "identity": torch.tensor([seed, seed + 1]), "render": torch.rand(2, 9, 32, 32),
        "weights": torch.ones(2, 1, 32, 32), "known": torch.ones(2, 1, 32, 32, dtype=torch.bool),
    }  # fmt: skip


def test_a_step_is_the_papers_written_out_by_hand():
    """Equations 1 to 6, in plain torch, give the same weights to the last bit."""
    weights = replace(WEIGHTS, match=7.0, pixel=0.0)
    ours, plain, batch = Setup(), Setup(), episode(0)
    terms = ours.step([batch], weights)

    x, y, who = batch["image"], batch["landmark_image"], batch["identity"]
    e = plain.E(batch["shots"], batch["shot_landmarks"]).mean(dim=1)
    x_hat = plain.G(y, embedding=e, render=batch["render"])
    fake = plain.D(x_hat, y, plain.W[who].detach())
    with torch.no_grad():
        real = plain.D(x, y, plain.W[who])
    pairs = zip(fake.activations, real.activations, strict=True)
    matching = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
    match = (e - plain.W[who].detach()).abs().mean()
    loss = -2.0 * fake.scores.mean() + 3.0 * matching + 7.0 * match
    loss.backward()
    plain.generator_optimizer.step()
    plain.discriminator_optimizer.zero_grad()
    scores = plain.D(torch.cat([x, x_hat.detach()]), y.repeat(2, 1, 1, 1), plain.W[who].repeat(2, 1)).scores
    hinge = torch.relu(1 + scores[2:]).mean() + torch.relu(1 - scores[:2]).mean()
    hinge.backward()
    plain.discriminator_optimizer.step()

    assert list(terms) == ["content", "adversarial", "feature_matching", "match", "hinge"]
    *generator_terms, hinge_term = as_numbers(terms).values()
    assert sum(generator_terms) == pytest.approx(loss.item())
    assert hinge_term == hinge.item()
    expected = plain.state()
    for name, value in ours.state().items():
        assert torch.equal(value, expected[name]), name


def test_a_step_takes_the_mean_gradient_of_its_batches():
    parts, whole = Setup(), Setup()
    one, two = episode(0), episode(2)
    both = {name: torch.cat([one[name], two[name]]) for name in one}
    for setup in (parts, whole):  # whose power iterations stand still, so that scores are the same
        setup.E.eval(), setup.G.eval(), setup.D.eval()
    terms, expected = parts.step([one, two], WEIGHTS), whole.step([both], WEIGHTS)
    assert as_numbers(terms) == pytest.approx(as_numbers(expected), rel=1e-4)
    for name, value in parts.state().items():
        torch.testing.assert_close(value, whole.state()[name], rtol=1e-4, atol=1e-6, msg=name)


def test_what_the_target_does_not_know_teaches_nothing():
    """The target's pixels there change no gradient, of the generator or of the discriminator."""
    batch = episode(0)
    batch["known"][:, :, 8:16, 8:24] = False
    changed = dict(batch, image=torch.where(batch["known"], batch["image"], -batch["image"]))
    steps = {name: Setup() for name in ("as it is", "changed", "known")}
    alone = replace(WEIGHTS, adversarial=0.0, feature_matching=0.0)  # a discriminator sees more than a pixel at once
    steps["as it is"].step([batch], alone)
    steps["changed"].step([changed], alone)
    steps["known"].step([dict(changed, known=torch.ones_like(batch["known"]))], alone)
    generators = [torch.cat([p.flatten() for p in setup.G.parameters()]) for setup in steps.values()]
    torch.testing.assert_close(generators[0], generators[1])
    assert (generators[0] - generators[2]).abs().max() > 1e-6


def test_before_the_discriminator_joins_it_neither_teaches_nor_learns_and_then_learns_first():
    weights = replace(WEIGHTS, match=1.0)
    for steps, terms, learning in ((0, {"content", "pixel"}, "EG"), (1, {"content", "pixel", "hinge"}, "DEGW")):
        setup = Setup()
        before = {name: value.clone() for name, value in setup.state().items()}
        assert set(setup.step([episode(0)], weights, teaching=False, discriminator_steps=steps)) == terms
        changed = {name[0] for name, value in setup.state().items() if not torch.equal(value, before[name])}
        assert changed == set(learning)


def test_the_discriminator_takes_its_number_of_steps():
    once, thrice = Setup(), Setup()
    once.step([episode(0)], WEIGHTS)
    thrice.step([episode(0)], WEIGHTS, discriminator_steps=3)
    for name, value in thrice.state().items():
        if name[0] in "EG":
            assert torch.equal(value, once.state()[name]), name
    assert not torch.equal(thrice.state()["D.b"], once.state()["D.b"])


# ------------------------------------------------------------------------------------------------------- its terms


def test_terms_are_the_papers_and_weighted(batch, discriminator):
    discriminator.eval()  # the power iterations stand still, so that scores can be computed again
    terms = terms_of(batch, discriminator)
    assert set(terms) == {"adversarial", "feature_matching"}
    scores, fakes, _ = discriminator(batch["fakes"], batch["landmark_images"], batch["identity"])
    _, reals, _ = discriminator(batch["images"], batch["landmark_images"], batch["identity"])
    torch.testing.assert_close(terms["adversarial"], -2.0 * scores.mean())
    torch.testing.assert_close(terms["feature_matching"], 3.0 * losses.feature_matching(fakes, reals))


def test_a_discriminator_without_weight_is_not_asked(batch, discriminator):
    asked: list[int] = []
    discriminator.register_forward_hook(lambda *_: asked.append(1))
    terms_of(batch, discriminator)
    assert len(asked) == 2
    assert terms_of(batch, discriminator, replace(WEIGHTS, adversarial=0.0, feature_matching=0.0)) == {}
    assert len(asked) == 2


def test_the_generator_step_reaches_the_images_and_neither_discriminator_nor_identity(batch, discriminator):
    sum(terms_of(batch, discriminator).values()).backward()
    assert batch["fakes"].grad.abs().sum() > 0
    assert batch["identity"].grad is None
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_adversarial_gradient_alone_reaches_the_images(batch, discriminator):
    for name in ("adversarial", "feature_matching"):
        (gradient,) = torch.autograd.grad(terms_of(batch, discriminator)[name], batch["fakes"])
        assert gradient.abs().sum() > 0


def test_the_discriminator_step_reaches_discriminator_and_identity_and_not_the_images(batch, discriminator):
    discriminator_loss(discriminator, **batch).backward()
    assert batch["fakes"].grad is None
    assert batch["identity"].grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_the_hinge_is_that_of_real_and_fake(batch, discriminator):
    discriminator.eval()
    real = discriminator(batch["images"], batch["landmark_images"], batch["identity"])
    fake = discriminator(batch["fakes"], batch["landmark_images"], batch["identity"])
    expected = torch.relu(1 - real.scores).mean() + torch.relu(1 + fake.scores).mean()
    torch.testing.assert_close(discriminator_loss(discriminator, **batch), expected)


def test_patches_are_scored_beside_the_person(batch):
    torch.manual_seed(0)
    discriminator = Discriminator(**PRESETS["tiny"].model.discriminator | {"patch_block": 1}).eval()
    assert terms_of(batch, discriminator)["patches"] == 0  # asked for or not, they are counted by their weight
    terms = terms_of(batch, discriminator, replace(WEIGHTS, patches=0.5))
    real = discriminator(batch["images"], batch["landmark_images"], batch["identity"])
    fake = discriminator(batch["fakes"], batch["landmark_images"], batch["identity"])
    assert real.patches.shape == (3, 1, 8, 8)
    torch.testing.assert_close(terms["patches"], -0.5 * fake.patches.mean())
    both = [torch.relu(1 - real[k]).mean() + torch.relu(1 + fake[k]).mean() for k in (0, 2)]
    torch.testing.assert_close(discriminator_loss(discriminator, **batch), sum(both))
    discriminator_loss(discriminator, **batch).backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    # A patch's score is of its surroundings alone: another corner does not change it.
    changed = batch["images"].clone()
    changed[..., :8, :8] = 0
    after = discriminator(changed, batch["landmark_images"], batch["identity"]).patches
    torch.testing.assert_close(after[..., -1, -1], real.patches[..., -1, -1])
    assert (after[..., 0, 0] - real.patches[..., 0, 0]).abs().min() > 0


def test_one_persons_identity_serves_a_whole_batch(batch, discriminator):
    """Fine-tuning: identity is (N,)."""
    discriminator.eval()
    one = batch["identity"][0].detach()
    many = one.expand(3, -1)
    torch.testing.assert_close(
        discriminator_loss(discriminator, **(batch | {"identity": one})),
        discriminator_loss(discriminator, **(batch | {"identity": many})),
    )
    terms = terms_of(batch | {"identity": one}, discriminator), terms_of(batch | {"identity": many}, discriminator)
    torch.testing.assert_close(*terms)


def test_what_is_frozen_stays_frozen_also_after_an_error(batch, discriminator):
    discriminator.w0.requires_grad_(False)
    terms_of(batch, discriminator)
    assert [name for name, p in discriminator.named_parameters() if not p.requires_grad] == ["w0"]
    with pytest.raises(RuntimeError):
        terms_of(batch | {"landmark_images": torch.zeros(1, 3, 8, 8)}, discriminator)
    assert [name for name, p in discriminator.named_parameters() if not p.requires_grad] == ["w0"]


def test_a_content_net_that_is_weighted_must_be_given():
    for name in ("vgg19", "vgg16", "vggface", "squeezenet"):
        weights = replace(LossWeights(squeezenet=0.0), **{name: 1.0})
        with pytest.raises(ValueError, match=f"needs the weights of {name}, or of another .*--feature-net"):
            LossNets(weights)
    with pytest.raises(ValueError, match="needs the weights of vgg19 and vggface, or"):
        LossNets(LossWeights.paper_v2())


def test_content_is_the_weighted_distance_of_its_network(tmp_path: Path):
    torch.manual_seed(0)
    net = SqueezeNetFeatures()
    path = tmp_path / "net.npz"
    np.savez(path, **{name: value.numpy() for name, value in net.state_dict().items()})
    loss_nets = LossNets(LossWeights(squeezenet=4.0), [path])
    fakes, images = torch.rand(1, 3, 64, 64, requires_grad=True), torch.rand(1, 3, 64, 64, requires_grad=True)
    value = loss_nets.content(fakes, images)
    torch.testing.assert_close(value, 4.0 * losses.normalised_content(net(fakes), net(images)))
    value.backward()
    assert fakes.grad.abs().sum() > 0 and images.grad is None
    assert all(not parameter.requires_grad for parameter in loss_nets.parameters())
    assert loss_nets.content(images, images) == 0


def test_the_networks_that_are_given_decide_which_content_terms_there_are(tmp_path: Path):
    """The paper's preset with SqueezeNet in the place of VGG19 and VGGFace; explicit weights stay."""
    path = tmp_path / "net.npz"
    np.savez(path, **{name: value.numpy() for name, value in SqueezeNetFeatures().state_dict().items()})
    paper = LossWeights.paper_v2()
    assert LossNets(paper, [path]).weights == replace(paper, vgg19=0.0, vggface=0.0, squeezenet=2.0)
    assert LossNets(LossWeights(squeezenet=3.0), [path]).weights == LossWeights(squeezenet=3.0)
    assert LossNets(WEIGHTS).weights == WEIGHTS


def test_weights_by_network_are_those_of_the_presets():
    assert CONTENT_WEIGHTS["squeezenet"] == PRESETS["default"].losses.squeezenet
    paper = PRESETS["paper"].losses
    assert (CONTENT_WEIGHTS["vgg19"], CONTENT_WEIGHTS["vggface"]) == (paper.vgg19, paper.vggface)


def test_numbers_for_a_log():
    assert as_numbers({"a": torch.tensor(2.5, requires_grad=True)}) == {"a": 2.5}
