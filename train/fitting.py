"""Landmarks of one photo -> pose, identity and expression of the face model.

Gauss-Newton on the distances between the landmarks and the model's projected points, with Gaussian priors on the
coefficients (a maximum a posteriori fit), and then one correction that no coefficient can express: the remaining
distances, spread smoothly over the surface, so that every landmark of the photo lies exactly on its vertex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talking_heads.landmarks import IRISES, JAW, NAMED

from .face_model import Camera, FaceModel, gaze_angle

# The vertex that the detector means by each of the named landmarks. Found by running it on heads that example_clip.py
# paints, ten identities with parted lips: the vertex that lies nearest to the detected point on average.
# fmt: off
LANDMARK_VERTICES = np.array([
    1223, 1197, 1220, 1896, 237, 833, 1675, 2197, 965, 2571, 4390, 3004, 2470, 2614, 3435, 3415, 3441,  # jaw
    432, 1699, 1696, 1419, 2063, 4257, 3633, 3901, 3904, 2673,  # brows
    1358, 4527, 4628, 4857, 1265, 1143, 129, 4269, 3485,  # nose
    568, 1023, 617, 891, 1518, 1551, 4261, 3787, 3756, 2809, 3766, 3732,  # eyes
    5708, 5720, 154, 171, 4263, 6224, 6185, 6375, 6508, 5518, 5976, 5870,  # outer lip
    5647, 6039, 5758, 6529, 6233, 6514, 5938, 5982,  # inner lip
    23431, 21859,  # irises
    320, 476, 1423, 976, 3637, 4185, 2561,  # hairline
])
# fmt: on
NUM_IDENTITY = 50
PIXEL_SIGMA = 0.008  # of the face's size: how exactly a landmark is believed
EXPRESSION_SIGMA, GAZE_SIGMA = 0.3, 1.0
ITERATIONS = 12
DISTANCE = 90.0  # cm: one photo does not tell how far the camera stood
SPREAD = 2.0  # cm over which the correction at a landmark fades


@dataclass(frozen=True)
class Fit:
    """One photo, explained."""

    identity: np.ndarray  # (I,)
    expression: np.ndarray  # (E,) 0..1
    rotation: np.ndarray  # (3, 3)
    camera: Camera
    correction: np.ndarray  # (V, 3) cm in model space
    error: float  # mean distance before the correction, in shares of the face's size

    def shape(self, model: FaceModel, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) of this person with an expression (E,), unturned, in centimetres."""
        return model.vertices(self.identity, expression) + self.correction


