"""Motion in landmark space: head pose, and one person's motion carried over to another person's face.

Landmarks of two people differ in shape; painting a person from another's landmarks changes who is seen (the paper's
stated weakness). ``relative`` motion takes only what changes in the driver since its most neutral frame: the rotation,
scale and shift of the head in three dimensions, and what remains, the expression.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from .face_pose import MEAN_FACE, RIGID, Pose, face_scale, fit_pose, lift, rotation_matrix
from .landmarks import (
    INNER_LIP,
    IRISES,
    LEFT_EYE,
    NAMED,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    SKIN,
    irises_within_lids,
)

Motion = Literal["relative", "absolute"]
MOTIONS: tuple[Motion, ...] = ("relative", "absolute")

_REACH = 0.06
"""How far a part of the face takes the skin around it along, in sizes of the face."""


def _nearness() -> np.ndarray:
    """(skin, named): how much each named point has to say to each point of the skin; rows sum to one."""
    apart = np.linalg.norm(MEAN_FACE[SKIN, None] - MEAN_FACE[None, NAMED], axis=-1)
    weights = np.exp(-0.5 * np.square(apart / _REACH)) + 1e-9
    return weights / weights.sum(axis=1, keepdims=True)


_SKIN_FOLLOWS = _nearness()
_EYES = ((RIGHT_EYE, 68, (37, 38, 41, 40)), (LEFT_EYE, 69, (43, 44, 47, 46)))


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the two eyes, (..., L, 2) -> (..., 2): about 0.3 open, under 0.1 closed."""
    ratios = []
    for eye, _, (a, b, c, d) in _EYES:
        height = np.linalg.norm(landmarks[..., a, :] - landmarks[..., c, :], axis=-1)
        height = height + np.linalg.norm(landmarks[..., b, :] - landmarks[..., d, :], axis=-1)
        width = np.linalg.norm(landmarks[..., eye.start, :] - landmarks[..., eye.start + 3, :], axis=-1)
        ratios.append(0.5 * height / np.maximum(width, 1e-6))
    return np.stack(ratios, axis=-1)


def mouth_openness(landmarks: np.ndarray) -> np.ndarray:
    """Gap of the inner lips over the mouth's width, (..., L, 2) -> (...): 0 closed."""
    gap = np.linalg.norm(landmarks[..., 61:64, :] - landmarks[..., [67, 66, 65], :], axis=-1).mean(axis=-1)
    width = np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)
    return gap / np.maximum(width, 1e-6)


def most_neutral(track: np.ndarray) -> int:
    """The frame of a track (T, L, 2) with the most frontal head, the mouth closed and the eyes open."""
    angles = np.array([fit_pose(MEAN_FACE, points).angles[:2] for points in track])
    eyes = eye_openness(track).mean(axis=-1)
    closed = np.clip(np.median(eyes) - eyes, 0, None)
    return int(np.argmin(np.abs(angles).sum(axis=1) + 1.5 * mouth_openness(track) + 6 * closed))


def retarget(
    track: np.ndarray,
    photo: np.ndarray,
    neutral: np.ndarray | None = None,
    head: float = 1.0,
    expression: float = 1.0,
    gaze: float = 1.0,
) -> np.ndarray:
    """Relative motion: the driver's change since its neutral frame, applied to the photo's geometry.

    track: the driver's landmarks (T, L, 2); photo: the person's landmarks (L, 2) in pixels of the crop;
    neutral: the driver's landmarks (L, 2) that stand for the photo's pose, its most neutral frame when None.
    ``head``, ``expression`` and ``gaze`` scale the three parts; 0 leaves a part as in the photo.
    Returns float32 (T, L, 2) in pixels of the photo's crop.
    """
    if track.ndim != 3 or track.shape[1:] != (NUM_LANDMARKS, 2):
        raise ValueError(f"expected (T, {NUM_LANDMARKS}, 2), got {track.shape}")
    reference = track[most_neutral(track)] if neutral is None else neutral
    driver, person = lift(reference), lift(photo)
    pivot = person[RIGID].mean(axis=0)
    size_ratio = face_scale(photo) / face_scale(reference)
    scale = _expression_scale(reference, photo) * size_ratio  # (L, 1)
    result = np.empty((len(track), NUM_LANDMARKS, 2))
    for t, points in enumerate(track):
        pose = fit_pose(driver, points)
        # Expression: what is left of the driver after its head's motion is undone.
        still = (points - pose.shift) / pose.scale - driver @ pose.rotation[:2].T
        undone = still @ _unturned(pose.rotation).T  # (L, 2): in the driver's own axes; depth is not observed
        change = np.column_stack([undone, np.zeros(NUM_LANDMARKS)]) * scale * expression
        change[IRISES] = _gaze_change(reference + undone, reference, photo, gaze)
        moved = person + change
        rotation, zoom = _scaled_rotation(pose, head), pose.scale**head
        centre = driver[RIGID].mean(axis=0)
        shift = head * size_ratio * (pose.project(centre[None])[0] - centre[:2])
        result[t] = zoom * ((moved - pivot) @ rotation[:2].T) + pivot[:2] + shift
    return irises_within_lids(_keep_lids_and_lips_apart(result)).astype(np.float32)


