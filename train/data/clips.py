"""A prepared clip: one person's face, cropped as at inference, with margins, masks and landmarks, in one file.

Each frame is a canvas: the crop and a margin around it, as ``talking_heads.head`` takes photos apart. ``<name>.npz``,
not compressed (its frames already are): ``jpeg`` uint8, all canvases one behind the other; ``offsets`` int64 (T + 1,)
into it; ``masks`` and ``mask_offsets``, the same of the masks of the person, grey; ``landmarks`` float32 (T, L, 2) in
sides of the crop; ``meta`` a JSON text.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from talking_heads.errors import UnreadableMediaError
from talking_heads.head.photo import MARGIN, REACH
from talking_heads.landmarks import NUM_LANDMARKS
from talking_heads.tracking.crops import Crop

from ..files import written_beside

FORMAT_VERSION = 3


@dataclass(frozen=True)
class ClipMeta:
    """Facts on a clip beside its pixels."""

    person: str
    """Clips of one person share it; an episode takes its shots from a clip of one person. Files call it identity."""
    source: str
    """File that the clip came from, relative to the folder that was prepared."""
    split: str = "train"
    fps: float = 25.0
    licence: str = ""
    kind: str = "video"
    """"video", "stills" (unordered photos of one person), or "animated" (a photo in frame 0, and drawn from it)."""
    extra: dict[str, float] = field(default_factory=dict)
    """Measured qualities, for filtering: face size in pixels, sharpness, share of frames in which a face was seen."""

    def to_record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"identity" if name == "person" else name: value for name, value in asdict(self).items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ClipMeta:
        """From what ``to_record`` gave. Raises TypeError for anything else."""
        return cls(**{"person" if name == "identity" else name: value for name, value in {**record}.items()})


@dataclass(frozen=True)
class Clip:
    """A clip in memory: canvases and masks stay compressed until they are asked for."""

    jpeg: np.ndarray
    offsets: np.ndarray
    masks: np.ndarray
    mask_offsets: np.ndarray
    landmarks: np.ndarray
    """float32 (T, L, 2) in sides of the crop, of which the middles of the first and last pixel are not 0 and 1."""
    meta: ClipMeta

    def __len__(self) -> int:
        return len(self.landmarks)

    def frame(self, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop, uint8 RGB (size, size, 3), and landmarks float32 (L, 2) in its pixels."""
        edge = canvas_margin(size)
        canvas = self.canvas(index, size)
        return canvas[edge : edge + size, edge : edge + size].copy(), self.landmarks[index] * size - np.float32(0.5)

    def canvas(self, index: int, size: int) -> np.ndarray:
        """uint8 RGB (C, C, 3): the crop at ``size`` pixels a side, and its margins; C is ``canvas_side(size)``."""
        return _decoded(self.jpeg[self.offsets[index] : self.offsets[index + 1]], "RGB", canvas_side(size))

    def mask(self, index: int, size: int) -> np.ndarray:
        """uint8 (C, C): 255 where the canvas shows the person."""
        return _decoded(self.masks[self.mask_offsets[index] : self.mask_offsets[index + 1]], "L", canvas_side(size))


def canvas_side(size: int) -> int:
    """Pixels of the canvas around a crop of ``size`` pixels."""
    return size + 2 * canvas_margin(size)


def canvas_margin(size: int) -> int:
    """Pixels between the edge of the canvas and that of a crop of ``size`` pixels."""
    return round(MARGIN * size)


def widened(crop: Crop) -> Crop:
    """The part of a picture that the canvas shows, from the crop."""
    return Crop(crop.x, crop.y, crop.side * REACH, crop.angle)


def in_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Landmarks (..., 2) in pixels of a crop of ``size`` -> float32, in sides of the crop."""
    return ((pixels + 0.5) / size).astype(np.float32)


def cut_mask(crop: Crop, mask: np.ndarray, size: int) -> np.ndarray:
    """A person's mask, float (H, W) in 0..1 of a picture -> uint8 (size, size) of a part of it."""
    grey = (mask * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return crop.cut(np.repeat(grey[..., None], 3, axis=2), size)[..., 0]


def _decoded(data: np.ndarray, mode: str, size: int) -> np.ndarray:
    """Bytes of a picture -> uint8 (size, size, ...), a copy."""
    with Image.open(io.BytesIO(data.tobytes())) as image:
        image.draft(mode, (size, size))  # decodes at a fraction of the size where that is enough
        smooth = Image.Resampling.BOX if image.width % size == 0 else Image.Resampling.BICUBIC
        return np.array(image.convert(mode).resize((size, size), smooth))


def make_clip(
    canvases: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
    landmarks: np.ndarray,
    meta: ClipMeta,
) -> Clip:
    """A clip of T square uint8 canvases (C, C, 3), masks uint8 (C, C) and landmarks (T, L, 2) in sides of the crop, or
    ValueError."""
    if not len(canvases) == len(masks) == len(landmarks) > 0 or landmarks.shape[1:] != (NUM_LANDMARKS, 2):
        raise ValueError(
            f"{len(canvases)} frames, {len(masks)} masks and landmarks {landmarks.shape} do not make a clip"
        )
    jpeg, offsets = _joined([_encoded(canvas, 95) for canvas in canvases])
    grey, mask_offsets = _joined([_encoded(_half(mask), 90) for mask in masks])
    return Clip(jpeg, offsets, grey, mask_offsets, landmarks.astype(np.float32), meta)


def _half(mask: np.ndarray) -> np.ndarray:
    """Masks are soft: half the pixels hold them."""
    return np.asarray(Image.fromarray(mask).reduce(2))


def _encoded(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def _joined(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenates parts, and gives where each begins, with the end."""
    return np.concatenate(parts), np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)


def save_clip(
    path: Path,
    canvases: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
    landmarks: np.ndarray,
    meta: ClipMeta,
) -> None:
    """Writes what make_clip makes."""
    write_clip(path, make_clip(canvases, masks, landmarks, meta))


ARRAYS = ("jpeg", "offsets", "masks", "mask_offsets", "landmarks")
"""Names of a clip's arrays, here and in files."""


def write_clip(path: Path, clip: Clip) -> None:
    """One file for a clip, whole or not at all."""
    text = json.dumps({"format": FORMAT_VERSION, **clip.meta.to_record()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, meta=np.array(text), **{name: getattr(clip, name) for name in ARRAYS})


def load_clip(path: Path) -> Clip:
    """Reads one clip. Raises UnreadableMediaError for a file that is none, or of another format."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            meta = dict(json.loads(str(data["meta"])))
            version = meta.pop("format", 0)
            arrays = {name: data[name] for name in ARRAYS} if version == FORMAT_VERSION else {}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UnreadableMediaError(
            f"{path} is not a prepared clip ({error}). Run python -m train.prepare again."
        ) from error
    if version > FORMAT_VERSION:
        raise UnreadableMediaError(f"{path} was prepared by a newer version. Update this software.")
    if version < FORMAT_VERSION:
        raise UnreadableMediaError(f"{path} was prepared by an older version. Run python -m train.prepare again.")
    try:
        return Clip(**arrays, meta=ClipMeta.from_record(meta))
    except TypeError:
        raise UnreadableMediaError(f"{path} is not a prepared clip: its description is not one.") from None
