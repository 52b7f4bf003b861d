"""Every term against its formula worked out by hand, and gradients that reach what is learned and nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from train.losses import (
    LossWeights,
    adversarial,
    content,
    feature_matching,
    hinge,
    match,
    normalised_content,
    perceptual_distance,
    pixel,
)


def activations() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two taps of different shapes: |difference| is 1 everywhere in the first, 2 on half of the second."""
    fakes = [torch.full((2, 3, 4, 4), 3.0), torch.tensor([[[[1.0, 5.0]]]])]
    reals = [torch.full((2, 3, 4, 4), 4.0), torch.tensor([[[[1.0, 3.0]]]])]
    return fakes, reals


def test_content_sums_the_mean_distances_of_the_taps():
    assert content(*activations()).item() == pytest.approx(1.0 + 1.0)


def test_normalised_content_measures_each_tap_in_its_own_unit():
    fakes, reals = activations()
    expected = (1.0 / 4.0 + 1.0 / 2.0) / 2
    assert normalised_content(fakes, reals).item() == pytest.approx(expected)
    rescaled = normalised_content([fakes[0] * 100, fakes[1]], [reals[0] * 100, reals[1]])
    assert rescaled.item() == pytest.approx(expected)


def test_normalised_content_is_zero_for_equal_and_one_against_nothing():
    _, reals = activations()
    assert normalised_content(reals, reals).item() == 0.0
    assert normalised_content([torch.zeros_like(real) for real in reals], reals).item() == pytest.approx(1.0)
    silent = [torch.zeros(1, 2, 2, 2)]
    assert normalised_content(silent, silent).item() == 0.0  # not 0 / 0


def test_adversarial_is_the_negative_mean_score():
    assert adversarial(torch.tensor([1.0, -3.0])).item() == pytest.approx(1.0)


def test_feature_matching_averages_over_blocks():
    assert feature_matching(*activations()).item() == pytest.approx((1.0 + 1.0) / 2)


def test_match_is_the_mean_absolute_difference():
    embeddings, identities = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 1.0]])
    assert match(embeddings, identities).item() == pytest.approx((1 + 2 + 0 + 1) / 4)


def test_pixel_is_a_weighted_mean():
    fakes, images = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    fakes[0, :, 0, 0] = 0.5
    fakes[0, 0, 0, 1] = 0.3  # one of three channels: 0.1 on average
    weight_map = torch.tensor([[[[3.0, 1.0]]]])
    assert pixel(fakes, images, weight_map).item() == pytest.approx((3 * 0.5 + 1 * 0.1) / 4)
    assert pixel(fakes, images, weight_map * 7).item() == pytest.approx(pixel(fakes, images, weight_map).item())
    assert pixel(fakes, images, torch.ones(1, 1, 1, 2)).item() == pytest.approx((fakes - images).abs().mean().item())
    assert pixel(fakes, images, torch.zeros(1, 1, 1, 2)).item() == 0.0


def test_hinge_stops_at_the_margins():
    assert hinge(torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])).item() == pytest.approx(0.5 / 2 + 1.5 / 2)
    assert hinge(torch.tensor([1.0]), torch.tensor([-1.0])).item() == 0.0


def test_perceptual_distance_compares_directions_of_single_images():
    a = [torch.tensor([[[[2.0]], [[0.0]]], [[[2.0]], [[0.0]]]])]  # two images, two channels, one position
    b = [torch.tensor([[[[9.0]], [[0.0]]], [[[0.0]], [[1.0]]]])]  # the same direction; the orthogonal one
    torch.testing.assert_close(perceptual_distance(a, b), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("term", [content, normalised_content, feature_matching])
def test_gradients_reach_the_fakes_only(term):
    fakes, reals = activations()
    for tensor in (*fakes, *reals):
        tensor.requires_grad_()
    term(fakes, reals).backward()
    assert all(fake.grad is not None and fake.grad.abs().sum() > 0 for fake in fakes)
    assert all(real.grad is None for real in reals)


def test_match_moves_the_embedder_and_not_the_identities():
    embeddings, identities = torch.ones(2, 4, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    match(embeddings, identities).backward()
    assert embeddings.grad is not None and identities.grad is None


def test_pixel_moves_the_fakes_only():
    fakes, images = (torch.rand(1, 3, 2, 2, requires_grad=True) for _ in range(2))
    weight_map = torch.ones(1, 1, 2, 2, requires_grad=True)
    pixel(fakes, images, weight_map).backward()
    assert fakes.grad is not None and images.grad is None and weight_map.grad is None


def test_hinge_pushes_real_up_and_fake_down():
    real, fake = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    hinge(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()


def test_terms_are_float32_scalars_even_in_bfloat16():
    half = [torch.rand(2, 3, 8, 8).bfloat16()]
    scores, images = torch.rand(2).bfloat16(), torch.rand(2, 3, 8, 8).bfloat16()
    terms = [
        content(half, half),
        normalised_content(half, half),
        adversarial(scores),
        feature_matching(half, half),
        match(scores, scores),
        pixel(images, images, torch.ones(2, 1, 8, 8)),
        hinge(scores, scores),
    ]
    assert all(term.shape == () and term.dtype == torch.float32 for term in terms)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        match(torch.zeros(4, 8), torch.zeros(8))
    with pytest.raises(ValueError, match="weight map"):
        pixel(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.ones(2, 4, 4))
    fakes, reals = activations()
    with pytest.raises(ValueError, match="shorter"):
        content(fakes, reals[:1])


def test_presets_are_the_two_versions_of_the_paper():
    v1, v2 = LossWeights.paper_v1(), LossWeights.paper_v2()
    assert (v1.vgg19, v1.vggface, v1.match) == (1e-2, 2e-3, 80.0)
    assert (v2.vgg19, v2.vggface, v2.match) == (1.5e-1, 2.5e-2, 10.0)
    for paper in (v1, v2):
        assert (paper.adversarial, paper.feature_matching, paper.squeezenet, paper.pixel) == (1.0, 10.0, 0.0, 0.0)


def test_weights_survive_a_json_config():
    weights = LossWeights(pixel=3.0)
    assert LossWeights(**json.loads(json.dumps(dataclasses.asdict(weights)))) == weights
