"""The page, served with a tiny model, for the tests that meet it as visitors do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from media import beep, grey, write_clip, write_wav
from PIL import Image

from space.demo import build_demo, launch_options
from space.settings import Limits
from talking_heads import TalkingHeadPipeline, avatar, dubbing
from talking_heads.examples import EXAMPLE
from talking_heads.head.presets import load_preset
from talking_heads.media.reading import read_frames
from talking_heads.media.sound import read_sound
from talking_heads.tracking.detectors import LandmarkDetector
from train import finetune

LIMITS = Limits(seconds=4, photos=3, megapixels=2, megabytes=5, steps=50, waiting=20)


@dataclass(frozen=True)
class Served:
    """A running page, and where it keeps visitors' files."""

    url: str
    cache: Path
    demo: gr.Blocks

    def results(self) -> set[Path]:
        """Files that were made for visitors and lie in the cache."""
        return {
            path
            for path in self.cache.rglob("*")
            if path.is_file() and path.name.startswith(("talking-head", "avatar", "motion"))
        }


@contextmanager
def served(model: Path, detector: LandmarkDetector, cache: Path, limits: Limits = LIMITS) -> Iterator[Served]:
    """Runs the page until the block is left.

    Who is dubbed or tuned is met in few pictures: each is fitted. Heads have coarse outlines, in a third of the time.
    """
    pipe = TalkingHeadPipeline.from_pretrained(model, engine="torch")  # OpenVINO would stay in this process
    pipe.detector = detector
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(cache))
        patch.setattr(dubbing, "PHOTOS", 2)
        patch.setattr(finetune, "COPIES", 4)
        patch.setattr(avatar, "ANALYSIS", 256)
        demo = build_demo(pipe, limits)
        for thread in threading.enumerate():
            if thread.name == "warm-up":  # the page would say how long things take only then
                thread.join()
        demo.launch(**launch_options(limits, pipe), prevent_thread_lock=True, quiet=True)
        try:
            yield Served(str(demo.local_url), cache, demo)
        finally:
            demo.close()


def visitors_files(folder: Path, astronaut: np.ndarray) -> Path:
    """Photos and clips as visitors have them. The astronaut is mirrored: as the example she needs no consent."""
    photo = astronaut[:, ::-1]
    Image.fromarray(photo).save(folder / "ada.png")
    Image.fromarray(np.roll(photo, 3, axis=1)).save(folder / "ada2.png")
    head = photo[:240, 160:400]
    Image.fromarray(np.hstack([head, head[:, ::-1]])).save(folder / "two.png")
    Image.fromarray(grey(128, 256, 256)).save(folder / "nobody.png")
    Image.new("L", (2000, 1200)).save(folder / "large.png")
    Image.new("RGB", (300, 200), (220, 0, 0)).save(folder / "red.png")
    load_preset("nod").save(folder / "nod.csv")
    load_preset("nod").looped(9).save(folder / "long.csv")
    (folder / "text.jpg").write_text("This is no photo.\n")
    write_clip(folder / "moving.mp4", [np.roll(head, k % 4, axis=1) for k in range(10)], sound=beep(0.4, 0.1))
    write_clip(folder / "slow.mp4", [np.roll(head, k % 4, axis=1) for k in range(75)])
    write_clip(folder / "long.mp4", [grey(0)] * 12, fps=1)
    write_clip(folder / "speaker.mp4", read_frames(EXAMPLE, end=0.6))
    speech = np.concatenate(list(read_sound(EXAMPLE)))
    write_wav(folder / "speech.wav", speech[:20_000])
    write_wav(folder / "sentence.wav", speech[:62_000])
    write_wav(folder / "long.wav", speech)
    write_wav(folder / "silence.wav", np.zeros(16_000))
    (folder / "broken.mp4").write_bytes((folder / "moving.mp4").read_bytes()[:2000])
    return folder
