"""The tab that fine-tunes to the photos, and keeps the avatar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..handlers import LOOKS, ON_SPACE, PRIVATE, RENDERS, progress_bar, text, with_user_errors
from ..person import Person
from ..reports import Report, WorkResult
from ..settings import LimitError
from ..visitor_files import VisitorFiles
from .person_panel import PersonPanel


class PersonaliseTab:
    """Fine-tuning, a file, a push."""

    def __init__(self, files: VisitorFiles, panel: PersonPanel) -> None:
        self.files, self.service, self.panel = files, files.service, panel

    def lay_out(self) -> None:
        gr.Markdown(text("personalise"))
        limit = self.service.limits.steps
        steps = gr.Slider(5, limit, min(40, limit), step=5, label="Steps", elem_id="steps")
        with gr.Row():
            run = gr.Button("Personalise", variant="primary", elem_id="personalise", scale=3)
            cancel = gr.Button("Cancel", variant="stop", scale=1, min_width=90)
        progress = gr.HTML("", elem_id="tuning-progress")
        compare = gr.Gallery(
            label="Before, and on the way", interactive=False, columns=5, height=240, buttons=[], visible=False,
            object_fit="contain", elem_id="compare",
        )  # fmt: skip
        gr.Markdown("### Keep it")
        with gr.Row():
            make_file = gr.Button("Save the avatar as a file", size="sm", elem_id="save-avatar")
            file = gr.File(label="Avatar", visible=False, elem_id="saved-avatar")
        with gr.Accordion("Push it to my Hub account", open=False):
            if ON_SPACE:
                gr.LoginButton()
            name = gr.Textbox(label="Repository", placeholder="me/my-avatar", elem_id="push-name")
            token = gr.Textbox(label="Access token (write)", type="password", elem_id="push-token")
            private = gr.Checkbox(True, label="Private")
            push = gr.Button("Push", size="sm", elem_id="push")
            pushed = gr.Markdown("", elem_id="pushed")
        whose = [self.panel.person, self.panel.consent]
        tune = run.click(
            with_user_errors(self._personalise),
            [*whose, steps],
            [progress, compare],
            show_progress="hidden",
            **RENDERS,
            **PRIVATE,
        )
        tune.failure(lambda: "", None, progress, **PRIVATE)
        cancel.click(None, None, None, cancels=[tune], **PRIVATE)
        make_file.click(with_user_errors(self._save_avatar), whose, file, **LOOKS, **PRIVATE)
        pushing = self._push_signed_in if ON_SPACE else self._push
        pushed_by = [*whose, name, private, token]
        pushes = push.click(with_user_errors(pushing), pushed_by, pushed, **LOOKS, **PRIVATE)
        pushes.then(lambda: "", None, token, **PRIVATE)

    def _personalise(self, person: Person, consent: bool, steps: float) -> Iterator[tuple[Any, ...]]:
        self.service.check_consent(person, consent)
        shown = 0
        yield progress_bar(Report("starting")), gr.update(visible=False)
        for report in self.service.personalise(person, int(steps or 0)):
            new = gr.update(value=list(report.pictures), visible=True) if len(report.pictures) > shown else gr.skip()
            shown = len(report.pictures)
            if isinstance(report, WorkResult):
                # Changed in place: if the visitor has chosen other photos meanwhile, their Person is another object.
                person.avatar = report.avatar
                yield "<p>Done. Animate and Edit use this avatar now.</p>", new
            else:
                yield progress_bar(report), new

    def _save_avatar(self, person: Person, consent: bool) -> Any:
        self.service.check_consent(person, consent)
        return gr.update(value=self.files.saved(self.service.avatar_of(person)), visible=True)

    def _push(self, person: Person, consent: bool, name: str, private: bool, token: str) -> str:
        self.service.check_consent(person, consent)
        if name.count("/") != 1:
            raise LimitError("Give the repository as owner/name.")
        if not token:
            raise LimitError("Give an access token that may write: see huggingface.co/settings/tokens.")
        commit = self.service.avatar_of(person).push_to_hub(name.strip(), private=private, token=token.strip())
        return f"Pushed: {commit.repo_url}"

    def _push_signed_in(
        self, person: Person, consent: bool, name: str, private: bool, token: str, login: gr.OAuthToken | None
    ) -> str:
        return self._push(person, consent, name, private, token or (login.token if login else ""))
