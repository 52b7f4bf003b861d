"""Pictures of a head: the photo where nothing moves, and what was asked for where something does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import close_eyes
from PIL import Image, ImageDraw
from scipy import ndimage

from talking_heads.avatar import Shots, make_head
from talking_heads.head import render as module
from talking_heads.head.eyes import with_gaze
from talking_heads.head.fit import FrameFit, face_extent
from talking_heads.head.head import Head
from talking_heads.head.motion import head_rotation
from talking_heads.head.photo import MARGIN, REACH
from talking_heads.head.render import PhotoChoice, PhotoChooser, Rendered, Renderer, finished
from talking_heads.landmarks import NAMED, mouth_openness
from talking_heads.media.background import Background, parse_background
from talking_heads.models.generator import RENDER_CHANNELS
from talking_heads.tracking.detectors import LandmarkDetector

SIZE = 256


@pytest.fixture(scope="module")
def renderer(head: Head) -> Renderer:
    return Renderer(head, SIZE)


def moved(
    head: Head,
    angles: tuple[float, float, float] = (0, 0, 0),
    translation: tuple[float, float, float] = (0, 0, 0),
    gaze: tuple[float, float] | None = None,
    **coefficients: float,
) -> FrameFit:
    """The photo's frame, turned by angles in degrees, shifted by cm, with some coefficients as given."""
    photo = head.primary_view.fit.frame
    expression = photo.expression.copy()
    for name, value in coefficients.items():
        expression[head.model.index(name)] = value
    if gaze is not None:
        looking = photo.gaze + np.array(gaze)
        expression = with_gaze(head.model, expression, looking)
        photo = replace(photo, gaze=looking)
    return replace(
        photo,
        expression=expression,
        rotation=head_rotation(angles) @ photo.rotation,
        translation=photo.translation + np.array(translation, float),
    )


def around(landmarks: np.ndarray, points: list[int], reach: int = 2) -> tuple[slice, slice]:
    """The pixels at the middle of some points."""
    x, y = np.round(landmarks[points].mean(axis=0)).astype(int)
    return np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]


# ------------------------------------------------------------------------------------------------------- nothing moves


@pytest.mark.parametrize("size", [64, 256, 512])
def test_an_unmoved_head_is_the_photo(head: Head, size: int) -> None:
    drawn = Renderer(head, size).draw(head.primary_view.fit.frame)
    still = drawn.planes[..., 2]
    difference = np.abs(drawn.picture - drawn.photo).max(axis=2)
    assert (still > 0.99).mean() > (0.98 if size > 64 else 0.97)
    assert (difference > 2).mean() < (0.002 if size > 64 else 0.01)
    assert difference[still > 0.99].max() <= 1.5
    assert difference.mean() < 0.3
    frame = finished(drawn, np.zeros_like(drawn.picture), None)
    assert np.abs(frame.astype(int) - np.rint(drawn.photo)).mean() < 0.3


def test_the_photo_is_the_crop_of_the_canvas(head: Head, renderer: Renderer, shots: Shots) -> None:
    drawn = renderer.draw(head.primary_view.fit.frame)
    np.testing.assert_allclose(drawn.photo, shots.crops(SIZE)[0], atol=1)
    np.testing.assert_allclose(drawn.landmarks[:68], shots.landmarks_at(SIZE)[0, :68], atol=0.03 * SIZE)


# ------------------------------------------------------------------------------------------------------------- planes


