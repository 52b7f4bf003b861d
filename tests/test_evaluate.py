"""The protocol: which frames are sources, what is counted, and a whole run on the bundled clip with a tiny model."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from media import write_clip
from PIL import Image
from test_metrics import save_inception
from tiny import SIZE, save_tiny_identity_net, save_tiny_model
from typer.testing import CliRunner, Result

import talking_heads
from docs.card import table
from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.head.head import Head
from talking_heads.head.render import PhotoChoice, Renderer
from talking_heads.landmarks import NUM_LANDMARKS
from talking_heads.media.reading import read_frames
from talking_heads.tracking.crops import Portrait, crop_around
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.tracking.motion_fitting import DriverFitter
from train import evaluate
from train.data.jobs import Job
from train.evaluation import protocol
from train.evaluation.fid import frechet_distance
from train.evaluation.field import field_values, first_and_rest
from train.evaluation.metrics import FrameMetrics, Observation, l1, stillest_run
from train.evaluation.protocol import METRICS, Options, Outcome, read_clip, split_frames
from train.evaluation.protocol import Result as ClipResult
from train.evaluation.reenact import Targets, methods_of, reduced
from train.evaluation.report import summarise, wins
from train.evaluation.results import fid, identity_notes, means_of_turned, write_results

pytestmark = pytest.mark.slow

app = typer.Typer()
app.command()(evaluate.main)

DRIVING = Path(talking_heads.__file__).parent / "examples" / "driving.mp4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def one_detector(detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading another would take longer than everything else."""
    monkeypatch.setattr("talking_heads.pipeline.load_detector", lambda: detector)
    protocol._pipeline_and_metrics.cache_clear()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ------------------------------------------------------------------------------------------------------------ protocol


