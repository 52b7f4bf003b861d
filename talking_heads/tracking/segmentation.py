"""Masks of the person in a photo: the segmenter in mediapipe's wheel (Apache-2.0), offline."""

from __future__ import annotations

import threading
import warnings
from functools import cache
from typing import Any

import numpy as np

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
