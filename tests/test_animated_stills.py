"""Animated stills: frame 0 is the photo, motion arrives where it was asked for, and speakers are followed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from people import CROP
from PIL import Image
from typer.testing import CliRunner

from talking_heads.errors import NoFaceError
from talking_heads.head.model import Camera, FaceModel, face_model
from talking_heads.head.motion import head_angles, head_rotation
from talking_heads.landmarks import eye_distance
from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.detectors import LandmarkDetector
from train.animated_stills import main
from train.data.clips import Clip, ClipMeta, canvas_margin, canvas_side, load_clip, make_clip, write_clip
from train.data.photo_animation import (
    FPS,
    MAX_SHIFT,
    SIZE,
    STRIDE,
    AnimatablePhoto,
    animatable_photo,
    animate,
    invented_background,
    random_motion,
    wander,
    weights,
)
from train.data.speech import JAW_OPENS, follow_speech, speech_clips

pytestmark = pytest.mark.slow

EDGE = canvas_margin(SIZE)
CENTRE = (slice(EDGE, EDGE + SIZE), slice(EDGE, EDGE + SIZE))
FACE = (slice(EDGE + 80, EDGE + 190), slice(EDGE + 80, EDGE + 180))


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return face_model()


@pytest.fixture(scope="module")
def animatable(astronaut: np.ndarray, detector: LandmarkDetector) -> AnimatablePhoto:
    return animatable_photo(astronaut, detector)


def at_rest(model: FaceModel, **tracks: float) -> np.ndarray:
    """(E,) of one moment."""
    return weights(model, {name: np.array([value]) for name, value in tracks.items()})[0]


def test_wandering_has_unit_variance_and_follows_its_seed() -> None:
    tracks = [wander(np.random.default_rng(seed), 400, 3.0) for seed in range(20)]
    assert np.std(tracks) == pytest.approx(1, abs=0.1)
    assert np.array_equal(tracks[0], wander(np.random.default_rng(0), 400, 3.0))
    assert np.abs(np.diff(tracks[0])).max() < 1.5


def test_a_name_without_a_side_means_both(model: FaceModel) -> None:
    both = weights(model, {"mouthSmile": np.array([0.2, -1.0]), "jawOpen": np.array([0.5, 0.5])})
    names = {model.expression_names[i]: both[0, i] for i in np.flatnonzero(both[0])}
    assert names == pytest.approx({"mouthSmileLeft": 0.2, "mouthSmileRight": 0.2, "jawOpen": 0.5})
    assert both[1].sum() == 0.5
    assert np.flatnonzero(weights(model, {"mouthLeft": np.ones(1)})[0]).tolist() == [model.index("mouthLeft")]


def test_the_still_is_the_photo_as_it_is_prepared(animatable: AnimatablePhoto, astronaut: np.ndarray, detector) -> None:
    assert animatable.canvas.shape == (canvas_side(SIZE), canvas_side(SIZE), 3) and animatable.size == SIZE
    assert animatable.mask.shape == animatable.canvas.shape[:2]
    photo = crop_around(detector.detect(astronaut)[0], astronaut.shape[:2]).cut(astronaut, SIZE)
    assert np.abs(animatable.canvas[CENTRE].astype(int) - photo).mean() < 1
    seen = detector.detect(np.ascontiguousarray(animatable.canvas[CENTRE]))[0]
    assert np.abs(seen - (animatable.landmarks * SIZE - 0.5)).mean() < 0.02 * eye_distance(seen)


def test_animation_begins_with_the_photo_and_shows_the_detector_what_was_drawn(
    animatable: AnimatablePhoto, detector: LandmarkDetector
) -> None:
    canvases, masks, landmarks, dropped = animate(animatable, detector, 5, np.random.default_rng(1))
    assert len(canvases) == len(masks) == len(landmarks) == 5 - dropped
    assert dropped <= 1
    np.testing.assert_array_equal(canvases[0], animatable.canvas)
    np.testing.assert_array_equal(landmarks[0], animatable.landmarks)
    drawn, _, posed, none = animate(animatable, None, 5, np.random.default_rng(1))
    assert none == 0 and len(drawn) == 5
    np.testing.assert_array_equal(canvases[-1], drawn[-1])
    assert np.linalg.norm((landmarks[-1] - posed[-1])[17:68], axis=1).mean() < 0.05 * eye_distance(posed[-1])
    for canvas, mask in zip(canvases, masks, strict=True):
        assert canvas.shape == animatable.canvas.shape and mask.shape == animatable.mask.shape
        assert mask[FACE].mean() > 200 and mask[:4, :4].max() < 50
    moved = [np.abs(canvas.astype(int) - animatable.canvas).mean() for canvas in canvases[1:]]
    assert min(moved) > 3


def test_an_invented_background_stands_behind_all_frames(animatable: AnimatablePhoto) -> None:
    own, *_ = animate(animatable, None, 3, np.random.default_rng(0))
    other, masks, *_ = animate(animatable, None, 3, np.random.default_rng(0), own_background=False)
    assert np.abs(other[0][FACE].astype(int) - own[0][FACE]).mean() < 2
    corner = (slice(0, 30), slice(0, 30))
    assert np.abs(other[0][corner].astype(int) - own[0][corner]).mean() > 5
    assert masks[0][corner].max() < 50
    np.testing.assert_array_equal(other[0][corner], other[1][corner])
    for side in (96, 384):
        background = invented_background(np.random.default_rng(1), side)
        assert background.shape == (side, side, 3) and background.min() >= 0 and background.max() <= 1


def test_motion_stays_within_its_bounds_and_is_varied(animatable: AnimatablePhoto, model: FaceModel) -> None:
    start = animatable.start
    motion = random_motion(model, start, 200, np.random.default_rng(1))
    expressions = np.stack([frame.expression for frame in motion])
    assert expressions.shape == (200, len(model.expression_names)) and expressions.dtype == np.float32
    assert expressions.min() >= 0 and expressions.max() <= 1
    shifts = np.stack([frame.translation for frame in motion]) - start.translation
    assert (np.abs(shifts) <= MAX_SHIFT).all() and (shifts.std(axis=0) > 0.1 * MAX_SHIFT).all()
    turns = np.stack([head_angles(frame.rotation @ start.rotation.T) for frame in motion])
    assert np.abs(turns[:, 0]).max() > 15 and np.abs(turns).max() < 40
    closed = expressions[:, model.index("eyeBlinkLeft")]
    assert (closed > 0.9).mean() > 0.05 and (closed < 0.3).mean() > 0.3
    lips = expressions[:, [i for i, name in enumerate(model.expression_names) if name.startswith(("jaw", "mouthS"))]]
    assert (lips.max(axis=1) < 0.1).mean() > 0.1  # at rest
    assert (expressions[:, model.index("mouthSmileLeft")] > 0.3).mean() > 0.1
    again = random_motion(model, start, 200, np.random.default_rng(1))
    assert all(np.array_equal(a.expression, b.expression) for a, b in zip(motion, again, strict=True))


def test_a_face_that_the_model_cannot_follow_is_refused(animatable: AnimatablePhoto) -> None:
    side = round(1.5 * len(animatable.canvas))
    bent = animatable.landmarks.copy()
    bent[:, 0] += 0.1 * np.sin(40 * bent[:, 1])
    with pytest.raises(NoFaceError, match="misses the face by"):
        AnimatablePhoto.of(np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8), bent)


def test_the_command_writes_clips_that_begin_with_the_photo(
    tmp_path: Path, astronaut: np.ndarray, animatable: AnimatablePhoto
) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    Image.fromarray(astronaut).save(stills / "ada.png")
    Image.fromarray(np.asarray(Image.fromarray(astronaut).resize((300, 300)))).save(stills / "small.png")
    main(stills=stills, output=tmp_path / "clips", frames=4, clips_per_still=2)
    paths = sorted((tmp_path / "clips").glob("*.npz"))
    assert [path.name for path in paths] == ["ada__ada__animated0.npz", "ada__ada__animated1.npz"]
    clip, other = map(load_clip, paths)
    assert (clip.meta.kind, clip.meta.person, clip.meta.fps) == ("animated", "ada", pytest.approx(FPS / STRIDE))
    assert len(clip) + clip.meta.extra["dropped"] == 4
    assert np.abs(clip.canvas(0, SIZE).astype(float) - animatable.canvas).mean() < 2
    np.testing.assert_allclose(clip.landmarks[0], animatable.landmarks, atol=1e-4)
    assert np.abs(clip.canvas(0, SIZE)[:20].astype(float) - other.canvas(0, SIZE)[:20]).mean() > 5  # its background


def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    (tmp_path / "stills").mkdir()
    base = ["--stills", str(tmp_path / "stills"), "--output", str(tmp_path / "clips")]
    result = CliRunner().invoke(app, base)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: There are no videos or photos in") and result.stderr.count("\n") == 1
    assert CliRunner().invoke(app, [*base, "--detector", "magic"]).exit_code == 2
    assert not (tmp_path / "clips").exists()


# ------------------------------------------------------------------------------------------------------------- speech


def speaker(model: FaceModel, frames: int, split: str = "train", kind: str = "video") -> tuple[Clip, np.ndarray]:
    """Somebody who opens the mouth, smiles askew and nods -> the clip at 25 frames a second, and jawOpen (T,)."""
    identity = np.random.default_rng(5).normal(0, 0.5, 50)
    camera = Camera(0.028, (0.5, 0.48))
    time = np.arange(frames) / 25
    jaw = 0.1 + 0.25 * (1 - np.cos(2 * np.pi * 2.3 * time)) / 2
    smile = 0.3 * (1 + np.sin(2 * np.pi * 0.9 * time)) / 2
    marks = []
    for now, opens, smiles in zip(time, jaw, smile, strict=True):
        face = model.vertices(identity, at_rest(model, jawOpen=opens, mouthSmileLeft=smiles, browInnerUp=0.2))
        turn = head_rotation(np.array([5, 4 * np.sin(2 * np.pi * now), 0]))
        marks.append(camera.project(face[model.landmark_vertices] @ turn.T)[:, :2])
    side = canvas_side(CROP)
    pictures, masks = [np.zeros((side, side, 3), np.uint8)] * frames, [np.zeros((side, side), np.uint8)] * frames
    meta = ClipMeta("speaker", "speaker.mp4", split, 25.0, "CC BY 4.0", kind)
    return make_clip(pictures, masks, np.stack(marks), meta), jaw


def test_a_still_speaks_as_the_speaker_did(animatable: AnimatablePhoto, model: FaceModel) -> None:
    clip, jaw = speaker(model, 40)
    names = model.expression_names
    speech = follow_speech(model, clip, 40, 25.0, np.random.default_rng(0))  # as long as the clip: from its first frame
    opened = speech.expression[:, model.index("jawOpen")]
    assert np.corrcoef(opened, jaw)[0, 1] > 0.9
    assert opened.min() == 0
    assert JAW_OPENS[0] - 1e-6 <= np.quantile(opened, 0.95) <= JAW_OPENS[1]
    left, right = (speech.expression[:, model.index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    assert np.array_equal(left, right) and np.ptp(left) > 0.05
    assert speech.expression[:, model.index("browInnerUp")].max() < 0.1  # always up: that is how they look
    assert not speech.expression[:, [name.startswith("eyeLook") for name in names]].any()
    nod = 4 * np.sin(2 * np.pi * np.arange(40) / 25)
    assert np.corrcoef(speech.angles[:, 1], nod)[0, 1] > 0.9
    assert np.abs(speech.angles.mean(axis=0)).max() < 1e-6

    spoken = random_motion(model, animatable.start, 40, np.random.default_rng(1), speech)
    invented = random_motion(model, animatable.start, 40, np.random.default_rng(1))
    said = np.stack([frame.expression for frame in spoken])
    assert np.corrcoef(said[:, model.index("jawOpen")], opened)[0, 1] > 0.8
    assert said.min() >= 0 and said.max() <= 1
    assert said[:, model.index("eyeBlinkLeft")].max() > 0.5
    added = [
        head_angles(a.rotation @ animatable.start.rotation.T) - head_angles(b.rotation @ animatable.start.rotation.T)
        for a, b in zip(spoken, invented, strict=True)
    ]
    assert np.corrcoef(np.array(added)[:, 1], nod)[0, 1] > 0.9


def test_a_short_speech_runs_back_and_forth_and_follows_its_seed(model: FaceModel) -> None:
    clip, _ = speaker(model, 6)
    first, again, other = (follow_speech(model, clip, 23, 10.0, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.expression.shape == (23, len(model.expression_names)) and first.angles.shape == (23, 3)
    assert np.isfinite(first.expression).all() and first.expression.max() <= 1
    assert np.array_equal(first.expression, again.expression) and np.array_equal(first.angles, again.angles)
    assert not np.array_equal(first.expression, other.expression)
    single = follow_speech(model, speaker(model, 1)[0], 3, 10.0, np.random.default_rng(0))
    assert single.expression.max() < 0.3 and np.abs(single.angles).max() < 1


def test_the_command_lets_photos_speak_and_more_photos_change_no_clip(
    tmp_path: Path, model: FaceModel, astronaut: np.ndarray
) -> None:
    for name, clip in (
        ("b", speaker(model, 30)[0]),
        ("c", speaker(model, 20)[0]),
        ("a", speaker(model, 2, split="validation")[0]),
        ("d", speaker(model, 2, kind="animated")[0]),
    ):
        write_clip(tmp_path / "speech" / f"{name}.npz", clip)
    assert [path.name for path in speech_clips(tmp_path / "speech")] == ["b.npz", "c.npz"]

    stills = tmp_path / "stills"
    stills.mkdir()
    clips = []
    for number, name in enumerate(["bob", "ada"]):  # the second run makes both
        Image.fromarray(astronaut).save(stills / f"{name}.png")
        output = tmp_path / f"clips{number}"
        main(stills=stills, output=output, frames=3, first_clip=2, speech=tmp_path / "speech")
        assert len(list(output.iterdir())) == number + 1
        clips.append(load_clip(output / "bob__bob__animated2.npz"))
    assert np.array_equal(clips[0].jpeg, clips[1].jpeg)
    assert np.array_equal(clips[0].landmarks, clips[1].landmarks)
    assert clips[0].meta.licence.endswith("motion: CC BY 4.0")
    assert not np.array_equal(clips[1].jpeg, load_clip(output / "ada__ada__animated2.npz").jpeg)


def test_speech_without_a_speaker_is_one_sentence_and_exit_code_2(tmp_path: Path, model: FaceModel) -> None:
    app = typer.Typer()
    app.command()(main)
    folder = tmp_path / "speech"
    for name in ("stills", "speech"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "stills" / "ada.png")
    base = ["--stills", str(tmp_path / "stills"), "--output", str(tmp_path / "clips"), "--speech", str(folder)]

    def complaint() -> str:
        result = CliRunner().invoke(app, base)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
        return result.stderr

    assert "There are no prepared videos of split train in" in complaint()
    clip, _ = speaker(model, 2)
    write_clip(folder / "ada.npz", replace(clip, meta=ClipMeta("ada", "ada.mp4", split="validation")))
    assert "There are no prepared videos of split train in" in complaint()
    (folder / "bob.npz").write_bytes(b"no clip")
    assert "bob.npz is not a prepared clip" in complaint()
    assert not (tmp_path / "clips").exists()