def test_planes_keep_to_their_ranges(head: Head, renderer: Renderer) -> None:
    for frame in (moved(head), moved(head, (20, -10, 15), (2, 1, 3), jawOpen=0.8, eyeBlinkLeft=1.0)):
        drawn = renderer.draw(frame)
        assert drawn.picture.shape == drawn.photo.shape == (SIZE, SIZE, 3)
        assert drawn.planes.shape == (SIZE, SIZE, 4)
        assert all(array.dtype == np.float32 for array in (drawn.picture, drawn.planes, drawn.landmarks))
        assert drawn.picture.min() >= -0.01 and drawn.picture.max() <= 255.01
        trust, layer, still, opacity = np.moveaxis(drawn.planes, 2, 0)
        for plane in (trust, still, opacity):
            assert plane.min() >= -1e-5 and plane.max() <= 1 + 1e-5
        assert layer.min() >= -1 - 1e-5 and layer.max() <= 1 + 1e-5
        assert (layer[opacity < 1e-3] < -0.99).all()  # nobody there: the background
        face = around(drawn.landmarks, [30], 3)
        assert layer[face].min() > 0.9 and opacity[face].min() > 0.99
        planes = drawn.generator_planes(SIZE)
        assert planes.shape == (RENDER_CHANNELS, SIZE, SIZE) and planes.dtype == np.float32
        assert np.abs(planes).max() <= 1.001
        np.testing.assert_allclose(planes[:3], drawn.picture.transpose(2, 0, 1) / 127.5 - 1, atol=1e-4)
        np.testing.assert_allclose(planes[3:6], drawn.photo.transpose(2, 0, 1) / 127.5 - 1, atol=1e-4)
        np.testing.assert_allclose(planes[6:8], drawn.planes[..., :2].transpose(2, 0, 1), atol=1e-5)
        still = np.maximum(drawn.planes[..., 2], 1 - drawn.planes[..., 3])  # nothing is painted on the background
        np.testing.assert_allclose(planes[8], still, atol=1e-5)
        small = drawn.generator_planes(SIZE // 4)
        means = planes.reshape(RENDER_CHANNELS, SIZE // 4, 4, SIZE // 4, 4).mean(axis=(2, 4))
        np.testing.assert_allclose(small, means, atol=1e-4)


def test_sizes_show_the_same(head: Head) -> None:
    frame = moved(head, (12, 4, -6), (1, 0, 0), jawOpen=0.4)
    small, large = (Renderer(head, size).draw(frame) for size in (SIZE, 2 * SIZE))
    averaged = large.picture.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))
    difference = np.abs(averaged - small.picture)
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.95) < 6
    np.testing.assert_allclose(large.landmarks_at(SIZE), small.landmarks, atol=1e-3)
    trusts = large.planes[..., 0].reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3))
    assert np.abs(trusts - small.planes[..., 0]).mean() < 0.02


def test_what_is_drawn_is_never_drawn_over(head: Head, renderer: Renderer) -> None:
    """A batch keeps several frames while the next ones are drawn."""
    first = renderer.draw(moved(head))
    kept = first.picture.copy(), first.planes.copy(), first.landmarks.copy(), first.photo.copy()
    renderer.draw(moved(head, (20, 0, 0), jawOpen=1.0))
    for array, before in zip((first.picture, first.planes, first.landmarks, first.photo), kept, strict=True):
        assert np.array_equal(array, before)
    again = renderer.draw(moved(head))
    assert np.array_equal(again.picture, first.picture) and np.array_equal(again.planes, first.planes)


def test_landmarks_can_be_had_without_a_picture(head: Head, renderer: Renderer) -> None:
    frame = moved(head, (10, -5, 3), jawOpen=0.3)
    np.testing.assert_allclose(renderer.landmarks(frame), renderer.draw(frame).landmarks, atol=1e-3)


# ----------------------------------------------------------------------------------------------------------- movement


def test_angles_turn_the_head_as_their_names_say(head: Head, renderer: Renderer) -> None:
    rest = renderer.landmarks(moved(head))

    def nose_against_eyes(*angles: float) -> np.ndarray:
        points = renderer.landmarks(moved(head, angles))  # type: ignore[arg-type]
        return (points[30] - points[36:48].mean(axis=0)) - (rest[30] - rest[36:48].mean(axis=0))

    assert nose_against_eyes(15, 0, 0)[0] > 5 and nose_against_eyes(-15, 0, 0)[0] < -5
    assert nose_against_eyes(0, 12, 0)[1] > 2 and nose_against_eyes(0, -12, 0)[1] < -2
    for degrees in (15, -15):
        rolled = renderer.landmarks(moved(head, (0, 0, degrees)))
        before, after = (np.degrees(np.arctan2(*(points[45] - points[36])[::-1])) for points in (rest, rolled))
        assert after - before == pytest.approx(degrees, abs=3)  # clockwise, as y goes down
    right, up, near = (renderer.landmarks(moved(head, translation=way)) for way in ((3, 0, 0), (0, 3, 0), (0, 0, 5)))
    assert (right - rest)[:68, 0].min() > 5
    assert (up - rest)[:68, 1].max() < -5
    assert face_extent(near) > 1.03 * face_extent(rest)


