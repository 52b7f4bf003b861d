"""The three networks: the paper's sizes and formulas, gradients everywhere, and files that give back what they took."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.generator import GAIN_SPEED, MAX_CORRECTION, RENDER_CHANNELS, SEEN_CHANNELS
from talking_heads.models.layers import (
    NORM_EPS,
    Factory,
    SelfAttention,
    adaptive_instance_norm,
    channel_statistics,
    converge_spectral_norms,
    folded_state,
    load_folded,
)
from train.config import preset

TINY: dict[str, Any] = {"image_size": 32, "attention_resolution": 8}
EMBEDDER = TINY | {"channels": [8, 16, 16]}
DISCRIMINATOR = TINY | {"channels": [8, 16, 16]}
GENERATOR = TINY | {"channels": [8, 16], "num_middle_blocks": 1, "embedding_dim": 16, "up_attention_resolution": 16}
CONDITIONED = GENERATOR | {"render_conditioned": True, "skips": True, "patch_size": 2, "channels": [8, 16, 24]}


def seeded(network: type[nn.Module], config: dict[str, Any], gains: float = 0.5) -> Any:
    """A network whose gains, zero at the start of training, are not."""
    torch.manual_seed(0)
    model = network(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(gains / GAIN_SPEED if name == "gain" else gains)
    converge_spectral_norms(model)
    return model.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def arguments(model: Any, count: int = 2, size: int = 32) -> tuple[Tensor, ...]:
    """Inputs that fit the network."""
    images, landmarks = noise(count, 3, size, size), noise(count, 3, size, size, seed=1)
    if isinstance(model, Embedder):
        return images[:, None], landmarks[:, None]
    if isinstance(model, Discriminator):
        return images, landmarks, noise(count, model.config.channels[-1], seed=2)
    embedding = noise(count, model.config.embedding_dim, seed=2)
    if not model.config.render_conditioned:
        return landmarks, embedding
    render = F.interpolate(noise(count, RENDER_CHANNELS, 5, 5, seed=3), (size, size), mode="bilinear")
    render[:, [6, 8]] = render[:, [6, 8]].abs()  # trust and stillness
    return landmarks, embedding, None, render  # type: ignore[return-value]


def output(model: Any, *inputs: Any) -> Tensor:
    with torch.no_grad():
        result = model(*(inputs or arguments(model)))
    return result[0] if isinstance(result, tuple) else result


ALL = [(Embedder, EMBEDDER), (Discriminator, DISCRIMINATOR), (Generator, GENERATOR), (Generator, CONDITIONED)]
each = pytest.mark.parametrize(
    ("network", "config"), ALL, ids=["embedder", "discriminator", "generator", "conditioned"]
)


# --------------------------------------------------------------------------------------------------- the paper's sizes


def test_parameter_counts_are_the_papers() -> None:
    """Millions, without self-attention, as counted in the co-author's code; of the generator 6.70 are P."""
    with torch.device("meta"):
        plain = {"attention_resolution": 0, "spectral_norm": False}
        embedder, discriminator = Embedder(**plain), Discriminator(**plain)
        generator = Generator(**plain, up_attention_resolution=0)
    millions = [round(sum(p.numel() for p in m.parameters()) / 1e6, 2) for m in (embedder, generator, discriminator)]
    assert millions == [14.83, 37.91, 19.55]
    assert generator.style_dim == 13_056
    assert round(generator.projection.weight.numel() / 1e6, 2) == 6.68  # 6.70 with its bias


def test_the_papers_self_attention_is_where_it_belongs() -> None:
    """It is at 32x32 in the down blocks of all three, at 64x64 in the generator's up blocks."""
    sizes: dict[str, list[int]] = {}

    def watch(name: str) -> Any:
        return lambda _, inputs: sizes.setdefault(name, []).append(inputs[0].shape[-1])

    with torch.device("meta"):
        kwargs = {"spectral_norm": False}
        config = preset("paper").model
        models = [
            Embedder(**config.embedder, **kwargs),
            Discriminator(**config.discriminator, **kwargs),
            Generator(**config.generator, **kwargs),
        ]
        for model in models:
            for name, module in model.named_modules():
                if isinstance(module, SelfAttention):
                    module.register_forward_pre_hook(watch(f"{type(model).__name__}.{name.split('.')[0]}"))
        image, vector = torch.zeros(1, 3, 256, 256), torch.zeros(1, 512)
        models[0](image[None], image[None])
        models[1](image, image, vector)
        models[2](image, vector)
    assert sizes == {
        "Embedder.encoder": [32],
        "Discriminator.encoder": [32],
        "Generator.down_attention": [32],
        "Generator.up_attention": [64],
    }