def _unturned(rotation: np.ndarray) -> np.ndarray:
    """(2, 2): displacements seen in the image -> those in the face's own plane that look so from there.

    What a turned head foreshortens is drawn out again, at most twofold: further there is little left but noise.
    """
    u, singular, vt = np.linalg.svd(rotation[:2, :2])
    return (vt.T / np.maximum(singular, 0.5)) @ u.T


def _scaled_rotation(pose: Pose, amount: float) -> np.ndarray:
    if amount == 1.0:
        return pose.rotation
    yaw, pitch, roll = pose.angles
    return rotation_matrix(amount * yaw, amount * pitch, amount * roll)


def _expression_scale(driver: np.ndarray, person: np.ndarray) -> np.ndarray:
    """How much larger a part of the person's face is than the driver's, relative to the face, (L, 1).

    A lid must travel the person's own opening to close, and lips the width of the person's own mouth.
    """
    scale = np.ones((NUM_LANDMARKS, 1))
    spans = face_scale(person) / face_scale(driver)
    for eye, _, _ in _EYES:
        heights = [_eye_height(face, eye) for face in (person, driver)]
        scale[eye] = np.clip(heights[0] / max(heights[1] * spans, 1e-6), 0.5, 2.0)
    widths = [float(np.linalg.norm(face[48] - face[54])) for face in (person, driver)]
    mouth = float(np.clip(widths[0] / max(widths[1] * spans, 1e-6), 0.7, 1.4))
    scale[OUTER_LIP] = scale[INNER_LIP] = mouth
    scale[SKIN] = _SKIN_FOLLOWS @ scale[NAMED]
    return scale


def _eye_height(face: np.ndarray, eye: slice) -> float:
    points = face[eye]
    return float(0.5 * (np.linalg.norm(points[1] - points[5]) + np.linalg.norm(points[2] - points[4])))


def _gaze_change(points: np.ndarray, reference: np.ndarray, photo: np.ndarray, gaze: float) -> np.ndarray:
    """Displacement (2, 3) of the person's irises: the change of where the driver's lie within their eyes."""
    change = np.zeros((2, 3))
    for row, (eye, iris, _) in enumerate(_EYES):
        now, before = _iris_in_eye(points, eye, iris), _iris_in_eye(reference, eye, iris)
        corners = photo[[eye.start, eye.start + 3]]
        across = corners[1] - corners[0]
        down = np.array([-across[1], across[0]])
        delta = np.clip(now - before, -0.4, 0.4)
        change[row, :2] = gaze * (delta[0] * across + delta[1] * down)
    return change


def _iris_in_eye(points: np.ndarray, eye: slice, iris: int) -> np.ndarray:
    """(along, below) the line between the eye's corners, in units of its length."""
    first, last = points[eye.start], points[eye.start + 3]
    across = last - first
    length = max(float(across @ across), 1e-6)
    offset = points[iris] - 0.5 * (first + last)
    return np.array([offset @ across, offset @ np.array([-across[1], across[0]])]) / length


def _keep_lids_and_lips_apart(track: np.ndarray) -> np.ndarray:
    """Upper lids and lips never pass below the lower ones: where they would cross, both go to the middle."""
    pairs = [(37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)]
    down = track[:, 8] - track[:, 27]
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    for upper, lower in pairs:
        gap = np.sum((track[:, lower] - track[:, upper]) * down, axis=-1, keepdims=True)
        crossing = 0.5 * np.minimum(gap, 0.0) * down
        track[:, upper] += crossing
        track[:, lower] -= crossing
    return track


def choose_shots(
    track: Iterable[np.ndarray], shots: np.ndarray, fade: int = 9
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which of a person's photos to warp in each frame: (face, weights (K,)), which sum to one, at most a cross-fade.

    track: faces (L, 2), and shots: (K, L, 2), both of the person's own geometry. The nearest in pose and expression is
    taken; another must be clearly nearer to take over, and then fades in over ``fade`` (odd) frames, so that nothing
    pops.
    Comes ``fade // 2`` frames behind the faces, or with them where there is one photo only.
    """
    if len(shots) == 1:
        yield from ((face, np.ones(1, np.float32)) for face in track)
        return
    keys = np.stack([describe(face) for face in shots])
    behind = fade // 2
    waiting: deque[np.ndarray] = deque()
    choices: deque[int] = deque(maxlen=2 * behind + 1)

    def weights() -> np.ndarray:
        return np.bincount(choices, minlength=len(shots)).astype(np.float32) / np.float32(len(choices))

    for face in track:
        distances = np.linalg.norm(keys - describe(face), axis=1)
        best = int(np.argmin(distances))
        if not choices:
            choices.extend([best] * (behind + 1))  # as if it had always been so
        else:
            choices.append(best if distances[best] < 0.75 * distances[choices[-1]] else choices[-1])
        waiting.append(face)
        if len(waiting) > behind:
            yield waiting.popleft(), weights()
    if waiting:
        choices.extend([choices[-1]] * (behind - len(waiting)))
    while waiting:
        choices.append(choices[-1])
        yield waiting.popleft(), weights()


def describe(face: np.ndarray) -> np.ndarray:
    """Pose and expression of a face (L, 2) as five numbers of comparable weight: yaw, pitch, mouth and both eyes.

    Distances between descriptions say how far a warp would have to go; it bridges a closed lid less well than a turned
    head.
    """
    yaw, pitch, _ = fit_pose(MEAN_FACE, face).angles
    return np.concatenate([[2 * yaw, 2 * pitch, 2 * float(mouth_openness(face))], 2 * eye_openness(face)])
