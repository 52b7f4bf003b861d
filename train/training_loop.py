"""The loop of meta-learning: steps, the clock that all processes share, the log, pictures, saving and stopping."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import default_collate

from talking_heads.hub import TRAINING_FORMAT
from talking_heads.machine import processor_name
from talking_heads.media.composing import contact_sheet
from talking_heads.media.images import save_image, to_uint8

from . import losses
from .checkpoints import save_checkpoint, write_json
from .config import MetaConfig
from .data.episodes import Episode
from .data.loading import grouped
from .export import save_model
from .trainer import Trainer, as_numbers

SPARE = 1.2
"""Time reserved for the last checkpoint and pictures, as a multiple of the longest before."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class LoopOptions:
    """How a run is made, and how often it says, saves and shows what it does.

    Attributes:
        workers: processes that make episodes.
        log_every: steps between lines of the log.
        save_every: steps between checkpoints, of a run without ``config.minutes``.
        save_minutes: minutes between checkpoints, of a run with them.
        sample_every: steps between pictures; None for the start and the end alone.
    """

    workers: int = 1
    log_every: int = 50
    save_every: int = 500
    save_minutes: float = 2.0
    sample_every: int | None = 500


def train(
    trainer: Trainer,
    validation: list[Episode],
    options: LoopOptions = LoopOptions(),
    *,
    started: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Trains until the steps or the minutes are over, or until a process is asked to stop.

    The log has the means of all processes, and which share of the time the first one waited for data. A run with
    ``config.minutes`` saves a checkpoint and the model at the start as well. ``started``: when, by ``clock``, the work
    began that counts; now, if None.
    """
    _Loop(trainer, validation, options, clock() if started is None else started, clock).run()


class _Loop:
    """One call of ``train``."""

    def __init__(
        self,
        trainer: Trainer,
        validation: list[Episode],
        options: LoopOptions,
        started: float,
        clock: Callable[[], float],
    ) -> None:
        self.trainer, self.validation, self.options = trainer, validation, options
        self.clock, self.started = clock, started
        self.main = trainer.accelerator.is_main_process
        self.earlier_seconds = trainer.progress.seconds
        self.pauses = {"sample": 0.0, "save": 0.0}
        self.stop = _StopRequest()

    def run(self) -> None:
        trainer, options = self.trainer, self.options
        accelerator, config, progress = trainer.accelerator, trainer.config, trainer.progress
        if self.main:
            _begin_folder(trainer)
        accelerator.init_trackers(trainer.output.resolve().name, _settings(config))  # none, unless asked for
        self.begin()
        first, begin, saved = progress.step, self.clock(), progress.seconds
        means, waiting = Means(accelerator), Waiting(self.clock)
        stopped = ended = False
        with _stop_on_signal(self.stop):
            with closing(trainer.batches(options.workers)) as episodes:
                for batches in waiting.on(grouped(episodes, config.accumulate)):
                    means.add(trainer.step(*batches))
                    stopped = self.read_clock()
                    ended = trainer.share_left() <= 0
                    if progress.step % options.log_every == 0 or stopped or ended:
                        terms = means.read()
                        if self.main:
                            rate = trainer.samples_per_step * (progress.step - first) / (self.clock() - begin)
                            self.log(rate, waiting.read(), terms)
                    if stopped or ended:
                        break
                    if self.save_is_due(saved):
                        self.save()
                        saved = progress.seconds
                    if self.main and options.sample_every is not None and progress.step % options.sample_every == 0:
                        self.sample()
            # Processes that load data have ended: all cores are free.
            self.end(stopped, ended)

    def begin(self) -> None:
        """Writes a picture before the first step, and with minutes a checkpoint, to measure how long they take."""
        trainer = self.trainer
        config, progress = trainer.config, trainer.progress
        if self.main and progress.step == 0:
            self.sample()
        self.read_clock()
        if config.minutes > 0 and progress.step == 0 and trainer.share_left() > 0:
            self.save()  # that it works is better known now than in the end
            self.read_clock()
        if config.minutes > 0 and trainer.share_left() <= 0:
            trainer.accelerator.print(
                f"No time was left for a step: it is {progress.seconds / 60:.1f} of {config.minutes:g} min, and "
                f"{trainer.pause / 60:.1f} min are kept for the end. Give more.",
                flush=True,
            )

    def end(self, stopped: bool, ended: bool) -> None:
        """A last checkpoint and, of a run that is done, a last picture."""
        trainer = self.trainer
        if stopped or ended:
            folder = self.save()
        if stopped:
            of = "" if trainer.config.minutes > 0 else f" of {trainer.config.steps}"
            text = f"Stopped after step {trainer.progress.step}{of}; {folder} is saved. The same command goes on."
            trainer.accelerator.print(text, flush=True)
        if self.main and ended:
            self.sample()

    def read_clock(self) -> bool:
        """What the clock says; whether a process has been asked to stop. All processes hear the same."""
        elapsed = self.earlier_seconds + self.clock() - self.started
        pause = SPARE * sum(self.pauses.values())
        trainer = self.trainer
        trainer.progress.seconds, trainer.pause, asked = agreed(trainer.accelerator, elapsed, pause, self.stop.made)
        return asked

    def save_is_due(self, saved: float) -> bool:
        """``saved``: seconds of the run at the last checkpoint."""
        progress = self.trainer.progress
        if self.trainer.config.minutes > 0:
            return progress.seconds - saved >= 60 * self.options.save_minutes
        return progress.step % self.options.save_every == 0

    def save(self) -> Path:
        """A checkpoint and the model."""
        trainer, now = self.trainer, self.clock()
        folder = save_checkpoint(trainer)
        if self.main:
            save_model(*trainer.averaged(), trainer.output / "model", training=training_facts(trainer))
        self.pauses["save"] = max(self.pauses["save"], self.clock() - now)
        return folder

    def sample(self) -> None:
        """Losses on the validation episodes and a picture of them, where there are some."""
        if not self.validation:
            return
        trainer, now = self.trainer, self.clock()
        measured, picture = validate(trainer, self.validation)
        (trainer.output / "samples").mkdir(exist_ok=True)
        save_image(picture, trainer.output / "samples" / f"step-{trainer.progress.step:07d}.png")
        rounded = {name: round(value, 4) for name, value in measured.items()}
        _log(trainer, {"step": trainer.progress.step, "validation": rounded})
        self.pauses["sample"] = max(self.pauses["sample"], self.clock() - now)

    def log(self, rate: float, waiting: float, terms: dict[str, float]) -> None:
        """``rate``: samples a second; ``waiting``: share of the time."""
        trainer, progress = self.trainer, self.trainer.progress
        line = {"step": progress.step, "samples": progress.samples, "samples_per_second": round(rate, 2)}
        _log(trainer, line | {"waiting": waiting} | terms)
        text = progress_line(trainer.config, progress.step, progress.seconds, rate, trainer.samples_per_step)
        trainer.accelerator.print(text, flush=True)


@torch.no_grad()
def validate(trainer: Trainer, episodes: list[Episode]) -> tuple[dict[str, float], np.ndarray]:
    """Losses of the averaged networks and of the bare render on fixed episodes, and a picture of the first eight."""
    device = trainer.accelerator.device
    embedder, generator = (net.to(device) for net in trainer.averaged()[:2])
    batch: Any = send_to_device(default_collate(episodes), device)
    conditioned = generator.config.render_conditioned
    parts = ({key: value[i : i + 8] for key, value in batch.items()} for i in range(0, len(episodes), 8))
    x_hat = torch.cat(
        [
            generator(
                part["landmark_image"],
                embedding=embedder(part["shots"], part["shot_landmarks"]).mean(dim=1),
                render=part["render"] if conditioned else None,
            )
            for part in parts
        ]
    )
    generated = {"": x_hat} | ({"_render": batch["render"][:, :3]} if conditioned else {})
    measured = {}
    for name, pictures in generated.items():
        measured[f"pixel{name}"] = float(losses.pixel(pictures, batch["image"], batch["weights"]))
        measured[f"content{name}"] = float(trainer.loss_nets.content(pictures, batch["image"]))
        if trainer.config.losses.identity > 0:
            measured[f"identity{name}"] = float(trainer.loss_nets.identity(pictures, batch["image"], batch["chip"]))
    columns = [batch["shots"][:, 0], batch["landmark_image"], batch["image"], *reversed(generated.values())]
    rows = [[to_uint8(column[i : i + 1])[0] for column in columns] for i in range(min(8, len(episodes)))]
    return measured, contact_sheet(
        rows, labels=["shot", "landmarks", "target", *(["render"] if conditioned else []), "painted"]
    )


def training_facts(trainer: Trainer) -> dict[str, Any]:
    """What the model's card says of how it came about, see ``talking_heads.cards.model_card``."""
    config, device = trainer.config, trainer.accelerator.device
    cuda = device.type == "cuda"
    one = torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads of {processor_name()}"
    return {
        "format_version": TRAINING_FORMAT,
        "steps": trainer.progress.step,
        "samples": trainer.progress.samples,
        "hours": trainer.progress.seconds / 3600,
        "hardware": f"{trainer.accelerator.num_processes} x {one}",
        "image_size": config.image_size,
        "num_shots": config.num_shots,
        "content": [Path(path).name for path in config.feature_net.split(",") if path],
        "identity": Path(config.identity_net).name if config.losses.identity > 0 else "",
        "start_from": trainer.start_from,
        "data": trainer.data.contents,
    }


def _begin_folder(trainer: Trainer) -> None:
    trainer.output.mkdir(parents=True, exist_ok=True)
    write_json(trainer.output / "config.json", asdict(trainer.config))
    networks = {"embedder": trainer.embedder, "generator": trainer.generator, "discriminator": trainer.discriminator}
    sizes = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in networks.items()}
    trainer.accelerator.print("parameters in millions:", json.dumps(sizes), f"people: {len(trainer.data.identities)}")


