"""``talking-heads benchmark``: what each part of the work takes on this machine, and a clip from end to end.

Numbers of two machines compare by the calibration: a matrix product and a convolution of fixed size.

``python -m talking_heads.benchmark FUNCTION ARGUMENTS`` is for the benchmark itself: what it measures in a process of
its own, which says JSON values, one a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import __version__
from .errors import TalkingHeadsError
from .examples import EXAMPLE
from .machine import calibrate, machine, milliseconds, peak_memory
from .network_benchmark import measure_networks
from .speak_benchmark import measure_speech

if TYPE_CHECKING:
    import numpy as np

    from .pipeline import TalkingHeadPipeline
    from .result import ProgressCallback

CLIP_SIZE = (1280, 720)
CLIP_FPS = 25
MEMORY_CLIP_SIZE = (256, 256)
"""Small, so that a long clip costs minutes and not hours."""
SHORT_CLIP_SECONDS = 10.0
"""The clip to which the memory of a long one is compared."""
SIZES = (256, 512)
"""Sides of the frames with which clips are measured: the bundled model's own, and that of the library's default."""
PHOTO_SIDE = 512
"""Pixels to which the bundled clip's frames, the photos here, are enlarged: their faces have enough for 512 then."""
TRACKED_FRAMES = 50
"""Number of the clip's frames that are held in memory, to measure tracking without decoding."""
LENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Lengths of the clips for frames a second against length, as multiples of the benchmark clip's length."""
STARTS = 5
"""Processes whose median is an import's time."""


class Loading(NamedTuple):
    """What a pipeline is loaded from, and for what."""

    model: str | None = None
    """A folder or "org/name" of the Hub; None: the bundled one."""
    device: str | None = None
    """None: cuda if there is one."""
    engine: str = "auto"


