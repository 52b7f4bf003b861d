"""One photo taken apart: what it shows of a person, ready to be moved.

Three layers in one depth order are made of each photo:

    background    the photo without the person, holes filled; it never moves
    hair layer    the person as the photo shows him or her: a grid over the photo, lifted to the depth of the fitted
                  head and, beyond its outline (hair, ears, shoulders), to a smooth continuation of it. It turns with
                  the head and stays with the shoulders
    head          the fitted mesh: the face with the photo as its texture, and what the photo does not show, in
                  colours that continue those it shows: the far side, the lids when they close, the inside of the
                  mouth

Masks and colours are worked out at ANALYSIS pixels a crop, unless told else, whatever size is drawn later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from ..landmarks import CHIN, FACE_OUTLINE, HAIRLINE, INNER_LIP, OUTER_LIP
from .colours import light_on, redness, share_of_colour
from .eyes import eye_centres, turn_eyes
from .filters import fill_holes, resized, resized_mask
from .fit import posed
from .kernels import interpolate, rasterise, sample, vertex_normals
from .masks import ANALYSIS, UNKNOWN_BACKGROUND, Analysis, background_behind, person_mask
from .model import LASHES_AT, NECK_JOINT, FaceModel, neck_fade, pixels, smoothstep
from .person_fit import PhotoFit

MARGIN = 0.25
"""The photo is kept this far beyond the crop on every side, in sides of the crop: heads move."""
REACH = 1 + 2 * MARGIN
"""Side of the canvas, that is the crop with its margins, in sides of the crop."""
LASHES = (LASHES_AT, 0.5)
"""cm from a lid's edge: where lashes are darkest, and where they end."""
LID_LIGHT = ((2.5, 3.1, 3.7, 4.3), (0.94, 0.93, 0.97, 1.05))
"""cm from the middle of the face, and light of a shut lid there over that of the skin below the eye. Like LID_HUE
chosen on 15 films in which eyes are shut at times, and on portraits, where lids as blue as in those look made up."""
LID_HUE = np.array([1.02, 0.98, 0.995], np.float32)
"""Of a shut lid over that of the face."""
TEETH_IN_SHADE = 0.45
"""How much less light the last tooth that is seen has than the first."""
THROAT = np.array([0.19, 0.09, 0.085], np.float32)
"""Colour of the throat in white light: it is never quite black."""
TONGUE = np.array([0.74, 0.42, 0.41], np.float32)
"""Of its tip, in white light."""
MIN_TEETH = 12.0
"""Vertices of teeth that a photo must show before their light is taken from it."""
FACE_RIM = 8
"""Pixels around the face in which the hair layer fades in."""
SURE_OF_SKIN, BESIDE_THE_NOSE = (0.4, 0.95), (2.2, 3.5)
"""Trust in a vertex, from which on its colour is continued over what the photo does not show; and cm from the middle of
the face, beyond which it must be so sure."""
HIGHLIGHT = (1.2, 1.5)
"""Brightness over that of the face's skin, up to which a colour is continued in full, and from which on not at all."""
LIKE_SKIN = (0.6, 0.8)
"""Brightness of a pixel over that of the skin around, from which on it shows skin: below it is hair, or a collar."""
BELOW_HAIR, SKIN_BEYOND = 1.0, (0.9, 0.5)
"""Height in cm below which the side of the skull is neck; and cm beyond the head's outline, from which on a pixel is
not taken for the skin of the head, and up to which it is if it looks so."""
GRID_STEP = 8
"""Pixels between the points of the hair layer; like all distances in pixels here, at ANALYSIS."""


