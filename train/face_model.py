"""A 3D face: identity and expression -> vertices -> pixels. A small software renderer, no GPU, no window system.

Model space: centimetres, x to the viewer's right, y up, z towards the viewer; the origin lies inside the head.
Image space: pixels, x to the right, y down; pixel (row i, column j) covers [j, j+1) x [i, i+1), its centre is at +0.5.
Depth: centimetres towards the viewer, larger is nearer.

The numbers come from ICT-FaceKit (MIT), packed as one ``ict_facekit.npz``.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from scipy.interpolate import PchipInterpolator

from talking_heads.errors import InvalidModelError

HIDDEN_MATERIALS = frozenset(
    {"M_ScleraLeft", "M_ScleraRight", "M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes"}
)
"""Transparent shells in front of the eyes. Painted opaque they would blank the iris, so they are not drawn."""

NECK_TOP, NECK_BOTTOM = -5.0, -15.0
"""Heights (cm) between which a turn of the head fades out along the neck."""


@dataclass(frozen=True)
class Camera:
    """Scaled perspective: a point at depth 0 is drawn at ``scale`` pixels per centimetre."""

    scale: float
    centre: tuple[float, float]  # pixel where the model's origin is drawn
    distance: float = 90.0  # cm from the origin to the eye point; infinity is weak perspective

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """Rotated model space (..., 3) -> (..., 3): x, y in pixels, depth in centimetres."""
        zoom = self.scale / (1.0 - vertices[..., 2] / self.distance)
        return np.stack(
            [
                self.centre[0] + zoom * vertices[..., 0],
                self.centre[1] - zoom * vertices[..., 1],
                vertices[..., 2],
            ],
            axis=-1,
        )


@dataclass(frozen=True)
class FaceModel:
    """Linear model: V = mean + sum_i w_i identity_i + sum_j e_j expression_j."""

    mean: np.ndarray  # (V, 3) cm
    identity: np.ndarray  # (I, V, 3) cm per standard deviation
    expression: np.ndarray  # (E, V, 3) cm at full strength
    expression_names: tuple[str, ...]
    triangles: np.ndarray  # (F, 3) vertex indices, without HIDDEN_MATERIALS
    triangle_material: np.ndarray  # (F,) names
    vertex_part: np.ndarray  # (V,) names
    landmark_vertices: np.ndarray  # (68,) vertex indices in iBUG order

    @classmethod
    def load(cls, path: str | Path) -> FaceModel:
        """Read ``ict_facekit.npz``. Raises InvalidModelError for another file."""
        try:
            return cls._read(Path(path))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InvalidModelError(f"{path} is not the face model ict_facekit.npz ({error}).") from error

    @classmethod
    def _read(cls, path: Path) -> FaceModel:
        with np.load(path) as data:
            material = data["material_names"][data["tri_material"]]
            shown = ~np.isin(material, list(HIDDEN_MATERIALS))
            return cls(
                mean=data["mean"].astype(np.float32),
                identity=data["identity"].astype(np.float32),
                expression=data["expression"].astype(np.float32),
                expression_names=tuple(str(name) for name in data["expression_names"]),
                triangles=np.ascontiguousarray(data["tri"][shown]),
                triangle_material=material[shown],
                vertex_part=data["part_names"][data["vertex_part"]],
                landmark_vertices=data["lmk68"],
            )

    def weights(self, **strengths: float) -> np.ndarray:
        """Expression strengths by name -> (E,). A name without _L or _R sets both sides."""
        vector = np.zeros(len(self.expression_names), np.float32)
        for name, strength in strengths.items():
            found = [i for i, known in enumerate(self.expression_names) if known in (name, f"{name}_L", f"{name}_R")]
            if not found:
                raise ValueError(f"unknown expression {name!r}")
            vector[found] = strength
        return vector

    def vertices(self, identity: np.ndarray | None = None, expression: np.ndarray | None = None) -> np.ndarray:
        """Coefficients (<= I,) and (E,) -> vertices (V, 3) in centimetres."""
        vertices = self.mean.copy()
        for weights, shapes in ((identity, self.identity), (expression, self.expression)):
            if weights is not None:
                used = np.flatnonzero(weights)
                if len(used):  # most expressions are at rest: their rows are never read
                    vertices += np.tensordot(weights[used].astype(np.float32), shapes[used], axes=1)
        return vertices


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Angles in degrees -> (3, 3). Positive: towards the viewer's right, downwards, leaning to the viewer's left."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def turn_head(
    vertices: np.ndarray, turn: np.ndarray, rest: np.ndarray, pivot: tuple[float, float, float]
) -> np.ndarray:
    """Rotate (V, 3) by ``turn`` (3, 3) about ``pivot``, fading along the neck so that the shoulders stay.

    ``rest`` (V, 3) gives the heights at which the fade is read: the model's mean, the same for every expression.
    """
    fade = smoothstep(NECK_BOTTOM, NECK_TOP, rest[:, 1])[:, None]
    origin = np.asarray(pivot, np.float32)
    turned = (vertices - origin) @ turn.T + origin
    return (vertices + fade * (turned - vertices)).astype(np.float32)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at or before ``low``, 1 at or beyond ``high`` (which may be the smaller), smooth in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees."""

    triangle: np.ndarray  # (H, W) int32 row of ``triangles``, -1 where nothing is
    barycentric: np.ndarray  # (H, W, 3) float32
    depth: np.ndarray  # (H, W) float32 cm, -inf where nothing is
    triangles: np.ndarray  # (F, 3)

    @property
    def covered(self) -> np.ndarray:
        """(H, W) bool."""
        return self.triangle >= 0

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Per-vertex values (V, C) -> (H, W, C) float32, zero where nothing is."""
        return _interpolate(
            self.triangle, self.barycentric, self.triangles, np.ascontiguousarray(values, dtype=np.float32)
        )


def rasterise(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Fragments:
    """Projected points (V, 3) and triangles (F, 3) -> the nearest surface at every pixel (a z-buffer).

    Both sides of a triangle are drawn: sockets and mouth are seen from inside.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    triangle, barycentric, depth = _rasterise(points, triangles, height, width)
    return Fragments(triangle, barycentric, depth, triangles)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3), (F, 3) -> unit normals (V, 3), weighted by triangle area; zero for vertices of no triangle."""
    return _vertex_normals(np.ascontiguousarray(vertices, dtype=np.float32), triangles)


def downsample(image: np.ndarray, factor: int) -> np.ndarray:
    """(factor*H, factor*W, C) -> (H, W, C) by averaging: anti-aliasing of a picture drawn larger."""
    parts = [image[i::factor, j::factor] for i in range(factor) for j in range(factor)]
    return sum(parts[1:], parts[0]) / len(parts)


def gaze_angle(rest: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(V,) degrees between the direction of the pupil and a vertex of an eyeball; 180 elsewhere."""
    angle = np.full(len(rest), 180.0)
    for name in ("eyeball_left", "eyeball_right"):
        ball = np.flatnonzero(part == name)
        points = rest[ball]
        # The sphere through the back of the ball: |p|^2 = 2 c.p + (r^2 - c.c), linear in what is sought.
        back = points[points[:, 2] < points[:, 2].max() - 1.2]
        system = np.column_stack([2 * back, np.ones(len(back))])
        centre = np.linalg.lstsq(system, (back**2).sum(axis=1), rcond=None)[0][:3]
        away = points - centre
        angle[ball] = np.degrees(np.arccos(np.clip(away[:, 2] / np.linalg.norm(away, axis=1), -1, 1)))
    return angle


