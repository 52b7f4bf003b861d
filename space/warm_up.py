"""Compiles the renderer before the first visitor comes, who would wait for it otherwise.

Where the GPU is lent, another process compiles into numba's cache, ``python -m space.warm_up PHOTO``: see ``Painter``.
Else a few frames are painted, which also tells how long that takes here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots, make_head
from talking_heads.examples import EXAMPLE
from talking_heads.head.presets import FaceControls
from talking_heads.head.render import Renderer
from talking_heads.media.images import read_photo
from talking_heads.media.marks import marked
from talking_heads.pipeline import Size
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import load_detector
from talking_heads.tracking.finding import only_face

from .work import RateEstimate


def rehearse(pipe: TalkingHeadPipeline, rates: RateEstimate, photo: Path, size: Size) -> None:
    """Goes through everything once; ``rates`` learns from it."""
    avatar = pipe.create_avatar([photo])
    pipe.edit(avatar, FaceControls(), size=size)
    began = time.monotonic()
    motion = pipe.track(EXAMPLE, end=0.4)
    rates.learn("tracking", (time.monotonic() - began) / len(motion))
    for _ in range(2):  # the first round is slower
        began = time.monotonic()
        frames = len(list(marked(pipe(avatar, motion, size=size), label=True)))
        seconds = (time.monotonic() - began) / frames
    rates.learn("painting", seconds)


def compile_elsewhere(photo: Path) -> None:
    """Runs ``draw_once`` in a process of its own."""
    command = [sys.executable, "-m", "space.warm_up", str(photo)]
    subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, check=True)


def draw_once(photo: str) -> None:
    """A head of the photo, and one frame of it: every compiled function is called."""
    image = read_photo(photo)
    head = make_head(Shots.of([Portrait.of(image, only_face(image, load_detector()))]))
    Renderer(head, 256).draw(head.primary_view.fit.frame)


if __name__ == "__main__":
    draw_once(sys.argv[1])
