"""Motion in landmark space: head pose, and one person's motion carried over to another person's face.

Landmarks of two people differ in shape; painting a person from another's landmarks changes who is seen (the paper's
stated weakness). ``relative`` motion takes only what changes in the driver since its most neutral frame: the rotation,
scale and shift of the head in three dimensions, and what remains, the expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .landmarks import INNER_LIP, IRISES, LEFT_EYE, NUM_LANDMARKS, OUTER_LIP, RIGHT_EYE, irises_within_lids

Motion = Literal["relative", "absolute"]
MOTIONS: tuple[Motion, ...] = ("relative", "absolute")

# Mean of 80 neutral frontal faces as the face mesh sees them, made symmetric: x to the right, y down, z towards the
# viewer, in units of the face's size (hairline to chin).
# fmt: off
MEAN_FACE = np.array([
    (-0.414, -0.125, 0.000), (-0.410, -0.038, -0.021), (-0.402, 0.049, -0.017), (-0.387, 0.142, 0.006),
    (-0.361, 0.238, 0.048), (-0.284, 0.366, 0.183), (-0.184, 0.444, 0.283), (-0.134, 0.471, 0.328),
    (0.000, 0.495, 0.369), (0.134, 0.471, 0.328), (0.184, 0.444, 0.283), (0.284, 0.366, 0.183),
    (0.361, 0.238, 0.048), (0.387, 0.142, 0.006), (0.402, 0.049, -0.017), (0.410, -0.038, -0.021),
    (0.414, -0.125, 0.000), (-0.338, -0.255, 0.287), (-0.302, -0.292, 0.336), (-0.245, -0.312, 0.375),
    (-0.171, -0.309, 0.410), (-0.086, -0.298, 0.428), (0.086, -0.298, 0.428), (0.171, -0.309, 0.410),
    (0.245, -0.312, 0.375), (0.302, -0.292, 0.336), (0.338, -0.255, 0.287), (0.000, -0.197, 0.427),
    (0.000, -0.115, 0.486), (0.000, -0.036, 0.556), (0.000, 0.014, 0.572), (-0.097, 0.085, 0.425),
    (-0.044, 0.092, 0.463), (0.000, 0.093, 0.473), (0.044, 0.092, 0.463), (0.097, 0.085, 0.425),
    (-0.262, -0.167, 0.298), (-0.226, -0.192, 0.338), (-0.165, -0.196, 0.348), (-0.099, -0.158, 0.330),
    (-0.158, -0.146, 0.343), (-0.217, -0.145, 0.332), (0.099, -0.158, 0.330), (0.165, -0.196, 0.348),
    (0.226, -0.192, 0.338), (0.262, -0.167, 0.298), (0.217, -0.145, 0.332), (0.158, -0.146, 0.343),
    (-0.143, 0.232, 0.371), (-0.084, 0.189, 0.453), (-0.042, 0.174, 0.474), (0.000, 0.182, 0.479),
    (0.042, 0.174, 0.474), (0.084, 0.189, 0.453), (0.143, 0.232, 0.371), (0.080, 0.270, 0.439),
    (0.042, 0.280, 0.453), (0.000, 0.282, 0.455), (-0.042, 0.280, 0.453), (-0.080, 0.270, 0.439),
    (-0.130, 0.230, 0.383), (-0.034, 0.220, 0.442), (0.000, 0.222, 0.446), (0.034, 0.220, 0.442),
    (0.130, 0.230, 0.383), (0.034, 0.221, 0.441), (0.000, 0.222, 0.445), (-0.034, 0.221, 0.441),
    (-0.187, -0.173, 0.331), (0.187, -0.173, 0.331), (-0.352, -0.363, 0.198), (-0.294, -0.420, 0.272),
    (-0.205, -0.457, 0.335), (0.000, -0.478, 0.382), (0.205, -0.457, 0.335), (0.294, -0.420, 0.272),
    (0.352, -0.363, 0.198),
], dtype=np.float32)
# fmt: on

# Points that move with the skull rather than with the expression.
_RIGID = np.array([0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 71, 72, 73, 74, 75])
_EYES = ((RIGHT_EYE, 68, (37, 38, 41, 40)), (LEFT_EYE, 69, (43, 44, 47, 46)))


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
        """(77, 3) -> (77, 2)."""
        return self.scale * (shape @ self.rotation[:2].T) + self.shift


def fit_pose(shape: np.ndarray, points: np.ndarray) -> Pose:
    """The pose that brings ``shape`` (77, 3) nearest to ``points`` (77, 2) at the points that move with the skull."""
    x, p = shape[_RIGID].astype(np.float64), points[_RIGID].astype(np.float64)
    x_mean, p_mean = x.mean(axis=0), p.mean(axis=0)
    affine, *_ = np.linalg.lstsq(x - x_mean, p - p_mean, rcond=None)  # (3, 2)
    u, singular, vt = np.linalg.svd(affine.T, full_matrices=False)  # nearest scaled pair of orthonormal rows
    rows, scale = u @ vt, float(singular.mean())
    rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
    return Pose(rotation, scale, p_mean - scale * rows @ x_mean)


def lift(points: np.ndarray) -> np.ndarray:
    """Landmarks (77, 2) in pixels -> (77, 3) in pixels: depth is that of the mean face in the same pose."""
    pose = fit_pose(MEAN_FACE, points)
    depth = pose.scale * (MEAN_FACE @ pose.rotation[2])
    return np.column_stack([points, depth])


def face_scale(points: np.ndarray) -> float:
    """Size of a face (77, 2) in any pose, in pixels from hairline to chin: the scale at which the mean face fits."""
    return fit_pose(MEAN_FACE, points).scale


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) from radians, in the axes and signs of Pose.angles: first yaw, then pitch, then roll in the image."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    around_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return around_z @ around_x @ around_y


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the two eyes, (..., 77, 2) -> (..., 2): about 0.3 open, under 0.1 closed."""
    ratios = []
    for eye, _, (a, b, c, d) in _EYES:
        height = np.linalg.norm(landmarks[..., a, :] - landmarks[..., c, :], axis=-1)
        height = height + np.linalg.norm(landmarks[..., b, :] - landmarks[..., d, :], axis=-1)
        width = np.linalg.norm(landmarks[..., eye.start, :] - landmarks[..., eye.start + 3, :], axis=-1)
        ratios.append(0.5 * height / np.maximum(width, 1e-6))
    return np.stack(ratios, axis=-1)


