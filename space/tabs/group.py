"""The tab in which several people of one photo move, each by a driver of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads.head.presets import PRESETS

from ..handlers import PRIVATE, text
from ..person import Person, numbered
from ..reports import Report, WorkResult
from ..requests import MAX_PEOPLE, DriverRequest, GroupRequest
from ..settings import LimitError
from ..visitor_files import VisitorFiles
from .person_panel import PersonPanel
from .video_output import VideoOutput

STILL, FILE = "stays still", "a file"


class GroupTab:
    """A photo of several people in, all of them in motion out."""

    def __init__(self, files: VisitorFiles, panel: PersonPanel) -> None:
        self.service, self.panel = files.service, panel
        self.output = VideoOutput(files, "group-")

    def lay_out(self) -> None:
        """Puts the components where the page is."""
        gr.Markdown(text("group"))
        with gr.Column(visible=False) as whole:
            picture = gr.Image(label="Who is who", interactive=False, height=260, buttons=[], elem_id="group-picture")
            rows, who, what, files = [], [], [], []
            for k in range(MAX_PEOPLE):
                with gr.Row(visible=False) as row:
                    who.append(gr.Dropdown([], label="Who", min_width=90, scale=1, elem_id=f"group-who-{k}"))
                    choices = [STILL, *PRESETS, FILE]
                    what.append(
                        gr.Dropdown(
                            choices, value=STILL, label="Moves by", min_width=120, scale=2, elem_id=f"group-what-{k}"
                        )
                    )
                    files.append(
                        gr.File(
                            label="Clip, voice or motion file", height=90, visible=False, min_width=160, scale=3,
                            elem_id=f"group-file-{k}",
                        )
                    )  # fmt: skip
                what[k].change(
                    lambda chosen: gr.update(visible=chosen == FILE), what[k], files[k], show_progress="hidden",
                    **PRIVATE,
                )  # fmt: skip
                rows.append(row)
            self.output.lay_out("Animate all", "group")
        self.shown = [whole, picture, *rows, *who]
        panel = self.panel
        self.output.run(self._animate, [panel.person, panel.consent, panel.label, panel.detector, *who, *what, *files])

    def wire(self) -> None:
        """Faces are numbered when there are photos."""
        for event in self.panel.changed:
            event.then(self._people, self.panel.person, self.shown, show_progress="hidden", **PRIVATE)

    def _people(self, person: Person) -> tuple[Any, ...]:
        """Who there is to choose from."""
        number = person.several()
        if number is None:
            return gr.update(visible=False), *(gr.skip(),) * (1 + 2 * MAX_PEOPLE)
        analysis = person.analyses[number]
        faces = [f"face {k + 1}" for k in range(len(analysis.faces))]
        rows = [gr.update(visible=k < len(faces)) for k in range(MAX_PEOPLE)]
        who = [gr.update(choices=faces, value=faces[min(k, len(faces) - 1)]) for k in range(MAX_PEOPLE)]
        return gr.update(visible=True), numbered(analysis), *rows, *who

    def _animate(
        self, folder: Path, person: Person, consent: bool, label: bool, detector: Any, *chosen: Any
    ) -> Iterator[Report | WorkResult]:
        number = person.several()
        if number is None:
            raise LimitError("Add a photo of several people on the left.")
        self.service.check_consent(person, consent)
        drivers: list[DriverRequest | None] = [None] * len(person.analyses[number].faces)
        who, what, files = (chosen[k * MAX_PEOPLE : (k + 1) * MAX_PEOPLE] for k in range(3))
        for name, word, file in zip(who, what, files, strict=True):
            if word == STILL or not name:
                continue
            face = int(name.split()[1]) - 1
            if face >= len(drivers) or drivers[face] is not None:
                raise LimitError(f"There are two motions for {name}. Choose another face for one of them.")
            if word == FILE and not file:
                raise LimitError(f"Add a clip, a voice or a motion file for {name}.")
            drivers[face] = self.service.motions.request_for(file if word == FILE else word, detector)
        return self.service.animate_group(person, number, GroupRequest(tuple(drivers), label=label), folder)
