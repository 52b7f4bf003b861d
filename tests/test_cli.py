"""The command line as people use it: what works, what is refused in one line, and that nothing half-written stays."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from media import beep, counted, grey, write_clip, write_sound_only, write_wav
from PIL import Image
from tiny import save_tiny_model

import talking_heads
from talking_heads import Avatar, Motion, TalkingHeadPipeline, __version__, load_preset
from talking_heads.cli import main, spread
from talking_heads.errors import MissingDependencyError
from talking_heads.examples import EXAMPLE
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.sound import read_sound
from talking_heads.media.verifying import verify
from talking_heads.media.writing import VideoWriter
from talking_heads.tracking.detectors import MediapipeDetector

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("coarse_heads")]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray, tiny_model: Path) -> Path:
    """Photos, clips, models and avatars, good and bad, by name."""
    folder = tmp_path_factory.mktemp("shelf")
    photo = Image.fromarray(astronaut)
    photo.save(folder / "ada.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "16bit.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    photo.rotate(90).save(folder / "rotated.jpg", exif=exif)
    transparent = photo.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.where(np.mgrid[:512, :512][1] < 60, 0, 255).astype(np.uint8)))
    transparent.save(folder / "transparent.png")
    wide = Image.new("RGB", (12_000, 3_000), "grey")
    wide.paste(photo.resize((3_000, 3_000)), (4_500, 0))
    wide.save(folder / "wide.jpg")
    Image.fromarray(grey(128, 256, 256)).save(folder / "nobody.png")
    Image.fromarray(np.hstack([astronaut, astronaut])).save(folder / "twins.png")
    (folder / "text.jpg").write_text("This is no photo.\n")

    window = astronaut[:240, 110:350]
    write_clip(folder / "moving.mp4", [np.roll(window, k % 4, axis=1) for k in range(10)], sound=beep(0.4, 0.1))
    write_clip(folder / "one.mp4", [window])
    write_clip(folder / "leaves.mp4", [window] * 12 + [grey(128, 240, 240)] * 18)
    write_clip(folder / "grey.mp4", counted(5))
    write_sound_only(folder / "sound.mp4")
    write_wav(folder / "speech.wav", np.concatenate(list(read_sound(EXAMPLE)))[:20_000])
    shutil.copy(EXAMPLE, folder / "speech.mp4")
    write_wav(folder / "silence.wav", np.zeros(16_000))
    (folder / "empty.mp4").touch()
    write_without_frames(folder / "zero.mp4")
    whole = (folder / "moving.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    noise = np.random.default_rng(0).integers(0, 50, (25, *window.shape), dtype=np.uint8)  # fills the file evenly
    streamed = write_clip(folder / "streamed.mp4", [np.maximum(window, grain) for grain in noise], faststart=True)
    streamed.write_bytes(streamed.read_bytes()[: streamed.stat().st_size // 3])

    other = shutil.copytree(tiny_model, folder / "other")
    settings = json.loads((other / "generator" / "config.json").read_text())
    settings["channels"] = [8, 24]
    (other / "generator" / "config.json").write_text(json.dumps(settings))
    missing = shutil.copytree(tiny_model, folder / "incomplete")
    (missing / "embedder" / "diffusion_pytorch_model.safetensors").unlink()
    Avatar(16, 232, 1, 48, base_model="somebody/else", base_revision="0" * 16).save_pretrained(folder / "stranger")
    save_tiny_model(folder / "paper", render_conditioned=False)
    load_preset("nod")[:12].resampled(50).save(folder / "nod.csv")
    (folder / "text.csv").write_text("Timecode,Nose\n00:00:00:00.000,1\n")
    (folder / "folder.mp4").mkdir()
    return folder


def write_without_frames(path: Path) -> None:
    """An mp4 with a video stream in which there is nothing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


