"""The kernels of the renderer and the camera, on shapes with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from talking_heads.head.kernels import (
    BETWEEN_TEETH,
    INSIDE,
    SKIN,
    TEETH,
    interpolate,
    mend_teeth_and_edges,
    rasterise,
    soften_outline,
    stretch,
    vertex_normals,
)
from talking_heads.head.model import Camera, pixels, smoothstep
from talking_heads.head.motion import head_rotation

QUAD = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def square(left: float, top: float, side: float, depth: float) -> np.ndarray:
    """Projected corners (4, 3) of an upright square, clockwise from the top left."""
    right, bottom = left + side, top + side
    return np.array(
        [[left, top, depth], [right, top, depth], [right, bottom, depth], [left, bottom, depth]], np.float32
    )


def drawn(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest triangle of each pixel, drawn in two bands, and its depth."""
    nearest, depth = np.empty((height, width), np.int32), np.empty((height, width), np.float32)
    for top, bottom in ((height // 2, height), (0, height // 2)):
        rasterise(points, triangles, top, bottom, nearest, depth)
    return nearest, depth


def test_a_square_covers_exactly_the_pixels_whose_centres_it_contains() -> None:
    nearest, _ = drawn(square(2, 3, 4, 0.0), QUAD, 10, 12)
    expected = np.zeros((10, 12), bool)
    expected[3:7, 2:6] = True
    assert np.array_equal(nearest >= 0, expected)


def test_interpolation_reproduces_a_linear_function_of_place() -> None:
    corners = square(1, 1, 8, 0.0)
    nearest, _ = drawn(corners, QUAD, 10, 10)
    places = interpolate(corners, QUAD, nearest, np.ascontiguousarray(corners[:, :2]))
    rows, columns = np.nonzero(nearest >= 0)
    np.testing.assert_allclose(places[rows, columns], np.stack([columns + 0.5, rows + 0.5], axis=1), atol=1e-4)
    assert not places[nearest < 0].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_surface_is_seen_whatever_is_drawn_first(order: tuple[int, int]) -> None:
    points = np.concatenate([square(0, 0, 8, -1.0), square(2, 2, 4, 1.0)])
    triangles = np.concatenate([(QUAD, QUAD + 4)[k] for k in order])
    expected = np.full((8, 8), -1.0)
    expected[2:6, 2:6] = 1.0
    assert np.array_equal(drawn(points, triangles, 8, 8)[1], expected)


def test_the_camera_enlarges_what_is_near_and_turns_y_down() -> None:
    camera = Camera(scale=0.1, centre=(0.5, 0.4), distance=100.0)
    points = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 2.0, 50.0]])
    expected = np.array([[0.5, 0.4, 0], [0.6, 0.2, 0], [0.7, 0, 50]])
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-6)
    np.testing.assert_allclose(pixels(camera, points, 200), expected * [200, 200, 1], atol=1e-4)
    weak = Camera(0.1, (0.0, 0.0), np.inf)
    np.testing.assert_allclose(weak.project(np.array([1.0, 1.0, 30.0])), [0.1, -0.1, 30], atol=1e-6)


def test_rotations_go_the_way_their_names_say() -> None:
    nose, crown = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    assert (head_rotation([20, 0, 0]) @ nose)[0] > 0  # to the viewer's right
    assert (head_rotation([0, 20, 0]) @ nose)[1] < 0  # down
    assert (head_rotation([0, 0, 20]) @ crown)[0] > 0  # leaning to the viewer's right


def test_normals_and_stretch_of_a_plane() -> None:
    plane = square(0, 0, 1, 0.0)
    np.testing.assert_allclose(np.abs(vertex_normals(plane, QUAD)), [[0, 0, 1]] * 4)
    np.testing.assert_allclose(stretch(square(0, 0, 6, 0.0), square(5, 5, 2, 0.0)[:, :2].copy(), QUAD), 9, rtol=1e-3)
    assert smoothstep(2.0, 0.0, np.array([3.0, 1.0, -1.0])).tolist() == [0.0, 0.5, 1.0]


