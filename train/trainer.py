"""The method: one step of training in the paper's order and symbols, and the trainer of meta-learning that makes it.

``training_step`` is the whole of it, for meta-learning (section 3.2 of the paper) and for fine-tuning (3.3) alike; its
terms stand in losses.py. ``Trainer`` gives it networks, batches and optimisers: several batches a step, several
processes, 16 bit, rates, averages. The numbers in the margin are those of the paper's equations.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Yielding
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from talking_heads.errors import MissingDependencyError
from talking_heads.models import Discriminator, Embedder, Generator
from talking_heads.models.layers import check_sizes, converge_spectral_norms

from . import losses
from .config import MetaConfig, ModelConfig
from .data.episodes import Episode, EpisodeDataset
from .data.loading import Batches, begin_worker, expanded, grouped, order, reused
from .ema import EMA
from .export import folded
from .losses import LossNets
from .part_discriminators import PartDiscriminators, part_adversarial_terms, part_discriminator_loss

if TYPE_CHECKING:  # fine-tuning needs the step, and not this package
    from accelerate import Accelerator

PORTRAITS_AT_ONCE = 16

Terms = dict[str, Tensor]
"""Weighted terms of a loss by name, each a scalar; the loss is their sum."""

Minimize = Callable[[Callable[[Any], Terms], Sequence[Any]], Terms]
"""``minimize(loss_of, batches)``: one step of an optimiser by the mean gradient of ``loss_of(batch)`` over the batches;
returns the terms' means, which stay on the device: reading them would wait for it."""


# ------------------------------------------------------------------------------------------------------- the method


@dataclass(frozen=True)
class Networks:
    """What a step calls. In fine-tuning these are the paper's primed ones (section 3.3)."""

    embed: Callable[[Tensor, Tensor], Tensor]
    """E: shots and their landmark images (B, K, 3, H, W) -> e_i (B, N). In fine-tuning: psi' (S,), always."""
    generate: Callable[[Tensor, Tensor, Tensor], Tensor]
    """G: landmark images (B, 3, H, W), what ``embed`` gave, rendered heads -> x_hat (B, 3, H, W)."""
    discriminator: nn.Module
    """D: images, landmark images, W_i -> ``Judgement``."""
    identity: Callable[[Tensor], Tensor]
    """W: people (B,) -> W_i (B, N), with a gradient where D learns. In fine-tuning: w' - w0, of the one person."""
    part_discriminators: nn.Module | None = None
    """``PartDiscriminators``, where parts of the face are judged, too; they learn with D."""


def training_step(
    nets: Networks,
    batches: Sequence[Episode],
    loss_nets: LossNets,
    minimize_generator: Minimize,
    minimize_discriminator: Minimize,
    discriminator_steps: int = 1,
    teaching: bool = True,
    part_gamma: float = 1.0,
) -> Terms:
    """One step: E and G by L, then D and W by L_DSC; returns the weighted terms' means.

    Without ``teaching`` L is L_CNT alone; with no ``discriminator_steps`` D does not learn either.
    ``part_gamma``: strength of R1 on ``nets.part_discriminators``.
    """
    weights = loss_nets.weights
    x_hats: list[Tensor] = []

    def generator_loss(batch: Episode) -> Terms:
        # Sample: K shots of a person i, and another frame of the same person.
        x_s, y_s = batch["shots"], batch["shot_landmarks"]  # (B, K, 3, H, W)
        x, y, i = batch["image"], batch["landmark_image"], batch["identity"]  # (B, 3, H, W), (B,)

        e_i = nets.embed(x_s, y_s)  # (1)  e_i = mean_k E(x_i(s_k), y_i(s_k); phi)
        x_hat = nets.generate(y, e_i, batch["render"])  # (2)  x_hat = G(y, e_i; psi, P)
        x_hat = torch.where(batch["known"], x_hat, x)  # where the target says nothing, all is right
        with torch.no_grad():  # a constant for E and G
            W_i = nets.identity(i)

        L = {"content": loss_nets.content(x_hat, x)}  # L_CNT
        if weights.pixel > 0:  # not the paper's
            L["pixel"] = weights.pixel * losses.pixel(x_hat, x, batch["weights"])
        if weights.identity > 0:  # not the paper's
            L["identity"] = weights.identity * loss_nets.identity(x_hat, x, batch["chip"])
        if teaching:
            L |= losses.adversarial_terms(nets.discriminator, x_hat, x, y, W_i, weights)  # (4)  L_ADV = -D + L_FM
            if nets.part_discriminators is not None:  # not the paper's
                L |= part_adversarial_terms(nets.part_discriminators, x_hat, x, y, batch["chip"], weights)
            if weights.match > 0:
                L["match"] = weights.match * losses.match(e_i, W_i)  # L_MCH = |e_i - W_i|
        x_hats.append(x_hat.detach())
        return L  # (3)  L = L_CNT + L_ADV + L_MCH

    def discriminator_loss(batch_and_x_hat: tuple[Episode, Tensor]) -> Terms:
        batch, x_hat = batch_and_x_hat
        x, y, i = batch["image"], batch["landmark_image"], batch["identity"]
        W_i = nets.identity(i)
        L_DSC = {"hinge": losses.discriminator_loss(nets.discriminator, x_hat, x, y, W_i)}  # (5), (6)
        if nets.part_discriminators is not None:
            L_DSC |= part_discriminator_loss(nets.part_discriminators, x_hat, x, y, batch["chip"], part_gamma)
        return L_DSC

    terms = minimize_generator(generator_loss, batches)  # over phi, psi, P
    for _ in range(discriminator_steps):
        terms |= minimize_discriminator(discriminator_loss, list(zip(batches, x_hats, strict=True)))  # theta, W, w0, b
    return terms


