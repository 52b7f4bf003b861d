"""Meta-learning on real tiny networks: everything learns in its order, and a stopped run goes on as if it had not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import typer
from accelerate.state import AcceleratorState
from people import write_people
from PIL import Image
from tiny import save_tiny_identity_net
from torch.utils.data import default_collate
from typer.testing import CliRunner

from talking_heads.errors import InvalidModelError, MissingDependencyError
from train.checkpoints import checkpoints, load_checkpoint, save_checkpoint, start_from_model
from train.config import LossWeights, ModelConfig, preset, read_config
from train.data.episodes import EpisodeDataset
from train.data.loading import order
from train.ema import EMA
from train.meta import main
from train.trainer import Trainer, as_numbers, build_networks
from train.training_loop import LoopOptions, train, training_facts, validate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CONFIG = preset("tiny", jitter=0.0)
app = typer.Typer()
app.command()(main)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def no_validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_people(tmp_path_factory.mktemp("train"))
    (folder / "dora.npz").unlink()
    return folder


@pytest.fixture
def start(clips: Path, tmp_path: Path) -> Callable[..., Trainer]:
    """A new run, in float32 unless told otherwise; ``folder`` names it, the rest changes the configuration."""

    def make(folder: str = "run", mixed_precision: str = "no", **changes) -> Trainer:
        AcceleratorState._reset_state(reset_partial_state=True)  # one run a process is what accelerate expects
        config = replace(CONFIG, **changes)
        data = EpisodeDataset.from_folders([clips], config, config.steps * config.batch_size)
        return Trainer(config, data, tmp_path / folder, mixed_precision)

    return make


def weights(run: Trainer) -> dict[str, dict[str, torch.Tensor]]:
    names = ("embedder", "generator", "discriminator", "identities", "part_discriminators")
    nets = {name: getattr(run, name) for name in names}
    return {name: {key: value.clone() for key, value in net.state_dict().items()} for name, net in nets.items() if net}


def everything(run: Trainer) -> dict[str, object]:
    """All that a run is made of, flat: weights, buffers, averages, optimisers, counters."""
    state: dict[str, object] = {"step": run.progress.step, "samples": run.progress.samples}
    for name, values in weights(run).items():
        state |= {f"{name}.{key}": value for key, value in values.items()}
    for name, average in run.averages.items():
        state[f"{name}.count"] = average.count
        state |= {f"average.{name}.{key}": value for key, value in average.values.items()}
    for name in ("generator_optimizer", "discriminator_optimizer", "identity_optimizer"):
        for i, values in getattr(run, name).state_dict()["state"].items():
            state |= {f"{name}.{i}.{key}": value for key, value in values.items()}
    return state


def assert_equal(one: dict[str, object], other: dict[str, object]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        equal = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert equal, name


def episodes(run: Trainer, first: int, number: int) -> list[int]:
    """Numbers of the episodes that come as the samples from ``first`` on."""
    return list(order(first, number, run.config.targets_per_head, run.samples_per_step))


# ----------------------------------------------------------------------------------------------------- the steps


def test_every_weight_learns_and_every_term_is_finite(start, tmp_path):
    net = save_tiny_identity_net(tmp_path / "net.npz")
    run = start(steps=3, losses=replace(CONFIG.losses, identity=3.0), identity_net=str(net))
    run.initialize_discriminator()  # which gives everybody a first column of W
    before = weights(run)
    for batch in run.batches(workers=0):
        terms = run.step(batch)
        assert set(terms) == {"content", "pixel", "identity", "adversarial", "feature_matching", "match", "hinge"}
        assert all(abs(value) < 1000 for value in terms.values())
        assert terms["identity"] > 0
    assert (run.progress.step, run.progress.samples) == (3, 6)
    seen = {int(run.data[i]["identity"]) for i in episodes(run, 0, 6)}
    for name, after in weights(run).items():
        for key, value in after.items():
            assert torch.isfinite(value).all(), key
            if name == "identities":  # only of the people who came
                changed = (value != before[name][key]).any(dim=1).nonzero().flatten().tolist()
                assert set(changed) == seen
            elif "attention" not in key:
                assert not torch.equal(value, before[name][key]), f"{name}.{key} does not learn"


def test_the_identity_term_teaches_and_needs_its_network(start, tmp_path):
    alone = replace(CONFIG.losses, pixel=0.0, match=0.0, identity=3.0)
    with pytest.raises(ValueError, match="identity term needs the weights"):
        start(losses=alone)
    net = save_tiny_identity_net(tmp_path / "net.npz")
    run = start(steps=1, batch_size=4, losses=alone, identity_net=str(net), adversarial_from=1000, generator_rate=1e-2)
    batch = next(run.batches(workers=0))
    terms = [run.step(batch)["identity"] for _ in range(30)]
    assert sum(terms[-5:]) < 0.9 * sum(terms[:5])
    measured, _ = validate(run, [run.data[0], run.data[4]])
    assert np.isfinite([measured["identity"], measured["identity_render"]]).all()
    assert training_facts(run)["identity"] == "net.npz"  # by which no model should be judged alone


def test_the_discriminator_joins_at_its_step(start):
    run = start(steps=3, adversarial_from=2)
    before = weights(run)
    for batch in run.batches(workers=0):
        terms = run.step(batch)
        now = weights(run)
        joined = run.progress.step > 2
        assert ("hinge" in terms) == ("adversarial" in terms) == ("match" in terms) == joined
        for name in ("discriminator", "identities"):
            same = all(torch.equal(value, before[name][key]) for key, value in now[name].items())
            assert same != joined, name


def test_a_discriminator_that_warms_up_learns_and_does_not_teach(start):
    run = start(steps=3, adversarial_from=1, discriminator_warmup=1)
    before = weights(run)
    for step, batch in enumerate(run.batches(workers=0)):
        terms = run.step(batch)
        assert ("hinge" in terms) == (step >= 1)
        assert ("adversarial" in terms) == ("match" in terms) == (step >= 2)
    assert any(
        not torch.equal(value, before["discriminator"][key]) for key, value in weights(run)["discriminator"].items()
    )


def test_a_new_discriminator_knows_nothing_and_says_so(start):
    """Scores of everybody's portrait are about zero, and W is what the embedder says."""
    run = start(steps=1)
    run.initialize_discriminator()
    discriminator = run.discriminator.eval()
    for identity, image, lines in run.data.portraits():
        with torch.no_grad():
            column = run.identities.weight[identity]
            score = discriminator(image[None], lines[None], column).scores
            assert abs(float(score)) < 0.5  # the margins of the hinge loss lie at 1
            expected = run.embedder.eval()(image[None, None], lines[None, None])[0, 0]
        torch.testing.assert_close(column, expected, rtol=1e-2, atol=1e-3)
    assert run.progress.discriminator_active


