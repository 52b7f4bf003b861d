"""The paper's protocol on any folder of clips: self-reenactment of people whom the model has never seen.

    python -m train.evaluate --model MODEL --clips FOLDER --output FOLDER [--shots 1 --shots 8] [--fine-tune STEPS]
        [--inception inception-2015-12-05.pt] [--portraits FOLDER]

Of each clip's frames with a face, the T source frames are spread over the first half, beginning with the first frame,
and the hold-out frames over the second half: they are the same for every T. All share the clip's one crop. An avatar is
made of the sources; its head is fitted to the landmarks of each hold-out frame (absolute motion), and what each method
makes of that is compared with the frame. Three methods need no network: ``still`` is the first source, ``warp`` the
source that the pipeline would choose, bent to the landmarks (warp_baseline.py), ``render`` the drawn head alone.
``feed-forward`` is the pipeline: the network's correction over that drawing. Frames are made at the size that the
pipeline chooses, 512 pixels where the clip's crop has enough of them, and compared at that of the network, 256: larger
ones are averaged. The row ``truth`` puts the true frames in the painted ones' place: its
CSIM is what a person reaches among real frames. Jitter is that of the 16 consecutive frames of the second half in which
the face moves least, over that of the same frames as they were filmed. FID is that of all hold-out frames of all clips
at one T together: it comes with the last clip and without an interval. With few frames it is biased upwards, so it is
comparable only at the same number of frames.

A table of its own has the hold-out frames in which the head is turned by 12 degrees and more: by the angle between its
pose and that of the source nearest to it. Its numbers are means over these frames of all clips together.

Writes ``results.json``, ``results.md`` and ``sheets/``: one picture for each clip and T. With ``--portraits`` people
are also driven by others: see train/reenact.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.driver import DriverFitter
from talking_heads.errors import NoFaceError, UnreadableMediaError
from talking_heads.faces import Crop, Portrait, crop_around
from talking_heads.head.fit import FrameFit
from talking_heads.head.person import Head
from talking_heads.pipeline import MAX_PHOTOS
from talking_heads.video import contact_sheet, save_image

from .features import load_feature_net
from .field import field_values, first_and_rest
from .field import markdown as field_markdown
from .finetune import fine_tune_avatar
from .metrics import (
    FrameMetrics,
    clip_values,
    frechet_distance,
    inception_features,
    jitter,
    load_identity_net,
    load_inception,
    mean,
    stillest_run,
    turns,
)
from .prepare import Job, find_jobs
from .reenact import (
    MIN_FRAMES,
    Driven,
    Driver,
    Targets,
    drive,
    file_names,
    find_portraits,
    flat,
    methods_of,
    numbered_frames,
    save_sheets,
    write_cross,
)
from .reenact import Portrait as DrivenPortrait
from .report import (
    FACE_ERRORS,
    FACES,
    JITTER,
    Metric,
    comparison_table,
    link,
    summarise,
    summary_table,
    wins,
    write_report,
)
from .terminal import mistakes_in_one_line

SHEET_ROWS = 6
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
    *FACE_ERRORS,
    Metric("sharpness", "sharpness over truth", 3, "nearer to 1"),
    JITTER,
    FACES,
)
FID = Metric("fid", "FID", 2, "lower")
"""Of all clips together, so no clip has one."""
FAR = 12.0
"""Degrees between the heads of a hold-out frame and of the nearest source, from which on the frame counts as turned."""
TURNED_METRICS = tuple(metric for metric in METRICS if metric.name in ("ssim", "l1", "perceptual", "csim", "lids"))


Task = TypeVar("Task")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Options:
    """What is measured, and how."""

    model: str | None
    output: Path
    shots: tuple[int, ...] = (1,)
    fine_tune: int = 0
    feature_net: Path | None = None
    identity_net: Path | None = None
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
    identity: str
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
    """Of all the clip's frames, smoothed, in their pixels, float32 (T, L, 2)."""
    sources: dict[int, np.ndarray]
    """For each T, which frames are sources; then the frames held out, and a run of them for jitter (or none)."""
    held_out: np.ndarray
    run: np.ndarray

    def shots(self, chosen: np.ndarray) -> Shots:
        """Sources as an avatar keeps them."""
        return Shots.of([Portrait(self.pictures[int(k)], self.landmarks[k], self.crop) for k in chosen])

    def cropped(self, chosen: np.ndarray) -> np.ndarray:
        """Other frames as they are compared, uint8 (K, H, H, 3)."""
        return np.stack([self.crops[int(k)] for k in chosen])

    def independent(self, head: Head, size: int) -> list[Targets]:
        """The hold-out frames, each alone: nothing is carried over from one to the next, they are far apart."""
        return [self._targets(head, self.held_out[k : k + 1], size) for k in range(len(self.held_out))]

    def consecutive(self, head: Head, size: int) -> Targets:
        """The run for jitter."""
        return self._targets(head, self.run, size)

    def one_after_another(self, head: Head, size: int) -> Targets:
        """All hold-out frames, each followed from the one before."""
        return self._targets(head, self.held_out, size)

    def _targets(self, head: Head, chosen: np.ndarray, size: int) -> Targets:
        fitter = DriverFitter.of_person(head, self.crop)
        frames: list[FrameFit] = [fitter.fit(face) for face in self.landmarks[chosen]]
        return Targets(frames, self.crop.to_crop(self.landmarks[chosen], size))


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
    return ClipFrames(pictures, crops, crop, track.landmarks, sources, held, run)


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
        far = turns(clip.landmarks[clip.held_out], clip.landmarks[sources]) >= FAR
        tuned = None
        if options.fine_tune:
            tuned = fine_tune_avatar(
                pipe, avatar, options.fine_tune, feature_net=options.feature_net, seed=options.seed
            )  # fmt: skip
        independent, consecutive = clip.independent(avatar.head, size), clip.consecutive(avatar.head, size)
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
        if "csim" in real:
            for measured in values.values():
                measured["csim_share"] = measured["csim"] / real["csim"]
        _save_sheet(columns, options.output / "sheets" / f"{flat(job.source)}-T{shots}.png")
        features = _features(metrics, {name: columns[name] for name in values}) | true_features
        values["truth"], turned["truth"] = real, _of_turned(real_frames, far)
        yield Result(job.source, job.identity, shots, len(sources), len(independent), values, features, turned)