@pytest.mark.parametrize(
    "change",
    [
        {"angles": (15, 0, 0)},
        {"angles": (-15, 5, 8)},
        {"angles": (0, -10, -10)},
        {"jawOpen": 0.6},
        {"translation": (1.5, -1, 4)},
    ],
    ids=str,
)
def test_the_picture_shows_what_the_landmarks_say(
    head: Head, renderer: Renderer, detector: LandmarkDetector, change: dict
) -> None:
    drawn = renderer.draw(moved(head, **change))
    (found,) = detector.detect(drawn.picture.clip(0, 255).astype(np.uint8))
    error = np.linalg.norm(found - drawn.landmarks, axis=1)[NAMED].mean() / face_extent(drawn.landmarks)
    assert error < 0.03
    assert mouth_openness(found) == pytest.approx(mouth_openness(drawn.landmarks), abs=0.12)


def test_a_blink_covers_the_eyes(head: Head, renderer: Renderer) -> None:
    opened, shut = renderer.draw(moved(head)), renderer.draw(moved(head, eyeBlinkLeft=1.0, eyeBlinkRight=1.0))
    skin = np.median(opened.picture[around(opened.landmarks, [30], 6)], axis=(0, 1))
    for eye in ([37, 38, 40, 41], [43, 44, 46, 47]):
        place = around(opened.landmarks, eye, 1)
        assert np.abs(shut.picture[place] - opened.picture[place]).mean() > 15
        to_skin = [np.abs(drawn.picture[place].mean(axis=(0, 1)) - skin).mean() for drawn in (shut, opened)]
        assert to_skin[0] < to_skin[1]
    chin = around(opened.landmarks, [8], 5)
    np.testing.assert_allclose(shut.picture[chin], opened.picture[chin], atol=1)
    one = renderer.draw(moved(head, eyeBlinkLeft=1.0))
    right = around(opened.landmarks, [37, 38, 40, 41], 2)
    assert np.abs(one.picture[right] - opened.picture[right]).mean() < 3


def test_a_shut_eye_ends_in_a_line_of_lashes(head: Head, renderer: Renderer) -> None:
    shut = renderer.draw(moved(head, eyeBlinkLeft=1.0, eyeBlinkRight=1.0))
    for upper, lower in (([37, 38], [40, 41]), ([43, 44], [46, 47])):
        apart = shut.landmarks[lower, 1].mean() - shut.landmarks[upper, 1].mean()
        assert abs(apart) < 0.01 * SIZE
        x, y = np.round(shut.landmarks[upper + lower].mean(axis=0)).astype(int)
        column = shut.picture[y - 12 : y + 13, x - 2 : x + 3].mean(axis=(1, 2))
        assert column[9:16].min() < 0.75 * np.median(column)


def test_the_network_is_kept_off_lids_that_are_shut_and_not_off_open_eyes(head: Head, renderer: Renderer) -> None:
    shut, opened = (
        renderer.draw(moved(head, eyeBlinkLeft=blink, eyeBlinkRight=blink, gaze=(8, 0))) for blink in (1, 0)
    )
    for eye in ([37, 38, 40, 41], [43, 44, 46, 47]):
        lid = around(opened.landmarks, eye, 1)
        assert np.median(shut.planes[lid][..., 2]) > 0.8
        assert np.median(opened.planes[lid][..., 2]) < 0.3


