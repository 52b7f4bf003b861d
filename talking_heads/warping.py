"""Source conditioning: the photo warped so that its landmarks lie where they should (thin-plate spline), and what is
known of that warp. Geometry only; everything is batched torch and differentiable in the photo."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .face_pose import fit_pose, lift
from .landmarks import (
    CHIN,
    FACE_OUTLINE,
    HAIRLINE,
    INNER_LIP,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    NOSE_BASE,
    NOSE_BRIDGE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_BROW,
    RIGHT_EYE,
    SKIN,
    mirror_landmarks,
)

GRID = 33
"""The spline is solved on GRID x GRID points and enlarged: its curvature between them is below a pixel."""
SOURCE_CHANNELS = 8
"""Of what a source-conditioned generator sees: warped photo (3), photo as it is (3), trust (1), shown (1)."""
HIDDEN_FROM = 0.02
"""Share of the face that the warp must miss before its mirror image helps out; at twice as much it helps fully."""
SEAM = 0.03
"""Width, in sides of the image, of the band along the face's outline in which the mirrored side fades out."""
_COARSER = 8
_BANDS = 8
_KEPT = (
    (SKIN, 0.6),
    (JAW, 0.7),
    (CHIN, 0.9),  # a mouth that opens takes it along
    (NOSE_BRIDGE, 0.5),
    (NOSE_BASE, 0.5),
    (RIGHT_BROW, 0.85),
    (LEFT_BROW, 0.85),
    (HAIRLINE, 0.6),
)
"""How much of what a stiff head does not explain is believed to be the face's motion, not the detector's error."""
_BORDER_STEPS = 4
_SMOOTHNESS, _LEAST_SMOOTHNESS = 6e-3, 2e-4
"""The spline passes the landmarks by a pixel or so, for a smoother face: they are detected, not known. At a thirtieth
of it faces lose likeness (CSIM), at three times as much mouths and eyes miss their shape. But lids and lips that close
must meet: see ``_smoothness``."""
_LEAST_GAP = 0.15
"""Of a photo's opening, what the warp leaves open where lids or lips close. A smooth map cannot take an upper and a
lower lid to one place: asked to, it takes what lies between them there, an open eye."""
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


_MOUTH = _Opening(slice(OUTER_LIP.start, INNER_LIP.stop), [61, 62, 63], [67, 66, 65], 48, 54)
_OPENINGS = (
    _Opening(RIGHT_EYE, [37, 38], [41, 40], 36, 39, 68),
    _Opening(LEFT_EYE, [43, 44], [47, 46], 42, 45, 69),
    _MOUTH,
)


def _border_points() -> Tensor:
    """Points on the frame of the unit square that the warp leaves where they are, (16, 2) in [0, 1]."""
    steps = torch.linspace(0, 1, _BORDER_STEPS + 1)[:-1]
    zero, one = torch.zeros_like(steps), torch.ones_like(steps)
    sides = [(steps, zero), (one, steps), (1 - steps, one), (zero, 1 - steps)]
    return torch.cat([torch.stack(side, dim=-1) for side in sides])


def _smoothness(source: Tensor, target: Tensor) -> Tensor:
    """How freely the spline may pass each landmark, (B, L): less at lids and lips, the further they have to close.

    Irises are followed closely, or gaze would hardly be seen; but not into a closing eye, which they would bulge.
    """
    result = torch.full_like(target[..., 0], _SMOOTHNESS)
    for opening in _OPENINGS:
        remains = _share_shown(target, source, opening).clamp(0, 1)
        result[:, opening.outline] = (_SMOOTHNESS * remains.square()).clamp_min(_LEAST_SMOOTHNESS)[:, None]
        if opening.iris is not None:
            result[:, opening.iris] = (_SMOOTHNESS * (1 - remains).square()).clamp_min(_LEAST_SMOOTHNESS)
    return result


