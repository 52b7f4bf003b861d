"""The protocol of most papers after this one: a clip's first frame is the source, all its other frames are targets.

    python -m train.evaluate --protocol field --clips FOLDER --output FOLDER --identity-net mobilefacenet.npz

Many targets lie next to the source, so numbers are better than by the paper's protocol. They are computed at 256 pixels
as their names say, but with the detectors that are here: published ones come of other clips, crops and detectors, and
are printed for their order of magnitude only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .metrics import Observation, l1, mean, psnr, ssim
from .report import Measured, Metric, summarise, summary_table

NUM_KEYPOINTS = 68
METRICS = (
    Metric("l1", "L1 of 0..1", 4, "lower"),
    Metric("ssim", "SSIM", 3, "higher"),
    Metric("psnr", "PSNR of each frame, mean, dB", 2, "higher"),
    Metric("psnr_pooled", "PSNR of the mean squared error of all frames, dB", 2, "higher"),
    Metric("akd", "AKD: 68 keypoints' distance, pixels of 256", 3, "lower"),
    Metric("aed", "AED: distance of identities", 3, "lower"),
    Metric("csim", "CSIM to the true frame", 3, "higher"),
    Metric("dlib_distance", "dlib distance to the true frame", 3, "lower"),
)
PUBLISHED = (
    # L1, SSIM, PSNR (frames), AKD, AED
    ("FOMM", "VoxCeleb, in FADM (arXiv 2304.03199)", 0.0451, 0.752, 23.42, 1.456, 0.0247),
    ("face-vid2vid", "VoxCeleb, in FADM", 0.0456, 0.749, 23.28, 1.615, 0.0258),
    ("DaGAN", "VoxCeleb, in FADM", 0.0468, 0.756, 23.45, 1.546, 0.0257),
    ("FADM", "VoxCeleb, in FADM", 0.0402, 0.784, 24.43, 1.392, 0.0241),
    ("TPSMM", "TalkingHead-1KH, in LivePortrait (arXiv 2407.03168)", 0.0395, 0.797, None, None, None),
    ("MCNet", "TalkingHead-1KH, in LivePortrait", 0.0349, 0.804, None, None, None),
    ("LivePortrait", "TalkingHead-1KH, in LivePortrait", 0.0347, 0.819, None, None, None),
)
"""Name, clips and source, then values; PSNR where it is that of single frames."""


def first_and_rest(usable: np.ndarray, held_out: int | None) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Numbers of usable frames -> the one source, and the targets: all others, or so many spread over them."""
    rest = usable[1:]
    if held_out is not None and held_out < len(rest):
        rest = rest[np.linspace(0, len(rest) - 1, held_out).round().astype(int)]
    return {1: usable[:1]}, rest


def field_values(painted: Observation, truth: Observation) -> dict[str, float]:
    """METRICS of painted frames beside the true ones; NaN where no face is found in either."""
    pairs = list(zip(painted.frames, truth.frames, strict=True))
    distances = np.linalg.norm(painted.landmarks - truth.landmarks, axis=-1)[:, :NUM_KEYPOINTS].mean(axis=1)
    values = {
        "l1": l1(painted.frames, truth.frames),
        "ssim": mean(np.array([ssim(*pair) for pair in pairs])),
        "psnr": mean(np.array([psnr(*pair) for pair in pairs])),
        "psnr_pooled": psnr(painted.frames, truth.frames),
        "akd": mean(distances * 256 / painted.frames.shape[1]),
    }
    if painted.face_embeddings.shape[1]:
        values["aed"] = mean(np.linalg.norm(painted.face_embeddings - truth.face_embeddings, axis=1))
        values["csim"] = mean((painted.face_embeddings * truth.face_embeddings).sum(axis=1))
    if painted.descriptors.shape[1]:
        values["dlib_distance"] = mean(np.linalg.norm(painted.descriptors - truth.descriptors, axis=1))
    return values


def markdown(
    results: Sequence[Measured], model: str | None, notes: Sequence[str], left_out: Mapping[str, str], seed: int
) -> Iterator[str]:
    """A report of ``evaluate.Result`` of one T."""
    yield f"# First frame to all frames, with {model or 'the bundled model'}\n"
    yield "Source: the first frame with a face. Targets: the others. Mean and 95 % bootstrap interval over people.\n"
    for sentence in notes:
        yield f"{sentence}\n"
    yield from summary_table(results, summarise(results, seed), METRICS, (("feed-forward", "render"),))
    yield "\n## Published, on other clips and with other detectors\n"
    yield "| | clips | L1 | SSIM | PSNR of each frame | AKD | AED |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, clips, *values in PUBLISHED:
        yield f"| {name} | {clips} | " + " | ".join("" if value is None else f"{value:g}" for value in values) + " |"
    if left_out:
        yield "\n## Left out\n"
        yield from (f"* {clip}: {reason}" for clip, reason in left_out.items())
    yield ""
