"""The photo warped to other landmarks: what must stay, what must move, and where the result is to be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import close_eyes, mean_face, open_mouth
from hypothesis import given, settings
from hypothesis import strategies as st
from media import picture
from skimage.draw import polygon2mask
from torch import Tensor

from talking_heads.face_pose import MEAN_FACE, Pose, fit_pose, lift, rotation_matrix
from talking_heads.images import to_float
from talking_heads.landmarks import (
    FACE_OUTLINE,
    INNER_LIP,
    IRISES,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    NOSE_BRIDGE,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    SKIN,
    mirror_landmarks,
)
from talking_heads.warping import (
    SEAM,
    SOURCE_CHANNELS,
    displaced,
    inside,
    landmarks_to_tensor,
    opened_mouth,
    source_planes,
    steadied,
    thin_plate_grid,
    warp_photo,
)

SIZE = 256
PHOTO = to_float(picture(SIZE, SIZE))
FACE = mean_face(150)


def points(*faces: np.ndarray) -> Tensor:
    return landmarks_to_tensor(np.stack(faces))


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    pose = Pose(rotation_matrix(yaw, pitch, roll), 150.0, np.array([128.0, 128.0]))
    return pose.project(MEAN_FACE).astype(np.float32)


def coordinates() -> Tensor:
    """A picture whose red and green say where a pixel came from, (1, 3, SIZE, SIZE)."""
    y, x = torch.meshgrid(torch.arange(SIZE) / 128 - 1, torch.arange(SIZE) / 128 - 1, indexing="ij")
    return torch.stack([x, y, 0 * x])[None]


def origins(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (x, y) of the photo that the warp shows at each of its own, (SIZE, SIZE, 2), and where it is good."""
    warped, trust, shown = warp_photo(coordinates(), points(source), points(target))
    return ((warped[0, :2] + 1) * 128).permute(1, 2, 0).numpy(), (trust * shown)[0, 0].numpy()


def test_to_its_own_landmarks_the_photo_stays_as_it_is() -> None:
    warped, trust, shown = warp_photo(PHOTO, points(FACE), points(FACE))
    mask = trust * shown
    assert (warped - PHOTO).abs().max() < 0.01
    assert mask.min() > 0.99
    assert warped.shape == PHOTO.shape
    assert mask.shape == (1, 1, SIZE, SIZE)


@pytest.mark.parametrize(
    "target", [turned(0.3), turned(0, 0.25), turned(0, 0, 0.4), FACE + 12, close_eyes(FACE), open_mouth(FACE, 15)]
)
def test_landmarks_land_on_landmarks(target: np.ndarray) -> None:
    """At each target landmark that is in sight one sees what lay at the source's, within some pixels."""
    found, _ = origins(FACE, target)
    columns, rows = np.round(target).astype(int).T
    # What is a fraction of a pixel beside the landmark came from beside it.
    error = np.linalg.norm(found[rows, columns] - (np.round(target) - target) - FACE, axis=1)
    assert np.median(error) < 1.0
    # The spline is drawn smoothly past points that meet others: lids, lips, and a jaw behind which the cheek goes.
    assert np.quantile(error, 0.85) < 2.5
    for part in (NOSE_BRIDGE, NOSE_BASE, RIGHT_BROW, LEFT_BROW):
        assert error[part].max() < 3


def test_lids_and_lips_that_close_meet() -> None:
    """Smoothness must not leave a slit: what opens may be passed by some pixels, what closes may not."""
    opened = open_mouth(FACE, 20)
    target = close_eyes(FACE)
    found, _ = origins(opened, target)
    columns, rows = np.round(target).astype(int).T
    error = np.linalg.norm(found[rows, columns] - (np.round(target) - target) - opened, axis=1)
    # Where two lids meet in one pixel, what is seen came from between the two.
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)):
        assert min(error[upper], error[lower]) < 0.6 * np.linalg.norm(opened[upper] - opened[lower]) + 0.5
    outer = np.r_[OUTER_LIP]
    assert error[outer].mean() < 1.5


def test_the_spline_meets_its_control_points() -> None:
    source, target = points(FACE) / SIZE, points(turned(0.3, 0.2, 0.2)) / SIZE
    grid = thin_plate_grid(source, target, 257)[0]
    x, y = (target[0] * 256).round().long().T
    error = (grid[y, x] - source[0]).norm(dim=1) * SIZE
    assert error.median() < 1.0