def test_everything_has_spectral_norm_or_nothing_has() -> None:
    for network, config in ALL:
        weighted = [m for m in network(**config).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert weighted
        assert all(hasattr(m, "parametrizations") for m in weighted)
        folded = network(**config | {"spectral_norm": False})
        assert not any("parametrizations" in name for name in folded.state_dict())


def test_spectral_norms_are_one() -> None:
    model = seeded(Embedder, EMBEDDER)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-4)


def test_training_starts_with_features_that_tell_images_apart() -> None:
    """Deep stacks under spectral norm drown them in what all images have in common, unless they start right."""
    torch.manual_seed(0)
    embedder = Embedder(**EMBEDDER | {"channels": [8, 16, 16, 16, 16]})
    converge_spectral_norms(embedder)
    colours = F.interpolate(noise(12, 3, 4, 4), (32, 32), mode="bilinear")[:, None]
    vectors = output(embedder, colours, colours.flip(-1))[:, 0]
    mean = vectors.mean(dim=0)
    assert (vectors - mean).norm(dim=1).mean() > 0.1 * mean.norm()
    weight = embedder.encoder.blocks[0].conv2.weight.detach().flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=1e-3, rtol=0)
    assert not any(p.any() for name, p in embedder.named_parameters() if name.endswith("bias"))


def test_the_default_is_small_enough_for_a_cpu() -> None:
    """A frame of 256 px costs at most 1.5 billion multiplications, the three networks 40 MB in 16 bit."""
    config = preset("default").model
    with torch.device("meta"):
        generator = Generator(**config.generator, spectral_norm=False)
        embedder, discriminator = Embedder(**config.embedder), Discriminator(**config.discriminator)
        assert embedder.embedding_dim == generator.config.embedding_dim == discriminator.config.channels[-1]
        with FlopCounterMode(display=False) as counter:
            generator(*(x if x is None else x.to("meta") for x in arguments(generator, 1, 256)))
    assert counter.get_total_flops() / 2 <= 1.5e9
    numbers = sum(p.numel() for m in (generator, embedder, discriminator) for p in m.parameters())
    assert 2 * numbers <= 40e6


# ------------------------------------------------------------------------------------------------------------- AdaIN


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(16, 16), (7, 12), (64, 64)])
def test_adain_is_instance_norm_with_given_coefficients(layout: torch.memory_format, size: tuple[int, int]) -> None:
    x = (3 * noise(2, 6, *size) + noise(1, 6, 1, 1, seed=5)).contiguous(memory_format=layout)
    weight, bias = noise(2, 6, seed=1), noise(2, 6, seed=2)
    expected = F.instance_norm(x, eps=NORM_EPS) * weight[..., None, None] + bias[..., None, None]
    for training in (True, False):  # each has its own form
        with torch.set_grad_enabled(training):
            got = adaptive_instance_norm(x, weight, bias)
            half = adaptive_instance_norm(x.bfloat16(), weight, bias)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        assert got.is_contiguous(memory_format=layout)
        assert half.dtype == torch.bfloat16
        assert (half - expected).abs().max() < 0.06
        assert (half - expected).abs().mean() < 0.01


