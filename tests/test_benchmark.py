"""What the benchmark says, not how fast the machine is that runs this test."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from talking_heads.benchmark import write_clip
from talking_heads.cli import main
from talking_heads.video import probe


def numbers(values: dict[str, Any]) -> list[float]:
    found: list[float] = []
    for value in values.values():
        if isinstance(value, dict):
            found += numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(value)
    return found


def test_json_and_table(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["benchmark", "--json", "--seconds", "1", "--model", str(tiny_model)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    measured = json.loads(captured.out)
    assert set(measured["machine"]) >= {"processor", "threads", "torch", "device"}
    assert len(measured["calibration"]) == 2
    assert list(measured["milliseconds_a_frame"]) == [
        "decoding", "detection", "drawing", "warping",
        "generation_fp32_batch_1", "generation_fp32_batch_8", "generation_bf16_batch_1", "generation_bf16_batch_8",
        *["generation_openvino"] * (find_spec("openvino") is not None), "encoding",
    ]  # fmt: skip
    assert measured["end_to_end"]["clip"] == "1 s, 25 fps, 1280 x 720, with sound"
    assert (measured["end_to_end"]["frames"], measured["end_to_end"]["engine"]) == (25, "torch")
    assert measured["model"]["load_seconds"] > 0 and measured["peak_memory_mb"] > 10
    assert all(number > 0 for number in numbers(measured))

    assert main(["benchmark", "--seconds", "0.2", "--model", str(tiny_model), "--engine", "torch"]) == 0
    table = capsys.readouterr().out
    assert "generation bf16 batch 8" in table and "frames per second" in table


def test_training_is_measured_as_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a preset that takes seconds; the others differ in their sizes."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("train.benchmark.MEASURED", ("tiny",))
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
