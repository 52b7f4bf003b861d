"""The tab in which sliders move one picture."""

from __future__ import annotations

from typing import Any

import gradio as gr

from talking_heads.errors import TalkingHeadsError
from talking_heads.head.presets import RANGES

from ..handlers import PRIVATE, text, with_user_errors
from ..person import Person
from ..visitor_files import VisitorFiles
from .person_panel import PersonPanel

LABELS = {
    "yaw": "Turn (degrees)",
    "pitch": "Nod (degrees)",
    "roll": "Lean (degrees)",
    "mouth": "Mouth open",
    "lips": "Lips wide, round",
    "smile": "Smile",
    "eyelids": "Eyelids",
    "brows": "Brows",
    "gaze_x": "Gaze left, right",
    "gaze_y": "Gaze up, down",
}


class EditTab:
    """Sliders and the picture."""

    def __init__(self, files: VisitorFiles, panel: PersonPanel) -> None:
        self.files, self.service, self.panel = files, files.service, panel

    def lay_out(self) -> None:
        gr.Markdown(text("edit"))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=260):  # the picture first: on a phone it would be below the sliders
                picture = gr.Image(
                    label="Edited", interactive=False, type="filepath", height=360, buttons=["download"],
                    elem_id="edited",
                )  # fmt: skip
            with gr.Column(min_width=260):
                sliders = [
                    gr.Slider(low, high, 0, step=1 if high > 1 else 0.05, label=LABELS[name], elem_id=f"edit-{name}")
                    for name, (low, high) in RANGES.items()
                ]
                reset = gr.Button("Back to the photo", size="sm")
        wired: dict[str, Any] = {
            "fn": with_user_errors(self._edit),
            "inputs": [self.panel.person, self.panel.consent, *self.panel.frames, *sliders],
            "outputs": picture,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_id": "edit",
            "concurrency_limit": 2,
            **PRIVATE,
        }
        gr.on([slider.input for slider in sliders], **wired)
        again = wired | {"fn": self._edit_again, "inputs": [picture, *wired["inputs"]]}
        gr.on([component.change for component in self.panel.frames], **again)
        reset.click(lambda: [0.0] * len(RANGES), None, sliders, **PRIVATE).then(**wired)

    def _edit(
        self, person: Person, consent: bool, size: str, background: str, colour: str, picture: str | None,
        *values: float,
    ) -> str:  # fmt: skip
        self.service.check_consent(person, consent)
        frames = self.panel.frames_of(size, background, colour, picture)
        return self.files.edited(person, dict(zip(RANGES, values, strict=True)), frames)

    def _edit_again(self, shown: str | None, *edited: Any) -> Any:
        """With another background or size, where there is a picture already."""
        if shown is None:
            return gr.skip()
        try:
            return self._edit(*edited)
        except TalkingHeadsError:  # e.g. no picture has been added yet
            return gr.skip()
