"""Photos as people have them, and the one conversion between the two image forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media import picture
from PIL import Image

from talking_heads.errors import UnreadableMediaError
from talking_heads.media.images import read_photo, to_float, to_uint8


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def write_png_16(path: Path, levels: np.ndarray) -> Path:
    """A 16-bit PNG by hand, grey (H, W) or RGB (H, W, 3): Pillow writes no 16-bit colour."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


# --------------------------------------------------------------------------------------------------------- conversion


def test_every_level_survives_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    inside = to_float(levels)
    assert inside.shape == (1, 3, 16, 16)
    assert inside.dtype == torch.float32
    assert (inside.min(), inside.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(inside), levels)
    np.testing.assert_array_equal(to_uint8(inside.half()), levels)


def test_one_image_becomes_a_batch_of_one_and_channels_keep_their_order() -> None:
    inside = to_float(picture(6, 4))
    assert inside.shape == (1, 3, 4, 6)
    assert inside[0, 0, 0, -1] == 1.0  # red grows to the right
    assert inside[0, 1, -1, 0] == 1.0  # green downwards
    np.testing.assert_array_equal(to_uint8(inside)[0], picture(6, 4))


def test_values_beyond_the_range_are_clipped() -> None:
    assert to_uint8(torch.tensor([-3.0, 1.5, 0.0]).reshape(1, 3, 1, 1)).ravel().tolist() == [0, 255, 128]


def test_nothing_is_shared_and_gradients_are_left_behind() -> None:
    image = picture(4, 4)
    to_float(image).zero_()
    np.testing.assert_array_equal(image, picture(4, 4))
    assert to_uint8(torch.zeros(1, 3, 2, 2, requires_grad=True)).flags.writeable


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_arrays_are_the_programmers_mistake(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        to_float(wrong)
    with pytest.raises(ValueError, match="expected a uint8 RGB"):
        read_photo(wrong)
    with pytest.raises(ValueError, match="expected"):
        to_uint8(torch.zeros(3, 4, 4))


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The file holds the picture as the sensor saw it; the tag says how it is to be shown."""
    shown = Image.fromarray(picture(64, 48))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = shown.transpose(back[orientation]) if orientation in back else shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    got = read_photo(tmp_path / "photo.jpg")
    assert got.shape == (48, 64, 3)
    assert difference(got, picture(64, 48)) < 2


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "photo.jpg", quality=95)
    assert difference(read_photo(tmp_path / "photo.jpg"), picture()) < 4


def test_16_bit_levels_are_scaled_not_clipped(tmp_path: Path) -> None:
    wide = picture().astype(np.uint16) * 257
    grey = read_photo(write_png_16(tmp_path / "grey.png", wide[..., 0]))
    np.testing.assert_array_equal(grey, picture()[..., :1].repeat(3, axis=2))
    np.testing.assert_array_equal(read_photo(write_png_16(tmp_path / "colour.png", wide)), picture())


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_black_and_white(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "photo.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.full((48, 64), 255, np.uint8)])
    rgba[:, :32, 3] = 0
    rgba[:, 32:40, 3] = 51
    Image.fromarray(rgba).save(tmp_path / "photo.png")
    got = read_photo(tmp_path / "photo.png")
    assert (got[:, :32] == 255).all()
    np.testing.assert_array_equal(got[:, 40:], picture()[:, 40:])
    assert difference(got[:, 32:40], 0.2 * picture()[:, 32:40] + 0.8 * 255) < 1


def test_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8).repeat(8, 0).repeat(8, 1)).convert("P")
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.save(tmp_path / "photo.png", transparency=0)
    got = read_photo(tmp_path / "photo.png")
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[0, -1].tolist() == [10, 200, 10]


def test_palette_photos_are_reduced_smoothly(tmp_path: Path) -> None:
    fine = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (64, 64))  # a chessboard: its mean is grey
    Image.fromarray(fine).convert("RGB").quantize(2).save(tmp_path / "photo.png")
    assert difference(read_photo(tmp_path / "photo.png", max_side=32), np.float64(127.5)) < 10


def test_huge_photos_are_reduced(tmp_path: Path) -> None:
    tall = np.tile(np.linspace(0, 255, 12_000).astype(np.uint8)[:, None, None], (1, 3_000, 3))
    Image.fromarray(tall).save(tmp_path / "photo.jpg", quality=80)
    got = read_photo(tmp_path / "photo.jpg")
    assert got.shape == (2048, 512, 3)
    assert difference(got[:, :, 0], np.linspace(0, 255, 2048)[:, None]) < 2
    assert read_photo(tmp_path / "photo.jpg", max_side=100).shape == (100, 25, 3)


def test_small_photos_keep_their_size_and_pixels() -> None:
    for source in (picture(), Image.fromarray(picture())):
        np.testing.assert_array_equal(read_photo(source), picture())
    assert max(read_photo(picture(), max_side=32).shape) == 32


@pytest.mark.parametrize("kind", ["text", "empty", "truncated jpg", "truncated png", "broken header", "clip"])
def test_what_is_no_picture_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("me.png" if "png" in kind else "me.jpg")
    Image.fromarray(picture(640, 480)).save(path)
    whole = path.read_bytes()
    content = {
        "text": b"this is not a photo",
        "empty": b"",
        "truncated jpg": whole[: len(whole) // 2],
        "truncated png": whole[: len(whole) // 2],
        "broken header": whole[:20] + bytes(len(whole) - 20),
        "clip": b"\0\0\0\x18ftypmp42" + bytes(200),
    }
    path.write_bytes(content[kind])
    with pytest.raises(UnreadableMediaError, match=r"me\.(jpg|png) is (not a picture|damaged)"):
        read_photo(path)


def test_a_missing_photo_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nobody.jpg", tmp_path):
        with pytest.raises(UnreadableMediaError, match=r"does not exist\. Check the path\."):
            read_photo(path)


def test_more_pixels_than_are_safe_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(picture()).save(tmp_path / "me.png")
    with pytest.raises(UnreadableMediaError, match="million pixels"):
        read_photo(tmp_path / "me.png")
