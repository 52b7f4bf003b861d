"""The page, and the same work as named endpoints for gradio_client and MCP.

Handlers take paths and give paths; what they do is in studio.py. What runs long is a generator: it reports what it is
at, and when a visitor cancels or leaves, gradio closes it, which stops the work.
"""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import gradio as gr
import numpy as np
from gradio.processing_utils import save_base64_to_cache, ssrf_protected_download
from PIL import Image

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.errors import TalkingHeadsError
from talking_heads.examples import EXAMPLE
from talking_heads.expressions import RANGES, FaceControls
from talking_heads.hub import WEIGHTS_NAME
from talking_heads.presets import PRESETS
from talking_heads.provenance import Findings, save_picture, verify
from talking_heads.video import AI_GENERATED

from .examples import Examples
from .person import Person, check_pixels
from .settings import LimitError, Limits
from .sitting import Sitting
from .studio import OUTPUTS, Made, OnGpu, Output, Report, Studio, Wish
from .work import in_words

TEXTS = Path(__file__).parent / "texts"
KEPT_SECONDS = 3600
"""How old a visitor's files may get, and how often they are looked for."""

OWN = "talking-heads-"
"""How the names of requests' folders begin."""

Handler = Callable[..., Any]


def launch_options(limits: Limits) -> dict[str, Any]:
    """For ``demo.launch``."""
    return {
        # Faces: nothing that visitors do is kept, counted or shown to others.
        "run_history": False,
        "enable_monitoring": False,
        "max_file_size": f"{limits.megabytes}mb",
        "footer_links": ["api"],
        "mcp_server": True,
        "theme": gr.themes.Soft(primary_hue="indigo", secondary_hue="pink", font=["system-ui", "sans-serif"]),
        "css_paths": [Path(__file__).with_name("style.css")],
    }


def text(name: str, **values: object) -> str:
    """One of the page's texts, with ``{names}`` filled in."""
    written = (TEXTS / f"{name}.md").read_text(encoding="utf-8")
    for key, value in values.items():
        written = written.replace("{" + key + "}", str(value))
    return written