def _log(trainer: Trainer, line: dict[str, Any]) -> None:
    """Appends to log.jsonl, prints, and tells the tracker where there is one."""
    text = json.dumps(line)
    with (trainer.output / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    trainer.accelerator.print(text, flush=True)
    flat = {f"validation/{k}": v for k, v in line.get("validation", {}).items()}
    flat |= {k: v for k, v in line.items() if k not in ("step", "validation")}
    trainer.accelerator.log(flat, step=line["step"])


def _settings(config: MetaConfig) -> dict[str, Any]:
    """The configuration as trackers take it: names and plain values."""
    return {name: value if isinstance(value, (int, float, str)) else json.dumps(value)
            for name, value in asdict(config).items()}  # fmt: skip


@dataclass
class _StopRequest:
    made: bool = False


@contextmanager
def _stop_on_signal(request: _StopRequest) -> Iterator[None]:
    """Turns SIGTERM and Ctrl-C into a request that the loop fulfils after its step; a later Ctrl-C stops at once.

    Who asks often asks twice: schedulers and terminals tell every process, and torchrun tells its own again.
    """
    asked_at = time.monotonic()

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        if request.made and number == signal.SIGINT and time.monotonic() - asked_at > 1:
            raise KeyboardInterrupt
        request.made, asked_at = True, time.monotonic()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
