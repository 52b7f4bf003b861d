"""The reduction of the face model on small shapes, the reader of its source, and the file that the package carries."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from typer import Typer
from typer.testing import CliRunner

from talking_heads.errors import InvalidModelError
from train.decimation import Mesh, area_normals, reduce_mesh
from train.facekit import (
    EXPRESSION_NAMES,
    ICT_NAMES,
    NUM_IDENTITY,
    NUM_LANDMARKS,
    PART_ENDS,
    PARTS,
    ict_names,
    load_source,
    parts_of,
    read_folder,
    read_landmarks,
)
from train.reduce_face_model import LANDMARKS, main, mirror_vertices, read_licence

ASSET = Path(__file__).parents[1] / "talking_heads" / "head" / "face_model.safetensors"
BESIDE = 2  # triangles at an edge of a surface


def grid_sphere(rows: int = 17, columns: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A closed unit sphere, symmetric in x: vertices (V, 3), triangles (F, 3) that look outwards."""
    polar = np.linspace(0, np.pi, rows + 2)[1:-1]
    round_ = 2 * np.pi * np.arange(columns) / columns
    ring = np.stack([np.sin(round_), np.zeros(columns), np.cos(round_)], axis=1)
    points = [np.array([[0.0, 1, 0]])]
    points += [np.sin(angle) * ring + [0, np.cos(angle), 0] for angle in polar]
    points += [np.array([[0.0, -1, 0]])]
    last, triangles = 1 + rows * columns, []
    for j in range(columns):
        k = (j + 1) % columns
        triangles += [(0, 1 + j, 1 + k), (last, last - columns + k, last - columns + j)]
        for row in range(rows - 1):
            a, b = 1 + row * columns + j, 1 + row * columns + k
            triangles += [(a, a + columns, b), (b, a + columns, b + columns)]
    return np.concatenate(points), np.array(triangles)


