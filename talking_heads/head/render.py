"""A head and where it should be -> a picture, and the planes that a generator needs to mend it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from .fit import FrameFit, turn_eyes
from .kernels import compose, rasterise, stretch
from .model import NECK_JOINT, smoothstep
from .person import MARGIN, REACH, Head, PhotoView, pixels, resized

BANDS = 2
"""A frame is drawn in so many bands of rows at once."""


@dataclass(frozen=True)
class Rendered:
    """A drawn frame."""

    picture: np.ndarray
    """float32 (S, S, 3) in 0..255."""
    planes: np.ndarray
    """float32 (S, S, 4): where the photo vouches for the picture (0..1); the layer: head 1, hair 0, wall -1; where
    nothing has moved and the picture is the photo (0..1); the person's opacity (0..1)."""
    landmarks: np.ndarray
    """float32 (L, 2) in pixels of the picture: those of the posed model."""
    photo: np.ndarray
    """float32 (S, S, 3) in 0..255: the photo that it was drawn from, unmoved."""

    def generator_planes(self, size: int) -> np.ndarray:
        """What a generator at ``size`` pixels sees, float32 (RENDER_CHANNELS, size, size): rendered picture and photo
        in [-1, 1], trust in 0..1, layer in [-1, 1], stillness in 0..1.

        ``size`` divides the picture's side.
        """
        colours = np.concatenate([self.picture, self.photo], axis=2) * np.float32(1 / 127.5) - np.float32(1)
        planes = np.concatenate([colours, self.planes[..., :3]], axis=2)
        factor = len(planes) // size
        if factor > 1:
            planes = planes.reshape(size, factor, size, factor, -1).mean(axis=(1, 3))
        return np.ascontiguousarray(planes.transpose(2, 0, 1))

    def landmarks_at(self, size: int) -> np.ndarray:
        """``landmarks`` in pixels of the picture at another size."""
        factor = size / len(self.picture)
        return ((self.landmarks + 0.5) * factor - 0.5).astype(np.float32)


