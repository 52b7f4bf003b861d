"""A head and where it should be -> a picture, and the planes that a generator needs to mend it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from ..landmarks import eye_openness
from ..media.background import Background
from .eyes import eye_rotation
from .filters import resized, sharpened
from .fit import FrameFit, posed
from .head import SAME_BACKGROUND, Head, of_one_room
from .kernels import INSIDE, TEETH, compose, mend_teeth_and_edges, rasterise, reduce_planes, soften_outline, stretch
from .lids import Lids
from .model import EYES, NECK_JOINT, smoothstep
from .motion import gone_along
from .photo import MARGIN, REACH, PhotoView
from .pose_kernels import pose_hair_layer, pose_head

LEAST_OPENNESS = 0.12
"""Height over width of an eye that counts as open in a photo: a shut one cannot close further."""
BLINK_SHUTS = (0.85, 1.0)
"""Strengths of a blink from which on, and at which an eye is shut, however large it is in the photo."""
KEPT = np.float32(1.0)
"""Stillness of the inside of the mouth and of shut lids. Small, blurred mouths and lids of films taught the bundled
network to paint them grey: what is drawn looks more like them. In training it is 0."""
RIM_FADE = (0.02, 0.05)
"""Displacements, in sides of the frame: below the first the background around the outline moves along, with the loose
hair that no mask finds; above the last it stays; between them it fades."""
TOOTH_GAP = 0.15
"""cm between two teeth that belong together: the model's stand apart, and what is seen there is the throat."""
GREY = 128
"""Level behind a person whose background is transparent, before it is taken out again."""
SHARPENING = 0.3
"""Of textures: what looking them up between pixels takes from the finest detail, on average."""
FACE_DRAWN_OUT, HAIR_DRAWN_OUT, SKIN_IN_HAIR_DRAWN_OUT = (3.6, 1.9), (5.0, 2.5), (2.6, 1.4)
"""How far what a photo shows may be drawn out: it is not used from the first on, and in full up to the last. For the
face, for the hair layer, and for the skin that the hair layer shows."""
BANDS = 2
"""A frame is drawn in so many bands of rows at once."""


@dataclass(frozen=True)
class Rendered:
    """A drawn frame."""

    picture: np.ndarray
    """float32 (S, S, 3) in 0..255."""
    planes: np.ndarray
    """float32 (S, S, 4): where the photo vouches for the picture (0..1); the layer: head 1, hair 0, background -1;
    stillness: where nothing is to be corrected, because nothing has moved and the picture is the photo, or little,
    because it is the inside of the mouth or a shut lid (0..1); the person's opacity (0..1)."""
    landmarks: np.ndarray
    """float32 (L, 2) in pixels of the picture: those of the posed model."""
    photo: np.ndarray
    """float32 (S, S, 3) in 0..255: the photo that it was drawn from, unmoved."""

    def generator_planes(self, size: int) -> np.ndarray:
        """What a generator at ``size`` pixels sees, float32 (RENDER_CHANNELS, size, size): rendered picture and photo
        in [-1, 1], trust in 0..1, layer in [-1, 1], stillness in 0..1, also of the background where it is seen.

        ``size`` divides the picture's side.
        """
        out = np.empty((9, size, size), np.float32)
        factor = len(self.picture) // size
        _in_bands(lambda a, b: reduce_planes(self.picture, self.photo, self.planes, factor, a, b, out), size)
        return out

    def mixed(self, other: Rendered, share: np.float32) -> Rendered:
        """This frame, faded to another by ``share`` in 0..1."""
        return Rendered(
            self.picture + share * (other.picture - self.picture),
            self.planes + share * (other.planes - self.planes),
            self.landmarks + share * (other.landmarks - self.landmarks),
            self.photo + share * (other.photo - self.photo),
        )

    def landmarks_at(self, size: int) -> np.ndarray:
        """``landmarks`` in pixels of the picture at another size."""
        factor = size / len(self.picture)
        return ((self.landmarks + 0.5) * factor - 0.5).astype(np.float32)


@dataclass(frozen=True)
class PhotoChoice:
    """Which of a person's photos a frame is drawn from."""

    bases: tuple[tuple[int, float], ...]
    """One or two photos for hair, background and most of the face, and their shares, which sum to one."""