def measure(
    seconds: float,
    loading: Loading,
    *,
    sizes: Sequence[int] = SIZES,
    lengths: bool = False,
    memory_minutes: float | None = None,
    training_tools: Callable[[], ModuleType] | None = None,
    on_progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Everything as one dictionary of JSON values; ``seconds`` is the length of the clip.

    The clip is the bundled one, repeated and enlarged to 1280 x 720, with its sound; photos are its frames, enlarged.
    Loading counts the imports that this process has not made yet. ``sizes``: of the frames that are painted from end
    to end; the first is that of all else which is measured of clips. ``lengths``: also frames a second of clips of a
    tenth to twice that length. ``memory_minutes``: also the peak memory of a clip that long, against that of a short
    one. ``training_tools``: also fine-tuning, by ``measure_fine_tuning`` of the module that this imports once the model
    is loaded.
    ``on_progress`` hears of a stage for each measurement.
    Raises TalkingHeadsError where the model cannot be loaded, or cannot be fine-tuned if it shall be.
    """
    show = on_progress or (lambda _stage, _done, _total: None)
    show("loading", 0, 1)
    begin = time.perf_counter()
    pipe = _load(loading)
    assert pipe.detector  # which is loaded by the question
    load_seconds = time.perf_counter() - begin
    show("loading", 1, 1)
    tools = None if training_tools is None else training_tools()
    if tools is not None:
        pipe.load_discriminator()  # if there is none, this says so before everything else is measured
    if not pipe.generator.config.render_conditioned:
        sizes = ()  # it has one
    sizes = [size for size in sizes if size % pipe.image_size == 0] or [pipe.image_size]
    budget = min(1.0, 0.1 * seconds)  # seconds for each part
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        write_clip(clip, _num_frames(seconds))
        measured = _conditions(pipe, load_seconds, budget)
        for part, work in _measurements(pipe, clip, loading, sizes, budget):
            measured[part] = _shown(part, work, show)
        measured["peak_memory_mb"] = peak_memory()
        if lengths:
            part, by_seconds = "frames_per_second_by_seconds", partial(_by_seconds, pipe, seconds, folder, sizes[0])
            measured[part] = _shown(part, by_seconds, show)
        if memory_minutes is not None:
            measured["memory"] = _memory(60 * memory_minutes, folder, loading, show)
        if tools is not None:
            measured["fine_tuning"] = tools.measure_fine_tuning(pipe, show)
    return measured


def _shown(part: str, work: Callable[[], Any], show: ProgressCallback) -> Any:
    """What ``work`` gives; its beginning and end are shown."""
    stage = part.replace("_", " ")
    show(stage, 0, 1)
    result = work()
    show(stage, 1, 1)
    return result


def _measurements(
    pipe: TalkingHeadPipeline, clip: Path, loading: Loading, sizes: Sequence[int], budget: float
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names of what is always measured, each with what measures it. Files are written beside the clip."""
    folder = clip.parent
    yield "milliseconds_a_frame", partial(_parts, pipe, clip, folder, budget)
    yield "avatar_one_photo_s", partial(_avatar_seconds, pipe, 1)
    yield "avatar_eight_photos_s", partial(_avatar_seconds, pipe, 8)
    for size in sizes:
        name = f"end_to_end_{size}" if size == SIZES[1] else "end_to_end"
        yield name, partial(_end_to_end, pipe, clip, folder, size, stream=False)
    yield "end_to_end_as_a_stream", partial(_end_to_end, pipe, clip, folder, sizes[0], stream=True)
    yield "responsiveness", partial(_responsiveness, pipe, clip, loading)
    if pipe.device.type == "cuda":
        yield "networks", partial(measure_networks, pipe, budget)


def _conditions(pipe: TalkingHeadPipeline, load_seconds: float, budget: float) -> dict[str, Any]:
    """The machine and the versions that everything else was measured on."""
    photo = _photos(1)[0]
    return {
        "talking_heads": __version__,
        "machine": machine(pipe.device),
        "calibration": calibrate(pipe.device, budget),
        "model": {
            "name": pipe.name,
            "image_size": pipe.image_size,
            "generator_parameters": sum(p.numel() for p in pipe.generator.parameters()),
            "precision": _precision(pipe.device),
            "load_seconds": round(load_seconds, 2),
        },
        "photo": f"a frame of the bundled clip, enlarged to {photo.shape[1]} x {photo.shape[0]}",
    }


def measure_networks_alone(seconds: float, loading: Loading) -> dict[str, Any]:
    """The same for the networks alone, in about ``seconds``: on a machine without a detector, and without films.

    They run in torch. Raises TalkingHeadsError where the model cannot be loaded.
    """
    pipe = _load(loading._replace(engine="torch"))
    return {
        "talking_heads": __version__,
        "machine": machine(pipe.device),
        "model": pipe.name,
        "networks": measure_networks(pipe, 0.1 * seconds),
    }


def measure_speech_alone(seconds: float, loading: Loading) -> dict[str, Any]:
    """How fast, and how late, a photo speaks with sound that comes in real time: see ``speak_benchmark``.

    Raises TalkingHeadsError where the model cannot be loaded.
    """
    pipe = _load(loading)
    return {
        "talking_heads": __version__,
        "machine": machine(pipe.device),
        "calibration": calibrate(pipe.device, 0.5),
        "model": pipe.name,
        "speak": measure_speech(pipe, _photos(1)[0], seconds),
    }


def _load(loading: Loading) -> TalkingHeadPipeline:
    import torch

    from .pipeline import TalkingHeadPipeline

    pipe = TalkingHeadPipeline.from_pretrained(loading.model, engine=loading.engine)
    pipe.to(loading.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return pipe


def _precision(device: Any) -> str:
    """Name of the arithmetic with which the pipeline paints on a torch.device."""
    import torch

    from .engines import autocast

    with autocast(device):
        return "bf16" if torch.is_autocast_enabled(device.type) else "fp32"


def _num_frames(seconds: float) -> int:
    return max(1, round(seconds * CLIP_FPS))


def write_clip(path: Path, num_frames: int, size: tuple[int, int] = CLIP_SIZE) -> None:
    """The bundled clip as long as asked for, in the middle of ``size`` (width, height); the rest is grey."""
    import numpy as np
    from PIL import Image

    from .media.reading import read_frames
    from .media.writing import VideoWriter

    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    endless = chain.from_iterable(read_frames(EXAMPLE, fps=CLIP_FPS) for _ in repeat(None))
    canvas = np.full((height, width, 3), 128, np.uint8)
    with VideoWriter(path, CLIP_FPS, audio_from=EXAMPLE) as writer:
        for frame in islice(endless, num_frames):
            canvas[top : top + side, left : left + side] = np.asarray(Image.fromarray(frame).resize((side, side)))
            writer.write(canvas)


def _parts(pipe: TalkingHeadPipeline, clip: Path, folder: Path, budget: float) -> dict[str, float]:
    """Milliseconds a frame of each part, in the order in which a frame passes them."""
    import torch

    from .drawing import draw_landmarks
    from .engines import compile_openvino
    from .head.render import Renderer
    from .media.images import to_float
    from .media.marks import marked
    from .media.reading import probe, read_frames
    from .media.writing import VideoWriter
    from .tracking.motion_fitting import DriverFitter
    from .tracking.tracks import track_face

    number = probe(clip).num_frames or 1
    frames = list(islice(read_frames(clip), TRACKED_FRAMES))
    parts = {"decoding": milliseconds(lambda: sum(1 for _ in read_frames(clip)), 0) / number}
    track = track_face(frames, pipe.detector, CLIP_FPS)
    track_all = partial(track_face, frames, pipe.detector, CLIP_FPS)
    parts["detection_and_tracking"] = milliseconds(track_all, 0) / len(frames)
    driver = DriverFitter.of(track.landmarks, track.frame_size, track.followed)
    parts["fitting"] = milliseconds(lambda: driver.fit_all(track.landmarks, track.followed), budget) / len(frames)
    head = pipe.create_avatar(_photos(1)).head
    poses = cycle(driver.fit_all(track.landmarks, track.followed))
    for size in SIZES:
        renderer = Renderer(head, size)
        parts[f"drawing_{size}"] = milliseconds(lambda: renderer.draw(next(poses)), budget)  # noqa: B023  (at once)
    rendered = renderer.draw(next(poses))
    own = pipe.image_size
    marks = rendered.landmarks_at(own)
    parts["landmark_image"] = milliseconds(lambda: draw_landmarks(marks, own), budget)
    lines = to_float(draw_landmarks(marks, own)).to(pipe.device)
    planes = None
    if pipe.generator.config.render_conditioned:
        planes = torch.from_numpy(rendered.generator_planes(own))[None].to(pipe.device)
    with torch.inference_mode():
        style = pipe.generator.projection(torch.zeros(1, pipe.generator.config.embedding_dim, device=pipe.device))[0]
        for precision in ("fp32", "bf16"):
            for batch in (1, 4):

                def generate(batch: int = batch) -> None:
                    given = None if planes is None else planes.expand(batch, -1, -1, -1)
                    pipe.generator(lines.expand(batch, -1, -1, -1), style=style, render=given)

                with torch.autocast(pipe.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    parts[f"generation_{precision}_batch_{batch}"] = milliseconds(generate, budget) / batch
        if pipe.engine_name == "openvino":
            openvino = compile_openvino(pipe.generator, keep=True)
            parts["generation_openvino"] = milliseconds(lambda: openvino(lines, style, planes), budget)
    painted = rendered.picture.clip(0, 255).astype("uint8")
    parts["marking"] = milliseconds(lambda: next(marked([painted], label=False)), budget)

    def encode() -> None:
        with VideoWriter(folder / "part.mp4", CLIP_FPS) as writer:
            for _ in range(number):
                writer.write(painted)

    parts["encoding"] = milliseconds(encode, 0) / number
    return {name: round(value, 3) for name, value in parts.items()}


def _avatar_seconds(pipe: TalkingHeadPipeline, number: int) -> float:
    """Time from a number of photos to an avatar, with a model that is loaded."""
    photos = _photos(number)
    begin = time.perf_counter()
    pipe.create_avatar(photos)
    return round(time.perf_counter() - begin, 3)


def _end_to_end(pipe: TalkingHeadPipeline, clip: Path, folder: Path, size: int, *, stream: bool) -> dict[str, Any]:
    """Time from a photo and the clip to an mp4 with sound, as ``animate`` makes it, with a model that is loaded."""
    from .engines import choose_engine

    photos = _photos(1)
    begin = time.perf_counter()
    avatar = pipe.create_avatar(photos)
    met = time.perf_counter()
    video = pipe(avatar, clip, size=size, stream=stream)
    tracked = time.perf_counter()
    video.save(folder / "result.mp4")
    end = time.perf_counter()
    steps = {"tracking_seconds": tracked - met, "painting_seconds": end - tracked}
    if stream:
        steps = {"tracking_and_painting_seconds": end - met}
    return {
        "clip": f"{len(video) / video.fps:g} s, {video.fps:g} fps, {CLIP_SIZE[0]} x {CLIP_SIZE[1]}, with sound",
        "frames": len(video),
        "size": pipe.frame_size(avatar, size),
        "engine": choose_engine(pipe.engine, pipe.generator, len(video)),
        "avatar_seconds": round(met - begin, 3),
        **{name: round(value, 3) for name, value in steps.items()},
        "seconds": round(end - begin, 3),
        "frames_per_second": round(len(video) / (end - begin), 2),
    }


def _by_seconds(pipe: TalkingHeadPipeline, seconds: float, folder: Path, size: int) -> dict[str, dict[str, float]]:
    """Frames a second from end to end by the seconds of the clip: followed to its end first, and as a stream."""
    rates: dict[str, dict[str, float]] = {"followed_first": {}, "stream": {}}
    for length in LENGTHS:
        number = _num_frames(length * seconds)
        clip = folder / "length.mp4"
        write_clip(clip, number)
        for way, by_length in rates.items():
            measured = _end_to_end(pipe, clip, folder, size, stream=way == "stream")
            by_length[f"{number / CLIP_FPS:g}"] = measured["frames_per_second"]
    return rates


def _responsiveness(pipe: TalkingHeadPipeline, clip: Path, loading: Loading) -> dict[str, float]:
    """Latencies: how long it takes until something is there; files are in the system's cache by now.

    Cold: from the start of a process that loads the model, as ``loading`` says, meets a photo and streams the bundled
    clip. Warm: with the loaded ``pipe``, from the call for ``clip`` on, with the avatar made.
    """
    interpreter = _start_seconds("-c", "pass")
    imported = _start_seconds("-c", f"import {__package__}")
    told = _start_seconds("-m", __package__, "--help")
    begin = time.perf_counter()
    for _ in _fresh_process(_paint_first_frame, *loading):
        cold = time.perf_counter() - begin
    avatar = pipe.create_avatar(_photos(1))
    warm = {}
    for stream in (True, False):
        begin = time.perf_counter()
        with contextlib.closing(pipe(avatar, clip, stream=stream).frames()) as frames:
            next(frames)
            warm[stream] = time.perf_counter() - begin
    return {
        "import_seconds": round(max(0.0, imported - interpreter), 4),  # chance may be larger than what it takes
        "help_seconds": round(told, 3),
        "cold_first_frame_seconds": round(cold, 3),
        "warm_first_frame_seconds": round(warm[True], 3),
        "warm_first_frame_after_the_whole_clip_seconds": round(warm[False], 3),
    }


def _photos(number: int) -> list[np.ndarray]:
    """Frames of the bundled clip, evenly spread from the first on, uint8 RGB (H, W, 3), enlarged to PHOTO_SIDE."""
    import numpy as np
    from PIL import Image

    from .media.reading import probe, read_frames

    step = (probe(EXAMPLE).num_frames or 1) // number
    frames = islice(read_frames(EXAMPLE), 0, None if number == 1 else number * step, step)
    return [np.asarray(Image.fromarray(frame).resize((PHOTO_SIDE, PHOTO_SIDE))) for frame in islice(frames, number)]


def _start_seconds(*arguments: str) -> float:
    """Median time of a Python process from its start to its end."""
    times = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments], env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _memory(seconds: float, folder: Path, loading: Loading, on_progress: ProgressCallback) -> dict[str, Any]:
    """Peak memory of one process that animates a short clip and of one that animates a clip of ``seconds``."""
    measured: dict[str, Any] = {"clip": f"{MEMORY_CLIP_SIZE[0]} x {MEMORY_CLIP_SIZE[1]}, {CLIP_FPS} fps, with sound"}
    for name, length in (("short", SHORT_CLIP_SECONDS), ("long", seconds)):
        clip = folder / f"{name}.mp4"
        number = _num_frames(length)
        on_progress(f"{name} clip: writing", 0, 1)
        write_clip(clip, number, MEMORY_CLIP_SIZE)
        on_progress(f"{name} clip: writing", 1, 1)
        for said in _fresh_process(_animate, str(clip), str(folder / "result.mp4"), *loading):
            if isinstance(said, dict):
                measured[name] = {"seconds": number / CLIP_FPS} | said
            else:
                stage, done, total = said
                on_progress(f"{name} clip: {stage}", done, total)
        clip.unlink()
    ratio = measured["long"]["peak_memory_mb"] / measured["short"]["peak_memory_mb"]
    return measured | {"long_to_short": round(ratio, 3)}


# What a process of its own does. ``say`` tells JSON values to the process that measures.


def _paint_first_frame(say: Callable[[Any], None], *loading: Any) -> None:
    pipe = _load(Loading(*loading))
    with contextlib.closing(pipe(pipe.create_avatar(_photos(1)), EXAMPLE, stream=True).frames()) as frames:
        next(frames)
    say("painted")


def _animate(say: Callable[[Any], None], clip: str, result: str, *loading: Any) -> None:
    def show(stage: str, done: int, total: int | None) -> None:
        if done % CLIP_FPS == 0 or done == total:
            say((stage, done, total))

    pipe = _load(Loading(*loading))
    begin = time.perf_counter()
    video = pipe(pipe.create_avatar(_photos(1)), clip, size=pipe.image_size, on_progress=show)
    video.save(result, show)
    rate = len(video) / (time.perf_counter() - begin)
    say({"frames": len(video), "frames_per_second": round(rate, 2), "peak_memory_mb": peak_memory()})


def _fresh_process(work: Callable[..., None], *arguments: Any) -> Generator[Any]:
    """What ``work(say, *arguments)`` says in a process of its own, while it runs.

    Raises TalkingHeadsError if it fails; leaving the iterator ends the process.
    """
    command = [sys.executable, "-m", __name__, work.__name__, json.dumps(arguments)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout
        try:
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise TalkingHeadsError(f"A process of the benchmark ended with {process.returncode}: {last or 'no word'}.")


def _environment() -> dict[str, str]:
    """This process's, with this package where a new process looks first."""
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


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
            yield f"{label:<48}{value}"


def _main() -> None:
    """What the benchmark starts: calls a function of this module, whose name and arguments (JSON) were given."""

    def say(value: Any) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    globals()[sys.argv[1]](say, *json.loads(sys.argv[2]))


if __name__ == "__main__":
    _main()
