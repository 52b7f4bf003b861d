"""Meta-learning (section 3.2): embedder, generator and discriminator from episodes of many people.

    python -m train.meta --clips PREPARED [--clips MORE] --output RUN --preset default --feature-net squeezenet1_0.npz
    python -m train.meta --pack PACK --minutes 8 --output RUN     from one file (train.pack), until the clock says so
    torchrun --nproc_per_node 8 -m train.meta ...        on several devices, and machines; or accelerate launch

A run's folder: ``config.json``; ``log.jsonl``, a line every few steps; ``samples/``, pictures of people from the
validation split; ``step-NNNNNNN/``, checkpoints from which the same command goes on; ``model/``, what
``TalkingHeadPipeline.from_pretrained`` takes, and what ``--push`` sends to the Hub at the end. Stopping it (Ctrl-C,
SIGTERM) saves first; a run that is stopped and continued gives the weights of one that ran through, and other numbers
of processes can go on with it. Machines that train together need the folder in common.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Yielding
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator, PartialState
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, default_collate

from talking_heads import TalkingHeadPipeline
from talking_heads.benchmark import processor_name
from talking_heads.errors import InvalidModelError, MissingDependencyError, UnreadableMediaError
from talking_heads.hub import TRAINING_FORMAT, check_push, push_model
from talking_heads.images import to_uint8
from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.layers import check_sizes, converge_spectral_norms, load_folded
from talking_heads.video import contact_sheet, save_image

from . import losses
from .clips import written_beside
from .config import PRESETS, MetaConfig, ModelConfig, preset
from .dataset import Episode, EpisodeDataset
from .export import folded, save_model
from .identity import IdentityNet
from .loading import Batches, begin_worker, expanded, grouped, order, reused
from .objective import ContentNets, discriminator_loss, generator_terms
from .running import Means, Waiting, agreed, progress_line
from .terminal import mistakes_in_one_line
from .unpack import unpack

KEPT_CHECKPOINTS = 2
PORTRAITS_AT_ONCE = 16
ENDLESS = 10**9
"""Steps of a run that only the clock ends."""
CLOCK_COOLDOWN = 1 / 3
SPARE = 1.2
"""What is kept for the last checkpoint and pictures, in times of the longest before."""
PEOPLE = "people.json"
"""In a checkpoint: whose column of W is which, in order."""


class Average(nn.Module):
    """Running average of a network's parameters (not in the paper; its co-author's code tests with it)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.count = 0
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """From the model as it is now."""
        self.count = 0
        for name, value in model.named_parameters():
            self.values[name].copy_(value)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; the first steps weigh more, so that the random start is forgotten."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        get_ema_multi_avg_fn(decay)(list(self.values.values()), [value.detach() for value in model.parameters()], 0)

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"count": self.count, "values": self.values}

    def load_state_dict(self, state: Any, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self.count = state["count"]
        self.values = {name: value.to(self.values[name].device) for name, value in state["values"].items()}

    def copy_to(self, model: nn.Module) -> None:
        """Writes the average into a network of the same architecture."""
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(self.values[name])


class Progress:
    """How far a run is, in steps and in samples seen; travels with the checkpoints."""

    def __init__(self) -> None:
        self.step = 0
        self.samples = 0
        self.seconds = 0.0
        self.discriminator_active = False
        """Whether the discriminator has joined."""

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "discriminator_active": self.discriminator_active,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.samples, self.discriminator_active = (
            state["step"],
            state["samples"],
            bool(state.get("discriminator_active", False)),
        )
        self.seconds = state.get("seconds", 0.0)


def build_networks(config: ModelConfig) -> tuple[Embedder, Generator, Discriminator]:
    """The three networks with spectral norm. ValueError where their sizes do not fit each other."""
    embedder, generator = Embedder(**config.embedder), Generator(**config.generator)
    discriminator = Discriminator(**config.discriminator)
    sizes = {embedder.embedding_dim, generator.config.embedding_dim, len(discriminator.w0)}
    if len(sizes) != 1:
        raise ValueError(f"embedding dimensions differ: {sizes}")
    return embedder, generator, discriminator


def paint(generator: nn.Module, batch: Episode, embedding: Tensor, render_conditioned: bool) -> Tensor:
    """x_hat = G(y, e) for a batch, over the rendered head where the generator takes one."""
    render = batch["render"] if render_conditioned else None
    return generator(batch["landmark_image"], embedding=embedding, render=render)


class Trainer:
    """One run of meta-learning: everything that a step needs, and how it is saved.

    W does not go through data parallelism, which would send all of it in every step: each process holds the whole
    table, and what they exchange are the rows of their batches and the gradients of these (``_update_identities``).
    """

    def __init__(
        self,
        config: MetaConfig,
        data: EpisodeDataset,
        output: Path,
        mixed_precision: str = "bf16",
        tracker: str | None = None,
    ) -> None:
        """``tracker``: "trackio", or none. MissingDependencyError where it is not installed.

        ValueError where sizes do not fit, or where the content loss has no network.
        """
        if tracker is not None and importlib.util.find_spec(tracker) is None:
            raise MissingDependencyError(f"{tracker} is not installed. Install it: pip install {tracker}.")
        torch.manual_seed(config.seed)
        self.config, self.data, self.output = config, data, output
        self.accelerator = Accelerator(mixed_precision=mixed_precision, log_with=tracker)
        device = self.accelerator.device
        cuda = device.type == "cuda"
        if cuda:
            torch.backends.cudnn.benchmark = True  # sizes never change
            torch.set_float32_matmul_precision("high")
        networks = [net.to(device, memory_format=torch.channels_last) for net in build_networks(config.model)]
        for net in networks:
            check_sizes(config.image_size, net.config.patch_size, net.config.channels)
        embedder, generator, discriminator = networks
        dim = embedder.embedding_dim
        identities = nn.Embedding(len(data.identities), dim)  # W; never published
        nn.init.zeros_(identities.weight)  # introduce_discriminator() gives it its values
        self.averages = {"embedder": Average(embedder, config.ema), "generator": Average(generator, config.ema)}
        content_paths = config.feature_net.split(",") if config.feature_net else []
        # Tensor cores want channels last; on a CPU these networks have been measured, and trained with, as they are.
        layout = {"memory_format": torch.channels_last} if cuda else {}
        self.content = ContentNets(content_paths, config.losses).to(device, **layout)
        self.config = config = replace(config, losses=self.content.weights)
        self.identity_net = None
        if config.losses.identity > 0:
            if not config.identity_net:
                raise ValueError("the identity term needs the weights of its network: give them (--identity-net)")
            self.identity_net = IdentityNet(config.identity_net).to(device, **layout)
        generator_optimizer = torch.optim.Adam(
            [*embedder.parameters(), *generator.parameters()], lr=config.generator_rate, betas=config.betas, fused=True
        )
        discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=config.discriminator_rate, betas=config.betas, fused=True
        )
        self.identities = identities.to(device)
        identity_optimizer = torch.optim.SparseAdam(
            identities.parameters(), lr=config.discriminator_rate, betas=config.betas
        )
        prepared = self.accelerator.prepare(
            embedder, generator, discriminator, generator_optimizer, discriminator_optimizer, identity_optimizer
        )
        (
            self.embedder,
            self.generator,
            self.discriminator,
            self.generator_optimizer,
            self.discriminator_optimizer,
            self.identity_optimizer,
        ) = prepared
        self.progress = Progress()
        self.pause = 0.0
        """Seconds that saving and drawing take at the end of a run that stops by the clock."""
        self.start_from = ""
        """Name of the checkpoint or model whose weights this run began with."""
        self.accelerator.register_for_checkpointing(self.progress, *self.averages.values(), self.identities)
        self.accelerator.register_save_state_pre_hook(_save_unwrapped)
        self.accelerator.register_load_state_pre_hook(_load_unwrapped)

    @property
    def samples_per_step(self) -> int:
        """Of all processes together."""
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def share_left(self) -> float:
        """How much is to come: 1 at the start, 0 at the end; by steps and, where the run has one, by the clock."""
        config, progress = self.config, self.progress
        left = (config.steps - progress.step) / config.steps
        if config.minutes > 0:
            left = min(left, 1 - (progress.seconds + self.pause) / (60 * config.minutes))
        return max(0.0, left)

    def batches(self, workers: int) -> Yielding[Episode, None, None]:
        """This process's batches of the episodes that are still to be seen, in their order.

        All processes together see what one with batches as large as theirs together would see in the same step. How
        many ``workers`` there are changes nothing either: each makes all batches that share their heads. To be closed,
        or read to the end: workers do not end by themselves.
        """
        with closing(self._arriving(workers)) as arriving:
            for batch in reused(arriving, self.config.reuse, self.config.seed):
                yield expanded(batch)

    def _arriving(self, workers: int) -> Yielding[dict[str, Tensor], None, None]:
        """Compact batches on the device, as the processes send them."""
        device = self.accelerator.device
        if workers > 1:
            self.data[0]  # compiles here, once, what the processes that are forked need
        batches = Batches(self.data)
        loader = DataLoader(
            batches, batch_size=None, sampler=self._blocks(), num_workers=workers,
            prefetch_factor=1 if workers else None, worker_init_fn=begin_worker, pin_memory=device.type == "cuda",
        )  # fmt: skip
        try:
            for block in loader:
                for batch in block:
                    yield send_to_device(batch, device, non_blocking=True)
        finally:
            batches.end()

    def _blocks(self) -> Iterator[list[list[int]]]:
        """Indices of this process's batches, in lists of those that share their heads."""
        config, processes = self.config, self.accelerator.num_processes
        done = self.progress.samples // config.reuse
        steps = max(0, config.steps - self.progress.step) if self.share_left() > 0 else 0
        number = -(-steps // config.reuse) * self.samples_per_step
        indices = order(done, number, config.targets_per_head, self.samples_per_step)
        own = islice(grouped(indices, config.batch_size), self.accelerator.process_index, None, processes)
        together = config.accumulate * config.targets_per_head
        begun = done // (config.batch_size * processes) % together  # of a block in which a run was stopped
        if begun:
            yield list(islice(own, together - begun))
        yield from grouped(own, together)

    def step(self, *batches: Episode) -> dict[str, Tensor]:
        """One update of E and G, then of D, by the mean gradient of the batches; returns the weighted terms' means,
        which stay on the device: reading them would wait for it."""
        config, accelerator = self.config, self.accelerator
        self._set_rates()
        adversarial = self.progress.step >= config.adversarial_from
        conditioned = bool(config.model.generator.get("render_conditioned", False))
        discriminator = accelerator.unwrap_model(self.discriminator)
        if adversarial and not self.progress.discriminator_active:
            self.introduce_discriminator()
        painted: list[Tensor] = []
        sums: dict[str, Tensor] = {}
        self.generator_optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with self._exchanging(batch is batches[-1], self.embedder, self.generator):
                with accelerator.autocast():
                    shots = self._number_of_shots(batch["shots"].shape[1])
                    embedding = self.embedder(  # e_i, (B, N)
                        batch["shots"][:, :shots], batch["shot_landmarks"][:, :shots]
                    ).mean(dim=1)
                    fakes = paint(self.generator, batch, embedding, conditioned)
                    with torch.no_grad():  # a constant for E and G
                        identity = self.identities(batch["identity"])  # W_i, (B, N)
                    terms = generator_terms(
                        fakes, batch["image"], batch["landmark_image"], identity,
                        discriminator if adversarial else None, self.content, config.losses, batch["weights"],
                        self.identity_net, batch["chip"],
                    )  # fmt: skip
                    if adversarial and config.losses.match > 0:
                        terms["match"] = config.losses.match * losses.match(embedding, identity)
                accelerator.backward(torch.stack(list(terms.values())).sum() / len(batches))
            painted.append(fakes.detach())
            sums = {name: sums.get(name, 0) + value.detach() for name, value in terms.items()}
        self.generator_optimizer.step()
        if adversarial:
            for _ in range(config.discriminator_steps):
                hinge = self._discriminator_step(batches, painted)
            sums["hinge"] = hinge
        self.averages["embedder"].update(accelerator.unwrap_model(self.embedder))
        self.averages["generator"].update(accelerator.unwrap_model(self.generator))
        self.progress.step += 1
        self.progress.samples += self.samples_per_step
        return {name: value / len(batches) for name, value in sums.items()}

    def _number_of_shots(self, most: int) -> int:
        """K of this step: the same in all processes, and in a run that was stopped."""
        fewest = self.config.fewest_shots
        if fewest is None or fewest >= most:
            return most
        return int(np.random.default_rng((self.config.seed, self.progress.step)).integers(fewest, most + 1))

    def _discriminator_step(self, batches: Sequence[Episode], painted: Sequence[Tensor]) -> Tensor:
        """One update of D and of the rows of W that came; returns the sum of the batches' hinge losses."""
        total = torch.zeros((), device=self.accelerator.device)
        rows = []
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        for batch, fakes in zip(batches, painted, strict=True):
            identity = self.identities(batch["identity"]).detach().requires_grad_()  # W_i, (B, N)
            with self._exchanging(batch is batches[-1], self.discriminator):
                with self.accelerator.autocast():
                    hinge = discriminator_loss(
                        self.discriminator, fakes, batch["image"], batch["landmark_image"], identity
                    )
                self.accelerator.backward(hinge / len(batches))
            rows.append((batch["identity"], identity.grad))
            total += hinge.detach()
        self.discriminator_optimizer.step()
        self._update_identities(torch.cat([who for who, _ in rows]), torch.cat([gradient for _, gradient in rows]))
        return total

    def _update_identities(self, who: Tensor, gradients: Tensor) -> None:
        """A step of W by the mean over the processes; ``who`` (B,): rows, ``gradients`` (B, N): theirs here."""
        who, gradients = self.accelerator.gather((who, gradients))
        weight = self.identities.weight
        with torch.sparse.check_sparse_tensor_invariants(True):
            weight.grad = torch.sparse_coo_tensor(who[None], gradients / self.accelerator.num_processes, weight.shape)
            self.identity_optimizer.step()

    @contextmanager
    def _exchanging(self, now: bool, *networks: nn.Module) -> Iterator[None]:
        """Within: gradients of the networks are averaged over the processes only if ``now``, else only added up."""
        with ExitStack() as stack:
            if not now:
                for net in networks:
                    stack.enter_context(self.accelerator.no_sync(net))
            yield

    @torch.no_grad()
    def introduce_discriminator(self) -> None:
        """Starts W_i at e_i, and w0 and b where the scores of everybody's portrait come nearest to zero.

        Embeddings are not negative (the ReLU before their sum). From a W around zero, L_MCH would drive them all to
        zero, where the ReLU passes no gradient: the embedder would be dead within some hundred steps. V is not
        negative for the same reason, and much the same for all images at first. What all have in common must
        therefore not count, or the first scores are in the tens, and the hinge silences V to be rid of them.
        """
        embedder = self.accelerator.unwrap_model(self.embedder).eval()
        discriminator = self.accelerator.unwrap_model(self.discriminator).eval()
        converge_spectral_norms(discriminator)
        column = self.identities.weight.zero_()
        vectors = torch.zeros_like(column)  # V of each person's portrait
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        for portraits in grouped(self.data.portraits(rank, processes), PORTRAITS_AT_ONCE):
            who = torch.tensor([identity for identity, _, _ in portraits], device=column.device)
            images = torch.stack([image for _, image, _ in portraits]).to(column.device)  # (P, 3, H, W)
            lines = torch.stack([lines for _, _, lines in portraits]).to(column.device)
            column[who] = embedder(images[:, None], lines[:, None])[:, 0]
            vectors[who] = discriminator.encoder(torch.cat([lines, images], dim=1))[0]
        column.copy_(self.accelerator.reduce(column))  # each row is zero in all processes but one
        vectors = self.accelerator.reduce(vectors)
        embedder.train()
        discriminator.train()
        # Ridge regression of w0 + mean(W) and b on scores that must cancel; in float64, V's columns are much alike.
        mean = column.mean(dim=0)
        known = torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1).double()
        scores = (vectors * (column - mean)).sum(dim=1).double()
        ridge = 1e-5 * known.square().sum(dim=0).mean() * torch.eye(known.shape[1]).to(known)
        solution = torch.linalg.solve(known.T @ known + ridge, -known.T @ scores).to(mean)
        discriminator.w0.copy_(solution[:-1] - mean)
        discriminator.b.copy_(solution[-1])
        self.progress.discriminator_active = True

    def save(self) -> Path:
        """A checkpoint named by its step; written beside, then renamed; only the newest few are kept."""
        folder = self.output / f"step-{self.progress.step:07d}"
        if folder.exists():
            return folder
        beside = folder.with_suffix(".tmp")
        self.accelerator.wait_for_everyone()  # all have looked
        self.accelerator.save_state(str(beside))
        self.accelerator.wait_for_everyone()  # all have written
        if self.accelerator.is_main_process:
            _write_json(beside / PEOPLE, list(self.data.identities))
            beside.replace(folder)
            for old in checkpoints(self.output)[:-KEPT_CHECKPOINTS]:
                shutil.rmtree(old)
        return folder

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint, with this run's learning rates. InvalidModelError where it does not fit."""
        people = folder / PEOPLE
        if people.is_file() and json.loads(people.read_text(encoding="utf-8")) != list(self.data.identities):
            raise InvalidModelError(f"{folder} was trained on other people. Give the clips that it began with.")
        try:
            self.accelerator.load_state(str(folder))
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise InvalidModelError(f"{folder} does not fit this configuration or these clips ({error}).") from error
        self._set_rates()

    def start_from_model(self, folder: Path) -> None:
        """Begins with the networks of a published model, whose W and optimisers nobody kept.

        InvalidModelError where it is none, or does not fit this configuration.
        """
        pipe = TalkingHeadPipeline.from_pretrained(folder)
        networks = (self.embedder, self.generator, self.discriminator)
        published = (pipe.embedder, pipe.generator, pipe.load_discriminator())
        try:
            for net, start in zip(networks, published, strict=True):
                own = self.accelerator.unwrap_model(net)
                if isinstance(own, Discriminator) and own.config.patch_block != start.config.patch_block:
                    self.accelerator.print("The discriminator begins anew: that of the model scores other patches.")
                    continue
                load_folded(own, start.state_dict())
        except (ValueError, RuntimeError) as error:
            raise InvalidModelError(f"{folder} does not fit this configuration ({error}).") from error
        for name, net in (("embedder", self.embedder), ("generator", self.generator)):
            self.averages[name].restart(self.accelerator.unwrap_model(net))

    def _set_rates(self) -> None:
        """Learning rates as a function of what is left, so that a resumed run has those of one that ran through."""
        config = self.config
        share = min(1.0, self.share_left() / config.cooldown) if config.cooldown > 0 else 1.0
        rates = (config.generator_rate, config.discriminator_rate)
        for optimiser, rate in zip(
            (self.generator_optimizer, self.discriminator_optimizer, self.identity_optimizer),
            (*rates, rates[1]),
            strict=True,
        ):
            for group in optimiser.param_groups:
                group["lr"], group["betas"] = share * rate, config.betas

    def averaged(self) -> tuple[Embedder, Generator, Discriminator]:
        """What is published: averages of E and G and the discriminator, spectral norm folded, on the CPU."""
        networks = build_networks(self.config.model)
        for copy, net in zip(networks, (self.embedder, self.generator, self.discriminator), strict=True):
            copy.load_state_dict(self.accelerator.unwrap_model(net).state_dict())
        self.averages["embedder"].copy_to(networks[0])
        self.averages["generator"].copy_to(networks[1])
        return folded(networks[0]), folded(networks[1]), folded(networks[2])

    def training(self) -> dict[str, Any]:
        """What the model's card says of how it came about, see ``talking_heads.cards.model_card``."""
        config, device = self.config, self.accelerator.device
        cuda = device.type == "cuda"
        one = torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads of {processor_name()}"
        return {
            "format_version": TRAINING_FORMAT,
            "steps": self.progress.step,
            "samples": self.progress.samples,
            "hours": self.progress.seconds / 3600,
            "hardware": f"{self.accelerator.num_processes} x {one}",
            "image_size": config.image_size,
            "num_shots": config.num_shots,
            "content": [Path(path).name for path in config.feature_net.split(",") if path],
            "start_from": self.start_from,
            "data": self.data.contents,
        }


