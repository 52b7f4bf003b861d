"""Clips through real encoders and decoders: what is read, what is written, and what is said when neither works."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import beep, beep_time, counted, grey, number_of, picture, write_clip, write_gif, write_sound_only
from PIL import Image

from talking_heads.errors import OutputError, UnreadableMediaError
from talking_heads.files import check_writable
from talking_heads.media.composing import compose_side_by_side, contact_sheet
from talking_heads.media.images import save_image
from talking_heads.media.reading import probe, read_frames, read_tags
from talking_heads.media.writing import AI_GENERATED, TRANSPARENT_SUFFIXES, VIDEO_SUFFIXES, VideoWriter, save_gif


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def numbers(path: Path, **options: float) -> list[int]:
    return [number_of(frame) for frame in read_frames(path, **options)]


# ------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".mpg", ".webm"])
def test_every_container_gives_every_frame_once(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", counted(20))
    info = probe(path)
    assert (info.width, info.height, info.fps, info.has_audio) == (64, 48, 25.0, False)
    if suffix != ".mpg":  # does not state its length
        assert info.num_frames == 20
    assert numbers(path) == list(range(20))


@pytest.mark.parametrize("fps", [10, 24, 30000 / 1001, 50, 60])
def test_constant_rates_pass_unchanged(tmp_path: Path, fps: float) -> None:
    path = write_clip(tmp_path / "clip.mkv", counted(30), fps)  # mkv rounds stamps to 1 ms
    assert probe(path).fps == pytest.approx(fps, rel=1e-3)
    assert numbers(path) == list(range(30))


def test_variable_rate_keeps_time(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.4, 0.44, 0.8, 0.84, 0.88]
    path = write_clip(tmp_path / "clip.mp4", counted(len(times)), 25, times=times)
    got = numbers(path, fps=25)
    duration = probe(path).duration
    assert duration is not None
    assert len(got) == round(duration * 25)
    assert got == [max(k for k, time in enumerate(times) if time < slot / 25 + 0.01) for slot in range(len(got))]
    own = numbers(path)  # at the average rate: as long, in the same order
    assert len(own) == pytest.approx(duration * probe(path).fps, abs=1)
    assert own == sorted(own)


def test_other_rates_drop_and_repeat_evenly(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", counted(40), 60)
    assert numbers(path, fps=30) == list(range(0, 40, 2))
    assert numbers(path, fps=120) == [k // 2 for k in range(80)]


def test_more_than_60_frames_a_second_are_thinned(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", counted(24), 120)
    assert probe(path).fps == 60
    assert numbers(path) == list(range(0, 24, 2))


def test_start_and_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", counted(25))
    assert numbers(path, start=0.2, end=0.4) == [5, 6, 7, 8, 9]
    assert numbers(path, start=0.96) == [24]
    assert numbers(path, end=0.04) == [0]
    assert numbers(path, end=9.0) == list(range(25))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": 5.0}, "The clip lasts 1.0 s; a start at 5 s lies behind its end."),
        ({"start": 0.5, "end": 0.5}, "must lie behind the start"),
        ({"start": -1.0}, "cannot start at -1 s"),
    ],
)
def test_nothing_between_start_and_end(tmp_path: Path, options: dict[str, float], sentence: str) -> None:
    path = write_clip(tmp_path / "clip.mp4", counted(25))
    with pytest.raises(UnreadableMediaError, match=sentence):
        next(read_frames(path, **options))


@pytest.mark.parametrize("options", [{"max_side": 0}, {"fps": 0}, {"fps": -1}, {"fps": 1e-6}])
def test_impossible_options_are_the_programmers(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        read_frames(write_clip(tmp_path / "clip.mp4", counted(2)), **options)


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_clips_come_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    shot = picture()
    path = write_clip(tmp_path / "clip.mp4", [shot] * 3, rotation=rotation, mirrored=mirrored)
    upright = np.rot90(shot, rotation // 90)
    if mirrored:  # after the turn
        upright = upright[:, ::-1]
    frame = next(read_frames(path))
    assert (probe(path).height, probe(path).width) == frame.shape[:2] == upright.shape[:2]
    assert psnr(frame, upright) > 30


def test_pixels_become_square(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [picture(64, 48)] * 2, aspect=Fraction(3, 2))
    assert probe(path).width == 96
    frame = next(read_frames(path))
    assert frame.shape == (48, 96, 3)
    assert psnr(frame, picture(96, 48)) > 30


def test_large_frames_are_reduced(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [picture(256, 128)] * 2, rotation=90)
    assert (probe(path).width, probe(path).height) == (128, 256)
    frame = next(read_frames(path, max_side=64))
    assert frame.shape == (64, 32, 3)
    assert psnr(frame, np.rot90(picture(64, 32))) > 30


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_every_pixel_format_becomes_rgb(tmp_path: Path, pix_fmt: str) -> None:
    path = write_clip(tmp_path / "clip.mp4", [picture()] * 2, pix_fmt=pix_fmt)
    frame = next(read_frames(path))
    assert frame.dtype == np.uint8
    assert psnr(frame, picture()) > 30


@pytest.mark.parametrize(
    ("colours", "tagged", "height"),
    [
        ((1, 1), True, 48),
        ((6, 1), True, 720),
        ((5, 2), True, 48),
        ((1, 2), True, 48),
        ((6, 1), False, 48),
        ((1, 1), False, 720),
    ],
)
def test_colours_are_read_as_the_file_says(tmp_path: Path, colours: tuple[int, int], tagged: bool, height: int) -> None:
    """Untagged, small pictures are BT.601 and HD is BT.709, as players have it."""
    shown = np.full((height, 64, 3), (230, 40, 60), np.uint8)
    path = write_clip(tmp_path / "clip.mp4", [shown] * 2, colours=colours, tagged=tagged)
    assert np.abs(next(read_frames(path)).astype(int) - shown).max() <= 4


def test_gif_with_a_time_for_every_frame(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.gif", [grey(0), grey(40), grey(80)], [100, 300, 200])
    assert numbers(path, fps=10) == [0, 10, 10, 10, 20, 20]


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [grey(80)])
    assert probe(path).num_frames == 1
    assert numbers(path) == [20]


def test_a_repeated_frame_can_be_drawn_on(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [grey(80)] * 2)
    for frame in read_frames(path, fps=50):
        assert number_of(frame) == 20
        frame[:] = 0


def test_files_that_are_no_clips(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("Dear diary,\n" * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    playlist = tmp_path / "list.mp4"  # would make FFmpeg open other files
    write_clip(tmp_path / "secret.mp4", counted(3))
    playlist.write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.mp4'}\n")
    for path in (text, empty, playlist):
        with pytest.raises(UnreadableMediaError, match=rf"{path.name} is no clip .* Give an mp4"):
            probe(path)
    with pytest.raises(UnreadableMediaError, match="does not exist"):
        probe(tmp_path / "missing.mp4")
    with pytest.raises(UnreadableMediaError, match="not a file"):
        probe(tmp_path)
    with pytest.raises(UnreadableMediaError, match="holds no moving pictures"):
        read_frames(write_sound_only(tmp_path / "song.mp4"))


def test_zero_frames(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(UnreadableMediaError, match=r"No picture of clip\.mkv can be decoded|is no clip"):
        probe(tmp_path / "clip.mkv")


def test_truncated_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [np.roll(picture(), k, axis=1) for k in range(50)]
    whole = write_clip(tmp_path / "whole.mp4", frames)  # its index comes last
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UnreadableMediaError, match=r"cut\.mp4 .*damaged"):
        probe(cut)

    fast = write_clip(tmp_path / "fast.mp4", frames, faststart=True)  # its index comes first
    cut.write_bytes(fast.read_bytes()[: round(fast.stat().st_size * 0.7)])
    assert 5 < sum(1 for _ in read_frames(cut)) < 50
    assert "breaks off" in caplog.text


def test_damage_in_the_middle_is_skipped(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", [np.roll(picture(), k, axis=1) for k in range(50)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    assert sum(1 for _ in read_frames(path)) > 20


def test_clips_joined_end_to_end(tmp_path: Path) -> None:
    """Time stamps that start anew, as in MPEG files that were simply concatenated."""
    one = write_clip(tmp_path / "one.mpg", counted(10)).read_bytes()
    joined = tmp_path / "joined.mpg"
    joined.write_bytes(one + one)
    assert numbers(joined) == [*range(10), *range(10)]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", counted(300, 320, 240), 60)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_frames(path)) == 300
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 320 * 240 * 3


# ------------------------------------------------------------------------------------------------------------ writing


def test_fidelity_and_colours(tmp_path: Path) -> None:
    saturated = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0), (255, 255, 255), (224, 172, 105)]
    with VideoWriter(tmp_path / "smooth.mp4", 25) as writer:
        for _ in range(5):
            writer.write(picture())
    assert all(psnr(frame, picture()) > 35 for frame in read_frames(tmp_path / "smooth.mp4"))
    with VideoWriter(tmp_path / "flat.mp4", 25) as writer:
        for colour in saturated:
            writer.write(np.full((48, 64, 3), colour, np.uint8))
    for frame, colour in zip(read_frames(tmp_path / "flat.mp4"), saturated, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 4


def test_what_browsers_want(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 30000 / 1001, metadata=AI_GENERATED) as writer:
        writer.write(picture(63, 47))
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        video = container.streams.video[0]
        assert (video.codec.name, video.pix_fmt, video.width, video.height) == ("h264", "yuv420p", 64, 48)
        assert (video.colorspace, video.color_primaries, video.color_trc, video.color_range) == (1, 1, 1, 1)
        assert video.average_rate == Fraction(30000, 1001)
        assert "AI-generated" in container.metadata["comment"]
        assert not container.streams.audio
    assert psnr(next(read_frames(tmp_path / "clip.mp4"))[:47, :63], picture(63, 47)) > 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mpg", ".webm"])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_sound_stays_in_sync(tmp_path: Path, suffix: str, start: float) -> None:
    """A flash and a beep at one moment stay together, whatever part is taken."""
    flash = [grey(252 if k == 30 else 0) for k in range(50)]
    driver = write_clip(tmp_path / f"driver{suffix}", flash, sound=beep(2.0, at=30 / 25))
    out = tmp_path / "out.mp4"
    with VideoWriter(out, 25, audio_from=driver, audio_start=start) as writer:
        for frame in read_frames(driver, start=start, end=1.8):
            writer.write(frame)
    flash_time = next(k for k, frame in enumerate(read_frames(out)) if frame.mean() > 128) / 25
    assert flash_time == pytest.approx(30 / 25 - start, abs=1 / 25)
    assert beep_time(out) == pytest.approx(flash_time, abs=0.04)
    with av.open(str(out)) as container:
        for stream in container.streams:
            assert float(stream.duration * stream.time_base) == pytest.approx(1.8 - start, abs=0.025)


def test_sound_of_a_variable_rate_clip_stays_in_sync(tmp_path: Path) -> None:
    times = [k / 30 if k < 30 else 1 + (k - 30) / 10 for k in range(50)]  # the camera slows down after 1 s
    flash = [grey(252 if k == 40 else 0) for k in range(50)]  # at 2.0 s
    driver = write_clip(tmp_path / "driver.mp4", flash, times=times, sound=beep(3.0, at=2.0, channels=2))
    fps = probe(driver).fps
    with VideoWriter(tmp_path / "out.mp4", fps, audio_from=driver) as writer:
        for frame in read_frames(driver):
            writer.write(frame)
    flash_time = next(k for k, frame in enumerate(read_frames(tmp_path / "out.mp4")) if frame.mean() > 128) / fps
    assert flash_time == pytest.approx(2.0, abs=1 / fps)
    assert beep_time(tmp_path / "out.mp4") == pytest.approx(2.0, abs=0.04)


def test_sound_that_starts_before_the_pictures(tmp_path: Path) -> None:
    flash = [grey(252 if k == 30 else 0) for k in range(50)]
    times = [0.3 + k / 25 for k in range(50)]
    driver = write_clip(tmp_path / "driver.mkv", flash, times=times, sound=beep(2.3, at=times[30]))
    with VideoWriter(tmp_path / "out.mp4", 25, audio_from=driver) as writer:
        for frame in read_frames(driver, fps=25):
            writer.write(frame)
    flash_time = next(k for k, frame in enumerate(read_frames(tmp_path / "out.mp4")) if frame.mean() > 128) / 25
    assert flash_time == pytest.approx(30 / 25)
    assert beep_time(tmp_path / "out.mp4") == pytest.approx(flash_time, abs=0.04)


def test_sound_that_is_missing_or_shorter(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", counted(10))
    short = write_clip(tmp_path / "short.mp4", counted(50), sound=beep(0.5, at=0.1))
    for driver, start, seconds in ((silent, 0.0, None), (short, 0.0, 0.5), (short, 1.0, None)):
        with VideoWriter(tmp_path / "out.mp4", 25, audio_from=driver, audio_start=start) as writer:
            for frame in counted(25):
                writer.write(frame)
        with av.open(str(tmp_path / "out.mp4")) as container:
            lengths = [float(stream.duration * stream.time_base) for stream in container.streams.audio]
        assert lengths == ([] if seconds is None else [pytest.approx(seconds, abs=0.05)])


def test_long_clips_take_no_more_memory(tmp_path: Path) -> None:
    program = (
        "import resource, sys, numpy as np\n"
        "from talking_heads.media.reading import read_frames\n"
        "from talking_heads.media.writing import VideoWriter\n"
        "def peak(n):\n"
        "    with VideoWriter(sys.argv[1], 60) as writer:\n"
        "        for k in range(n): writer.write(np.full((96, 128, 3), k % 256, np.uint8))\n"
        "    assert sum(1 for _ in read_frames(sys.argv[1])) == n\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(peak(200), peak(1500))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "clip.mp4"], check=True, capture_output=True, text=True
    )
    short, long = map(int, done.stdout.split())
    assert long - short < 15_000  # KiB; the frames are 54,000


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("frames", [0, 3])
def test_a_failure_leaves_nothing_behind_and_keeps_the_old_file(
    tmp_path: Path, error: type[BaseException], frames: int
) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("yesterday's result")
    with pytest.raises(error), VideoWriter(out, 25) as writer:
        for frame in counted(frames):
            writer.write(frame)
        raise error
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text() == "yesterday's result"


def test_no_frames_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no frame"), VideoWriter(tmp_path / "out.mp4", 25):
        pass
    with pytest.raises(OutputError, match="there is no frame"):
        save_gif([], tmp_path / "out.gif", 10)
    assert not list(tmp_path.iterdir())


def test_frames_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one size"), VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(picture())
        writer.write(picture(32, 32))
    with pytest.raises(ValueError, match="uint8"), VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(picture() / 255.0)
    with pytest.raises(ValueError, match="fps"):
        VideoWriter(tmp_path / "out.mp4", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [2_000, 40_000, 150_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """The limit on the size of files stands for the disk: it is hit in the index, in a frame, or while closing."""
    program = (
        "import resource, signal, sys, numpy as np\n"
        "from talking_heads.errors import OutputError\n"
        "from talking_heads.media.writing import VideoWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "noise = np.random.default_rng(0)\n"
        "try:\n"
        "    with VideoWriter(sys.argv[1], 25) as writer:\n"
        "        for _ in range(int(sys.argv[3])):\n"
        "            writer.write(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    frames = 8 if limit < 10_000 else 80
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "out.mp4", str(limit), str(frames)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("The disk is full")
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "folder.mp4").mkdir()
    for path, sentence in (
        (tmp_path / "out.avi", "must end in .mp4"),
        (tmp_path / "missing" / "out.mp4", "does not exist. Create it"),
        (file / "out.mp4", "does not exist. Create it"),
        (tmp_path / "folder.mp4", "is a folder"),
    ):
        with pytest.raises(OutputError, match=sentence):
            check_writable(path)
        with pytest.raises(OutputError, match=sentence):
            VideoWriter(path, 25)
    check_writable(tmp_path / "OUT.MP4")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not be written to"):
        check_writable(tmp_path / "out.mp4")


# ------------------------------------------------------------------------------------------------- transparent films


def see_through(k: int, width: int = 96, height: int = 64) -> np.ndarray:
    """RGBA: an opaque square that moves to the right, and below it a ramp from transparent to opaque."""
    frame = np.dstack([picture(width, height), np.zeros((height, width), np.uint8)])
    frame[8:40, 8 + 4 * k : 40 + 4 * k, 3] = 255
    frame[48:, :, 3] = np.linspace(0, 255, width)
    return frame


def with_alpha(path: Path) -> list[np.ndarray]:
    """The frames of a clip, uint8 RGBA (H, W, 4). FFmpeg's own VP9 decoder passes over alpha, libvpx does not."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if stream.codec.name == "vp9" else stream.codec_context
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return [frame.to_ndarray(format="rgba") for frame in frames]


