"""The paper's protocol on any folder of clips: self-reenactment of people whom the model has never seen.

    python -m train.evaluate --model MODEL --clips FOLDER --output FOLDER [--shots 1 --shots 8] [--fine-tune STEPS]

Of each clip's frames with a face, the T source frames are spread over the first half, beginning with the first frame,
and the hold-out frames over the second half: they are the same for every T. All share the clip's one crop. An avatar is
made of the sources and painted with the landmarks of each hold-out frame as they are (absolute motion), which is then
compared with that frame. Two baselines need no network: ``still`` is the first source, ``warp`` the source that the
pipeline would choose, warped to the landmarks. The row ``truth`` puts the true frames in the painted ones' place: its
CSIM is what a person reaches among real frames. Jitter is that of the 16 consecutive frames of the second half in which
the face moves least, over that of the same frames as they were filmed.

Writes ``results.json``, ``results.md`` and ``sheets/``: one picture for each clip and T.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.errors import NoFaceError, UnreadableMediaError
from talking_heads.faces import crop_around
from talking_heads.images import to_uint8
from talking_heads.motion import choose_shots
from talking_heads.pipeline import MAX_PHOTOS, warp_shots
from talking_heads.video import contact_sheet, read_frames, save_image
from talking_heads.warping import landmarks_to_tensor

from .features import load_feature_net
from .finetune import fine_tune_avatar
from .metrics import Judge, confidence_interval, jitter, load_identity_net, mean
from .prepare import Job, find_jobs
from .terminal import mistakes_in_one_line

Painter = Callable[[np.ndarray], np.ndarray]
"""Landmarks of consecutive frames (T, 77, 2) -> uint8 RGB (T, H, H, 3)."""

MIN_FRAMES = 8
RUN = 16
"""Consecutive frames in which jitter is measured."""
SHEET_ROWS = 6
CONTESTS = (("feed-forward", "warp"), ("feed-forward", "still"), ("fine-tuned", "feed-forward"))
"""Pairs of methods for which the clips are counted on which the first is better."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, and which of two values is the better one."""

    name: str
    title: str
    digits: int
    better: Literal["higher", "lower", "nearer to 1"]

    def cost(self, value: float) -> float:
        """Lower is better."""
        if self.better == "nearer to 1":
            return abs(math.log(max(value, 1e-6)))
        return -value if self.better == "higher" else value


METRICS = (
    Metric("ssim", "SSIM", 3, "higher"),
    Metric("psnr", "PSNR, dB", 2, "higher"),
    Metric("perceptual", "perceptual distance", 4, "lower"),
    Metric("csim", "CSIM to other real frames", 3, "higher"),
    Metric("csim_share", "CSIM over that of real frames", 3, "higher"),
    Metric("landmarks", "landmark error / eye distance", 4, "lower"),
    Metric("mouth", "- mouth", 4, "lower"),
    Metric("eyes", "- eyes", 4, "lower"),
    Metric("irises", "- irises", 4, "lower"),
    Metric("pose", "head pose error, degrees", 2, "lower"),
    Metric("sharpness", "sharpness over truth", 3, "nearer to 1"),
    Metric("jitter", "jitter over the driver's", 2, "lower"),
    Metric("faces", "share of frames with a face found", 3, "higher"),
)


@dataclass(frozen=True)
class Options:
    """What is measured, and how."""

    model: str | None
    output: Path
    shots: tuple[int, ...] = (1,)
    fine_tune: int = 0
    feature_net: Path | None = None
    identity_net: Path | None = None
    frames: int = 32
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


@dataclass(frozen=True)
class Outcome:
    """What became of a clip: ``dropped`` is a reason, or empty."""

    clip: str
    results: tuple[Result, ...]
    dropped: str = ""


# ------------------------------------------------------------------------------------------------------------ one clip


