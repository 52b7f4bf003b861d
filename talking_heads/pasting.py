"""The painted head back in the photo that it came from: at the photo's size and with the photo's own detail.

Heads are painted at the networks' resolution, photos are larger. What a photo shows beyond that (hair, pores,
cloth) is taken along: inside the face by the same warp that lies under the paint, around it from wherever the painted
picture agrees with the warped or with the unmoved photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .faces import Portrait
from .images import to_float, to_uint8
from .landmarks import FACE_OUTLINE
from .warping import inside, landmarks_to_tensor, regular_grid, steadied, warp_shift

FEATHER = 0.06
"""Width, in sides of the crop, of the band along its edge in which the painted picture becomes the photo."""
AGREEMENT = 0.06
"""Difference, of a range of 2, at which two pictures agree to a third and detail is taken over to that extent."""


def paste_back(heads: Iterable[np.ndarray], targets: Iterable[np.ndarray], portrait: Portrait) -> Iterator[np.ndarray]:
    """Painted heads, uint8 (S, S, 3), one by one -> the whole photo around each, uint8 (H, W, 3).

    ``targets``: the landmarks, (L, 2) each, in pixels of the heads to which they were painted over ``portrait``'s crop.
    """
    place: _Place | None = None
    for head, points in zip(heads, targets, strict=True):
        if place is None:
            place = _Place(portrait, len(head))
        yield place.with_head(head, points)


class _Place:
    """The part of a photo that heads go into.

    Positions are those of ``grid_sample``: in [-1, 1] of the width and height of what is looked up.
    """

    def __init__(self, portrait: Portrait, size: int) -> None:
        self.photo, self.size = portrait.image, size
        shot, landmarks = portrait.shot(size)
        self.shot = to_float(shot)  # (1, 3, S, S)
        self.source = landmarks_to_tensor(landmarks)[None]  # (1, L, 2)
        height, width = self.photo.shape[:2]
        matrix = portrait.crop.matrix(size)
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (size - 1) @ matrix[:, :2].T + matrix[:, 2]
        left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, [width, height]).astype(int)
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1)
        self.in_crop = _tensor((2 * portrait.crop.to_crop(pixels, size) + 1) / size - 1)  # (1, h, w, 2)
        self.in_photo = _tensor((2 * pixels + 1) / [width, height] - 1)
        # What a step in the crop is in the photo: displacements of the one become those of the other.
        self.step = torch.from_numpy(matrix[:, :2] * size / [[width], [height]]).float()
        edge = (1 - self.in_crop.abs()).amin(dim=-1) / (2 * FEATHER)
        self.share = _smooth(edge.clamp(0, 1))[:, None]  # (1, 1, h, w)
        self.whole = to_float(np.array(self.photo))  # a copy: it may be read-only
        self.part = self.whole[:, :, self.rows, self.columns].contiguous()
        self.detailed = portrait.crop.side > size
        self.unmoved_detail = self.part - _look(self.shot, self.in_crop)

    @torch.inference_mode()
    def with_head(self, head: np.ndarray, points: np.ndarray) -> np.ndarray:
        painted = to_float(head)
        if self.detailed:
            part = self._with_detail(painted, landmarks_to_tensor(points)[None])
        else:
            part = _look(painted, self.in_crop)
        part = part.sub_(self.part).mul_(self.share).add_(self.part)
        result = self.photo.copy()
        result[self.rows, self.columns] = to_uint8(part)[0]
        return result

    def _with_detail(self, painted: Tensor, target: Tensor) -> Tensor:
        """``painted`` (1, 3, S, S) enlarged, with what the photo has beyond that resolution, (1, 3, h, w)."""
        target = steadied(self.source, target)
        shift = 2 * warp_shift(self.source, target, self.size)[1]  # (1, 2, S, S)
        at = 2 * regular_grid(self.size, 0.5 / self.size, shift) - 1
        warped = _look(self.shot, at + shift.permute(0, 2, 3, 1))
        face = inside(target[:, FACE_OUTLINE], self.size, softness=0.05 * self.size)
        moving, still = (
            torch.exp(-_blurred((painted - other).abs().mean(dim=1, keepdim=True)) / AGREEMENT)
            for other in (warped, self.shot)
        )
        still = still * (1 - face)  # skin looks like skin: there the unmoved photo would seem to agree as well
        moving = moving * (1 - still)
        shift_in_photo = torch.einsum("xy,bykl->bxkl", self.step, shift)
        planes = _look(torch.cat([painted, shift, shift_in_photo, moving, still], dim=1), self.in_crop)
        part, shift, shift_in_photo, moving, still = planes.split([3, 2, 2, 1, 1], dim=1)
        detail = F.grid_sample(
            self.whole, self.in_photo + shift_in_photo.permute(0, 2, 3, 1), "bicubic", "border", align_corners=False
        )
        detail -= _look(self.shot, self.in_crop + shift.permute(0, 2, 3, 1))
        return part.addcmul(moving, detail).addcmul_(still, self.unmoved_detail)


def _look(images: Tensor, at: Tensor) -> Tensor:
    """Images (1, C, S, S) at positions (1, h, w, 2) -> (1, C, h, w)."""
    return F.grid_sample(images, at, mode="bilinear", padding_mode="border", align_corners=False)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[None]


def _blurred(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes, 5, stride=1, padding=2, count_include_pad=False)


def _smooth(share: Tensor) -> Tensor:
    return share * share * (3 - 2 * share)