def build_demo(pipe: TalkingHeadPipeline, limits: Limits | None = None, on_gpu: OnGpu | None = None) -> gr.Blocks:
    """The page for a model. ``on_gpu`` is for hosts that lend their GPU by the call."""
    limits = limits or Limits.from_environment()
    examples = Examples()
    studio = Studio(pipe, limits, free=examples.photos, on_gpu=on_gpu)
    gr.set_static_paths([examples.folder])  # served from there: copies in the cache would be deleted
    if on_gpu is None:
        studio.warm_up(examples.photos[0])
    with gr.Blocks(title="Talking heads", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as demo:
        page = Page(studio, examples, Path(demo.GRADIO_CACHE))
        page.lay_out()
        demo.load(page.first_plan, None, page.plan, **PRIVATE)
        Endpoints(page).add()
    return demo.queue(max_size=limits.waiting)


# ----------------------------------------------------------------------------------------------------- around handlers


@contextmanager
def sentences() -> Iterator[None]:
    """What a visitor caused becomes a sentence in the browser and at a client; all else stays an error of ours."""
    try:
        yield
    except TalkingHeadsError as error:
        raise gr.Error(sentence_of(error), print_exception=False, duration=12) from None


def sentence_of(error: TalkingHeadsError) -> str:
    """Without folders: where files lie here is nobody's business."""
    return re.sub(r"(?:/[^/\s:,;()]+)+/([^/\s:,;()]+)", r"\1", str(error))


def spoken(handler: Handler) -> Handler:
    """A handler, generator or not, whose errors are ``sentences``."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **options: Any) -> Iterator[Any]:
            with sentences():
                yield from handler(*args, **options)

        return generator

    @functools.wraps(handler)
    def function(*args: Any, **options: Any) -> Any:
        with sentences():
            return handler(*args, **options)

    return function


def check_size_on_hub(name: str, megabytes: int, token: str | bool) -> None:
    """Before a stranger's avatar is downloaded. Raises LimitError; whoever loads has sentences for all else."""
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
    """uint8 RGB (H, W, 3) as HTML that shows it at once, without a file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90, comment=AI_GENERATED["comment"])
    source = base64.b64encode(file.getvalue()).decode()
    # Decoded before it is shown, or the page would flicker.
    return f'<img class="th-live" decoding="sync" alt="The avatar" src="data:image/jpeg;base64,{source}">'


NO_PICTURE = '<div class="th-live">The avatar will be here.</div>'


# ------------------------------------------------------------------------------------------------------------ the page


class Page:
    """Left the person, right what is done with them. Its handlers are private: programs call the endpoints."""

    def __init__(self, studio: Studio, examples: Examples, cache: Path) -> None:
        self.studio, self.examples, self.cache = studio, examples, cache

    def lay_out(self) -> None:
        """Puts the components into the Blocks that is open."""
        self.person = gr.State(Person(), time_to_live=KEPT_SECONDS)
        gr.Markdown(text("head"), elem_classes="th-head")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                self._lay_out_person()
            with gr.Column(scale=3, min_width=320), gr.Tabs(overflow_behavior="wrap"):
                with gr.Tab("Animate"):
                    self._lay_out_animate()
                with gr.Tab("Live"):
                    self._lay_out_live()
                with gr.Tab("Edit"):
                    self._lay_out_edit()
                with gr.Tab("Personalise"):
                    self._lay_out_personalise()
                with gr.Tab("Check a file"):
                    self._lay_out_verify()
                with gr.Tab("API"):
                    gr.Markdown(text("api"))
        limits = self.studio.limits
        gr.Markdown(text("privacy"))
        gr.Markdown(text("limits", **vars(limits)))

    # --------------------------------------------------------------------------------------------------------- person

    def _lay_out_person(self) -> None:
        gr.Markdown("### The person")
        self.photos = gr.Gallery(
            label="Photos of one person",
            type="filepath",
            file_types=["image"],
            sources=["upload", "webcam", "clipboard"],
            interactive=True,
            columns=4,
            height=230,
            buttons=[],
            elem_id="photos",
        )
        self.consent = gr.Checkbox(
            label="The person in the photos is me, or agrees to what is made here.", elem_id="consent"
        )
        self.seen = gr.Gallery(
            label="What the model sees", interactive=False, columns=2, height=300, buttons=[], visible=False,
            elem_id="seen", object_fit="contain",
        )  # fmt: skip
        self.face = gr.Radio([], label="Which face?", visible=False, elem_id="face")
        self.notice = gr.Markdown("", elem_id="notice")
        with gr.Row():
            self.try_buttons = [
                gr.Button(name, icon=str(photo), size="sm", elem_id=f"example-{k}")
                for k, (name, photo) in enumerate(zip(self.examples.names, self.examples.photos, strict=True))
            ]
        gr.Markdown(text("photos"))
        with gr.Accordion("Use a saved avatar instead", open=False):
            file = gr.File(label="Avatar file", file_types=[".safetensors"], height=110, elem_id="avatar-file")
            name = gr.Textbox(label="or its name on the Hub", placeholder="name/avatar", elem_id="avatar-name")
            load = gr.Button("Load", size="sm", elem_id="avatar-load")
        shown = [self.person, self.seen, self.face, self.notice]
        self.photos.change(
            spoken(self._look),
            [self.photos, self.person, self.consent],
            [*shown, self.consent],
            show_progress_on=[self.seen],
            trigger_mode="always_last",
            **LOOKS,
            **PRIVATE,
        )
        self.face.input(spoken(self._pick), [self.face, self.person], shown, **PRIVATE)
        loading = self._load_avatar_signed_in if ON_SPACE else self._load_avatar
        load.click(spoken(loading), [file, name], [self.photos, *shown, self.consent], **PRIVATE)

    def _look(self, photos: list[tuple[str, str | None]] | None, person: Person, consent: bool) -> tuple[Any, ...]:
        paths = [path for path, _caption in photos or []]
        if not paths and person.avatar is not None and not person.sights:
            return (gr.skip(),) * 5  # an avatar was loaded, and the photos made way
        looked = self.studio.look(paths, person)
        notice = ""
        if person.avatar is not None and person.avatar.generator is not None and looked.avatar is None and paths:
            notice = "The photos changed: the avatar that was made of them is put aside."
        # Who takes all photos away may go on with somebody else's.
        return *self._shown(looked, notice), consent and bool(paths or not person.sights)

    def _pick(self, choice: str, person: Person) -> tuple[Any, ...]:
        number = person.asked()
        return (gr.skip(),) * 4 if number is None else self._shown(person.pick(number, int(choice.split()[1]) - 1))

    @staticmethod
    def _shown(person: Person, notice: str = "") -> tuple[Any, ...]:
        number = person.asked()
        ask = gr.update(choices=[], value=None, visible=False)
        if number is not None:
            sight = person.sights[number]
            picked = person.picked.get(sight.path)
            ask = gr.update(
                choices=[f"face {k + 1}" for k in range(len(sight.faces))],
                value=None if picked is None else f"face {picked + 1}",
                visible=True,
                label=f"Which face in photo {number + 1}?",
            )
        problems = [f"⚠️ Photo {k}: {sight.problem}" for k, sight in enumerate(person.sights, 1) if sight.problem]
        notice = "\n\n".join([notice] * bool(notice) + problems)
        return person, gr.update(value=person.pictures(), visible=bool(person.sights)), ask, notice

    def _load_avatar_signed_in(self, file: str | None, name: str, login: gr.OAuthToken | None) -> tuple[Any, ...]:
        return self._load_avatar(file, name, login.token if login else None)

    def _load_avatar(self, file: str | None, name: str, token: str | None = None) -> tuple[Any, ...]:
        avatar = self.read_avatar(file, name, token)
        pictures = [(picture, f"photo {k + 1} of the avatar") for k, picture in enumerate(avatar.photo_images)]
        person = Person(avatar=avatar)
        notice = "The avatar is loaded."
        nothing_to_ask = gr.update(choices=[], visible=False)
        return [], person, gr.update(value=pictures, visible=True), nothing_to_ask, notice, False

    def read_avatar(self, file: str | None, name: str = "", token: str | None = None) -> Avatar:
        """From a file, or from the Hub with the visitor's token and no other. Raises TalkingHeadsError."""
        if file:
            self.studio.check_file(file)
            avatar = Avatar.from_file(file)
        elif name.strip():
            # A folder of this machine is nobody's business.
            if name.count("/") != 1 or Path(name.strip()).exists():
                raise LimitError("Give the avatar's name on the Hub as owner/name.")
            check_size_on_hub(name.strip(), self.studio.limits.megabytes, token or False)
            # Not the Hub's own cache, which keeps what it has seen.
            with TemporaryDirectory(prefix=OWN, dir=self.cache) as folder:
                avatar = Avatar.from_pretrained(name.strip(), cache_dir=folder, token=token or False)
        else:
            raise LimitError("Choose an avatar file, or give a name on the Hub.")
        return avatar

    # -------------------------------------------------------------------------------------------------------- animate

    def _lay_out_animate(self) -> None:
        with gr.Tabs():
            with gr.Tab("Preset motion", id="preset") as preset_tab:
                preset = gr.Radio(
                    list(PRESETS),
                    value=next(iter(PRESETS)),
                    label="Motion",
                    elem_id="preset",
                )
            with gr.Tab("A clip", id="clip") as clip_tab:
                driving = gr.Video(
                    label="Driving clip", sources=["upload", "webcam"], include_audio=True, height=260, buttons=[],
                    elem_id="driving",
                )  # fmt: skip
                with gr.Row():
                    start = gr.Number(None, label="Start (s)", min_width=90, elem_id="start")
                    end = gr.Number(None, label="End (s)", min_width=90, elem_id="end")
                    use_example = gr.Button("Use the example clip", size="sm", min_width=120)
        chosen = gr.State("preset")
        with gr.Accordion("How much of the motion", open=False):
            motion = gr.Radio(
                [
                    ("relative: keeps the person's own shape of face", "relative"),
                    ("absolute: as the driver", "absolute"),
                ],
                value="relative",
                label="Kind",
            )
            with gr.Row():
                head, expression, gaze = (
                    gr.Slider(0, 2, 1, step=0.05, label=label, min_width=110)
                    for label in ("Head", "Expression", "Gaze")
                )
        output = gr.Radio(list(OUTPUTS), value="head", label="Show", elem_id="output")
        self.label = label = gr.Checkbox(True, label="Write “AI-generated” into a corner", elem_id="label")
        # What it takes is known before anybody asks.
        self.plan = plan = gr.Markdown("", elem_id="plan")
        with gr.Row():
            animate = gr.Button("Animate", variant="primary", elem_id="animate", scale=3)
            cancel = gr.Button("Cancel", variant="stop", elem_id="cancel", scale=1, min_width=90)
        progress = gr.HTML("", elem_id="progress")
        live = gr.Image(label="First frames", visible=False, interactive=False, height=420, buttons=[], elem_id="live")
        video = gr.Video(
            label="Result", interactive=False, autoplay=True, loop=True, height=420, buttons=["download"],
            elem_id="result",
        )  # fmt: skip
        with gr.Row():
            make_gif = gr.Button("Make a GIF", size="sm", interactive=False, elem_id="gif")
            gif = gr.File(label="GIF", visible=False, elem_id="gif-file")

        preset_tab.select(lambda: "preset", None, chosen, **PRIVATE)
        clip_tab.select(lambda: "clip", None, chosen, **PRIVATE)
        use_example.click(lambda: str(EXAMPLE), None, driving, **PRIVATE)
        wishes = [chosen, preset, driving, start, end, motion, head, expression, gaze, output, label]
        gr.on(
            [preset.change, driving.change, start.change, end.change, chosen.change, output.change],
            self._plan,
            wishes,
            plan,
            show_progress="hidden",
            **PRIVATE,
        )
        outputs = [progress, live, video, make_gif, gif]
        run: dict[str, Any] = {
            "fn": spoken(self._animate),
            "inputs": [self.person, self.photos, self.consent, *wishes],
            "outputs": outputs,
            "show_progress": "hidden",
            **RENDERS,
            **PRIVATE,
        }
        tidy: dict[str, Any] = {
            "fn": lambda: ("", gr.update(visible=False), gr.update(visible=True)),
            "outputs": [progress, live, video],
            **PRIVATE,
        }
        runs = [animate.click(**run)]
        for button, photo in zip(self.try_buttons, self.examples.photos, strict=True):
            filled = button.click(
                functools.partial(self._example, photo), None,
                [self.photos, self.person, self.seen, self.face, self.notice], **PRIVATE,
            )  # fmt: skip
            runs.append(filled.success(**run))
        for each in runs:
            each.failure(**tidy)
        # What is cancelled fails, and tidies the page then. Not when the button is pressed: until the server has
        # answered, the next press of Animate would be overlooked.
        cancel.click(None, None, None, cancels=runs, **PRIVATE)
        make_gif.click(spoken(self._gif), [video], gif, **LOOKS, **PRIVATE)

    def _example(self, photo: Path) -> tuple[Any, ...]:
        return ([str(photo)], *self._shown(self.studio.look([str(photo)])))

    @staticmethod
    def _wish(
        chosen: str, preset: str, driving: str | None, start: float | None, end: float | None, motion: Any, head: float,
        expression: float, gaze: float, output: Output, label: bool,
    ) -> Wish:  # fmt: skip
        # An empty field may come as 0.
        clip = {"driving": driving, "start": start or None, "end": end or None}
        moved = {"preset": preset} if chosen == "preset" else clip
        if chosen == "clip" and not driving:
            raise LimitError("Add a driving clip, or choose a preset motion.")
        return Wish(**moved, motion=motion, head=head, expression=expression, gaze=gaze, output=output, label=label)  # type: ignore[arg-type]

    def _plan(self, *wishes: Any) -> str:
        """What will be made, and how long that takes; or why it cannot be made."""
        try:
            return self._about(self._wish(*wishes))
        except TalkingHeadsError as error:
            return "" if wishes[2] is None else f"⚠️ {error}"

    def first_plan(self) -> str:
        """Of what is chosen when the page is opened."""
        return self._about(Wish(preset=next(iter(PRESETS))))

    def _about(self, wish: Wish) -> str:
        frames = self.studio.check_wish(wish)
        seconds = self.studio.duration(wish, frames)
        about = f"{PRESETS[wish.preset]} " if wish.preset else ""
        return f"{about}{frames} frames" + ("." if seconds is None else f": {in_words(seconds)} on this machine.")

    def _animate(
        self, person: Person, photos: list[tuple[str, str | None]] | None, consent: bool, *wishes: Any
    ) -> Iterator[tuple[Any, ...]]:
        paths = [path for path, _caption in photos or []]
        if paths != [sight.path for sight in person.sights]:  # asked before the photos were looked at
            person = self.studio.look(paths, person)
        self.studio.check_consent(person, consent)
        wish = self._wish(*wishes)
        same, hidden = gr.skip(), gr.update(visible=False)
        yield progress_bar(Report("starting")), hidden, gr.update(value=None), gr.update(interactive=False), hidden
        with own_folder(self.cache) as folder:
            for report in self.studio.animate(person, wish, folder):
                if isinstance(report, Made):
                    made = report
                elif report.picture is None:
                    yield progress_bar(report), same, same, same, same
                else:
                    yield progress_bar(report), gr.update(value=report.picture, visible=True), hidden, same, same
        for warning in made.warnings:
            gr.Warning(warning)
        yield "", hidden, gr.update(value=str(made.video), visible=True), gr.update(interactive=True), same

    def _gif(self, video: str | None) -> Any:
        if not video:
            raise LimitError("Animate first; then there is a video to make a GIF of.")
        with own_folder(self.cache) as folder:
            return gr.update(value=str(self.studio.gif(video, folder)), visible=True)

    # ----------------------------------------------------------------------------------------------------------- live

    def _lay_out_live(self) -> None:
        if not self.studio.can_live:
            gr.Markdown(text("live_elsewhere"))
            return
        gr.Markdown(text("live"))
        sitting = gr.State(None)  # closes itself when the visitor has left
        with gr.Row(equal_height=False):
            camera = gr.Image(
                label="You", sources=["webcam"], streaming=True, type="numpy", height=300, buttons=[], min_width=260,
                webcam_options=gr.WebcamOptions(mirror=True, constraints={"video": CAMERA}), elem_id="camera",
            )  # fmt: skip
            with gr.Column(min_width=260):
                # Not an Image: gradio would write each of its pictures into a file.
                picture = gr.HTML(NO_PICTURE, elem_id="live-picture")
                words = gr.HTML("", elem_id="live-words")
        stream = camera.stream(
            self._live,
            [camera, sitting, self.person, self.consent, self.label],
            [sitting, picture, words],
            stream_every=0.05 if self.studio.pipe.device.type == "cpu" else 0.04,  # s; what is painted, not much more
            time_limit=self.studio.limits.live,
            show_progress="hidden",
            **LIVES,
            **PRIVATE,
        )
        stream.then(self._leave, sitting, [sitting, picture, words], show_progress="hidden", **PRIVATE)

    def _live(
        self, frame: np.ndarray | None, sitting: Sitting | None, person: Person, consent: bool, label: bool
    ) -> tuple[Any, ...]:
        if frame is None:
            return (gr.skip(),) * 3
        try:
            self.studio.check_consent(person, consent)
            if sitting is None or not sitting.serves(person, frame.shape):
                self._leave(sitting)
                sitting = self.studio.sit(person, frame.shape)
            seen = sitting.see(frame, label=label)
        except TalkingHeadsError as error:
            return *self._leave(sitting)[:2], said(f"⚠️ {sentence_of(error)}")
        except Exception:
            self._leave(sitting)
            raise
        if seen is None:
            return sitting, gr.skip(), said("No face is seen. Sit in the light, facing the camera.")
        pace = sitting.pace()
        about = "Starting …" if pace is None else f"{pace[0]:.1f} frames a second, delay {1000 * pace[1]:.0f} ms"
        return sitting, live_picture(seen), said(about)

    @staticmethod
    def _leave(sitting: Sitting | None) -> tuple[Any, ...]:
        if sitting is not None:
            sitting.close()
        return None, NO_PICTURE, ""

    # ----------------------------------------------------------------------------------------------------------- edit

    def _lay_out_edit(self) -> None:
        gr.Markdown(text("edit"))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=260):  # the picture first: on a phone it would be below the sliders
                picture = gr.Image(
                    label="Edited", interactive=False, type="filepath", height=360, buttons=["download"],
                    elem_id="edited",
                )  # fmt: skip
            with gr.Column(min_width=260):
                sliders = [
                    gr.Slider(low, high, 0, step=1 if high > 1 else 0.05, label=LABELS[name], elem_id=f"edit-{name}")
                    for name, (low, high) in RANGES.items()
                ]
                reset = gr.Button("Back to the photo", size="sm")
        wired: dict[str, Any] = {
            "fn": spoken(self._edit),
            "inputs": [self.person, self.consent, *sliders],
            "outputs": picture,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_id": "edit",
            "concurrency_limit": 2,
            **PRIVATE,
        }
        gr.on([slider.input for slider in sliders], **wired)
        reset.click(lambda: [0.0] * len(RANGES), None, sliders, **PRIVATE).then(**wired)

    def _edit(self, person: Person, consent: bool, *values: float) -> str:
        self.studio.check_consent(person, consent)
        return self.edited(person, dict(zip(RANGES, values, strict=True)))

    def edited(self, person: Person, values: dict[str, float]) -> str:
        """The path of one picture. Raises LimitError for values that no slider gives."""
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise LimitError(f"{missing[0]} must be a number.")
        try:
            controls = FaceControls(**values)
        except ValueError as error:
            raise LimitError(f"{error}.") from None
        with own_folder(self.cache) as folder:
            path = folder / "talking-head.png"
            save_picture(self.studio.edit(person, controls), path, label=True)
            return str(path)

    # ---------------------------------------------------------------------------------------------------- personalise

    def _lay_out_personalise(self) -> None:
        gr.Markdown(text("personalise"))
        limit = self.studio.limits.steps
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
        tune = run.click(
            spoken(self._personalise),
            [self.person, self.consent, steps],
            [progress, compare],
            show_progress="hidden",
            **RENDERS,
            **PRIVATE,
        )
        tune.failure(lambda: "", None, progress, **PRIVATE)
        cancel.click(None, None, None, cancels=[tune], **PRIVATE)
        make_file.click(spoken(self._save_avatar), [self.person, self.consent], file, **LOOKS, **PRIVATE)
        pushing = self._push_signed_in if ON_SPACE else self._push
        push.click(spoken(pushing), [self.person, self.consent, name, private, token], pushed, **LOOKS, **PRIVATE).then(
            lambda: "", None, token, **PRIVATE
        )

    def _personalise(self, person: Person, consent: bool, steps: float) -> Iterator[tuple[Any, ...]]:
        self.studio.check_consent(person, consent)
        shown = 0
        yield progress_bar(Report("starting")), gr.update(visible=False)
        for report in self.studio.personalise(person, int(steps or 0)):
            new = gr.update(value=list(report.pictures), visible=True) if len(report.pictures) > shown else gr.skip()
            shown = len(report.pictures)
            if isinstance(report, Made):
                # In place: whoever has chosen other photos meanwhile has another person, who is left alone.
                person.avatar = report.avatar
                yield "<p>Done. Animate and Edit use this avatar now.</p>", new
            else:
                yield progress_bar(report), new

    def _save_avatar(self, person: Person, consent: bool) -> Any:
        self.studio.check_consent(person, consent)
        return gr.update(value=self.saved(self.studio.avatar_of(person)), visible=True)

    def saved(self, avatar: Avatar) -> str:
        """The path of the avatar's file."""
        with own_folder(self.cache) as folder:
            return str(avatar.save_file(folder / "avatar.safetensors"))

    def _push(self, person: Person, consent: bool, name: str, private: bool, token: str) -> str:
        self.studio.check_consent(person, consent)
        if name.count("/") != 1:
            raise LimitError("Give the repository as owner/name.")
        if not token:
            raise LimitError("Give an access token that may write: see huggingface.co/settings/tokens.")
        commit = self.studio.avatar_of(person).push_to_hub(name.strip(), private=private, token=token.strip())
        return f"Pushed: {commit.repo_url}"

    def _push_signed_in(
        self, person: Person, consent: bool, name: str, private: bool, token: str, login: gr.OAuthToken | None
    ) -> str:
        return self._push(person, consent, name, private, token or (login.token if login else ""))

    # --------------------------------------------------------------------------------------------------------- verify

    def _lay_out_verify(self) -> None:
        gr.Markdown(text("verify"))
        file = gr.File(label="Video or picture", height=140, elem_id="verify-file")
        found = gr.HTML("", elem_id="findings")
        file.clear(lambda: "", None, found, **PRIVATE)
        file.upload(spoken(self._verify), file, found, **LOOKS, **PRIVATE)

    def _verify(self, file: str) -> str:
        # As text: names in a manifest are a stranger's.
        return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in self.found(file).sentences)}</ul>"

    def found(self, file: str) -> Findings:
        """What marks a file carries. Raises TalkingHeadsError."""
        self.studio.check_file(file)
        check_pixels(file, self.studio.limits.megapixels)
        return verify(file)


