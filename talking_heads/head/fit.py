"""Landmarks -> the head that explains them: a person over all photos, then pose, expression and gaze of each frame.

Gauss-Newton on the distances between landmarks and projected vertices, with Gaussian priors on the coefficients: a
maximum a posteriori fit. All photos of a person share the identity coefficients; each photo has its own pose, camera
and expression. Gaze is fitted after the pose, from the irises alone: used earlier, they would turn the head with them.

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
from .model import EYES, NECK_JOINT, Camera, FaceModel, face_model, rotation_by, rotation_vector, smoothstep
from .pose_kernels import normal_equations

NUM_IDENTITY = 64
LANDMARK_SIGMA = 0.015
"""Standard deviation of a landmark, in sizes of the face."""
EXPRESSION_SIGMA = 0.3
BLINK_SIGMA = 1.0
TURN_SIGMA, TURN_REACH = np.radians(0.5), np.radians(1.0)
"""Prior of how far a frame nods and turns aside from the pose at rest: Gaussian for small turns, as a Cauchy
distribution beyond. When lips or brows move, a detector's points move as if the head had turned by a degree or two:
hair and ears, which it does not see, would turn with it. Large turns are real."""
MAX_STEPS = 12
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


@dataclass(frozen=True)
class PhotoFit:
    """One photo of a person: the camera that took it, and what it shows."""

    camera: Camera
    frame: FrameFit
    offset: np.ndarray = field(repr=False)
    """float32 (V, 3) cm in the model's axes that no coefficient can express: with it lids and lips lie where the photo
    shows them."""


@dataclass(frozen=True)
class PersonFit:
    """A person over all photos."""

    identity_coefficients: np.ndarray
    """float32 (I,) in standard deviations."""
    photos: tuple[PhotoFit, ...]


# ---------------------------------------------------------------------------------------------------------- jacobians


def _project(points: np.ndarray, scale: float, centre: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Turned points (N, 3) -> their places (N, 2), and d(place) / d(turned point), (N, 2, 3)."""
    nearness = 1 / (1 - points[:, 2] / distance)
    zoom = scale * nearness
    flat = points[:, :2] * [1, -1]
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0], by_point[:, 1, 1] = zoom, -zoom
    by_point[:, :, 2] = (zoom * nearness / distance)[:, None] * flat
    return centre + zoom[:, None] * flat, by_point


def _by_turn(arms: np.ndarray) -> np.ndarray:
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
    """Diagonal of the box around the 68 points (..., L, 2): the unit of errors here."""
    return float(np.linalg.norm(landmarks[:68].max(axis=0) - landmarks[:68].min(axis=0)))


def _prior(model: FaceModel) -> np.ndarray:
    """(E,) standard deviations of expressions; next to 0 for those of gaze, which the irises decide."""
    sigma = np.full(len(model.expression_names), EXPRESSION_SIGMA)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        sigma[model.index(name)] = BLINK_SIGMA
    sigma[[model.index(name) for name in GAZE_NAMES]] = 1e-3
    return sigma


# ------------------------------------------------------------------------------------------------------------- person


@dataclass
class _PhotoState:
    """The unknowns of one photo."""

    rotation: np.ndarray
    scale: float
    centre: np.ndarray
    expression: np.ndarray


def fit_person(model: FaceModel, landmarks: Sequence[np.ndarray], trust: np.ndarray = TRUST) -> PersonFit:
    """Landmarks (L, 2) of each of 1 to 32 photos -> the person, and each photo's camera, pose and expression.

    All photos share the identity coefficients; the photos' own unknowns are eliminated photo by photo (Schur
    complement). In the end all photos have one camera, and where they were taken from is their translation: so frames
    compare with all of them.
    ``trust`` (L,): how much each landmark counts.
    """
    with single_blas_thread():
        return _fit_person(model, landmarks, trust)