class Renderer:
    """Draws one head at one size; not to be used by two threads at once."""

    def __init__(self, head: Head, size: int) -> None:
        """``size``: pixels of the frame's side."""
        self.head, self.size = head, size
        side = round(REACH * size)
        self._textures = np.stack([_texture(view.texture, side) for view in head.views])
        self._walls = [resized(view.wall, size).astype(np.float32) for view in head.views]
        self._photos = [resized(view.photo, size).astype(np.float32) for view in head.views]
        self._texture_at = [(view.texture_at + MARGIN) * np.float32(size) for view in head.views]
        self._sheet_at = [(view.sheet_at + MARGIN) * np.float32(size) for view in head.views]
        shape = (size, size)
        self._nearest = [np.empty(shape, np.int32) for _ in range(2)]
        self._depth = [np.empty(shape, np.float32) for _ in range(2)]
        self._frame = np.empty((*shape, 3), np.float32)
        self._planes = np.empty((*shape, 4), np.float32)
        model = head.model
        self._blinks = [model.index("eyeBlinkLeft"), model.index("eyeBlinkRight")]

    def draw(self, frame: FrameFit, base: int = 0, detail: float = 1.0) -> Rendered:
        """The head as ``frame`` says, with the photo number ``base`` for hair and wall."""
        head, view = self.head, self.head.views[base]
        points, sheet = self._points(frame, view, detail)
        head_values = self._head_values(frame, base, points)
        sheet_values = self._sheet_values(base, sheet)
        slots = np.array([base], np.int64)
        origin = np.float32(MARGIN * self.size)
        triangles = head.model.triangles

        def band(top: int, bottom: int) -> None:
            rasterise(points, triangles, top, bottom, self._nearest[0], self._depth[0])
            rasterise(sheet, view.sheet_triangles, top, bottom, self._nearest[1], self._depth[1])
            compose(
                top, bottom, origin, self._walls[base], self._photos[base], self._textures,
                points, triangles, self._nearest[0], self._depth[0], head_values, slots,
                sheet, view.sheet_triangles, self._nearest[1], self._depth[1], sheet_values,
                self._frame, self._planes,
            )  # fmt: skip

        _in_bands(band, self.size)
        landmarks = points[head.model.landmark_vertices, :2] - np.float32(0.5)
        return Rendered(self._frame.copy(), self._planes.copy(), landmarks, self._photos[base])

    def _points(self, frame: FrameFit, view: PhotoView, detail: float) -> tuple[np.ndarray, np.ndarray]:
        """Head (V, 3) and sheet (P, 3) in pixels and depth."""
        head, model = self.head, self.head.model
        start = view.fit.frame
        change = frame.expression - start.expression
        moved = np.tensordot(change, model.expression, axes=1)
        if detail:
            moved += detail * (head.detail_spread @ frame.detail)
        rest = head.neutral + np.tensordot(start.expression, model.expression, axes=1) + view.offset
        shape = turn_eyes(model, rest + moved, frame.gaze)
        before, after = start.rotation.astype(np.float32), frame.rotation.astype(np.float32)
        place = NECK_JOINT + frame.translation.astype(np.float32)
        arms = shape - NECK_JOINT
        there = arms @ before.T
        points = there + head.fade * (arms @ after.T - there) + place
        drag = np.einsum("pk,pkc->pc", view.anchor_weights, (moved @ before.T)[view.anchors])
        arms = view.sheet - NECK_JOINT - start.translation.astype(np.float32) + drag
        sheet = arms + view.sheet_fade * (arms @ (after @ before.T).T - arms) + place
        camera = head.views[0].fit.camera
        return pixels(camera, points, self.size), pixels(camera, sheet, self.size)

    def _head_values(self, frame: FrameFit, base: int, points: np.ndarray) -> np.ndarray:
        """What ``kernels.compose`` interpolates over the head, float32 (V, 8)."""
        model, view = self.head.model, self.head.views[base]
        closing = (frame.expression - view.fit.frame.expression)[self._blinks]
        # A lid that comes down shows skin that was folded away in the photo.
        unfolded = (model.lids * smoothstep(0.05, 0.5, closing)).max(axis=1)
        trust = view.trust * (1 - unfolded)
        drawn_out = stretch(points, self._texture_at[base], model.triangles)
        trust[model.skin] *= smoothstep(5.0, 2.5, drawn_out[model.skin])
        # What a closing lid leaves of the eye is a dark line.
        shut = np.where(model.eyes, 1 - 0.75 * smoothstep(0.5, 1.0, closing.max()), 1.0)
        trust *= shut
        shown = view.shown * (1 - unfolded) * shut
        values = np.column_stack([view.fill * shut[:, None], model.lashes, shown, self._texture_at[base], trust])
        return np.ascontiguousarray(values, dtype=np.float32)

    def _sheet_values(self, base: int, sheet: np.ndarray) -> np.ndarray:
        at = self._sheet_at[base]
        torn = stretch(sheet, at, self.head.views[base].sheet_triangles)
        return np.column_stack([at, smoothstep(5.0, 2.5, torn)]).astype(np.float32)


def _texture(texture: np.ndarray, side: int) -> np.ndarray:
    """uint8 RGBA (C, C, 4) -> (side, side, 4); apart, because Pillow would blank colours under no opacity."""
    colours, opacity = np.ascontiguousarray(texture[..., :3]), np.ascontiguousarray(texture[..., 3])
    return np.dstack([resized(colours, side), resized(opacity, side)])


def _in_bands(work: Callable[[int, int], None], rows: int) -> None:
    """``work(top, bottom)`` for bands of rows, at once: compiled loops hold no lock."""
    edges = np.linspace(0, rows, BANDS + 1).astype(int)
    list(_threads().map(work, edges[:-1], edges[1:]))


@cache
def _threads() -> ThreadPoolExecutor:
    """Begun with the first frame: a process that forks before has none."""
    return ThreadPoolExecutor(BANDS, "render")
