"""Files of one request each: what a visitor sends is read, and what is made is written into a folder of its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from talking_heads import Avatar
from talking_heads.head.presets import FaceControls
from talking_heads.media.signing import save_picture
from talking_heads.media.verifying import Findings, verify

from .handlers import OWN, check_size_on_hub, own_folder
from .person import Person, check_pixels
from .requests import FrameOptions
from .service import Service
from .settings import LimitError


class VisitorFiles:
    """Moves files between the service and the page's cache."""

    def __init__(self, service: Service, cache: Path) -> None:
        self.service, self.cache = service, cache

    def read_avatar(self, file: str | None, name: str = "", token: str | None = None) -> Avatar:
        """From a file, or from the Hub with the visitor's token and no other. Raises TalkingHeadsError."""
        if file:
            self.service.check_file(file)
            avatar = Avatar.from_file(file)
        elif name.strip():
            # A folder of this machine is nobody's business.
            if name.count("/") != 1 or Path(name.strip()).exists():
                raise LimitError("Give the avatar's name on the Hub as owner/name.")
            check_size_on_hub(name.strip(), self.service.limits.megabytes, token or False)
            # Not the Hub's own cache, which keeps what it has seen.
            with TemporaryDirectory(prefix=OWN, dir=self.cache) as folder:
                avatar = Avatar.from_pretrained(name.strip(), cache_dir=folder, token=token or False)
        else:
            raise LimitError("Choose an avatar file, or give a name on the Hub.")
        return avatar

    def edited(self, person: Person, values: dict[str, Any], frames: FrameOptions) -> str:
        """The path of one picture. ``values`` are those of FaceControls. Raises LimitError for those out of range."""
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise LimitError(f"{missing[0]} must be a number.")
        try:
            controls = FaceControls(**values)
        except (ValueError, TypeError) as error:
            raise LimitError(f"{str(error).rstrip('.')}.") from None
        with own_folder(self.cache) as folder:
            path = folder / "talking-head.png"
            save_picture(self.service.edit(person, controls, frames), path, label=True)
            return str(path)

    def saved(self, avatar: Avatar) -> str:
        """The path of the avatar's file."""
        with own_folder(self.cache) as folder:
            return str(avatar.save_file(folder / "avatar.safetensors"))

    def found(self, file: str) -> Findings:
        """What marks a file carries. Raises TalkingHeadsError."""
        self.service.check_file(file)
        check_pixels(file, self.service.limits.megapixels)
        return verify(file)