ON_SPACE = "SPACE_ID" in os.environ
"""There visitors can sign in with their Hub account."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
RENDERS: dict[str, Any] = {"concurrency_id": "render", "concurrency_limit": 1}
"""The machine has one device: one render at a time."""
LOOKS: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2}
"""What takes a second or less does not wait behind renders."""
LIVES: dict[str, Any] = {"concurrency_id": "live", "concurrency_limit": 1}
"""Two at once would both stutter."""
CAMERA = {"width": {"ideal": 480}, "height": {"ideal": 360}}
"""Enough to see a face by, and sent many times a second."""
LABELS = {
    "yaw": "Turn (degrees)",
    "pitch": "Nod (degrees)",
    "roll": "Lean (degrees)",
    "mouth": "Mouth open",
    "lips": "Lips wide, round",
    "smile": "Smile",
    "eyelids": "Eyelids",
    "brows": "Brows",
    "gaze_x": "Gaze left, right",
    "gaze_y": "Gaze up, down",
}


# -------------------------------------------------------------------------------------------------------- the endpoints


def photo_files(cache: str) -> gr.File:
    """Several files. gradio's MCP server knows how to send one; in a list, addresses arrive here as they are.

    Not a subclass of gr.File: gradio would write a stub file for it beside this one.
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
            sentence = "A photo could not be fetched. Give an uploaded file, or an https: or data: address."
            raise gr.Error(sentence, print_exception=False) from error

    def paths(payload: list[Any] | None) -> list[str]:
        if not isinstance(payload or [], list):
            raise gr.Error("Give photos as a list of files or addresses.", print_exception=False)
        return [fetched(item) for item in payload or []]

    def described() -> dict[str, Any]:
        one = gr.FileData.model_json_schema()  # in place: MCP servers lose references within a list
        return {"$defs": one.pop("$defs"), "type": "array", "items": one, "additional_description": None}

    files: Any = gr.File(label="Photos", file_count="multiple")
    files.data_model, files.preprocess, files.api_info = None, paths, described
    return files