class PhotoChooser:
    """Chooses photos frame by frame, without popping: the nearest in pose and expression; another one must be clearly
    nearer to take over, and then fades in."""

    FADE = 8
    """Frames that a change takes."""
    NEARER = 0.75
    """Share of the distance at which another photo takes over."""

    def __init__(self, head: Head) -> None:
        self._keys = np.stack([_key(head, view.fit.frame) for view in head.views])
        self._head = head
        self._shares = np.zeros(len(head.views))
        self._best = -1

    def choose(self, frame: FrameFit) -> PhotoChoice:
        """The choice for the next frame of a clip."""
        if len(self._keys) == 1:
            return PhotoChoice(((0, 1.0),))
        distances = np.linalg.norm(self._keys - _key(self._head, frame), axis=1)
        nearest = int(np.argmin(distances))
        if self._best < 0:
            self._best, self._shares[nearest] = nearest, 1.0
        elif distances[nearest] < self.NEARER * distances[self._best] and self._shares[self._best] > 0.999:
            self._best = nearest
        wanted = np.zeros(len(self._keys))
        wanted[self._best] = 1.0
        self._shares += np.clip(wanted - self._shares, -1 / self.FADE, 1 / self.FADE)
        used = np.argsort(-self._shares)[:2]
        total = self._shares[used].sum()
        return PhotoChoice(tuple((int(k), float(self._shares[k] / total)) for k in used if self._shares[k] > 1e-3))


def _key(head: Head, frame: FrameFit) -> np.ndarray:
    """The 68 points of the posed face in sides of the crop, (136,): their distance says how far a texture must go."""
    model = head.model
    spots = model.landmark_vertices[:68]
    face = head.neutral[spots] + np.tensordot(frame.expression, model.expression_basis[:, spots], axes=1)
    return head.primary_view.fit.camera.project(posed(face, frame))[:, :2].ravel()


LIPS_MOVED = (0.03, 0.12)
"""cm by which the inner lips' distance changes: before the first it is the photo's, beyond the last another."""
NARROW_GAP = (0.25, 0.5)
"""cm between lips: within the first the gap hides what is behind it however the head turns, from the last on not."""


class _Seen(NamedTuple):
    """Which vertices of a photo can be used for a frame."""

    trust: np.ndarray
    """(V,): how far it vouches for each vertex."""
    unfolded: np.ndarray
    """(V,): what of the lids it does not show, because they were open."""
    eye_light: np.ndarray
    """(V,) 0..1: the light that is left on the eyes as their lids close; 1 elsewhere."""
    opening: np.ndarray
    """(2,): of the eyes, over that in the photo."""
    lips_alike: float
    """1 where the inner lips are as far apart as in the photo."""


