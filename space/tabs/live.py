"""The tab in which the person moves like the visitor before the camera."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from talking_heads.errors import TalkingHeadsError

from ..handlers import LIVES, NO_PICTURE, PRIVATE, live_picture, said, sentence_of, text
from ..live_session import LiveSession
from ..person import Person
from ..requests import FrameOptions
from ..service import Service
from .person_panel import PersonPanel

CAMERA = {"width": {"ideal": 480}, "height": {"ideal": 360}}
"""Enough to see a face by, and sent many times a second."""


class LiveTab:
    """A camera's pictures in, the person's out."""

    def __init__(self, service: Service, panel: PersonPanel) -> None:
        self.service, self.panel = service, panel

    def lay_out(self) -> None:
        if not self.service.can_live:
            gr.Markdown(text("live_elsewhere"))
            return
        gr.Markdown(text("live"))
        panel, session = self.panel, gr.State(None)  # closes itself when the visitor has left
        with gr.Row(equal_height=False):
            camera = gr.Image(
                label="You", sources=["webcam"], streaming=True, type="numpy", height=200, buttons=[], min_width=180,
                scale=1,
                webcam_options=gr.WebcamOptions(mirror=True, constraints={"video": CAMERA}), elem_id="camera",
            )  # fmt: skip
            with gr.Column(min_width=300, scale=3):
                # Not an Image: gradio would write each of its pictures into a file.
                picture = gr.HTML(NO_PICTURE, elem_id="live-picture")
                words = gr.HTML("", elem_id="live-words")
        stream = camera.stream(
            self._live,
            [camera, session, panel.person, panel.consent, panel.label, panel.detector, *panel.frames],
            [session, picture, words],
            stream_every=0.05 if self.service.pipe.device.type == "cpu" else 0.04,  # s; what is painted, not much more
            time_limit=self.service.limits.live,
            show_progress="hidden",
            **LIVES,
            **PRIVATE,
        )
        stream.then(self._leave, session, [session, picture, words], show_progress="hidden", **PRIVATE)

    def _live(
        self, frame: np.ndarray | None, session: LiveSession | None, person: Person, consent: bool, label: bool,
        detector: Any = "mediapipe", *frames: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        if frame is None:
            return (gr.skip(),) * 3
        try:
            self.service.check_consent(person, consent)
            options = (detector, *frames)
            if session is None or not session.serves(person, frame.shape, options):
                self._leave(session)
                session = None
                live = self.service.live(person, self.panel.frames_of(*frames) if frames else FrameOptions(), detector)
                session = LiveSession(live, person, frame.shape, options)
            seen = session.see(frame, label=label)
        except TalkingHeadsError as error:
            return *self._leave(session)[:2], said(f"⚠️ {sentence_of(error)}")
        except Exception:
            self._leave(session)
            raise
        if seen is None:
            return session, gr.skip(), said("No face is seen. Sit in the light, facing the camera.")
        pace = session.pace()
        about = "Starting …" if pace is None else f"{pace[0]:.1f} frames a second, delay {1000 * pace[1]:.0f} ms"
        return session, live_picture(seen), said(about)

    @staticmethod
    def _leave(session: LiveSession | None) -> tuple[Any, ...]:
        if session is not None:
            session.close()
        return None, NO_PICTURE, ""
