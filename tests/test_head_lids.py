"""Lids that meet, whatever a blink's shape does to a face."""

from __future__ import annotations

import numpy as np
import pytest

from talking_heads.head.lids import Lids
from talking_heads.head.model import FaceModel, face_model

BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


@pytest.fixture(scope="module", params=[0, 1], ids=["left", "right"])
def side(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def gaps_after(model: FaceModel, side: int, rest: np.ndarray, blink: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaps of an eye whose lids were moved by a blink: as the shape says, and lifted."""
    lids = Lids.of(model)[side]
    posed = rest + blink * model.expression_basis[model.index(BLINKS[side])]
    lifted = posed.copy()
    lifted[lids.skin, 1] += lids.lift(rest[lids.edges], posed[lids.edges])
    return lids.gaps(posed[lids.edges]), lids.gaps(lifted[lids.edges])


def test_edges_run_along_the_open_eye(model: FaceModel, side: int) -> None:
    lids = Lids.of(model)[side]
    upper, lower = model.mean[lids.upper], model.mean[lids.lower]
    assert len(upper) > 8 and len(lower) > 8
    assert (np.diff(upper[:, 0]) > 0).all() and (np.diff(lower[:, 0]) > 0).all()
    gaps = lids.gaps(model.mean[lids.edges])
    assert gaps[1:-1].min() > 0.05
    assert 0.8 < gaps.max() < 1.2  # cm, of the model's wide open eyes
    assert (np.sign(upper[:, 0]) == (1 if side == 0 else -1)).all()


def test_nothing_is_lifted_in_the_photo_itself(model: FaceModel, side: int) -> None:
    lids = Lids.of(model)[side]
    for rest in (model.mean, model.mean + model.expression_basis[model.index(BLINKS[side])]):
        np.testing.assert_array_equal(lids.lift(rest[lids.edges], rest[lids.edges]), 0)


@pytest.mark.parametrize("blink", [1.0, 1.5])
def test_a_shut_eye_leaves_no_gap_and_lids_do_not_cross(model: FaceModel, side: int, blink: float) -> None:
    raw, met = gaps_after(model, side, model.mean, blink)
    assert np.abs(met[1:-1]).max() < 0.08
    assert np.abs(raw[1:-1]).max() > 2 * np.abs(met[1:-1]).max()


def test_an_eye_that_is_small_in_the_photo_shuts_as_well(model: FaceModel, side: int) -> None:
    small = model.mean + 0.5 * model.expression_basis[model.index(BLINKS[side])]
    raw, met = gaps_after(model, side, small, 1.0)
    assert raw.min() < -0.2  # the whole blink would draw the lid over the cheek
    assert np.abs(met[1:-1]).max() < 0.08


def test_an_eye_too_large_for_a_blink_is_shut_where_that_is_asked_for(model: FaceModel, side: int) -> None:
    lids = Lids.of(model)[side]
    large = model.mean - 0.6 * model.expression_basis[model.index(BLINKS[side])]
    posed = large + model.expression_basis[model.index(BLINKS[side])]
    edges = large[lids.edges], posed[lids.edges]
    for shut, least, most in ((0.0, 0.25, 1.0), (1.0, -0.08, 0.08)):
        lifted = posed.copy()
        lifted[lids.skin, 1] += lids.lift(*edges, shut)
        middle = lids.gaps(lifted[lids.edges])[3:-3]
        assert least < middle.min() and middle.max() < most


def test_a_half_shut_eye_is_left_alone(model: FaceModel, side: int) -> None:
    raw, met = gaps_after(model, side, model.mean, 0.4)
    np.testing.assert_allclose(met, np.maximum(raw, 0), atol=1e-3)