MOUTH = ["....." + "....." * 4, "..TTTT--TTTT-----TTTT...."]
"""Skin, and below it teeth with a narrow and a wide gap."""
LEVELS = {SKIN: 150.0, TEETH: 220.0, INSIDE: 10.0}


def mouth(still: float, layer: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The picture of MOUTH before and after its teeth and edges are mended, float32 (H, W)."""
    rows = [MOUTH[0], MOUTH[0], *[MOUTH[1]] * 5, MOUTH[0], MOUTH[0]]
    nearest = np.array([[{".": SKIN, "T": TEETH, "-": INSIDE}[mark] for mark in row] for row in rows], np.int32)
    before = np.vectorize(LEVELS.get)(nearest).astype(np.float32)
    frame = np.repeat(before[..., None], 3, axis=2)
    planes = np.zeros((*nearest.shape, 4), np.float32)
    planes[..., 1], planes[..., 2] = layer, still
    kinds = np.array([SKIN, TEETH, INSIDE, 3], np.int8)
    kept = np.array([0.0, 0.75, 0.75, 0.0], np.float32)
    mend_teeth_and_edges(frame, planes, nearest, kinds, kept, np.array([1, 8, 1, 24]), 3.0)
    inside = nearest[1:8, 1:24] != SKIN
    assert (planes[1:8, 1:24, 2][inside] >= 0.75).all()  # the network leaves it alone
    assert (planes[..., 2][nearest == SKIN] == still).all()
    return before, frame[..., 0]


def test_narrow_gaps_between_teeth_close_and_wide_ones_stay() -> None:
    before, after = mouth(still=0.0)
    middle = 4
    assert np.allclose(after[middle, 6:8], BETWEEN_TEETH * LEVELS[TEETH])
    assert np.array_equal(after[middle, 14:16], before[middle, 14:16])
    assert np.array_equal(after[middle, 3:5], before[middle, 3:5])


def test_edges_of_the_mouth_become_soft_and_nothing_else_does() -> None:
    before, after = mouth(still=0.0)
    # Three quarters of a pixel at a straight edge are its own side's.
    assert np.allclose(after[2, 3:5], 0.75 * LEVELS[TEETH] + 0.25 * LEVELS[SKIN])
    assert np.allclose(after[1, 3:5], 0.25 * LEVELS[TEETH] + 0.75 * LEVELS[SKIN])
    assert np.array_equal(after[0], before[0])


def test_what_has_not_moved_or_is_behind_hair_is_not_mended() -> None:
    for still, layer in ((1.0, 1.0), (0.0, 0.0)):
        before, after = mouth(still, layer)
        assert np.array_equal(before, after)


def outline(still: float, step: float, front: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Something light in the layer ``front`` below a dark wall, float32 (6, 8), before and after its outline is
    softened."""
    before = np.repeat(np.where(np.arange(6) < 3, 20.0, 180.0)[:, None], 8, axis=1).astype(np.float32)
    planes = np.zeros((6, 8, 4), np.float32)
    planes[:3, :, 1], planes[..., 2] = front - step, still
    planes[3:, :, 1] = front
    after = np.empty((6, 8, 3), np.float32)
    for top, bottom in ((3, 6), (0, 3)):
        soften_outline(np.repeat(before[..., None], 3, axis=2), planes, top, bottom, after)
    assert np.array_equal(after[..., 0], after[..., 2])
    return before, after[..., 0]


@pytest.mark.parametrize("step", [2.0, 1.0])
def test_a_steep_outline_becomes_soft(step: float) -> None:
    """A face before the background, and before hair or a collar."""
    before, after = outline(still=0.0, step=step)
    assert np.allclose(after[2:4, 1:-1].T, [0.75 * 20 + 0.25 * 180, 0.25 * 20 + 0.75 * 180])
    assert np.array_equal(after[[0, 1, 4, 5]], before[[0, 1, 4, 5]])


@pytest.mark.parametrize("still, step, front", [(1.0, 2.0, 1.0), (0.0, 0.5, 1.0), (0.0, 1.0, 0.0)])
def test_what_has_not_moved_soft_outlines_and_hair_before_the_background_stay(
    still: float, step: float, front: float
) -> None:
    before, after = outline(still, step, front)
    assert np.array_equal(after, before)
