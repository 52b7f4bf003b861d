"""The face model: identity and expression coefficients -> vertices, and the camera that puts them into a picture.

Model space: centimetres, x to the viewer's right (the person's left), y up, z towards the viewer; the origin lies
inside the head. Image space: sides of the crop, x to the right, y down; the crop covers [0, 1] x [0, 1], so that a
head is drawn at any size. Depth: centimetres towards the viewer.

The numbers are a reduced ICT-FaceKit (MIT, FACE_MODEL_LICENSE), made by ``python -m train.reduce_face_model``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import InvalidModelError
from .kernels import EYE, INSIDE, LID_EDGE, SKIN, TEETH

ASSET = Path(__file__).parent / "face_model.safetensors"
CAMERA_DISTANCE = 75.0
"""Centimetres from the origin to the camera. One photo does not tell how far it stood."""
NECK_JOINT = np.array([0.0, -7.0, -1.5], np.float32)
"""The joint that the head turns about, in model space."""
EYES_HEIGHT, FOLD_HEIGHT, FOLD = 3.6, (5.2, 4.5), 0.8
"""Heights in cm of the corners of the eyes, and between which the fold of an upper lid ends; how much of it is gone
when the eye is shut."""
NECK_TOP, NECK_BOTTOM = -5.0, -15.0
"""Heights in cm between which a turn of the head fades out along the neck."""
EYES = ("eyeball_left", "eyeball_right")
TONGUE_RAISED = 0.5
"""cm, see ``FaceModel.tongue_raised``."""
LASHES_AT = 0.25
"""Up to here ``FaceModel.lashes`` are darkest: the skin of a closed lid that is seen begins there."""


@dataclass(frozen=True)
class Camera:
    """Scaled perspective: at depth 0 a centimetre is ``scale`` sides of the crop."""

    scale: float
    centre: tuple[float, float]
    """Where the origin of model space is drawn, in sides of the crop."""
    distance: float = CAMERA_DISTANCE

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """Turned vertices (..., 3) -> (..., 3): x and y in sides of the crop, depth in cm."""
        zoom = self.scale / (1.0 - vertices[..., 2:] / self.distance)
        flat = zoom * vertices[..., :2] * np.array([1, -1], np.float32) + np.array(self.centre, np.float32)
        return np.concatenate([flat, vertices[..., 2:]], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class FaceModel:
    """Linear model: V = mean + sum_i w_i identity_i + sum_j e_j expression_j."""

    mean: np.ndarray
    """(V, 3) cm."""
    identity_basis: np.ndarray = field(repr=False)
    """(I, V, 3) cm per standard deviation."""
    expression_basis: np.ndarray = field(repr=False)
    """(E, V, 3) cm at full strength."""
    expression_names: tuple[str, ...]
    """ARKit's names in the order of Live Link Face, without tongueOut."""
    triangles: np.ndarray = field(repr=False)
    """(F, 3) vertices of what is drawn."""
    part: np.ndarray = field(repr=False)
    """(V,) names: face, head_neck, teeth, eyeball_left and so on."""
    landmark_vertices: np.ndarray = field(repr=False)
    """(L,) the vertex that detectors mean by each landmark."""
    mirror: np.ndarray = field(repr=False)
    """(V,) the vertex on the other side."""
    lids: np.ndarray = field(repr=False)
    """(V, 2) 0..1: how far a blink of the left and of the right eye moves a vertex."""
    around_eyes: np.ndarray = field(repr=False)
    """(V,) bool: lids with their folds and lashes."""
    lashes: np.ndarray = field(repr=False)
    """(V,) cm to the edge of the upper lids when they are closed; 1 and more off the lids."""
    gaze_angle: np.ndarray = field(repr=False)
    """(V,) degrees from the middle of the pupil; 180 off the eyeballs."""
    mouth_colour: np.ndarray = field(repr=False)
    """(V, 3) of teeth, gums and mouth cavity in white light, else 0."""
    without_ears: np.ndarray = field(repr=False)
    """(V, 3) cm that draw the ears into the head: the photo brings the person's own."""

    @classmethod
    def load(cls, path: str | Path = ASSET) -> FaceModel:
        """Read an asset of ``train.reduce_face_model``. Raises InvalidModelError for another file."""
        try:
            with safe_open(path, framework="np") as file:
                words = file.metadata() or {}
                values: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            parts = np.array(json.loads(words["parts"]))
            names = tuple(json.loads(words["expression_names"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InvalidModelError(f"{path} is no reduced face model ({error}). Install the package anew.") from error
        for name, value in values.items():
            if value.dtype == np.float16:
                values[name] = value.astype(np.float32)
        del values["original_vertex"]
        values["identity_basis"], values["expression_basis"] = values.pop("identity"), values.pop("expression")
        values["part"] = parts[values["part"]]
        values["around_eyes"] = values["around_eyes"].astype(bool)
        return cls(expression_names=names, **values)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The bundled model is not sent to other processes: they have it."""
        return (face_model, ()) if self is face_model() else super().__reduce_ex__(protocol)

    def vertices(
        self, identity_coefficients: np.ndarray | None = None, expression: np.ndarray | None = None
    ) -> np.ndarray:
        """Coefficients (<= I,) and (E,) -> vertices float32 (V, 3) in centimetres."""
        vertices = self.mean.copy()
        for weights, shapes in ((identity_coefficients, self.identity_basis), (expression, self.expression_basis)):
            if weights is not None:
                used = np.flatnonzero(weights)
                if len(used):  # most expressions are at rest: their rows are never read
                    vertices += np.tensordot(weights[used].astype(np.float32), shapes[used], axes=1)
        return vertices

    def index(self, name: str) -> int:
        """Place of an expression by its name."""
        return self.expression_names.index(name)

    @cached_property
    def blinks(self) -> list[int]:
        """Numbers of the left and the right eye's blink among the expressions."""
        return [self.index("eyeBlinkLeft"), self.index("eyeBlinkRight")]

    @cached_property
    def skin(self) -> np.ndarray:
        """(V,) bool: face, scalp and neck."""
        return np.isin(self.part, ["face", "head_neck"])

    @cached_property
    def ears(self) -> np.ndarray:
        """(V,) bool: what ``without_ears`` draws in."""
        result: np.ndarray = np.linalg.norm(self.without_ears, axis=1) > 0.05
        return result

    @cached_property
    def scalp(self) -> np.ndarray:
        """(V,) bool: where hair grows, if any does: the skull above the neck, behind ears and forehead."""
        x, y, z = np.abs(self.mean[:, 0]), self.mean[:, 1], self.mean[:, 2]
        result: np.ndarray = self.skin & (z < 3.5 + 0.45 * np.maximum(y - 4, 0)) & (y > -4) & ((x < 7.5) | (y > 5))
        return result

    @cached_property
    def eyes(self) -> np.ndarray:
        """(V,) bool: both eyeballs."""
        return np.isin(self.part, EYES)

    @cached_property
    def eye(self) -> np.ndarray:
        """(V,) int64: 0 for the left eyeball, 1 for the right one, else -1."""
        return np.where(self.part == EYES[0], 0, np.where(self.part == EYES[1], 1, -1))

    @cached_property
    def inside(self) -> np.ndarray:
        """(V,) bool: the inside of the mouth, and the eye sockets."""
        return ~self.skin & ~self.eyes

    @cached_property
    def folds(self) -> np.ndarray:
        """float32 (V, 2) 0..1: skin that looks different once the left and the right eye is shut: the lids, and the
        fold of the upper one, which is gone then."""
        x, y = self.mean[:, 0], self.mean[:, 1]
        above = self.around_eyes & self.skin & (y > EYES_HEIGHT)
        fold = FOLD * smoothstep(*FOLD_HEIGHT, y) * above
        sides = np.stack([fold * (x > 0), fold * (x < 0)], axis=1)
        return np.maximum(self.lids, sides).astype(np.float32)

    @cached_property
    def layer(self) -> np.ndarray:
        """(F,) int8: what a triangle is part of: skin, teeth, the inside of the mouth, an eye or a lid's edge."""
        corner = self.triangles[:, 0]
        layer = np.where(self.skin[corner], SKIN, INSIDE)
        layer[self.part[corner] == "teeth"] = TEETH
        layer[np.char.startswith(self.part[corner], "eye")] = EYE
        layer[(layer == SKIN) & (self.lashes[self.triangles] < LASHES_AT).any(axis=1)] = LID_EDGE
        return layer.astype(np.int8)

    @cached_property
    def incisors_apart(self) -> np.ndarray:
        """(V,) cm to the side by which the front teeth stand too far out: the model's have a gap that few people's
        have."""
        x = self.mean[:, 0]
        apart: np.ndarray = np.sign(x) * 0.05 * smoothstep(0.35, 0.1, np.abs(x)) * (self.part == "teeth")
        return apart.astype(np.float32)

    @cached_property
    def tongue(self) -> np.ndarray:
        """(V,) 0..1: the part of the gums' mesh that is the tongue, fading out towards the gums."""
        x, y, z = self.mean.T
        beside, under, front = smoothstep(1.75, 1.1, np.abs(x)), smoothstep(-4.6, -4.1, y), smoothstep(10.0, 9.6, z)
        palate = smoothstep(-2.4, -1.9, y)
        share: np.ndarray = beside * under * front * (1 - palate) * (self.part == "gums_tongue")
        return share.astype(np.float32)

    @cached_property
    def tongue_raised(self) -> np.ndarray:
        """(V,) cm upwards by which the tongue lies higher than the model's: that is hidden behind the lower teeth, and
        an open mouth would be an empty one."""
        raised: np.ndarray = TONGUE_RAISED * self.tongue * smoothstep(4.0, 6.5, self.mean[:, 2])
        return raised.astype(np.float32)

    @cached_property
    def neighbours(self) -> Any:
        """(V, V) sparse: the mean over a vertex's neighbours."""
        from scipy import sparse

        a, b, c = self.triangles.T
        rows, columns = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
        count = len(self.mean)
        links = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, count))
        degree = np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)
        return (sparse.diags((1 / degree).astype(np.float32)) @ links).tocsr()

    @cached_property
    def eyeball_centres(self) -> np.ndarray:
        """(2, 3) cm, left and right: centres of the spheres through the backs of the mean face's eyeballs."""
        centres = []
        for name in EYES:
            points = self.mean[self.part == name].astype(float)
            back = points[points[:, 2] < points[:, 2].max() - 0.5]
            # |p|^2 = 2 c.p + (r^2 - c.c) is linear in what is sought.
            system = np.column_stack([2 * back, np.ones(len(back))])
            centres.append(np.linalg.lstsq(system, (back**2).sum(axis=1), rcond=None)[0][:3])
        return np.array(centres, np.float32)


@cache
def face_model() -> FaceModel:
    """The bundled model, loaded once."""
    return FaceModel.load()


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at or before ``low``, 1 at or beyond ``high`` (which may be the smaller), smooth in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def rotation_by(vector: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) in radians -> (3, 3), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """The inverse of ``rotation_by``, (3, 3) -> (3,) radians; the angle within half a turn."""
    cosine = np.clip((np.trace(rotation) - 1) / 2, -1, 1)
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    length = float(np.linalg.norm(axis))
    return float(np.arccos(cosine)) * axis / length if length > 1e-9 else np.zeros(3)


def neck_fade(height: np.ndarray) -> np.ndarray:
    """Heights in cm in the model's axes -> share of the head's turn in 0..1."""
    return smoothstep(NECK_BOTTOM, NECK_TOP, height).astype(np.float32)


def pixels(camera: Camera, points: np.ndarray, size: int, margin: float = 0.0) -> np.ndarray:
    """Turned points (..., 3) in cm -> float32 (..., 3): pixels of a crop of ``size``, ``margin`` from the edge, and
    depth."""
    places = camera.project(points)
    places[..., :2] *= np.float32(size)
    places[..., :2] += np.float32(margin)
    return places
