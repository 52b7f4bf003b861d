"""A button that makes a video, one that cancels, how far it is, the first frames, and the video itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from ..handlers import LOOKS, PRIVATE, RENDERS, own_folder, progress_bar, warn, with_user_errors
from ..reports import Report, WorkResult
from ..settings import LimitError
from ..visitor_files import VisitorFiles

Make = Callable[..., Iterator[Report | WorkResult]]
"""Called with a folder and the inputs' values: checks them, then gives what makes the video in that folder."""
SIDE = 512
"""Pixels of a result's height on the page."""


class VideoOutput:
    """The lower half of each tab that makes videos."""

    def __init__(self, files: VisitorFiles, prefix: str = "") -> None:
        """``prefix``: of the names of the components in the page's HTML."""
        self.files, self.prefix = files, prefix
        self.runs: list[Any] = []

    def lay_out(self, word: str, elem_id: str, interactive: bool = True) -> None:
        """``word`` is on the button, ``elem_id`` its name; ``interactive``: whether it can be pressed at first."""
        prefix = self.prefix
        with gr.Row(elem_classes="th-go"):
            self.start = gr.Button(word, variant="primary", elem_id=elem_id, scale=3, interactive=interactive)
            self.cancel = gr.Button("Cancel", variant="stop", elem_id=f"{prefix}cancel", scale=1, min_width=90)
        self.progress = gr.HTML("", elem_id=f"{prefix}progress")
        self.live = gr.Image(
            label="First frames", visible=False, interactive=False, height=SIDE, buttons=[], elem_id=f"{prefix}live"
        )
        self.video = gr.Video(
            label="Result", interactive=False, visible=False, autoplay=True, loop=True, height=SIDE,
            buttons=["download"], elem_id=f"{prefix}result",
        )  # fmt: skip
        with gr.Row():
            self.make_gif = gr.Button("Make a GIF", size="sm", visible=False, elem_id=f"{prefix}gif")
            self.gif = gr.File(label="GIF", visible=False, elem_id=f"{prefix}gif-file")
        self.make_gif.click(with_user_errors(self._gif), [self.video], self.gif, **LOOKS, **PRIVATE)

    def run(self, make: Make, inputs: Sequence[Any], after: Any = None) -> None:
        """Makes a video when the button is pressed, or when the event ``after`` has succeeded."""

        def follow(*values: Any) -> Iterator[tuple[Any, ...]]:
            yield from self._followed(make, *values)

        run: dict[str, Any] = {
            "fn": with_user_errors(follow),
            "inputs": [*inputs],
            "outputs": [self.progress, self.live, self.video, self.make_gif, self.gif],
            "show_progress": "hidden",
            **RENDERS,
            **PRIVATE,
        }
        event = self.start.click(**run) if after is None else after.success(**run)
        event.failure(
            lambda video: ("", gr.update(visible=False), gr.update(visible=bool(video))),
            self.video, [self.progress, self.live, self.video], **PRIVATE,
        )  # fmt: skip
        self.cancelled_too(event)

    def cancelled_too(self, event: Any) -> None:
        """The cancel button ends this event."""
        # Cancelled work fails, and tidies the page then. Not when the button is pressed: until the server has
        # answered, the next press of the first button would be overlooked.
        self.cancel.click(None, None, None, cancels=[event], **PRIVATE)

    def _followed(self, make: Make, *values: Any) -> Iterator[tuple[Any, ...]]:
        same, hidden = gr.skip(), gr.update(visible=False)
        with own_folder(self.files.cache) as folder:
            work = make(folder, *values)
            yield progress_bar(Report("starting")), hidden, gr.update(value=None), hidden, hidden
            for report in work:
                if isinstance(report, WorkResult):
                    made = report
                elif report.picture is None:
                    yield progress_bar(report), same, same, same, same
                else:
                    yield progress_bar(report), gr.update(value=report.picture, visible=True), hidden, same, same
        warn(made.warnings)
        yield "", hidden, gr.update(value=str(made.file), visible=True), gr.update(visible=True), same

    def _gif(self, video: str | None) -> Any:
        if not video:
            raise LimitError("Make a video first; then there is one to make a GIF of.")
        with own_folder(self.files.cache) as folder:
            return gr.update(value=str(self.files.service.gif(video, folder)), visible=True)
