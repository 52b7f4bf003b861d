"""A pack keeps everybody within its size; training from it is training from clips, by the clock, with few packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from accelerate.state import AcceleratorState
from people import write_people
from PIL import Image
from safetensors.torch import save_file
from tiny import save_tiny_identity_net
from typer.testing import CliRunner

from talking_heads.errors import OutputError, UnreadableMediaError
from train.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from train.config import preset
from train.data.clips import write_clip
from train.data.episodes import EpisodeDataset
from train.data.loading import compact, expanded, reused
from train.data.store import load_clips
from train.data.unpack import unpack
from train.features import SqueezeNetFeatures, load_feature_net
from train.identity_net import IdentityNet
from train.meta import main
from train.pack import NetworkFiles, Summary, write_pack
from train.trainer import Trainer
from train.training_loop import LoopOptions, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CONFIG = preset("tiny", jitter=0.0)
NOT_THERE = (
    "av", "mediapipe", "rich", "gradio", "openvino", "moviepy", "face_alignment", "cv2", "skimage", "matplotlib",
    "psutil", "c2pa", "imwatermark", "cryptography", "imageio_ffmpeg", "ray", "trackio",
)  # fmt: skip
app = typer.Typer()
app.command()(main)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("nets")
    save_file(SqueezeNetFeatures().state_dict(), folder / "squeezenet.safetensors")
    return folder / "squeezenet.safetensors", save_tiny_identity_net(folder / "dlib.npz")


@pytest.fixture(scope="module")
def packed(clips: Path, nets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Summary:
    path = tmp_path_factory.mktemp("packed") / "pack.tar"
    return write_pack([clips], path, 3.0, NetworkFiles([nets[0]], nets[1]), frames=4, codec="webp")


@pytest.fixture(scope="module")
def light(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack without networks, whose losses take most of the time."""
    return write_pack([clips], tmp_path_factory.mktemp("light") / "pack", 3.0, frames=4, codec="webp").path


@pytest.fixture
def start(clips: Path, tmp_path: Path) -> Callable[..., Trainer]:
    def make(folder: str = "run", **changes) -> Trainer:
        AcceleratorState._reset_state(reset_partial_state=True)
        config = replace(CONFIG, **changes)
        data = EpisodeDataset.from_folders([clips], config, 10)
        return Trainer(config, data, tmp_path / folder, mixed_precision="no")

    return make


# ------------------------------------------------------------------------------------------------------------ the pack


def test_clips_come_back(clips: Path, packed: Summary) -> None:
    unpacked = unpack(packed.path, workers=0)
    before, after = load_clips(clips, split=None), load_clips(unpacked.clips, split=None)
    assert [clip.meta for clip in after] == [clip.meta for clip in before]
    assert [len(clip) for clip in before] == [8, 3, 1, 4, 4]
    assert [len(clip) for clip in after] == [4, 3, 1, 4, 4]
    frames = {0: [0, 2, 5, 7], 1: [0, 1, 2], 2: [0], 3: [0], 4: [0, 1, 2, 3]}
    for number, kept in frames.items():
        for new, old in enumerate(kept):
            one, other = after[number], before[number]
            assert np.abs(one.canvas(new, 96).astype(float) - other.canvas(old, 96)).mean() < 4
            assert np.abs(one.mask(new, 96).astype(float) - other.mask(old, 96)).mean() < 4
            assert np.abs(one.landmarks[new] - other.landmarks[old]).max() < 1e-3
    photo, copy = after[3].canvas(0, 96).astype(float), after[3].canvas(1, 96).astype(float)
    assert np.abs(photo - copy).mean() > 2
    assert np.abs(after[3].landmarks[0] - after[3].landmarks[1]).max() > 0.01
    assert packed.copies == 3 and (packed.video_frames, packed.video_frames_before) == (11, 15)


def test_what_was_unpacked_is_not_made_again_and_would_be_the_same(packed: Summary, tmp_path: Path) -> None:
    first = unpack(packed.path, workers=0)
    files = sorted(first.clips.iterdir())
    times = [path.stat().st_mtime_ns for path in files]
    lines: list[str] = []
    assert unpack(packed.path, workers=0, say=lines.append) == first
    assert [path.stat().st_mtime_ns for path in files] == times and lines == []
    files[2].unlink()  # as where it was stopped
    (tmp_path / "pack.tar").write_bytes(packed.path.read_bytes())
    for again in (unpack(packed.path, workers=1, say=lines.append), unpack(tmp_path / "pack.tar", workers=1)):
        for path in files:
            one, other = (np.load(folder / path.name) for folder in (first.clips, again.clips))
            assert all(np.array_equal(one[name], other[name]) for name in one.files)
    assert lines == [line for line in lines if line.startswith("unpacking: 1 of 1 clips")] != []


