"""Progress and results of long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talking_heads import Avatar

Pictures = tuple[tuple[np.ndarray, str], ...]


@dataclass(frozen=True)
class Report:
    """Progress of a piece of work."""

    stage: str
    done: int = 0
    total: int | None = None
    left: float | None = None
    """Seconds until everything is done, if that is known."""
    picture: np.ndarray | None = None
    """The latest frame, uint8 RGB (H, W, 3) or RGBA (H, W, 4)."""
    pictures: Pictures = ()
    """What there is to compare, with captions."""


@dataclass(frozen=True)
class WorkResult:
    """The last of the reports: what has become of the work."""

    file: Path | None = None
    """A video, or a motion."""
    avatar: Avatar | None = None
    """One that was fine-tuned."""
    warnings: tuple[str, ...] = ()
    """Sentences on what the viewer may notice."""
    pictures: Pictures = ()
