"""Marks in the pixels: the visible label and the invisible watermark, written and found again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LABEL = "AI-generated"
"""Text of the visible label."""


def marked(frames: Iterable[np.ndarray], *, label: bool, invisible: bool = True) -> Iterator[np.ndarray]:
    """The frames, uint8 RGB (H, W, 3) or RGBA (H, W, 4) of one size, with marks on copies of them, one by one.

    ``label`` writes "AI-generated" into the upper right corner, which is opaque there; elsewhere alpha stays as it is.
    ``invisible`` hides 32 bits in the colours of the
    middle of the frame, at most 512 x 512 pixels. From 256 x 256 pixels on they outlast H.264 at crf 28; smaller frames
    carry them with less to spare, and frames with fewer than 32 blocks of 16 x 16 pixels not at all.
    """
    held: np.ndarray | None = None
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (3, 4):
            raise ValueError(f"expected uint8 (H, W, 3) or (H, W, 4), got {frame.dtype} {frame.shape}")
        height, width = frame.shape[:2]
        # Even, as the video will be: the middle must be the same for who looks for the mark.
        image = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if label:
            _draw_label(image)
        if invisible:
            held = _embed(image[..., :3], held)
        yield image[:height, :width]


def marked_picture(picture: np.ndarray, *, label: bool) -> np.ndarray:
    """Marks one frame, as ``marked`` does."""
    return next(marked([picture], label=label))


def _draw_label(image: np.ndarray) -> None:
    """Blends the label into ``image`` (H, W, 3) or (H, W, 4)."""
    alpha, colour = _label(image.shape[0], image.shape[1])
    height, width = alpha.shape[:2]
    margin = min(image.shape[0] - height, image.shape[1] - width, height // 3)
    corner = image[margin : margin + height, image.shape[1] - width - margin : image.shape[1] - margin]
    if image.shape[2] == 4:
        corner[:] = _opaque(corner, alpha, colour)
    else:
        corner[:] = (corner * (255 - alpha) + colour + 127) // 255


def _opaque(corner: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """RGBA (h, w, 4) with the label (see ``_label``) over it, and black behind the label where one would look through.

    What a transparent pixel hides does not show under the label.
    """
    own = corner[..., 3:] / 255
    pill = np.minimum(alpha / _PILL, 1)
    total = own + pill - own * pill
    seen = corner[..., :3] * own * (1 - alpha / 255) + colour / 255
    labelled = np.concatenate([seen / np.maximum(total, 1e-6), 255 * total], axis=-1)
    return np.where(alpha > 0, np.rint(labelled).clip(0, 255), corner).astype(np.uint8)


_PILL = 150  # alpha of what lies behind the label's letters


@cache
def _label(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The label for frames of this size: alpha in 0..255 and RGB times alpha, uint16 (h, w, 1) and (h, w, 3)."""
    font = ImageFont.load_default(max(13, min(height, width) // 20))
    left, top, right, bottom = font.getbbox(LABEL)
    space = round(0.35 * (bottom - top))
    pill = Image.new("RGBA", (math.ceil(right - left) + 4 * space, math.ceil(bottom - top) + 2 * space), (0, 0, 0, 0))
    draw = ImageDraw.Draw(pill)
    draw.rounded_rectangle((0, 0, pill.width - 1, pill.height - 1), radius=pill.height / 2, fill=(0, 0, 0, _PILL))
    draw.text((2 * space - left, space - top), LABEL, fill=(255, 255, 255, 255), font=font)
    pill.thumbnail((width, height))  # for frames smaller than the label
    pixels = np.asarray(pill).astype(np.uint16)
    alpha = pixels[..., 3:]
    return alpha, pixels[..., :3] * alpha


# --------------------------------------------------------------------------------------------------------- invisible
#
# The method is dwtDctSvd of the library invisible-watermark, with its parameters block=8 and scales=[0, 72, 0]: in each
# 8 x 8 block of the Haar approximation of U, which is 16 x 16 pixels, the largest singular value s becomes 18 (bit 0)
# or 54 (bit 1) modulo 72; bit k of the payload is in blocks k, k + 32, ... The library reads them. It does not write
# them: it takes one block at a time, eight times as long, and exchanges horizontal and vertical details of U on the way
# back, which shows at edges. Its DCT does not change singular values and is left out.

_PAYLOAD = np.unpackbits(np.frombuffer(hashlib.sha256(b"talking_heads").digest()[:4], np.uint8))
_STEP = 72
_BLOCK = 8
_CELL = 2 * _BLOCK  # pixels
_REGION = 512  # pixels
_HOLD = 0.6 * _STEP  # a value this near to the previous frame's stays there: less flicker
_U = np.array([-0.147, -0.289, 0.436], np.float32)
_U_TO_GREEN, _U_TO_BLUE = -0.395, 2.032


def _region(height: int, width: int) -> tuple[slice, slice] | None:
    """The middle of a frame, in whole blocks; None where it has not one for each bit."""
    rows, columns = (min(side, _REGION) // _CELL * _CELL for side in (height, width))
    if rows * columns < _PAYLOAD.size * _CELL**2:
        return None
    y, x = (height - rows) // 4 * 2, (width - columns) // 4 * 2  # even: the chroma of 4:2:0 stays together
    return slice(y, y + rows), slice(x, x + columns)


def _embed(image: np.ndarray, held: np.ndarray | None) -> np.ndarray | None:
    """Writes the payload into ``image`` (H, W, 3) and returns the singular values; ``held`` are the last frame's."""
    region = _region(*image.shape[:2])
    if region is None:
        return None
    pixels = image[region]
    rows, columns = pixels.shape[0] // _CELL, pixels.shape[1] // _CELL
    approximation = _approximation(pixels)
    blocks = approximation.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)
    left, values, right = _first_singular(blocks)
    offset = 0.25 + 0.5 * np.resize(_PAYLOAD, len(values))
    goal = (np.rint(values / _STEP - offset) + offset) * _STEP
    if held is not None:
        goal = np.where(np.abs(values - held) < _HOLD, held, goal)
    change = (goal - values).astype(np.float32)[:, None, None] * left @ right.transpose(0, 2, 1) / 2
    change = change.reshape(rows, columns, _BLOCK, _BLOCK).transpose(0, 2, 1, 3).reshape(approximation.shape)
    change = change.repeat(2, axis=0).repeat(2, axis=1)
    green, blue = pixels[..., 1] + _U_TO_GREEN * change, pixels[..., 2] + _U_TO_BLUE * change
    # Where a channel leaves 0..255 the pixel becomes darker or lighter instead of losing the change of U.
    beyond = np.minimum(np.minimum(green, blue), 0) + np.maximum(np.maximum(green, blue) - 255, 0)
    for channel, level in enumerate((pixels[..., 0], green, blue)):
        pixels[..., channel] = np.rint(level - beyond).clip(0, 255)
    return goal


def _approximation(pixels: np.ndarray) -> np.ndarray:
    """Pixels (2h, 2w, 3) -> the Haar approximation of their U, float32 (h, w)."""
    pairs = pixels[::2].astype(np.uint16) + pixels[1::2]
    return (pairs[:, ::2] + pairs[:, 1::2]) @ (_U / 2) + 256


def _first_singular(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks (N, n, n) of positive numbers -> left vectors (N, n, 1), largest singular values (N,), right vectors.

    By power iteration; the second value is so much smaller, the blocks being nearly constant, that two rounds do.
    """
    right = np.ones((*blocks.shape[:2], 1), blocks.dtype)
    for _ in range(2):
        left = blocks @ right
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        right = blocks.transpose(0, 2, 1) @ left
        values = np.linalg.norm(right, axis=1, keepdims=True)
        right /= values
    return left, values[:, 0, 0], right


def watermark_agreement(frames: Iterable[np.ndarray]) -> tuple[float, int]:
    """Share of the payload's bits that a vote of all blocks of all frames gets right, and the number of frames."""
    from imwatermark.dwtDctSvd import EmbedDwtDctSvd  # brings torch

    decoder = EmbedDwtDctSvd(wmLen=_PAYLOAD.size, block=_BLOCK)
    votes: list[list[int]] = [[] for _ in _PAYLOAD]
    count = 0
    for frame in frames:
        region = _region(*frame.shape[:2])
        if region is not None:
            decoder.decode_frame(_approximation(frame[region]), _STEP, votes)
        count += 1
    if not votes[0]:
        return 0.0, count
    bits = np.array([np.mean(scores) > 0.5 for scores in votes])
    return float(np.mean(bits == _PAYLOAD)), count
