"""Live: the frames of the pipeline, the newest ones, and errors that reach who pushes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from conftest import MarkDetector, paint_face
from tiny import SIZE, save_tiny_model

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.head.fit import FrameFit
from talking_heads.head.motion import INDEX
from talking_heads.head.retarget import HeadRetargeter, MotionOptions
from talking_heads.live import SETTLING_SECONDS, Live, steadied
from talking_heads.media.background import parse_background
from talking_heads.media.camera import Window, in_real_time
from talking_heads.tracking.motion_fitting import DriverFitter


def camera_frame(x: float = 100.0, roll: float = 0.0, closed: float = 0.0) -> np.ndarray:
    frame = np.full((200, 200, 3), 90, np.uint8)
    paint_face(frame, x, 90.0, 80.0, roll, closed=closed)
    return frame


NOBODY = np.full((200, 200, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> TalkingHeadPipeline:
    pipe = TalkingHeadPipeline.from_pretrained(
        save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), engine="torch"
    )
    pipe.detector = MarkDetector()
    return pipe


@pytest.fixture(scope="module")
def avatar(pipe: TalkingHeadPipeline, shots: Shots) -> Avatar:
    return pipe.avatar_from_shots(shots)


def driver_of(*frames: np.ndarray) -> DriverFitter:
    """A fitter for the person before the camera, from these frames."""
    return DriverFitter.of(np.stack([MarkDetector().detect(frame)[0] for frame in frames]), NOBODY.shape[:2])


def one_by_one(live: Live, frames: list[np.ndarray]) -> list[np.ndarray | None]:
    result = []
    for frame in frames:
        assert live.push(frame) is None  # what was painted before was taken
        result.append(live.wait())
    return result


def test_frames_are_those_of_the_pipeline(
    pipe: TalkingHeadPipeline, avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talking_heads.live.SETTLING_SECONDS", 1e6)
    frames = [camera_frame(), camera_frame(108, 0.1, closed=0.5)]
    with pipe.live(avatar) as live:
        painted = one_by_one(live, frames)
        assert (live.pushed, live.painted) == (2, 2)
        assert 0 < live.delay(0.5) <= live.delay(0.95)
    driver = driver_of(frames[0])
    neutral, moved = (driver.fit(MarkDetector().detect(frame)[0]) for frame in frames)
    retarget = HeadRetargeter(avatar.head, MotionOptions(closed_lips=True))  # the photo laughs, the driver does not
    at_rest, expected = pipe.generate(avatar, [retarget(neutral, neutral), retarget(moved, neutral)], SIZE)
    assert painted[0].shape == (SIZE, SIZE, 3) and painted[0].dtype == np.uint8
    assert np.abs(painted[0].astype(int) - at_rest).mean() < 1
    assert np.abs(painted[1].astype(int) - expected).mean() < 2
    assert np.abs(painted[1].astype(int) - painted[0]).mean() > 4


def test_parts_size_and_background(pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
    frames = [camera_frame(), camera_frame(108, 0.2)]
    with pipe.live(avatar, parts=["lips", "eyes"]) as live:
        held = one_by_one(live, frames)
    assert np.abs(held[0].astype(int) - held[1]).mean() < 1  # the driver turns the head and does nothing else
    with pipe.live(avatar, size=2 * SIZE, background=parse_background("#20a040")) as live:
        (green,) = one_by_one(live, frames[:1])
    assert green.shape == (2 * SIZE, 2 * SIZE, 3)
    assert np.abs(green[:8, :8].mean(axis=(0, 1)) - [0x20, 0xA0, 0x40]).max() < 20
    with pytest.raises(ValueError, match="unknown part 'nose'"):
        pipe.live(avatar, parts=["nose"])
    with pytest.raises(ValueError, match="multiple of 64"):
        pipe.live(avatar, size=100)


def test_absolute_motion_and_strength(pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
    frames = [camera_frame(), camera_frame(108, 0.2)]
    with pipe.live(avatar, head=0, expression=0, gaze=0) as live:
        still = one_by_one(live, frames)
    with pipe.live(avatar, motion="absolute") as live:
        moved = one_by_one(live, frames)
    assert np.abs(still[0].astype(int) - still[1]).max() <= 1
    assert np.abs(moved[0].astype(int) - moved[1]).mean() > 1
    with pytest.raises(ValueError, match="absolute"):
        pipe.live(avatar, motion="sideways")  # type: ignore[arg-type]


def test_a_face_that_leaves_is_waited_for(pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
    with pipe.live(avatar) as live:
        painted = one_by_one(live, [NOBODY, camera_frame(), NOBODY, camera_frame()])
    assert [picture is not None for picture in painted] == [False, True, False, True]


def test_late_frames_are_dropped_and_the_newest_is_painted() -> None:
    """Painting waits for the test, so that what comes meanwhile is late for certain."""
    started, allowed = threading.Semaphore(0), threading.Semaphore(0)

    def paint(frame: FrameFit, neutral: FrameFit) -> np.ndarray:
        painted.append(frame)
        started.release()
        assert allowed.acquire(timeout=10)
        return np.full((4, 4, 3), len(painted), np.uint8)

    painted: list[FrameFit] = []

    with Live(paint, MarkDetector()) as live:
        assert live.push(camera_frame(60)) is None
        assert started.acquire(timeout=10)
        for x in (70, 80, 90):
            assert live.push(camera_frame(x)) is None
        allowed.release(2)
        last = live.wait()
        assert (live.pushed, live.painted) == (4, 2)
    assert last is not None and last[0, 0, 0] == 2
    newest = driver_of(camera_frame(60)).fit(MarkDetector().detect(camera_frame(90))[0])
    np.testing.assert_allclose(painted[1].translation, newest.translation, atol=0.3)


def test_a_frame_can_be_taken_as_soon_as_it_is_painted() -> None:
    allowed = threading.Event()

    def paint(frame: FrameFit, neutral: FrameFit) -> np.ndarray:
        assert allowed.wait(10)
        return np.zeros((4, 4, 3), np.uint8)

    with Live(paint, MarkDetector()) as live:
        assert live.take(0.01) is None  # nobody pushed
        live.offer(camera_frame())
        assert live.take(0.01) is None  # not painted yet
        threading.Timer(0.05, allowed.set).start()
        begin = time.perf_counter()
        assert live.take(10) is not None and time.perf_counter() - begin < 5
        assert live.take(0.01) is None  # taken
        live.offer(camera_frame())
        while live.painted < 2:
            time.sleep(0.01)
        live.offer(NOBODY)
        assert live.take(10) is not None  # whoever offers leaves what is painted
        threading.Timer(0.05, live.close).start()
        assert live.take(10) is None and time.perf_counter() - begin < 5


def test_the_most_neutral_face_of_the_first_second_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few frames there are in it: here two."""
    blinks: list[float] = []

    def paint(frame: FrameFit, neutral: FrameFit) -> np.ndarray:
        blinks.append(float(neutral.expression[INDEX["eyeBlinkLeft"]]))
        return np.zeros((4, 4, 3), np.uint8)

    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    with Live(paint, MarkDetector()) as live:
        for now, closed in ((0.0, 1.0), (0.5 * SETTLING_SECONDS, 0.0), (2 * SETTLING_SECONDS, 0.5)):
            clock[0] = now
            live.push(camera_frame(closed=closed))
            live.wait()
    assert blinks[0] == blinks[1] > 0.5 and blinks[2] < 0.2


