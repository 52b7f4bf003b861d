"""Clips measured by the paper's protocol or the field's, one by one or in several processes: see train/evaluate.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.errors import NoFaceError, UnreadableMediaError
from talking_heads.head.head import Head
from talking_heads.media.composing import contact_sheet
from talking_heads.media.images import save_image
from talking_heads.tracking.crops import Crop, Portrait, crop_around
from talking_heads.tracking.motion_fitting import DriverFitter

from ..data.jobs import Job
from ..features import load_feature_net
from ..finetune import FineTuning, fine_tune_avatar
from ..identity_net import IdentityNet
from .face_recognition import load_mobilefacenet
from .fid import inception_features, load_inception
from .field import field_values, first_and_rest
from .metrics import FrameMetrics, angles_to_nearest_source, clip_values, jitter, stillest_run
from .reenact import (
    MIN_FRAMES,
    DrivenByClip,
    DrivenPortrait,
    Driver,
    Targets,
    drive,
    flat,
    methods_of,
    numbered_frames,
)
from .report import (
    FACE_ERRORS,
    FACES,
    JITTER,
    Metric,
)

CONTACT_SHEET_ROWS = 6
HELD_OUT = 32
CONTESTS = (
    ("feed-forward", "render"),
    ("feed-forward", "warp"),
    ("render", "warp"),
    ("feed-forward", "still"),
    ("fine-tuned", "feed-forward"),
)
"""Pairs of methods for which the clips are counted on which the first is better."""
METRICS = (
    Metric("ssim", "SSIM", 3, "higher"),
    Metric("psnr", "PSNR, dB", 2, "higher"),
    Metric("l1", "L1 of 0..1", 4, "lower"),
    Metric("perceptual", "perceptual distance", 4, "lower"),
    Metric("csim", "CSIM to other real frames", 3, "higher"),
    Metric("csim_share", "CSIM over that of real frames", 3, "higher"),
    Metric("dlib_distance", "dlib distance to other real frames", 3, "lower"),
    Metric("dlib_ratio", "dlib distance over that of real frames", 3, "lower"),
    *FACE_ERRORS,
    Metric("sharpness", "sharpness over truth", 3, "nearer to 1"),
    JITTER,
    FACES,
)
FID = Metric("fid", "FID", 2, "lower")
"""Measured over all clips together: a single clip has none."""
FAR = 12.0
"""Degrees between the heads of a hold-out frame and of the nearest source, from which on the frame counts as turned."""
TURNED_METRICS = tuple(
    metric for metric in METRICS if metric.name in ("ssim", "l1", "perceptual", "csim", "dlib_distance", "lids")
)


Task = TypeVar("Task")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Options:
    """Settings of an evaluation."""

    model: str | None
    output: Path
    shots: tuple[int, ...] = (1,)
    fine_tune: int = 0
    fine_tune_preset: str = "default"
    feature_net: Path | None = None
    identity_net: Path | None = None
    dlib_net: Path | None = None
    inception: Path | None = None
    frames: int | None = None
    """Hold-out frames of a clip, at most; HELD_OUT, or all by the field's protocol, if None."""
    protocol: Literal["paper", "field"] = "paper"
    portraits: Path | None = None
    cross_frames: int = 48
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """One clip at one T: ``values[method][metric]``, each the mean over the clip's hold-out frames, or NaN."""

    clip: str
    person: str
    shots: int
    """T as asked for."""
    shots_used: int
    """Fewer where the first half of the clip has fewer."""
    frames: int
    values: dict[str, dict[str, float]]
    features: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    """For FID, by method: float32 (frames, 2048), as precise as Inception is; empty without it."""
    turned: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)
    """``turned[method][metric]``: of each turned frame, float (K,), NaN where there is none."""


@dataclass(frozen=True)
class Outcome:
    """What became of a clip: ``dropped`` is a reason, or empty."""

    clip: str
    results: tuple[Result, ...]
    dropped: str = ""


# ------------------------------------------------------------------------------------------------------------ one clip