@pytest.mark.parametrize("number", [8, 9, 75, 400])
def test_sources_and_hold_out_frames_are_disjoint(number: int) -> None:
    usable = np.arange(number) * 3
    sources, held_out = split_frames(usable, (1, 8, 32), 32)
    assert sources[1].tolist() == [0]
    for shots, chosen in sources.items():
        assert len(set(chosen.tolist())) == len(chosen) == min(shots, number // 2)
        assert chosen.max() < held_out.min()
        assert set(chosen.tolist()) <= set(usable.tolist())
    assert len(set(held_out.tolist())) == len(held_out) == min(32, number - number // 2)
    assert held_out[-1] == usable[-1]


def test_jitter_is_measured_where_the_face_is_stillest() -> None:
    track = np.zeros((40, NUM_LANDMARKS, 2))
    track[:, :, 0] = np.cumsum(np.where(np.arange(40) < 20, 1.0, 0.1))[:, None]
    usable = np.delete(np.arange(40), 30)  # no window crosses a gap
    assert stillest_run(track, usable, 8).tolist() == list(range(19, 27))
    assert len(stillest_run(track, usable[::2], 8)) == 0


def test_people_count_once_and_nan_not_at_all() -> None:
    def clip(identity: str, value: float) -> ClipResult:
        return ClipResult("c", identity, 1, 1, 4, {"warp": {"ssim": value}, "feed-forward": {"ssim": 0.5}})

    clips = [clip("ada", 0.2), clip("ada", 0.4), clip("bob", 0.7), clip("cy", math.nan)]
    ours = summarise(clips)["warp"]["ssim"]
    assert ours["people"] == 2
    assert ours["mean"] == pytest.approx((0.3 + 0.7) / 2)
    assert ours["low"] == pytest.approx(0.3) and ours["high"] == pytest.approx(0.7)
    by_name = {metric.name: metric for metric in METRICS}
    assert wins(clips, "feed-forward", "warp", by_name["ssim"]) == (2, 3)
    assert wins(clips, "fine-tuned", "warp", by_name["ssim"]) == (0, 0)
    assert by_name["sharpness"].cost(0.5) == pytest.approx(by_name["sharpness"].cost(2.0))
    assert by_name["psnr"].cost(30.0) < by_name["psnr"].cost(20.0)


def test_larger_frames_are_averaged() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    expected = frame.reshape(4, 2, 4, 2, 3).astype(float).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced(frame, 4), expected, atol=0.5)
    np.testing.assert_array_equal(reduced(frame.astype(np.float32), 4), reduced(frame, 4))
    np.testing.assert_array_equal(reduced(frame, 8), frame)


def test_methods_in_the_pose_of_the_source(model: Path, shots: Shots, head: Head) -> None:
    """Asked for nothing new, every method gives the photo; the pipeline's frames are twice as large and averaged."""
    pipe = TalkingHeadPipeline.from_pretrained(model)
    avatar = pipe.avatar_from_shots(shots)
    assert pipe.frame_size(avatar, None) == 2 * SIZE
    methods = methods_of(pipe, avatar)
    assert list(methods) == ["still", "warp", "render", "feed-forward"]
    asked = Targets([head.primary_view.fit.frame], shots.landmarks_at(SIZE))
    photo = shots.crops(SIZE)
    assert np.array_equal(methods["still"](asked), photo)
    assert np.abs(methods["warp"](asked).astype(int) - photo).max() <= 1
    assert l1(methods["render"](asked)[0], photo[0]) < 0.01
    assert np.array_equal(methods["feed-forward"](asked)[0], reduced(next(pipe.generate(avatar, asked.frames)), SIZE))


def test_with_several_photos_the_nearest_is_moved(model: Path, clip_faces: tuple[list[Portrait], np.ndarray]) -> None:
    portraits, faces = clip_faces
    pipe = TalkingHeadPipeline.from_pretrained(model)
    shots = Shots.of(portraits)
    avatar = pipe.avatar_from_shots(shots)
    methods, photos = methods_of(pipe, avatar), shots.crops(SIZE)
    renderer = Renderer(avatar.head, SIZE)
    assert l1(photos[0], photos[1]) > 0.02
    for k, face in enumerate(faces):
        frame = DriverFitter.of_person(avatar.head, portraits[0].crop).fit(face)
        asked = Targets([frame], shots.landmarks_at(SIZE)[k : k + 1])
        assert np.abs(methods["warp"](asked)[0].astype(int) - photos[k]).max() <= 1
        # Lids and lips lie where they are asked for, whichever photo they are drawn from.
        drawn = renderer.draw(frame, PhotoChoice(((1 - k, 1.0),))).landmarks
        np.testing.assert_allclose(drawn[36:68], renderer.landmarks(frame)[36:68], atol=0.01)
        rendered = methods["render"](asked)[0]
        assert l1(rendered, photos[k]) < 0.6 * l1(rendered, photos[1 - k])


@pytest.fixture(scope="module")
def clip_faces(detector: LandmarkDetector) -> tuple[list[Portrait], np.ndarray]:
    """Two frames of the bundled clip, in which the head looks to either side, in one crop; and their landmarks."""
    frames = list(read_frames(DRIVING, start=2.5, end=3.95))
    chosen = [frames[0], frames[-1]]
    faces = np.stack([detector.detect(frame)[0] for frame in chosen])
    crop = crop_around(faces, chosen[0].shape[:2])
    return [Portrait(frame, face, crop) for frame, face in zip(chosen, faces, strict=True)], faces


def test_hold_out_frames_are_independent_and_fitted(model: Path, clip: Path, detector: LandmarkDetector) -> None:
    pipe = TalkingHeadPipeline.from_pretrained(model)
    read = read_clip(pipe, clip, partial(split_frames, shots=(1, 3), held_out=4))
    assert set(read.pictures) == set(read.sources[3].tolist()) and set(read.crops) == {*read.held_out, *read.run}
    frames = list(read_frames(clip))
    assert all(np.array_equal(picture, frames[k]) for k, picture in read.pictures.items())  # whole
    assert np.array_equal(read.cropped(read.held_out)[1], read.crop.cut(frames[read.held_out[1]], SIZE))
    head = pipe.avatar_from_shots(read.shots(read.sources[1])).head
    independent = read.independent(head, read.sources[1], SIZE)
    assert [len(targets) for targets in independent] == [1, 1, 1, 1]
    renderer = Renderer(head, SIZE)
    for k, targets in zip(read.held_out, independent, strict=True):
        np.testing.assert_allclose(targets.landmarks[0], read.crop.to_crop(read.landmarks[k], SIZE), atol=1e-4)
        assert read.followed is not None
        driver = DriverFitter.of_person(head, read.crop, read.followed[read.sources[1]])
        alone = driver.fit(read.landmarks[k], read.followed[k])
        assert np.array_equal(targets.frames[0].expression, alone.expression)
        missed = np.linalg.norm(renderer.landmarks(targets.frames[0]) - targets.landmarks[0], axis=1)[:68]
        assert missed.mean() < 0.02 * SIZE
    run = read.consecutive(head, read.sources[1], SIZE)
    assert len(run) == len(read.run) == 16
    assert np.array_equal(run.landmarks, read.crop.to_crop(read.landmarks[read.run], SIZE))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the bundled clip."""
    return write_clip(tmp_path_factory.mktemp("clips") / "ada.mp4", list(read_frames(DRIVING, start=1.0, end=2.6)))


# ---------------------------------------------------------------------------------------------- the field's protocol


def test_the_first_frame_is_the_source_and_all_others_are_targets() -> None:
    usable = np.array([2, 3, 5, 8, 9])
    sources, targets = first_and_rest(usable, None)
    assert sources[1].tolist() == [2] and targets.tolist() == [3, 5, 8, 9]
    assert first_and_rest(usable, 2)[1].tolist() == [3, 9]
    assert first_and_rest(usable, 9)[1].tolist() == [3, 5, 8, 9]


def test_truth_beside_itself_is_perfect_and_an_error_is_what_it_is() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 250, (3, 64, 64, 3)).astype(np.uint8)
    landmarks = rng.random((3, 238, 2)).astype(np.float32) * 64
    identities = np.eye(3, 256, dtype=np.float32)
    descriptors = np.eye(3, 128, dtype=np.float32)
    truth = Observation(frames, landmarks, identities, descriptors)
    perfect = {"l1": 0, "ssim": 1, "psnr": 100, "psnr_pooled": 100, "akd": 0, "aed": 0, "csim": 1, "dlib_distance": 0}
    assert field_values(truth, truth) == pytest.approx(perfect)
    lighter = frames.copy()
    lighter[0] += 5  # one of three frames
    moved = landmarks + np.float32(1.5)
    moved[2] = np.nan  # no face found
    found = field_values(Observation(lighter, moved, np.roll(identities, 1, axis=0), 1.5 * descriptors), truth)
    assert found["l1"] == pytest.approx(5 / 255 / 3)
    assert found["psnr"] == pytest.approx((10 * math.log10(255**2 / 25) + 200) / 3)
    assert found["psnr_pooled"] == pytest.approx(10 * math.log10(255**2 / (25 / 3)))
    assert found["akd"] == pytest.approx(1.5 * math.sqrt(2) * 256 / 64, rel=1e-5)
    assert found["aed"] == pytest.approx(math.sqrt(2)) and found["csim"] == pytest.approx(0)
    assert found["dlib_distance"] == pytest.approx(0.5)


def test_a_run_of_the_fields_protocol(model: Path, clip: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(clip, clips)
    result = run(
        "--model", model, "--clips", clips, "--output", tmp_path / "out", "--protocol", "field", "--frames", 4,
        "--dlib-net", save_tiny_identity_net(tmp_path / "dlib.npz"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "field.json").read_text())
    (measured,) = report["clips"]
    assert measured["frames"] == 4 and set(measured["values"]) >= {"still", "warp", "render", "feed-forward", "truth"}
    assert measured["values"]["render"]["l1"] < measured["values"]["still"]["l1"]
    assert measured["values"]["truth"]["dlib_distance"] == 0 < measured["values"]["render"]["dlib_distance"]
    text = (tmp_path / "out" / "field.md").read_text()
    assert "| dlib distance to the true frame (lower) | " in text and report["notes"] == [
        "No CSIM: --identity-net was not given."
    ]
    assert "\nNo CSIM: --identity-net was not given.\n" in text
    assert "AKD" in text and "LivePortrait" in text and "with other detectors" in text
    assert (tmp_path / "out" / "sheets" / "ada.mp4.png").is_file()


# -------------------------------------------------------------------------------------------------------- command line


def test_a_whole_run(model: Path, clip: Path, tmp_path: Path) -> None:
    clips, output = tmp_path / "clips", tmp_path / "results"
    clips.mkdir()
    shutil.copy(clip, clips)
    write_clip(clips / "nobody.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 12)
    done = run(
        "--model", model, "--clips", clips, "--output", output,
        "--shots", 1, "--shots", 2, "--frames", 4, "--fine-tune", 2,
        "--inception", save_inception(tmp_path / "inception.pt"),
        "--dlib-net", save_tiny_identity_net(tmp_path / "dlib.npz"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "1 clips measured, 1 left out" in done.output

    report = json.loads((output / "results.json").read_text())
    assert list(report["dropped"]) == ["nobody.mp4"] and "No face" in report["dropped"]["nobody.mp4"]
    assert [(clip["shots"], clip["shots_used"], clip["frames"]) for clip in report["clips"]] == [(1, 1, 4), (2, 2, 4)]
    measured = {metric.name for metric in METRICS} - {"perceptual", "csim", "csim_share"}  # no networks were given
    for one in report["clips"]:
        assert list(one["values"]) == ["still", "warp", "render", "feed-forward", "fine-tuned", "truth"]
        truth = one["values"]["truth"]
        assert all(set(values) == measured for values in one["values"].values() if values is not truth)
        assert set(truth) == measured - {"dlib_ratio"} and truth["dlib_distance"] > 0
        ours = one["values"]["feed-forward"]
        assert ours["dlib_ratio"] == pytest.approx(ours["dlib_distance"] / truth["dlib_distance"])
        assert one["values"]["truth"]["ssim"] == pytest.approx(1.0)
        assert one["values"]["truth"]["jitter"] == 1.0
        assert one["values"]["still"]["jitter"] == 0.0
        # The face moves: what moves it to the right place beats a photo in this.
        for method in ("warp", "render"):
            assert one["values"][method]["landmarks"] < one["values"]["still"]["landmarks"]
        assert "features" not in one and "turned" not in one
    assert report["wins"]["1"]["feed-forward against warp"]["ssim"][1] == 1
    for methods in report["summary"].values():
        fid = {method: values["fid"] for method, values in methods.items()}
        assert {value["frames"] for value in fid.values()} == {4}
        assert fid["truth"]["value"] == pytest.approx(0, abs=1e-6)
        assert min(fid[method]["value"] for method in ("still", "warp", "render", "fine-tuned")) > 1e-3

    assert list(report["turned"]) == ["1", "2"]

    text = (output / "results.md").read_text()
    assert text.count("| L1 of 0..1 (lower) | ") >= 2
    assert text.count("| FID (lower) | ") == 2 and "No FID" not in text
    assert "FID of 4 frames, to be compared at this number only." in text
    assert "## T = 1: 1 clips of 1 people" in text and "## T = 2" in text
    assert "No CSIM: --identity-net was not given." in text and "nobody.mp4: No face" in text
    assert "| dlib distance over that of real frames (lower) | " in text and "No dlib distance" not in text
    for shots in (1, 2):
        assert f"(sheets/ada.mp4-T{shots}.png)" in text
        with Image.open(output / "sheets" / f"ada.mp4-T{shots}.png") as sheet:
            # source, truth, warp, render, feed-forward, fine-tuned, four rows
            assert sheet.width > 6 * SIZE and sheet.height > 4 * SIZE


def test_turned_frames_are_chosen_by_the_angle_to_the_nearest_source(
    model: Path, clip: Path, tmp_path: Path, detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold-out frames' angles are made up; the values must be those of the frames at 12 degrees and more."""
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def angles(landmarks: np.ndarray, sources: np.ndarray) -> np.ndarray:
        asked.append((landmarks, sources))
        return np.array([11.9, 12.0, 3.0, 40.0])

    compared: list[dict[str, np.ndarray]] = []

    class Watched(FrameMetrics):
        def compare(self, painted: Observation, truth: Observation) -> dict[str, np.ndarray]:
            compared.append(super().compare(painted, truth))
            return compared[-1]

    monkeypatch.setattr(protocol, "angles_to_nearest_source", angles)
    (tmp_path / "sheets").mkdir()
    pipe = TalkingHeadPipeline.from_pretrained(model)
    job = Job("ada", (clip,), "ada", "test", "CC0", "ada.mp4")
    options = Options(None, tmp_path, shots=(2,), frames=4)
    (result,) = protocol.evaluate_clip(pipe, Watched(detector), job, options)
    read = read_clip(pipe, clip, partial(split_frames, shots=(2,), held_out=4))
    assert np.array_equal(asked[0][0], read.landmarks[read.held_out])
    assert np.array_equal(asked[0][1], read.landmarks[read.sources[2]])
    assert list(result.turned) == ["still", "warp", "render", "feed-forward", "truth"] == list(result.values)
    for method, values in zip(["truth", "still", "warp", "render", "feed-forward"], compared, strict=True):
        assert set(result.turned[method]) == {"ssim", "l1", "lids"}  # no networks were given
        for metric, kept in result.turned[method].items():
            assert np.array_equal(kept, values[metric][[1, 3]], equal_nan=True)


def test_means_of_turned_frames_are_over_the_frames_of_all_clips(tmp_path: Path) -> None:
    def clip(name: str, values: dict[str, list[float]]) -> ClipResult:
        arrays = {metric: np.array(numbers) for metric, numbers in values.items()}
        turned = {"warp": arrays, "render": {"ssim": arrays["ssim"] / 2}, "feed-forward": arrays, "truth": arrays}
        return ClipResult(name, name, 1, 1, 8, _values(), {}, turned)

    results = [
        clip("a", {"ssim": [0.2, 0.4, 0.6], "lids": [0.1, math.nan, 0.2]}),
        clip("b", {"ssim": [], "lids": []}),
        clip("c", {"ssim": [0.8], "lids": [math.nan]}),
    ]
    means = means_of_turned(results)
    assert means["warp"] == {
        "ssim": {"mean": pytest.approx(0.5), "frames": 4},
        "lids": {"mean": pytest.approx(0.15), "frames": 2},
    }
    assert means["render"] == {"ssim": {"mean": pytest.approx(0.25), "frames": 4}}
    assert means_of_turned(results[1:2]) == means_of_turned([]) == {}

    write_results([Outcome(one.clip, (one,)) for one in results], Options(None, tmp_path))
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["turned"] == {"1": means}
    assert all("turned" not in one for one in report["clips"])
    text = (tmp_path / "results.md").read_text()
    assert "### Frames turned by 12 degrees and more (4 frames of 2 clips)\n" in text
    assert "| SSIM (higher) | 0.500 | 0.250 | 0.500 | 0.500 |" in text
    assert "| error of the eyes' opening (height over width) (lower) | 0.1500 |  | 0.1500 | 0.1500 |" in text
    write_results([Outcome("b", (results[1],))], Options(None, tmp_path))
    assert "No hold-out frame is turned by 12 degrees and more." in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    "methods", [("still", "warp", "render", "feed-forward", "truth"), ("render", "truth"), ("feed-forward",), ("new",)]
)
def test_tables_of_whichever_methods_there_are(methods: tuple[str, ...], tmp_path: Path) -> None:
    values = {method: dict.fromkeys((metric.name for metric in METRICS), 0.5) for method in methods}
    write_results([Outcome("a.mp4", (ClipResult("a.mp4", "a", 1, 1, 4, values),))], Options(None, tmp_path))
    report = json.loads((tmp_path / "results.json").read_text())
    assert list(report["summary"]["1"]) == list(methods)
    text = (tmp_path / "results.md").read_text()
    header = next(line for line in text.splitlines() if line.startswith("| "))
    assert header.startswith(f"|  | {' | '.join(methods)} |")
    assert ("feed-forward beats render on | " in header) == ("render beats warp on | " in header) == (len(methods) == 5)
    assert ("Clip by clip" in text) == ("feed-forward" in methods)


