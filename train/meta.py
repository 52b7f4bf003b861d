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

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from accelerate import PartialState
from torch.utils.data import DataLoader

from talking_heads.errors import UnreadableMediaError
from talking_heads.hub import check_push, push_model

from .checkpoints import checkpoints, load_checkpoint, start_from_model
from .config import PRESETS, MetaConfig, preset
from .data.episodes import Episode, EpisodeDataset
from .data.loading import begin_worker
from .data.unpack import unpack
from .terminal import mistakes_in_one_line
from .trainer import Trainer
from .training_loop import LoopOptions, train

ENDLESS = 10**9
"""Steps of a run that only the clock ends."""
CLOCK_COOLDOWN = 1 / 3


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
    discriminator_warmup: Annotated[
        int | None, typer.Option(help="Steps, from then on, in which it learns but does not teach.", min=0)
    ] = None,
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
    part_weight: Annotated[
        float | None, typer.Option(help="Weight of the scores of mouth, eyes and face, each seen by itself.")
    ] = None,
    part_feature_weight: Annotated[
        float | None, typer.Option(help="Weight of feature matching in those discriminators.")
    ] = None,
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
    real_targets: Annotated[
        float | None,
        typer.Option(help="Share of an animated photo's episodes whose target is the photo itself.", min=0, max=1),
    ] = None,
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
        changes = {
            "steps": steps, "batch_size": batch_size, "accumulate": accumulate, "image_size": image_size,
            "num_shots": num_shots, "adversarial_from": adversarial_from, "generator_rate": generator_rate,
            "stills_share": stills_share, "cooldown": cooldown, "ema": ema, "fewest_shots": fewest_shots,
            "discriminator_steps": discriminator_steps, "targets_per_head": targets_per_head, "reuse": reuse,
            "discriminator_warmup": discriminator_warmup, "real_targets": real_targets, "minutes": minutes,
            "feature_net": feature_net, "identity_net": str(identity_net or ""), "seed": seed,
        }  # fmt: skip
        if minutes is not None:
            changes |= {"steps": steps or ENDLESS, "cooldown": CLOCK_COOLDOWN if cooldown is None else cooldown}
        weights = {
            "match": match_weight, "adversarial": adversarial_weight, "feature_matching": feature_matching_weight,
            "patches": patch_weight, "parts": part_weight,
            "part_features": part_feature_weight,
            "identity": identity_weight if identity_net is not None else None,
        }  # fmt: skip
        config = preset(preset_name, **_given(changes))
        config = replace(config, losses=replace(config.losses, **_given(weights)))
        data = EpisodeDataset.from_folders(clips, config, config.steps * config.batch_size)
        validation = _validation_episodes(clips, replace(config, degraded_share=0.0), workers)
        trainer = Trainer(config, data, output, mixed_precision, tracker)
        _start(trainer, start_from)
    options = LoopOptions(
        workers, log_every, save_every, save_minutes, sample_every or (500 if minutes is None else None)
    )
    with mistakes_in_one_line():
        train(trainer, validation, options, started=started, clock=time.monotonic)
        trainer.accelerator.end_training()
        if push is not None and trainer.accelerator.is_main_process and trainer.share_left() <= 0:
            typer.echo(push_model(output / "model", push, private=True).repo_url)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Without the options that were left out."""
    return {name: value for name, value in values.items() if value is not None}


def _start(trainer: Trainer, start_from: Path | None) -> None:
    """Goes on from the run's newest checkpoint, or else begins with what the run is to start from."""
    if start_from is not None:
        trainer.start_from = "/".join(start_from.parts[-2:])
    existing = checkpoints(trainer.output)
    if existing:
        load_checkpoint(trainer, existing[-1])
    elif start_from is not None:
        if (start_from / "model_index.json").is_file():
            start_from_model(trainer, start_from)
        else:
            load_checkpoint(trainer, start_from)
        trainer.progress.step = trainer.progress.samples = 0
        trainer.progress.seconds = 0.0


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
