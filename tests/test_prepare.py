"""Preparation of a folder as people have it: who is who, what is dropped and why, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from media import picture, write_clip
from people import astronaut, detector, wandering
from PIL import Image
from typer.testing import CliRunner

from talking_heads.errors import UnreadableMediaError
from talking_heads.landmarks import eye_distance
from talking_heads.tracking.finding import find_faces
from train.data.clips import load_clip
from train.data.jobs import find_jobs
from train.data.prepare_clip import sharpness
from train.data.prepare_folder import prepare, write_report
from train.prepare import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
app = typer.Typer()
app.command()(main)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ada: a clip and three photos, one of them of nobody; a clip of nothing; a text; a clip of a tiny face."""
    folder = tmp_path_factory.mktemp("input")
    for name in ("ada", "none"):
        (folder / name).mkdir()
    write_clip(folder / "ada" / "clip.mp4", wandering(12))
    write_clip(folder / "none" / "wall.mp4", [picture(160, 120)] * 10)
    small = np.asarray(Image.fromarray(astronaut()).resize((240, 240)))
    write_clip(folder / "tiny.mp4", [small] * 10)
    (folder / "words.mp4").write_text("This is no clip.")
    (folder / "readme.txt").write_text("Neither a clip nor a photo.")
    save(folder / "ada" / "one.png", wandering(1)[0])
    save(folder / "ada" / "two.jpg", wandering(6)[5])
    save(folder / "ada" / "wall.png", picture(160, 120))
    save(folder / "bob.png", astronaut())
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    result = CliRunner().invoke(app, ["--input", str(folder), "--output", str(output), "--size", "128"])
    assert result.exit_code == 0, result.output
    assert "3 clips in" in result.output and "3 dropped" in result.output
    return output


def test_every_person_gets_clips_by_folder_or_file(prepared: Path):
    clips = {path.stem: load_clip(path) for path in prepared.glob("*.npz")}
    assert set(clips) == {"ada__ada__clip", "ada__stills", "bob__stills"}
    video, stills, bob = clips["ada__ada__clip"], clips["ada__stills"], clips["bob__stills"]
    assert (video.meta.person, video.meta.kind, video.meta.fps) == ("ada", "video", 25)
    assert (stills.meta.person, stills.meta.kind, len(stills)) == ("ada", "stills", 2)
    assert (bob.meta.person, bob.meta.source, len(bob)) == ("bob", "bob.png", 1)
    assert len(video) == 12
    assert video.meta.extra["seen"] == 1.0
    assert video.meta.extra["face_pixels"] == pytest.approx(111, rel=0.05)


def test_landmarks_lie_on_the_face_after_cropping(prepared: Path):
    for path in prepared.glob("*.npz"):
        clip = load_clip(path)
        for k in range(len(clip)):
            image, points = clip.frame(k, 128)
            assert image.shape == (128, 128, 3)
            again = find_faces(image, detector())[0]
            error = np.linalg.norm(again - points, axis=1).mean() / eye_distance(points)
            assert error < 0.03, f"{path.name}, frame {k}: {error:.3f}"


def test_the_report_says_what_was_dropped_and_why(prepared: Path):
    report = json.loads((prepared / "report.json").read_text())
    assert (report["clips"], report["frames"]) == (3, 15)
    reasons = {entry["source"]: entry["dropped"] for entry in report["dropped"]}
    assert set(reasons) == {"none/wall.mp4", "tiny.mp4", "words.mp4"}
    assert "No face found in wall.mp4" in reasons["none/wall.mp4"]
    assert "64 are needed" in reasons["tiny.mp4"]
    assert "words.mp4" in reasons["words.mp4"]
    (note,) = report["notes"]["ada__stills"]
    assert "No face found in wall.png" in note
    with Image.open(prepared / "report.png") as image:
        assert image.size[0] > 3 * 128


def test_a_second_run_makes_nothing_again(folder: Path, prepared: Path):
    def state() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in prepared.glob("*.npz")}

    before, report = state(), (prepared / "report.json").read_text()
    result = CliRunner().invoke(app, ["--input", str(folder), "--output", str(prepared), "--size", "128"])
    assert result.exit_code == 0, result.output
    assert state() == before
    assert (prepared / "report.json").read_text() == report


def test_a_damaged_clip_is_made_again_and_files_are_equal(folder: Path, prepared: Path, tmp_path: Path):
    name = "ada__stills.npz"
    whole = (prepared / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:100])
    jobs = [job for job in find_jobs(folder, None) if job.name == "ada__stills"]
    (outcome,) = prepare(jobs, tmp_path, size=128)
    assert outcome.frames == 2
    assert (tmp_path / name).read_bytes() == whole


def test_max_frames_are_spread_over_the_clip(folder: Path, tmp_path: Path):
    jobs = [job for job in find_jobs(folder, None) if job.is_video and job.person == "ada"]
    (outcome,) = prepare(jobs, tmp_path, size=96, max_frames=4)
    assert outcome.frames == 4
    clip = load_clip(tmp_path / f"{outcome.name}.npz")
    whole = load_clip(next(prepare_whole(jobs, tmp_path / "whole")))
    np.testing.assert_array_equal(clip.landmarks, whole.landmarks[[0, 4, 7, 11]])


def prepare_whole(jobs, output):
    for outcome in prepare(jobs, output, size=96):
        yield output / f"{outcome.name}.npz"


