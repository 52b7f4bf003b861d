"""The mean face, and which points of the face mesh stand for the skin (talking_heads/landmarks.py).

    python -m train.mean_face mean --photos PHOTOS [--index stills.csv] --output talking_heads/mean_face.csv
    python -m train.mean_face skin --photos PHOTOS --clips PREPARED

``mean``: of neutral frontal faces as mediapipe's mesh sees them in three dimensions, each brought to the mean before by
a similarity, and made symmetric. ``skin``: of pairs of frames of one person. The thin-plate spline through the points
that are chosen so far takes each vertex of the one mesh to somewhere near its place in the other; where it misses by
most, the next points are chosen, in symmetric pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.optimize import linear_sum_assignment

from talking_heads.errors import NoFaceError
from talking_heads.face_pose import carried
from talking_heads.images import read_photo
from talking_heads.landmarks import MESH_INDICES, MIRROR, NAMED, MediapipeDetector

from .clips import load_clip
from .prepare import find_jobs
from .terminal import mistakes_in_one_line

IRIS_VERTICES = np.arange(468, 478)
MAX_YAW = 6.0
"""Degrees, by the depths of the eyes' outer corners: a mesh's depth is least to be trusted in turned heads."""
ROUNDS = 4
"""How often faces are brought to their mean."""
BATCH, APART = 4, 0.055
"""Pairs of points that are chosen at a time, and how far apart at least, in sizes of the face."""


def mean_mesh(meshes: list[np.ndarray]) -> np.ndarray:
    """Meshes (478, 3), z away from the viewer -> the mean, frontal, in the units and axes of ``head.MEAN_FACE``."""
    faces = [mesh * [1, 1, -1] for mesh in meshes]
    mean = faces[0] - faces[0].mean(axis=0)
    for _ in range(ROUNDS):
        mean = np.mean([_brought(face, mean) for face in faces], axis=0)
    # Upright and frontal: across the eyes, then from the hairline to the chin.
    across = _unit(mean[263] - mean[33])
    down = mean[152] - mean[10]
    down = _unit(down - across * (across @ down))
    mean = mean @ np.stack([across, down, np.cross(across, down)], axis=1)
    mean /= np.linalg.norm(mean[152, :2] - mean[10, :2])
    mean[:, 0] -= mean[[33, 263], 0].mean()
    other = mean[mirrored(mean)] * [-1, 1, 1]
    mean = 0.5 * (mean + other)
    mean -= [0, 0.5 * (mean[10, 1] + mean[152, 1]), mean[[127, 356], 2].mean()]
    return mean


def mirrored(mean: np.ndarray) -> np.ndarray:
    """(478,): the vertex on the other side of each; a vertex of the middle line is its own."""
    apart = np.linalg.norm((mean * [-1, 1, 1])[:, None] - mean[None], axis=-1)
    return linear_sum_assignment(apart + apart.T)[1]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _brought(face: np.ndarray, to: np.ndarray) -> np.ndarray:
    """A mesh turned, scaled and shifted to where it lies nearest to another (Procrustes)."""
    a, b = face - face.mean(axis=0), to - to.mean(axis=0)
    u, singular, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (singular * sign).sum() / np.square(a).sum() * a @ (u * sign) @ vt + to.mean(axis=0)


def choose_skin(pairs: list[tuple[np.ndarray, np.ndarray]], mean: np.ndarray, number: int) -> list[tuple[int, ...]]:
    """Of pairs of meshes (478, 2) in one picture's pixels each: at least ``number`` vertices, a tuple of two or one."""
    other = mirrored(mean)
    chosen = [int(vertex) for vertex in MESH_INDICES[NAMED] if vertex < IRIS_VERTICES[0]]
    result: list[tuple[int, ...]] = []
    while sum(map(len, result)) < number:
        missed = np.zeros(len(mean))
        for source, target in pairs:
            reached = carried(target, target[chosen], source[chosen])
            missed += np.square((reached - source) / np.linalg.norm(source[33] - source[263])).sum(axis=1)
        missed += missed[other]
        missed[chosen] = missed[IRIS_VERTICES] = 0
        for _ in range(BATCH):
            vertex = int(missed.argmax())
            pair = sorted({vertex, int(other[vertex])}, key=lambda v: mean[v, 0])
            result.append(tuple(pair))
            chosen += pair
            near = np.min([np.linalg.norm(mean - mean[v], axis=1) for v in pair], axis=0)
            missed[near < APART] = 0
    return result


app = typer.Typer(add_completion=False, help=__doc__.split("\n", maxsplit=1)[0])  # type: ignore[union-attr]


def _neutral_meshes(photos: Path, index: Path | None) -> list[np.ndarray]:
    detector, meshes = MediapipeDetector(), []
    paths = [
        path for job in find_jobs(photos, index) if not job.is_video and job.split == "train" for path in job.files
    ]
    for path in paths:
        found = detector.meshes(read_photo(path))
        if len(found) == 1:
            across = found[0][263] - found[0][33]
            if abs(np.degrees(np.arctan2(across[2], across[0]))) < MAX_YAW:
                meshes.append(found[0])
    if not meshes:
        raise NoFaceError(f"There are no frontal faces of the split train in {photos}. Give neutral portraits.")
    return meshes


Photos = Annotated[Path, typer.Option(help="Folder of neutral frontal portraits.", exists=True, file_okay=False)]
Index = Annotated[Path | None, typer.Option(help="CSV: file, identity, split; files it does not name are left out.")]


@app.command("mean")
def write_mean(photos: Photos, output: Annotated[Path, typer.Option(help="CSV.")], index: Index = None) -> None:
    """Write the mean face's landmarks."""
    with mistakes_in_one_line():
        meshes = _neutral_meshes(photos, index)
    mean = mean_mesh(meshes)[MESH_INDICES]
    mean = 0.5 * (mean + mean[MIRROR] * [-1, 1, 1])
    np.savetxt(output, mean, fmt="%.4f", delimiter=",", header="x,y,z", comments="")
    typer.echo(f"{len(meshes)} faces; see {output}.")


@app.command("skin")
def print_skin(
    photos: Photos,
    clips: Annotated[Path, typer.Option(help="Folder of prepared clips of people in motion.", exists=True)],
    index: Index = None,
    number: Annotated[int, typer.Option(help="Points, at least.", min=1)] = 160,
    most: Annotated[int, typer.Option(help="Clips that are looked at.", min=1)] = 140,
    seed: int = 0,
) -> None:
    """Print which vertices stand for the skin."""
    rng, detector = np.random.default_rng(seed), MediapipeDetector()
    pairs = []
    with mistakes_in_one_line():
        mean = mean_mesh(_neutral_meshes(photos, index))
        for path in rng.permutation(sorted(clips.rglob("*.npz"))):
            clip = load_clip(path)
            if clip.meta.split == "train" and len(clip) > 1 and len(pairs) < most:
                two = rng.choice(len(clip), 2, replace=False)
                found = [detector.meshes(clip.frame(int(k), 256)[0]) for k in two]
                if all(found):
                    pairs.append((found[0][0][:, :2], found[1][0][:, :2]))
    typer.echo(choose_skin(pairs, mean, number))


if __name__ == "__main__":
    app()