class Renderer:
    """Draws one head at one size; not to be used by two threads at once."""

    HELPERS = 2
    """Photos beside the base that may show what the base does not."""

    def __init__(
        self, head: Head, size: int, background: Background | None = None, kept: float | np.floating = KEPT
    ) -> None:
        """``size``: pixels of the frame's side. ``background``: what is behind the person instead of the photo's.
        ``kept``: 0..1, see KEPT."""
        self.head, self.size, self._keeps = head, size, np.float32(kept)
        side = round(REACH * size)
        self._textures = np.stack([_texture(view.texture, side) for view in head.views])
        behind = resized(head.primary_view.background, size)
        self._own_background = background is None or background.keeps
        if background is not None and not background.keeps:
            replaced = background.replacement(behind)
            behind = np.full_like(behind, GREY) if replaced is None else replaced
        self._backgrounds = [behind.astype(np.float32)] * len(head.views)
        for k, view in enumerate(head.views if self._own_background else ()):
            # A photo of another room gets the most neutral one's: the background must not change with the head.
            # Where a face fills the photos nobody can say: then what was continued behind it must be alike.
            own = resized(view.background, size).astype(np.float32)
            if of_one_room(view, head.primary_view) or np.abs(own - behind).mean() < SAME_BACKGROUND:
                self._backgrounds[k] = own
        self._photos = [resized(view.photo, size).astype(np.float32) for view in head.views]
        self._texture_at = [(view.texture_at + MARGIN) * np.float32(size) for view in head.views]
        self._hair_at = [(view.hair_at + MARGIN) * np.float32(size) for view in head.views]
        shape = (size, size)
        self._nearest = [np.empty(shape, np.int32) for _ in range(2)]
        self._depth = [np.empty(shape, np.float32) for _ in range(2)]
        self._frame = np.empty((*shape, 3), np.float32)
        self._planes = np.empty((*shape, 4), np.float32)
        model = head.model
        seen = [view.texture_at[model.landmark_vertices] for view in head.views]
        self._openness = np.maximum([eye_openness(places) for places in seen], LEAST_OPENNESS)  # (K, 2)
        self._lids = Lids.of(model)
        self._holes = np.flatnonzero(~model.skin)  # mouth and eyes
        self._mouth_kept = (self._keeps * np.isin(model.layer, (TEETH, INSIDE))).astype(np.float32)
        self._lid_triangles = np.flatnonzero((model.folds.max(axis=1) > 0)[model.triangles].all(axis=1))
        self._eyeballs = [np.flatnonzero(model.part == name) for name in EYES]

    def draw(self, frame: FrameFit, choice: PhotoChoice | None = None) -> Rendered:
        """The head as ``frame`` says, from the photos of ``choice`` (the most neutral one if None)."""
        bases = ((self.head.primary, 1.0),) if choice is None else choice.bases
        first = self._draw_from(bases[0][0], frame)
        for base, share in bases[1:]:
            other = self._draw_from(base, frame)
            first = first.mixed(other, np.float32(share))
        return first

    def landmarks(self, frame: FrameFit) -> np.ndarray:
        """float32 (L, 2): the posed model's landmarks in pixels of the picture, without drawing it."""
        points, _ = self._points(frame, self.head.primary_view)
        return points[self.head.model.landmark_vertices, :2] - np.float32(0.5)

    def _draw_from(self, base: int, frame: FrameFit) -> Rendered:
        view = self.head.views[base]
        points, hair = self._points(frame, view)
        seen = self._seen(base, points)
        head_values, slots = self._head_values(base, points, seen)
        hair_values = self._hair_values(base, hair)
        origin = np.float32(MARGIN * self.size)
        triangles = self.head.model.triangles

        def band(top: int, bottom: int) -> None:
            rasterise(points, triangles, top, bottom, self._nearest[0], self._depth[0])
            rasterise(hair, view.hair_triangles, top, bottom, self._nearest[1], self._depth[1])
            compose(
                top, bottom, origin, self._backgrounds[base], self._own_background, self._photos[base], self._textures,
                points, triangles, self._nearest[0], self._depth[0], head_values, slots,
                hair, view.hair_triangles, self._nearest[1], self._depth[1], hair_values,
                self._frame, self._planes,
            )  # fmt: skip

        _in_bands(band, self.size)
        holes = points[self._holes, :2]
        box = np.concatenate([holes.min(axis=0), holes.max(axis=0) + 1])[[1, 3, 0, 2]].astype(np.int64)
        gap = TOOTH_GAP * self.size * self.head.primary_view.fit.camera.scale
        mend_teeth_and_edges(
            self._frame, self._planes, self._nearest[0], self.head.model.layer, self._kept(seen.unfolded), box, gap
        )
        landmarks = points[self.head.model.landmark_vertices, :2] - np.float32(0.5)
        picture = np.empty_like(self._frame)
        _in_bands(lambda a, b: soften_outline(self._frame, self._planes, a, b, picture), self.size)
        return Rendered(picture, self._planes.copy(), landmarks, self._photos[base])

    def _points(self, frame: FrameFit, view: PhotoView) -> tuple[np.ndarray, np.ndarray]:
        """Head (V, 3) and hair layer (P, 3) in pixels and depth."""
        head, model, start = self.head, self.head.model, view.fit.frame
        change = frame.expression - start.expression
        used = np.flatnonzero(change)
        detail = (frame.detail if frame.detail.any() else frame.detail[:0]).astype(np.float32)
        before, after = start.rotation.astype(np.float32), frame.rotation.astype(np.float32)
        place = NECK_JOINT + frame.translation.astype(np.float32)
        photo_place = NECK_JOINT + start.translation.astype(np.float32)
        body_place = (photo_place + self._shoulders(frame, view)).astype(np.float32)
        camera = head.primary_view.fit.camera
        lens = tuple(np.float32(x) for x in (
            self.size * camera.scale, self.size * camera.centre[0], self.size * camera.centre[1], camera.distance
        ))  # fmt: skip
        points, moved = np.empty_like(view.rest), np.empty_like(view.rest)
        turns = np.stack([eye_rotation(angles) for angles in frame.gaze]).astype(np.float32)
        pose_head(
            self._with_lids_that_meet(view, frame, used, change[used], detail), model.expression_basis, used,
            change[used].astype(np.float32), head.detail_spread, detail, model.eye, view.eye_centres, turns, before,
            after, head.fade, NECK_JOINT, body_place, place, *lens, points, moved,
        )  # fmt: skip
        hair = np.empty_like(view.hair_points)
        arms = view.hair_points - NECK_JOINT - start.translation.astype(np.float32)
        pose_hair_layer(
            arms, view.anchors, view.anchor_weights, moved, before, after @ before.T, view.hair_fade, body_place,
            place, *lens, hair,
        )  # fmt: skip
        return points, hair

    def _shoulders(self, frame: FrameFit, view: PhotoView) -> np.ndarray:
        """(3,) cm by which the shoulders have moved from where a photo has them."""
        way = gone_along(frame.translation - view.fit.frame.translation)
        if frame.shoulders is not None and view.shoulders is not None:
            way[:2] = frame.shoulders - view.shoulders
        return way

    def _with_lids_that_meet(
        self, view: PhotoView, frame: FrameFit, used: np.ndarray, change: np.ndarray, detail: np.ndarray
    ) -> np.ndarray:
        """The photo's vertices (V, 3), the upper lids raised by what keeps them from crossing the lower ones, or
        lowered by what a blink leaves open."""
        model, spread, result = self.head.model, self.head.detail_spread, view.rest.copy()
        blinks = smoothstep(*BLINK_SHUTS, np.stack([frame.expression, view.fit.frame.expression])[:, model.blinks])
        for lids, shut in zip(self._lids, np.maximum(blinks[0] - blinks[1], 0), strict=True):
            edges = view.rest[lids.edges]
            moved = np.tensordot(change, model.expression_basis[np.ix_(used, lids.edges)], axes=1)
            moved += spread[lids.edges, : len(detail)] @ detail
            result[lids.skin, 1] += lids.lift(edges, edges + moved, float(shut))
        return result

    def _head_values(self, base: int, points: np.ndarray, seen: _Seen) -> tuple[np.ndarray, np.ndarray]:
        """Values that ``kernels.compose`` interpolates, float32 (V, 4 + 3S); the photos of its slots (S,). ``seen``: of
        the photo ``base``."""
        model, view = self.head.model, self.head.views[base]
        shown = view.shown * (1 - seen.unfolded) * seen.eye_light
        shown[model.inside] = np.maximum(shown[model.inside], seen.lips_alike)
        for ball, alike in zip(self._eyeballs, smoothstep(0.1, 0.02, np.abs(1 - seen.opening)), strict=True):
            shown[ball] = np.maximum(shown[ball], alike)
        fill = view.fill * seen.eye_light[:, None]
        slots = [base, *self._helpers(base, points, seen.trust)]
        columns = [fill, shown]
        for k, slot in enumerate(slots):
            columns += [self._texture_at[slot], seen.trust if k == 0 else self._seen(slot, points).trust]
        return np.ascontiguousarray(np.column_stack(columns), np.float32), np.array(slots, np.int64)

    def _kept(self, unfolded: np.ndarray) -> np.ndarray:
        """float32 (F,): how still triangles are at least, see KEPT; ``unfolded`` (V,) as of ``_Seen``."""
        kept = self._mouth_kept.copy()
        corners = self.head.model.triangles[self._lid_triangles]
        kept[self._lid_triangles] = self._keeps * unfolded[corners].mean(axis=1)
        return kept

    def _seen(self, photo: int, points: np.ndarray) -> _Seen:
        model, view = self.head.model, self.head.views[photo]
        opening = eye_openness(points[model.landmark_vertices, :2]) / self._openness[photo]
        closing = np.clip(1 - opening, 0, 1)
        # A lid that comes down shows skin that was folded away in the photo.
        unfolded = (model.folds * smoothstep(0.1, 0.6, closing)).max(axis=1)
        trust = view.trust * (1 - unfolded)
        drawn_out = stretch(points, self._texture_at[photo], model.triangles)
        trust[model.skin] *= smoothstep(*FACE_DRAWN_OUT, drawn_out[model.skin])
        # While lips are as far apart as in the photo, the photo shows what is between them, even if it is a line.
        alike, narrow = self._lips_as_in(photo, points)
        trust[model.inside] = np.maximum(trust[model.inside], alike * narrow)
        # A closing lid leaves a dark line of the eye.
        eye_light = np.ones(len(trust), np.float32)
        for ball, share in zip(self._eyeballs, smoothstep(0.4, 0.9, closing), strict=True):
            eye_light[ball] -= 0.75 * share
        return _Seen(trust * eye_light, unfolded, eye_light, opening, alike)

    def _lips_as_in(self, photo: int, points: np.ndarray) -> tuple[float, float]:
        """1 where the inner lips are as far apart as in the photo, 0 where their distance is another; and 1 where that
        is next to nothing."""
        spots, centimetre = self.head.model.landmark_vertices, self.size * self.head.primary_view.fit.camera.scale
        now, then = (
            np.linalg.norm(at[spots[[61, 62, 63]], :2] - at[spots[[67, 66, 65]], :2], axis=1) / centimetre
            for at in (points, self._texture_at[photo])
        )
        alike = smoothstep(LIPS_MOVED[1], LIPS_MOVED[0], np.abs(now - then).max())
        return float(alike), float(smoothstep(NARROW_GAP[1], NARROW_GAP[0], then.max()))

    def _helpers(self, base: int, points: np.ndarray, trust: np.ndarray) -> list[int]:
        """Other photos, the most useful first, that show what the base does not: a far cheek, teeth, closed lids."""
        if len(self.head.views) == 1:
            return []
        need = 1 - trust
        others = [k for k in range(len(self.head.views)) if k != base]
        chosen: list[int] = []
        for _ in range(min(self.HELPERS, len(others))):
            gains = {k: float(need @ self._seen(k, points).trust) for k in others if k not in chosen}
            best = max(gains, key=lambda k: gains[k])
            if gains[best] < 10:  # vertices
                break
            chosen.append(best)
            need = need * (1 - self._seen(best, points).trust)
        return chosen

    def _hair_values(self, base: int, hair: np.ndarray) -> np.ndarray:
        at = self._hair_at[base]
        torn = stretch(hair, at, self.head.views[base].hair_triangles)
        way = np.linalg.norm(hair[:, :2] - at + MARGIN * self.size, axis=1) / self.size
        view = self.head.views[base]
        # Skin is behind the layer as well, and looks better there than drawn out. Hair and ears are nowhere else.
        whole = smoothstep(*HAIR_DRAWN_OUT, torn)
        whole += view.hair_is_skin * (smoothstep(*SKIN_IN_HAIR_DRAWN_OUT, torn) - whole)
        rim = view.hair_rim * smoothstep(RIM_FADE[1], RIM_FADE[0], way) * self._own_background
        return np.column_stack([at, whole, rim, view.hair_share]).astype(np.float32)