def test_the_number_of_discriminator_steps_is_kept(start):
    run = start(steps=1, discriminator_steps=3)
    run.step(next(iter(run.batches(workers=0))))
    counts = {int(state["step"]) for state in run.discriminator_optimizer.state_dict()["state"].values()}
    assert counts == {3}
    assert {int(state["step"]) for state in run.generator_optimizer.state_dict()["state"].values()} == {1}


def test_each_step_has_its_number_of_shots(start):
    """A run that was stopped draws them again."""
    run, again = start(steps=20, num_shots=4, fewest_shots=1), start(steps=20, num_shots=4, fewest_shots=1)
    drawn = []
    for step in range(20):
        run.progress.step = again.progress.step = step
        drawn.append(run._number_of_shots(4))
        assert again._number_of_shots(4) == drawn[-1]
    assert set(drawn) == {1, 2, 3, 4}
    assert start(steps=1, num_shots=4)._number_of_shots(4) == 4
    run.progress.step = drawn.index(1)
    batch = next(iter(run.batches(workers=0)))
    assert batch["shots"].shape[1] == 4
    seen: list[int] = []
    run.embedder.register_forward_pre_hook(lambda _net, inputs: seen.append(inputs[0].shape[1]))
    run.step(batch)
    assert set(seen) == {1}


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"patch_block": 1}, "of another design"),
        ({"score_scale": 1 / 256}, "of another design"),
        (None, "the model has none"),
    ],
)
def test_a_discriminator_that_does_not_fit_begins_anew(start, tmp_path, capsys, change, reason):
    """While embedder and generator go on from the model."""
    first = start(steps=1)
    train(first, [], LoopOptions(workers=0))
    model = first.config.model
    if change is None:
        shutil.rmtree(tmp_path / "run" / "model" / "discriminator")
    run = start(steps=1, seed=5, model=replace(model, discriminator=model.discriminator | (change or {})))
    start_from_model(run, tmp_path / "run" / "model")
    assert reason in capsys.readouterr().out
    _, published, before = (net.state_dict() for net in first.averaged())
    _, generator, discriminator = (net.state_dict() for net in run.averaged())
    for name, value in published.items():
        torch.testing.assert_close(generator[name], value, atol=2e-3, rtol=2e-3)
    assert (discriminator["w0"] - before["w0"]).abs().max() > 0.1