def mouth_openness(landmarks: np.ndarray) -> np.ndarray:
    """Gap of the inner lips over the mouth's width, (..., 77, 2) -> (...): 0 closed."""
    gap = np.linalg.norm(landmarks[..., 61:64, :] - landmarks[..., [67, 66, 65], :], axis=-1).mean(axis=-1)
    width = np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)
    return gap / np.maximum(width, 1e-6)


def most_neutral(track: np.ndarray) -> int:
    """The frame of a track (T, 77, 2) with the most frontal head, the mouth closed and the eyes open."""
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

    track: the driver's landmarks (T, 77, 2); photo: the person's landmarks (77, 2) in pixels of the crop;
    neutral: the driver's landmarks (77, 2) that stand for the photo's pose, its most neutral frame when None.
    ``head``, ``expression`` and ``gaze`` scale the three parts; 0 leaves a part as in the photo.
    Returns float32 (T, 77, 2) in pixels of the photo's crop.
    """
    if track.ndim != 3 or track.shape[1:] != (NUM_LANDMARKS, 2):
        raise ValueError(f"expected (T, {NUM_LANDMARKS}, 2), got {track.shape}")
    reference = track[most_neutral(track)] if neutral is None else neutral
    driver, person = lift(reference), lift(photo)
    pivot = person[_RIGID].mean(axis=0)
    size_ratio = face_scale(photo) / face_scale(reference)
    scale = _expression_scale(reference, photo) * size_ratio  # (77, 1)
    result = np.empty((len(track), NUM_LANDMARKS, 2))
    for t, points in enumerate(track):
        pose = fit_pose(driver, points)
        # Expression: what is left of the driver after its head's motion is undone.
        still = (points - pose.shift) / pose.scale - driver @ pose.rotation[:2].T
        undone = still @ _unturned(pose.rotation).T  # (77, 2): in the driver's own axes; depth is not observed
        change = np.column_stack([undone, np.zeros(NUM_LANDMARKS)]) * scale * expression
        change[IRISES] = _gaze_change(reference + undone, reference, photo, gaze)
        moved = person + change
        rotation, zoom = _scaled_rotation(pose, head), pose.scale**head
        centre = driver[_RIGID].mean(axis=0)
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
    """How much larger a part of the person's face is than the driver's, relative to the face, (77, 1).

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


def choose_shots(track: np.ndarray, shots: np.ndarray, fade: int = 9) -> np.ndarray:
    """Which of a person's photos to warp in each frame: weights (T, K), rows sum to one, at most a cross-fade.

    track: (T, 77, 2) and shots: (K, 77, 2), both of the person's own geometry. The nearest in pose and expression is
    taken; another must be clearly nearer to take over, and then fades in over ``fade`` frames, so that nothing pops.
    """
    keys = np.stack([describe(face) for face in shots])
    choice = np.zeros(len(track), dtype=int)
    for t, face in enumerate(track):
        distances = np.linalg.norm(keys - describe(face), axis=1)
        best = int(np.argmin(distances))
        previous = choice[t - 1] if t else best
        choice[t] = best if distances[best] < 0.75 * distances[previous] else previous
    weights = np.eye(len(shots), dtype=np.float32)[choice]
    if len(shots) == 1 or len(track) == 1:
        return weights
    padded = np.pad(weights, ((fade // 2, fade // 2), (0, 0)), mode="edge")
    return np.stack([padded[t : t + fade].mean(axis=0) for t in range(len(track))]).astype(np.float32)


def describe(face: np.ndarray) -> np.ndarray:
    """Pose and expression of a face (77, 2) as five numbers of comparable weight: yaw, pitch, mouth and both eyes.

    Distances between descriptions say how far a warp would have to go; it bridges a closed lid less well than a turned
    head.
    """
    yaw, pitch, _ = fit_pose(MEAN_FACE, face).angles
    return np.concatenate([[2 * yaw, 2 * pitch, 2 * float(mouth_openness(face))], 2 * eye_openness(face)])
