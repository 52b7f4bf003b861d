"""ICT-FaceKit's face model, reduced to what an animated head needs: the file that this package carries.

    python -m train.reduce_face_model --source FaceXModel --output talking_heads/head/face_model.safetensors

``--source`` is the folder ``FaceXModel`` of https://github.com/ICT-VGL/ICT-FaceKit (MIT), or the same packed as one
``ict_facekit.npz``. Of its 26,719 vertices some 7,800 stay: lids, lips and eyeballs whole, the rest as far as the shape
asks for it. Vertices are collapsed onto neighbours and never moved, so every mode of the model carries over by
indexing. What can be measured on the full mesh only (which vertices are lids, where the lashes grow, how dark the
mouth is inside) is measured there and stored per vertex.

Model space: centimetres, x to the viewer's right, y up, z towards the viewer.
"""

from __future__ import annotations

import csv
import heapq
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save
from scipy import sparse
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from talking_heads.errors import InvalidModelError

from .terminal import mistakes_in_one_line

LANDMARKS = Path(__file__).with_name("landmark_vertices.csv")
NUM_LANDMARKS = 238
NUM_IDENTITY = 64
NUM_VERTICES = 26719  # of the full model
LICENCE_NAME = "FACE_MODEL_LICENSE"
SOURCE = "ICT-FaceKit, https://github.com/ICT-VGL/ICT-FaceKit"

PART_ENDS = {
    "face": 9409,
    "head_neck": 11248,
    "mouth_socket": 13294,
    "eye_socket_left": 13678,
    "eye_socket_right": 14062,
    "gums_tongue": 17039,
    "teeth": 21451,
    "eyeball_left": 23021,
    "eyeball_right": 24591,
}
"""First vertex after each drawn part. What follows the last are transparent shells."""
PARTS = tuple(PART_ENDS)
SHELL = len(PARTS)

TARGETS = {
    "face": 3970,
    "head_neck": 230,
    "mouth_socket": 220,
    "eye_socket_left": 50,
    "eye_socket_right": 50,
    "gums_tongue": 330,
    "teeth": 1350,
    "eyeball_left": NUM_VERTICES,  # whole
    "eyeball_right": NUM_VERTICES,
}
"""How many vertices of each part stay, if no more are locked."""

HIDDEN_MATERIALS = frozenset(
    {"M_ScleraLeft", "M_ScleraRight", "M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes"}
)
"""Transparent shells in front of the eyes. Painted opaque they would blank the iris, so they are not drawn."""

TEETH, GUMS, CAVE = (0.97, 0.93, 0.86), (0.66, 0.36, 0.35), (0.40, 0.20, 0.19)
SHOULDERS = -12.0  # cm: below, nothing is drawn
UPPER_LIDS = ((1507, 1542, 1537, 1528), (3742, 3751, 3756, 3721))  # vertices along their edges
LIP_WIDTH = 0.3  # cm to either side of the lips' outlines that stay whole
BLINK = {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0}
POSES = (
    {},
    {"jawOpen": 1.0},
    BLINK,
    {"mouthSmile_L": 1.0, "mouthSmile_R": 1.0},
    {"mouthPucker": 1.0},
    {"browInnerUp_L": 1.0, "browInnerUp_R": 1.0},
)
"""Expressions in each of which the reduced head must look like the full one."""

EVENNESS = 5e-4  # times an edge's length to the fourth power: flat skin is thinned evenly
MIN_TURN = 0.2  # cosine of the most that a collapse may turn a triangle
MIN_ROUNDNESS = 0.12  # 1 is equilateral; thinner triangles are not made

