"""``talking-heads benchmark``: what each part of the work takes on this machine, and a clip from end to end.

Numbers of two machines compare by the calibration: a matrix product and a convolution of fixed size.
"""

from __future__ import annotations

import contextlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .examples import EXAMPLE

if TYPE_CHECKING:
    from .pipeline import TalkingHeadPipeline

CLIP_SIZE = (1280, 720)
CLIP_FPS = 25


def measure(
    seconds: float = 10.0, model: str | None = None, device: str | None = None, engine: str = "auto"
) -> dict[str, Any]:
    """Everything as one dictionary of JSON values; ``seconds`` is the length of the clip.

    The clip is the bundled one, repeated and enlarged to 1280 x 720, with its sound. Loading counts the imports that
    this process has not made yet. Raises TalkingHeadsError where the model cannot be loaded.
    """
    begin = time.perf_counter()
    import torch

    from .pipeline import TalkingHeadPipeline

    pipe = TalkingHeadPipeline.from_pretrained(model, engine=engine)
    pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    assert pipe.detector
    load_seconds = time.perf_counter() - begin
    budget = min(1.0, 0.1 * seconds)  # seconds for each part
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, max(1, round(seconds * CLIP_FPS)))
        return {
            "talking_heads": __version__,
            "machine": machine(pipe.device),
            "calibration": _calibrate(pipe.device, budget),
            "model": {
                "name": pipe.name,
                "image_size": pipe.image_size,
                "generator_parameters": sum(p.numel() for p in pipe.generator.parameters()),
                "load_seconds": round(load_seconds, 2),
            },
            "milliseconds_a_frame": _parts(pipe, clip, Path(folder), budget),
            "end_to_end": _end_to_end(pipe, clip, Path(folder)),
            "peak_memory_mb": peak_memory(),
        }


def write_clip(path: Path, num_frames: int) -> None:
    """The bundled clip as long as asked for, enlarged to 720p; what it does not cover is grey."""
    import numpy as np
    from PIL import Image

    from .video import VideoWriter, read_frames

    side = min(CLIP_SIZE)
    left = (CLIP_SIZE[0] - side) // 2
    endless = chain.from_iterable(read_frames(EXAMPLE, fps=CLIP_FPS) for _ in repeat(None))
    canvas = np.full((CLIP_SIZE[1], CLIP_SIZE[0], 3), 128, np.uint8)
    with VideoWriter(path, CLIP_FPS, audio_from=EXAMPLE) as writer:
        for frame in islice(endless, num_frames):
            canvas[:, left : left + side] = np.asarray(Image.fromarray(frame).resize((side, side)))
            writer.write(canvas)


