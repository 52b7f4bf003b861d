"""Clips: reading frames as a stream, writing films with the driver's sound, and a few pictures made of pictures.

Frames are uint8 RGB (H, W, 3) arrays and travel one by one: nothing here holds a clip in memory. Films with transparent
parts are written from RGBA (H, W, 4). Time is counted from the first picture of a clip, in exact fractions of a second,
for the sound as well: that is what keeps them together.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .errors import MissingDependencyError, OutputError, UnreadableMediaError

try:
    import av
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Disposition, Stream
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
    from av.video.stream import VideoStream
except ModuleNotFoundError as error:  # as on machines that only train; pictures are written without it
    if error.name is None or error.name.partition(".")[0] != "av":
        raise
    _HAS_AV, _WRITING_ERRORS = False, cast(Any, (OSError,))
else:
    _HAS_AV, _WRITING_ERRORS = True, cast(Any, (OSError, av.FFmpegError))

logger = logging.getLogger(__name__)

T = TypeVar("T")

AI_GENERATED: Mapping[str, str] = {"comment": "AI-generated: this video was made with talking_heads."}
"""Metadata for VideoWriter that says, where software looks for it, that nobody filmed this."""

VIDEO_SUFFIXES = (".mp4", ".webm", ".mov")
"""Films that VideoWriter writes."""

TRANSPARENT_SUFFIXES = (".webm", ".mov")
"""Those of them that can hold transparency."""

MAX_FPS = 60

# A stranger's file opens as one of these or not at all: FFmpeg also knows playlists (HLS, concat), and a playlist may
# name any other file of this machine.
_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,gif,flv,ogg,asf"
_SOUND_FORMATS = f"{_FORMATS},wav,w64,mp3,flac,aac,aiff,caf,amr,au"
_LONGEST_STILL = 60  # s between two pictures; a longer jump is a broken time stamp
_LATEST_FIRST_PICTURE = 1  # s after the start that the file states; beyond, the statement is broken
_SOUND_JITTER = 0.02  # s by which the stamps of sound may be off before it is moved
_UNSPECIFIED, _BT709 = 2, 1  # H.273 numbers of YUV matrices; PyAV's Colorspace has swscale's numbers instead


# ------------------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class ClipInfo:
    """What a clip is, as ``read_frames`` delivers it."""

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


def probe(path: str | Path) -> ClipInfo:
    """What a clip is. The first picture is decoded, so a clip that passes can be read.

    Raises UnreadableMediaError for anything that is not a clip with at least one picture.
    """
    return _inspect(path).info


def read_tags(path: str | Path) -> dict[str, str]:
    """What a clip's container says about it ("title", "comment", ...), names in lower case.

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
    if max_side < 1 or (fps is not None and not _fraction(fps) > 0):
        raise ValueError(f"max_side and fps must be positive, got {max_side} and {fps}")
    begin = start or 0.0
    if begin < 0:
        raise UnreadableMediaError(f"A clip cannot start at {begin:g} s. Choose a start of 0 s or later.")
    if end is not None and end <= begin:
        raise UnreadableMediaError(f"The end, {end:g} s, must lie behind the start, {begin:g} s.")
    clip = _inspect(path)
    rate = _fraction(fps or clip.info.fps)
    return _read(clip, _seconds(begin), None if end is None else _seconds(end), max_side, rate)


def has_pictures(path: str | Path) -> bool:
    """Whether a file is a clip, and no sound file. Raises UnreadableMediaError for what is neither."""
    with _container(Path(path), "file", _SOUND_FORMATS, "a clip or a sound file") as container:
        if _picture_stream(container) is not None:
            return True
        if _audio_stream(container) is None:
            raise UnreadableMediaError(f"{Path(path).name} holds neither pictures nor sound that can be decoded.")
        return False


def sound_duration(path: str | Path) -> float | None:
    """Seconds that a sound file, or the sound of a clip, states; None where it states nothing.

    Raises UnreadableMediaError for what holds no sound.
    """
    with _open_sound(Path(path)) as (container, stream):
        return _duration(container, stream)