def _save_unwrapped(models: list[nn.Module], weights: list[dict[str, Tensor]], _folder: str) -> None:
    """Keys without the prefix of data parallelism, so that any number of processes can go on."""
    for state in weights:
        for key in list(state):
            state[key.removeprefix("module.")] = state.pop(key)


def _load_unwrapped(models: list[nn.Module], folder: str) -> None:
    for i, model in enumerate(models):
        inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        load_model(inner, Path(folder) / f"model{f'_{i}' if i else ''}.safetensors")
    models.clear()  # accelerate has none left to load


def checkpoints(output: Path) -> list[Path]:
    """A run's checkpoints, the newest last."""
    return sorted(p for p in output.glob("step-*") if p.suffix != ".tmp")


@torch.no_grad()
def validate(run: Trainer, episodes: list[Episode]) -> tuple[dict[str, float], np.ndarray]:
    """Losses of the averaged networks and of the bare render on fixed episodes, and a picture of the first eight."""
    device = run.accelerator.device
    embedder, generator = (net.to(device) for net in run.averaged()[:2])
    batch: Any = send_to_device(default_collate(episodes), device)
    conditioned = generator.config.render_conditioned
    fakes = torch.cat(
        [
            paint(generator, part, embedder(part["shots"], part["shot_landmarks"]).mean(dim=1), conditioned)
            for part in ({key: value[i : i + 8] for key, value in batch.items()} for i in range(0, len(episodes), 8))
        ]
    )
    painted = {"": fakes} | ({"_render": batch["render"][:, :3]} if conditioned else {})
    measured = {}
    for name, pictures in painted.items():
        measured[f"pixel{name}"] = float(losses.pixel(pictures, batch["image"], batch["weights"]))
        measured[f"content{name}"] = float(run.content(pictures, batch["image"]))
        if run.identity_net is not None:
            fake, real = (run.identity_net(images, batch["chip"]) for images in (pictures, batch["image"]))
            measured[f"identity{name}"] = float(losses.identity(fake, real))
    columns = [batch["shots"][:, 0], batch["landmark_image"], batch["image"], *reversed(painted.values())]
    rows = [[to_uint8(column[i : i + 1])[0] for column in columns] for i in range(min(8, len(episodes)))]
    return measured, contact_sheet(
        rows, labels=["shot", "landmarks", "target", *(["render"] if conditioned else []), "painted"]
    )