def test_a_killed_run_leaves_no_half_files_and_is_completed(tmp_path: Path):
    """SIGKILL as soon as the first clips are there; then the same command again."""
    folder, output = tmp_path / "in", tmp_path / "out"
    people = [f"p{k:02d}" for k in range(20)]
    frame = np.asarray(Image.fromarray(wandering(1)[0]).resize((480, 480)))
    for k, person in enumerate(people):
        save(folder / person / "photo.png", np.roll(frame, k, axis=1))
    command = [sys.executable, "-m", "train.prepare", "--input", str(folder), "--output", str(output), "--size", "512"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, **quiet)
    while len(list(output.glob("*.npz"))) < 2:
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = {path: (path.stat().st_mtime_ns, len(load_clip(path))) for path in output.glob("*.npz")}
    assert 2 <= len(made) < 20
    assert all(frames == 1 for _, frames in made.values())
    (output / ".p19__stills.npz.123.tmp").write_bytes(b"what a kill in the middle of a file leaves")
    outcomes = list(prepare(find_jobs(folder, None), output, size=512))
    assert [outcome.frames for outcome in outcomes] == [1] * 20
    assert {path.stem for path in output.glob("*.npz")} == {f"{person}__stills" for person in people}
    assert all(path.stat().st_mtime_ns == stamp for path, (stamp, _) in made.items())
    assert list(output.glob(".*")) == []


def test_an_index_says_who_is_who_and_which_split(folder: Path, tmp_path: Path):
    index = tmp_path / "index.csv"
    index.write_text(
        "file,identity,split,licence\n"
        "ada/clip.mp4,eileen,validation,PD\n"
        "ada/one.png,eileen,validation,PD\n"
        "ada/two.jpg,eileen,train,CC0\n"
        f"{folder.name}/bob.png,eileen,train,PD\n"  # named from the folder above
    )
    jobs = {job.name: job for job in find_jobs(folder, index)}
    assert set(jobs) == {"eileen__ada__clip", "eileen__stills__photos_train", "eileen__stills__photos_validation"}
    assert jobs["eileen__ada__clip"].split == "validation"
    assert {path.name for path in jobs["eileen__stills__photos_train"].files} == {"two.jpg", "bob.png"}
    assert jobs["eileen__stills__photos_train"].licence == "CC0; PD"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())  # as Excel saves it
    assert {job.name for job in find_jobs(folder, index)} == set(jobs)
    (outcome,) = prepare([jobs["eileen__stills__photos_validation"]], tmp_path / "out", size=64)
    meta = load_clip(tmp_path / "out" / f"{outcome.name}.npz").meta
    assert (meta.person, meta.split, meta.licence, meta.source) == ("eileen", "validation", "PD", "ada/one.png")


def test_names_never_collide_and_stay_in_the_folder(tmp_path: Path):
    for name in ("a.mp4", "a.mov", "stills.mp4", "stills.png"):
        (tmp_path / name).touch()
    names = [job.name for job in find_jobs(tmp_path, None)]
    assert len(set(names)) == 4
    index = tmp_path / "index.csv"
    index.write_text("file,identity\na.mp4,../../up\n")
    (job,) = find_jobs(tmp_path, index)
    assert "/" not in job.name and not job.name.startswith(".")


def test_the_output_is_no_input(folder: Path, tmp_path: Path):
    save(tmp_path / "bob.png", astronaut())
    output = tmp_path / "prepared"
    for _ in range(2):
        result = CliRunner().invoke(app, ["--input", str(tmp_path), "--output", str(output), "--size", "64"])
        assert result.exit_code == 0 and "1 clips in" in result.output
    assert json.loads((output / "report.json").read_text())["dropped"] == []


def test_several_processes_make_the_same_files(folder: Path, prepared: Path, tmp_path: Path):
    jobs = [job for job in find_jobs(folder, None) if not job.is_video]
    outcomes = list(prepare(jobs, tmp_path, size=128, workers=2))
    write_report(outcomes, tmp_path)
    for job in jobs:
        assert (tmp_path / f"{job.name}.npz").read_bytes() == (prepared / f"{job.name}.npz").read_bytes()


def test_errors_are_one_sentence_and_exit_code_2(tmp_path: Path):
    environment = os.environ | {"COLUMNS": "200"}
    command = [sys.executable, "-m", "train.prepare", "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr == f"Error: There are no videos or photos in {tmp_path}. Give a folder that holds some.\n"
    done = subprocess.run([*command[:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--input" in done.stdout and "--max-frames" in done.stdout
    (tmp_path / "bob.png").write_bytes(b"")
    (tmp_path / "file").touch()
    blocked = CliRunner().invoke(app, [*command[3:6], str(tmp_path / "file" / "out")])
    assert blocked.exit_code == 2
    assert (
        blocked.stderr == f"Error: {tmp_path / 'file' / 'out'}: Not a directory. Check the path and its permissions.\n"
    )
    wrong = CliRunner().invoke(app, [*command[3:], "--detector", "magic"])
    assert wrong.exit_code == 2 and "mediapipe" in wrong.output


def test_an_index_that_is_none_is_named(tmp_path: Path):
    save(tmp_path / "bob.png", picture())
    for content, words in (
        (b"name,who\na,b\n", "no column 'file'"),
        (b"file\n\xff\xfe\xff\n", "not a CSV"),
        (b"", "no col"),
    ):
        (tmp_path / "index.csv").write_bytes(content)
        with pytest.raises(UnreadableMediaError, match=words):
            find_jobs(tmp_path, tmp_path / "index.csv")
    (tmp_path / "index.csv").write_text("file\nother.png\n")
    with pytest.raises(UnreadableMediaError, match=r"that .*index.csv names"):
        find_jobs(tmp_path, tmp_path / "index.csv")


def test_sharpness_falls_with_blur():
    sharp = astronaut()[:240, 110:350]
    blurred = np.asarray(Image.fromarray(sharp).resize((60, 60)).resize((240, 240)))
    assert sharpness(blurred) < 0.4 * sharpness(sharp)
    assert sharpness(np.full((64, 64, 3), 90, np.uint8)) == 0
