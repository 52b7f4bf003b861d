"""The landmark image: colours, coverage, and the same picture however it is asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import close_eyes, mean_face
from hypothesis import given, settings
from hypothesis import strategies as st

from talking_heads import drawing
from talking_heads.drawing import IRIS_COLOUR, LINE_WIDTH, PARTS, draw_landmarks
from talking_heads.landmarks import NUM_LANDMARKS

FACE = mean_face(180)


def only(points: dict[int, tuple[float, float]]) -> np.ndarray:
    """A face of which only these points lie in the image."""
    face = np.full((NUM_LANDMARKS, 2), -1000, np.float32)
    for index, point in points.items():
        face[index] = point
    return face


def ink(image: np.ndarray) -> float:
    return float(image.astype(np.float64).sum() / 255)


def test_every_part_has_the_papers_colour() -> None:
    expected = {
        "face oval": (255, 255, 255),
        "right brow": (255, 0, 0),
        "left brow": (0, 255, 0),
        "nose bridge": (0, 0, 255),
        "nose base": (0, 0, 255),
        "right eye": (255, 0, 255),
        "left eye": (0, 255, 255),
        "outer lip": (255, 255, 0),
    }
    assert {part.name: part.colour for part in PARTS if part.name in expected} == expected
    covered = sorted(i for part in PARTS for i in range(part.first, part.last + 1))
    assert covered == list(range(68))  # each of the 68 points in one part
    assert [part.name for part in PARTS if part.closed] == ["right eye", "left eye", "outer lip", "inner lip"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_lines_run_through_their_points_and_close_where_they_should(part: drawing.Part) -> None:
    indices = list(range(part.first, part.last + 1))
    angles = 2 * np.pi * np.arange(len(indices)) / (len(indices) + 1)
    circle = 128 + 80 * np.column_stack([np.cos(angles), np.sin(angles)])
    image = draw_landmarks(only(dict(zip(indices, circle.tolist(), strict=True))), 256)
    for point in np.round(circle).astype(int):
        np.testing.assert_allclose(image[point[1], point[0]], part.colour, atol=0.25 * 255)
    for a, b in itertools.pairwise(circle):
        x, y = np.round(0.5 * (a + b)).astype(int)
        np.testing.assert_allclose(image[y, x], part.colour, atol=0.25 * 255)
    x, y = np.round(0.5 * (circle[0] + circle[-1])).astype(int)
    assert bool(image[y, x].any()) == (part.closed or len(indices) == 2)
    lit = image.reshape(-1, 3)[image.reshape(-1, 3).any(axis=1)] / 255.0
    assert not lit[:, np.array(part.colour) == 0].any()  # no other channel is touched


def test_irises_are_dots() -> None:
    image = draw_landmarks(only({68: (60, 60), 69: (180, 90)}), 256)
    assert tuple(image[60, 60]) == tuple(image[90, 180]) == IRIS_COLOUR
    assert ink(image[..., 0]) == pytest.approx(2 * np.pi * drawing.IRIS_RADIUS**2, rel=0.1)


def test_lines_have_their_width() -> None:
    image = draw_landmarks(only({27: (50, 20), 28: (50, 120), 29: (50, 120), 30: (50, 120)}), 256)
    assert image[70, :, 2].astype(float).sum() / 255 == pytest.approx(LINE_WIDTH, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(dx=st.floats(-1, 1), dy=st.floats(-1, 1))
def test_sub_pixel_moves_move_the_ink(dx: float, dy: float) -> None:
    """What is drawn moves by what the points move, and no ink is gained or lost."""
    y, x = np.mgrid[:256, :256]

    def centre(weight: np.ndarray) -> np.ndarray:
        return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()

    upright = dict.fromkeys(range(28, 31), (90.0, 64.0)) | {27: (90.0, 60.0)}
    level = dict.fromkeys(range(18, 22), (124.0, 90.0)) | {17: (120.0, 90.0)}
    still = only(upright | level | {68: (60.0, 60.0)})
    moved = still + np.array([dx, dy], np.float32)
    before, after = draw_landmarks(still, 256).astype(float), draw_landmarks(moved, 256).astype(float)
    for area in (np.s_[:, 75:105], np.s_[75:105, 106:], np.s_[:75, :75]):  # upright, level, dot
        a, b = np.zeros((256, 256)), np.zeros((256, 256))
        a[area], b[area] = before[area].sum(axis=-1), after[area].sum(axis=-1)
        np.testing.assert_allclose(centre(b) - centre(a), [dx, dy], atol=0.08)
        assert ink(b) == pytest.approx(ink(a), rel=0.1)


def test_whole_pixel_moves_are_exact() -> None:
    moved = draw_landmarks(FACE + np.float32([7, -3]), 256)
    np.testing.assert_array_equal(moved, np.roll(draw_landmarks(FACE, 256), (-3, 7), axis=(0, 1)))


def test_the_order_of_drawing_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = draw_landmarks(FACE, 256)
    for name in ("_SEGMENTS", "_COLOURS"):  # the last two stay last: they are the irises
        lines = getattr(drawing, name)
        monkeypatch.setattr(drawing, name, np.concatenate([lines[:-2][::-1], lines[-2:]]))
    np.testing.assert_array_equal(draw_landmarks(FACE, 256), expected)


def test_half_the_size_is_the_same_picture() -> None:
    large = draw_landmarks(FACE, 256).astype(float).reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    small = draw_landmarks((FACE - 0.5) / 2, 128)
    assert np.abs(small - large).mean() < 1.5
    assert ink(small) == pytest.approx(large.sum() / 255, rel=0.05)


def test_tiny_images_still_show_full_lines() -> None:
    image = draw_landmarks((FACE - 3.5) / 8, 32)
    assert image.max() > 240


@pytest.mark.parametrize("shift", [(-200, 0), (200, 0), (0, 180), (-90, -90), (5000, 5000), (-1e9, 1e9)])
def test_points_outside_are_cut_off(shift: tuple[float, float]) -> None:
    image = draw_landmarks(FACE + np.float32(shift), 256)
    assert image.shape == (256, 256, 3)
    x, y = (int(np.clip(s, -256, 256)) for s in shift)
    canvas = np.zeros((768, 768, 3), np.uint8)
    canvas[256 + y : 512 + y, 256 + x : 512 + x] = draw_landmarks(FACE, 256)  # the face lies within 256 px
    np.testing.assert_array_equal(image, canvas[256:512, 256:512])


def test_a_closed_eye_is_a_line() -> None:
    face = FACE.copy()
    face[36:42, 1] = face[36, 1]
    image = draw_landmarks(face, 256)
    y, x = round(float(face[36, 1])), round(float(face[36:42, 0].mean()))
    assert image[y, x].any()
    opened, closed = (draw_landmarks(f, 256) for f in (FACE, close_eyes(FACE)))
    assert not np.array_equal(opened, closed)


def test_a_batch_equals_its_singles() -> None:
    faces = np.stack([FACE, FACE + 3, close_eyes(FACE)])
    batch = draw_landmarks(faces, 128)
    assert batch.dtype == np.uint8
    assert batch.shape == (3, 128, 128, 3)
    for face, image in zip(faces, batch, strict=True):
        np.testing.assert_array_equal(draw_landmarks(face, 128), image)


def test_68_points_are_not_enough() -> None:
    with pytest.raises(ValueError, match=str(NUM_LANDMARKS)):
        draw_landmarks(FACE[:68], 256)
