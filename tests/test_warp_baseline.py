"""The photo bent to other landmarks: what must stay, and what must move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import close_eyes, mean_face, open_mouth
from media import picture
from skimage.draw import polygon2mask
from torch import Tensor

from talking_heads.head.model import Camera, face_model
from talking_heads.head.motion import head_rotation
from talking_heads.landmarks import (
    INNER_LIP,
    IRISES,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    NOSE_BRIDGE,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
)
from talking_heads.media.images import to_float
from train.evaluation.warp_baseline import displaced, thin_plate_grid, warp_photo

SIZE = 256
PHOTO = to_float(picture(SIZE, SIZE))
FACE = mean_face(150)


def points(*faces: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(faces).astype(np.float32))


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The mean face, turned by degrees."""
    model = face_model()
    spots = model.mean[model.landmark_vertices]
    spots = spots - 0.5 * (spots[8] + spots[73])
    camera = Camera(150 / float(spots[73, 1] - spots[8, 1]), (128.0, 128.0), distance=np.inf)
    return camera.project(spots @ head_rotation([yaw, pitch, roll]).T)[:, :2].astype(np.float32)


def origins(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pixels (x, y) of the photo that the warp shows at each of its own, (SIZE, SIZE, 2)."""
    y, x = torch.meshgrid(torch.arange(SIZE) / 128 - 1, torch.arange(SIZE) / 128 - 1, indexing="ij")
    warped = warp_photo(torch.stack([x, y, 0 * x])[None], points(source), points(target))
    return ((warped[0, :2] + 1) * 128).permute(1, 2, 0).numpy()


def inside(face: np.ndarray, part: slice) -> Tensor:
    """1 inside the outline of a part of a face (L, 2), else 0: (1, 3, SIZE, SIZE)."""
    mask = polygon2mask((SIZE, SIZE), face[part, ::-1])
    return torch.from_numpy(mask.astype(np.float32)).expand(1, 3, -1, -1)


def missed(found: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pixels (L,) between the source's landmarks and what is seen at the target's."""
    columns, rows = np.round(target).astype(int).T
    # A pixel a fraction beside the landmark came from beside the source's landmark.
    return np.linalg.norm(found[rows, columns] - (np.round(target) - target) - source, axis=1)


def test_to_its_own_landmarks_the_photo_stays_as_it_is() -> None:
    warped = warp_photo(PHOTO, points(FACE), points(FACE))
    assert warped.shape == PHOTO.shape
    assert (warped - PHOTO).abs().max() < 0.01


@pytest.mark.parametrize(
    "target", [turned(17), turned(0, 14), turned(0, 0, 23), FACE + 12, close_eyes(FACE), open_mouth(FACE, 15)]
)
def test_landmarks_land_on_landmarks(target: np.ndarray) -> None:
    """At each target landmark that is in sight one sees what lay at the source's, within some pixels."""
    error = missed(origins(FACE, target), FACE, target)
    assert np.median(error) < 1.0
    # The spline is drawn smoothly past points that meet others: lids, lips, and a jaw behind which the cheek goes.
    assert np.quantile(error, 0.85) < 2.5
    for part in (NOSE_BRIDGE, NOSE_BASE, RIGHT_BROW, LEFT_BROW):
        assert error[part].max() < 3


def test_lids_and_lips_that_close_meet() -> None:
    """Smoothness must not leave a slit: what opens may be passed by some pixels, what closes may not."""
    opened, target = open_mouth(FACE, 20), close_eyes(FACE)
    error = missed(origins(opened, target), opened, target)
    # Where two lids meet in one pixel, what is seen came from between the two.
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)):
        assert min(error[upper], error[lower]) < 0.6 * np.linalg.norm(opened[upper] - opened[lower]) + 0.5
    assert error[OUTER_LIP].mean() < 1.5


def test_the_spline_meets_its_control_points() -> None:
    source, target = points(FACE) / SIZE, points(turned(17, 11, 11)) / SIZE
    grid = thin_plate_grid(source, target, 257)[0]
    x, y = (target[0] * 256).round().long().T
    assert ((grid[y, x] - source[0]).norm(dim=1) * SIZE).median() < 1.0


