"""The landmark image y of the paper: landmarks as coloured lines on black, anti-aliased, as data and one function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .landmarks import NUM_LANDMARKS


@dataclass(frozen=True)
class Part:
    """A polyline through landmarks ``first..last`` (inclusive) in one colour."""

    name: str
    first: int
    last: int
    closed: bool
    colour: tuple[int, int, int]


PARTS = (
    Part("face oval", 0, 16, False, (255, 255, 255)),
    Part("right brow", 17, 21, False, (255, 0, 0)),
    Part("left brow", 22, 26, False, (0, 255, 0)),
    Part("nose bridge", 27, 30, False, (0, 0, 255)),
    Part("nose base", 31, 35, False, (0, 0, 255)),
    Part("right eye", 36, 41, True, (255, 0, 255)),
    Part("left eye", 42, 47, True, (0, 255, 255)),
    Part("outer lip", 48, 59, True, (255, 255, 0)),
    # Not in the co-author's code: without it an open mouth cannot be told from a closed one.
    Part("inner lip", 60, 67, True, (255, 128, 0)),
)
IRIS_COLOUR = (255, 255, 255)
# Widths at 256 px; both scale with the image.
LINE_WIDTH = 2.0
IRIS_RADIUS = 2.5


def _segments() -> tuple[np.ndarray, np.ndarray]:
    pairs, colours = [], []
    for part in PARTS:
        ids = list(range(part.first, part.last + 1))
        ends = ids[1:] + ([ids[0]] if part.closed else [])
        pairs += list(zip(ids, ends, strict=False))
        colours += [part.colour] * len(ends)
    pairs += [(68, 68), (69, 69)]  # an iris is a line without length: a dot
    colours += [IRIS_COLOUR] * 2
    return np.array(pairs), np.array(colours, dtype=np.float32)


_SEGMENTS, _COLOURS = _segments()


def draw_landmarks(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Landmarks in pixels of a ``size`` x ``size`` image, (L, 2) or (B, L, 2) -> uint8 (size, size, 3) or a batch.

    Each line covers a pixel by its distance to the pixel's centre; where lines cross, the brighter value stays, so
    that the picture does not depend on the order of drawing. Points outside of the image are cut off.
    """
    if landmarks.shape[-2:] != (NUM_LANDMARKS, 2):
        raise ValueError(f"expected (..., {NUM_LANDMARKS}, 2), got {landmarks.shape}")
    if landmarks.ndim == 3:
        return np.stack([draw_landmarks(face, size) for face in landmarks])
    unit = size / 256.0
    radii = np.full(len(_SEGMENTS), 0.5 * LINE_WIDTH * unit, dtype=np.float32)
    radii[-2:] = IRIS_RADIUS * unit
    radii = np.maximum(radii, 0.5)  # thinner lines would fade instead of shrinking
    starts, ends = landmarks[_SEGMENTS[:, 0]], landmarks[_SEGMENTS[:, 1]]
    low = np.floor(np.minimum(starts, ends) - radii[:, None] - 1).clip(0, size).astype(int)
    high = np.ceil(np.maximum(starts, ends) + radii[:, None] + 2).clip(0, size).astype(int)
    # All pixels of all boxes around lines, in one row: numbers of their lines, then their places.
    widths, heights = (high - low).clip(0, None).T
    counts = widths * heights
    line = np.repeat(np.arange(len(counts)), counts)
    rows, columns = np.divmod(np.arange(len(line)) - (counts.cumsum() - counts)[line], widths[line])
    x, y = columns + low[line, 0], rows + low[line, 1]
    along = ends - starts
    dx, dy = x.astype(np.float32) - starts[line, 0], y.astype(np.float32) - starts[line, 1]
    length = np.maximum((along * along).sum(axis=1), np.float32(1e-6))
    t = ((dx * along[line, 0] + dy * along[line, 1]) / length[line]).clip(0.0, 1.0)
    distance = np.hypot(dx - t * along[line, 0], dy - t * along[line, 1])
    cover = (radii[line] + np.float32(0.5) - distance).clip(0.0, 1.0)
    near = cover > 0
    line, cover, pixel = line[near], cover[near], (y * size + x)[near]
    canvas = np.zeros((3, size * size), dtype=np.float32)
    for plane, colour in zip(canvas, _COLOURS.T, strict=True):
        np.maximum.at(plane, pixel, cover * colour[line])
    return np.ascontiguousarray(np.round(canvas).astype(np.uint8).reshape(3, size, size).transpose(1, 2, 0))
