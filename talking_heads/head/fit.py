"""Landmarks of a frame -> pose, expression and gaze of a person who is known (for whom see person_fit.py).

Gauss-Newton on the distances between landmarks and projected vertices, with Gaussian priors on the coefficients: a
maximum a posteriori fit. Gaze is fitted after the pose, from the irises alone: used earlier, they would turn the head
with them.

Landmarks are float (L, 2) in sides of the crop (model.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ..landmarks import HAIRLINE, INNER_LIP, IRISES, JAW, LEFT_EYE, NAMED, OUTER_LIP, RIGHT_EYE, SKIN, eye_openness
from .eyes import GAZE_NAMES, eye_centres, eye_rotation, with_gaze
from .model import NECK_JOINT, Camera, FaceModel, rotation_by, rotation_vector, smoothstep
from .pose_kernels import normal_equations

LANDMARK_SIGMA = 0.015
"""Standard deviation of a landmark, in sizes of the face."""
EXPRESSION_SIGMA = 0.3
BLINK_SIGMA = 1.0
TURN_SIGMA, TURN_REACH = np.radians(0.5), np.radians(1.0)
"""Prior of how far a frame nods and turns aside from the pose at rest: Gaussian for small turns, as a Cauchy
distribution beyond. When lips or brows move, a detector's points move as if the head had turned by a degree or two:
hair and ears, which it does not see, would turn with it. Large turns are real."""
TURN = np.arange(2)
"""Places of nods and turns aside among the unknowns of a frame; how far the head is tilted the eyes say well."""
HAIR_SIGMA, HAIR_DEPTH_SIGMA = 0.05, 1.0
"""cm: of a spot of hair as it is seen, and of its depth, on which its place depends once the head turns: it tells small
turns well, and large ones less."""
HAIR_REACH = 0.5
"""cm from where landmarks have the head, beyond which a spot counts less and less: something else is followed there."""
MAX_GAZE = np.array([35.0, 25.0])
"""Degrees that an eye turns to the side and up or down."""
CLOSED_TO_OPEN = (0.07, 0.15)
"""Height over width of an eye below which its iris is ignored, and from which on it counts in full."""
VERGENCE_KEPT = np.array([0.4, 0.2])
"""Share of the difference between two eyes' directions that is kept, to the side and up or down."""
MOUTH_AND_LIDS = np.r_[RIGHT_EYE, LEFT_EYE, OUTER_LIP, INNER_LIP]
"""Landmarks whose remaining error is spread over the skin around them."""
DETAIL_SPREAD = 0.7
"""cm over which that fades from its landmark."""


def _trust() -> np.ndarray:
    """(L,): outlines slide over the skin as the head turns, hairlines are guesses."""
    trust = np.ones(SKIN.stop)
    trust[JAW], trust[HAIRLINE], trust[IRISES], trust[SKIN] = 0.4, 0.2, 0.0, 0.7
    return trust


TRUST = _trust()


@dataclass(frozen=True)
class FrameFit:
    """One picture of a known person."""

    expression: np.ndarray
    """float32 (E,) in 0..1, in the order of ``FaceModel.expression_names``."""
    rotation: np.ndarray
    """(3, 3) from the model's axes to the picture's."""
    translation: np.ndarray
    """(3,) cm in the picture's axes, from where the camera's centre says."""
    gaze: np.ndarray
    """(2, 2) degrees in the head: left and right eye; towards the image's right, down."""
    detail: np.ndarray = field(repr=False)
    """float32 (D, 3) cm in the model's axes: what is left at MOUTH_AND_LIDS."""
    error: float
    """Mean distance of the named landmarks in sizes of the face, before the detail."""
    shoulders: np.ndarray | None = None
    """(2,) cm to the image's right and up: where the shoulders are, from where they were in some frame (of a driver) or
    in the photo (of a person). None where nobody knows: they follow the head, see ``motion.gone_along``."""


