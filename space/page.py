"""The page: where its parts are.

Handlers take paths and give paths; what they do is in service.py. What runs long is a generator: it reports what it is
at, and when a visitor cancels or leaves, gradio closes it, which stops the work.
"""

from __future__ import annotations

import gradio as gr

from .examples import Examples
from .handlers import PRIVATE, said, text
from .tabs.animate import AnimateTab
from .tabs.dub import DubTab
from .tabs.edit import EditTab
from .tabs.group import GroupTab
from .tabs.live import LiveTab
from .tabs.person_panel import PersonPanel
from .tabs.personalise import PersonaliseTab
from .tabs.results import ResultsRow
from .tabs.verify import VerifyTab
from .visitor_files import VisitorFiles


class Page:
    """Left the person, right what is done with them. Handlers of its parts are private: programs call the endpoints."""

    def __init__(self, files: VisitorFiles, examples: Examples, about_model: str = "") -> None:
        self.about_model = about_model
        self.limits = files.service.limits
        self.results = ResultsRow()
        self.panel = PersonPanel(files, examples)
        self.animate = AnimateTab(files, self.panel)
        self.dub = DubTab(files, self.panel)
        self.group = GroupTab(files, self.panel)
        self.live = LiveTab(files.service, self.panel)
        self.edit = EditTab(files, self.panel)
        self.personalise = PersonaliseTab(files, self.panel)
        self.verify = VerifyTab(files)

    def lay_out(self, demo: gr.Blocks) -> None:
        """Puts the components into the Blocks that is open."""
        gr.Markdown(text("head"), elem_classes="th-head")
        self.results.lay_out()
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                self.panel.lay_out()
            with gr.Column(scale=3, min_width=320), gr.Tabs(overflow_behavior="wrap") as tabs:
                with gr.Tab("Animate", id="animate"):
                    self.animate.lay_out()
                with gr.Tab("Dub a film", id="dub"):
                    self.dub.lay_out()
                with gr.Tab("Several people", id="group"):
                    self.group.lay_out()
                with gr.Tab("Live"):
                    self.live.lay_out()
                with gr.Tab("Edit"):
                    self.edit.lay_out()
                with gr.Tab("Personalise"):
                    self.personalise.lay_out()
                with gr.Tab("Check a file"):
                    self.verify.lay_out()
                with gr.Tab("API"):
                    gr.Markdown(text("api"))
        self.panel.wire(self.dub.film, tabs)
        self.animate.wire()
        self.group.wire()
        self.results.wire(self.animate, tabs)
        gr.Markdown(text("privacy"))
        gr.Markdown(text("limits", **vars(self.limits)))
        if self.about_model:
            gr.HTML(said(self.about_model), elem_id="model")
        demo.load(self.animate.first_plan, None, self.animate.plan, **PRIVATE)
