"""The report of an evaluation: ``results.json`` and ``results.md``, with FID, turned heads and the clips one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from talking_heads.hub import BUNDLED_MODELS, TRAINING, read_json

from .fid import frechet_distance
from .field import markdown as field_markdown
from .metrics import mean
from .protocol import CONTESTS, FAR, FID, METRICS, TURNED_METRICS, Options, Outcome, Result
from .reenact import (
    flat,
)
from .report import (
    comparison_table,
    link,
    summarise,
    summary_table,
    wins,
    write_report,
)


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
    for method, lists in together.items():
        for metric, parts in lists.items():
            values = np.concatenate(parts)
            if known := int(np.isfinite(values).sum()):
                summary.setdefault(method, {})[metric] = {"mean": mean(values), "frames": known}
    return summary


def notes(options: Options, finished: bool) -> list[str]:
    """Notes on what the tables leave out, and why."""
    sentences = []
    if options.feature_net is None:
        sentences.append("No perceptual distance: --feature-net was not given.")
    sentences += identity_notes(options)
    if options.inception is None:
        sentences.append("No FID: --inception was not given.")
    elif not finished:
        sentences.append("No FID yet: it comes with the last clip.")
    if not options.fine_tune:
        sentences.append("No fine-tuned avatars: --fine-tune was not given.")
    return sentences


def identity_notes(options: Options) -> list[str]:
    """Notes on how identity was measured."""
    sentences = []
    if options.identity_net is None:
        sentences.append("No CSIM: --identity-net was not given.")
    if options.dlib_net is None:
        sentences.append("No dlib distance: --dlib-net was not given.")
    elif taught_by_dlib(options.model):
        sentences.append(
            "This model was trained with dlib's network as its identity loss: judge it by CSIM, too, not by its own "
            "teacher alone."
        )
    return sentences


def taught_by_dlib(model: str | None) -> bool:
    """Whether the model's training.json names an identity loss, whose network is always dlib's.

    False where it does not; a model of the Hub is not looked up. Raises InvalidModelError for a damaged training.json.
    """
    bundled = BUNDLED_MODELS.get(model or "default")
    folder = Path(model) if model is not None and Path(model).exists() else bundled
    training = None if folder is None else folder / TRAINING
    return training is not None and training.is_file() and bool(read_json(training).get("identity"))


def write_results(outcomes: Sequence[Outcome], options: Options, finished: bool = True) -> None:
    """``results.json`` and ``results.md`` of what has been measured so far; FID, which is slow, when ``finished``."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.clip)
    results = [result for outcome in outcomes for result in outcome.results]
    left_out = {outcome.clip: outcome.dropped for outcome in outcomes if outcome.dropped}
    if options.protocol == "field":
        sentences = identity_notes(options)
        report: dict[str, Any] = {
            "options": described(options),
            "notes": sentences,
            "summary": summarise(results, options.seed),
            "clips": [_record(result) for result in results],
            "dropped": left_out,
        }
        lines = field_markdown(results, options.model, sentences, left_out, options.seed)
        write_report(options.output, "field", report, lines)
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
    return {"identity" if name == "person" else name: value for name, value in record.items()}


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
            people = len({result.person for result in results})
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
    """A table of what ``means_of_turned`` found, by method."""
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
