"""Cards say what was measured and recorded, in the text and in the metadata alike, and nothing that was not."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from talking_heads.cards import model_card
from talking_heads.errors import InvalidModelError
from talking_heads.hub import BUNDLED
from train import push
from train.evaluation.protocol import METRICS, Options, Outcome, Result
from train.evaluation.results import write_results

METHODS = ("warp", "feed-forward", "truth")


def write_measured(folder: Path) -> Path:
    """results.json of two people at T = 1 and 8; who the clips show is in their names, one value is missing."""
    outcomes = []
    for number, identity in enumerate(("ada", "bob")):
        results = []
        for shots in (1, 8):
            values = {
                method: {metric.name: 0.2 + 0.1 * k + 0.03 * number + 0.01 * shots for metric in METRICS}
                for k, method in enumerate(METHODS)
            }
            values["feed-forward"]["jitter"] = math.nan
            results.append(Result(f"{identity}.mp4", identity, shots, shots, 4, values))
        outcomes.append(Outcome(f"{identity}.mp4", tuple(results)))
    write_results(outcomes, Options(None, folder, shots=(1, 8)))
    return folder / "results.json"


def numbers_of(table: str) -> dict[str, float]:
    """Numbers in the feed-forward column of a table in Markdown."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    column = head.index("feed-forward")
    return {row[0]: float(row[column].split()[0]) for row in rows if row[column]}


def test_what_was_measured_is_the_same_in_the_metadata_and_in_the_tables(tmp_path: Path) -> None:
    evaluation = push.read_evaluation(write_measured(tmp_path), "two clips")
    card = ModelCard(str(model_card("me/model", {"embedder": 12}, {}, evaluation)))  # as the Hub reads it
    assert card.data.model_name == "me/model"
    measured = card.data.eval_results
    assert {(result.dataset_config, result.dataset_name) for result in measured} == {
        ("T = 1", "two clips"),
        ("T = 8", "two clips"),
    }
    for shots in (1, 8):
        (table,) = re.findall(rf"### T = {shots}: 2 clips of 2 people\n\n(.*?)\n\n", card.text, re.DOTALL)
        values = {r.metric_name: r.metric_value for r in measured if r.dataset_config == f"T = {shots}"}
        assert len(values) == len(METRICS) - 1  # jitter has no value
        assert values == {name.removeprefix("- "): value for name, value in numbers_of(table).items()}
        assert values["SSIM (higher)"] == pytest.approx(0.315 + 0.01 * shots, abs=5.1e-4)
    assert "ada.mp4" not in card.text and "bob.mp4" not in card.text
    report = (tmp_path / "results.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| SSIM")]
    assert len(rows) == 2 and all(row in card.text for row in rows)


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    card = model_card("me/model", {"embedder": 1234, "generator": 5}, {})
    assert "embedder 1,234, generator 5" in card.text
    assert card.text.count("Not recorded.") == 2 and card.text.count("Not measured yet.") == 1
    assert "model-index" not in str(card)


@pytest.mark.parametrize("content", ["[]", "{}", '{"summary": {"1": {"warp": {}}}, "clips": []}', "no"])
def test_another_file_is_no_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InvalidModelError):
        push.read_evaluation(tmp_path / "results.json", "clips")


def test_a_card_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    results = write_measured(tmp_path)
    done = CliRunner().invoke(push.app, ["model", str(BUNDLED), "me/model", "--results", str(results)])
    assert done.exit_code == 2 and "has a README.md, which goes as it is. Move it away" in done.stderr


def test_the_bundled_card_has_the_numbers_of_its_tables_as_metadata() -> None:
    card = ModelCard.load(BUNDLED / "README.md")
    for shots in (1, 8, 32):
        (table,) = re.findall(rf"^\| T = {shots},.*?\n\n", card.text, re.DOTALL | re.MULTILINE)
        values = {r.metric_name: r.metric_value for r in card.data.eval_results if r.dataset_config == f"T = {shots}"}
        printed = numbers_of(table)
        assert len(values) == 11
        for name, value in values.items():
            assert printed[name] == value, (shots, name)
