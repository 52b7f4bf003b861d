"""``talking-heads benchmark --networks``: the networks alone, as fast as a device computes them.

Nothing here needs a detector or a film. Frames are of the model's size, in batches of 1 and 16, in the precision that
the pipeline would choose; the share of the matrix product is that of the fastest product of large square matrices that
was measured just before, in the same precision.

Run and tested on CPUs alone so far: CUDA graphs, and with them the column of milliseconds that they give, have not been
tried on a card. Where a graph cannot be captured, the row says why in its place.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .pipeline import TalkingHeadPipeline
    from .result import ProgressCallback

BATCHES = (1, 16)
MATRIX = {"cuda": 8192, "cpu": 1024}
"""Side of the square matrices."""
ROUNDS = 5


def measure_networks(
    pipe: TalkingHeadPipeline, seconds: float = 1.0, on_progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """JSON values for the pipeline's device: a row for each network and batch; ``seconds`` is spent on each."""
    import torch

    from .engines import autocast

    show = on_progress or (lambda _stage, _done, _total: None)
    with autocast(pipe.device), torch.inference_mode():
        bf16 = torch.is_autocast_enabled(pipe.device.type)
    dtype = torch.bfloat16 if bf16 else torch.float32
    show("matrix product", 0, 1)
    ceiling = _matrix_tflops(pipe.device, dtype, seconds)
    show("matrix product", 1, 1)
    measured: dict[str, Any] = {
        "precision": "bf16" if bf16 else "fp32",
        "matrix_product": {"side": _side(pipe.device), "tflops": _rounded(ceiling)},
    }
    for name, make in (("generator", _generator_work), ("embedder", _embedder_work)):
        for batch in BATCHES:
            row = f"{name}_batch_{batch}"
            show(row.replace("_", " "), 0, 1)
            measured[row] = _row(make(pipe, batch), pipe.device, dtype, batch, ceiling, seconds)
            show(row.replace("_", " "), 1, 1)
    return measured


def _generator_work(pipe: TalkingHeadPipeline, batch: int) -> Callable[[], Tensor]:
    import torch

    from .models.generator import RENDER_CHANNELS

    side, generator = pipe.image_size, pipe.generator
    lines = torch.zeros(batch, 3, side, side, device=pipe.device)
    style = generator.projection(torch.zeros(1, generator.config.embedding_dim, device=pipe.device))[0].detach()
    render = None
    if generator.config.render_conditioned:
        render = torch.zeros(batch, RENDER_CHANNELS, side, side, device=pipe.device)
    return lambda: generator(lines, style=style, render=render)


def _embedder_work(pipe: TalkingHeadPipeline, batch: int) -> Callable[[], Tensor]:
    import torch

    shots = torch.zeros(batch, 1, 3, pipe.image_size, pipe.image_size, device=pipe.device)
    return lambda: pipe.embedder(shots, shots)


def _row(
    work: Callable[[], Tensor], device: torch.device, dtype: torch.dtype, batch: int, ceiling: float, seconds: float
) -> dict[str, Any]:
    """Time of one call for each frame of its batch, without and with a CUDA graph."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    half = dtype == torch.bfloat16
    # Without its cache, which would not outlive the block: a graph casts the weights each time it runs.
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
        with FlopCounterMode(display=False) as counter:
            work()
        tflop = counter.get_total_flops() / batch / 1e12
        best = _seconds_a_call(work, device, seconds) / batch
        row: dict[str, Any] = {"milliseconds_a_frame": _rounded(1000 * best)}
        if device.type == "cuda":
            try:
                best = _seconds_a_call(_graph(work), device, seconds) / batch
                row["milliseconds_a_frame_with_a_graph"] = _rounded(1000 * best)
            except RuntimeError as error:
                row["no_graph"] = str(error).partition("\n")[0]
    return row | {
        "gflop_a_frame": _rounded(1000 * tflop),
        "tflops": _rounded(tflop / best),
        "share_of_matrix_product": _rounded(tflop / best / ceiling),
    }


def _graph(work: Callable[[], Tensor]) -> Callable[[], None]:
    """``work`` captured: its kernels start as one. RuntimeError where it does what cannot be captured."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels, and take their memory, before the capture
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


def _side(device: torch.device) -> int:
    return MATRIX.get(device.type, MATRIX["cpu"])


def _matrix_tflops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """TFLOPS of products of random matrices: with zeros a card draws less power and is faster."""
    import torch

    side = _side(device)
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    with torch.inference_mode():
        return 2 * side**3 / _seconds_a_call(lambda: a @ b, device, seconds) / 1e12


def _seconds_a_call(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median of some rounds of calls; the device is waited for once a round, so that calls queue up as in use."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def clock(calls: int) -> float:
        wait()
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        return (time.perf_counter() - begin) / calls

    clock(1)
    calls = max(1, int(seconds / ROUNDS / max(clock(1), 1e-6)))
    return statistics.median(clock(calls) for _ in range(ROUNDS))


def _rounded(value: float) -> float:
    """Three digits: there are no more in a measured time."""
    return float(f"{value:.3g}")