def minimize_with(
    optimizer: torch.optim.Optimizer,
    autocast: Callable[[], AbstractContextManager[None]],
    backward: Callable[[Tensor], None] = Tensor.backward,
    within: Callable[[bool], AbstractContextManager[None]] | None = None,
) -> Minimize:
    """A ``Minimize``. ``autocast()``: in which losses are computed; ``within(last)``: around each batch, and whether
    it is the last one."""

    def minimize(loss_of: Callable[[Any], Terms], batches: Sequence[Any]) -> Terms:
        sums: Terms = {}
        optimizer.zero_grad(set_to_none=True)
        for k, batch in enumerate(batches, start=1):
            with ExitStack() as stack:
                if within is not None:
                    stack.enter_context(within(k == len(batches)))
                with autocast():
                    terms = loss_of(batch)
                backward(torch.stack(list(terms.values())).sum() / len(batches))
            sums = {name: sums.get(name, 0) + value.detach() for name, value in terms.items()}
        optimizer.step()
        return {name: value / len(batches) for name, value in sums.items()}

    return minimize


def as_numbers(terms: Terms) -> dict[str, float]:
    """Detached Python numbers, for a log."""
    return {name: float(value.detach()) for name, value in terms.items()}


# ----------------------------------------------------------------------------------------------------- meta-learning


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
        self.step, self.samples = state["step"], state["samples"]
        self.seconds = state.get("seconds", 0.0)
        self.discriminator_active = bool(state.get("discriminator_active", False))


def build_networks(config: ModelConfig) -> tuple[Embedder, Generator, Discriminator]:
    """The three networks with spectral norm. ValueError where their sizes do not fit each other."""
    embedder, generator = Embedder(**config.embedder), Generator(**config.generator)
    discriminator = Discriminator(**config.discriminator)
    sizes = {embedder.embedding_dim, generator.config.embedding_dim, len(discriminator.w0)}
    if len(sizes) != 1:
        raise ValueError(f"embedding dimensions differ: {sizes}")
    return embedder, generator, discriminator


