"""Pictures made of pictures: the driving clip beside the result, and contact sheets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .reading import read_frames
from .writing import AI_GENERATED, VideoWriter

T = TypeVar("T")

CAPTIONS = ("driving clip", "AI-generated")


def _at_height(frame: np.ndarray, height: int) -> np.ndarray:
    if frame.shape[0] == height:
        return frame
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def compose_side_by_side(
    driving: str | Path,
    result: Iterable[np.ndarray],
    path: str | Path,
    fps: float,
    *,
    start: float = 0.0,
    on_frame: Callable[[int], None] | None = None,
    mark: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write an mp4 of the driving clip and the ``result`` beside it, with captions and the clip's sound.

    ``result`` are frames, uint8 RGB (H, W, 3), that belong to the clip from ``start`` seconds on; the clip takes their
    height, and its last picture stays where it is shorter. Frames pass one by one; the file is whole or not there at
    all, as VideoWriter's are. ``on_frame(count)`` is called after each. The composed frames go through ``mark``, the
    file through ``finish`` (see VideoWriter). Raises OutputError and UnreadableMediaError.
    """
    from moviepy import CompositeVideoClip, TextClip, VideoClip, clips_array

    shown, pairs = _peek(_pairs(read_frames(driving, start=start, fps=fps), result))

    def clip(side: int) -> VideoClip:
        # moviepy lays out one moment, time and again; which frames it shows is decided here.
        moving = VideoClip(lambda _time: shown[side], duration=1)
        height = moving.size[1]
        text = TextClip(
            text=CAPTIONS[side], font_size=max(8, height // 18), color="white", stroke_color="black", stroke_width=1,
            margin=(2, 2), duration=moving.duration,
        ).with_position(("center", "bottom"))  # fmt: skip
        return CompositeVideoClip([moving, text], use_bgclip=True)

    def composed() -> Iterator[np.ndarray]:
        nonlocal shown
        for shown in pairs:  # noqa: B007  (the clips show it)
            yield layout.get_frame(0)

    layout = clips_array([[clip(0), clip(1)]], bg_color=(0, 0, 0))
    # Reading and writing stay here, where no frame is lost and sound keeps its place.
    with (
        contextlib.closing(layout),
        VideoWriter(path, fps, audio_from=driving, audio_start=start, metadata=AI_GENERATED, finish=finish) as writer,
    ):
        for k, frame in enumerate(composed() if mark is None else mark(composed())):
            writer.write(frame)
            if on_frame is not None:
                on_frame(k + 1)


def _peek(frames: Iterable[T]) -> tuple[T, Iterator[T]]:
    """The first frame, and all of them."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("there is no frame to compose")
    return first, chain([first], frames)


def _pairs(of: Iterator[np.ndarray], result: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As many pairs as ``result`` has frames, the others at its height; the last of those stays."""
    frame = np.empty(0)
    for painted in result:
        if (coming := next(of, None)) is not None:
            frame = _at_height(coming, painted.shape[0])
        yield frame, painted


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] | None = None, size: int = 192
) -> np.ndarray:
    """Images of any sizes, uint8 RGB (H, W, 3), as a grid on white, uint8 RGB; ``labels`` head the columns.

    Every image is fitted into ``size`` x ``size`` pixels; rows may differ in length.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != columns:
        raise ValueError(f"expected {columns} labels, one for each column, got {len(labels)}")
    gap, font = max(2, size // 48), ImageFont.load_default(max(8, size // 12))
    cell, top = size + gap, gap if labels is None else gap + round(1.5 * max(8, size // 12))
    sheet = Image.new("RGB", (gap + columns * cell, top + len(rows) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels or ()):
        draw.text((gap + column * cell + size / 2, top / 2), label, fill="black", font=font, anchor="mm")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            fitted = ImageOps.contain(Image.fromarray(image), (size, size))
            margin_x, margin_y = (size - fitted.width) // 2, (size - fitted.height) // 2
            sheet.paste(fitted, (gap + x * cell + margin_x, top + y * cell + margin_y))
    return np.array(sheet)
