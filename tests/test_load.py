"""Many visitors at once."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image
from served import LIMITS, Served, served

from talking_heads.media.reading import read_frames
from talking_heads.tracking.detectors import MediapipeDetector

# Turned into an error, a warning within gradio's own threads stops its queue, and the client waits for ever.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
VISITORS = 8


@pytest.fixture(scope="module")
def files(visitors: Path, astronaut: np.ndarray) -> Path:
    """Clips, and a photo for each visitor, told apart by its brightness."""
    for number, level in enumerate(np.linspace(1.0, 0.45, VISITORS)):
        Image.fromarray((astronaut[:, ::-1] * level).astype(np.uint8)).save(visitors / f"{number}.png")
    return visitors


class Visitor:
    """A client with a photo of its own."""

    def __init__(self, server: Served, files: Path, number: int, folder: Path) -> None:
        self.client = Client(server.url, verbose=False, download_files=folder / str(number))
        self.files, self.photo = files, files / f"{number}.png"

    def animate(self, clip: str = "moving.mp4", **options: Any) -> str:
        """The path of a video, or what the visitor is told instead."""
        given: dict[str, Any] = {"driving": handle_file(self.files / clip), "label": False} | options
        try:
            return self.client.predict([handle_file(self.photo)], True, **given, api_name="/animate")
        except (AppError, QueueError) as error:
            return str(error)


def brightness(video: str) -> float:
    return float(np.mean([frame.mean() for frame in read_frames(video)]))


def held() -> int:
    """Bytes in use, without what the allocator keeps for later: that depends on which tests ran in this process."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def test_eight_visitors_get_each_their_own_and_memory_returns(server: Served, files: Path, tmp_path: Path) -> None:
    visitors = [Visitor(server, files, number, tmp_path) for number in range(VISITORS)]
    visitors[0].animate()  # what is made once is made now
    before = held()
    previews: list[float] = []
    rendered = threading.Event()

    def look() -> None:
        """A small thing, asked for while renders wait for each other."""
        client = Client(server.url, verbose=False, download_files=tmp_path / "look")
        while not rendered.is_set():
            began = time.monotonic()
            client.predict([handle_file(files / "0.png")], api_name="/preview_landmarks")
            previews.append(time.monotonic() - began)

    began = time.monotonic()
    with ThreadPoolExecutor(VISITORS + 1) as pool:
        looking = pool.submit(look)
        videos = list(pool.map(Visitor.animate, visitors))
        rendered.set()
        looking.result()
    levels = [brightness(video) for video in videos]
    assert levels == sorted(levels, reverse=True)
    assert min(a - b for a, b in pairwise(levels)) > 2  # nobody has another's
    assert min(previews) < (time.monotonic() - began) / 2  # not stuck behind the renders
    assert held() - before < 200e6


def test_who_finds_the_queue_full_is_told(
    tiny_model: Path, detector: MediapipeDetector, files: Path, tmp_path: Path
) -> None:
    """Each of eight visitors at once gets a video or a sentence."""
    with served(tiny_model, detector, tmp_path / "cache", replace(LIMITS, waiting=2)) as small:
        visitors = [Visitor(small, files, number, tmp_path) for number in range(VISITORS)]
        with ThreadPoolExecutor(VISITORS) as pool:
            answers = list(pool.map(lambda visitor: visitor.animate("slow.mp4", end=1.2), visitors))
    refused = [answer for answer in answers if not answer.endswith(".mp4")]
    assert refused and all(answer == "Queue is full! Please try again." for answer in refused)
    assert len(answers) - len(refused) >= 2


def working() -> list[threading.Thread]:
    """Renders that are running."""
    return [thread for thread in threading.enumerate() if thread.name == "work"]


LEAVING = """
import sys, time
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False)
job = client.submit([handle_file(sys.argv[2])], True, None, "talking", api_name="/animate")
while not job.outputs():
    time.sleep(0.02)
print("rendering", flush=True)
time.sleep(600)
"""


def test_a_visitor_who_leaves_frees_the_machine(server: Served, files: Path, tmp_path: Path) -> None:
    before = server.results()
    command = [sys.executable, "-c", LEAVING, server.url, str(files / "0.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leaving:
        try:
            assert leaving.stdout and leaving.stdout.readline() == "rendering\n"
            deadline = time.monotonic() + 20
            while not working() and time.monotonic() < deadline:
                time.sleep(0.02)
            assert working()
        finally:
            leaving.kill()
    assert Visitor(server, files, 1, tmp_path).animate().endswith(".mp4")
    for thread in working():
        thread.join(5)
        assert not thread.is_alive()
    assert len(server.results() - before) == 1
