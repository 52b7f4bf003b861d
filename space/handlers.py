"""Code around every handler: errors as sentences, a folder for each request, progress, queues."""

from __future__ import annotations

import base64
import functools
import html
import inspect
import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from talking_heads.errors import TalkingHeadsError
from talking_heads.hub import WEIGHTS_NAME
from talking_heads.media.writing import AI_GENERATED

from .reports import Report
from .settings import LimitError
from .work import in_words

TEXTS = Path(__file__).parent / "texts"
KEPT_SECONDS = 3600
"""How old a visitor's files may get, and how often they are looked for."""

OWN = "talking-heads-"
"""Prefix of the names of requests' folders."""

Handler = Callable[..., Any]
ON_SPACE = "SPACE_ID" in os.environ
"""There visitors can sign in with their Hub account."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
RENDERS: dict[str, Any] = {"concurrency_id": "render", "concurrency_limit": 1}
"""The machine has one device: one render at a time."""
LOOKS: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2}
"""Queue for work of a second or less, which does not wait behind renders."""
LIVES: dict[str, Any] = {"concurrency_id": "live", "concurrency_limit": 1}
"""Two at once would both stutter."""


def text(name: str, **values: object) -> str:
    """One of the page's texts, with ``{names}`` filled in."""
    written = (TEXTS / f"{name}.md").read_text(encoding="utf-8")
    for key, value in values.items():
        written = written.replace("{" + key + "}", str(value))
    return written


@contextmanager
def user_errors() -> Iterator[None]:
    """What a visitor caused becomes a sentence in the browser and at a client; all else stays an error of ours."""
    try:
        yield
    except TalkingHeadsError as error:
        raise gr.Error(sentence_of(error), print_exception=False, duration=12) from None


def sentence_of(error: TalkingHeadsError) -> str:
    """Removes folders from a sentence: visitors must not see where files lie."""
    return without_folders(str(error))


def without_folders(sentence: str) -> str:
    """Paths become names; addresses stay."""
    return re.sub(r"(?<![:/\w])(?:/[^/\s:,;()]+)+/([^/\s:,;()]+)", r"\1", sentence)


def warn(notes: Iterable[str]) -> None:
    """Sentences on what a visitor may notice, each once."""
    for note in dict.fromkeys(notes):
        gr.Warning(without_folders(note))


def with_user_errors(handler: Handler) -> Handler:
    """A handler, generator or not, whose errors are ``user_errors``."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **options: Any) -> Iterator[Any]:
            with user_errors():
                yield from handler(*args, **options)

        return generator

    @functools.wraps(handler)
    def function(*args: Any, **options: Any) -> Any:
        with user_errors():
            return handler(*args, **options)

    return function


def check_size_on_hub(name: str, megabytes: int, token: str | bool) -> None:
    """Checks a stranger's avatar before it is downloaded. Raises LimitError; loading reports all other errors."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        size = get_hf_file_metadata(hf_hub_url(name, WEIGHTS_NAME), token=token, timeout=5).size or 0
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):
        return
    if size > megabytes * 10**6:
        raise LimitError(f"{name} has {size / 1e6:.0f} MB; {megabytes} MB are the limit here.")


@contextmanager
def own_folder(cache: Path) -> Iterator[Path]:
    """A folder of this request's own; gone if the request fails, or with the first request after KEPT_SECONDS.

    gradio deletes the files that it has served, but neither folders nor what a process that was killed has left.
    """
    for old in cache.glob(f"{OWN}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    folder = cache / f"{OWN}{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:  # a visitor who leaves closes the generator
        shutil.rmtree(folder, ignore_errors=True)
        raise


def progress_bar(report: Report) -> str:
    """A report as HTML."""
    share = 0 if not report.total else min(1.0, report.done / report.total)
    of = f" of {report.total}" if report.total else ""
    unit = "steps" if report.stage == "fine-tuning" else "frames"
    left = "" if report.left is None else f", {in_words(report.left)} left"
    counted = f": {report.done}{of} {unit}{left}" if report.done else " …"
    words = html.escape(report.stage.capitalize() + counted)
    return (
        f'<div class="th-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}" aria-label="{words}"><div style="width:{100 * share:.1f}%"></div></div>'
        f'<p class="th-words">{words}</p>'
    )


def said(words: str) -> str:
    """A line below the live picture, as HTML."""
    return f'<p class="th-words">{html.escape(words)}</p>'


def live_picture(picture: np.ndarray) -> str:
    """uint8 RGB (H, W, 3) or RGBA as HTML that shows it at once, without a file."""
    file = io.BytesIO()
    kind = "jpeg" if picture.shape[2] == 3 else "webp"
    if kind == "jpeg":
        Image.fromarray(picture).save(file, "JPEG", quality=90, comment=AI_GENERATED["comment"])
    else:
        Image.fromarray(picture).save(file, "WEBP", quality=90, method=0)
    source = base64.b64encode(file.getvalue()).decode()
    # Decoded before it is shown, or the page would flicker.
    return f'<img class="th-live" decoding="sync" alt="The avatar" src="data:image/{kind};base64,{source}">'


NO_PICTURE = '<div class="th-live">The avatar will be here.</div>'
