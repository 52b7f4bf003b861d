"""The page: several photos and a driving clip in, a video out. Also an endpoint, ``/animate``, for gradio_client."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from talking_heads import TalkingHeadPipeline
from talking_heads.errors import TalkingHeadsError
from talking_heads.examples import EXAMPLE
from talking_heads.pipeline import MAX_PHOTOS
from talking_heads.video import probe

TEXTS = Path(__file__).parent / "texts"
MAX_SECONDS = 60
KEPT_SECONDS = 3600
"""How old a visitor's files may get, and how often they are looked for."""

LAUNCH: dict[str, Any] = {
    # Faces: nothing that visitors do is kept, counted or shown to others.
    "run_history": False,
    "enable_monitoring": False,
    "max_file_size": "200mb",
    "footer_links": ["api"],
}


def build_demo(pipe: TalkingHeadPipeline, on_gpu: Callable[[Callable], Callable] | None = None) -> gr.Blocks:
    """The page for a model. ``on_gpu`` decorates the handler that computes, for hosts that lend their GPU by call."""

    def animate(
        photos: list[tuple[str, str | None]] | None,
        driving: str | None,
        motion: Literal["relative", "absolute"] = "relative",
        consent: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (this is how gradio finds it)
    ) -> str:
        """Make a talking-head video.

        Args:
            photos: 1 to 32 photos of one person.
            driving: A clip of up to 60 s in which one face is seen; its motion and its sound are taken.
            motion: "relative" keeps the person's own shape of face, "absolute" takes the driver's landmarks.
            consent: That the person in the photos agrees, true or nothing is made.

        Returns:
            An mp4 with the clip's sound.
        """
        if not consent:
            raise gr.Error("Confirm first that the person in the photos agrees.", print_exception=False)
        # A folder of its own, in the cache that delete_cache empties: no two visitors meet.
        folder = Path(video.GRADIO_CACHE) / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            return str(_animate(pipe, photos or [], driving, motion, folder / "talking-head.mp4", progress))
        except BaseException as error:  # a visitor who leaves cancels with whatever gradio chooses
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, TalkingHeadsError):
                raise gr.Error(str(error), print_exception=False) from None
            raise

    with gr.Blocks(title="Talking heads", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as demo:
        gr.Markdown(_text("head"))
        with gr.Row():
            with gr.Column():
                photos = gr.Gallery(
                    label="Photos of one person",
                    type="filepath",
                    file_types=["image"],
                    interactive=True,
                    columns=4,
                    height=260,
                )
                driving = gr.Video(
                    label="Driving clip",
                    value=str(EXAMPLE),
                    sources=["upload", "webcam"],
                    include_audio=True,
                    height=320,
                )
                motion = gr.Radio(
                    ["relative", "absolute"],
                    value="relative",
                    label="Motion",
                    info="relative keeps the person's own shape of face",
                )
                consent = gr.Checkbox(label="The person in the photos is me, or agrees to this video.")
                button = gr.Button("Animate", variant="primary")
            with gr.Column():
                video = gr.Video(label="Talking head", interactive=False, autoplay=True, height=420)
                gr.Markdown(_text("consent"))
                gr.Markdown(_text("limits"))
        button.click(
            on_gpu(animate) if on_gpu else animate,
            inputs=[photos, driving, motion, consent],
            outputs=video,
            api_name="animate",
            api_description="Photos of a person and a driving clip -> a video of that person moving like the clip.",
            concurrency_limit=1,  # the networks are used by one thread at a time
        )
    return demo.queue(max_size=20)


def _animate(
    pipe: TalkingHeadPipeline,
    photos: Sequence[tuple[str, str | None]],
    driving: str | None,
    motion: Literal["relative", "absolute"],
    output: Path,
    progress: gr.Progress,
) -> Path:
    """Paths in, a path out. Raises gr.Error for what only a page can get wrong, and TalkingHeadsError."""
    if not photos:
        raise gr.Error("Add at least one photo.", print_exception=False)
    if len(photos) > MAX_PHOTOS:
        raise gr.Error(f"Give at most {MAX_PHOTOS} photos.", print_exception=False)
    if driving is None:
        raise gr.Error("Add a driving clip.", print_exception=False)
    length = probe(driving).duration
    if length is not None and length > MAX_SECONDS:
        raise gr.Error(f"The clip lasts {length:.0f} s. Cut it to at most {MAX_SECONDS} s.", print_exception=False)

    def show(stage: str, done: int, total: int | None) -> None:
        progress((done, total), desc=stage, unit="frames")

    avatar = pipe.create_avatar([path for path, _caption in photos])
    result = pipe(avatar, driving, motion=motion, end=MAX_SECONDS, on_progress=show)
    result.save(output, show)
    for warning in result.warnings:
        gr.Warning(warning)
    return output


def _text(name: str) -> str:
    return (TEXTS / f"{name}.md").read_text(encoding="utf-8")
