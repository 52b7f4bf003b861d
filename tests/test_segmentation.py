"""Masks of the person in a photo."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from talking_heads.tracking.segmentation import person_mask


def test_the_person_and_not_the_background(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    mask = person_mask(astronaut)
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    x, y = astronaut_face[:68].mean(axis=0).astype(int)
    assert mask[y - 30 : y + 30, x - 30 : x + 30].min() > 0.9
    assert mask[:60, :60].max() < 0.2


@pytest.mark.parametrize("size", [(300, 500), (31, 47), (1, 1)])
def test_any_shape_of_picture(astronaut: np.ndarray, size: tuple[int, int]) -> None:
    photo = np.asarray(Image.fromarray(astronaut).resize(size[::-1]))
    before = photo.copy()
    assert person_mask(photo).shape == size
    assert np.array_equal(photo, before)
    assert person_mask(photo[::-1]).shape == size  # not contiguous


def test_threads_may_share_it(astronaut: np.ndarray) -> None:
    expected = person_mask(astronaut)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(person_mask(astronaut))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for mask in found:
        assert np.abs(mask - expected).mean() < 0.01


def test_it_says_nothing(astronaut: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    person_mask(astronaut)
    assert capfd.readouterr() == ("", "")
