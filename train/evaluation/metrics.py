"""Metrics of painted frames, as ``train.evaluate`` measures them.

``FrameMetrics`` observes frames once (landmarks, identity) and compares two observations frame by frame. Frames are
uint8 RGB (T, H, H, 3) at one size. Where the detector finds no face, what needs landmarks is NaN, and ``faces`` counts
it.

The networks that recognise faces are those of face_recognition.py; FID, which compares sets of frames, is in fid.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from talking_heads.head.model import face_model
from talking_heads.landmarks import (
    INNER_LIP,
    IRISES,
    LEFT_EYE,
    NAMED,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    eye_distance,
    eye_openness,
    mouth_openness,
)
from talking_heads.media.images import to_float
from talking_heads.tracking.detectors import LandmarkDetector

from ..data.prepare_clip import sharpness
from ..features import FeatureNet
from ..identity_net import DESCRIPTOR, IdentityNet
from ..losses import perceptual_distance
from .face_recognition import MobileFaceNet, align_face, five_point_chip_transform
from .fid import InceptionNet

BEST_PSNR = 100.0
"""Decibels of equal images, which would be infinite."""
PARTS: Mapping[str, np.ndarray] = {
    "landmarks": np.arange(NAMED.stop),
    "mouth": np.r_[OUTER_LIP, INNER_LIP],
    "eyes": np.r_[RIGHT_EYE, LEFT_EYE],
    "irises": np.r_[IRISES],
}
"""Points over which the landmark error is averaged, by the metric's name."""
RIGID = np.array([0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 71, 72, 73, 74, 75])
"""Points that move with the skull rather than with the expression."""
RUN = 16
"""Consecutive frames in which jitter is measured."""
LEAST_VARIATION = 0.015
"""Standard deviation of an opening of the driver's, below which nothing can be said of how it is followed."""
_DLIB_BATCH = 16


# ---------------------------------------------------------------------------------------------- one number for a frame


