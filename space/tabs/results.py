"""The row of results at the top: what the page makes, in motion, each one click away from being tried."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads.examples import EXAMPLE

from ..handlers import PRIVATE
from .animate import AnimateTab

FOLDER = Path(__file__).parents[1] / "results"
"""Moving pictures that docs/results.py makes."""
RESULTS = {
    "laugh": ("A preset", {"preset": "laugh"}),
    "clip": ("A clip", {"driving": str(EXAMPLE)}),
    "voice": ("A voice", {"voice": str(EXAMPLE)}),
    "nod": ("A nod", {"preset": "nod"}),
    "group": ("Several people", {}),
}
ASK_FOR_PHOTO = "() => { if (!document.querySelector('#seen')) document.querySelector('#photos input')?.click(); }"
"""Opens the browser's choice of files where there is no photo yet."""


class ResultsRow:
    """Buttons whose pictures play."""

    def lay_out(self) -> None:
        """Puts the components where the page is."""
        with gr.Row(elem_classes="th-results", elem_id="results"):
            self.buttons = {
                name: gr.Button(
                    caption, icon=str(FOLDER / f"{name}.webp"), size="sm", min_width=96, elem_classes="th-tile",
                    elem_id=f"result-{name}",
                )
                for name, (caption, _motion) in RESULTS.items()
            }  # fmt: skip

    def wire(self, animate: AnimateTab, tabs: gr.Tabs) -> None:
        """A click chooses what moves the person, and asks for a photo."""
        for name, button in self.buttons.items():
            motion = RESULTS[name][1]
            button.click(None, None, None, js=ASK_FOR_PHOTO, **PRIVATE)
            choose = functools.partial(self._choose, animate, motion)
            button.click(choose, None, [tabs, *animate.choice], show_progress="hidden", **PRIVATE)

    @staticmethod
    def _choose(animate: AnimateTab, motion: dict[str, str]) -> tuple[Any, ...]:
        if not motion:
            return gr.Tabs(selected="group"), *(gr.skip(),) * len(animate.choice)
        return gr.Tabs(selected="animate"), *animate.chosen_by(**motion)