@dataclass(frozen=True)
class Crops:
    """The frames of a clip that matter, as the model sees them."""

    frames: dict[int, np.ndarray]
    landmarks: np.ndarray
    """Of all the clip's frames, smoothed, in pixels of the crop, float32 (T, 77, 2)."""
    sources: dict[int, np.ndarray]
    """For each T, which frames are sources; then the frames held out, and a run of them for jitter (or none)."""
    held_out: np.ndarray
    run: np.ndarray

    def take(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (K, H, H, 3) and their landmarks (K, 77, 2)."""
        return np.stack([self.frames[int(k)] for k in chosen]), self.landmarks[chosen]


def split_frames(usable: np.ndarray, shots: Sequence[int], held_out: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Numbers of usable frames -> the sources for each T, out of the first half, and the hold-out frames."""
    middle = len(usable) // 2
    sources = {}
    for number in shots:
        used = min(number, middle)
        sources[number] = usable[np.arange(used) * middle // used]  # never the last before the middle, unless all are
    places = np.linspace(middle, len(usable) - 1, min(held_out, len(usable) - middle))
    return sources, usable[places.round().astype(int)]


def stillest_run(landmarks: np.ndarray, usable: np.ndarray, length: int = RUN) -> np.ndarray:
    """The ``length`` consecutive numbers among ``usable`` in which the face (T, 77, 2) moves least; maybe none."""
    windows = [usable[k : k + length] for k in range(len(usable) - length + 1)]
    windows = [window for window in windows if window[-1] - window[0] == length - 1]
    if not windows:
        return usable[:0]
    return min(windows, key=lambda window: float(np.abs(np.diff(landmarks[window], axis=0)).mean()))


def read_crops(pipe: TalkingHeadPipeline, clip: Path, shots: Sequence[int], held_out: int) -> Crops:
    """Two passes over the file, so that it is never in memory. Raises UnreadableMediaError and NoFaceError."""
    track = pipe.track(clip)
    usable = np.flatnonzero(track.seen)
    if len(usable) < MIN_FRAMES:
        raise NoFaceError(f"A face is seen in {len(usable)} frames only; {MIN_FRAMES} are needed.")
    crop = crop_around(track.landmarks[usable], track.frame_size)
    landmarks = crop.to_crop(track.landmarks, pipe.image_size)
    sources, held = split_frames(usable, shots, held_out)
    run = stillest_run(landmarks, usable[len(usable) // 2 :])
    wanted = set(np.concatenate([held, run, *sources.values()]).tolist())
    pictures = enumerate(read_frames(clip, fps=track.fps))
    frames = {k: crop.cut(picture, pipe.image_size) for k, picture in pictures if k in wanted}
    return Crops(frames, landmarks, sources, held, run)


def painters(pipe: TalkingHeadPipeline, avatar: Avatar, tuned: Avatar | None) -> dict[str, Painter]:
    """The methods that are compared, by name, without the truth."""

    def still(landmarks: np.ndarray) -> np.ndarray:
        return np.repeat(avatar.photo_images[:1], len(landmarks), axis=0)

    def warp(landmarks: np.ndarray) -> np.ndarray:
        weights = choose_shots(landmarks, avatar.landmarks.cpu().numpy())
        targets = landmarks_to_tensor(landmarks).to(avatar.shots.device)
        with torch.inference_mode():
            return to_uint8(warp_shots(avatar.shots, avatar.landmarks, targets, weights)[0])

    def painted_by(person: Avatar) -> Painter:
        return lambda landmarks: np.stack(list(pipe.paint(person, landmarks)))

    methods = {"still": still, "warp": warp, "feed-forward": painted_by(avatar)}
    return methods if tuned is None else methods | {"fine-tuned": painted_by(tuned)}


def evaluate_clip(pipe: TalkingHeadPipeline, judge: Judge, job: Job, options: Options) -> Iterator[Result]:
    """One clip at every T; saves its contact sheets. Raises what ``read_crops`` and ``fine_tune_avatar`` raise."""
    crops = read_crops(pipe, job.files[0], options.shots, options.frames)
    true_frames, targets = crops.take(crops.held_out)
    truth = judge.look(true_frames)
    own = jitter(judge.detect(crops.take(crops.run)[0])) if len(crops.run) else math.nan
    real = _clip_values(judge.compare(truth, truth), own, own)
    for shots, sources in crops.sources.items():
        avatar = pipe.avatar_from_shots(*crops.take(sources))
        tuned = None
        if options.fine_tune:
            tuned = fine_tune_avatar(
                pipe, avatar, options.fine_tune, feature_net=options.feature_net, seed=options.seed
            )  # fmt: skip
        columns, values = {"source": np.repeat(avatar.photo_images[:1], len(targets), 0), "truth": true_frames}, {}
        for name, paint in painters(pipe, avatar, tuned).items():
            # One by one: hold-out frames are far apart, and a cross-fade from one to the next would be wrong.
            frames = np.concatenate([paint(targets[k : k + 1]) for k in range(len(targets))])
            trembling = jitter(judge.detect(paint(crops.landmarks[crops.run]))) if len(crops.run) else math.nan
            values[name] = _clip_values(judge.compare(judge.look(frames), truth), trembling, own)
            columns[name] = frames
        if "csim" in real:
            for measured in values.values():
                measured["csim_share"] = measured["csim"] / real["csim"]
        _save_sheet(columns, options.output / "sheets" / f"{_flat(job.source)}-T{shots}.png")
        yield Result(job.source, job.identity, shots, len(sources), len(targets), values | {"truth": real})


def _clip_values(metrics: Mapping[str, np.ndarray], trembling: float, own: float) -> dict[str, float]:
    ratio = trembling / own if own else math.nan
    return {name: mean(values) for name, values in metrics.items()} | {"jitter": ratio}


def _save_sheet(columns: Mapping[str, np.ndarray], path: Path) -> None:
    shown = {name: frames for name, frames in columns.items() if name != "still"}  # it is the source
    first = next(iter(shown.values()))
    rows = np.linspace(0, len(first) - 1, min(SHEET_ROWS, len(first))).round().astype(int)
    sheet = contact_sheet([[frames[k] for frames in shown.values()] for k in rows], list(shown), first.shape[1])
    save_image(sheet, path)


def _flat(source: str) -> str:
    return source.replace("/", "__")


# ----------------------------------------------------------------------------------------------------------- all clips


@cache  # one of each a process
def _tools(model: str | None, feature_net: Path | None, identity_net: Path | None) -> tuple[TalkingHeadPipeline, Judge]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = TalkingHeadPipeline.from_pretrained(model).to(device)
    features = None if feature_net is None else load_feature_net(feature_net)
    identity = None if identity_net is None else load_identity_net(identity_net)
    return pipe, Judge(pipe.detector, features, identity, device)


def _run(job: Job, options: Options) -> Outcome:
    pipe, judge = _tools(options.model, options.feature_net, options.identity_net)
    try:
        return Outcome(job.source, tuple(evaluate_clip(pipe, judge, job, options)))
    except (NoFaceError, UnreadableMediaError) as error:
        return Outcome(job.source, (), str(error))


def evaluate(jobs: Sequence[Job], options: Options, workers: int = 1) -> Generator[Outcome]:
    """Measures the clips, in ``workers`` processes; yields each outcome as it comes.

    Raises InvalidModelError for the model and the networks, OutputError for the sheets.
    """
    _tools(options.model, options.feature_net, options.identity_net)  # what is wrong with them is known at once
    if workers == 1:
        for job in jobs:
            yield _run(job, options)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_run, job, options) for job in jobs]
        for task in as_completed(tasks):
            yield task.result()


# ------------------------------------------------------------------------------------------------------------- summary


def summarise(results: Sequence[Result], seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """Results at one T -> for each method and metric: mean, 95 % interval and number of people.

    A person with several clips counts once, with their mean.
    """
    people: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for result in results:
        for method, values in result.values.items():
            for metric, value in values.items():
                if math.isfinite(value):
                    people[method][metric][result.identity].append(value)
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for method, metrics in people.items():
        summary[method] = {}
        for metric, persons in metrics.items():
            means = [float(np.mean(values)) for values in persons.values()]
            low, high = confidence_interval(means, seed)
            summary[method][metric] = {"mean": float(np.mean(means)), "low": low, "high": high, "people": len(means)}
    return summary


def wins(results: Sequence[Result], method: str, rival: str, metric: Metric) -> tuple[int, int]:
    """On how many clips ``method`` is better than ``rival``, out of those on which both have a value."""
    pairs = [(r.values.get(method, {}).get(metric.name), r.values.get(rival, {}).get(metric.name)) for r in results]
    known = [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]
    return sum(metric.cost(a) < metric.cost(b) for a, b in known), len(known)


def notes(options: Options) -> list[str]:
    """What the tables leave out, and why."""
    sentences = []
    if options.feature_net is None:
        sentences.append("No perceptual distance: --feature-net was not given.")
    if options.identity_net is None:
        sentences.append("No CSIM: --identity-net was not given.")
    if not options.fine_tune:
        sentences.append("No fine-tuned avatars: --fine-tune was not given.")
    return sentences


def write_results(outcomes: Sequence[Outcome], options: Options) -> None:
    """``results.json`` and ``results.md`` of what has been measured so far."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.clip)
    results = [result for outcome in outcomes for result in outcome.results]
    at = {shots: [result for result in results if result.shots == shots] for shots in options.shots}
    report = {
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()},
        "notes": notes(options),
        "summary": {shots: summarise(some, options.seed) for shots, some in at.items()},
        "wins": {
            shots: {
                f"{method} against {rival}": {m.name: wins(some, method, rival, m) for m in METRICS}
                for method, rival in CONTESTS
            }
            for shots, some in at.items()
        },
        "clips": [_without_nan(asdict(result)) for result in results],
        "dropped": {outcome.clip: outcome.dropped for outcome in outcomes if outcome.dropped},
    }
    _write(options.output / "results.json", json.dumps(report, indent=1, allow_nan=False))
    _write(options.output / "results.md", "\n".join(_markdown(at, report)))


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(at: Mapping[int, Sequence[Result]], report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Self-reenactment with {report['options']['model'] or 'the bundled model'}\n"
    yield (
        "Sources from the first half of each clip, hold-out frames from the second half, absolute landmarks, one crop "
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
            yield from _summary_table(results, report["summary"][shots])
            yield from _clip_table(results)
    if report["dropped"]:
        yield "\n## Left out\n"
        for clip, reason in report["dropped"].items():
            yield f"* {clip}: {reason}"
    yield ""


def _summary_table(results: Sequence[Result], summary: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    contests = [(method, rival) for method, rival in CONTESTS if method in summary and rival in summary]
    yield _row(["", *summary, *(f"{method} beats {rival} on" for method, rival in contests)])
    yield _row(["---"] * (1 + len(summary) + len(contests)))
    for metric in METRICS:
        if not any(metric.name in values for values in summary.values()):
            continue
        cells = [_interval(metric, values.get(metric.name)) for values in summary.values()]
        counts = ["{} of {}".format(*wins(results, method, rival, metric)) for method, rival in contests]
        yield _row([f"{metric.title} ({metric.better})", *cells, *counts])


def _clip_table(results: Sequence[Result]) -> Iterator[str]:
    """Feed-forward (warp) for each clip, the worst first."""
    shown = [metric for metric in METRICS if metric.name in results[0].values["feed-forward"]]
    names = ("perceptual", "ssim")
    ranking = next(metric for name in names for metric in shown if metric.name == name)
    yield f"\nClip by clip, feed-forward (warp), the worst {ranking.title} first:\n"
    yield _row(["", *(metric.title.removeprefix("- ") for metric in shown)])
    yield _row(["---"] * (1 + len(shown)))
    for result in sorted(results, key=lambda r: -ranking.cost(r.values["feed-forward"][ranking.name])):
        ours, warped = result.values["feed-forward"], result.values["warp"]
        cells = [f"{ours[m.name]:.{m.digits}f} ({warped[m.name]:.{m.digits}f})" for m in shown]
        yield _row([f"[{result.clip}](sheets/{_flat(result.clip)}-T{result.shots}.png)", *cells])


def _interval(metric: Metric, value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    numbers = (f"{value[key]:.{metric.digits}f}" for key in ("mean", "low", "high"))
    return "{} [{}, {}]".format(*numbers)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# -------------------------------------------------------------------------------------------------------- command line


def main(
    clips: Annotated[
        Path, typer.Option(help="Folder of clips, searched through and through.", exists=True, file_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Folder for results.json, results.md and sheets/.", file_okay=False)],
    model: Annotated[str | None, typer.Option(help="Folder or org/name; else the bundled model.")] = None,
    shots: Annotated[
        list[int] | None, typer.Option(help="T, the number of source frames; may be given again.", show_default="1")
    ] = None,
    fine_tune: Annotated[int, typer.Option(help="Steps of fine-tuning; 0 for feed-forward only.", min=0)] = 0,
    feature_net: Annotated[
        Path | None, typer.Option(help="Weights for the perceptual distance and for fine-tuning's content loss.")
    ] = None,
    identity_net: Annotated[Path | None, typer.Option(help="Weights of MobileFaceNet, for CSIM.")] = None,
    frames: Annotated[int, typer.Option(help="Hold-out frames of a clip, at most.", min=2)] = 32,
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
    options = Options(model, output, chosen, fine_tune, feature_net, identity_net, frames, seed)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("clips,"), TimeRemainingColumn())
    outcomes: list[Outcome] = []
    with mistakes_in_one_line():
        jobs = [job for job in find_jobs(clips, index, leave_out=output) if job.is_video]
        jobs = [job for job in jobs if split in (None, job.split)][:limit]
        if not jobs:
            raise UnreadableMediaError(f"There are no clips to evaluate in {clips}. Give a folder that holds some.")
        (output / "sheets").mkdir(parents=True, exist_ok=True)
        with Progress(*columns) as progress:
            bar = progress.add_task("", total=len(jobs))
            with contextlib.closing(evaluate(jobs, options, workers)) as running:
                for outcome in running:
                    outcomes.append(outcome)
                    write_results(outcomes, options)  # after each, so that an interrupted run has some
                    progress.advance(bar)
        if all(outcome.dropped for outcome in outcomes):
            raise NoFaceError(f"None of the clips can be used. {outcomes[0].clip}: {outcomes[0].dropped}")
    dropped = sum(bool(outcome.dropped) for outcome in outcomes)
    typer.echo(f"{len(outcomes) - dropped} clips measured, {dropped} left out; see {output / 'results.md'}.")


if __name__ == "__main__":
    typer.run(main)
