"""The baseline ``warp`` of ``train.evaluate``: the photo, bent so that its landmarks lie where they should.

A thin-plate spline through the landmarks (Bookstein, 1989), with nothing learned. Photos are float (B, 3, H, H) in
[-1, 1], landmarks (B, L, 2) in pixels of that size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from talking_heads.landmarks import INNER_LIP, LEFT_EYE, NUM_LANDMARKS, OUTER_LIP, RIGHT_EYE

GRID = 33
"""The spline is solved on GRID x GRID points and enlarged: its curvature between them is below a pixel."""
_BORDER_STEPS = 4
_SMOOTHNESS, _LEAST_SMOOTHNESS = 6e-3, 2e-4
"""The spline passes the landmarks by a pixel or so, for a smoother face: they are detected, not known. But lids and
lips that close must meet: see ``_smoothness``."""
_LEAST_GAP = 0.15
"""Share of a photo's opening that the warp leaves where lids or lips close. A smooth map cannot bring an upper and a
lower lid to one place: it would squeeze the open eye between them."""
_STIFFNESS = 100.0
"""Far above what the kernel, at most one in size, can sum to."""


class _Opening(NamedTuple):
    """An eye or the mouth: points that meet when it closes, the corners, and the iris of an eye."""

    outline: slice
    upper: list[int]
    lower: list[int]
    first: int
    last: int
    iris: int | None = None


_OPENINGS = (
    _Opening(RIGHT_EYE, [37, 38], [41, 40], 36, 39, 68),
    _Opening(LEFT_EYE, [43, 44], [47, 46], 42, 45, 69),
    _Opening(slice(OUTER_LIP.start, INNER_LIP.stop), [61, 62, 63], [67, 66, 65], 48, 54),
)


def warp_photo(photos: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Photos (B, 3, H, H) whose landmarks are ``source`` (B, L, 2) as if they were ``target``."""
    if source.shape[-2:] != (NUM_LANDMARKS, 2) or source.shape != target.shape or len(photos) != len(source):
        raise ValueError(f"shapes do not fit: {tuple(photos.shape)}, {tuple(source.shape)}, {tuple(target.shape)}")
    size = photos.shape[-1]
    # From the centre of the first pixel to that of the last: enlarged with aligned corners, it meets every centre.
    reached = _left_ajar(source, target)
    coarse = thin_plate_grid((source + 0.5) / size, (reached + 0.5) / size, margin=0.5 / size)  # (B, g, g, 2)
    # Bicubic enlargement bends straight lines by a third of a pixel, so it gets the displacements only.
    shift = (coarse - regular_grid(GRID, 0.5 / size, coarse)).permute(0, 3, 1, 2)
    shift = F.interpolate(shift, size=(size, size), mode="bicubic", align_corners=True)
    return displaced(photos, shift).clamp(-1, 1)  # bicubic curves overshoot


def displaced(images: Tensor, shift: Tensor) -> Tensor:
    """Images (B, C, H, H) looked up at each pixel's place + ``shift`` (B, 2, H, H), x and y in sides of the image."""
    places = regular_grid(images.shape[-1], 0.5 / images.shape[-1], shift) + shift.permute(0, 2, 3, 1)
    return F.grid_sample(images, 2 * places - 1, mode="bicubic", padding_mode="reflection", align_corners=False)


