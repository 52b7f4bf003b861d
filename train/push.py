"""To the Hugging Face Hub: a model with its card, an avatar, or the page as a Space.

    python -m train.push model FOLDER me/name [--results RESULTS/results.json] [--private] [--variant fp16]
    python -m train.push avatar FOLDER me/ada [--public]
    python -m train.push space me/name [--model me/talking-heads] [--private]

A command that was interrupted is given again: what has arrived is not sent twice. The token is the one that
``hf auth login`` keeps, or HF_TOKEN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from huggingface_hub import EvalResult, RepoCard

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.cards import TASK, Evaluation
from talking_heads.errors import HubError, InvalidModelError
from talking_heads.hub import check_is_model, check_push, push, push_model, read_json, set_variable

from .evaluation.protocol import CONTESTS, FID, METRICS, Result
from .evaluation.report import summary_table
from .terminal import mistakes_in_one_line

app = typer.Typer(help="Push to the Hugging Face Hub.", add_completion=False)

ROOT = Path(__file__).parents[1]
SPACE_FILES = ("README.md", "LICENSE", "app.py", "packages.txt", "requirements.txt")
SPACE_FOLDERS = ("docs", "space", "talking_heads", "train")
"""``docs`` for the README's picture; ``train`` because the page fine-tunes."""
CHECKPOINTS = "talking_heads/checkpoints/"
VARIABLE = "TALKING_HEADS_MODEL"
"""Variable that ``app.py`` reads before the README's ``models:``."""

Repository = Annotated[str, typer.Argument(metavar="REPO", help="Of the Hub, as in me/name.")]
Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False)]
Private = Annotated[bool, typer.Option("--private", help="Nobody else can see it.")]


@app.command()
def model(
    folder: Folder,
    repository: Repository,
    results: Annotated[
        Path | None,
        typer.Option(help="results.json of train.evaluate, for the card.", exists=True, dir_okay=False),
    ] = None,
    measured_on: Annotated[
        str, typer.Option(help="What those clips are called in the card.")
    ] = "clips of unseen people",
    variant: Annotated[str | None, typer.Option(help="Of the weights' files, e.g. fp16.")] = None,
    private: Private = False,
) -> None:
    """A model's folder, its files as they are. Its README.md is the card; where there is none, one is written."""
    with mistakes_in_one_line():
        if results is not None and (folder / "README.md").is_file():
            raise HubError(
                f"{folder} has a README.md, which goes as it is. Move it away to have a card written from the results."
            )
        check_push("model", repository, private=private or None)
        pipe = TalkingHeadPipeline.from_pretrained(folder, variant=variant)
        if pipe.has_discriminator:
            pipe.load_discriminator()
        evaluation = None if results is None else read_evaluation(results, measured_on)
        commit = push_model(folder, repository, private=private or None, variant=variant, evaluation=evaluation)
    typer.echo(commit.repo_url)


@app.command()
def avatar(
    folder: Folder,
    repository: Repository,
    public: Annotated[
        bool, typer.Option("--public", help="Everybody can see it; the person must have agreed.")
    ] = False,
) -> None:
    """An avatar's folder; private unless --public is given, because a face is personal data."""
    with mistakes_in_one_line():
        check_push("avatar", repository, private=not public)
        commit = Avatar.from_pretrained(folder).push_to_hub(repository, private=not public)
    typer.echo(commit.repo_url)


@app.command()
def space(
    repository: Repository,
    model: Annotated[
        str | None, typer.Option(help="Of the Hub, which the page loads: the weights here are not sent, then.")
    ] = None,
    private: Private = False,
) -> None:
    """The page as a Space, out of a checkout of this project: what it needs to run, with its own model or another."""
    with mistakes_in_one_line():
        files = space_files(ROOT, model)
        if model is not None:
            private_model = check_is_model(model)
        commit = push("space", repository, files, private=private or None, replaces=SPACE_FOLDERS)
        if model is not None:
            set_variable(repository, VARIABLE, model)
            if private_model:
                typer.echo(f"{model} is private: give the Space a secret HF_TOKEN that may read it.", err=True)
    typer.echo(commit.repo_url)


def space_files(root: Path, model: str | None = None) -> dict[str, Path | bytes]:
    """Files of a checkout for a Space, by their paths there; with ``model``, its name instead of the bundled weights.

    Raises HubError for another folder.
    """
    missing = [name for name in (*SPACE_FILES, *SPACE_FOLDERS) if not (root / name).exists()]
    if missing:
        raise HubError(
            f"{root} is no checkout of this project: it has no {missing[0]}. Clone it and give the command there."
        )
    paths = [root / name for name in SPACE_FILES]
    paths += [path for name in SPACE_FOLDERS for path in sorted((root / name).rglob("*")) if path.is_file()]
    names = {path.relative_to(root).as_posix(): path for path in paths}
    files: dict[str, Path | bytes] = {
        name: path
        for name, path in names.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.split("/"))
        and not (model is not None and name.startswith(CHECKPOINTS) and name.endswith(".safetensors"))
    }
    if model is not None:
        card = RepoCard.load(root / "README.md", ignore_metadata_errors=True)
        card.data["models"] = [model]
        files["README.md"] = str(card).encode()
    return files


def read_evaluation(path: Path, measured_on: str) -> Evaluation:
    """What a card says of ``results.json`` of ``train.evaluate``: feed-forward as metadata, everything as tables.

    The names of the clips stay here. Raises InvalidModelError for another file.
    """
    report = read_json(path)
    try:
        by_shots = {int(shots): summary for shots, summary in report["summary"].items() if summary}
        records = [Result(**_result_fields(record)) for record in report["clips"]]
        return Evaluation(
            results=[
                _eval_result(shots, metric, summary["feed-forward"][metric.name], measured_on)
                for shots, summary in by_shots.items()
                for metric in (*METRICS, FID)
                if metric.name in summary["feed-forward"]
            ],
            tables="\n".join(_tables(by_shots, records, measured_on)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidModelError(f"{path} is not what train.evaluate writes. Give its results.json.") from None


def _tables(by_shots: Mapping[int, Mapping[str, Any]], records: list[Result], measured_on: str) -> Iterator[str]:
    yield (
        f"By `python -m train.evaluate` on {measured_on}: self-reenactment from T photos, mean and 95 % bootstrap "
        "interval over people. `still` and `warp` need no network; `truth` is the true frames themselves."
    )
    for shots, summary in by_shots.items():
        some = [record for record in records if record.shots == shots]
        yield f"\n### T = {shots}: {len(some)} clips of {len({record.person for record in some})} people\n"
        yield from summary_table(some, summary, (*METRICS, FID), CONTESTS)


def _eval_result(shots: int, metric: Any, value: Mapping[str, float], measured_on: str) -> EvalResult:
    number = value["mean"] if "mean" in value else value["value"]
    return EvalResult(
        task_type=TASK,
        task_name="Self-reenactment",
        dataset_type="custom",
        dataset_name=measured_on,
        dataset_config=f"T = {shots}",
        metric_type=metric.name,
        metric_name=f"{metric.title.removeprefix('- ')} ({metric.better})",
        metric_value=float(metric.text(number)),  # as the table has it
    )


def _result_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """A result in results.json -> the arguments of Result. JSON has no NaN: null stands for it."""
    values = {
        method: {metric: math.nan if value is None else value for metric, value in metrics.items()}
        for method, metrics in record["values"].items()
    }
    named = {"person" if name == "identity" else name: value for name, value in record.items()}
    return named | {"values": values}


if __name__ == "__main__":
    app()
