"""Puppets: the fit finds what was rendered, the photo comes back unchanged, motion arrives. Needs the shared data."""

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from talking_heads.images import read_photo
from talking_heads.landmarks import NAMED, NUM_LANDMARKS, LandmarkDetector, eye_distance, load_detector
from train.clips import Clip, ClipMeta, load_clip, make_clip, save_clip
from train.example_clip import Studio
from train.face_model import Camera, FaceModel, rotation
from train.fitting import LANDMARK_VERTICES, fit_face
from train.puppets import (
    MAX_SHIFT,
    Anatomy,
    Puppet,
    fill_holes,
    invented_wall,
    main,
    make_puppet,
    random_motion,
    sample,
    stretch,
    wander,
)
from train.speech import JAW_OPENS, angles_of, follow_speech, speech_clips

DATA = Path(__file__).parents[2] / "shared" / "data"
FACE_MODEL = DATA / "face_model" / "ict_facekit.npz"
STILL = DATA / "stills" / "london" / "001_neutral.jpg"

STILL_HEAD, STILL_BODY = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)

needs_data = pytest.mark.skipif(
    not (FACE_MODEL.is_file() and STILL.is_file()), reason="the face model and the stills of ../shared/data are absent"
)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return FaceModel.load(FACE_MODEL)


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    return load_detector()


@pytest.fixture(scope="module")
def puppet(model: FaceModel, detector: LandmarkDetector) -> tuple[Puppet, np.ndarray, np.ndarray]:
    return make_puppet(Anatomy.of(model), read_photo(STILL), detector)


def test_holes_are_filled_from_around_and_the_known_stays():
    ramp = np.repeat(np.linspace(0, 1, 32)[None, :, None], 31, axis=0)
    known = np.ones((31, 32))
    known[8:20, 10:22] = 0
    spoiled = np.where(known[..., None] > 0, ramp, 9.0)
    filled = fill_holes(spoiled, known)
    assert np.array_equal(filled[known > 0], ramp[known > 0])
    assert np.abs(filled - ramp).max() < 0.15


def test_sampling_at_pixel_centres_is_exact_and_edges_go_on():
    image = np.random.default_rng(0).random((5, 7, 2), dtype=np.float32)
    rows, columns = np.mgrid[0:5, 0:7]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    assert np.allclose(sample(image, centres).reshape(5, 7, 2), image, atol=1e-6)
    assert np.allclose(sample(image, np.array([[-9.0, -9.0], [99.0, 99.0]])), image[[0, -1], [0, -1]], atol=1e-6)


def test_stretch_is_the_ratio_of_areas():
    corners = np.array([[0, 0], [4, 0], [0, 4]], np.float32)
    assert np.allclose(stretch(corners * [2, 3], corners, np.array([[0, 1, 2]], np.int32)), 6, rtol=1e-3)


def test_wandering_has_unit_variance_and_follows_its_seed():
    tracks = [wander(np.random.default_rng(seed), 400, 3.0) for seed in range(20)]
    assert np.std(tracks) == pytest.approx(1, abs=0.1)
    assert np.array_equal(tracks[0], wander(np.random.default_rng(0), 400, 3.0))
    assert np.abs(np.diff(tracks[0])).max() < 1.5


@needs_data
def test_the_fit_recovers_pose_and_expression(model):
    rng = np.random.default_rng(0)
    expression = model.weights(jawOpen=0.4, mouthSmile=0.5)
    vertices = model.vertices(rng.normal(0, 0.5, 50), expression)
    camera = Camera(14.0, (250.0, 240.0))
    turn = rotation(12, -6, 4)
    landmarks = camera.project(vertices[LANDMARK_VERTICES] @ turn.T)[:, :2]
    fit = fit_face(model, landmarks)
    assert fit.error < 0.005
    between = np.degrees(np.arccos(np.clip((np.trace(fit.rotation.T @ turn) - 1) / 2, -1, 1)))
    assert between < 3
    assert fit.expression[model.expression_names.index("jawOpen")] == pytest.approx(0.4, abs=0.15)
    posed = fit.shape(model, fit.expression)[LANDMARK_VERTICES] @ fit.rotation.T
    missed = np.linalg.norm(fit.camera.project(posed)[:, :2] - landmarks, axis=1)
    assert missed[:68].mean() < 1.0


