"""What is behind the person: the background of the photo, something in its place, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps

from ..errors import OutputError, UnreadableMediaError
from .writing import TRANSPARENT_SUFFIXES

BLUR = 0.03
"""Sigma of the blur, in longer sides of the picture."""

_CHOICES = 'Give "keep", "blur", "transparent", a colour such as "#20a040" or "green", or the path of a picture.'


@dataclass(frozen=True, eq=False)
class Background:
    """What the user wants to see behind the person; ``parse_background`` makes it of a word."""

    kind: Literal["keep", "blur", "transparent", "colour", "picture"]
    colour: tuple[int, int, int] | None = None
    """RGB in 0..255, of the kind "colour"."""
    picture: np.ndarray | None = None
    """uint8 RGB (H, W, 3), of the kind "picture"."""

    @property
    def is_transparent(self) -> bool:
        """Whether frames need an alpha channel, and the film a suffix in TRANSPARENT_SUFFIXES."""
        return self.kind == "transparent"

    @property
    def keeps(self) -> bool:
        """Whether the photo's own background stays."""
        return self.kind == "keep"

    def replacement(self, original: np.ndarray) -> np.ndarray | None:
        """The photo's background, RGB (H, W, 3) -> what to paint in its place, of the same type and shape.

        ``original`` shows no person any more; it is uint8, or float32 in 0..255, and stays as it is ("keep" returns
        this very array). None where nothing shall be painted. Raises ValueError for arrays of another kind.
        """
        if original.dtype not in (np.uint8, np.float32) or original.ndim != 3 or original.shape[2] != 3:
            raise ValueError(f"expected uint8 or float32 (H, W, 3), got {original.dtype} {original.shape}")
        if self.is_transparent:
            return None
        if self.kind == "blur":
            return _blurred(original)
        if self.colour is not None:
            return np.full_like(original, self.colour)
        if self.picture is not None:
            height, width = original.shape[:2]
            fitted = ImageOps.fit(Image.fromarray(self.picture), (width, height), Image.Resampling.LANCZOS)
            return np.array(fitted, dtype=original.dtype)
        return original


def parse_background(text: str) -> Background:
    """The background that is called "keep", "blur", "transparent", as a CSS colour, or by the path of a picture.

    A word that is both a colour and a file is the colour; "./red" is the file. Raises UnreadableMediaError for anything
    else, and for a picture that cannot be read.
    """
    text = text.strip()
    for kind in ("keep", "blur", "transparent"):
        if text.lower() == kind:
            return Background(kind)
    colour = _colour(text)
    if colour is not None:
        return Background("colour", colour=colour)
    if not _is_file(text):
        raise UnreadableMediaError(f'"{text}" is neither a background nor a picture that exists. {_CHOICES}')
    from .images import read_photo  # brings torch

    return Background("picture", picture=read_photo(text))


def check_output(background: Background, path: str | Path) -> None:
    """Find out before the work, not after it, that the film at ``path`` cannot hold the background.

    Raises OutputError.
    """
    path = Path(path)
    if background.is_transparent and path.suffix.lower() not in TRANSPARENT_SUFFIXES:
        raise OutputError(
            f"{path.suffix[1:] or path.name} cannot hold transparency. "
            f"Give an output that ends in {' or '.join(TRANSPARENT_SUFFIXES)}."
        )


def _colour(text: str) -> tuple[int, int, int] | None:
    """RGB of a colour without transparency; None for anything else."""
    try:
        values = ImageColor.getrgb(text)
    except ValueError:
        return None
    return values if len(values) == 3 else None


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def _blurred(original: np.ndarray) -> np.ndarray:
    from scipy import ndimage  # takes its time

    sigma = BLUR * max(original.shape[:2])
    blurred = ndimage.gaussian_filter(original.astype(np.float32), (sigma, sigma, 0), mode="nearest", truncate=3)
    return blurred if original.dtype == np.float32 else np.rint(blurred).clip(0, 255).astype(np.uint8)
