"""Odd clips, made on the spot: every function writes one file with real encoders and returns its path."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000
CODECS = {  # suffix -> (picture codec, sound codec)
    ".mp4": ("libx264", "aac"),
    ".mov": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".avi": ("mpeg4", "mp2"),
    ".mpg": ("mpeg1video", "mp2"),
    ".webm": ("libvpx", "libopus"),
    ".mjpeg": ("mjpeg", ""),
}


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    """A smooth picture without symmetry: red grows to the right, green downwards, blue is in the middle."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    blue = np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    return (np.stack([x, y, blue], axis=-1) * 255).round().astype(np.uint8)


def grey(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def counted(number: int, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    """Grey frames whose level, 4 apart and in 0..252, tells which one it is: see ``number_of``."""
    for k in range(number):
        yield grey(4 * (k % 64), width, height)


def number_of(frame: np.ndarray) -> int:
    return round(float(frame.mean()) / 4)


def beep(seconds: float, at: float, channels: int = 1) -> np.ndarray:
    """Silence with 0.1 s of 1 kHz from ``at`` on: float32 (channels, samples)."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.where((time >= at) & (time < at + 0.1), 0.5 * np.sin(2000 * np.pi * time), 0)
    return np.tile(tone.astype(np.float32), (channels, 1))


def beep_time(path: Path) -> float:
    """Seconds at which the sound of a clip first gets loud."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray().astype(np.float64)
            if frame.format.name.startswith("s16"):
                samples /= 32768
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            loud = np.flatnonzero(np.abs(samples).max(axis=0) > 0.2)
            if loud.size:
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError("there is no beep")


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float = 25,
    *,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
    faststart: bool = False,
    pix_fmt: str = "yuv420p",
    colours: tuple[int, int] | None = None,
    tagged: bool = True,
) -> Path:
    """A clip by its suffix. ``times`` are seconds for a variable rate, ``rotation`` is counterclockwise degrees.

    ``colours`` are the numbers of a YUV matrix (1: BT.709, 5 and 6: BT.601) and a range (1: limited, 2: full); without
    them the clip is BT.601, limited. ``tagged`` says whether the file says so.
    """
    pictures, sounds = CODECS[path.suffix]
    tick = Fraction(1, 1000) if times is not None else 1 / Fraction(fps).limit_denominator(1001)
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(pictures, Fraction(fps).limit_denominator(1001))
        video.pix_fmt, video.bit_rate = pix_fmt, 1_000_000
        video.codec_context.time_base = tick
        if rotation or mirrored:
            video.set_display_rotation(rotation, hflip=mirrored)
        audio = None
        if sound is not None:
            audio = container.add_stream(sounds, RATE, layout="mono" if len(sound) == 1 else "stereo")
        for k, frame in enumerate(frames):
            if k == 0:
                video.height, video.width = frame.shape[:2]
                if aspect is not None:
                    video.codec_context.sample_aspect_ratio = aspect
            shot = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if colours is not None:
                matrix, span = colours
                shot = shot.reformat(format=pix_fmt, dst_colorspace=1 if matrix == 1 else 5, dst_color_range=span)
                if tagged:
                    video.codec_context.colorspace, video.codec_context.color_range = matrix, span
                shot.colorspace, shot.color_range = (matrix, span) if tagged else (2, 0)
            shot.pts, shot.time_base = (k if times is None else round(times[k] * 1000)), tick
            container.mux(video.encode(shot))
        container.mux(video.encode(None))
        if audio is not None:
            for start in range(0, sound.shape[1], 4800):
                samples = np.ascontiguousarray(sound[:, start : start + 4800])
                block = av.AudioFrame.from_ndarray(samples, "fltp", audio.layout.name)
                block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """One channel of 16 bits, from float (n,) in [-1, 1]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * np.clip(samples, -1, 1)).astype("<i2").tobytes())
    return path


def write_gif(path: Path, frames: Sequence[np.ndarray], milliseconds: Sequence[int]) -> Path:
    """A GIF in which every frame has its own time on display."""
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=list(milliseconds))
    return path


def write_sound_only(path: Path, seconds: float = 0.5) -> Path:
    """An mp4 without pictures."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(beep(seconds, 0.1), "fltp", "mono")
        block.sample_rate = RATE
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path
