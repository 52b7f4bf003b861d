"""Clips read as a stream: upright pictures of one size at a constant rate.

Frames are uint8 RGB (H, W, 3) arrays and travel one by one: nothing here holds a clip in memory. Time is counted from
the first picture of a clip, in exact fractions of a second, for the sound as well: that is what keeps them together.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnreadableMediaError
from .containers import (
    FORMATS,
    LONGEST_STILL,
    SOUND_FORMATS,
    audio_stream,
    av,
    decode,
    duration_of,
    fraction,
    open_container,
    picture_stream,
    reformatter,
    seconds,
    sound_format,
    stamp_of,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

MAX_FPS = 60
_LATEST_FIRST_PICTURE = 1  # s after the start that the file states; beyond, the statement is broken
_UNSPECIFIED = 2  # H.273's number of YUV matrices; PyAV's Colorspace has swscale's numbers instead


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip, as ``read_frames`` delivers it."""

    path: Path
    width: int
    """Pixels as displayed: after rotation, with non-square pixels made square, before ``max_side``."""
    height: int
    fps: float
    """The constant rate at which ``read_frames`` delivers unless told otherwise; at most 60."""
    duration: float | None
    """Seconds, as the file states or FFmpeg estimates (low for MPEG files); None where neither knows."""
    num_frames: int | None
    """An estimate, duration x fps; None where the duration is unknown."""
    has_audio: bool

    def frames_between(self, start: float | None, end: float | None) -> int | None:
        """About how many frames its file promises from second ``start`` to ``end``; None where it promises nothing."""
        if self.duration is None:
            return None
        last = self.duration if end is None else min(end, self.duration)
        return max(1, round((last - (start or 0.0)) * self.fps))


def probe(path: str | Path) -> ClipInfo:
    """Properties of a clip. The first picture is decoded, so a clip that passes can be read.

    Raises UnreadableMediaError for anything that is not a clip with at least one picture.
    """
    return inspect(path).info


def read_tags(path: str | Path) -> dict[str, str]:
    """Metadata of a clip's container ("title", "comment", ...), names in lower case.

    Raises UnreadableMediaError for anything that is not a clip.
    """
    with _open(Path(path)) as (container, _):
        return {name.lower(): value for name, value in container.metadata.items()}


def read_frames(
    path: str | Path,
    *,
    start: float | None = None,
    end: float | None = None,
    max_side: int = 1280,
    fps: float | None = None,
) -> Iterator[np.ndarray]:
    """The pictures of a clip from ``start`` until before ``end`` (seconds), one by one: uint8 RGB (H, W, 3).

    They are upright, have square pixels and one size, at most ``max_side`` pixels on the longer side. They come at a
    constant rate, ``fps`` or else the clip's own: pictures are repeated or dropped by their time stamps, so that
    picture k is the one seen at ``start + k / fps``, however irregularly the clip was filmed. Of a damaged file come
    the pictures that decode. Every array is the reader's own, to draw on.

    Raises UnreadableMediaError if the file is no clip, nothing in it decodes, or nothing lies between ``start`` and
    ``end``; the last at the first picture, all else at the call.
    """
    if max_side < 1 or (fps is not None and not fraction(fps) > 0):
        raise ValueError(f"max_side and fps must be positive, got {max_side} and {fps}")
    begin = start or 0.0
    if begin < 0:
        raise UnreadableMediaError(f"A clip cannot start at {begin:g} s. Choose a start of 0 s or later.")
    if end is not None and end <= begin:
        raise UnreadableMediaError(f"The end, {end:g} s, must lie behind the start, {begin:g} s.")
    clip = inspect(path)
    rate = fraction(fps or clip.info.fps)
    return _read(clip, seconds(begin), None if end is None else seconds(end), max_side, rate)


def has_pictures(path: str | Path) -> bool:
    """Whether a file is a clip, and no sound file. Raises UnreadableMediaError for what is neither."""
    with open_container(Path(path), "file", SOUND_FORMATS, "a clip or a sound file") as container:
        if picture_stream(container) is not None:
            return True
        if audio_stream(container) is None:
            raise UnreadableMediaError(f"{Path(path).name} holds neither pictures nor sound that can be decoded.")
        return False


def _read(
    clip: OpenedClip, start: Fraction, end: Fraction | None, max_side: int, fps: Fraction
) -> Iterator[np.ndarray]:
    with _open(clip.info.path) as (container, stream):
        stream.thread_type = "AUTO"
        timed = _timed(decode(container, stream), clip, fps)
        for frame in _at_constant_rate(timed, start, end, fps):
            yield clip.upright(frame, max_side)


@dataclass(frozen=True)
class OpenedClip:
    """A clip, and what it takes to read it."""

    info: ClipInfo
    zero: Fraction
    """Time stamp of the first picture in seconds: time 0 of the pictures and of the sound."""
    transpose: bool
    """How a stored picture becomes upright: transpose first, then mirror."""
    mirror_x: bool
    mirror_y: bool
    sound: tuple[int, str] | None
    """(samples per second, "mono" or "stereo") in which its sound can be encoded anew."""

    def upright(self, frame: VideoFrame, max_side: int) -> np.ndarray:
        """A decoded picture -> uint8 RGB (H, W, 3) as displayed, in an array of its own."""
        scale = min(1.0, max_side / max(self.info.width, self.info.height))
        width, height = max(1, round(self.info.width * scale)), max(1, round(self.info.height * scale))
        if self.transpose:
            width, height = height, width
        try:
            pixels = frame.to_ndarray(
                format="rgb24",
                width=width,
                height=height,
                interpolation=reformatter.Interpolation.AREA
                | reformatter.Interpolation.ACCURATE_RND
                | reformatter.Interpolation.FULL_CHR_H_INT,
                src_colorspace=_colorspace(frame),
                dst_color_range=reformatter.ColorRange.JPEG,
            )
        except av.FFmpegError as error:
            raise UnreadableMediaError(
                f"The colours of {self.info.path.name} ({frame.format.name}) are not known here. Export it as mp4."
            ) from error
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return np.array(pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1], order="C")


