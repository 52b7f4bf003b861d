"""The page through its own server, as a client of its endpoint meets it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from media import beep, grey, write_clip
from PIL import Image

from talking_heads import TalkingHeadPipeline
from talking_heads.landmarks import MediapipeDetector
from talking_heads.video import probe

# Turned into an error, a warning within gradio's own threads stops its queue, and the client waits for ever.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps visitors' files."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def app(tiny_model: Path, cache: Path, detector: MediapipeDetector) -> Iterator[ModuleType]:
    """app.py, serving a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKING_HEADS_MODEL", str(tiny_model))
        patch.setenv("GRADIO_TEMP_DIR", str(cache))
        module = importlib.import_module("app")
        module.pipe.detector = detector
        module.demo.launch(**module.LAUNCH, prevent_thread_lock=True, quiet=True)
        yield module
        module.demo.close()


@pytest.fixture(scope="module")
def client(app: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(app.demo.local_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A visitor's photos and clips."""
    folder = tmp_path_factory.mktemp("visitor")
    Image.fromarray(astronaut).save(folder / "ada.png")
    Image.fromarray(grey(128, 256, 256)).save(folder / "nobody.png")
    (folder / "text.jpg").write_text("This is no photo.\n")
    window = astronaut[:240, 110:350]
    write_clip(folder / "moving.mp4", [np.roll(window, k % 4, axis=1) for k in range(10)], sound=beep(0.4, 0.1))
    write_clip(folder / "long.mp4", [grey(0)] * 62, fps=1)
    (folder / "broken.mp4").write_bytes((folder / "moving.mp4").read_bytes()[:2000])
    return folder


def ask(client: Client, files: Path, photos: list[str], driving: str, **options: Any) -> str:
    gallery = [{"image": handle_file(files / photo), "caption": None} for photo in photos]
    given = {"motion": "relative", "consent": True} | options
    return client.submit(gallery, handle_file(files / driving), **given, api_name="/animate").result(timeout=100)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_photos_and_a_clip_become_a_video(client: Client, files: Path, cache: Path, motion: str) -> None:
    before = videos(cache)
    paths = [ask(client, files, ["ada.png", "ada.png"], "moving.mp4", motion=motion) for _ in range(2)]
    info = probe(paths[0])
    assert (info.width, info.height, info.num_frames, info.has_audio) == (32, 32, 10, True)
    assert len(videos(cache) - before) == 2  # a file for each request, and no copies


def videos(cache: Path) -> set[Path]:
    return set(cache.rglob("*talking-head*"))


MISTAKES = {
    "no consent": (["ada.png"], "moving.mp4", {"consent": False}, "Confirm first that the person in the photos agrees"),
    "no photo": ([], "moving.mp4", {}, "Add at least one photo."),
    "33 photos": (["ada.png"] * 33, "moving.mp4", {}, "Give at most 32 photos."),
    "text as photo": (["text.jpg"], "moving.mp4", {}, "text.jpg is not a picture that can be read."),
    "nobody in photo 2": (["ada.png", "nobody.png"], "moving.mp4", {}, "No face found in photo 2."),
    "photo as clip": (["ada.png"], "ada.png", {}, "ada.png is no clip that can be read"),
    "broken clip": (["ada.png"], "broken.mp4", {}, "broken.mp4 is no clip that can be read"),
    "long clip": (["ada.png"], "long.mp4", {}, "The clip lasts 62 s. Cut it to at most 60 s."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered_with_a_sentence(
    client: Client, files: Path, cache: Path, mistake: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photos, driving, options, sentence = MISTAKES[mistake]
    before = videos(cache)
    with pytest.raises(AppError) as caught:
        ask(client, files, photos, driving, **options)
    assert str(caught.value).startswith(sentence)
    assert videos(cache) == before
    assert "Traceback" not in capfd.readouterr().err


def test_the_endpoint_is_described(client: Client) -> None:
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/animate"]
    names = [parameter["parameter_name"] for parameter in endpoints["/animate"]["parameters"]]
    assert names == ["photos", "driving", "motion", "consent"]


def test_nothing_of_visitors_is_kept(app: ModuleType) -> None:
    assert app.LAUNCH["run_history"] is False and app.LAUNCH["enable_monitoring"] is False
    assert app.demo.analytics_enabled is False
    assert app.demo.delete_cache == (3600, 3600)


def test_a_gpu_is_asked_for_by_the_call(app: ModuleType, tiny_model: Path) -> None:
    """On hosts that lend one, the decorated handler is the one behind the button."""
    decorated = []

    def on_gpu(handler: Any) -> Any:
        decorated.append(handler)
        return handler

    demo = app.build_demo(TalkingHeadPipeline.from_pretrained(tiny_model), on_gpu)
    assert [fn.fn for fn in demo.fns.values()] == decorated
    assert list(inspect.signature(decorated[0]).parameters) == ["photos", "driving", "motion", "consent", "progress"]
