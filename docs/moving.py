"""Makes the README's moving picture: a photo of the public domain, moved by a clip and by a preset."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from talking_heads import TalkingHeadPipeline, load_preset
from talking_heads.examples import EXAMPLE
from talking_heads.media.reading import read_frames

SIDE = 240
SECONDS, FPS = 5, 12.5


def tile(frame: np.ndarray) -> np.ndarray:
    """The middle of a frame as a square of SIDE pixels."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(frame[top : top + side, left : left + side])
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def main() -> None:
    pipe = TalkingHeadPipeline.from_pretrained()
    avatar = pipe.create_avatar([astronaut()])
    step, count = round(25 / FPS), round(SECONDS * FPS)
    photo = tile(avatar.shots.crops(512)[0])
    columns = [
        [photo] * count,
        [tile(frame) for frame in islice(read_frames(EXAMPLE), 0, step * count, step)],
        [tile(frame) for frame in islice(pipe(avatar, EXAMPLE, end=SECONDS), 0, step * count, step)],
        [tile(frame) for frame in islice(pipe(avatar, load_preset("laugh").looped(SECONDS)), 0, step * count, step)],
    ]
    pictures = [Image.fromarray(np.hstack(row)) for row in zip(*columns, strict=True)]
    path = Path(__file__).with_name("moving.webp")
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=round(1000 / FPS), loop=0, quality=70, method=4
    )
    print(f"{path} {path.stat().st_size / 1e6:.2f} MB")  # noqa: T201


if __name__ == "__main__":
    main()
