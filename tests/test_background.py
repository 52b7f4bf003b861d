"""Backgrounds: what a user's word becomes, what is painted, and what is said where a word means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media import grey, picture
from PIL import Image

from talking_heads.errors import OutputError, UnreadableMediaError
from talking_heads.media.background import check_output, parse_background
from talking_heads.media.writing import TRANSPARENT_SUFFIXES, VideoWriter

PHOTOGRAPHED = [picture(80, 60), picture(80, 60).astype(np.float32)]


def painted(word: str | Path, photographed: np.ndarray) -> np.ndarray:
    """The replacement, which must have the type of the photo's background and leave that as it was."""
    before = photographed.copy()
    result = parse_background(str(word)).replacement(photographed)
    assert result is not None
    assert (result.dtype, result.shape) == (photographed.dtype, photographed.shape)
    assert np.array_equal(photographed, before)
    return result


@pytest.mark.parametrize("photographed", PHOTOGRAPHED)
def test_keep_is_the_photos_background(photographed: np.ndarray) -> None:
    assert painted(" Keep ", photographed) is photographed


@pytest.mark.parametrize(
    ("word", "colour"),
    [
        ("#20a040", (32, 160, 64)),
        ("#2a4", (34, 170, 68)),
        ("green", (0, 128, 0)),
        ("RebeccaPurple", (102, 51, 153)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
    ],
)
@pytest.mark.parametrize("photographed", PHOTOGRAPHED)
def test_a_colour_fills(word: str, colour: tuple[int, int, int], photographed: np.ndarray) -> None:
    assert (painted(word, photographed) == colour).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blur_takes_what_is_small_and_keeps_the_light(dtype: type) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3)).astype(dtype)
    result = painted("blur", noise)
    assert result.std() < 0.1 * noise.std()
    assert result.mean() == pytest.approx(noise.mean(), abs=2)
    assert np.abs(painted("blur", grey(77).astype(dtype)).astype(float) - 77).max() < 0.01  # no dark edges

    line = np.zeros((100, 200, 3), dtype)
    line[:, 100:] = 240
    assert np.ptp(painted("blur", line)[50, 95:105].astype(float)) < 200  # an edge is spread over sigma, 6 pixels
    assert painted("blur", line)[:, :80].max() == 0


@pytest.mark.parametrize("photographed", PHOTOGRAPHED)
def test_a_picture_is_cropped_around_its_middle(tmp_path: Path, photographed: np.ndarray) -> None:
    scene = np.zeros((120, 400, 3), np.uint8)  # 160 wide in the middle is of the photographed shape
    scene[:, 120:280] = picture(160, 120)
    Image.fromarray(scene).save(tmp_path / "a room.png")
    result = painted(tmp_path / "a room.png", photographed)
    inner = (slice(3, -3), slice(3, -3))
    assert np.abs(result[inner].astype(float) - picture(80, 60)[inner]).max() < 8

    tall = np.zeros((400, 80, 3), np.uint8)
    tall[170:230] = picture(80, 60)
    Image.fromarray(tall).save(tmp_path / "tall.png")
    assert np.abs(painted(tmp_path / "tall.png", photographed).astype(float) - picture(80, 60)).max() < 1


def test_a_file_that_is_called_as_a_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(grey(9)).save(tmp_path / "red", format="png")
    monkeypatch.chdir(tmp_path)
    assert parse_background("red").kind == "colour"
    assert (painted("./red", PHOTOGRAPHED[0]) == 9).all()


def test_transparent_paints_nothing() -> None:
    background = parse_background("transparent")
    assert background.is_transparent and background.replacement(PHOTOGRAPHED[0]) is None
    assert not any(parse_background(word).is_transparent for word in ("keep", "blur", "#fff"))


@pytest.mark.parametrize("word", ["", "gone.png", "#12345", "#11223344", "no colour", "x" * 5000, "a\0b", "."])
def test_other_words_are_answered_with_what_can_be_given(word: str) -> None:
    with pytest.raises(UnreadableMediaError, match=r'Give "keep", "blur", "transparent", a colour .*path of a picture'):
        parse_background(word)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary,\n")
    with pytest.raises(UnreadableMediaError, match=r"notes\.txt is not a picture"):
        parse_background(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    "photographed", [picture()[..., 0], picture().astype(np.float64), np.zeros((4, 4, 4), np.uint8)]
)
def test_arrays_of_another_kind_are_the_programmers(photographed: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 or float32"):
        parse_background("blur").replacement(photographed)


def test_only_some_files_hold_transparency(tmp_path: Path) -> None:
    transparent = parse_background("transparent")
    sentence = r"^mp4 cannot hold transparency\. Give an output that ends in \.webm or \.mov\.$"
    with pytest.raises(OutputError, match=sentence):
        check_output(transparent, "ada.mp4")
    with pytest.raises(OutputError, match="ada cannot hold transparency"):
        check_output(transparent, Path("ada"))
    check_output(parse_background("keep"), "ada.mp4")
    for suffix in TRANSPARENT_SUFFIXES:
        check_output(transparent, f"ada{suffix.upper()}")
        with VideoWriter(tmp_path / f"ada{suffix}", 25) as writer:
            writer.write(np.zeros((48, 64, 4), np.uint8))


def test_words_are_understood_without_torch() -> None:
    program = (
        "import sys\n"
        "from talking_heads.media.background import parse_background\n"
        "parse_background('blur'), parse_background('red')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
