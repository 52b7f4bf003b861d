"""How far inner lips are apart by what a fit leaves over at them, and what share of a fallen jaw that is."""

from __future__ import annotations

from functools import cache

import numpy as np

from .fit import MOUTH_AND_LIDS
from .model import face_model

INNER_LIPS = (61, 62, 63), (67, 66, 65)
"""Landmarks of the upper and the lower inner lip that lie above each other."""
_ABOVE, _BELOW = (np.isin(MOUTH_AND_LIDS, points) for points in INNER_LIPS)
_NUM_LIDS = 12


def residual_gap(detail: np.ndarray) -> np.ndarray:
    """Residuals at MOUTH_AND_LIDS (..., D, 3) cm -> (...,) cm by which they part the inner lips; negative: close."""
    gap: np.ndarray = detail[..., _ABOVE, 1].mean(axis=-1) - detail[..., _BELOW, 1].mean(axis=-1)
    return gap


@cache
def gap_of_jaw() -> float:
    """cm by which ``jawOpen`` 1 parts the inner lips of the face model."""
    return float(residual_gap(_fall()))


@cache
def parting() -> np.ndarray:
    """float32 (D,) cm upwards at MOUTH_AND_LIDS: lips parted by 1 cm as a jaw does it, half of it above the line on
    which they meet and half below; 0 at the lids."""
    fall = _fall()[:, 1]
    parted = (fall - 0.5 * (fall[_ABOVE].mean() + fall[_BELOW].mean())) / gap_of_jaw()
    parted[:_NUM_LIDS] = 0
    return parted.astype(np.float32)


def _fall() -> np.ndarray:
    """(D, 3) cm: the way of MOUTH_AND_LIDS under ``jawOpen`` 1."""
    model = face_model()
    return model.expression_basis[model.index("jawOpen")][model.landmark_vertices[MOUTH_AND_LIDS]].astype(float)
