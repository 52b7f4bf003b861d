"""Shards hold what files of clips hold; preparing goes on by the shard, on one machine and on a Ray cluster."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
import torch
import typer
from media import write_clip
from people import astronaut, wandering
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from talking_heads.errors import MissingDependencyError, TalkingHeadsError, UnreadableMediaError
from train.config import preset
from train.data.episodes import EpisodeDataset
from train.data.jobs import find_jobs
from train.data.prepare_folder import prepare
from train.data.shards import load_shard
from train.data.store import load_clips
from train.prepare import main

pytestmark = pytest.mark.slow

app = typer.Typer()
app.command()(main)
PEOPLE = [f"p{k}" for k in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of ada, and photos of six people, one of which shows nobody."""
    folder = tmp_path_factory.mktemp("input")
    for k, person in enumerate(PEOPLE):
        (folder / person).mkdir()
        Image.fromarray(np.roll(wandering(1)[0], k, axis=1)).save(folder / person / "photo.v2.png")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "p3" / "photo.v2.png")
    (folder / "ada").mkdir()
    write_clip(folder / "ada" / "clip.mp4", wandering(9))
    return folder


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shards")
    arguments = ["--input", str(folder), "--output", str(output), "--size", "96", "--shards", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "6 clips in" in result.output and "1 dropped" in result.output
    return output


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


def test_shards_hold_what_files_hold_and_training_reads_both(folder: Path, shards: Path, tmp_path: Path):
    assert set(state(shards)) == {f"shard-00000{k}.{kind}" for k in range(3) for kind in ("tar", "json")}
    assert all(outcome.dropped or outcome.frames for outcome in prepare(find_jobs(folder, None), tmp_path, size=96))
    stored, files = load_clips(shards), load_clips(tmp_path)
    assert [clip.meta for clip in stored] == [clip.meta for clip in files]
    assert [len(clip) for clip in stored] == [len(clip) for clip in files]
    config = preset("tiny")
    ours, theirs = (EpisodeDataset.from_folders([path], config, 8) for path in (shards, tmp_path))
    for index in range(8):
        one, other = ours[index], theirs[index]
        assert all(torch.equal(one[name], other[name]) for name in one)
    both = EpisodeDataset.from_folders([shards, tmp_path], config, 8)
    assert sum(map(len, both.videos + both.stills)) == 12


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_webdataset_reads_them(shards: Path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    clips = load_clips(shards)
    gc.collect()
    assert samples[0]["__key__"] == "ada__ada__clip"
    for sample, clip in zip(samples, clips, strict=True):
        assert sample["json"]["identity"] == clip.meta.person
        assert sample["json"]["extra"]["face_pixels"] == clip.meta.extra["face_pixels"] > 64
        np.testing.assert_array_equal(sample["landmarks.npy"], clip.landmarks)
        np.testing.assert_array_equal(sample["jpeg.npy"], clip.jpeg)


def test_a_second_run_makes_only_the_shards_that_are_not_whole(folder: Path, shards: Path, tmp_path: Path):
    for name, data in state(shards).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "shard-000001.json").unlink()  # killed between the tar and its description
    (tmp_path / ".shard-000002.tar.9.tmp").write_bytes(b"half")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    outcomes = list(prepare(find_jobs(folder, None), tmp_path, size=96, shards=3))
    assert len(outcomes) == 7 and state(tmp_path) == state(shards)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert {name for name, stamp in after.items() if before.get(name) != stamp} == {
        "shard-000001.tar",
        "shard-000001.json",
    }
    assert not list(tmp_path.glob(".*"))
    jobs = find_jobs(folder, None)  # some of which came later
    late = tmp_path / "late"
    list(prepare(jobs[2:], late, size=96, shards=3))
    early = state(late)
    assert len(list(prepare(jobs, late, size=96, shards=3))) == 7
    assert {name: data for name, data in state(late).items() if name in early} == early
    assert sorted(clip.meta.source for clip in load_clips(late)) == sorted(
        clip.meta.source for clip in load_clips(shards)
    )


def test_a_shard_that_is_damaged_is_named(shards: Path, tmp_path: Path):
    for text in ("", "[]", "{}", '{"format": 99, "sources": [], "clips": []}'):
        (tmp_path / "shard-000000.json").write_text(text)
        with pytest.raises(UnreadableMediaError, match=r"shard-000000.json .*[Pp]repare"):
            load_shard(tmp_path / "shard-000000.json")
    (tmp_path / "shard-000000.json").write_bytes((shards / "shard-000000.json").read_bytes())
    with pytest.raises(UnreadableMediaError, match=r"There is no .*shard-000000.tar"):
        load_shard(tmp_path / "shard-000000.json")


# ------------------------------------------------------------------------------------------------- what is refused


def test_what_nothing_good_is_learned_from_is_refused_counted_and_shown(tmp_path: Path):
    frames = wandering(16)
    blurred = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(9))) for frame in frames]
    flipped = [255 - frame[::-1] for frame in frames[:3]]
    for name, clip in {
        "good": frames,
        "blurred": blurred,
        "cut": frames[:13] + flipped,
        "frozen": [frames[k // 4] for k in range(16)],
        "two": [np.hstack([frame, frame]) for frame in frames],
        "small": [np.asarray(Image.fromarray(astronaut()).resize((240, 240)))] * 10,
    }.items():
        write_clip(tmp_path / f"{name}.mp4", clip)
    (tmp_path / "words.mp4").write_text("This is no clip.")
    output = tmp_path / "out"
    result = CliRunner().invoke(app, ["--input", str(tmp_path), "--output", str(output), "--size", "96"])
    assert result.exit_code == 0, result.output
    report = json.loads((output / "report.json").read_text())
    assert {entry["name"].split("__")[0]: entry["reason"] for entry in report["dropped"]} == {
        "blurred": "blurred",
        "cut": "cut",
        "frozen": "frozen",
        "two": "two people",
        "small": "small face",
        "words": "unreadable",
    }
    assert report["clips"] == 1 and report["reasons"] == dict.fromkeys(report["reasons"], 1)
    (sentence,) = [entry["dropped"] for entry in report["dropped"] if entry["reason"] == "cut"]
    assert sentence == "There is a cut at 0.5 s."
    assert "two people" in result.output and "1 clips in" in result.output
    with Image.open(output / "dropped.png") as sheet:
        assert sheet.width > 5 * 128  # all but the text


# ------------------------------------------------------------------------------------------------ many machines


def test_ray_that_is_not_there_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"Ray is not installed. Install it: pip install"):
        list(prepare(find_jobs(folder, None), tmp_path, shards=3, ray="auto"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::ResourceWarning")  # both are Ray's own
def test_killed_workers_of_a_cluster_lose_nothing(
    folder: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    killed: list[int] = []

    def kill_at_work() -> None:
        """The process that makes the first shard; its title says that it is at work."""
        while not killed and not list(tmp_path.glob("shard-*.json")):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::Map"):
                        process.kill()
                        killed.append(process.pid)
                        return
            time.sleep(0.1)

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for the processes of the cluster
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
    try:
        killer = Thread(target=kill_at_work)
        killer.start()
        outcomes = list(prepare(find_jobs(folder, None), tmp_path, size=96, shards=3, ray="auto"))
        killer.join()
    finally:
        ray.shutdown()
    assert len(killed) == 1
    assert len(outcomes) == 7 and len({outcome.name for outcome in outcomes}) == 7
    assert state(tmp_path) == state(shards)


def test_a_cluster_that_is_not_there_is_named(folder: Path, tmp_path: Path):
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(TalkingHeadsError, match="There is no Ray cluster at auto"):
        list(prepare(find_jobs(folder, None), tmp_path, shards=3, ray="auto"))