@dataclass(frozen=True)
class ClipFrames:
    """The frames of a clip that matter."""

    pictures: dict[int, np.ndarray]
    """The sources as they were filmed, uint8 (h, w, 3): their heads need what is beyond the crop."""
    crops: dict[int, np.ndarray]
    """The others, cropped to what is compared: uint8 (H, H, 3)."""
    crop: Crop
    landmarks: np.ndarray
    """Smoothed landmarks of all the clip's frames, in their pixels, float32 (T, L, 2)."""
    followed: np.ndarray | None
    """Points that were followed through all frames, in their pixels, float32 (T, NUM_FOLLOWED, 2)."""
    sources: dict[int, np.ndarray]
    """For each T, which frames are sources; then the frames held out, and a run of them for jitter (or none)."""
    held_out: np.ndarray
    run: np.ndarray

    def shots(self, chosen: np.ndarray) -> Shots:
        """Sources as an avatar keeps them."""
        portraits = [Portrait(self.pictures[int(k)], self.landmarks[k], self.crop) for k in chosen]
        return Shots.of(portraits, None if self.followed is None else self.followed[chosen])

    def cropped(self, chosen: np.ndarray) -> np.ndarray:
        """Other frames as they are compared, uint8 (K, H, H, 3)."""
        return np.stack([self.crops[int(k)] for k in chosen])

    def independent(self, head: Head, sources: np.ndarray, size: int) -> list[Targets]:
        """The hold-out frames, each alone: nothing is carried over from one to the next, they are far apart.

        ``sources``: which frames the head is made of; so for the next two.
        """
        return [self._targets(head, sources, self.held_out[k : k + 1], size) for k in range(len(self.held_out))]

    def consecutive(self, head: Head, sources: np.ndarray, size: int) -> Targets:
        """The run for jitter."""
        return self._targets(head, sources, self.run, size)

    def one_after_another(self, head: Head, sources: np.ndarray, size: int) -> Targets:
        """All hold-out frames, each followed from the one before."""
        return self._targets(head, sources, self.held_out, size)

    def _targets(self, head: Head, sources: np.ndarray, chosen: np.ndarray, size: int) -> Targets:
        faces, points, in_photos = self.landmarks[chosen], None, None
        if self.followed is not None:
            points, in_photos = self.followed[chosen], self.followed[sources]
        frames = DriverFitter.of_person(head, self.crop, in_photos).fit_all(faces, points)
        return Targets(frames, self.crop.to_crop(faces, size))


Split = Callable[[np.ndarray], tuple[dict[int, np.ndarray], np.ndarray]]
"""Numbers of usable frames -> the sources for each T, and the hold-out frames."""


