"""Frozen feature networks: what the content loss L_CNT compares images by.

    images (B,3,H,W) RGB in [-1,1]  ->  [ReLU activations (B,C_l,H_l,W_l), one for each tap]

VGG19 and VGGFace are the paper's pair; their weights are published elsewhere and not shipped here. VGG16 is the nearest
to VGG19, and SqueezeNet 1.0 the small stand-in that a CPU can train with. Each network does its own preprocessing, so
callers never see BGR.
The parameters are frozen but gradients flow through to the images; wrap the pass over real images in
``torch.no_grad()``, which halves the memory.
"""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from talking_heads.errors import InvalidModelError

MIN_SIZE = 64
"""Smallest side of an input image: below it the deepest taps have hardly any positions left."""

VGG16_CONVS = (2, 2, 3, 3, 3)
VGG19_CONVS = (2, 2, 4, 4, 4)
"""Convolutions in each of the five stages."""

_UNREADABLE = (
    OSError,
    EOFError,
    TypeError,
    ValueError,
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    SafetensorError,
)
"""Errors that numpy, safetensors and torch raise on a damaged or foreign file."""


class FeatureNet(nn.Module):
    """A truncated, frozen Caffe-style classifier that returns the activations at ``taps``.

    ``features`` is numbered as torchvision numbers it, so published state dicts fit as they are.

    Args:
        layers: up to the last tap; what follows it is never run.
        taps: indices into ``layers``, ascending.
        bgr_mean: the mean pixel of the training set, 0..255, in the order blue, green, red.
    """

    bgr_mean: Tensor

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int], bgr_mean: Sequence[float]) -> None:
        super().__init__()
        if not taps or list(taps) != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < len(layers):
            raise ValueError(f"taps must ascend within 0..{len(layers) - 1}, got {tuple(taps)}")
        self.features = nn.Sequential(*layers[: taps[-1] + 1])
        self.taps = tuple(taps)
        # Not persistent: a constant of the architecture, absent from published state dicts.
        self.register_buffer("bgr_mean", torch.tensor(bgr_mean).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def preprocess(self, images: Tensor) -> Tensor:
        """RGB in [-1,1] -> BGR in 0..255 minus the mean pixel, (B,3,H,W) float32."""
        # float first: bfloat16 steps are a whole grey level in the upper half of 0..255.
        return (images.float().flip(1) + 1.0) * 127.5 - self.bgr_mean

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B,3,H,W) RGB in [-1,1], at least 64 px -> the activations at ``taps``, shallow to deep."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIZE:
            raise ValueError(f"expected (B, 3, H, W) with sides >= {MIN_SIZE}, got {tuple(images.shape)}")
        activations = []
        x = self.preprocess(images)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                activations.append(x)
        return activations


Net = TypeVar("Net", bound=nn.Module)


def _vgg_layers(convs_per_stage: Sequence[int]) -> list[nn.Module]:
    """Stages of 3x3 convolutions with ReLU, each stage ended by a 2x2 max pooling."""
    layers: list[nn.Module] = []
    in_channels = 3
    for convs, channels in zip(convs_per_stage, (64, 128, 256, 512, 512), strict=True):
        for _ in range(convs):
            layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    return layers


