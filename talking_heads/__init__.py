"""Few-shot talking heads: photos of a person and a driving clip in, a video of that person moving like the clip out.

from talking_heads import Avatar, TalkingHeadPipeline

pipe = TalkingHeadPipeline.from_pretrained()
avatar = pipe.create_avatar(["ada1.jpg", "ada2.jpg"])
pipe(avatar, "driving.mp4").save("ada.mp4")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .avatar import Avatar
    from .pipeline import TalkingHeadPipeline, TalkingHeadVideo

__version__ = "0.1.0"
__all__ = ["Avatar", "TalkingHeadPipeline", "TalkingHeadVideo", "__version__"]

_HOMES = {"Avatar": ".avatar", "TalkingHeadPipeline": ".pipeline", "TalkingHeadVideo": ".pipeline"}


def __getattr__(name: str) -> Any:
    # Torch and diffusers take seconds to import: only when they are needed (PEP 562).
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
