"""Face recognition, by which an evaluation tells who is seen.

MobileFaceNet gives CSIM, a cosine. dlib's face recognition ResNet, whose weights anybody can have (CC0), gives the
Euclidean distance of two descriptors, as dlib itself uses it: below 0.6 it takes two faces for one person. Cosines of
its descriptors would say little: of twelve people of the London set they are 0.99 between two photos of one person and
0.84 between two people, since all descriptors have much in common. dlib's network itself is in train/identity_net.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talking_heads.landmarks import LEFT_EYE, RIGHT_EYE
from talking_heads.tracking.crops import Crop

from ..features import filled, read_weights

FACE_HEIGHT, FACE_WIDTH = 112, 96
FIVE_POINTS = np.array([(30.29, 51.70), (65.53, 51.50), (48.03, 71.74), (33.55, 92.37), (62.73, 92.20)])
"""Places of the eyes, the tip of the nose and the mouth's corners for MobileFaceNet, in pixels of 112 x 96."""
DLIB_POINTS = [36, 39, 42, 45, 33]
"""Landmarks by which dlib cuts a chip: the corners of the eyes from left to right in the image, the nose's base."""
DLIB_POINTS_AT = (
    np.array(
        [(0.120575, 0.213727), (0.334085, 0.229064), (0.646060, 0.228967), (0.859567, 0.213498), (0.490123, 0.627798)]
    )
    + 0.25
) / 1.5
"""Places of the landmarks in a chip, in its sides: dlib's mean face with a margin of a quarter as in its examples."""


def align_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face with landmarks (L, 2) as MobileFaceNet wants it: uint8 RGB (112, 96, 3), by a similarity transform."""
    eyes = [landmarks[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
    found = np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]]) @ [1, 1j]
    margin = (FACE_HEIGHT - FACE_WIDTH) // 2  # a crop is square: 112 x 112, of which the middle is kept
    wanted = FIVE_POINTS @ [1, 1j] + margin
    turn = _similarity(wanted, found)
    centre = found.mean() + turn * (0.5 * (FACE_HEIGHT - 1) * (1 + 1j) - wanted.mean())
    crop = Crop(centre.real, centre.imag, side=FACE_HEIGHT * abs(turn), angle=float(np.angle(turn)))
    return crop.cut(image, FACE_HEIGHT)[:, margin:-margin]


def five_point_chip_transform(landmarks: np.ndarray) -> np.ndarray:
    """By DLIB_POINTS: landmarks (L, 2) in sides of a picture -> float32 (2, 3): chip to picture, both in [-1, 1], for
    ``IdentityNet``. A similarity transform; what a chip is says train/identity_net.py."""
    wanted, found = (2 * points @ [1, 1j] - (1 + 1j) for points in (DLIB_POINTS_AT, landmarks[DLIB_POINTS]))
    turn = _similarity(wanted, found)
    shift = found.mean() - turn * wanted.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], dtype=np.float32)


def _similarity(wanted: np.ndarray, found: np.ndarray) -> complex:
    """Scale and rotation between two sets of points as complex numbers, where a similarity is found = turn * wanted +
    shift: least squares have a closed form."""
    spread = wanted - wanted.mean()
    return complex(np.vdot(spread, found - found.mean()) / np.vdot(spread, spread))


def _normed(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class _ConvBlock(nn.Module):
    """Convolution, batch norm and, unless ``linear``, PReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv, self.bn = _normed(inputs, outputs, kernel, stride, padding, groups)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.skip = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *_normed(inputs, inner, 1),
            nn.PReLU(inner),
            *_normed(inner, inner, 3, stride, 1, groups=inner),
            nn.PReLU(inner),
            *_normed(inner, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileFaceNet(nn.Module):
    """Chen et al., arXiv 1804.07573, frozen: aligned faces -> identity; the cosine of two says whether they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _ConvBlock(3, 64, 3, 2, 1)
        self.dw_conv1 = _ConvBlock(64, 64, 3, 1, 1, groups=64)
        blocks, inputs = [], 64
        # The paper's table 1: expansion, channels, repetitions, stride of the first.
        for expansion, channels, number, stride in (
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ):
            for k in range(number):
                blocks.append(_Bottleneck(inputs, channels, stride if k == 0 else 1, expansion))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _ConvBlock(128, 512, 1)
        self.linear7 = _ConvBlock(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = _ConvBlock(512, 128, 1, linear=True)
        self.requires_grad_(False)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, 112, 96) RGB in [-1, 1] -> (B, 256) of unit length: of the face and of its mirror image."""
        faces = faces * (127.5 / 128)
        both = torch.cat([faces, faces.flip(-1)])
        x = self.linear7(self.conv2(self.blocks(self.dw_conv1(self.conv1(both)))))
        x = self.linear1(x).flatten(1)  # (2B, 128)
        return F.normalize(torch.cat(x.chunk(2), dim=1), dim=1)


def load_mobilefacenet(path: str | Path) -> MobileFaceNet:
    """Weights of MobileFaceNet -> the frozen network, or InvalidModelError."""
    net, weights = MobileFaceNet(), read_weights(path)
    counters = {key: torch.tensor(0) for key in net.state_dict() if key.endswith("num_batches_tracked")}
    return filled(net, counters | weights, path)