def test_a_model_that_was_taught_by_dlibs_network_is_said_to_be(tmp_path: Path) -> None:
    sentence = "This model was trained with dlib's network as its identity loss"

    def taught(model: str | None) -> bool:
        notes = identity_notes(Options(model, tmp_path, dlib_net=Path("dlib.npz")))
        assert notes[0] == "No CSIM: --identity-net was not given."
        return len(notes) == 2 and notes[1].startswith(sentence)

    assert taught(None) and taught("default")  # so says its training.json
    assert not taught("paper") and not taught("somebody/unknown") and not taught(str(tmp_path))
    (tmp_path / "README.md").write_text("Measured with MobileFaceNet and with dlib's network; no identity loss.")
    (tmp_path / "training.json").write_text('{"identity": ""}')
    assert not taught(str(tmp_path))
    (tmp_path / "training.json").write_text('{"identity": "dlib_face_resnet.npz"}')
    assert taught(str(tmp_path))
    without = identity_notes(Options(str(tmp_path), tmp_path, identity_net=Path("mobilefacenet.npz")))
    assert without == ["No dlib distance: --dlib-net was not given."]


def test_a_card_has_dlibs_row_where_it_was_measured(tmp_path: Path) -> None:
    """A report from before the option has none."""

    def written(values: dict[str, dict[str, float]]) -> str:
        write_results([Outcome("a", (ClipResult("a", "a", 1, 1, 4, values),))], Options(None, tmp_path))
        return table(json.loads((tmp_path / "results.json").read_text()), "1")

    row = "| identity (dlib distance) over that of real frames (lower) | 0.500 | 0.500 [0.500, 0.500] | 0 of 0 |\n"
    before = {m: {k: v for k, v in values.items() if "dlib" not in k} for m, values in _values().items()}
    assert row in written(_values())
    assert written(_values()).replace(row, "") == written(before)