@needs_data
def test_the_detector_means_the_vertices_that_the_fit_uses(model, detector):
    """LANDMARK_VERTICES, checked on a painted head whose vertices are known."""
    studio = Studio(model, seed=3)
    picture = studio.photograph(model.weights(jawOpen=0.2), np.eye(3, dtype=np.float32))
    landmarks = detector.detect(picture)[0]
    fit = fit_face(model, landmarks)
    assert fit.error < 0.012


@needs_data
def test_an_unmoved_puppet_is_the_photo(puppet):
    doll, photo, landmarks = puppet
    picture, projected = doll.draw(doll.fit.expression, STILL_HEAD, STILL_BODY)
    face = (slice(70, 200), slice(80, 180))
    assert np.abs(picture[face].astype(float) - photo[face]).mean() < 6
    assert np.linalg.norm((projected - landmarks[NAMED])[:68], axis=1).mean() < 0.02 * eye_distance(landmarks)


@needs_data
def test_a_moved_puppet_shows_the_detector_what_was_asked(puppet, model, detector):
    doll, _, landmarks = puppet
    opened = doll.fit.expression + model.weights(jawOpen=0.4)
    picture, projected = doll.draw(opened, rotation(yaw=20), STILL_BODY)
    seen = detector.detect(picture)[0]
    unit = eye_distance(seen)
    assert np.linalg.norm((seen[NAMED] - projected)[17:68], axis=1).mean() < 0.05 * unit
    assert np.linalg.norm(seen[62] - seen[66]) > 0.12 * unit
    assert seen[30, 0] - seen[[36, 45], 0].mean() > landmarks[30, 0] - landmarks[[36, 45], 0].mean() + 0.05 * unit
    blinked = doll.draw(doll.fit.expression + model.weights(eyeBlink=1.0), STILL_HEAD, STILL_BODY)[0]
    lids = detector.detect(blinked)[0]
    assert np.linalg.norm(lids[37] - lids[41]) < 0.5 * np.linalg.norm(landmarks[37] - landmarks[41])


@needs_data
def test_motion_stays_within_its_bounds(puppet, model):
    expressions, turns, shifts = random_motion(model, puppet[0].fit, 40, np.random.default_rng(1))
    assert expressions.shape == (40, len(model.expression_names))
    assert expressions.min() >= 0
    assert expressions.max() <= 1
    assert np.allclose(np.linalg.det(turns), 1, atol=1e-5)
    assert expressions[:, model.expression_names.index("eyeBlink_L")].max() > 0.5
    assert shifts.shape == (40, 3)
    assert (np.abs(shifts) <= MAX_SHIFT).all() and (shifts.std(axis=0) > 0.1 * MAX_SHIFT).all()


@needs_data
def test_a_body_sways_before_a_wall_that_stays(model, detector):
    doll, photo, landmarks = make_puppet(Anatomy.of(model), read_photo(STILL), detector)
    wall = invented_wall(np.random.default_rng(0))
    before = doll.stand_before(wall)
    corner = (slice(0, 40), slice(0, 25))
    face = (slice(70, 200), slice(80, 180))
    assert np.abs(before[face].astype(float) - photo[face]).mean() < 3
    assert np.abs(before[corner].astype(float) - photo[corner]).mean() > 10
    picture, projected = doll.draw(doll.fit.expression, STILL_HEAD, np.array([3.0, 0.0, 0.0], np.float32))
    moved = (projected - landmarks[NAMED]).mean(axis=0)
    assert moved[0] == pytest.approx(3 * doll.fit.camera.scale / 2, rel=0.2)  # the stage is twice as large
    assert abs(moved[1]) < 1
    assert np.abs(picture[corner].astype(float) - before[corner]).mean() < 1
    seen = detector.detect(picture)[0]
    assert np.linalg.norm((seen[NAMED] - projected)[17:68], axis=1).mean() < 0.05 * eye_distance(seen)