def evaluate_field(pipe: TalkingHeadPipeline, metrics: FrameMetrics, job: Job, options: Options) -> Result:
    """One clip by the protocol of train/field.py; saves its contact sheet. Raises what ``read_clip`` raises."""
    clip = read_clip(pipe, job.files[0], partial(first_and_rest, held_out=options.frames))
    true_frames = clip.cropped(clip.held_out)
    truth = metrics.observe(true_frames)
    avatar = pipe.avatar_from_shots(clip.shots(clip.sources[1]))
    targets = clip.one_after_another(avatar.head, pipe.image_size)
    painted = {name: method(targets) for name, method in methods_of(pipe, avatar).items()}
    values = {name: field_values(metrics.observe(frames), truth) for name, frames in painted.items()}
    values["truth"] = field_values(truth, truth)
    source = np.repeat(avatar.shots.crops(pipe.image_size)[:1], len(true_frames), 0)
    _save_sheet(
        {"source": source, "truth": true_frames} | painted, options.output / "sheets" / f"{flat(job.source)}.png"
    )
    return Result(job.source, job.identity, 1, 1, len(true_frames), values)


def _of_turned(by_frame: Mapping[str, np.ndarray], far: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics frame by frame, each (T,) -> those of TURNED_METRICS of the frames that are ``far``, bool (T,)."""
    return {metric.name: by_frame[metric.name][far] for metric in TURNED_METRICS if metric.name in by_frame}


def _features(metrics: FrameMetrics, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For FID, of frames by method; none without Inception."""
    net = metrics.inception
    if net is None:
        return {}
    return {name: inception_features(net, frames).astype(np.float32) for name, frames in pictures.items()}


def _save_sheet(columns: Mapping[str, np.ndarray], path: Path) -> None:
    shown = {name: frames for name, frames in columns.items() if name != "still"}  # it is the source
    first = next(iter(shown.values()))
    rows = np.linspace(0, len(first) - 1, min(SHEET_ROWS, len(first))).round().astype(int)
    sheet = contact_sheet([[frames[k] for frames in shown.values()] for k in rows], list(shown), first.shape[1])
    save_image(sheet, path)


# ----------------------------------------------------------------------------------------------------------- all clips


@cache  # one of each a process
def _tools(
    model: str | None, feature_net: Path | None, identity_net: Path | None, inception: Path | None
) -> tuple[TalkingHeadPipeline, FrameMetrics]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = TalkingHeadPipeline.from_pretrained(model).to(device)
    features = None if feature_net is None else load_feature_net(feature_net)
    identity = None if identity_net is None else load_identity_net(identity_net)
    network = None if inception is None else load_inception(inception, device)
    return pipe, FrameMetrics(pipe.detector, features, identity, network, device)


def tools(options: Options) -> tuple[TalkingHeadPipeline, FrameMetrics]:
    """The model, and what measures it; loaded once. Raises InvalidModelError for either."""
    return _tools(options.model, options.feature_net, options.identity_net, options.inception)


def _run(job: Job, options: Options) -> Outcome:
    try:
        if options.protocol == "field":
            return Outcome(job.source, (evaluate_field(*tools(options), job, options),))
        return Outcome(job.source, tuple(evaluate_clip(*tools(options), job, options)))
    except (NoFaceError, UnreadableMediaError) as error:
        return Outcome(job.source, (), str(error))


def _drive(driver: Driver, options: Options, portraits: Sequence[DrivenPortrait]) -> Driven:
    try:
        return drive(*tools(options), driver, portraits, options.cross_frames, options.output)
    except (NoFaceError, UnreadableMediaError) as error:
        return Driven(driver.clip, dropped=str(error))


def evaluate(jobs: Sequence[Job], options: Options, workers: int = 1) -> Generator[Outcome]:
    """Measures the clips, in ``workers`` processes; yields each outcome as it comes.

    Raises InvalidModelError for the model and the networks, OutputError for the sheets.
    """
    return _each(_run, jobs, options, workers)


def cross_reenact(
    drivers: Sequence[Driver], portraits: Sequence[DrivenPortrait], options: Options, workers: int = 1
) -> Generator[Driven]:
    """Every portrait driven by every clip, in ``workers`` processes; yields what each clip drove as it comes.

    Raises InvalidModelError for the model and the networks, OutputError for the videos.
    """
    return _each(partial(_drive, portraits=portraits), drivers, options, workers)


def _each(
    work: Callable[[Task, Options], Done], tasks: Sequence[Task], options: Options, workers: int
) -> Generator[Done]:
    tools(options)  # what is wrong with them is known at once
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


# ------------------------------------------------------------------------------------------------------------- summary


def fid(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """For each method FID (``value``) of its ``frames`` of all clips to the true ones; empty without features."""
    if not results:
        return {}
    names = [name for name in results[0].features if all(name in result.features for result in results)]
    features = {name: np.concatenate([result.features[name] for result in results]) for name in names}
    return {
        name: {"value": frechet_distance(painted, features["truth"]), "frames": len(painted)}
        for name, painted in features.items()
    }


def means_of_turned(results: Sequence[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """For each method and metric the ``mean`` over the turned frames of all clips, and of how many ``frames`` it is."""
    together: dict[str, dict[str, list[np.ndarray]]] = {}
    for result in results:
        for method, metrics in result.turned.items():
            for metric, values in metrics.items():
                together.setdefault(method, {}).setdefault(metric, []).append(values)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for method, metrics in together.items():
        for metric, parts in metrics.items():
            values = np.concatenate(parts)
            if known := int(np.isfinite(values).sum()):
                summary.setdefault(method, {})[metric] = {"mean": mean(values), "frames": known}
    return summary


def notes(options: Options, finished: bool) -> list[str]:
    """What the tables leave out, and why."""
    sentences = []
    if options.feature_net is None:
        sentences.append("No perceptual distance: --feature-net was not given.")
    if options.identity_net is None:
        sentences.append("No CSIM: --identity-net was not given.")
    if options.inception is None:
        sentences.append("No FID: --inception was not given.")
    elif not finished:
        sentences.append("No FID yet: it comes with the last clip.")
    if not options.fine_tune:
        sentences.append("No fine-tuned avatars: --fine-tune was not given.")
    return sentences


def write_results(outcomes: Sequence[Outcome], options: Options, finished: bool = True) -> None:
    """``results.json`` and ``results.md`` of what has been measured so far; FID, which is slow, when ``finished``."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.clip)
    results = [result for outcome in outcomes for result in outcome.results]
    left_out = {outcome.clip: outcome.dropped for outcome in outcomes if outcome.dropped}
    if options.protocol == "field":
        report = {
            "options": described(options),
            "summary": summarise(results, options.seed),
            "clips": [_record(result) for result in results],
            "dropped": left_out,
        }
        write_report(options.output, "field", report, field_markdown(results, options.model, left_out, options.seed))
        return
    at = {shots: [result for result in results if result.shots == shots] for shots in options.shots}
    summary = {shots: summarise(some, options.seed) for shots, some in at.items()}
    for shots, some in at.items():
        for method, value in (fid(some) if finished else {}).items():
            summary[shots][method][FID.name] = value
    report = {
        "options": described(options),
        "notes": notes(options, finished),
        "summary": summary,
        "turned": {shots: means_of_turned(some) for shots, some in at.items()},
        "wins": {
            shots: {
                f"{method} against {rival}": {m.name: wins(some, method, rival, m) for m in METRICS}
                for method, rival in CONTESTS
            }
            for shots, some in at.items()
        },
        "clips": [_record(result) for result in results],
        "dropped": left_out,
    }
    write_report(options.output, "results", report, _markdown(at, report))


def described(options: Options) -> dict[str, Any]:
    """The options as a report has them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}


def _record(result: Result) -> dict[str, Any]:
    record = asdict(replace(result, features={}, turned={}))
    del record["features"], record["turned"]
    return record


def _markdown(at: Mapping[int, Sequence[Result]], report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Self-reenactment with {report['options']['model'] or 'the bundled model'}\n"
    yield (
        "Sources from the first half of each clip, hold-out frames from the second half, absolute motion, one crop "
        "a clip. Mean and 95 % bootstrap interval over people; `truth` is the true frames in the painted ones' place."
    )
    for sentence in report["notes"]:
        yield f"\n{sentence}"
    for shots, results in at.items():
        if results:
            people = len({result.identity for result in results})
            fewer = sum(result.shots_used < shots for result in results)
            yield f"\n## T = {shots}: {len(results)} clips of {people} people\n"
            if fewer:
                yield f"The first half of {fewer} clips has fewer than {shots} frames; all of them are sources there.\n"
            summary = report["summary"][shots]
            yield from summary_table(results, summary, (*METRICS, FID), CONTESTS)
            if FID.name in summary.get("truth", {}):
                yield f"\nFID of {summary['truth'][FID.name]['frames']} frames, to be compared at this number only.\n"
            yield from _turned_table(results, report["turned"][shots])
            yield from _clip_table(results)
    if report["dropped"]:
        yield "\n## Left out\n"
        for clip, reason in report["dropped"].items():
            yield f"* {clip}: {reason}"
    yield ""


def _turned_table(results: Sequence[Result], turned: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What ``means_of_turned`` found, by method."""
    # SSIM and L1 need no face: every turned frame has them.
    numbers = [max((len(v) for m in result.turned.values() for v in m.values()), default=0) for result in results]
    frames, clips = sum(numbers), np.count_nonzero(numbers)
    if not frames:
        yield f"\nNo hold-out frame is turned by {FAR:.0f} degrees and more."
        return
    yield f"\n### Frames turned by {FAR:.0f} degrees and more ({frames} frames of {clips} clips)\n"
    yield "By the angle between the head and that of the nearest source. Means over these frames, not over people.\n"
    yield from summary_table(results, turned, TURNED_METRICS, ())


def _clip_table(results: Sequence[Result]) -> Iterator[str]:
    """Feed-forward (warp) for each clip, the worst first."""
    results = [result for result in results if "feed-forward" in result.values]
    if not results:
        return
    shown = [metric for metric in METRICS if metric.name in results[0].values["feed-forward"]]
    names = ("perceptual", "ssim")
    ranking = next(metric for name in names for metric in shown if metric.name == name)
    yield f"\nClip by clip, feed-forward (warp), the worst {ranking.title} first:\n"
    ranked = sorted(results, key=lambda r: -ranking.cost(r.values["feed-forward"][ranking.name]))
    rows = [(link(r.clip, f"sheets/{flat(r.clip)}-T{r.shots}.png"), r.values) for r in ranked]
    yield from comparison_table(rows, shown)


# -------------------------------------------------------------------------------------------------------- command line


def main(
    clips: Annotated[
        Path, typer.Option(help="Folder of clips, searched through and through.", exists=True, file_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Folder for what is measured.", file_okay=False)],
    model: Annotated[str | None, typer.Option(help="Folder or org/name; else the bundled model.")] = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="T, the number of source frames; may be given again.", show_default="1")
    ] = None,
    fine_tune: Annotated[int, typer.Option(help="Steps of fine-tuning; 0 for feed-forward only.", min=0)] = 0,
    feature_net: Annotated[
        Path | None, typer.Option(help="Weights for the perceptual distance and for fine-tuning's content loss.")
    ] = None,
    identity_net: Annotated[Path | None, typer.Option(help="Weights of MobileFaceNet, for CSIM.")] = None,
    inception: Annotated[Path | None, typer.Option(help="The file inception-2015-12-05.pt, for FID.")] = None,
    frames: Annotated[
        int | None, typer.Option(help="Hold-out frames of a clip, at most.", min=2, show_default="32; field: all")
    ] = None,
    protocol: Annotated[
        Literal["paper", "field"],
        typer.Option(help="field: the first frame is the source, all others are targets (train/field.py)."),
    ] = "paper",
    portraits: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos: measure cross-reenactment, too, each photo driven by every clip.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    cross_frames: Annotated[
        int, typer.Option(help="Frames of a clip that drive a portrait, at most.", min=MIN_FRAMES)
    ] = 48,
    limit: Annotated[int | None, typer.Option(help="Stop after this many clips.", min=1)] = None,
    index: Annotated[
        Path | None, typer.Option(help="CSV with the columns file, identity, split: who is who.", exists=True)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only the clips that the index puts in this split.")] = None,
    seed: Annotated[int, typer.Option(help="Of fine-tuning and of the bootstrap.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Measure a model on people in clips."""
    chosen = tuple(dict.fromkeys(shots or [1]))
    if not all(1 <= number <= MAX_PHOTOS for number in chosen):
        raise typer.BadParameter(f"choose from 1 to {MAX_PHOTOS}", param_hint="--shots")
    options = Options(
        model=model,
        output=output,
        shots=chosen,
        fine_tune=fine_tune,
        feature_net=feature_net,
        identity_net=identity_net,
        inception=inception,
        frames=frames,
        protocol=protocol,
        portraits=portraits,
        cross_frames=cross_frames,
        seed=seed,
    )
    with mistakes_in_one_line():
        jobs = [job for job in find_jobs(clips, index, leave_out=output) if job.is_video]
        jobs = [job for job in jobs if split in (None, job.split)][:limit]
        if not jobs:
            raise UnreadableMediaError(f"There are no clips to evaluate in {clips}. Give a folder that holds some.")
        # What is wrong with them is known before anything is measured.
        people = None if portraits is None else find_portraits(tools(options)[0], portraits, leave_out=output)
        _measure_clips(jobs, options, workers)
        if people is not None:
            _measure_pairs(jobs, *people, options, workers)


def _measure_clips(jobs: Sequence[Job], options: Options, workers: int) -> None:
    (options.output / "sheets").mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    with contextlib.closing(_with_bar("evaluating", len(jobs), evaluate(jobs, options, workers))) as running:
        for outcome in running:
            outcomes.append(outcome)
            # After each, so that an interrupted run has some.
            write_results(outcomes, options, finished=len(outcomes) == len(jobs))
    dropped = _count_dropped(outcomes)
    report = options.output / ("field.md" if options.protocol == "field" else "results.md")
    typer.echo(f"{len(outcomes) - dropped} clips measured, {dropped} left out; see {report}.")


def _measure_pairs(
    jobs: Sequence[Job],
    portraits: Sequence[DrivenPortrait],
    left_out: Mapping[str, str],
    options: Options,
    workers: int,
) -> None:
    (options.output / "cross").mkdir(parents=True, exist_ok=True)
    names = file_names([job.source for job in jobs])
    drivers = [Driver(job.source, name, job.files[0]) for job, name in zip(jobs, names, strict=True)]
    driven: list[Driven] = []
    work = cross_reenact(drivers, portraits, options, workers)
    try:
        with contextlib.closing(_with_bar("driving portraits", len(drivers), work)) as running:
            for one in running:
                driven.append(one)
                write_cross(driven, portraits, left_out, described(options), options.output, options.seed)
    finally:  # a sheet shows all clips: drawn once, of an interrupted run as well
        save_sheets(driven, portraits, options.output)
    dropped = _count_dropped(driven)
    typer.echo(
        f"{len(portraits)} portraits driven by {len(driven) - dropped} clips, {len(left_out)} portraits and "
        f"{dropped} clips left out; see {options.output / 'cross.md'}."
    )


def _with_bar(what: str, total: int, running: Generator[Done]) -> Generator[Done]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("clips,"), TimeRemainingColumn())
    with Progress(*columns) as progress, contextlib.closing(running):
        bar = progress.add_task("", total=total)
        for outcome in running:
            yield outcome
            progress.advance(bar)


def _count_dropped(outcomes: Sequence[Outcome] | Sequence[Driven]) -> int:
    """Raises NoFaceError if that is all of them."""
    if all(outcome.dropped for outcome in outcomes):
        raise NoFaceError(f"None of the clips can be used. {outcomes[0].clip}: {outcomes[0].dropped}")
    return sum(bool(outcome.dropped) for outcome in outcomes)


if __name__ == "__main__":
    typer.run(main)
