"""Regions of frames, cut out at one size to be compared, and the affine maps, (2, 3), by which they lie there."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def cut(frame: np.ndarray, to_frame: np.ndarray, shape: tuple[int, int], outside: float | None = None) -> np.ndarray:
    """A region of a frame, grey (h, w) of ``shape``; beyond the frame its edge goes on, or it is ``outside``.

    ``to_frame`` (2, 3): pixels of the region -> of the frame, without shear.
    """
    import cv2

    # Only what is needed is worked on; one that is much larger is averaged first, or sampling would alias.
    reduction = max(int(np.hypot(*to_frame[:, 0]) + 1e-6), 1)
    height, width = frame.shape[:2]
    corners = mapped(to_frame, np.array([[0, 0], [shape[1], 0], [0, shape[0]], [shape[1], shape[0]]], float))
    edge = 2 * reduction
    left, top = np.clip(corners.min(axis=0).astype(int) - edge, 0, np.maximum([width - edge, height - edge], 0))
    right, bottom = np.maximum(corners.max(axis=0), [left, top]).astype(int) + edge
    part = frame[top:bottom, left:right]
    if reduction > 1:
        part = cv2.resize(part, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    matrix = to_frame / reduction
    matrix[:, 2] = (to_frame[:, 2] - [left, top] + 0.5) / reduction - 0.5
    region = cv2.warpAffine(
        part, matrix, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT, borderValue=outside or 0,
    )  # fmt: skip
    return cv2.cvtColor(region, cv2.COLOR_RGB2GRAY) if region.ndim == 3 else region


def dense_flow() -> Any:
    """What computes the optical flow between two regions, ``calc(before, now, None)``; not for two threads at once."""
    import cv2

    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]


def inside(to_frame: np.ndarray, points: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """bool (N,): which points (N, 2) of a region lie in the frame (H, W, 3), and not beyond its edge."""
    height, width = frame.shape[:2]
    x, y = mapped(to_frame, points).T
    result: np.ndarray = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return result


def median_flow(
    flow: np.ndarray,
    pictures: tuple[np.ndarray, np.ndarray],
    pixels: np.ndarray,
    visible: np.ndarray,
    alike: float,
    least: float,
) -> np.ndarray | None:
    """How far ``pixels`` (N, 2) of a region have moved, (2,), by the optical ``flow`` (h, w, 2) between two grey
    ``pictures`` of it. None where less than the share ``least`` of them is ``visible``, bool (N,), and looks as before:
    within ``alike`` levels of 255, whatever the exposure does."""
    before, now = pictures
    x, y = pixels.T
    way = flow[y, x]
    change = sampled(now, pixels + way) - before[y, x]
    if visible.mean() < least:
        return None
    kept = visible & (np.abs(change - np.median(change[visible])) < alike)
    return np.median(way[kept], axis=0) if kept.mean() >= least else None


def sampled(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """float32 (N,): a grey picture at points (N, 2), between its pixels; beyond it its edge goes on."""
    result: np.ndarray = ndimage.map_coordinates(picture, points.T[::-1], np.float32, order=1, mode="nearest")
    return result


def contrast(picture: np.ndarray) -> np.ndarray:
    """float32 (h, w): levels of 255 by which neighbouring pixels of a grey picture differ."""
    import cv2

    result: np.ndarray = np.hypot(*np.gradient(cv2.GaussianBlur(picture, (3, 3), 0).astype(np.float32)))
    return result


def similarity(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(2, 3): the turn, scale and shift that bring points (N, 2) nearest to others, by least squares."""
    a, b = (points.astype(float) @ [1, 1j] for points in (start, end))
    factor = np.vdot(a - a.mean(), b - b.mean()) / max(float((np.abs(a - a.mean()) ** 2).sum()), 1e-9)
    shift = b.mean() - factor * a.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) through an affine map (2, 3) -> (N, 2)."""
    result: np.ndarray = points @ matrix[:, :2].T + matrix[:, 2]
    return result


def joined(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(2, 3): ``first``, then ``second``."""
    return np.column_stack([second[:, :2] @ first[:, :2], mapped(second, first[:, 2])])


def inverse(matrix: np.ndarray) -> np.ndarray:
    """(2, 3): the way back."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])