@pytest.fixture
def run(
    shelf: Path,
    tiny_model: Path,
    tmp_path: Path,
    detector: MediapipeDetector,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process, words that name something on the shelf being replaced by its path.

    The output folder is ``out``; the model is the tiny one; the detector is the real one, loaded once for all.
    """
    monkeypatch.setattr(
        "talking_heads.tracking.detectors.load_detector", lambda name="mediapipe", device="cpu": detector
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "out").mkdir()

    def call(line: str) -> tuple[int, str, str]:
        words = []
        for word in line.split():
            if word.startswith("out"):
                words.append(str(tmp_path / word))
            elif word == "tiny":
                words.append(str(tiny_model))
            else:
                words.append(str(shelf / word) if (shelf / word).exists() else word)
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------------------- working


def test_photos_take_every_value_up_to_the_next_option() -> None:
    assert spread(["animate", "--photos", "a", "b", "--end", "2"]) == (
        ["animate", "--photos", "a", "--photos", "b", "--end", "2"]
    )
    assert spread(["--photos", "a", "--photos", "b", "c"]) == ["--photos", "a", "--photos", "b", "--photos", "c"]
    assert spread(["--photos=a", "x", "--end", "1", "2"]) == ["--photos=a", "x", "--end", "1", "2"]
    assert spread(["--photos", "--end", "1"]) == ["--photos", "--end", "1"]  # for the parser to complain
    assert spread(["--parts", "lips", "eyes"]) == ["--parts", "lips", "--parts", "eyes"]


def test_photos_and_a_clip_become_a_video_with_its_sound(run: Callable, tmp_path: Path) -> None:
    code, out, err = run("animate --photos ada.png rotated.jpg --driving moving.mp4 --output out/v.mp4 --model tiny")
    assert (code, out.strip(), err) == (0, str(tmp_path / "out/v.mp4"), "")
    info = probe(tmp_path / "out/v.mp4")
    assert (info.width, info.height, info.num_frames, info.has_audio) == (64, 64, 10, True)
    assert everything_in(tmp_path / "out") == ["v.mp4"]


def test_options_of_motion_and_time_reach_the_video(run: Callable, tmp_path: Path) -> None:
    line = "animate --photos ada.png --driving moving.mp4 --model tiny"
    assert run(f"{line} --output out/a.mp4 --motion absolute --start 0.08 --end 0.2")[0] == 0
    assert run(f"{line} --output out/b.mp4 --head 0 --expression 0 --gaze 0")[0] == 0
    assert probe(tmp_path / "out/a.mp4").num_frames == 3
    still = np.stack(list(read_frames(tmp_path / "out/b.mp4"))).astype(int)
    assert np.abs(still - still[0]).mean() < 1  # nothing moves when nothing is carried over


def test_side_by_side_shows_clip_and_result(run: Callable, shelf: Path, tmp_path: Path) -> None:
    line = "animate --photos ada.png --driving moving.mp4 --model tiny"
    assert run(f"{line} --output out/plain.mp4")[0] == run(f"{line} --output out/both.mp4 --side-by-side")[0] == 0
    both = list(read_frames(tmp_path / "out/both.mp4"))
    plain = list(read_frames(tmp_path / "out/plain.mp4"))
    assert len(both) == len(plain) == 10 and both[0].shape == (64, 128, 3)
    assert probe(tmp_path / "out/both.mp4").has_audio
    for pair, result, driver in zip(both, plain, read_frames(shelf / "moving.mp4"), strict=True):
        small = np.asarray(Image.fromarray(driver).resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(pair[:32, :64] - small[:32]).mean() < 12  # above the captions
        assert np.abs(pair[:32, 64:] - result[:32].astype(int)).mean() < 12


def test_a_stream_is_the_whole_clip(run: Callable, shelf: Path, tmp_path: Path) -> None:
    line = "animate --photos ada.png --driving moving.mp4 --model tiny --motion absolute"
    assert run(f"{line} --output out/a.mp4")[0] == run(f"{line} --output out/b.mp4 --stream")[0] == 0
    whole, stream = (np.stack(list(read_frames(tmp_path / f"out/{name}.mp4"))).astype(int) for name in "ab")
    assert len(whole) == len(stream) == 10
    assert np.abs(whole - stream).mean() < 12
    assert run(f"{line} --output out/c.mp4 --stream --driving empty.mp4")[0] == 2


@pytest.mark.parametrize("photo", ["cmyk.jpg", "16bit.png", "rotated.jpg", "transparent.png", "wide.jpg"])
def test_odd_photos_give_the_avatar_of_the_plain_one(run: Callable, tmp_path: Path, photo: str) -> None:
    assert run("avatar --photos ada.png --output out/plain --model tiny")[0] == 0
    assert run(f"avatar --photos {photo} --output out/odd --model tiny") == (0, f"{tmp_path / 'out/odd'}\n", "")
    plain, odd = (Avatar.from_pretrained(tmp_path / "out" / name).shots.crops(64)[0] for name in ("plain", "odd"))
    if photo == "16bit.png":
        plain = np.asarray(Image.fromarray(plain).convert("L").convert("RGB"))
    assert np.abs(plain.astype(int) - odd).mean() < 12


@pytest.mark.parametrize("options", ["", "--side-by-side"])
def test_the_label_is_written_if_wanted(run: Callable, tmp_path: Path, options: str) -> None:
    line = f"animate --photos ada.png --driving moving.mp4 --model tiny {options}"
    assert run(f"{line} --output out/plain.mp4 --no-label")[0] == run(f"{line} --output out/label.mp4 --label")[0] == 0
    plain, labelled = (next(read_frames(tmp_path / f"out/{name}.mp4")).astype(int) for name in ("plain", "label"))
    difference = np.abs(plain - labelled).max(axis=2)
    assert difference[:16, -56:].max() > 60 and difference[32:].mean() < 4
    if options:
        assert difference[:, :56].mean() < 4  # the clip is no work of ours


@pytest.mark.parametrize("options", ["", "--side-by-side"])
def test_verify_tells_what_is_generated(run: Callable, shelf: Path, tmp_path: Path, options: str) -> None:
    assert run(f"animate --photos ada.png --driving one.mp4 --output out/v.mp4 --model tiny {options}")[0] == 0
    code, out, err = run("verify out/v.mp4")
    assert (code, err) == (0, "")
    assert out.startswith("This was generated") and "talking_heads development certificate" in out
    code, out, err = run("verify --json out/v.mp4")
    found = json.loads(out)
    assert (code, err, found["generated"], found["comment"]) == (0, "", True, True)
    assert found["manifest"]["state"] == "unknown signer" and found["file"] == str(tmp_path / "out/v.mp4")


def test_everybody_in_a_photo_and_one_of_them(run: Callable, shelf: Path, tmp_path: Path) -> None:
    line = f"group --photo twins.png --drivers 1={shelf / 'moving.mp4'} 2=nod --output out/v.mp4 --model tiny"
    assert run(line) == (0, f"{tmp_path / 'out/v.mp4'}\n", "")
    made = probe(tmp_path / "out/v.mp4")
    with Image.open(shelf / "twins.png") as photo:
        assert (made.width, made.height) == tuple(side // 2 * 2 for side in photo.size)
    assert made.has_audio  # the clip's
    assert run("animate --photos twins.png --face 2 --driving one.mp4 --output out/w.mp4 --model tiny")[0] == 0


def test_many_jobs_with_one_start(run: Callable, shelf: Path, tmp_path: Path) -> None:
    """A job that fails stops no other, and what is there is not made again."""
    jobs = tmp_path / "jobs.csv"
    ada, clip = shelf / "ada.png", shelf / "one.mp4"
    jobs.write_text(
        "photos,driving,preset,parts,output\n"
        f"{ada},{clip},,,a.mp4\n"
        f"{shelf / 'nobody.png'},,nod,,b.mp4\n"
        "\n"
        f"{ada},,blink,eyes brows,c.mp4\n"
    )
    code, out, err = run(f"batch {jobs} --model tiny")
    assert code == 2 and "1 of 3 jobs failed" in err and out == f"{tmp_path / 'jobs-report.csv'}\n"
    report = (tmp_path / "jobs-report.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in report] == ["result", "made", "failed", "made"]
    assert "No face found in the photo" in report[2]
    assert (tmp_path / "a.mp4").is_file() and (tmp_path / "c.mp4").is_file() and not (tmp_path / "b.mp4").exists()
    before = (tmp_path / "a.mp4").stat().st_mtime_ns
    assert run(f"batch {jobs} --model tiny --report out/again.csv")[0] == 2
    assert [line.split(",")[2] for line in (tmp_path / "out/again.csv").read_text().splitlines()][1] == "was there"
    assert (tmp_path / "a.mp4").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("photos,film,output\n", "has unknown columns: film"),
        ("photos,preset\n", "lacks the column output"),
        ("photos,preset,output\n", "holds no jobs"),
        ("photos,preset,output\na.png,nod,\n", "row 2: say where the output goes"),
        ("photos,preset,output\n,nod,a.mp4\n", "row 2: give photos or avatar"),
        ("photos,preset,driving,output\na.png,nod,b.mp4,a.mp4\n", "row 2: give one driver"),
        ("photos,preset,output\na.png,nod,a.mp4,more\n", "is no CSV of jobs"),
    ],
)
def test_jobs_that_make_no_sense(run: Callable, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "jobs.csv").write_text(text)
    code, out, err = run(f"batch {tmp_path / 'jobs.csv'}")
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1
    assert run(f"batch {tmp_path / 'gone.csv'}")[2].count("\n") == 1


def test_verify_finds_nothing_in_what_was_filmed(run: Callable, shelf: Path) -> None:
    for name in ("moving.mp4", "ada.png", "rotated.jpg"):
        code, out, err = run(f"verify {name}")
        assert (code, err) == (1, "") and out.startswith("No mark of generated media was found")
    code, out, _ = run("verify moving.mp4 --json")
    assert code == 1 and not json.loads(out)["generated"]


def test_an_avatar_is_saved_and_animated(run: Callable, tmp_path: Path) -> None:
    assert run("avatar --photos ada.png --output out/ada --model tiny")[0] == 0
    assert run("animate --avatar out/ada --driving one.mp4 --output out/v.mp4 --model tiny")[::2] == (0, "")
    assert probe(tmp_path / "out/v.mp4").num_frames == 1


def test_an_avatar_is_fine_tuned(run: Callable, tmp_path: Path) -> None:
    assert run("avatar --photos ada.png --output out/ada --model tiny --steps 1")[::2] == (0, "")
    assert Avatar.from_pretrained(tmp_path / "out/ada").generator is not None
    assert run("animate --avatar out/ada --driving one.mp4 --output out/v.mp4 --model tiny")[0] == 0


def test_a_face_that_leaves_is_a_warning(run: Callable, tmp_path: Path) -> None:
    code, _, err = run("animate --photos ada.png --driving leaves.mp4 --output out/v.mp4 --model tiny")
    assert (code, err) == (0, "Warning: No face between 0:00 and 0:02: the last pose is held.\n")
    assert probe(tmp_path / "out/v.mp4").num_frames == 30


def test_what_is_left_of_a_damaged_clip_is_used(run: Callable, tmp_path: Path) -> None:
    code, _, err = run("animate --photos ada.png --driving streamed.mp4 --output out/v.mp4 --model tiny")
    assert code == 0
    assert err.startswith("Warning: ") and "breaks off after" in err
    assert 2 < len(list(read_frames(tmp_path / "out/v.mp4"))) < 12


def test_a_preset_needs_no_clip(run: Callable, tmp_path: Path) -> None:
    line = "animate --photos ada.png --preset blink --output out/v.mp4 --model tiny"
    assert run(line) == (0, f"{tmp_path / 'out/v.mp4'}\n", "")
    info = probe(tmp_path / "out/v.mp4")
    assert (info.num_frames, info.fps, info.has_audio) == (76, 25, False)


def test_a_clip_is_tracked_and_its_motion_file_animated(run: Callable, tmp_path: Path) -> None:
    """The file keeps pose, coefficients and gaze: the video is that of the clip, but for the sound and fine detail."""
    assert run("track moving.mp4 --output out/m.csv") == (0, f"{tmp_path / 'out/m.csv'}\n", "")
    motion = Motion.load(tmp_path / "out/m.csv")
    assert (len(motion), motion.fps) == (10, 25)
    animate = "animate --photos ada.png --model tiny --motion absolute"
    assert run(f"{animate} --motion-file out/m.csv --output out/a.mp4") == (0, f"{tmp_path / 'out/a.mp4'}\n", "")
    assert run(f"{animate} --driving moving.mp4 --output out/b.mp4")[0] == 0
    info = probe(tmp_path / "out/a.mp4")
    assert (info.num_frames, info.fps, info.has_audio) == (10, 25, False)
    again, first = (np.stack(list(read_frames(tmp_path / f"out/{name}.mp4"))).astype(int) for name in "ab")
    assert np.abs(again - first).mean() < 4
    assert run("track moving.mp4 --output out/part.csv --start 0.08 --end 0.2")[0] == 0
    assert len(Motion.load(tmp_path / "out/part.csv")) == 3


def test_a_voice_becomes_a_video_with_its_sound(run: Callable, tmp_path: Path) -> None:
    line = "animate --photos ada.png --voice speech.wav --model tiny"
    assert run(f"{line} --output out/v.mp4 --liveliness 0.5 --seed 3") == (0, f"{tmp_path / 'out/v.mp4'}\n", "")
    info = probe(tmp_path / "out/v.mp4")
    assert (info.fps, info.num_frames, info.has_audio) == (25, 31, True)
    assert verify(tmp_path / "out/v.mp4").generated
    assert run(f"{line} --output out/w.mov --text Hello. --in-photo")[0] == 0
    assert (probe(tmp_path / "out/w.mov").width, probe(tmp_path / "out/w.mov").has_audio) == (512, True)
    assert run("animate --photos ada.png --voice silence.wav --model tiny --output out/s.mp4") == (
        0, f"{tmp_path / 'out/s.mp4'}\n", "Warning: No speech is heard in silence.wav: the mouth rests.\n",
    )  # fmt: skip


def test_phones_are_written_corrected_and_spoken(run: Callable, tmp_path: Path) -> None:
    assert run("align speech.wav --text hello --output out/p.csv") == (0, f"{tmp_path / 'out/p.csv'}\n", "")
    assert (tmp_path / "out/p.csv").read_text().startswith("start,end,phone\n")
    assert run("track speech.wav --phones out/p.csv --liveliness 0 --output out/m.csv")[0] == 0
    motion = Motion.load(tmp_path / "out/m.csv")
    assert len(motion) == 31 and not motion.head.any() and motion.coefficients.max() > 0.1
    assert run("animate --photos ada.png --motion-file out/m.csv --model tiny --output out/v.mp4")[0] == 0
    assert not probe(tmp_path / "out/v.mp4").has_audio


def test_a_motion_file_plays_at_its_own_rate(run: Callable, tmp_path: Path) -> None:
    assert run("animate --photos ada.png --motion-file nod.csv --output out/v.mp4 --model tiny")[::2] == (0, "")
    info = probe(tmp_path / "out/v.mp4")
    assert (info.num_frames, info.fps) == (24, 50)


def test_a_face_that_leaves_is_a_warning_of_tracking(run: Callable, tmp_path: Path) -> None:
    code, _, err = run("track leaves.mp4 --output out/m.csv")
    assert (code, err) == (0, "Warning: No face between 0:00 and 0:02: the last pose is held.\n")
    assert len(Motion.load(tmp_path / "out/m.csv")) == 30


def test_parts_move_alone(run: Callable, tmp_path: Path) -> None:
    """A nod moves the head, and lids and lips a little."""
    line = "animate --photos ada.png --motion-file nod.csv --model tiny"
    videos = {}
    for name, parts in (
        ("all", ""),
        ("head", "--parts head"),
        ("both", "--parts head expression"),
        ("lips", "--parts lips"),
    ):
        assert run(f"{line} --output out/{name}.mp4 {parts}")[0] == 0
        videos[name] = np.stack(list(read_frames(tmp_path / f"out/{name}.mp4"))).astype(int)
    moved = {name: float(np.abs(video - video[0]).mean()) for name, video in videos.items()}
    assert moved["lips"] < 0.5 * moved["head"]
    assert np.abs(videos["all"] - videos["both"]).mean() < 0.5 < moved["head"]


@pytest.mark.parametrize(("size", "pixels"), [("256", 256), ("512", 512), ("photo", 256)])
def test_sizes(run: Callable, tmp_path: Path, size: str, pixels: int) -> None:
    assert run(f"animate --photos ada.png --driving one.mp4 --output out/v.mp4 --model tiny --size {size}")[0] == 0
    info = probe(tmp_path / "out/v.mp4")
    assert (info.width, info.height) == (pixels, pixels)


@pytest.mark.parametrize("suffix", ["webm", "mov"])
def test_a_transparent_film(run: Callable, tmp_path: Path, suffix: str) -> None:
    line = f"animate --photos ada.png --driving one.mp4 --output out/v.{suffix} --model tiny --background transparent"
    assert run(line) == (0, f"{tmp_path / f'out/v.{suffix}'}\n", "")
    with av.open(str(tmp_path / f"out/v.{suffix}")) as container:
        codec = av.CodecContext.create("libvpx-vp9", "r") if suffix == "webm" else None  # FFmpeg's own drops alpha
        stream = container.streams.video[0]
        packets = (packet for packet in container.demux(stream) if packet.size)
        picture = next(frame for packet in packets for frame in (codec or stream.codec_context).decode(packet))
    alpha = picture.to_ndarray(format="rgba")[..., 3]
    assert alpha[:8, :8].max() < 60 and alpha[40:, 24:40].min() > 200
    assert verify(tmp_path / f"out/v.{suffix}").generated


def test_a_background_of_another_colour(run: Callable, shelf: Path, tmp_path: Path) -> None:
    line = "edit --photos ada.png --model tiny"
    Image.new("RGB", (50, 80), (30, 60, 200)).save(tmp_path / "out/sea.png")
    for name, background in (("kept", "keep"), ("blurred", "blur"), ("green", "#20a040"), ("sea", "out/sea.png")):
        assert run(f"{line} --output out/{name}-background.png --background {background}")[0] == 0
    assert run(f"{line} --output out/none.png --background transparent --size 256")[0] == 0
    corners = {}
    for name in ("kept-background", "blurred-background", "green-background", "sea-background", "none"):
        with Image.open(tmp_path / f"out/{name}.png") as picture:
            corners[name] = np.asarray(picture)[:6, :6].reshape(36, -1).mean(axis=0)
            assert (picture.mode, picture.size) == (("RGBA", (256, 256)) if name == "none" else ("RGB", (64, 64)))
    assert np.abs(corners["green-background"] - [0x20, 0xA0, 0x40]).max() < 30
    assert np.abs(corners["sea-background"] - [30, 60, 200]).max() < 30
    assert np.abs(corners["kept-background"] - corners["green-background"]).max() > 40
    assert corners["none"][3] < 60


def test_the_whole_photo(run: Callable, tmp_path: Path) -> None:
    assert run("animate --photos ada.png --driving one.mp4 --output out/v.mp4 --model tiny --in-photo")[0] == 0
    info = probe(tmp_path / "out/v.mp4")
    assert (info.width, info.height) == (512, 512)


def test_live_plays_a_clip(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, err = run("live --photos ada.png --source moving.mp4 --output out/v.mp4 --model tiny")
    assert (code, err) == (0, "")
    assert "of 10 frames painted" in out and out.endswith(f"{tmp_path / 'out/v.mp4'}\n")
    info = probe(tmp_path / "out/v.mp4")
    assert (info.width, info.height, info.has_audio) == (32, 32, False)
    assert everything_in(tmp_path / "out") == ["v.mp4"]
    assert verify(tmp_path / "out/v.mp4").generated


def test_a_virtual_camera_without_its_package_is_told_of_at_once(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    code, out, err = run("live --photos ada.png --source one.mp4 --virtual-camera --model tiny")
    assert (
        (code, out) == (2, "") and "The virtual camera needs pyvirtualcam" in err and "pip install pyvirtualcam" in err
    )


def test_live_takes_parts_size_and_background(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    line = "live --photos ada.png --source one.mp4 --output out/v.mp4 --model tiny"
    assert run(f"{line} --parts lips eyes --size 256 --background #20a040")[::2] == (0, "")
    frame = next(read_frames(tmp_path / "out/v.mp4"))
    assert frame.shape == (256, 256, 3) and np.abs(frame[:8, :8].mean(axis=(0, 1)) - [0x20, 0xA0, 0x40]).max() < 30


def test_who_leaves_the_camera_is_held_and_the_film_goes_on(run: Callable, tmp_path: Path) -> None:
    """Twelve frames show somebody, eighteen nobody: as long as the camera ran, 1.2 s, so long is the film."""
    assert run("live --photos ada.png --source leaves.mp4 --output out/v.mp4 --model tiny")[0] == 0
    frames = list(read_frames(tmp_path / "out/v.mp4"))
    assert 29 <= len(frames) < 100  # more where the machine is too busy for real time
    assert np.abs(frames[-1].astype(int) - frames[-10]).mean() < 3


def test_an_edit_is_a_png(run: Callable, tmp_path: Path) -> None:
    line = "edit --photos ada.png --model tiny"
    assert run(f"{line} --output out/still.png") == (0, f"{tmp_path / 'out/still.png'}\n", "")
    assert run(f"{line} --output out/moved.png --yaw -20 --mouth 0.5 --gaze-x 1")[::2] == (0, "")
    assert run("avatar --photos ada.png --output out/ada --model tiny")[0] == 0
    assert run("edit --avatar out/ada --model tiny --output out/again.png --yaw -20 --mouth 0.5 --gaze-x 1")[0] == 0
    still, moved, again = (np.asarray(Image.open(tmp_path / f"out/{n}.png")) for n in ("still", "moved", "again"))
    assert still.shape == (64, 64, 3) and np.abs(still.astype(int) - moved).mean() > 1
    assert np.array_equal(moved, again)
    assert verify(tmp_path / "out/moved.png").generated


def test_single_coefficients_are_edited(run: Callable, tmp_path: Path) -> None:
    line = "edit --photos ada.png --model tiny --size 256"
    for name, words in (
        ("still", ""),
        ("one", "--coefficient jawOpen=0.7"),
        ("two", "--coefficient JawOpen=0.7 cheekPuff=1"),
    ):
        assert run(f"{line} --output out/{name}.png {words}") == (0, f"{tmp_path / f'out/{name}.png'}\n", "")
    still, one, two = (np.asarray(Image.open(tmp_path / f"out/{n}.png")).astype(int) for n in ("still", "one", "two"))
    assert np.abs(one - still)[150:].mean() > 1.5 * np.abs(one - still)[:100].mean()  # the lower half of the face
    assert np.abs(two - one).mean() > 0.3


def test_the_demo(run: Callable, tmp_path: Path) -> None:
    code, out, err = run("demo --output out/talking-head.mp4 --model tiny")
    assert (code, err) == (0, "")
    assert "talking-head.mp4" in out and "talking-head.png" in out
    assert everything_in(tmp_path / "out") == ["talking-head.mp4", "talking-head.png"]
    info, driving = probe(tmp_path / "out/talking-head.mp4"), probe(EXAMPLE)
    assert (info.num_frames, info.has_audio) == (driving.num_frames, driving.has_audio)
    with Image.open(tmp_path / "out/talking-head.png") as sheet:
        assert sheet.width > 6 * 192 and sheet.height > 3 * 192


# ------------------------------------------------------------------------------------------------------------- refused

ANIMATE = "animate --output out/v.mp4 --model tiny"
REFUSED = {
    "no face in photo 2": (f"{ANIMATE} --photos ada.png nobody.png --driving one.mp4", "No face found in photo 2"),
    "two faces": (f"{ANIMATE} --photos twins.png --driving one.mp4", "There are 2 faces in the photo"),
    "text as photo": (f"{ANIMATE} --photos text.jpg --driving one.mp4", "text.jpg is not a picture"),
    "no such photo": (f"{ANIMATE} --photos gone.jpg --driving one.mp4", "The photo gone.jpg does not exist"),
    "33 photos": (f"{ANIMATE} --driving one.mp4 --photos {'ada.png ' * 33}", "33 photos are too many"),
    "no photos": (f"{ANIMATE} --driving one.mp4", "give either photos or an avatar"),
    "photos and avatar": (f"{ANIMATE} --photos ada.png --avatar a --driving one.mp4", "either photos or an avatar"),
    "truncated clip": (f"{ANIMATE} --photos ada.png --driving truncated.mp4", "truncated.mp4 is no clip"),
    "empty clip": (f"{ANIMATE} --photos ada.png --driving empty.mp4", "empty.mp4 is no clip"),
    "clip of 0 frames": (f"{ANIMATE} --photos ada.png --driving zero.mp4", "zero.mp4"),
    "clip of sound": (f"{ANIMATE} --photos ada.png --driving sound.mp4", "sound.mp4 holds no moving pictures"),
    "no such clip": (f"{ANIMATE} --photos ada.png --driving gone.mp4", "gone.mp4 does not exist"),
    "nobody in the clip": (f"{ANIMATE} --photos ada.png --driving grey.mp4", "No face found in"),
    "start behind the end": (f"{ANIMATE} --photos ada.png --driving moving.mp4 --start 9", "lies behind its end"),
    "end before start": (
        f"{ANIMATE} --photos ada.png --driving one.mp4 --start 2 --end 1",
        "must lie behind the start",
    ),
    "start is no number": (f"{ANIMATE} --photos ada.png --driving one.mp4 --start nan", "nan is no finite number"),
    "too much head": (f"{ANIMATE} --photos ada.png --driving one.mp4 --head 3", "--head"),
    "unknown motion": (f"{ANIMATE} --photos ada.png --driving one.mp4 --motion up", "'relative', 'absolute'"),
    "unknown detector": (f"{ANIMATE} --photos ada.png --driving one.mp4 --detector dlib", "face-alignment"),
    "unknown device": (f"{ANIMATE} --photos ada.png --driving one.mp4 --device quark", "quark cannot be used"),
    "unknown option": (f"{ANIMATE} --foto ada.png", "No such option: --foto"),
    "unknown command": ("dance", "No such command 'dance'"),
    "wrong suffix": ("animate --photos ada.png --driving one.mp4 --output out/v.avi", "end in .mp4 or .webm or .mov"),
    "no output folder": ("animate --photos ada.png --driving one.mp4 --output out/no/v.mp4", "does not exist. Create"),
    "output is a folder": ("animate --photos ada.png --driving one.mp4 --output folder.mp4", "is a folder"),
    "output is the clip": ("animate --photos ada.png --driving one.mp4 --output one.mp4", "is the driving clip itself"),
    "read-only folder": ("animate --photos ada.png --driving one.mp4 --output /sys/v.mp4", "may not be written to"),
    "missing weights": ("avatar --photos ada.png --output out/a --model incomplete", "has no diffusion_pytorch_model"),
    "other architecture": ("avatar --photos ada.png --output out/a --model other", "another"),
    "no model there": ("avatar --photos ada.png --output out/a --model folder.mp4", "holds no model_index.json"),
    "no such model": ("avatar --photos ada.png --output out/a --model ./gone", "There is no folder ./gone"),
    "stranger's avatar": (f"{ANIMATE} --avatar stranger --driving one.mp4", "was made with the model somebody/else"),
    "model as avatar": (f"{ANIMATE} --avatar tiny --driving one.mp4", "holds no config.json"),
    "avatar over a file": ("avatar --photos ada.png --output ada.png --model tiny", "exists and is no avatar"),
    "avatar nowhere": ("avatar --photos ada.png --output out/no/a --model tiny", "does not exist. Create"),
    "no motion": (f"{ANIMATE} --photos ada.png", "give either a clip, a voice, a motion file or a preset"),
    "clip and voice": (f"{ANIMATE} --photos ada.png --driving one.mp4 --voice speech.wav", "give either a clip, a v"),
    "silent clip as voice": (f"{ANIMATE} --photos ada.png --voice one.mp4", "one.mp4 holds no sound"),
    "text as voice": (f"{ANIMATE} --photos ada.png --voice text.jpg", "text.jpg is no sound that can be read"),
    "no such voice": (f"{ANIMATE} --photos ada.png --voice gone.wav", "gone.wav does not exist"),
    "output is the voice": (
        "animate --output speech.mp4 --model tiny --photos ada.png --voice speech.mp4",
        "is the voice itself",
    ),
    "another text": (f"{ANIMATE} --photos ada.png --voice speech.wav --text Nobody --in-photo", "The text does not"),
    "text of a clip": (f"{ANIMATE} --photos ada.png --driving one.mp4 --text Hello", "they are for a voice"),
    "text and phones": (f"{ANIMATE} --photos ada.png --voice speech.wav --text a --phones b", "give either the text"),
    "text as phones": (f"{ANIMATE} --photos ada.png --voice speech.wav --phones text.jpg", "lacks the columns start"),
    "part of a voice": (f"{ANIMATE} --photos ada.png --voice speech.wav --end 1", "they are for clips"),
    "absolute voice": (f"{ANIMATE} --photos ada.png --voice speech.wav --motion absolute", "has no pose of its own"),
    "liveliness of 3": (f"{ANIMATE} --photos ada.png --voice speech.wav --liveliness 3", "less than or equal to 2"),
    "end of a sound": ("track speech.wav --output out/m.csv --end 1", "they are for clips"),
    "text of a tracked clip": ("track one.mp4 --output out/m.csv --text Hello", "they are for a voice"),
    "text to track": ("track text.jpg --output out/m.csv", "text.jpg is no file that can be read"),
    "aligned to a film": ("align speech.wav --output out/m.mp4", "must end in .csv"),
    "clip and preset": (
        f"{ANIMATE} --photos ada.png --driving one.mp4 --preset nod",
        "give either a clip, a voice",
    ),
    "clip and motion file": (
        f"{ANIMATE} --photos ada.png --driving one.mp4 --motion-file nod.csv",
        "give either a clip",
    ),
    "unknown preset": (f"{ANIMATE} --photos ada.png --preset dance", "dance is none of talking, smile"),
    "part of a preset": (f"{ANIMATE} --photos ada.png --preset nod --end 1", "they are for clips"),
    "stream of a motion file": (f"{ANIMATE} --photos ada.png --motion-file nod.csv --stream", "they are for clips"),
    "no such motion file": (
        f"{ANIMATE} --photos ada.png --motion-file gone.csv",
        "gone.csv cannot be read: no such file",
    ),
    "text as motion": (f"{ANIMATE} --photos ada.png --motion-file text.jpg", "is no CSV of Live Link Face"),
    "other columns": (f"{ANIMATE} --photos ada.png --motion-file text.csv", "is no CSV of Live Link Face"),
    "clip as motion": (f"{ANIMATE} --photos ada.png --motion-file one.mp4", "is no CSV of Live Link Face"),
    "unknown part": (f"{ANIMATE} --photos ada.png --preset nod --parts lips nose", "nose is none of lips, eyes, brows"),
    "unknown size": (f"{ANIMATE} --photos ada.png --preset nod --size 300", "'256', '512', 'photo'"),
    "unknown background": (
        f"{ANIMATE} --photos ada.png --preset nod --background fog",
        '"fog" is neither a background',
    ),
    "text as background": (
        f"{ANIMATE} --photos ada.png --preset nod --background text.jpg",
        "text.jpg is not a picture",
    ),
    "transparent mp4": (
        f"{ANIMATE} --photos ada.png --preset nod --background transparent",
        "cannot hold transparency",
    ),
    "background of the photo": (
        f"{ANIMATE} --photos ada.png --preset nod --in-photo --background blur",
        "without --size and --background",
    ),
    "size of the photo": (f"{ANIMATE} --photos ada.png --preset nod --in-photo --size 256", "without --size and"),
    "transparent beside the clip": (
        "animate --photos ada.png --driving one.mp4 --output out/v.webm --background transparent --side-by-side",
        "it goes with no transparent background",
    ),
    "webm beside the clip": (
        "animate --photos ada.png --driving one.mp4 --output out/v.webm --side-by-side",
        "must end in .mp4",
    ),
    "size of a painting": (
        "animate --photos ada.png --preset nod --output out/v.mp4 --model paper --size 256",
        "this model paints the whole picture itself",
    ),
    "no such face": (
        f"{ANIMATE} --photos twins.png --face 3 --driving one.mp4",
        "There are 2 faces in the photo, and no",
    ),
    "group without that face": ("group --photo twins.png --drivers 3=nod --output out/v.mp4 --model tiny", "no face 3"),
    "group of nobody": ("group --photo nobody.png --drivers nod --output out/v.mp4 --model tiny", "No face found in"),
    "group by nothing": (
        "group --photo twins.png --drivers gone.mp4 --output out/v.mp4 --model tiny",
        "does not exist",
    ),
    "two drivers": ("group --photo twins.png --drivers 1=nod 1=shake --output out/v.mp4", "two drivers for face 1"),
    "dub without a driver": (
        "dub --video moving.mp4 --output out/v.mp4",
        "give either a clip, a voice or a motion file",
    ),
    "dub the head": (
        "dub --video moving.mp4 --driving one.mp4 --output out/v.mp4 --parts head",
        "stays as",
    ),
    "dub other parts": ("dub --video moving.mp4 --driving one.mp4 --output out/v.mp4 --parts ears", "ears is none of"),
    "dub no film": ("dub --video gone.mp4 --driving one.mp4 --output out/v.mp4", "gone.mp4 does not exist"),
    "dub nobody": (
        "dub --video grey.mp4 --driving one.mp4 --output out/v.mp4 --model tiny",
        "No face found in the clip",
    ),
    "dub by nothing": ("dub --video moving.mp4 --driving gone.mp4 --output out/v.mp4", "gone.mp4 does not exist"),
    "dub a short film": (
        "dub --video moving.mp4 --driving one.mp4 --output out/v.mp4 --model tiny --end 0.2",
        "frames of the film only; 8 are needed",
    ),
    "track to a mp4": ("track moving.mp4 --output out/m.mp4", "must end in .csv"),
    "track nothing": ("track gone.mp4 --output out/m.csv", "gone.mp4 does not exist"),
    "track a photo of nobody": ("track grey.mp4 --output out/m.csv", "No face found in"),
    "track a text": ("track text.jpg --output out/m.csv", "text.jpg is no file"),
    "track behind the end": ("track moving.mp4 --output out/m.csv --start 9", "lies behind its end"),
    "track without a clip": ("track --output out/m.csv", "clip"),
    "edit of no coefficient": (
        "edit --photos ada.png --output out/e.png --coefficient smile=1",
        "there is no smile coefficient; did you mean mouthSmileLeft, mouthSmileRight?",
    ),
    "edit of a mistyped one": (
        "edit --photos ada.png --output out/e.png --coefficient jawOpen=1 jawOpn=1",
        "there is no jawOpn coefficient; did you mean jawOpen?",
    ),
    "coefficient out of range": (
        "edit --photos ada.png --output out/e.png --coefficient jawOpen=2",
        "jawOpen must lie between -1 and 1, such as jawOpen=0.5, got 2",
    ),
    "coefficient by nan": ("edit --photos ada.png --output out/e.png --coefficient jawOpen=nan", "between -1 and 1"),
    "coefficient without value": ("edit --photos ada.png --output out/e.png --coefficient jawOpen", "got nothing"),
    "edit like a picture, by controls": (
        "edit --photos ada.png --output out/e.png --like ada.png --yaw 5",
        "goes without controls",
    ),
    "edit like nobody": ("edit --photos ada.png --output out/e.png --like nobody.png --model tiny", "No face found in"),
    "edit like nothing": ("edit --photos ada.png --output out/e.png --like gone.png", "gone.png does not exist"),
    "parts of no picture": ("edit --photos ada.png --output out/e.png --parts lips", "they are for --like"),
    "edit before fog": ("edit --photos ada.png --output out/e.png --background fog", '"fog" is neither a background'),
    "live before nothing": (
        "live --photos ada.png --model tiny --source one.mp4 --background transparent",
        "a window has something behind it",
    ),
    "live of a nose": ("live --photos ada.png --model tiny --source one.mp4 --parts nose", "nose is none of lips"),
    "unknown engine": (f"{ANIMATE} --photos ada.png --preset nod --engine steam", "'torch', 'openvino'"),
    "export to nowhere": ("export --format openvino --output out/no/x --model tiny", "cannot be written"),
    "export of a stranger": ("export --format onnx --output out/x --model tiny --avatar stranger", "somebody/else"),
    "live without anybody": ("live --photos ada.png --model tiny --source grey.mp4", "No face was seen in"),
    "live of nobody": ("live --model tiny --source moving.mp4", "give either photos or an avatar"),
    "live without a camera": ("live --photos ada.png --model tiny --source 99", "Camera 99 gives no pictures"),
    "live over the clip": (
        "live --photos ada.png --model tiny --source one.mp4 --output one.mp4",
        "is the driving clip itself",
    ),
    "edit out of range": ("edit --photos ada.png --output out/e.png --yaw 90", "--yaw"),
    "edit by nan": ("edit --photos ada.png --output out/e.png --smile nan", "--smile"),
    "edit to a jpg": ("edit --photos ada.png --output out/e.jpg", "must end in .png"),
    "edit of nobody": ("edit --output out/e.png", "give either photos or an avatar"),
    "edit of no face": ("edit --photos nobody.png --output out/e.png --model tiny", "No face found in the photo"),
    "verify a text": ("verify text.jpg", "text.jpg is neither a picture nor a clip"),
    "verify sound": ("verify sound.mp4", "sound.mp4 is neither a picture nor a clip"),
    "verify nothing": ("verify gone.mp4", "gone.mp4 does not exist"),
    "avatar of nobody": ("avatar --output out/a --model tiny", "give at least one photo"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_said_in_one_line(run: Callable, shelf: Path, tmp_path: Path, case: str) -> None:
    line, sentence = REFUSED[case]
    before = {path: path.stat().st_mtime_ns for path in shelf.rglob("*")}
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ") and sentence in err
    assert err.endswith("\n") and err.count("\n") == 1
    assert everything_in(tmp_path / "out") == []
    assert before == {path: path.stat().st_mtime_ns for path in shelf.rglob("*")}


@pytest.mark.parametrize("options", ["", "--side-by-side", "--stream"])
def test_a_full_disk_is_said_and_leaves_nothing(run: Callable, tmp_path: Path, options: str) -> None:
    """The limit on the size of files stands for the disk; Python ignores the signal that goes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code, out, err = run(f"{ANIMATE} --photos ada.png --driving moving.mp4 {options}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, out) == (2, "")
    assert err.startswith("Error: The disk is full") and err.count("\n") == 1
    assert everything_in(tmp_path / "out") == []


@pytest.mark.parametrize("options", ["", "--side-by-side", "--stream"])
def test_ctrl_c_is_130(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    def interrupted(pipe: TalkingHeadPipeline, *_: object) -> Iterator[np.ndarray]:
        yield grey(0, 32, 32)
        raise KeyboardInterrupt

    monkeypatch.setattr(TalkingHeadPipeline, "generate", interrupted)
    assert run(f"{ANIMATE} --photos ada.png --driving moving.mp4 {options}") == (130, "", "")
    assert everything_in(tmp_path / "out") == []


# ----------------------------------------------------------------------------------------------- processes of their own


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def animating(shelf: Path, driving: Path, model: Path) -> list[str | Path]:
    """The command line of a process that writes v.mp4 where it is started."""
    words = ["-m", "talking_heads", "animate", "--output", "v.mp4", "--model"]
    return [sys.executable, *words, model, "--photos", shelf / "ada.png", "--driving", driving]


def test_public_names() -> None:
    for name in talking_heads.__all__:
        assert getattr(talking_heads, name) is not None
    assert dir(talking_heads) == sorted(talking_heads.__all__)
    assert talking_heads.fine_tune.__module__ == "train.finetune"
    with pytest.raises(AttributeError, match="no attribute 'warp'"):
        talking_heads.warp  # noqa: B018


def test_without_the_training_package_fine_tuning_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "train.finetune", None)
    with pytest.raises(MissingDependencyError, match=r"pip install talking-heads\[train\]"):
        talking_heads.fine_tune  # noqa: B018


@pytest.mark.parametrize("name", ["presets", "expressions"])
def test_the_flat_face_is_gone(name: str) -> None:
    assert importlib.util.find_spec(f"talking_heads.{name}") is None


def test_help_and_version_come_without_torch() -> None:
    program = (
        "import sys\nfrom talking_heads.cli import main\n"
        "assert main(['--version']) == main(['animate', '--help']) == main(['track', '--help']) == main([]) == 0\n"
        "heavy = {'torch', 'diffusers', 'mediapipe', 'av', 'c2pa', 'imwatermark', 'cryptography'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"talking-heads {__version__}\n")
    assert "--photos" in done.stdout


def test_a_process_says_nothing_but_the_result(shelf: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Native libraries write to stderr behind Python's back."""
    done = subprocess.run(
        animating(shelf, shelf / "one.mp4", tiny_model),
        env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "v.mp4\n", "")


def test_ctrl_c_while_writing_leaves_nothing(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real signal, which comes from within, after the fifth frame: from outside it might come too late."""
    write = VideoWriter.write
    seen: list[str] = []

    def interrupted(writer: VideoWriter, frame: np.ndarray) -> None:
        write(writer, frame)
        if writer.num_frames == 5:
            seen.extend(everything_in(tmp_path / "out"))
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    assert run(f"{ANIMATE} --photos ada.png --driving moving.mp4") == (130, "", "")
    (part,) = seen  # its hidden beginning was there
    assert part.startswith(".v.") and part.endswith(".part.mp4")
    assert everything_in(tmp_path / "out") == []
