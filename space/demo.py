"""The page, and the same work as named endpoints for gradio_client and MCP.

Handlers take paths and give paths; what they do is in studio.py. What runs long is a generator: it reports what it is
at, and when a visitor cancels or leaves, gradio closes it, which stops the work.
"""

from __future__ import annotations

import functools
import html
import inspect
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import gradio as gr
from gradio.processing_utils import save_base64_to_cache, ssrf_protected_download

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.errors import TalkingHeadsError
from talking_heads.examples import EXAMPLE
from talking_heads.expressions import RANGES, FaceControls
from talking_heads.presets import PRESETS
from talking_heads.provenance import verify
from talking_heads.video import probe

from .examples import Examples
from .person import Person
from .settings import LimitError, Limits
from .studio import OUTPUTS, Output, Report, Studio, Wish, save_picture
from .work import Work, in_words

TEXTS = Path(__file__).parent / "texts"
KEPT_SECONDS = 3600
"""How old a visitor's files may get, and how often they are looked for."""

Handler = Callable[..., Any]
OnGpu = Callable[[Handler, Callable[..., int]], Handler]
"""Decorates a handler that computes; the second function says for how many seconds at most, of the same arguments."""


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
    studio = Studio(pipe, limits, free=examples.photos)
    if on_gpu is None:
        studio.warm_up(examples.photos[0])
    with gr.Blocks(title="Talking heads", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as demo:
        page = Page(studio, examples, on_gpu or (lambda handler, _seconds: handler), Path(demo.GRADIO_CACHE))
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
        raise gr.Error(str(error), print_exception=False, duration=12) from None
    except ValueError as error:  # a slider cannot, a client can
        raise gr.Error(f"{str(error).rstrip('.').capitalize()}.", print_exception=False) from None


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


@contextmanager
def own_folder(cache: Path) -> Iterator[Path]:
    """A folder of this request's own, in the cache that ``delete_cache`` empties; gone if the request fails."""
    folder = cache / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:  # a visitor who leaves closes the generator
        shutil.rmtree(folder, ignore_errors=True)
        raise


def progress_bar(report: Report | None) -> str:
    """A report as HTML; nothing for None."""
    if report is None:
        return ""
    share = 0 if not report.total else min(1.0, report.done / report.total)
    of = f" of {report.total}" if report.total else ""
    unit = "steps" if report.stage == "fine-tuning" else "frames"
    left = "" if report.left is None else f", {in_words(report.left)} left"
    words = html.escape(f"{report.stage.capitalize()}: {report.done}{of} {unit}{left}")
    return (
        f'<div class="th-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}" aria-label="{words}"><div style="width:{100 * share:.1f}%"></div></div>'
        f'<p class="th-words">{words}</p>'
    )


# ------------------------------------------------------------------------------------------------------------ the page


class Page:
    """Left the person, right what is done with them. Its handlers are private: programs call the endpoints."""

    def __init__(self, studio: Studio, examples: Examples, on_gpu: OnGpu, cache: Path) -> None:
        self.studio, self.examples, self.on_gpu, self.cache = studio, examples, on_gpu, cache

    def lay_out(self) -> None:
        """Puts the components into the Blocks that is open."""
        self.person = gr.State(Person(), time_to_live=KEPT_SECONDS)
        gr.Markdown(text("head"), elem_classes="th-head")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                self._lay_out_person()
            with gr.Column(scale=3, min_width=320), gr.Tabs():
                with gr.Tab("Animate"):
                    self._lay_out_animate()
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
        self.looked = gr.on(
            [self.photos.upload, self.photos.delete, self.photos.change],
            spoken(self._look),
            [self.photos, self.person],
            shown,
            show_progress_on=[self.seen],
            trigger_mode="always_last",
            **LOOKS,
            **PRIVATE,
        )
        self.face.input(spoken(self._pick), [self.face, self.person], shown, **PRIVATE)
        loading = self._load_avatar_signed_in if ON_SPACE else self._load_avatar
        load.click(spoken(loading), [file, name], [self.photos, *shown], **PRIVATE)

    def _look(self, photos: list[tuple[str, str | None]] | None, person: Person) -> tuple[Any, ...]:
        paths = [path for path, _caption in photos or []]
        if not paths and person.avatar is not None and not person.sights:
            return (gr.skip(),) * 4  # an avatar was loaded, and the photos made way
        return self._shown(self.studio.look(paths, person))

    def _pick(self, choice: str, person: Person) -> tuple[Any, ...]:
        number = person.undecided()
        return (gr.skip(),) * 4 if number is None else self._shown(person.pick(number, int(choice.split()[1]) - 1))

    @staticmethod
    def _shown(person: Person) -> tuple[Any, ...]:
        number = person.undecided()
        choices = [] if number is None else [f"face {k + 1}" for k in range(len(person.sights[number].faces))]
        ask = gr.update(
            choices=choices, value=None, visible=bool(choices), label=f"Which face in photo {(number or 0) + 1}?"
        )
        unusable = sum(bool(sight.problem) for sight in person.sights)
        notice = f"⚠️ {unusable} of {len(person.sights)} photos cannot be used; see below them." if unusable else ""
        return person, gr.update(value=person.pictures(), visible=bool(person.sights)), ask, notice

    def _load_avatar_signed_in(self, file: str | None, name: str, login: gr.OAuthToken | None) -> tuple[Any, ...]:
        return self._load_avatar(file, name, login.token if login else None)

    def _load_avatar(self, file: str | None, name: str, token: str | None = None) -> tuple[Any, ...]:
        avatar = self.read_avatar(file, name, token)
        pictures = [(picture, f"photo {k + 1} of the avatar") for k, picture in enumerate(avatar.photo_images)]
        person = Person(avatar=avatar)
        notice = "The avatar is loaded."
        return [], person, gr.update(value=pictures, visible=True), gr.update(choices=[], visible=False), notice

    def read_avatar(self, file: str | None, name: str = "", token: str | None = None) -> Avatar:
        """From a file, or from the Hub with the visitor's token and no other. Raises TalkingHeadsError."""
        if file:
            self.studio.check_file(file)
            avatar = Avatar.from_file(file)
        elif name.strip():
            # A folder of this machine is nobody's business.
            if name.count("/") != 1 or Path(name.strip()).exists():
                raise LimitError("Give the avatar's name on the Hub as owner/name.")
            with TemporaryDirectory(dir=self.cache) as folder:  # not the Hub's own cache, which keeps what it has seen
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
                label="Motion",
            )
            with gr.Row():
                head, expression, gaze = (
                    gr.Slider(0, 2, 1, step=0.05, label=label, min_width=110)
                    for label in ("Head", "Expression", "Gaze")
                )
        output = gr.Radio(list(OUTPUTS), value="head", label="Show", elem_id="output")
        label = gr.Checkbox(True, label="Write “AI-generated” into a corner", elem_id="label")
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
            [preset.change, driving.change, start.change, end.change, chosen.change],
            self._plan,
            wishes,
            plan,
            show_progress="hidden",
            **PRIVATE,
        )
        outputs = [progress, live, video, make_gif, gif, self.person]
        run: dict[str, Any] = {
            "fn": self.on_gpu(spoken(self._animate), self._gpu_seconds),
            "inputs": [self.person, self.photos, self.consent, *wishes],
            "outputs": outputs,
            "show_progress": "hidden",
            **RENDERS,
            **PRIVATE,
        }
        runs = [animate.click(**run)]
        for button, photo in zip(self.try_buttons, self.examples.photos, strict=True):
            filled = button.click(
                functools.partial(self._example, photo), None,
                [self.photos, self.person, self.seen, self.face, self.notice], **PRIVATE,
            )  # fmt: skip
            runs.append(filled.success(**run))
        # In two steps, or a last report of what is cancelled may come after the page was tidied.
        cancel.click(None, None, None, cancels=runs, **PRIVATE).then(
            lambda: ("", gr.update(visible=False), gr.update(visible=True)), None, [progress, live, video], **PRIVATE
        )
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
        frames, seconds = self.studio.check_wish(wish), self.studio.duration(wish)
        about = f"{PRESETS[wish.preset]} " if wish.preset else ""
        return f"{about}{frames} frames" + ("." if seconds is None else f": {in_words(seconds)} on this machine.")

    def _gpu_seconds(self, person: Person, photos: Any, consent: bool, *wishes: Any) -> int:
        """At most so long will ``_animate`` need a GPU: 50 frames a second, and a start."""
        try:
            return 15 + math.ceil(self.studio.check_wish(self._wish(*wishes)) / 25)
        except TalkingHeadsError:
            return 15  # it will say so itself

    def _animate(
        self, person: Person, photos: list[tuple[str, str | None]] | None, consent: bool, *wishes: Any
    ) -> Iterator[tuple[Any, ...]]:
        paths = [path for path, _caption in photos or []]
        if paths != [sight.path for sight in person.sights] and paths:  # asked before the photos were looked at
            person = self.studio.look(paths, person)
        self.studio.check_consent(person, consent)
        wish = self._wish(*wishes)
        with own_folder(self.cache) as folder:
            work = Work(lambda say: self.studio.animate(person, wish, folder, say))
            hidden = gr.update(visible=False)
            no_gif = gr.update(interactive=False)
            yield progress_bar(Report("starting", 0, None, None)), hidden, gr.update(value=None), no_gif, hidden, person
            for report in work:
                if report.picture is None:
                    live, place = gr.skip(), gr.skip()
                else:
                    live, place = gr.update(value=report.picture, visible=True), gr.update(visible=False)
                yield progress_bar(report), live, place, gr.skip(), gr.skip(), gr.skip()
            path, warnings = work.result
        for warning in warnings:
            gr.Warning(warning)
        result = gr.update(value=str(path), visible=True)
        yield "", hidden, result, gr.update(interactive=True), gr.skip(), person

    def _gif(self, video: str | None) -> Any:
        if not video:
            raise LimitError("Animate first; then there is a video to make a GIF of.")
        with own_folder(self.cache) as folder:
            return gr.update(value=str(self.studio.gif(video, folder)), visible=True)

    # ----------------------------------------------------------------------------------------------------------- edit

    def _lay_out_edit(self) -> None:
        gr.Markdown(text("edit"))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=260):
                sliders = [
                    gr.Slider(low, high, 0, step=1 if high > 1 else 0.05, label=LABELS[name], elem_id=f"edit-{name}")
                    for name, (low, high) in RANGES.items()
                ]
                reset = gr.Button("Back to the photo", size="sm")
            with gr.Column(min_width=260):
                picture = gr.Image(
                    label="Edited", interactive=False, type="filepath", height=420, buttons=["download"],
                    elem_id="edited",
                )  # fmt: skip
        edit = self.on_gpu(spoken(self._edit), lambda *_: 10)
        inputs = [self.person, self.consent, *sliders]
        wired: dict[str, Any] = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_id": "edit",
            "concurrency_limit": 2,
            **PRIVATE,
        }
        gr.on([slider.input for slider in sliders], edit, inputs, [picture, self.person], **wired)
        reset.click(lambda: [0.0] * len(RANGES), None, sliders, **PRIVATE).then(
            edit, inputs, [picture, self.person], **wired
        )

    def _edit(self, person: Person, consent: bool, *values: float) -> tuple[str, Person]:
        self.studio.check_consent(person, consent)
        return self.edited(person, FaceControls(**dict(zip(RANGES, values, strict=True)))), person

    def edited(self, person: Person, controls: FaceControls) -> str:
        """The path of one picture."""
        with own_folder(self.cache) as folder:
            return str(save_picture(self.studio.edit(person, controls), folder / "talking-head.png"))

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
            self.on_gpu(spoken(self._personalise), lambda _p, _c, steps: 30 + steps),
            [self.person, self.consent, steps],
            [progress, compare, self.person],
            show_progress="hidden",
            **RENDERS,
            **PRIVATE,
        )
        cancel.click(None, None, None, cancels=[tune], **PRIVATE).then(lambda: "", None, progress, **PRIVATE)
        make: dict[str, Any] = {
            "fn": self.on_gpu(spoken(self._make_avatar), lambda *_: 10),
            "inputs": [self.person, self.consent],
            "outputs": self.person,
            **LOOKS,
            **PRIVATE,
        }
        make_file.click(**make).success(spoken(self._save_avatar), self.person, file, **PRIVATE)
        pushing = self._push_signed_in if ON_SPACE else self._push
        push.click(**make).success(
            spoken(pushing), [self.person, self.consent, name, private, token], [pushed, token], **PRIVATE
        )

    def _personalise(self, person: Person, consent: bool, steps: float) -> Iterator[tuple[Any, ...]]:
        self.studio.check_consent(person, consent)
        work = Work(lambda say: self.studio.personalise(person, int(steps), say))
        shown = 0
        yield progress_bar(Report("starting", 0, None, None)), gr.update(visible=False), gr.skip()
        for report in work:
            new = gr.update(value=list(report.pictures), visible=True) if len(report.pictures) > shown else gr.skip()
            shown = len(report.pictures)
            yield progress_bar(report), new, gr.skip()
        avatar, pictures = work.result
        tuned = Person(person.sights, person.picked, avatar)
        yield "<p>Done. Animate and Edit use this avatar now.</p>", gr.update(value=list(pictures), visible=True), tuned

    def _make_avatar(self, person: Person, consent: bool) -> Person:
        self.studio.check_consent(person, consent)
        self.studio.avatar_of(person)
        return person

    def _save_avatar(self, person: Person) -> Any:
        return gr.update(value=self.saved(self.studio.avatar_of(person)), visible=True)

    def saved(self, avatar: Avatar) -> str:
        """The path of the avatar's file."""
        with own_folder(self.cache) as folder:
            return str(avatar.save_file(folder / "avatar.safetensors"))

    def _push(self, person: Person, consent: bool, name: str, private: bool, token: str) -> tuple[str, str]:
        self.studio.check_consent(person, consent)
        if name.count("/") != 1:
            raise LimitError("Give the repository as owner/name.")
        if not token:
            raise LimitError("Give an access token that may write: see huggingface.co/settings/tokens.")
        commit = self.studio.avatar_of(person).push_to_hub(name.strip(), private=private, token=token.strip())
        return f"Pushed: {commit.repo_url}", ""

    def _push_signed_in(
        self, person: Person, consent: bool, name: str, private: bool, token: str, login: gr.OAuthToken | None
    ) -> tuple[str, str]:
        return self._push(person, consent, name, private, token or (login.token if login else ""))

    # --------------------------------------------------------------------------------------------------------- verify

    def _lay_out_verify(self) -> None:
        gr.Markdown(text("verify"))
        file = gr.File(label="Video or picture", height=140, elem_id="verify-file")
        found = gr.Markdown("", elem_id="findings")
        file.upload(spoken(self._verify), file, found, **LOOKS, **PRIVATE)

    def _verify(self, file: str) -> str:
        self.studio.check_file(file)
        return "\n".join(f"* {sentence}" for sentence in verify(file).sentences)