def _fit_person(model: FaceModel, landmarks: Sequence[np.ndarray], trust: np.ndarray) -> PersonFit:
    spots = model.landmark_vertices
    mean = model.mean[spots].astype(float)
    shapes = model.identity_basis[:NUM_IDENTITY, spots].astype(float)  # (I, L, 3)
    muscles = model.expression_basis[:, spots].astype(float)  # (E, L, 3)
    sigma = _prior(model)
    states = [_first_guess(mean, points, len(muscles)) for points in landmarks]
    identity_coefficients = np.zeros(len(shapes))
    for step in range(MAX_STEPS):
        # The first steps find the pose; then what the face is; then what it does.
        total, pull = np.eye(len(identity_coefficients)), -identity_coefficients.copy()
        solved = []
        for state, points in zip(states, landmarks, strict=True):
            base = mean + np.tensordot(identity_coefficients, shapes, axes=1)
            own, common, residual, weight = _linearise(state, base, muscles, shapes, points, trust)
            precision = np.concatenate([np.full(6, 1e-6), 1 / sigma**2])
            held = np.concatenate([np.zeros(6), state.expression / sigma**2])
            if step < 2:
                precision[6:] = 1e6
            square = weight[:, None] ** 2
            a = (own * square).T @ own + np.diag(precision)
            b = (own * square).T @ common
            r = own.T @ (weight**2 * residual) - held
            inverse = np.linalg.solve(a, np.column_stack([b, r]))
            total += (common * square).T @ common - b.T @ inverse[:, :-1]
            pull += common.T @ (weight**2 * residual) - b.T @ inverse[:, -1]
            solved.append(inverse)
        change = np.linalg.solve(total, pull)
        identity_coefficients = identity_coefficients + change
        for state, inverse in zip(states, solved, strict=True):
            own_change = inverse[:, -1] - inverse[:, :-1] @ change
            state.rotation = rotation_by(own_change[:3]) @ state.rotation
            state.scale *= np.exp(np.clip(own_change[3], -0.5, 0.5))
            state.centre = state.centre + own_change[4:6]
            state.expression = np.clip(state.expression + own_change[6:], 0, 1)  # muscles pull, they do not push
    identity_coefficients = identity_coefficients.astype(np.float32)
    centre = np.median([state.centre for state in states], axis=0)
    camera = Camera(float(np.median([state.scale for state in states])), (float(centre[0]), float(centre[1])))
    rest = pose_at_rest([state.rotation for state in states])
    photos = [
        _finish_photo(model, identity_coefficients, camera, state, points, trust, rest)
        for state, points in zip(states, landmarks, strict=True)
    ]
    return PersonFit(identity_coefficients, tuple(photos))


def _first_guess(mean: np.ndarray, points: np.ndarray, num_expressions: int) -> _PhotoState:
    """Scale, place and roll from the eyes and the chin; then rigid Gauss-Newton does the rest."""
    across = points[45] - points[36]
    down = points[8] - points[27]
    scale = max(
        float(np.linalg.norm(across) / np.linalg.norm(mean[45] - mean[36])),
        0.8 * float(np.linalg.norm(down) / np.linalg.norm(mean[8] - mean[27])),
    )
    rotation = rotation_by(np.array([0, 0, -np.arctan2(across[1], across[0])]))
    turned = mean[:68] @ rotation.T
    centre = points[:68].mean(axis=0) - scale * turned.mean(axis=0)[:2] * [1, -1]
    return _PhotoState(rotation, scale, centre, np.zeros(num_expressions))


