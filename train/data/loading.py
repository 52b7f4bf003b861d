"""From episodes to the batches of a device: their order, the processes that make them, how they travel, and reuse.

Processes render while the device trains. Each has one thread, and makes all batches that share their heads at once.
Pictures travel in 8 bit, renders and weights in 16: a third of the bytes; the device makes floats of them again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing import Event
from typing import Any, TypeVar, cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from talking_heads.head.render import draw_in_one_thread

from .episodes import Episode, EpisodeDataset

PICTURES = ("shots", "shot_landmarks", "image", "landmark_image")
"""Images of an episode, which were made from uint8 and are sent as uint8 without loss."""
HALVES = ("render", "weights")
REUSED_FROM = 64
"""Reused samples are drawn from so many of the last batches."""

Item = TypeVar("Item")


def order(first: int, number: int, targets: int, lanes: int) -> Iterator[int]:
    """Indices of episodes in which ``targets`` consecutive ones share a head, from the place ``first`` on: so that each
    of ``lanes`` neighbours is of another group, and a group's episodes come ``lanes`` places apart.

    ``lanes`` is what a step sees, so that the order does not depend on processes and workers.
    """
    block = lanes * targets
    for place in range(first, first + number):
        start, rest = place - place % block, place % block
        yield start + rest % lanes * targets + rest // lanes


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items; the last one may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


class Batches(Dataset[list[dict[str, Tensor]]]):
    """Lists of compact batches, by lists of lists of indices: what a process of a loader makes at once."""

    def __init__(self, data: EpisodeDataset) -> None:
        self.data = data
        self._ended = Event()

    def end(self) -> None:
        """Stops the processes within an episode, not after the many of a list."""
        self._ended.set()

    @threadpool_limits.wrap(limits=1)  # sums of several threads differ in their last digits: workers have one
    def __getitem__(self, block: list[list[int]]) -> list[dict[str, Tensor]]:
        batches = []
        for batch in block:
            episodes = []
            for index in batch:
                if self._ended.is_set():
                    return []
                episodes.append(compact(self.data[index]))
            batches.append(default_collate(episodes))
        return batches


def compact(episode: Episode) -> dict[str, Tensor]:
    """The episode as processes send it: pictures uint8, render and weights float16."""
    values: dict[str, Any] = dict(episode)
    for name in PICTURES:
        values[name] = values[name].add(1.0).mul_(127.5).round_().to(torch.uint8)
    for name in HALVES:
        values[name] = values[name].half()
    return values


def expanded(batch: dict[str, Tensor]) -> Episode:
    """A compact batch as networks take it; pictures are what they were, bit for bit."""
    values = dict(batch)
    for name in PICTURES:
        values[name] = values[name].float().div_(127.5).sub_(1.0)
    for name in HALVES:
        values[name] = values[name].float()
    return cast(Episode, values)


def reused(batches: Iterable[dict[str, Tensor]], times: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Each batch, followed by ``times - 1`` of samples drawn from the last REUSED_FROM batches, which stay in memory.

    For a device that trains faster than processes render: every sample is seen ``times`` times on average, at random
    moments, and among other neighbours.
    """
    generator = torch.Generator().manual_seed(seed)
    kept: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        yield batch
        if times == 1:
            continue
        size = len(batch["identity"])
        kept = kept or {name: value.new_empty(REUSED_FROM * size, *value.shape[1:]) for name, value in batch.items()}
        place = number % REUSED_FROM * size
        for name, value in batch.items():
            kept[name][place : place + size].copy_(value)
        there = min(number + 1, REUSED_FROM) * size
        for _ in range(times - 1):
            chosen = torch.randint(there, (size,), generator=generator).to(batch["identity"].device, non_blocking=True)
            yield {name: value[chosen] for name, value in kept.items()}


def begin_worker(_worker: int) -> None:
    """For each process of a loader. One thread: there are as many processes as cores.

    Ctrl-C and many schedulers stop all processes of a group: a loader's must go on until the run has saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    threadpool_limits(1)
    draw_in_one_thread()
