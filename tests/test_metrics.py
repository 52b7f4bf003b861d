"""Metrics against their formulas; and the truth must be called perfect."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import close_eyes, mean_face, open_mouth
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from tiny import save_tiny_identity_net
from torch import Tensor

from talking_heads.errors import InvalidModelError
from talking_heads.head.motion import head_rotation
from talking_heads.landmarks import MIRROR, NAMED, NUM_LANDMARKS, eye_openness, mouth_openness
from talking_heads.media.images import read_photo, to_float
from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.detectors import LandmarkDetector
from train.evaluation import metrics
from train.evaluation.face_recognition import (
    DLIB_POINTS,
    DLIB_POINTS_AT,
    FIVE_POINTS,
    MobileFaceNet,
    align_face,
    five_point_chip_transform,
    load_mobilefacenet,
)
from train.evaluation.fid import frechet_distance, inception_features, load_inception
from train.evaluation.field import field_values
from train.evaluation.metrics import (
    BEST_PSNR,
    FrameMetrics,
    angles_to_nearest_source,
    correlation_and_gain,
    face_errors,
    fit_pose,
    following,
    jitter,
    l1,
    landmark_errors,
    mean,
    opening_errors,
    pose_error,
    psnr,
    ssim,
)
from train.evaluation.report import (
    FACES,
    Metric,
    comparison_table,
    confidence_interval,
    link,
    summarise,
    summary_table,
    write_report,
)
from train.features import SqueezeNetFeatures
from train.identity_net import IdentityNet

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
IDENTITY_NET, LONDON = DATA / "nets" / "mobilefacenet.npz", DATA / "stills" / "london"
DLIB_NET = DATA / "nets" / "dlib_face_resnet.npz"
needs_dlib_net = pytest.mark.skipif(
    not (DLIB_NET.is_file() and LONDON.is_dir()),
    reason="dlib's network and the London photos are not in ../shared/data",
)
needs_identity_net = pytest.mark.skipif(
    not (IDENTITY_NET.is_file() and LONDON.is_dir()),
    reason="MobileFaceNet and the London photos are not in ../shared/data",
)


def opened(eyes: float, mouth: float, left_eye: float | None = None) -> np.ndarray:
    """A face 100 pixels high, float32 (L, 2), whose eyes are 20 pixels wide and whose mouth is 40, that far open."""
    face = mean_face(100.0)
    for first, share in ((36, eyes), (42, eyes if left_eye is None else left_eye)):
        x, y = face[first]
        half = 10 * share
        face[first : first + 6] = [
            (x, y), (x + 6, y - half), (x + 14, y - half), (x + 20, y), (x + 14, y + half), (x + 6, y + half)
        ]  # fmt: skip
    face[[48, 54]] = [(100, 150), (140, 150)]
    across = np.array([110, 120, 130])
    face[61:64] = np.column_stack([across, np.full(3, 150 - 20 * mouth)])
    face[[67, 66, 65]] = np.column_stack([across, np.full(3, 150 + 20 * mouth)])
    return face


def noise(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


# -------------------------------------------------------------------------------------------------------------- frames


def test_psnr_by_hand() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    assert_allclose(psnr(grey + 10, grey), 20 * np.log10(255 / 10))  # a mean square of 100
    assert psnr(grey, grey) == BEST_PSNR


def test_ssim_by_hand() -> None:
    # For two even images only the luminance term is left.
    a, b, c1 = 100.0, 150.0, (0.01 * 255) ** 2
    flat = [np.full((32, 32, 3), int(level), np.uint8) for level in (a, b)]
    assert_allclose(ssim(*flat), (2 * a * b + c1) / (a * a + b * b + c1), rtol=1e-6)
    assert_allclose(ssim(noise(), noise()), 1.0)
    assert abs(ssim(noise(0), noise(1))) < 0.05


def test_l1_by_hand() -> None:
    truth = np.full((8, 8, 3), 100, np.uint8)
    painted = truth.copy()
    painted[:4], painted[4:6] = 151, 49  # half of it 0.2 brighter, a quarter 0.2 darker
    assert l1(painted, truth) == pytest.approx(0.15)
    assert l1(truth, painted) == pytest.approx(0.15)
    assert l1(truth, truth) == 0
    assert l1(np.full_like(truth, 255), np.zeros_like(truth)) == 1


def test_openness_by_hand() -> None:
    face = opened(0.3, 0.25, left_eye=0.1)
    assert_allclose(eye_openness(face), [0.1, 0.3], atol=1e-5)  # the person's left first
    assert_allclose(mouth_openness(face), 0.25, atol=1e-5)
    track = np.stack([face, 3 * face, np.full_like(face, np.nan)])  # whatever the size
    assert_allclose(eye_openness(track), [[0.1, 0.3], [0.1, 0.3], [np.nan, np.nan]], atol=1e-5)
    assert_allclose(mouth_openness(track), [0.25, 0.25, np.nan], atol=1e-5)
    # One eye too far open and the other too little are two errors, not none.
    errors = opening_errors(opened(0.4, 0.1, left_eye=0.2), opened(0.3, 0.25))
    assert errors == {"lids": pytest.approx(0.1, abs=1e-5), "mouth_open": pytest.approx(0.15, abs=1e-5)}


def test_landmark_errors_are_in_eye_distances() -> None:
    truth = mean_face(100.0)
    distance = float(np.linalg.norm(truth[36] - truth[45]))
    painted = truth.copy()
    painted[48:68, 0] += 0.1 * distance
    painted[68:70, 1] -= 0.2 * distance
    errors = landmark_errors(painted, truth)
    expected = {"landmarks": (20 * 0.1 + 2 * 0.2) / NAMED.stop, "mouth": 0.1, "eyes": 0.0, "irises": 0.2}
    assert {name: pytest.approx(value, abs=1e-5) for name, value in expected.items()} == errors


def turned(angles: Sequence[float], scale: float = 8.0) -> np.ndarray:
    """The mean face seen from far away, turned by yaw, pitch and roll in degrees, ``scale`` pixels a cm: (L, 2)."""
    down = np.array([1, -1, 1])
    rotation = head_rotation(angles) * np.outer(down, down)  # in axes with y down
    return scale * (metrics.mean_face() @ rotation.T)[:, :2] + [50, 60]


def test_the_mean_face_is_upright_and_symmetric() -> None:
    face = metrics.mean_face()
    assert face.shape == (NUM_LANDMARKS, 3)
    assert face[8, 1] > face[57, 1] > face[30, 1] > face[27, 1] > face[73, 1]  # chin, lip, nose, bridge, hairline
    assert face[30, 2] == face[NAMED, 2].max()  # the tip of the nose is nearest
    assert face[36, 0] < 0 < face[45, 0]  # the person's right eye is on the left
    np.testing.assert_allclose(face[MIRROR][NAMED] * [-1, 1, 1], face[NAMED], atol=1.2)  # cm
    assert np.abs(face[MIRROR] * [-1, 1, 1] - face).mean() < 0.2


def test_a_pose_is_found_again_whatever_the_expression() -> None:
    down = np.array([1, -1, 1])
    expected = head_rotation([25, -10, 8]) * np.outer(down, down)
    face = turned((25, -10, 8))
    assert_allclose(fit_pose(face), expected, atol=1e-6)
    assert_allclose(fit_pose(open_mouth(close_eyes(face), 20)), expected, atol=1e-6)


@pytest.mark.parametrize("angles", [(20, 0, 0), (0, -12, 0), (0, 0, 30)])
def test_pose_error_is_the_angle_between_heads(angles: tuple[float, float, float]) -> None:
    front, aside = turned((0, 0, 0)), turned(angles, scale=12.0)
    assert_allclose(pose_error(aside, front), np.abs(angles).sum(), atol=1e-3)
    assert_allclose(pose_error(front, front), 0.0, atol=1e-3)


def test_turns_are_from_the_nearest_source() -> None:
    faces = {degrees: turned((degrees, 0, 0)) for degrees in (-30, 0, 5, 11, 20)}
    sources = np.stack([faces[0], faces[20]])
    chosen = np.stack([faces[degrees] for degrees in (-30, 0, 5, 11)])
    assert_allclose(angles_to_nearest_source(chosen, sources), [30, 0, 5, 9], atol=1e-3)
    assert_allclose(angles_to_nearest_source(chosen, sources[:1]), [30, 0, 5, 11], atol=1e-3)


# ----------------------------------------------------------------------------------------------------------- sequences


def test_jitter_sees_trembling_and_no_steady_motion() -> None:
    face, time = mean_face(100.0).astype(np.float64), np.arange(16.0)[:, None, None]
    moving = face + np.array([2.0, -1.0]) * time + 0.1 * time**2
    assert_allclose(jitter(moving), 0.0, atol=1e-9)
    # Independent noise of s has second differences of s sqrt(1 + 4 + 1).
    many = np.random.default_rng(0).normal(0, 0.5, (400, NUM_LANDMARKS, 2))
    expected = 0.5 * np.sqrt(6) / np.linalg.norm(face[36] - face[45])
    assert_allclose(jitter(face + many), expected, rtol=0.03)
    assert_allclose(jitter(2 * (face + many)), expected, rtol=0.03)


def test_jitter_leaves_out_frames_without_a_face() -> None:
    track = np.repeat(mean_face(100.0)[None], 12, axis=0)
    track[5] = np.nan
    assert jitter(track) == 0.0
    track[1::2] = np.nan
    assert np.isnan(jitter(track))


def test_confidence_interval_covers_the_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 100)
    low, high = confidence_interval(values.tolist())
    assert low < values.mean() < high
    assert_allclose(high - low, 2 * 1.96 * values.std() / 10, rtol=0.1)
    assert confidence_interval(values.tolist()) == (low, high)
    assert confidence_interval([2.0]) == (2.0, 2.0)


def test_mean_overlooks_nan() -> None:
    assert mean(np.array([1.0, np.nan, 3.0])) == 2.0
    assert np.isnan(mean(np.array([np.nan])))


def test_face_errors_know_where_a_face_is_missing() -> None:
    asked = np.stack([mean_face(100.0)] * 3)
    painted = asked.copy()
    painted[0, :, 0] += 5
    painted[1] = np.nan
    asked[2] = np.nan
    errors = face_errors(painted, asked)
    assert set(errors) == {"faces", "landmarks", "mouth", "eyes", "irises", "pose", "lids", "mouth_open"}
    distance = np.linalg.norm(asked[0, 36] - asked[0, 45])
    for name in ("landmarks", "mouth", "eyes", "irises"):
        assert_allclose(errors[name], [5 / distance, np.nan, np.nan], rtol=1e-4)
    for name in ("pose", "lids", "mouth_open"):
        assert_allclose(errors[name], [0, np.nan, np.nan], atol=1e-3)
    assert_allclose(errors["faces"], [1, 0, np.nan])
    wide = np.stack([opened(0.2, 0.4)])
    found = face_errors(wide, np.stack([opened(0.35, 0.1)]))
    assert (found["lids"].item(), found["mouth_open"].item()) == pytest.approx((0.15, 0.3), abs=1e-5)


def test_correlation_and_gain_by_hand() -> None:
    driver = np.array([0.1, 0.2, 0.3, 0.4])
    assert correlation_and_gain(0.5 * driver + 0.05, driver) == pytest.approx((1, 0.5))
    assert correlation_and_gain(0.3 - driver, driver) == pytest.approx((-1, -1))
    # Deviations (-.15, -.05, .05, .15) and (-.1, .1, -.1, .1): 0.02 / 4 in common.
    painted = np.array([0.1, 0.3, 0.1, 0.3])
    assert correlation_and_gain(painted, driver) == pytest.approx((0.02 / np.sqrt(0.05 * 0.04), 0.02 / 0.05))
    assert correlation_and_gain(np.full(4, 0.3), driver) == pytest.approx((0, 0))  # it follows nothing


def test_correlation_and_gain_leave_out_frames_without_a_face() -> None:
    driver = np.array([0.1, 0.2, np.nan, 0.3, 0.4])
    painted = np.array([0.2, 0.4, 0.9, 0.6, np.nan])
    assert correlation_and_gain(painted, driver) == pytest.approx((1, 2))
    nothing = np.full(5, np.nan)
    for one, other in ((nothing, driver), (driver, nothing)):
        assert np.isnan(correlation_and_gain(one, other)).all()


def test_an_opening_that_hardly_varies_cannot_be_followed() -> None:
    swing = np.array([-1.0, 1.0] * 8)  # a standard deviation of 1
    assert np.isnan(correlation_and_gain(0.1 * swing, 0.3 + 0.014 * swing)).all()
    assert correlation_and_gain(0.1 * swing, 0.3 + 0.016 * swing) == pytest.approx((1, 0.1 / 0.016))


def test_following_of_a_pair() -> None:
    """A driver who blinks and speaks; painted with half the blink and a mouth that does the opposite."""
    eyes, mouths = np.array([0.3, 0.3, 0.05, 0.2, 0.3]), np.array([0.0, 0.2, 0.3, 0.1, 0.05])
    driver = np.stack([opened(*values) for values in zip(eyes, mouths, strict=True)])
    painted = np.stack([opened(*values) for values in zip(0.1 + 0.5 * eyes, 0.35 - mouths, strict=True)])
    expected = {"eyes_correlation": 1, "eyes_gain": 0.5, "mouth_correlation": -1, "mouth_gain": -1}
    assert following(painted, driver) == pytest.approx(expected, abs=1e-4)
    painted[1], driver[4] = np.nan, np.nan
    assert following(painted, driver) == pytest.approx(expected, abs=1e-4)
    # Eyes that stay open, a mouth that does not move: nothing is known of either.
    resting = np.stack([opened(0.3, 0.0)] * 5)
    assert np.isnan(list(following(painted, resting).values())).all()


# ----------------------------------------------------------------------------------------------------------------- FID


class StandIn(torch.nn.Module):
    """Answers as inception-2015-12-05.pt does: 4 x 4 mean colours, turned into ``outputs`` numbers at random."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(48, outputs)

    def forward(self, img: Tensor, return_features: bool = False, use_fp16: bool = False) -> Tensor:
        if img.dtype != torch.uint8:
            raise ValueError("expected uint8")
        colours = torch.nn.functional.adaptive_avg_pool2d(img.float() / 255, 4).flatten(1)
        features = self.layer(colours)
        return features if return_features else features.softmax(dim=1)


