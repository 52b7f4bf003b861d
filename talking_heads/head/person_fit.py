"""Landmarks of photos -> the person that they show: identity over all of them, pose and expression of each.

Gauss-Newton on the distances between landmarks and projected vertices, with Gaussian priors on the coefficients: a
maximum a posteriori fit. All photos of a person share the identity coefficients; each photo has its own pose and
expression. What is left is fitted as frames are, see fit.py.

Landmarks are float (L, 2) in sides of the crop (model.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..landmarks import IRISES, LEFT_EYE, RIGHT_EYE, SKIN
from .eyes import with_gaze
from .fit import (
    LANDMARK_SIGMA,
    MOUTH_AND_LIDS,
    TRUST,
    FrameFit,
    FrameFitter,
    by_turn,
    detail_spread,
    expression_prior,
    face_extent,
    lifted,
    pose_at_rest,
    posed,
    project,
    single_blas_thread,
)
from .model import EYES, NECK_JOINT, Camera, FaceModel, face_model, rotation_by

NUM_IDENTITY = 64
MAX_STEPS = 12
NEAR_SCALP, BACK_OF_HEAD = 1.0, -6.0
"""cm in the picture within which the scalp is as deep as a spot of hair; depth in cm behind which it is not seen."""


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


@dataclass
class _PhotoState:
    """The unknowns of one photo."""

    rotation: np.ndarray
    scale: float
    centre: np.ndarray
    expression: np.ndarray


def fit_person(
    model: FaceModel, landmarks: Sequence[np.ndarray], trust: np.ndarray = TRUST, hair: np.ndarray | None = None
) -> PersonFit:
    """Landmarks (L, 2) of each of 1 to 32 photos -> the person, and each photo's camera, pose and expression.

    All photos share the identity coefficients; the photos' own unknowns are eliminated photo by photo (Schur
    complement). In the end all photos have one camera, and where they were taken from is their translation: so frames
    compare with all of them.
    ``trust`` (L,): how much each landmark counts. ``hair`` (K, H, 2): spots in it that flow has followed from photo to
    photo, NaN where they are not seen.
    """
    with single_blas_thread():
        return _fit_person(model, landmarks, trust, hair)


def _fit_person(
    model: FaceModel, landmarks: Sequence[np.ndarray], trust: np.ndarray, hair: np.ndarray | None
) -> PersonFit:
    vertices = model.landmark_vertices
    mean = model.mean[vertices].astype(float)
    shapes = model.identity_basis[:NUM_IDENTITY, vertices].astype(float)  # (I, L, 3)
    muscles = model.expression_basis[:, vertices].astype(float)  # (E, L, 3)
    sigma = expression_prior(model)
    states = [_first_guess(mean, points, len(muscles)) for points in landmarks]
    identity_coefficients = np.zeros(len(shapes))
    for step in range(MAX_STEPS):
        # The first two steps find pose and identity, the others what the face does, too.
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
    fitter = FrameFitter(model, identity_coefficients, camera, trust=trust, rest=rest)
    photos = [_finish_photo(fitter, state, points) for state, points in zip(states, landmarks, strict=True)]
    if hair is not None and np.isfinite(hair).any():
        spots = spots_in_hair(model, identity_coefficients, camera, [photo.frame for photo in photos], hair)
        fitter = FrameFitter(model, identity_coefficients, camera, trust=trust, rest=rest, hair=spots)
        photos = [_finish_photo(fitter, *each) for each in zip(states, landmarks, hair, strict=True)]
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
    places, by_point = project(turned, state.scale, state.centre, camera.distance)
    rows = 2 * len(points)
    own = np.concatenate(
        [
            by_point @ by_turn(turned),
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


def _finish_photo(
    fitter: FrameFitter, state: _PhotoState, points: np.ndarray, hair: np.ndarray | None = None
) -> PhotoFit:
    """A photo as frames are fitted: what is taken for noise there must be taken for noise here."""
    model, camera = fitter.model, fitter.camera
    # Frames turn about the neck, the first fit about the origin; and what was a larger scale is nearer now.
    nearer = camera.distance * (1 - camera.scale / state.scale)
    shift = (state.rotation - np.eye(3)) @ NECK_JOINT + np.array([0, 0, nearer])
    shift[:2] += (state.centre - np.array(camera.centre)) / state.scale * [1, -1]
    gaze = fitter.gaze(state.rotation, shift, state.expression, points)
    expression = with_gaze(model, state.expression, gaze)
    # The lids go with the eyes: what the lids do else is found once more.
    start = FrameFit(expression, state.rotation, shift, gaze, np.empty(0), 0.0)
    frame = fitter.fit(points, start, steps=6, hair=hair)
    rest = model.vertices(fitter.identity_coefficients, frame.expression)
    turned = posed(rest[model.landmark_vertices], frame)
    places, _ = project(turned, camera.scale, np.array(camera.centre), camera.distance)
    offsets = lifted(points - places, turned, camera, frame.rotation)
    offset = _offset(model, rest, offsets)
    frame = FrameFit(
        frame.expression, frame.rotation, frame.translation, frame.gaze,
        np.zeros((len(MOUTH_AND_LIDS), 3), np.float32), frame.error,
    )  # fmt: skip
    return PhotoFit(camera, frame, offset)


def _offset(model: FaceModel, vertices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Residuals of a photo's fit at the landmarks (L, 3) -> float32 (V, 3) over the skin of lids and lips alone.

    Eyes and jaws are moved as a whole. Spread over the whole face it is mostly the detector's error; it costs likeness.
    """
    offset = detail_spread(model, vertices) @ offsets[MOUTH_AND_LIDS].astype(np.float32)
    offset[np.isin(model.part, ["teeth", "gums_tongue"])] = offsets[48:68].mean(axis=0)
    for name, eye in zip(EYES, (LEFT_EYE, RIGHT_EYE), strict=True):
        offset[model.part == name] = offsets[eye].mean(axis=0)
    return offset


def spots_in_hair(
    model: FaceModel,
    identity_coefficients: np.ndarray,
    camera: Camera,
    photos: Sequence[FrameFit],
    places: np.ndarray,
) -> np.ndarray:
    """Spots of hair seen at ``places`` (K, H, 2) in ``photos``, in sides of the crop -> where they are in the head, on
    average, (H, 3) cm in the model's axes: as deep as the scalp of that person there. NaN for what no photo shows."""
    skin = model.vertices(identity_coefficients)[model.skin]
    found = np.full((*places.shape[:2], 3), np.nan)
    for k, frame in enumerate(photos):
        turned = posed(skin, frame)
        turned = turned[turned[:, 2] > BACK_OF_HEAD + frame.translation[2]]
        at = camera.project(turned)[:, :2]
        for h in np.flatnonzero(np.isfinite(places[k]).all(axis=1)):
            distance = np.linalg.norm(at - places[k, h], axis=1) / camera.scale
            depth = turned[distance < max(NEAR_SCALP, distance.min() + 0.7 * NEAR_SCALP), 2].mean()
            flat = (places[k, h] - camera.centre) / camera.scale * (1 - depth / camera.distance) * [1, -1]
            found[k, h] = (np.append(flat, depth) - NECK_JOINT - frame.translation) @ frame.rotation + NECK_JOINT
    number = np.isfinite(found[..., :1]).sum(axis=0)
    return np.where(number > 0, np.nansum(found, axis=0) / np.maximum(number, 1), np.nan)


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
