"""The moving head put back into the whole photo that it was cut from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .faces import Portrait
from .images import to_float, to_uint8

FEATHER = 0.06
"""Width, in sides of the crop, of the band along its edge in which the head's picture becomes the photo."""


def paste_back(heads: Iterable[np.ndarray], portrait: Portrait) -> Iterator[np.ndarray]:
    """Heads in motion over ``portrait``'s crop, uint8 (S, S, 3), one by one -> the whole photo, uint8 (H, W, 3)."""
    place: _Place | None = None
    for head in heads:
        if place is None:
            place = _Place(portrait, len(head))
        yield place.with_head(head)


class _Place:
    """The part of a photo that heads go into.

    Positions are those of ``grid_sample``: in [-1, 1] of the width and height of what is looked up. Only what a head's
    picture changes against the unmoved crop is added to the photo, so that what has not moved stays to the bit.
    """

    def __init__(self, portrait: Portrait, size: int) -> None:
        self.photo = portrait.image
        height, width = self.photo.shape[:2]
        matrix = portrait.crop.matrix(size)
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (size - 1) @ matrix[:, :2].T + matrix[:, 2]
        left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, [width, height]).astype(int)
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1)
        at = (2 * portrait.crop.to_crop(pixels, size) + 1) / size - 1
        self.in_crop = torch.from_numpy(at.astype(np.float32))[None]  # (1, h, w, 2)
        edge = ((1 - self.in_crop.abs()).amin(dim=-1) / (2 * FEATHER)).clamp(0, 1)
        self.share = (edge * edge * (3 - 2 * edge))[:, None]  # (1, 1, h, w)
        self.part = to_float(np.array(self.photo[self.rows, self.columns]))
        self.unmoved = to_float(portrait.shot(size)[0])

    @torch.inference_mode()
    def with_head(self, head: np.ndarray) -> np.ndarray:
        change = self._look(to_float(head) - self.unmoved)
        result = self.photo.copy()
        result[self.rows, self.columns] = to_uint8(torch.addcmul(self.part, change, self.share))[0]
        return result

    def _look(self, images: Tensor) -> Tensor:
        """Images (1, C, S, S) at the photo's pixels -> (1, C, h, w)."""
        return F.grid_sample(images, self.in_crop, mode="bilinear", padding_mode="border", align_corners=False)
