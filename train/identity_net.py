"""The identity term: how far a painted face is from the real one for a network that tells people apart.

dlib's face recognition ResNet, whose weights are in the public domain. Its input is a chip, which is dlib's word for an
aligned face: the face is cut out of the picture, turned and scaled such that the eyes of all people lie in the same
places of 150 x 150 pixels. A chip transform (2, 3) says where in the picture the chip is. The network's output are 128
numbers, the further apart the less alike two faces are.

Models are measured with dlib's own chips, which are cut by five points
(``evaluation.face_recognition.five_point_chip_transform``); here the two eyes are enough (``chip_transform``). Of
twelve people of the London set, neutral and smiling, photos of one person are 0.22 apart and those of two people 0.84;
in chips with the face smaller and further down, with which the bundled default model was trained, 0.20 and 0.55.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talking_heads.errors import InvalidModelError

CHIP = 150
DESCRIPTOR = 128
EYES_AT = np.array([[0.318, 0.314], [0.669, 0.314]])
"""The image's left and right eye in the chip, in sides of it, where dlib's own chips have them."""
STAGES = (("conv32", 3), ("conv64", 3), ("conv128", 2), ("conv256", 2))


def chip_transform(landmarks: np.ndarray) -> np.ndarray:
    """By the two eyes: landmarks (L, 2) in sides of a picture -> float32 (2, 3): chip to picture, both in [-1, 1], for
    ``affine_grid``."""
    eyes = 2 * np.stack([landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)]) - 1
    chip = 2 * EYES_AT - 1
    # A rotation and a scale that take one pair of points to the other, as complex numbers.
    from_chip, to_picture = chip[1] - chip[0], eyes[1] - eyes[0]
    factor = complex(*to_picture) / complex(*from_chip)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, eyes.mean(axis=0) - linear @ chip.mean(axis=0)]).astype(np.float32)


class IdentityNet(nn.Module):
    """Frozen; gradients flow to the images."""

    fc: Tensor
    mean: Tensor

    def __init__(self, path: str | Path) -> None:
        """``path``: an .npz of dlib's arrays by their layers' names. It is tried at once: InvalidModelError for a file
        that does not answer."""
        super().__init__()
        if not Path(path).is_file():
            raise InvalidModelError(f"There is no identity network at {path}. Check the path.")
        advice = f"{path} is not dlib's face recognition network. Give the .npz of its arrays by their layers' names."
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: torch.tensor(data[name].astype(np.float32)) for name in data.files}
            filters = {name: arrays[name] for name in arrays if name.endswith("filters")}
            self.register_buffer("fc", arrays["fc"], persistent=False)
            mean = torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1)
            self.register_buffer("mean", mean, persistent=False)
            for name, values in filters.items():
                layer = name.removesuffix(".conv.filters")
                scale = arrays[f"{layer}.scale.weights"].view(-1)
                bias = arrays[f"{layer}.scale.biases"].view(-1)
                # Scale and bias that follow a convolution go into it.
                weight = values.permute(3, 2, 0, 1) * scale.view(-1, 1, 1, 1)
                key = layer.replace(".", "_")
                self.register_buffer(f"{key}_weight", weight.contiguous(), persistent=False)
                self.register_buffer(
                    f"{key}_bias", arrays[f"{layer}.conv.bias"].view(-1) * scale + bias, persistent=False
                )
        except (
            OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, zipfile.BadZipFile
        ) as error:  # fmt: skip
            raise InvalidModelError(advice) from error
        if not self._answers():
            raise InvalidModelError(advice)

    @torch.no_grad()
    def _answers(self) -> bool:
        """Whether all layers are there and fit each other."""
        try:
            return self(torch.zeros(1, 3, 8, 8), torch.eye(2, 3)[None]).shape == (1, DESCRIPTOR)
        except (AttributeError, RuntimeError, ValueError):
            return False

    def forward(self, images: Tensor, chips: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] and where their faces are (B, 2, 3) -> (B, 128)."""
        grid = F.affine_grid(chips.float(), [len(images), 3, CHIP, CHIP], align_corners=False)
        faces = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        x = ((faces + 1) * 127.5 - self.mean) / 256
        x = F.max_pool2d(F.relu(self._conv(x, "conv32_down", 2, 0)), 3, 2)
        for stage, count in STAGES:
            if stage != "conv32":
                x = self._down(x, f"{stage}_down")
            for i in range(1, count + 1):
                name = f"{stage}_{i}"
                inner = F.relu(self._conv(x, f"{name}_conv1", 1, 1))
                x = F.relu(x + self._conv(inner, f"{name}_conv2", 1, 1))
        x = self._down(x, "conv256_down_out")
        result: Tensor = x.mean(dim=(2, 3)) @ self.fc.to(x.dtype)
        return result

    def _conv(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight = getattr(self, f"{name}_weight")
        return F.conv2d(x, weight, getattr(self, f"{name}_bias"), stride, padding)

    def _down(self, x: Tensor, name: str) -> Tensor:
        inner = F.relu(self._conv(x, f"{name}_conv1", 2, 0))
        inner = self._conv(inner, f"{name}_conv2", 1, 1)
        pooled = F.avg_pool2d(x, 2, 2)
        shape = [max(a, b) for a, b in zip(pooled.shape[1:], inner.shape[1:], strict=True)]
        padded = [
            F.pad(t, (0, shape[2] - t.shape[3], 0, shape[1] - t.shape[2], 0, shape[0] - t.shape[1]))
            for t in (pooled, inner)
        ]
        return F.relu(padded[0] + padded[1])
