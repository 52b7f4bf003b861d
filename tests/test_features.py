"""Feature networks against plain PyTorch, their weight files in all formats, and a real photo through SqueezeNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from skimage import data, filters, transform
from torch import nn

from talking_heads.errors import InvalidModelError
from talking_heads.media.images import to_float
from train.features import (
    SqueezeNetFeatures,
    VGG16Features,
    VGG19Features,
    VGGFaceFeatures,
    load_feature_net,
    load_squeezenet,
    load_vgg19,
    load_vggface,
)
from train.losses import normalised_content, perceptual_distance

SQUEEZENET = Path(__file__).resolve().parents[2] / "shared" / "data" / "nets" / "squeezenet1_0.npz"
VGG16 = SQUEEZENET.with_name("vgg16_features.npz")
needs_squeezenet = pytest.mark.skipif(
    not SQUEEZENET.is_file(), reason="the SqueezeNet weights are not at ../shared/data/nets/squeezenet1_0.npz"
)


@pytest.fixture(scope="module")
def vgg19() -> VGG19Features:
    torch.manual_seed(0)
    return VGG19Features()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_vgg19_taps_are_those_of_the_plain_network(vgg19, images, tmp_path):
    file = tmp_path / "weights"  # without a suffix: the contents tell
    save_file({**vgg19.state_dict(), "classifier.0.weight": torch.zeros(1)}, file)
    loaded = load_vgg19(file)

    # torchvision's configuration E, built and run by hand.
    layers, channels = [], 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512):
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    plain = nn.Sequential(*layers)
    plain.load_state_dict({key.removeprefix("features."): value for key, value in vgg19.state_dict().items()})

    red, green, blue = (images[:, channel] * 127.5 + 127.5 for channel in range(3))
    x = torch.stack([blue - 103.939, green - 116.779, red - 123.680], dim=1)
    expected = []
    with torch.no_grad():
        for index, layer in enumerate(plain):
            x = layer(x)
            if index in (1, 6, 11, 20, 29):
                expected.append(x)
    for tap, same in zip(loaded(images), expected, strict=True):  # magnitudes differ by tap: 100 and far below 1
        torch.testing.assert_close(tap, same, rtol=1e-3, atol=1e-4 * same.max().item())


def test_vggface_taps_have_the_shapes_of_vgg16():
    net = VGGFaceFeatures()
    shapes = [tuple(tap.shape) for tap in net(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16), (1, 512, 8, 8), (1, 512, 4, 4)]
    assert [index for index, layer in enumerate(net.features) if isinstance(layer, nn.MaxPool2d)] == [4, 9, 16, 23]
    black = net.preprocess(torch.full((1, 3, 1, 1), -1.0)).flatten()
    torch.testing.assert_close(black, torch.tensor([-93.5940, -104.7624, -129.1863]))


@pytest.mark.parametrize("pattern", ["conv{}_{}", "conv_{}_{}"])
def test_vggface_accepts_the_names_of_caffe(pattern, tmp_path):
    net = VGGFaceFeatures()
    names = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1"]
    convs = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    weights = {"fc8.bias": torch.zeros(2622)}
    for name, conv in zip(names, convs, strict=True):
        key = pattern.format(*name.split("_"))
        weights |= {f"{key}.weight": conv.weight, f"{key}.bias": conv.bias}
    torch.save(weights, tmp_path / "vggface.pth")
    loaded = load_vggface(tmp_path / "vggface.pth")
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in net.state_dict().items())
    assert isinstance(load_feature_net(tmp_path / "vggface.pth"), VGGFaceFeatures)


def test_vgg16_is_vggface_cut_off_with_imagenets_mean_pixel(tmp_path):
    whole = VGGFaceFeatures().state_dict()
    weights = {key: value for key, value in whole.items() if int(key.split(".")[1]) < 23}
    save_file(weights, tmp_path / "vgg16.safetensors")
    net = load_feature_net(tmp_path / "vgg16.safetensors")
    assert isinstance(net, VGG16Features)
    shapes = [tuple(tap.shape) for tap in net(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16), (1, 512, 8, 8)]
    black = net.preprocess(torch.full((1, 3, 1, 1), -1.0)).flatten()
    torch.testing.assert_close(black, torch.tensor([-103.939, -116.779, -123.680]))


@pytest.mark.skipif(not VGG16.is_file(), reason="the VGG16 weights are not at ../shared/data/nets/vgg16_features.npz")
def test_vgg16_finds_a_blurred_photo_less_alike_than_a_sharp_one():
    net = load_feature_net(VGG16)
    photo = transform.resize(data.astronaut()[:200, 130:330], (128, 128))
    clear, soft = (to_float((255 * x).astype(np.uint8)) for x in (photo, filters.gaussian(photo, 2, channel_axis=2)))
    near, far = (perceptual_distance(net(clear), net(x)).item() for x in (clear, soft))
    assert near == 0 and far > 0.1


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pth", "old.pth"])
def test_the_contents_tell_format_and_network(suffix, vgg19, tmp_path):
    for net in (vgg19, SqueezeNetFeatures()):
        weights, file = net.state_dict(), tmp_path / suffix
        if suffix == "npz":
            with file.open("wb") as handle:
                np.savez(handle, **{key: value.numpy() for key, value in weights.items()})
        elif suffix == "safetensors":
            save_file(weights, file)
        else:
            torch.save(weights, file, _use_new_zipfile_serialization=suffix == "pth")
        loaded = load_feature_net(file)
        assert type(loaded) is type(net)
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in weights.items())


def test_a_missing_key_is_named(tmp_path):
    weights = SqueezeNetFeatures().state_dict()
    del weights["features.8.squeeze.bias"]
    save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(InvalidModelError, match=r"net\.safetensors lacks features\.8\.squeeze\.bias"):
        load_squeezenet(tmp_path / "net.safetensors")


def test_a_wrong_shape_is_named(tmp_path):
    weights = SqueezeNetFeatures().state_dict() | {"features.0.weight": torch.zeros(64, 3, 3, 3)}  # SqueezeNet 1.1
    save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(InvalidModelError, match=r"features\.0\.weight has the shape \(64, 3, 3, 3\)"):
        load_feature_net(tmp_path / "net.safetensors")


def test_another_network_is_refused(tmp_path):
    torch.save({"layer1.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
    with pytest.raises(InvalidModelError, match="none of VGG19, VGGFace, VGG16 to relu4_3 and SqueezeNet"):
        load_feature_net(tmp_path / "resnet.pth")
    with pytest.raises(InvalidModelError, match="not VGG19"):
        load_vgg19(tmp_path / "resnet.pth")


@pytest.mark.parametrize("contents", [b"", b"not weights", b"PK\x03\x04 cut", b"\x10\0\0\0\0\0\0\0{ cut"])
def test_damaged_files_are_refused(contents, tmp_path):
    (tmp_path / "file.pth").write_bytes(contents)
    with pytest.raises(InvalidModelError, match="cannot be read"):
        load_feature_net(tmp_path / "file.pth")


def test_a_cut_npz_and_a_training_checkpoint_are_refused(tmp_path):
    np.savez(tmp_path / "net.npz", a=np.zeros(4096), b=np.array(["text"]))
    with pytest.raises(InvalidModelError, match="cannot be read"):
        load_feature_net(tmp_path / "net.npz")
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "checkpoint.pth")
    with pytest.raises(InvalidModelError, match="plain dictionary"):
        load_feature_net(tmp_path / "checkpoint.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidModelError, match="no feature weights"):
        load_feature_net(tmp_path / "nowhere.npz")


def test_frozen_but_differentiable_in_the_images(images):
    net = SqueezeNetFeatures()
    fakes = images.clone().requires_grad_()
    normalised_content(net(fakes), [tap + 1 for tap in net(images)]).backward()
    assert fakes.grad is not None and fakes.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (256, 128)])
def test_squeezenet_takes_any_size(size):
    taps = SqueezeNetFeatures()(torch.zeros(1, 3, *size))
    assert [tap.shape[1] for tap in taps] == [96, 128, 256, 384, 512, 512]
    assert all(tap.numel() > 0 and tap.min() >= 0 for tap in taps)


def test_taps_are_chosen_and_checked(images):
    net = SqueezeNetFeatures(taps=(1, 5))
    assert [tap.shape[1] for tap in net(images)] == [96, 256] and len(net.features) == 6
    for taps in ((), (5, 1), (1, 1), (1, 13), (-1, 3)):
        with pytest.raises(ValueError, match="ascend"):
            SqueezeNetFeatures(taps)
    for shape in ((1, 1, 64, 64), (3, 64, 64), (1, 3, 63, 64)):
        with pytest.raises(ValueError, match="expected"):
            net(torch.zeros(shape))


def test_channels_last_and_bfloat16_give_the_same_features(images):
    net = SqueezeNetFeatures()
    expected = net(images)
    net = net.to(memory_format=torch.channels_last)
    taps = net(images.to(memory_format=torch.channels_last))
    assert all(tap.is_contiguous(memory_format=torch.channels_last) for tap in taps)
    torch.testing.assert_close(taps, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(images)
    assert perceptual_distance(half, expected).max() < 1e-3


def photo(image: np.ndarray) -> torch.Tensor:
    """A square photo -> (1,3,128,128) in [-1,1]."""
    return to_float((transform.resize(image, (128, 128), anti_aliasing=True) * 255).astype(np.uint8))


@needs_squeezenet
def test_squeezenet_finds_a_blurred_photo_nearer_than_another():
    net = load_feature_net(SQUEEZENET)
    blurred = filters.gaussian(data.astronaut(), 2, channel_axis=2)
    person, soft, coffee = (net(photo(image)) for image in (data.astronaut(), blurred, data.coffee()[:, 100:500]))
    assert normalised_content(soft, person) < 0.5 * normalised_content(coffee, person)
    assert perceptual_distance(soft, person).item() < 0.3 * perceptual_distance(coffee, person).item()
    assert perceptual_distance(person, person).item() == 0.0


@needs_squeezenet
def test_squeezenet_recognises_espresso_so_the_preprocessing_is_right():
    net = load_squeezenet(SQUEEZENET)
    with np.load(SQUEEZENET) as weights:
        kernel, bias = (torch.from_numpy(weights[f"classifier.1.{kind}"]) for kind in ("weight", "bias"))
    coffee = transform.resize(data.coffee()[:, 100:500], (224, 224), anti_aliasing=True)
    deepest = net(to_float((coffee * 255).astype(np.uint8)))[-1]
    scores = F.relu(F.conv2d(deepest, kernel, bias)).mean(dim=(2, 3))  # (1,1000)
    assert scores.softmax(dim=1)[0, 967] > 0.5  # ImageNet's class espresso
