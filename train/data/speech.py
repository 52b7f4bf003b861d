"""How real people's faces move when they speak: the landmarks of a prepared video -> motion for a still photo.

The head of the speaker is fitted to one frame after the other (``talking_heads.head.fit``). What a speaker's face
always shows is its shape, and is taken off; what is left is made symmetric and as strong as clear speech, and drives
animated_stills.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talking_heads.errors import UnreadableMediaError
from talking_heads.head.fit import FrameFitter
from talking_heads.head.model import FaceModel
from talking_heads.head.motion import head_angles
from talking_heads.head.person_fit import fit_person

from .clips import Clip, load_clip

AT_REST = 0.1  # share of the frames in which an expression is at rest
JAW_OPENS = (0.25, 0.6)  # the range of the 95th percentile of jawOpen; and no lip moves further than its end
MAX_GAIN = 4.0  # by which a weak fit is strengthened at most: mumbling is not made shouting
SHOTS = 4  # frames of which a speaker's identity is made
TRIES = 3  # stretches of a clip that are drawn; the one in which the lips move most is taken, for clips have pauses


@dataclass(frozen=True)
class Speech:
    """Movement of a speaker's face and head, frame by frame."""

    expression: np.ndarray  # (T, E) 0..1, added to a face at rest, the same on both sides; gaze is zero
    angles: np.ndarray  # (T, 3) degrees of yaw, pitch and roll from the head's mean pose, see head.motion.head_angles


def speech_clips(folder: Path) -> list[Path]:
    """The prepared clips of kind "video" and split "train" below a folder, in the order of their names.

    Raises UnreadableMediaError where there are none, or for a file that is no clip.
    """
    paths = []
    for path in sorted(folder.rglob("*.npz")):
        meta = load_clip(path).meta
        if meta.kind == "video" and meta.split == "train":
            paths.append(path)
    if not paths:
        raise UnreadableMediaError(
            f"There are no prepared videos of split train in {folder}. Run python -m train.prepare on videos first."
        )
    return paths


def follow_speech(model: FaceModel, clip: Clip, frames: int, fps: float, rng: np.random.Generator) -> Speech:
    """A clip -> the motion of ``frames`` moments (T >= 1), ``fps`` of them a second, from a random one on.

    A clip that is too short is run back and forth. How strongly the mouth moves is random, too (JAW_OPENS).
    """
    opening = np.linalg.norm(clip.landmarks[:, 62] - clip.landmarks[:, 66], axis=1)
    stretches = [_moments(len(clip), frames, clip.meta.fps / fps, rng) for _ in range(TRIES)]
    moments = max(stretches, key=lambda at: opening[at].std())
    some = np.unique(moments[np.linspace(0, len(moments) - 1, SHOTS).round().astype(int)])
    person = fit_person(model, [clip.landmarks[i] for i in some])
    fitter = FrameFitter(model, person.identity_coefficients, person.photos[0].camera)
    frame, fits = person.photos[0].frame, []
    for i in moments:
        frame = fitter.fit(clip.landmarks[i], frame, steps=4)
        fits.append(frame)
    names = np.array(model.expression_names)
    tracks = np.stack([fit.expression for fit in fits])
    # Two sides that differ are a fit's noise, or a face that is not symmetric: neither is speech.
    column = {name: i for i, name in enumerate(model.expression_names)}
    tracks = (tracks + tracks[:, [column[_other_side(name)] for name in names]]) / 2
    tracks = np.maximum(tracks - np.quantile(tracks, AT_REST, axis=0), 0)

    # Priors make a fit weaker than what it fits: of the opening of a mouth it shows about half.
    jaw = column["jawOpen"]
    loudness = rng.uniform(*JAW_OPENS)
    gain = min(MAX_GAIN, loudness / max(float(np.quantile(tracks[:, jaw], 0.95)), 1e-6))
    lips = np.char.startswith(names, "jaw") | np.char.startswith(names, "mouth")
    tracks[:, lips] = np.minimum(gain * tracks[:, lips], JAW_OPENS[1])
    sideways = np.isin(names, ["jawLeft", "jawRight", "mouthLeft", "mouthRight"])
    tracks[:, sideways | np.char.startswith(names, "eyeLook")] = 0
    tracks = np.minimum(tracks, 1)
    # Lips that close before a jaw that is open would go through each other once it is closed.
    close = column["mouthClose"]
    tracks[:, close] = np.minimum(tracks[:, close], tracks[:, jaw])

    angles = np.stack([head_angles(fit.rotation) for fit in fits])
    return Speech(tracks.astype(np.float32), angles - angles.mean(axis=0))


def _moments(length: int, frames: int, stride: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) indices into a clip of ``length`` frames, ``stride`` apart but for rounding, back and forth at its ends."""
    last = length - 1
    spare = last - (frames - 1) * stride
    start = rng.uniform(0, spare if spare >= 0 else last)
    at = np.rint(start + np.arange(frames) * stride).astype(int) % max(2 * last, 1)
    return np.minimum(at, 2 * last - at)


def _other_side(name: str) -> str:
    """The expression of the other half of the face; of one that has no halves, itself."""
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name
