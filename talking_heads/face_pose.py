"""The head in three dimensions: the mean face, its pose in a picture, and one face's points carried to another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEAN_FACE = np.loadtxt(Path(__file__).parent / "mean_face.csv", delimiter=",", dtype=np.float32, skiprows=1)
"""float32 (L, 3): landmarks (landmarks.py) of the mean neutral face, symmetric: x to the right, y down, z towards the
viewer, in units of the face's size (hairline to chin). Made by train/mean_face.py."""

RIGID = np.array([0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 71, 72, 73, 74, 75])
"""Points that move with the skull rather than with the expression."""
_RIDGE = 1e-4


@dataclass(frozen=True)
class Pose:
    """Scaled orthographic pose of a head: points = scale * (rotation @ shape)[:2] + shift."""

    rotation: np.ndarray
    """(3, 3), proper."""
    scale: float
    shift: np.ndarray
    """(2,) pixels."""

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw (positive: towards the person's left, image right), pitch (positive: down), roll (clockwise), radians.

        The inverse of ``rotation_matrix``.
        """
        r = self.rotation
        yaw = float(np.arctan2(-r[2, 0], r[2, 2]))
        pitch = float(np.arcsin(np.clip(-r[2, 1], -1, 1)))
        roll = float(np.arctan2(-r[0, 1], r[1, 1]))
        return yaw, pitch, roll

    def project(self, shape: np.ndarray) -> np.ndarray:
        """(L, 3) -> (L, 2)."""
        return self.scale * (shape @ self.rotation[:2].T) + self.shift


def fit_pose(shape: np.ndarray, points: np.ndarray) -> Pose:
    """The pose that brings ``shape`` (L, 3) nearest to ``points`` (L, 2) at the points that move with the skull."""
    x, p = shape[RIGID].astype(np.float64), points[RIGID].astype(np.float64)
    x_mean, p_mean = x.mean(axis=0), p.mean(axis=0)
    affine, *_ = np.linalg.lstsq(x - x_mean, p - p_mean, rcond=None)  # (3, 2)
    u, singular, vt = np.linalg.svd(affine.T, full_matrices=False)  # nearest scaled pair of orthonormal rows
    rows, scale = u @ vt, float(singular.mean())
    rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
    return Pose(rotation, scale, p_mean - scale * rows @ x_mean)


def lift(points: np.ndarray) -> np.ndarray:
    """Landmarks (L, 2) in pixels -> (L, 3) in pixels: depth is that of the mean face in the same pose."""
    pose = fit_pose(MEAN_FACE, points)
    depth = pose.scale * (MEAN_FACE @ pose.rotation[2])
    return np.column_stack([points, depth])


def face_scale(points: np.ndarray) -> float:
    """Size of a face (L, 2) in any pose, in pixels from hairline to chin: the scale at which the mean face fits."""
    return fit_pose(MEAN_FACE, points).scale


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) from radians, in the axes and signs of Pose.angles: first yaw, then pitch, then roll in the image."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    around_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return around_z @ around_x @ around_y


def carried(points: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Points (N, 2) moved along as ``before`` (M, 2) moved to ``after`` (M, 2): thin-plate spline."""
    unit = float(np.ptp(before, axis=0).max())
    controls, at = before / unit, points / unit

    def basis(of: np.ndarray) -> np.ndarray:
        squared = np.square(of[:, None] - controls[None]).sum(axis=-1)
        return np.column_stack([0.5 * squared * np.log(np.maximum(squared, 1e-12)), np.ones(len(of)), of])

    m = len(controls)
    system = np.zeros((m + 3, m + 3))
    system[:m] = basis(controls)
    system[:m, :m] += _RIDGE * np.eye(m)
    system[m:, :m] = system[:m, m:].T
    weights = np.linalg.solve(system, np.concatenate([after - before, np.zeros((3, 2))]))
    return points + basis(at) @ weights
