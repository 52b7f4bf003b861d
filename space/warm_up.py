"""Compiles the renderer into numba's cache: ``python -m space.warm_up PHOTO``, in a process of its own."""

from __future__ import annotations

import sys

from talking_heads.avatar import Shots, make_head
from talking_heads.head.render import Renderer
from talking_heads.media.images import read_photo
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import load_detector
from talking_heads.tracking.finding import only_face


def draw_once(photo: str) -> None:
    """A head of the photo, and one frame of it: every compiled function is called."""
    image = read_photo(photo)
    head = make_head(Shots.of([Portrait.of(image, only_face(image, load_detector()))]))
    Renderer(head, 256).draw(head.primary_view.fit.frame)


if __name__ == "__main__":
    draw_once(sys.argv[1])
