"""OpenVINO and exports paint what torch paints; who computes is chosen by device, precision and length."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, save_tiny_model

from talking_heads import Avatar, TalkingHeadPipeline, engines
from talking_heads.avatar import Shots
from talking_heads.cli import main
from talking_heads.engines import WORTH_CONVERTING, choose_engine, export
from talking_heads.errors import MissingDependencyError, OutputError
from talking_heads.head.head import Head
from talking_heads.head.presets import load_preset
from talking_heads.models import Generator

pytestmark = pytest.mark.slow

PAINTER = Path(__file__).parents[1] / "examples" / "paint_with_onnx.py"
needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is optional")
needs_onnx = pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="onnxruntime is optional")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pipe(folder: Path) -> TalkingHeadPipeline:
    return TalkingHeadPipeline.from_pretrained(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "talking_heads"


@pytest.fixture
def somebody(shots: Shots, head: Head) -> Callable[..., Avatar]:
    """Makes avatars of one photo, whose head is there already."""

    def make(pipe: TalkingHeadPipeline, generator: Generator | None = None) -> Avatar:
        avatar = pipe.avatar_from_shots(shots, head)
        if generator is None:
            return avatar
        return Avatar.create(
            avatar.embedding, avatar.style.detach(), shots, "tiny", pipe.fingerprint, generator, head=head
        )

    return make


def first_frame(pipe: TalkingHeadPipeline, avatar: Avatar) -> np.ndarray:
    """The first frame that the pipeline gives for the unmoved head."""
    return next(pipe.generate(avatar, [avatar.head.primary_view.fit.frame]))


def nodding(pipe: TalkingHeadPipeline, avatar: Avatar, first: int, last: int) -> np.ndarray:
    return np.stack(list(islice(pipe(avatar, load_preset("nod")), first, last)))


def pretend_without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else found(name))


def test_auto_goes_by_device_precision_and_length(pipe: TalkingHeadPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_installed", lambda _: True)
    assert pipe.engine == "auto" and pipe.engine_name == "openvino"
    assert choose_engine("auto", pipe.generator, WORTH_CONVERTING) == "openvino"
    assert choose_engine("auto", pipe.generator, WORTH_CONVERTING - 1) == "torch"
    assert choose_engine("torch", pipe.generator) == "torch"
    assert choose_engine("openvino", pipe.generator, 1) == "openvino"
    half = Generator(**dict(image_size=16, channels=[8], attention_resolution=0, up_attention_resolution=0)).bfloat16()
    assert choose_engine("auto", half) == "torch"
    with pytest.raises(ValueError, match="weights in float32"):
        choose_engine("openvino", half)
    monkeypatch.setattr(engines, "_installed", lambda _: False)
    assert pipe.engine_name == "torch"
    with pytest.raises(ValueError, match="auto, torch, openvino"):
        pipe.engine = "steam"


def test_what_is_not_installed_is_named(
    pipe: TalkingHeadPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"talking-heads\[openvino\]"):
        pipe.engine = "openvino"
    assert pipe.engine == "auto"
    with pytest.raises(MissingDependencyError, match=r"onnxruntime.*talking-heads\[onnx\]"):
        export(pipe.generator, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor: in 16 bit two engines round differently, and a network of noise makes much of it."""
    monkeypatch.setattr(engines, "fast_bf16", lambda: False)
    monkeypatch.setattr(engines, "_precision", lambda _: "f32")


@needs_openvino
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("render_conditioned", [True, False])
def test_openvino_paints_what_torch_paints(
    render_conditioned: bool, cache: Path, tmp_path: Path, somebody: Callable[..., Avatar]
) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(
        save_tiny_model(tmp_path / "model", render_conditioned=render_conditioned), engine="torch"
    )
    avatar = somebody(pipe)
    expected = nodding(pipe, avatar, 10, 20).astype(int)
    pipe.engine = "openvino"
    assert pipe.engine_name == "openvino"
    got = nodding(pipe, avatar, 10, 20)
    assert np.abs(got - expected).max() <= 2
    assert expected.std() > 5


