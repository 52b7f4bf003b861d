"""The README's pictures of the page: run ``python app.py`` in another terminal, then ``python -m docs.screenshots``.

Needs Chromium and the packages of requirements-dev.txt. Shows the public-domain example alone.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from skimage.data import astronaut

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "talking_heads" / "examples" / "driving.mp4"
LONG = 300_000  # ms


def shoot(page: Page, name: str) -> None:
    """Writes the visible part of the page as a JPEG."""
    png = HERE / f"{name}.png"
    page.screenshot(path=png)
    Image.open(png).convert("RGB").save(HERE / f"{name}.jpg", quality=82, optimize=True)
    png.unlink()


def visit(browser: Browser, url: str, width: int, height: int, **options: Any) -> Page:
    """A new visitor's page."""
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.goto(url)
    page.locator("#animate").wait_for(timeout=LONG)
    page.wait_for_timeout(1500)
    return page


def animate(page: Page) -> None:
    """The first example, to the end."""
    page.click("#example-0")
    page.locator("#result video").wait_for(timeout=LONG)
    page.wait_for_timeout(1200)


def main(url: str = "http://127.0.0.1:7860") -> None:
    """Photographs the page as it is found, with a result, editing, live, with a mistake, and on a phone."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        # The camera sees the bundled clip, whom nobody filmed.
        seen = Path(folder) / "seen.mjpeg"
        ffmpeg = [get_ffmpeg_exe(), "-loglevel", "error", "-i", EXAMPLE, "-pix_fmt", "yuvj420p", "-q:v", "2", seen]
        subprocess.run(ffmpeg, check=True)
        camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={seen}"],
        )
        page = visit(browser, url, 1280, 800)
        shoot(page, "page-first")
        page = visit(browser, url, 1280, 1300)
        animate(page)
        shoot(page, "page-result")
        page.get_by_role("tab", name="Edit").click()
        for name, value in (("yaw", "18"), ("smile", "0.8"), ("brows", "0.6")):
            field = page.locator(f"#edit-{name} input[type=number]")
            field.fill(value)
            field.press("Enter")
            page.wait_for_timeout(1500)
        shoot(page, "page-edit")
        page.get_by_role("tab", name="Live").click()
        page.locator("#camera").get_by_text("Click to Access Webcam").click()
        page.locator("#camera button", has_text="Record").click()
        page.locator("#live-picture img").wait_for(timeout=LONG)
        page.wait_for_timeout(8000)
        shoot(page, "page-live")
        page = visit(browser, f"{url}?__theme=dark", 1280, 800)
        mirrored = Path(folder) / "photo.png"
        Image.fromarray(astronaut()[:, ::-1]).save(mirrored)  # no longer the example, which needs no consent
        page.set_input_files("#photos input[type=file]", mirrored)
        page.locator("#consent").wait_for(timeout=LONG)
        page.click("#animate:enabled")
        page.locator(".toast-body").wait_for(timeout=LONG)
        page.wait_for_timeout(500)
        shoot(page, "page-error")
        page = visit(browser, url, 390, 844, is_mobile=True, has_touch=True, device_scale_factor=2)
        animate(page)
        page.locator("#result").scroll_into_view_if_needed()
        shoot(page, "page-phone")
        browser.close()


if __name__ == "__main__":
    typer.run(main)