def read_sound(path: str | Path, rate: int = 16_000) -> Iterator[np.ndarray]:
    """The sound of a file as one channel, float32 (n,) in [-1, 1], block by block; ``rate`` samples a second.

    It begins where VideoWriter begins it: at the first picture of a clip, or with the first sample of a sound file.
    Raises UnreadableMediaError at the call for what holds no sound; at the first block where nothing of it decodes.
    """
    sound = _Sound.of(Path(path), Fraction(0), rate, "mono")
    if sound is None:
        raise UnreadableMediaError(f"{Path(path).name} holds no sound. Give a file in which somebody speaks.")
    return _blocks(sound, Path(path))


def _blocks(sound: _Sound, path: Path) -> Iterator[np.ndarray]:
    if not sound.has_more():
        raise UnreadableMediaError(f"No sound of {path.name} can be decoded. Export it again, as wav for instance.")
    for block in sound:
        yield block[0]


def _read(clip: _Clip, start: Fraction, end: Fraction | None, max_side: int, fps: Fraction) -> Iterator[np.ndarray]:
    with _open(clip.info.path) as (container, stream):
        stream.thread_type = "AUTO"
        timed = _timed(_decode(container, stream), clip, fps)
        for frame in _at_constant_rate(timed, start, end, fps):
            yield clip.upright(frame, max_side)


@dataclass(frozen=True)
class _Clip:
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
                interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
                src_colorspace=_colorspace(frame),
                dst_color_range=ColorRange.JPEG,
            )
        except av.FFmpegError as error:
            raise UnreadableMediaError(
                f"The colours of {self.info.path.name} ({frame.format.name}) are not known here. Export it as mp4."
            ) from error
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return np.array(pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1], order="C")


def _inspect(path: str | Path) -> _Clip:
    path = Path(path)
    with _open(path) as (container, stream):
        first = next(_decode(container, stream), None)
        if first is None:
            raise UnreadableMediaError(f"No picture of {path.name} can be decoded. Export the clip again.")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, 8) < aspect < 8:  # nobody films such pixels
            aspect = Fraction(1)
        width, height = max(1, round(first.width * aspect)), first.height
        transpose, mirror_x, mirror_y = _orientation(first)
        if transpose:
            width, height = height, width
        fps, duration, sound = _rate(stream), _duration(container, stream), _sound_format(container)
        info = ClipInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            duration=duration,
            num_frames=None if duration is None else max(1, round(duration * fps)),
            has_audio=sound is not None,
        )
        return _Clip(info, _zero(stream, first), transpose, mirror_x, mirror_y, sound)


def _need_av() -> None:
    if not _HAS_AV:
        raise MissingDependencyError("Clips need PyAV, which is not installed. Install it: pip install av.")


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with _container(path, "clip", _FORMATS, "an mp4, mov, webm, mkv, avi, mpg or gif") as container:
        stream = _picture_stream(container)
        if stream is None:
            raise UnreadableMediaError(f"{path.name} holds no moving pictures that can be decoded. Give a video clip.")
        yield container, stream


@contextlib.contextmanager
def _open_sound(path: Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    with _container(path, "sound", _SOUND_FORMATS, "a wav, mp3, m4a, flac, ogg, or a clip with sound") as container:
        stream = _audio_stream(container)
        if stream is None:
            raise UnreadableMediaError(f"{path.name} holds no sound. Give a file in which somebody speaks.")
        yield container, stream


@contextlib.contextmanager
def _container(path: Path, kind: str, formats: str, wanted: str) -> Iterator[InputContainer]:
    _need_av()
    if not path.exists():
        raise UnreadableMediaError(f"The {kind} {path} does not exist. Check the path.")
    if not path.is_file():
        raise UnreadableMediaError(f"{path} is not a file. Give the path of a {kind}.")
    try:
        # An absolute path, since FFmpeg takes "a:b.mp4" for a protocol called "a".
        container = av.open(str(path.resolve()), options={"format_whitelist": formats})
    except PermissionError:
        raise UnreadableMediaError(f"{path} may not be read. Change its permissions.") from None
    except av.FFmpegError as error:
        raise UnreadableMediaError(
            f"{path.name} is no {kind} that can be read, or it is damaged. Give {wanted}."
        ) from error
    with container:
        yield container


def _picture_stream(container: InputContainer) -> VideoStream | None:
    # Songs carry their cover as a video stream.
    pictures = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return pictures[0] if pictures and pictures[0].codec_context is not None else None


def _audio_stream(container: InputContainer) -> AudioStream | None:
    decodable = (stream for stream in container.streams.audio if stream.codec_context is not None)
    return next(decodable, None)


def _sound_format(container: InputContainer) -> tuple[int, str] | None:
    stream = _audio_stream(container)
    if stream is None:
        return None
    # What every player takes: the two usual rates, and at most two channels.
    rate = stream.rate if stream.rate == 44_100 else 48_000
    return rate, "mono" if stream.layout.nb_channels == 1 else "stereo"


def _decode(container: InputContainer, stream: Stream) -> Iterator[Any]:
    """Every frame of a stream that decodes; what is damaged is skipped and reported once."""
    damage: av.FFmpegError | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)  # ended by damage to the container, the iterator just ends next time
            if packet is None:
                break
            frames = packet.decode()
        except av.FFmpegError as error:
            damage = damage or error
            continue
        yield from frames
    if damage:
        logger.warning("%s is damaged in places (%s); its readable parts are used.", container.name, damage.strerror)