def test_fid_is_that_of_the_frames_of_all_clips_together() -> None:
    rng = np.random.default_rng(0)
    features = [{"warp": rng.normal(size=(n, 6)), "truth": rng.normal(size=(n, 6))} for n in (5, 7)]
    results = [ClipResult("a.mp4", "a", 1, 1, len(some["warp"]), _values(), some) for some in features]
    expected = frechet_distance(*(np.concatenate([some[name] for some in features]) for name in ("warp", "truth")))
    assert fid(results) == {
        "warp": {"value": pytest.approx(expected), "frames": 12},
        "truth": {"value": pytest.approx(0, abs=1e-9), "frames": 12},
    }
    assert fid([]) == fid([ClipResult("c", "ada", 1, 1, 4, {"warp": {"ssim": 0.5}})]) == {}


def test_fid_waits_for_the_last_clip(tmp_path: Path) -> None:
    features = {name: np.random.default_rng(0).normal(size=(4, 6)) for name in ("warp", "feed-forward", "truth")}
    outcomes = [Outcome("a.mp4", (ClipResult("a.mp4", "a", 1, 1, 4, _values(), features),))]
    options = Options(None, tmp_path, inception=Path("inception.pt"))
    write_results(outcomes, options, finished=False)
    text = (tmp_path / "results.md").read_text()
    assert "No FID yet: it comes with the last clip." in text and "FID (lower)" not in text
    write_results(outcomes, options)
    assert "No FID" not in (tmp_path / "results.md").read_text()
    write_results(outcomes, replace(options, inception=None))
    assert "No FID: --inception was not given." in (tmp_path / "results.md").read_text()