def test_the_papers_generator_learns_without_a_render(start):
    """In 16 bit as well, which is the command's default."""
    direct = CONFIG.model.generator | {"render_conditioned": False, "skips": False}
    run = start(steps=2, mixed_precision="bf16", model=replace(CONFIG.model, generator=direct))
    before = weights(run)
    for batch in run.batches(workers=0):
        assert all(abs(value) < 1000 for value in run.step(batch).values())
    for name in ("embedder", "generator", "discriminator"):
        moved = {key for key, value in weights(run)[name].items() if not torch.equal(value, before[name][key])}
        assert moved >= {key for key in before[name] if key.endswith(".original")}, name
    _, generator, _ = run.averaged()
    assert not generator.config.render_conditioned
    measured, _ = validate(run, [run.data[0]])
    assert 0 < measured["pixel"] < 2


def test_without_match_and_pixel_their_terms_are_gone(start):
    run = start(steps=1, losses=LossWeights(squeezenet=0.0, match=0.0, pixel=0.0))
    terms = run.step(next(iter(run.batches(workers=0))))
    assert set(terms) == {"content", "adversarial", "feature_matching", "hinge"}


def test_one_batch_is_overfitted(start):
    """The errors of the render are learned: the loss falls well below that at which training started."""
    run = start(steps=1, batch_size=4, adversarial_from=1000, generator_rate=1e-2)
    batch = next(iter(run.batches(workers=0)))
    batch["render"][:, -1] = 0  # stillness: tiny people hardly move, and what is still may not be painted
    pixels = [run.step(batch)["pixel"] for _ in range(60)]
    assert sum(pixels[-5:]) < 0.6 * sum(pixels[:5])


def test_training_starts_at_the_render(start):
    run = start()
    measured, picture = validate(run, [run.data[i] for i in range(3)])
    assert measured["pixel"] == pytest.approx(measured["pixel_render"], rel=0.35)
    assert picture.dtype.name == "uint8" and picture.ndim == 3


# ------------------------------------------------------------------------------------------------------ averages


