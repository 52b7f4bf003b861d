"""One person's head, made of photos that were taken apart one by one (photo.py): in one light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .eyes import eye_centres
from .fit import detail_spread
from .kernels import sample
from .masks import ANALYSIS
from .model import FaceModel, neck_fade
from .person_fit import PersonFit
from .photo import MARGIN, REACH, PhotoView, PhotoViewBuilder
from .retarget import most_neutral, motion_of

SAME_BACKGROUND = 12.0
"""Levels of 255 by which two photos' backgrounds differ on average, below which they are of one room from one place."""
KNOWN_BACKGROUND = 252
"""``PhotoView.background_known`` above which a pixel counts as known."""
MIN_COMMON_BACKGROUND = 0.05
"""Share of the crop that both photos must show of the background, or whether it is the same cannot be said."""


@dataclass(frozen=True, eq=False)
class Head:
    """A person who can be moved. Made by ``Head.of``; drawn by ``render.Renderer``."""

    model: FaceModel
    identity_coefficients: np.ndarray
    """float32 (I,)."""
    views: tuple[PhotoView, ...]
    primary: int
    """The most neutral photo: relative motion starts from it, frames have its crop and its background."""
    neutral: np.ndarray = field(repr=False)
    """float32 (V, 3) cm: the person at rest, without what the single photos add."""
    detail_spread: np.ndarray = field(repr=False)
    """float32 (V, D): see ``fit.detail_spread``."""
    fade: np.ndarray = field(repr=False)
    """float32 (V, 1): how much of the head's turn each vertex takes; shoulders stay."""

    @classmethod
    def of(
        cls,
        model: FaceModel,
        person: PersonFit,
        canvases: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        landmarks: Sequence[np.ndarray],
        analysis: int = ANALYSIS,
        shoulders: np.ndarray | None = None,
    ) -> Head:
        """From photos: ``canvases`` uint8 (C, C, 3) of the crop and its margins, at any size; ``masks`` uint8 (C, C) of
        the person; ``landmarks`` (L, 2) in sides of the crop. ``analysis``, a multiple of 64: pixels of a crop's side
        at which masks and colours are worked out; 256 takes a quarter of the time, and its outlines are coarser.
        ``shoulders`` (K, 2): where one point of them is in photos of one film, in sides of the crop; NaN in others."""
        neutral = model.vertices(person.identity_coefficients)
        fade = neck_fade(model.mean[:, 1:2])
        views = tuple(
            PhotoViewBuilder(model, person.identity_coefficients, fit, canvas, mask, points, analysis).build()
            for fit, canvas, mask, points in zip(person.photos, canvases, masks, landmarks, strict=True)
        )
        primary = most_neutral(motion_of([view.fit.frame for view in views], fps=25))
        # Frames are told in terms of the primary photo: lids and lips start from its shape, whichever photo is drawn.
        common = views[primary].fit.offset
        views = tuple(_with_rest(view, model, view.rest + (common - view.fit.offset)) for view in views)
        views = _with_shoulders(views, primary, shoulders)
        spread = detail_spread(model, neutral)
        views = with_shared_backgrounds(_in_one_light(model, views, primary))
        return cls(model, person.identity_coefficients, views, primary, neutral, spread, fade)

    @property
    def primary_view(self) -> PhotoView:
        """What the most neutral photo shows."""
        return self.views[self.primary]


def _with_rest(view: PhotoView, model: FaceModel, rest: np.ndarray) -> PhotoView:
    return replace(view, rest=rest, eye_centres=eye_centres(model, rest))


def _with_shoulders(views: Sequence[PhotoView], primary: int, places: np.ndarray | None) -> tuple[PhotoView, ...]:
    """The photos with where the shoulders are in each; ``places`` (K, 2) as in ``Head.of``."""
    result = []
    for k, view in enumerate(views):
        way = np.zeros(2)
        if k != primary:
            way = np.full(2, np.nan) if places is None else (places[k] - places[primary]) / view.fit.camera.scale
        result.append(replace(view, shoulders=way * [1, -1] if np.isfinite(way).all() else None))
    return tuple(result)


def _in_one_light(model: FaceModel, views: Sequence[PhotoView], primary: int) -> tuple[PhotoView, ...]:
    """The photos with the person's colours brought to the light of the primary one, by the skin that both show well."""
    skin = model.part == "face"
    colours = []
    for view in views:
        at = (view.texture_at + MARGIN) * np.float32(len(view.texture) / REACH)
        colours.append(sample(view.texture[..., :3].astype(np.float32), at))
    result = []
    for k, view in enumerate(views):
        both = skin & (view.trust > 0.8) & (views[primary].trust > 0.8)
        if k == primary or both.sum() <= 50:
            result.append(view)
            continue
        ratio = np.median(colours[primary][both], axis=0) / np.maximum(np.median(colours[k][both], axis=0), 1)
        gain = np.clip(ratio, 0.5, 2.0).astype(np.float32)
        texture = np.dstack([_times(view.texture[..., :3], gain), view.texture[..., 3]])
        result.append(replace(view, texture=texture, photo=_times(view.photo, gain), fill=view.fill * gain))
    return tuple(result)


def of_one_room(view: PhotoView, other: PhotoView) -> bool:
    """Whether two photos show the same background, by what both show of it."""
    if view is other or other.background.shape != view.background.shape:
        return view is other
    both = (view.background_known > KNOWN_BACKGROUND) & (other.background_known > KNOWN_BACKGROUND)
    difference = np.abs(other.background[both].astype(np.float32) - view.background[both])
    return bool(both.mean() > MIN_COMMON_BACKGROUND and difference.mean() < SAME_BACKGROUND)


def with_shared_backgrounds(views: Sequence[PhotoView]) -> tuple[PhotoView, ...]:
    """Fills what a person hides of the background in one photo from the other photos of the same room."""
    result = []
    for view in views:
        known = view.background_known.astype(np.float32) / 255
        background, total = np.zeros(view.background.shape, np.float32), np.zeros(known.shape, np.float32)
        for other in views:
            if other is not view and of_one_room(view, other):
                theirs = other.background_known.astype(np.float32) / 255
                background += theirs[..., None] * other.background
                total += theirs
        shown = np.minimum(total, 1)[..., None] * (1 - known[..., None])
        background = view.background + shown * (background / np.maximum(total, 1e-3)[..., None] - view.background)
        result.append(replace(view, background=(background + np.float32(0.5)).clip(0, 255).astype(np.uint8)))
    return tuple(result)


def _times(picture: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) times factors (3,) -> uint8."""
    return (picture * gain + np.float32(0.5)).clip(0, 255).astype(np.uint8)