def _values() -> dict[str, dict[str, float]]:
    names = [metric.name for metric in METRICS]
    return {method: dict.fromkeys(names, 0.5) for method in ("warp", "feed-forward", "truth")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"--clips": "empty"}, "no videos or photos"),
        ({"--model": "empty"}, "model_index.json"),
        ({"--identity-net": "absent.npz"}, "no feature weights"),
        ({"--dlib-net": "absent.npz"}, "no identity network"),
        ({"--dlib-net": "clips/driving.mp4"}, "is not dlib's face recognition network. Give the .npz"),
        ({"--inception": "absent.pt"}, "no Inception network"),
        ({"--portraits": "empty"}, "no videos or photos"),
        ({"--portraits": "clips"}, "no photos in"),
        ({"--shots": "0"}, "choose from 1 to 32"),
    ],
)
def test_mistakes_are_sentences(model: Path, tmp_path: Path, arguments: dict[str, str], sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "clips").mkdir()
    shutil.copy(DRIVING, tmp_path / "clips")
    given = {"--model": str(model), "--clips": "clips", "--output": "results"} | arguments
    paths = {
        name: tmp_path / value if value != str(model) and name != "--shots" else value for name, value in given.items()
    }
    done = run(*(word for pair in paths.items() for word in pair))
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())