def _linearise(
    state: _PhotoState,
    base: np.ndarray,
    muscles: np.ndarray,
    shapes: np.ndarray,
    points: np.ndarray,
    trust: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Jacobians by a photo's own unknowns (2L, 6 + E) and by identity (2L, I), residuals and weights (2L,)."""
    turned = (base + np.tensordot(state.expression, muscles, axes=1)) @ state.rotation.T
    camera = Camera(state.scale, (0.0, 0.0))
    places, by_point = _project(turned, state.scale, state.centre, camera.distance)
    rows = 2 * len(points)
    own = np.concatenate(
        [
            by_point @ _by_turn(turned),
            (places - state.centre)[:, :, None],  # by the logarithm of the scale
            np.broadcast_to(np.eye(2), (len(points), 2, 2)),
            _along(by_point, muscles @ state.rotation.T),
        ],
        axis=2,
    ).reshape(rows, -1)
    common = _along(by_point, shapes @ state.rotation.T).reshape(rows, -1)
    weight = np.repeat(trust / (LANDMARK_SIGMA * face_extent(points)), 2)
    return own, common, (points - places).reshape(-1), weight


def _along(by_point: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(N, 2, 3) and (C, N, 3) -> (N, 2, C)."""
    return by_point @ directions.transpose(1, 2, 0)


def pose_at_rest(rotations: Sequence[np.ndarray]) -> np.ndarray:
    """The rotation (3, 3) amid some, from which a person's turns are counted."""
    left, _, right = np.linalg.svd(np.sum(rotations, axis=0))
    result: np.ndarray = left @ right
    return result


def posed(vertices: np.ndarray, frame: FrameFit) -> np.ndarray:
    """Vertices (V, 3) in the model's axes -> (V, 3) turned about the neck and shifted, in the picture's axes."""
    return (vertices - NECK_JOINT) @ frame.rotation.T + NECK_JOINT + frame.translation


def _finish_photo(
    model: FaceModel,
    identity_coefficients: np.ndarray,
    camera: Camera,
    state: _PhotoState,
    points: np.ndarray,
    trust: np.ndarray,
    rest: np.ndarray,
) -> PhotoFit:
    # Photos as frames are: what is taken for noise there must be taken for noise here.
    fitter = FrameFitter(model, identity_coefficients, camera, trust=trust, rest=rest)
    # Frames turn about the neck, the first fit about the origin; and what was a larger scale is nearer now.
    nearer = camera.distance * (1 - camera.scale / state.scale)
    shift = (state.rotation - np.eye(3)) @ NECK_JOINT + np.array([0, 0, nearer])
    shift[:2] += (state.centre - np.array(camera.centre)) / state.scale * [1, -1]
    gaze = fitter.gaze(state.rotation, shift, state.expression, points)
    expression = with_gaze(model, state.expression, gaze)
    # The lids go with the eyes: what the lids do else is found once more.
    frame = fitter.fit(points, FrameFit(expression, state.rotation, shift, gaze, np.empty(0), 0.0), steps=6)
    rest = model.vertices(identity_coefficients, frame.expression)
    turned = posed(rest[model.landmark_vertices], frame)
    places, _ = _project(turned, camera.scale, np.array(camera.centre), camera.distance)
    offsets = _lifted(points - places, turned, camera, frame.rotation)
    offset = _offset(model, rest, offsets)
    frame = FrameFit(
        frame.expression, frame.rotation, frame.translation, frame.gaze,
        np.zeros((len(MOUTH_AND_LIDS), 3), np.float32), frame.error,
    )  # fmt: skip
    return PhotoFit(camera, frame, offset)


def _lifted(missing: np.ndarray, turned: np.ndarray, camera: Camera, rotation: np.ndarray) -> np.ndarray:
    """Displacements in the picture (N, 2) at turned points (N, 3) -> (N, 3) cm in the model's axes, none in depth."""
    zoom = camera.scale / (1 - turned[:, 2:] / camera.distance)
    flat = missing / zoom * [1, -1]
    return np.column_stack([flat, np.zeros(len(flat))]) @ rotation


def _offset(model: FaceModel, vertices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Residuals of a photo's fit at the landmarks (L, 3) -> float32 (V, 3) over the skin of lids and lips alone.

    Eyes and jaws are moved as a whole. Spread over the whole face it is mostly the detector's error; it costs likeness.
    """
    offset = detail_spread(model, vertices) @ offsets[MOUTH_AND_LIDS].astype(np.float32)
    offset[np.isin(model.part, ["teeth", "gums_tongue"])] = offsets[48:68].mean(axis=0)
    for name, eye in zip(EYES, (LEFT_EYE, RIGHT_EYE), strict=True):
        offset[model.part == name] = offsets[eye].mean(axis=0)
    return offset


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


# -------------------------------------------------------------------------------------------------------------- frames


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
    ) -> None:
        """``identity_coefficients`` (I,) and ``offset`` (V, 3) cm are the person's; ``camera`` is that of the crop that
        frames come in; ``trust`` (L,): how much each landmark counts; ``rest`` (3, 3): the head's rotation at rest,
        frontal if None."""
        self.model, self.camera, self._trust = model, camera, trust
        self._rest = np.eye(3) if rest is None else rest
        spots = model.landmark_vertices
        offset = np.zeros_like(model.mean) if offset is None else offset
        neutral = model.vertices(identity_coefficients) + offset
        self._neutral = neutral[spots].astype(float)
        self._by_landmark = np.ascontiguousarray(model.expression_basis[:, spots].transpose(1, 0, 2), dtype=float)
        self._free = np.array([i for i, name in enumerate(model.expression_names) if name not in GAZE_NAMES])
        self._sigma = _prior(model)
        self._centres = eye_centres(model, neutral).astype(float)

    def start(self) -> FrameFit:
        """Nobody's expression, seen from the front."""
        zeros = np.zeros(len(self._sigma), np.float32)
        detail = np.zeros((len(MOUTH_AND_LIDS), 3), np.float32)
        return FrameFit(zeros, np.eye(3), np.zeros(3), np.zeros((2, 2)), detail, 0.0)

    def fit(self, landmarks: np.ndarray, before: FrameFit, steps: int = 3) -> FrameFit:
        """Landmarks (L, 2) in sides of the crop -> the frame, in ``steps`` from ``before``."""
        points = landmarks.astype(float)
        weight = self._trust / (LANDMARK_SIGMA * face_extent(points))
        rotation, translation = before.rotation.astype(float), before.translation.astype(float)
        expression = before.expression.astype(float)
        free, joint = self._free, NECK_JOINT.astype(float)
        precision = np.concatenate([np.full(6, 1e-6), 1 / self._sigma[free] ** 2])
        normal, pull = np.empty((len(precision), len(precision))), np.empty(len(precision))
        missing, turned = np.empty((len(points), 2)), np.empty((len(points), 3))
        camera, centre = self.camera, np.array(self.camera.centre)
        for step in range(steps + 1):
            normal_equations(
                self._neutral, self._by_landmark, expression, rotation, joint, translation,
                camera.scale, centre, camera.distance, points, weight, free, normal, pull, missing, turned,
            )  # fmt: skip
            if step == steps:
                break
            pull[6:] -= expression[free] / self._sigma[free] ** 2
            normal[np.diag_indices_from(normal)] += precision
            turn = rotation_vector(rotation @ self._rest.T)[_TURN]
            stiffness = 1 / (TURN_SIGMA**2 * (1 + turn @ turn / TURN_REACH**2))
            normal[_TURN, _TURN] += stiffness
            pull[_TURN] -= stiffness * turn
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
        detail = _lifted(missing[kept], turned[kept], self.camera, rotation)
        return FrameFit(expression.astype(np.float32), rotation, translation, gaze, detail.astype(np.float32), error)

    def gaze(
        self, rotation: np.ndarray, translation: np.ndarray, expression: np.ndarray, landmarks: np.ndarray
    ) -> np.ndarray:
        """(2, 2) degrees by which the eyes turn so that their pupils lie where the irises are."""
        pivot = NECK_JOINT.astype(float)
        result = np.zeros((2, 2))
        for eye, landmark in ((0, 69), (1, 68)):  # the left eye's iris is the second one
            centre = self._centres[eye]
            arm = self._neutral[landmark] - centre
            middle = (centre - pivot) @ rotation.T + pivot + translation
            angles = np.zeros(2)
            for _ in range(3):
                turn = eye_rotation(angles)
                point = (turn @ arm) @ rotation.T + middle
                place, by_point = _project(
                    point[None], self.camera.scale, np.array(self.camera.centre), self.camera.distance
                )
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


_TURN = np.arange(2)
"""Places of nods and turns aside among the unknowns of a frame; how far the head is tilted the eyes say well."""


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


def complete(points: np.ndarray) -> np.ndarray:
    """The 68 points (68, 2) of a face about one unit large -> all landmarks (L, 2), the others from the face model."""
    model = face_model()
    known = slice(0, 68)
    trust = TRUST.copy()
    trust[known.stop :] = 0
    landmarks = np.zeros((SKIN.stop, 2))
    landmarks[known] = points
    landmarks[IRISES] = points[RIGHT_EYE].mean(axis=0), points[LEFT_EYE].mean(axis=0)
    person = fit_person(model, [landmarks], trust)
    photo = person.photos[0]
    shape = model.vertices(person.identity_coefficients, photo.frame.expression) + photo.offset
    result = photo.camera.project(posed(shape, photo.frame)[model.landmark_vertices])[:, :2]
    result[known] = points
    return result