@pytest.mark.parametrize("target", [turned(0.4), FACE + np.float32([15, -10]), open_mouth(FACE, 20)])
def test_the_frame_stays_where_it_is(target: np.ndarray) -> None:
    """Background far from the face moves little, the picture's border hardly at all."""
    found, _ = origins(FACE, target)
    y, x = np.mgrid[:SIZE, :SIZE]
    moved = np.linalg.norm(found - np.stack([x, y], axis=-1), axis=-1)
    border = np.concatenate([moved[0], moved[-1], moved[:, 0], moved[:, -1]])
    assert border.max() < 5
    assert moved[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 2


def test_a_shifted_face_is_shifted() -> None:
    found, mask = origins(FACE, FACE + np.float32([10, -6]))
    y, x = np.mgrid[90:150, 100:170]
    np.testing.assert_allclose(found[90:150, 100:170], np.stack([x - 10, y + 6], axis=-1), atol=0.7)
    assert mask[90:150, 100:170].min() > 0.95


def test_a_smaller_picture_gives_the_same_warp() -> None:
    large, mask, _ = warp_photo(coordinates(), points(FACE), points(turned(0.3)))
    halved = torch.nn.functional.avg_pool2d(coordinates(), 2)
    small, small_mask, _ = warp_photo(halved, (points(FACE) - 0.5) / 2, (points(turned(0.3)) - 0.5) / 2)
    assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.005
    assert (torch.nn.functional.avg_pool2d(mask, 2) - small_mask).abs().mean() < 0.01


def test_a_batch_equals_its_singles() -> None:
    photos = torch.cat([PHOTO, PHOTO.flip(3), coordinates()])
    source = points(FACE, FACE + 5, turned(0.1))
    target = points(turned(0.2), open_mouth(FACE, 10), FACE - 8)
    warped, mask, _ = warp_photo(photos, source, target)
    for k in range(3):
        one, one_mask, _ = warp_photo(photos[k : k + 1], source[k : k + 1], target[k : k + 1])
        torch.testing.assert_close(warped[k : k + 1], one, atol=2e-3, rtol=0)
        torch.testing.assert_close(mask[k : k + 1], one_mask, atol=2e-3, rtol=0)


def test_the_warp_is_differentiable_in_the_photo() -> None:
    photo = PHOTO.clone().requires_grad_()
    warp_photo(photo, points(FACE), points(turned(0.2)))[0].sum().backward()
    assert photo.grad is not None
    assert photo.grad.abs().sum() > 0


def test_planes_are_the_warp_the_photo_and_both_masks() -> None:
    target = turned(0.3)
    planes = source_planes(PHOTO, points(FACE), points(target))
    assert planes.shape == (1, SOURCE_CHANNELS, SIZE, SIZE)
    parts = planes.split([3, 3, 1, 1], dim=1)
    warped, trust, shown = warp_photo(PHOTO, points(FACE), steadied(points(FACE), points(target)))
    for part, expected in zip(parts, (warped, PHOTO, trust, shown), strict=True):
        torch.testing.assert_close(part, expected)


def test_the_hidden_side_of_a_turned_face_is_the_other_one_mirrored() -> None:
    """A photo of a head that looks aside, warped to the front: its far side is a sliver there, its near side is not."""
    aside, front = points(turned(0.9)), points(FACE)
    front = steadied(aside, front)
    warped, trust, _ = warp_photo(PHOTO, aside, front)
    planes = source_planes(PHOTO, aside, points(FACE))
    changed = (planes[:, :3] - warped).abs().sum(dim=1)[0] > 0.02
    assert 0.01 < changed.float().mean() < 0.3
    face = inside(front[:, FACE_OUTLINE], SIZE, softness=SEAM * SIZE)[0, 0]
    assert not (changed & (face == 0)).any()  # a background has no other side
    better = (planes[:, 6:7] - trust)[0, 0]
    assert better.min() > -1e-3 and better.max() > 0.5
    other, _, _ = warp_photo(PHOTO.flip(-1), mirror_landmarks(aside, SIZE), front)
    most = better > 0.95
    assert most.any()
    torch.testing.assert_close(planes[0, :3, most], other[0, :, most], atol=0.1, rtol=0)
    # A face that both show well stays what it is.
    before, nearly = points(FACE), points(turned(0.1))
    expected = warp_photo(PHOTO, before, steadied(before, nearly))[0]
    torch.testing.assert_close(source_planes(PHOTO, before, nearly)[:, :3], expected)


@pytest.mark.parametrize("yaw", [0.1, 0.9])
def test_16_bit_are_for_networks_and_not_for_places(yaw: float) -> None:
    aside, front = points(turned(yaw)), points(FACE)
    expected = source_planes(PHOTO, aside, front)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(source_planes(PHOTO, aside, front), expected)


# -------------------------------------------------------------------------------------------------- steady landmarks


def someone(seed: int = 3) -> np.ndarray:
    """A face of its own shape, (L, 3) in units of its size."""
    return MEAN_FACE * (1 + np.random.default_rng(seed).normal(0, 0.05, 3).astype(np.float32))


def test_landmarks_that_did_not_move_stay() -> None:
    torch.testing.assert_close(steadied(points(FACE), points(FACE)), points(FACE), atol=1e-3, rtol=0)


@given(yaw=st.floats(-0.7, 0.7), pitch=st.floats(-0.5, 0.5), roll=st.floats(-1, 1), zoom=st.floats(0.5, 2))
@settings(max_examples=25, deadline=None)
def test_a_head_that_moves_stiffly_is_followed_all_the_way(yaw: float, pitch: float, roll: float, zoom: float) -> None:
    target = Pose(rotation_matrix(yaw, pitch, roll), 150.0 * zoom, np.array([110.0, 140.0])).project(MEAN_FACE)
    torch.testing.assert_close(steadied(points(FACE), points(target)), points(target), atol=0.05, rtol=0)


def test_it_agrees_with_the_poses_of_one_head() -> None:
    pose = Pose(rotation_matrix(0.3, -0.1, 0.2), 150.0, np.array([128.0, 128.0]))
    source, target = FACE, pose.project(someone()).astype(np.float32)
    stiff = fit_pose(lift(source), target).project(lift(source))
    moved = steadied(points(source), points(target))[0].numpy()
    np.testing.assert_allclose(moved[48:68], target[48:68], atol=1e-3)  # the mouth, as the target has it
    np.testing.assert_allclose(moved[36:48], target[36:48], atol=1e-3)  # the eyes
    between = np.linalg.norm(moved - stiff, axis=1) / np.linalg.norm(target - stiff, axis=1)
    np.testing.assert_allclose(between[SKIN], 0.6, atol=1e-3)
    assert (between < 1.001).all()


def test_a_face_that_changes_its_shape_keeps_more_of_its_own() -> None:
    """What a detector makes of a turned head is partly another person's face."""
    turn = Pose(rotation_matrix(0.5, 0, 0), 150.0, np.array([128.0, 128.0]))
    own, other = turn.project(MEAN_FACE), turn.project(someone())
    steady = steadied(points(FACE), points(other))[0].numpy()
    assert np.abs(steady - own)[SKIN].mean() < 0.75 * np.abs(other - own)[SKIN].mean()


def test_a_batch_is_steadied_one_by_one() -> None:
    sources, targets = points(FACE, FACE + 5, turned(0.1)), points(turned(0.2), open_mouth(FACE, 10), FACE - 8)
    one_by_one = torch.cat([steadied(sources[k : k + 1], targets[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(steadied(sources, targets), one_by_one, atol=1e-4, rtol=0)


def test_a_displacement_is_counted_in_sides_and_looks_ahead() -> None:
    shift = torch.zeros(1, 2, SIZE, SIZE)
    torch.testing.assert_close(displaced(PHOTO, shift), PHOTO, atol=1e-4, rtol=0)
    shift[:, 0], shift[:, 1] = 8 / SIZE, -3 / SIZE
    moved = displaced(PHOTO, shift)
    torch.testing.assert_close(moved[..., 3:, :-8], PHOTO[..., :-3, 8:], atol=1e-3, rtol=0)


# --------------------------------------------------------------------------------------------------------- the masks


def test_an_opened_mouth_is_not_trusted() -> None:
    target = open_mouth(FACE, 25)
    _, mask = origins(FACE, target)
    x, y = np.round(target[INNER_LIP].mean(axis=0)).astype(int)
    assert mask[y, x] < 0.05
    assert mask[150:165, 90:100].min() > 0.8  # the cheek beside it is


def test_a_mouth_that_was_open_is() -> None:
    opened = open_mouth(FACE, 25)
    for target in (opened, open_mouth(FACE, 20)):
        assert opened_mouth(points(opened), points(target), SIZE).max() == 0
    mask = opened_mouth(points(FACE), points(opened), SIZE)
    assert mask.max() == 1
    assert mask.mean() < 0.02


def test_folds_are_not_trusted() -> None:
    """Landmarks that change sides fold the picture over."""
    _, mask = origins(FACE, turned(1.2))
    assert mask.min() == 0
    assert mask.max() <= 1
    calm = origins(FACE, turned(0.15))[1]
    assert calm.mean() > mask.mean() + 0.02
    assert calm.mean() > 0.9


def test_magnified_parts_are_not_trusted() -> None:
    """A face grown threefold holds few source pixels, one grown by a third enough."""
    tiny, usual = mean_face(40), mean_face(150)
    assert origins(tiny, usual)[1][100:150, 100:150].max() < 0.2
    assert origins(mean_face(110), usual)[1][100:140, 100:150].min() > 0.7


# -------------------------------------------------------------------------------------------------------- polygons


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), corners=st.integers(3, 12))
def test_polygons_are_filled_as_scikit_image_fills_them(seed: int, corners: int) -> None:
    """Star-shaped outlines of any kind, partly beyond the picture: equal but for the pixels at the edge."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(5, 40, corners)
    outline = rng.uniform(0, 64, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    mask = inside(torch.from_numpy(outline)[None], 64)[0, 0].numpy()
    expected = polygon2mask((64, 64), outline[:, ::-1])
    sure = (mask == 0) | (mask == 1)
    np.testing.assert_array_equal(mask[sure] > 0.5, expected[sure])
    perimeter = np.linalg.norm(outline - np.roll(outline, 1, axis=0), axis=1).sum()
    assert (~sure).sum() <= 1.6 * perimeter + 8  # a pixel on either side of the edge at most


def test_the_soft_edge_keeps_the_area() -> None:
    square = torch.tensor([[[10.3, 10.0], [30.3, 10.0], [30.3, 25.6], [10.3, 25.6]]])
    assert inside(square, 64).sum() == pytest.approx(20 * 15.6, rel=0.01)
    torch.testing.assert_close(inside(square.flip(1), 64), inside(square, 64), atol=1e-4, rtol=0)  # whichever way
    assert inside(square + 500, 64).sum() == 0


@pytest.mark.parametrize("amount", [0.9, 0.97, 1.0])
@pytest.mark.parametrize("roll", [0.0, 0.4])
def test_an_eye_that_closes_shows_little_of_what_is_between_its_lids(amount: float, roll: float) -> None:
    """To the last: a spline that is asked to take both lids to one place shows the eye open again."""
    open_eye = turned(0, 0, roll)
    eyes = sum(inside(points(open_eye)[:, part], SIZE) for part in (RIGHT_EYE, LEFT_EYE)).expand(-1, 3, -1, -1)
    warped, _, _ = warp_photo(2 * eyes - 1, points(open_eye), points(close_eyes(open_eye, amount)))
    assert (warped + 1).sum() < 0.72 * (2 * eyes).sum()


def test_lips_that_close_hide_the_mouth() -> None:
    opened = open_mouth(FACE, 12)
    mouth = inside(points(opened)[:, INNER_LIP], SIZE).expand(-1, 3, -1, -1)
    warped, _, _ = warp_photo(2 * mouth - 1, points(opened), points(FACE))
    assert (warped + 1).sum() < 0.46 * (2 * mouth).sum()


@pytest.mark.parametrize("shift", [[4.0, 0.0], [-4.0, 0.0], [0.0, 1.5]])
def test_irises_follow_the_gaze(shift: list[float]) -> None:
    """By more than half of the way: the lids, which stay, hold them back."""
    target = FACE.copy()
    target[IRISES] += np.float32(shift)
    y, x = np.mgrid[:SIZE, :SIZE]
    iris = np.exp(-((x - FACE[68, 0]) ** 2 + (y - FACE[68, 1]) ** 2) / 8).astype(np.float32)
    warped, _, _ = warp_photo(torch.from_numpy(iris).expand(1, 3, -1, -1), points(FACE), points(target))
    weight = warped[0, 0].numpy().clip(0.05, None) - 0.05
    moved = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() - FACE[68]
    assert moved @ shift > 0.55 * np.square(shift).sum()


def test_misuse_is_the_programmers() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        warp_photo(PHOTO, points(FACE)[:, :68], points(FACE)[:, :68])
    with pytest.raises(ValueError, match="do not fit"):
        warp_photo(PHOTO, points(FACE, FACE), points(FACE, FACE))
