"""The page in a real browser: what visitors see and do. Skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from media import write_clip
from playwright.sync_api import Browser, Page, expect, sync_playwright
from served import Served

from talking_heads import Avatar
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import Motion
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.verifying import verify

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # a warning in gradio's threads, turned into an error, stops its queue
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]
LONG = 60_000  # ms


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera, which the page may use, shows the example clip."""
    seen = tmp_path_factory.mktemp("camera") / "seen.mjpeg"
    write_clip(seen, read_frames(EXAMPLE, end=3.0), pix_fmt="yuvj420p")
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        # The sandbox is off, since tests in a container run as root.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={seen}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    """A visitor who has just come, whose browser complains of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.url)
    page.locator("#animate").wait_for(timeout=LONG)
    yield page
    context.close()
    assert not complaints


def add_photos(page: Page, visitors: Path, *names: str) -> None:
    page.set_input_files("#photos input[type=file]", [visitors / name for name in names])
    expect(page.locator("#seen")).to_be_visible(timeout=LONG)


def choose_clip(page: Page, visitors: Path, name: str) -> None:
    page.get_by_role("tab", name="A clip").click()
    page.set_input_files("#driving input[type=file]", visitors / name)
    page.locator("#driving video").wait_for(timeout=LONG)


def result(page: Page) -> dict[str, float]:
    """Properties of the video as the browser sees them, once it can be played."""
    page.locator("#result video").wait_for(timeout=LONG)
    page.wait_for_function("document.querySelector('#result video').readyState >= 2", timeout=LONG)
    return page.evaluate(
        """() => {
            const video = document.querySelector('#result video');
            const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 32});
            const context = canvas.getContext('2d');
            context.drawImage(video, 0, 0, 32, 32);
            const pixels = [...context.getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 < 3);
            const mean = pixels.reduce((a, b) => a + b) / pixels.length;
            const spread = Math.sqrt(pixels.reduce((a, b) => a + (b - mean) ** 2, 0) / pixels.length);
            return {duration: video.duration, width: video.videoWidth, height: video.videoHeight, mean, spread};
        }"""
    )


def test_photos_and_a_clip_become_a_video_that_plays(page: Page, visitors: Path, server: Served) -> None:
    add_photos(page, visitors, "ada.png", "ada2.png")
    expect(page.locator("#seen")).to_contain_text("1: ready")
    expect(page.locator("#seen")).to_contain_text("2: ready")
    choose_clip(page, visitors, "moving.mp4")
    expect(page.locator("#plan")).to_contain_text("10 frames: about", timeout=LONG)
    page.check("#consent input")
    page.click("#animate")
    video = result(page)
    assert video["duration"] == pytest.approx(0.4, abs=0.05)
    assert (video["width"], video["height"]) == (64, 64)
    assert video["spread"] > 10  # a picture, not a blank
    # The same file is offered for download, and as a GIF.
    with page.expect_download() as download:
        page.locator("#result").get_by_role("link").or_(page.locator("#result a[download]")).first.click()
    path = Path(download.value.path())
    assert probe(path).num_frames == 10 and verify(path).generated
    page.click("#gif")
    expect(page.locator("#gif-file")).to_contain_text("gif", timeout=LONG)