@needs_data
def test_the_command_writes_clips_that_begin_with_the_photo(tmp_path, puppet):
    stills = tmp_path / "stills"
    stills.mkdir()
    (stills / "ada.jpg").write_bytes(STILL.read_bytes())
    arguments = {"stills": stills, "face_model": FACE_MODEL, "frames": 4, "index": None, "split": "train"}
    more = {"clips_per_still": 1, "seed": 0, "detector": "mediapipe", "workers": 1}
    main(**arguments, **more, output=tmp_path / "clips")
    (path,) = (tmp_path / "clips").glob("*.npz")
    clip = load_clip(path)
    assert clip.meta.kind == "puppet"
    assert clip.meta.identity == "ada"
    assert len(clip) + clip.meta.extra["dropped"] == 4
    frame, landmarks = clip.frame(0, 256)
    _, photo, expected = puppet
    assert np.abs(frame.astype(float) - photo).mean() < 2
    assert np.allclose(landmarks, expected, atol=0.5)


def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path):
    app = typer.Typer()
    app.command()(main)
    (tmp_path / "stills").mkdir()
    (tmp_path / "model.npz").write_bytes(b"no face")
    base = ["--stills", str(tmp_path / "stills"), "--face-model", str(tmp_path / "model.npz")]
    base += ["--output", str(tmp_path / "clips")]
    result = CliRunner().invoke(app, base)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: There are no videos or photos in") and result.stderr.count("\n") == 1
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "stills" / "ada.png")
    result = CliRunner().invoke(app, base)
    assert result.exit_code == 2
    assert "model.npz is not the face model ict_facekit.npz" in result.stderr and result.stderr.count("\n") == 1
    assert CliRunner().invoke(app, [*base, "--detector", "magic"]).exit_code == 2
    assert not (tmp_path / "clips").exists()


def test_angles_are_those_that_a_rotation_was_made_of():
    assert np.allclose(angles_of(rotation(12, -6, 4)), [12, -6, 4], atol=1e-4)
    assert np.allclose(angles_of(rotation(-80, 40, 100)), [-80, 40, 100], atol=1e-4)


def speaker(model: FaceModel, frames: int, split: str = "train", kind: str = "video") -> tuple[Clip, np.ndarray]:
    """Somebody who opens the mouth, smiles askew and nods -> the clip at 25 frames a second, and jawOpen (T,)."""
    rng = np.random.default_rng(5)
    identity, camera = rng.normal(0, 0.5, 50), Camera(7.0, (125.0, 120.0))
    time = np.arange(frames) / 25
    jaw = 0.1 + 0.15 * (1 - np.cos(2 * np.pi * 2.3 * time)) / 2
    smile = 0.3 * (1 + np.sin(2 * np.pi * 0.9 * time)) / 2
    marks = []
    for now, opens, smiles in zip(time, jaw, smile, strict=True):
        face = model.vertices(identity, model.weights(jawOpen=opens, mouthSmile_L=smiles, browInnerUp=0.2))
        turned = face[LANDMARK_VERTICES] @ rotation(yaw=5, pitch=4 * np.sin(2 * np.pi * now)).T
        named = camera.project(turned)[:, :2]
        marks.append(np.concatenate([named, np.zeros((NUM_LANDMARKS - len(named), 2), np.float32)]))
    pictures = [np.zeros((16, 16, 3), np.uint8)] * frames
    meta = ClipMeta("speaker", "speaker.mp4", split, 25.0, "CC BY 4.0", kind)
    return make_clip(pictures, np.stack(marks), meta), jaw


def store(clip: Clip, path: Path) -> None:
    save_clip(path, [clip.frame(i, 16)[0] for i in range(len(clip))], clip.landmarks, clip.meta)


@needs_data
def test_a_puppet_speaks_as_the_speaker_did(puppet, model):
    clip, jaw = speaker(model, 40)
    names = model.expression_names
    speech = follow_speech(model, clip, 40, 25.0, np.random.default_rng(0))  # as long as the clip: from its first frame
    opened = speech.expression[:, names.index("jawOpen")]
    assert np.corrcoef(opened, jaw)[0, 1] > 0.9
    assert opened.min() == 0
    assert JAW_OPENS[0] <= np.quantile(opened, 0.95) <= JAW_OPENS[1]
    left, right = (speech.expression[:, names.index(f"mouthSmile_{side}")] for side in "LR")
    assert np.array_equal(left, right) and np.ptp(left) > 0.1
    assert speech.expression[:, names.index("browInnerUp_L")].max() < 0.1  # always up: that is how he looks
    assert not speech.expression[:, [name.startswith("eyeLook") for name in names]].any()
    nod = 4 * np.sin(2 * np.pi * np.arange(40) / 25)
    assert np.corrcoef(speech.angles[:, 1], nod)[0, 1] > 0.9
    assert np.abs(speech.angles.mean(axis=0)).max() < 1e-6

    fit = puppet[0].fit
    spoken, turns, _ = random_motion(model, fit, 40, np.random.default_rng(1), speech)
    invented, turned, _ = random_motion(model, fit, 40, np.random.default_rng(1))
    assert np.corrcoef(spoken[:, names.index("jawOpen")], jaw)[0, 1] > 0.8
    assert spoken.min() >= 0 and spoken.max() <= 1
    looks = [i for i, name in enumerate(names) if name.startswith("eyeLookUp")]
    assert np.array_equal(spoken[:, looks], invented[:, looks])
    assert spoken[:, names.index("eyeBlink_L")].max() > 0.5
    added = np.array([angles_of(turn) for turn in turns]) - [angles_of(turn) for turn in turned]
    assert np.corrcoef(added[:, 1], nod)[0, 1] > 0.9


