"""The tab that makes videos of the person, by a preset, a clip, a voice or a motion file."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads.errors import TalkingHeadsError
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import PARTS
from talking_heads.head.presets import PRESETS
from talking_heads.voice.liveliness import MAX_LIVELINESS

from ..handlers import PRIVATE, RENDERS, own_folder, progress_bar, sentence_of, text, warn, with_user_errors
from ..person import Person
from ..reports import Report, WorkResult
from ..requests import MAX_TEXT, OUTPUTS, AnimateRequest, FrameOptions
from ..settings import LimitError
from ..visitor_files import VisitorFiles
from ..work import in_words
from .person_panel import PersonPanel
from .video_output import VideoOutput


class AnimateTab:
    """From what moves the person to the video."""

    def __init__(self, files: VisitorFiles, panel: PersonPanel) -> None:
        self.files, self.service, self.panel = files, files.service, panel
        self.output = VideoOutput(files)

    def lay_out(self) -> None:
        self.hint = gr.Markdown(text("begin"), elem_id="hint")
        with gr.Column(visible=False) as self.steps:
            gr.Markdown("### 2. How it moves")
            self._lay_out_sources()
            with gr.Accordion("How much of the motion", open=False, elem_id="how-much"):
                how_much = self._lay_out_how_much()
            output = gr.Radio(list(OUTPUTS), value="head", label="Show", elem_id="output")
        # The plan for the first choice is there when the page opens.
        self.plan = gr.Markdown("", elem_id="plan", visible=False)
        self.output.lay_out("Animate", "animate", interactive=False)

        self._wire_sources()
        panel = self.panel
        requested = [
            self.chosen, self.preset, self.driving, self.motion_file, self.voice, self.said_text, self.liveliness,
            self.start, self.end, *how_much, output, panel.label, panel.detector, *panel.frames,
        ]  # fmt: skip
        self.inputs = [panel.person, panel.photos, panel.consent, *requested]
        self.choice = [
            self.steps, self.hint, self.motions, self.chosen, self.span, self.preset, self.driving, self.voice,
        ]  # fmt: skip
        changing = [
            self.preset, self.driving, self.motion_file, self.voice, self.start, self.end, self.chosen, output,
            *panel.frames,
        ]  # fmt: skip
        gr.on(
            [component.change for component in changing],
            self._plan,
            requested,
            self.plan,
            show_progress="hidden",
            **PRIVATE,
        )
        self.output.run(self._animate, self.inputs)
        self._wire_save_motion()

    def _lay_out_sources(self) -> None:
        """A tab for each kind of driver, and from where to where."""
        with gr.Tabs() as self.motions:
            with gr.Tab("Preset motion", id="preset") as preset_tab:
                self.preset = gr.Radio(
                    list(PRESETS),
                    value=next(iter(PRESETS)),
                    label="Motion",
                    elem_id="preset",
                )
            with gr.Tab("A clip", id="clip") as clip_tab:
                self.driving = gr.Video(
                    label="Driving clip", sources=["upload", "webcam"], include_audio=True, height=260, buttons=[],
                    elem_id="driving",
                )  # fmt: skip
                with gr.Row():
                    self.use_example = gr.Button("Use the example clip", size="sm", min_width=120)
                    self.save_motion = gr.Button(
                        "Save its motion as a file", size="sm", min_width=120, elem_id="save-motion"
                    )
                self.saved_motion = gr.File(label="Motion", visible=False, elem_id="saved-motion")
            with gr.Tab("A voice", id="voice") as voice_tab:
                gr.Markdown(text("voice"))
                self.voice = gr.Audio(
                    label="Voice", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="voice"
                )
                self.said_text = gr.Textbox(
                    label="What is said (may be left out)", lines=2, max_length=MAX_TEXT, elem_id="voice-text"
                )
                self.liveliness = gr.Slider(
                    0, MAX_LIVELINESS, 1, step=0.1, label="Liveliness", elem_id="liveliness",
                    info="0: the mouth alone; 1: head, eyes and brows as people move them.",
                )  # fmt: skip
            with gr.Tab("A motion file", id="file") as file_tab:
                gr.Markdown(text("motion_file"))
                self.motion_file = gr.File(
                    label="CSV of Live Link Face, JSON of MediaPipe or Audio2Face",
                    file_types=[".csv", ".json"],
                    height=140,
                    elem_id="motion-file",
                )
        with gr.Row(visible=False) as self.span:
            self.start = gr.Number(None, label="Start (s)", min_width=90, elem_id="start")
            self.end = gr.Number(None, label="End (s)", min_width=90, elem_id="end")
        self.chosen = gr.State("preset")
        self.tabs = {"preset": preset_tab, "clip": clip_tab, "voice": voice_tab, "file": file_tab}

    @staticmethod
    def _lay_out_how_much() -> list[gr.components.Component]:
        """Kind, head, expression, gaze and parts of the motion, in the order of ``_request``."""
        motion = gr.Radio(
            [
                ("relative: what changes in the driver's face", "relative"),
                ("absolute: pose and expression as the driver's", "absolute"),
            ],
            value="relative",
            label="Kind",
        )
        with gr.Row():
            strengths = [
                gr.Slider(0, 2, 1, step=0.05, label=label, min_width=110) for label in ("Head", "Expression", "Gaze")
            ]
        parts = gr.CheckboxGroup(
            list(PARTS), label="Only these parts", info="None chosen: everything moves.", elem_id="parts"
        )
        return [motion, *strengths, parts]

    def _wire_sources(self) -> None:
        for name, tab in self.tabs.items():
            select = functools.partial(lambda name: (name, gr.update(visible=name in ("clip", "file"))), name)
            tab.select(select, None, [self.chosen, self.span], show_progress="hidden", **PRIVATE)
        self.use_example.click(lambda: str(EXAMPLE), None, self.driving, **PRIVATE)

    def _wire_save_motion(self) -> None:
        progress = self.output.progress
        saving = self.save_motion.click(
            with_user_errors(self._save_motion), [self.driving, self.start, self.end, self.panel.detector],
            [progress, self.saved_motion], show_progress="hidden", **RENDERS, **PRIVATE,
        )  # fmt: skip
        saving.failure(lambda: "", None, progress, **PRIVATE)
        self.output.cancelled_too(saving)

    def wire(self) -> None:
        """The next step appears when there is a person; examples are animated at once."""
        for tried in self.panel.tried:
            self.output.run(self._animate, self.inputs, after=tried)
        shown = [self.steps, self.hint, self.plan, self.output.start]
        for event in self.panel.changed:
            event.then(self._begun, self.panel.person, shown, show_progress="hidden", **PRIVATE)

    @staticmethod
    def _begun(person: Person) -> tuple[Any, ...]:
        """The next step appears where there is a person."""
        there = bool(person.analyses) or person.avatar is not None
        steps = gr.update(visible=True) if there else gr.skip()
        return steps, gr.update(visible=not there), gr.update(visible=there), gr.update(interactive=there)

    @staticmethod
    def chosen_by(preset: str | None = None, driving: str | None = None, voice: str | None = None) -> tuple[Any, ...]:
        """Updates of ``choice`` for one of a preset, a clip and a voice."""
        name = "preset" if preset else "clip" if driving else "voice"
        values = [gr.skip() if value is None else value for value in (preset, driving, voice)]
        shown = gr.update(visible=True), gr.skip(), gr.Tabs(selected=name)
        return *shown, name, gr.update(visible=name == "clip"), *values

    def _request(
        self, chosen: str, preset: str, driving: str | None, motion_file: str | None, voice: str | None,
        said_text: str | None, liveliness: float, start: float | None, end: float | None, motion: Any, head: float,
        expression: float, gaze: float, parts: list[str], output: Any, label: bool, detector: Any, *frames: Any,
    ) -> AnimateRequest:  # fmt: skip
        if chosen == "clip" and not driving:
            raise LimitError("Add a driving clip, or choose a preset motion.")
        if chosen == "file" and not motion_file:
            raise LimitError("Add a motion file, or choose a preset motion.")
        if chosen == "voice" and not voice:
            raise LimitError("Add a voice: upload a sound file, or record one.")
        # An empty field may come as 0.
        span = {"start": start or None, "end": end or None}
        sources: dict[str, dict[str, Any]] = {
            "preset": {"preset": preset},
            "clip": {"driving": driving, **span},
            "file": {"motion_file": motion_file, **span},
            "voice": {"voice": voice, "text": said_text or "", "liveliness": liveliness},
        }
        return AnimateRequest(
            **sources[chosen], motion=motion, head=head, expression=expression, gaze=gaze, parts=tuple(parts),
            output=output, label=label, detector=detector, frames=self.panel.frames_of(*frames),
        )  # fmt: skip

    def _plan(self, *requested: Any) -> str:
        """What will be made, and how long that takes; or why it cannot be made."""
        chosen, preset, driving, motion_file, voice, *_ = requested
        if not {"preset": preset, "clip": driving, "file": motion_file, "voice": voice}[chosen]:
            return ""
        try:
            return self._about(self._request(*requested))
        except TalkingHeadsError as error:
            return f"⚠️ {sentence_of(error)}"

    def first_plan(self) -> str:
        """The plan for what is chosen when the page is opened."""
        frames = FrameOptions(self.service.usual_size)
        return self._about(AnimateRequest(preset=next(iter(PRESETS)), frames=frames))

    def _about(self, request: AnimateRequest) -> str:
        frames = self.service.check_request(request)
        seconds = self.service.duration(request, frames)
        about = f"{PRESETS[request.preset]} " if request.preset else ""
        return f"{about}{frames} frames" + ("." if seconds is None else f": {in_words(seconds)} on this machine.")

    def _animate(
        self, folder: Path, person: Person, photos: list[tuple[str, str | None]] | None, consent: bool, *requested: Any
    ) -> Iterator[Report | WorkResult]:
        paths = [path for path, _caption in photos or []]
        request = self._request(*requested)
        if paths != [analysis.path for analysis in person.analyses]:  # asked before the photos were looked at
            person = self.service.look(paths, person, request.detector)
        self.service.check_consent(person, consent)
        return self.service.animate(person, request, folder)

    def _save_motion(
        self, driving: str | None, start: float | None, end: float | None, detector: Any
    ) -> Iterator[tuple[Any, ...]]:
        yield progress_bar(Report("starting")), gr.update(value=None, visible=False)
        with own_folder(self.files.cache) as folder:
            for report in self.service.track(driving, start or None, end or None, detector, folder):
                if isinstance(report, WorkResult):
                    made = report
                else:
                    yield progress_bar(report), gr.skip()
        warn(made.warnings)
        yield "", gr.update(value=str(made.file), visible=True)