def test_a_folder_holds_the_same_as_a_tar(clips: Path, packed: Summary, tmp_path: Path) -> None:
    write_pack([clips], tmp_path / "pack", 3.0, frames=4, codec="webp")
    assert (tmp_path / "pack").is_dir()
    tar, folder = unpack(packed.path, workers=0), unpack(tmp_path / "pack", workers=0)
    assert (folder.feature_net, folder.identity_net) == ("", None)
    for one, other in zip(load_clips(tar.clips, None), load_clips(folder.clips, None), strict=True):
        assert one.meta == other.meta and np.array_equal(one.landmarks, other.landmarks)
    write_pack([clips], tmp_path / "pack", 3.0, frames=2, codec="jpeg")  # another one in its place
    unpack(tmp_path / "pack", workers=0)
    assert [len(clip) for clip in load_clips(folder.clips, None)] == [2, 2, 1, 4, 2]
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputError, match="is no pack"):
        write_pack([clips], tmp_path / "other", 3.0, codec="jpeg")


def test_the_size_is_kept_and_so_is_everybody(clips: Path, tmp_path: Path) -> None:
    people = {clip.meta.person for clip in load_clips(clips, None)}
    qualities = []
    for megabytes in (1.0, 0.045, 0.03):
        summary = write_pack([clips], tmp_path / "pack.tar", megabytes, codec="webp")
        size = (tmp_path / "pack.tar").stat().st_size
        assert size == round(1e6 * summary.megabytes) <= 1e6 * megabytes
        kept = load_clips(unpack(tmp_path / "pack.tar", workers=0).clips, None)
        assert {clip.meta.person for clip in kept} == people and summary.people == len(people)
        assert all(len(clip) >= 2 for clip in kept if clip.meta.kind == "video")
        qualities.append((summary.video_frames, summary.quality))
    assert qualities[0] == (15, 90) and qualities == sorted(qualities, reverse=True)
    assert len(set(qualities)) == 3
    assert "0.02 MB, of which networks take 0.00. 4 people in 5 clips" in str(summary)
    with pytest.raises(OutputError, match=r"0\.01 MB are too few: 0\.0\d+ MB go to"):
        write_pack([clips], tmp_path / "small.tar", 0.01, codec="webp")
    assert not (tmp_path / "small.tar").exists()


def test_a_photo_of_two_clips_is_there_once(clips: Path, tmp_path: Path) -> None:
    bob = next(clip for clip in load_clips(clips) if clip.meta.person == "bob")
    for number, kind in enumerate(("stills", "animated")):
        write_clip(tmp_path / "clips" / f"{number}.npz", replace(bob, meta=replace(bob.meta, kind=kind)))
    summary = write_pack([tmp_path / "clips"], tmp_path / "pack.tar", codec="webp")
    assert (summary.photos, summary.clips) == (1, 2)


def test_networks_travel_in_16_bit(nets: tuple[Path, Path], packed: Summary) -> None:
    unpacked = unpack(packed.path, workers=0)
    before, after = load_feature_net(nets[0]).state_dict(), load_feature_net(unpacked.feature_net).state_dict()
    assert all(torch.equal(value.half().float(), after[name]) for name, value in before.items())
    assert unpacked.identity_net is not None
    image, chip = torch.rand(1, 3, 64, 64), torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(IdentityNet(unpacked.identity_net)(image, chip), IdentityNet(nets[1])(image, chip))


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.tar").write_bytes(b"no tar")
    (tmp_path / "folder").mkdir()
    for name in ("photo.tar", "folder"):
        with pytest.raises(UnreadableMediaError, match="is no pack"):
            unpack(tmp_path / name)
    result = CliRunner().invoke(app, ["--pack", str(tmp_path / "photo.tar"), "--output", str(tmp_path / "run")])
    assert result.exit_code == 2 and "is no pack" in result.stderr
    assert CliRunner().invoke(app, ["--output", str(tmp_path / "run")]).exit_code == 2  # neither clips nor a pack


# ---------------------------------------------------------------------------------------------------- training from it


