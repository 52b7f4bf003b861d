"""What the benchmark says, not how fast the machine is that runs this test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def test_json_and_table(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--json", "--seconds", "1", "--model", str(tiny_model)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    measured = json.loads(captured.out)
    assert set(measured["machine"]) >= {"processor", "threads", "torch", "device"}
    assert len(measured["calibration"]) == 2
    assert list(measured["milliseconds_a_frame"]) == [
        "decoding", "detection", "drawing", "warping",
        "generation_fp32_batch_1", "generation_fp32_batch_8", "generation_bf16_batch_1", "generation_bf16_batch_8",
        "encoding",
    ]  # fmt: skip
    assert measured["end_to_end"]["clip"] == "1 s, 25 fps, 1280 x 720, with sound"
    assert measured["end_to_end"]["frames"] == 25
    assert measured["model"]["load_seconds"] > 0 and measured["peak_memory_mb"] > 10
    assert all(number > 0 for number in numbers(measured))

    assert main(["benchmark", "--seconds", "0.2", "--model", str(tiny_model)]) == 0
    table = capsys.readouterr().out
    assert "generation bf16 batch 8" in table and "frames per second" in table


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--model", "./gone"]) == 2
    assert capsys.readouterr().err.startswith("Error: There is no folder ./gone")


def test_the_clip_is_as_long_as_asked_for(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 5)
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.num_frames, info.has_audio) == (1280, 720, 5, True)
