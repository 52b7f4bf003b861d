"""The code behind the page: limits, long work, and a visitor's person."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import MarkDetector, paint_face
from media import grey
from PIL import Image

from space.handlers import without_folders
from space.person import Person
from space.requests import AnimateRequest, FrameOptions, colour_of
from space.service import Service
from space.settings import LimitError, Limits
from space.tabs.results import FOLDER, RESULTS
from space.work import BEAT, Cancelled, Clock, RateEstimate, Work, in_words
from talking_heads import TalkingHeadPipeline
from talking_heads.errors import FaceError
from talking_heads.media.background import Background

pytestmark = pytest.mark.slow


class TestLimits:
    def test_a_space_allows_less(self) -> None:
        home, space = Limits.from_environment({}), Limits.from_environment({"SPACE_ID": "me/space"})
        assert space.seconds < home.seconds and space.megabytes < home.megabytes and space.steps < home.steps

    def test_the_environment_has_the_last_word(self) -> None:
        assert Limits.from_environment({"SPACE_ID": "me/space", "TALKING_HEADS_MAX_SECONDS": "90"}).seconds == 90

    @pytest.mark.parametrize("value", ["0", "-3", "ten", ""])
    def test_nonsense_is_named(self, value: str) -> None:
        with pytest.raises(ValueError, match="TALKING_HEADS_MAX_PHOTOS"):
            Limits.from_environment({"TALKING_HEADS_MAX_PHOTOS": value})


class TestWork:
    def test_reports_and_gives_its_result(self) -> None:
        def do(report):  # type: ignore[no-untyped-def]
            for number in range(3):
                report(number)
                time.sleep(0.25)
            return "done"

        work = Work(do)
        assert list(work)[:3] == [0, 1, 2]
        assert work.result == "done"

    def test_only_the_latest_of_many_reports_is_told(self) -> None:
        told = list(Work(lambda report: [report(number) for number in range(1000)]))
        assert len(told) < 10

    def test_silence_is_bridged(self) -> None:
        def do(report):  # type: ignore[no-untyped-def]
            report("here")
            time.sleep(3 * BEAT)

        assert list(Work(do)).count("here") >= 2

    def test_errors_come_out(self) -> None:
        with pytest.raises(FaceError, match="nobody"):
            list(Work(lambda report: (_ for _ in ()).throw(FaceError("nobody"))))

    def test_leaving_the_loop_stops_it(self) -> None:
        ended = threading.Event()

        def do(report):  # type: ignore[no-untyped-def]
            try:
                while True:
                    report("still here")
                    time.sleep(0.01)
            except Cancelled:
                ended.set()
                raise

        loop = iter(Work(do))
        next(loop)
        loop.close()
        assert ended.wait(5)


class TestPace:
    def test_knows_nothing_before_it_has_seen_something(self) -> None:
        assert RateEstimate().estimate(painting=10) is None

    def test_sums_the_stages(self) -> None:
        rates = RateEstimate()
        rates.learn("tracking", 0.1)
        rates.learn("painting", 0.5)
        assert rates.estimate(tracking=10, painting=10) == pytest.approx(6)
        rates.learn("painting", 0.8)
        assert rates.estimate(painting=1) == pytest.approx(0.6)

    def test_the_time_left_falls_to_zero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        rates = RateEstimate()
        rates.learn("painting", 1.0)
        clock = Clock(rates, {"tracking": 10, "painting": 10})
        assert clock.left("tracking", 0, 10) is None  # never done before
        now = 2.0
        assert clock.left("tracking", 4, 10) == pytest.approx(0.5 * 6 + 10)
        now = 5.0
        assert clock.left("tracking", 10, 10) == pytest.approx(10)
        assert clock.left("painting", 0, 10) == pytest.approx(10)
        now = 7.0
        assert clock.left("painting", 10, 10) == 0
        assert rates.estimate(tracking=1) == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0.2, "about 1 s"), (12.4, "about 12 s"), (43, "about 45 s"), (59, "about 1 min"), (75, "about 1 min 15 s")],
    )
    def test_in_words(self, seconds: float, words: str) -> None:
        assert in_words(seconds) == words


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, str]:
    """One face, two faces, none, and no picture."""
    result = {}
    for name, places in {"one": [(200, 200)], "two": [(120, 200), (400, 200)], "none": []}.items():
        image = grey(90, 520, 400)
        for person, (x, y) in enumerate(places):
            paint_face(image, x, y, 150 - 20 * person, person=person)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        result[name] = str(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    return result | {"text": str(tmp_path / "text.png")}


def looked(paths: list[str], detector: MarkDetector, before: Person | None = None) -> Person:
    return Person.in_photos(paths, detector, 1, before)


class TestPerson:
    def test_photos_are_looked_at_once(self, photos: dict[str, str], marks: MarkDetector) -> None:
        person = looked([photos["one"]], marks)
        seen = marks.pictures
        again = looked([photos["one"], photos["none"]], marks, person)
        assert again.analyses[0] is person.analyses[0]
        assert marks.pictures > seen  # the other one
        assert looked([photos["one"]], marks, again).analyses[0] is person.analyses[0]

    def test_an_avatar_stays_while_the_photos_do(self, photos: dict[str, str], marks: MarkDetector) -> None:
        person = looked([photos["one"]], marks)
        person.avatar = avatar = object()  # type: ignore[assignment]
        assert looked([photos["one"]], marks, person).avatar is avatar
        assert looked([photos["one"], photos["two"]], marks, person).avatar is None

    def test_of_several_faces_one_is_picked(self, photos: dict[str, str], marks: MarkDetector) -> None:
        person = looked([photos["one"], photos["two"]], marks)
        assert person.undecided() == 1
        with pytest.raises(FaceError, match=r"There are 2 faces in photo 2\. Choose whose it is\."):
            person.portraits()
        for face, x in ((0, 120), (1, 400)):
            chosen = person.pick(1, face)
            assert chosen.undecided() is None
            assert chosen.portraits()[1].landmarks[27, 0] == pytest.approx(x, abs=2)

    @pytest.mark.parametrize(
        ("name", "sentence"), [("none", "No face found in photo 2."), ("text", "text.png is not a picture")]
    )
    def test_what_cannot_be_used_says_why(
        self, photos: dict[str, str], marks: MarkDetector, name: str, sentence: str
    ) -> None:
        person = looked([photos["one"], photos[name]], marks)
        with pytest.raises(FaceError, match=sentence):
            person.portraits()

    def test_pictures_show_what_is_seen(self, photos: dict[str, str], marks: MarkDetector) -> None:
        names = ["one", "two", "none", "text"]
        person = looked([photos[name] for name in names], marks)
        pictures, captions = zip(*person.pictures(), strict=True)
        assert [caption.split(".")[0] for caption in captions[:3]] == [
            "1: ready", "2: 2 faces", "3: No face found in the photo",
        ]  # fmt: skip
        assert captions[3].startswith("4: text.png is not a picture")
        for picture in pictures[:3]:
            plain = np.full(np.asarray(picture).shape, 90)
            assert (np.abs(np.asarray(picture).astype(int) - plain).max(axis=2) > 60).any()  # drawn on
        assert person.pick(1, 1).pictures()[1][1] == "2: ready, face 2"


class TestChecks:
    def test_a_photo_of_too_many_pixels_is_not_even_decoded(self, tmp_path: Path, marks: MarkDetector) -> None:
        Image.new("L", (2000, 1100)).save(tmp_path / "large.png")
        person = looked([str(tmp_path / "large.png")], marks)
        assert marks.pictures == 0
        with pytest.raises(FaceError, match=r"large\.png has 2 million pixels; 1 million are the limit here"):
            person.portraits()

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({}, "Choose what drives the person"),
            ({"driving": "a.mp4", "preset": "nod"}, "Choose what drives the person"),
            ({"preset": "nod", "head": 3.0}, "head must lie between 0 and 2"),
            ({"preset": "nod", "gaze": None}, "gaze must lie between 0 and 2"),
            ({"preset": "nod", "gaze": float("nan")}, "gaze must lie between 0 and 2"),
            ({"driving": "a.mp4", "start": -1.0}, "start must be a second of the clip"),
            ({"driving": "a.mp4", "start": 3.0, "end": 2.0}, "The end must lie behind the start"),
            ({"preset": "nod", "motion_file": "a.csv"}, "Choose what drives the person"),
            ({"preset": "nod", "voice": "a.wav"}, "Choose what drives the person"),
            ({"voice": "a.wav", "liveliness": 2.5}, "liveliness must lie between 0 and 2"),
            ({"voice": "a.wav", "liveliness": None}, "liveliness must lie between 0 and 2"),
            ({"voice": "a.wav", "text": "a" * 5001}, "The text has 5001 letters; 5000 are the limit"),
            ({"voice": "a.wav", "motion": "absolute"}, "A voice has no pose of its own"),
            ({"preset": "nod", "parts": ("ears",)}, "There is no part 'ears'"),
            ({"preset": "nod", "detector": "eyes"}, "There is no detector 'eyes'"),
            (
                {"preset": "nod", "output": "in the photo", "frames": FrameOptions(background=Background("blur"))},
                "A background goes with the head alone",
            ),
        ],
    )
    def test_requests_that_cannot_be_served(self, values: dict, sentence: str) -> None:
        with pytest.raises(LimitError, match=sentence):
            AnimateRequest(**values)

    @pytest.mark.parametrize(
        ("text", "colour"),
        [
            ("green", (0, 128, 0)),
            ("#20a040", (32, 160, 64)),
            ("rgb(1, 2, 3)", (1, 2, 3)),
            ("rgba(32.4, 160, 63.6, 1)", (32, 160, 64)),  # a colour picker's
        ],
    )
    def test_colours(self, text: str, colour: tuple[int, int, int]) -> None:
        assert colour_of(text) == colour

    @pytest.mark.parametrize("text", ["", "grue", "#20a04080", "rgba(300, 0, 0, 1)", "/etc/passwd", "a" * 10**6])
    def test_what_is_no_colour(self, text: str) -> None:
        with pytest.raises(LimitError, match=r"is no background\. Give") as caught:
            colour_of(text)
        assert len(str(caught.value)) < 200

    def test_sentences_name_files_without_their_folders(self) -> None:
        told = without_folders("/tmp/gradio/1/a.csv has no rows. See https://example.org/a/b, or (/var/log/x.txt).")
        assert told == "a.csv has no rows. See https://example.org/a/b, or (x.txt)."


def test_the_results_that_the_page_begins_with_are_small_and_say_what_they_are() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1.5e6
    assert {path.stem for path in FOLDER.iterdir()} == set(RESULTS)
    for path in FOLDER.iterdir():
        with Image.open(path) as picture:
            assert picture.n_frames > 20 and "AI-generated" in picture.getexif()[0x010E]  # type: ignore[attr-defined]


def test_the_page_begins_with_512_pixels_where_the_model_paints_them(tiny_model: Path) -> None:
    sizes = [Service(TalkingHeadPipeline.from_pretrained(name), Limits()).usual_size for name in (None, tiny_model)]
    assert sizes == ["512", "auto"]
