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
    from types import ModuleType

    from .avatar import Avatar
    from .head.motion import Motion
    from .head.presets import FaceControls, load_preset
    from .head.retarget import MotionOptions
    from .pipeline import TalkingHeadPipeline
    from .result import TalkingHeadVideo

__version__ = "0.1.0"
__all__ = [
    "Avatar",
    "FaceControls",
    "Motion",
    "MotionOptions",
    "TalkingHeadPipeline",
    "TalkingHeadVideo",
    "__version__",
    "fine_tune",
    "load_preset",
]

_HOMES = {
    "Avatar": ".avatar",
    "FaceControls": ".head.presets",
    "Motion": ".head.motion",
    "MotionOptions": ".head.retarget",
    "TalkingHeadPipeline": ".pipeline",
    "TalkingHeadVideo": ".result",
    "load_preset": ".head.presets",
}


def __getattr__(name: str) -> Any:
    # Torch and diffusers take seconds to import: only when they are needed (PEP 562).
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name == "fine_tune":
        return _training_tools("finetune").fine_tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _training_tools(name: str) -> ModuleType:
    """A module of the training package, by name: the library must not depend on it, it is there or it is not."""
    try:
        return import_module(f"train.{name}")
    except ImportError as error:
        from .errors import MissingDependencyError

        raise MissingDependencyError(
            f"Training cannot be loaded ({error}). Install it: pip install talking-heads[train]."
        ) from None