@dataclass(frozen=True, eq=False)
class PhotoView:
    """What one photo shows of a person. Places are in sides of the crop."""

    fit: PhotoFit
    offset: np.ndarray = field(repr=False)
    """float32 (V, 3) cm in the model's axes, added to identity and expression: the shape that the photo shows."""
    rest: np.ndarray = field(repr=False)
    """float32 (V, 3) cm in the model's axes: the shape with the photo's expression, eyes straight."""
    eye_centres: np.ndarray = field(repr=False)
    """float32 (2, 3) cm: what the left and the right eyeball turn about."""
    texture_at: np.ndarray = field(repr=False)
    """float32 (V, 2): where in the photo each vertex is seen."""
    trust: np.ndarray = field(repr=False)
    """float32 (V,): 1 where the photo shows a vertex well, 0 where it shows something else."""
    shown: np.ndarray = field(repr=False)
    """float32 (V,): 1 where a vertex is what the photo shows at its place, however badly."""
    fill: np.ndarray = field(repr=False)
    """float32 (V, 3) in 0..255: colours for where the photo cannot be trusted."""
    texture: np.ndarray = field(repr=False)
    """uint8 (C, C, 4) of the canvas: the person's colours, continued beyond the outline, and opacity."""
    background: np.ndarray = field(repr=False)
    """uint8 (S, S, 3) of the crop: what is behind the person."""
    background_known: np.ndarray = field(repr=False)
    """uint8 (S, S): 255 where the photo shows that, 0 where it was continued."""
    photo: np.ndarray = field(repr=False)
    """uint8 (S, S, 3) of the crop: the photo as it is."""
    hair_points: np.ndarray = field(repr=False)
    """float32 (P, 3) cm in the picture's axes."""
    hair_at: np.ndarray = field(repr=False)
    """float32 (P, 2)."""
    hair_rim: np.ndarray = field(repr=False)
    """float32 (P,): 1 on the person and near by, 0 at the layer's end."""
    hair_share: np.ndarray = field(repr=False)
    """float32 (P,): 0 in the middle of the face, 1 elsewhere."""
    hair_is_skin: np.ndarray = field(repr=False)
    """float32 (P,): 1 where the layer shows the skin of the face or neck, which the head has as well; 0 for hair, ears,
    shoulders."""
    hair_fade: np.ndarray = field(repr=False)
    """float32 (P, 1): how much of the head's turn each point takes."""
    anchors: np.ndarray = field(repr=False)
    """int32 (P, 3) vertices that take a point of the hair layer along, by ``anchor_weights`` (P, 3)."""
    anchor_weights: np.ndarray = field(repr=False)
    hair_triangles: np.ndarray = field(repr=False)
    """int32 (G, 3)."""
    shoulders: np.ndarray | None = None
    """(2,) cm to the image's right and up: where the shoulders are, from where the most neutral photo has them. None
    where nobody knows."""