def test_episodes_of_a_pack_are_those_of_clips_in_format(clips: Path, packed: Summary) -> None:
    folders = clips, unpack(packed.path, workers=0).clips
    one, other = (EpisodeDataset.from_folders([folder], CONFIG, 100) for folder in folders)
    assert one.identities == other.identities
    for index in range(0, 16, 4):
        ours, theirs = one[index], other[index]
        assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
            name: (value.shape, value.dtype) for name, value in theirs.items()
        }
        assert ours["identity"] == theirs["identity"]


def test_a_run_from_a_pack_writes_what_one_from_clips_writes(clips: Path, packed: Summary, tmp_path: Path) -> None:
    written = []
    for name, arguments in (("a", ["--clips", str(clips)]), ("b", ["--pack", str(packed.path), "--image-size", "64"])):
        AcceleratorState._reset_state(reset_partial_state=True)
        arguments += ["--output", str(tmp_path / name), "--preset", "tiny", "--steps", "1", "--workers", "0"]
        result = CliRunner().invoke(app, [*arguments, "--mixed-precision", "no"])
        assert result.exit_code == 0, result.output
        assert "training: 1 of 1 steps" in result.output
        written.append(sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")))
    assert written[0] == written[1]
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["losses"]["squeezenet"] > 0 and config["losses"]["identity"] > 0  # the pack's networks


class Clock:
    """Steps take ten seconds, everything else takes none."""

    def __init__(self, run: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.rates, self.saved = 1000.0, [], []
        step = run.step

        def timed(*batches):
            terms = step(*batches)
            self.rates.append(
                (run.generator_optimizer.param_groups[0]["lr"], run.discriminator_optimizer.param_groups[0]["lr"])
            )
            self.now += 10
            return terms

        def noted(trainer: Trainer) -> Path:
            self.saved.append(trainer.progress.step)
            return save_checkpoint(trainer)

        monkeypatch.setattr(run, "step", timed)
        monkeypatch.setattr("train.training_loop.save_checkpoint", noted)

    def __call__(self) -> float:
        return self.now


def test_the_clock_ends_a_run_and_cools_it_down(start, tmp_path, monkeypatch, capsys) -> None:
    changes = {"steps": 10**9, "minutes": 3.0, "cooldown": 1 / 3, "generator_rate": 0.003, "discriminator_rate": 0.006}
    run = start(**changes)
    clock = Clock(run, monkeypatch)
    # The command began 60 s ago: 12 steps of 10 s are left, of which the last six cool down.
    options = LoopOptions(workers=0, log_every=1, sample_every=None, save_minutes=1.0)
    train(run, [run.data[0]], options, started=940.0, clock=clock)
    assert run.progress.step == 12 and run.progress.seconds == 180 and run.share_left() == 0
    shares = [*[1.0] * 7, *np.arange(5, 0, -1) / 6]
    assert [rate for rate, _ in clock.rates] == pytest.approx([0.003 * share for share in shares])
    assert [rate for _, rate in clock.rates] == pytest.approx([0.006 * share for share in shares])
    assert clock.saved == [0, 6, 12]
    assert (tmp_path / "run" / "model" / "generator").is_dir()
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == [
        "step-0000000.png", "step-0000012.png"
    ]  # fmt: skip
    output = capsys.readouterr().out
    assert "training: 1.2 of 3 min, 1 steps, 0.2 samples a second, 1.8 min left" in output
    again = start(**changes)
    load_checkpoint(again, checkpoints(tmp_path / "run")[-1])
    train(again, [], LoopOptions(workers=0), clock=clock)  # it had its time
    assert again.progress.step == 12
    assert "No time was left for a step: it is 3.0 of 3 min, and 0.0 min are kept" in capsys.readouterr().out
    more = start(**(changes | {"minutes": 4.0}))
    load_checkpoint(more, checkpoints(tmp_path / "run")[-1])
    clock = Clock(more, monkeypatch)
    train(more, [], LoopOptions(workers=0), clock=clock)
    assert more.progress.step == 18 and more.progress.seconds == 240


def test_saving_has_its_time_before_the_end(start, monkeypatch) -> None:
    run = start(steps=10**9, minutes=1.0)
    clock = Clock(run, monkeypatch)

    def slow(trainer: Trainer) -> Path:
        clock.now += 25
        return save_checkpoint(trainer)

    monkeypatch.setattr("train.training_loop.save_checkpoint", slow)
    train(run, [], LoopOptions(workers=0, save_minutes=9.0), clock=clock)
    # 25 s at the start, 10 s for a step, 25 s in the end: a second step would be too much.
    assert clock.now == 1060.0 and run.progress.step == 1


def test_minutes_on_the_command_line(light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("train.meta.time", SimpleNamespace(monotonic=lambda: next(ticks) / 2))  # seconds
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = ["--pack", str(light), "--output", str(tmp_path / "run"), "--preset", "tiny", "--workers", "0"]
    arguments += ["--mixed-precision", "no", "--log-every", "1", "--reuse", "2"]
    result = CliRunner().invoke(app, [*arguments, "--minutes", "0.2"])
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["minutes"], config["reuse"], config["cooldown"]) == (0.2, 2, pytest.approx(1 / 3))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0 and lines[-1]["validation"] and lines[-1]["step"] > 0
    assert "of 0.2 min" in result.output and "0.0 min left" in result.output


# ------------------------------------------------------------------------------------------------------------- batches


def test_samples_travel_without_loss_where_they_were_bytes(clips: Path) -> None:
    episode = EpisodeDataset.from_folders([clips], CONFIG, 10)[0]
    back = expanded(compact(episode))
    assert back.keys() == episode.keys()
    for name, value in episode.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        if name in ("render", "weights"):
            assert (back[name] - value).abs().max() <= value.abs().max() * 2**-11
        else:
            assert torch.equal(back[name], value), name


def test_every_batch_comes_and_is_drawn_from_again() -> None:
    batches = [{"identity": torch.arange(4 * i, 4 * i + 4), "image": torch.full((4, 2), i)} for i in range(6)]
    assert list(reused(batches, 1, seed=0)) == batches
    seen = list(reused(batches, 3, seed=0))
    assert len(seen) == 18 and [batch["identity"].tolist() for batch in seen[::3]] == [
        batch["identity"].tolist() for batch in batches
    ]
    for number, batch in enumerate(seen):
        assert batch["identity"].max() < 4 * (number // 3 + 1)  # none before it came
        assert torch.equal(batch["image"], (batch["identity"] // 4)[:, None].expand(4, 2))  # a sample stays one
    again = list(reused(batches, 3, seed=0))
    assert all(torch.equal(a["identity"], b["identity"]) for a, b in zip(seen, again, strict=True))


def test_a_run_that_reuses_asks_for_fewer_episodes(start) -> None:
    run = start(steps=8, reuse=4)
    assert sum(len(block) for block in run._blocks()) == 2
    with closing(run.batches(workers=0)) as batches:
        assert len(list(batches)) == 8


# -------------------------------------------------------------------------------------------------- few packages


def test_the_commands_of_the_page_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # options that name files want them to be there
    for name in ("CLIPS", "RUN/model"):
        Path(name).mkdir(parents=True)
    for name in ("dlib_face_resnet.npz", "pack.tar"):
        Path(name).touch()
    page = (ROOT / "docs" / "rented-card.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in page.splitlines() if line.startswith("python -m train.")]
    assert len(lines) == 4
    for _, _, module, *words in lines:
        single = typer.Typer()
        single.command()(import_module(module).main)
        typer.main.get_command(single).make_context("command", words)


def test_training_needs_few_packages(light: Path, tmp_path: Path) -> None:
    """As on a rented machine that has neither detectors nor codecs; Python takes these packages for absent."""
    prelude = f"import sys; sys.modules.update(dict.fromkeys({NOT_THERE!r}))"
    arguments = ["--pack", str(light), "--output", str(tmp_path / "run"), "--preset", "tiny", "--steps", "1"]
    arguments += ["--workers", "1", "--mixed-precision", "no"]
    code = f"{prelude}; sys.argv[1:] = {arguments!r}; import runpy; runpy.run_module('train.meta', run_name='__main__')"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model_index.json").is_file()
    with Image.open(tmp_path / "run" / "samples" / "step-0000001.png") as sheet:
        assert sheet.width > 100


def test_clips_say_what_they_need() -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from talking_heads.errors import MissingDependencyError\n"
        "from talking_heads.examples import EXAMPLE\n"
        "from talking_heads.media.reading import probe\n"
        "from talking_heads.media.writing import VideoWriter, save_gif\n"
        "for work in (lambda: probe(EXAMPLE), lambda: VideoWriter('a.mp4', 25), lambda: save_gif([], 'a.gif', 25)):\n"
        "    try:\n        work()\n"
        "    except MissingDependencyError as error:\n        assert 'pip install av' in str(error)\n"
        "    else:\n        raise AssertionError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
