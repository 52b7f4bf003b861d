"""The moving head put back into the whole photo that it was cut from."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from .tracking.crops import Crop, Portrait

FEATHER = 0.06
"""Width, in sides of the crop, of the band along its edge in which the head's picture becomes the photo."""


def paste_back(heads: Iterable[np.ndarray], portrait: Portrait) -> Iterator[np.ndarray]:
    """Heads in motion over ``portrait``'s crop, uint8 (S, S, 3), one by one -> the whole photo, uint8 (H, W, 3)."""
    place: Place | None = None
    for head in heads:
        if place is None:
            place = Place(portrait.crop, portrait.image.shape[:2], len(head))
            unmoved = portrait.shot(len(head))[0].astype(np.float32)
        yield place.add(portrait.image, head - unmoved)


def paste_group(
    heads: Sequence[Iterable[np.ndarray]], portraits: Sequence[Portrait], bystanders: Sequence[Portrait] = ()
) -> Generator[np.ndarray, None, None]:
    """Heads of several people over their crops of one photo -> the whole photo, uint8 (H, W, 3), until all have ended.

    A head whose frames have ended keeps the last one. ``bystanders``: people of the photo who do not move. Crops of
    neighbours overlap: each head changes what is nearer to it than to anybody else.
    """
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(contextlib.closing(iter(frames))) for frames in heads]  # type: ignore[type-var]
        last: list[np.ndarray] = []
        places: list[Place] = []
        unmoved: list[np.ndarray] = []
        while True:
            now = [next(frames, None) for frames in running]
            if all(head is None for head in now):
                return
            if not last:
                last = [head for head in now if head is not None]
                sizes = [len(head) for head in last]
                places = [Place(p.crop, p.image.shape[:2], size) for p, size in zip(portraits, sizes, strict=True)]
                crops = [person.crop for person in (*portraits, *bystanders)]
                for k, place in enumerate(places):
                    place.keep_to(crops[k], [*crops[:k], *crops[k + 1 :]])
                unmoved = [p.shot(size)[0].astype(np.float32) for p, size in zip(portraits, sizes, strict=True)]
            last = [before if head is None else head for before, head in zip(last, now, strict=True)]
            picture = portraits[0].image
            for place, head, before in zip(places, last, unmoved, strict=True):
                picture = place.add(picture, head - before)
            yield picture


class Place:
    """The part of a picture that a crop was cut from.

    Positions are those of ``grid_sample``: in [-1, 1] of the width and height of what is looked up. Only what has
    changed in the crop is added to the picture, so that what has not moved stays to the bit.
    """

    def __init__(self, crop: Crop, picture_size: tuple[int, ...], size: int) -> None:
        """``picture_size``: height and width; ``size``: pixels of the crop's side."""
        height, width = picture_size
        matrix = crop.matrix(size)
        corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (size - 1) @ matrix[:, :2].T + matrix[:, 2]
        left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, [width, height]).astype(int)
        self.rows, self.columns = slice(top, bottom), slice(left, right)
        pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1)
        at = (2 * crop.to_crop(pixels, size) + 1) / size - 1
        self._in_crop = torch.from_numpy(at.astype(np.float32))[None]  # (1, h, w, 2)
        edge = ((1 - self._in_crop.abs()).amin(dim=-1) / (2 * FEATHER)).clamp(0, 1)
        self._share = (edge * edge * (3 - 2 * edge))[:, None]  # (1, 1, h, w)

    def keep_to(self, crop: Crop, others: Sequence[Crop]) -> None:
        """Limits changes to where its ``crop``, in sides, is nearer than all ``others``; with a soft border."""
        pixels = np.stack(np.meshgrid(np.arange(self.columns.start, self.columns.stop),
                                      np.arange(self.rows.start, self.rows.stop)), axis=-1)  # fmt: skip
        own, *far = (np.hypot(pixels[..., 0] - c.x, pixels[..., 1] - c.y) / c.side for c in (crop, *others))
        for distance in far:
            nearer = np.clip(0.5 + (distance - own) / (2 * FEATHER), 0, 1).astype(np.float32)
            self._share = self._share * torch.from_numpy(nearer)

    @torch.inference_mode()
    def add(self, picture: np.ndarray, change: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) and what is added to the crop, float32 (S, S, 3) in levels of 255 -> uint8 (H, W, 3)."""
        changes = torch.from_numpy(np.ascontiguousarray(change)).permute(2, 0, 1)[None]  # (1, 3, S, S)
        here = F.grid_sample(changes, self._in_crop, mode="bilinear", padding_mode="border", align_corners=False)
        part = torch.from_numpy(np.array(picture[self.rows, self.columns])).permute(2, 0, 1)
        result = picture.copy()
        changed = (part + self._share * here)[0].round().clamp(0, 255).to(torch.uint8)
        result[self.rows, self.columns] = changed.permute(1, 2, 0).numpy()
        return result