class VGG19Features(FeatureNet):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of the ImageNet VGG19 (the paper's Conv1,6,11,20,29).

    For the weights trained in Caffe. torchvision's own VGG19 has the same keys but was trained on RGB divided by
    a standard deviation: its file loads, and its activations would be those of a wrongly scaled image.
    """

    def __init__(self) -> None:
        super().__init__(_vgg_layers(VGG19_CONVS), (1, 6, 11, 20, 29), (103.939, 116.779, 123.680))


class VGGFaceFeatures(FeatureNet):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of VGGFace, a VGG16 (the paper's Conv1,6,11,18,25).

    For weights converted from Caffe, keyed ``features.0.weight`` or ``conv1_1.weight``. The MatConvNet conversion
    ``vgg_face_dag.pth`` has the latter names too, but its first filters expect RGB: reverse their input channels first.
    """

    def __init__(self) -> None:
        super().__init__(_vgg_layers(VGG16_CONVS), (1, 6, 11, 18, 25), (93.5940, 104.7624, 129.1863))


class VGG16Features(FeatureNet):
    """relu1_2, relu2_2, relu3_3, relu4_3 of the ImageNet VGG16: nearest to VGG19 where its weights cannot be had.

    For the weights trained in Caffe, cut off behind relu4_3: with more layers a file is taken for VGGFace's, which is
    the same network.
    """

    def __init__(self) -> None:
        super().__init__(_vgg_layers(VGG16_CONVS), (3, 8, 15, 22), (103.939, 116.779, 123.680))


class Fire(nn.Module):
    """SqueezeNet's block: squeeze 1x1, then 1x1 and 3x3 expansions side by side; (B,C,H,W) -> (B,2*expand,H,W)."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1), inplace=True)


class SqueezeNetFeatures(FeatureNet):
    """Six taps of the ImageNet SqueezeNet 1.0, from edges to parts.

    | tap | layer | channels | stride |
    | --- | --- | --- | --- |
    | 1 | conv1 | 96 | 2 |
    | 3, 5 | fire2, fire4 | 128, 256 | 4 |
    | 8, 10 | fire6, fire8 | 384, 512 | 8 |
    | 12 | fire9 | 512 | 16 |

    As LPIPS does with SqueezeNet 1.1: the end of each resolution, and some blocks between. The convolution at the
    entrance has no padding, so the outermost pixels weigh less than those inside.
    """

    def __init__(self, taps: Sequence[int] = (1, 3, 5, 8, 10, 12)) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 96, 7, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(96, 16, 64),  # fire2
            Fire(128, 16, 64),
            Fire(128, 32, 128),  # fire4
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 32, 128),
            Fire(256, 48, 192),  # fire6
            Fire(384, 48, 192),
            Fire(384, 64, 256),  # fire8
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(512, 64, 256),  # fire9
        ]
        super().__init__(layers, taps, (104.0, 117.0, 123.0))


def load_vgg19(path: str | Path) -> VGG19Features:
    """Published Caffe weights of VGG19 (.pth, .safetensors or .npz) -> the frozen network, or InvalidModelError."""
    return filled(VGG19Features(), read_weights(path), path)


def load_vggface(path: str | Path) -> VGGFaceFeatures:
    """Published Caffe weights of VGGFace (.pth, .safetensors or .npz) -> the frozen network, or InvalidModelError."""
    return filled(VGGFaceFeatures(), read_weights(path), path)


def load_vgg16(path: str | Path) -> VGG16Features:
    """Published Caffe weights of VGG16 to relu4_3 -> the frozen network, or InvalidModelError."""
    return filled(VGG16Features(), read_weights(path), path)


def load_squeezenet(path: str | Path) -> SqueezeNetFeatures:
    """Caffe's weights of SqueezeNet 1.0 under torchvision's names -> the frozen network, or InvalidModelError."""
    return filled(SqueezeNetFeatures(), read_weights(path), path)


def load_feature_net(path: str | Path) -> FeatureNet:
    """Whichever of the four networks the file holds, told by its keys; InvalidModelError for any other."""
    weights = read_weights(path)
    net: FeatureNet
    if "features.3.squeeze.weight" in weights:
        net = SqueezeNetFeatures()
    elif "features.16.weight" in weights:  # conv3_4 of VGG19; a VGG16 pools here
        net = VGG19Features()
    elif "features.24.weight" in weights:  # conv5_1 of a whole VGG16
        net = VGGFaceFeatures()
    elif "features.17.weight" in weights:  # conv4_1 of one that ends behind relu4_3
        net = VGG16Features()
    else:
        raise InvalidModelError(
            f"{Path(path).name} holds none of VGG19, VGGFace, VGG16 to relu4_3 and SqueezeNet 1.0. "
            "Give the weights of one of them."
        )
    return filled(net, weights, path)


def filled(net: Net, weights: Mapping[str, Tensor], path: str | Path) -> Net:
    """``net`` with its own keys taken out of ``weights``; what the file has besides (the classifier) is left there."""
    kind, name = type(net).__name__.removesuffix("Features"), Path(path).name
    wanted = net.state_dict()
    for key, value in wanted.items():
        if key not in weights:
            raise InvalidModelError(f"{name} lacks {key}, so it is not {kind}. Give the weights of {kind}.")
        if weights[key].shape != value.shape:
            raise InvalidModelError(
                f"{name} is not {kind}: {key} has the shape {tuple(weights[key].shape)} instead of "
                f"{tuple(value.shape)}. Give the weights of {kind}."
            )
    net.load_state_dict({key: weights[key] for key in wanted})
    return net


def _with_torchvision_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe's ``conv1_1.weight`` or ``conv_1_1.weight`` -> ``features.0.weight`` and so on; other keys stay."""
    plain = {re.sub(r"^conv_?(\d_\d)\.", r"conv\1.", key): value for key, value in weights.items()}
    convs_per_stage = VGG19_CONVS if "conv3_4.weight" in plain else VGG16_CONVS
    names = {}
    index = 0
    for stage, convs in enumerate(convs_per_stage, start=1):
        for conv in range(1, convs + 1):
            for kind in ("weight", "bias"):
                names[f"conv{stage}_{conv}.{kind}"] = f"features.{index}.{kind}"
            index += 2  # the convolution and its ReLU
        index += 1  # the pooling
    return {names.get(key, key): value for key, value in plain.items()}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Named arrays of an .npz, .safetensors or .pth file, told apart by their bytes, under torchvision's names."""
    path = Path(path)
    if not path.is_file():
        raise InvalidModelError(f"There are no feature weights at {path}. Check the path.")
    try:
        if _is_safetensors(path):
            weights = load_file(path)
        elif _is_npz(path):
            with np.load(path, allow_pickle=False) as arrays:
                weights = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InvalidModelError(f"{path.name} cannot be read as network weights. Download it again.") from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InvalidModelError(f"{path.name} is not a plain dictionary of weights. Give a state dict.")
    return _with_torchvision_names(weights)


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of header length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _is_npz(path: Path) -> bool:
    """A zip archive of .npy files; a .pth is a zip archive too, of a pickle and its storages."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())
