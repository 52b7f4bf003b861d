"""How far two rows of landmarks are apart in height, lips above all: by coefficients, and by what a fit leaves over."""

from __future__ import annotations

from functools import cache

import numpy as np

from .fit import MOUTH_AND_LIDS
from .model import FaceModel, face_model

INNER_LIPS = (61, 62, 63), (67, 66, 65)
"""Landmarks of the upper and the lower inner lip that lie above each other."""
_NUM_LIDS = 12


def gap_by_coefficient(model: FaceModel, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    """(E,) cm by which each expression at 1 parts landmarks, on average."""
    above, below = (model.landmark_vertices[list(points)] for points in (upper, lower))
    gaps: np.ndarray = (model.expression_basis[:, above, 1] - model.expression_basis[:, below, 1]).mean(axis=1)
    return gaps


def residual_gap(
    detail: np.ndarray, upper: tuple[int, ...] = INNER_LIPS[0], lower: tuple[int, ...] = INNER_LIPS[1]
) -> np.ndarray:
    """Residuals at MOUTH_AND_LIDS (..., D, 3) cm -> (...,) cm by which they part landmarks of those, on average."""
    raised, lowered = (detail[..., np.isin(MOUTH_AND_LIDS, points), 1] for points in (upper, lower))
    gap: np.ndarray = raised.mean(axis=-1) - lowered.mean(axis=-1)
    return gap


@cache
def gap_of_jaw() -> float:
    """cm by which ``jawOpen`` 1 parts the inner lips of the face model."""
    model = face_model()
    return float(gap_by_coefficient(model, *INNER_LIPS)[model.index("jawOpen")])


@cache
def parting() -> np.ndarray:
    """float32 (D,) cm upwards at MOUTH_AND_LIDS: lips parted by 1 cm as a jaw does it, half of it above the line on
    which they meet and half below; 0 at the lids."""
    model = face_model()
    fall = model.expression_basis[model.index("jawOpen"), model.landmark_vertices[MOUTH_AND_LIDS], 1].astype(float)
    upper, lower = (fall[np.isin(MOUTH_AND_LIDS, points)].mean() for points in INNER_LIPS)
    parted = (fall - 0.5 * (upper + lower)) / gap_of_jaw()
    parted[:_NUM_LIDS] = 0
    return parted.astype(np.float32)