def test_variance_is_biased_and_survives_a_large_mean() -> None:
    x = noise(1, 3, 32, 32) + 20
    mean, variance = channel_statistics(x)
    torch.testing.assert_close(mean, x.mean(dim=(2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(variance, x.var(dim=(2, 3), correction=0), atol=2e-3, rtol=0)


def test_constant_channels_give_the_bias() -> None:
    got = adaptive_instance_norm(torch.full((1, 2, 8, 8), 7.0), torch.ones(1, 2), torch.tensor([[0.5, -1.0]]))
    torch.testing.assert_close(got[0, :, 0, 0], torch.tensor([0.5, -1.0]), atol=0.02, rtol=0)


# ---------------------------------------------------------------------------------------------------------- embedder


def test_an_embedding_is_of_each_shot_alone() -> None:
    model = seeded(Embedder, EMBEDDER)
    images, landmarks = noise(2, 3, 3, 32, 32), noise(2, 3, 3, 32, 32, seed=1)
    embeddings = output(model, images, landmarks)
    assert embeddings.shape == (2, 3, 16)
    assert embeddings.min() >= 0  # ReLU before the sum
    assert model.embedding_dim == 16
    torch.testing.assert_close(output(model, images[1:, 2:], landmarks[1:, 2:])[0, 0], embeddings[1, 2])


def test_the_mean_does_not_depend_on_the_order_of_the_shots() -> None:
    model = seeded(Embedder, EMBEDDER)
    images, landmarks, order = noise(1, 4, 3, 32, 32), noise(1, 4, 3, 32, 32, seed=1), [2, 0, 3, 1]
    first = output(model, images, landmarks).mean(dim=1)
    torch.testing.assert_close(output(model, images[:, order], landmarks[:, order]).mean(dim=1), first)
    swapped = output(model, images, landmarks[:, order]).mean(dim=1)
    assert not torch.allclose(swapped, first)  # whose landmarks are whose matters


def test_the_embedding_is_a_sum_over_space() -> None:
    model = seeded(Embedder, EMBEDDER | {"attention_resolution": 0})
    images, landmarks = noise(1, 1, 3, 32, 32), noise(1, 1, 3, 32, 32, seed=1)
    with torch.no_grad():
        x = torch.cat([landmarks, images], dim=2)[0]
        for block in model.encoder.blocks:
            y = block.conv2(F.relu(block.conv1(F.relu(x))))
            x = F.avg_pool2d(y + block.skip(x), 2)
    assert x.shape[2:] == (4, 4)
    torch.testing.assert_close(output(model, images, landmarks)[0], F.relu(x).sum(dim=(2, 3)), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------ discriminator


def test_the_score_is_equation_5() -> None:
    """D = V^T (W_i + w0) + b."""
    model = seeded(Discriminator, DISCRIMINATOR)
    images, landmarks, identity = arguments(model)
    with torch.no_grad():
        model.b.fill_(0.7)
        scores, activations, patches = model(images, landmarks, identity)
        vector = F.relu(activations[-1]).sum(dim=(2, 3))
        expected = torch.stack([vector[k] @ (identity[k] + model.w0) + 0.7 for k in range(2)])
        torch.testing.assert_close(scores, expected)
        one = model(images, landmarks, identity[0]).scores  # one person for the whole batch
    assert scores.shape == (2,)
    assert patches is None  # not the paper's
    torch.testing.assert_close(one[0], scores[0])
    # After each down block, and after one more at the last resolution.
    assert [tuple(a.shape[1:]) for a in activations] == [(8, 16, 16), (16, 8, 8), (16, 4, 4), (16, 4, 4)]


# ---------------------------------------------------------------------------------------------------------- generator


@pytest.mark.parametrize("config", [GENERATOR, CONDITIONED])
def test_a_style_is_the_projected_embedding(config: dict[str, Any]) -> None:
    model = seeded(Generator, config)
    landmarks, embedding, _, *render = arguments(model) if len(arguments(model)) > 2 else (*arguments(model), None)
    with torch.no_grad():
        style = model.projection(embedding)
    assert style.shape == (2, model.style_dim)
    frames = output(model, landmarks, embedding, None, *render)
    assert frames.shape == (2, 3, 32, 32)
    torch.testing.assert_close(output(model, landmarks, None, style, *render), frames)
    alone = output(model, landmarks, None, style[0], *render)  # one person for the whole batch
    torch.testing.assert_close(alone[0], frames[0])
    assert not torch.allclose(alone[1], frames[1])


def test_the_score_of_a_person_is_scaled_and_the_bias_is_not() -> None:
    config = preset("tiny").model.discriminator
    torch.manual_seed(0)
    plain = Discriminator(**config).eval()
    scaled = Discriminator(**config | {"score_scale": 0.25}).eval()
    scaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        plain.b.fill_(3.0), scaled.b.fill_(3.0)
        images, lines, identity = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.randn(2, 16)
        one, quarter = (net(images, lines, identity).scores for net in (plain, scaled))
    torch.testing.assert_close(quarter - 3, 0.25 * (one - 3))


def test_styles_reach_each_frame_of_a_batch_separately() -> None:
    model = seeded(Generator, GENERATOR)
    landmarks, embedding = arguments(model)
    frames = output(model, landmarks, embedding)
    for k in range(2):
        torch.testing.assert_close(
            output(model, landmarks[k : k + 1], embedding[k : k + 1])[0], frames[k], atol=1e-5, rtol=1e-4
        )


def test_training_starts_at_the_render() -> None:
    model = seeded(Generator, CONDITIONED, gains=0.0)
    inputs = arguments(model)
    assert torch.equal(output(model, *inputs), inputs[3][:, :3])


def test_nothing_is_painted_where_nothing_has_moved() -> None:
    """Elsewhere it is changed in proportion, up to a bound."""
    model = seeded(Generator, CONDITIONED)
    landmarks, embedding, _, render = arguments(model)
    picture = render[:, :3]
    corrections = []
    for still in (0.0, 0.5, 1.0):
        render[:, SEEN_CHANNELS:] = still
        corrections.append(output(model, landmarks, embedding, None, render) - picture)
    assert corrections[0].abs().mean() > 0.01
    torch.testing.assert_close(corrections[1], 0.5 * corrections[0], atol=1e-5, rtol=0)  # it does not see stillness
    assert not corrections[2].any()
    with torch.no_grad():
        model.gain.fill_(1e4)
    render[:, SEEN_CHANNELS:] = 0
    strongest = (output(model, landmarks, embedding, None, render) - picture).abs()
    assert MAX_CORRECTION * 0.99 < strongest.max() <= MAX_CORRECTION + 1e-5


def test_every_plane_of_the_render_is_seen() -> None:
    model = seeded(Generator, CONDITIONED)
    landmarks, embedding, _, render = arguments(model)
    before = output(model, landmarks, embedding, None, render) - render[:, :3]
    for plane in range(SEEN_CHANNELS):
        changed = render.clone()
        changed[:, plane] *= -1
        after = output(model, landmarks, embedding, None, changed) - changed[:, :3]
        assert (after - before).abs().max() > 1e-4, plane


def test_frames_stay_within_their_range() -> None:
    assert output(seeded(Generator, GENERATOR)).abs().max() <= 1


def test_networks_are_convolutional() -> None:
    """A run may begin on smaller images: an embedding there has the scale it has at full size."""
    embedder = seeded(Embedder, EMBEDDER | {"attention_resolution": 0})
    image = torch.full((1, 1, 3, 32, 32), 0.5)
    large, small = output(embedder, image, image), output(embedder, image[..., :16, :16], image[..., :16, :16])
    assert small.shape == large.shape
    assert small.norm().item() == pytest.approx(large.norm().item(), rel=0.5)
    generator = seeded(Generator, GENERATOR)
    assert output(generator, *arguments(generator, 1, 16)).shape == (1, 3, 16, 16)


# ------------------------------------------------------------------------------------------------ all of them together


@each
def test_every_parameter_learns(network: type[nn.Module], config: dict[str, Any]) -> None:
    model = seeded(network, config).train()
    result = model(*arguments(model, 3))
    result = result[0] if isinstance(result, tuple) else result
    (result * noise(*result.shape, seed=9)).sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert idle == []


def test_a_new_conditioned_generator_learns_its_gain_first() -> None:
    model = seeded(Generator, CONDITIONED, gains=0.0).train()
    model(*arguments(model)).square().sum().backward()
    assert model.gain.grad.abs().min() > 0
    others = [name for name, p in model.named_parameters() if name != "gain" and p.grad is not None and p.grad.any()]
    assert others == []


@each
def test_a_forward_writes_nothing_into_the_module(network: type[nn.Module], config: dict[str, Any]) -> None:
    model = seeded(network, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    first = output(model)
    output(model, *arguments(model, 1))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, module in model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(vars(module)[key] is value for key, value in attributes[name].items())
    assert torch.equal(output(model), first)


@each
def test_saving_and_loading_is_exact(network: type[nn.Module], config: dict[str, Any], tmp_path: Path) -> None:
    model = seeded(network, config)
    model.save_pretrained(tmp_path)
    again = network.from_pretrained(tmp_path)  # type: ignore[attr-defined]
    assert not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    torch.testing.assert_close(output(again), output(model), atol=1e-5, rtol=1e-4)  # kernels depend on addresses
    stored = json.loads((tmp_path / "config.json").read_text())
    for key, value in config.items():
        assert stored[key] == again.config[key] == value
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    rebuilt = network.from_config(model.config)  # type: ignore[attr-defined]
    assert rebuilt.state_dict().keys() == model.state_dict().keys()


@each
def test_folded_weights_compute_the_same(network: type[nn.Module], config: dict[str, Any]) -> None:
    model = seeded(network, config).train()
    state = folded_state(model)
    assert model.training  # as it was
    model.eval()
    plain = network(**config | {"spectral_norm": False}).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(output(plain), output(model), atol=1e-5, rtol=1e-4)
    again = network(**config).eval()
    load_folded(again, state)
    torch.testing.assert_close(output(again), output(model), atol=1e-4, rtol=1e-3)
    for name, value in folded_state(again).items():
        torch.testing.assert_close(value, state[name], atol=1e-4, rtol=1e-3)
    before = output(plain)
    load_folded(plain, state)  # a network without spectral norm takes them as they are
    assert torch.equal(output(plain), before)


def test_folding_leaves_the_network_and_its_later_training_alone() -> None:
    model = seeded(Embedder, EMBEDDER)
    before = copy.deepcopy(model.state_dict())
    state = folded_state(model)
    for value in state.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_foreign_folded_weights_are_refused() -> None:
    state = folded_state(seeded(Embedder, EMBEDDER))
    state.pop("encoder.blocks.0.conv1.weight")
    with pytest.raises(ValueError, match=r"missing \['encoder.blocks.0.conv1"):
        load_folded(seeded(Embedder, EMBEDDER), state)
    with pytest.raises(ValueError, match="unexpected"):
        load_folded(seeded(Embedder, EMBEDDER), folded_state(seeded(Discriminator, DISCRIMINATOR)))


@each
def test_config_and_submodules_share_no_name(network: type[nn.Module], config: dict[str, Any]) -> None:
    model = network(**config)
    assert isinstance(model, ModelMixin)
    assert not {name for name, _ in model.named_children()} & set(model.config)
    json.dumps({key: value for key, value in model.config.items() if not key.startswith("_")})


@pytest.mark.parametrize("network", [Embedder, Discriminator, Generator])
@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 100},
        {"image_size": 0},
        {"image_size": 4},
        {"patch_size": 3},
        {"channels": []},
        {"channels": [8, 0]},
        {"channels": [-8]},
    ],
)
def test_sizes_that_do_not_work_are_refused(network: type[nn.Module], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"image_size|patch_size|channels"):
        network(**{"image_size": 32, "channels": [8, 16, 16]} | wrong)


def test_contradictory_inputs_are_refused() -> None:
    generator, conditioned, embedder = (
        seeded(n, c) for n, c in ((Generator, GENERATOR), (Generator, CONDITIONED), (Embedder, EMBEDDER))
    )
    landmarks, embedding = arguments(generator)
    with pytest.raises(ValueError, match="either embedding or style"):
        generator(landmarks)
    with pytest.raises(ValueError, match="either embedding or style"):
        generator(landmarks, embedding, torch.zeros(generator.style_dim))
    for model, render in ((generator, arguments(conditioned)[3]), (conditioned, None)):
        with pytest.raises(ValueError, match="render-conditioned"):
            model(landmarks, embedding, None, render)
    with pytest.raises(ValueError, match="expected two"):
        embedder(landmarks, landmarks)


def test_the_factory_makes_layers_that_keep_the_resolution() -> None:
    for size in (1, 3):
        assert Factory(True).conv(2, 4, size)(noise(1, 2, 8, 8)).shape == (1, 4, 8, 8)


@each
def test_bfloat16_stays_close(network: type[nn.Module], config: dict[str, Any]) -> None:
    plain = network(**config | {"spectral_norm": False}).eval()
    plain.load_state_dict(folded_state(seeded(network, config)))
    # Large enough for instance norm: over the four positions that 32 px leave in the middle, it amplifies rounding.
    inputs = arguments(plain, 2, 64)
    expected = output(plain, *inputs)
    half = copy.deepcopy(plain).bfloat16()
    got = output(half, *(x if x is None else x.bfloat16() for x in inputs))
    assert (got.float() - expected).abs().max() < 0.1 * max(1.0, expected.abs().max().item())
    assert (got.float() - expected).abs().mean() < 0.1 * expected.abs().mean()