@pytest.mark.parametrize("target", [turned(23), FACE + np.float32([15, -10]), open_mouth(FACE, 20)])
def test_the_frame_stays_where_it_is(target: np.ndarray) -> None:
    """The picture's border moves hardly at all."""
    y, x = np.mgrid[:SIZE, :SIZE]
    moved = np.linalg.norm(origins(FACE, target) - np.stack([x, y], axis=-1), axis=-1)
    assert np.concatenate([moved[0], moved[-1], moved[:, 0], moved[:, -1]]).max() < 5
    assert moved[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 2


def test_a_shifted_face_is_shifted() -> None:
    found = origins(FACE, FACE + np.float32([10, -6]))
    y, x = np.mgrid[90:150, 100:170]
    np.testing.assert_allclose(found[90:150, 100:170], np.stack([x - 10, y + 6], axis=-1), atol=0.7)


def test_a_batch_equals_its_singles() -> None:
    photos = torch.cat([PHOTO, PHOTO.flip(3), -PHOTO])
    source = points(FACE, FACE + 5, turned(6))
    target = points(turned(11), open_mouth(FACE, 10), FACE - 8)
    warped = warp_photo(photos, source, target)
    for k in range(3):
        one = warp_photo(photos[k : k + 1], source[k : k + 1], target[k : k + 1])
        torch.testing.assert_close(warped[k : k + 1], one, atol=2e-3, rtol=0)


def test_a_displacement_is_counted_in_sides_and_looks_ahead() -> None:
    shift = torch.zeros(1, 2, SIZE, SIZE)
    torch.testing.assert_close(displaced(PHOTO, shift), PHOTO, atol=1e-4, rtol=0)
    shift[:, 0], shift[:, 1] = 8 / SIZE, -3 / SIZE
    moved = displaced(PHOTO, shift)
    torch.testing.assert_close(moved[..., 3:, :-8], PHOTO[..., :-3, 8:], atol=1e-3, rtol=0)


@pytest.mark.parametrize("amount", [0.9, 1.0])
@pytest.mark.parametrize("roll", [0.0, 23.0])
def test_an_eye_that_closes_shows_little_of_what_is_between_its_lids(amount: float, roll: float) -> None:
    """They close almost completely: a spline that takes both lids to one place shows the eye open again."""
    open_eye = turned(0, 0, roll)
    eyes = inside(open_eye, RIGHT_EYE) + inside(open_eye, LEFT_EYE)
    warped = warp_photo(2 * eyes - 1, points(open_eye), points(close_eyes(open_eye, amount)))
    assert (warped + 1).sum() < 0.72 * (2 * eyes).sum()


def test_lips_that_close_hide_the_mouth() -> None:
    opened = open_mouth(FACE, 12)
    mouth = inside(opened, INNER_LIP)
    warped = warp_photo(2 * mouth - 1, points(opened), points(FACE))
    assert (warped + 1).sum() < 0.46 * (2 * mouth).sum()


@pytest.mark.parametrize("shift", [[4.0, 0.0], [-4.0, 0.0], [0.0, 1.5]])
def test_irises_follow_the_gaze(shift: list[float]) -> None:
    """They go more than half of the way: the lids, which stay, hold them back."""
    target = FACE.copy()
    target[IRISES] += np.float32(shift)
    y, x = np.mgrid[:SIZE, :SIZE]
    iris = np.exp(-((x - FACE[68, 0]) ** 2 + (y - FACE[68, 1]) ** 2) / 8).astype(np.float32)
    warped = warp_photo(torch.from_numpy(iris).expand(1, 3, -1, -1), points(FACE), points(target))
    weight = warped[0, 0].numpy().clip(0.05, None) - 0.05
    moved = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() - FACE[68]
    assert moved @ shift > 0.55 * np.square(shift).sum()


def test_misuse_is_the_programmers() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        warp_photo(PHOTO, points(FACE)[:, :68], points(FACE)[:, :68])
    with pytest.raises(ValueError, match="do not fit"):
        warp_photo(PHOTO, points(FACE, FACE), points(FACE, FACE))
