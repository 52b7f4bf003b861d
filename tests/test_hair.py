"""Hair that is followed through a clip, and the turns of a head that are fitted to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from talking_heads.avatar import Avatar, Shots
from talking_heads.head.fit import FrameFit, FrameFitter, posed
from talking_heads.head.head import Head
from talking_heads.head.model import NECK_JOINT, rotation_by
from talking_heads.head.person_fit import fit_person
from talking_heads.tracking import hair
from talking_heads.tracking.crops import Portrait, crop_around
from talking_heads.tracking.hair import NUM_SPOTS, HairTracker
from talking_heads.tracking.motion_fitting import DriverFitter, in_crop
from talking_heads.tracking.points import HAIR, NUM_FOLLOWED, PointTracker
from talking_heads.tracking.regions import inverse, joined, mapped, similarity


def turned(image: np.ndarray, degrees: float, zoom: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The picture moved as a whole, and the (2, 3) by which its points went."""
    c, s = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    middle = np.array([220.0, 120.0])  # in the face
    matrix = np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = middle + shift - mapped(matrix, middle)
    back = inverse(matrix)[::-1]  # rows before columns
    move = back[:, [1, 0]]
    planes = [ndimage.affine_transform(image[..., k], move, back[:, 2], order=1, mode="nearest") for k in range(3)]
    return np.stack(planes, axis=-1), matrix


