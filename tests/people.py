"""People for tests: windows that wander over skimage's photo of Eileen Collins (NASA, public domain), seen for real."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from skimage import data

from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.detectors import LandmarkDetector, load_detector
from talking_heads.tracking.finding import only_face
from talking_heads.tracking.segmentation import person_mask
from train.data.clips import ClipMeta, canvas_side, cut_mask, in_crop, save_clip, widened

CROP = 96


@cache
def detector() -> LandmarkDetector:
    """One model for all tests: loading it takes longer than a thousand faces."""
    return load_detector("mediapipe")


@cache
def astronaut() -> np.ndarray:
    """uint8 RGB (512, 512, 3), a face of 111 px."""
    return data.astronaut()


def wandering(number: int, side: int = 240) -> list[np.ndarray]:
    """Frames (side, side, 3) in which the face moves to and fro and somewhat down."""
    frames = []
    for k in range(number):
        left, top = 110 + round(12 * np.sin(k / 3)), k % 8
        frames.append(astronaut()[top : top + side, left : left + side].copy())
    return frames


@cache
def cropped(number: int, tint: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canvases (T, C, C, 3) and masks (T, C, C) around crops of CROP pixels, and landmarks (T, L, 2) in sides of the
    crop, as prepare makes them of photos."""
    canvases, masks, landmarks = [], [], []
    for frame in wandering(number):
        points = only_face(frame, detector())
        crop = crop_around(points, frame.shape[:2])
        wide = widened(crop)
        canvases.append((wide.cut(frame, canvas_side(CROP)) * np.array([1.0, tint, tint])).astype(np.uint8))
        masks.append(cut_mask(wide, person_mask(frame), canvas_side(CROP)))
        landmarks.append(in_crop(crop.to_crop(points, CROP), CROP))
    return np.stack(canvases), np.stack(masks), np.stack(landmarks)


def write_people(folder: Path) -> Path:
    """Two clips of ada, a photo of bob, an animated photo of cy; dora is for validation. Told apart by their colour."""
    for name, identity, kind, number, tint, split in (
        ("ada1", "ada", "video", 8, 1.0, "train"),
        ("ada2", "ada", "video", 3, 1.0, "train"),
        ("bob", "bob", "stills", 1, 0.8, "train"),
        ("cy", "cy", "animated", 4, 0.6, "train"),
        ("dora", "dora", "video", 4, 0.4, "validation"),
    ):
        save_clip(folder / f"{name}.npz", *cropped(number, tint), ClipMeta(identity, f"{name}.mp4", split, kind=kind))
    return folder
