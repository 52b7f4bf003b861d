"""The result of a pipeline call: a video whose frames are painted when they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from .files import check_writable
from .media.composing import compose_side_by_side
from .media.marks import marked
from .media.signing import check_credentials, sign
from .media.streams import ahead
from .media.writing import AI_GENERATED, VIDEO_SUFFIXES, VideoWriter

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with (stage, how many are done, how many there are if that is known); what it raises cancels the work."""

FrameGenerator = Generator[np.ndarray, None, None]


@dataclass(frozen=True)
class TalkingHeadVideo:
    """The result of a pipeline call. Frames are painted when they are asked for, a few at a time, and never kept."""

    frames: Callable[[], FrameGenerator] = field(repr=False)
    """Starts painting from the first frame: uint8 RGB (H, W, 3) each."""
    num_frames: int
    """For a clip that is tracked while it is painted: what its file states, which may be off by one, or a guess."""
    fps: float
    driving: Path | None = None
    """The clip that drives the video. Its sound is the video's, unless there is another ``sound``."""
    start: float = 0.0
    """Seconds of the clip that were skipped."""
    warnings: Sequence[str] = ()
    """Sentences on what the viewer may notice, e.g. a held pose; complete when the last frame is painted."""
    sound: Path | None = None
    """A sound file, or a clip, whose sound is the video's, from its beginning on."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def __len__(self) -> int:
        return self.num_frames

    def save(self, path: str | Path, on_progress: ProgressCallback | None = None, *, label: bool = False) -> Path:
        """Makes the frames and writes them with the driver's or the voice's sound in sync; whole or not at all.

        An mp4 (H.264), or, for transparent frames, a webm (VP9) or mov (ProRes 4444).

        It is marked as generated in its metadata, invisibly in its frames, and by a signed C2PA manifest; ``label``
        also writes "AI-generated" into a corner (see ``provenance``). Raises OutputError. ``on_progress`` hears of the
        stage "painting".
        """
        path = Path(path)
        check_writable(path, VIDEO_SUFFIXES)
        check_credentials()
        finish = partial(sign, title=path.name)
        source, start = (self.driving, self.start) if self.sound is None else (self.sound, 0.0)
        with (
            VideoWriter(
                path, self.fps, audio_from=source, audio_start=start, metadata=AI_GENERATED, finish=finish
            ) as writer,
            contextlib.closing(ahead(self.frames())) as frames,
        ):
            for i, frame in enumerate(marked(frames, label=label)):
                writer.write(frame)
                if on_progress is not None:
                    on_progress("painting", i + 1, max(i + 1, self.num_frames))
        return path

    def save_side_by_side(
        self, path: str | Path, on_progress: ProgressCallback | None = None, *, label: bool = False
    ) -> Path:
        """As ``save``, with the driving clip beside it; the label is on the result alone.

        Raises OutputError, and ValueError for a video that no clip drives.
        """
        if self.driving is None:
            raise ValueError("no clip drives this video: there is nothing to show beside it")
        path = Path(path)
        check_writable(path)
        check_credentials()

        def count(done: int) -> None:
            if on_progress is not None:
                on_progress("painting", done, max(done, self.num_frames))

        with contextlib.closing(self.frames()) as frames:
            compose_side_by_side(
                self.driving, marked(frames, label=label, invisible=False), path, self.fps,
                start=self.start,
                on_frame=count,
                mark=partial(marked, label=False),
                finish=partial(sign, title=path.name),
            )  # fmt: skip
        return path