def thin_plate_grid(source: Tensor, target: Tensor, grid: int = GRID, margin: float = 0.0) -> Tensor:
    """Where to look in the source for each point of the target.

    ``source`` and ``target``: landmarks (B, L, 2) in [0, 1] of the image's side. Returns (B, grid, grid, 2): for the
    regular grid over the target (corners at ``margin`` and 1 - ``margin``), positions (x, y) in the source, in [0, 1]
    where inside.
    """
    border = _border_points().to(source).expand(len(source), -1, -1)
    controls = torch.cat([target, border], dim=1)  # (B, n, 2)
    values = torch.cat([source, border], dim=1).double()
    affine = torch.cat([torch.ones_like(controls[..., :1]), controls], dim=-1).double()  # (B, n, 3)
    # Where affine^T w = 0 holds, as it does for a spline's weights w, the kernel is positive definite, and a multiple
    # of affine affine^T changes nothing: with it, it is so everywhere, and Cholesky's factors will do.
    kernel = _radial(controls, controls) + _STIFFNESS * affine @ affine.mT
    smoothness = F.pad(_smoothness(source, target), (0, border.shape[1]), value=_LEAST_SMOOTHNESS)
    kernel.diagonal(dim1=1, dim2=2).add_(smoothness)
    solved = torch.cholesky_solve(torch.cat([values, affine], dim=2), torch.linalg.cholesky(kernel))
    linear = torch.linalg.solve(affine.mT @ solved[..., 2:], affine.mT @ solved[..., :2])  # (B, 3, 2)
    weights = solved[..., :2] - solved[..., 2:] @ linear  # (B, n, 2)
    points = regular_grid(grid, margin, source).reshape(1, -1, 2).double()
    bent = _radial(points.expand(len(source), -1, -1), controls) @ weights
    return (bent + linear[:, :1] + points @ linear[:, 1:]).reshape(-1, grid, grid, 2).to(source)


def regular_grid(grid: int, margin: float, like: Tensor) -> Tensor:
    """(grid, grid, 2): positions (x, y) from ``margin`` to 1 - ``margin``."""
    steps = torch.linspace(margin, 1 - margin, grid, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)


def _border_points() -> Tensor:
    """Points on the frame of the unit square that the warp leaves where they are, (16, 2) in [0, 1]."""
    steps = torch.linspace(0, 1, _BORDER_STEPS + 1)[:-1]
    zero, one = torch.zeros_like(steps), torch.ones_like(steps)
    sides = [(steps, zero), (one, steps), (1 - steps, one), (zero, 1 - steps)]
    return torch.cat([torch.stack(side, dim=-1) for side in sides])


def _radial(a: Tensor, b: Tensor) -> Tensor:
    """r^2 log r^2 (twice the thin-plate kernel) between all points of (B, n, 2) and (B, m, 2) -> float64 (B, n, m)."""
    squared = torch.cdist(a.double(), b.double()).square().clamp_min(1e-12)
    return squared * squared.log()


def _smoothness(source: Tensor, target: Tensor) -> Tensor:
    """How freely the spline may pass each landmark, (B, L): less at lids and lips, the further they have to close.

    Irises are followed closely, or gaze would hardly be seen; but not into a closing eye, which they would bulge.
    """
    result = torch.full_like(target[..., 0], _SMOOTHNESS)
    for opening in _OPENINGS:
        remains = ((_gap(target, opening) + 0.02) / (_gap(source, opening) + 0.02)).clamp(0, 1)
        result[:, opening.outline] = (_SMOOTHNESS * remains.square()).clamp_min(_LEAST_SMOOTHNESS)[:, None]
        if opening.iris is not None:
            result[:, opening.iris] = (_SMOOTHNESS * (1 - remains).square()).clamp_min(_LEAST_SMOOTHNESS)
    return result


def _gap(landmarks: Tensor, opening: _Opening) -> Tensor:
    """How far landmarks (B, L, 2) are open, over the width, (B,). 0.02 is closed."""
    height = (landmarks[:, opening.upper] - landmarks[:, opening.lower]).norm(dim=-1).mean(dim=1)
    return height / (landmarks[:, opening.first] - landmarks[:, opening.last]).norm(dim=-1).clamp_min(1e-6)


def _left_ajar(source: Tensor, target: Tensor) -> Tensor:
    """The target (B, L, 2) with lids and lips at least ``_LEAST_GAP`` of the source's opening apart."""
    result = target.clone()
    for opening in _OPENINGS:
        along = target[:, opening.last] - target[:, opening.first]
        length = along.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        down = (torch.stack([-along[:, 1], along[:, 0]], dim=-1) / length)[:, None]  # (B, 1, 2)
        width = (source[:, opening.last] - source[:, opening.first]).norm(dim=-1, keepdim=True).clamp_min(1e-6)
        least = (source[:, opening.lower] - source[:, opening.upper]).norm(dim=-1) * _LEAST_GAP * length / width
        gap = ((target[:, opening.lower] - target[:, opening.upper]) * down).sum(dim=-1)
        apart = 0.5 * (least - gap).clamp_min(0)[..., None] * down
        result[:, opening.upper] -= apart
        result[:, opening.lower] += apart
    return result
