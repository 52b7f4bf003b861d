"""ICT-FaceKit's full face model, as it is published or packed: see reduce_face_model.py."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from talking_heads.errors import InvalidModelError

NUM_LANDMARKS = 238
NUM_IDENTITY = 64
NUM_VERTICES = 26719  # of the full model

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

HIDDEN_MATERIALS = frozenset(
    {"M_ScleraLeft", "M_ScleraRight", "M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes"}
)
"""Transparent shells in front of the eyes. Painted opaque they would blank the iris, so they are not drawn."""

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