def smooth_curve(points: np.ndarray, samples: int = 60) -> np.ndarray:
    """(P, D) corner points -> (samples, D) along a smooth curve through them."""
    return PchipInterpolator(np.linspace(0, 1, len(points)), points)(np.linspace(0, 1, samples))


def distances(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M)."""
    return np.sqrt(((points[:, None] - curve[None]) ** 2).sum(axis=-1))


def inside_outline(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """(N, 2) and a closed outline (M, 2) -> (N,) distance to it, positive inside (even-odd rule)."""
    x, y = points[:, :1], points[:, 1:]
    (ax, ay), (bx, by) = outline[:-1].T, outline[1:].T
    crosses = (ay > y) != (by > y)
    height = np.where(by == ay, 1.0, by - ay)
    inside = (crosses & (x < ax + (y - ay) / height * (bx - ax))).sum(axis=1) % 2 == 1
    return distances(points, outline).min(axis=1) * np.where(inside, 1.0, -1.0)


@njit(cache=True)
def _rasterise(points, triangles, height, width):  # type: ignore[no-untyped-def]
    seen = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), -np.inf, np.float32)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f]
        ax, ay, az = points[a]
        bx, by, bz = points[b]
        cx, cy, cz = points[c]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not abs(area) > 1e-9:  # degenerate, or not a number
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for i in range(top, bottom + 1):
            py = i + 0.5
            for j in range(left, right + 1):
                px = j + 0.5
                u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area
                v = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area
                w = 1.0 - u - v
                # The small slack closes hairline cracks between neighbours.
                if u < -1e-4 or v < -1e-4 or w < -1e-4:
                    continue
                z = u * az + v * bz + w * cz
                if z > depth[i, j]:
                    depth[i, j] = z
                    seen[i, j] = f
                    barycentric[i, j, 0] = u
                    barycentric[i, j, 1] = v
                    barycentric[i, j, 2] = w
    return seen, barycentric, depth


@njit(cache=True)
def _interpolate(seen, barycentric, triangles, values):  # type: ignore[no-untyped-def]
    height, width = seen.shape
    channels = values.shape[1]
    out = np.zeros((height, width, channels), np.float32)
    for i in range(height):
        for j in range(width):
            f = seen[i, j]
            if f >= 0:
                for k in range(3):
                    weight = barycentric[i, j, k]
                    vertex = triangles[f, k]
                    for channel in range(channels):
                        out[i, j, channel] += weight * values[vertex, channel]
    return out


@njit(cache=True)
def _vertex_normals(vertices, triangles):  # type: ignore[no-untyped-def]
    normals = np.zeros_like(vertices)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f]
        ux, uy, uz = vertices[b] - vertices[a]
        vx, vy, vz = vertices[c] - vertices[a]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for vertex in triangles[f]:
            normals[vertex, 0] += x
            normals[vertex, 1] += y
            normals[vertex, 2] += z
    for vertex in range(vertices.shape[0]):
        length = np.sqrt((normals[vertex] ** 2).sum())
        if length > 0:
            normals[vertex] /= length
    return normals
