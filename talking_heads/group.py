"""Several people of one photo in one video: who is moved by what, and their pictures put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from .avatar import Avatar
from .head.motion import Motion
from .pasting import paste_group
from .result import TalkingHeadVideo
from .tracking.crops import Portrait

Driver = str | Path | Motion | None
"""A clip, a motion, or nothing: who has none stays as in the photo."""


@dataclass(frozen=True)
class Member:
    """One person of the photo."""

    portrait: Portrait
    motion: Motion | None
    """Motion at the rate of the video; None: as in the photo."""
    speaks: bool
    """Whether the motion is that of a voice."""
    avatar: Avatar | None
    """The person's avatar, if there is one already."""


def members(
    people: Sequence[Portrait],
    drivers: Sequence[Driver],
    speaking: Sequence[bool],
    avatars: Sequence[Avatar | None],
    track: Callable[[str | Path], Motion],
) -> list[Member]:
    """The people with their motions at the first driver's rate; each clip is tracked once.

    ``speaking`` and ``avatars`` may be shorter than ``people``. Raises ValueError where the drivers do not fit, and
    what ``track`` raises.
    """
    if len(people) != len(drivers) or all(driver is None for driver in drivers):
        raise ValueError(f"give one driver or None for each of the {len(people)} people, and one driver at least")
    motions: dict[str | Path | Motion, Motion] = {}
    for driver in drivers:
        if driver is not None and driver not in motions:
            motions[driver] = driver if isinstance(driver, Motion) else track(driver)
    fps = next(iter(motions.values())).fps
    flags = [*speaking, *[False] * len(people)]
    made = [*avatars, *[None] * len(people)]
    return [
        Member(person, None if driver is None else motions[driver].resampled(fps), speaks, avatar)
        for person, driver, speaks, avatar in zip(people, drivers, flags, made, strict=False)
    ]


def group_video(
    group: Sequence[Member], videos: Sequence[TalkingHeadVideo], drivers: Sequence[Driver], sound: str | Path | None
) -> TalkingHeadVideo:
    """The ``videos`` of those who are moved, in their order, over the photo of all.

    Its sound is that of the file ``sound``, or of the first clip of ``drivers``.
    """
    moved = [member.portrait for member in group if member.motion is not None]
    bystanders = [member.portrait for member in group if member.motion is None]
    clips = [driver for driver in drivers if driver is not None and not isinstance(driver, Motion)]
    return TalkingHeadVideo(
        frames=partial(paste_group, videos, moved, bystanders),
        num_frames=max(len(video) for video in videos),
        fps=videos[0].fps,
        driving=Path(sound) if sound is not None else Path(clips[0]) if clips else None,
        warnings=list(dict.fromkeys(chain.from_iterable(video.warnings for video in videos))),
    )
