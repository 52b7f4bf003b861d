"""What endpoints are made of: components that nobody sees, by which gradio checks files and describes types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.processing_utils import save_base64_to_cache, ssrf_protected_download

from talking_heads.head.presets import PRESETS
from talking_heads.tracking.detectors import DETECTORS

from .handlers import Handler, warn, with_user_errors
from .reports import WorkResult


def photo_files(cache: str) -> gr.File:
    """Several photos."""
    return file_list(cache, "Photos")


def driver_files(cache: str) -> gr.File:
    """What moves each face of a photo: files, names of presets, and None."""
    return file_list(cache, "Drivers", words=tuple(PRESETS))


def file_list(cache: str, label: str, words: Sequence[str] = ()) -> gr.File:
    """Several files; with ``words`` any of these, or None, may stand in place of a file.

    gradio's MCP server knows how to send one file; in a list, addresses arrive here as they are. Not a subclass of
    gr.File: gradio would write a stub file for it beside this one.
    """

    def fetched(item: Any) -> str:
        try:
            if isinstance(item, str):
                fetch = save_base64_to_cache if item.startswith("data:") else ssrf_protected_download
                path = fetch(item, cache)
                files.temp_files.add(path)  # for gradio to delete it in time
                return path
            # Only files that are declared as files were checked to be uploads of this visitor's.
            return gr.FileData.model_validate(item, context={"validate_meta": True}).path
        except Exception as error:  # gradio's own, of many kinds
            what = label.lower().removesuffix("s")
            instead = f", or one of {', '.join(words)}" if words else ""
            sentence = f"A {what} could not be fetched. Give an uploaded file, or an https: or data: address{instead}."
            raise gr.Error(sentence, print_exception=False) from error

    def paths(payload: list[Any] | None) -> list[str | None]:
        if not isinstance(payload or [], list):
            raise gr.Error(f"Give {label.lower()} as a list of files or addresses.", print_exception=False)
        return [item if words and (item is None or item in words) else fetched(item) for item in payload or []]

    def described() -> dict[str, Any]:
        one = gr.FileData.model_json_schema()  # in place: MCP servers lose references within a list
        definitions = one.pop("$defs")
        items = {"anyOf": [one, {"type": "string", "enum": list(words)}, {"type": "null"}]} if words else one
        return {"$defs": definitions, "type": "array", "items": items, "additional_description": None}

    files: Any = gr.File(label=label, file_count="multiple")
    files.data_model, files.preprocess, files.api_info = None, paths, described
    return files


def numbers_by_name(label: str) -> gr.JSON:
    """A JSON object of numbers; gradio's own description of JSON is no valid schema."""
    component: Any = gr.JSON(label=label)
    component.api_info = lambda: {"type": "object", "additionalProperties": {"type": "number"}}
    return component


def file(label: str) -> gr.File:
    """One file."""
    return gr.File(label=label)


def consent() -> gr.Checkbox:
    """That the person agrees."""
    return gr.Checkbox(False, label="Consent")


def label() -> gr.Checkbox:
    """Whether the video says that it is generated."""
    return gr.Checkbox(True, label="Label")


def numbers(value: float | None, *names: str) -> list[gr.Number]:
    """A number for each name."""
    return [gr.Number(value, label=name) for name in names]


def face() -> gr.Number:
    """Which one is meant where a photo shows several."""
    return gr.Number(None, label="Face", precision=0)


def detector() -> gr.Radio:
    """What finds faces."""
    return gr.Radio(list(DETECTORS), value="mediapipe", label="Detector")


def video() -> gr.Video:
    """What comes out."""
    return gr.Video(label="Video")


def add_endpoint(handler: Handler, inputs: list[Any], output: Any, queue: dict[str, Any]) -> None:
    """Hangs a handler at a button that nobody sees, under its own name."""
    gr.Button(visible=False).click(with_user_errors(handler), inputs, output, api_name=handler.__name__, **queue)


def followed(work: Iterator[Any], progress: gr.Progress) -> Iterator[str | None]:
    """Tells of the progress; at the end the path of the file."""
    for report in work:
        if isinstance(report, WorkResult):
            result = report
        else:
            progress((report.done, report.total), desc=report.stage, unit="frames")
            yield None
    warn(result.warnings)
    yield str(result.file)