def thin_plate_grid(source: Tensor, target: Tensor, grid: int = GRID, margin: float = 0.0) -> Tensor:
    """Where to look in the source for each point of the target.

    ``source`` and ``target``: landmarks (B, L, 2) in [0, 1] of the image's side. Returns (B, grid, grid, 2): for the
    regular grid over the target (corners at ``margin`` and 1 - ``margin``), positions (x, y) in the source, in [0, 1]
    where inside.
    """
    device = source.device
    if device.type == "mps":  # which has no float64
        source, target = source.cpu(), target.cpu()
    border = _border_points().to(source).expand(len(source), -1, -1)
    controls = torch.cat([target, border], dim=1)  # (B, n, 2)
    values = torch.cat([source, border], dim=1).double()
    b = len(controls)
    affine = torch.cat([torch.ones_like(controls[..., :1]), controls], dim=-1).double()  # (B, n, 3)
    # Where affine^T w = 0 holds, as it does for a spline's weights w, the kernel is positive definite, and a multiple
    # of affine affine^T changes nothing: with it, it is so everywhere, and Cholesky's factors will do.
    kernel = _radial(controls, controls).double() + _STIFFNESS * affine @ affine.mT
    smoothness = F.pad(_smoothness(source, target), (0, border.shape[1]), value=_LEAST_SMOOTHNESS)
    kernel.diagonal(dim1=1, dim2=2).add_(smoothness)
    solved = torch.cholesky_solve(torch.cat([values, affine], dim=2), torch.linalg.cholesky(kernel))
    linear = torch.linalg.solve(affine.mT @ solved[..., 2:], affine.mT @ solved[..., :2])  # (B, 3, 2)
    weights = torch.cat([solved[..., :2] - solved[..., 2:] @ linear, linear], dim=1).to(source)  # (B, n + 3, 2)
    points = regular_grid(grid, margin, source).reshape(1, -1, 2)
    basis = _radial(points.expand(b, -1, -1), controls)  # (B, grid^2, n)
    plane = weights[:, -3:-2] + points @ weights[:, -2:]
    return torch.baddbmm(plane, basis, weights[:, :-3]).reshape(b, grid, grid, 2).to(device)


def regular_grid(grid: int, margin: float, like: Tensor) -> Tensor:
    """(grid, grid, 2): positions (x, y) from ``margin`` to 1 - ``margin``."""
    steps = torch.linspace(margin, 1 - margin, grid, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)


def _radial(a: Tensor, b: Tensor) -> Tensor:
    """r^2 log r^2 (twice the thin-plate kernel) between all points of (B, n, 2) and (B, m, 2) -> (B, n, m).

    Distances come of one matrix product, which is several times faster than differences; float32 keeps them to a
    fraction of a pixel where it matters.
    """
    one_a, one_b = torch.ones_like(a[..., :1]), torch.ones_like(b[..., :1])
    left = torch.cat([-2 * a, a.square().sum(dim=-1, keepdim=True), one_a], dim=-1)
    right = torch.cat([b, one_b, b.square().sum(dim=-1, keepdim=True)], dim=-1)
    squared = (left @ right.mT).clamp_min_(1e-12)
    return squared.log().mul_(squared)


