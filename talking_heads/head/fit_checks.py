"""Warnings for users: photos that were fitted badly, and photos that show different people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .head import Head
from .model import FaceModel
from .person_fit import fit_person

MAX_PHOTO_ERROR = 0.03
"""Error of a photo's fit, in sizes of the face, above which a warning is given."""
MAX_IDENTITY_DISTANCE = 0.028
"""Distance between two photos' faces, in sizes of the face, above which a warning is given. Photos of one person lay
below it for 60 of 60 people, those of different people above it in about 40 of 100 pairs."""


def identity_distance(model: FaceModel, one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two faces at rest, given by identity coefficients (I,), in sizes of the face: root mean square over
    the 68 points, each face brought to one centre and size."""
    shapes = []
    for coefficients in (one, other):
        points = model.vertices(coefficients)[model.landmark_vertices[:68]]
        points = points - points.mean(axis=0)
        shapes.append(points / np.sqrt((points**2).sum(axis=1).mean()))
    return float(np.sqrt(((shapes[0] - shapes[1]) ** 2).sum(axis=1).mean()))


def fit_warnings(head: Head, landmarks: Sequence[np.ndarray] = ()) -> list[str]:
    """Sentences on photos that the model follows badly: seen from the side, half covered, drawn, or somebody else's.

    ``landmarks`` (L, 2) of each photo: with them the photos are compared with the first one.
    """
    result = []
    if len(landmarks) > 1:
        alone = [fit_person(head.model, [points]).identity_coefficients for points in landmarks]
        distances = [identity_distance(head.model, alone[0], coefficients) for coefficients in alone[1:]]
        farthest = int(np.argmax(distances))
        if distances[farthest] > MAX_IDENTITY_DISTANCE:
            result.append(
                f"Photos 1 and {farthest + 2} may show different people: their faces differ by "
                f"{100 * distances[farthest]:.1f} % of the face's size, those of one person rarely by more than "
                f"{100 * MAX_IDENTITY_DISTANCE:.1f} %. Give photos of one person."
            )
    for number, view in enumerate(head.views, start=1):
        name = "The photo" if len(head.views) == 1 else f"Photo {number}"
        if view.fit.frame.error > MAX_PHOTO_ERROR:
            result.append(
                f"{name} is hard to follow (the face model misses it by {100 * view.fit.frame.error:.1f} % of the "
                "face's size): expect distortions. A photo from the front, with nothing before the face, works best."
            )
    return result