def ssim(painted: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of two uint8 images as Wang et al. define it: Gaussian window, mean over the channels."""
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(painted, truth, channel_axis=-1, data_range=255, **gaussian))


def psnr(painted: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images in decibels, at most BEST_PSNR."""
    with np.errstate(divide="ignore"):
        return float(min(peak_signal_noise_ratio(truth, painted, data_range=255), BEST_PSNR))


def l1(painted: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference of two uint8 images, in 0..1."""
    return float(np.abs(painted.astype(np.float64) - truth).mean() / 255)


def opening_errors(painted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Errors of landmarks (L, 2): ``lids``, the error in openness, mean of both eyes; ``mouth_open``, the mouth's."""
    return {
        "lids": float(np.abs(eye_openness(painted) - eye_openness(truth)).mean()),
        "mouth_open": float(np.abs(mouth_openness(painted) - mouth_openness(truth))),
    }


def landmark_errors(painted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean distance of landmarks (L, 2) for each of PARTS, over the truth's eye distance."""
    distances = np.linalg.norm(painted - truth, axis=-1) / eye_distance(truth)
    return {name: float(distances[points].mean()) for name, points in PARTS.items()}


@cache
def mean_face() -> np.ndarray:
    """Landmarks of the mean neutral face, float64 (L, 3) cm: x to the right, y down, z towards the viewer."""
    model = face_model()
    return model.mean[model.landmark_vertices].astype(np.float64) * [1, -1, 1]


def fit_pose(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (L, 2) -> the rotation (3, 3) that brings the mean face nearest to them, in its axes.

    Scaled orthographic, at the points that move with the skull.
    """
    shape, points = mean_face()[RIGID], landmarks[RIGID].astype(np.float64)
    affine, *_ = np.linalg.lstsq(shape - shape.mean(axis=0), points - points.mean(axis=0), rcond=None)  # (3, 2)
    u, _, vt = np.linalg.svd(affine.T, full_matrices=False)  # nearest scaled pair of orthonormal rows
    rows = u @ vt
    return np.vstack([rows, np.cross(rows[0], rows[1])])


def pose_error(painted: np.ndarray, truth: np.ndarray) -> float:
    """Angle in degrees between the head poses of two sets of landmarks (L, 2)."""
    one, other = fit_pose(painted), fit_pose(truth)
    return float(np.degrees(np.arccos(np.clip((np.trace(one @ other.T) - 1) / 2, -1, 1))))


def angles_to_nearest_source(landmarks: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Degrees between the head pose of each of (T, L, 2) and that of the source (S, L, 2) nearest to it, float (T,)."""
    return np.array([min(pose_error(points, source) for source in sources) for points in landmarks])


# ----------------------------------------------------------------------------------------------- numbers for a sequence


def face_errors(painted: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """``landmark_errors``, ``opening_errors``, ``pose`` of landmarks (T, L, 2), and ``faces``: 1 where one is painted.

    Each is float (T,), NaN where either has no face; ``faces`` only where the truth has none, which says nothing about
    what was painted.
    """
    seen, known = (np.isfinite(landmarks).all(axis=(1, 2)) for landmarks in (painted, truth))
    names = (*PARTS, "lids", "mouth_open", "pose")
    result = {"faces": np.where(known, seen, np.nan)} | {name: np.full(len(seen), np.nan) for name in names}
    for k in np.flatnonzero(seen & known):
        one, other = painted[k], truth[k]
        errors = landmark_errors(one, other) | opening_errors(one, other) | {"pose": pose_error(one, other)}
        for name, value in errors.items():
            result[name][k] = value
    return result


def following(painted: np.ndarray, driver: np.ndarray) -> dict[str, float]:
    """How the openings of the eyes (mean of both) and of the mouth follow the driver's, by landmarks (T, L, 2).

    ``eyes_correlation`` and ``eyes_gain``, ``mouth_correlation`` and ``mouth_gain``: see ``correlation_and_gain``.
    """
    openings = {
        "eyes": [eye_openness(landmarks).mean(axis=-1) for landmarks in (painted, driver)],
        "mouth": [mouth_openness(landmarks) for landmarks in (painted, driver)],
    }
    result = {}
    for part, (ours, own) in openings.items():
        result[f"{part}_correlation"], result[f"{part}_gain"] = correlation_and_gain(ours, own)
    return result


def correlation_and_gain(painted: np.ndarray, driver: np.ndarray) -> tuple[float, float]:
    """Pearson's correlation of two series (T,), and the slope of the line through painted over driver.

    Frames in which either is NaN do not count. Both are NaN where the driver's standard deviation is under
    LEAST_VARIATION. What is painted all the same follows nothing: 0 and 0.
    """
    known = np.isfinite(painted) & np.isfinite(driver)
    ours, own = painted[known].astype(np.float64), driver[known].astype(np.float64)
    if not known.any() or own.std() < LEAST_VARIATION:
        return math.nan, math.nan
    common = float(((ours - ours.mean()) * (own - own.mean())).mean())
    spread = float(ours.std())
    return common / (spread * float(own.std())) if spread > 1e-6 else 0.0, common / float(own.var())


def jitter(track: np.ndarray) -> float:
    """How much landmarks (T, L, 2) of consecutive frames tremble, over the eye distance.

    The standard deviation of the second difference in time, root mean square over the coordinates. Frames without a
    face are NaN and leave out their neighbours; NaN where fewer than two differences are left. Points that mark
    nothing (the skin's) do not count.
    """
    second = np.diff(track[:, NAMED], n=2, axis=0)
    second = second[np.isfinite(second).all(axis=(1, 2))]
    if len(second) < 2:
        return float("nan")
    return float(np.sqrt(second.var(axis=0).mean()) / np.nanmedian(eye_distance(track)))


def stillest_run(landmarks: np.ndarray, usable: np.ndarray, length: int = RUN) -> np.ndarray:
    """The ``length`` consecutive numbers among ``usable`` in which the face (T, L, 2) moves least; maybe none."""
    windows = [usable[k : k + length] for k in range(len(usable) - length + 1)]
    windows = [window for window in windows if window[-1] - window[0] == length - 1]
    if not windows:
        return usable[:0]
    return min(windows, key=lambda window: float(np.abs(np.diff(landmarks[window], axis=0)).mean()))


def clip_values(metrics: Mapping[str, np.ndarray], painted_jitter: float, reference: float) -> dict[str, float]:
    """Metrics frame by frame, each (T,) -> one number each, and ``jitter``: of painted frames, over ``reference``."""
    ratio = painted_jitter / reference if reference else math.nan
    return {name: mean(values) for name, values in metrics.items()} | {"jitter": ratio}


def mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


# ------------------------------------------------------------------------------------------------------ whole frames


@dataclass(frozen=True)
class Observation:
    """Frames, and what is detected in them."""

    frames: np.ndarray
    """uint8 RGB (T, H, H, 3)."""
    landmarks: np.ndarray
    """float32 (T, L, 2), as detected in each frame on its own; NaN where no face was found."""
    face_embeddings: np.ndarray
    """float32 (T, 256) of unit length, NaN where no face was found; (T, 0) without MobileFaceNet."""
    descriptors: np.ndarray
    """float32 (T, 128), dlib's, NaN where no face was found; (T, 0) without its network."""


class FrameMetrics:
    """Compares frames; what needs a network that is not given is left out.

    ``inception`` is for ``inception_features``, of which this makes no use itself.
    """

    def __init__(
        self,
        detector: LandmarkDetector,
        feature_net: FeatureNet | None = None,
        mobilefacenet: MobileFaceNet | None = None,
        dlib_net: IdentityNet | None = None,
        inception: InceptionNet | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.detector = detector
        self.feature_net = None if feature_net is None else feature_net.to(device)
        self.mobilefacenet = None if mobilefacenet is None else mobilefacenet.to(device)
        self.dlib_net = None if dlib_net is None else dlib_net.to(device)
        self.inception = inception
        self.device = device

    def detect(self, frames: np.ndarray) -> np.ndarray:
        """Landmarks of the largest face in each frame, float32 (T, L, 2), NaN where there is none."""
        nobody = np.full((NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
        return np.stack([next(iter(self.detector.detect(frame)), nobody) for frame in frames])

    def observe(self, frames: np.ndarray) -> Observation:
        """Frames, uint8 RGB (T, H, H, 3), with landmarks, face embeddings and descriptors."""
        landmarks = self.detect(frames)
        return Observation(frames, landmarks, self.embed_faces(frames, landmarks), self.describe(frames, landmarks))

    @torch.inference_mode()
    def embed_faces(self, frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Frames (T, H, H, 3) with known landmarks (T, L, 2) -> face embeddings as in an Observation."""
        if self.mobilefacenet is None:
            return np.zeros((len(frames), 0), dtype=np.float32)
        result = np.full((len(frames), 256), np.nan, dtype=np.float32)
        found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        if len(found):
            faces = np.stack([align_face(frames[k], landmarks[k]) for k in found])
            result[found] = self.mobilefacenet(to_float(faces).to(self.device)).cpu().numpy()
        return result

    @torch.inference_mode()
    def describe(self, frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The same by dlib's network: descriptors as in an Observation."""
        if self.dlib_net is None:
            return np.zeros((len(frames), 0), dtype=np.float32)
        result = np.full((len(frames), DESCRIPTOR), np.nan, dtype=np.float32)
        found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        for first in range(0, len(found), _DLIB_BATCH):
            chosen = found[first : first + _DLIB_BATCH]
            chips = np.stack([five_point_chip_transform((landmarks[k] + 0.5) / frames.shape[1]) for k in chosen])
            images = to_float(frames[chosen]).to(self.device)
            result[chosen] = self.dlib_net(images, torch.from_numpy(chips).to(self.device)).cpu().numpy()
        return result

    def compare(self, painted: Observation, truth: Observation) -> dict[str, np.ndarray]:
        """Metrics by name, each float (T,), of painted frames beside the true ones; for the units see their functions.

        ``csim`` is the mean cosine between the identity of a painted frame and those of the *other* true frames, so
        that the true frames themselves get what this person reaches, not 1. ``dlib_distance`` is the same with
        distances of descriptors. ``sharpness`` is painted over true.
        """
        pairs = list(zip(painted.frames, truth.frames, strict=True))
        result = {
            "ssim": np.array([ssim(a, b) for a, b in pairs]),
            "psnr": np.array([psnr(a, b) for a, b in pairs]),
            "l1": np.array([l1(a, b) for a, b in pairs]),
            "sharpness": np.array([sharpness(a) / max(sharpness(b), 1e-6) for a, b in pairs]),
        }
        if self.feature_net is not None:
            result["perceptual"] = np.array([self._perceptual(self.feature_net, a, b) for a, b in pairs])
        if self.mobilefacenet is not None:
            cosines = painted.face_embeddings @ truth.face_embeddings.T  # (T, T)
            np.fill_diagonal(cosines, np.nan)
            result["csim"] = np.array([mean(row) for row in cosines])
        if self.dlib_net is not None:
            distances = np.linalg.norm(painted.descriptors[:, None] - truth.descriptors, axis=-1)  # (T, T)
            np.fill_diagonal(distances, np.nan)
            result["dlib_distance"] = np.array([mean(row) for row in distances])
        return result | face_errors(painted.landmarks, truth.landmarks)

    @torch.inference_mode()
    def _perceptual(self, net: FeatureNet, painted: np.ndarray, truth: np.ndarray) -> float:
        a, b = (net(to_float(image).to(self.device)) for image in (painted, truth))
        return float(perceptual_distance(a, b))
