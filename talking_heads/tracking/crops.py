"""The square around a face that networks see, and how points and pixels get there and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..landmarks import NUM_LANDMARKS

CROP_SCALE = 1.75
"""Side of a crop over the size of the face (hairline to chin): some hair and some neck, as in VoxCeleb crops."""
MIN_CROP_SCALE = 1.3
"""The tightest crop, for pictures that hold little more than the face."""


def face_size(landmarks: np.ndarray) -> float:
    """Size of one face in pixels: the distance from hairline to chin, or from ear to ear where that is longer.

    Along the face's own axes, so that a turned picture gives the same size.
    """
    height = np.linalg.norm(landmarks[73] - landmarks[8])
    width = np.linalg.norm(landmarks[0] - landmarks[16])
    return float(max(height, 1.2 * width))


@dataclass(frozen=True)
class Crop:
    """A square cut out of a picture: centre (x, y) and side in pixels, turned by ``angle`` radians (clockwise)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> np.ndarray:
        """(2, 3): pixels of the ``size`` x ``size`` crop -> pixels of the picture."""
        scale = self.side / size
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        middle = 0.5 * (size - 1)
        return np.array(
            [[cos, -sin, self.x - cos * middle + sin * middle], [sin, cos, self.y - sin * middle - cos * middle]]
        )

    def to_crop(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points (..., 2) of the picture -> float32 (..., 2) in pixels of the crop."""
        matrix = self.matrix(size)
        return ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (size, size, 3), bicubic; beyond the picture's edge its edge pixels go on."""
        matrix = self.matrix(size)
        reduction = int(self.side / size)
        if reduction > 1:  # sampling a much larger picture would alias
            image = np.asarray(Image.fromarray(image).reduce(reduction))
            matrix = (matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]])) / reduction - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        height, width = image.shape[:2]
        steps = np.arange(size)
        grid = np.stack(np.meshgrid(steps, steps), axis=-1) @ matrix[:, :2].T + matrix[:, 2]  # (size, size, 2) pixels
        grid = (2 * grid + 1) / np.array([width, height]) - 1
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        cut = F.grid_sample(
            pixels, torch.from_numpy(grid)[None].float(), mode="bicubic", padding_mode="border", align_corners=False
        )
        return cut[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Portrait:
    """A photo and where in it the person is: what an avatar is made of, and what a head is pasted back into."""

    image: np.ndarray = field(repr=False)
    """uint8 RGB (H, W, 3)."""
    landmarks: np.ndarray = field(repr=False)
    """float32 (L, 2) in pixels of the image."""
    crop: Crop

    @classmethod
    def of(cls, image: np.ndarray, landmarks: np.ndarray) -> Portrait:
        """A portrait with the crop that goes with the landmarks."""
        return cls(image, landmarks, crop_around(landmarks, (image.shape[0], image.shape[1])))

    def shot(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Input of a network: the crop, uint8 (size, size, 3), and the landmarks in its pixels, float32 (L, 2)."""
        return self.crop.cut(self.image, size), self.crop.to_crop(self.landmarks, size)


def roll(landmarks: np.ndarray) -> np.ndarray:
    """In-plane rotation in radians, clockwise, (..., L, 2) -> (...): from the eyes' outer corners."""
    across = landmarks[..., 45, :] - landmarks[..., 36, :]
    return np.arctan2(across[..., 1], across[..., 0])


def crop_around(track: np.ndarray, frame_size: tuple[int, int]) -> Crop:
    """One crop for a photo (L, 2) or a whole clip (T, L, 2): median place, size and rotation, so that it never moves.

    ``frame_size`` is (height, width) of the picture: a crop that would reach beyond it is shifted and, down to
    MIN_CROP_SCALE, made smaller, because invented borders look worse than a tight crop.
    """
    faces = track.reshape(-1, NUM_LANDMARKS, 2)
    angles = roll(faces)
    # The median of angles that may wrap around: relative to their mean direction.
    mean = np.angle(np.exp(1j * angles).mean())
    angle = float(mean + np.median(np.angle(np.exp(1j * (angles - mean)))))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.stack([0.5 * (np.min(face @ turn, axis=0) + np.max(face @ turn, axis=0)) for face in faces])
    centre = np.median(upright, axis=0) @ turn.T
    size = float(np.median([face_size(face) for face in faces]))
    height, width = frame_size
    spread = abs(np.cos(angle)) + abs(np.sin(angle))  # a turned square reaches further
    side = max(MIN_CROP_SCALE * size, min(CROP_SCALE * size, height / spread, width / spread))
    half = 0.5 * side * spread
    x, y = (
        float(np.clip(middle, half - 0.5, length - 0.5 - half)) if 2 * half <= length else 0.5 * (length - 1)
        for middle, length in zip(centre, (width, height), strict=True)
    )
    return Crop(x, y, side, angle)
