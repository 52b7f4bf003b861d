"""The mean face that is bundled, and how it and the skin's points are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MEAN_FACE
from PIL import Image
from typer.testing import CliRunner

from talking_heads.face_pose import Pose, fit_pose, rotation_matrix
from talking_heads.landmarks import IRISES, MESH_INDICES, MIRROR, NAMED, NUM_LANDMARKS, SKIN, MediapipeDetector
from train.mean_face import IRIS_VERTICES, app, choose_skin, mean_mesh, mirrored


@pytest.fixture(scope="module")
def mesh(detector: MediapipeDetector, astronaut: np.ndarray) -> np.ndarray:
    """The face mesh of a real face, (478, 3)."""
    return detector.meshes(astronaut)[0]


def test_the_bundled_face_is_symmetric_frontal_and_one_high():
    assert MEAN_FACE.shape == (NUM_LANDMARKS, 3) and MEAN_FACE.dtype == np.float32
    np.testing.assert_allclose(MEAN_FACE[MIRROR] * [-1, 1, 1], MEAN_FACE, atol=2e-3)
    assert np.linalg.norm(MEAN_FACE[73, :2] - MEAN_FACE[8, :2]) == pytest.approx(1, abs=0.03)
    assert MEAN_FACE[30, 2] == MEAN_FACE[NAMED, 2].max()  # the tip of the nose is nearest
    assert MEAN_FACE[8, 1] > MEAN_FACE[57, 1] > MEAN_FACE[30, 1] > MEAN_FACE[27, 1] > MEAN_FACE[73, 1]


def test_skin_points_are_no_other_landmarks_and_no_irises():
    skin = MESH_INDICES[SKIN]
    assert len(set(skin)) == len(skin)
    assert not set(skin) & set(MESH_INDICES[NAMED])
    assert not set(skin) & set(IRIS_VERTICES)
    assert set(MESH_INDICES[IRISES]) <= set(IRIS_VERTICES)


def test_the_mean_of_one_face_is_that_face_upright_and_symmetric(mesh: np.ndarray):
    mean = mean_mesh([mesh, mesh * 0.5 + 20])
    np.testing.assert_allclose(mean[mirrored(mean)] * [-1, 1, 1], mean, atol=0.02)
    assert np.linalg.norm(mean[152, :2] - mean[10, :2]) == pytest.approx(1, abs=1e-3)
    fitted = fit_pose(mean[MESH_INDICES], mesh[MESH_INDICES, :2])
    missed = np.linalg.norm(fitted.project(mean[MESH_INDICES]) - mesh[MESH_INDICES, :2], axis=1)
    assert missed.mean() < 0.04 * fitted.scale


def test_skin_is_chosen_in_pairs_where_the_spline_misses(mesh: np.ndarray):
    mean = mean_mesh([mesh])
    poses = [Pose(rotation_matrix(yaw, 0.1, 0), 100.0, np.zeros(2)) for yaw in (0.0, 0.5)]
    chosen = choose_skin([(poses[0].project(mean), poses[1].project(mean))], mean, 12)
    vertices = [vertex for group in chosen for vertex in group]
    assert len(vertices) >= 12 and len(set(vertices)) == len(vertices)
    other = mirrored(mean)
    assert all(tuple(sorted(other[list(group)])) == tuple(sorted(group)) for group in chosen)
    assert not set(vertices) & set(MESH_INDICES[NAMED]) and not set(vertices) & set(IRIS_VERTICES)


def test_the_command_writes_a_face_of_portraits(tmp_path: Path, astronaut: np.ndarray):
    (tmp_path / "photos").mkdir()
    output = tmp_path / "face.csv"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photos" / "nobody.png")
    command = ["mean", "--photos", str(tmp_path / "photos"), "--output", str(output)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and not output.exists()
    assert "no frontal faces" in result.stderr and result.stderr.count("\n") == 1
    # Two portraits that are each other's mirror image stand as straight as people who look ahead on average.
    for k, picture in enumerate((astronaut, astronaut[:, ::-1])):
        Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / "photos" / f"{k}.png")
    result = CliRunner().invoke(app, command)
    if result.exit_code == 0:  # she looks a little aside: a detector's depth decides whether that is frontal
        written = np.loadtxt(output, delimiter=",", skiprows=1)
        assert written.shape == MEAN_FACE.shape
        np.testing.assert_allclose(written[MIRROR] * [-1, 1, 1], written, atol=1e-3)
    else:
        assert "no frontal faces" in result.stderr
