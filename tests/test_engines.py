"""OpenVINO and exports paint what torch paints; who computes is chosen by device, precision and length."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIZE, save_tiny_model

from talking_heads import Avatar, TalkingHeadPipeline, engines, pipeline
from talking_heads.cli import main
from talking_heads.engines import WORTH_CONVERTING, choose_engine, export
from talking_heads.errors import MissingDependencyError, OutputError
from talking_heads.examples import EXAMPLE
from talking_heads.models import Generator
from talking_heads.presets import load_preset
from talking_heads.video import read_frames

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


def somebody(pipe: TalkingHeadPipeline, generator: Generator | None = None) -> Avatar:
    """Noise with a face's landmarks."""
    landmarks = load_preset("nod").landmarks[:1]
    low, high = landmarks.min(), landmarks.max()
    photos = np.random.default_rng(0).integers(0, 255, (1, SIZE, SIZE, 3), dtype=np.uint8)
    shots = ((landmarks - low) / (high - low) * 0.6 * SIZE + 0.2 * SIZE).astype(np.float32)
    avatar = pipe.avatar_from_shots(photos, shots)
    if generator is None:
        return avatar
    return Avatar.create(avatar.embedding, avatar.style, photos, shots, "tiny", pipe.fingerprint, generator)


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
    monkeypatch.setattr(pipeline, "fast_bf16", lambda: False)
    monkeypatch.setattr(engines, "_precision", lambda _: "f32")


@needs_openvino
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("source_conditioned", [True, False])
def test_openvino_paints_what_torch_paints(source_conditioned: bool, cache: Path, tmp_path: Path) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(
        save_tiny_model(tmp_path / "model", source_conditioned=source_conditioned), engine="torch"
    )
    avatar, motion = somebody(pipe), load_preset("nod")
    expected = np.stack(list(islice(pipe(avatar, motion), 10, 20))).astype(int)
    pipe.engine = "openvino"
    assert pipe.engine_name == "openvino"
    got = np.stack(list(islice(pipe(avatar, motion), 10, 20)))
    assert np.abs(got - expected).max() <= 2
    assert expected.std() > 5


@needs_openvino
@pytest.mark.skipif(not pipeline.fast_bf16(), reason="this processor has no 16-bit arithmetic")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_16_bit_hardly_show(engine: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, photo = TalkingHeadPipeline.from_pretrained(engine=engine), next(iter(read_frames(EXAMPLE)))
    avatar, motion = pipe.create_avatar([photo]), load_preset("nod")
    got = np.stack(list(islice(pipe(avatar, motion), 10, 14))).astype(int)
    monkeypatch.setattr(pipeline, "fast_bf16", lambda: False)
    expected = np.stack(list(islice(TalkingHeadPipeline.from_pretrained(engine="torch")(avatar, motion), 10, 14)))
    assert 0 < np.abs(got - expected).mean() < 0.5
    assert np.quantile(np.abs(got - expected), 0.999) <= 8


@needs_openvino
def test_one_network_on_disk_serves_every_avatar(pipe: TalkingHeadPipeline, folder: Path, cache: Path) -> None:
    pipe.engine = "openvino"
    landmarks = somebody(pipe).landmarks.numpy()
    first = next(pipe.paint(somebody(pipe), landmarks))
    other = somebody(pipe)
    torch.nn.init.constant_(other.style, 0.5)
    assert np.abs(first.astype(int) - next(pipe.paint(other, landmarks))).mean() > 1
    (kept,) = cache.iterdir()
    written = (kept / "generator.bin").stat().st_mtime_ns

    again = TalkingHeadPipeline.from_pretrained(folder, engine="openvino")
    assert np.array_equal(first, next(again.paint(somebody(again), landmarks)))
    assert (kept / "generator.bin").stat().st_mtime_ns == written

    (kept / "generator.xml").write_text("half a netw")
    repaired = TalkingHeadPipeline.from_pretrained(folder, engine="openvino")
    assert np.array_equal(first, next(repaired.paint(somebody(repaired), landmarks)))
    assert [path.name for path in cache.iterdir()] == [kept.name]


@needs_openvino
@pytest.mark.usefixtures("in_float32")
def test_an_avatars_own_generator_is_used_and_not_left_on_disk(
    pipe: TalkingHeadPipeline, cache: Path, tmp_path: Path
) -> None:
    own = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "own", seed=1)).generator
    avatar = somebody(pipe, own)
    expected = next(pipe.paint(avatar, avatar.landmarks.numpy())).astype(int)
    pipe.engine = "openvino"
    assert np.abs(next(pipe.paint(avatar, avatar.landmarks.numpy())) - expected).max() <= 2
    assert not cache.exists()


@needs_openvino
def test_a_cache_that_cannot_be_written_is_done_without(
    pipe: TalkingHeadPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pipe.engine = "openvino"
    avatar = somebody(pipe)
    assert next(pipe.paint(avatar, avatar.landmarks.numpy())).shape == (SIZE, SIZE, 3)


@needs_openvino
def test_openvino_tells_its_makers_nothing(pipe: TalkingHeadPipeline) -> None:
    engines.compile_openvino(pipe.generator, keep=False)
    assert "openvino" in sys.modules and sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize(
    ("format", "files"),
    [
        pytest.param("onnx", ["export.json", "generator.onnx", "style.npy"], marks=needs_onnx),
        pytest.param("openvino", ["export.json", "generator.bin", "generator.xml", "style.npy"], marks=needs_openvino),
    ],
)
def test_export(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, files: list) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(folder)
    avatar = somebody(pipe)
    avatar.save_pretrained(tmp_path / "ada")
    line = ["export", "--format", format, "--model", str(folder), "--avatar", str(tmp_path / "ada")]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert np.array_equal(np.load(tmp_path / "out" / "style.npy"), avatar.style.detach().numpy())
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["inputs"]["source"] == [1, 8, SIZE, SIZE]
    # A second time into the same folder is refused, and changes nothing.
    assert main([*line, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path / 'out'} exists and is not empty.")


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