def train(
    run: Trainer,
    validation: list[Episode],
    *,
    workers: int = 1,
    log_every: int = 50,
    save_every: int = 500,
    sample_every: int | None = 500,
    save_minutes: float = 2.0,
    started: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """The loop: until the steps or the minutes are over, or until a process is asked to stop.

    The log has the means of all processes, and which share of the time the first one waited for data. With
    ``config.minutes`` a checkpoint and the model are saved at the start and every ``save_minutes``, without it every
    ``save_every`` steps. ``started``: when, by ``clock``, the work began that counts; now, if None.
    """
    accelerator, config, progress = run.accelerator, run.config, run.progress
    main = accelerator.is_main_process
    if main:
        _begin_folder(run)
    accelerator.init_trackers(run.output.resolve().name, _settings(config))  # none, unless asked for
    before, begin, first = progress.seconds, clock(), progress.step
    started = begin if started is None else started
    pauses = {"sample": 0.0, "save": 0.0}
    means, waiting = Means(accelerator), Waiting(clock)

    def look() -> bool:
        """What the clock says; whether a process has been asked to stop. All processes hear the same."""
        elapsed = before + clock() - started
        pause = SPARE * sum(pauses.values())
        progress.seconds, run.pause, asked = agreed(accelerator, elapsed, pause, request.made)
        return asked

    def sample() -> None:
        now = clock()
        _sample(run, validation)
        pauses["sample"] = max(pauses["sample"], clock() - now)

    def save() -> Path:
        now = clock()
        folder = run.save()
        if main:
            save_model(*run.averaged(), run.output / "model", training=run.training())
        pauses["save"] = max(pauses["save"], clock() - now)
        return folder

    request = _StopRequest()
    if main and validation and progress.step == 0:
        sample()
    look()
    if config.minutes > 0 and progress.step == 0 and run.share_left() > 0:
        save()  # that it works is better known now than in the end
        look()
    if config.minutes > 0 and run.share_left() <= 0:
        accelerator.print(
            f"No time was left for a step: it is {progress.seconds / 60:.1f} of {config.minutes:g} min, and "
            f"{run.pause / 60:.1f} min are kept for the end. Give more.",
            flush=True,
        )
    begin, saved = clock(), progress.seconds
    stopped = ended = False
    with _stop_on_signal(request):
        with closing(run.batches(workers)) as episodes:
            for batches in waiting.on(grouped(episodes, config.accumulate)):
                means.add(run.step(*batches))
                step = progress.step
                stopped = look()
                ended = run.share_left() <= 0
                if step % log_every == 0 or stopped or ended:
                    terms = means.read()
                    if main:
                        rate = run.samples_per_step * (step - first) / (clock() - begin)
                        line = {"step": step, "samples": progress.samples, "samples_per_second": round(rate, 2)}
                        _log(run, line | {"waiting": waiting.read()} | terms)
                        text = progress_line(config, step, progress.seconds, rate, run.samples_per_step)
                        accelerator.print(text, flush=True)
                if stopped or ended:
                    break
                by_clock = config.minutes > 0
                if progress.seconds - saved >= 60 * save_minutes if by_clock else step % save_every == 0:
                    save()
                    saved = progress.seconds
                if main and validation and sample_every is not None and step % sample_every == 0:
                    sample()
        # What loads data has ended: all cores are free.
        if stopped or ended:
            folder = save()
        if stopped:
            end = "" if config.minutes > 0 else f" of {config.steps}"
            text = f"Stopped after step {progress.step}{end}; {folder} is saved. The same command goes on."
            accelerator.print(text, flush=True)
        if main and validation and ended:
            sample()


def _begin_folder(run: Trainer) -> None:
    run.output.mkdir(parents=True, exist_ok=True)
    _write_json(run.output / "config.json", asdict(run.config))
    networks = {"embedder": run.embedder, "generator": run.generator, "discriminator": run.discriminator}
    sizes = {name: sum(p.numel() for p in net.parameters()) / 1e6 for name, net in networks.items()}
    run.accelerator.print("parameters in millions:", json.dumps(sizes), f"people: {len(run.data.identities)}")


def _log(run: Trainer, line: dict[str, Any]) -> None:
    """Appends to log.jsonl, prints, and tells the tracker where there is one."""
    text = json.dumps(line)
    with (run.output / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    run.accelerator.print(text, flush=True)
    flat = {f"validation/{k}": v for k, v in line.get("validation", {}).items()}
    flat |= {k: v for k, v in line.items() if k not in ("step", "validation")}
    run.accelerator.log(flat, step=line["step"])


def _settings(config: MetaConfig) -> dict[str, Any]:
    """The configuration as trackers take it: names and plain values."""
    return {name: value if isinstance(value, (int, float, str)) else json.dumps(value)
            for name, value in asdict(config).items()}  # fmt: skip


def _sample(run: Trainer, validation: list[Episode]) -> None:
    measured, picture = validate(run, validation)
    (run.output / "samples").mkdir(exist_ok=True)
    save_image(picture, run.output / "samples" / f"step-{run.progress.step:07d}.png")
    rounded = {name: round(value, 4) for name, value in measured.items()}
    _log(run, {"step": run.progress.step, "validation": rounded})


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


def _write_json(path: Path, value: Any) -> None:
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=1), encoding="utf-8")


