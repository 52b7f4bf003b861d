"""Cross-reenactment: which frames drive, which photos are driven, and a whole run with a tiny model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from media import write_clip
from PIL import Image
from tiny import SIZE, save_tiny_identity_net, save_tiny_model
from typer.testing import CliRunner, Result

import talking_heads
from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.errors import NoFaceError
from talking_heads.head.render import Renderer
from talking_heads.head.retarget import HeadRetargeter, MotionOptions, frame_of, most_neutral
from talking_heads.landmarks import NUM_LANDMARKS
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.writing import AI_GENERATED
from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.tracking.motion_fitting import motion_of_track
from talking_heads.tracking.tracks import Gap, Track
from train import evaluate
from train.evaluation import protocol, reenact
from train.evaluation.face_recognition import MobileFaceNet, align_face
from train.evaluation.metrics import FrameMetrics, face_errors, following, jitter, stillest_run
from train.evaluation.reenact import (
    METRICS,
    DrivenByClip,
    DrivenPortrait,
    Driver,
    FrameMethod,
    Pair,
    drive,
    file_names,
    find_portraits,
    first_frames,
    methods_of,
    numbered_frames,
    reduced,
    relative_targets,
    write_cross,
)
from train.identity_net import IdentityNet

pytestmark = pytest.mark.slow

DRIVING = Path(talking_heads.__file__).parent / "examples" / "driving.mp4"
app = typer.Typer()
app.command()(evaluate.main)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pipe(model: Path, detector: LandmarkDetector) -> TalkingHeadPipeline:
    pipe = TalkingHeadPipeline.from_pretrained(model)
    pipe.detector = detector
    return pipe


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of the bundled clip; nobody is seen in its first four frames."""
    frames = list(read_frames(DRIVING, start=1.0, end=2.5))
    frames[:4] = [np.full_like(frames[0], 90)] * 4
    return write_clip(tmp_path_factory.mktemp("clips") / "ada.mp4", frames)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """Two people and a wall."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "others").mkdir()
    Image.fromarray(astronaut[:320, 64:384]).save(folder / "eileen.png")
    Image.fromarray(next(read_frames(DRIVING))).save(folder / "others" / "nobody in particular.png")
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(folder / "wall.png")
    return folder


# ------------------------------------------------------------------------------------------------- portraits, drivers


def test_photos_without_a_person_are_left_out(pipe: TalkingHeadPipeline, photos: Path, tmp_path: Path) -> None:
    portraits, left_out = find_portraits(pipe, photos, tmp_path)
    assert [(one.name, one.file) for one in portraits] == [
        ("eileen.png", "eileen"),
        ("others/nobody in particular.png", "others__nobody in particular"),
    ]
    assert all(one.shots.landmarks.shape == (1, NUM_LANDMARKS, 2) for one in portraits)
    expected = Shots.of(pipe.portraits([photos / "eileen.png"]))
    assert np.array_equal(portraits[0].shots.canvases, expected.canvases)
    assert list(left_out) == ["wall.png"] and "No face found" in left_out["wall.png"]
    assert [one.name for one in find_portraits(pipe, photos, photos / "others")[0]] == ["eileen.png"]


def test_a_folder_without_people_is_refused(pipe: TalkingHeadPipeline, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "wall.png").write_bytes((photos / "wall.png").read_bytes())
    with pytest.raises(NoFaceError, match=r"None of the portraits can be used. wall.png: No face found"):
        find_portraits(pipe, tmp_path, tmp_path / "results")


def test_no_two_files_have_one_name() -> None:
    assert file_names(["ada.jpg", "ada.png", "b/c.d.jpg", "eve.jpg"]) == ["ada.jpg", "ada.png", "b__c.d", "eve"]


def track(seen: str, gaps: tuple[Gap, ...] = ()) -> Track:
    landmarks = np.arange(len(seen), dtype=np.float32)[:, None, None] + np.zeros((1, NUM_LANDMARKS, 2), np.float32)
    return Track(landmarks, 25.0, (48, 64), np.array([letter == "x" for letter in seen]), gaps)


@pytest.mark.parametrize(
    ("seen", "gaps", "number", "first", "kept", "left"),
    [
        ("xxxxxx", (), 4, 0, "xxxx", ()),
        ("xxx", (), 9, 0, "xxx", ()),
        ("..xx.xxx", (Gap(0, 1), Gap(4, 4)), 4, 2, "xx.x", (Gap(2, 2),)),
        ("x...xx", (Gap(1, 3),), 3, 0, "x..", (Gap(1, 2),)),
        ("xxxx..", (Gap(4, 5),), 4, 0, "xxxx", ()),
    ],
)
def test_a_clip_drives_from_its_first_face_on(
    seen: str, gaps: tuple[Gap, ...], number: int, first: int, kept: str, left: tuple[Gap, ...]
) -> None:
    begin, short = first_frames(track(seen, gaps), number)
    assert begin == first
    assert "".join("x" if one else "." for one in short.seen) == kept
    assert short.landmarks[:, 0, 0].tolist() == list(range(first, first + len(kept)))
    assert short.gaps == left
    assert (short.fps, short.frame_size) == (25.0, (48, 64))


# ------------------------------------------------------------------------------------------------------------- driving


def test_a_pair_is_measured_against_what_was_asked_for(
    pipe: TalkingHeadPipeline, photos: Path, clip: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    dlib = IdentityNet(save_tiny_identity_net(tmp_path / "dlib.npz"))
    metrics = FrameMetrics(pipe.detector, mobilefacenet=MobileFaceNet(), dlib_net=dlib)
    portrait = find_portraits(pipe, photos, tmp_path)[0][0]
    driven = drive(pipe, metrics, Driver("ada.mp4", "ada", clip), [portrait], 20, tmp_path)
    (pair,) = driven.pairs
    assert (pair.person, pair.clip, pair.frames, driven.dropped) == ("eileen.png", "ada.mp4", 20, "")
    assert list(pair.values) == ["warp", "render", "feed-forward"]

    # The pipeline itself, with its defaults, on the same frames. At least the four empty ones are left out.
    avatar = pipe.create_avatar([photos / "eileen.png"])
    whole = pipe.track_landmarks(clip)
    first = int(np.flatnonzero(whole.seen)[0])
    assert first >= 4 and whole.seen[first:].all()
    some = slice(first, first + 20)
    assert whole.followed is not None
    short = replace(
        whole, landmarks=whole.landmarks[some], seen=whole.seen[some], gaps=(), followed=whole.followed[some]
    )
    motion = motion_of_track(short)
    painted = np.stack([reduced(frame, SIZE) for frame in pipe(avatar, motion)])
    targets = relative_targets(avatar.head, motion, SIZE)
    found = metrics.detect(painted)
    for name, values in face_errors(found, targets.landmarks).items():
        assert pair.values["feed-forward"][name] == pytest.approx(np.nanmean(values), abs=1e-6, nan_ok=True), name

    # The target is where the moved head's landmarks are drawn.
    neutral = frame_of(motion, most_neutral(motion), len(avatar.head.model.expression_names))
    retarget = HeadRetargeter(avatar.head, MotionOptions(closed_lips=True))
    last = retarget(frame_of(motion, 19, len(avatar.head.model.expression_names)), neutral)
    np.testing.assert_allclose(targets.landmarks[19], Renderer(avatar.head, SIZE).landmarks(last), atol=1e-4)

    with torch.inference_mode():
        crops, points = portrait.shots.crops(SIZE), portrait.shots.landmarks_at(SIZE)
        known = [(one, points) for one, points in zip(painted, found, strict=True) if np.isfinite(points).all()]
        faces = np.stack([align_face(*one) for one in [(crops[0], points[0]), *known]])
        who = metrics.mobilefacenet(torch.from_numpy(faces).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    if known:
        assert pair.values["feed-forward"]["csim"] == pytest.approx((who[1:] @ who[0]).mean(), abs=1e-4)

    rendered = methods_of(pipe, avatar)["render"](targets)
    found = metrics.detect(rendered)
    away = metrics.describe(rendered, found) - metrics.describe(crops, points)
    distance = np.sqrt((away**2).sum(axis=1)).mean()
    assert pair.values["render"]["dlib_distance"] == pytest.approx(distance, abs=1e-4) and distance > 0.01
    errors = face_errors(found, targets.landmarks)
    assert pair.values["render"]["landmarks"] == pytest.approx(errors["landmarks"].mean(), abs=1e-6)
    for method in ("warp", "render"):
        assert pair.values[method]["landmarks"] < 0.1 and pair.values[method]["faces"] == 1

    # Jitter of 16 frames, over that of the same frames of the driver's crop, which the video shows on the left.
    crop = crop_around(short.landmarks, short.frame_size)
    crops = np.stack([crop.cut(frame, SIZE) for frame in read_frames(clip)][first : first + 20])
    own = metrics.detect(crops)
    run = stillest_run(crop.to_crop(short.landmarks, SIZE), np.arange(20))
    assert len(run) == 16
    assert pair.values["render"]["jitter"] == pytest.approx(jitter(found[run]) / jitter(own[run]), abs=1e-4)
    followed = following(found, own)
    assert set(followed) == {"eyes_correlation", "eyes_gain", "mouth_correlation", "mouth_gain"}
    for name, value in followed.items():
        assert pair.values["render"][name] == pytest.approx(value, abs=1e-4, nan_ok=True), name
    shown = np.stack(list(read_frames(tmp_path / pair.video)))
    assert shown.shape == (20, SIZE, 2 * SIZE, 3)
    both = np.concatenate([crops, painted], axis=2)
    grey = np.array([0.2126, 0.7152, 0.0722])  # the colours of so small a video are blurred
    assert np.abs(shown @ grey - both @ grey).mean() < 5


def test_openings_are_compared_where_the_driver_is_seen(pipe: TalkingHeadPipeline, tmp_path: Path) -> None:
    """Painted with the driver's own crops, eyes and mouth follow perfectly, whatever is held while nobody is seen."""
    frames = list(read_frames(DRIVING, start=1.0, end=2.5))
    frames[6:8] = [np.full_like(frames[0], 90)] * 2
    clip = write_clip(tmp_path / "ada.mp4", frames)
    first, track = first_frames(pipe.track_landmarks(clip), 24)
    crop = crop_around(track.landmarks, track.frame_size)
    numbered = numbered_frames(clip, track.fps, range(first, first + 24))
    own = np.stack([crop.cut(picture, SIZE) for _, picture in numbered])
    metrics = FrameMetrics(pipe.detector)
    found, seen = metrics.detect(own), np.flatnonzero(track.seen)
    assert len(seen) == 22
    painted = own.copy()
    painted[~track.seen] = own[0]
    found[~track.seen] = found[0]
    found[~track.seen, 65:68, 1] += 20  # a mouth wide open that nobody painted
    values = reenact._pair_values(metrics, painted, track.landmarks, np.zeros(0), np.zeros(0), seen, seen[:0], found)
    followed = {name: value for name, value in following(found[seen], found[seen]).items() if math.isfinite(value)}
    assert {"mouth_correlation", "mouth_gain"} <= set(followed)  # this person speaks
    for name, value in followed.items():
        assert values[name] == pytest.approx(value) == 1, name


