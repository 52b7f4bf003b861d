"""Makes the row of results at the top of the page, ``space/results/``: ``python -m docs.results``.

A photo of the public domain and a face that this project's own renderer made, moved by presets, the bundled clip and
its voice.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from talking_heads import Motion, TalkingHeadPipeline, load_preset
from talking_heads.examples import EXAMPLE
from talking_heads.media.marks import marked
from talking_heads.media.reading import read_frames
from talking_heads.media.writing import AI_GENERATED

FOLDER = Path(__file__).parents[1] / "space" / "results"
SIDE, FPS, SECONDS = 224, 12.5, 3.0
FILM_FPS = 25


def write(name: str, frames: Iterable[np.ndarray], inset: Iterable[np.ndarray] | None = None) -> None:
    """A moving WebP of square frames at FILM_FPS; in a corner what drives them, if that has a picture."""
    step, count = round(FILM_FPS / FPS), round(SECONDS * FILM_FPS)
    pictures = [Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                for frame in islice(marked(frames, label=False), 0, count, step)]  # fmt: skip
    if inset is not None:
        small = SIDE // 3
        for picture, frame in zip(pictures, islice(inset, 0, count, step), strict=True):
            height, width = frame.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            square = Image.fromarray(frame[top : top + side, left : left + side])
            picture.paste(square.resize((small, small), Image.Resampling.LANCZOS), (SIDE - small, SIDE - small))
    path = FOLDER / f"{name}.webp"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=round(1000 / FPS), loop=0, quality=68, method=6,
        exif=described(),
    )  # fmt: skip
    print(f"{path} {path.stat().st_size / 1e3:.0f} kB")  # noqa: T201


def described() -> Image.Exif:
    """Metadata of the files."""
    exif = Image.Exif()
    exif[0x010E] = AI_GENERATED["comment"]  # ImageDescription
    return exif


def main() -> None:
    """Writes all of them."""
    FOLDER.mkdir(exist_ok=True)
    pipe = TalkingHeadPipeline.from_pretrained()
    nobody = next(read_frames(EXAMPLE))
    eileen, rendered = pipe.create_avatar([astronaut()]), pipe.create_avatar([nobody])
    write("laugh", pipe(eileen, load_preset("laugh")))
    write("clip", pipe(eileen, EXAMPLE, end=SECONDS + 0.2), inset=read_frames(EXAMPLE, fps=FILM_FPS))
    voice = Motion.from_voice(EXAMPLE, fps=FILM_FPS, seed=1)
    write("voice", pipe(rendered, voice, sound=EXAMPLE))
    write("nod", pipe(rendered, load_preset("nod").looped(SECONDS + 0.2)))
    write("group", group(pipe, nobody))


def group(pipe: TalkingHeadPipeline, nobody: np.ndarray) -> Iterable[np.ndarray]:
    """Two people of one photo, each with a preset of their own."""
    height, width = nobody.shape[:2]
    side = min(height, width)
    square = nobody[(height - side) // 2 :, (width - side) // 2 :][:side, :side]
    scaled = np.asarray(Image.fromarray(square).resize((360, 360), Image.Resampling.LANCZOS))
    closer = np.asarray(Image.fromarray(astronaut()[:270, 155:290]).resize((180, 360), Image.Resampling.LANCZOS))
    people = pipe.people(np.hstack([closer, scaled[:, 90:270]]))
    length = SECONDS + 0.2
    return iter(pipe.animate_group(people, [load_preset("laugh").looped(length), load_preset("shake").looped(length)]))


if __name__ == "__main__":
    main()