def _timed(frames: Iterator[VideoFrame], clip: _Clip, fps: Fraction) -> Iterator[tuple[Fraction, VideoFrame | None]]:
    """(seconds since the first frame, frame) in rising order; at the end of the last frame (seconds, None)."""
    zero = clip.zero
    step = duration = 1 / fps
    time: Fraction | None = None
    for frame in frames:
        stamp = _stamp(frame, zero)
        if time is None:
            time = stamp or Fraction(0)
        elif stamp is None:
            time += step
        elif time <= stamp <= time + _LONGEST_STILL:
            time = stamp
        else:  # stamps start anew, as in clips that were joined: carry on from here
            time += step
            zero += stamp - time
        duration = frame.duration * (frame.time_base or Fraction(0)) or step
        yield time, frame
    if time is None:
        return
    if clip.info.duration is not None:
        left = _seconds(clip.info.duration) - time
        if duration > step:
            # At an irregular rate mp4 states how long frames take in the order of decoding, which is another one.
            duration = max(step, min(duration, left))
        if left - duration > 0.5:
            logger.warning("%s breaks off after %.1f of %.1f s.", clip.info.path, time, clip.info.duration)
    yield time + min(duration, Fraction(_LONGEST_STILL)), None


def _at_constant_rate(
    timed: Iterator[tuple[Fraction, VideoFrame | None]], start: Fraction, end: Fraction | None, fps: Fraction
) -> Iterator[VideoFrame]:
    """For k = 0, 1, ... the frame on display at ``start + k / fps``, until ``end`` or the end of the clip."""
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


def _stamp(frame: VideoFrame | AudioFrame, zero: Fraction = Fraction(0)) -> Fraction | None:
    """Seconds from ``zero`` to the time stamp of a frame, if it has one."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base - zero


def _zero(stream: Stream, first: VideoFrame) -> Fraction:
    """The time stamp in seconds at which a stream begins: what the file states, if its first frame agrees."""
    seen, stated = _stamp(first), None
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


def _duration(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


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
    return Colorspace.ITU709 if frame.colorspace == _UNSPECIFIED and frame.height >= 720 else None


def _fraction(fps: float) -> Fraction:
    """29.97002997... -> 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def _seconds(time: float) -> Fraction:
    """0.2 -> 1/5, which as a float it is not quite; otherwise a picture too many or too few slips in at the ends."""
    return Fraction(time).limit_denominator(1_000_000)


# ------------------------------------------------------------------------------------------------------------ writing


@dataclass(frozen=True)
class _Encoding:
    """How a film with a certain suffix is made."""

    container: str
    container_options: Mapping[str, str]
    pictures: Literal["libx264", "libvpx-vp9", "prores_ks"]
    """The encoder, as FFmpeg calls it; so below."""
    pixels: str
    pixels_with_alpha: str | None
    sound: Literal["aac", "libopus", "pcm_s16le"]
    sound_rate: int | None
    """Samples per second, where the encoder does not take all that clips have."""

    def options(self, crf: int) -> dict[str, str]:
        """For the encoder of the pictures."""
        if self.pictures == "libvpx-vp9":
            # Six more look as good as H.264. Alternate reference frames do not go with an alpha channel.
            return {
                "crf": str(min(crf + 6, 63)), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1",
                "auto-alt-ref": "0",
            }  # fmt: skip
        if self.pictures == "prores_ks":
            return {"profile": "4444", "vendor": "apl0"}  # some editors take no other vendor
        return {"crf": str(crf)}