@needs_data
def test_a_short_speech_runs_back_and_forth_and_follows_its_seed(model):
    clip, _ = speaker(model, 6)
    first, again, other = (follow_speech(model, clip, 23, 10.0, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.expression.shape == (23, len(model.expression_names)) and first.angles.shape == (23, 3)
    assert np.isfinite(first.expression).all() and first.expression.max() <= 1
    assert np.array_equal(first.expression, again.expression) and np.array_equal(first.angles, again.angles)
    assert not np.array_equal(first.expression, other.expression)
    single = follow_speech(model, speaker(model, 1)[0], 3, 10.0, np.random.default_rng(0))
    assert not single.expression.any() and np.allclose(single.angles, 0)


@needs_data
def test_the_command_lets_photos_speak_and_more_photos_change_no_clip(tmp_path, model):
    store(speaker(model, 30)[0], tmp_path / "speech" / "b.npz")
    store(speaker(model, 20)[0], tmp_path / "speech" / "c.npz")
    store(speaker(model, 2, split="validation")[0], tmp_path / "speech" / "a.npz")
    store(speaker(model, 2, kind="puppet")[0], tmp_path / "speech" / "d.npz")
    assert [path.name for path in speech_clips(tmp_path / "speech")] == ["b.npz", "c.npz"]

    stills = tmp_path / "stills"
    stills.mkdir()
    clips = []
    for number, name in enumerate(["bob", "ada"]):  # the second run makes both
        (stills / f"{name}.jpg").write_bytes(STILL.read_bytes())
        output = tmp_path / f"clips{number}"
        main(stills=stills, face_model=FACE_MODEL, output=output, frames=4, first_clip=3, speech=tmp_path / "speech")
        assert len(list(output.iterdir())) == number + 1
        clips.append(load_clip(output / "bob__bob__puppet3.npz"))
    assert np.array_equal(clips[0].jpeg, clips[1].jpeg)
    assert np.array_equal(clips[0].landmarks, clips[1].landmarks)
    assert clips[0].meta.licence.endswith("motion: CC BY 4.0")
    assert not np.array_equal(clips[1].jpeg, load_clip(output / "ada__ada__puppet3.npz").jpeg)


def test_speech_without_a_speaker_is_one_sentence_and_exit_code_2(tmp_path):
    app = typer.Typer()
    app.command()(main)
    folder = tmp_path / "speech"
    for name in ("stills", "speech"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "stills" / "ada.png")
    (tmp_path / "model.npz").write_bytes(b"no face")
    base = ["--stills", str(tmp_path / "stills"), "--face-model", str(tmp_path / "model.npz")]
    base += ["--output", str(tmp_path / "clips"), "--speech", str(folder)]

    def complaint() -> str:
        result = CliRunner().invoke(app, base)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        return result.stderr

    assert "There are no prepared videos of split train in" in complaint()
    meta = ClipMeta("ada", "ada.mp4", split="validation")
    save_clip(
        folder / "ada.npz", [np.zeros((16, 16, 3), np.uint8)] * 2, np.zeros((2, NUM_LANDMARKS, 2), np.float32), meta
    )
    assert "There are no prepared videos of split train in" in complaint()
    (folder / "bob.npz").write_bytes(b"no clip")
    assert "bob.npz is not a prepared clip" in complaint()
    assert not (tmp_path / "clips").exists()
