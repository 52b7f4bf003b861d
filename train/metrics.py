"""How good painted frames are: what ``train.evaluate`` measures, beside frames of the same person that were filmed.

A ``Judge`` looks at frames once (landmarks, identity) and compares two looks frame by frame. Frames are uint8 RGB
(T, H, H, 3) at one size. Where the detector finds no face, what needs landmarks is NaN, and ``faces`` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.nn import functional as F

from talking_heads.faces import Crop
from talking_heads.images import to_float
from talking_heads.landmarks import (
    INNER_LIP,
    IRISES,
    LEFT_EYE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    LandmarkDetector,
    eye_distance,
)
from talking_heads.motion import MEAN_FACE, fit_pose

from .features import FeatureNet, filled, read_weights
from .losses import perceptual_distance
from .prepare import sharpness

BEST_PSNR = 100.0
"""Decibels of equal images, which would be infinite."""
PARTS: Mapping[str, np.ndarray] = {
    "landmarks": np.arange(NUM_LANDMARKS),
    "mouth": np.r_[OUTER_LIP, INNER_LIP],
    "eyes": np.r_[RIGHT_EYE, LEFT_EYE],
    "irises": np.r_[IRISES],
}
"""Points over which the landmark error is averaged, by the metric's name."""


# ----------------------------------------------------------------------------------------------------------- identity

FACE_HEIGHT, FACE_WIDTH = 112, 96
FIVE_POINTS = np.array([(30.29, 51.70), (65.53, 51.50), (48.03, 71.74), (33.55, 92.37), (62.73, 92.20)])
"""Where MobileFaceNet wants the eyes, the tip of the nose and the corners of the mouth, in pixels of 112 x 96."""


