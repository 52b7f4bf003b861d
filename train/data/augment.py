"""Variety for training: random, but a function of the generator that is given. Pictures are uint8."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from torch.nn import functional as F

from talking_heads.head.photo import MARGIN, REACH
from talking_heads.landmarks import FACE_OUTLINE, INNER_LIP, LEFT_EYE, MIRROR, OUTER_LIP, RIGHT_EYE

EYE_REACH = np.array([1.3, 1.6])
"""Width and height of an eye with its lids, over those of its outline."""
LIPS_REACH = np.array([1.1, 1.0])
"""The same of what counts as within the lips, over the inner lips."""


def weight_map(landmarks: np.ndarray, size: int, face: float, mouth: float, eyes: float) -> np.ndarray:
    """Weights of the pixel term, float32 (1, size, size): 1, more by ``face`` within the face's outline, and more by
    ``mouth`` and ``eyes`` where those are."""
    image = Image.new("F", (size, size), 1.0)
    draw = ImageDraw.Draw(image)
    draw.polygon([tuple(point) for point in landmarks[list(FACE_OUTLINE)]], fill=1.0 + face)
    for part, extra in ((OUTER_LIP, mouth), (RIGHT_EYE, eyes), (LEFT_EYE, eyes)):
        stretch = 1.25 if part is OUTER_LIP else EYE_REACH
        draw.polygon(_stretched(landmarks[part], stretch), fill=1.0 + extra)
    return np.array(image, dtype=np.float32)[None]


def unknown_parts(outlines: Sequence[np.ndarray], size: int, eyes: bool) -> np.ndarray:
    """bool (1, size, size): within the inner lips, and the ``eyes`` with their lids, of any of the landmarks (L, 2) in
    pixels, and what surrounds them."""
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)
    parts = ((INNER_LIP, LIPS_REACH), *(((RIGHT_EYE, EYE_REACH), (LEFT_EYE, EYE_REACH)) if eyes else ()))
    for landmarks in outlines:
        for part, stretch in parts:
            draw.polygon(_stretched(landmarks[part], stretch), fill=1, outline=1)
    return ndimage.binary_dilation(np.array(image, bool), iterations=round(size / 128))[None]


def _stretched(outline: np.ndarray, stretch: np.ndarray | float) -> list[tuple[float, ...]]:
    """Points (N, 2) moved away from their middle, as Pillow takes polygons."""
    centre = outline.mean(axis=0)
    return [tuple(point) for point in (outline - centre) * stretch + centre]


def face_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """float32 (1, size, size): 1 within the face's outline, else 0; landmarks (L, 2) in pixels."""
    image = Image.new("F", (size, size), 0.0)
    ImageDraw.Draw(image).polygon([tuple(point) for point in landmarks[list(FACE_OUTLINE)]], fill=1.0)
    return np.array(image, dtype=np.float32)[None]