@pytest.mark.parametrize("suffix", TRANSPARENT_SUFFIXES)
def test_alpha_is_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 25, metadata=AI_GENERATED) as writer:
        for k in range(12):
            writer.write(see_through(k))
    frames = with_alpha(path)
    assert len(frames) == 12
    for k, frame in enumerate(frames):
        wanted = see_through(k)
        assert np.abs(frame[..., 3].astype(int) - wanted[..., 3]).max() <= 6
        assert psnr(frame[..., :3], wanted[..., :3]) > 35  # behind transparent pixels as well
    assert all(psnr(frame, see_through(0)[..., :3]) > 35 for frame in read_frames(path))
    assert read_tags(path)["comment"] == AI_GENERATED["comment"]
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec.name, video.average_rate) == ({".webm": "vp9", ".mov": "prores"}[suffix], 25)
        assert (video.colorspace, video.color_range) == (1, 1)
    first, second = (b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75") if suffix == ".webm" else (b"moov", b"mdat")
    data = path.read_bytes()
    assert data.rindex(first) < data.index(second)  # the index in front


@pytest.mark.parametrize("suffix", TRANSPARENT_SUFFIXES)
def test_opaque_frames_go_into_every_film(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix.upper()}"
    with VideoWriter(path, 30000 / 1001) as writer:
        for _ in range(3):
            writer.write(picture(63, 47))
    frames = with_alpha(path)
    assert len(frames) == 3
    assert frames[0].shape == (48, 64, 4)
    assert (frames[0][..., 3] == 255).all()
    assert psnr(frames[0][:47, :63, :3], picture(63, 47)) > 30
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(30000 / 1001, rel=1e-3)


@pytest.mark.parametrize("suffix", TRANSPARENT_SUFFIXES)
def test_colours_are_the_same_in_every_film(tmp_path: Path, suffix: str) -> None:
    shown = np.full((48, 64, 3), (230, 40, 60), np.uint8)
    with VideoWriter(tmp_path / f"out{suffix}", 25) as writer:
        writer.write(shown)
    assert np.abs(next(read_frames(tmp_path / f"out{suffix}")).astype(int) - shown).max() <= 4


@pytest.mark.parametrize("rate", [48_000, 44_100])
@pytest.mark.parametrize("suffix", TRANSPARENT_SUFFIXES)
def test_sound_of_transparent_films_stays_in_sync(tmp_path: Path, suffix: str, rate: int) -> None:
    flash = [grey(252 if k == 30 else 0) for k in range(50)]
    driver = write_clip(tmp_path / "driver.mp4", flash, sound=beep(2.0, at=30 / 25))
    if rate != 48_000:  # which Opus does not know
        with (
            av.open(str(driver)) as source,
            av.open(str(tmp_path / "other.mp4"), "w") as target,
        ):
            video, audio = source.streams.video[0], source.streams.audio[0]
            copy, sound = target.add_stream_from_template(video), target.add_stream("aac", rate, layout="mono")
            for packet in source.demux(video, audio):
                if packet.stream is audio:
                    for block in packet.decode():
                        target.mux(sound.encode(block))
                elif packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
            target.mux(sound.encode(None))
        driver = tmp_path / "other.mp4"
    out = tmp_path / f"out{suffix}"
    with VideoWriter(out, 25, audio_from=driver, audio_start=0.5) as writer:
        for frame in read_frames(driver, start=0.5, end=1.8):
            writer.write(np.dstack([frame, frame[..., 0]]))
    flash_time = next(k for k, frame in enumerate(with_alpha(out)) if frame[..., 3].mean() > 128) / 25
    assert flash_time == pytest.approx(30 / 25 - 0.5, abs=1 / 25)
    assert beep_time(out) == pytest.approx(flash_time, abs=0.04)
    with av.open(str(out)) as container:
        assert float(container.duration) / 1e6 == pytest.approx(1.3, abs=0.03)
        assert container.streams.audio[0].codec.name == {".webm": "opus", ".mov": "pcm_s16le"}[suffix]


def test_an_mp4_takes_no_alpha(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha"), VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(see_through(0))
    for suffix in TRANSPARENT_SUFFIXES:
        with pytest.raises(ValueError, match="one size"), VideoWriter(tmp_path / f"out{suffix}", 25) as writer:
            writer.write(see_through(0))
            writer.write(see_through(1)[..., :3])
    assert not list(tmp_path.iterdir())
    for suffix in VIDEO_SUFFIXES:
        check_writable(tmp_path / f"out{suffix}", VIDEO_SUFFIXES)


# ---------------------------------------------------------------------------------------------------------- composing


def test_save_image(tmp_path: Path) -> None:
    save_image(picture(), tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OutputError, match=r"must end in \.png"):
        save_image(picture(), tmp_path / "a.jpg")


def test_save_gif_keeps_colours_and_time(tmp_path: Path) -> None:
    frames = [np.roll(picture(), k, axis=1) for k in range(15)]
    save_gif(iter(frames), tmp_path / "a.gif", fps=30)  # 3.33 hundredths of a second each
    got = list(read_frames(tmp_path / "a.gif", fps=30))
    assert len(got) == 15
    assert all(psnr(a, b) > 25 for a, b in zip(got, frames, strict=True))
    with Image.open(tmp_path / "a.gif") as image:
        durations = []
        for k in range(image.n_frames):
            image.seek(k)
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    assert sum(durations) == pytest.approx(500, abs=10)
    with pytest.raises(ValueError, match="50"):
        save_gif(frames, tmp_path / "a.gif", fps=60)


def test_contact_sheet() -> None:
    sheet = contact_sheet([[grey(0), grey(100)], [grey(200)]], labels=["photo", "output"], size=96)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * 96 + 3 * 2
    assert {0, 100, 200, 255} <= set(np.unique(sheet))
    assert contact_sheet([[grey(0)]], size=96).shape == (100, 100, 3)
    with pytest.raises(ValueError, match="labels"):
        contact_sheet([[grey(0)]], labels=["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_a_composed_video_keeps_every_frame_and_the_sound(tmp_path: Path) -> None:
    driving = write_clip(tmp_path / "driving.mp4", counted(50), sound=beep(2, 1.0))
    heard: list[int] = []
    result = (grey(4 * (49 - k)) for k in range(40))
    compose_side_by_side(driving, result, tmp_path / "both.mp4", 25, start=0.4, on_frame=heard.append)
    pairs = list(read_frames(tmp_path / "both.mp4"))
    assert [number_of(pair[:20, :60]) for pair in pairs] == list(range(10, 50))
    assert [number_of(pair[:20, 68:]) for pair in pairs] == list(range(49, 9, -1))
    assert all(pair[30:, side].std() > 5 for pair in pairs for side in (slice(0, 64), slice(64, 128)))  # captions
    assert heard == list(range(1, 41))
    assert beep_time(tmp_path / "both.mp4") == pytest.approx(0.6, abs=0.03)


def test_a_composed_video_is_whole_or_not_there(tmp_path: Path) -> None:
    driving = write_clip(tmp_path / "driving.mp4", counted(5))

    def broken() -> Iterator[np.ndarray]:
        yield grey(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compose_side_by_side(driving, broken(), tmp_path / "both.mp4", 25)
    with pytest.raises(ValueError, match="no frame"):
        compose_side_by_side(driving, iter(()), tmp_path / "both.mp4", 25)
    assert [entry.name for entry in tmp_path.iterdir()] == ["driving.mp4"]