@needs_openvino
@pytest.mark.skipif(not engines.fast_bf16(), reason="this processor has no 16-bit arithmetic")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_16_bit_hardly_show(
    engine: str, cache: Path, monkeypatch: pytest.MonkeyPatch, somebody: Callable[..., Avatar]
) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(engine=engine)
    avatar = somebody(pipe)
    got = nodding(pipe, avatar, 10, 14).astype(int)
    monkeypatch.setattr(engines, "fast_bf16", lambda: False)
    expected = nodding(TalkingHeadPipeline.from_pretrained(engine="torch"), avatar, 10, 14)
    assert np.abs(got - expected).mean() < 0.5
    assert np.quantile(np.abs(got - expected), 0.999) <= 8


@needs_openvino
def test_one_network_on_disk_serves_every_avatar(
    pipe: TalkingHeadPipeline, folder: Path, cache: Path, somebody: Callable[..., Avatar]
) -> None:
    pipe.engine = "openvino"
    turned = nodding(pipe, somebody(pipe), 18, 19)
    other = somebody(pipe)
    torch.nn.init.constant_(other.style, 0.5)
    assert np.abs(turned.astype(int) - nodding(pipe, other, 18, 19)).mean() > 0.3
    (kept,) = cache.iterdir()
    written = (kept / "generator.bin").stat().st_mtime_ns

    again = TalkingHeadPipeline.from_pretrained(folder, engine="openvino")
    assert np.array_equal(turned, nodding(again, somebody(again), 18, 19))
    assert (kept / "generator.bin").stat().st_mtime_ns == written

    (kept / "generator.xml").write_text("half a netw")
    repaired = TalkingHeadPipeline.from_pretrained(folder, engine="openvino")
    assert np.array_equal(turned, nodding(repaired, somebody(repaired), 18, 19))
    assert [path.name for path in cache.iterdir()] == [kept.name]


@needs_openvino
@pytest.mark.usefixtures("in_float32")
def test_an_avatars_own_generator_is_used_and_not_left_on_disk(
    pipe: TalkingHeadPipeline, cache: Path, tmp_path: Path, somebody: Callable[..., Avatar]
) -> None:
    own = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "own", seed=1)).generator
    avatar = somebody(pipe, own)
    pipe.engine = "torch"
    expected = nodding(pipe, avatar, 18, 19).astype(int)
    assert np.abs(expected - nodding(pipe, somebody(pipe), 18, 19)).mean() > 0.3
    pipe.engine = "openvino"
    assert np.abs(nodding(pipe, avatar, 18, 19) - expected).max() <= 2
    assert not cache.exists()


