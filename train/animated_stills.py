"""People in motion out of still photos: photo + 3D face model -> a clip whose frame 0 is the untouched photo.

    python -m train.puppets --stills DIR [--index stills.csv] --face-model ict_facekit.npz --output DIR

For each photo: landmarks -> fit (fitting.py) -> a puppet, which is three layers in one depth order:

    wall    the photo without the person, holes filled; it never moves
    sheet   the person as the photo shows him: a fine grid over the photo, lifted to the depth of the fitted head and,
            beyond its outline (hair, ears, shoulders), to a smooth continuation of it. It turns with the head and
            stays with the shoulders
    head    the fitted mesh itself: the face with the photo as its texture, and what the photo does not show, in
            colours that continue those it shows: the far side, the lids when they close, the inside of the mouth

Then random smooth motion, and every frame goes through the same detector as real clips do. Frames in which it sees
something else than what was rendered are dropped. A photo's second clip, and every other one after it, stands before
an invented background: studio portraits have plain ones, before which nothing can be seen to swim with a head. With
``--speech`` the faces do what those of real speakers did (speech.py), on heads that turn further than theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numba import njit
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from talking_heads.errors import NoFaceError, TalkingHeadsError
from talking_heads.faces import Crop, crop_around, face_size, only_face
from talking_heads.images import read_photo
from talking_heads.landmarks import DETECTORS, LandmarkDetector, eye_distance, load_detector

from .clips import ClipMeta, load_clip, save_clip
from .face_model import (
    FaceModel,
    distances,
    downsample,
    gaze_angle,
    inside_outline,
    rasterise,
    rotation,
    smooth_curve,
    smoothstep,
    turn_head,
    vertex_normals,
)
from .fitting import LANDMARK_VERTICES, Fit, fit_face
from .prepare import find_jobs, sharpness
from .speech import Speech, follow_speech, speech_clips
from .terminal import mistakes_in_one_line

SIZE, SUPERSAMPLE = 256, 2
STAGE = SIZE * SUPERSAMPLE  # frames are drawn at this size
MARGIN = STAGE // 4  # the photo is kept this far beyond the frame on every side: heads move
CANVAS = STAGE + 2 * MARGIN
GRID_STEP = 4  # canvas pixels between the points of the sheet
NECK_JOINT = np.array([0.0, -7.0, -1.5], np.float32)
FPS = 10.0

TEETH, GUMS, CAVE = (0.97, 0.93, 0.86), (0.66, 0.36, 0.35), (0.40, 0.20, 0.19)
LASH_WIDTH = 0.34  # cm, of which the lower lid hides a third
MAX_YAW, MAX_PITCH = 35.0, 18.0
MAX_SHIFT = np.array([4.5, 2.5, 10.0], np.float32)  # cm: to the side, up, towards the camera
MAX_DEVIATION = 0.05  # of the eye distance, between what was rendered and what is detected
MIN_FACE_PIXELS = 96.0
MAX_FIT_ERROR = 0.03


@dataclass(frozen=True)
class Anatomy:
    """What is the same for all puppets of one face model; computed once."""

    model: FaceModel
    triangles: np.ndarray  # (F, 3) of the drawn head: without shoulders
    skin: np.ndarray  # (V,) bool: face, scalp and neck
    eyes: np.ndarray  # (V,) bool
    mouth: np.ndarray  # (V, 3): colour of teeth, gums and mouth cavity in white light, else zero
    inside: np.ndarray  # (V,) bool: parts of the mouth and the eye sockets
    mirror: np.ndarray  # (V,) the vertex on the other side
    neighbours: Any  # (V, V) sparse: mean over the neighbours
    lids: np.ndarray  # (V, 2) 0..1: how far a blink of the left and of the right eye moves a vertex
    around_eyes: np.ndarray  # (V,) bool: lids, with their folds and lashes
    lashes: np.ndarray  # (V,) cm to the edge of the upper lids when they are closed, 1 and more off the lids
    gaze_angle: np.ndarray  # (V,) degrees from the middle of the pupil
    without_ears: np.ndarray  # (V, 3) cm that draw the ears into the head: the sheet brings the photo's own

    @classmethod
    def of(cls, model: FaceModel) -> Anatomy:
        """Measure a face model."""
        part, rest = model.vertex_part, model.mean
        skin = np.isin(part, ["face", "head_neck"])
        eyes = np.char.startswith(part, "eyeball")
        colours = {"teeth": TEETH, "gums_tongue": GUMS, "mouth_socket": CAVE}
        mouth = np.zeros_like(rest)
        for name, colour in colours.items():
            mouth[part == name] = colour
        # The mouth is a cave: the deeper, the darker and the redder. Teeth are shaded once, at rest.
        z = rest[:, 2:]
        depth = np.where((part == "teeth")[:, None], smoothstep(7.0, 10.8, z), smoothstep(2.5, 10.3, z))
        mouth = mouth * depth ** np.array([0.8, 1.1, 1.1])
        mouth *= 0.6 + 0.4 * np.clip(vertex_normals(rest, model.triangles)[:, 2:], 0, 1)

        shoulder = skin & (rest[:, 1] < -12.0)
        triangles = model.triangles[~shoulder[model.triangles].any(axis=1)]
        a, b, c = model.triangles.T
        rows, columns = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
        links = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(rest), len(rest)))
        links = sparse.diags(1 / np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)).astype(np.float32) @ links

        lids, around = np.zeros((len(rest), 2), np.float32), np.zeros(len(rest), bool)
        for side, name in enumerate(("eyeBlink_L", "eyeBlink_R")):
            shift = np.linalg.norm(model.expression[model.expression_names.index(name)], axis=1) * skin
            lids[:, side] = smoothstep(0.02, 0.55, shift / shift.max())
            around |= shift > 0.04 * shift.max()
        closed = model.vertices(None, model.weights(eyeBlink=1.0))
        marks = closed[model.landmark_vertices]
        margin = np.vstack([smooth_curve(marks[36:40]), smooth_curve(marks[42:46])])
        return cls(
            model=model,
            triangles=np.ascontiguousarray(triangles),
            skin=skin,
            eyes=eyes,
            mouth=mouth.astype(np.float32),
            inside=~skin & ~eyes,
            mirror=cKDTree(rest).query(rest * [-1, 1, 1])[1],
            neighbours=links.tocsr(),
            lids=lids,
            around_eyes=around,
            lashes=distances(closed, margin).min(axis=1) + 1 - lids.max(axis=1),
            gaze_angle=gaze_angle(rest, part),
            without_ears=_without_ears(rest, part, links),
        )


def _without_ears(rest: np.ndarray, part: np.ndarray, neighbours: Any) -> np.ndarray:
    """(V, 3) offsets that span the surface across where the ears stand, like a soap film."""
    ear = (part == "face") & (np.abs(rest[:, 0]) > 7.3) & (rest[:, 2] < 2.6) & (np.abs(rest[:, 1]) < 4.8)
    smooth = rest.copy()
    for _ in range(400):
        smooth[ear] = (neighbours @ smooth)[ear]
    return smooth - rest


class Puppet:
    """One photo that can move.

    ``photo`` is the canvas (CANVAS, CANVAS, 3), ``person`` its mask (CANVAS, CANVAS) 0..1; ``landmarks`` (L, 2) and
    ``fit`` are in pixels of the stage.
    """

    def __init__(
        self, anatomy: Anatomy, photo: np.ndarray, person: np.ndarray, landmarks: np.ndarray, fit: Fit
    ) -> None:
        self.anatomy, self.fit = anatomy, fit
        model = anatomy.model
        self.rest = fit.shape(model, fit.expression) + anatomy.without_ears
        self.posed = (self.rest @ fit.rotation.T).astype(np.float32)
        self.pivot = (fit.rotation @ NECK_JOINT).astype(np.float32)

        colour = photo.astype(np.float32) / 255
        person = follow_edges(person, colour.mean(axis=2))
        # Pixels of an outline are half wall: they take the colours of the person further in, and keep their softness.
        core = (ndimage.minimum_filter(person, 9) > 0.6).astype(np.float32)
        own = fill_holes(colour, ndimage.gaussian_filter(core, 1.5) * core)
        self.cutout = np.dstack([own, smoothstep(0.4, 0.9, person)]).astype(np.float32)
        wall = fill_holes(colour, (ndimage.maximum_filter(person, 13) < 0.2).astype(np.float32))
        self.wall = np.ascontiguousarray(wall[MARGIN:-MARGIN, MARGIN:-MARGIN])
        self._stay_inside(person)
        self._trust_the_photo(person, landmarks)
        self._colour_the_rest()
        self._lift_the_sheet()

    # --- what the photo shows ----------------------------------------------------------------------------------------

    def _stay_inside(self, person: np.ndarray) -> None:
        """Draws the head in where it is larger than the person in the photo, or it would show the wall."""
        anatomy = self.anatomy
        away, nearest = ndimage.distance_transform_edt(ndimage.minimum_filter(person, 7) < 0.5, return_indices=True)
        for _ in range(4):
            points = self.fit.camera.project(self.posed)
            at = np.clip((points[:, :2] + MARGIN).astype(int), 0, CANVAS - 1)
            row, column = nearest[:, at[:, 1], at[:, 0]]
            shift = np.stack([column - at[:, 0], at[:, 1] - row], axis=1).astype(np.float32)
            shift *= ((away[at[:, 1], at[:, 0]] > 0) & anatomy.skin)[:, None]
            shift *= ((1 - points[:, 2:] / self.fit.camera.distance) / self.fit.camera.scale).astype(np.float32)
            for _ in range(6):
                shift = np.where(shift == 0, anatomy.neighbours @ shift, 0.5 * (shift + anatomy.neighbours @ shift))
            self.posed[:, :2] += shift * anatomy.skin[:, None]
        self.rest = self.posed @ self.fit.rotation.astype(np.float32)
        self.texture_at = self.fit.camera.project(self.posed)[:, :2].astype(np.float32) + MARGIN  # (V, 2) canvas pixels

    def _trust_the_photo(self, person: np.ndarray, landmarks: np.ndarray) -> None:
        """``trust`` (V,): 1 where the photo shows a vertex well, 0 where it shows something else."""
        anatomy, model = self.anatomy, self.anatomy.model
        points = self.fit.camera.project(self.posed) + np.array([MARGIN, MARGIN, 0])
        self.seen = rasterise(points, model.triangles, CANVAS, CANVAS)
        column, row = np.clip(points[:, :2].astype(int), 0, CANVAS - 1).T
        visible = points[:, 2] > self.seen.depth[row, column] - 0.15
        facing = smoothstep(0.1, 0.4, vertex_normals(self.posed, model.triangles)[:, 2])
        facing[~anatomy.skin] = 1
        core = ndimage.minimum_filter(person, 15)[row, column]
        neck = smoothstep(-10, -8, self.rest[:, 1])
        trust = (visible * facing * neck * smoothstep(0.5, 0.9, core)).astype(np.float32)
        # Pixels at an edge show both sides of it: draw back from every edge.
        for _ in range(2):
            trust = np.minimum(trust, anatomy.neighbours @ trust)
        # An open mouth is seen between the lips, wherever the model's teeth may stand.
        lips = np.vstack([landmarks[60:68], landmarks[60:61]]) + MARGIN
        between = smoothstep(0.5, 3.0, inside_outline(points[:, :2], lips))
        self.trust = np.where(anatomy.inside, visible * between, trust).astype(np.float32)

    def _colour_the_rest(self) -> None:
        """``fill`` (V, 3): colours where the photo cannot be trusted, continued from where it can."""
        anatomy = self.anatomy
        shown = sample(self.cutout[..., :3], self.texture_at)
        ear = np.linalg.norm(anatomy.without_ears, axis=1) > 0.05
        known = np.sqrt(self.trust) * (anatomy.skin & ~ear & ~anatomy.around_eyes)
        mirrored = known[anatomy.mirror] * (1 - known)
        weight = (known + 0.7 * mirrored)[:, None]
        colour = known[:, None] * shown + 0.7 * mirrored[:, None] * shown[anatomy.mirror]
        skin = (known[:, None] * shown).sum(axis=0) / known.sum()
        sure = np.flatnonzero(weight[:, 0] > 0.4)
        nearest = sure[cKDTree(self.rest[sure]).query(self.rest)[1]]
        fill = (colour[nearest] / weight[nearest]).astype(np.float32)
        for _ in range(60):
            fill = colour + (1 - weight) * (anatomy.neighbours @ fill)
        # Lids are no brows, which are what lies nearest above them: they take the colour of the skin below the eye.
        below = sure[self.rest[sure, 1] < self.rest[LANDMARK_VERTICES[[41, 46]], 1].mean() - 0.5]
        under = fill[below[cKDTree(self.rest[below]).query(self.rest[anatomy.around_eyes], k=8)[1]]].mean(axis=1)
        lid = anatomy.lids[anatomy.around_eyes].max(axis=1)[:, None]
        fill[anatomy.around_eyes] += lid * (0.93 * under - fill[anatomy.around_eyes])

        # Eyes: white and iris are round, so what the lids hide is what is seen elsewhere at the same angle.
        bins = np.minimum(anatomy.gaze_angle // 3, 12).astype(int)
        white = np.array([0.62, 0.6, 0.58]) * np.clip(skin.mean() / 0.5, 0.6, 1.2)
        rings = np.tile(white, (13, 1))
        for ring in range(13):
            here = anatomy.eyes & (bins == ring)
            share = self.trust * here
            if share.sum() > 1.5:
                rings[ring] = (share[:, None] * shown).sum(axis=0) / share.sum()
            elif ring < 8:  # the iris, wholly hidden
                rings[ring] = 0.25 * white
        fill[anatomy.eyes] = ndimage.gaussian_filter1d(rings, 0.6, axis=0, mode="nearest")[bins[anatomy.eyes]]

        # The mouth is lit as the eyes are: the brightest of the eye's white is the photo's white.
        light = float(np.clip(rings[9:12].mean(axis=1).max() * 1.25, 0.45, 0.95))
        fill[anatomy.inside] = anatomy.mouth[anatomy.inside] * light
        socket = np.char.startswith(anatomy.model.vertex_part, "eye_socket")
        fill[socket] = skin * 0.6
        self.fill = fill.astype(np.float32)

    # --- the sheet ---------------------------------------------------------------------------------------------------

    def _lift_the_sheet(self) -> None:
        """The grid over the photo: ``sheet`` (P, 3) in posed centimetres, and how each point hangs on the head."""
        camera, seen = self.fit.camera, self.seen
        steps = np.arange(0, CANVAS + 1, GRID_STEP)
        side = len(steps)
        x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
        column, row = np.minimum(x, CANVAS - 1), np.minimum(y, CANVAS - 1)
        away, nearest = ndimage.distance_transform_edt(~seen.covered, return_indices=True)
        from_head = away[row, column] / camera.scale  # cm
        anchor_row, anchor_column = nearest[:, row, column]

        known = seen.covered.astype(np.float32)
        depth = fill_holes(np.where(seen.covered, seen.depth, 0)[..., None].astype(np.float32), known)[..., 0]
        depth = depth[row, column]
        depth = np.where(from_head > 0, -2 + (depth + 2) * np.exp(-from_head / 6.0), depth)
        zoom = camera.scale / (1 - depth / camera.distance)
        self.sheet_at = np.stack([x, y], axis=1).astype(np.float32)  # canvas pixels
        flat = (self.sheet_at - MARGIN - np.array(camera.centre)) / zoom[:, None] * [1, -1]
        self.sheet = np.column_stack([flat, depth]).astype(np.float32)
        self.sheet_rest = self.sheet @ self.fit.rotation.astype(np.float32)
        self.anchor = seen.triangles[seen.triangle[anchor_row, anchor_column]]  # (P, 3) vertices
        hold = np.exp(-from_head / 1.5)[:, None]
        self.anchor_weights = (seen.barycentric[anchor_row, anchor_column] * hold).astype(np.float32)

        # Cells in the middle of the face are left to the head: no sheet may span lips that open.
        trusted = seen.interpolate(np.where(self.anatomy.skin, self.trust, 1)[:, None])[..., 0] > 0.8
        reach = int(0.9 * camera.scale)
        face = ndimage.binary_fill_holes(ndimage.binary_closing(trusted, iterations=max(1, reach // 2)))
        face = ndimage.binary_erosion(face, iterations=2)
        person = ndimage.maximum_filter(self.cutout[..., 3], GRID_STEP + 1) > 0.02
        useful = (person & ~face)[row, column]
        index = np.arange(side * side).reshape(side, side)
        a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
        cells = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
        self.sheet_triangles = np.ascontiguousarray(cells[useful[cells].any(axis=1)].astype(np.int32))

    # --- a frame -----------------------------------------------------------------------------------------------------

    def pose(self, expression: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expression (E,), head turn (3, 3) from the photo's pose -> head (V, 3) and sheet (P, 3), in centimetres."""
        model = self.anatomy.model
        moved = model.vertices(None, expression - self.fit.expression) - model.mean  # linear: the difference suffices
        moved = moved @ self.fit.rotation.T.astype(np.float32)
        head = turn_head(self.posed + moved, turn, self.rest, self.pivot)
        drag = np.einsum("pk,pkc->pc", self.anchor_weights, moved[self.anchor])
        return head, turn_head(self.sheet + drag, turn, self.sheet_rest, self.pivot)

    def stand_before(self, wall: np.ndarray) -> np.ndarray:
        """Another background (STAGE, STAGE, 3) in 0..1 from now on -> the photo before it, uint8 (SIZE, SIZE, 3)."""
        self.wall = wall
        inner = self.cutout[MARGIN:-MARGIN, MARGIN:-MARGIN]
        return _to_picture(wall + inner[..., 3:] * (inner[..., :3] - wall))

    def draw(self, expression: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expression (E,), head turn (3, 3), shift of the whole person (3,) in cm towards the viewer's right, up and
        the camera -> uint8 RGB (SIZE, SIZE, 3) and the named landmarks (N, 2) as projected."""
        anatomy, camera = self.anatomy, self.fit.camera
        head, sheet = (points + shift for points in self.pose(expression, turn))
        points = camera.project(head)
        front = rasterise(points, anatomy.triangles, STAGE, STAGE)
        sheet_points = camera.project(sheet)
        behind = rasterise(sheet_points, self.sheet_triangles, STAGE, STAGE)
        change = expression - self.fit.expression
        names = anatomy.model.expression_names
        closing = np.array([change[names.index(f"eyeBlink_{side}")] for side in "LR"])
        # A lid that comes down shows skin that was folded away in the photo.
        unfolded = (anatomy.lids * smoothstep(0.05, 0.5, closing)).max(axis=1)
        trust = self.trust * (1 - unfolded)
        drawn_out = stretch(points, self.texture_at, anatomy.triangles)
        trust[anatomy.skin] *= smoothstep(5.0, 2.5, drawn_out[anatomy.skin])
        # What a closing lid leaves of the eye is a dark line.
        shut = np.where(anatomy.eyes, 1 - 0.75 * smoothstep(0.5, 1.0, closing.max()), 1.0)
        trust *= shut
        values = front.interpolate(np.column_stack([self.texture_at, trust, self.fill * shut[:, None], anatomy.lashes]))
        torn = stretch(sheet_points, self.sheet_at, self.sheet_triangles)
        at = behind.interpolate(np.column_stack([self.sheet_at, smoothstep(5.0, 2.5, torn)]))
        frame = _compose(self.wall, self.cutout, values, front.depth, at, behind.depth)
        return _to_picture(frame), (points[LANDMARK_VERTICES, :2] / SUPERSAMPLE).astype(np.float32)


def _to_picture(frame: np.ndarray) -> np.ndarray:
    """(STAGE, STAGE, 3) in 0..1 -> uint8 (SIZE, SIZE, 3)."""
    return (downsample(frame, SUPERSAMPLE) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def invented_wall(rng: np.random.Generator) -> np.ndarray:
    """A background (STAGE, STAGE, 3) in 0..1: a wall with things before it, more or less out of focus."""
    y, x = np.mgrid[0:STAGE, 0:STAGE].astype(np.float32) / STAGE
    colour = rng.uniform(0.05, 0.9) + rng.normal(0, 0.08, 3)
    slope = rng.normal(0, 0.25, (2, 1, 1, 1)) + rng.normal(0, 0.05, (2, 1, 1, 3))
    wall = colour + slope[0] * (x - 0.5)[..., None] + slope[1] * (y - 0.5)[..., None]
    for _ in range(rng.integers(3, 16)):
        centre, half = rng.uniform(0, 1, 2), np.exp(rng.normal(-2.3, 0.8, 2))
        u, v = np.abs(x - centre[0]) / half[0], np.abs(y - centre[1]) / half[1]
        thing = np.maximum(u, v) < 1 if rng.random() < 0.7 else np.hypot(u, v) < 1
        wall[thing] = rng.uniform(0, 1) + rng.normal(0, 0.1, 3) + rng.normal(0, 0.2) * (y[thing, None] - centre[1])
    grain = sum(
        rng.exponential(0.02) * ndimage.zoom(rng.standard_normal((STAGE // step, STAGE // step)), step, order=1)
        for step in (2, 8, 32)
    )
    wall = ndimage.gaussian_filter(wall + np.asarray(grain)[..., None], (s := rng.exponential(4.0), s, 0))
    return np.ascontiguousarray(wall.clip(0, 1), dtype=np.float32)


def fill_holes(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, C) float and weights (H, W) in 0..1 -> (H, W, C): the unknown continued smoothly (pull-push pyramid)."""
    height, width, channels = image.shape
    if min(height, width) <= 2:
        mean = (image * known[..., None]).sum(axis=(0, 1)) / max(float(known.sum()), 1e-6)
        return known[..., None] * image + (1 - known[..., None]) * mean
    weighted = np.dstack([image * known[..., None], known])
    padded = np.pad(weighted, ((0, height % 2), (0, width % 2), (0, 0)))
    half = downsample(padded, 2)
    weight = half[..., -1]
    coarse = fill_holes(half[..., :-1] / np.maximum(weight, 1e-6)[..., None], np.minimum(1, 4 * weight))
    rows = np.clip((np.arange(height) + 0.5) / 2 - 0.5, 0, coarse.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) / 2 - 0.5, 0, coarse.shape[1] - 1)
    grid = np.stack(np.meshgrid(columns + 0.5, rows + 0.5), axis=-1).reshape(-1, 2)
    large = sample(coarse.astype(np.float32), grid.astype(np.float32)).reshape(height, width, channels)
    return known[..., None] * image + (1 - known[..., None]) * large


