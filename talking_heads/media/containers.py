"""Files of film and sound as FFmpeg opens and decodes them: PyAV, where it is installed, and what it is asked first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import MissingDependencyError, UnreadableMediaError

try:
    import av
    from av.video import reformatter
except ModuleNotFoundError as error:  # as on machines that only train; pictures are written without it
    if error.name is None or error.name.partition(".")[0] != "av":
        raise
    av = reformatter = cast(Any, None)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

# A stranger's file opens as one of these or not at all: FFmpeg also knows playlists (HLS, concat), and a playlist may
# name any other file of this machine.
FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,gif,flv,ogg,asf"
SOUND_FORMATS = f"{FORMATS},wav,w64,mp3,flac,aac,aiff,caf,amr,au"
LONGEST_STILL = 60  # s between two pictures; a longer jump is a broken time stamp


def need_av() -> None:
    """Raises MissingDependencyError where PyAV is not installed."""
    if av is None:
        raise MissingDependencyError("Clips need PyAV, which is not installed. Install it: pip install av.")


@contextlib.contextmanager
def open_container(path: Path, kind: str, formats: str, wanted: str) -> Iterator[InputContainer]:
    """A file opened for reading; ``kind`` and ``wanted`` are what the sentences of UnreadableMediaError call it."""
    need_av()
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


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The moving pictures of a file, where it has some."""
    # Songs carry their cover as a video stream.
    pictures = [
        stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    return pictures[0] if pictures and pictures[0].codec_context is not None else None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound that can be decoded."""
    decodable = (stream for stream in container.streams.audio if stream.codec_context is not None)
    return next(decodable, None)


def sound_format(container: InputContainer) -> tuple[int, str] | None:
    """Samples a second and layout in which the sound of a file can be encoded anew; None without sound."""
    stream = audio_stream(container)
    if stream is None:
        return None
    # Every player takes the two usual rates and at most two channels.
    rate = stream.rate if stream.rate == 44_100 else 48_000
    return rate, "mono" if stream.layout.nb_channels == 1 else "stereo"


def decode(container: InputContainer, stream: Stream) -> Iterator[Any]:
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


def stamp_of(frame: VideoFrame | AudioFrame, zero: Fraction = Fraction(0)) -> Fraction | None:
    """Seconds from ``zero`` to the time stamp of a frame, if it has one."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base - zero


def duration_of(container: InputContainer, stream: Stream) -> float | None:
    """Seconds that a stream, or else its file, states."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def fraction(fps: float) -> Fraction:
    """29.97002997... -> 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def seconds(time: float) -> Fraction:
    """0.2 -> 1/5, which as a float it is not quite; otherwise a picture too many or too few slips in at the ends."""
    return Fraction(time).limit_denominator(1_000_000)