def main(
    output: Annotated[Path, typer.Option(help="Folder of the run; one that exists is continued.")],
    clips: Annotated[
        list[Path] | None, typer.Option(help="Folder of prepared clips; may be given several times.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Clips and networks in one file of train.pack; unpacked beside it.", exists=True),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop by the clock: so long after the command began, when all is saved. Rates cool down over the last "
            "third, unless --cooldown says otherwise.",
            min=0.01,
        ),
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "default",
    feature_net: Annotated[
        str,
        typer.Option(
            help="Weights of SqueezeNet 1.0, VGG16, VGG19 or VGGFace for the content loss; several with commas."
        ),
    ] = "",
    steps: Annotated[
        int | None, typer.Option(help="Instead of the preset's; with --minutes there is no end but the clock's.", min=1)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of a device, instead of the preset's.", min=1)] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches of a device that make one step.", min=1)] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Instead of the preset's: for stages at lower resolution.")
    ] = None,
    num_shots: Annotated[int | None, typer.Option(help="K, photos of a person in an episode.", min=1)] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="What to begin with: a checkpoint of an earlier stage, or a model's folder.")
    ] = None,
    adversarial_from: Annotated[int | None, typer.Option(help="Step at which the discriminator joins.")] = None,
    cooldown: Annotated[float | None, typer.Option(help="Share of the steps over which rates fall to zero.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the running average of the weights.")] = None,
    match_weight: Annotated[
        float | None, typer.Option(help="Weight of L_MCH; 0 for the paper's feed-forward variant.")
    ] = None,
    adversarial_weight: Annotated[
        float | None,
        typer.Option(help="Weight of -D(x_hat, y, i); 0 while a discriminator learns, but does not teach."),
    ] = None,
    patch_weight: Annotated[float | None, typer.Option(help="Weight of the scores of D's patches.")] = None,
    feature_matching_weight: Annotated[float | None, typer.Option(help="Weight of L_FM.")] = None,
    discriminator_steps: Annotated[int | None, typer.Option(help="Updates of D for each of E and G.", min=1)] = None,
    fewest_shots: Annotated[
        int | None, typer.Option(help="K of each step is drawn between this and --num-shots.", min=1)
    ] = None,
    identity_net: Annotated[
        Path | None, typer.Option(help="Weights of dlib's face recognition network (.npz), for the identity term.")
    ] = None,
    identity_weight: Annotated[float, typer.Option(help="Weight of that term.", min=0)] = 3.0,
    generator_rate: Annotated[float | None, typer.Option(help="Learning rate of E and G.")] = None,
    stills_share: Annotated[float | None, typer.Option(help="Share of groups of episodes from photos.")] = None,
    targets_per_head: Annotated[
        int | None, typer.Option(help="So many consecutive episodes share a first shot: fewer heads to build.", min=1)
    ] = None,
    reuse: Annotated[
        int | None,
        typer.Option(
            help="How often each sample is seen, for a device that is faster than what renders for it.", min=1
        ),
    ] = None,
    mixed_precision: Annotated[str, typer.Option(help="bf16, fp16 or no.")] = "bf16",
    workers: Annotated[int, typer.Option(help="Processes that make episodes.", min=0)] = 1,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.", min=1)] = 50,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    save_minutes: Annotated[float, typer.Option(help="With --minutes: between checkpoints.", min=0)] = 2.0,
    sample_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between pictures.", show_default="500; with --minutes at the start and the end alone", min=1
        ),
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(help="trackio: keeps curves on this machine for its dashboard.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights and episodes.")] = 0,
    push: Annotated[
        str | None,
        typer.Option(help="Repository of the Hub (me/name) for the model when the run is done; a private one."),
    ] = None,
) -> None:
    """Meta-train the three networks on prepared clips."""
    started = time.monotonic()
    if not clips and pack is None:
        raise typer.BadParameter("give folders of prepared clips, or --pack", param_hint="--clips")
    if tracker not in (None, "trackio"):
        raise typer.BadParameter("the tracker is trackio", param_hint="--tracker")
    if mixed_precision not in ("bf16", "fp16", "no"):
        raise typer.BadParameter("choose bf16, fp16 or no", param_hint="--mixed-precision")
    with mistakes_in_one_line(ValueError):
        if push is not None:
            check_push("model", push, private=True)
        clips = list(clips or [])
        if pack is not None:
            with PartialState().local_main_process_first():  # which unpacks for the others
                unpacked = unpack(pack, workers, typer.echo)
            if minutes is not None and time.monotonic() - started >= 60 * minutes:
                raise ValueError(f"Unpacking took the {minutes:g} minutes. It is done: give the same command again.")
            clips.append(unpacked.clips)
            feature_net = feature_net or unpacked.feature_net
            identity_net = identity_net or unpacked.identity_net
        config = preset(preset_name, feature_net=feature_net, seed=seed, identity_net=str(identity_net or ""))
        given = {
            "steps": steps, "batch_size": batch_size, "accumulate": accumulate, "image_size": image_size,
            "num_shots": num_shots, "adversarial_from": adversarial_from, "generator_rate": generator_rate,
            "stills_share": stills_share, "cooldown": cooldown, "ema": ema, "fewest_shots": fewest_shots,
            "discriminator_steps": discriminator_steps, "targets_per_head": targets_per_head, "reuse": reuse,
            "minutes": minutes,
        }  # fmt: skip
        if minutes is not None:
            given |= {"steps": steps or ENDLESS, "cooldown": CLOCK_COOLDOWN if cooldown is None else cooldown}
        config = replace(config, **{name: value for name, value in given.items() if value is not None})
        weights = {
            "match": match_weight, "adversarial": adversarial_weight, "feature_matching": feature_matching_weight,
            "patches": patch_weight,
        }  # fmt: skip
        weights |= {"identity": identity_weight if identity_net is not None else None}
        weights = {name: value for name, value in weights.items() if value is not None}
        config = replace(config, losses=replace(config.losses, **weights))
        data = EpisodeDataset.from_folders(clips, config, config.steps * config.batch_size)
        validation = _validation_episodes(clips, replace(config, degraded_share=0.0), workers)
        run = Trainer(config, data, output, mixed_precision, tracker)
        if start_from is not None:
            run.start_from = "/".join(start_from.parts[-2:])
        existing = checkpoints(output)
        if existing:
            run.load(existing[-1])
        elif start_from is not None:
            if (start_from / "model_index.json").is_file():
                run.start_from_model(start_from)
            else:
                run.load(start_from)
            run.progress.step = run.progress.samples = 0
            run.progress.seconds = 0.0
    with mistakes_in_one_line():
        train(
            run, validation, workers=workers, log_every=log_every, save_every=save_every, save_minutes=save_minutes,
            sample_every=sample_every or (500 if minutes is None else None), started=started, clock=time.monotonic,
        )  # fmt: skip
        run.accelerator.end_training()
        if push is not None and run.accelerator.is_main_process and run.share_left() <= 0:
            typer.echo(push_model(output / "model", push, private=True).repo_url)


def _validation_episodes(clips: list[Path], config: MetaConfig, workers: int, number: int = 32) -> list[Episode]:
    """The same ones in every run; none for a data set without a validation split."""
    try:
        data = EpisodeDataset.from_folders(clips, replace(config, seed=1234), number, split="validation")
    except UnreadableMediaError:  # the training split has been read, so it is this split that is not there
        return []
    first, *rest = (i * config.targets_per_head for i in range(number))
    loader = DataLoader(
        data, None, sampler=rest, num_workers=workers if workers > 1 else 0, worker_init_fn=begin_worker
    )
    return [data[first], *loader]  # the first one compiles what the processes need


if __name__ == "__main__":
    typer.run(main)
