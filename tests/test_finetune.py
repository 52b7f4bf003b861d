"""Fine-tuning: the paper's initialisation, what is trained, and that nothing which was passed in changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from tiny import SIZE, save_tiny_model
from typer.testing import CliRunner

import train.finetune
from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.drawing import draw_landmarks
from talking_heads.errors import InvalidModelError
from talking_heads.head.presets import load_preset
from talking_heads.media.images import to_float
from talking_heads.tracking.detectors import LandmarkDetector
from train import fine_tune
from train.export import trainable
from train.features import SqueezeNetFeatures, VGG16Features
from train.finetune import FineTuning, main
from train.losses import LossWeights

pytestmark = pytest.mark.slow

STEPS = 12


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory, detector: LandmarkDetector) -> TalkingHeadPipeline:
    pipe = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))
    pipe.detector = detector
    return pipe


@pytest.fixture(scope="module")
def photos(astronaut: np.ndarray) -> list[np.ndarray]:
    return [astronaut, np.ascontiguousarray(astronaut[:, ::-1])]


@pytest.fixture(autouse=True)
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the photos: to animate them takes most of a short fine-tuning."""
    monkeypatch.setattr(train.finetune, "COPIES", 8)


def shots(avatar: Avatar) -> torch.Tensor:
    return to_float(avatar.shots.crops(SIZE))


def outputs(avatar: Avatar, generator: torch.nn.Module) -> torch.Tensor:
    """A generator's output for an avatar in the pose of its own photos; the render is the photo, stillness is 0."""
    lines = to_float(draw_landmarks(avatar.shots.landmarks_at(SIZE), SIZE))
    trust_and_layer, still = torch.ones_like(lines[:, :2]), torch.zeros_like(lines[:, :1])
    with torch.no_grad():
        render = torch.cat([shots(avatar), shots(avatar), trust_and_layer, still], dim=1)
        return generator(lines, style=avatar.style, render=render)


def test_learns_the_person(pipe: TalkingHeadPipeline, photos: list[np.ndarray]) -> None:
    before = {name: value.clone() for name, value in pipe.generator.state_dict().items()}
    random_state = torch.get_rng_state()
    terms: list[dict[str, float]] = []
    start = pipe.create_avatar(photos)
    avatar = fine_tune(
        pipe,
        photos,
        STEPS,
        settings=FineTuning(generator_rate=4e-3, batch_size=2),  # making an episode takes longer than learning from it
        on_step=lambda _done, _total, values: terms.append(values),
    )
    # The pixels get nearer to the photos', and only in the avatar's own generator.
    assert len(terms) == STEPS
    assert np.mean([t["pixel"] for t in terms[-3:]]) < 0.8 * np.mean([t["pixel"] for t in terms[:3]])
    assert avatar.generator is not None
    near = (outputs(avatar, avatar.generator) - shots(start)).abs().mean()
    far = (outputs(start, pipe.generator) - shots(start)).abs().mean()
    assert near < 0.5 * far
    assert not torch.equal(avatar.style, start.style)
    assert torch.equal(avatar.embedding, start.embedding)
    for name, value in pipe.generator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), random_state)


def test_starts_from_the_meta_learned_function(pipe: TalkingHeadPipeline, photos: list[np.ndarray]) -> None:
    avatar = pipe.create_avatar(photos)
    copy = trainable(pipe.generator).eval()
    assert torch.allclose(outputs(avatar, copy), outputs(avatar, pipe.generator), atol=2e-3)


def test_with_a_rate_of_zero_nothing_changes(pipe: TalkingHeadPipeline, photos: list[np.ndarray]) -> None:
    avatar = fine_tune(pipe, photos[:1], 2, settings=FineTuning(generator_rate=0.0, discriminator_rate=0.0))
    assert avatar.generator is not None
    start = pipe.create_avatar(photos[:1])
    assert torch.equal(avatar.style, start.style)  # psi' = P e
    assert torch.allclose(outputs(avatar, avatar.generator), outputs(start, pipe.generator), atol=2e-3)


def test_is_a_function_of_its_seed(pipe: TalkingHeadPipeline, photos: list[np.ndarray]) -> None:
    once = FineTuning(batch_size=1)
    one, two = (fine_tune(pipe, photos[:1], 2, settings=once, seed=5) for _ in range(2))
    other = fine_tune(pipe, photos[:1], 2, settings=once, seed=6)
    assert torch.equal(one.style, two.style)
    assert not torch.equal(one.style, other.style)


