"""Plots of the benchmark's measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

DOTS_PER_INCH = 150
BLUE, PALE, GREY = "#2f6db5", "#b9d0ea", "#555555"


def plot_speed(measured: dict[str, Any]) -> np.ndarray:
    """Milliseconds a frame of each part, and frames a second by the length of the clip: uint8 RGB (H, W, 3).

    ``measured`` is the result of ``benchmark.measure`` with ``lengths``. The pale bars of the generator are other ways
    to compute it than the one that this machine takes for a clip; precisions that it does not use are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # without pyplot, which would look for a screen

    figure = Figure(figsize=(11, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    parts, lengths = figure.subplots(1, 2, width_ratios=(5, 4))
    machine = measured["machine"]
    where = [machine["processor"], f"{machine['threads']} threads"]
    if machine["device"] != "cpu":
        where.append(machine["device"])
    figure.suptitle(", ".join(where), fontsize=11)
    # Without instructions for it, bf16 takes so long that beside it nothing else could be seen.
    unused = {"fp32", "bf16"} - {measured["model"]["precision"]}
    times = {name: time for name, time in measured["milliseconds_a_frame"].items() if not unused & {*name.split("_")}}
    _draw_parts(parts, times, _generation(measured))
    _draw_lengths(lengths, measured["frames_per_second_by_seconds"])
    for axes in (parts, lengths):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _generation(measured: dict[str, Any]) -> str:
    """Name of the part that computes the generator in the clips from end to end."""
    engines = {values["engine"] for name, values in measured.items() if name.startswith("end_to_end")}
    if "openvino" in engines:
        return "generation_openvino"
    return f"generation_{measured['model']['precision']}_batch_4"


def _draw_parts(axes: Any, times: dict[str, float], generation: str) -> None:
    colours = [PALE if name.startswith("generation") and name != generation else BLUE for name in times]
    names = [
        name.replace("generation_", "generator, ").replace("_batch_", ", batch ").replace("_", " ") for name in times
    ]
    bars = axes.barh(names, list(times.values()), color=colours)
    axes.bar_label(bars, [f"{time:.1f}" for time in times.values()], padding=3, fontsize=9, color=GREY)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds a frame")
    axes.text(
        1, 0.02, "pale: other ways to run the generator", transform=axes.transAxes, ha="right", fontsize=8, color=GREY
    )
    axes.set_title("Parts, in the order in which a frame passes them", fontsize=10, loc="left")


def _draw_lengths(axes: Any, rates: dict[str, dict[str, float]]) -> None:
    for (way, by_length), colour in zip(rates.items(), (PALE, BLUE), strict=True):
        seconds = [float(length) for length in by_length]
        axes.plot(seconds, list(by_length.values()), "o-", color=colour, label=way.replace("_", " "))
        above = way == "stream"
        for length, rate in zip(seconds, by_length.values(), strict=True):
            axes.annotate(
                f"{rate:.1f}", (length, rate), (0, 8 if above else -16), textcoords="offset points", ha="center",
                fontsize=9, color=BLUE if above else GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(seconds, list(by_length))
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.2 * max(max(by_length.values()) for by_length in rates.values()))
    axes.margins(x=0.08)
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    axes.set_xlabel("seconds of the clip")
    axes.set_ylabel("frames a second")
    axes.set_title("From a photo and a clip to the video", fontsize=10, loc="left")