def test_the_average_follows_its_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    average = EMA(model, decay=0.3)
    expected = model.weight.item()
    for k in range(1, 5):
        with torch.no_grad():
            model.weight.fill_(float(k))
        average.update(model)
        decay = min(0.3, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * k
        assert average.values["weight"].item() == pytest.approx(expected, rel=1e-6)
    other = torch.nn.Linear(1, 1, bias=False)
    average.copy_to(other)
    assert other.weight.item() == average.values["weight"].item()


def test_what_is_published_is_the_average_with_spectral_norm_folded(start):
    run = start(steps=4)
    for batch in run.batches(workers=0):
        run.step(batch)
    embedder, generator, discriminator = run.averaged()
    for published, name in ((embedder, "embedder"), (generator, "generator"), (discriminator, "discriminator")):
        assert not published.training
        assert not published.config.spectral_norm
        raw = run.averages[name].values if name in run.averages else dict(run.discriminator.named_parameters())
        state = published.state_dict()
        assert not any("parametrizations" in key for key in state)
        for key, value in raw.items():
            if key.endswith(".parametrizations.weight.original"):
                matrix = value.detach().flatten(1).double()
                expected = value.detach() / torch.linalg.matrix_norm(matrix, ord=2)
                got = state[key.replace(".parametrizations.weight.original", ".weight")]
                torch.testing.assert_close(got.double(), expected.double(), rtol=0.06, atol=1e-3)
            else:
                assert torch.equal(state[key], value.detach()), key
    batch = default_collate([run.data[0]])
    with torch.no_grad():
        embedding = embedder(batch["shots"], batch["shot_landmarks"]).mean(dim=1)
        assert torch.isfinite(generator(batch["landmark_image"], embedding=embedding, render=batch["render"])).all()


def test_looking_at_a_run_does_not_change_it(start):
    run = start(steps=2)
    for batch in run.batches(workers=0):
        run.step(batch)
    before = everything(run)
    validate(run, [run.data[i] for i in range(2)])
    run.averaged()
    assert_equal(before, everything(run))


# ------------------------------------------------------------------------------------------------ stop and go on


def test_two_and_two_steps_are_four_steps_bit_for_bit(start, tmp_path):
    alike = {"adversarial_from": 1, "losses": replace(CONFIG.losses, parts=0.1)}
    straight = start("straight", steps=4, **alike)
    train(straight, [], LoopOptions(workers=0))
    first = start("halves", steps=2, **alike)
    train(first, [], LoopOptions(workers=0))
    second = start("halves", steps=4, **alike)
    (checkpoint,) = checkpoints(tmp_path / "halves")
    assert checkpoint.name == "step-0000002"
    load_checkpoint(second, checkpoint)
    assert_equal(everything(first), everything(second))
    train(second, [], LoopOptions(workers=0))
    assert second.progress.step == 4 and second.progress.samples == 8
    assert_equal(everything(straight), everything(second))


def test_a_run_goes_on_at_the_episode_that_comes_next(start):
    run = start(steps=5)
    run.progress.step, run.progress.samples = 2, 4
    images = [batch["image"] for batch in run.batches(workers=0)]
    assert len(images) == 3
    expected = [run.data[i]["image"] for i in episodes(run, 4, 6)]
    assert torch.equal(torch.cat(images), torch.stack(expected))
    run.progress.step = 7  # a run that was already longer than it is asked for now
    assert list(run.batches(workers=0)) == []


def test_workers_give_the_same_batches(start):
    run = start(steps=10)
    run.progress.step, run.progress.samples = 3, 6  # within a block of batches that share their heads
    with closing(run.batches(workers=2)) as made:
        for one, other in zip(run.batches(workers=0), made, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_head_is_made_by_one_worker_once(start, accumulate):
    run = start(steps=8, accumulate=accumulate)
    blocks = list(run._blocks())
    assert [len(block) for block in blocks] == [4 * accumulate] * 2
    heads = [{i // run.config.targets_per_head for batch in block for i in batch} for block in blocks]
    assert all(len(those) == 2 * accumulate for those in heads) and not heads[0] & heads[1]
    everything = [i for block in blocks for batch in block for i in batch]
    assert sorted(everything) == list(range(8 * run.samples_per_step))
    run.progress.step, run.progress.samples = 3, 3 * run.samples_per_step
    assert list(run._blocks()) == [blocks[0][3 * accumulate :], blocks[1]]


def test_a_run_that_fails_leaves_no_workers(start, monkeypatch):
    run = start(steps=4)

    def fail(*_batches: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(run, "step", fail)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        train(run, [], LoopOptions(workers=1))
    assert caught.value.__traceback__ is not None  # whose frames still hold what they held
    assert not psutil.Process().children(recursive=True)


def test_only_the_newest_checkpoints_are_kept_and_all_are_whole(start, tmp_path):
    run = start(steps=4)
    (tmp_path / "run" / "step-0000003.tmp").mkdir(parents=True)  # of a run that was killed
    train(run, [], LoopOptions(workers=0, save_every=1))
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-0000003", "step-0000004"]
    assert not list((tmp_path / "run").glob("*.tmp"))
    assert save_checkpoint(run) == tmp_path / "run" / "step-0000004"  # once more does no harm
    people = json.loads((tmp_path / "run" / "step-0000004" / "people.json").read_text())
    assert people == ["ada", "bob", "cy"]


def test_learning_rates_are_those_of_the_run_that_goes_on(start, tmp_path):
    train(start(steps=1), [], LoopOptions(workers=0))
    run = start(steps=2, generator_rate=0.5, discriminator_rate=0.25, betas=(0.5, 0.9))
    load_checkpoint(run, tmp_path / "run" / "step-0000001")
    assert {(group["lr"], group["betas"]) for group in run.generator_optimizer.param_groups} == {(0.5, (0.5, 0.9))}
    assert {(group["lr"], group["betas"]) for group in run.discriminator_optimizer.param_groups} == {(0.25, (0.5, 0.9))}


def test_a_checkpoint_that_does_not_fit_is_refused(start, tmp_path):
    train(start(steps=1), [], LoopOptions(workers=0))
    checkpoint = tmp_path / "run" / "step-0000001"
    wider = replace(CONFIG.model, embedder=CONFIG.model.embedder | {"channels": [12, 16, 16]})
    with pytest.raises(InvalidModelError, match="does not fit this configuration"):
        load_checkpoint(start(model=wider), checkpoint)
    with pytest.raises(InvalidModelError, match="does not fit"):
        load_checkpoint(start(), tmp_path / "absent")
    (checkpoint / "people.json").write_text('["eve", "bob", "cy"]')
    with pytest.raises(InvalidModelError, match="other people"):
        load_checkpoint(start(), checkpoint)
    (checkpoint / "people.json").unlink()
    load_checkpoint(start(), checkpoint)


def test_a_run_begins_with_a_published_model(start, tmp_path):
    first = start(steps=2, adversarial_from=0)
    train(first, [], LoopOptions(workers=0))
    published = first.averaged()
    second = start(seed=5)
    start_from_model(second, tmp_path / "run" / "model")
    for before, after in zip(published, second.averaged(), strict=True):
        for name, value in before.state_dict().items():
            # Saved in 16 bit, and folded again: the norm of a folded weight is one but for rounding.
            torch.testing.assert_close(after.state_dict()[name], value, atol=2e-3, rtol=5e-3, msg=name)
    second.progress.step = 0
    assert all(torch.isfinite(value) for value in second.step(next(second.batches(workers=0))).values())
    wider = replace(CONFIG.model, embedder=CONFIG.model.embedder | {"channels": [12, 16, 16]})
    with pytest.raises(InvalidModelError, match="does not fit this configuration"):
        start_from_model(start(model=wider), tmp_path / "run" / "model")


def test_the_mean_gradient_of_several_batches_is_that_of_one_as_large(start):
    """Over all losses that are means over the batch; the weighted pixel term divides by what a batch weighs."""
    plain = {"mouth_weight": 0.0, "eye_weight": 0.0, "steps": 3, "generator_rate": 1e-5, "discriminator_rate": 1e-5}
    large, parts = start(batch_size=4, **plain), start(batch_size=2, accumulate=2, **plain)
    assert large.samples_per_step == parts.samples_per_step == 4
    halves = parts.batches(workers=0)
    for batch in large.batches(workers=0):
        assert as_numbers(parts.step(next(halves), next(halves))) == pytest.approx(
            as_numbers(large.step(batch)), rel=1e-3, abs=2e-6
        )
    assert parts.progress.samples == large.progress.samples == 12
    ours, theirs = everything(parts), everything(large)
    for name, value in theirs.items():
        if not name.endswith(("_u", "_v")):  # of weights with two singular values that are nearly equal
            size = max(1.0, float(torch.as_tensor(value).abs().max()))
            torch.testing.assert_close(ours[name], value, rtol=0.01, atol=1e-3 * size, msg=name)


# ----------------------------------------------------------------------------------------------------- in parallel


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "train.meta"]


def in_parallel(launcher: list[str], output: Path, clips: Path, *arguments: str) -> subprocess.Popen:
    """Two processes on this machine's processor."""
    command = [sys.executable, *launcher, "--clips", str(clips), "--output", str(output), "--preset", "tiny"]
    command += ["--mixed-precision", "no", "--workers", "0", "--log-every", "1", "--sample-every", "100000", *arguments]
    cpu = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | cpu, **pipes)


def ranks() -> list[str]:
    """Arguments of a script that starts two processes faster than torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return [str(ROOT / "tests" / "ranks.py"), str(free.getsockname()[1])]


def log_lines(output: Path) -> list[dict[str, float]]:
    path = output / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for(process: subprocess.Popen, output: Path, step: int) -> None:
    while not any(line["step"] >= step for line in log_lines(output)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_two_processes_are_as_one_with_their_batches_and_a_killed_one_loses_nothing(no_validation, start, tmp_path):
    """SIGKILL for one of two, then the same command again: its steps are those that were lost, to the last digit."""
    saved, killed_after = 3, 5
    alike = {"steps": saved, "accumulate": 2, "adversarial_from": 1, "generator_rate": 1e-4, "jitter": 1.0}
    alike["losses"] = replace(CONFIG.losses, parts=0.1)
    alone = start("alone", **alike)
    train(alone, [], LoopOptions(workers=0, log_every=1))

    output = tmp_path / "two"
    arguments = ["--save-every", str(saved), "--adversarial-from", "1", "--generator-rate", "1e-4"]
    arguments += ["--part-weight", "0.1", "--steps"]
    process = in_parallel(ranks(), output, no_validation, *arguments, "5000")
    wait_for(process, output, killed_after)
    _, second = sorted(psutil.Process(process.pid).children(), key=lambda child: child.pid)
    second.kill()
    process.communicate(timeout=60)
    assert process.returncode != 0
    before = log_lines(output)
    for path in checkpoints(output)[1:]:  # it was too quick for us
        shutil.rmtree(path)
    process = in_parallel(ranks(), output, no_validation, *arguments, str(killed_after))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

    after = log_lines(output)[len(before) :]
    assert [line["step"] for line in after] == [4, 5]
    for line in before + after:
        assert line["samples"] == 4 * line["step"]
        del line["samples_per_second"], line["waiting"]
    assert after == before[saved:killed_after]
    for line, same in zip(before, log_lines(tmp_path / "alone"), strict=False):
        # From the discriminator's first step on, Adam follows signs of gradients, however small: rounding grows.
        tolerance = 0.002 if line["step"] <= 2 else 0.05
        assert line == pytest.approx({name: same[name] for name in line}, rel=tolerance)
    run = start("one", **alike)
    load_checkpoint(run, checkpoints(output)[0])  # of two processes, by one
    assert (run.progress.step, run.progress.samples) == (saved, 4 * saved)
    far = (run.identities.weight - alone.identities.weight).abs() > 0.3 * CONFIG.discriminator_rate  # of one step
    assert far.float().mean() < 0.05


def test_sigterm_stops_all_processes_with_a_checkpoint_from_which_one_goes_on(no_validation, start, tmp_path):
    """As schedulers do it: torchrun and the processes that it started are told, and torchrun tells them once more."""
    output = tmp_path / "two"
    process = in_parallel(TORCHRUN, output, no_validation, "--steps", "5000")
    wait_for(process, output, 2)
    for one in [*psutil.Process(process.pid).children(), process]:
        one.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    (checkpoint,) = checkpoints(output)
    step = int(checkpoint.name.removeprefix("step-"))
    assert f"Stopped after step {step} of 5000; {checkpoint} is saved. The same command goes on." in said, errors
    assert said.count("Stopped after step") == 1
    run = start(steps=step + 1)
    load_checkpoint(run, checkpoint)
    assert (run.progress.step, run.progress.samples) == (step, 4 * step)
    for batch in run.batches(workers=0):
        run.step(batch)
    assert (run.progress.step, run.progress.samples) == (step + 1, 4 * step + 2)


# ------------------------------------------------------------------------------------------------ what is written


def test_a_run_writes_its_configuration_log_and_pictures(start, tmp_path, capsys):
    run = start(steps=5, adversarial_from=3)
    validation = [run.data[i] for i in range(3)]
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(run, validation, LoopOptions(workers=0, log_every=2, sample_every=4))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    folder = tmp_path / "run"
    assert read_config(folder / "config.json") == run.config
    assert "parameters in millions" in capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    training = {line["step"]: line for line in lines if "validation" not in line}
    assert list(training) == [2, 4, 5]
    assert [line["step"] for line in lines if "validation" in line] == [0, 4, 5]
    assert training[4]["samples"] == 8 and "hinge" not in training[2]
    assert training[4]["hinge"] > 0.5  # the mean over the one step that had it, not over two
    for line in lines:
        assert all(value == value for value in line.get("validation", line).values())
    facts = json.loads((folder / "model" / "training.json").read_text())
    assert (facts["steps"], facts["samples"], facts["image_size"], facts["num_shots"]) == (5, 10, 32, 2)
    assert facts["identity"] == ""
    assert facts["hours"] == run.progress.seconds / 3600 > 0
    kinds = {row["kind"]: (row["clips"], row["people"], row["frames"]) for row in facts["data"]}
    assert kinds == {"video": (2, 1, 11), "stills": (1, 1, 1), "animated": (1, 1, 4)}
    again = start(steps=5)
    load_checkpoint(again, checkpoints(folder)[-1])
    assert again.progress.seconds == run.progress.seconds
    for step in (0, 4, 5):
        with Image.open(folder / "samples" / f"step-{step:07d}.png") as image:
            assert image.width > image.height  # five columns, three rows


def test_a_configuration_comes_back_from_its_file(tmp_path):
    for name in ("tiny", "default", "paper", "paper-128"):
        config = preset(name, feature_net="a.npz,b.pth")
        (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
        assert read_config(tmp_path / "config.json") == config
    for text in ("{}", "[]", "no", json.dumps(asdict(CONFIG) | {"colour": 1})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InvalidModelError, match="not the configuration of a run"):
            read_config(tmp_path / "config.json")
    with pytest.raises(InvalidModelError):
        read_config(tmp_path / "absent.json")


def test_a_tracker_that_is_not_installed_is_named(clips, tmp_path):
    data = EpisodeDataset.from_folders([clips], CONFIG, 2)
    with pytest.raises(MissingDependencyError, match="pip install no_such_tracker"):
        Trainer(CONFIG, data, tmp_path, mixed_precision="no", tracker="no_such_tracker")


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="embedding dimensions differ"):
        build_networks(ModelConfig(**asdict(CONFIG.model) | {"embedder": {"channels": [8, 16, 8], "image_size": 32}}))


def test_errors_are_one_sentence_and_exit_code_2(no_validation, tmp_path):
    clips = no_validation
    AcceleratorState._reset_state(reset_partial_state=True)
    base = ["--output", str(tmp_path / "run"), "--mixed-precision", "no", "--clips"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        ([*base, str(empty), "--preset", "tiny"], "There are no prepared clips in"),
        ([*base, str(clips)], "the content loss needs the weights of squeezenet"),
        ([*base, str(clips), "--preset", "paper"], "needs the weights of vgg19 and vggface"),
        ([*base, str(clips), "--preset", "tiny", "--image-size", "30"], "image_size must be a multiple of 8"),
        ([*base, str(clips), "--feature-net", str(tmp_path / "absent.npz")], "There are no feature weights at"),
        ([*base, str(clips), "--preset", "huge"], "unknown preset 'huge'"),
        ([*base, str(clips), "--preset", "tiny", "--start-from", str(empty)], "does not fit"),
    ):
        AcceleratorState._reset_state(reset_partial_state=True)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ") and words in line
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(app, [*base, str(clips), "--tracker", "magic"]).exit_code == 2


def test_sigterm_saves_and_the_same_command_goes_on(no_validation, tmp_path):
    """A real signal in the middle: what was made so far is saved; the same command line then runs on from there."""
    clips = no_validation
    output = tmp_path / "run"
    arguments = ["--clips", str(clips), "--output", str(output), "--preset", "tiny", "--mixed-precision", "no"]
    arguments += ["--workers", "0", "--log-every", "1", "--sample-every", "100000"]
    log = output / "log.jsonl"
    over = threading.Event()

    def stop() -> None:
        """In the middle of the run: its handler of the signal is there then."""
        while not over.wait(0.02):
            if log.is_file() and '"samples"' in log.read_text():
                return os.kill(os.getpid(), signal.SIGTERM)

    AcceleratorState._reset_state(reset_partial_state=True)
    with ThreadPoolExecutor() as pool:
        pool.submit(stop)
        result = CliRunner().invoke(app, [*arguments, "--steps", "5000"])
        over.set()
    assert result.exit_code == 0, result.output
    (checkpoint,) = checkpoints(output)
    step = int(checkpoint.name.removeprefix("step-"))
    last = [json.loads(line) for line in log.read_text().splitlines()][-1]
    assert 0 < step < 5000 and last["step"] == step
    AcceleratorState._reset_state(reset_partial_state=True)
    result = CliRunner().invoke(app, [*arguments, "--steps", str(step + 2)])
    assert result.exit_code == 0, result.output
    assert checkpoints(output)[-1].name == f"step-{step + 2:07d}"
    stage = tmp_path / "stage"
    again = ["--clips", str(clips), "--output", str(stage), "--preset", "tiny", "--steps", "1", "--workers", "0"]
    AcceleratorState._reset_state(reset_partial_state=True)
    result = CliRunner().invoke(app, [*again, "--start-from", str(checkpoint), "--mixed-precision", "no"])
    assert result.exit_code == 0, result.output
    assert checkpoints(stage)[-1].name == "step-0000001"
