"""Motion in ARKit's vocabulary: files round trip, broken ones are explained, parts and presets keep to their places."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talking_heads.errors import OutputError, UnreadableMediaError
from talking_heads.head import motion_csv as module
from talking_heads.head.motion import COEFFICIENTS, INDEX, PARTS, Motion, head_angles, head_rotation
from talking_heads.head.presets import _KEYS, GAZE, PRESETS, RANGES, FaceControls, _eased, load_preset

HEADER = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,"
    "EyeSquintLeft,EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,"
    "EyeLookUpRight,EyeSquintRight,EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,"
    "MouthFunnel,MouthPucker,MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,MouthFrownLeft,"
    "MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,MouthStretchRight,MouthRollLower,"
    "MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,MouthLowerDownLeft,"
    "MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,"
    "NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,"
    "RightEyePitch,RightEyeRoll"
)
"""Header of recordings of Live Link Face."""

FIELDS = ("coefficients", "head", "gaze", "translation")


def some(frames: int = 40, fps: float = 25.0, seed: int = 0, translated: bool = True) -> Motion:
    rng = np.random.default_rng(seed)
    return Motion(
        rng.uniform(0, 1, (frames, 52)),
        rng.uniform(-60, 60, (frames, 3)),
        rng.uniform(-30, 30, (frames, 4)),
        rng.uniform(-9, 9, (frames, 3)) * translated,
        fps,
    )


def same(a: Motion, b: Motion, tolerance: float = 0.0) -> None:
    assert len(a) == len(b)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance, err_msg=name)


def value(motion: Motion, name: str, frame: int = 0) -> float:
    return float(motion.coefficients[frame, INDEX[name]])


def still(motion: Motion, frame: int) -> bool:
    return not any(np.abs(getattr(motion, name)[frame]).max() > 1e-6 for name in FIELDS)


# Names and values -----------------------------------------------------------------------------------------------------


def test_names_are_those_of_arkit_in_the_order_of_live_link_face() -> None:
    assert len(COEFFICIENTS) == len(set(COEFFICIENTS)) == 52
    assert [name[0].upper() + name[1:] for name in COEFFICIENTS] == HEADER.split(",")[2:54]


def test_a_motion_knows_its_length_and_is_cut_by_slices() -> None:
    motion = some(40)
    assert len(motion) == 40 and motion.duration == pytest.approx(1.6) and motion.seen.all()
    assert all(getattr(motion, name).dtype == np.float32 for name in FIELDS)
    same(motion[10:20], Motion(*(getattr(motion, name)[10:20] for name in FIELDS), 25.0))
    with pytest.raises(ValueError, match="one frame at least"):
        motion[5:5]
    with pytest.raises(TypeError, match="slices"):
        motion[3]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"coefficients": np.zeros((3, 51))}, "coefficients must have the shape"),
        ({"head": np.zeros((2, 3))}, "head must have the shape"),
        ({"gaze": np.zeros((3, 3))}, "gaze must have the shape"),
        ({"translation": np.zeros(3)}, "translation must have the shape"),
        ({"head": np.full((3, 3), np.nan)}, "head must be finite"),
        ({"gaze": np.full((3, 4), np.inf)}, "gaze must be finite"),
        ({"coefficients": np.full((3, 52), 1.1)}, "between 0 and 1, got 1.1"),
        ({"coefficients": np.full((3, 52), -0.1)}, "between 0 and 1, got -0.1"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"fps": float("nan")}, "fps must be above 0"),
        ({"fps": float("inf")}, "fps must be above 0"),
        ({"seen": np.ones(2, bool)}, "seen must be bool"),
        ({"seen": np.ones(3)}, "seen must be bool"),
    ],
)
def test_wrong_values_are_refused(change: dict, complaint: str) -> None:
    whole = {name: np.zeros((3, width)) for name, width in zip(FIELDS, (52, 3, 4, 3), strict=True)} | {"fps": 25.0}
    Motion(**whole)
    with pytest.raises(ValueError, match=complaint):
        Motion(**(whole | change))
    with pytest.raises(ValueError, match="one frame"):
        Motion.rest(0, 25)


# Files ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    fps=st.sampled_from([25.0, 29.97, 30000 / 1001, 12.5, 60.0, 59.94, 24.0, 23.976, 0.5, 1.0, 120.0, 7.3, 15.0]),
    frames=st.sampled_from([2, 3, 4, 7, 24, 25, 26, 61, 200, 3000]),
    seed=st.integers(0, 3),
    translated=st.booleans(),
)
def test_files_round_trip(
    tmp_path_factory: pytest.TempPathFactory, fps: float, frames: int, seed: int, translated: bool
) -> None:
    path = tmp_path_factory.mktemp("motion") / "take.csv"
    motion = some(frames, fps, seed, translated)
    motion.save(path)
    again = Motion.load(path)
    same(again, motion, 1e-4)
    assert again.fps == pytest.approx(fps, abs=1e-2)
    assert ("TranslationX" in path.read_text().partition("\n")[0]) == translated


def test_a_single_row_is_read_at_60_unless_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    some(1).save(tmp_path / "one.csv")
    assert Motion.load(tmp_path / "one.csv", fps=24).fps == 24 and not caplog.text
    assert Motion.load(tmp_path / "one.csv").fps == 60 and "do not tell its rate" in caplog.text
    with pytest.raises(ValueError, match="fps"):
        Motion.load(tmp_path / "one.csv", fps=-1)


def test_written_as_live_link_face_writes(tmp_path: Path) -> None:
    motion = Motion.rest(3, 25)
    motion.head[:] = (90, 45, -30)  # towards the person's left, down, counter-clockwise
    motion.gaze[:] = (10, 20, 0, 0)
    motion.coefficients[:, INDEX["jawOpen"]] = 0.25
    motion.save(tmp_path / "take.csv")
    header, *rows = (line.split(",") for line in (tmp_path / "take.csv").read_text().splitlines())
    assert header == HEADER.split(",")
    assert [row[0] for row in rows] == ["00:00:00:24.000", "00:00:01:00.000", "00:00:01:01.000"]
    cells = dict(zip(header, rows[0], strict=True))
    assert cells["BlendShapeCount"] == "61" and cells["JawOpen"] == "0.250000" and cells["TongueOut"] == "0.000000"
    assert float(cells["HeadYaw"]) == pytest.approx(-np.pi / 2, abs=1e-6)
    assert float(cells["HeadPitch"]) == pytest.approx(np.pi / 4, abs=1e-6)
    assert float(cells["HeadRoll"]) == pytest.approx(-np.pi / 6, abs=1e-6)
    assert float(cells["LeftEyeYaw"]) < 0 < float(cells["LeftEyePitch"])
    assert "-0.000000" not in (tmp_path / "take.csv").read_text()


def test_half_turns_and_more_come_back_within_a_turn(tmp_path: Path) -> None:
    motion = Motion.rest(3, 25)
    motion.head[:, 0] = (200, -200, 180)
    motion.save(tmp_path / "take.csv")
    np.testing.assert_allclose(Motion.load(tmp_path / "take.csv").head[:, 0], (-160, 160, 180), atol=1e-4)


def rows_of(motion: Motion, path: Path) -> list[list[str]]:
    motion.save(path)
    return [line.split(",") for line in path.read_text().splitlines()]


def written(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_another_order_case_and_end_of_line_are_read(tmp_path: Path) -> None:
    motion = some(30)
    rows = rows_of(motion, tmp_path / "a.csv")
    order = np.random.default_rng(1).permutation(len(rows[0]))
    mixed = [[row[k] for k in order] for row in rows]
    mixed[0] = [name.upper() if k % 2 else f" {name.lower()} " for k, name in enumerate(mixed[0])]
    text = "\r\n".join(",".join(f'"{cell}"' if k % 3 else cell for k, cell in enumerate(row)) for row in mixed)
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    again = Motion.load(tmp_path / "b.csv")
    same(again, motion, 1e-4)
    assert again.fps == pytest.approx(25, abs=1e-2)


@pytest.mark.parametrize("step", [1.0, 1.9995, 2.0])
def test_recordings_with_a_clock_of_60_tell_their_rate(tmp_path: Path, step: float) -> None:
    rows = rows_of(some(300), tmp_path / "a.csv")
    ticks = 19.96 + 60 * (86400 - 2) + step * np.arange(300)  # over midnight
    for row, tick in zip(rows[1:], ticks, strict=True):
        seconds, frames = divmod(tick, 60)
        seconds = int(seconds) % 86400
        row[0] = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:06.3f}"
    assert Motion.load(written(tmp_path / "b.csv", rows)).fps == pytest.approx(60 / step, abs=0.02)


@pytest.mark.parametrize("pattern", ["00:00:{:02}:{:03}.000", "00:00:{:02}.{:03}"])
def test_milliseconds_in_place_of_frames_are_understood(tmp_path: Path, pattern: str) -> None:
    rows = rows_of(some(100), tmp_path / "a.csv")
    for k, row in enumerate(rows[1:]):
        row[0] = pattern.format(*divmod(k * 40, 1000))
    assert Motion.load(written(tmp_path / "b.csv", rows)).fps == pytest.approx(25, abs=0.02)


def test_missing_tongue_and_roll_of_the_eyes_are_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    motion = some(5)
    rows = rows_of(motion, tmp_path / "a.csv")
    gone = [rows[0].index(name) for name in ("TongueOut", "LeftEyeRoll", "RightEyeRoll")]
    fewer = [[cell for k, cell in enumerate(row) if k not in gone] for row in rows]
    with caplog.at_level(logging.WARNING):
        again = Motion.load(written(tmp_path / "b.csv", fewer))
    assert "lacks TongueOut, LeftEyeRoll, RightEyeRoll: taken as 0" in caplog.text
    motion.coefficients[:, INDEX["tongueOut"]] = 0
    same(again, motion, 1e-4)


def test_rows_without_a_face_hold_the_values_before(tmp_path: Path) -> None:
    motion = some(6, translated=False)
    rows = rows_of(motion, tmp_path / "a.csv")
    rows[1] = [rows[1][0], "0"]
    rows[4] = [rows[4][0], "0", *([""] * 61)]
    rows[5] = [rows[5][0], "0", *(["0"] * 61)]
    again = Motion.load(written(tmp_path / "b.csv", rows))
    assert again.seen.tolist() == [False, True, True, False, False, True]
    same(again, motion._taken(np.array([1, 1, 2, 2, 2, 5])), 1e-4)
    assert again.fps == pytest.approx(25, abs=1e-2)
    with pytest.raises(UnreadableMediaError, match="no row in which a face was seen"):
        Motion.load(written(tmp_path / "c.csv", [rows[0], rows[1]]))


def test_degrees_and_values_beyond_are_understood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = rows_of(Motion.rest(3, 25), tmp_path / "a.csv")
    rows[2][rows[0].index("HeadPitch")] = "20"
    rows[2][rows[0].index("JawOpen")] = "1.5"
    again = Motion.load(written(tmp_path / "b.csv", rows))
    assert again.head[1].tolist() == [0, 20, 0] and value(again, "jawOpen", 1) == 1
    assert "read as degrees" in caplog.text and "1 coefficients beyond 0 and 1" in caplog.text


def change(row: int, column: str, cell: str):
    def apply(rows: list[list[str]]) -> None:
        rows[row][rows[0].index(column)] = cell

    return apply


def drop(column: str):
    def apply(rows: list[list[str]]) -> None:
        at = rows[0].index(column)
        for row in rows:
            del row[at]

    return apply


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (change(2, "JawOpen", "wide"), "'wide' in row 3, column JawOpen, where a number is needed"),
        (change(3, "HeadYaw", "nan"), "'nan' in row 4, column HeadYaw"),
        (change(1, "TongueOut", "inf"), "'inf' in row 2, column TongueOut"),
        (change(1, "TongueOut", "1e39"), "'1e39' in row 2, column TongueOut"),
        (change(2, "JawOpen", ""), "'' in row 3, column JawOpen"),
        (change(2, "BlendShapeCount", "many"), "'many' in row 3, column BlendShapeCount"),
        (change(2, "Timecode", "noon"), "'noon' in row 3, column Timecode"),
        (change(2, "Timecode", "1:2:3:4:5"), "'1:2:3:4:5' in row 3, column Timecode"),
        (change(0, "JawOpen", "JawOpened"), "unknown columns: JawOpened"),
        (change(0, "JawOpen", "MouthClose"), "columns twice: MouthClose"),
        (change(0, "JawOpen", ""), r"unknown columns: \(no name\)"),
        (drop("JawOpen"), "lacks columns: JawOpen. Export"),
        (drop("Timecode"), "lacks columns: Timecode"),
        (drop("TranslationY"), "lacks columns: TranslationY"),
        (lambda rows: rows[2].pop(), "65 cells in row 3 where the header has 66"),
        (lambda rows: rows[2].append("1"), "67 cells in row 3 where the header has 66"),
        (lambda rows: rows.__setitem__(slice(1, None), []), "has a header but no rows"),
    ],
)
def test_broken_files_are_explained(tmp_path: Path, broken, complaint: str) -> None:
    rows = rows_of(some(4), tmp_path / "a.csv")
    broken(rows)
    with pytest.raises(UnreadableMediaError, match=complaint) as info:
        Motion.load(written(tmp_path / "b.csv", rows))
    assert "b.csv" in str(info.value) and str(info.value).endswith(".")


def test_a_rate_that_is_told_needs_no_timecodes(tmp_path: Path) -> None:
    rows = rows_of(some(4), tmp_path / "a.csv")
    drop("Timecode")(rows)
    drop("BlendShapeCount")(rows)
    same(Motion.load(written(tmp_path / "b.csv", rows), fps=30), some(4), 1e-4)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (bytes(range(256)) * 40, "is no CSV of Live Link Face"),
        (b"\0" * 1000, "is no CSV of Live Link Face"),
        (b"time,x,y\n1,2,3\n", "is no CSV of Live Link Face"),
        (b"Timecode;BlendShapeCount;EyeBlinkLeft\n", "is no CSV of Live Link Face"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UnreadableMediaError, match=complaint):
        Motion.load(tmp_path / "a.csv")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UnreadableMediaError, match="cannot be read"):
            Motion.load(path)


def test_too_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(12).save(tmp_path / "a.csv")
    monkeypatch.setattr(module, "MAX_ROWS", 12)
    assert len(Motion.load(tmp_path / "a.csv")) == 12
    monkeypatch.setattr(module, "MAX_ROWS", 11)
    with pytest.raises(UnreadableMediaError, match="more than 11 rows"):
        Motion.load(tmp_path / "a.csv")


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 7)
    motion = some(30)
    rows = rows_of(motion, tmp_path / "a.csv")
    same(Motion.load(tmp_path / "a.csv"), motion, 1e-4)
    change(25, "JawOpen", "x")(rows)
    with pytest.raises(UnreadableMediaError, match="row 26"):
        Motion.load(written(tmp_path / "b.csv", rows))


def test_places_that_cannot_be_written_are_explained(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "none" / "a.csv", tmp_path / "folder.csv"):
        with pytest.raises(OutputError, match="cannot be written"):
            some(3).save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]  # nothing left beside


# Operations -----------------------------------------------------------------------------------------------------------


def test_scaling_keeps_to_its_parts() -> None:
    motion = some()
    looks = np.array([name.startswith("eyeLook") for name in COEFFICIENTS])
    same(motion.scaled(), motion)
    head = motion.scaled(head=2)
    assert np.allclose(head.head, 2 * motion.head) and np.allclose(head.translation, 2 * motion.translation)
    assert np.array_equal(head.coefficients, motion.coefficients) and np.array_equal(head.gaze, motion.gaze)
    face = motion.scaled(expression=3)
    assert np.allclose(face.coefficients[:, ~looks], np.clip(3 * motion.coefficients[:, ~looks], 0, 1))
    assert np.array_equal(face.coefficients[:, looks], motion.coefficients[:, looks])
    eyes = motion.scaled(gaze=0)
    assert not eyes.gaze.any() and not eyes.coefficients[:, looks].any()
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gaze must be 0 or more"):
            motion.scaled(gaze=wrong)


@pytest.mark.parametrize("part", PARTS)
def test_parts_hold_what_they_name(part: str) -> None:
    motion = some()
    only = motion.only(part)
    inside = np.array([name in PARTS[part] for name in COEFFICIENTS])
    assert np.array_equal(only.coefficients[:, inside], motion.coefficients[:, inside])
    assert not only.coefficients[:, ~inside].any()
    for name in FIELDS[1:]:
        kept = motion if name in PARTS[part] else Motion.rest(len(motion), 25)
        assert np.array_equal(getattr(only, name), getattr(kept, name))
    other = some(seed=1)
    both = motion.with_parts(other, part)
    same(both.only(part), other.only(part))
    same(both.with_parts(motion, part), motion)


def test_parts_are_the_right_ones() -> None:
    def holds(part: str, *names: str) -> bool:
        return set(names) <= set(PARTS[part])

    assert holds("lips", "jawOpen", "mouthClose", "tongueOut", "cheekPuff") and not holds("lips", "noseSneerLeft")
    assert holds("eyes", "eyeBlinkLeft", "eyeLookUpRight", "eyeWideLeft", "cheekSquintLeft", "gaze")
    assert PARTS["brows"] == ("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    assert PARTS["expression"] == (*COEFFICIENTS, "gaze") and PARTS["head"] == ("head", "translation", "shoulders")
    assert not set(PARTS["lips"]) & set(PARTS["eyes"])


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no part 'nose'\. Choose among lips, eyes, brows, expression, head"):
        some().only("nose")
    with pytest.raises(ValueError, match="no part 'nose'"):
        some().with_parts(some(), "lips", "nose")
    for other in (some(39), some(40, 30)):
        with pytest.raises(ValueError, match="same frames and rate"):
            some().with_parts(other, "lips")


def test_resampling_is_linear_in_time() -> None:
    motion = some(41)
    same(motion.resampled(25), motion)
    twice = motion.resampled(50)
    assert len(twice) == 82 and twice.fps == 50 and twice.duration == pytest.approx(motion.duration)
    same(twice._taken(np.arange(0, 82, 2)), motion, 1e-6)
    np.testing.assert_allclose(twice.head[1], motion.head[:2].mean(axis=0), atol=1e-5)
    same(twice.resampled(25), motion, 1e-5)
    assert len(some(1).resampled(5)) == 1
    with pytest.raises(ValueError, match="fps"):
        motion.resampled(0)


def test_one_follows_the_other_with_a_fade() -> None:
    first, second = some(40), some(60, 50, seed=1)
    both = first.then(second)
    assert len(both) == 40 + 30 - 5 and both.fps == 25
    same(both[:35], first[:35])
    same(both[40:], second.resampled(25)[5:], 1e-6)
    np.testing.assert_allclose(both.head[37], (first.head[37] + second.resampled(25).head[2]) / 2, atol=1e-4)
    same(first.then(second, fade=0)[:40], first)
    assert len(first.then(second, fade=9)) == 40 and len(some(1).then(some(1))) == 1
    with pytest.raises(ValueError, match="fade"):
        first.then(second, fade=-1)


def test_loops_are_as_long_as_asked() -> None:
    motion = some(40)
    looped = motion.looped(4)
    assert len(looped) == 100
    same(looped[40:80], motion)
    assert len(motion.looped(0.4)) == 10
    for wrong in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            motion.looped(wrong)


def test_whether_the_face_was_seen_is_carried_along() -> None:
    seen = np.arange(40) != 7
    motion = some()
    motion = Motion(*(getattr(motion, name) for name in FIELDS), 25.0, seen)
    assert np.array_equal(motion.only("lips").seen, seen) and np.array_equal(motion.scaled(2).seen, seen)
    assert np.array_equal(some().with_parts(motion, "lips").seen, seen)
    assert motion[5:10].seen.tolist() == [True, True, False, True, True]
    assert motion.looped(3.2).seen.sum() == 78 and motion.resampled(50).seen.sum() < 80
    assert not motion.then(motion).seen[7]


# Angles ---------------------------------------------------------------------------------------------------------------

ANGLE = st.floats(-80, 80)


@given(st.lists(st.tuples(ANGLE, ANGLE, ANGLE), min_size=1, max_size=5))
def test_angles_round_trip(angles: list[tuple[float, float, float]]) -> None:
    rotation = head_rotation(angles)
    assert rotation.shape == (len(angles), 3, 3)
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, -1, -2), np.tile(np.eye(3), (len(angles), 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(head_angles(rotation), angles, atol=1e-6)


def test_signs_of_the_angles() -> None:
    ahead, up = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    assert (head_rotation((30, 0, 0)) @ ahead)[0] > 0  # towards the image's right
    assert (head_rotation((0, 30, 0)) @ ahead)[1] < 0  # down
    assert (head_rotation((0, 0, 30)) @ up)[0] > 0  # clockwise: the crown goes right
    whole = head_rotation((0, 0, 50)) @ head_rotation((0, -20, 0)) @ head_rotation((30, 0, 0))
    np.testing.assert_allclose(head_rotation((30, -20, 50)), whole, atol=1e-12)


# Controls -------------------------------------------------------------------------------------------------------------


def test_controls_at_rest_move_nothing() -> None:
    motion = FaceControls().motion()
    assert len(motion) == 1 and motion.fps == 25 and still(motion, 0)
    assert hash(FaceControls(yaw=1)) == hash(FaceControls(yaw=1)) and FaceControls() == FaceControls()


@pytest.mark.parametrize(
    ("controls", "raised"),
    [
        ({"mouth": 1}, {"jawOpen", "mouthLowerDown", "mouthUpperUp"}),
        ({"lips": 1}, {"mouthPucker", "mouthFunnel"}),
        ({"lips": -1}, {"mouthStretch", "mouthSmile"}),
        ({"smile": 1}, {"mouthSmile", "cheekSquint", "mouthDimple"}),
        ({"smile": -1}, {"mouthFrown", "mouthShrugLower"}),
        ({"eyelids": 1}, {"eyeWide"}),
        ({"eyelids": -1}, {"eyeBlink"}),
        ({"brows": 1}, {"browInnerUp", "browOuterUp"}),
        ({"brows": -1}, {"browDown"}),
        ({"gaze_y": 1}, {"eyeLookDown"}),
        ({"gaze_y": -1}, {"eyeLookUp"}),
    ],
)
def test_each_direction_has_its_own_coefficients(controls: dict[str, float], raised: set[str]) -> None:
    full, half = FaceControls(**controls).motion(), FaceControls(**{k: v / 2 for k, v in controls.items()}).motion()
    moved = full.coefficients[0] > 0
    assert {name.removesuffix("Left").removesuffix("Right") for name in np.array(COEFFICIENTS)[moved]} == raised
    np.testing.assert_allclose(half.coefficients, full.coefficients / 2, atol=1e-6)
    assert not full.head.any()


def test_eyes_follow_the_gaze() -> None:
    right = FaceControls(gaze_x=1, gaze_y=-0.5).motion()
    assert right.gaze[0].tolist() == [GAZE[0], -GAZE[1] / 2] * 2
    assert value(right, "eyeLookOutLeft") == value(right, "eyeLookInRight") > 0.5  # image right: the person's left
    assert value(right, "eyeLookInLeft") == value(right, "eyeLookOutRight") == value(right, "eyeLookDownLeft") == 0
    left = FaceControls(gaze_x=-1).motion()
    assert value(left, "eyeLookInLeft") == value(left, "eyeLookOutRight") > 0.5


def test_the_head_and_single_coefficients_are_taken_as_given() -> None:
    controls = FaceControls(yaw=20, pitch=-10, roll=5, mouth=1, coefficients={"jawOpen": -0.2, "tongueOut": 0.3})
    motion = controls.motion(30)
    assert motion.head[0].tolist() == [20, -10, 5] and motion.fps == 30 and not motion.translation.any()
    assert value(motion, "jawOpen") == pytest.approx(0.5) and value(motion, "tongueOut") == pytest.approx(0.3)
    assert value(FaceControls(mouth=1, coefficients={"jawOpen": 1}).motion(), "jawOpen") == 1
    assert value(FaceControls(coefficients={"jawOpen": -1}).motion(), "jawOpen") == 0


@pytest.mark.parametrize("name", RANGES)
def test_values_out_of_range_are_refused(name: str) -> None:
    low, high = RANGES[name]
    for inside in (low, high):
        FaceControls(**{name: inside}).motion()
    for outside in (low - 0.01, high + 0.01, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{name} must lie between"):
            FaceControls(**{name: outside})


def test_wrong_coefficients_are_refused() -> None:
    with pytest.raises(ValueError, match="no coefficient 'JawOpen'"):
        FaceControls(coefficients={"JawOpen": 0.5})
    for wrong in (1.5, float("nan")):
        with pytest.raises(ValueError, match="jawOpen must lie between -1 and 1"):
            FaceControls(coefficients={"jawOpen": wrong})


# Presets --------------------------------------------------------------------------------------------------------------


def test_all_have_keys_of_known_controls_from_rest_to_rest() -> None:
    assert set(_KEYS) == set(PRESETS)
    for seconds, keys in _KEYS.values():
        for name, points in keys.items():
            when, values = zip(*points, strict=True)
            low, high = RANGES.get(name, (-1, 1))
            assert (name in RANGES or name in COEFFICIENTS) and values[0] == values[-1] == 0
            assert (np.diff(when) > 0).all() and when[0] > 0 and when[-1] < seconds
            assert low <= min(values) and max(values) <= high


@pytest.mark.parametrize("name", PRESETS)
def test_presets_loop_smoothly(name: str) -> None:
    motion = load_preset(name)
    assert motion.fps == 25 and 3 <= (len(motion) - 1) / 25 <= 6 and motion.seen.all()
    assert still(motion, 0) and still(motion, -1) and not still(motion, len(motion) // 2)
    assert np.abs(np.diff(motion.head, axis=0)).max() < 3.5
    blink = np.char.startswith(COEFFICIENTS, "eyeBlink")
    assert np.abs(np.diff(motion.coefficients[:, ~blink], axis=0)).max() < 0.6
    for k, angle in enumerate(("yaw", "pitch", "roll")):
        assert np.abs(motion.head[:, k]).max() <= RANGES[angle][1]


def test_presets_show_what_they_say() -> None:
    def peak(name: str, coefficient: str) -> float:
        return float(load_preset(name).coefficients[:, INDEX[coefficient]].max())

    assert peak("smile", "mouthSmileLeft") > 0.7 and peak("laugh", "jawOpen") > 0.3
    assert peak("surprise", "browInnerUp") > 0.9 and peak("surprise", "eyeWideLeft") > 0.9
    assert peak("blink", "eyeBlinkLeft") == 1 and peak("blink", "jawOpen") == 0
    assert np.ptp(load_preset("nod").head[:, 1]) > 9 and np.ptp(load_preset("shake").head[:, 0]) > 18
    look = load_preset("look-around")
    assert look.gaze[:, 0].max() > 15 and look.gaze[:, 0].min() < -15 and np.ptp(look.head[:, 0]) > 30


def test_speech_closes_the_lips_and_shapes_them() -> None:
    motion = load_preset("talking")
    jaw, close = motion.coefficients[:, INDEX["jawOpen"]], motion.coefficients[:, INDEX["mouthClose"]]
    assert (close <= jaw + 1e-6).all()
    pressed = motion.coefficients[:, INDEX["mouthPressLeft"]] > 0.3
    assert np.sum(pressed[1:] & ~pressed[:-1]) >= 3
    assert (jaw - close)[pressed].max() < 0.06 and jaw[pressed].min() > 0.03
    for shape in ("mouthFunnel", "mouthPucker", "mouthStretchLeft"):
        assert motion.coefficients[:, INDEX[shape]].max() > 0.25
    assert jaw.max() > 0.3


def test_keys_are_reached_without_haste() -> None:
    times = np.linspace(0, 2, 201)
    curve = _eased(times, [(0.5, 0.0), (1.5, 1.0)])
    assert curve[50] == 0 and curve[100] == pytest.approx(0.5) and curve[150] == 1
    assert (curve[:50] == 0).all() and (curve[150:] == 1).all() and (np.diff(curve) >= 0).all()
    assert curve[51] < 0.001 and 1 - curve[149] < 0.001


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no preset 'sneeze'\. Choose one of talking, smile"):
        load_preset("sneeze")
