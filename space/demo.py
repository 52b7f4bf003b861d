"""The page and its endpoints, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads import TalkingHeadPipeline
from talking_heads.examples import EXAMPLE

from .endpoints import Endpoints
from .examples import Examples
from .handlers import KEPT_SECONDS
from .page import Page
from .pipeline_calls import OnGpu
from .service import Service
from .settings import Limits
from .speak_socket import SpeakSocket
from .tabs.results import FOLDER as RESULTS
from .visitor_files import VisitorFiles


def launch_options(limits: Limits, pipe: TalkingHeadPipeline | None = None) -> dict[str, Any]:
    """For ``demo.launch``. With ``pipe``, the server also has the WebSocket of ``speak_socket``."""
    return {
        "app_kwargs": {"routes": SpeakSocket(pipe, limits).routes()} if pipe is not None else {},
        # Faces: nothing that visitors do is kept, counted or shown to others.
        "run_history": False,
        "enable_monitoring": False,
        "max_file_size": f"{limits.megabytes}mb",
        "footer_links": ["api"],
        "mcp_server": True,
        "theme": gr.themes.Soft(primary_hue="indigo", secondary_hue="pink", font=["system-ui", "sans-serif"]),
        "css_paths": [Path(__file__).with_name("style.css")],
    }


def build_demo(
    pipe: TalkingHeadPipeline, limits: Limits | None = None, on_gpu: OnGpu | None = None, about_model: str = ""
) -> gr.Blocks:
    """The page for a model. ``on_gpu`` is for hosts that lend their GPU by the call; ``about_model`` is said below."""
    limits = limits or Limits.from_environment()
    examples = Examples()
    service = Service(pipe, limits, free=(*examples.photos, EXAMPLE), on_gpu=on_gpu)
    gr.set_static_paths([examples.folder, RESULTS])  # served from there: copies in the cache would be deleted
    service.warm_up(examples.photos[0])
    with gr.Blocks(title="Talking heads", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as demo:
        files = VisitorFiles(service, Path(demo.GRADIO_CACHE))
        Page(files, examples, about_model).lay_out(demo)
        Endpoints(files).add()
    return demo.queue(max_size=limits.waiting)