def test_in_training_it_may_paint_there_and_in_the_mouth(head: Head, renderer: Renderer) -> None:
    pose = moved(head, jawOpen=0.6, eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    free, kept = Renderer(head, renderer.size, kept=0.0).draw(pose), renderer.draw(pose)
    np.testing.assert_array_equal(free.picture, kept.picture)
    for place in ([61, 62, 63, 65, 66, 67], [37, 38, 40, 41]):
        inside = around(kept.landmarks, place, 1)
        assert np.median(kept.planes[inside][..., 2]) > 0.8 and np.median(free.planes[inside][..., 2]) < 0.1


def test_a_shut_eye_has_no_fold(head: Head) -> None:
    folds, lids = head.model.folds, head.model.lids
    x, y = head.model.mean[:, 0], head.model.mean[:, 1]
    assert folds.shape == lids.shape and (folds >= lids).all() and folds.max() <= 1
    fold = (lids.max(axis=1) < 0.05) & (folds.max(axis=1) > 0.3)
    assert fold.sum() > 20 and y[fold].min() > 3.6 and y[fold].max() < 5.3  # cm: above the eyes, below the brows
    assert (x[folds[:, 0] > 0.1] > 0).all() and (x[folds[:, 1] > 0.1] < 0).all()


def test_what_is_drawn_is_as_sharp_as_the_photo(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a pixel aside, where looking a texture up blurs the most."""
    start = head.primary_view.fit.frame
    half = 0.5 / (256 * head.primary_view.fit.camera.scale)
    pose = replace(start, translation=start.translation + np.array([half, half, 0]))

    usual = module.SHARPENING

    def detail(strength: float) -> float:
        monkeypatch.setattr(module, "SHARPENING", strength)
        face = Renderer(head, 256).draw(pose).picture[90:170, 90:170].mean(axis=-1)
        return float(np.abs(np.diff(face, axis=1)).mean())

    blurred, sharp = detail(0.0), detail(usual)
    monkeypatch.undo()
    photo = Renderer(head, 256).draw(start).picture[90:170, 90:170].mean(axis=-1)
    assert blurred < sharp < 1.1 * np.abs(np.diff(photo, axis=1)).mean()


def test_shut_lids_have_the_hue_of_the_face_where_the_skin_below_the_eyes_is_grey(shots: Shots, head: Head) -> None:
    (canvas,), (points,) = shots.canvases, shots.landmarks
    grey = canvas.astype(np.float32)
    y, x = np.mgrid[: len(grey), : len(grey)]
    for eye in (slice(36, 42), slice(42, 48)):
        middle = (points[eye].mean(axis=0) + MARGIN) / REACH * len(grey)
        reach = np.ptp(points[eye, 0]) / REACH * len(grey)
        ring = (np.abs(x - middle[0]) < 0.8 * reach) & (np.abs(y - middle[1] - 0.7 * reach) < 0.45 * reach)
        grey[ring] = grey[ring].mean(axis=-1, keepdims=True)
    dull = make_head(Shots(grey.astype(np.uint8)[None], shots.masks, shots.landmarks)).views[0].fill
    lid = (head.model.lids.max(axis=1) > 0.9) & (head.model.lashes > 0.5)

    def redness(fill: np.ndarray) -> float:
        return float(fill[lid, 0].mean() / fill[lid].mean())

    assert 1.05 < redness(dull) < redness(head.views[0].fill)
    # Lighter on the outer side, away from the nose.
    aside = np.abs(head.model.mean[:, 0])
    assert dull[lid & (aside > 4)].mean() > dull[lid & (aside < 3)].mean()


def test_lips_that_do_not_move_keep_what_is_between_them(head: Head, renderer: Renderer) -> None:
    """Though the photo, which is no longer in place, cannot be shown as it is."""
    photo, shifted = renderer.draw(moved(head)), renderer.draw(moved(head, translation=(0.5, 0, 0)))
    inside = head.model.inside
    assert renderer._seen(0, renderer._points(moved(head), head.primary_view)[0]).trust[inside].max() > 0.5
    x, y = np.round(photo.landmarks[60:68].mean(axis=0)).astype(int)
    way = np.round((shifted.landmarks - photo.landmarks)[60:68].mean(axis=0)).astype(int)
    before = photo.picture[y - 3 : y + 4, x - 8 : x + 9]
    after = shifted.picture[y + way[1] - 3 : y + way[1] + 4, x + way[0] - 8 : x + way[0] + 9]
    assert np.abs(after.mean(axis=(0, 1)) - before.mean(axis=(0, 1))).max() < 8


def test_a_jaw_that_falls_shows_an_opening(head: Head, renderer: Renderer) -> None:
    closed = renderer.draw(moved(head, jawOpen=0.0))
    opened = renderer.draw(moved(head, jawOpen=0.9))
    assert mouth_openness(opened.landmarks) > mouth_openness(closed.landmarks) + 0.3
    assert (opened.landmarks - closed.landmarks)[8, 1] > 0.03 * SIZE
    place = around(opened.landmarks, [62, 66], 8)
    dark = [np.quantile(drawn.picture[place].mean(axis=2), 0.1) for drawn in (opened, closed)]
    assert 20 < dark[0] < 0.5 * dark[1]  # a throat behind the tongue, not a hole
    assert opened.planes[place][..., 1].min() > 0.9  # and no hole to the background


def test_eyes_look_where_they_are_told(head: Head, renderer: Renderer) -> None:
    rest = renderer.landmarks(moved(head))
    for gaze, axis, sign in (((20, 0), 0, 1), ((-20, 0), 0, -1), ((0, 12), 1, 1), ((0, -12), 1, -1)):
        irises = (renderer.landmarks(moved(head, gaze=gaze)) - rest)[68:70]  # type: ignore[arg-type]
        assert (sign * irises[:, axis] > 1).all()


def test_shoulders_stay_when_the_head_turns(head: Head, renderer: Renderer) -> None:
    rest, turned = renderer.draw(moved(head)), renderer.draw(moved(head, (15, 0, 0)))
    bottom = np.s_[-12:]
    assert np.abs(turned.picture[bottom] - rest.picture[bottom]).mean() < 2
    assert turned.planes[bottom][..., 2].mean() > 0.9  # still
    assert turned.planes[around(rest.landmarks, [30], 3)][..., 2].mean() < 0.1


# --------------------------------------------------------------------------------------------------------- background


def test_every_background(head: Head, tmp_path: Path) -> None:
    frame = moved(head, (8, 0, 0))
    kept = Renderer(head, SIZE).draw(frame)
    none = np.zeros_like(kept.picture)
    plain = finished(kept, none, None)
    face = around(kept.landmarks, [30], 8)
    opacity = kept.planes[..., 3]
    assert opacity[:20, :20].max() < 0.02 < 0.99 < opacity[face].min()

    def shown(text: str) -> np.ndarray:
        background = parse_background(text)
        return finished(Renderer(head, SIZE, background).draw(frame), none, background)

    assert np.array_equal(shown("keep"), plain)
    Image.new("RGB", (300, 100), (10, 200, 30)).save(tmp_path / "room.png")
    for text, corner in (("#1020f0", (16, 32, 240)), (str(tmp_path / "room.png"), (10, 200, 30))):
        result = shown(text)
        np.testing.assert_allclose(result[:20, :20].reshape(-1, 3), np.tile(corner, (400, 1)), atol=3)
        np.testing.assert_allclose(result[face], plain[face], atol=1)
    blurred = shown("blur")
    corner = np.s_[:40, :40]
    steps = [np.abs(np.diff(picture[corner].astype(float), axis=1)).mean() for picture in (blurred, plain)]
    assert steps[0] < 0.7 * steps[1]
    np.testing.assert_allclose(blurred[face], plain[face], atol=1)
    see_through = shown("transparent")
    assert see_through.shape == (SIZE, SIZE, 4) and see_through.dtype == np.uint8
    assert see_through[:20, :20, 3].max() <= 5 and see_through[face][..., 3].min() >= 250
    np.testing.assert_allclose(see_through[face][..., :3], plain[face], atol=2)


def test_an_unmoved_person_before_another_background_has_no_rim_of_the_old_one(head: Head) -> None:
    """Pixels that are half the photo's background do not count as the photo."""
    green = Background("colour", colour=(0, 255, 0))
    drawn = Renderer(head, SIZE, green).draw(moved(head))
    opacity = drawn.planes[..., 3]
    rim = (opacity > 0.05) & (opacity < 0.9)
    assert rim.any() and drawn.planes[rim][..., 2].max() < 0.01


def test_a_correction_is_added_and_kept_off_another_background(head: Head) -> None:
    frame = moved(head)
    drawn = Renderer(head, SIZE).draw(frame)
    add = np.full_like(drawn.picture, 10.0)
    dark = drawn.picture < 240
    got = finished(drawn, add, None).astype(int) - finished(drawn, 0 * add, None)
    assert (np.abs(got[dark] - 10) <= 1).all()
    for text in ("blue", "transparent"):
        background = parse_background(text)
        other = Renderer(head, SIZE, background).draw(frame)
        got = finished(other, add, background).astype(int) - finished(other, 0 * add, background)
        face = around(other.landmarks, [33], 8)
        darker = dark[face].all(axis=2)
        assert darker.any() and np.abs(got[face][darker][:, :3] - 10).max() <= 1
        if text == "blue":
            assert np.abs(got[:20, :20]).max() <= 1


def test_the_hair_layer_fades_out_before_the_face_and_hides_the_background_beside_it(head: Head) -> None:
    view = head.primary_view
    nose = view.texture_at[head.model.landmark_vertices[30]]
    assert view.hair_share[np.linalg.norm(view.hair_at - nose, axis=1).argmin()] == 0
    used = view.hair_share[view.hair_triangles]
    assert used.min() == 0 and used.max() == 1 and ((used > 0.1) & (used < 0.9)).any()
    # A head that rises leaves the part of the layer behind that was below its chin: no background is seen through it.
    frame = moved(head, angles=(0, -12, 0))
    one, other = (Renderer(head, SIZE, Background("colour", colour=(0, 0, blue))).draw(frame) for blue in (0, 255))
    inner = ndimage.binary_erosion(one.planes[..., 3] > 0.95)  # outlines are soft
    seen_through = np.abs(one.picture - other.picture).max(axis=-1)[inner] > 40
    assert seen_through.sum() < 12


def test_light_along_the_outline_is_not_smeared_over_a_cheek_that_turns_into_view(shots: Shots) -> None:
    """A white rim between ear and chin, as light from behind draws it: turned, the cheek beside it looks like skin."""
    side = shots.canvases.shape[1]
    rim = Image.fromarray(shots.canvases[0])
    outline = (shots.landmarks[0, 1:6] + MARGIN) / REACH * side
    ImageDraw.Draw(rim).line([tuple(point) for point in outline.tolist()], fill=(255, 255, 255), width=side // 50)
    lit = make_head(replace(shots, canvases=np.array(rim)[None]))

    def white(frame: FrameFit) -> float:
        drawn = Renderer(lit, SIZE).draw(frame)
        x, y = drawn.landmarks[1:6].T
        box = drawn.picture[int(y.min()) : int(y.max()), int(x.min()) - 8 : int(x.max()) + 8]
        return float((box.min(axis=2) > 225).sum())

    assert white(moved(lit)) > 40
    assert white(moved(lit, angles=(22, 0, 0))) < 0.3 * white(moved(lit))


def test_loose_hair_goes_along_on_short_ways(head: Head, renderer: Renderer) -> None:
    """What lies around the outline in the photo is moved with it; not on long ways, nor before another background."""
    view = head.primary_view
    short, far = (renderer._points(moved(head, translation=(way, 0, 0)), view)[1] for way in (0.3, 6.0))
    assert renderer._hair_values(0, short)[:, 3].max() == 1
    assert renderer._hair_values(0, far)[:, 3].max() == 0
    green = Renderer(head, SIZE, Background("colour", colour=(0, 255, 0)))
    assert green._hair_values(0, short)[:, 3].max() == 0
    # A mark in the picture just outside the person, which no mask finds.
    still = renderer.draw(moved(head))
    outside = still.planes[..., 3] < 0.01
    top = int(np.argmax(~outside[:, SIZE // 2])) - 3  # of the hair, and a little above
    marked = renderer._photos[0].copy()
    marked[top - 1 : top + 2, SIZE // 2 - 20 : SIZE // 2 + 21] = (255, 0, 0)
    kept, renderer._photos[0] = renderer._photos[0], marked
    try:
        near = renderer.draw(moved(head, translation=(0.3, 0, 0))).picture
        away = renderer.draw(moved(head, translation=(6.0, 0, 0))).picture
    finally:
        renderer._photos[0] = kept
    red = [((picture[..., 0] > 180) & (picture[..., 1] < 90)).sum() for picture in (near, away)]
    assert red[0] > 30 and red[1] < 10


# ------------------------------------------------------------------------------------------------------ several photos


def with_shut_eyes(shots: Shots, light: float, lids: tuple[int, int, int] | None = None) -> Head:
    """The photo, and the same in another light with the eyes shut under coloured lids."""
    (canvas,), (mask,), (points,) = shots.canvases, shots.masks, shots.landmarks
    other = (light * canvas).astype(np.uint8)
    y, x = np.mgrid[: len(other), : len(other)]
    for eye in (slice(36, 42), slice(42, 48)):
        middle = (points[eye].mean(axis=0) + MARGIN) / REACH * len(other)
        reach = 0.6 * np.ptp(points[eye, 0]) / REACH * len(other)
        if lids is not None:
            other[((x - middle[0]) / reach) ** 2 + ((y - middle[1]) / (0.8 * reach)) ** 2 < 1] = lids
    return make_head(Shots(np.stack([canvas, other]), np.stack([mask, mask]), np.stack([points, close_eyes(points)])))


@pytest.fixture(scope="module")
def two_photos(shots: Shots) -> Head:
    """A head of two photos, the second with blue lids."""
    return with_shut_eyes(shots, 1.0, (0, 0, 255))


def test_colours_are_matched_between_photos(shots: Shots) -> None:
    plain, dark = with_shut_eyes(shots, 1.0), with_shut_eyes(shots, 0.6)
    for name in ("texture", "photo", "fill"):
        one, other = (getattr(head.views[1], name)[..., :3].astype(float) for head in (plain, dark))
        bright = (one < 240).all(axis=-1)  # what is brighter than white when it was darkened
        np.testing.assert_allclose(other[bright].mean(), one[bright].mean(), rtol=0.05)
        np.testing.assert_array_equal(getattr(dark.views[0], name), getattr(plain.views[0], name))


def test_another_photo_shows_what_the_first_does_not(two_photos: Head, head: Head) -> None:
    assert two_photos.primary == 0  # whose eyes are open

    expression = two_photos.views[1].fit.frame.expression  # of shut eyes

    def shut(of: Head) -> tuple[np.ndarray, Rendered]:
        renderer, first, frame = Renderer(of, SIZE), PhotoChoice(((0, 1.0),)), of.views[0].fit.frame
        rest, drawn = renderer.draw(frame, first), renderer.draw(replace(frame, expression=expression), first)
        return drawn.picture[around(rest.landmarks, [37, 38, 40, 41], 1)].mean(axis=(0, 1)), drawn

    (red, _, blue), helped = shut(two_photos)
    lid, alone = shut(head)
    assert blue - red > 50 and lid[2] < lid[0]
    # Parts that the first photo shows keep its pixels and its light.
    cheek = around(alone.landmarks, [30], 5)
    np.testing.assert_allclose(helped.picture[cheek].mean(), alone.picture[cheek].mean(), rtol=0.03)
    assert helped.planes[..., 0].sum() > alone.planes[..., 0].sum()


def test_a_mixture_of_photos_lies_between_them(two_photos: Head) -> None:
    renderer, frame = Renderer(two_photos, SIZE), two_photos.views[0].fit.frame
    one, other = (renderer.draw(frame, PhotoChoice(((k, 1.0),))) for k in (0, 1))
    mixed = renderer.draw(frame, PhotoChoice(((0, 0.75), (1, 0.25))))
    np.testing.assert_allclose(mixed.picture, 0.75 * one.picture + 0.25 * other.picture, atol=0.1)
    np.testing.assert_allclose(mixed.planes, 0.75 * one.planes + 0.25 * other.planes, atol=1e-3)


def test_photos_change_without_popping(head: Head) -> None:
    """Three photos, a head that jumps about: no share changes by more than a step, and the nearest wins in the end."""
    angles = ((-25.0, 0.0, 0.0), (0.0, 0.0, 0.0), (25.0, 0.0, 0.0))
    view = head.primary_view
    frames = [moved(head, turn) for turn in angles]
    views = tuple(replace(view, fit=replace(view.fit, frame=frame)) for frame in frames)
    three = replace(head, views=views, primary=1)
    chooser = PhotoChooser(three)
    rng = np.random.default_rng(0)
    before: np.ndarray | None = None
    wild = [moved(head, (rng.uniform(-35, 35), 0, 0), jawOpen=rng.uniform(0, 1)) for _ in range(80)]
    for frame in [*wild, *[moved(head, (25, 0, 0))] * 20]:
        choice = chooser.choose(frame)
        shares = np.zeros(3)
        for k, share in choice.bases:
            shares[k] += share
        assert shares.sum() == pytest.approx(1) and len(choice.bases) <= 2
        if before is not None:
            assert np.abs(shares - before).max() <= 1 / PhotoChooser.FADE + 1e-6
        before = shares
    assert before is not None and before[2] == pytest.approx(1)


def test_the_first_frame_has_its_nearest_photo_at_once(two_photos: Head) -> None:
    for k, view in enumerate(two_photos.views):
        assert PhotoChooser(two_photos).choose(view.fit.frame).bases == ((k, 1.0),)
