"""Images: uint8 RGB (H, W, 3) at the border, float (B, 3, H, W) in [-1, 1] inside. Only this file knows 127.5."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import UnreadableMediaError
from ..files import check_writable, replacing

MAX_PHOTO_SIDE = 2048
"""Photos larger than this are reduced on reading: detection and 256 px crops gain nothing from more."""


def to_float(images: np.ndarray) -> Tensor:
    """uint8 RGB (H, W, 3) or (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise ValueError(f"expected uint8 (H, W, 3) or (B, H, W, 3), got {images.dtype} {images.shape}")
    batch = torch.from_numpy(np.ascontiguousarray(images)).reshape(-1, *images.shape[-3:])
    return batch.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W), nominally in [-1, 1] (clipped) -> uint8 RGB (B, H, W, 3)."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected (B, 3, H, W), got {tuple(images.shape)}")
    scaled = images.detach().float().add(1.0).mul_(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def read_photo(source: str | Path | Image.Image | np.ndarray, max_side: int = MAX_PHOTO_SIDE) -> np.ndarray:
    """A photo as people have them -> uint8 RGB (H, W, 3), upright, at most ``max_side`` pixels on its longer side.

    EXIF rotation is applied; CMYK, grey, palette and 16-bit images become RGB; transparency is laid on white.
    Raises UnreadableMediaError for anything that is not a picture.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(f"expected a uint8 RGB (H, W, 3) array, got {source.dtype} {source.shape}")
        image = Image.fromarray(source)
        return _shrink_and_convert(image, max_side)
    if isinstance(source, Image.Image):
        return _shrink_and_convert(source, max_side)
    path = Path(source)
    if not path.is_file():
        raise UnreadableMediaError(f"The photo {path} does not exist. Check the path.")
    try:
        with warnings.catch_warnings():
            # A large photo is no attack here: it is the user's own and is reduced at once.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (max_side, max_side))  # JPEG: decode at a fraction of the size
                return _shrink_and_convert(image, max_side)
    except UnidentifiedImageError:
        raise UnreadableMediaError(
            f"{path.name} is not a picture that can be read. Give a JPEG, PNG or WebP photo."
        ) from None
    except Image.DecompressionBombError:
        raise UnreadableMediaError(
            f"{path.name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels. Make it smaller."
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableMediaError(f"{path.name} is damaged and cannot be read ({error}). Save it again.") from error


def _shrink_and_convert(image: Image.Image, max_side: int) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        # 16-bit grey: Pillow's own convert("L") clips at 255 instead of scaling.
        levels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((levels / 257.0).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(np.asarray(image).clip(0, 255).astype(np.uint8))
    elif image.mode in ("1", "P", "PA"):  # palette entries cannot be averaged when the photo is reduced
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.array(image.convert("RGB"))


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, whole or not at all. Raises OutputError."""
    check_writable(path, (".png",))
    with replacing(Path(path)) as part:
        Image.fromarray(image).save(part)