def test_own_generator_travels_with_the_avatar(
    pipe: TalkingHeadPipeline, photos: list[np.ndarray], tiny_model: Path, tmp_path: Path
) -> None:
    avatar = fine_tune(pipe, photos, 2)
    avatar.save_pretrained(tmp_path / "ada")
    loaded = Avatar.from_pretrained(tmp_path / "ada")
    assert loaded.generator is not None and avatar.generator is not None
    assert loaded.generator.config.spectral_norm is False
    assert torch.equal(outputs(avatar, avatar.generator), outputs(loaded, loaded.generator))
    # It needs no base model any more: one of another size gives the same frames.
    other = TalkingHeadPipeline.from_pretrained(tiny_model)
    assert other.image_size != SIZE
    motion = load_preset("nod")[17:20]
    for own, foreign in zip(pipe(avatar, motion, size=SIZE), other(loaded, motion, size=SIZE), strict=True):
        assert np.array_equal(own, foreign) and own.shape == (SIZE, SIZE, 3)


def test_the_papers_generator_is_tuned_as_well(
    detector: LandmarkDetector, photos: list[np.ndarray], tmp_path: Path
) -> None:
    """The model takes no render."""
    direct = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "direct", render_conditioned=False))
    direct.detector = detector
    terms: list[float] = []
    avatar = fine_tune(
        direct, photos, 30,
        # Random discriminators are no teachers.
        settings=FineTuning(LossWeights(squeezenet=0.0, adversarial=0.0), generator_rate=1e-2),
        on_step=lambda _done, _total, values: terms.append(values["pixel"]),
    )  # fmt: skip
    assert np.mean(terms[-5:]) < 0.7 * np.mean(terms[:5])
    assert next(iter(direct(avatar, load_preset("nod")[17:20]))).std() > 0


def test_as_the_paper_does_it(pipe: TalkingHeadPipeline, photos: list[np.ndarray], tmp_path: Path) -> None:
    """Two content networks, all of L_ADV, two steps of D, and no L_MCH."""
    torch.manual_seed(0)
    save_file(SqueezeNetFeatures().state_dict(), tmp_path / "squeezenet.safetensors")
    save_file(VGG16Features().state_dict(), tmp_path / "vgg16.safetensors")
    paper = FineTuning.of_preset("paper")
    assert (paper.generator_rate, paper.discriminator_rate, paper.betas) == (5e-5, 2e-4, (0.0, 0.999))
    assert paper.weights is not None and paper.weights.adversarial == 1.0 and paper.discriminator_steps == 2
    assert FineTuning.of_preset("default") == FineTuning()
    terms: list[dict[str, float]] = []
    fine_tune(
        pipe, photos, 1, settings=replace(paper, batch_size=1),
        feature_net=[tmp_path / "squeezenet.safetensors", tmp_path / "vgg16.safetensors"],
        on_step=lambda _done, _total, values: terms.append(values),
    )  # fmt: skip
    assert set(terms[0]) == {"content", "adversarial", "feature_matching", "hinge"}
    with pytest.raises(ValueError, match="vgg19 and vggface"):
        fine_tune(pipe, photos, 1, settings=paper)


def test_can_be_cancelled(pipe: TalkingHeadPipeline, photos: list[np.ndarray]) -> None:
    def stop(done: int, _total: int, _terms: dict[str, float]) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(pipe, photos, STEPS, on_step=stop)


def test_misuse(pipe: TalkingHeadPipeline, photos: list[np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="positive"):
        fine_tune(pipe, photos, 0)
    pipe.save_pretrained(tmp_path / "alone")  # the pipeline without the discriminator beside it
    alone = TalkingHeadPipeline.from_pretrained(tmp_path / "alone")
    alone.detector = pipe.detector
    with pytest.raises(InvalidModelError, match="discriminator"):
        fine_tune(alone, photos, 1)


def test_command_line_explains_itself_and_needs_no_accelerate() -> None:
    """Which the library does not bring along. As ``python -m train.finetune`` where it is not installed."""
    code = (
        "import sys, runpy; sys.modules['accelerate'] = None; from train import fine_tune; "
        "del sys.modules['train.finetune']; runpy.run_module('train.finetune', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--photos" in done.stdout and "--steps" in done.stdout


def test_the_command_makes_an_avatar_and_says_mistakes_in_one_line(
    pipe: TalkingHeadPipeline, photos: list[np.ndarray], tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(main)
    Image.fromarray(photos[0]).save(tmp_path / "ada.png")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    pipe.save_pretrained(tmp_path / "alone")  # without a discriminator
    model = save_tiny_model(tmp_path / "model")
    base = ["--photos", str(tmp_path / "ada.png"), "--steps", "1"]
    for arguments, words in (
        (["--output", str(tmp_path / "work"), "--model", "./gone"], "is no avatar. Choose another folder."),
        (["--output", str(tmp_path / "ada"), "--model", "./gone"], "There is no folder ./gone"),
        (["--output", str(tmp_path / "ada"), "--model", str(tmp_path / "alone")], "without its discriminator"),
    ):
        result = CliRunner().invoke(app, [*base, *arguments])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ") and words in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, [*base, "--output", str(tmp_path / "ada"), "--model", str(model)])
    assert result.exit_code == 0, result.output
    assert Avatar.from_pretrained(tmp_path / "ada").generator is not None
