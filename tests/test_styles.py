"""The measure of what the embedder does."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from people import write_people
from tiny import save_tiny_model
from typer.testing import CliRunner

from talking_heads import TalkingHeadPipeline
from train.styles import compare_styles, episodes_of, main


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", params=[True, False], ids=["default", "paper"])
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TalkingHeadPipeline:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return TalkingHeadPipeline.from_pretrained(save_tiny_model(folder, render_conditioned=request.param))


def test_another_style_changes_what_it_changes(pipe: TalkingHeadPipeline, clips: Path) -> None:
    (episode,) = episodes_of(pipe, [clips], 2, 1, seed=0)
    stranger = {**episode, "shots": -episode["shots"]}
    found = compare_styles(pipe, [episode, stranger])
    assert found.people == 2 and 0 < found.face < 255 and 0 < found.mouth < 255
    eye = found.discriminator
    assert eye is not None and eye.hinge >= 0 and eye.right in (0, 0.5, 1) and eye.patch_hinge is None
    same = compare_styles(pipe, [episode, episode])
    assert (same.face, same.mouth, same.own_is_nearer) == (0, 0, 0)
    with pytest.raises(ValueError, match="two people"):
        compare_styles(pipe, [episode])


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--clips", str(tmp_path)])
    assert done.exit_code == 2 and "There are no prepared clips" in done.stderr