def align_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face with landmarks (77, 2) as MobileFaceNet wants it: uint8 RGB (112, 96, 3), by a similarity transform."""
    eyes = [landmarks[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
    found = np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]]) @ [1, 1j]
    margin = (FACE_HEIGHT - FACE_WIDTH) // 2  # a crop is square: 112 x 112, of which the middle is kept
    wanted = FIVE_POINTS @ [1, 1j] + margin
    # In complex numbers a similarity is found = turn * wanted + shift, and least squares have a closed form.
    spread = wanted - wanted.mean()
    turn = np.vdot(spread, found - found.mean()) / np.vdot(spread, spread)
    centre = found.mean() + turn * (0.5 * (FACE_HEIGHT - 1) * (1 + 1j) - wanted.mean())
    crop = Crop(centre.real, centre.imag, side=FACE_HEIGHT * abs(turn), angle=float(np.angle(turn)))
    return crop.cut(image, FACE_HEIGHT)[:, margin:-margin]


def _normed(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class _ConvBlock(nn.Module):
    """Convolution, batch norm and, unless ``linear``, PReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv, self.bn = _normed(inputs, outputs, kernel, stride, padding, groups)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.skip = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *_normed(inputs, inner, 1),
            nn.PReLU(inner),
            *_normed(inner, inner, 3, stride, 1, groups=inner),
            nn.PReLU(inner),
            *_normed(inner, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileFaceNet(nn.Module):
    """Chen et al., arXiv 1804.07573, frozen: aligned faces -> identity; the cosine of two says whether they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _ConvBlock(3, 64, 3, 2, 1)
        self.dw_conv1 = _ConvBlock(64, 64, 3, 1, 1, groups=64)
        blocks, inputs = [], 64
        # The paper's table 1: expansion, channels, repetitions, stride of the first.
        for expansion, channels, number, stride in (
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ):
            for k in range(number):
                blocks.append(_Bottleneck(inputs, channels, stride if k == 0 else 1, expansion))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _ConvBlock(128, 512, 1)
        self.linear7 = _ConvBlock(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = _ConvBlock(512, 128, 1, linear=True)
        self.requires_grad_(False)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, 112, 96) RGB in [-1, 1] -> (B, 256) of unit length: of the face and of its mirror image."""
        faces = faces * (127.5 / 128)
        both = torch.cat([faces, faces.flip(-1)])
        x = self.linear7(self.conv2(self.blocks(self.dw_conv1(self.conv1(both)))))
        x = self.linear1(x).flatten(1)  # (2B, 128)
        return F.normalize(torch.cat(x.chunk(2), dim=1), dim=1)


def load_identity_net(path: str | Path) -> MobileFaceNet:
    """Weights of MobileFaceNet -> the frozen network, or InvalidModelError."""
    net, weights = MobileFaceNet(), read_weights(path)
    counters = {key: torch.tensor(0) for key in net.state_dict() if key.endswith("num_batches_tracked")}
    return filled(net, counters | weights, path)


# ---------------------------------------------------------------------------------------------- one number for a frame


def ssim(painted: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of two uint8 images as Wang et al. define it: Gaussian window, mean over the channels."""
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(painted, truth, channel_axis=-1, data_range=255, **gaussian))


def psnr(painted: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images in decibels, at most BEST_PSNR."""
    with np.errstate(divide="ignore"):
        return float(min(peak_signal_noise_ratio(truth, painted, data_range=255), BEST_PSNR))


def landmark_errors(painted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean distance of landmarks (77, 2) for each of PARTS, over the truth's eye distance."""
    distances = np.linalg.norm(painted - truth, axis=-1) / eye_distance(truth)
    return {name: float(distances[points].mean()) for name, points in PARTS.items()}


def pose_error(painted: np.ndarray, truth: np.ndarray) -> float:
    """Angle in degrees between the head poses of two sets of landmarks (77, 2)."""
    one, other = (fit_pose(MEAN_FACE, points).rotation for points in (painted, truth))
    return float(np.degrees(np.arccos(np.clip((np.trace(one @ other.T) - 1) / 2, -1, 1))))


# ----------------------------------------------------------------------------------------------- numbers for a sequence


def jitter(track: np.ndarray) -> float:
    """How much landmarks (T, 77, 2) of consecutive frames tremble, over the eye distance.

    The standard deviation of the second difference in time, root mean square over the coordinates. Frames without a
    face are NaN and leave out their neighbours; NaN where fewer than two differences are left.
    """
    second = np.diff(track, n=2, axis=0)
    second = second[np.isfinite(second).all(axis=(1, 2))]
    if len(second) < 2:
        return float("nan")
    return float(np.sqrt(second.var(axis=0).mean()) / np.nanmedian(eye_distance(track)))


def confidence_interval(values: Sequence[float], seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values that are independent: one for each person, not for each frame."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(np.asarray(values)[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


# -------------------------------------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Look:
    """Frames as a judge sees them."""

    frames: np.ndarray
    """uint8 RGB (T, H, H, 3)."""
    landmarks: np.ndarray
    """float32 (T, 77, 2), as detected in each frame on its own; NaN where no face was found."""
    identities: np.ndarray
    """float32 (T, 256) of unit length, NaN where no face was found; (T, 0) without an identity network."""


class Judge:
    """Compares frames; what needs a network that is not given is left out."""

    def __init__(
        self,
        detector: LandmarkDetector,
        feature_net: FeatureNet | None = None,
        identity_net: MobileFaceNet | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.detector = detector
        self.feature_net = None if feature_net is None else feature_net.to(device)
        self.identity_net = None if identity_net is None else identity_net.to(device)
        self.device = device

    def detect(self, frames: np.ndarray) -> np.ndarray:
        """Landmarks of the largest face in each frame, float32 (T, 77, 2), NaN where there is none."""
        nobody = np.full((NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
        return np.stack([next(iter(self.detector.detect(frame)), nobody) for frame in frames])

    def look(self, frames: np.ndarray) -> Look:
        """Frames, uint8 RGB (T, H, H, 3), with landmarks and identities."""
        landmarks = self.detect(frames)
        return Look(frames, landmarks, self._identities(frames, landmarks))

    @torch.inference_mode()
    def _identities(self, frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        if self.identity_net is None:
            return np.zeros((len(frames), 0), dtype=np.float32)
        result = np.full((len(frames), 256), np.nan, dtype=np.float32)
        found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        if len(found):
            faces = np.stack([align_face(frames[k], landmarks[k]) for k in found])
            result[found] = self.identity_net(to_float(faces).to(self.device)).cpu().numpy()
        return result

    def compare(self, painted: Look, truth: Look) -> dict[str, np.ndarray]:
        """Metrics by name, each float (T,), of painted frames beside the true ones; for the units see their functions.

        ``csim`` is the mean cosine between the identity of a painted frame and those of the *other* true frames, so
        that the true frames themselves get what this person reaches, not 1. ``sharpness`` is painted over true.
        """
        pairs = list(zip(painted.frames, truth.frames, strict=True))
        result = {
            "ssim": np.array([ssim(a, b) for a, b in pairs]),
            "psnr": np.array([psnr(a, b) for a, b in pairs]),
            "sharpness": np.array([sharpness(a) / max(sharpness(b), 1e-6) for a, b in pairs]),
        }
        if self.feature_net is not None:
            result["perceptual"] = np.array([self._perceptual(self.feature_net, a, b) for a, b in pairs])
        if self.identity_net is not None:
            cosines = painted.identities @ truth.identities.T  # (T, T)
            np.fill_diagonal(cosines, np.nan)
            result["csim"] = np.array([mean(row) for row in cosines])
        seen = np.isfinite(painted.landmarks).all(axis=(1, 2))
        known = np.isfinite(truth.landmarks).all(axis=(1, 2))
        result["faces"] = np.where(known, seen, np.nan)
        for name in (*PARTS, "pose"):
            result[name] = np.full(len(pairs), np.nan)
        for k in np.flatnonzero(seen & known):
            a, b = painted.landmarks[k], truth.landmarks[k]
            for name, value in (landmark_errors(a, b) | {"pose": pose_error(a, b)}).items():
                result[name][k] = value
        return result

    @torch.inference_mode()
    def _perceptual(self, net: FeatureNet, painted: np.ndarray, truth: np.ndarray) -> float:
        a, b = (net(to_float(image).to(self.device)) for image in (painted, truth))
        return float(perceptual_distance(a, b))


def mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