def degraded(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo, uint8 (S, S, 3), as it comes out of phones and of videos: fewer pixels, blurred, compressed, and its
    white balance somewhat off."""
    size = len(picture)
    small = max(8, round(size * rng.uniform(0.4, 1.0)))
    quality = int(rng.integers(30, 96))
    blur = rng.exponential(0.4) * size / 384
    cast = np.exp(rng.normal(0, 0.015, 3))
    image = Image.fromarray((picture * cast + 0.5).clip(0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(blur)).resize((small, small), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as compressed:
        return np.asarray(compressed.resize((size, size), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class View:
    """How an episode is framed and coloured, the same for all of its pictures."""

    mirrored: bool
    similarity: np.ndarray | None
    """(2, 3): sides of the new crop -> sides of the old one; turned, scaled and shifted a little, or None."""
    colours: np.ndarray | None
    """(3, 4): new RGB from old RGB and 1, in 0..255; or None."""

    @classmethod
    def random(cls, rng: np.random.Generator, mirror: float, jitter: float) -> View:
        """``mirror``: share of the views that are; ``jitter``: how strong the changes are, 0 for none."""
        mirrored = bool(rng.random() < mirror)
        if jitter == 0:
            return cls(mirrored, None, None)
        angle, scale = np.deg2rad(jitter * rng.normal(0, 5)), np.exp(jitter * rng.normal(0, 0.08))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        shift = jitter * rng.normal(0, 0.03, 2)
        similarity = np.column_stack([linear, 0.5 + shift - linear @ [0.5, 0.5]])
        # Saturation, contrast about a middle grey, white balance and brightness.
        saturation, contrast = np.exp(jitter * rng.normal(0, 0.2)), np.exp(jitter * rng.normal(0, 0.12))
        mix = contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
        offset = 115 * (1 - contrast) + 127.5 * jitter * (rng.normal(0, 0.04, 3) + rng.normal(0, 0.08))
        return cls(mirrored, similarity, np.column_stack([mix, offset]))

    def landmarks(self, points: np.ndarray) -> np.ndarray:
        """Points (L, 2) in sides of the old crop -> float32 (L, 2) in sides of the new one."""
        if self.mirrored:
            points = (points * [-1, 1] + [1, 0])[MIRROR]
        if self.similarity is not None:
            points = (points - self.similarity[:, 2]) @ np.linalg.inv(self.similarity[:, :2]).T
        return points.astype(np.float32)

    def picture(self, canvas: np.ndarray, low: float, high: float, size: int) -> np.ndarray:
        """A canvas (C, C, 3) or a mask of one (C, C), uint8 -> what lies between ``low`` and ``high`` sides of the new
        crop, uint8 (size, size, ...). Colours change, masks do not.

        ``low`` is negative where margins are wanted; the canvas reaches from -MARGIN to 1 + MARGIN.
        """
        if self.mirrored:
            canvas = np.ascontiguousarray(canvas[:, ::-1])
        side = len(canvas)
        per_crop = side / REACH
        if self.similarity is None:
            first, last = round((low + MARGIN) * per_crop), round((high + MARGIN) * per_crop)
            picture = np.ascontiguousarray(canvas[first:last, first:last])
            assert len(picture) == size, "without a similarity pictures keep their resolution"
        else:
            places = low + (high - low) * (np.arange(size) + 0.5) / size
            grid = np.stack(np.meshgrid(places, places), axis=-1) @ self.similarity[:, :2].T + self.similarity[:, 2]
            lookup = torch.from_numpy((2 * (grid + MARGIN) / REACH - 1).astype(np.float32))[None]
            values = torch.from_numpy(canvas.reshape(side, side, -1)).permute(2, 0, 1)[None].float()
            mode = "bicubic" if canvas.ndim == 3 else "bilinear"
            moved = F.grid_sample(values, lookup, mode=mode, padding_mode="border", align_corners=False)
            moved = moved.round_().clamp_(0, 255).to(torch.uint8)[0].permute(1, 2, 0)
            picture = moved.contiguous().numpy().reshape(size, size, *canvas.shape[2:])
        if self.colours is not None and picture.ndim == 3:
            changed = picture.astype(np.float32) @ self.colours[:, :3].T.astype(np.float32)
            picture = (changed + self.colours[:, 3].astype(np.float32) + 0.5).clip(0, 255).astype(np.uint8)
        return picture


def match_colours(picture: np.ndarray, like: np.ndarray, where: np.ndarray) -> np.ndarray:
    """A picture uint8 (S, S, 3) with the mean and the spread of colours that another one, float (S, S, 3) in 0..255,
    has within ``where`` (S, S): two photos of one person differ in light."""
    inside = where > 0.5
    if inside.sum() < 16:
        return picture
    own, other = picture[inside].astype(np.float32), like[inside].astype(np.float32)
    gain = np.clip(other.std(axis=0) / np.maximum(own.std(axis=0), 1e-3), 0.6, 1.6)
    return ((picture - own.mean(axis=0)) * gain + other.mean(axis=0) + 0.5).clip(0, 255).astype(np.uint8)