class Trainer:
    """One run of meta-learning: networks, optimisers, averages and counters, and the step over them.

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

        ValueError where sizes do not fit, or where a loss has no network.
        """
        if tracker is not None and importlib.util.find_spec(tracker) is None:
            raise MissingDependencyError(f"{tracker} is not installed. Install it: pip install {tracker}.")
        from accelerate import Accelerator

        torch.manual_seed(config.seed)
        self.data, self.output = data, output
        self.accelerator: Accelerator = Accelerator(mixed_precision=mixed_precision, log_with=tracker)
        device = self.accelerator.device
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # sizes never change
            torch.set_float32_matmul_precision("high")
        networks = [net.to(device, memory_format=torch.channels_last) for net in build_networks(config.model)]
        for net in networks:
            check_sizes(config.image_size, net.config.patch_size, net.config.channels)
        embedder, generator, discriminator = networks
        identities = nn.Embedding(len(data.identities), embedder.embedding_dim)  # W; never published
        nn.init.zeros_(identities.weight)  # initialize_discriminator() gives it its values
        self.identities = identities.to(device)
        self.averages = {"embedder": EMA(embedder, config.ema), "generator": EMA(generator, config.ema)}
        # Tensor cores want channels last; on a CPU these networks have been measured, and trained with, as they are.
        layout: dict[str, Any] = {"memory_format": torch.channels_last} if device.type == "cuda" else {}
        content_paths = config.feature_net.split(",") if config.feature_net else []
        self.loss_nets = LossNets(config.losses, content_paths, config.identity_net or None).to(device, **layout)
        self.config = replace(config, losses=self.loss_nets.weights)
        weights = self.config.losses
        judged = weights.parts > 0 or weights.part_features > 0
        self._prepare(embedder, generator, discriminator, PartDiscriminators().to(device) if judged else None)
        self.progress = Progress()
        self.pause = 0.0
        """Seconds that saving and drawing take at the end of a run that stops by the clock."""
        self.start_from = ""
        """Name of the checkpoint or model whose weights this run began with."""
        self.accelerator.register_for_checkpointing(self.progress, *self.averages.values(), self.identities)
        self._rows: list[tuple[Tensor, Tensor]] = []
        """People and their W_i, of the discriminator's batches since W was last updated."""

    def _prepare(
        self,
        embedder: Embedder,
        generator: Generator,
        discriminator: Discriminator,
        part_discriminators: PartDiscriminators | None,
    ) -> None:
        """Optimisers, and what accelerate makes of networks and optimisers."""
        config = self.config
        generator_optimizer = torch.optim.Adam(
            [*embedder.parameters(), *generator.parameters()], lr=config.generator_rate, betas=config.betas, fused=True
        )
        judges = [net for net in (discriminator, part_discriminators) if net is not None]
        judging = [parameter for judge in judges for parameter in judge.parameters()]
        discriminator_optimizer = torch.optim.Adam(
            judging, lr=config.discriminator_rate, betas=config.betas, fused=True
        )
        identity_optimizer = torch.optim.SparseAdam(
            self.identities.parameters(), lr=config.discriminator_rate, betas=config.betas
        )
        (
            self.embedder,
            self.generator,
            self.discriminator,
            self.generator_optimizer,
            self.discriminator_optimizer,
            self.identity_optimizer,
        ) = self.accelerator.prepare(
            embedder, generator, discriminator, generator_optimizer, discriminator_optimizer, identity_optimizer
        )
        self.part_discriminators = None
        if part_discriminators is not None:
            self.part_discriminators = self.accelerator.prepare(part_discriminators)

    # -------------------------------------------------------------------------------------------------- the step

    def step(self, *batches: Episode) -> Terms:
        """One update of E and G, then of D and W, by the mean gradient of the batches; the weighted terms' means."""
        config, accelerator = self.config, self.accelerator
        self.set_rates()
        adversarial = self.progress.step >= config.adversarial_from
        if adversarial and not self.progress.discriminator_active:
            self.initialize_discriminator()
        self._rows.clear()
        terms = training_step(
            Networks(self._embed, self._generate, self.discriminator, self._identity, self.part_discriminators),
            batches,
            self.loss_nets,
            minimize_with(
                self.generator_optimizer, accelerator.autocast, accelerator.backward,
                partial(self._sync_gradients, (self.embedder, self.generator)),
            ),
            self._minimize_discriminator,
            config.discriminator_steps if adversarial else 0,
            self.progress.step >= config.adversarial_from + config.discriminator_warmup,
            config.part_gamma,
        )  # fmt: skip
        self.averages["embedder"].update(accelerator.unwrap_model(self.embedder))
        self.averages["generator"].update(accelerator.unwrap_model(self.generator))
        self.progress.step += 1
        self.progress.samples += self.samples_per_step
        return terms

    def _embed(self, shots: Tensor, landmark_images: Tensor) -> Tensor:
        """e_i (B, N) from the first of the shots: as many as this step has."""
        number = self._number_of_shots(shots.shape[1])
        return self.embedder(shots[:, :number], landmark_images[:, :number]).mean(dim=1)

    def _generate(self, landmark_images: Tensor, embedding: Tensor, render: Tensor) -> Tensor:
        conditioned = bool(self.config.model.generator.get("render_conditioned", False))
        return self.generator(landmark_images, embedding=embedding, render=render if conditioned else None)

    def _identity(self, who: Tensor) -> Tensor:
        """W_i (B, N); where D learns a leaf of its own, whose gradient ``_update_identities`` exchanges."""
        rows = self.identities(who)
        if torch.is_grad_enabled():
            rows = rows.detach().requires_grad_()
            self._rows.append((who, rows))
        return rows

    def _minimize_discriminator(self, loss_of: Callable[[Any], Terms], batches: Sequence[Any]) -> Terms:
        """One update of D and of the rows of W that came."""
        learning = tuple(net for net in (self.discriminator, self.part_discriminators) if net is not None)
        minimize = minimize_with(
            self.discriminator_optimizer, self.accelerator.autocast, self.accelerator.backward,
            partial(self._sync_gradients, learning),
        )  # fmt: skip
        terms = minimize(loss_of, batches)
        self._update_identities(
            torch.cat([who for who, _ in self._rows]), torch.cat([cast(Tensor, rows.grad) for _, rows in self._rows])
        )
        self._rows.clear()
        return terms

    def _update_identities(self, who: Tensor, gradients: Tensor) -> None:
        """A step of W by the mean over the processes; ``who`` (B,): rows, ``gradients`` (B, N): theirs here."""
        who, gradients = self.accelerator.gather((who, gradients))
        weight = self.identities.weight
        with torch.sparse.check_sparse_tensor_invariants(True):
            weight.grad = torch.sparse_coo_tensor(who[None], gradients / self.accelerator.num_processes, weight.shape)
            self.identity_optimizer.step()

    @contextmanager
    def _sync_gradients(self, networks: Sequence[nn.Module], last: bool) -> Iterator[None]:
        """Within: gradients of the networks are averaged over the processes with the last batch, else only added up."""
        with ExitStack() as stack:
            if not last:
                for net in networks:
                    stack.enter_context(self.accelerator.no_sync(net))
            yield

    def _number_of_shots(self, most: int) -> int:
        """K of this step: the same in all processes, and in a run that was stopped."""
        fewest = self.config.fewest_shots
        if fewest is None or fewest >= most:
            return most
        return int(np.random.default_rng((self.config.seed, self.progress.step)).integers(fewest, most + 1))

    @torch.no_grad()
    def initialize_discriminator(self) -> None:
        """Starts W_i at e_i, and w0 and b where the scores of everybody's portrait come nearest to zero.

        Embeddings are not negative (the ReLU before their sum). From a W around zero, L_MCH would drive them all to
        zero, where the ReLU passes no gradient: the embedder would be dead within some hundred steps. V is not
        negative for the same reason, and much the same for all images at first. What all have in common must
        therefore not count, or the first scores are in the tens, and the hinge silences V to be rid of them.
        """
        embedder = self.accelerator.unwrap_model(self.embedder).eval()
        discriminator = self.accelerator.unwrap_model(self.discriminator).eval()
        converge_spectral_norms(discriminator)
        scale = float(discriminator.config.score_scale)
        column = self.identities.weight.zero_()
        vectors = torch.zeros_like(column)  # V of each person's portrait, as it counts
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        for portraits in grouped(self.data.portraits(rank, processes), PORTRAITS_AT_ONCE):
            who = torch.tensor([identity for identity, _, _ in portraits], device=column.device)
            images = torch.stack([image for _, image, _ in portraits]).to(column.device)  # (P, 3, H, W)
            lines = torch.stack([lines for _, _, lines in portraits]).to(column.device)
            column[who] = embedder(images[:, None], lines[:, None])[:, 0]
            vectors[who] = scale * discriminator.encoder(torch.cat([lines, images], dim=1))[0]
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

    # -------------------------------------------------------------------------------------------- rates and batches

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

    def set_rates(self) -> None:
        """Learning rates as a function of what is left, so that a resumed run has those of one that ran through."""
        config = self.config
        share = min(1.0, self.share_left() / config.cooldown) if config.cooldown > 0 else 1.0
        for optimizer, rate in (
            (self.generator_optimizer, config.generator_rate),
            (self.discriminator_optimizer, config.discriminator_rate),
            (self.identity_optimizer, config.discriminator_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = share * rate, config.betas

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
        from accelerate.utils import send_to_device

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

    def averaged(self) -> tuple[Embedder, Generator, Discriminator]:
        """What is published: averages of E and G and the discriminator, spectral norm folded, on the CPU."""
        embedder, generator, discriminator = build_networks(self.config.model)
        for copy, net in (
            (embedder, self.embedder), (generator, self.generator), (discriminator, self.discriminator),
        ):  # fmt: skip
            copy.load_state_dict(self.accelerator.unwrap_model(net).state_dict())
        self.averages["embedder"].copy_to(embedder)
        self.averages["generator"].copy_to(generator)
        return folded(embedder), folded(generator), folded(discriminator)
