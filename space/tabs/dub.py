"""The tab that moves the lips, eyes or expression of a person's own film by a voice or another clip."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads.dubbing import DUBBED_PARTS
from talking_heads.errors import TalkingHeadsError

from ..handlers import PRIVATE, sentence_of, text
from ..reports import Report, WorkResult
from ..requests import MAX_TEXT, DriverRequest, DubRequest
from ..settings import LimitError
from ..visitor_files import VisitorFiles
from .person_panel import PersonPanel
from .video_output import VideoOutput


class DubTab:
    """A film in, the film with another mouth out."""

    def __init__(self, files: VisitorFiles, panel: PersonPanel) -> None:
        self.service, self.panel = files.service, panel
        self.output = VideoOutput(files, "dub-")

    def lay_out(self) -> None:
        """Puts the components where the page is."""
        gr.Markdown(text("dub"))
        self.film = film = gr.Video(
            label="Film of one person", sources=["upload", "webcam"], include_audio=True, height=260, buttons=[],
            elem_id="film",
        )  # fmt: skip
        plan = gr.Markdown("", elem_id="dub-plan")
        consent = gr.Checkbox(
            label="The person in the film is me, or agrees to what is made here.", visible=False, elem_id="dub-consent",
            elem_classes="th-consent",
        )  # fmt: skip
        chosen = gr.State("voice")
        with gr.Tabs():
            with gr.Tab("A voice says it", id="voice") as voice_tab:
                voice = gr.Audio(
                    label="Voice", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="dub-voice"
                )
                words = gr.Textbox(
                    label="What is said (may be left out)", lines=2, max_length=MAX_TEXT, elem_id="dub-text"
                )
            with gr.Tab("A clip shows it", id="clip") as clip_tab:
                driving = gr.Video(
                    label="Clip of another face", sources=["upload", "webcam"], include_audio=True, height=260,
                    buttons=[], elem_id="dub-driving",
                )  # fmt: skip
        parts = gr.CheckboxGroup(list(DUBBED_PARTS), value=["lips"], label="What moves", elem_id="dub-parts")
        with gr.Accordion("Only a part of the film", open=False), gr.Row():
            start = gr.Number(None, label="Start (s)", min_width=90, elem_id="dub-start")
            end = gr.Number(None, label="End (s)", min_width=90, elem_id="dub-end")
        self.output.lay_out("Dub", "dub")
        for name, tab in {"voice": voice_tab, "clip": clip_tab}.items():
            tab.select(functools.partial(lambda name: name, name), None, chosen, show_progress="hidden", **PRIVATE)
        gr.on(
            [film.change, start.change, end.change], self._plan, [film, start, end], [plan, consent],
            show_progress="hidden", **PRIVATE,
        )  # fmt: skip
        film.clear(lambda: False, None, consent, **PRIVATE)
        self.output.run(
            self._dub,
            [film, consent, chosen, driving, voice, words, parts, start, end, self.panel.label, self.panel.detector],
        )

    def _plan(self, film: str | None, start: float | None, end: float | None) -> tuple[str, Any]:
        """How long the film is, or what is wrong with it; and whether consent is asked for."""
        if not film:
            return "", gr.update(visible=False)
        ask = gr.update(visible=not self.service.is_free([film]))
        try:
            frames = self.service.motions.check_clip(film, start or None, end or None, "film")
        except TalkingHeadsError as error:
            return f"⚠️ {sentence_of(error)}", ask
        return f"{frames} frames.", ask

    def _dub(
        self, folder: Path, film: str | None, consent: bool, chosen: str, driving: str | None, voice: str | None,
        words: str | None, parts: list[str], start: float | None, end: float | None, label: bool, detector: Any,
    ) -> Iterator[Report | WorkResult]:  # fmt: skip
        if not film:
            raise LimitError("Add a film of one person.")
        if not (voice if chosen == "voice" else driving):
            raise LimitError("Add a voice: upload a sound file, or record one." if chosen == "voice" else "Add a clip.")
        source: dict[str, Any] = {"voice": voice, "text": words or ""} if chosen == "voice" else {"driving": driving}
        driver = DriverRequest(**source, liveliness=0, detector=detector)
        request = DubRequest(film, driver, tuple(parts), start=start or None, end=end or None, label=label)
        self.service.check_dub(request, consent)
        return self.service.dub(request, folder)
