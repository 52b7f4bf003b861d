"""The clip file: what goes in comes out, a clip is there whole or not at all, and foreign files are told in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from people import CROP, cropped, write_people

from talking_heads.errors import UnreadableMediaError
from talking_heads.landmarks import NUM_LANDMARKS
from train.data.clips import FORMAT_VERSION, ClipMeta, canvas_margin, canvas_side, in_crop, load_clip, save_clip
from train.data.store import load_clips

META = ClipMeta("ada", "ada/1.mp4", "validation", 29.97, "CC BY 4.0", "video", {"sharpness": 7.5})


def test_a_clip_comes_back_as_it_was_saved(tmp_path: Path):
    canvases, masks, landmarks = cropped(3, 1.0)
    save_clip(tmp_path / "deep" / "ada.npz", canvases, masks, landmarks, META)
    clip = load_clip(tmp_path / "deep" / "ada.npz")
    assert clip.meta == META
    assert len(clip) == 3
    for k in range(3):
        image, points = clip.frame(k, CROP)
        assert image.dtype == np.uint8 and image.shape == (CROP, CROP, 3)
        edge = canvas_margin(CROP)
        assert np.abs(image.astype(int) - canvases[k, edge:-edge, edge:-edge]).mean() < 2.0  # JPEG
        assert np.abs(clip.canvas(k, CROP).astype(int) - canvases[k]).mean() < 2.0
        assert np.abs(clip.mask(k, CROP).astype(int) - masks[k]).mean() < 3.0  # half the pixels
        assert points.dtype == np.float32
        np.testing.assert_allclose(points, landmarks[k] * CROP - 0.5, atol=1e-4)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ada.npz"]


@pytest.mark.parametrize("size", [192, 96, 64, 48, 40, 24])
def test_landmarks_stay_on_their_pixels_at_every_size(tmp_path: Path, size: int):
    """A dark disc is found where its landmark says, also where JPEG decodes at a fraction of the size."""
    side = canvas_side(CROP)
    y, x = np.mgrid[:side, :side] - canvas_margin(CROP)
    spot = np.array([61.0, 34.0])
    dark = np.hypot(x - spot[0], y - spot[1]) < 8
    frame = np.where(dark[..., None], 0, 255).astype(np.uint8).repeat(3, axis=2)
    unit = np.tile(in_crop(spot, CROP), (1, NUM_LANDMARKS, 1))
    save_clip(tmp_path / "spot.npz", [frame], [frame[..., 0]], unit, META)
    clip = load_clip(tmp_path / "spot.npz")
    image, points = clip.frame(0, size)
    assert image.shape == (size, size, 3)
    assert clip.canvas(0, size).shape == (canvas_side(size), canvas_side(size), 3)
    assert np.abs(clip.mask(0, size).astype(int) - clip.canvas(0, size)[..., 0]).mean() < 10
    weight = 255.0 - image[..., 0]
    y, x = np.mgrid[:size, :size]
    centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(points[0], centre, atol=0.02 * size / 10 + 0.05)


def test_frames_do_not_share_memory_with_the_clip(tmp_path: Path):
    people = cropped(3, 1.0)
    save_clip(tmp_path / "ada.npz", *people, META)
    clip = load_clip(tmp_path / "ada.npz")
    image, points = clip.frame(1, CROP)
    image[:], points[:] = 0, 0
    assert clip.frame(1, CROP)[0].any() and clip.landmarks[1].all()


@pytest.mark.parametrize(
    ("number", "shape"),
    [(0, (0, NUM_LANDMARKS, 2)), (2, (3, NUM_LANDMARKS, 2)), (3, (3, 68, 2))],
    ids=["empty", "uneven", "68 points"],
)
def test_what_is_no_clip_is_not_written(tmp_path: Path, number: int, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="do not make a clip"):
        save_clip(
            tmp_path / "x.npz", *(part[:number] for part in cropped(3, 1.0)[:2]), np.zeros(shape, np.float32), META
        )
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_old_clip_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    people = cropped(3, 1.0)
    save_clip(tmp_path / "ada.npz", *people, META)
    before = (tmp_path / "ada.npz").read_bytes()

    def full_disk(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_clip(tmp_path / "ada.npz", *(part[:1] for part in people), META)
    assert [path.name for path in tmp_path.iterdir()] == ["ada.npz"]
    assert (tmp_path / "ada.npz").read_bytes() == before


def test_foreign_and_damaged_files_are_named(tmp_path: Path):
    save_clip(tmp_path / "whole.npz", *cropped(3, 1.0), META)
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "foreign.npz", weights=np.zeros(3))
    parts = {"jpeg": np.zeros(1, np.uint8), "offsets": np.zeros(2, int), "landmarks": np.zeros((1, NUM_LANDMARKS, 2))}
    parts |= {"masks": parts["jpeg"], "mask_offsets": parts["offsets"]}
    np.savez(tmp_path / "other.npz", meta=np.array(json.dumps({"format": FORMAT_VERSION, "colour": "red"})), **parts)
    np.savez(tmp_path / "listed.npz", meta=np.array("[1, 2]"), **parts)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name, data in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"hello"), ("zip", b"PK\3\4abcd")):
        (tmp_path / f"{name}.npz").write_bytes(data)
    for name in ("foreign", "other", "listed", "array", "cut", "empty", "text", "zip", "absent"):
        with pytest.raises(UnreadableMediaError, match=rf"{name}.npz is not a prepared clip"):
            load_clip(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(("step", "word"), [(1, "newer"), (-1, "older")])
def test_another_format_is_refused(tmp_path: Path, step: int, word: str):
    parts = {"jpeg": np.zeros(1, np.uint8), "offsets": np.zeros(2, int), "landmarks": np.zeros((1, NUM_LANDMARKS, 2))}
    text = json.dumps({"format": FORMAT_VERSION + step, "identity": "ada", "source": "", "new": True})
    np.savez(tmp_path / "other.npz", meta=np.array(text), **parts)
    with pytest.raises(UnreadableMediaError, match=f"{word} version"):
        load_clip(tmp_path / "other.npz")


def test_clips_come_in_the_order_of_their_names_and_by_split(tmp_path: Path):
    write_people(tmp_path)
    assert [clip.meta.source for clip in load_clips(tmp_path)] == ["ada1.mp4", "ada2.mp4", "bob.mp4", "cy.mp4"]
    assert [clip.meta.person for clip in load_clips(tmp_path, "validation")] == ["dora"]
    assert len(load_clips(tmp_path, None)) == 5
    with pytest.raises(UnreadableMediaError, match="no prepared clips"):
        load_clips(tmp_path, "test")
    with pytest.raises(UnreadableMediaError, match="no prepared clips"):
        load_clips(tmp_path / "absent")