_FRONT = {"movflags": "+faststart"}  # the index first: plays before it is loaded
_ENCODINGS = {
    ".mp4": _Encoding("mp4", _FRONT, "libx264", "yuv420p", None, "aac", None),
    ".webm": _Encoding("webm", {"cues_to_front": "1"}, "libvpx-vp9", "yuv420p", "yuva420p", "libopus", 48_000),
    ".mov": _Encoding("mov", _FRONT, "prores_ks", "yuv444p10le", "yuva444p10le", "pcm_s16le", None),
}


class VideoWriter:
    """Writes frames to a film with sound, index in front, in BT.709 colours. The suffix of ``path`` decides:

    - ``.mp4``: H.264 (yuv420p) and AAC, which every browser plays. It cannot hold transparency.
    - ``.webm``: VP9 and Opus, for browsers. Frames with alpha make a transparent film.
    - ``.mov``: ProRes 4444 and PCM, for video editors: many times as large, hardly any loss. Transparent as ``.webm``.

        with VideoWriter("ada.mp4", fps=25, audio_from="driving.mp4", audio_start=1.5) as writer:
            for frame in frames:
                writer.write(frame)

    The sound of ``audio_from``, from ``audio_start`` seconds after its first picture on, is cut to the length of the
    frames; a clip without sound gives a silent film, and a sound file counts from its first sample. The file is written
    under a hidden name in the same folder and takes its own name on leaving the block; when the block is left by an
    error, KeyboardInterrupt included, nothing stays behind. ``crf`` is H.264's quality: 0 is lossless, 18 looks it, 28
    is small; a webm comes near it, a mov has one quality. ``metadata`` are tags of the file, such as AI_GENERATED.
    ``finish`` is called with the path of the whole file before it takes its own name, to sign it, for instance; what it
    raises leaves no file.

    Raises OutputError if the file cannot be written, at once where that can be known; UnreadableMediaError if
    ``audio_from`` is no clip and no sound file.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        *,
        audio_from: str | Path | None = None,
        audio_start: float = 0.0,
        crf: int = 18,
        metadata: Mapping[str, str] | None = None,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        if not _fraction(fps) > 0 or audio_start < 0:
            raise ValueError(f"fps must be positive and audio_start not negative, got {fps} and {audio_start}")
        self.path = Path(path)
        check_writable(self.path, VIDEO_SUFFIXES)
        _need_av()
        self._encoding = _ENCODINGS[self.path.suffix.lower()]
        self.fps = fps
        self.num_frames = 0
        self._sound: _Sound | None = None
        if audio_from is not None:
            self._sound = _Sound.of(Path(audio_from), _seconds(audio_start), self._encoding.sound_rate)
        self._crf = crf
        self._metadata = dict(metadata or {})
        self._finisher = finish
        self._part = _beside(self.path)
        self._container: OutputContainer | None = None
        self._video: VideoStream
        self._audio: AudioStream | None = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, all of one size. An odd size is made even by repeating the last line.

        uint8 RGB (H, W, 3), or, if the file is a webm or mov, RGBA (H, W, 4) for all frames: colours are as they are,
        not multiplied by alpha, which is 0 where one looks through. Raises ValueError for anything else.
        """
        _check_frame(frame, self._shape or frame.shape, (3, 4))
        layout, pixels = "rgb24", self._encoding.pixels
        if frame.shape[2] == 4:
            if self._encoding.pixels_with_alpha is None:
                raise ValueError(f"{self.path.name} cannot hold an alpha channel, got {frame.shape}")
            layout, pixels = "rgba", self._encoding.pixels_with_alpha
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # 4:2:0 shares colours by 2 x 2
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format=layout).reformat(
            format=pixels,
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts, picture.time_base = self.num_frames, 1 / _fraction(self.fps)
        with _output_errors(self.path):
            if self._container is None:
                self._container = self._start(picture)
                self._shape = frame.shape
            self._container.mux(self._video.encode(picture))
            self.num_frames += 1
            self._write_sound(self._container)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._container is not None:
                # After a success this is closed already; after a failure it cannot be closed in order.
                with contextlib.suppress(av.FFmpegError, OSError):
                    self._container.close()
            _remove(self._part)

    def _start(self, picture: VideoFrame) -> OutputContainer:
        encoding = self._encoding
        container = av.open(
            str(self._part.resolve()), "w", format=encoding.container, options=dict(encoding.container_options)
        )
        container.metadata.update(self._metadata)
        options = encoding.options(self._crf)
        self._video = cast(VideoStream, container.add_stream(encoding.pictures, _fraction(self.fps), options=options))
        self._video.width, self._video.height, self._video.pix_fmt = picture.width, picture.height, picture.format.name
        # Untagged, a browser guesses the colours from the size of the picture, and each browser in its own way.
        self._video.color_range = ColorRange.MPEG
        self._video.colorspace = _BT709
        self._video.color_primaries = ColorPrimaries.BT709
        self._video.color_trc = ColorTrc.BT709
        if self._sound is not None and self._sound.has_more():
            audio = container.add_stream(encoding.sound, self._sound.rate, layout=self._sound.layout, bit_rate=160_000)
            self._audio = cast(AudioStream, audio)
        return container

    def _write_sound(self, container: OutputContainer) -> None:
        """Carry the sound on until the end of the last frame written."""
        if self._audio is None or self._sound is None:
            return
        for block in self._sound.until(self.num_frames / _fraction(self.fps)):
            container.mux(self._audio.encode(block))

    def _finish(self) -> None:
        if self._container is None:
            raise OutputError(f"{self.path.name} was not written: there is no frame to put into it.")
        with _output_errors(self.path):
            self._container.mux(self._video.encode(None))
            if self._audio is not None:
                self._container.mux(self._audio.encode(None))
            self._container.close()
            if self._finisher is not None:
                self._finisher(self._part)
            self._part.replace(self.path)


class _Sound:
    """The sound of a file from ``start`` seconds after its ``zero`` on, as blocks for an encoder."""

    def __init__(self, path: Path, zero: Fraction, start: Fraction, rate: int, layout: str) -> None:
        self.rate, self.layout = rate, layout
        self._blocks = self._read(path, zero, round(start * rate))
        self._next: np.ndarray | None = None
        self._given = 0  # samples

    @classmethod
    def of(cls, path: Path, start: Fraction, rate: int | None = None, layout: str | None = None) -> _Sound | None:
        """Time 0 is the first picture, or, in a sound file, the first sample. None for a clip without sound.

        ``rate`` (samples per second) and ``layout``: unless the file shall choose. Raises UnreadableMediaError.
        """
        with _container(path, "file", _SOUND_FORMATS, "a clip or a sound file") as container:
            pictured = _picture_stream(container) is not None
            sound = _sound_format(container)
            if not pictured and sound is None:
                raise UnreadableMediaError(f"{path.name} holds neither pictures nor sound that can be decoded.")
            zero = None if pictured else _first_sound(container)
        if zero is None:
            clip = _inspect(path)
            zero, sound = clip.zero, clip.sound
        return None if sound is None else cls(path, zero, start, rate or sound[0], layout or sound[1])

    def __iter__(self) -> Iterator[np.ndarray]:
        """All that was not given yet: float32 (channels, n) in [-1, 1]."""
        while self.has_more():
            assert self._next is not None
            block, self._next = self._next, None
            yield block

    def has_more(self) -> bool:
        if self._next is None:
            self._next = next(self._blocks, None)
        return self._next is not None

    def until(self, time: Fraction) -> Iterator[AudioFrame]:
        """The blocks up to ``time`` (seconds) that were not given yet; the last one is cut there."""
        end = round(time * self.rate)
        while self._given < end and self.has_more():
            assert self._next is not None
            now, later = np.split(self._next, [end - self._given], axis=1)
            block = AudioFrame.from_ndarray(np.ascontiguousarray(now), format="fltp", layout=self.layout)
            block.sample_rate, block.pts, block.time_base = self.rate, self._given, Fraction(1, self.rate)
            self._next = later if later.size else None
            self._given += now.shape[1]
            yield block

    def _read(self, path: Path, zero: Fraction, begin: int) -> Iterator[np.ndarray]:
        """float32 (channels, n) in [-1, 1] from sample ``begin`` on; silence fills what the file leaves out."""
        with _open_sound(path) as (container, stream):
            resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
            position: int | None = None  # in samples since the first picture
            for frame in _decode(container, stream):
                for block in resampler.resample(frame):
                    samples: np.ndarray = block.to_ndarray()
                    stamp = _stamp(block, zero)
                    due = (position or 0) if stamp is None else round(stamp * self.rate)
                    if position is None:
                        position = min(due, 0)
                    gap = due - position
                    if _SOUND_JITTER * self.rate < gap <= _LONGEST_STILL * self.rate:
                        samples = np.pad(samples, ((0, 0), (gap, 0)))
                    elif -self.rate <= gap < -_SOUND_JITTER * self.rate:
                        samples = samples[:, -gap:]
                    # Else the stamp is right, or it is broken: carry on.
                    position += samples.shape[1]
                    skipped = max(0, samples.shape[1] - max(0, position - begin))
                    if skipped < samples.shape[1]:
                        yield samples[:, skipped:]


def _first_sound(container: InputContainer) -> Fraction:
    """The time stamp in seconds of the first sound that decodes, else 0."""
    stream = _audio_stream(container)
    first = None if stream is None else next(_decode(container, stream), None)
    return (None if first is None else _stamp(first)) or Fraction(0)


def check_writable(path: str | Path, suffixes: Sequence[str] = (".mp4",)) -> None:
    """Find out before the work, not after it, that its result cannot be written. Leaves no trace.

    Raises OutputError if the suffix is none of ``suffixes``, the folder is missing or refuses files, or the disk is
    full.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"The output {path.name} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the path of a file.")
    with _output_errors(path), tempfile.TemporaryFile(dir=path.parent):
        pass


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, whole or not at all. Raises OutputError."""
    check_writable(path, (".png",))
    with replacing(Path(path)) as part:
        Image.fromarray(image).save(part)


def save_gif(frames: Iterable[np.ndarray], path: str | Path, fps: float) -> None:
    """Write frames, uint8 RGB (H, W, 3) of one size, as an endless GIF, whole or not at all, in constant memory.

    ``fps`` is at most 50, the fastest that browsers play. Raises OutputError.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"a GIF plays at up to 50 frames a second, got {fps}")
    path = Path(path)
    check_writable(path, (".gif",))
    _need_av()
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise OutputError(f"{path.name} was not written: there is no frame to put into it.")
    with replacing(path) as part:
        options = {"final_delay": str(round(100 / fps))}  # the others follow from the stamps, in 1/100 s
        with av.open(str(part.resolve()), "w", format="gif", options=options) as container:
            stream = container.add_stream("gif", 100)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "pal8"
            for number, image in enumerate(chain([first], frames)):
                _check_frame(image, first.shape)
                frame = _with_palette(image)
                frame.pts, frame.time_base = round(number * 100 / fps), Fraction(1, 100)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _check_frame(frame: np.ndarray, shape: tuple[int, ...], channels: tuple[int, ...] = (3,)) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in channels:
        shapes = " or ".join(f"(H, W, {count})" for count in channels)
        raise ValueError(f"expected uint8 {shapes}, got {frame.dtype} {frame.shape}")
    if frame.shape != shape:
        raise ValueError(f"all frames must have one size, got {frame.shape} after {shape}")


def _with_palette(image: np.ndarray) -> VideoFrame:
    """A frame in its own best 256 colours; one palette for all frames would have to see them all first."""
    indexed = Image.fromarray(image).quantize(256)
    argb = np.full((256, 4), 255, np.uint8)
    colours = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
    argb[: len(colours), 1:] = colours
    return VideoFrame.from_ndarray((np.array(indexed), argb), format="pal8")  # type: ignore[arg-type]


def _beside(path: Path) -> Path:
    """A hidden name in the same folder: on the same disk, so that taking the final name is one step."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` if the block ends well and vanishes if it does not.

    What the system says about writing is an OutputError.
    """
    part = _beside(path)
    try:
        with _output_errors(path):
            yield part
            part.replace(path)
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):  # nothing there, or an error under way that says more
        part.unlink()


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """What the system says about writing ``path``, as an OutputError with a sentence."""
    try:
        yield
    except _WRITING_ERRORS as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"The disk is full: {path} could not be written. Free some space and try again."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"The folder {path.parent} may not be written to. Choose another one."
        elif error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
            message = f"The folder {path.parent} does not exist. Create it first, or choose another one."
        else:
            message = f"{path} could not be written ({error.strerror})."
        raise OutputError(message) from error


# ---------------------------------------------------------------------------------------------------------- composing


def _at_height(frame: np.ndarray, height: int) -> np.ndarray:
    if frame.shape[0] == height:
        return frame
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def compose_side_by_side(
    driving: str | Path,
    result: Iterable[np.ndarray],
    path: str | Path,
    fps: float,
    *,
    start: float = 0.0,
    captions: tuple[str, str] = ("driving clip", "AI-generated"),
    on_frame: Callable[[int], None] | None = None,
    mark: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write an mp4 of the driving clip and the ``result`` beside it, with captions and the clip's sound.

    ``result`` are frames, uint8 RGB (H, W, 3), that belong to the clip from ``start`` seconds on; the clip takes their
    height, and its last picture stays where it is shorter. Frames pass one by one; the file is whole or not there at
    all, as VideoWriter's are. ``on_frame(count)`` is called after each. The composed frames go through ``mark``, the
    file through ``finish`` (see VideoWriter). Raises OutputError and UnreadableMediaError.
    """
    from moviepy import CompositeVideoClip, TextClip, VideoClip, clips_array

    shown, pairs = _peek(_pairs(read_frames(driving, start=start, fps=fps), result))

    def clip(side: int) -> VideoClip:
        # moviepy lays out one moment, time and again; which frames it shows is decided here.
        moving = VideoClip(lambda _time: shown[side], duration=1)
        height = moving.size[1]
        text = TextClip(
            text=captions[side], font_size=max(8, height // 18), color="white", stroke_color="black", stroke_width=1,
            margin=(2, 2), duration=moving.duration,
        ).with_position(("center", "bottom"))  # fmt: skip
        return CompositeVideoClip([moving, text], use_bgclip=True)

    def composed() -> Iterator[np.ndarray]:
        nonlocal shown
        for shown in pairs:  # noqa: B007  (the clips show it)
            yield layout.get_frame(0)

    layout = clips_array([[clip(0), clip(1)]], bg_color=(0, 0, 0))
    # Reading and writing stay here, where no frame is lost and sound keeps its place.
    with (
        contextlib.closing(layout),
        VideoWriter(path, fps, audio_from=driving, audio_start=start, metadata=AI_GENERATED, finish=finish) as writer,
    ):
        for k, frame in enumerate(composed() if mark is None else mark(composed())):
            writer.write(frame)
            if on_frame is not None:
                on_frame(k + 1)


def _peek(frames: Iterable[T]) -> tuple[T, Iterator[T]]:
    """The first frame, and all of them."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("there is no frame to compose")
    return first, chain([first], frames)


def _pairs(of: Iterator[np.ndarray], result: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As many pairs as ``result`` has frames, the others at its height; the last of those stays."""
    frame = np.empty(0)
    for painted in result:
        if (coming := next(of, None)) is not None:
            frame = _at_height(coming, painted.shape[0])
        yield frame, painted


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] | None = None, size: int = 192
) -> np.ndarray:
    """Images of any sizes, uint8 RGB (H, W, 3), as a grid on white, uint8 RGB; ``labels`` head the columns.

    Every image is fitted into ``size`` x ``size`` pixels; rows may differ in length.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != columns:
        raise ValueError(f"expected {columns} labels, one for each column, got {len(labels)}")
    gap, font = max(2, size // 48), ImageFont.load_default(max(8, size // 12))
    cell, top = size + gap, gap if labels is None else gap + round(1.5 * max(8, size // 12))
    sheet = Image.new("RGB", (gap + columns * cell, top + len(rows) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels or ()):
        draw.text((gap + column * cell + size / 2, top / 2), label, fill="black", font=font, anchor="mm")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            fitted = ImageOps.contain(Image.fromarray(image), (size, size))
            margin_x, margin_y = (size - fitted.width) // 2, (size - fitted.height) // 2
            sheet.paste(fitted, (gap + x * cell + margin_x, top + y * cell + margin_y))
    return np.array(sheet)
