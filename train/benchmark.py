"""``talking-heads benchmark --training``: how fast this machine meta-trains, and whether it waits for data.
``--fine-tuning``: how long a person's avatar takes.

On the bundled clip, with content networks of random weights: time depends on neither. A step is what ``train.meta``
makes of a batch, with the discriminator, after a first one that is not counted.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from talking_heads import __version__
from talking_heads.avatar import Shots
from talking_heads.engines import fast_bf16
from talking_heads.examples import EXAMPLE
from talking_heads.machine import machine, peak_memory
from talking_heads.media.reading import probe, read_frames
from talking_heads.pipeline import TalkingHeadPipeline
from talking_heads.result import ProgressCallback
from talking_heads.tracking.crops import Portrait, crop_around
from talking_heads.tracking.detectors import load_detector
from talking_heads.tracking.tracks import track_face

from .config import PRESETS, MetaConfig
from .data.clips import Clip, ClipMeta, make_clip
from .data.episodes import EpisodeDataset
from .features import SqueezeNetFeatures, VGG16Features, VGG19Features, VGGFaceFeatures
from .finetune import fine_tune
from .trainer import Trainer, as_numbers

MEASURED = ("default", "paper")
NETS: dict[str, type[nn.Module]] = {
    "vgg19": VGG19Features, "vgg16": VGG16Features, "vggface": VGGFaceFeatures, "squeezenet": SqueezeNetFeatures,
}  # fmt: skip
PEOPLE = 8
PHOTOS = (1, 8)


def measure(seconds: float = 10.0) -> dict[str, Any]:
    """Everything as one dictionary of JSON values; each preset trains for ``seconds``, and for two steps at least."""
    clips = _clips()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        presets = {name: _measure_preset(PRESETS[name], clips, Path(folder), device, seconds) for name in MEASURED}
    return {
        "talking_heads": __version__,
        "machine": machine(device),
        "training": presets,
        "peak_memory_mb": peak_memory(),
    }


def measure_fine_tuning(pipe: TalkingHeadPipeline, on_progress: ProgressCallback) -> dict[str, Any]:
    """Seconds from photos to a tuned avatar, with the defaults of ``fine_tune``, for each number of PHOTOS.

    The photos are frames of the bundled clip. Raises InvalidModelError where the model lacks its discriminator.
    """
    frames = list(read_frames(EXAMPLE))
    measured: dict[str, Any] = {}
    for number in PHOTOS:
        name = f"{number}_photo{'s' * (number > 1)}"

        def show(done: int, steps: int, _terms: dict[str, float], name: str = name) -> None:
            measured["steps"] = steps
            on_progress(f"fine-tuning, {name.replace('_', ' ')}", done, steps)

        photos = frames[:: len(frames) // number][:number]
        begin = time.perf_counter()
        fine_tune(pipe, photos, on_step=show)
        measured[f"seconds_{name}"] = round(time.perf_counter() - begin, 2)
    return measured


def _clips() -> list[Clip]:
    """The bundled clip, as prepared, under several names."""
    fps = probe(EXAMPLE).fps
    frames = list(read_frames(EXAMPLE, fps=fps))
    track = track_face(frames, load_detector("mediapipe"), fps)
    crop = crop_around(track.landmarks, frames[0].shape[:2])
    shots = Shots.of([Portrait(frame, face, crop) for frame, face in zip(frames, track.landmarks, strict=True)])
    clip = make_clip(shots.canvases, shots.masks, shots.landmarks, ClipMeta("", EXAMPLE.name))
    return [replace(clip, meta=ClipMeta(f"person {k}", EXAMPLE.name)) for k in range(PEOPLE)]


def _measure_preset(
    config: MetaConfig, clips: list[Clip], folder: Path, device: torch.device, seconds: float
) -> dict[str, Any]:
    cuda = device.type == "cuda"
    wanted = [name for name in NETS if getattr(config.losses, name) > 0]
    for name in wanted:
        save_file(NETS[name]().state_dict(), folder / f"{name}.safetensors")
    config = replace(
        config,
        feature_net=",".join(str(folder / f"{name}.safetensors") for name in wanted),
        batch_size=config.batch_size if cuda else 1,  # a processor is as fast with one, and has less memory
        adversarial_from=0,
        steps=10**6,  # more than there is time for
    )
    precision = "bf16" if cuda or fast_bf16() else "no"
    data = EpisodeDataset(clips, config, config.steps * config.batch_size)
    data[0]  # the first one imports
    begin = time.perf_counter()
    for index in range(1, PEOPLE + 1):
        data[index]
    made = time.perf_counter() - begin
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    run = Trainer(config, data, folder, precision)
    run.initialize_discriminator()
    workers = max(1, min(16, (os.cpu_count() or 2) - 1))
    batches = run.batches(workers)
    batch = next(batches)
    with FlopCounterMode(display=False) as counter:
        run.step(batch)
    waited = worked = 0.0
    steps = 0
    while steps < 2 or waited + worked < seconds:
        begin = time.perf_counter()
        batch = next(batches)
        given = time.perf_counter()
        as_numbers(run.step(batch))  # to read them is to wait for the device
        waited, worked, steps = waited + given - begin, worked + time.perf_counter() - given, steps + 1
    measured = {
        "image_size": config.image_size,
        "num_shots": config.num_shots,
        "batch_size": config.batch_size,
        "precision": "bf16" if precision == "bf16" else "fp32",
        "steps": steps,
        "samples_per_second": round(steps * config.batch_size / (waited + worked), 4),
        "share_of_time_waiting_for_data": round(waited / (waited + worked), 4),
        "workers": workers,
        "samples_per_second_of_one_worker": round(PEOPLE / made, 2),
        "tflop_per_sample": float(f"{counter.get_total_flops() / config.batch_size / 1e12:.3g}"),
    }
    if cuda:
        measured["device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return measured
