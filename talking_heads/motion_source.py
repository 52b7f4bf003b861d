"""The motion that an avatar follows: one that is known completely, or a clip while it is being tracked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .engines import WORTH_CONVERTING
from .head.fit import FrameFit
from .head.head import Head
from .head.motion import Motion
from .head.retarget import MotionOptions, frame_of, frames_of, lips_apart, most_neutral, retargeted
from .media.reading import ClipInfo, probe, read_frames
from .media.streams import ahead
from .tracking.detectors import LandmarkDetector
from .tracking.motion_fitting import motion_in_pieces
from .tracking.tracks import follow_face, held_gaps

FramePieces = Iterable[tuple[FrameFit, FrameFit]]
"""A driver's frames, each with the neutral one."""


@dataclass(frozen=True)
class MotionSource:
    """A driver's frames, and what is known of them before they are asked for."""

    frames: Callable[[], FramePieces]
    """Starts from the first frame."""
    num_frames: int
    """About how many; a guess where a file does not say."""
    fps: float
    closed_lips: bool
    """See ``MotionOptions.closed_lips``."""
    warnings: list[str]
    """Sentences on what the viewer may notice; complete when the last frame was given."""

    def targets(self, head: Head, options: MotionOptions) -> Iterator[FrameFit]:
        """The poses of a ``head`` to which the motion is carried over, from the first frame on."""
        return retargeted(head, self.frames(), replace(options, closed_lips=self.closed_lips))


def known_motion(motion: Motion, head: Head, neutral: Motion | None = None, *, spoken: bool = False) -> MotionSource:
    """A whole ``motion``, whose changes count from the frame of ``neutral``, or else from its own most neutral one.

    ``spoken``: it is that of a voice; without ``neutral``, lips that meet in it do so in a laughing ``head`` as well.
    """
    count = len(head.model.expression_names)
    rest = neutral
    if rest is None:
        rest = lips_apart(head) if spoken else motion
    neutral_frame = frame_of(rest, most_neutral(rest), count)
    # A neutral frame of zeros means that the motion holds changes only.
    filmed = neutral is None and not spoken and bool(neutral_frame.expression.any())
    return MotionSource(
        frames=lambda: ((frame, neutral_frame) for frame in frames_of(motion, count)),
        num_frames=len(motion),
        fps=motion.fps,
        closed_lips=filmed,
        warnings=[gap.sentence(motion.fps) for gap in held_gaps(motion.seen, motion.fps)],
    )


def clip_being_tracked(
    clip: str | Path, head: Head, detector: Callable[[], LandmarkDetector], start: float | None, end: float | None
) -> MotionSource:
    """A clip, or its seconds ``start`` to ``end``, that is tracked while its frames are asked for.

    Raises UnreadableMediaError; what concerns faces, start and end comes with the frames.
    """
    info, warnings = probe(clip), list[str]()

    def frames() -> FramePieces:
        warnings.clear()
        return _tracked(info, len(head.model.expression_names), detector(), (start, end), warnings)

    return MotionSource(frames, info.frames_between(start, end) or WORTH_CONVERTING, info.fps, True, warnings)


def _tracked(
    info: ClipInfo,
    count: int,
    detector: LandmarkDetector,
    part: tuple[float | None, float | None],
    warnings: list[str],
) -> FramePieces:
    """Decodes and follows the face in other threads; ``warnings`` are added to at the end."""
    seen, (start, end) = [], part
    with (
        contextlib.closing(ahead(read_frames(info.path, start=start, end=end, fps=info.fps))) as frames,
        contextlib.closing(ahead(follow_face(frames, detector, info.fps, name=info.path.name), 1)) as found,
    ):
        for motion, neutral in motion_in_pieces(found, info.fps):
            seen.append(motion.seen)
            yield from ((frame, neutral) for frame in frames_of(motion, count))
    warnings += [gap.sentence(info.fps) for gap in held_gaps(np.concatenate(seen), info.fps)]
