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

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save
from scipy import sparse
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree

from talking_heads.errors import InvalidModelError
from talking_heads.files import replacing, written_whole

from .decimation import Mesh, area_normals, reduce_mesh
from .facekit import EXPRESSION_NAMES, NUM_VERTICES, PARTS, SHELL, Source, ict_names, load_source, read_landmarks
from .terminal import mistakes_in_one_line

LANDMARKS = Path(__file__).with_name("landmark_vertices.csv")
LICENCE_NAME = "FACE_MODEL_LICENSE"
SOURCE = "ICT-FaceKit, https://github.com/ICT-VGL/ICT-FaceKit"

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

TEETH, GUMS, CAVE = (0.97, 0.93, 0.86), (0.66, 0.36, 0.35), (0.40, 0.20, 0.19)
SHOULDERS = -12.0  # cm: below, nothing is drawn
UPPER_LIDS = ((1507, 1542, 1537, 1528), (3742, 3751, 3756, 3721))  # vertices along their edges
LIP_WIDTH = 0.3  # cm to either side of the lips' outlines that stay whole
BLINK = {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0}
POSES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 1.0},
    BLINK,
    {"mouthSmile_L": 1.0, "mouthSmile_R": 1.0},
    {"mouthPucker": 1.0},
    {"browInnerUp_L": 1.0, "browInnerUp_R": 1.0},
)
"""Expressions in each of which the reduced head must look like the full one."""

# --- what is measured on the full mesh -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anatomy:
    """Attributes of every vertex of the full mesh."""

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
    with replacing(output) as part:
        part.write_bytes(save(arrays, metadata))
    with written_whole(output.with_name(LICENCE_NAME), "utf-8") as file:
        file.write(licence)


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