class Endpoints:
    """Named endpoints, hung at components that nobody sees: gradio checks files and describes types by components."""

    def __init__(self, page: Page) -> None:
        self.page, self.studio = page, page.studio

    def add(self) -> None:
        """Puts them into the Blocks that is open."""

        def photos() -> gr.File:
            return photo_files(str(self.page.cache))

        def file(label: str) -> gr.File:
            return gr.File(label=label)

        def consent() -> gr.Checkbox:
            return gr.Checkbox(False, label="Consent")

        def wishes() -> list[gr.components.Component]:
            return [
                gr.File(label="Driving"),
                gr.Dropdown(list(PRESETS), value=None, label="Preset"),
                gr.Radio(["relative", "absolute"], value="relative", label="Motion"),
                *(gr.Number(1.0, label=label) for label in ("Head", "Expression", "Gaze")),
                *(gr.Number(None, label=label) for label in ("Start", "End")),
            ]

        def label() -> gr.Checkbox:
            return gr.Checkbox(True, label="Label")

        def video() -> gr.Video:
            return gr.Video(label="Video")

        with gr.Row(visible=False):
            output = gr.Radio(list(OUTPUTS), value="head", label="Output")
            steps = gr.Number(40, label="Steps", precision=0)
            controls = [gr.Number(0.0, label=name) for name in RANGES]
            picture = gr.Image(label="Picture", type="filepath", format="png")
            seen, findings = gr.Gallery(label="Seen", format="png"), gr.JSON(label="Findings")
            self._endpoint(self.animate, [photos(), consent(), *wishes(), output, label()], video(), RENDERS)
            self._endpoint(self.create_avatar, [photos(), consent()], file("Avatar"), LOOKS)
            self._endpoint(self.animate_avatar, [file("Avatar"), consent(), *wishes(), label()], video(), RENDERS)
            self._endpoint(self.personalise, [photos(), consent(), steps], file("Avatar"), RENDERS)
            self._endpoint(self.edit, [photos(), consent(), *controls], picture, LOOKS)
            self._endpoint(self.preview_landmarks, [photos()], seen, LOOKS)
            self._endpoint(self.verify, [file("File")], findings, LOOKS)

    @staticmethod
    def _endpoint(handler: Handler, inputs: list[Any], output: Any, line: dict[str, Any]) -> None:
        gr.Button(visible=False).click(spoken(handler), inputs, output, api_name=handler.__name__, **line)

    def animate(
        self,
        photos: list[str],
        consent: bool = False,
        driving: str | None = None,
        preset: str | None = None,
        motion: Literal["relative", "absolute"] = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        output: Output = "head",
        label: bool = True,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (this is how gradio finds it)
    ) -> Iterator[str | None]:
        """Make a video of a person who moves like a driving clip or like a preset motion.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            driving: A clip in which one face is seen; its motion and its sound are taken. Leave out for a preset.
            preset: A motion that comes with the software, instead of a clip.
            motion: "relative" keeps the person's own shape of face, "absolute" takes the driver's landmarks.
            head: How much of the head's motion is carried over, 0 to 2; of relative motion, as the next two.
            expression: How much of the expression is carried over, 0 to 2.
            gaze: How much of the gaze is carried over, 0 to 2.
            start: Second of the clip to begin at.
            end: Second of the clip to end at.
            output: "head", "side by side" with the clip, or "in the photo": the head back in the first photo.
            label: Whether the video says to the eye that it is AI-generated.

        Returns:
            An mp4, with the clip's sound, marked as AI-generated.
        """
        person = self.studio.look(photos or [])
        self.studio.check_consent(person, consent)
        wish = Wish(driving, preset, motion, head, expression, gaze, start, end, output, label)
        yield from self._rendered(person, wish, progress)

    def animate_avatar(
        self,
        avatar: str,
        consent: bool = False,
        driving: str | None = None,
        preset: str | None = None,
        motion: Literal["relative", "absolute"] = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        label: bool = True,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make a video of an avatar that moves like a driving clip or like a preset motion.

        Args:
            avatar: A file that create_avatar or personalise has made.
            consent: That the person agrees; without it nothing is made.
            driving: A clip in which one face is seen; its motion and its sound are taken. Leave out for a preset.
            preset: A motion that comes with the software, instead of a clip.
            motion: "relative" keeps the person's own shape of face, "absolute" takes the driver's landmarks.
            head: How much of the head's motion is carried over, 0 to 2; of relative motion, as the next two.
            expression: How much of the expression is carried over, 0 to 2.
            gaze: How much of the gaze is carried over, 0 to 2.
            start: Second of the clip to begin at.
            end: Second of the clip to end at.
            label: Whether the video says to the eye that it is AI-generated.

        Returns:
            An mp4, with the clip's sound, marked as AI-generated.
        """
        person = Person(avatar=self.page.read_avatar(avatar))
        self.studio.check_consent(person, consent)
        yield from self._rendered(
            person, Wish(driving, preset, motion, head, expression, gaze, start, end, label=label), progress
        )

    def _rendered(self, person: Person, wish: Wish, progress: gr.Progress) -> Iterator[str | None]:
        with own_folder(self.page.cache) as folder:
            for report in self.studio.animate(person, wish, folder):
                if isinstance(report, Made):
                    made = report
                else:
                    progress((report.done, report.total), desc=report.stage, unit="frames")
                    yield None
        for warning in made.warnings:
            gr.Warning(warning)
        yield str(made.video)

    def create_avatar(self, photos: list[str], consent: bool = False) -> str:
        """Make an avatar of a person, to be animated as often as you like.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.

        Returns:
            The avatar, a .safetensors file.
        """
        person = self.studio.look(photos or [])
        self.studio.check_consent(person, consent)
        return self.page.saved(self.studio.avatar_of(person))

    def personalise(
        self,
        photos: list[str],
        consent: bool = False,
        steps: int = 40,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make an avatar of a person and fine-tune it to the photos.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            steps: Steps of fine-tuning; 40 are a good start.

        Returns:
            The avatar with a generator of its own, a .safetensors file.
        """
        person = self.studio.look(photos or [])
        self.studio.check_consent(person, consent)
        for report in self.studio.personalise(person, int(steps or 0)):
            if isinstance(report, Made):
                yield self.page.saved(report.avatar)
            else:
                progress((report.done, report.total), desc=report.stage, unit="steps")
                yield None

    def edit(
        self,
        photos: list[str],
        consent: bool = False,
        yaw: float = 0,
        pitch: float = 0,
        roll: float = 0,
        mouth: float = 0,
        lips: float = 0,
        smile: float = 0,
        eyelids: float = 0,
        brows: float = 0,
        gaze_x: float = 0,
        gaze_y: float = 0,
    ) -> str:
        """Change pose and expression of a person: one picture. All zero is the pose and expression of the photo.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            yaw: Turn of the head to the right of the picture, degrees up to 25 either way.
            pitch: Nod downwards, degrees up to 15 either way.
            roll: Lean of the head clockwise, degrees up to 20 either way.
            mouth: 0 as in the photo to 1 wide open.
            lips: -1 drawn wide to 1 rounded.
            smile: -1 to 1.
            eyelids: -1 closed to 1 wide open.
            brows: -1 lowered to 1 raised.
            gaze_x: -1 to the left of the picture to 1 to its right.
            gaze_y: -1 up to 1 down.

        Returns:
            A picture of the head, marked as AI-generated.
        """
        person = self.studio.look(photos or [])
        self.studio.check_consent(person, consent)
        values = (yaw, pitch, roll, mouth, lips, smile, eyelids, brows, gaze_x, gaze_y)
        return self.page.edited(person, dict(zip(RANGES, values, strict=True)))

    def preview_landmarks(self, photos: list[str]) -> list[tuple[Any, str]]:
        """What the model sees in photos: the crop and the landmarks, or what is wrong.

        Args:
            photos: Photos.

        Returns:
            The photos, drawn on, each with a sentence: "1: ready" if it can be used.
        """
        person = self.studio.look(photos or [])
        if not person.sights:
            raise LimitError("Add at least one photo.")
        return person.pictures()

    def verify(self, file: str) -> dict[str, Any]:
        """Whether a video or picture carries the marks of AI-generated media: metadata, C2PA, the invisible mark.

        Args:
            file: A video or a picture.

        Returns:
            "generated", true or false, and "sentences" that say what was found.
        """
        if not file:
            raise LimitError("Give a file.")
        found = self.page.found(file)
        return {"generated": found.generated, "sentences": list(found.sentences)}