def test_a_preset_needs_no_clip_and_the_avatar_is_used_again(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.locator("#preset label", has_text="blink").click()
    page.click("#animate")
    first = result(page)
    assert first["duration"] > 2
    page.locator("#output label", has_text="in the photo").click()
    page.click("#animate")
    page.locator("#progress .th-words").wait_for(timeout=LONG)
    expect(page.locator("#progress .th-words")).to_have_count(0, timeout=LONG)
    assert result(page)["width"] == 512


def test_a_photo_speaks_with_an_uploaded_voice(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.get_by_role("tab", name="A voice").click()
    page.click("#animate")
    expect(page.locator(".toast-body").first).to_contain_text("Add a voice", timeout=LONG)
    page.set_input_files("#voice input[type=file]", visitors / "speech.wav")
    expect(page.locator("#plan")).to_contain_text("31 frames", timeout=LONG)
    page.locator("#voice-text textarea").fill("Hello.")
    page.click("#animate")
    video = result(page)
    assert video["duration"] == pytest.approx(1.25, abs=0.06) and video["spread"] > 10
    expect(page.locator("#start")).not_to_be_visible()  # a voice is spoken from its beginning on


def test_an_example_runs_at_once(page: Page) -> None:
    page.click("#example-1")
    assert result(page)["spread"] > 10
    expect(page.locator("#seen")).to_contain_text("1: ready")


def test_nothing_is_made_without_consent(page: Page, visitors: Path, server: Served) -> None:
    add_photos(page, visitors, "ada.png")
    before = server.results()
    page.click("#animate")
    expect(page.locator(".toast-body")).to_contain_text("Confirm first that the person in the photos", timeout=LONG)
    assert server.results() == before


def test_mistakes_are_told_on_the_page(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "nobody.png")
    expect(page.locator("#seen")).to_contain_text("1: No face found in the photo.", timeout=LONG)
    expect(page.locator("#notice")).to_contain_text("Photo 1: No face found in the photo.")
    page.check("#consent input")
    page.click("#animate")
    expect(page.locator(".toast-body")).to_contain_text("No face found in the photo.", timeout=LONG)
    expect(page.locator("#progress .th-words")).to_have_count(0, timeout=LONG)
    choose_clip(page, visitors, "long.mp4")
    expect(page.locator("#plan")).to_contain_text("12 s of the clip are too many: 4 s are the limit here", timeout=LONG)


def test_of_two_faces_one_is_chosen(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "two.png")
    expect(page.locator("#seen")).to_contain_text("2 faces. Choose one below.", timeout=LONG)
    page.locator("#face label", has_text="face 2").click()
    expect(page.locator("#seen")).to_contain_text("1: ready, face 2", timeout=LONG)
    page.check("#consent input")
    page.click("#animate")
    assert result(page)["width"] == 64


def test_cancel_stops_the_work(page: Page, visitors: Path, server: Served) -> None:
    add_photos(page, visitors, "ada.png")
    choose_clip(page, visitors, "slow.mp4")
    page.check("#consent input")
    before = server.results()
    page.click("#animate")
    page.locator("#progress .th-words").wait_for(timeout=LONG)
    page.click("#cancel")
    expect(page.locator("#progress .th-words")).to_have_count(0, timeout=LONG)
    # Free again at once, and nothing is left of the first.
    page.get_by_role("tab", name="Preset motion").click()
    page.click("#animate")
    result(page)
    assert len(server.results() - before) == 1


def test_who_changes_the_photos_while_it_renders_gets_the_new_person(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "ada.png")
    choose_clip(page, visitors, "slow.mp4")
    page.check("#consent input")
    page.click("#animate")
    page.locator("#progress .th-words").wait_for(timeout=LONG)
    page.locator("#photos").get_by_role("button", name="Clear").click()
    expect(page.locator("#seen")).to_be_hidden(timeout=LONG)
    expect(page.locator("#consent")).to_be_hidden()
    add_photos(page, visitors, "two.png")
    assert not page.is_checked("#consent input")  # it was said of somebody else
    page.locator("#face label", has_text="face 1").click()
    expect(page.locator("#seen")).to_contain_text("1: ready, face 1", timeout=LONG)
    result(page)
    page.locator("#face label", has_text="face 2").click()  # still to be changed
    expect(page.locator("#seen")).to_contain_text("1: ready, face 2", timeout=LONG)


def start_camera(page: Page) -> None:
    page.get_by_role("tab", name="Live").click()
    page.locator("#camera").get_by_text("Click to Access Webcam").click()
    page.locator("#camera button", has_text="Record").click()


def no_more_lives() -> bool:
    """Whether all are closed within a minute; the page is served by this process."""
    end = time.monotonic() + 60
    while any(thread.name == "live" for thread in threading.enumerate()):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_the_avatar_moves_like_who_is_before_the_camera(page: Page, visitors: Path, server: Served) -> None:
    add_photos(page, visitors, "ada.png")
    before = set(server.cache.rglob("*"))
    start_camera(page)
    words, picture = page.locator("#live-words"), page.locator("#live-picture img")
    expect(words).to_contain_text("Confirm first that the person in the photos", timeout=LONG)
    page.check("#consent input")
    expect(words).to_contain_text(re.compile(r"\d\.\d frames a second, delay \d+ ms"), timeout=LONG)
    sources: list[str | None] = []
    for _ in range(3):
        known = f"!{sources}.includes(document.querySelector('#live-picture img').src)"
        page.wait_for_function(known, timeout=LONG)
        sources.append(picture.get_attribute("src"))
    assert page.evaluate("document.querySelector('#live-picture img').naturalWidth") == 64
    page.locator("#camera button", has_text="Stop").click()
    expect(picture).to_have_count(0, timeout=LONG)
    expect(words).to_have_text("")
    assert no_more_lives()
    assert set(server.cache.rglob("*")) == before  # neither the camera's pictures nor those painted


def test_who_leaves_before_the_camera_is_not_waited_for(
    browser: Browser, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("space.live_session.IDLE_SECONDS", 1.0)
    page = browser.new_page()
    page.goto(server.url)
    page.locator("#example-1").click()
    result(page)
    start_camera(page)
    page.locator("#live-picture img").wait_for(timeout=LONG)
    page.close()
    assert no_more_lives()


def test_edit_follows_the_sliders(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.get_by_role("tab", name="Edit").click()
    sources = []
    for value in ("10", "20"):
        page.locator("#edit-yaw input[type=number]").fill(value)
        page.locator("#edit-yaw input[type=number]").press("Enter")
        known = f"!{sources}.includes(document.querySelector('#edited img')?.src)"
        page.wait_for_function(f"document.querySelector('#edited img') && {known}", timeout=LONG)
        sources.append(page.locator("#edited img").get_attribute("src"))
    assert len(set(sources)) == 2


def test_a_film_that_is_dropped_as_the_person_is_dubbed(page: Page, visitors: Path) -> None:
    page.set_input_files("#photos input[type=file]", visitors / "moving.mp4")
    page.locator("#film video").wait_for(timeout=LONG)
    expect(page.locator("#dub-plan")).to_contain_text("10 frames", timeout=LONG)
    expect(page.locator("#notice")).to_contain_text("A film: choose under Dub a film")
    expect(page.locator("#photos")).to_contain_text("Drop")  # empty again
    page.set_input_files("#dub-voice input[type=file]", visitors / "speech.wav")
    page.wait_for_timeout(500)
    page.click("#dub")
    expect(page.locator(".toast-body").first).to_contain_text("Confirm first that the person in the film", timeout=LONG)
    page.check("#dub-consent input")
    page.click("#dub")
    page.locator("#dub-result video").wait_for(timeout=LONG)
    page.wait_for_function("document.querySelector('#dub-result video').readyState >= 2", timeout=LONG)
    assert page.evaluate("document.querySelector('#dub-result video').videoWidth") == 240


def test_several_people_of_one_photo_move(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "two.png")
    expect(page.locator("#notice")).to_contain_text("move them all under Several people", timeout=LONG)
    page.get_by_role("tab", name="Several people").click()
    expect(page.locator("#group-picture img")).to_be_visible(timeout=LONG)
    expect(page.locator("#group-who-2")).to_be_hidden()
    page.check("#consent input")
    page.click("#group")
    expect(page.locator(".toast-body").first).to_contain_text("Choose for 1 to 4 people", timeout=LONG)
    for k, word in enumerate(("blink", "a file")):
        page.locator(f"#group-what-{k} input").click()
        page.get_by_role("option", name=word, exact=True).click()
        expect(page.get_by_role("option")).to_have_count(0)
    page.set_input_files("#group-file-1 input[type=file]", visitors / "speech.wav")
    page.locator("#group-file-1").get_by_text("speech").first.wait_for(timeout=LONG)
    page.click("#group")
    page.locator("#group-result video").wait_for(timeout=LONG)
    page.wait_for_function("document.querySelector('#group-result video').readyState >= 2", timeout=LONG)
    assert page.evaluate("document.querySelector('#group-result video').videoWidth") == 480


def test_the_motion_of_a_clip_is_a_file_that_drives(page: Page, visitors: Path, tmp_path: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    choose_clip(page, visitors, "moving.mp4")
    page.click("#save-motion")
    link = page.locator("#saved-motion a[download]").first
    link.wait_for(timeout=LONG)
    with page.expect_download() as download:
        link.click()
    file = tmp_path / "motion.csv"
    download.value.save_as(file)
    assert len(Motion.load(file)) == 10
    page.get_by_role("tab", name="A motion file").click()
    page.set_input_files("#motion-file input[type=file]", file)
    expect(page.locator("#plan")).to_contain_text("10 frames: about", timeout=LONG)
    page.get_by_text("How much of the motion").click()
    page.locator("#parts label", has_text="lips").click()
    page.click("#animate")
    assert result(page)["duration"] == pytest.approx(0.4, abs=0.05)


def test_what_is_behind_the_person_is_the_visitors_choice(page: Page, visitors: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.get_by_text("More: background, size, detector").click()
    page.locator("#size label", has_text="256").click()
    page.locator("#background label", has_text="picture").click()
    expect(page.locator("#plan")).to_contain_text("Add the picture that shall be behind the person", timeout=LONG)
    page.set_input_files("#background-picture input[type=file]", visitors / "red.png")
    expect(page.locator("#plan")).to_contain_text("frames: about", timeout=LONG)
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-yaw input[type=number]").fill("5")
    page.locator("#edit-yaw input[type=number]").press("Enter")
    picture = page.locator("#edited img")
    picture.wait_for(timeout=LONG)
    assert page.evaluate("document.querySelector('#edited img').naturalWidth") == 256
    before = picture.get_attribute("src")
    page.locator("#background label", has_text="transparent").click()
    page.wait_for_function(f"document.querySelector('#edited img')?.src != {before!r}", timeout=LONG)  # it follows
    page.get_by_role("tab", name="Animate").click()
    page.locator("#preset label", has_text="blink").click()
    page.click("#animate")
    assert result(page)["width"] == 256
    assert page.evaluate("document.querySelector('#result video').currentSrc").endswith(".webm")


def test_a_detector_that_is_not_installed_is_told(
    page: Page, visitors: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights there
    add_photos(page, visitors, "ada.png")
    page.get_by_text("More: background, size, detector").click()
    page.locator("#detector label", has_text="face-alignment").click()
    expect(page.locator(".toast-body")).to_contain_text("The detector face-alignment is not installed", timeout=LONG)


def test_personalise_shows_its_way_and_gives_a_file(page: Page, visitors: Path, tmp_path: Path) -> None:
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.get_by_role("tab", name="Personalise").click()
    steps, slider = page.locator("#steps input[type=number]"), page.locator("#steps input[type=range]")
    for _ in range(20):  # a tab that has just been opened may be drawn once more, with what was there before
        steps.fill("5")
        steps.press("Enter")
        page.wait_for_timeout(500)
        if slider.input_value() == "5":
            break
    page.click("#personalise")
    expect(page.locator("#tuning-progress")).to_contain_text("Done.", timeout=LONG)
    expect(page.locator("#compare")).to_contain_text("before")
    expect(page.locator("#compare")).to_contain_text("after 5 steps")
    page.click("#save-avatar")
    link = page.locator("#saved-avatar a[download]").first
    link.wait_for(timeout=LONG)
    with page.expect_download() as download:
        link.click()
    file = tmp_path / "avatar.safetensors"
    download.value.save_as(file)
    assert Avatar.from_file(file).generator is not None
    # Another visitor takes the file and animates it, without any photo.
    page.reload()
    page.locator("#animate").wait_for(timeout=LONG)
    page.get_by_text("Use a saved avatar instead").click()
    page.set_input_files("#avatar-file input[type=file]", file)
    page.locator("#avatar-file").get_by_text("avatar").first.wait_for(timeout=LONG)
    page.click("#avatar-load")
    expect(page.locator("#notice")).to_contain_text("The avatar is loaded.", timeout=LONG)
    page.check("#consent input")
    page.click("#animate")
    assert result(page)["width"] == 64


def test_a_file_is_checked(page: Page, visitors: Path) -> None:
    page.get_by_role("tab", name="Check a file").click()
    page.set_input_files("#verify-file input[type=file]", visitors / "ada.png")
    expect(page.locator("#findings li").first).to_be_visible(timeout=LONG)


def test_a_phone_shows_everything_in_one_column(browser: Browser, server: Served, visitors: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(server.url)
    page.locator("#animate").wait_for(timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Live").click()
    camera, picture = page.locator("#camera").bounding_box(), page.locator("#live-picture").bounding_box()
    assert camera and picture and picture["y"] >= camera["y"] + camera["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Animate").click()
    photos, animate = page.locator("#photos").bounding_box(), page.locator("#animate").bounding_box()
    assert photos and animate and animate["y"] > photos["y"] + photos["height"]
    add_photos(page, visitors, "ada.png")
    page.check("#consent input")
    page.click("#animate")
    assert result(page)["spread"] > 10
    context.close()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_minute(browser: Browser, server: Served, visitors: Path, width: int, height: int) -> None:
    """Results play; one click chooses a motion and asks for a photo; consent and the next step come with it."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(server.url)
    page.locator("#animate").wait_for(timeout=LONG)

    def in_sight(selector: str) -> bool:
        box = page.locator(selector).bounding_box()
        return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height

    page.wait_for_function("[...document.querySelectorAll('#results img')].every(x => x.naturalWidth > 100)")
    assert page.locator("#results img").count() == 5 and in_sight("#results") and in_sight("#photos")
    assert in_sight("#animate") and page.locator("#animate").is_disabled()
    assert not page.locator("#consent").is_visible() and not page.locator("#result").is_visible()
    with page.expect_file_chooser() as chooser:
        page.click("#result-nod")
    chooser.value.set_files(visitors / "ada.png")
    expect(page.locator("#seen")).to_be_visible(timeout=LONG)
    expect(page.locator("#animate")).to_be_enabled(timeout=LONG)
    assert page.is_checked("#preset label:has-text('nod') input") and in_sight("#animate")
    expect(page.locator("#consent")).to_be_visible()
    page.click("#result-voice")
    expect(page.locator("#voice")).to_be_visible(timeout=LONG)
    expect(page.locator("#plan")).to_contain_text("s of the voice are too many", timeout=LONG)  # 4 are allowed here
    page.click("#result-nod")
    expect(page.locator("#plan")).to_contain_text("frames: about", timeout=LONG)
    page.check("#consent input")
    page.click("#animate")
    assert result(page)["spread"] > 10
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_dark_is_dark(browser: Browser, server: Served) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}?__theme=dark")
    page.locator("#animate").wait_for(timeout=LONG)
    colour = page.evaluate("getComputedStyle(document.querySelector('gradio-app') || document.body).backgroundColor")
    text = page.evaluate("getComputedStyle(document.querySelector('.th-head h1')).color")
    brightness = [sum(int(part) for part in value[4:-1].split(",")[:3]) for value in (colour.replace("a", ""), text)]
    assert brightness[0] < 200 < 500 < brightness[1]
    page.close()
