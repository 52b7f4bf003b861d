"""The software renderer on shapes with known answers, and the clip that it made."""

from pathlib import Path

import numpy as np
import pytest

from talking_heads.landmarks import eye_distance, load_detector
from talking_heads.video import probe, read_frames
from train.face_model import Camera, downsample, rasterise, rotation, smoothstep, turn_head, vertex_normals

DRIVING = Path(__file__).parents[1] / "talking_heads" / "examples" / "driving.mp4"
QUAD = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def square(left: float, top: float, side: float, depth: float) -> np.ndarray:
    """Projected corners (4, 3) of an upright square, clockwise from the top left."""
    right, bottom = left + side, top + side
    return np.array(
        [[left, top, depth], [right, top, depth], [right, bottom, depth], [left, bottom, depth]], np.float32
    )


def test_a_square_covers_exactly_the_pixels_whose_centres_it_contains():
    seen = rasterise(square(2, 3, 4, 0.0), QUAD, 10, 12)
    expected = np.zeros((10, 12), bool)
    expected[3:7, 2:6] = True
    assert np.array_equal(seen.covered, expected)


def test_interpolation_reproduces_a_linear_function_of_place():
    corners = square(1, 1, 8, 0.0)
    seen = rasterise(corners, QUAD, 10, 10)
    places = seen.interpolate(corners[:, :2])
    rows, columns = np.nonzero(seen.covered)
    assert np.allclose(places[rows, columns], np.stack([columns + 0.5, rows + 0.5], axis=1), atol=1e-4)
    assert not places[~seen.covered].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_surface_is_seen_whatever_is_drawn_first(order):
    points = np.concatenate([square(0, 0, 8, -1.0), square(2, 2, 4, 1.0)])
    triangles = np.concatenate([(QUAD, QUAD + 4)[k] for k in order])
    depth = rasterise(points, triangles, 8, 8).depth
    expected = np.full((8, 8), -1.0)
    expected[2:6, 2:6] = 1.0
    assert np.array_equal(depth, expected)


def test_the_camera_enlarges_what_is_near_and_turns_y_down():
    camera = Camera(scale=10.0, centre=(50.0, 40.0), distance=100.0)
    points = camera.project(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 2.0, 50.0]]))
    assert np.allclose(points, [[50, 40, 0], [60, 20, 0], [70, 0, 50]])
    weak = Camera(10.0, (0.0, 0.0), np.inf)
    assert np.allclose(weak.project(np.array([1.0, 1.0, 30.0])), [10, -10, 30])


def test_rotations_go_the_way_their_names_say():
    nose, crown = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    assert (rotation(yaw=20) @ nose)[0] > 0  # to the viewer's right
    assert (rotation(pitch=20) @ nose)[1] < 0  # down
    assert (rotation(roll=20) @ crown)[0] < 0  # leaning to the viewer's left
    turn = rotation(20, -10, 5)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)


def test_a_turn_of_the_head_leaves_the_shoulders():
    vertices = np.array([[3.0, 5.0, 2.0], [3.0, -10.0, 2.0], [3.0, -18.0, 2.0]], np.float32)
    turned = turn_head(vertices, rotation(yaw=40), vertices, (0.0, -6.0, -1.0))
    moved = np.linalg.norm(turned - vertices, axis=1)
    assert moved[0] > moved[1] > 0
    assert moved[2] == 0


def test_normals_of_a_plane_and_averages_of_a_picture():
    plane = square(0, 0, 1, 0.0)[::-1]
    normals = vertex_normals(plane, QUAD)
    assert np.allclose(np.abs(normals), [[0, 0, 1]] * 4)
    assert np.allclose(downsample(np.arange(16.0).reshape(4, 4, 1), 2)[..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert smoothstep(2.0, 0.0, np.array([3.0, 1.0, -1.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_driving_clip_is_small_has_sound_and_lasts_six_seconds():
    info = probe(DRIVING)
    assert DRIVING.stat().st_size < 500_000
    assert info.has_audio
    assert info.fps == 25
    assert info.duration == pytest.approx(6.0, abs=0.1)


def test_the_driver_is_tracked_in_every_frame_talks_blinks_and_turns():
    detector = load_detector()
    found = [detector.detect(frame) for frame in read_frames(DRIVING)]
    assert len(found) == 150
    assert all(len(faces) == 1 for faces in found)
    faces = np.stack([faces[0] for faces in found])
    unit = eye_distance(faces)
    mouth = np.linalg.norm(faces[:, 62] - faces[:, 66], axis=1) / unit
    lids = np.linalg.norm(faces[:, 37] - faces[:, 41], axis=1) / unit
    nose = (faces[:, 30, 0] - faces[:, [36, 45], 0].mean(axis=1)) / unit
    assert mouth.min() < 0.02
    assert mouth.max() > 0.15
    shut = lids < 0.5 * np.median(lids)
    assert shut[32:37].any()  # at 1.35 s
    assert shut[104:110].any()  # and at 4.25 s
    assert shut.sum() < 15
    assert nose.min() < -0.12
    assert nose.max() > 0.12