# ICT's _L moves the person's left, which is the viewer's right, x > 0 (browDown_L at x = +4.2 cm on average,
# eyeBlink_L at +3.3), and jawLeft and mouthLeft go towards x > 0: Apple's names mean the same sides.
EYE_NAMES = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
EXPRESSION_NAMES = (
    *(f"{name}Left" for name in EYE_NAMES),
    *(f"{name}Right" for name in EYE_NAMES),
    *("jawForward", "jawRight", "jawLeft", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp"),
    *("browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight"),
    *("noseSneerLeft", "noseSneerRight"),
)
"""Apple's 52 blend shapes but tongueOut, which ICT-FaceKit lacks, in the order of Live Link Face's columns."""
PAIRS = ("browInnerUp", "cheekPuff")  # one shape at Apple, two at ICT


# --- reading the source ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The full model: V = mean + sum_i w_i identity_i + sum_j e_j expression_j."""

    mean: np.ndarray  # (V, 3) float32 cm
    identity: np.ndarray  # (I, V, 3) float32 cm per standard deviation
    expression: dict[str, np.ndarray]  # ICT's name -> (V, 3) float32 cm at full strength
    triangles: np.ndarray  # (F, 3) int32 without HIDDEN_MATERIALS
    part: np.ndarray  # (V,) uint8 index into PARTS, SHELL for what is not drawn

    def pose(self, strengths: dict[str, float]) -> np.ndarray:
        """Strengths by ICT's name -> vertices (V, 3) in cm."""
        return self.mean + sum(strength * self.expression[name] for name, strength in strengths.items())


def ict_names(name: str) -> tuple[str, ...]:
    """The ICT shapes that, added, are Apple's shape ``name``."""
    if name in PAIRS:
        return f"{name}_L", f"{name}_R"
    for ending in ("Left", "Right"):
        stem = name.removesuffix(ending)
        if stem != name and stem not in ("jaw", "mouth"):
            return (f"{stem}_{ending[0]}",)
    return (name,)


ICT_NAMES = tuple(ict for name in EXPRESSION_NAMES for ict in ict_names(name))


def load_source(path: Path) -> Source:
    """Read the folder FaceXModel or ict_facekit.npz. Raises InvalidModelError for anything else."""
    read = read_folder if path.is_dir() else read_npz
    try:
        source = read(path)
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise InvalidModelError(
            f"{path} is neither ICT-FaceKit's folder FaceXModel nor ict_facekit.npz ({error}). "
            "Give --source one of them."
        ) from error
    if len(source.mean) != NUM_VERTICES:
        raise InvalidModelError(
            f"{path} has {len(source.mean):,} vertices where ICT-FaceKit's full head has {NUM_VERTICES:,}. "
            "Give --source its folder FaceXModel or ict_facekit.npz."
        )
    return source


def read_npz(path: Path) -> Source:
    """The model packed as one file."""
    with np.load(path) as data:
        names = [str(name) for name in data["expression_names"]]
        shapes = data["expression"]
        material = data["material_names"][data["tri_material"]]
        mean = data["mean"].astype(np.float32)
        return Source(
            mean=mean,
            identity=data["identity"][:NUM_IDENTITY].astype(np.float32),
            expression={name: shapes[names.index(name)].astype(np.float32) for name in ICT_NAMES},
            triangles=data["tri"][~np.isin(material, list(HIDDEN_MATERIALS))].astype(np.int32),
            part=parts_of(len(mean)),
        )


def read_folder(folder: Path) -> Source:
    """The model as published: one OBJ file for the neutral head and one for each mode, all of the same vertices."""
    mean, triangles, material = read_obj(folder / "generic_neutral_mesh.obj")

    def mode(name: str) -> np.ndarray:
        vertices = read_vertices(folder / f"{name}.obj")
        if vertices.shape != mean.shape:
            raise ValueError(f"{name}.obj has {len(vertices)} vertices, the neutral mesh {len(mean)}")
        return (vertices - mean).astype(np.float32)

    return Source(
        mean=mean.astype(np.float32),
        identity=np.stack([mode(f"identity{i:03d}") for i in range(NUM_IDENTITY)]),
        expression={name: mode(name) for name in ICT_NAMES},
        triangles=triangles[~np.isin(material, list(HIDDEN_MATERIALS))],
        part=parts_of(len(mean)),
    )


def read_vertices(path: Path) -> np.ndarray:
    """The ``v`` lines of an OBJ file -> (V, 3) float64."""
    with path.open() as lines:
        found = [line.split()[1:4] for line in lines if line.startswith("v ")]
    if not found:
        raise ValueError(f"{path.name} has no vertices")
    return np.array(found, np.float64)


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> vertices (V, 3) float64, triangles (F, 3) int32 and the material (F,) of each. Polygons become fans."""
    vertices = read_vertices(path)
    triangles: list[tuple[int, int, int]] = []
    materials: list[str] = []
    material = ""
    with path.open() as lines:
        for line in lines:
            words = line.split()
            if words[:1] == ["usemtl"]:
                material = words[1]
            elif words[:1] == ["f"]:
                corners = [int(word.split("/")[0]) - 1 for word in words[1:]]
                for second, third in pairwise(corners[1:]):
                    triangles.append((corners[0], second, third))
                    materials.append(material)
    result = np.array(triangles, np.int32).reshape(-1, 3)
    if len(result) == 0 or result.min() < 0 or result.max() >= len(vertices):
        raise ValueError(f"{path.name} has no faces, or faces of vertices that it has not")
    return vertices, result, np.array(materials)


def parts_of(count: int) -> np.ndarray:
    """(count,) uint8: to which of PARTS the vertices belong, SHELL beyond the last."""
    return np.searchsorted(list(PART_ENDS.values()), np.arange(count), side="right").astype(np.uint8)


def read_landmarks(path: Path, part: np.ndarray) -> np.ndarray:
    """CSV ``landmark,vertex`` -> (NUM_LANDMARKS,) vertices of the full model, none of them on a shell."""
    with path.open(newline="") as lines:
        rows = sorted((int(row["landmark"]), int(row["vertex"])) for row in csv.DictReader(lines))
    vertices = np.array([vertex for _, vertex in rows], np.int64)
    if [landmark for landmark, _ in rows] != list(range(NUM_LANDMARKS)):
        raise InvalidModelError(f"{path} does not list the landmarks 0 to {NUM_LANDMARKS - 1}, each once.")
    if vertices.min() < 0 or vertices.max() >= len(part) or (part[vertices] == SHELL).any():
        raise InvalidModelError(f"{path} names vertices that are not of a drawn part.")
    return vertices


# --- what is measured on the full mesh -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """What is known of every vertex of the full mesh."""

    triangles: np.ndarray  # (F, 3) of the drawn head: without shoulders
    mirror: np.ndarray  # (V,) the vertex on the other side
    lids: np.ndarray  # (V, 2) 0..1: how far a blink of the left and of the right eye moves a vertex
    around_eyes: np.ndarray  # (V,) bool: lids, with their folds
    lashes: np.ndarray  # (V,) cm to the edge of the upper lids when they are closed, 1 and more off the lids
    gaze_angle: np.ndarray  # (V,) degrees from the middle of the pupil, 180 off the eyeballs
    mouth_colour: np.ndarray  # (V, 3): colour of teeth, gums and mouth cavity in white light, else zero
    without_ears: np.ndarray  # (V, 3) cm that draw the ears into the head

    @classmethod
    def of(cls, source: Source) -> Anatomy:
        """Measure the full model."""
        rest, skin = source.mean, np.isin(source.part, indices("face", "head_neck"))
        shoulder = skin & (rest[:, 1] < SHOULDERS)
        lids, around = np.zeros((len(rest), 2), np.float32), np.zeros(len(rest), bool)
        for side, name in enumerate(("eyeBlink_L", "eyeBlink_R")):
            shift = np.linalg.norm(source.expression[name], axis=1) * skin
            lids[:, side] = smoothstep(0.02, 0.55, shift / shift.max())
            around |= shift > 0.04 * shift.max()
        closed = source.pose(BLINK)
        margin = np.vstack([smooth_curve(closed[list(edge)]) for edge in UPPER_LIDS])
        return cls(
            triangles=source.triangles[~shoulder[source.triangles].any(axis=1)],
            mirror=mirror_vertices(rest, source.part),
            lids=lids,
            around_eyes=around,
            lashes=cKDTree(margin).query(closed)[0] + 1 - lids.max(axis=1),
            gaze_angle=gaze_angle(rest, source.part),
            mouth_colour=mouth_colour(rest, source.part, source.triangles),
            without_ears=without_ears(rest, source.part, source.triangles),
        )


def indices(*names: str) -> list[int]:
    """Places of parts in PARTS."""
    return [PARTS.index(name) for name in names]


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at or before ``low``, 1 at or beyond ``high`` (which may be the smaller), smooth in between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def smooth_curve(points: np.ndarray, samples: int = 60) -> np.ndarray:
    """(P, D) corner points -> (samples, D) along a smooth curve through them."""
    return PchipInterpolator(np.linspace(0, 1, len(points)), points)(np.linspace(0, 1, samples))


def area_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(..., V, 3), (F, 3) -> (..., F, 3), as long as the triangles are large, twice."""
    a, b, c = (vertices[..., corner, :] for corner in triangles.T)
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3), (F, 3) -> unit normals (V, 3), weighted by triangle area; zero for vertices of no triangle."""
    normals = np.zeros_like(vertices)
    for corner in triangles.T:
        np.add.at(normals, corner, area_normals(vertices, triangles))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1)


def mirror_vertices(rest: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(V, 3), (V,) -> (V,) the nearest vertex to where a mirror shows each, of the same part or its opposite."""
    result = np.arange(len(rest))
    for index in np.unique(part):
        name = PARTS[index] if index < SHELL else ""
        swapped = name.replace("left", "*").replace("right", "left").replace("*", "right")
        other = np.flatnonzero(part == (PARTS.index(swapped) if swapped else SHELL))
        own = part == index
        result[own] = other[cKDTree(rest[other]).query(rest[own] * [-1, 1, 1])[1]]
    return result