def machine(device: Any) -> dict[str, Any]:
    """What computes, where and with what; ``device`` is a torch.device."""
    import torch

    from .pipeline import fast_bf16

    facts = {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "bfloat16_instructions": fast_bf16(),
        "device": str(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def processor_name() -> str:
    """What the processor calls itself; Python's own answer is empty on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _calibrate(device: Any, budget: float) -> dict[str, float]:
    import torch

    matrix = torch.ones(1024, 1024, device=device)
    image = torch.ones(1, 128, 64, 64, device=device)
    kernel = torch.ones(128, 128, 3, 3, device=device)
    with torch.inference_mode():
        return {
            "matrix_1024_ms": _milliseconds(lambda: matrix @ matrix, budget),
            "convolution_3x3_128_64_ms": _milliseconds(lambda: torch.conv2d(image, kernel, padding=1), budget),
        }


def _parts(pipe: TalkingHeadPipeline, clip: Path, folder: Path, budget: float) -> dict[str, float]:
    """Milliseconds a frame of each part, in the order in which a frame passes them."""
    import numpy as np
    import torch

    from .drawing import draw_landmarks
    from .engines import compile_openvino
    from .faces import find_faces, window_around
    from .images import to_float
    from .video import VideoWriter, probe, read_frames
    from .warping import landmarks_to_tensor, source_planes

    number = probe(clip).num_frames or 1
    frame = next(iter(read_frames(clip)))
    face = find_faces(frame, pipe.detector)[0]
    crops, landmarks = pipe.look_at([frame])
    parts = {
        "decoding": _milliseconds(lambda: sum(1 for _ in read_frames(clip)), 0) / number,
        "detection": _milliseconds(lambda: pipe.detector.detect(window_around(frame, face)[0]), budget),
        "drawing": _milliseconds(lambda: draw_landmarks(landmarks[0], pipe.image_size), budget),
    }
    photo, points = to_float(crops).to(pipe.device), landmarks_to_tensor(landmarks).to(pipe.device)
    lines = to_float(draw_landmarks(landmarks, pipe.image_size)).to(pipe.device)
    with torch.inference_mode():
        parts["warping"] = _milliseconds(lambda: source_planes(photo, points, points + 1), budget)
        style = pipe.generator.projection(torch.zeros(1, pipe.generator.config.embedding_dim, device=pipe.device))[0]
        source = source_planes(photo, points, points + 1) if pipe.generator.config.source_conditioned else None
        for precision in ("fp32", "bf16"):
            for batch in (1, 8):

                def generate(batch: int = batch) -> None:
                    given = None if source is None else source.expand(batch, -1, -1, -1)
                    pipe.generator(lines.expand(batch, -1, -1, -1), style=style, source=given)

                with torch.autocast(pipe.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    parts[f"generation_{precision}_batch_{batch}"] = _milliseconds(generate, budget) / batch
        if pipe.engine_name == "openvino":
            openvino = compile_openvino(pipe.generator, keep=True)
            parts["generation_openvino"] = _milliseconds(lambda: openvino(lines, style, source), budget)
    painted = np.ascontiguousarray(crops[0])

    def encode() -> None:
        with VideoWriter(folder / "part.mp4", CLIP_FPS) as writer:
            for _ in range(number):
                writer.write(painted)

    parts["encoding"] = _milliseconds(encode, 0) / number
    return {name: round(value, 3) for name, value in parts.items()}


def _end_to_end(pipe: TalkingHeadPipeline, clip: Path, folder: Path) -> dict[str, Any]:
    """From a photo and the clip to an mp4 with sound, as ``animate`` does it with a model that is loaded."""
    from .engines import choose_engine
    from .video import read_frames

    photo = next(iter(read_frames(EXAMPLE)))
    begin = time.perf_counter()
    avatar = pipe.create_avatar([photo])
    met = time.perf_counter()
    video = pipe(avatar, clip)
    tracked = time.perf_counter()
    video.save(folder / "result.mp4")
    end = time.perf_counter()
    return {
        "clip": f"{len(video) / video.fps:g} s, {video.fps:g} fps, {CLIP_SIZE[0]} x {CLIP_SIZE[1]}, with sound",
        "frames": len(video),
        "engine": choose_engine(pipe.engine, pipe.generator, len(video)),
        "avatar_seconds": round(met - begin, 3),
        "tracking_seconds": round(tracked - met, 3),
        "painting_seconds": round(end - tracked, 3),
        "seconds": round(end - begin, 3),
        "frames_per_second": round(len(video) / (end - begin), 2),
    }


def _milliseconds(work: Callable[[], object], budget: float) -> float:
    """Median time of ``work``, repeated for ``budget`` seconds; the first of several times is not counted."""
    import torch

    times: list[float] = []
    end = time.perf_counter() + budget
    while not times or (budget and len(times) < 4) or time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times[1:] or times), 3)


def peak_memory() -> float:
    """Most memory that this process had, in MB."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 1e6, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else 1024 * peak / 1e6, 1)


def as_table(measured: dict[str, Any]) -> str:
    """The same for people: a line for each value, a heading for each group."""
    return "\n".join(_lines(measured))


def _lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        label = indent + name.replace("_", " ")
        if isinstance(value, dict):
            yield label
            yield from _lines(value, indent + "  ")
        else:
            yield f"{label:<34}{value}"