def inspect(path: str | Path) -> OpenedClip:
    """Properties of a clip, and what is needed to read it; decodes its first picture. Raises UnreadableMediaError."""
    path = Path(path)
    with _open(path) as (container, stream):
        first = next(decode(container, stream), None)
        if first is None:
            raise UnreadableMediaError(f"No picture of {path.name} can be decoded. Export the clip again.")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, 8) < aspect < 8:  # nobody films such pixels
            aspect = Fraction(1)
        width, height = max(1, round(first.width * aspect)), first.height
        transpose, mirror_x, mirror_y = _orientation(first)
        if transpose:
            width, height = height, width
        fps, duration, sound = _rate(stream), duration_of(container, stream), sound_format(container)
        info = ClipInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            duration=duration,
            num_frames=None if duration is None else max(1, round(duration * fps)),
            has_audio=sound is not None,
        )
        return OpenedClip(info, _zero(stream, first), transpose, mirror_x, mirror_y, sound)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_container(path, "clip", FORMATS, "an mp4, mov, webm, mkv, avi, mpg or gif") as container:
        stream = picture_stream(container)
        if stream is None:
            raise UnreadableMediaError(f"{path.name} holds no moving pictures that can be decoded. Give a video clip.")
        yield container, stream


def _timed(
    frames: Iterator[VideoFrame], clip: OpenedClip, fps: Fraction
) -> Iterator[tuple[Fraction, VideoFrame | None]]:
    """(seconds since the first frame, frame) in rising order; at the end of the last frame (seconds, None)."""
    zero = clip.zero
    step = duration = 1 / fps
    time: Fraction | None = None
    for frame in frames:
        stamp = stamp_of(frame, zero)
        if time is None:
            time = stamp or Fraction(0)
        elif stamp is None:
            time += step
        elif time <= stamp <= time + LONGEST_STILL:
            time = stamp
        else:  # stamps start anew, as in clips that were joined: carry on from here
            time += step
            zero += stamp - time
        duration = frame.duration * (frame.time_base or Fraction(0)) or step
        yield time, frame
    if time is None:
        return
    if clip.info.duration is not None:
        left = seconds(clip.info.duration) - time
        if duration > step:
            # At an irregular rate mp4 states how long frames take in the order of decoding, which is another one.
            duration = max(step, min(duration, left))
        if left - duration > 0.5:
            logger.warning("%s breaks off after %.1f of %.1f s.", clip.info.path, time, clip.info.duration)
    yield time + min(duration, Fraction(LONGEST_STILL)), None


def _at_constant_rate(
    timed: Iterator[tuple[Fraction, VideoFrame | None]], start: Fraction, end: Fraction | None, fps: Fraction
) -> Iterator[VideoFrame]:
    """The frames on display, for k = 0, 1, ..., at ``start + k / fps``, until ``end`` or the end of the clip."""
    limit = math.inf if end is None else math.ceil((end - start) * fps)
    shown: VideoFrame | None = None
    due, time = 0, Fraction(0)
    for time, frame in timed:
        # Rounded, since stamps are (mkv: to 1 ms). With 0.6 and not 0.5, so that halving 60 frames a second to 30
        # always drops the same one of two instead of wavering between them.
        slot = math.floor((time - start) * fps + Fraction(6, 10))
        if frame is None and time > start:
            slot = max(slot, 1)  # however short, a clip has one picture
        while shown is not None and due < min(slot, limit):
            yield shown
            due += 1
        if due >= limit:
            return
        shown = frame
    if due == 0:  # not known earlier: what files state about their length is too often wrong
        raise UnreadableMediaError(
            f"The clip lasts {float(time):.1f} s; a start at {float(start):g} s lies behind its end. Choose another."
        )


def _zero(stream: Stream, first: VideoFrame) -> Fraction:
    """The time stamp in seconds at which a stream begins: what the file states, if its first frame agrees."""
    seen, stated = stamp_of(first), None
    if stream.start_time is not None and stream.time_base is not None:
        stated = stream.start_time * stream.time_base
    if seen is None:
        return stated or Fraction(0)
    return stated if stated is not None and 0 <= seen - stated <= _LATEST_FIRST_PICTURE else seen


def _rate(stream: VideoStream) -> float:
    """The constant rate that serves a clip best: its nominal one if it keeps that, else its average; 1 to 60."""
    nominal, average = stream.guessed_rate, stream.average_rate
    if nominal and average and abs(nominal / average - 1) > 0.02:
        nominal = average
    return min(float(MAX_FPS), max(1.0, float(nominal or average or 25)))


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, mirror_x, mirror_y) from the display matrix: quarter turns and mirrors, which is what cameras write.

    A stored point (x, y) is displayed at (a x + c y, b x + d y), up to a shift.
    """
    if "DISPLAYMATRIX" not in frame.side_data:
        return False, False, False
    matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # PyAV's stub lists one kind of many
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def _colorspace(frame: VideoFrame) -> Colorspace | None:
    """BT.709 for HD pictures that do not say, as players have it; None: what the picture says, else BT.601."""
    return reformatter.Colorspace.ITU709 if frame.colorspace == _UNSPECIFIED and frame.height >= 720 else None
