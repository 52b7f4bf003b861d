"""The model that comes with the package: whole, small, described, and able to move an unseen person's photo."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.cli import EXAMPLE
from talking_heads.errors import InvalidModelError
from talking_heads.hub import BUNDLED, WEIGHTS_NAME
from talking_heads.landmarks import LandmarkDetector, eye_distance
from talking_heads.motion import mouth_openness

NETWORKS = ("embedder", "generator", "discriminator")


@pytest.fixture(scope="module")
def pipe(detector: LandmarkDetector) -> TalkingHeadPipeline:
    pipe = TalkingHeadPipeline.from_pretrained()
    pipe.detector = detector
    return pipe


def test_it_is_small_and_spectral_norm_is_folded(pipe: TalkingHeadPipeline) -> None:
    files = [BUNDLED / name / WEIGHTS_NAME for name in NETWORKS]
    assert sum(path.stat().st_size for path in files) < 40e6
    for path in files:
        state = load_file(path)
        assert {value.dtype for value in state.values()} == {torch.float16}
        assert not any("parametrizations" in name for name in state)
    for network in (pipe.embedder, pipe.generator, pipe.load_discriminator()):
        assert network.config.spectral_norm is False
    assert pipe.name == "default" and pipe.image_size == 256 and pipe.generator.config.source_conditioned


def test_its_card_says_what_it_is() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8").lower()
    assert all(word in card for word in ("license", "steps", "limits", "grid", "cc"))


def test_an_unseen_persons_photo_follows_the_driver(
    pipe: TalkingHeadPipeline, detector: LandmarkDetector, astronaut: np.ndarray
) -> None:
    avatar = pipe.create_avatar([astronaut])
    track = pipe.track(EXAMPLE, start=1.0, end=2.2)
    targets = pipe.target_landmarks(avatar, track, "relative", 1.0, 1.0, 1.0)
    frames = list(pipe(avatar, track))
    found = [detector.detect(frame) for frame in frames]
    assert all(len(faces) == 1 for faces in found)  # recognisably a face
    seen = np.stack([faces[0] for faces in found])
    errors = np.linalg.norm(seen - targets, axis=-1).mean(axis=1) / eye_distance(targets)
    assert np.median(errors) < 0.06
    assert np.corrcoef(mouth_openness(seen), mouth_openness(targets))[0, 1] > 0.7
    photo = avatar.photo_images[0].astype(float)
    colours = np.abs(np.mean(frames, axis=(0, 1, 2)) - photo.mean(axis=(0, 1)))
    assert colours.max() < 15  # no colour cast


def test_a_folder_goes_before_what_is_bundled_under_its_name(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "default")
    assert TalkingHeadPipeline.from_pretrained().image_size == 256
    assert TalkingHeadPipeline.from_pretrained("default").image_size != 256


def test_an_avatar_is_not_looked_for_among_the_models() -> None:
    with pytest.raises(InvalidModelError, match="There is no folder default"):
        Avatar.from_pretrained("default")