def save_inception(path: Path, outputs: int = 2048) -> Path:
    torch.manual_seed(0)
    return save_script(StandIn(outputs), path)


def save_script(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript
        torch.jit.script(module).save(path)
    return path


def gaussian(rng: np.random.Generator, number: int, centre: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Samples (N, D) whose mean is ``centre`` and whose covariance is ``root`` @ ``root``.T, exactly."""
    noise = rng.normal(size=(number, len(centre)))
    noise -= noise.mean(axis=0)
    white = np.linalg.qr(noise)[0] * np.sqrt(number - 1)  # columns stay orthogonal to the vector of ones
    return centre + white @ root.T


def test_frechet_distance_by_hand() -> None:
    rng = np.random.default_rng(0)
    # Covariances that commute: |mu1 - mu2|^2 + sum of (s1 - s2)^2.
    a = gaussian(rng, 50, np.array([0.0, 1.0, 2.0]), np.diag([1.0, 2.0, 3.0]))
    b = gaussian(rng, 80, np.array([3.0, 1.0, -2.0]), np.diag([2.0, 2.0, 0.5]))
    assert_allclose(frechet_distance(a, b), 9 + 16 + 1 + 0 + 6.25)
    assert_allclose(frechet_distance(b, a), frechet_distance(a, b))
    assert_allclose(frechet_distance(a + 5, b + 5), frechet_distance(a, b))


def test_frechet_distance_of_any_two_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(1)
    roots, centres = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4))
    a, b = (gaussian(rng, 30, centre, root) for centre, root in zip(centres, roots, strict=True))
    one, other = (root @ root.T for root in roots)
    formula = np.square(centres[0] - centres[1]).sum() + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert_allclose(frechet_distance(a, b), formula, rtol=1e-8)


def test_frechet_distance_with_fewer_samples_than_dimensions() -> None:
    features = np.random.default_rng(0).normal(size=(6, 2048))
    assert 0 <= frechet_distance(features, features) < 1e-9
    shift = np.linspace(0, 1, 2048)
    assert_allclose(frechet_distance(features, features + shift), np.square(shift).sum())
    # Twice as far from their mean: (2 s - s)^2 over all dimensions.
    wider = features.mean(axis=0) + 2 * (features - features.mean(axis=0))
    assert_allclose(frechet_distance(wider, features), features.var(axis=0, ddof=1).sum())
    # Directions that the two do not share: nothing is common to their covariances.
    a, b = np.zeros((3, 10)), np.zeros((3, 10))
    a[:, :3], b[:, 5:8] = np.eye(3), 2 * np.eye(3)
    assert_allclose(frechet_distance(a, b), 3 * (1 / 9 + 4 / 9) + 1 + 4)
    with pytest.raises(ValueError, match="two rows at least"):
        frechet_distance(features[:1], features)


def test_features_of_frames(tmp_path: Path) -> None:
    net = load_inception(save_inception(tmp_path / "inception.pt"))
    frames = np.stack([noise(seed) for seed in range(19)])  # more than one batch
    features = inception_features(net, frames)
    assert features.shape == (19, 2048) and features.dtype == np.float64
    # RGB as it is, in 0..255, channels first.
    colours = frames.reshape(19, 4, 16, 4, 16, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(19, 48) / 255
    weight, bias = (net.state_dict()[f"layer.{name}"].double().numpy() for name in ("weight", "bias"))
    expected = colours @ weight.T + bias
    assert_allclose(features, expected, atol=1e-5)
    assert frechet_distance(features, inception_features(net, frames)) < 1e-9
    assert frechet_distance(features, inception_features(net, frames // 2)) > 0.1


class Classifier(torch.nn.Module):
    def forward(self, img: Tensor) -> Tensor:
        return img.float().mean(dim=(2, 3))


def test_foreign_files_are_no_inception(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", weight=np.zeros(3, np.float32))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    (tmp_path / "words.pt").write_text("no network")
    save_inception(tmp_path / "vgg16.pt", outputs=4096)
    save_script(Classifier(), tmp_path / "classifier.pt")
    for name in ("weights.npz", "weights.pth", "words.pt", "vgg16.pt", "classifier.pt"):
        with pytest.raises(InvalidModelError, match=f"{name} is not the TorchScript file inception-2015-12-05.pt"):
            load_inception(tmp_path / name)
    for absent in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(InvalidModelError, match="no Inception network"):
            load_inception(absent)


# -------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Person:
    person: str
    values: dict[str, dict[str, float]]


def test_tables_and_reports(tmp_path: Path) -> None:
    metrics = [Metric("psnr", "PSNR, dB", 1, "higher"), FACES, Metric("fid", "FID", 2, "lower")]
    people = [
        Person("ada", {"warp": {"psnr": 20.0}, "feed-forward": {"psnr": 21.0}}),
        Person("bob", {"warp": {"psnr": float("nan")}, "feed-forward": {"psnr": 23.0}}),
    ]
    summary = summarise(people)
    summary["warp"]["fid"] = {"value": 12.345, "frames": 8}
    contests = [("feed-forward", "warp"), ("fine-tuned", "warp")]
    assert list(summary_table(people, summary, metrics, contests)) == [
        "|  | warp | feed-forward | feed-forward beats warp on |",
        "| --- | --- | --- | --- |",
        "| PSNR, dB (higher) | 20.0 [20.0, 20.0] | 22.0 [21.0, 23.0] | 1 of 1 |",
        "| FID (lower) | 12.35 |  |  |",
    ]
    rows = [(link("b o", "a b/c.png"), people[1].values)]
    assert list(comparison_table(rows, metrics[:1]))[-1] == "| [b o](a%20b/c.png) | 23.0 (nan) |"
    lone = [("a", {"feed-forward": {"psnr": 23.0}}), ("b", {"warp": {"psnr": 20.0}}), ("c", {})]
    assert list(comparison_table(lone, metrics[:1]))[2:] == ["| a | 23.0 |", "| b |  |", "| c |  |"]
    write_report(tmp_path, "it", {"people": [dict(person.values["warp"]) for person in people]}, ["# It", "is"])
    assert json.loads((tmp_path / "it.json").read_text()) == {"people": [{"psnr": 20.0}, {"psnr": None}]}
    assert (tmp_path / "it.md").read_text() == "# It\nis"
    assert len(list(tmp_path.iterdir())) == 2


# ------------------------------------------------------------------------------------------------------ whole frames


@pytest.fixture(scope="module")
def frames(astronaut: np.ndarray) -> np.ndarray:
    """One person in three places, (3, 192, 192, 3)."""
    return np.stack([astronaut[top : top + 192, 130:322] for top in (20, 30, 40)])


@pytest.fixture(scope="module")
def frame_metrics(detector: LandmarkDetector, tmp_path_factory: pytest.TempPathFactory) -> FrameMetrics:
    torch.manual_seed(0)
    dlib = IdentityNet(save_tiny_identity_net(tmp_path_factory.mktemp("nets") / "dlib.npz"))
    return FrameMetrics(detector, SqueezeNetFeatures(), MobileFaceNet(), dlib)


def test_the_truth_is_perfect(frame_metrics: FrameMetrics, frames: np.ndarray) -> None:
    observed = frame_metrics.observe(frames)
    values = frame_metrics.compare(observed, observed)
    perfect = {"ssim": 1.0, "psnr": BEST_PSNR, "perceptual": 0.0, "sharpness": 1.0, "faces": 1.0} | dict.fromkeys(
        ("l1", "landmarks", "mouth", "eyes", "irises", "pose", "lids", "mouth_open"), 0.0
    )
    assert values.keys() == perfect.keys() | {"csim", "dlib_distance"}
    for name, value in perfect.items():
        assert_allclose(values[name], np.full(3, value), atol=2e-3 if name == "pose" else 1e-6, err_msg=name)
    # The identity of the other frames, by hand: never that of the frame itself.
    cosines = observed.face_embeddings @ observed.face_embeddings.T
    assert_allclose(values["csim"], (cosines.sum(axis=1) - cosines.diagonal()) / 2, atol=1e-5)
    a, b, c = observed.descriptors
    ab, ac, bc = (np.linalg.norm(one - other) for one, other in ((a, b), (a, c), (b, c)))
    assert min(ab, ac, bc) > 1e-3
    assert_allclose(values["dlib_distance"], [(ab + ac) / 2, (ab + bc) / 2, (ac + bc) / 2], rtol=1e-5)


def test_what_is_painted_worse_is_judged_worse(frame_metrics: FrameMetrics, frames: np.ndarray) -> None:
    truth = frame_metrics.observe(frames)
    shifted = frame_metrics.compare(frame_metrics.observe(np.roll(frames, 6, axis=2)), truth)
    assert (shifted["ssim"] < 0.9).all() and (shifted["psnr"] < 30).all() and (shifted["perceptual"] > 0.01).all()
    distance = np.linalg.norm(truth.landmarks[:, 36] - truth.landmarks[:, 45], axis=-1)
    assert_allclose(shifted["landmarks"], 6 / distance, rtol=0.2)


def test_frames_without_a_face_are_counted_not_averaged(frame_metrics: FrameMetrics, frames: np.ndarray) -> None:
    painted = frames.copy()
    painted[1] = 128
    values = frame_metrics.compare(frame_metrics.observe(painted), frame_metrics.observe(frames))
    assert values["faces"].tolist() == [1, 0, 1]
    for name in ("landmarks", "pose", "lids", "mouth_open", "csim", "dlib_distance"):
        assert np.isnan(values[name]).tolist() == [False, True, False], name
    assert np.isfinite(values["ssim"]).all() and np.isfinite(values["l1"]).all()
    # A true frame in which nobody is seen says nothing about the painted one.
    assert np.isnan(
        frame_metrics.compare(frame_metrics.observe(frames), frame_metrics.observe(painted))["faces"]
    ).tolist() == [False, True, False]


def test_without_networks_their_metrics_are_left_out(detector: LandmarkDetector, frames: np.ndarray) -> None:
    alone = FrameMetrics(detector)
    observed = alone.observe(frames)
    assert {"perceptual", "csim", "dlib_distance"}.isdisjoint(alone.compare(observed, observed))


# ------------------------------------------------------------------------------------------------------------ identity


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_alignment_puts_the_five_points_in_place(angle: float) -> None:
    # A face that has its five points where they belong, enlarged, turned and moved; a dot on each.
    cos, sin = 2 * np.cos(angle), 2 * np.sin(angle)
    points = FIVE_POINTS @ np.array([[cos, sin], [-sin, cos]]) + [120, 40]
    landmarks = np.zeros((NUM_LANDMARKS, 2), np.float32)
    landmarks[36:42], landmarks[42:48] = points[0], points[1]
    landmarks[[30, 48, 54]] = points[2:]
    y, x = np.mgrid[:320, :320]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 32) for px, py in points)
    aligned = align_face(np.repeat((255 * dots)[..., None], 3, axis=2).astype(np.uint8), landmarks)[..., 0]
    assert aligned.shape == (112, 96)
    y, x = np.mgrid[:112, :96]
    for px, py in FIVE_POINTS:
        near = aligned * ((x - px) ** 2 + (y - py) ** 2 < 36)
        assert_allclose([(near * x).sum() / near.sum(), (near * y).sum() / near.sum()], [px, py], atol=0.2)


def test_mirror_images_are_one_person() -> None:
    net = MobileFaceNet()
    face = torch.rand(2, 3, 112, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, other = net(face), net(face.flip(-1))
    assert one.shape == (2, 256)
    assert_allclose(one.norm(dim=1), 1.0, rtol=1e-5)
    assert_allclose(one[:, :128], other[:, 128:], atol=1e-5)


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weight=np.zeros(3, np.float32))
    with pytest.raises(InvalidModelError, match="not MobileFaceNet"):
        load_mobilefacenet(tmp_path / "other.npz")
    with pytest.raises(InvalidModelError, match="no feature weights"):
        load_mobilefacenet(tmp_path / "absent.npz")


@pytest.mark.parametrize("angle", [0.0, -0.5])
def test_dlibs_chip_has_the_five_points_in_place(angle: float) -> None:
    landmarks = np.zeros((NUM_LANDMARKS, 2))
    turn = 0.3 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    landmarks[DLIB_POINTS] = DLIB_POINTS_AT @ turn + [0.4, 0.2]
    chip = five_point_chip_transform(landmarks)
    assert_allclose((2 * DLIB_POINTS_AT - 1) @ chip[:, :2].T + chip[:, 2], 2 * landmarks[DLIB_POINTS] - 1, atol=1e-6)
    # Where dlib.get_face_chip puts the eyes of an upright face: a third down, seven twentieths apart.
    eyes = DLIB_POINTS_AT[:4].reshape(2, 2, 2).mean(axis=1)
    assert_allclose(eyes, [(0.318, 0.314), (0.669, 0.314)], atol=1e-3)


def test_foreign_files_are_not_dlibs_network(tmp_path: Path) -> None:
    whole = dict(np.load(save_tiny_identity_net(tmp_path / "whole.npz")))
    np.savez(tmp_path / "other.npz", weight=np.zeros(3, np.float32))
    np.savez(tmp_path / "part.npz", **{name: whole[name] for name in whole if not name.startswith("conv256")})
    np.savez(tmp_path / "shape.npz", **whole | {"fc": whole["fc"][:4]})
    np.savez(tmp_path / "short.npz", **whole | {"fc": whole["fc"][:, :64]})
    np.savez(tmp_path / "scale.npz", **whole | {"conv32_1.conv1.scale.weights": np.ones(3)})
    np.save(tmp_path / "array.npy", np.zeros(3))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    (tmp_path / "words.npz").write_text("no network")
    for name in (
        "other.npz",
        "part.npz",
        "shape.npz",
        "short.npz",
        "scale.npz",
        "array.npy",
        "weights.pth",
        "words.npz",
    ):
        with pytest.raises(InvalidModelError, match=rf"{name} is not dlib's face recognition network. Give the .npz"):
            IdentityNet(tmp_path / name)
    with pytest.raises(InvalidModelError, match="no identity network at"):
        IdentityNet(tmp_path / "absent.npz")


@needs_dlib_net
def test_dlibs_network_knows_people(detector: LandmarkDetector) -> None:
    """Three people, neutral and smiling, as frames of 256 pixels: dlib's own threshold of 0.6 tells them apart."""
    measure, people = FrameMetrics(detector, dlib_net=IdentityNet(DLIB_NET)), []
    for person in ("001", "002", "003"):
        photos = [read_photo(LONDON / f"{person}_{expression}.jpg") for expression in ("neutral", "smiling")]
        faces = [detector.detect(photo)[0] for photo in photos]
        crops = [crop_around(face[None], photo.shape[:2]) for face, photo in zip(faces, photos, strict=True)]
        people.append(measure.observe(np.stack([c.cut(p, 256) for c, p in zip(crops, photos, strict=True)])))
    for seen in people:
        assert field_values(seen, seen)["dlib_distance"] == 0
    neutral, smiling = np.stack([seen.descriptors for seen in people], axis=1)
    distances = np.linalg.norm(neutral[:, None] - smiling, axis=-1)
    same, others = distances.diagonal(), distances[~np.eye(3, dtype=bool)]
    assert same.max() < 0.4 and others.min() > 0.6, distances
    # The other photo of this person is the only other real frame.
    assert_allclose(measure.compare(people[0], people[0])["dlib_distance"], [same[0]] * 2, rtol=1e-5)


@needs_identity_net
def test_identity_net_knows_people(detector: LandmarkDetector) -> None:
    net, people = load_mobilefacenet(IDENTITY_NET), []
    for path in sorted(LONDON.glob("*_neutral.jpg"))[:10]:
        photos = [read_photo(path), read_photo(path.with_name(path.name.replace("neutral", "smiling")))]
        people.append([align_face(photo, detector.detect(photo)[0]) for photo in photos])
    with torch.inference_mode():
        neutral, smiling = (net(to_float(np.stack(faces))).numpy() for faces in zip(*people, strict=True))
    cosines = neutral @ smiling.T
    # The network's published behaviour on all 102 people: 0.90 and 0.03.
    assert cosines.diagonal().mean() == pytest.approx(0.90, abs=0.04)
    assert cosines[~np.eye(10, dtype=bool)].mean() == pytest.approx(0.03, abs=0.06)
