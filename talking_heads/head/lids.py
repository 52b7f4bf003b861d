"""Lids that meet: where an upper lid would cross the lower one it stops there, and a shut eye leaves no gap.

Each face's eyes are open by another amount, but a blink's shape moves every lid by the same one. So the gap between the
edges of a posed face's lids is measured at some places along the eye, and the upper lid is moved by what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .model import FaceModel, smoothstep

STATIONS = 11
"""Places along an eye at which the gap is measured."""
REACH = 0.13
"""cm to both sides of a place in which its edges' vertices are looked for."""
SHUT_TO_OPEN = (0.12, 0.5)
"""Share of the photo's opening at which an eye is shut, and from which on it is left as it is: detectors find
the lids of a shut eye somewhat apart."""
LEAST_GAP = 0.25
"""cm: as wide as this, at least, an eye counts as open, whatever the photo shows."""


@dataclass(frozen=True)
class Lids:
    """The edges of one eye's lids in the face model, and the skin that moves with the upper one."""

    upper: np.ndarray
    """(S,) vertices along the upper lid's edge, by rising x."""
    lower: np.ndarray
    """(S',) vertices along the lower lid's edge, by rising x."""
    skin: np.ndarray
    """(N,) vertices of the upper lid."""
    share: np.ndarray
    """float32 (N, S): how far each follows the places along the edge."""

    @classmethod
    def of(cls, model: FaceModel) -> tuple[Lids, Lids]:
        """The left and the right eye's."""
        return cls._of_one(model, 0), cls._of_one(model, 1)

    @classmethod
    def _of_one(cls, model: FaceModel, side: int) -> Lids:
        moved = np.flatnonzero(model.skin & (model.lids[:, side] > 0.02))
        corners = model.mean[model.landmark_vertices[[42, 45] if side == 0 else [36, 39]]]
        x, y = model.mean[moved, 0], model.mean[moved, 1]
        line = np.interp(x, corners[:, 0], corners[:, 1])
        inner, outer = (0.3, 0.15) if side == 0 else (0.15, 0.3)  # cm: the inner corner is long
        places = np.linspace(corners[0, 0] + inner, corners[1, 0] - outer, STATIONS)
        above = moved[(y > line) & (model.lids[moved, side] > 0.3)]
        upper = _edge(model, above, places, lowest=True)
        skin = moved[y > line]
        # The outer third of the lower lid is not moved by a blink.
        face = np.flatnonzero(model.part == "face")
        below = face[model.mean[face, 1] <= np.interp(model.mean[face, 0], corners[:, 0], corners[:, 1])]
        lower = _edge(model, below, places, lowest=False)
        follow = np.stack([np.interp(model.mean[skin, 0], model.mean[upper, 0], row) for row in np.eye(len(upper))])
        share = follow.T * model.lids[skin, side : side + 1]
        return cls(upper, lower, skin, share.astype(np.float32))

    @cached_property
    def edges(self) -> np.ndarray:
        """(S + S',) vertices of both edges, the upper one's first."""
        return np.concatenate([self.upper, self.lower])

    def gaps(self, edges: np.ndarray) -> np.ndarray:
        """Places (S + S', 3) cm of both edges -> (S,) cm from the lower to the upper one."""
        upper, lower = edges[: len(self.upper)], edges[len(self.upper) :]
        gaps: np.ndarray = upper[:, 1] - np.interp(upper[:, 0], lower[:, 0], lower[:, 1])
        return gaps

    def lift(self, rest: np.ndarray, posed: np.ndarray, shut: float = 0.0) -> np.ndarray:
        """(N,) cm by which the upper lid's ``skin`` rises, for edges (S + S', 3) as in the photo and as posed.

        ``shut``, 0..1: how far the eye is asked to be shut, whatever a blink's shape leaves open. The lift is zero for
        the photo itself.
        """
        before, now = self.gaps(rest), self.gaps(posed)
        usual = max(float(before.mean()), LEAST_GAP)
        lifts: np.ndarray = self.share @ (_missing(now, usual, shut) - _missing(before, usual, 0.0)).astype(np.float32)
        return lifts


def _edge(model: FaceModel, vertices: np.ndarray, places: np.ndarray, lowest: bool) -> np.ndarray:
    """Those of the vertices that lie on the silhouette, seen from the front, around each place; by rising x."""
    found = set()
    for place in places:
        near = vertices[np.abs(model.mean[vertices, 0] - place) < REACH]
        if len(near):
            heights = model.mean[near, 1]
            found.add(int(near[heights.argmin() if lowest else heights.argmax()]))
    edge = np.array(sorted(found, key=lambda vertex: float(model.mean[vertex, 0])))
    return edge


def _missing(gaps: np.ndarray, usual: float, shut: float) -> np.ndarray:
    """By how much the upper lid is raised at each place, for an eye whose gap is ``usual`` cm on average when open."""
    apart = np.maximum(gaps, 0)
    missing: np.ndarray = (1 - shut) * apart * smoothstep(*SHUT_TO_OPEN, np.mean(apart) / usual) - gaps
    return missing
