"""The discriminators of mouth, eyes and face: what they see, that they learn, and that they teach."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest
import torch
from test_training_step import Setup, episode
from torch import Tensor
from torch.nn import functional as F

from train.identity_net import CHIP, chip_transform
from train.losses import LossNets, LossWeights
from train.part_discriminators import (
    PART_WEIGHTS,
    PARTS,
    PartDiscriminators,
    cut_part,
    part_adversarial_terms,
    part_discriminator_loss,
)
from train.trainer import Networks, minimize_with, training_step

WEIGHTS = LossWeights(squeezenet=0.0, adversarial=0.0, feature_matching=0.0, match=0.0, pixel=1.0, parts=1.0)


def chips(number: int) -> Tensor:
    """Of faces that fill the picture as a chip does."""
    return torch.eye(2, 3).repeat(number, 1, 1)


def pictures(number: int, blur: bool) -> Tensor:
    """Noise, or the same noise without its finest details, (B, 3, 64, 64) in [-1, 1]."""
    torch.manual_seed(number)
    noise = torch.rand(number, 3, 64, 64) * 2 - 1
    return F.avg_pool2d(F.pad(noise, (1, 1, 1, 1), "replicate"), 3, 1) if blur else noise


def test_a_part_is_where_the_face_has_it() -> None:
    """Points painted at a face's eyes and mouth lie in the middle of what is cut out, however the head is turned."""
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    face = np.zeros((68, 2))
    for part, (x, y) in {"right": (0.318, 0.314), "left": (0.669, 0.314), "mouth": (0.5, 0.747)}.items():
        place = {"right": slice(36, 42), "left": slice(42, 48), "mouth": slice(48, 68)}[part]
        face[place] = 0.5 + 0.5 * (rotation @ (np.array([x, y]) - 0.5))
    image = torch.zeros(1, 3, 300, 300)
    for landmark in face[[36, 42, 48]]:
        column, row = (landmark * 300).round().astype(int)
        image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    chip = torch.from_numpy(chip_transform(face))[None]

    mouth = cut_part(image, chip, "mouth")[0, 0]
    row, column = divmod(int(mouth.argmax()), mouth.shape[1])
    x, y, width, height = PARTS["mouth"]
    assert mouth.shape == (height, width)
    assert abs(row - (0.747 * CHIP - y + height / 2)) < 3
    assert abs(column - (0.5 * CHIP - x + width / 2)) < 3
    eyes = cut_part(image, chip, "eyes")[0, 0]
    assert eyes[:, :56].max() > 0.3 and eyes[:, 56:].max() > 0.3  # one on each side


def test_they_learn_to_tell_painted_from_real() -> None:
    torch.manual_seed(0)
    part_discriminators = PartDiscriminators()
    optimizer = torch.optim.Adam(part_discriminators.parameters(), lr=1e-3)
    real, painted, lines = pictures(4, False), pictures(4, True), torch.zeros(4, 3, 64, 64)
    hinges = []
    for _ in range(12):
        terms = part_discriminator_loss(part_discriminators, painted, real, lines, chips(4), gamma=0.1)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        hinges.append(terms["part_hinge"].item() / len(PARTS))
    assert hinges[0] > 1.8 and hinges[-1] < 1.0  # 2 is chance


def test_what_they_teach_is_weighted_and_leaves_them_alone() -> None:
    torch.manual_seed(0)
    part_discriminators = PartDiscriminators()
    real, lines = pictures(2, False), torch.zeros(2, 3, 64, 64)
    painted = pictures(2, True).requires_grad_()
    terms = part_adversarial_terms(part_discriminators, painted, real, lines, chips(2), LossWeights(parts=3.0))
    scores = {name: scores.mean() for name, (scores, _) in part_discriminators(painted, lines, chips(2)).items()}
    expected = -3 * sum(PART_WEIGHTS[name] * score for name, score in scores.items())
    assert terms["parts"].item() == pytest.approx(expected.item())
    assert terms["part_features"].item() == 0
    sum(terms.values()).backward()
    assert painted.grad is not None and float(painted.grad.abs().max()) > 0
    assert all(p.grad is None and p.requires_grad for p in part_discriminators.parameters())


def test_r1_is_half_of_gamma_times_the_gradients_square() -> None:
    torch.manual_seed(0)
    part_discriminators = PartDiscriminators()
    real, lines = pictures(1, False), pictures(1, True)
    none, r1 = (
        part_discriminator_loss(part_discriminators, real, real, lines, chips(1), gamma=gamma) for gamma in (0.0, 6.0)
    )
    assert "r1" not in none
    expected = 0.0
    for name, net in part_discriminators.double().parts.items():
        part = cut_part(torch.cat([real, lines], dim=1), chips(1), name).double()
        nudge = torch.randn_like(part)
        point = part.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(point)[0].mean(), point)
        with torch.no_grad():  # the gradient is the slope, whatever the direction
            slope = (net(part + 1e-7 * nudge)[0].mean() - net(part - 1e-7 * nudge)[0].mean()) / 2e-7
        assert float(slope) == pytest.approx(float((gradient * nudge).sum()), rel=1e-2)
        expected += float(gradient.square().sum())
    assert r1["r1"].item() == pytest.approx(3 * expected, rel=1e-4)


def test_a_step_teaches_the_generator_first_and_then_them() -> None:
    setup, part_discriminators = Setup(), PartDiscriminators()
    before = copy.deepcopy(part_discriminators)
    nets = setup.networks()
    nets = Networks(nets.embed, nets.generate, nets.discriminator, nets.identity, part_discriminators)
    judging = torch.optim.SGD([*setup.D.parameters(), setup.W, *part_discriminators.parameters()], lr=1e-2)
    terms = training_step(
        nets, [episode(0) | {"chip": chips(2)}], LossNets(WEIGHTS),
        minimize_with(setup.generator_optimizer, contextlib.nullcontext),
        minimize_with(judging, contextlib.nullcontext),
    )  # fmt: skip
    assert {"parts", "part_features", "part_hinge", "r1"} <= set(terms)
    for name, net in part_discriminators.parts.items():
        assert not torch.equal(net.score.weight, before.parts[name].score.weight)