def test_whichever_methods_there_are_drive(
    pipe: TalkingHeadPipeline, photos: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = methods_of

    def others(*arguments: object) -> dict[str, FrameMethod]:
        known = original(*arguments)
        return {name: known[name] for name in ("feed-forward", "still", "render")} | {"something else": known["still"]}

    monkeypatch.setattr(reenact, "methods_of", others)
    portraits = find_portraits(pipe, photos, tmp_path)[0][:1]
    driven = drive(pipe, FrameMetrics(pipe.detector), Driver("ada.mp4", "ada", clip), portraits, 8, tmp_path)
    assert list(driven.pairs[0].values) == ["feed-forward", "render"]
    write_cross([driven], portraits, {}, {"model": None}, [], tmp_path)
    text = (tmp_path / "cross.md").read_text()
    assert "|  | feed-forward | render | feed-forward beats render on |" in text


@pytest.mark.parametrize("methods", [("warp", "render", "feed-forward"), ("feed-forward",), ("render",), ()])
def test_tables_of_whichever_methods_there_are(methods: tuple[str, ...], tmp_path: Path) -> None:
    numbers = {metric.name: 0.5 for metric in METRICS} | {"eyes_gain": math.nan}
    pair = Pair("a.png", "b.mp4", 8, "v.mp4", dict.fromkeys(methods, numbers), np.empty(0))
    portrait = DrivenPortrait("a.png", "a", Shots(*[np.empty(0)] * 3))
    write_cross([DrivenByClip("b.mp4", (pair,))], [portrait], {}, {"model": None}, ["No CSIM."], tmp_path)
    report = json.loads((tmp_path / "cross.json").read_text())
    assert list(report["summary"]) == list(methods)
    text = (tmp_path / "cross.md").read_text()
    assert "## 1 portraits, 1 clips: 1 pairs" in text and report["notes"] == ["No CSIM."] and "\nNo CSIM.\n" in text
    correlations = " | ".join(["0.500 [0.500, 0.500]"] * len(methods))
    assert f"| mouth's opening, correlation with the driver's (higher) | {correlations} |" in text or not methods
    assert "eyes' opening, gain over the driver's (nearer to 1)" not in text  # nobody's is known
    assert ("## The worst pairs" in text) == ("feed-forward" in methods)
    assert ("feed-forward beats render on" in text) == ("render beats warp on" in text) == (len(methods) == 3)


def test_frames_are_read_by_their_numbers(clip: Path) -> None:
    found = dict(numbered_frames(clip, probe(clip).fps, [9, 0]))
    frames = list(read_frames(clip))
    assert list(found) == [0, 9]
    assert all(np.array_equal(picture, frames[k]) for k, picture in found.items())


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def clips(clip: Path, tmp_path: Path, detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips, of which one shows nobody; the command finds its detector ready."""
    monkeypatch.setattr("talking_heads.pipeline.load_detector", lambda: detector)
    protocol._pipeline_and_metrics.cache_clear()
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "ada.mp4").write_bytes(clip.read_bytes())
    write_clip(folder / "wall.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 12)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_whole_run(model: Path, clips: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[str] = []
    original = TalkingHeadPipeline.track_landmarks

    def track(self: TalkingHeadPipeline, clip: Path, **options: object) -> Track:
        tracked.append(clip.name)
        return original(self, clip, **options)

    monkeypatch.setattr(TalkingHeadPipeline, "track_landmarks", track)
    output = tmp_path / "results"
    done = run(
        "--model", model, "--clips", clips, "--portraits", photos, "--output", output,
        "--frames", 2, "--cross-frames", 18,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "1 clips measured, 1 left out" in done.output  # self-reenactment as without portraits
    assert "2 portraits driven by 1 clips, 1 portraits and 1 clips left out" in " ".join(done.output.split())
    assert tracked.count("ada.mp4") == 2  # once for each protocol, not for each portrait

    report = json.loads((output / "cross.json").read_text())
    assert [(pair["portrait"], pair["clip"], pair["frames"]) for pair in report["pairs"]] == [
        ("eileen.png", "ada.mp4", 18),
        ("others/nobody in particular.png", "ada.mp4", 18),
    ]
    names = {metric.name for metric in METRICS} - {"csim", "dlib_distance"}  # no networks were given
    for pair in report["pairs"]:
        assert set(pair) == {"portrait", "clip", "frames", "video", "values"}
        assert all(set(pair["values"][method]) == names for method in ("warp", "render", "feed-forward"))
    summary = report["summary"]["warp"]["landmarks"]
    values = [pair["values"]["warp"]["landmarks"] for pair in report["pairs"]]
    assert summary["people"] == 2 and summary["mean"] == pytest.approx(np.mean(values))
    assert (summary["low"], summary["high"]) == pytest.approx((min(values), max(values)))
    assert report["options"]["cross_frames"] == 18 and report["options"]["portraits"] == str(photos)
    assert list(report["portraits_left_out"]) == ["wall.png"] and list(report["dropped"]) == ["wall.mp4"]

    text = (output / "cross.md").read_text()
    assert "## 2 portraits, 1 clips: 2 pairs" in text and "No CSIM: --identity-net was not given." in text
    assert "No dlib distance: --dlib-net was not given." in text
    assert "| landmark error / eye distance (lower) | " in text
    assert "(cross/clips/others__nobody%20in%20particular/ada.mp4)" in text and "(cross/eileen.png)" in text
    assert "* wall.png: No face found" in text and "* wall.mp4: No face found" in text
    for name in ("eileen", "others__nobody in particular"):
        video = output / "cross" / "clips" / name / "ada.mp4"
        assert (probe(video).width, probe(video).height, len(list(read_frames(video)))) == (2 * SIZE, SIZE, 18)
        assert AI_GENERATED["comment"].encode() in video.read_bytes()
        with Image.open(output / "cross" / f"{name}.png") as sheet:
            assert sheet.width > 7 * reenact.CELL and reenact.CELL < sheet.height < 2 * reenact.CELL


def test_an_interrupted_run_has_what_was_measured(
    model: Path, clips: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        pipe: TalkingHeadPipeline, metrics: FrameMetrics, driver: Driver, *arguments: object
    ) -> reenact.DrivenByClip:
        if driver.clip != "ada.mp4":
            raise KeyboardInterrupt
        return drive(pipe, metrics, driver, *arguments)

    monkeypatch.setattr(protocol, "drive", interrupted)
    output = tmp_path / "results"
    done = run(
        "--model", model, "--clips", clips, "--portraits", photos, "--output", output,
        "--frames", 2, "--cross-frames", 8,
    )  # fmt: skip
    assert done.exit_code == 130, done.output
    assert len(json.loads((output / "cross.json").read_text())["pairs"]) == 2
    assert (output / "cross" / "eileen.png").is_file()