def fit_face(model: FaceModel, landmarks: np.ndarray) -> Fit:
    """Landmarks float (L, 2) in pixels -> the face that explains the N that have a name."""
    landmarks = landmarks[NAMED]
    spots = LANDMARK_VERTICES
    mean = model.mean[spots].astype(float)
    names = np.array(model.expression_names)
    gaze = np.char.startswith(names, "eyeLook")
    basis = np.concatenate([model.identity[:NUM_IDENTITY, spots], model.expression[:, spots]]).astype(float)
    prior = np.concatenate([np.ones(NUM_IDENTITY), np.where(gaze, GAZE_SIGMA, EXPRESSION_SIGMA)])
    size = np.linalg.norm(landmarks[:68].max(axis=0) - landmarks[:68].min(axis=0))
    trust = np.ones(len(spots))
    trust[JAW], trust[70:] = 0.5, 0.3  # outlines slide over the surface as the head turns; hairlines are guesses
    weight = np.repeat(trust / (PIXEL_SIGMA * size), 2)

    coefficients = np.zeros(len(basis))
    turn = np.eye(3)
    scale = np.linalg.norm(landmarks[36] - landmarks[45]) / np.linalg.norm(mean[36] - mean[45])
    centre = landmarks[:68].mean(axis=0) - scale * mean[:68].mean(axis=0)[:2] * [1, -1]
    for _ in range(ITERATIONS):
        points = (mean + np.tensordot(coefficients, basis, axes=1)) @ turn.T  # (N, 3)
        zoom = scale / (1 - points[:, 2] / DISTANCE)
        flat = points[:, :2] * [1, -1]
        residual = (landmarks - centre - zoom[:, None] * flat).reshape(-1)
        # d(pixel) / d(turned point), (N, 2, 3): the image moves with x and y, and grows with z.
        by_point = np.zeros((len(spots), 2, 3))
        by_point[:, 0, 0], by_point[:, 1, 1] = zoom, -zoom
        by_point[:, :, 2] = (zoom / (DISTANCE - points[:, 2]))[:, None] * flat
        x, y, z = points.T
        nought = np.zeros_like(x)
        by_turn = np.stack([[nought, z, -y], [-z, nought, x], [y, -x, nought]]).transpose(2, 0, 1)  # d(w x p) / dw
        jacobian = np.concatenate(
            [
                by_point @ by_turn,
                (zoom / scale)[:, None, None] * flat[:, :, None],
                np.broadcast_to(np.eye(2), (len(spots), 2, 2)),
                np.einsum("lij,clj->lic", by_point, basis @ turn.T),
            ],
            axis=2,
        ).reshape(2 * len(spots), -1)
        precision = np.concatenate([np.full(6, 1e-6), 1 / prior**2])
        pull = np.concatenate([np.zeros(6), coefficients / prior**2])
        left = (jacobian * weight[:, None] ** 2).T @ jacobian + np.diag(precision)
        step = np.linalg.solve(left, jacobian.T @ (weight**2 * residual) - pull)
        turn = _turn_by(step[:3]) @ turn
        scale += step[3]
        centre = centre + step[4:6]
        coefficients += step[6:]
        # Muscles pull, they do not push.
        coefficients[NUM_IDENTITY:] = np.clip(coefficients[NUM_IDENTITY:], 0, 1)

    identity, expression = coefficients[:NUM_IDENTITY], coefficients[NUM_IDENTITY:]
    camera = Camera(scale, (float(centre[0]), float(centre[1])), DISTANCE)
    vertices = model.vertices(identity, expression)
    projected = camera.project(vertices[spots] @ turn.T)
    missing = landmarks - projected[:, :2]
    zoom = scale / (1 - projected[:, 2:] / DISTANCE)
    offsets = np.column_stack([missing[:, 0] / zoom[:, 0], -missing[:, 1] / zoom[:, 0], np.zeros(len(spots))]) @ turn
    return Fit(
        identity=identity,
        expression=expression,
        rotation=turn,
        camera=camera,
        correction=_spread(model, vertices, offsets),
        error=float(np.linalg.norm(missing, axis=1).mean() / size),
    )


def _turn_by(vector: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) in radians -> (3, 3), by Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _spread(model: FaceModel, vertices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Offsets (N, 3) at the landmarks -> (V, 3): Gaussian interpolation over the skin; eyes and jaws stay rigid."""
    on_skin = np.delete(np.arange(len(offsets)), IRISES)
    anchors, offsets = vertices[LANDMARK_VERTICES[on_skin]], offsets[on_skin]

    def kernel(points: np.ndarray) -> np.ndarray:
        return np.exp(-((points[:, None] - anchors[None]) ** 2).sum(axis=-1) / (2 * SPREAD**2))

    # The ridge decides where two landmarks nearly touch (closed lips) and disagree.
    weights = np.linalg.solve(kernel(anchors) + 0.05 * np.eye(len(anchors)), offsets)
    spread = kernel(vertices) @ weights
    part = model.vertex_part
    spread[np.isin(part, ["teeth", "gums_tongue"])] = offsets[48:68].mean(axis=0)
    for side in ("left", "right"):
        ball = part == f"eyeball_{side}"
        pupil = ball & (gaze_angle(model.mean, part) < 8)
        spread[ball] = (kernel(vertices[pupil].mean(axis=0, keepdims=True)) @ weights)[0]
    return spread.astype(np.float32)