def source_planes(photos: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """What a source-conditioned generator sees of the photo, (B, SOURCE_CHANNELS, H, H): the results of ``warp_photo``,
    with the photo as it is behind the warped one. That shows what does not move with the head, and what lies behind.

    The photo is warped to ``steadied`` landmarks. Where a head turns far, one side of its face is hidden in the photo:
    there the warp shows the other one, mirrored. Arguments as for ``warp_photo``.
    """
    target = steadied(source, target)
    warped, trust, shown = warp_photo(photos, source, target)
    # Not for every frame, which would take twice the time; and not at once, which would pop.
    share = ((_hidden(trust, target) - HIDDEN_FROM) / HIDDEN_FROM).clamp(0, 1)
    rows = share.nonzero().flatten()
    if len(rows):
        size, outline = photos.shape[-1], target[:, FACE_OUTLINE]
        other, other_trust, _ = warp_photo(photos[rows].flip(-1), mirror_landmarks(source[rows], size), target[rows])
        face = inside(outline[rows], size, softness=SEAM * size)
        better = share[rows, None, None, None] * face * (1.5 * (other_trust - trust[rows])).clamp(0, 1)
        warped = warped.index_add(0, rows, better * (other - warped[rows]))
        trust = trust.index_add(0, rows, better * (other_trust - trust[rows]))
    return torch.cat([warped, photos, trust, shown], dim=1)


def _hidden(trust: Tensor, target: Tensor) -> Tensor:
    """Which share of the face at ``target`` (B, L, 2) a warp with that ``trust`` (B, 1, H, H) misses, (B,)."""
    small, outline = trust.shape[-1] // _COARSER, target[:, FACE_OUTLINE]
    distrusted = 1 - F.avg_pool2d(trust, _COARSER)
    if not (distrusted > 0).any():
        return torch.zeros_like(trust[:, 0, 0, 0])
    face = inside((outline + 0.5) / _COARSER - 0.5, small)  # in few pixels: what it decides on takes longer
    return (face * distrusted).sum(dim=(1, 2, 3)) / face.sum(dim=(1, 2, 3)).clamp_min(1)


def steadied(source: Tensor, target: Tensor) -> Tensor:
    """Target landmarks (B, L, 2) that keep more of the face whose landmarks are ``source`` (B, L, 2).

    A detector sees every pose of a head as a slightly other face, and a warp that obeys makes one of it. So the
    source's face, in the mean face's depth, is turned stiffly to where it fits the target best; eyes and mouth go where
    the target has them, all others keep a share (``_KEPT``) of the difference.
    """
    kept = np.ones((NUM_LANDMARKS, 1))
    for part, share in _KEPT:
        kept[part] = share
    result = []
    for own, wanted in zip(source.cpu().numpy(), target.cpu().numpy(), strict=True):
        shape = lift(own)
        stiff = fit_pose(shape, wanted).project(shape)
        result.append(stiff + kept * (wanted - stiff))
    return torch.from_numpy(np.stack(result)).to(target)


def warp_photo(photos: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The photo as if its landmarks were the target's.

    photos: (B, 3, H, H) in [-1, 1]; source, target: (B, L, 2) landmarks in pixels of that size.
    Returns the warped photos (B, 3, H, H) and two masks (B, 1, H, H) in [0, 1]: ``trust`` falls where the warp folds
    and where it stretches few source pixels over many; ``shown`` is 0 inside a mouth that opens, whose inside the
    photo does not show.
    """
    if source.shape[-2:] != (NUM_LANDMARKS, 2) or source.shape != target.shape or len(photos) != len(source):
        raise ValueError(f"shapes do not fit: {tuple(photos.shape)}, {tuple(source.shape)}, {tuple(target.shape)}")
    size = photos.shape[-1]
    with torch.autocast(photos.device.type, enabled=False):  # the spline's sums cancel: 16 bit would tear the picture
        coarse, shift = warp_shift(source, target, size)
        warped = displaced(photos, shift, "reflection").clamp(-1, 1)  # bicubic curves overshoot
        trust = _trust(coarse)
        enlarge = _enlarging(trust.shape[-1], size, "bilinear").to(trust)
        trust = enlarge @ trust @ enlarge.mT
    return warped, trust.clamp(0, 1), (1 - opened_mouth(source, target, size)).clamp(0, 1)


def warp_shift(source: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where to look in the photo, for landmarks (B, L, 2) in pixels of ``size``.

    Returns places on a grid (B, g, g, 2) in [0, 1] of the side, and for each pixel (B, 2, size, size) how far to look
    aside, x and y in sides.
    """
    # From the centre of the first pixel to that of the last: enlarged with aligned corners, it meets every centre.
    reached = _left_ajar(source, target)
    coarse = thin_plate_grid((source + 0.5) / size, (reached + 0.5) / size, margin=0.5 / size)  # (B, g, g, 2)
    # Bicubic enlargement bends straight lines by a third of a pixel, so it gets the displacements only.
    shift = (coarse - regular_grid(coarse.shape[1], 0.5 / size, coarse)).permute(0, 3, 1, 2)
    enlarge = _enlarging(shift.shape[-1], size, "bicubic").to(shift)
    return coarse, enlarge @ shift @ enlarge.mT


@cache
def _enlarging(small: int, size: int, mode: str) -> Tensor:
    """(size, small): what ``F.interpolate`` with aligned corners does along one side. Two products with it take a fifth
    of the time."""
    with torch.inference_mode(False):  # it is kept, and may be wanted in training next
        lines = F.interpolate(torch.eye(small)[None, :, :, None], size=(size, 1), mode=mode, align_corners=True)
        return lines[0, :, :, 0].T.contiguous()


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


def displaced(images: Tensor, shift: Tensor, beyond: str = "border") -> Tensor:
    """Images (B, C, H, H) looked up at each pixel's place + ``shift`` (B, 2, H, H), x and y in sides of the image.

    Bicubic: a photo is looked up twice, and bilinear would blur it twice. ``beyond``: grid_sample's padding mode.
    """
    size = images.shape[-1]
    # Contiguous before the sum: with pairs that lie apart in memory it takes as long as the look-up.
    lookup = torch.add(2 * regular_grid(size, 0.5 / size, shift) - 1, shift.permute(0, 2, 3, 1).contiguous(), alpha=2)
    if len(images) > 1 or torch.jit.is_tracing():
        return F.grid_sample(images, lookup, mode="bicubic", padding_mode=beyond, align_corners=False)
    # The images of a batch are looked up side by side; so are the bands of one image.
    bands = math.gcd(size, _BANDS)
    found = F.grid_sample(
        images.expand(bands, -1, -1, -1), lookup.reshape(bands, size // bands, size, 2),
        mode="bicubic", padding_mode=beyond, align_corners=False,
    )  # fmt: skip
    return found.transpose(0, 1).reshape(images.shape)


def _trust(coarse: Tensor) -> Tensor:
    """(B, g, g, 2) -> (B, 1, g, g): 1 where the map keeps areas, 0 where it folds or draws out more than threefold."""
    step = 1.0 / (coarse.shape[1] - 1)
    dx = (coarse[:, :, 2:] - coarse[:, :, :-2]) / (2 * step)
    dy = (coarse[:, 2:] - coarse[:, :-2]) / (2 * step)
    dx = F.pad(dx.permute(0, 3, 1, 2), (1, 1, 0, 0), mode="replicate")
    dy = F.pad(dy.permute(0, 3, 1, 2), (0, 0, 1, 1), mode="replicate")
    area = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]  # source area per target area
    return ((area - 0.1) / 0.4).clamp(0, 1)[:, None]


def opened_mouth(source: Tensor, target: Tensor, size: int) -> Tensor:
    """(B, 1, size, size) in [0, 1]: the inside of the target's lips, as far as the source does not show what is there.

    All of it where the source's lips are closed, a part where they are open and must open further.
    """
    masks = inside(target[:, INNER_LIP], size)
    shown = _share_shown(source, target, _MOUTH)
    return masks * ((0.9 - shown) / 0.7).clamp(0, 1)[:, None, None, None]


def _share_shown(there: Tensor, here: Tensor, opening: _Opening) -> Tensor:
    """How far the landmarks (B, L, 2) open over how far others do, (B,). 0.02 of its width is closed."""
    gaps = [
        (face[:, opening.upper] - face[:, opening.lower]).norm(dim=-1).mean(dim=1)
        / (face[:, opening.first] - face[:, opening.last]).norm(dim=-1).clamp_min(1e-6)
        for face in (there, here)
    ]
    return (gaps[0] + 0.02) / (gaps[1] + 0.02)


def inside(polygons: Tensor, size: int, softness: float = 1.0) -> Tensor:
    """Soft masks of polygons (B, n, 2) in pixels -> (B, 1, size, size) in [0, 1], ``softness`` pixels at the edge."""
    masks = torch.zeros(len(polygons), 1, size, size, dtype=polygons.dtype, device=polygons.device)
    for mask, polygon in zip(masks[:, 0], polygons, strict=True):
        low = (polygon.amin(dim=0).floor() - 2).clamp(0, size).int().tolist()
        high = (polygon.amax(dim=0).ceil() + 3).clamp(0, size).int().tolist()
        if high[0] <= low[0] or high[1] <= low[1]:
            continue
        xs = torch.arange(low[0], high[0], dtype=polygons.dtype, device=polygons.device)
        ys = torch.arange(low[1], high[1], dtype=polygons.dtype, device=polygons.device)
        points = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (h, w, 2)
        a, b = polygon, polygon.roll(-1, dims=0)
        edge = b - a
        offset = points[..., None, :] - a  # (h, w, n, 2)
        t = ((offset * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-6)).clamp(0, 1)
        distance = (offset - t[..., None] * edge).norm(dim=-1).amin(dim=-1)
        # Crossing number: a ray to the right crosses the outline an odd number of times from inside.
        above = (a[:, 1] > points[..., 1:2]) != (b[:, 1] > points[..., 1:2])
        flat = edge[:, 1].abs() < 1e-6
        crossing = a[:, 0] + (points[..., 1:2] - a[:, 1]) * edge[:, 0] / torch.where(
            flat, torch.ones_like(a[:, 1]), edge[:, 1]
        )
        odd = ((above & (points[..., 0:1] < crossing)).sum(dim=-1) % 2).bool()
        signed = torch.where(odd, distance, -distance)
        mask[low[1] : high[1], low[0] : high[0]] = (0.5 + signed / softness).clamp(0, 1)
    return masks


def landmarks_to_tensor(landmarks: np.ndarray) -> Tensor:
    """float32 (..., L, 2) -> Tensor of the same shape."""
    return torch.from_numpy(np.ascontiguousarray(landmarks, dtype=np.float32))
