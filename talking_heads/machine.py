"""The machine that computes: what it is, how fast it is at fixed work, and how much memory was needed."""

from __future__ import annotations

import contextlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def machine(device: Any) -> dict[str, Any]:
    """Facts on the machine and the versions of what computes; ``device`` is a torch.device."""
    import torch

    from .engines import fast_bf16

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
    """Name of the processor; Python's own answer is empty on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def calibrate(device: Any, budget: float) -> dict[str, float]:
    """Milliseconds of a matrix product and a convolution of fixed size, by which numbers of two machines compare."""
    import torch

    matrix = torch.ones(1024, 1024, device=device)
    image = torch.ones(1, 128, 64, 64, device=device)
    kernel = torch.ones(128, 128, 3, 3, device=device)
    with torch.inference_mode():
        return {
            "matrix_1024_ms": milliseconds(lambda: matrix @ matrix, budget),
            "convolution_3x3_128_64_ms": milliseconds(lambda: torch.conv2d(image, kernel, padding=1), budget),
        }


def milliseconds(work: Callable[[], object], budget: float) -> float:
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
    if sys.platform == "linux":  # where getrusage begins with the peak of the process that started this one
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("VmHWM:"):
                    return round(1024 * int(line.split()[1]) / 1e6, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else 1024 * peak / 1e6, 1)
