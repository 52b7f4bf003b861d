"""The measures of the house: how long functions and files may be, and how many parameters a function may have.

Whoever meets a limit asks first what reads better: a helper with a name, or parameters that travel together in a frozen
dataclass. What is better as it is goes into a list here, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("talking_heads", "train", "space")
MOST_LINES = 60
"""Of a function, with its signature and docstring."""
MOST_PARAMETERS = 8
"""Keyword-only ones as well, without ``self`` and ``cls``."""
MOST_LINES_OF_A_FILE = 500

LONG = {
    "talking_heads/cli/animate.py: animate": "its options with their help are too many lines for one function",
    "train/meta.py: main": "its options with their help are too many lines for one function",
}
"""Functions whose signature is not counted, but their body is."""
MANY_PARAMETERS = {
    "talking_heads/pipeline.py: TalkingHeadPipeline.__call__": "what users may choose, each by its name",
    "talking_heads/pipeline.py: TalkingHeadPipeline.dub": "what users may choose, each by its name",
    "talking_heads/pipeline.py: TalkingHeadPipeline.animate_group": "what users may choose, each by its name",
    "talking_heads/avatar.py: Avatar.__init__": "diffusers makes an avatar's config.json of them",
    "talking_heads/models/generator.py: Generator.__init__": "diffusers makes a model's config.json of them",
    "space/tabs/animate.py: AnimateTab._request": "gradio gives the value of each component of the tab",
    "space/tabs/dub.py: DubTab._dub": "gradio gives the value of each component of the tab",
}


@dataclass(frozen=True)
class Function:
    """A function of the code base; nested ones and methods have the names of what they stand in before their own."""

    path: str
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    @property
    def decorators(self) -> list[str]:
        return [ast.unparse(decorator) for decorator in self.node.decorator_list]

    @property
    def is_kernel(self) -> bool:
        """Numba compiles it: it takes arrays one by one, and a call of a helper is not free."""
        return "compiled" in self.decorators

    @property
    def is_command(self) -> bool:
        """Its parameters are the options of a command line: by typer's decorator, or ``typer.run(main)`` in train."""
        commands = any(decorator.startswith(("app.command", "app.callback")) for decorator in self.decorators)
        return commands or (self.path.startswith("train/") and self.name == "main")

    @property
    def is_endpoint(self) -> bool:
        """Its parameters are what programs give, by name, to an endpoint of the page."""
        owner, _, name = self.name.rpartition(".")
        return owner in ("Endpoints", "SceneEndpoints") and not name.startswith("_")

    @property
    def may_have_many_parameters(self) -> bool:
        return self.is_command or self.is_endpoint or str(self) in MANY_PARAMETERS

    @property
    def lines(self) -> int:
        """From ``def`` on; from the docstring on for what is in LONG."""
        first = self.node.body[0].lineno if str(self) in LONG else self.node.lineno
        assert self.node.end_lineno
        return self.node.end_lineno - first + 1

    @property
    def num_parameters(self) -> int:
        given = self.node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        stars = (given.vararg is not None) + (given.kwarg is not None)
        return sum(one.arg not in ("self", "cls") for one in named) + stars


def functions_of(path: str, node: ast.AST, owner: str = "") -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        name = owner
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{owner}.{child.name}".lstrip(".")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(path, name, child)
        yield from functions_of(path, child, name)


SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
FUNCTIONS = [one for path, text in SOURCES.items() for one in functions_of(path, ast.parse(text))]
COUNTED = [one for one in FUNCTIONS if not one.is_kernel]


def test_functions_are_short() -> None:
    assert len(COUNTED) > 500
    assert [f"{one}, {one.lines} lines" for one in COUNTED if one.lines > MOST_LINES] == []


def test_functions_have_few_parameters() -> None:
    many = [one for one in COUNTED if one.num_parameters > MOST_PARAMETERS and not one.may_have_many_parameters]
    assert [f"{one}, {one.num_parameters} parameters" for one in many] == []


def test_files_are_short() -> None:
    lengths = {path: text.count("\n") for path, text in SOURCES.items()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES_OF_A_FILE} == {}


def test_exceptions_are_still_needed() -> None:
    by_name = {str(one): one for one in FUNCTIONS}
    for name in LONG:
        node = by_name[name].node
        assert node.end_lineno and node.end_lineno - node.lineno + 1 > MOST_LINES, name
    for name in MANY_PARAMETERS:
        assert by_name[name].num_parameters > MOST_PARAMETERS, name
    assert any(one.is_kernel for one in FUNCTIONS)
    assert sum(one.is_command for one in FUNCTIONS) > 20 and sum(one.is_endpoint for one in FUNCTIONS) > 8