def test_it_is_followed_to_a_fraction_of_a_pixel(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """However the head is moved, tilted and enlarged: spots go where the picture goes."""
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    assert start.shape == (NUM_SPOTS, 2) and np.isfinite(start).all()
    assert start[:, 1].max() < astronaut_face[36, 1]  # above the eyes, from left to right
    assert start[0, 0] < start[1, 0] < start[2, 0]
    for k in range(1, 8):
        frame, matrix = turned(astronaut, 2.0 * k, 1 + 0.02 * k, (4.0 * k, 2.0 * k))
        face = mapped(matrix, astronaut_face)
        np.testing.assert_allclose(tracker.see(frame, face), mapped(matrix, start), atol=0.8)


def test_landmarks_that_move_alone_take_no_hair_along(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    for _ in range(4):
        face = astronaut_face + rng.normal(0, 1.5, astronaut_face.shape)
        np.testing.assert_allclose(tracker.see(astronaut, face), start, atol=0.6)


def test_what_is_covered_is_not_seen_and_found_again_behind(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    covered = astronaut.copy()
    noise = np.random.default_rng(0).integers(0, 255, covered.shape)
    covered[: int(astronaut_face[36, 1])] = noise[: int(astronaut_face[36, 1])]
    assert np.isnan(tracker.see(covered, astronaut_face)).all()
    np.testing.assert_allclose(tracker.see(astronaut, astronaut_face), start, atol=0.3)


def test_a_spot_that_is_hidden_is_not_sought_elsewhere(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """A hand lies on one side while the head turns: what is followed there afterwards is the hair, or nothing."""
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    covered = astronaut.copy()
    left = int(start[2, 0]) - 20
    covered[:140, left:] = np.random.default_rng(0).integers(0, 255, covered[:140, left:].shape)
    turned_face = astronaut_face.copy()
    turned_face[27:31, 0] += 0.25 * np.ptp(astronaut_face[:, 0])  # the nose, as of a head that looks aside
    seen = tracker.see(covered, turned_face)
    assert np.isfinite(seen[0]).all() and np.isnan(seen[2]).all()
    assert np.isnan(tracker.see(covered, turned_face)[2]).all()
    np.testing.assert_allclose(tracker.see(astronaut, astronaut_face), start, atol=0.3)


def test_hair_beyond_the_edge_of_the_frame_is_not_seen(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """A head that moves up and out: what is left of the frame's edge is no hair."""
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    for up in (20, 40, 60, 80):
        places = tracker.see(astronaut[up:], astronaut_face - np.array([0, up], np.float32))
        for k in np.flatnonzero(np.isfinite(places).all(axis=1)):
            np.testing.assert_allclose(places[k], start[k] - [0, up], atol=1.5)
    assert np.isnan(places[1]).all()  # of the middle one nothing is left


def test_who_shows_no_hair_is_not_looked_at_in_every_frame(
    astronaut: np.ndarray, astronaut_face: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr(hair, "_keyframe", lambda *_: looked.append(1))
    tracker = HairTracker()
    for _ in range(2 * hair.WAIT):
        assert np.isnan(tracker.see(astronaut, astronaut_face)).all()
    assert len(looked) == 2


def test_none_in_the_dark_and_where_no_face_is_seen(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    tracker = HairTracker()
    assert np.isnan(tracker.see(np.zeros_like(astronaut), astronaut_face)).all()
    assert np.isnan(tracker.see(astronaut, None)).all()
    places = [tracker.see(astronaut, astronaut_face) for _ in range(hair.WAIT)]
    assert np.isfinite(places[-1]).all()
    assert np.isnan(tracker.see(astronaut, None)).all()


def test_light_that_changes_does_not_move_it(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    tracker = HairTracker()
    start = tracker.see(astronaut, astronaut_face)
    for share in (0.95, 0.85, 0.75):
        np.testing.assert_allclose(tracker.see((astronaut * share).astype(np.uint8), astronaut_face), start, atol=0.5)


def test_maps_of_regions() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 50, (9, 2))
    matrix = np.array([[0.8, -0.6, 3.0], [0.6, 0.8, -7.0]]) * 1.3
    np.testing.assert_allclose(similarity(points, mapped(matrix, points)), matrix, atol=1e-9)
    np.testing.assert_allclose(mapped(inverse(matrix), mapped(matrix, points)), points, atol=1e-9)
    both = joined(inverse(matrix), matrix)
    np.testing.assert_allclose(both, np.eye(2, 3), atol=1e-9)


# -------------------------------------------------------------------------------------------------------- in the fit


def spots(head: Head) -> np.ndarray:
    """(3, 3) cm: three points of the scalp."""
    skin = head.neutral[head.model.skin]
    wanted = np.array([[-6.5, 9, 1], [0, 12, 4], [6.5, 9, 1]])
    return np.stack([skin[np.linalg.norm(skin - point, axis=1).argmin()] for point in wanted])


def seen(head: Head, frame: FrameFit, points: np.ndarray) -> np.ndarray:
    return head.primary_view.fit.camera.project(posed(points, frame))[:, :2]


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


@pytest.fixture(scope="module")
def fitter(head: Head) -> FrameFitter:
    return FrameFitter(head.model, head.identity_coefficients, head.primary_view.fit.camera, hair=spots(head))


def test_hair_tells_a_turn_from_brows_that_move(head: Head, fitter: FrameFitter) -> None:
    """Landmarks as of a head that nods by three degrees about its face, hair as of one that does not."""
    still = fitter.start()
    nod = rotation_by(np.radians([3.0, 0, 0]))
    middle = head.neutral[head.model.landmark_vertices].mean(axis=0) - NECK_JOINT
    nods = replace(still, rotation=nod, translation=middle - nod @ middle)
    points = seen(head, nods, head.neutral[head.model.landmark_vertices])
    places = seen(head, still, spots(head))
    alone = fitter.fit(points, still, steps=10)
    told = fitter.fit(points, still, steps=10, hair=places)
    assert degrees_between(told.rotation, still.rotation) < 0.5 * degrees_between(alone.rotation, still.rotation)
    # And one that is real is no longer taken for noise.
    real = fitter.fit(points, still, steps=10, hair=seen(head, nods, spots(head)))
    assert degrees_between(real.rotation, nods.rotation) < 0.5


def test_hair_whose_depth_is_wrong_spoils_no_large_turn(head: Head, fitter: FrameFitter) -> None:
    aside = replace(fitter.start(), rotation=rotation_by(np.radians([0, 22.0, 0])))
    points = seen(head, aside, head.neutral[head.model.landmark_vertices])
    places = seen(head, aside, spots(head) + np.array([0, 0, 2.0]))
    found = fitter.fit(points, fitter.start(), steps=12, hair=places)
    assert degrees_between(found.rotation, aside.rotation) < 2


def test_something_else_that_is_followed_turns_no_head(head: Head, fitter: FrameFitter) -> None:
    """A caption on the hair stays where it is while the head goes two centimetres up."""
    start = fitter.start()
    up = replace(start, translation=np.array([0, 2.0, 0]))
    points = seen(head, up, head.neutral[head.model.landmark_vertices])
    found = fitter.fit(points, start, steps=12, hair=seen(head, start, spots(head)))
    assert degrees_between(found.rotation, up.rotation) < 3.5


def test_a_fitter_that_knows_no_hair_leaves_it_out(head: Head) -> None:
    fitter = FrameFitter(head.model, head.identity_coefficients, head.primary_view.fit.camera)
    points = seen(head, fitter.start(), head.neutral[head.model.landmark_vertices])
    alone, given = (fitter.fit(points, fitter.start(), hair=places) for places in (None, np.zeros((3, 2))))
    np.testing.assert_array_equal(alone.rotation, given.rotation)


def test_spots_that_are_not_seen_change_nothing(head: Head, fitter: FrameFitter) -> None:
    points = seen(head, fitter.start(), head.neutral[head.model.landmark_vertices])
    alone = fitter.fit(points, fitter.start(), steps=5)
    blind = fitter.fit(points, fitter.start(), steps=5, hair=np.full((3, 2), np.nan))
    np.testing.assert_array_equal(alone.rotation, blind.rotation)
    nowhere = FrameFitter(
        head.model, head.identity_coefficients, head.primary_view.fit.camera, hair=np.full((3, 3), np.nan)
    ).fit(points, fitter.start(), steps=5, hair=np.zeros((3, 2)))
    np.testing.assert_array_equal(alone.rotation, nowhere.rotation)


def test_a_driver_knows_where_in_the_head_they_are(astronaut: np.ndarray, astronaut_face: np.ndarray) -> None:
    """The frame that they were first seen in is found as it is without them."""
    crop = crop_around(astronaut_face[None], astronaut.shape[:2])
    followed = np.full((1, NUM_FOLLOWED, 2), np.nan)
    followed[0, HAIR] = HairTracker().see(astronaut, astronaut_face)
    alone = DriverFitter.of(astronaut_face[None], astronaut.shape[:2]).fit(astronaut_face)
    driver = DriverFitter.of(astronaut_face[None], astronaut.shape[:2], followed)
    found = driver.fit(astronaut_face, followed[0])
    assert found.shoulders is None and degrees_between(found.rotation, alone.rotation) < 0.7
    places = driver._fitter.camera.project(posed(driver._fitter._neutral[-NUM_SPOTS:], found))[:, :2]
    np.testing.assert_allclose(places, in_crop(crop, followed[0, HAIR]), atol=0.01)


def test_photos_of_one_film_are_turned_by_their_hair(head: Head) -> None:
    """Of two photos whose landmarks say that the head nods between them, and whose hair says that it does not."""
    still = FrameFitter(head.model, head.identity_coefficients, head.primary_view.fit.camera).start()
    nod = rotation_by(np.radians([3.0, 0, 0]))
    middle = head.neutral[head.model.landmark_vertices].mean(axis=0) - NECK_JOINT
    nods = replace(still, rotation=nod, translation=middle - nod @ middle)
    faces = [seen(head, frame, head.neutral[head.model.landmark_vertices]) for frame in (still, nods)]
    places = np.stack([seen(head, still, spots(head))] * 2)

    def between(places: np.ndarray | None) -> float:
        first, second = fit_person(head.model, faces, hair=places).photos
        return degrees_between(first.frame.rotation, second.frame.rotation)

    assert between(places) < 0.5 * between(None)
    assert between(np.full_like(places, np.nan)) == pytest.approx(between(None))


def test_an_avatar_keeps_what_was_followed_in_its_photos(
    astronaut: np.ndarray, astronaut_face: np.ndarray, tmp_path: Path
) -> None:
    moved = np.roll(astronaut, 4, axis=1)
    faces = [astronaut_face, astronaut_face + np.array([4, 0], np.float32)]
    tracker = PointTracker()
    followed = np.stack([tracker.see(*each) for each in zip((astronaut, moved), faces, strict=True)])
    crop = crop_around(astronaut_face[None], astronaut.shape[:2])
    portraits = [Portrait(*each, crop) for each in zip((astronaut, moved), faces, strict=True)]
    shots = Shots.of(portraits, followed)
    assert shots.followed is not None and Shots.of(portraits).followed is None
    np.testing.assert_allclose((shots.followed[1] - shots.followed[0]) * crop.side, [[4, 0]] * NUM_FOLLOWED, atol=0.8)
    Avatar.create(torch.zeros(8), torch.zeros(8), shots, "", "").save_file(tmp_path / "a.safetensors")
    loaded = Avatar.from_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(loaded.shots.followed, shots.followed)
    views = loaded.head.views
    assert all(view.shoulders is not None for view in views)
    assert degrees_between(views[0].fit.frame.rotation, views[1].fit.frame.rotation) < 0.3