class PhotoViewBuilder:
    """Takes one photo apart; ``build`` gives the PhotoView."""

    def __init__(
        self,
        model: FaceModel,
        identity_coefficients: np.ndarray,
        fit: PhotoFit,
        canvas: np.ndarray,
        mask: np.ndarray,
        landmarks: np.ndarray,
        analysis: int,
    ) -> None:
        self.model, self.fit, self.canvas = model, fit, canvas
        self.analysis, self.crop_side = Analysis(analysis), analysis
        self.side, self.edge = round(REACH * analysis), round(MARGIN * analysis)
        colour, segmented = (resized(image, self.side).astype(np.float32) / 255 for image in (canvas, mask))
        person = person_mask(segmented, colour, self._inside_face(landmarks), self.analysis)
        self.person, self.colour = person, colour
        self.base = model.vertices(identity_coefficients, fit.frame.expression)
        self.base[:, 0] -= model.incisors_apart
        self.base[:, 1] += model.tongue_raised
        shape = turn_eyes(model, self.base + fit.offset + model.without_ears, fit.frame.gaze)
        self.turned = posed(shape, fit.frame).astype(np.float32)
        # Pixels of an outline are half background: they take colours from further in, and keep their softness.
        core = (ndimage.minimum_filter(person, self.analysis.window(9)) > 0.6).astype(np.float32)
        self.inner_share = ndimage.gaussian_filter(core, 1.5 * analysis / ANALYSIS) * core
        self.own = fill_holes(colour, self.inner_share)
        self.alpha = smoothstep(0.4, 0.9, person)
        before = self.turned.copy()
        self._stay_inside()
        drawn_in = (self.turned - before) @ fit.frame.rotation  # of the skin alone
        self.offset = (fit.offset + model.without_ears + drawn_in).astype(np.float32)
        self._trust_the_photo(landmarks)
        self._colour_the_rest()
        self._lift_the_hair_layer()

    def build(self) -> PhotoView:
        """The finished PhotoView."""
        camera = self.fit.camera
        background, known = background_behind(self.person, self.colour, self.analysis)
        side = len(self.canvas)
        texture = np.dstack([self._at_full_size(self.own, self.inner_share), resized_mask(self.alpha, side)])
        inner = slice(round(side * MARGIN / REACH), round(side * MARGIN / REACH) + round(side / REACH))
        return PhotoView(
            fit=self.fit,
            offset=self.offset,
            rest=self.base + self.offset,
            eye_centres=eye_centres(self.model, self.base + self.offset),
            texture_at=camera.project(self.turned)[:, :2].copy(),
            trust=self.trust,
            shown=self.shown,
            fill=(255 * self.fill).astype(np.float32),
            texture=np.ascontiguousarray(texture),
            background=np.ascontiguousarray(self._at_full_size(background, known)[inner, inner]),
            background_known=np.ascontiguousarray(resized_mask(known, side)[inner, inner]),
            photo=np.ascontiguousarray(self.canvas[inner, inner]),
            hair_points=self.hair_points,
            hair_at=self.hair_at,
            hair_rim=self.hair_rim,
            hair_share=self.hair_share.astype(np.float32),
            hair_is_skin=self.hair_is_skin,
            hair_fade=self.hair_fade,
            anchors=self.anchors,
            anchor_weights=self.anchor_weights,
            hair_triangles=self.hair_triangles,
        )

    def _at_full_size(self, colours: np.ndarray, original: np.ndarray) -> np.ndarray:
        """Colours (self.side, self.side, 3) in 0..1 enlarged to the canvas's size, uint8, with the photo's own pixels
        where ``original`` (self.side, self.side) is 1."""
        side = len(self.canvas)
        small = (colours * 255 + 0.5).clip(0, 255).astype(np.uint8)
        if side == self.side:
            return small
        share = resized_mask(original, side).astype(np.float32)[..., None] / 255
        large = resized(small, side).astype(np.float32)
        return (large + share * (self.canvas - large) + 0.5).clip(0, 255).astype(np.uint8)

    def _inside_face(self, landmarks: np.ndarray) -> np.ndarray:
        """(side, side) bool: the face, from hairline to chin; the middle of the canvas for one that lies beyond it."""
        picture = Image.new("1", (self.side, self.side))
        outline = landmarks[list(FACE_OUTLINE)] * self.crop_side + self.edge
        ImageDraw.Draw(picture).polygon([tuple(point) for point in outline.tolist()], fill=1)
        face = np.array(picture)
        if not face.any():
            face[self.side // 4 : -self.side // 4, self.side // 4 : -self.side // 4] = True
        return face

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        """Turned points (..., 3) -> pixels of the canvas and depth, float32 (..., 3)."""
        return pixels(self.fit.camera, points, self.crop_side, self.edge)

    # --- what the photo shows ----------------------------------------------------------------------------------------

    def _stay_inside(self) -> None:
        """Draws the head in where it is larger than the person in the photo, or it would show the background."""
        model, camera = self.model, self.fit.camera
        outside = ndimage.minimum_filter(self.person, self.analysis.window(7)) < 0.5
        away, nearest = ndimage.distance_transform_edt(outside, return_indices=True)
        for _ in range(4):
            points = self._pixels(self.turned)
            at = np.clip(points[:, :2].astype(int), 0, self.side - 1)
            row, column = nearest[:, at[:, 1], at[:, 0]]
            shift = np.stack([column - at[:, 0], at[:, 1] - row], axis=1).astype(np.float32)
            shift *= ((away[at[:, 1], at[:, 0]] > 0) & model.skin)[:, None]
            shift *= (1 - points[:, 2:] / camera.distance) / (camera.scale * self.crop_side)
            for _ in range(6):
                mean = model.neighbours @ shift
                shift = np.where(shift == 0, mean, 0.5 * (shift + mean))
            self.turned[:, :2] += shift * model.skin[:, None]

    def _trust_the_photo(self, landmarks: np.ndarray) -> None:
        model = self.model
        self.points = self._pixels(self.turned)
        self.nearest = np.empty((self.side, self.side), np.int32)
        self.depth = np.empty((self.side, self.side), np.float32)
        rasterise(self.points, model.triangles, 0, self.side, self.nearest, self.depth)
        column, row = np.clip(self.points[:, :2].astype(int), 0, self.side - 1).T
        visible = self.points[:, 2] > self.depth[row, column] - 0.15
        facing = smoothstep(0.1, 0.4, vertex_normals(self.turned, model.triangles)[:, 2])
        facing[~model.skin] = 1
        core = ndimage.minimum_filter(self.person, self.analysis.window(15))[row, column]
        rest = (self.turned - NECK_JOINT - self.fit.frame.translation) @ self.fit.frame.rotation + NECK_JOINT
        neck = smoothstep(-10, -8, rest[:, 1])
        trust = (visible * facing * neck * smoothstep(0.5, 0.9, core)).astype(np.float32)
        # Pixels at an edge show both sides of it: draw back from every edge.
        for _ in range(2):
            trust = np.minimum(trust, model.neighbours @ trust)
        # An open mouth is seen between the lips, wherever the model's teeth may stand.
        lips = landmarks[np.r_[INNER_LIP, INNER_LIP.start]] * self.crop_side + self.edge
        between = smoothstep(0.5, 3.0, inside_outline(self.points[:, :2], lips) * (ANALYSIS / self.crop_side))
        self.trust = np.where(model.inside, visible * between, trust).astype(np.float32)
        self.shown = np.where(model.inside, visible * between, visible).astype(np.float32)

    def _colour_the_rest(self) -> None:
        """Colours where the photo cannot be trusted, continued from where it can."""
        model, rest = self.model, self.base
        colours = sample(np.ascontiguousarray(self.own), np.ascontiguousarray(self.points[:, :2]))
        # Skin along the outline has the light of its rim, and often a collar or the background in it.
        aside = smoothstep(*BESIDE_THE_NOSE, np.abs(rest[:, 0]))
        known = np.sqrt(self.trust)
        known += aside * (smoothstep(*SURE_OF_SKIN, self.trust) - known)
        known *= model.skin & ~model.ears & ~model.around_eyes
        skin = (known[:, None] * colours).sum(axis=0) / max(float(known.sum()), 1e-6)
        # A highlight there stays where it is.
        bright = smoothstep(*HIGHLIGHT, colours.mean(axis=1) / max(float(skin.mean()), 1e-3))
        known *= 1 - aside * bright
        # Colours that only the other side of the face shows are taken from there, in the light of this side.
        other, both = colours[model.mirror], known * known[model.mirror]
        light = self._spread(np.clip(colours / np.maximum(other, 0.02), 0.3, 3.0), both)
        mirrored = 0.7 * known[model.mirror] * (1 - known)
        weight = known + mirrored
        mixed = (known[:, None] * colours + mirrored[:, None] * other * light) / np.maximum(weight, 1e-3)[:, None]
        sure = _most_certain(weight)
        bare = model.scalp & ~model.ears & (weight < 0.4)
        hair = self._hair()
        if hair is not None:
            mixed[bare], weight[bare] = hair, 0.9
        fill = self._spread(mixed, weight)
        # Lids are no brows, which are what lies nearest above them: they take the colour of the skin below the eye.
        lower = rest[model.landmark_vertices[[41, 46]], 1].mean() - 0.5
        below = sure[rest[sure, 1] < lower]
        if len(below) >= 8:
            under = fill[below[cKDTree(rest[below]).query(rest[model.around_eyes], k=8)[1]]].mean(axis=1)
            lid = model.lids[model.around_eyes].max(axis=1)[:, None]
            fill[model.around_eyes] += lid * (self._lids(0.75 * under + 0.25 * skin, skin) - fill[model.around_eyes])
        fill *= self._lashes(colours, skin)[:, None]
        self._doubt_teeth_like_lips(colours)
        self._colour_eyes_and_mouth(fill, colours, skin)
        self.fill = fill.clip(0, 1).astype(np.float32)

    def _hair(self) -> np.ndarray | None:
        """The colour (3,) of what lies above the hairline; None where the photo ends there."""
        points = self.points[self.model.landmark_vertices, :2]
        up = points[HAIRLINE].mean(axis=0) - points[CHIN].mean(axis=0)
        places = (points[HAIRLINE] + up * np.array([0.15, 0.2, 0.25])[:, None, None]).reshape(-1, 2)
        column, row = places.astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < self.side) & (row < self.side)
        column, row = column[inside], row[inside]
        covered = self.person[row, column] > 0.9
        if covered.sum() < 8:
            return None
        colour: np.ndarray = np.median(self.own[row[covered], column[covered]], axis=0)
        return colour

    def _spread(self, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Values (V, C) that are known by ``weight`` (V,) in 0..1 -> float32 (V, C), continued over the mesh."""
        sure = _most_certain(weight)
        result = values[sure[cKDTree(self.base[sure]).query(self.base)[1]]].astype(np.float32)
        share = weight[:, None]
        for _ in range(30):
            result = share * values + (1 - share) * (self.model.neighbours @ result)
        return result.astype(np.float32)

    def _lids(self, under: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """Colours (N, 3) of shut lids, from the skin ``under`` (N, 3) the eyes and the whole face's ``skin`` (3,).

        Below the eyes skin is often grey, and lids are not: their hue is half the face's.
        """
        aside = np.abs(self.model.mean[self.model.around_eyes, :1])
        light = np.maximum(under.mean(axis=1, keepdims=True), 1e-3)
        hue = np.sqrt(np.maximum(under / light, 1e-3) * (skin / max(float(skin.mean()), 1e-3)))
        red = 1 + share_of_colour(skin) * (LID_HUE - 1)
        return light * np.interp(aside, *LID_LIGHT) * hue * red

    def _lashes(self, colours: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """(V,) light that lashes leave of the skin's: as dark as along the lids' edges in the photo."""
        seen = (self.model.lashes < LASHES[0]) & (self.trust > 0.3)
        shade = np.percentile(colours[seen].mean(axis=1), 20) / max(float(skin.mean()), 1e-3) if seen.any() else 0.4
        grown = smoothstep(LASHES[1], LASHES[0], self.model.lashes)
        light: np.ndarray = 1 - grown * (1 - np.clip(shade, 0.25, 0.7))
        return light

    def _doubt_teeth_like_lips(self, colours: np.ndarray) -> None:
        """What a photo shows where the model's teeth stand may be the tongue or the throat. Where most of it is as red
        as the lips and darker, none is believed: half a row of teeth is worse than an invented one."""
        model = self.model
        seen = (model.part == "teeth") & (self.trust > 0.5)
        lips = colours[model.landmark_vertices[OUTER_LIP]]
        if not seen.any():
            return
        dark = np.median(colours[seen].mean(axis=1)) < 0.8 * lips.mean()
        if seen.sum() < MIN_TEETH or (dark and np.median(redness(colours[seen])) > 0.75 * np.median(redness(lips))):
            self.trust[model.part == "teeth"] = 0

    def _colour_eyes_and_mouth(self, fill: np.ndarray, colours: np.ndarray, skin: np.ndarray) -> None:
        """White and iris are round, so what the lids hide is what is seen elsewhere at the same angle."""
        model = self.model
        bins = np.minimum(model.gaze_angle // 3, 12).astype(int)
        white = np.array([0.62, 0.6, 0.58]) * np.clip(skin.mean() / 0.5, 0.6, 1.2)
        rings = np.tile(white, (13, 1))
        for ring in range(13):
            share = self.trust * (model.eyes & (bins == ring))
            if share.sum() > 1.5:
                if ring > 8:  # the white; its darker half lies in the lids' shadow
                    share = share * (colours.mean(axis=1) >= np.median(colours.mean(axis=1)[share > 0]))
                rings[ring] = (share[:, None] * colours).sum(axis=0) / share.sum()
            elif ring < 8:  # the iris, wholly hidden
                rings[ring] = 0.25 * white
        fill[model.eyes] = ndimage.gaussian_filter1d(rings, 0.6, axis=0, mode="nearest")[bins[model.eyes]]
        fill[model.inside] = self._mouth(colours, skin, light_on(skin, rings[9:12]))[model.inside]
        socket = np.char.startswith(model.part, "eye_socket")
        fill[socket] = skin * 0.6

    def _mouth(self, colours: np.ndarray, skin: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Colours (V, 3) of the inside of the mouth: in the light of the teeth that the photo shows, or else in
        ``light`` (3,)."""
        teeth = self.model.part == "teeth"
        inside = self.model.mouth_colour.copy()
        inside[teeth] = inside[teeth] ** 0.6  # a row of teeth is no row of gaps
        aside = np.abs(self.model.mean[:, :1])
        inside[teeth] *= (1 - TEETH_IN_SHADE * smoothstep(0.5, 2.5, aside))[teeth]  # of the lips and cheeks
        deep = ~teeth & self.model.inside
        inside[deep] *= smoothstep(6.0, 10.5, self.model.mean[deep, 2:]) * 0.5 + 0.5
        inside[deep] += (1 - inside[deep]) * THROAT
        lit = (0.2 + 0.8 * smoothstep(5.5, 9.8, self.model.mean[:, 2:])) * (1 - 0.4 * smoothstep(0.6, 1.6, aside))
        inside += self.model.tongue[:, None] * (lit * TONGUE - inside)
        inside[teeth] = np.maximum(inside[teeth], 1.5 * THROAT)
        # A photo without colours, or with few, has no red mouth.
        grey = inside.mean(axis=1, keepdims=True)
        inside = grey + share_of_colour(skin) * (inside - grey)
        share = self.trust * teeth
        brightness = colours.mean(axis=1)
        if share.sum() > MIN_TEETH:
            # Colours darker than most are lip or shadow.
            share = share * (brightness >= np.median(brightness[share > 0.5]))
            seen = (share[:, None] * colours).sum(axis=0) / np.maximum((share[:, None] * inside).sum(axis=0), 1e-6)
            if seen.mean() > 0.6 * light.mean():
                light = np.clip(seen, 0.4, 1.05)
        return inside * light

    # --- the hair layer ----------------------------------------------------------------------------------------------

    def _lift_the_hair_layer(self) -> None:
        """The grid over the photo, and how each of its points hangs on the head."""
        camera, frame = self.fit.camera, self.fit.frame
        scale = camera.scale * self.crop_side
        steps = np.arange(0, self.side + 1, self.analysis.scaled(GRID_STEP))
        side = len(steps)
        x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
        column, row = np.minimum(x, self.side - 1), np.minimum(y, self.side - 1)
        covered = self.nearest >= 0
        away, nearest = ndimage.distance_transform_edt(~covered, return_indices=True)
        self.hair_is_skin = np.ascontiguousarray(self._is_skin(away / scale, nearest)[row, column])
        from_head = away[row, column] / scale  # cm
        anchor_row, anchor_column = nearest[:, row, column]

        depth = fill_holes(np.where(covered, self.depth, 0)[..., None], covered.astype(np.float32))[row, column, 0]
        depth = np.where(from_head > 0, -2 + (depth + 2) * np.exp(-from_head / 6.0), depth)
        zoom = scale / (1 - depth / camera.distance)
        centre = np.array(camera.centre) * self.crop_side + self.edge
        at = np.stack([x, y], axis=1)
        self.hair_points = np.column_stack([(at - centre) / zoom[:, None] * [1, -1], depth]).astype(np.float32)
        self.hair_at = ((at - self.edge) / self.crop_side).astype(np.float32)
        rest = (self.hair_points - NECK_JOINT - frame.translation) @ frame.rotation + NECK_JOINT
        self.hair_fade = neck_fade(rest[:, 1:2])
        triangles = self.model.triangles[self.nearest[anchor_row, anchor_column]]
        self.anchors = triangles.astype(np.int32)
        hold = np.exp(-from_head / 1.5)[:, None]
        corners = self.points[triangles]
        self.anchor_weights = (_weights_in(corners, anchor_column + 0.5, anchor_row + 0.5) * hold).astype(np.float32)

        # Cells in the middle of the face are left to the head: the hair layer may not span lips that open.
        share = np.where(self.model.skin, self.trust, 1)[:, None].astype(np.float32)
        trusted = interpolate(self.points, self.model.triangles, self.nearest, share)[..., 0] > 0.8
        reach = int(0.9 * scale)
        face = ndimage.binary_fill_holes(ndimage.binary_closing(trusted, iterations=max(1, reach // 2)))
        face = ndimage.binary_erosion(face, iterations=self.analysis.scaled(2))
        # The rim is as wide as the band with unknown background: there an unmoved person brings the photo's own pixels.
        person = ndimage.maximum_filter(self.person, self.analysis.window(UNKNOWN_BACKGROUND + GRID_STEP)) > 0.15
        useful = (person & ~face)[row, column]
        beyond = ndimage.distance_transform_edt(self.person < 0.15)[row, column]
        # Towards the face the layer fades out: cut along its cells it would have a ragged edge.
        self.hair_share = smoothstep(
            0, self.analysis.scaled(FACE_RIM), ndimage.distance_transform_edt(~face)[row, column]
        )
        width = 0.5 * self.analysis.window(UNKNOWN_BACKGROUND)
        self.hair_rim = smoothstep(width, 0.4 * width, beyond).astype(np.float32)
        index = np.arange(side * side).reshape(side, side)
        a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
        cells = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
        self.hair_triangles = np.ascontiguousarray(cells[useful[cells].any(axis=1)].astype(np.int32))

    def _is_skin(self, from_head: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        """float32 (side, side), see ``PhotoView.hair_is_skin``: how far a pixel is as bright as the head's bare skin
        there, or at the pixel ``nearest`` (2, side, side) to it that the head covers; ``from_head``: cm to that."""
        model = self.model
        hairless = model.skin & ~model.ears & ~(model.scalp & (self.base[:, 1] > BELOW_HAIR))
        values = np.column_stack([self.fill, hairless]).astype(np.float32)
        drawn = interpolate(self.points, model.triangles, self.nearest, values)[*nearest]
        brightness = self.own.mean(axis=2) / np.maximum(drawn[..., :3].mean(axis=2), 0.02)
        skin = drawn[..., 3] * smoothstep(*LIKE_SKIN, brightness) * smoothstep(*SKIN_BEYOND, from_head)
        return ndimage.gaussian_filter(skin.astype(np.float32), self.analysis.scaled(GRID_STEP) / 2)


def _most_certain(weight: np.ndarray) -> np.ndarray:
    """(V,) -> indices of what is known well, some at least."""
    sure = np.flatnonzero(weight > 0.4)
    return sure if len(sure) >= 8 else np.argsort(-weight)[:8]  # hardly anything is seen of this face


def _weights_in(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Barycentric weights (N, 3) of points in triangles (N, 3, >= 2)."""
    (ax, ay), (bx, by), (cx, cy) = (corners[:, k, :2].T for k in range(3))
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    u = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
    v = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
    weights = np.clip(np.stack([u, v, 1 - u - v], axis=1), 0, 1)
    return weights / weights.sum(axis=1, keepdims=True)


def inside_outline(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """(N, 2) and a closed outline (M, 2) -> (N,) distance to its corners, positive inside (even-odd rule)."""
    x, y = points[:, :1], points[:, 1:]
    (ax, ay), (bx, by) = outline[:-1].T, outline[1:].T
    crosses = (ay > y) != (by > y)
    height = np.where(by == ay, 1.0, by - ay)
    inside = (crosses & (x < ax + (y - ay) / height * (bx - ax))).sum(axis=1) % 2 == 1
    distance = np.sqrt(((points[:, None] - outline[None]) ** 2).sum(axis=-1)).min(axis=1)
    return distance * np.where(inside, 1.0, -1.0)