ON_SPACE = "SPACE_ID" in os.environ
"""There visitors can sign in with their Hub account."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
RENDERS: dict[str, Any] = {"concurrency_id": "render", "concurrency_limit": 1}
"""The machine has one device: one render at a time."""
LOOKS: dict[str, Any] = {"concurrency_id": "look", "concurrency_limit": 2}
"""What takes a second or less does not wait behind renders."""
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
            if isinstance(item, str) and item.startswith("data:"):
                return save_base64_to_cache(item, cache)
            if isinstance(item, str):
                return ssrf_protected_download(item, cache)
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
        animate, animate_avatar, personalise = (
            self.page.on_gpu(spoken(handler), seconds)
            for handler, seconds in (
                (self.animate, self._seconds),
                (self.animate_avatar, self._seconds),
                (self.personalise, lambda _p, _c, steps=40: 30 + steps),
            )
        )
        edit, create_avatar = (
            self.page.on_gpu(spoken(handler), lambda *_: 10) for handler in (self.edit, self.create_avatar)
        )

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

        with gr.Row(visible=False):
            output = gr.Radio(list(OUTPUTS), value="head", label="Output")
            steps = gr.Number(40, label="Steps", precision=0)
            controls = [gr.Number(0.0, label=name) for name in RANGES]
            self._endpoint(
                "animate", animate, [photos(), consent(), *wishes(), output, label()], gr.Video(label="Video"), RENDERS
            )
            self._endpoint("create_avatar", create_avatar, [photos(), consent()], file("Avatar"), LOOKS)
            self._endpoint(
                "animate_avatar", animate_avatar, [file("Avatar"), *wishes(), label()], gr.Video(label="Video"), RENDERS
            )
            self._endpoint("personalise", personalise, [photos(), consent(), steps], file("Avatar"), RENDERS)
            picture = gr.Image(label="Picture", type="filepath", format="png")
            self._endpoint("edit", edit, [photos(), consent(), *controls], picture, LOOKS)
            self._endpoint(
                "preview_landmarks",
                spoken(self.preview_landmarks),
                [photos()],
                gr.Gallery(label="Seen", format="png"),
                LOOKS,
            )
            self._endpoint("verify", spoken(self.verify), [file("File")], gr.JSON(label="Findings"), LOOKS)

    @staticmethod
    def _endpoint(name: str, handler: Handler, inputs: list[Any], output: Any, line: dict[str, Any]) -> None:
        gr.Button(visible=False).click(handler, inputs, output, api_name=name, **line)

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
        yield from self._rendered(
            person, Wish(driving, preset, motion, head, expression, gaze, start, end, label=label), progress
        )

    def _rendered(self, person: Person, wish: Wish, progress: gr.Progress) -> Iterator[str | None]:
        with own_folder(self.page.cache) as folder:
            work = Work(lambda say: self.studio.animate(person, wish, folder, say))
            for report in work:
                progress((report.done, report.total), desc=report.stage, unit="frames")
                yield None
            path, warnings = work.result
        for warning in warnings:
            gr.Warning(warning)
        yield str(path)

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
        work = Work(lambda say: self.studio.personalise(person, int(steps), say))
        for report in work:
            progress((report.done, report.total), desc=report.stage, unit="steps")
            yield None
        yield self.page.saved(work.result[0])

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
        controls = FaceControls(yaw, pitch, roll, mouth, lips, smile, eyelids, brows, gaze_x, gaze_y)
        return self.page.edited(person, controls)

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
        self.studio.check_file(file)
        found = verify(file)
        return {"generated": found.generated, "sentences": list(found.sentences)}

    def _seconds(self, _photos: Any, *given: Any) -> int:
        """Of a GPU, at most, for what ``animate`` and ``animate_avatar`` are given: by the length of the clip."""
        clip = next((value for value in given[:2] if isinstance(value, str)), None)
        try:
            seconds = probe(clip).duration if clip else 6
        except TalkingHeadsError:
            seconds = 0  # it will say so itself
        return 15 + math.ceil(min(seconds or self.studio.limits.seconds, self.studio.limits.seconds))
