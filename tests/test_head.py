"""The layers, trust and colours that are made of photos, and the tools that make them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import open_mouth
from PIL import Image, ImageDraw

from talking_heads.avatar import Shots, make_head
from talking_heads.head.colours import light_on
from talking_heads.head.filters import (
    MAX_DETAIL,
    fill_holes,
    fill_with_texture,
    follow_edges,
    resized,
    resized_mask,
    sharpened,
)
from talking_heads.head.head import Head, with_shared_backgrounds
from talking_heads.head.kernels import sample
from talking_heads.head.masks import Analysis, person_mask
from talking_heads.head.model import FaceModel, face_model, neck_fade, smoothstep
from talking_heads.head.person_fit import NUM_IDENTITY, fit_person
from talking_heads.head.photo import MARGIN, REACH, PhotoView, inside_outline
from talking_heads.head.render import Renderer
from talking_heads.landmarks import INNER_LIP


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


# -------------------------------------------------------------------------------------------------------------- layers


def test_sharpening_keeps_flat_places_and_steepens_edges() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    np.testing.assert_array_equal(sharpened(image, 0.5), image)
    image[:, 4:] = 140
    sharp = sharpened(image, 0.5).astype(int)
    assert (sharp[:, 3] < 100).all() and (sharp[:, 4] > 140).all()
    np.testing.assert_array_equal(sharp[:, [0, 7]], image[:, [0, 7]])
    np.testing.assert_array_equal(sharpened(image, 0.0), image)


def test_a_head_has_what_its_docstrings_say(head: Head, shots: Shots) -> None:
    view, model = head.primary_view, head.model
    vertices, side = len(model.mean), shots.canvases.shape[1]
    assert head.identity_coefficients.shape == (NUM_IDENTITY,)
    assert head.neutral.shape == (vertices, 3) and head.fade.shape == (vertices, 1)
    assert view.texture.shape == (side, side, 4) and view.texture.dtype == np.uint8
    crop = round(side / REACH)
    assert view.photo.shape == view.background.shape == (crop, crop, 3)
    np.testing.assert_array_equal(
        view.photo, shots.canvases[0][crop // 4 : crop // 4 + crop, crop // 4 : crop // 4 + crop]
    )
    for values in (view.trust, view.shown):
        assert values.shape == (vertices,) and values.min() >= 0 and values.max() <= 1
    assert view.fill.shape == (vertices, 3) and view.fill.min() >= 0 and view.fill.max() <= 255
    points = len(view.hair_points)
    assert view.hair_at.shape == (points, 2) and view.anchors.shape == view.anchor_weights.shape == (points, 3)
    assert view.anchor_weights.sum(axis=1).max() <= 1 + 1e-5 and view.anchor_weights.min() >= 0
    assert view.hair_triangles.max() < points
    arrays = (view.offset, view.texture_at, view.trust, view.fill, view.hair_points, view.anchor_weights)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)


def test_the_photo_vouches_for_what_it_shows(head: Head) -> None:
    view, model = head.primary_view, head.model
    nose = model.landmark_vertices[30]
    assert view.trust[nose] > 0.9
    assert view.trust[model.landmark_vertices[[*range(27, 31), *range(48, 55)]]].mean() > 0.7
    behind = model.skin & (model.mean[:, 2] < -5)
    assert behind.any() and view.trust[behind].max() < 0.1
    # Beside the nose the colour of a vertex is the photo's own at its place.
    at = (view.texture_at[[nose]] + MARGIN) / REACH * len(view.texture)
    seen = sample(view.texture[..., :3].astype(np.float32), at.astype(np.float32))[0]
    shown = view.photo[tuple((view.texture_at[nose][::-1] * len(view.photo)).astype(int))]
    assert np.abs(seen - shown).max() < 25


def test_the_far_side_has_the_colour_of_skin(head: Head) -> None:
    view, model = head.primary_view, head.model
    face = model.part == "face"
    seen = np.median(view.fill[face & (view.trust > 0.9)], axis=0)
    far = face & (view.trust < 0.1)
    assert np.abs(np.median(view.fill[far], axis=0) - seen).max() < 60
    teeth = view.fill[model.part == "teeth"].mean(axis=0)
    assert teeth.min() > 0.6 * teeth.max()  # white in the light of the photo


def test_nobody_is_left_in_the_background(head: Head) -> None:
    """The background where the person was continues what is beside him or her."""
    view = head.primary_view
    side = len(view.background)
    face = np.s_[side // 3 : side // 2, side // 3 : 2 * side // 3]
    corners = np.concatenate([view.background[:30, :30].reshape(-1, 3), view.background[:30, -30:].reshape(-1, 3)])
    assert np.abs(view.background[face].mean(axis=(0, 1)) - corners.mean(axis=0)).max() < 40
    assert view.background[face].std(axis=(0, 1)).max() < view.photo[face].std(axis=(0, 1)).min()
    np.testing.assert_allclose(view.background[:20, :20], view.photo[:20, :20], atol=3)
    opacity = view.texture[..., 3]
    middle = len(opacity) // 2
    assert opacity[middle - 20 : middle + 20, middle - 20 : middle + 20].min() > 250
    first = round(len(opacity) * MARGIN / REACH)
    assert opacity[first : first + 20, first : first + 20].max() < 5


def test_colours_go_on_beyond_the_outline(head: Head) -> None:
    """Else an edge would show the background when it moves."""
    texture = head.primary_view.texture
    rim = (texture[..., 3] > 100) & (texture[..., 3] < 200)
    hair = np.s_[: len(texture) // 2]
    background = head.primary_view.background[:30, :30].mean()
    assert rim[hair].any() and np.median(texture[hair][rim[hair]][..., :3]) < background - 40


def test_coarser_analysis_is_the_same_head(head: Head, shots: Shots, model: FaceModel) -> None:
    person = fit_person(model, list(shots.landmarks))
    coarse = Head.of(model, person, list(shots.canvases), list(shots.masks), list(shots.landmarks), analysis=256)
    np.testing.assert_array_equal(coarse.identity_coefficients, head.identity_coefficients)
    frame = head.primary_view.fit.frame
    turned = replace(frame, rotation=np.array([[0.98, 0, 0.199], [0, 1, 0], [-0.199, 0, 0.98]]) @ frame.rotation)
    fine, rough = (Renderer(one, 256).draw(turned).picture for one in (head, coarse))
    assert np.abs(fine - rough).mean() < 4


def of_shots(shots: Shots) -> Head:
    """A head at the coarsest analysis, which is the quickest."""
    points = list(shots.landmarks)
    person = fit_person(face_model(), points)
    return Head.of(face_model(), person, list(shots.canvases), list(shots.masks), points, analysis=128)


def test_the_most_neutral_photo_is_the_first_among_equals(shots: Shots, model: FaceModel) -> None:
    """It is the photo with a shut mouth, first or second."""
    (canvas,), (mask,), (points,) = shots.canvases, shots.masks, shots.landmarks
    both = [open_mouth(points, 0.12), points]
    head = of_shots(Shots(np.stack([canvas] * 2), np.stack([mask] * 2), np.stack(both).astype(np.float32)))
    jaws = [view.fit.frame.expression[model.index("jawOpen")] for view in head.views]
    assert jaws[0] > jaws[1] + 0.2 and head.primary == 1
    assert head.primary_view is head.views[1]


@pytest.mark.parametrize("amount", [0, 255])
def test_masks_that_are_all_or_nothing_make_a_head(shots: Shots, amount: int) -> None:
    """The segmenter may see nobody, or nothing but somebody."""
    head = of_shots(Shots(shots.canvases, np.full_like(shots.masks, amount), shots.landmarks))
    drawn = Renderer(head, 128).draw(head.primary_view.fit.frame)
    assert np.isfinite(drawn.picture).all()
    assert np.abs(drawn.picture - drawn.photo).mean() < 4


@pytest.mark.parametrize("shift", [(0.9, -0.2), (3.0, 3.0)])
def test_a_face_beyond_its_canvas_makes_a_head(shots: Shots, shift: tuple[float, float]) -> None:
    head = of_shots(Shots(shots.canvases, shots.masks, (shots.landmarks + np.float32(shift)).astype(np.float32)))
    drawn = Renderer(head, 64).draw(head.primary_view.fit.frame)
    assert np.isfinite(drawn.picture).all() and np.isfinite(drawn.planes).all()


# --------------------------------------------------------------------------------------------------------------- tools


def test_holes_are_filled_smoothly_and_the_known_stays() -> None:
    x = np.linspace(0, 1, 50, dtype=np.float32)
    image = np.stack([np.tile(x, (37, 1)), np.full((37, 50), 0.3, np.float32)], axis=2)
    known = np.ones((37, 50), np.float32)
    known[10:25, 20:33] = 0
    holes = np.where(known[..., None] > 0, image, 9.0).astype(np.float32)
    filled = fill_holes(holes, known)
    np.testing.assert_array_equal(filled[known > 0], image[known > 0])
    np.testing.assert_allclose(filled[..., 1], 0.3, atol=1e-5)
    assert filled[10:25, 20:33, 0].min() > 0.25 and filled[10:25, 20:33, 0].max() < 0.8
    nothing = fill_holes(holes, np.zeros_like(known))
    assert np.isfinite(nothing).all()


def test_a_mask_leaves_out_what_looks_like_a_plain_wall_and_no_face() -> None:
    """A bay of the wall that the segmenter gave to the person; before a wild background nobody can say."""
    rows, columns = np.indices((128, 128))
    segmented = (np.hypot(rows - 64, columns - 64) < 40).astype(np.float32)
    bay = np.hypot(rows - 64, columns - 103) < 6
    face = np.hypot(rows - 64, columns - 64) < 20
    analysis = Analysis(256)
    rng = np.random.default_rng(0)
    for noise, kept in ((0.0, False), (0.25, True)):
        wall = 0.8 + noise * rng.standard_normal((128, 128))
        person = (segmented > 0) & ~bay
        colour = np.where(person, 0.3, wall)[..., None].repeat(3, axis=2).astype(np.float32)
        got = person_mask(segmented, colour, face, analysis)
        deep = bay & (segmented > 0) & (np.hypot(rows - 64, columns - 64) < 38)
        assert (got[deep] > 0.5).mean() == pytest.approx(float(kept), abs=0.2)
        assert got[np.hypot(rows - 64, columns - 50) < 20].min() > 0.9
    # A grey pullover before a grey wall.
    grey = np.where((segmented > 0) & (rows < 90), 0.3, 0.8)[..., None].repeat(3, axis=2).astype(np.float32)
    assert (
        person_mask(segmented, grey, face, analysis)[(np.hypot(rows - 64, columns - 64) < 36) & (rows > 92)].min() > 0.8
    )
    white = np.full((128, 128, 3), 0.8, np.float32)
    assert person_mask(segmented, white, face, analysis)[face].min() > 0.9


def test_a_background_goes_on_with_its_texture_and_without_its_edges() -> None:
    rng = np.random.default_rng(0)
    noise = (0.5 + 0.05 * rng.standard_normal((60, 60, 1))).astype(np.float32)
    noise[:, :8] += 0.4  # a large thing, far from the hole
    known = np.ones((60, 60), np.float32)
    known[20:40, 20:40] = 0
    holes = np.where(known[..., None] > 0, noise, 9.0).astype(np.float32)
    filled, smooth = fill_with_texture(holes, known, sigma=2), fill_holes(holes, known)
    np.testing.assert_array_equal(filled[known > 0], noise.clip(0, 1)[known > 0])
    inside = np.s_[20:40, 20:40]
    assert smooth[inside].std() < 0.5 * noise[inside].std() < filled[inside].std() < 1.2 * noise[inside].std()
    # A wall's end beside the hole: nothing like it is drawn inside.
    edge = np.where(np.arange(60) < 18, 0.1, 0.9)[None, :, None].repeat(60, axis=0).astype(np.float32)
    difference = np.abs(fill_with_texture(edge, known, sigma=2) - fill_holes(edge, known))
    assert 0 < difference.max() <= MAX_DETAIL
    for share in (np.zeros_like(known), np.ones_like(known)):
        np.testing.assert_array_equal(fill_with_texture(noise, share, 2), fill_holes(noise, share))


def test_masks_follow_the_edges_of_the_picture() -> None:
    grey = np.zeros((60, 60), np.float32)
    grey[:, 30:] = 1
    coarse = np.clip((np.arange(60, dtype=np.float32) - 22) / 16, 0, 1)[None].repeat(60, axis=0)
    sharp = follow_edges(coarse, grey)
    steps = [float((mask[:, 31] - mask[:, 28]).mean()) for mask in (sharp, coarse)]
    assert steps[0] > 2.5 * steps[1]
    assert sharp.min() >= 0 and sharp.max() <= 1


def test_inside_an_outline() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], np.float32)
    points = np.array([[2, 2], [1, 1], [5, 2], [-3, -4]], np.float32)
    distance = inside_outline(points, square)
    assert (distance > 0).tolist() == [True, True, False, False]
    assert distance[3] == pytest.approx(-5)


def test_the_neck_takes_less_and_less_of_a_turn() -> None:
    fades = neck_fade(np.linspace(-20, 10, 100))
    assert fades[0] == 0 and fades[-1] == 1 and (np.diff(fades) >= 0).all()


def test_smoothstep_goes_either_way() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(smoothstep(1, 2, x), [0, 0, 1, 1])
    np.testing.assert_allclose(smoothstep(2, 1, x), [1, 1, 0, 0])
    assert smoothstep(0, 4, np.array(2.0)) == pytest.approx(0.5)


def test_the_light_on_teeth_has_the_colour_of_the_lamp() -> None:
    whites = np.array([[0.5, 0.5, 0.5], [0.9, 0.75, 0.6], [0.4, 0.4, 0.4]])
    warm = light_on(np.array([0.8, 0.5, 0.35]), whites)
    neutral = light_on(np.array([0.75, 0.57, 0.48]), np.full((3, 3), 0.75))
    assert warm[0] / warm[2] > 1.1 * neutral[0] / neutral[2]
    assert (warm > 0).all() and warm.max() < 1.3


def test_other_sizes(shots: Shots) -> None:
    canvas = shots.canvases[0]
    assert resized(canvas, len(canvas)) is canvas
    half = resized(canvas, len(canvas) // 2)
    assert half.shape == (len(canvas) // 2,) * 2 + (3,)
    assert np.abs(half.mean(axis=(0, 1)) - canvas.mean(axis=(0, 1))).max() < 1
    mask = resized_mask(np.linspace(0, 1, 16, dtype=np.float32)[None].repeat(16, axis=0), 32)
    assert mask.shape == (32, 32) and mask.dtype == np.uint8 and mask.min() == 0 and mask.max() == 255


# --------------------------------------------------------------------------------------- what no photo shows of a head


def test_the_hair_layer_knows_where_it_shows_skin(head: Head) -> None:
    """The cheeks, and not the hair above, the dark collar below or the background."""
    view, model = head.primary_view, head.model
    spots = view.texture_at[model.landmark_vertices]

    def skin_at(*places: np.ndarray) -> np.ndarray:
        return np.array([view.hair_is_skin[np.linalg.norm(view.hair_at - place, axis=1).argmin()] for place in places])

    middle, down = spots[30], spots[8] - spots[27]
    assert skin_at(*(spots[[3, 4, 12, 13]] + 0.1 * (middle - spots[[3, 4, 12, 13]]))).min() > 0.8
    assert skin_at(spots[27] - down, spots[8] + 0.6 * down, np.array([0.05, 0.05])).max() < 0.1


def test_the_sides_of_the_skull_have_the_colour_of_hair(head: Head) -> None:
    """The astronaut's is dark, her skin is not."""
    view, model = head.primary_view, head.model
    above = view.photo[: len(view.photo) // 5, 2 * len(view.photo) // 5 : 3 * len(view.photo) // 5]
    hair = np.median(above.reshape(-1, 3), axis=0)
    skin = np.median(view.fill[(model.part == "face") & (view.trust > 0.9)], axis=0)
    bare = model.scalp & (view.trust < 0.1) & ~model.ears
    filled = np.median(view.fill[bare], axis=0)
    assert bare.sum() > 20 and np.abs(hair - skin).max() > 30
    assert np.linalg.norm(filled - hair) < np.linalg.norm(filled - skin)


def test_the_other_sides_colours_come_in_this_sides_light(shots: Shots) -> None:
    """A photo whose one half lies in shadow: what is turned away on the dark side is not lit from the other."""
    canvas = shots.canvases[0].astype(float)
    middle = (shots.landmarks[0, 30, 0] + MARGIN) / REACH * len(canvas)
    canvas[:, : round(middle)] *= 0.4
    shadowed = make_head(replace(shots, canvases=canvas.astype(np.uint8)[None]))
    view, model = shadowed.primary_view, shadowed.model
    face = (model.part == "face") & (np.abs(model.mean[:, 0]) > 5) & (view.trust < 0.2) & ~model.scalp
    dark, bright = (view.fill[face & (sign * model.mean[:, 0] > 0)].mean() for sign in (-1, 1))
    assert dark < 0.8 * bright


def test_front_teeth_stand_close(model: FaceModel, head: Head) -> None:
    teeth = model.part == "teeth"
    front = teeth & (np.abs(model.mean[:, 0]) > 0.05) & (np.abs(model.mean[:, 0]) < 0.09) & (model.mean[:, 2] > 10)
    assert front.any()
    apart = np.abs(model.mean[front, 0] - model.incisors_apart[front])
    assert (apart < np.abs(model.mean[front, 0]) - 0.02).all()
    assert not model.incisors_apart[~teeth].any()
    assert not model.incisors_apart[teeth & (np.abs(model.mean[:, 0]) > 0.4)].any()


def test_the_tongue_is_between_the_rows_of_teeth_and_red(model: FaceModel, head: Head) -> None:
    tongue, teeth = model.tongue > 0.9, model.part == "teeth"
    assert (model.part[model.tongue > 0] == "gums_tongue").all() and tongue.sum() >= 5
    middle = model.mean[teeth & (np.abs(model.mean[:, 0]) < 0.5)]
    upper = middle[middle[:, 1] > -2.0, 1].max()
    raised = model.mean[tongue, 1] + model.tongue_raised[tongue]
    assert raised.max() < upper  # below the palate
    front = tongue & (model.mean[:, 2] > 6.5)
    assert (model.tongue_raised[front] > 0.3).all() and not model.tongue_raised[model.tongue == 0].any()
    red, green, blue = head.primary_view.fill[front].astype(float).T
    throat = head.primary_view.fill[(model.part == "mouth_socket") & (model.mean[:, 2] < 6)]
    assert (red > green).all() and (red > blue).all() and red.mean() > throat.mean() + 30  # no dark hole


def test_a_grey_photo_has_no_red_mouth(shots: Shots) -> None:
    grey = np.repeat(shots.canvases.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    for canvases, most in ((grey, 0.08), (shots.canvases, 0.7)):
        person = make_head(replace(shots, canvases=canvases))
        inside = person.primary_view.fill[np.isin(person.model.part, ["gums_tongue", "mouth_socket"])]
        cast = (inside.max(axis=1) - inside.min(axis=1)) / np.maximum(inside.max(axis=1), 1)
        assert np.median(cast) < most
        teeth = person.primary_view.fill[person.model.part == "teeth"]
        assert canvases is not grey or np.ptp(teeth, axis=1).max() < 2  # and no blue teeth
    assert np.median(cast) > 0.15


def test_what_is_red_and_dark_between_the_lips_is_not_painted_on_teeth(shots: Shots) -> None:
    side = shots.canvases.shape[1]
    mouth = (shots.landmarks[0][INNER_LIP] + MARGIN) * np.float32(side / REACH)
    reddened = Image.fromarray(shots.canvases[0])
    ImageDraw.Draw(reddened).polygon([tuple(point) for point in mouth.tolist()], fill=(70, 20, 20))
    for canvas, most in ((shots.canvases[0], 1.0), (np.asarray(reddened), 0.0)):
        person = make_head(replace(shots, canvases=canvas[None]))
        assert person.primary_view.trust[person.model.part == "teeth"].max() == pytest.approx(most, abs=0.1)


# ----------------------------------------------------------------------------------------------- backgrounds of a room


def half_known(view: PhotoView, left: bool, shift: int = 0) -> PhotoView:
    """A view of which the background is known on one side and in a strip that both know; elsewhere it is black."""
    width = view.background.shape[1]
    known = np.zeros(view.background.shape[:2], np.uint8)
    known[:, : 2 * width // 3] = 255 * left
    known[:, width // 3 :] = np.where(left, known[:, width // 3 :], 255)
    background = np.full_like(view.background, 120 + shift)
    return replace(view, background=np.where(known[..., None] > 0, background, np.uint8(0)), background_known=known)


def test_photos_of_one_room_share_their_background_and_of_two_rooms_do_not(head: Head) -> None:
    view = head.primary_view
    first, second = with_shared_backgrounds([half_known(view, left=True), half_known(view, left=False)])
    assert (first.background == 120).all() and (second.background == 120).all()
    other = with_shared_backgrounds([half_known(view, left=True), half_known(view, left=False, shift=60)])
    assert (other[0].background[:, -10:] == 0).all() and (other[1].background[:, :10] == 0).all()
