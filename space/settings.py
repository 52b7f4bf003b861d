"""Limits for visitors. Every limit can be set by an environment variable; on a Space they start lower."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from talking_heads.errors import TalkingHeadsError


class LimitError(TalkingHeadsError):
    """More is asked for than is allowed here; the sentence names the limit."""


@dataclass(frozen=True)
class Limits:
    """``TALKING_HEADS_MAX_SECONDS=30`` sets ``seconds``, and so on."""

    seconds: int = 60
    """Length of a driving clip after trimming."""
    photos: int = 32
    megapixels: int = 50
    """Size of a photo."""
    megabytes: int = 200
    """Size of a file."""
    steps: int = 400
    """Steps of fine-tuning."""
    live: int = 600
    """Seconds of painting after which it is another visitor's turn before the camera."""
    waiting: int = 20
    """Visitors in the queue; the next one is told to come back later."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """Those of a Space where ``SPACE_ID`` is set. Raises ValueError for what is no positive whole number."""
        limits = cls()
        if "SPACE_ID" in environment:  # strangers, on a machine that many of them share
            limits = replace(limits, seconds=20, photos=16, megapixels=30, megabytes=50, steps=100, live=60)
        for field in fields(cls):
            name = f"TALKING_HEADS_MAX_{field.name.upper()}"
            if name in environment:
                value = environment[name]
                if not value.isdecimal() or int(value) < 1:
                    raise ValueError(f"{name} must be a positive whole number, not {value!r}")
                limits = replace(limits, **{field.name: int(value)})
        return limits
