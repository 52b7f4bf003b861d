"""Learning: preparing clips, meta-learning, fine-tuning. ``talking_heads`` is its only import of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .finetune import fine_tune

__all__ = ["fine_tune"]


def __getattr__(name: str) -> Any:
    if name == "fine_tune":
        from .finetune import fine_tune

        return fine_tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