def follow_edges(mask: np.ndarray, grey: np.ndarray, radius: int = 9, smoothness: float = 1e-3) -> np.ndarray:
    """Coarse mask, grey image (H, W), both 0..1 -> the mask with the image's outlines (guided filter, He 2010)."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * radius + 1)

    mean_grey, mean_mask = mean(grey), mean(mask)
    slope = (mean(grey * mask) - mean_grey * mean_mask) / (mean(grey * grey) - mean_grey**2 + smoothness)
    return np.clip(mean(slope) * grey + mean(mean_mask - slope * mean_grey), 0, 1)


def sample(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Image (H, W, C) float32 at points (N, 2) in pixels (x, y; centres at +0.5) -> (N, C), bilinear, edges go on."""
    return _sample(np.ascontiguousarray(image, dtype=np.float32), np.ascontiguousarray(at, dtype=np.float32))


def stretch(points: np.ndarray, texture_at: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Points (P, >=2) now, their places in the photo (P, 2) -> (P,): pixels that one pixel of the photo has to fill.

    Where they are many there are streaks, or a bridge from a chin to a neck.
    """
    return _stretch(points, texture_at, triangles)


@njit(cache=True)
def _area(p, a, b, c):  # type: ignore[no-untyped-def]
    return abs((p[b, 0] - p[a, 0]) * (p[c, 1] - p[a, 1]) - (p[c, 0] - p[a, 0]) * (p[b, 1] - p[a, 1]))


@njit(cache=True)
def _stretch(points, texture_at, triangles):  # type: ignore[no-untyped-def]
    now = np.zeros(points.shape[0], np.float32)
    before = np.full(points.shape[0], 1e-3, np.float32)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f]
        area, area_before = _area(points, a, b, c), _area(texture_at, a, b, c)
        for vertex in triangles[f]:
            now[vertex] += area
            before[vertex] += area_before
    return now / before


@njit(cache=True)
def _bilinear(image, x, y, out):  # type: ignore[no-untyped-def]
    height, width, channels = image.shape
    x = min(max(x - 0.5, 0.0), width - 1.0)
    y = min(max(y - 0.5, 0.0), height - 1.0)
    j, i = min(int(x), width - 2), min(int(y), height - 2)
    u, v = x - j, y - i
    for c in range(channels):
        top = image[i, j, c] * (1 - u) + image[i, j + 1, c] * u
        bottom = image[i + 1, j, c] * (1 - u) + image[i + 1, j + 1, c] * u
        out[c] = top * (1 - v) + bottom * v


@njit(cache=True)
def _sample(image, at):  # type: ignore[no-untyped-def]
    out = np.empty((at.shape[0], image.shape[2]), np.float32)
    for n in range(at.shape[0]):
        _bilinear(image, at[n, 0], at[n, 1], out[n])
    return out


@njit(cache=True)
def _compose(wall, cutout, head, head_depth, sheet_at, sheet_depth):  # type: ignore[no-untyped-def]
    """Wall, then what of the head the photo does not show, then the sheet, then the face -> (H, W, 3).

    ``head`` is (H, W, 7): place in the photo (2), trust, fill (3), lashes; ``sheet_at`` (H, W, 3): place, trust.
    The sheet lies on the head where the photo shows both: within 1.5 cm it covers what is only filled in, and is
    covered by what is trusted.
    """
    height, width, _ = wall.shape
    frame = np.empty((height, width, 3), np.float32)
    texel = np.empty(4, np.float32)
    face = np.empty(3, np.float32)
    for i in range(height):
        for j in range(width):
            frame[i, j] = wall[i, j]
            has_head = head_depth[i, j] > -np.inf
            trust = np.float32(0)
            if has_head:
                trust = head[i, j, 2]
                lash = 1 - 0.85 * (1 - trust) * max(0.0, 1 - head[i, j, 6] / LASH_WIDTH)
                _bilinear(cutout, head[i, j, 0], head[i, j, 1], texel)
                for c in range(3):
                    face[c] = lash * (head[i, j, 3 + c] + trust * (texel[c] - head[i, j, 3 + c]))
                    frame[i, j, c] = face[c]
            if sheet_depth[i, j] > -np.inf and not (has_head and head_depth[i, j] > sheet_depth[i, j] + 1.5):
                _bilinear(cutout, sheet_at[i, j, 0], sheet_at[i, j, 1], texel)
                for c in range(3):
                    frame[i, j, c] += sheet_at[i, j, 2] * texel[3] * (texel[c] - frame[i, j, c])
            if has_head and head_depth[i, j] > sheet_depth[i, j] - 1.5:
                for c in range(3):
                    frame[i, j, c] += trust * (face[c] - frame[i, j, c])
    return frame


# --- motion ----------------------------------------------------------------------------------------------------------


def wander(rng: np.random.Generator, frames: int, slowness: float) -> np.ndarray:
    """(T,) smooth noise of unit variance; ``slowness`` in frames."""
    margin = int(4 * slowness) + 1
    noise = ndimage.gaussian_filter1d(rng.standard_normal(frames + 2 * margin), slowness)[margin : margin + frames]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * slowness)


def random_motion(
    model: FaceModel, fit: Fit, frames: int, rng: np.random.Generator, speech: Speech | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> expressions (T, E) in 0..1, head turns (T, 3, 3) from the photo's pose and shifts (T, 3) of the body in cm:
    somebody talks, looks round and sways.

    ``speech``, of as many frames, takes the place of the invented face but for gaze and blinks, which it adds to; and
    its nods are added to the head's.
    """

    def now_and_then(strength: float, slowness: float, threshold: float = 0.6) -> np.ndarray:
        return np.clip(strength * (wander(rng, frames, slowness) - threshold), 0, 1)

    nods = np.zeros((frames, 3)) if speech is None else speech.angles
    yaw = np.clip(17 * wander(rng, frames, 2.2) + nods[:, 0], -MAX_YAW, MAX_YAW)
    pitch = np.clip(8 * wander(rng, frames, 2.2) + nods[:, 1], -MAX_PITCH, MAX_PITCH)
    roll = 5 * wander(rng, frames, 4.0) + nods[:, 2]
    turns = np.array([rotation(*angles) for angles in zip(yaw, pitch, roll, strict=True)])

    talks = np.clip(0.75 + 0.7 * wander(rng, frames, 4.0), 0, 1)
    jaw = talks * np.clip(0.15 + 0.22 * wander(rng, frames, 1.0), 0, 0.6)
    shape = wander(rng, frames, 1.2)  # from round vowels to spread ones
    tracks = {
        "jawOpen": jaw,
        "mouthFunnel": talks * np.clip(0.4 * shape - 0.1, 0, 0.6),
        "mouthPucker": talks * np.clip(0.4 * shape - 0.2, 0, 0.6),
        "mouthStretch": talks * np.clip(-0.3 * shape - 0.1, 0, 0.5),
        "mouthUpperUp": 0.6 * jaw + now_and_then(0.25, 2.0),
        "mouthLowerDown": 0.7 * jaw + now_and_then(0.25, 2.0),
        "mouthSmile": now_and_then(0.5, 3.0, 0.3),
        "mouthFrown": now_and_then(0.3, 3.0),
        "mouthPress": now_and_then(0.3, 2.0),
        "browInnerUp": now_and_then(0.6, 2.0),
        "browOuterUp": now_and_then(0.6, 2.0),
        "browDown": now_and_then(0.5, 2.0),
        "cheekSquint": now_and_then(0.4, 3.0),
        "eyeSquint": now_and_then(0.4, 2.0),
        "eyeWide": now_and_then(0.4, 2.0),
        "noseSneer": now_and_then(0.2, 2.0, 0.9),
        "mouthLeft": now_and_then(0.2, 2.0),
        "mouthRight": now_and_then(0.2, 2.0),
    }
    blinks = np.zeros(frames)
    for at in rng.uniform(0, frames, size=max(1, frames // 9)):
        blinks = np.maximum(blinks, smoothstep(1.6, 0.3, np.abs(np.arange(frames) - at)))
    tracks["eyeBlink"] = blinks

    side = np.clip(0.4 * wander(rng, frames, 1.5) + 0.012 * yaw, -0.8, 0.8)  # eyes lead where the head goes
    height = np.clip(0.3 * wander(rng, frames, 1.5), -0.5, 0.5)
    tracks |= {"eyeLookOut_L": side, "eyeLookIn_R": side, "eyeLookIn_L": -side, "eyeLookOut_R": -side}
    tracks |= {"eyeLookUp": height, "eyeLookDown": -height}

    # The photo's own expression comes and goes; the direction of its gaze stays the zero of the eyes.
    names = np.array(model.expression_names)
    remains = np.clip(0.5 + 0.6 * wander(rng, frames, 3.0), 0, 1)[:, None]
    remains = np.where(np.char.startswith(names, "eye"), 1.0, remains)
    added = np.array([model.weights(**{k: max(v[i], 0.0) for k, v in tracks.items()}) for i in range(frames)])
    sway = np.stack([wander(rng, frames, 3.0) for _ in range(3)], axis=1) * MAX_SHIFT / 2
    shifts = np.clip(sway, -MAX_SHIFT, MAX_SHIFT).astype(np.float32)
    kept = remains * fit.expression
    if speech is not None:
        invented = np.char.startswith(names, "eyeLook") | np.char.startswith(names, "eyeBlink")
        added = np.maximum(added * invented, speech.expression)
        # Somebody who speaks with a smile does not shout: of two demands on one muscle the greater counts.
        kept = np.where(np.char.startswith(names, "eye"), kept, np.maximum(kept - added, 0))
    return np.clip(kept + added, 0, 1).astype(np.float32), turns, shifts


# --- from file to file -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """The person segmenter that comes in mediapipe's wheel (Apache-2.0)."""
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    return SelfieSegmentation(model_selection=0)


def person_mask(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> float32 (H, W) in 0..1: 1 where the person is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)
        return _segmenter().process(np.ascontiguousarray(image)).segmentation_mask


def make_puppet(
    anatomy: Anatomy, image: np.ndarray, detector: LandmarkDetector
) -> tuple[Puppet, np.ndarray, np.ndarray]:
    """A photo -> its puppet, its crop uint8 (SIZE, SIZE, 3) and the landmarks (L, 2) on it.

    Raises NoFaceError where there is no face, or one that the model cannot follow.
    """
    points = only_face(image, detector)
    if face_size(points) < MIN_FACE_PIXELS:
        raise NoFaceError(f"The face is {face_size(points):.0f} px high; {MIN_FACE_PIXELS:.0f} are needed.")
    crop = crop_around(points, image.shape[:2])
    wide = Crop(crop.x, crop.y, crop.side * CANVAS / STAGE, crop.angle)
    photo = crop.cut(image, SIZE)
    landmarks = only_face(photo, detector)
    fit = fit_face(anatomy.model, landmarks * SUPERSAMPLE)
    if fit.error > MAX_FIT_ERROR:
        raise NoFaceError(f"The face model misses the face by {100 * fit.error:.1f} % of its size.")
    mask = (person_mask(image) * 255).astype(np.uint8)
    person = wide.cut(np.repeat(mask[..., None], 3, axis=2), CANVAS)[..., 0].astype(np.float32) / 255
    return Puppet(anatomy, wide.cut(image, CANVAS), person, landmarks * SUPERSAMPLE, fit), photo, landmarks


def animate(
    anatomy: Anatomy,
    image: np.ndarray,
    detector: LandmarkDetector,
    frames: int,
    rng: np.random.Generator,
    own_wall: bool = True,
    speech: Speech | None = None,
) -> tuple[list[np.ndarray], np.ndarray, int]:
    """A photo -> frames (T, SIZE, SIZE, 3), detected landmarks (T, L, 2), and how many frames were dropped.

    Unless ``own_wall``, the person is cut out and put before an invented wall, in frame 0, too. ``speech`` has one
    frame less than the clip: in frame 0 the person is as photographed.
    """
    puppet, photo, landmarks = make_puppet(anatomy, image, detector)
    if not own_wall:
        photo = puppet.stand_before(invented_wall(rng))
    pictures, points, dropped = [photo], [landmarks], 0
    motion = random_motion(anatomy.model, puppet.fit, frames - 1, rng, speech)
    for expression, turn, shift in zip(*motion, strict=True):
        picture, projected = puppet.draw(expression, turn, shift)
        faces = detector.detect(picture)
        if faces and _deviation(faces[0], projected) < MAX_DEVIATION:
            pictures.append(picture)
            points.append(faces[0])
        else:
            dropped += 1
    return pictures, np.stack(points), dropped


def _deviation(detected: np.ndarray, projected: np.ndarray) -> float:
    """Mean distance in eye distances, without the jaw: its detected outline slides over the skin as the head turns."""
    return float(np.linalg.norm(detected[17:68] - projected[17:68], axis=1).mean() / eye_distance(detected))


@lru_cache(maxsize=1)
def _tools(face_model: Path, detector: str) -> tuple[Anatomy, LandmarkDetector]:
    return Anatomy.of(FaceModel.load(face_model)), load_detector(detector)


@dataclass(frozen=True)
class Still:
    """One clip to make."""

    path: Path
    source: str  # relative to the folder of stills
    identity: str
    split: str
    licence: str
    seed: tuple[int, ...]
    own_wall: bool
    target: Path
    speech: Path | None = None  # the prepared clip whose speaker the puppet follows


def _run(still: Still, face_model: Path, detector: str, frames: int) -> tuple[int, int, str]:
    """-> frames kept, frames dropped, and why there is no clip, if so."""
    if still.target.is_file():
        return 0, 0, ""
    anatomy, eye = _tools(face_model, detector)
    rng, speech, licence = np.random.default_rng(still.seed), None, still.licence
    try:
        image = read_photo(still.path)
        if still.speech is not None:
            clip = load_clip(still.speech)
            speech = follow_speech(anatomy.model, clip, frames - 1, FPS, rng)
            if clip.meta.licence:
                licence = f"{licence}; motion: {clip.meta.licence}".removeprefix("; ")
        pictures, points, dropped = animate(anatomy, image, eye, frames, rng, still.own_wall, speech)
    except TalkingHeadsError as error:
        return 0, 0, str(error)
    extra = {"face_pixels": face_size(points[0]), "sharpness": sharpness(pictures[0]), "dropped": float(dropped)}
    meta = ClipMeta(still.identity, still.source, still.split, FPS, licence, "puppet", extra)
    save_clip(still.target, pictures, points, meta)
    return len(pictures), dropped, ""


def _run_all(
    todo: list[Still], face_model: Path, detector: str, frames: int, workers: int
) -> Iterator[tuple[Still, int, int, str]]:
    if workers == 1:
        for still in todo:
            yield still, *_run(still, face_model, detector, frames)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = {pool.submit(_run, still, face_model, detector, frames): still for still in todo}
        for task in as_completed(tasks):
            yield tasks[task], *task.result()


def main(
    *,
    stills: Annotated[Path, typer.Option(help="Folder of photos, searched through and through.", exists=True)],
    face_model: Annotated[Path, typer.Option(help="ict_facekit.npz", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for the clips.")],
    index: Annotated[Path | None, typer.Option(help="CSV: file, identity, split, licence.", exists=True)] = None,
    split: Annotated[str, typer.Option(help="Only photos of this split.")] = "train",
    clips_per_still: Annotated[int, typer.Option(min=1)] = 1,
    first_clip: Annotated[
        int, typer.Option(help="Number of a photo's first clip, to add clips to a folder that has some.", min=0)
    ] = 0,
    speech: Annotated[
        Path | None,
        typer.Option(
            help="Folder of prepared videos: in all of a photo's clips the face moves as those of the speakers of "
            "split train. Without it, mouths move at random.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of a clip, the photo included.", min=2)] = 24,
    seed: Annotated[int, typer.Option()] = 0,
    detector: Annotated[str, typer.Option(help="mediapipe or face-alignment.")] = "mediapipe",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Turn photos into clips of people who talk and look round."""
    if detector not in DETECTORS:
        raise typer.BadParameter(f"choose one of {', '.join(DETECTORS)}", param_hint="--detector")
    with mistakes_in_one_line():
        speakers = [] if speech is None else speech_clips(speech)
        todo = []
        for job in find_jobs(stills, index):
            if job.is_video or job.split != split:
                continue
            for path in job.files:
                source = str(path.relative_to(stills))
                name = "__".join([job.identity, *path.relative_to(stills).with_suffix("").parts])
                for k in range(first_clip, first_clip + clips_per_still):
                    # The seed depends on the photo's name, not on its place in the list: more photos change no clip.
                    seeds = (seed, k, *source.encode())
                    target = output / f"{name}__puppet{k}.npz"
                    still = Still(path, source, job.identity, job.split, job.licence, seeds, k % 2 == 0, target)
                    if speakers:  # drawn apart from the clip's motion: 256 is no byte of a name
                        draw = np.random.default_rng((*seeds, 256))
                        still = replace(still, speech=speakers[draw.integers(len(speakers))])
                    todo.append(still)
        kept = dropped = 0
        outcomes = _run_all(todo, face_model, detector, frames, workers)
        for count, (still, good, bad, reason) in enumerate(outcomes, start=1):
            kept, dropped = kept + good, dropped + bad
            if reason:
                typer.echo(f"{still.source}: {reason}")
            if count % 20 == 0 or count == len(todo):
                typer.echo(f"{count} of {len(todo)} clips, {kept} frames kept, {dropped} dropped")


if __name__ == "__main__":
    typer.run(main)
