"""The live tab without a browser: real frames into its handler, and nothing left open behind."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import grey
from PIL import Image

from space.handlers import NO_PICTURE
from space.live_session import LiveSession
from space.person import Person
from space.service import Service
from space.settings import Limits
from space.tabs.live import LiveTab
from space.tabs.person_panel import PersonPanel
from space.visitor_files import VisitorFiles
from talking_heads import TalkingHeadPipeline
from talking_heads.media.writing import AI_GENERATED
from talking_heads.tracking.detectors import MediapipeDetector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tab(tiny_model: Path, detector: MediapipeDetector, tmp_path_factory: pytest.TempPathFactory) -> LiveTab:
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model, engine="torch")
    pipe.detector = detector
    service = Service(pipe, Limits())
    panel = PersonPanel(VisitorFiles(service, tmp_path_factory.mktemp("cache")), None)  # type: ignore[arg-type]
    return LiveTab(service, panel)


@pytest.fixture
def person(tab: LiveTab, visitors: Path) -> Person:
    return tab.service.look([str(visitors / "ada.png")])


@pytest.fixture
def frame(astronaut: np.ndarray) -> np.ndarray:
    return astronaut[:240, 160:400]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    assert not lives()


def lives() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "live"]


def decoded(shown: str) -> Image.Image:
    found = re.search(r'src="data:image/(?:jpeg|webp);base64,([^"]+)"', shown)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_frames_become_pictures_until_the_camera_is_stopped(tab: LiveTab, person: Person, frame: np.ndarray) -> None:
    session, shown, words = tab._live(frame, None, person, True, True)
    picture = decoded(shown)
    assert picture.size == (64, 64) and AI_GENERATED["comment"].encode() == picture.info["comment"]
    assert "Starting" in words
    again, moved, words = tab._live(np.roll(frame, 8, axis=0), session, person, True, True)
    assert again is session and moved != shown
    assert re.search(r"\d\.\d frames a second, delay \d+ ms", words)
    assert lives()
    assert tab._leave(session) == (None, NO_PICTURE, "")
    assert not lives()
    assert session.see(frame, label=True) is None  # a frame that was on its way


def test_the_label_is_the_visitors_choice(tab: LiveTab, person: Person, frame: np.ndarray) -> None:
    session = LiveSession(tab.service.live(person), person, frame.shape)
    plain, labelled = (session.see(frame, label=label) for label in (False, True))
    session.close()
    apart = np.abs(plain.astype(int) - labelled)  # of two looks at one face the landmarks differ a little
    assert apart[:16].max() > 60 and apart[20:].max() < 20


def test_without_consent_or_a_person_it_is_said_and_nothing_runs(
    tab: LiveTab, person: Person, frame: np.ndarray
) -> None:
    session, shown, words = tab._live(frame, None, person, False, True)
    assert session is None and shown == NO_PICTURE and "Confirm first that" in words
    assert "Add at least one photo" in tab._live(frame, None, Person(), True, True)[2]
    session, *_ = tab._live(frame, None, person, True, True)
    assert tab._live(frame, session, person, False, True)[0] is None  # taken back: closed, as the end of this test sees


def test_nobody_before_the_camera(tab: LiveTab, person: Person, frame: np.ndarray) -> None:
    session, _, words = tab._live(grey(128, 240, 240), None, person, True, True)
    assert "No face is seen" in words
    assert "second" in tab._live(frame, session, person, True, True)[2]
    tab._leave(session)


def test_another_avatar_or_size_begins_anew(tab: LiveTab, person: Person, frame: np.ndarray) -> None:
    first, *_ = tab._live(frame, None, person, True, True)
    person.avatar = tab.service._new_avatar(person)
    second, *_ = tab._live(frame, first, person, True, True)
    third, *_ = tab._live(frame[:, 10:-10], second, person, True, True)
    fourth, *_ = tab._live(frame[:, 10:-10], third, Person(person.analyses), True, True)
    fifth, shown, _ = tab._live(frame, fourth, person, True, True, "mediapipe", "256", "transparent", None, None)
    assert len({id(session) for session in (first, second, third, fourth, fifth)}) == 5
    assert len(lives()) == 1
    picture = decoded(shown)
    assert picture.size == (256, 256) and picture.mode == "RGBA"
    again, *_ = tab._live(frame, fifth, person, True, True, "mediapipe", "256", "transparent", None, None)
    assert again is fifth
    words = tab._live(frame, fifth, person, True, True, "mediapipe", "256", "picture", None, None)[2]
    assert "Add the picture" in words and not lives()


def test_it_ends_where_frames_fail(tab: LiveTab, person: Person, frame: np.ndarray) -> None:
    session, *_ = tab._live(frame, None, person, True, True)
    with pytest.raises(ValueError, match="uint8"):
        tab._live(frame.astype(np.float32), session, person, True, True)
    assert not lives()


def test_it_closes_itself_when_no_frames_come(
    tab: LiveTab, person: Person, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("space.live_session.IDLE_SECONDS", 0.5)
    session, *_ = tab._live(frame, None, person, True, True)
    assert isinstance(session, LiveSession) and session.serves(person, frame.shape, ("mediapipe",))
    end = time.monotonic() + 30
    while lives() and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives() and not session.serves(person, frame.shape, ("mediapipe",))
