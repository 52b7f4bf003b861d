"""Augmentation: pixels, masks and landmarks move together, colours change alike, photos lose detail."""

from __future__ import annotations

import numpy as np
import pytest
from people import CROP, cropped, detector

from talking_heads.landmarks import (
    INNER_LIP,
    LEFT_EYE,
    MIRROR,
    NOSE_BRIDGE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    eye_distance,
)
from talking_heads.tracking.finding import find_faces
from train.data.augment import View, degraded, face_mask, match_colours, weight_map
from train.data.clips import canvas_margin, canvas_side
from train.data.prepare_clip import sharpness

EDGE, SIDE = canvas_margin(CROP), canvas_side(CROP)
UNCHANGED = View(False, None, None)


def test_mirroring_twice_changes_nothing() -> None:
    assert np.array_equal(MIRROR[MIRROR], np.arange(NUM_LANDMARKS))
    _, _, landmarks = cropped(3, 1.0)
    mirror = View(True, None, None)
    once = mirror.landmarks(landmarks[0])
    assert not np.allclose(once, landmarks[0])
    np.testing.assert_allclose(mirror.landmarks(once), landmarks[0], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_pixels_and_landmarks_move_alike(seed: int) -> None:
    canvases, _, landmarks = cropped(3, 1.0)
    view = View(True, None, None) if seed == 0 else View.random(np.random.default_rng(seed), 0.5, 1.0)
    picture, points = view.picture(canvases[0], 0.0, 1.0, CROP), view.landmarks(landmarks[0])
    assert picture.dtype == np.uint8 and picture.shape == (CROP, CROP, 3) and points.dtype == np.float32
    again = find_faces(picture, detector())[0]
    errors = np.linalg.norm(again - (points * CROP - 0.5), axis=1) / eye_distance(again)
    assert errors.mean() < 0.05
    assert errors.max() < 0.25  # no pair is interchanged


def test_a_view_that_changes_nothing_gives_crop_and_canvas_back() -> None:
    canvases, masks, landmarks = cropped(3, 1.0)
    assert View.random(np.random.default_rng(0), 0.0, 0.0) == UNCHANGED
    np.testing.assert_array_equal(UNCHANGED.picture(canvases[0], -0.25, 1.25, SIDE), canvases[0])
    crop = UNCHANGED.picture(canvases[0], 0.0, 1.0, CROP)
    np.testing.assert_array_equal(crop, canvases[0, EDGE:-EDGE, EDGE:-EDGE])
    np.testing.assert_array_equal(UNCHANGED.picture(masks[0], -0.25, 1.25, SIDE), masks[0])
    np.testing.assert_array_equal(UNCHANGED.landmarks(landmarks[0]), landmarks[0])
    same = View(False, np.array([[1.0, 0, 0], [0, 1.0, 0]]), None)
    np.testing.assert_array_equal(same.picture(canvases[0], 0.0, 1.0, CROP), crop)


def test_a_similarity_hits_the_exact_pixel() -> None:
    """A bright pixel of the canvas, shifted by two pixels and one."""
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[EDGE + 20, EDGE + 60] = 255
    points = np.tile((np.array([60.5, 20.5]) / CROP), (NUM_LANDMARKS, 1))
    view = View(False, np.array([[1.0, 0, 2 / CROP], [0, 1.0, -1 / CROP]]), None)
    picture = view.picture(canvas, 0.0, 1.0, CROP)
    x, y = (view.landmarks(points)[0] * CROP - 0.5).round().astype(int)
    assert (x, y) == (58, 21)
    assert picture[y, x, 0] >= 254 and (picture[..., 0] > 2).sum() == 1


def test_crop_and_canvas_of_a_view_agree_and_masks_keep_their_values() -> None:
    canvases, masks, _ = cropped(3, 1.0)
    view = View.random(np.random.default_rng(2), 0.5, 1.0)
    canvas, crop = view.picture(canvases[0], -0.25, 1.25, SIDE), view.picture(canvases[0], 0.0, 1.0, CROP)
    assert np.abs(canvas[EDGE:-EDGE, EDGE:-EDGE].astype(int) - crop).max() <= 1
    mask = view.picture(masks[0], -0.25, 1.25, SIDE)
    assert mask.shape == (SIDE, SIDE) and mask.mean() == pytest.approx(masks[0].mean(), rel=0.3)


def test_colours_change_alike_in_all_pictures() -> None:
    canvases, _, _ = cropped(3, 1.0)
    view = View.random(np.random.default_rng(3), 0.0, 1.0)
    view = View(False, None, view.colours)
    one, other = (view.picture(canvas, 0.0, 1.0, CROP).astype(float) for canvas in canvases[:2])
    before = [UNCHANGED.picture(canvas, 0.0, 1.0, CROP).astype(float) for canvas in canvases[:2]]
    assert np.abs(one - before[0]).mean() > 2
    assert np.allclose((one - before[0]).mean(axis=(0, 1)), (other - before[1]).mean(axis=(0, 1)), atol=3)


def test_degraded_photos_lose_detail_and_little_else() -> None:
    picture = cropped(3, 1.0)[0][0]
    for seed in range(4):
        poor = degraded(picture, np.random.default_rng(seed))
        assert poor.shape == picture.shape and poor.dtype == np.uint8
        assert np.abs(poor.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 10
        assert 0.5 < np.abs(poor.astype(int) - picture).mean() < 25
        assert sharpness(poor) < sharpness(picture)
        np.testing.assert_array_equal(degraded(picture, np.random.default_rng(seed)), poor)


def test_weights_stress_face_mouth_and_eyes() -> None:
    points = cropped(3, 1.0)[2][0] * CROP - 0.5
    weights = weight_map(points, CROP, face=2.0, mouth=8.0, eyes=5.0)
    assert weights.dtype == np.float32 and weights.shape == (1, CROP, CROP)
    assert set(np.unique(weights)) == {1.0, 3.0, 6.0, 9.0}
    for part, value in ((INNER_LIP, 9), (OUTER_LIP, 9), (RIGHT_EYE, 6), (LEFT_EYE, 6), (NOSE_BRIDGE, 3)):
        x, y = points[part].mean(axis=0).round().astype(int)
        assert weights[0, y, x] == value
    assert weights[0, 0, 0] == 1
    outside = weight_map(points + 10 * CROP, CROP, face=2.0, mouth=8.0, eyes=5.0)
    assert (outside == 1).all()
    assert (weight_map(points, CROP, face=0.0, mouth=0.0, eyes=0.0) == 1).all()
    face = face_mask(points, CROP)
    assert set(np.unique(face)) == {0.0, 1.0} and (weights[face == 0] < 9).all()
    np.testing.assert_array_equal(weights[face > 0] > 1, True)


def test_colours_are_matched_within_a_mask() -> None:
    picture = cropped(3, 1.0)[0][0]
    where = np.zeros((SIDE, SIDE))
    where[40:100, 40:100] = 1
    other = (picture * np.array([0.8, 0.9, 1.0]) + [20, 0, 0]).clip(0, 255)
    matched = match_colours(picture, other, where)
    assert matched.dtype == np.uint8
    assert np.abs(matched[40:100, 40:100] - other[40:100, 40:100]).mean() < 2
    np.testing.assert_array_equal(match_colours(picture, other, np.zeros_like(where)), picture)