def project(points: np.ndarray, scale: float, centre: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Turned points (N, 3) -> their places (N, 2), and d(place) / d(turned point), (N, 2, 3)."""
    nearness = 1 / (1 - points[:, 2] / distance)
    zoom = scale * nearness
    flat = points[:, :2] * [1, -1]
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0], by_point[:, 1, 1] = zoom, -zoom
    by_point[:, :, 2] = (zoom * nearness / distance)[:, None] * flat
    return centre + zoom[:, None] * flat, by_point


def by_turn(arms: np.ndarray) -> np.ndarray:
    """d(w x arm) / dw, (N, 3) -> (N, 3, 3)."""
    x, y, z = arms.T
    zero = np.zeros_like(x)
    return np.stack([[zero, z, -y], [-z, zero, x], [y, -x, zero]]).transpose(2, 0, 1)


@contextlib.contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread for products of small matrices: on busy cores more threads take ten times as long."""
    with _openblas().limit(limits=1):
        yield


@cache
def _openblas() -> Any:
    return ThreadpoolController().select(internal_api="openblas")


def face_extent(landmarks: np.ndarray) -> float:
    """Diagonal of the box around the 68 points of (L, 2): the unit of errors here."""
    return float(np.linalg.norm(landmarks[:68].max(axis=0) - landmarks[:68].min(axis=0)))


def expression_prior(model: FaceModel) -> np.ndarray:
    """(E,) standard deviations of expressions; next to 0 for those of gaze, which the irises decide."""
    sigma = np.full(len(model.expression_names), EXPRESSION_SIGMA)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        sigma[model.index(name)] = BLINK_SIGMA
    sigma[[model.index(name) for name in GAZE_NAMES]] = 1e-3
    return sigma


def pose_at_rest(rotations: Sequence[np.ndarray]) -> np.ndarray:
    """The rotation (3, 3) amid some, from which a person's turns are counted."""
    left, _, right = np.linalg.svd(np.sum(rotations, axis=0))
    result: np.ndarray = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right  # no reflection
    return result


def posed(vertices: np.ndarray, frame: FrameFit) -> np.ndarray:
    """Vertices (V, 3) in the model's axes -> (V, 3) turned about the neck and shifted, in the picture's axes."""
    return (vertices - NECK_JOINT) @ frame.rotation.T + NECK_JOINT + frame.translation


def lifted(missing: np.ndarray, turned: np.ndarray, camera: Camera, rotation: np.ndarray) -> np.ndarray:
    """Displacements in the picture (N, 2) at turned points (N, 3) -> (N, 3) cm in the model's axes, none in depth."""
    zoom = camera.scale / (1 - turned[:, 2:] / camera.distance)
    flat = missing / zoom * [1, -1]
    return np.column_stack([flat, np.zeros(len(flat))]) @ rotation


def detail_spread(model: FaceModel, face: np.ndarray) -> np.ndarray:
    """(V, D) float32: what each vertex takes of the detail at MOUTH_AND_LIDS; ``face`` (V, 3) is the person's.

    Distances are those of a face whose lips are apart, so that one lip does not take the other along.
    """
    apart = face + 0.6 * model.expression_basis[model.index("jawOpen")]
    anchors = apart[model.landmark_vertices[MOUTH_AND_LIDS]]
    inverse = np.linalg.inv(_kernel(anchors, anchors) + 0.05 * np.eye(len(anchors))).astype(np.float32)
    result = np.zeros((len(face), len(anchors)), np.float32)
    result[model.skin] = _kernel(apart[model.skin], anchors) @ inverse
    return result


def _kernel(points: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    squared = ((points[:, None] - anchors[None]) ** 2).sum(axis=-1)
    return np.exp(-squared / (2 * DETAIL_SPREAD**2))


class FrameFitter:
    """Fits pose, expression and gaze of one person, frame by frame; every frame starts from another one's result."""

    def __init__(
        self,
        model: FaceModel,
        identity_coefficients: np.ndarray,
        camera: Camera,
        offset: np.ndarray | None = None,
        trust: np.ndarray = TRUST,
        rest: np.ndarray | None = None,
        hair: np.ndarray | None = None,
    ) -> None:
        """``identity_coefficients`` (I,) and ``offset`` (V, 3) cm are the person's; ``camera`` is that of the crop that
        frames come in; ``trust`` (L,): how much each landmark counts; ``rest`` (3, 3): the head's rotation at rest,
        frontal if None; ``hair`` (H, 3) cm in the model's axes: spots in it, NaN for what is not known."""
        self.model, self.camera, self._trust = model, camera, trust
        self.identity_coefficients = identity_coefficients
        self._rest = np.eye(3) if rest is None else rest
        vertices = model.landmark_vertices
        offset = np.zeros_like(model.mean) if offset is None else offset
        neutral = model.vertices(identity_coefficients) + offset
        hair = np.empty((0, 3)) if hair is None else hair
        self._hair_known = np.atleast_1d(np.isfinite(hair).all(axis=1))
        self._neutral = np.concatenate([neutral[vertices], np.nan_to_num(hair)]).astype(float)
        by_landmark = np.ascontiguousarray(model.expression_basis[:, vertices].transpose(1, 0, 2), dtype=float)
        self._by_landmark = np.concatenate([by_landmark, np.zeros((len(hair), *by_landmark.shape[1:]))])
        self._free = np.array([i for i, name in enumerate(model.expression_names) if name not in GAZE_NAMES])
        self._sigma = expression_prior(model)
        self._centres = eye_centres(model, neutral).astype(float)

    def start(self) -> FrameFit:
        """Nobody's expression, seen from the front."""
        zeros, detail = np.zeros(len(self._sigma), np.float32), np.zeros((len(MOUTH_AND_LIDS), 3), np.float32)
        return FrameFit(zeros, np.eye(3), np.zeros(3), np.zeros((2, 2)), detail, 0.0)

    def fit(self, landmarks: np.ndarray, before: FrameFit, steps: int = 3, hair: np.ndarray | None = None) -> FrameFit:
        """Landmarks (L, 2) in sides of the crop -> the frame, in ``steps`` from ``before``. ``hair`` (H, 2): where
        the spots are seen in it, NaN for those that are not."""
        points, number = landmarks.astype(float), len(landmarks)
        weight = self._trust / (LANDMARK_SIGMA * face_extent(points))
        if not len(self._hair_known):
            hair = None
        if hair is not None:
            seen = self._hair_known & np.isfinite(hair).all(axis=1)
            points = np.concatenate([points, np.where(seen[:, None], hair, 0.0)])
            weight = np.concatenate([weight, np.zeros(len(seen))])
        rotation, translation = before.rotation.astype(float), before.translation.astype(float)
        expression = before.expression.astype(float)
        free, joint = self._free, NECK_JOINT.astype(float)
        neutral, by_landmark = self._neutral[: len(points)], self._by_landmark[: len(points)]
        precision = np.concatenate([np.full(6, 1e-6), 1 / self._sigma[free] ** 2])
        normal, pull = np.empty((len(precision), len(precision))), np.empty(len(precision))
        missing, turned = np.empty((len(points), 2)), np.empty((len(points), 3))
        camera, centre = self.camera, np.array(self.camera.centre)
        for step in range(steps + 1):
            turn = rotation_vector(rotation @ self._rest.T)[TURN]
            if hair is not None:
                weight[number:] = seen * self._hair_weight(points[number:], rotation, translation, turn)
            normal_equations(
                neutral, by_landmark, expression, rotation, joint, translation,
                camera.scale, centre, camera.distance, points, weight, free, normal, pull, missing, turned,
            )  # fmt: skip
            if step == steps:
                break
            pull[6:] -= expression[free] / self._sigma[free] ** 2
            normal[np.diag_indices_from(normal)] += precision
            stiffness = 1 / (TURN_SIGMA**2 * (1 + turn @ turn / TURN_REACH**2))
            normal[TURN, TURN] += stiffness  # on the diagonal
            pull[TURN] -= stiffness * turn
            change = _bounded_step(normal, pull, expression[free])
            rotation = rotation_by(change[:3]) @ rotation
            translation = translation + change[3:6]
            expression[free] = np.clip(expression[free] + change[6:], 0, 1)
        # A detector guesses the iris of a closed eye: there the eyes look as they did.
        open_eyes = smoothstep(*CLOSED_TO_OPEN, eye_openness(points))[:, None]
        gaze = before.gaze + open_eyes * (self.gaze(rotation, translation, expression, points) - before.gaze)
        expression = with_gaze(self.model, expression, gaze)
        error = float(np.linalg.norm(missing[NAMED], axis=1)[self._trust[NAMED] > 0].mean() / face_extent(points))
        kept = MOUTH_AND_LIDS
        detail = lifted(missing[kept], turned[kept], self.camera, rotation)
        return FrameFit(expression.astype(np.float32), rotation, translation, gaze, detail.astype(np.float32), error)

    def _hair_weight(
        self, places: np.ndarray, rotation: np.ndarray, translation: np.ndarray, turn: np.ndarray
    ) -> np.ndarray:
        """(H,): how much spots of hair seen at ``places`` (H, 2) count for a head that is so posed, turned by ``turn``
        (2,) radians from rest."""
        turned = (self._neutral[-len(places) :] - NECK_JOINT) @ rotation.T + NECK_JOINT + translation
        missed = np.linalg.norm(self.camera.project(turned)[:, :2] - places, axis=1) / self.camera.scale
        sigma = np.hypot(HAIR_SIGMA, HAIR_DEPTH_SIGMA * np.linalg.norm(turn))
        weight: np.ndarray = 1 / (self.camera.scale * sigma * (1 + (missed / HAIR_REACH) ** 2))  # Geman-McClure
        return weight

    def gaze(
        self, rotation: np.ndarray, translation: np.ndarray, expression: np.ndarray, landmarks: np.ndarray
    ) -> np.ndarray:
        """(2, 2) degrees by which the eyes turn so that their pupils lie where the irises are."""
        pivot, camera = NECK_JOINT.astype(float), self.camera
        result = np.zeros((2, 2))
        for eye, landmark in ((0, 69), (1, 68)):  # the left eye's iris is the second one
            centre = self._centres[eye]
            arm = self._neutral[landmark] - centre
            middle = (centre - pivot) @ rotation.T + pivot + translation
            angles = np.zeros(2)
            for _ in range(3):
                turn = eye_rotation(angles)
                point = (turn @ arm) @ rotation.T + middle
                place, by_point = project(point[None], camera.scale, np.array(camera.centre), camera.distance)
                missing = landmarks[landmark] - place[0]
                delta = 0.5
                columns = [
                    by_point[0] @ (rotation @ ((eye_rotation(angles + step) - turn) @ arm)) / delta
                    for step in (np.array([delta, 0]), np.array([0, delta]))
                ]
                jacobian = np.column_stack(columns)
                normal = jacobian.T @ jacobian
                normal += 1e-4 * np.trace(normal) * np.eye(2)
                angles = np.clip(angles + np.linalg.solve(normal, jacobian.T @ missing), -MAX_GAZE, MAX_GAZE)
            result[eye] = angles
        # Eyes look at one thing; what remains is mostly the detector's error.
        together = result.mean(axis=0)
        return together + VERGENCE_KEPT * (result - together)


def _bounded_step(normal: np.ndarray, pull: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """The Gauss-Newton step whose expression stays in 0..1: what would leave it is put on the bound and left out.

    ``normal`` (6 + F, 6 + F), ``pull`` (6 + F,), ``expression`` (F,) now. Returns (6 + F,).
    """
    step = np.linalg.solve(normal, pull)
    fixed = np.zeros(len(pull), bool)
    for _ in range(2):
        wanted = expression + step[6:]
        outside = (wanted < 0) | (wanted > 1)
        if not (outside & ~fixed[6:]).any():
            break
        fixed[6:] |= outside
        bound = np.zeros(len(pull))
        bound[6:] = np.clip(wanted, 0, 1) - expression
        free = ~fixed
        step = np.where(fixed, bound, 0.0)
        step[free] = np.linalg.solve(normal[np.ix_(free, free)], pull[free] - normal[np.ix_(free, fixed)] @ step[fixed])
    return step