def gaze_angle(rest: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(V,) degrees between the direction of the pupil and a vertex of an eyeball; 180 elsewhere."""
    angle = np.full(len(rest), 180.0)
    for index in indices("eyeball_left", "eyeball_right"):
        ball = np.flatnonzero(part == index)
        points = rest[ball].astype(np.float64)
        # The sphere through the back of the ball: |p|^2 = 2 c.p + (r^2 - c.c), linear in what is sought.
        back = points[points[:, 2] < points[:, 2].max() - 1.2]
        system = np.column_stack([2 * back, np.ones(len(back))])
        centre = np.linalg.lstsq(system, (back**2).sum(axis=1), rcond=None)[0][:3]
        away = points - centre
        angle[ball] = np.degrees(np.arccos(np.clip(away[:, 2] / np.linalg.norm(away, axis=1), -1, 1)))
    return angle


def mouth_colour(rest: np.ndarray, part: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) 0..1: the mouth is a cave, the deeper, the darker and the redder. Teeth are shaded once, at rest."""
    mouth = np.zeros_like(rest)
    for name, colour in {"teeth": TEETH, "gums_tongue": GUMS, "mouth_socket": CAVE}.items():
        mouth[part == PARTS.index(name)] = colour
    z = rest[:, 2:]
    teeth = (part == PARTS.index("teeth"))[:, None]
    depth = np.where(teeth, smoothstep(7.0, 10.8, z), smoothstep(2.5, 10.3, z))
    mouth *= depth ** np.array([0.8, 1.1, 1.1])
    return mouth * (0.6 + 0.4 * np.clip(vertex_normals(rest, triangles)[:, 2:], 0, 1))


def without_ears(rest: np.ndarray, part: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) offsets in cm that span the surface across where the ears stand, like a soap film."""
    a, b, c = triangles.T
    rows, columns = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
    links = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(rest), len(rest)))
    links = sparse.diags(1 / np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)).astype(np.float32) @ links
    face = part == PARTS.index("face")
    ear = np.flatnonzero(face & (np.abs(rest[:, 0]) > 7.3) & (rest[:, 2] < 2.6) & (np.abs(rest[:, 1]) < 4.8))
    links = links.tocsr()[ear]
    smooth = rest.copy()
    for _ in range(400):
        smooth[ear] = links @ smooth
    return smooth - rest


# --- reducing a mesh -------------------------------------------------------------------------------------------------


class Mesh:
    """Triangles that lose vertices one by one. No vertex moves: one is collapsed onto a neighbour.

    ``poses`` (P, V, 3) are the same vertices in P poses, in cm; ``weight`` (V,) says how much an error at a vertex
    counts. The error of a collapse is the squared distance from the planes of all triangles that went into a vertex
    (quadrics after Garland and Heckbert), times their area, summed over the poses.
    """

    def __init__(self, poses: np.ndarray, triangles: np.ndarray, weight: np.ndarray) -> None:
        self.poses = poses.astype(np.float64)
        self.corners = [tuple(int(v) for v in triangle) for triangle in triangles]
        self.around: list[set[int]] = [set() for _ in range(self.poses.shape[1])]  # vertex -> its triangles
        for number, triangle in enumerate(self.corners):
            for vertex in triangle:
                self.around[vertex].add(number)
        self.homogeneous = np.concatenate([self.poses, np.ones_like(self.poses[..., :1])], axis=-1).swapaxes(0, 1)
        self.quadrics = self._quadrics(triangles, weight)  # (V, P, 4, 4)
        self.weight = weight

    def _quadrics(self, triangles: np.ndarray, weight: np.ndarray) -> np.ndarray:
        normals = area_normals(self.poses, triangles)
        area = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = normals / np.maximum(area, 1e-12)
        offset = -(normals * self.poses[:, triangles[:, 0]]).sum(axis=-1, keepdims=True)
        planes = np.concatenate([normals, offset], axis=-1) * np.sqrt(area / 2)
        products = (planes[..., :, None] * planes[..., None, :]).swapaxes(0, 1)  # (F, P, 4, 4)
        result = np.zeros((self.poses.shape[1], *products.shape[1:]))
        for corner in triangles.T:
            np.add.at(result, corner, products * weight[corner, None, None, None] / 3)
        return result

    def triangles(self) -> np.ndarray:
        """(F, 3) int32: those that are left."""
        left = sorted({number for numbers in self.around for number in numbers})
        return np.array([self.corners[number] for number in left], np.int32).reshape(-1, 3)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share an edge with ``vertex``."""
        return {corner for number in self.around[vertex] for corner in self.corners[number]} - {vertex}

    def boundary(self) -> np.ndarray:
        """(V,) bool: ends of edges that belong to one triangle only."""
        result = np.zeros(len(self.around), bool)
        for vertex in range(len(self.around)):
            for other in self.neighbours(vertex):
                if len(self.around[vertex] & self.around[other]) == 1:
                    result[[vertex, other]] = True
        return result

    def cost(self, vertex: int, target: int) -> float:
        """What collapsing ``vertex`` onto ``target`` would do to the shape."""
        at = self.homogeneous[target]
        error = np.einsum("pi,pij,pj->", at, self.quadrics[vertex] + self.quadrics[target], at)
        length = ((self.poses[0, vertex] - self.poses[0, target]) ** 2).sum()
        return float(error + EVENNESS * self.weight[vertex] * length**2)

    def may_collapse(self, vertex: int, target: int) -> bool:
        """Whether the mesh stays a surface (the link condition) and no triangle flips or becomes a splinter."""
        shared = self.around[vertex] & self.around[target]
        if len(shared) != 2 or len(self.neighbours(vertex) & self.neighbours(target)) != 2:
            return False
        staying = sorted(self.around[vertex] - shared)
        before = np.array([self.corners[number] for number in staying])
        if len(before) == 0:
            return False
        after = np.where(before == vertex, target, before)
        taken = {frozenset(self.corners[number]) for number in self.around[target] - shared}
        if any(frozenset(triangle) in taken for triangle in after.tolist()):
            return False
        old, new = area_normals(self.poses, before), area_normals(self.poses, after)
        lengths = np.linalg.norm(old, axis=-1) * np.linalg.norm(new, axis=-1)
        if ((old * new).sum(axis=-1) <= MIN_TURN * lengths).any():
            return False
        return bool(self._roundness(after).min() >= min(MIN_ROUNDNESS, self._roundness(before).min()))

    def _roundness(self, triangles: np.ndarray) -> np.ndarray:
        points = self.poses[0, triangles]
        edges = ((points - np.roll(points, 1, axis=1)) ** 2).sum(axis=(1, 2))
        area = np.linalg.norm(area_normals(self.poses[0], triangles), axis=-1) / 2
        return 4 * np.sqrt(3) * area / np.maximum(edges, 1e-12)

    def collapse(self, vertex: int, target: int) -> None:
        """Every triangle of ``vertex`` becomes one of ``target``; the two between them are gone."""
        for number in self.around[vertex] & self.around[target]:
            for corner in self.corners[number]:
                self.around[corner].discard(number)
        for number in self.around[vertex]:
            self.corners[number] = tuple(target if corner == vertex else corner for corner in self.corners[number])
            self.around[target].add(number)
        self.around[vertex] = set()
        self.quadrics[target] += self.quadrics[vertex]


def reduce_mesh(mesh: Mesh, part: np.ndarray, targets: np.ndarray, locked: np.ndarray, mirror: np.ndarray) -> None:
    """Collapse the least important vertices until each part k has at most ``targets[k]`` of them, or cannot.

    ``part`` (V,) says to which each belongs; vertices stay within their part. ``locked`` (V,) bool stay. A vertex and
    its mirror image (``mirror`` (V,)) go together, so that a symmetric head stays symmetric.
    """
    drawn = np.array([bool(numbers) for numbers in mesh.around])
    count = np.bincount(part[drawn], minlength=len(targets))
    paired = mirror[mirror] == np.arange(len(mirror))
    version = [0] * len(mirror)
    heap: list[tuple[float, int, int, int, int]] = []

    def offer(vertex: int, target: int) -> None:
        if not locked[vertex] and part[vertex] == part[target] and count[part[vertex]] > targets[part[vertex]]:
            entry = (mesh.cost(vertex, target), vertex, target, version[vertex], version[target])
            heapq.heappush(heap, entry)

    def collapse(vertex: int, target: int) -> None:
        mesh.collapse(vertex, target)
        count[part[vertex]] -= 1
        version[target] += 1
        version[vertex] += 1
        for other in mesh.neighbours(target):
            offer(target, other)
            offer(other, target)

    for _ in range(6):  # what was refused may be possible after its neighbours went
        before = count.sum()
        for vertex in np.flatnonzero(drawn & ~locked).tolist():
            for target in mesh.neighbours(vertex):
                offer(vertex, target)
        while heap:
            _, vertex, target, *versions = heapq.heappop(heap)
            if versions != [version[vertex], version[target]] or count[part[vertex]] <= targets[part[vertex]]:
                continue
            pairs = _with_mirror_image(vertex, target, mirror, paired)
            if all(not locked[v] and t in mesh.neighbours(v) and mesh.may_collapse(v, t) for v, t in pairs):
                for v, t in pairs:
                    if mesh.may_collapse(v, t):  # the first may have come in the way of the second
                        collapse(v, t)
        if count.sum() == before:
            break


def _with_mirror_image(vertex: int, target: int, mirror: np.ndarray, paired: np.ndarray) -> list[tuple[int, int]]:
    """The collapses that must be done together; one that would cross the middle comes out as impossible."""
    other, onto = int(mirror[vertex]), int(mirror[target])
    if not (paired[vertex] and paired[target]):
        return [(vertex, target)]
    if other == vertex:  # on the middle: it stays there
        return [(vertex, target)] if onto == target else [(vertex, vertex)]
    if other == target:
        return [(vertex, vertex)]
    return [(vertex, target), (other, onto)]


# --- the reduced model -----------------------------------------------------------------------------------------------


def locked_vertices(source: Source, anatomy: Anatomy, landmarks: np.ndarray, boundary: np.ndarray) -> np.ndarray:
    """(V,) bool: landmarks, lids, lips, eyeballs and the open edges of the mesh."""
    face = source.part == PARTS.index("face")
    marks = source.mean[landmarks]
    outlines = [np.vstack([marks[ring], marks[ring[:1]]]) for ring in (np.arange(48, 60), np.arange(60, 68))]
    lips = np.vstack([smooth_curve(outline, 200) for outline in outlines])
    locked = face & (cKDTree(lips).query(source.mean)[0] < LIP_WIDTH)
    locked |= (anatomy.lids > 0.02).any(axis=1)
    locked |= np.isin(source.part, indices("eyeball_left", "eyeball_right"))
    locked |= boundary
    locked[landmarks] = True
    return locked


def importance(source: Source, anatomy: Anatomy) -> np.ndarray:
    """(V,) how much an error counts: most about nose and mouth, little at the ears, on the scalp and on molars."""
    _, y, z = source.mean.T
    weight = 0.15 + 0.85 * smoothstep(-2.0, 4.0, z)
    face = source.part == PARTS.index("face")
    middle = smoothstep(5.0, 8.0, z) * smoothstep(7.0, 4.5, y)
    weight[face] *= ((1 + 7 * middle) * (1 - 0.85 * smoothstep(6.0, 9.0, y)))[face]
    weight[np.linalg.norm(anatomy.without_ears, axis=1) > 0.05] = 0.04
    teeth = source.part == PARTS.index("teeth")
    weight[teeth] = (0.1 + 0.9 * smoothstep(7.5, 10.0, z))[teeth]
    return weight


def reduced(source: Source, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Full model -> the arrays of the file, by name; ``landmarks`` (NUM_LANDMARKS,) are vertices of the full model."""
    anatomy = Anatomy.of(source)
    mesh = Mesh(np.stack([source.pose(pose) for pose in POSES]), anatomy.triangles, importance(source, anatomy))
    locked = locked_vertices(source, anatomy, landmarks, mesh.boundary())
    targets = np.array([TARGETS[name] for name in PARTS])
    reduce_mesh(mesh, source.part, targets, locked, anatomy.mirror)

    triangles = mesh.triangles()
    kept = np.union1d(triangles, landmarks)  # the irises' landmarks lie on the clear shell before them: no triangles
    new = np.full(len(source.mean), -1, np.int32)
    new[kept] = np.arange(len(kept))
    expression = [sum(source.expression[ict][kept] for ict in ict_names(name)) for name in EXPRESSION_NAMES]
    arrays = {
        "mean": source.mean[kept].astype(np.float32),
        "identity": source.identity[:, kept].astype(np.float16),
        "expression": np.stack(expression).astype(np.float16),
        "triangles": new[triangles].astype(np.int32),
        "part": source.part[kept].astype(np.uint8),
        "landmark_vertices": new[landmarks].astype(np.int32),
        "mirror": mirror_vertices(source.mean[kept], source.part[kept]).astype(np.int32),
        "lids": anatomy.lids[kept].astype(np.float16),
        "around_eyes": anatomy.around_eyes[kept].astype(np.uint8),
        "lashes": anatomy.lashes[kept].astype(np.float16),
        "gaze_angle": anatomy.gaze_angle[kept].astype(np.float16),
        "mouth_colour": anatomy.mouth_colour[kept].astype(np.float16),
        "without_ears": anatomy.without_ears[kept].astype(np.float16),
        "original_vertex": kept.astype(np.int32),
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def read_licence(source: Path) -> str:
    """The text of the licence that lies in the source's folder, or in the one above it, as in ICT's repository."""
    folder = source if source.is_dir() else source.parent
    for path in (folder / "LICENSE", folder.parent / "LICENSE"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise InvalidModelError(
        f"{folder} has no LICENSE. Put ICT-FaceKit's there: whoever copies the model must pass it on."
    )


def write(arrays: dict[str, np.ndarray], licence: str, output: Path) -> None:
    """Write the file, and the licence into the same folder."""
    metadata = {
        "expression_names": json.dumps(EXPRESSION_NAMES),
        "parts": json.dumps(PARTS),
        "licence": licence,
        "source": SOURCE,
    }
    _write_beside(output, lambda part: part.write_bytes(save(arrays, metadata)))
    _write_beside(output.with_name(LICENCE_NAME), lambda part: part.write_text(licence, encoding="utf-8"))


def _write_beside(path: Path, write_to: Callable[[Path], object]) -> None:
    """A file appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        write_to(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(
    *,
    source: Annotated[Path, typer.Option(help="ICT-FaceKit's folder FaceXModel, or ict_facekit.npz.")],
    output: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Reduce ICT-FaceKit's face model to the one that this package carries. Takes some ten seconds."""
    with mistakes_in_one_line():
        full = load_source(source)
        licence = read_licence(source)
        arrays = reduced(full, read_landmarks(LANDMARKS, full.part))
        write(arrays, licence, output)
    for index, name in enumerate(PARTS):
        typer.echo(f"{name}: {(arrays['part'] == index).sum():,} vertices")
    typer.echo(f"{len(arrays['mean']):,} vertices, {len(arrays['triangles']):,} triangles: see {output}.")


if __name__ == "__main__":
    typer.run(main)
