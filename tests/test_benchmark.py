"""What the benchmark says, not how fast the machine is that runs this test."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from tiny import save_tiny_model

from talking_heads import benchmark
from talking_heads.avatar import Shots
from talking_heads.benchmark import write_clip
from talking_heads.cli import main
from talking_heads.errors import TalkingHeadsError
from talking_heads.head.photo import REACH
from talking_heads.machine import peak_memory
from talking_heads.media.reading import probe, read_frames
from talking_heads.plots import BLUE, PALE, plot_speed
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import MediapipeDetector
from train import finetune
from train.finetune import FineTuning, fine_tune

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_heads")]


def numbers(values: dict[str, Any]) -> list[float]:
    found: list[float] = []
    for value in values.values():
        if isinstance(value, dict):
            found += numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(value)
    return found


@pytest.fixture
def brief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started once, not for a median; converted networks are not looked up in the user's own cache."""
    monkeypatch.setattr(benchmark, "STARTS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("brief")
def test_json_and_table(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--json", "--seconds", "0.2", "--model", str(tiny_model)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    measured = json.loads(captured.out)
    assert set(measured["machine"]) >= {"processor", "threads", "torch", "device"}
    assert len(measured["calibration"]) == 2
    assert list(measured["milliseconds_a_frame"]) == [
        "decoding", "detection_and_tracking", "fitting", "drawing_256", "drawing_512", "landmark_image",
        "generation_fp32_batch_1", "generation_fp32_batch_4", "generation_bf16_batch_1", "generation_bf16_batch_4",
        *["generation_openvino"] * (find_spec("openvino") is not None), "marking", "encoding",
    ]  # fmt: skip
    for name, size in (("end_to_end", 256), ("end_to_end_512", 512), ("end_to_end_as_a_stream", 256)):
        done = measured[name]
        assert done["clip"] == "0.2 s, 25 fps, 1280 x 720, with sound"
        assert (done["frames"], done["size"], done["engine"]) == (5, size, "torch")
        assert abs(done["frames_per_second"] - 5 / done["seconds"]) < 0.05  # both are rounded
    assert measured["photo"] == "a frame of the bundled clip, enlarged to 512 x 512"
    assert measured["avatar_one_photo_s"] > 0 and measured["avatar_eight_photos_s"] > 0
    assert measured["model"]["load_seconds"] > 0 and measured["peak_memory_mb"] > 10
    # An import takes less than a process's start varies: it may seem to take nothing.
    assert measured["responsiveness"].pop("import_seconds") >= 0
    assert list(measured["responsiveness"]) == [
        "help_seconds", "cold_first_frame_seconds", "warm_first_frame_seconds",
        "warm_first_frame_after_the_whole_clip_seconds",
    ]  # fmt: skip
    assert all(number > 0 for number in numbers(measured))
    assert not {"frames_per_second_by_seconds", "memory", "fine_tuning"} & set(measured)


def test_networks_alone(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "--networks", "--json", "--seconds", "0.2", "--model", str(tiny_model), "--device", "cpu"]
    assert main(command) == 0
    measured = json.loads(capsys.readouterr().out)
    networks = measured["networks"]
    assert networks["precision"] in ("bf16", "fp32")
    assert networks["matrix_product"]["side"] == 1024
    rows = ["generator_batch_1", "generator_batch_16", "embedder_batch_1", "embedder_batch_16"]
    assert list(networks) == ["precision", "matrix_product", *rows]
    for name in rows:
        row = networks[name]
        assert list(row) == ["milliseconds_a_frame", "gflop_a_frame", "tflops", "share_of_matrix_product"]
        assert row["tflops"] == pytest.approx(row["gflop_a_frame"] / row["milliseconds_a_frame"], rel=0.02)
        share = row["tflops"] / networks["matrix_product"]["tflops"]
        assert row["share_of_matrix_product"] == pytest.approx(share, rel=0.02)
    for kind in ("generator", "embedder"):
        assert networks[f"{kind}_batch_1"]["gflop_a_frame"] == networks[f"{kind}_batch_16"]["gflop_a_frame"]
    assert main(["benchmark", "--networks", "--training"]) == 2
    assert main(["benchmark", "--networks", "--memory"]) == 2


@pytest.mark.usefixtures("brief")
def test_everything_that_can_be_added(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Short clips, few photos and few steps; what says so on stderr says it to terminals alone."""
    monkeypatch.setattr(benchmark, "SHORT_CLIP_SECONDS", 0.2)
    monkeypatch.setattr(benchmark, "LENGTHS", (1, 2))
    # These are measured by the test above.
    parts = {"decoding": 7.0, "generation_fp32_batch_4": 100.0, "generation_bf16_batch_4": 90.0}
    monkeypatch.setattr(benchmark, "_parts", lambda *_: parts)
    monkeypatch.setattr(benchmark, "_avatar_seconds", lambda _pipe, _number: 0.1)
    monkeypatch.setattr(benchmark, "_responsiveness", lambda *_: {"warm_first_frame_seconds": 0.3})
    monkeypatch.setattr("train.benchmark.PHOTOS", (1, 2))
    monkeypatch.setattr(finetune, "COPIES", 4)  # each is drawn
    once = FineTuning(batch_size=1)
    monkeypatch.setattr("train.benchmark.fine_tune", partial(fine_tune, steps=2, settings=once))
    stages: dict[str, list[tuple[int, int | None]]] = {}

    def measure(*arguments: Any, on_progress: Any, **options: Any) -> dict[str, Any]:
        def show(stage: str, done: int, total: int | None) -> None:
            stages.setdefault(stage, []).append((done, total))
            on_progress(stage, done, total)

        result.update(original(*arguments, on_progress=show, **options))
        return result

    result: dict[str, Any] = {}
    original = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", measure)
    words = ["--seconds", "0.2", "--model", str(tiny_model), "--engine", "torch", "--memory", "--minutes", "0.01"]
    words += ["--size", "512"]
    assert main(["benchmark", *words, "--fine-tuning", "--plot", str(tmp_path / "speed.png")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "generation bf16 batch 4" in captured.out and "frames per second" in captured.out
    assert "warm first frame seconds" in captured.out and "long to short" in captured.out

    assert "end_to_end" not in result and result["end_to_end_512"]["size"] == 512
    assert result["end_to_end_as_a_stream"]["size"] == 512
    assert list(result["frames_per_second_by_seconds"]) == ["followed_first", "stream"]
    assert all(list(rates) == ["0.2", "0.4"] for rates in result["frames_per_second_by_seconds"].values())
    memory = result["memory"]
    assert memory["clip"] == "256 x 256, 25 fps, with sound"
    assert [(memory[name]["seconds"], memory[name]["frames"]) for name in ("short", "long")] == [(0.2, 5), (0.6, 15)]
    assert memory["long_to_short"] == round(memory["long"]["peak_memory_mb"] / memory["short"]["peak_memory_mb"], 3)
    assert list(result["fine_tuning"]) == ["steps", "seconds_1_photo", "seconds_2_photos"]
    assert result["fine_tuning"]["steps"] == 2
    for group in ("frames_per_second_by_seconds", "memory", "fine_tuning"):
        assert all(number > 0 for number in numbers(result[group]))
    assert stages["responsiveness"] == [(0, 1), (1, 1)]
    assert stages["long clip: tracking"][-1] == stages["long clip: painting"][-1] == (15, 15)
    assert stages["fine-tuning, 2 photos"] == [(1, 2), (2, 2)]
    with Image.open(tmp_path / "speed.png") as picture:
        assert np.array_equal(np.asarray(picture), plot_speed(result))


def test_the_photos_have_the_pixels_for_512(detector: MediapipeDetector) -> None:
    for number in (1, 8):
        photos = benchmark._photos(number)
        assert [photo.shape for photo in photos] == [(512, 512, 3)] * number
    assert len({photo.tobytes() for photo in photos}) == 8
    faces = [Portrait.of(photo, detector.detect(photo)[0]) for photo in photos[::4]]
    assert round(Shots.of(faces).canvases.shape[1] / REACH) >= 512


def test_a_model_of_another_size_is_measured_at_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's paints the whole picture, in one size. What knows of no size is not measured again."""
    monkeypatch.setattr(benchmark, "_avatar_seconds", lambda _pipe, _number: 0.0)
    monkeypatch.setattr(benchmark, "_responsiveness", lambda *_: {})
    model = save_tiny_model(tmp_path / "paper", render_conditioned=False)
    measured = benchmark.measure(0.2, benchmark.Loading(str(model), engine="torch"))
    assert measured["end_to_end"]["size"] == 64 and "end_to_end_512" not in measured


def test_the_plot_tells_how_the_generator_is_run_here_from_other_ways() -> None:
    measured: dict[str, Any] = {
        "machine": {"processor": "AMD EPYC", "threads": 2, "device": "cpu"},
        "model": {"precision": "fp32"},
        "milliseconds_a_frame": {"decoding": 7.0, "generation_fp32_batch_4": 100.0, "generation_openvino": 90.0},
        "end_to_end": {"engine": "torch"},
        "frames_per_second_by_seconds": {"followed_first": {"1": 4.0, "10": 7.5}, "stream": {"1": 5.0, "10": 9.0}},
    }

    def area(picture: np.ndarray, colour: str) -> int:
        rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        return int((picture == rgb).all(axis=-1).sum())

    torch_engine = plot_speed(measured)
    assert torch_engine.dtype == np.uint8 and torch_engine.ndim == 3 and torch_engine.shape[2] == 3
    openvino = plot_speed(measured | {"end_to_end": {"engine": "openvino"}})
    assert area(torch_engine, BLUE) > area(openvino, BLUE) > 0
    assert area(openvino, PALE) > area(torch_engine, PALE) > 0
    slow = measured["milliseconds_a_frame"] | {"generation_bf16_batch_4": 1e4}
    assert np.array_equal(plot_speed(measured | {"milliseconds_a_frame": slow}), torch_engine)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--plot", "gone/speed.png"], "The folder gone does not exist."),
        (["--plot", "speed.jpg"], "The output speed.jpg must end in .png."),
        (["--memory", "--minutes", "-1"], "--minutes"),
        (["--memory", "--minutes", "inf"], "inf is no finite number."),
        (["--minutes", "3"], "it is for --memory."),
        (["--training", "--fine-tuning"], "--training"),
        (["--training", "--size", "512"], "--training"),
        (["--size", "300"], "'256', '512'"),
        (["--training", "--plot", "speed.png"], "--training"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "measure", None)
    assert main(["benchmark", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_peak_memory_is_of_one_process_alone() -> None:
    """On Linux, getrusage in a new process begins with the peak of the one that started it."""
    ballast = np.ones(60_000_000)
    code = "from talking_heads.machine import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(child.stdout) < ballast.nbytes / 1e6 < peak_memory()


def test_a_process_that_fails_is_a_sentence() -> None:
    """With a function that fails before anything heavy is imported."""
    with pytest.raises(TalkingHeadsError, match="A process of the benchmark ended with 1: TypeError: unsupported oper"):
        list(benchmark._fresh_process(benchmark._num_frames))


def test_training_is_measured_as_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a preset that takes seconds; the others differ in their sizes. Two people, whose clips are short."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("train.benchmark.MEASURED", ("tiny",))
    monkeypatch.setattr("train.benchmark.PEOPLE", 2)
    monkeypatch.setattr("train.benchmark.read_frames", partial(read_frames, end=0.4))
    assert main(["benchmark", "--training", "--json", "--seconds", "0.2"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert set(measured["machine"]) >= {"processor", "threads", "torch", "device"}
    tiny = measured["training"]["tiny"]
    assert tiny["steps"] >= 2 and 0 <= tiny["share_of_time_waiting_for_data"] < 1
    assert (tiny["image_size"], tiny["num_shots"]) == (32, 2)
    assert tiny["samples_per_second"] > 0 and tiny["samples_per_second_of_one_worker"] > 0
    assert 0 < tiny["tflop_per_sample"] < 1
    assert main(["benchmark", "--training", "--device", "cpu"]) == 2


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--model", "./gone"]) == 2
    assert capsys.readouterr().err.startswith("Error: There is no folder ./gone")


def test_the_clip_is_as_long_as_asked_for(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 5)
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.num_frames, info.has_audio) == (1280, 720, 5, True)
    write_clip(tmp_path / "clip.mp4", 3, (64, 96))
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.num_frames) == (64, 96, 3)