def _texture(texture: np.ndarray, side: int) -> np.ndarray:
    """uint8 RGBA (C, C, 4) -> (side, side, 4), sharpened. Pillow would blank colours under no opacity: one by one."""
    colours, opacity = np.ascontiguousarray(texture[..., :3]), np.ascontiguousarray(texture[..., 3])
    return np.dstack([sharpened(resized(colours, side), SHARPENING), resized(opacity, side)])


def _in_bands(work: Callable[[int, int], None], rows: int) -> None:
    """``work(top, bottom)`` for bands of rows, at once: compiled loops hold no lock."""
    edges = np.linspace(0, rows, _Threads.number + 1).astype(int)
    run = map if _Threads.number == 1 else _threads().map
    list(run(work, edges[:-1], edges[1:]))


class _Threads:
    number = BANDS


def draw_in_one_thread() -> None:
    """Draws in one thread from now on in this process, which is one of many that share a machine."""
    _Threads.number = 1


@cache
def _threads() -> ThreadPoolExecutor:
    """Begun with the first frame of a process."""
    return ThreadPoolExecutor(BANDS, "render")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads, and begins its own
    os.register_at_fork(after_in_child=_threads.cache_clear)


def finished(rendered: Rendered, change: np.ndarray, background: Background | None) -> np.ndarray:
    """A rendered frame and what a network changes of it, float32 (S, S, 3) in levels of 255 -> uint8 (S, S, 3), or RGBA
    (S, S, 4) for a transparent background."""
    picture, opacity = rendered.picture, rendered.planes[..., 3:]
    if background is not None and not background.keeps:
        change = change * opacity  # what is new behind the person is nothing to mend
    if background is None or not background.is_transparent:
        return (picture + change + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    # The background was grey: without its share what is left is the person's own colour.
    own = (picture - (1 - opacity) * np.float32(GREY)) / np.maximum(opacity, np.float32(0.05)) + change
    return (np.concatenate([own, 255 * opacity], axis=2) + np.float32(0.5)).clip(0, 255).astype(np.uint8)
