"""Motion for photos that stand still, and variety for all: random, but a function of the generator that is given."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from talking_heads.face_pose import carried, face_scale, lift, rotation_matrix
from talking_heads.images import to_float, to_uint8
from talking_heads.landmarks import (
    CHIN,
    FACE_OUTLINE,
    INNER_LIP,
    IRISES,
    LEFT_EYE,
    NAMED,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    SKIN,
)

_UPPER_LIDS, _LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
_UPPER_INNER, _LOWER_INNER = [61, 62, 63], [67, 66, 65]
_LOWER_LIP = [55, 56, 57, 58, 59, 65, 66, 67]


def random_motion(landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same person in another pose and with another expression, (L, 2) -> float32 (L, 2), same pixels.

    Turns the landmarks in three dimensions (depth of the mean face) and moves jaw, lips, lids, brows and gaze. Mouths
    close as well as open: a smile whose source is a closed mouth is how teeth are learned from photos.
    """
    shape = lift(landmarks)
    unit = face_scale(landmarks)
    shape[:, :2] = _random_expression(shape[:, :2], unit, rng)
    yaw, pitch, roll = np.deg2rad(rng.normal(0, (10, 6, 5))).clip(-0.4, 0.4)
    pivot = shape[[2, 14]].mean(axis=0)
    turned = (shape - pivot) @ rotation_matrix(yaw, pitch, roll)[:2].T
    zoom = np.exp(rng.normal(0, 0.04))
    shift = unit * rng.normal(0, 0.05, 2)
    return (turned * zoom + pivot[:2] + shift).astype(np.float32)


def _random_expression(points: np.ndarray, unit: float, rng: np.random.Generator) -> np.ndarray:
    p = points.copy()
    down = p[8] - p[27]
    down /= np.linalg.norm(down)
    across = np.array([down[1], -down[0]])
    # Mouth: close what is open, or open it further; lips get wider or narrower.
    gap = (p[_LOWER_INNER] - p[_UPPER_INNER]) @ down
    if rng.random() < 0.4:
        wanted = np.zeros(3)
    else:
        wanted = gap * rng.uniform(0.0, 1.3) + unit * max(0.0, rng.normal(0, 0.05)) * np.array([0.8, 1.0, 0.8])
    opening = np.zeros(NUM_LANDMARKS)
    opening[_LOWER_LIP] = (wanted - gap).mean() * np.array([0.75, 0.95, 1.0, 0.95, 0.75, 1.0, 1.0, 1.0])
    opening[CHIN] = (wanted - gap).mean() * np.array([0.4, 0.6, 0.7, 0.75, 0.7, 0.6, 0.4])
    p += opening[:, None] * down
    centre = p[48:68].mean(axis=0)
    stretch = rng.normal(0, 0.08)
    for part in (OUTER_LIP, INNER_LIP):
        p[part] += stretch * ((p[part] - centre) @ across)[:, None] * across
    corners = unit * rng.normal(0, 0.012)
    p[[48, 54, 60, 64]] -= corners * down
    # Lids: a blink now and then, else somewhat more or less open.
    lid_gap = ((p[_LOWER_LIDS] - p[_UPPER_LIDS]) @ down)[:, None]
    openness = rng.uniform(0.0, 0.3) if rng.random() < 0.25 else rng.uniform(0.6, 1.2)
    p[_UPPER_LIDS] += (1 - openness) * 0.85 * lid_gap * down
    p[_LOWER_LIDS] -= (1 - openness) * 0.15 * lid_gap * down
    # Gaze and brows.
    width = np.linalg.norm(p[36] - p[39])
    p[IRISES] += width * (rng.normal(0, 0.08) * across + rng.normal(0, 0.04) * down)
    p[17:27] -= unit * rng.normal(0, 0.015) * down
    moved = np.delete(np.arange(NAMED.stop), IRISES)  # eyes roll, lids stay
    p[SKIN] = carried(points[SKIN], points[moved], p[moved])
    return p


def weight_map(landmarks: np.ndarray, size: int, face: float, mouth: float, eyes: float) -> np.ndarray:
    """Weights of the pixel term, float32 (1, size, size): 1, more by ``face`` within the face's outline, and more by
    ``mouth`` and ``eyes`` where those are."""
    image = Image.new("F", (size, size), 1.0)
    draw = ImageDraw.Draw(image)
    draw.polygon([tuple(point) for point in landmarks[list(FACE_OUTLINE)]], fill=1.0 + face)
    for part, extra in ((OUTER_LIP, mouth), (RIGHT_EYE, eyes), (LEFT_EYE, eyes)):
        outline = landmarks[part]
        centre = outline.mean(axis=0)
        stretch = 1.25 if part is OUTER_LIP else np.array([1.3, 1.6])
        draw.polygon([tuple(point) for point in (outline - centre) * stretch + centre], fill=1.0 + extra)
    return np.array(image, dtype=np.float32)[None]


def worn(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Photos (B, 3, H, H) in [-1, 1] as they come out of phones and of videos: fewer pixels, compressed."""
    size = images.shape[-1]
    small = max(8, round(size * rng.uniform(0.4, 1.0)))
    quality = int(rng.integers(30, 96))
    result = []
    for frame in to_uint8(images):
        buffer = io.BytesIO()
        picture = Image.fromarray(frame).resize((small, small), Image.Resampling.BICUBIC)
        picture.save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as compressed:
            result.append(np.asarray(compressed.resize((size, size), Image.Resampling.BICUBIC)))
    return to_float(np.stack(result))


def random_similarity(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """(2, 3): pixels of the new picture -> pixels of the old one; a little turned, scaled and shifted."""
    angle, scale = np.deg2rad(strength * rng.normal(0, 5)), np.exp(strength * rng.normal(0, 0.08))
    shift = strength * size * rng.normal(0, 0.03, 2)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    middle = 0.5 * (size - 1)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, middle + shift - linear @ [middle, middle]])


def apply_similarity(images: Tensor, landmarks: np.ndarray, matrix: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Frames (B, 3, H, H) and landmarks (B, L, 2) under random_similarity's matrix."""
    size = images.shape[-1]
    steps = np.arange(size)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    lookup = torch.from_numpy(((2 * grid + 1) / size - 1).astype(np.float32))[None].expand(len(images), -1, -1, -1)
    moved = F.grid_sample(images, lookup, mode="bilinear", padding_mode="border", align_corners=False)
    points = (landmarks - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return moved, points.astype(np.float32)


def random_colours(images: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """One change of brightness, contrast, saturation and white balance for all of (B, 3, H, W) in [-1, 1]."""
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * float(np.exp(strength * rng.normal(0, 0.2)))
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    images = mean + (images - mean) * float(np.exp(strength * rng.normal(0, 0.12)))
    balance = torch.from_numpy((strength * rng.normal(0, 0.04, (1, 3, 1, 1))).astype(np.float32))
    return (images + balance + strength * float(rng.normal(0, 0.08))).clamp(-1, 1)
