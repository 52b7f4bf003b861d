"""The tab that reads the marks of generated media."""

from __future__ import annotations

import html

import gradio as gr

from ..handlers import LOOKS, PRIVATE, text, with_user_errors
from ..visitor_files import VisitorFiles


class VerifyTab:
    """A file in, sentences out."""

    def __init__(self, files: VisitorFiles) -> None:
        self.files = files

    def lay_out(self) -> None:
        gr.Markdown(text("verify"))
        file = gr.File(label="Video or picture", height=140, elem_id="verify-file")
        found = gr.HTML("", elem_id="findings")
        file.clear(lambda: "", None, found, **PRIVATE)
        file.upload(with_user_errors(self._verify), file, found, **LOOKS, **PRIVATE)

    def _verify(self, file: str) -> str:
        # As text: names in a manifest are a stranger's.
        return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in self.files.found(file).sentences)}</ul>"