def edge_counts(triangles: np.ndarray) -> np.ndarray:
    """(E,) how many triangles share each edge."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


@pytest.fixture(scope="module")
def sphere():
    """-> vertices, triangles, which were locked, and the triangles left of the reduced sphere."""
    vertices, triangles = grid_sphere()
    locked = np.zeros(len(vertices), bool)
    locked[::13] = True
    part = (vertices[:, 1] < 0).astype(np.uint8)
    mesh = Mesh(np.stack([vertices, vertices * [1, 1.5, 1]]), triangles, np.ones(len(vertices)))
    reduce_mesh(mesh, part, np.array([60, 10_000]), locked, np.arange(len(vertices)))
    return vertices, triangles, locked, part, mesh.triangles()


def test_vertices_go_down_to_the_target_of_their_part(sphere):
    _, _, _, part, left = sphere
    kept = np.unique(left)
    assert (part[kept] == 0).sum() == 60
    assert (part[kept] == 1).sum() == (part == 1).sum()


def test_locked_vertices_stay(sphere):
    _, _, locked, _, left = sphere
    assert set(np.flatnonzero(locked)) <= set(np.unique(left))


def test_a_closed_surface_stays_one(sphere):
    _, triangles, _, _, left = sphere
    kept = len(np.unique(left))
    assert len(left) < len(triangles)
    assert (edge_counts(left) == BESIDE).all()
    assert kept - len(edge_counts(left)) + len(left) == BESIDE  # Euler: still a sphere, no handle and no second piece


def test_no_triangle_flips_or_degenerates(sphere):
    vertices, _, _, _, left = sphere
    normals = area_normals(vertices, left)
    assert (np.linalg.norm(normals, axis=1) > 1e-6).all()
    assert ((normals * vertices[left].mean(axis=1)).sum(axis=1) > 0).all()


def test_an_open_edge_is_found_and_stays_when_locked():
    across = np.arange(7)
    x, y = (axis.ravel() for axis in np.meshgrid(across, across))
    vertices = np.stack([x, y, np.zeros_like(x)], axis=1).astype(float)
    corner = (7 * across[:-1, None] + across[None, :-1]).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + 8], axis=1), np.stack([corner, corner + 8, corner + 7], axis=1)]
    )
    mesh = Mesh(vertices[None], triangles, np.ones(49))
    boundary = mesh.boundary()
    assert np.array_equal(boundary, (x % 6 == 0) | (y % 6 == 0))
    reduce_mesh(mesh, np.zeros(49, np.uint8), np.array([0]), boundary, np.arange(49))
    left = mesh.triangles()
    assert set(np.flatnonzero(boundary)) <= set(np.unique(left))
    assert len(np.unique(left)) < 40
    areas = area_normals(vertices, left)[:, 2] / 2
    assert areas.sum() == pytest.approx(36)
    assert (areas > 0).all()


def test_a_symmetric_shape_keeps_its_symmetry():
    vertices, triangles = grid_sphere()
    mirror = mirror_vertices(vertices, np.zeros(len(vertices), np.uint8))
    mesh = Mesh(vertices[None], triangles, np.ones(len(vertices)))
    reduce_mesh(mesh, np.zeros(len(vertices), np.uint8), np.array([150]), np.zeros(len(vertices), bool), mirror)
    kept = np.unique(mesh.triangles())
    assert 140 <= len(kept) <= 150
    assert np.isin(mirror[kept], kept).mean() > 0.97


def test_flat_parts_go_before_curved_ones():
    """A sheet with one sharp ridge: the ridge's vertices outlive the plain's."""
    side = np.arange(13)
    x, y = (axis.ravel() for axis in np.meshgrid(side, side))
    ridge = x == 6
    vertices = np.stack([x, y, 2.0 * ridge], axis=1).astype(float)
    corner = (13 * side[:-1, None] + side[None, :-1]).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + 14], axis=1), np.stack([corner, corner + 14, corner + 13], axis=1)]
    )
    mesh = Mesh(vertices[None], triangles, np.ones(169))
    reduce_mesh(mesh, np.zeros(169, np.uint8), np.array([110]), mesh.boundary(), np.arange(169))
    kept = np.isin(np.arange(169), mesh.triangles())
    assert kept[np.abs(x - 6) <= 1].mean() > kept[np.abs(x - 6) > 1].mean()


# --- names and parts -------------------------------------------------------------------------------------------------


def test_expressions_bear_apples_names():
    assert len(EXPRESSION_NAMES) == len(set(EXPRESSION_NAMES)) == 51
    assert EXPRESSION_NAMES[0] == "eyeBlinkLeft"
    assert EXPRESSION_NAMES[7] == "eyeBlinkRight"
    assert EXPRESSION_NAMES[14:18] == ("jawForward", "jawRight", "jawLeft", "jawOpen")
    assert EXPRESSION_NAMES[-1] == "noseSneerRight"
    assert "tongueOut" not in EXPRESSION_NAMES


@pytest.mark.parametrize(
    ("apple", "ict"),
    [
        ("eyeBlinkLeft", ("eyeBlink_L",)),
        ("noseSneerRight", ("noseSneer_R",)),
        ("browInnerUp", ("browInnerUp_L", "browInnerUp_R")),
        ("cheekPuff", ("cheekPuff_L", "cheekPuff_R")),
        ("jawLeft", ("jawLeft",)),
        ("mouthRight", ("mouthRight",)),
        ("mouthRollUpper", ("mouthRollUpper",)),
    ],
)
def test_each_of_apples_names_has_its_shapes(apple, ict):
    assert ict_names(apple) == ict


def test_no_shape_is_used_twice():
    assert len(ICT_NAMES) == len(set(ICT_NAMES)) == 53


def test_vertices_know_their_part():
    part = parts_of(26719)
    for index, (name, end) in enumerate(PART_ENDS.items()):
        assert part[end - 1] == index == PARTS.index(name)
    assert (part[PART_ENDS["eyeball_right"] :] == len(PARTS)).all()


# --- reading the source ----------------------------------------------------------------------------------------------

NEUTRAL = """# a square and a triangle
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
usemtl M_Face
f 1/1 2/1 3/1 4/1
usemtl M_EyeLashes
f 1/1/1 2/1/1 3/1/1
"""


@pytest.fixture
def published(tmp_path):
    """A folder as ICT publishes it, of four vertices."""
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    (folder / "generic_neutral_mesh.obj").write_text(NEUTRAL)
    for number, name in enumerate([*(f"identity{i:03d}" for i in range(NUM_IDENTITY)), *ICT_NAMES]):
        (folder / f"{name}.obj").write_text(NEUTRAL.replace("v 1 1 0", f"v 1 1 {number / 8}"))
    return folder


def test_the_published_folder_is_read(published):
    source = read_folder(published)
    assert np.array_equal(source.mean, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert source.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]  # the lashes are left out
    assert source.identity.shape == (NUM_IDENTITY, 4, 3)
    assert np.array_equal(source.identity[3], [[0, 0, 0], [0, 0, 0], [0, 0, 3 / 8], [0, 0, 0]])
    assert source.expression["jawOpen"][2, 2] == (NUM_IDENTITY + ICT_NAMES.index("jawOpen")) / 8
    assert np.allclose(source.pose({"jawOpen": 0.5})[2], [1, 1, 0.5 * source.expression["jawOpen"][2, 2]])


def test_a_small_mesh_is_refused(published):
    with pytest.raises(InvalidModelError, match="has 4 vertices where"):
        load_source(published)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jawOpen.obj", None),
        ("identity005.obj", "v 0 0 0\n"),
        ("browDown_L.obj", ""),
        ("generic_neutral_mesh.obj", "v 0 0 0\nf 1 2 3\n"),
        ("generic_neutral_mesh.obj", "v 0 zero 0\n"),
    ],
)
def test_a_broken_folder_is_one_sentence(published, name, text):
    (published / name).unlink() if text is None else (published / name).write_text(text)
    with pytest.raises(InvalidModelError, match="neither ICT-FaceKit's folder FaceXModel nor"):
        load_source(published)


@pytest.mark.parametrize("content", [None, b"", b"PK not a zip", b"no archive at all"])
def test_a_wrong_file_is_one_line_on_stderr(tmp_path, content):
    path = tmp_path / "model.npz"
    if content is not None:
        path.write_bytes(content)
    app = Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--source", str(path), "--output", str(tmp_path / "out.safetensors")])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "FaceXModel" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_the_licence_is_beside_the_source_or_above_it(published):
    with pytest.raises(InvalidModelError, match="no LICENSE"):
        read_licence(published)
    (published.parent / "LICENSE").write_text("MIT")
    assert read_licence(published) == read_licence(published / "packed.npz") == "MIT"


def test_landmarks_must_be_complete_and_drawn(tmp_path):
    path = tmp_path / "landmarks.csv"
    rows = [f"{landmark},{landmark + 7}" for landmark in range(NUM_LANDMARKS)]
    path.write_text("\n".join(["landmark,vertex", *rows[::-1]]))
    assert read_landmarks(path, parts_of(26719)).tolist() == list(range(7, 7 + NUM_LANDMARKS))
    path.write_text("\n".join(["landmark,vertex", *rows[:-1], "237,26000"]))
    with pytest.raises(InvalidModelError, match="not of a drawn part"):
        read_landmarks(path, parts_of(26719))
    path.write_text("\n".join(["landmark,vertex", *rows[:-1]]))
    with pytest.raises(InvalidModelError, match="0 to 237"):
        read_landmarks(path, parts_of(26719))


# --- the file that the package carries -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asset():
    with safe_open(ASSET, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def test_the_file_is_small_and_says_what_it_is(asset):
    arrays, metadata = asset
    assert ASSET.stat().st_size <= 6_000_000
    assert 6000 <= len(arrays["mean"]) <= 9000
    assert tuple(json.loads(metadata["expression_names"])) == EXPRESSION_NAMES
    assert tuple(json.loads(metadata["parts"])) == PARTS
    assert "ICT-FaceKit" in metadata["source"]
    assert metadata["licence"].startswith("MIT License")
    assert ASSET.with_name("FACE_MODEL_LICENSE").read_text(encoding="utf-8") == metadata["licence"]


def test_its_arrays_have_the_promised_shapes(asset):
    arrays, _ = asset
    count, faces = len(arrays["mean"]), len(arrays["triangles"])
    promised = {
        "mean": ((count, 3), np.float32),
        "identity": ((64, count, 3), np.float16),
        "expression": ((51, count, 3), np.float16),
        "triangles": ((faces, 3), np.int32),
        "part": ((count,), np.uint8),
        "landmark_vertices": ((238,), np.int32),
        "mirror": ((count,), np.int32),
        "lids": ((count, 2), np.float16),
        "around_eyes": ((count,), np.uint8),
        "lashes": ((count,), np.float16),
        "gaze_angle": ((count,), np.float16),
        "mouth_colour": ((count, 3), np.float16),
        "without_ears": ((count, 3), np.float16),
        "original_vertex": ((count,), np.int32),
    }
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == promised
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_its_surface_is_sound(asset):
    arrays, _ = asset
    triangles, count = arrays["triangles"], len(arrays["mean"])
    # The irises' landmarks lie on the clear shell before the drawn eyeball.
    assert set(range(count)) == set(np.unique(triangles)) | set(arrays["landmark_vertices"][68:70].tolist())
    assert edge_counts(triangles).max() <= BESIDE
    assert (np.linalg.norm(area_normals(arrays["mean"], triangles), axis=1) > 0).all()
    assert len(np.unique(arrays["landmark_vertices"])) == 238
    assert (arrays["mean"][np.unique(triangles), 1] >= -12).all()


def test_its_landmarks_are_those_of_the_table(asset):
    arrays, _ = asset
    vertices = read_landmarks(LANDMARKS, parts_of(26719))
    assert np.array_equal(arrays["original_vertex"][arrays["landmark_vertices"]], vertices)


def test_its_sides_mirror_each_other(asset):
    arrays, _ = asset
    mean, mirror = arrays["mean"], arrays["mirror"]
    away = np.linalg.norm(mean[mirror] * [-1, 1, 1] - mean, axis=1)
    assert away.max() < 0.1
    assert np.array_equal(mirror[mirror], np.arange(len(mirror)))
    name = np.array(PARTS)[arrays["part"]]
    swapped = np.char.replace(np.char.replace(np.char.replace(name, "left", "*"), "right", "left"), "*", "right")
    assert np.array_equal(name[mirror], swapped)


def test_left_is_the_persons_left(asset):
    """The person's left is the viewer's right, x > 0."""
    arrays, _ = asset
    for name, shape in zip(EXPRESSION_NAMES, arrays["expression"].astype(np.float32), strict=True):
        moved = np.linalg.norm(shape, axis=1)
        if name in ("jawLeft", "mouthLeft", "jawRight", "mouthRight"):
            side = shape[:, 0].sum() / moved.sum()  # where it goes
        else:
            side = (arrays["mean"][:, 0] * moved).sum() / moved.sum()  # where it is
        wanted = 1 if name.endswith("Left") else -1 if name.endswith("Right") else 0
        assert side * wanted > 0.2 if wanted else abs(side) < 0.2, name
