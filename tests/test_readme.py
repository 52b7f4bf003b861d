"""The commands of the README exist, with their options."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from talking_heads import __version__
from talking_heads.cli import app, spread
from train import push
from train.config import PRESETS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *DOCS]
BLOCKS = [block for page in PAGES for block in re.findall(r"^```\w*\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)]
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
LINES += re.findall(r"\| `(python -m [^`]*)` \|", README)
TRAIN = [line for line in LINES if "-m train." in line]
ANIMATE = [line for line in LINES if line.startswith("python -m talking_heads ")]


def parse(command: object, words: list[str]) -> dict[str, object]:
    """Parses the words of a command; an option that does not exist is an error."""
    return command.make_context("command", words).params  # type: ignore[attr-defined]


def test_the_examples_are_found() -> None:
    assert len(TRAIN) > 14 and len(ANIMATE) > 28


@pytest.mark.parametrize("line", TRAIN)
def test_training_commands_exist_with_these_options(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # options that name files want them to be there
    for name in ("VIDEOS", "PHOTOS", "CLIPS", "PORTRAITS"):
        Path(name).mkdir()
    for name in ("runs/default/model", "ada", "results"):
        Path(name).mkdir(parents=True)
    for name in ("people.csv", "results/results.json", "pack.tar", "squeezenet1_0.npz", "dlib_face_resnet.npz"):
        Path(name).touch()
    module, *words = shlex.split(line, comments=True)[shlex.split(line).index("-m") + 1 :]
    if module == "train.push":
        name, *words = words
        parse(typer.main.get_command(push.app).commands[name], words)  # type: ignore[attr-defined]
        return
    single = typer.Typer()
    single.command()(importlib.import_module(module).main)
    given = parse(typer.main.get_command(single), words)
    if module == "train.meta":
        losses = PRESETS[str(given["preset_name"])].losses
        assert given["feature_net"] or given["pack"] or not (losses.squeezenet or losses.vgg19 or losses.vggface)
        start = given["start_from"]
        if start:  # a model that is here, or what another command has made
            assert (ROOT / start).is_dir() or any(f"--output {start.parent} " in f"{other} " for other in TRAIN)  # type: ignore[operator,attr-defined]


@pytest.mark.parametrize("line", ANIMATE)
def test_the_command_line_takes_these_options(line: str) -> None:
    name, *words = spread(shlex.split(line, comments=True)[3:])
    parse(typer.main.get_command(app).commands[name], words)  # type: ignore[attr-defined]


def test_the_readme_is_short_and_starts_with_what_is_seen() -> None:
    assert README.count("\n") <= 160
    assert "moving.webp" in README.split("# talking_heads\n")[1][:200]
    assert (ROOT / "docs" / "moving.webp").stat().st_size < 3_000_000


def test_the_version_stands_in_one_place() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "talking_heads.__version__"}


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(str(p.relative_to(ROOT)) for p in DOCS)]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:")):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_files_that_are_named_exist() -> None:
    """The files in the table of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for cell in re.findall(r"^\| .* \| (`.*`) \|$", text, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            folder = str(Path(name).parent) if "/" in name.rstrip("/") else folder
            assert (ROOT / name).exists() or (ROOT / folder / name).exists(), name