def test_what_goes_wrong_reaches_who_pushes() -> None:
    def paint(frame: FrameFit, neutral: FrameFit) -> np.ndarray:
        raise OSError("no memory")

    with Live(paint, MarkDetector()) as live:
        live.push(camera_frame())
        with pytest.raises(OSError, match="no memory"):
            live.wait()
        with pytest.raises(OSError, match="no memory"):
            live.push(camera_frame())
    with pytest.raises(ValueError, match="closed"):
        live.push(camera_frame())
    assert not any(thread.name == "live" for thread in threading.enumerate())


def test_steadying_removes_jitter_and_does_not_lag() -> None:
    face = MarkDetector().detect(camera_frame())[0]
    eyes = float(np.linalg.norm(face[36] - face[45]))
    tremor = (face + 0.005 * eyes).astype(np.float32)
    assert np.abs(steadied(tremor, face) - tremor).max() > 0.4 * 0.005 * eyes
    turned = face + np.float32(0.1 * eyes)
    np.testing.assert_allclose(steadied(turned, face), turned, atol=1e-3)
    assert steadied(face, None) is face


def test_a_clip_plays_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    assert list(in_real_time("abc", 10)) == ["a", "b", "c"]
    np.testing.assert_allclose(slept, [0, 0.1, 0.1])


def test_without_a_screen_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    window = Window("test")
    assert window.show(NOBODY)
    window.close()
