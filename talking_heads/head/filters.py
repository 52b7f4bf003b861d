"""Filters of pictures: holes filled, masks drawn to outlines, other sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

MAX_DETAIL = 0.12
"""Of 0..1: the most that mirrored detail changes a colour."""


def fill_holes(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, C) float and weights (H, W) in 0..1 -> float32 (H, W, C): the unknown continued smoothly (pull-push)."""
    height, width, _ = image.shape
    if min(height, width) <= 2:
        mean = (image * known[..., None]).sum(axis=(0, 1)) / max(float(known.sum()), 1e-6)
        return (known[..., None] * image + (1 - known[..., None]) * mean).astype(np.float32)
    weighted = np.dstack([image * known[..., None], known]).astype(np.float32)
    padded = np.pad(weighted, ((0, height % 2), (0, width % 2), (0, 0)))
    half = 0.25 * (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2])
    weight = half[..., -1]
    coarse = fill_holes(half[..., :-1] / np.maximum(weight, 1e-6)[..., None], np.minimum(1, 4 * weight))
    large = _doubled(coarse, height, width)
    return (known[..., None] * image + (1 - known[..., None]) * large).astype(np.float32)


def _doubled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) -> (height, width, C), about twice as large, bilinear."""
    for axis, length in ((0, height), (1, width)):
        at = np.clip((np.arange(length) + 0.5) / 2 - 0.5, 0, image.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(image.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, image.shape[axis] - 1)
        image = image.take(low, axis=axis) * (1 - share) + image.take(high, axis=axis) * share
    return image


def fill_with_texture(image: np.ndarray, known: np.ndarray, sigma: float) -> np.ndarray:
    """Like ``fill_holes``, with the fine detail of what lies around mirrored into the hole: (H, W, C) float in 0..1 and
    weights (H, W), 0 or 1. ``sigma``: pixels below which a structure counts as detail.

    A smooth filling alone is seen as a blurred halo.
    """
    smooth = fill_holes(image, known)
    hole = known < 0.5
    if not hole.any() or hole.all():
        return smooth
    detail = smooth - ndimage.gaussian_filter(smooth, (sigma, sigma, 0))
    detail = MAX_DETAIL * np.tanh(detail / MAX_DETAIL)  # an edge of a large thing has no twin
    here = np.argwhere(hole).T
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)[:, *here]
    row, column = (
        np.clip(_mirrored(there, length), 0, length - 1)
        for there, length in zip(2 * nearest - here, hole.shape, strict=True)
    )
    smooth[*here] += known[row, column, None] * detail[row, column]
    return np.clip(smooth, 0, 1)


def _mirrored(at: np.ndarray, length: int) -> np.ndarray:
    """Indices -> the same, those beyond either end of an axis of ``length`` mirrored there, once."""
    at = np.abs(at)
    result: np.ndarray = np.minimum(at, 2 * (length - 1) - at)
    return result


def follow_edges(mask: np.ndarray, grey: np.ndarray, radius: int = 7, smoothness: float = 1e-3) -> np.ndarray:
    """Coarse mask, grey image (H, W), both 0..1 -> the mask with the image's outlines (guided filter, He 2010)."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * radius + 1)

    mean_grey, mean_mask = mean(grey), mean(mask)
    slope = (mean(grey * mask) - mean_grey * mean_mask) / (mean(grey * grey) - mean_grey**2 + smoothness)
    return np.clip(mean(slope) * grey + mean(mean_mask - slope * mean_grey), 0, 1).astype(np.float32)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H, H, 3) or (H, H) -> the same of another side, with Pillow's antialiased filter."""
    if len(image) == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def resized_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """float (H, H) in 0..1 -> uint8 (side, side)."""
    return resized((mask * 255 + 0.5).clip(0, 255).astype(np.uint8), side)


def sharpened(image: np.ndarray, strength: float) -> np.ndarray:
    """uint8 (H, W, 3) -> the same with ``strength`` times what a blur by about a pixel takes away."""
    values = image.astype(np.float32)
    blurred = values
    for axis in (0, 1):
        blurred = ndimage.convolve1d(blurred, np.array([0.25, 0.5, 0.25], np.float32), axis=axis)
    return (values + strength * (values - blurred) + 0.5).clip(0, 255).astype(np.uint8)
