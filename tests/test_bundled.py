"""The model that comes with the package: whole, small, described, and able to move an unseen person's photo."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.errors import InvalidModelError
from talking_heads.examples import EXAMPLE
from talking_heads.head.head import Head
from talking_heads.head.model import ASSET, FaceModel
from talking_heads.head.presets import FaceControls, load_preset
from talking_heads.head.render import Renderer
from talking_heads.head.retarget import MotionOptions, Retargeter, frame_of, most_neutral
from talking_heads.hub import BUNDLED, BUNDLED_MODELS, WEIGHTS_NAME
from talking_heads.landmarks import eye_distance, eye_openness, mouth_openness
from talking_heads.tracking.detectors import LandmarkDetector

pytestmark = pytest.mark.slow

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
    assert pipe.name == "default" and pipe.image_size == 256 and pipe.generator.config.render_conditioned


def test_its_card_says_what_it_is() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8").lower()
    assert all(word in card for word in ("license", "steps", "limits", "grid", "cc"))


def test_the_papers_design_is_there_too_and_adain_carries_a_person(detector: LandmarkDetector, shots: Shots) -> None:
    paper = TalkingHeadPipeline.from_pretrained("paper")
    files = [BUNDLED_MODELS["paper"] / name / WEIGHTS_NAME for name in NETWORKS]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert paper.name == "paper" and paper.image_size == 128 and not paper.generator.config.render_conditioned
    dark = replace(shots, canvases=(0.3 * shots.canvases).astype(np.uint8))
    motion = load_preset("nod")[10:40:10]
    bright, shaded = (list(paper(paper.avatar_from_shots(some), motion)) for some in (shots, dark))
    assert np.mean(bright) > np.mean(shaded) + 30  # the same landmarks
    for frame in bright:
        enlarged = np.asarray(Image.fromarray(frame).resize((256, 256)))
        assert len(detector.detect(enlarged)) == 1


def test_the_face_model_comes_with_its_licence() -> None:
    model = FaceModel.load()
    assert ASSET.stat().st_size < 6.5e6
    assert model.mean.shape[0] < 9000 and len(model.identity_basis) == 64 and len(model.expression_basis) == 51
    notice = (ASSET.parent / "FACE_MODEL_LICENSE").read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in notice and "Copyright" in notice


def test_what_an_installation_needs_is_packed() -> None:
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    root = ASSET.parents[1]
    packed = {
        path.relative_to(root)
        for pattern in settings["tool"]["setuptools"]["package-data"]["talking_heads"]
        for path in root.glob(pattern)
    }
    for name in ("head/face_model.safetensors", "head/FACE_MODEL_LICENSE", "checkpoints/default/model_index.json"):
        assert Path(name) in packed
    needed = {re.split(r"[<>=\[]", line)[0] for line in settings["project"]["dependencies"]}
    assert {"numba", "scipy", "numpy", "torch"} <= needed
    page = (root.parent / "requirements.txt").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name}\b", page, re.MULTILINE) for name in needed)


def test_an_unseen_persons_photo_follows_the_driver(
    pipe: TalkingHeadPipeline, detector: LandmarkDetector, shots: Shots, head: Head
) -> None:
    avatar = pipe.avatar_from_shots(shots, head)
    motion = pipe.track(EXAMPLE, start=1.0, end=2.2)
    frames = list(pipe(avatar, motion, size=256))
    count = len(head.model.expression_names)
    neutral = frame_of(motion, most_neutral(motion), count)
    retarget = Retargeter(head.model, head.primary_view.fit.frame, neutral, MotionOptions())
    renderer = Renderer(head, 256)
    targets = np.stack([renderer.landmarks(retarget(frame_of(motion, k, count))) for k in range(len(motion))])
    found = [detector.detect(frame) for frame in frames]
    assert all(len(faces) == 1 for faces in found)  # recognisably a face
    seen = np.stack([faces[0] for faces in found])
    errors = np.linalg.norm(seen - targets, axis=-1).mean(axis=1) / eye_distance(targets)
    assert np.median(errors) < 0.06
    assert np.corrcoef(mouth_openness(seen), mouth_openness(targets))[0, 1] > 0.7
    photo = shots.crops(256)[0].astype(float)
    colours = np.abs(np.mean(frames, axis=(0, 1, 2)) - photo.mean(axis=(0, 1)))
    assert colours.max() < 15  # no colour cast


def test_an_unmoved_person_is_the_photo_and_eyes_close(
    pipe: TalkingHeadPipeline, detector: LandmarkDetector, shots: Shots, head: Head
) -> None:
    avatar = pipe.avatar_from_shots(shots, head)
    rest = pipe.edit(avatar, FaceControls(), size=256)
    assert (np.abs(rest.astype(int) - shots.crops(256)[0]).max(axis=2) <= 1).mean() > 0.95
    shut = pipe.edit(avatar, FaceControls(eyelids=-1), size=256)
    assert eye_openness(detector.detect(shut)[0]).mean() < 0.6 * eye_openness(detector.detect(rest)[0]).mean()


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
