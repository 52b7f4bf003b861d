"""What the loop of a run needs beside its steps: means of losses, one clock for all processes, a line of progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from .config import MetaConfig
from .objective import as_numbers

Item = TypeVar("Item")


def agreed(accelerator: Accelerator, seconds: float, pause: float, asked: bool) -> tuple[float, float, bool]:
    """The first process's clock for all of them, and whether any of them has been asked to stop: so all have the same
    rates and stop at the same step."""
    if accelerator.num_processes == 1:  # without a question to the device, which would wait for its work
        return seconds, pause, asked
    mine = torch.tensor([[seconds, pause, float(asked)]], device=accelerator.device)
    everybody = accelerator.gather(mine).cpu()
    return float(everybody[0, 0]), float(everybody[0, 1]), bool(everybody[:, 2].any())


class Means:
    """Means of the terms since they were last read. They stay on the device until then."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.counts.update(terms.keys())

    def read(self) -> dict[str, float]:
        """Rounded numbers, of all processes together."""
        means = {name: self.accelerator.reduce(value / self.counts[name], "mean") for name, value in self.sums.items()}
        self.sums, self.counts = {}, Counter()
        return {name: round(value, 4) for name, value in as_numbers(means).items()}


class Waiting:
    """Which share of the time a loop waits for its data, since it was last asked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.begin, self.seconds = clock, clock(), 0.0

    def on(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items as they are."""
        rest, self.begin = iter(items), self.clock()
        while True:
            asked = self.clock()
            try:
                item = next(rest)
            except StopIteration:
                return
            self.seconds += self.clock() - asked
            yield item

    def read(self) -> float:
        """0 to 1, in hundredths."""
        now = self.clock()
        share = self.seconds / max(now - self.begin, 1e-9)
        self.begin, self.seconds = now, 0.0
        return round(share, 2)


def progress_line(config: MetaConfig, step: int, seconds: float, rate: float, samples_per_step: int) -> str:
    """What, how much, how long still; ``rate`` in samples a second."""
    left = samples_per_step * (config.steps - step) / rate / 60
    done = f"{step} of {config.steps} steps"
    if config.minutes > 0:
        left = min(left, config.minutes - seconds / 60)
        done = f"{seconds / 60:.1f} of {config.minutes:g} min, {step} steps"
    return f"training: {done}, {rate:.1f} samples a second, {max(left, 0):.{int(left < 10)}f} min left"
