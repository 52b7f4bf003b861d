"""From what was measured of many people to one table: means over people, intervals, and the files of a report."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

import numpy as np

from ..files import written_beside
from .metrics import mean


def confidence_interval(values: Sequence[float], seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values that are independent: one for each person, not for each frame."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(np.asarray(values)[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


# -------------------------------------------------------------------------------------------------- numbers for a table


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

    def text(self, value: float) -> str:
        """The value as text for a table."""
        return f"{value:.{self.digits}f}"


FACE_ERRORS = (
    Metric("landmarks", "landmark error / eye distance", 4, "lower"),
    Metric("mouth", "- mouth", 4, "lower"),
    Metric("eyes", "- eyes", 4, "lower"),
    Metric("irises", "- irises", 4, "lower"),
    Metric("pose", "head pose error, degrees", 2, "lower"),
    Metric("lids", "error of the eyes' opening (height over width)", 4, "lower"),
    Metric("mouth_open", "error of the mouth's opening (gap over width)", 4, "lower"),
)
JITTER = Metric("jitter", "jitter over the driver's", 2, "lower")
FACES = Metric("faces", "share of frames with a face found", 3, "higher")

Values = Mapping[str, Mapping[str, float]]
"""``values[method][metric]``, NaN where there is none."""


class Measured(Protocol):
    """Measured values of one person."""

    @property
    def person(self) -> str: ...

    @property
    def values(self) -> Values: ...


def means_by_person(results: Iterable[Measured]) -> dict[str, dict[str, dict[str, float]]]:
    """For each person ``values[method][metric]``: the mean over its results, NaN where there is none."""
    people: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for result in results:
        for method, values in result.values.items():
            for metric, value in values.items():
                people[result.person][method][metric].append(value)
    return {
        person: {
            method: {metric: mean(np.array(values)) for metric, values in metrics.items()}
            for method, metrics in methods.items()
        }
        for person, methods in people.items()
    }


def summarise(results: Iterable[Measured], seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """For each method and metric: mean, 95 % interval and number of people.

    A person with several results counts once, with their mean.
    """
    known: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for methods in means_by_person(results).values():
        for method, metrics in methods.items():
            for metric, value in metrics.items():
                if math.isfinite(value):
                    known[method][metric].append(value)
    return {
        method: {metric: _with_interval(means, seed) for metric, means in metrics.items()}
        for method, metrics in known.items()
    }


def _with_interval(means: Sequence[float], seed: int) -> dict[str, Any]:
    low, high = confidence_interval(means, seed)
    return {"mean": float(np.mean(means)), "low": low, "high": high, "people": len(means)}


def wins(results: Iterable[Measured], method: str, rival: str, metric: Metric) -> tuple[int, int]:
    """The number of results in which ``method`` is better than ``rival``, out of those on which both have a value."""
    pairs = [(r.values.get(method, {}).get(metric.name), r.values.get(rival, {}).get(metric.name)) for r in results]
    known = [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]
    return sum(metric.cost(a) < metric.cost(b) for a, b in known), len(known)


# ------------------------------------------------------------------------------------------------------------- reports


def write_report(folder: Path, name: str, report: Mapping[str, Any], lines: Iterable[str]) -> None:
    """``name``.json, with null for NaN, and ``name``.md, each whole or not at all."""
    _write(folder / f"{name}.json", json.dumps(_without_nan(report), indent=1, allow_nan=False))
    _write(folder / f"{name}.md", "\n".join(lines))


def _write(path: Path, text: str) -> None:
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_table(
    results: Sequence[Measured],
    summary: Mapping[str, Mapping[str, Any]],
    metrics: Iterable[Metric],
    contests: Sequence[tuple[str, str]],
) -> Iterator[str]:
    """Lines: a row for each metric with a value; a column for each method, and for each contest that took place."""
    contests = [(method, rival) for method, rival in contests if method in summary and rival in summary]
    yield table_row(["", *summary, *(f"{method} beats {rival} on" for method, rival in contests)])
    yield table_row(["---"] * (1 + len(summary) + len(contests)))
    for metric in metrics:
        if not any(metric.name in values for values in summary.values()):
            continue
        cells = [_summary_cell(metric, values.get(metric.name)) for values in summary.values()]
        counts = [wins(results, method, rival, metric) for method, rival in contests]
        words = [f"{won} of {known}" if known else "" for won, known in counts]
        yield table_row([f"{metric.title} ({metric.better})", *cells, *words])


def _summary_cell(metric: Metric, value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    if "low" not in value:
        return metric.text(value["value"] if "value" in value else value["mean"])
    return "{} [{}, {}]".format(*(metric.text(value[key]) for key in ("mean", "low", "high")))


def comparison_table(rows: Iterable[tuple[str, Values]], metrics: Sequence[Metric]) -> Iterator[str]:
    """Lines: for each label and its values, in their order, feed-forward (warp); what is missing is left out."""
    yield table_row(["", *(metric.title.removeprefix("- ") for metric in metrics)])
    yield table_row(["---"] * (1 + len(metrics)))
    for label, values in rows:
        yield table_row([label, *(_comparison_cell(metric, values) for metric in metrics)])


def _comparison_cell(metric: Metric, values: Values) -> str:
    ours, warped = (values.get(method, {}).get(metric.name) for method in ("feed-forward", "warp"))
    if ours is None:
        return ""
    return metric.text(ours) if warped is None else f"{metric.text(ours)} ({metric.text(warped)})"


def table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def link(text: str, path: str) -> str:
    """A link to a file whose path may hold blanks."""
    return f"[{text}]({quote(path)})"