@needs_openvino
def test_a_cache_that_cannot_be_written_is_done_without(
    pipe: TalkingHeadPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, somebody: Callable[..., Avatar]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pipe.engine = "openvino"
    assert first_frame(pipe, somebody(pipe)).shape[2] == 3


@needs_openvino
def test_openvino_tells_its_makers_nothing(pipe: TalkingHeadPipeline) -> None:
    engines.compile_openvino(pipe.generator, keep=False)
    assert "openvino" in sys.modules and sys.modules["openvino_telemetry"] is None


# ---------------------------------------------------------------------------------------------------------- exporting


@pytest.mark.parametrize(
    ("format", "network"),
    [
        pytest.param("onnx", ["generator.onnx"], marks=needs_onnx),
        pytest.param("openvino", ["generator.bin", "generator.xml"], marks=needs_openvino),
    ],
)
def test_export(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    format: str,
    network: list[str],
    somebody: Callable[..., Avatar],
) -> None:
    avatar = somebody(TalkingHeadPipeline.from_pretrained(folder))
    avatar.save_pretrained(tmp_path / "ada")
    line = ["export", "--format", format, "--model", str(folder), "--avatar", str(tmp_path / "ada")]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == sorted(["example.npz", "export.json", "style.npy", *network])
    assert np.array_equal(np.load(tmp_path / "out" / "style.npy"), avatar.style.detach().numpy())
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["inputs"]["render"] == [1, 9, SIZE, SIZE]
    with np.load(tmp_path / "out" / "example.npz") as example:
        assert {name: example[name].shape for name in example.files} == {
            "landmark_images": (1, 3, SIZE, SIZE),
            "style": avatar.style.shape,
            "render": (1, 9, SIZE, SIZE),
            "picture": (2 * SIZE, 2 * SIZE, 3),
            "frame": (2 * SIZE, 2 * SIZE, 3),
        }
        assert np.abs(example["frame"] - example["picture"]).mean() > 0.3  # the network does something
    # A second time into the same folder is refused, and changes nothing.
    assert main([*line, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path / 'out'} exists and is not empty.")


@needs_onnx
@pytest.mark.parametrize("render_conditioned", [True, False])
def test_another_program_paints_the_pipelines_frame(
    tmp_path: Path, somebody: Callable[..., Avatar], in_float32: None, render_conditioned: bool
) -> None:
    """It needs numpy and ONNX Runtime alone."""
    model = save_tiny_model(tmp_path / "model", render_conditioned=render_conditioned)
    pipe = TalkingHeadPipeline.from_pretrained(model, engine="torch")
    avatar = somebody(pipe)
    export(pipe.generator, tmp_path / "out", "onnx", avatar)
    script = f"""
import runpy, sys
sys.argv = [{str(PAINTER)!r}, {str(tmp_path / "out")!r}, {str(tmp_path / "frame.png")!r}]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {{"torch", "talking_heads", "scipy", "numba"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size = 2 * SIZE if render_conditioned else SIZE
    assert f"{size} x {size} pixels" in done.stdout
    painted = np.asarray(Image.open(tmp_path / "frame.png")).astype(int)
    (expected,) = pipe.generate(avatar, [engines._speaking(avatar.head)], size)
    assert np.abs(painted - expected).max() <= 2
    assert np.abs(expected - first_frame(pipe, avatar)[0, 0]).std() > 5


def test_wrong_calls_of_the_example_get_a_line() -> None:
    done = subprocess.run([sys.executable, str(PAINTER)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("Usage: ")
    assert len(PAINTER.read_text().splitlines()) < 75


def test_the_page_on_exports_names_what_is_written() -> None:
    page = (PAINTER.parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    for name in ("generator.onnx", "generator.xml", "export.json", "style.npy", engines.EXAMPLE_FRAME, PAINTER.name):
        assert name in page
    for name in ("landmark_images", "style", "render", "picture", "frame"):
        assert f"`{name}`" in page
    assert "MIT" not in page or "FACE_MODEL_LICENSE" in page


@needs_onnx
def test_an_export_with_other_frames_is_refused(
    pipe: TalkingHeadPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = engines._write_onnx

    def from_another(generator: Generator, path: Path) -> None:
        other = Generator(**{k: v for k, v in generator.config.items() if not k.startswith("_")})
        other.load_state_dict(generator.state_dict())
        torch.nn.init.constant_(other.gain, 0.1)
        write(other, path)

    monkeypatch.setattr(engines, "_write_onnx", from_another)
    with pytest.raises(OutputError, match="paints other frames"):
        export(pipe.generator, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


@needs_openvino
def test_a_process_that_used_openvino_outlives_its_children(folder: Path, tmp_path: Path) -> None:
    """A signal, as that of a child that ends, once crashed it: see ``engines._core``."""
    script = f"""
import gc, signal, subprocess, sys, threading
import torch
from talking_heads import TalkingHeadPipeline
from talking_heads.engines import compile_openvino

signal.signal(signal.SIGCHLD, lambda *_: None)
generator = TalkingHeadPipeline.from_pretrained({str(folder)!r}).generator
made = [compile_openvino(generator, keep=False)]
thread = threading.Thread(target=made.clear)  # what it is freed by is another thread than what it was made by
thread.start()
thread.join()
gc.collect()
for _ in range(3):
    subprocess.run([sys.executable, "-c", "pass"], check=True)
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["alive"]), done.stderr
