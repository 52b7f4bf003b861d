"""Jitter goes, movements stay, and pieces are smoothed as the whole is."""

from __future__ import annotations

import numpy as np
import pytest

from talking_heads.head.motion import INDEX, Motion
from talking_heads.head.presets import load_preset
from talking_heads.head.smoothing import REACH, smoothed, smoothed_in_pieces


def _trembling(motion: Motion, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    return Motion(
        np.clip(motion.coefficients + rng.normal(0, 0.01, motion.coefficients.shape), 0, 1),
        motion.head + rng.normal(0, 0.2, motion.head.shape),
        motion.gaze,
        motion.translation + rng.normal(0, 0.02, motion.translation.shape),
        motion.fps,
    )


def test_jitter_is_halved_where_nothing_moves() -> None:
    still = _trembling(Motion.rest(60, 25))
    calm = smoothed(still)
    assert calm.head.std() < 0.5 * still.head.std()
    assert calm.translation.std() < 0.5 * still.translation.std()


def test_a_blink_keeps_its_depth_and_its_moment() -> None:
    blink = load_preset("blink")
    column = INDEX["eyeBlinkLeft"]
    before, after = (motion.coefficients[:, column] for motion in (blink, smoothed(_trembling(blink))))
    assert abs(int(after.argmax()) - int(before.argmax())) <= 1
    assert after.max() > 0.93 * before.max()


@pytest.mark.parametrize("length", [1, 3, 8, 40])
def test_pieces_are_smoothed_as_the_whole_is(length: int) -> None:
    motion = _trembling(load_preset("nod"))
    pieces = [motion[k : k + length] for k in range(0, len(motion), length)]
    found = list(smoothed_in_pieces(iter(pieces)))
    assert sum(map(len, found)) == len(motion)
    whole = smoothed(motion)
    for name in ("coefficients", "head", "translation", "gaze"):
        assert np.allclose(np.concatenate([getattr(piece, name) for piece in found]), getattr(whole, name), atol=1e-5)


def test_the_first_piece_comes_as_soon_as_what_follows_it_is_known() -> None:
    motion = load_preset("nod")
    asked = 0

    def pieces():
        nonlocal asked
        for k in range(len(motion)):
            asked += 1
            yield motion[k : k + 1]

    next(smoothed_in_pieces(pieces()))
    assert asked == REACH + 1


def test_one_frame_is_left_as_it_is() -> None:
    one = load_preset("smile")[30:31]
    assert np.allclose(smoothed(one).coefficients, one.coefficients)