def split_frames(usable: np.ndarray, shots: Sequence[int], held_out: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Numbers of usable frames -> the sources for each T, out of the first half, and the hold-out frames."""
    middle = len(usable) // 2
    sources = {}
    for number in shots:
        used = min(number, middle)
        sources[number] = usable[np.arange(used) * middle // used]  # never the last before the middle, unless all are
    places = np.linspace(middle, len(usable) - 1, min(held_out, len(usable) - middle))
    return sources, usable[places.round().astype(int)]


def read_clip(pipe: TalkingHeadPipeline, clip: Path, split: Split) -> ClipFrames:
    """Two passes over the file, so that it is never in memory. Raises UnreadableMediaError and NoFaceError."""
    track = pipe.track_landmarks(clip)
    usable = np.flatnonzero(track.seen)
    if len(usable) < MIN_FRAMES:
        raise NoFaceError(f"A face is seen in {len(usable)} frames only; {MIN_FRAMES} are needed.")
    crop = crop_around(track.landmarks[usable], track.frame_size)
    sources, held = split(usable)
    run = stillest_run(crop.to_crop(track.landmarks, pipe.image_size), usable[len(usable) // 2 :])
    whole, cropped = (set(np.concatenate(numbers).tolist()) for numbers in (list(sources.values()), [held, run]))
    pictures, crops = {}, {}
    for k, picture in numbered_frames(clip, track.fps, whole | cropped):
        if k in whole:
            pictures[k] = picture
        else:
            crops[k] = crop.cut(picture, pipe.image_size)
    return ClipFrames(pictures, crops, crop, track.landmarks, track.followed, sources, held, run)


def evaluate_clip(pipe: TalkingHeadPipeline, metrics: FrameMetrics, job: Job, options: Options) -> Iterator[Result]:
    """One clip at every T; saves its contact sheets. Raises what ``read_clip`` and ``fine_tune_avatar`` raise."""
    split = partial(split_frames, shots=options.shots, held_out=options.frames or HELD_OUT)
    clip, size = read_clip(pipe, job.files[0], split), pipe.image_size
    true_frames = clip.cropped(clip.held_out)
    truth = metrics.observe(true_frames)
    reference = jitter(metrics.detect(clip.cropped(clip.run))) if len(clip.run) else math.nan
    real_frames = metrics.compare(truth, truth)
    real = clip_values(real_frames, reference, reference)
    true_features = _features(metrics, {"truth": true_frames})
    for shots, sources in clip.sources.items():
        avatar = pipe.avatar_from_shots(clip.shots(sources))
        far = angles_to_nearest_source(clip.landmarks[clip.held_out], clip.landmarks[sources]) >= FAR
        tuned = None
        if options.fine_tune:
            tuned = fine_tune_avatar(
                pipe, avatar, options.fine_tune, feature_net=options.feature_net, seed=options.seed,
                settings=FineTuning.of_preset(options.fine_tune_preset),
            )  # fmt: skip
        independent = clip.independent(avatar.head, sources, size)
        consecutive = clip.consecutive(avatar.head, sources, size)
        source = avatar.shots.crops(size)[:1]
        columns = {"source": np.repeat(source, len(independent), 0), "truth": true_frames}
        values, turned = {}, {}
        for name, method in methods_of(pipe, avatar, tuned).items():
            frames = np.concatenate([method(targets) for targets in independent])
            own_jitter = jitter(metrics.detect(method(consecutive))) if len(consecutive) else math.nan
            by_frame = metrics.compare(metrics.observe(frames), truth)
            values[name] = clip_values(by_frame, own_jitter, reference)
            turned[name] = _of_turned(by_frame, far)
            columns[name] = frames
        for name, relative in (("csim", "csim_share"), ("dlib_distance", "dlib_ratio")):
            if name in real:
                for measured in values.values():
                    # The distance is nought where all true frames are one.
                    measured[relative] = measured[name] / real[name] if real[name] else math.nan
        _save_contact_sheet(columns, options.output / "sheets" / f"{flat(job.source)}-T{shots}.png")
        features = _features(metrics, {name: columns[name] for name in values}) | true_features
        values["truth"], turned["truth"] = real, _of_turned(real_frames, far)
        yield Result(job.source, job.person, shots, len(sources), len(independent), values, features, turned)


def evaluate_field(pipe: TalkingHeadPipeline, metrics: FrameMetrics, job: Job, options: Options) -> Result:
    """One clip by the protocol of field.py; saves its contact sheet. Raises what ``read_clip`` raises."""
    clip = read_clip(pipe, job.files[0], partial(first_and_rest, held_out=options.frames))
    true_frames = clip.cropped(clip.held_out)
    truth = metrics.observe(true_frames)
    avatar = pipe.avatar_from_shots(clip.shots(clip.sources[1]))
    targets = clip.one_after_another(avatar.head, clip.sources[1], pipe.image_size)
    painted = {name: method(targets) for name, method in methods_of(pipe, avatar).items()}
    values = {name: field_values(metrics.observe(frames), truth) for name, frames in painted.items()}
    values["truth"] = field_values(truth, truth)
    source = np.repeat(avatar.shots.crops(pipe.image_size)[:1], len(true_frames), 0)
    _save_contact_sheet(
        {"source": source, "truth": true_frames} | painted, options.output / "sheets" / f"{flat(job.source)}.png"
    )
    return Result(job.source, job.person, 1, 1, len(true_frames), values)


def _of_turned(by_frame: Mapping[str, np.ndarray], far: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics frame by frame, each (T,) -> those of TURNED_METRICS of the frames that are ``far``, bool (T,)."""
    return {metric.name: by_frame[metric.name][far] for metric in TURNED_METRICS if metric.name in by_frame}


def _features(metrics: FrameMetrics, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For FID, of frames by method; none without Inception."""
    net = metrics.inception
    if net is None:
        return {}
    return {name: inception_features(net, frames).astype(np.float32) for name, frames in pictures.items()}


def _save_contact_sheet(columns: Mapping[str, np.ndarray], path: Path) -> None:
    shown = {name: frames for name, frames in columns.items() if name != "still"}  # it is the source
    first = next(iter(shown.values()))
    rows = np.linspace(0, len(first) - 1, min(CONTACT_SHEET_ROWS, len(first))).round().astype(int)
    sheet = contact_sheet([[frames[k] for frames in shown.values()] for k in rows], list(shown), first.shape[1])
    save_image(sheet, path)


# ----------------------------------------------------------------------------------------------------------- all clips


@cache  # one of each a process
def _pipeline_and_metrics(
    model: str | None,
    feature_net: Path | None,
    identity_net: Path | None,
    dlib_net: Path | None,
    inception: Path | None,
) -> tuple[TalkingHeadPipeline, FrameMetrics]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = TalkingHeadPipeline.from_pretrained(model).to(device)
    features = None if feature_net is None else load_feature_net(feature_net)
    mobilefacenet = None if identity_net is None else load_mobilefacenet(identity_net)
    dlib = None if dlib_net is None else IdentityNet(dlib_net)
    network = None if inception is None else load_inception(inception, device)
    return pipe, FrameMetrics(pipe.detector, features, mobilefacenet, dlib, network, device)


def pipeline_and_metrics(options: Options) -> tuple[TalkingHeadPipeline, FrameMetrics]:
    """The model, and what measures it; loaded once. Raises InvalidModelError for either."""
    return _pipeline_and_metrics(
        options.model, options.feature_net, options.identity_net, options.dlib_net, options.inception
    )


def _run(job: Job, options: Options) -> Outcome:
    try:
        if options.protocol == "field":
            return Outcome(job.source, (evaluate_field(*pipeline_and_metrics(options), job, options),))
        return Outcome(job.source, tuple(evaluate_clip(*pipeline_and_metrics(options), job, options)))
    except (NoFaceError, UnreadableMediaError) as error:
        return Outcome(job.source, (), str(error))


def _drive(driver: Driver, options: Options, portraits: Sequence[DrivenPortrait]) -> DrivenByClip:
    try:
        return drive(*pipeline_and_metrics(options), driver, portraits, options.cross_frames, options.output)
    except (NoFaceError, UnreadableMediaError) as error:
        return DrivenByClip(driver.clip, dropped=str(error))


def evaluate(jobs: Sequence[Job], options: Options, workers: int = 1) -> Generator[Outcome]:
    """Measures the clips, in ``workers`` processes; yields each outcome as it comes.

    Raises InvalidModelError for the model and the networks, OutputError for the contact sheets.
    """
    return _each(_run, jobs, options, workers)


def cross_reenact(
    drivers: Sequence[Driver], portraits: Sequence[DrivenPortrait], options: Options, workers: int = 1
) -> Generator[DrivenByClip]:
    """Every portrait driven by every clip, in ``workers`` processes; yields what each clip drove as it comes.

    Raises InvalidModelError for the model and the networks, OutputError for the videos.
    """
    return _each(partial(_drive, portraits=portraits), drivers, options, workers)


def _each(
    work: Callable[[Task, Options], Done], tasks: Sequence[Task], options: Options, workers: int
) -> Generator[Done]:
    pipeline_and_metrics(options)  # what is wrong with them is known at once
    if workers == 1:
        for task in tasks:
            yield work(task, options)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(work, task, options) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error nobody wants the rest
