"""Masks of the person in a photo: the segmenter in mediapipe's wheel (Apache-2.0), offline."""

from __future__ import annotations

import threading
import warnings
from functools import cache
from typing import Any

import numpy as np

from .crops import face_size
from .regions import cut

_lock = threading.Lock()  # the graph is not re-entrant


@cache
def _segmenter() -> Any:
    from .detectors import silent_stderr

    with silent_stderr():
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

        segmenter = SelfieSegmentation(model_selection=0)
        segmenter.process(np.zeros((64, 64, 3), np.uint8))  # its last log lines come with the first picture
        return segmenter


def person_mask(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> float32 (H, W) in 0..1: 1 where the person is. Coarse: 256 x 256 pixels, enlarged."""
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)
        mask: np.ndarray = _segmenter().process(np.ascontiguousarray(image)).segmentation_mask
    return mask


def person_around(frame: np.ndarray, face: np.ndarray, to_frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where in a region of a frame the person with this face (L, 2) is, bool (h, w) of ``shape``; ``to_frame`` as in
    ``regions.cut``. The segmenter knows people by head and shoulders: it gets those, however small they are."""
    size, height, width = face_size(face), *frame.shape[:2]
    around = np.array([[-1.2, -1.0], [1.2, 1.0]]) * size + [face[[36, 45]].mean(axis=0), face[8]]
    (left, top), (right, bottom) = np.clip(around, 0, [width, height]).astype(int)
    if right <= left or bottom <= top:
        return np.zeros(shape, bool)
    there = to_frame.copy()
    there[:, 2] -= [left, top]
    return cut(person_mask(frame[top:bottom, left:right]), there, shape, outside=0.0) > 0.5
