"""How the landmarks of the mean face move with each control of talking_heads/expressions.py.

    python -m train.expressions --face-model ict_facekit.npz --output talking_heads/expressions.csv

The face model is fitted to the mean face; each landmark then follows a vertex of it through the model's expression
shapes. The columns of the file are ``control``, the sign of its values, and the axis: ``smile-.x``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from talking_heads.face_pose import MEAN_FACE, RIGID
from talking_heads.landmarks import IRISES, LOWER_LIDS, MIRROR, NUM_LANDMARKS, SKIN, UPPER_LIDS

from .face_model import FaceModel, rotation
from .fitting import LANDMARK_VERTICES, fit_face
from .terminal import mistakes_in_one_line

SHAPES = {
    "mouth+": {"jawOpen": 0.55, "mouthLowerDown": 0.25, "mouthUpperUp": 0.2},
    "lips+": {"mouthPucker": 0.7, "mouthFunnel": 0.35},
    "lips-": {"mouthStretch": 0.6, "mouthDimple": 0.5},
    "smile+": {"mouthSmile": 1.0, "mouthDimple": 0.3, "cheekSquint": 0.6, "eyeSquint": 0.25},
    "smile-": {"mouthFrown": 1.2, "mouthShrugLower": 0.2},
    "eyelids+": {"eyeWide": 1.0},
    "eyelids-": {"eyeBlink": 1.0},
    "brows+": {"browInnerUp": 1.1, "browOuterUp": 1.0},
    "brows-": {"browDown": 1.3},
    "gaze_x+": {"eyeLookOut_L": 0.7, "eyeLookIn_R": 0.7},
    "gaze_x-": {"eyeLookIn_L": 0.7, "eyeLookOut_R": 0.7},
    "gaze_y+": {"eyeLookDown": 0.5},
    "gaze_y-": {"eyeLookUp": 0.5},
}
"""Strengths of the model's shapes that make a control's full strength; chosen by looking at painted faces."""

EYE_TURNS = {"gaze_x+": (30, 0), "gaze_x-": (-30, 0), "gaze_y+": (0, 18), "gaze_y-": (0, -18)}
"""Degrees by which the eyeballs turn, yaw and pitch: the model's shapes move the lids alone."""
SIZE = 400.0
"""Pixels from hairline to chin at which the model is fitted; the result hardly depends on it."""


def displacements(model: FaceModel) -> dict[str, np.ndarray]:
    """How far each landmark moves at a control's full strength, (L, 3) for each of SHAPES, as MEAN_FACE is."""
    fit = fit_face(model, (SIZE * MEAN_FACE[:, :2]).astype(np.float64))
    to_face = np.diag([1, -1, 1]) @ fit.rotation * (fit.camera.scale / SIZE)  # centimetres of the model -> (x, y, z)
    vertices = np.concatenate([LANDMARK_VERTICES, _skin_vertices(model, fit.shape(model, fit.expression) @ to_face.T)])
    result = {}
    for name, strengths in SHAPES.items():
        moved = np.tensordot(model.weights(**strengths), model.expression[:, vertices], axes=1)
        if name in EYE_TURNS:
            moved[IRISES] = _turned_eyes(model, *EYE_TURNS[name])
        moved = moved @ to_face.T
        if not name.startswith("gaze_x"):  # the only ones that are not symmetric
            moved = 0.5 * (moved + moved[MIRROR] * [-1, 1, 1])
        moved[RIGID] = 0  # what moves with the skull tells the head's pose
        result[name] = moved
    lids = result["eyelids-"]
    lids[UPPER_LIDS] = MEAN_FACE[LOWER_LIDS] + lids[LOWER_LIDS] - MEAN_FACE[UPPER_LIDS]
    return result


def _skin_vertices(model: FaceModel, fitted: np.ndarray) -> np.ndarray:
    """Of the fitted model (V, 3), in the mean face's axes and units: the vertices nearest to its skin's landmarks."""
    face = np.flatnonzero(model.vertex_part == "face")
    # Only where both have the same zero can depths be compared.
    fitted = fitted + (MEAN_FACE[: SKIN.start] - fitted[LANDMARK_VERTICES])[:68].mean(axis=0)
    apart = np.linalg.norm(MEAN_FACE[SKIN, None] - fitted[None, face], axis=-1)
    return face[apart.argmin(axis=1)]


def _turned_eyes(model: FaceModel, yaw: float, pitch: float) -> np.ndarray:
    """How far the irises move when the eyeballs turn by degrees, (2, 3) in centimetres."""
    result = []
    for vertex in LANDMARK_VERTICES[IRISES]:
        ball = model.mean[model.vertex_part == model.vertex_part[vertex]]
        arm = model.mean[vertex] - 0.5 * (ball.min(axis=0) + ball.max(axis=0))
        result.append(rotation(yaw, pitch) @ arm - arm)
    return np.stack(result)


def write(moved: dict[str, np.ndarray], output: Path) -> None:
    """One line for each landmark, three columns for each control and sign."""
    header = ",".join(f"{name}.{axis}" for name in moved for axis in "xyz")
    table = np.stack(list(moved.values()), axis=1).reshape(NUM_LANDMARKS, -1)
    np.savetxt(output, table + 0.0, fmt="%.4f", delimiter=",", header=header, comments="")


def main(
    *,
    face_model: Annotated[Path, typer.Option(help="ict_facekit.npz", exists=True)],
    output: Annotated[Path, typer.Option(help="CSV.")],
) -> None:
    """Write how the mean face's landmarks move with each control."""
    with mistakes_in_one_line():
        write(displacements(FaceModel.load(face_model)), output)
    typer.echo(f"See {output}.")


if __name__ == "__main__":
    typer.run(main)
