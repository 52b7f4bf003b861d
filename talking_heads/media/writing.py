"""Films written frame by frame with the driver's sound, and GIFs; whole or not at all.

Frames are uint8 RGB (H, W, 3); films with transparent parts are written from RGBA (H, W, 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from PIL import Image

from ..errors import OutputError
from ..files import beside, check_writable, output_errors, remove, replacing
from .containers import av, fraction, need_av, reformatter, seconds
from .sound import Sound, SoundTrack

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

WRITING_ERRORS: tuple[Any, ...] = (OSError,) if av is None else (OSError, av.FFmpegError)

AI_GENERATED: Mapping[str, str] = {"comment": "AI-generated: this video was made with talking_heads."}
"""Metadata for VideoWriter that says, where software looks for it, that nobody filmed this."""

VIDEO_SUFFIXES = (".mp4", ".webm", ".mov")
"""Films that VideoWriter writes."""

TRANSPARENT_SUFFIXES = (".webm", ".mov")
"""Suffixes of containers that can hold transparency."""

_BT709 = 1  # H.273's number of the YUV matrix; PyAV's Colorspace has swscale's numbers instead


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
        if not fraction(fps) > 0 or audio_start < 0:
            raise ValueError(f"fps must be positive and audio_start not negative, got {fps} and {audio_start}")
        self.path = Path(path)
        check_writable(self.path, VIDEO_SUFFIXES)
        need_av()
        self._encoding = _ENCODINGS[self.path.suffix.lower()]
        self.fps = fps
        self.num_frames = 0
        self._sound: Sound | None = None
        if audio_from is not None:
            self._sound = Sound.of(Path(audio_from), seconds(audio_start), self._encoding.sound_rate)
        self._crf = crf
        self._metadata = dict(metadata or {})
        self._finisher = finish
        self._part = beside(self.path)
        self._container: OutputContainer | None = None
        self._video: VideoStream
        self._sound_track: SoundTrack | None = None
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
            interpolation=reformatter.Interpolation.AREA | reformatter.Interpolation.ACCURATE_RND,
            dst_colorspace=reformatter.Colorspace.ITU709,
            dst_color_range=reformatter.ColorRange.MPEG,
        )
        picture.pts, picture.time_base = self.num_frames, 1 / fraction(self.fps)
        with output_errors(self.path, WRITING_ERRORS):
            if self._container is None:
                self._container = self._start(picture)
                self._shape = frame.shape
            self._container.mux(self._video.encode(picture))
            self.num_frames += 1
            if self._sound_track is not None:
                self._sound_track.carry_on(self.num_frames / fraction(self.fps))

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
            remove(self._part)

    def _start(self, picture: VideoFrame) -> OutputContainer:
        encoding = self._encoding
        container = av.open(
            str(self._part.resolve()), "w", format=encoding.container, options=dict(encoding.container_options)
        )
        container.metadata.update(self._metadata)
        options = encoding.options(self._crf)
        self._video = cast("VideoStream", container.add_stream(encoding.pictures, fraction(self.fps), options=options))
        self._video.width, self._video.height, self._video.pix_fmt = picture.width, picture.height, picture.format.name
        # Untagged, a browser guesses the colours from the size of the picture, and each browser in its own way.
        self._video.color_range = reformatter.ColorRange.MPEG
        self._video.colorspace = _BT709
        self._video.color_primaries = reformatter.ColorPrimaries.BT709
        self._video.color_trc = reformatter.ColorTrc.BT709
        if self._sound is not None and self._sound.has_more():
            self._sound_track = SoundTrack(container, self._sound, encoding.sound)
        return container

    def _finish(self) -> None:
        if self._container is None:
            raise OutputError(f"{self.path.name} was not written: there is no frame to put into it.")
        with output_errors(self.path, WRITING_ERRORS):
            self._container.mux(self._video.encode(None))
            if self._sound_track is not None:
                self._sound_track.finish()
            self._container.close()
            if self._finisher is not None:
                self._finisher(self._part)
            self._part.replace(self.path)


def save_gif(frames: Iterable[np.ndarray], path: str | Path, fps: float) -> None:
    """Write frames, uint8 RGB (H, W, 3) of one size, as an endless GIF, whole or not at all, in constant memory.

    ``fps`` is at most 50, the fastest that browsers play. Raises OutputError.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"a GIF plays at up to 50 frames a second, got {fps}")
    path = Path(path)
    check_writable(path, (".gif",))
    need_av()
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise OutputError(f"{path.name} was not written: there is no frame to put into it.")
    with replacing(path, WRITING_ERRORS) as part:
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
    return av.VideoFrame.from_ndarray((np.array(indexed), argb), format="pal8")  # type: ignore[arg-type]
