"""Photos for a first try: one of the public domain that scikit-image brings, one of a person who does not exist."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from talking_heads.examples import EXAMPLE
from talking_heads.media.reading import read_frames


class Examples:
    """Written once for a process, in a folder that goes with it: the page's cache is emptied every hour."""

    names = ("Try it: an astronaut", "Try it: nobody real")

    def __init__(self) -> None:
        from skimage.data import astronaut

        self._folder = tempfile.TemporaryDirectory(prefix="talking-heads-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.photos = (self.folder / "astronaut.png", self.folder / "rendered.png")
        """Eileen Collins (NASA), and a face that this project's own renderer made."""
        for path, picture in zip(self.photos, (astronaut(), next(read_frames(EXAMPLE))), strict=True):
            Image.fromarray(picture).save(path)
