"""The page: components, and what happens when they are used.

Handlers take paths and give paths; what they do is in service.py. What runs long is a generator: it reports what it is
at, and when a visitor cancels or leaves, gradio closes it, which stops the work.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import numpy as np

from talking_heads import Avatar
from talking_heads.errors import TalkingHeadsError
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import PARTS
from talking_heads.head.presets import PRESETS, RANGES, FaceControls
from talking_heads.media.signing import save_picture
from talking_heads.media.verifying import Findings, verify
from talking_heads.tracking.detectors import DETECTORS
from talking_heads.voice.liveliness import MAX_LIVELINESS

from .examples import Examples
from .handlers import (
    KEPT_SECONDS,
    LIVES,
    LOOKS,
    NO_PICTURE,
    ON_SPACE,
    OWN,
    PRIVATE,
    RENDERS,
    check_size_on_hub,
    live_picture,
    own_folder,
    progress_bar,
    said,
    sentence_of,
    text,
    warn,
    with_user_errors,
)
from .live_session import LiveSession
from .person import Person, check_pixels
from .service import MAX_TEXT, OUTPUTS, SIZES, AnimateRequest, FrameOptions, Report, Service, WorkResult
from .settings import LimitError
from .work import in_words

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


class Page:
    """Left the person, right what is done with them. Its handlers are private: programs call the endpoints."""

    def __init__(self, service: Service, examples: Examples, cache: Path) -> None:
        self.service, self.examples, self.cache = service, examples, cache

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
        limits = self.service.limits
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
        with gr.Accordion("More: background, size, detector", open=False, elem_id="more"):
            self._lay_out_more()
        with gr.Accordion("Use a saved avatar instead", open=False):
            file = gr.File(label="Avatar file", file_types=[".safetensors"], height=110, elem_id="avatar-file")
            name = gr.Textbox(label="or its name on the Hub", placeholder="name/avatar", elem_id="avatar-name")
            load = gr.Button("Load", size="sm", elem_id="avatar-load")
        shown = [self.person, self.seen, self.face, self.notice]
        gr.on(
            [self.photos.change, self.detector.input],
            with_user_errors(self._look),
            [self.photos, self.person, self.consent, self.detector],
            [*shown, self.consent],
            show_progress_on=[self.seen],
            trigger_mode="always_last",
            **LOOKS,
            **PRIVATE,
        )
        self.face.input(with_user_errors(self._pick), [self.face, self.person], shown, **PRIVATE)
        loading = self._load_avatar_signed_in if ON_SPACE else self._load_avatar
        load.click(with_user_errors(loading), [file, name], [self.photos, *shown, self.consent], **PRIVATE)

    def _lay_out_more(self) -> None:
        """What holds for everything that is painted."""
        background = gr.Radio(
            ["keep", "blur", "colour", "picture", "transparent"], value="keep", label="Background",
            elem_id="background", info="Transparent videos are webm files, without the signed mark.",
        )  # fmt: skip
        colour = gr.ColorPicker("#20a040", label="Colour", visible=False, elem_id="background-colour")
        picture = gr.Image(
            label="Picture", type="filepath", sources=["upload", "clipboard"], height=180, buttons=[], visible=False,
            elem_id="background-picture",
        )  # fmt: skip
        size = gr.Radio(
            list(SIZES), value="auto", label="Size of the frames", elem_id="size",
            info="Pixels. Auto: 512 where the photo shows the face that large; photo: as the photo.",
        )  # fmt: skip
        self.detector = gr.Radio(
            list(DETECTORS), value="mediapipe", label="Detector", elem_id="detector",
            info="Finds the face. face-alignment is the paper's: slower, without the irises.",
        )  # fmt: skip
        background.change(
            lambda kind: (gr.update(visible=kind == "colour"), gr.update(visible=kind == "picture")),
            background, [colour, picture], show_progress="hidden", **PRIVATE,
        )  # fmt: skip
        self.frames = [size, background, colour, picture]

    def _frames(self, size: str, background: str, colour: str | None, picture: str | None) -> FrameOptions:
        """What the components of ``frames`` say. Raises TalkingHeadsError."""
        word = (colour or "") if background == "colour" else background
        return self.service.frame_options(size, word, picture if background == "picture" else None)

    def _look(
        self, photos: list[tuple[str, str | None]] | None, person: Person, consent: bool, detector: str
    ) -> tuple[Any, ...]:
        paths = [path for path, _caption in photos or []]
        if not paths and person.avatar is not None and not person.analyses:
            return (gr.skip(),) * 5  # an avatar was loaded, and the photos made way
        looked = self.service.look(paths, person, detector)
        notice = ""
        if person.avatar is not None and person.avatar.generator is not None and looked.avatar is None and paths:
            notice = "The photos changed: the avatar that was made of them is put aside."
        # Who takes all photos away may go on with somebody else's.
        return *self._shown(looked, notice), consent and bool(paths or not person.analyses)

    def _pick(self, choice: str, person: Person) -> tuple[Any, ...]:
        number = person.asked()
        return (gr.skip(),) * 4 if number is None else self._shown(person.pick(number, int(choice.split()[1]) - 1))

    @staticmethod
    def _shown(person: Person, notice: str = "") -> tuple[Any, ...]:
        number = person.asked()
        ask = gr.update(choices=[], value=None, visible=False)
        if number is not None:
            analysis = person.analyses[number]
            picked = person.picked.get(analysis.path)
            ask = gr.update(
                choices=[f"face {k + 1}" for k in range(len(analysis.faces))],
                value=None if picked is None else f"face {picked + 1}",
                visible=True,
                label=f"Which face in photo {number + 1}?",
            )
        problems = [f"⚠️ Photo {k}: {seen.problem}" for k, seen in enumerate(person.analyses, 1) if seen.problem]
        notice = "\n\n".join([notice] * bool(notice) + problems)
        return person, gr.update(value=person.pictures(), visible=bool(person.analyses)), ask, notice

    def _load_avatar_signed_in(self, file: str | None, name: str, login: gr.OAuthToken | None) -> tuple[Any, ...]:
        return self._load_avatar(file, name, login.token if login else None)

    def _load_avatar(self, file: str | None, name: str, token: str | None = None) -> tuple[Any, ...]:
        avatar = self.read_avatar(file, name, token)
        photos = avatar.shots.crops(min(512, avatar.photo_size))
        pictures = [(photo, f"photo {k + 1} of the avatar") for k, photo in enumerate(photos)]
        person = Person(avatar=avatar)
        notice = "The avatar is loaded."
        nothing_to_ask = gr.update(choices=[], visible=False)
        return [], person, gr.update(value=pictures, visible=True), nothing_to_ask, notice, False

    def read_avatar(self, file: str | None, name: str = "", token: str | None = None) -> Avatar:
        """From a file, or from the Hub with the visitor's token and no other. Raises TalkingHeadsError."""
        if file:
            self.service.check_file(file)
            avatar = Avatar.from_file(file)
        elif name.strip():
            # A folder of this machine is nobody's business.
            if name.count("/") != 1 or Path(name.strip()).exists():
                raise LimitError("Give the avatar's name on the Hub as owner/name.")
            check_size_on_hub(name.strip(), self.service.limits.megabytes, token or False)
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
                    use_example = gr.Button("Use the example clip", size="sm", min_width=120)
                    save_motion = gr.Button(
                        "Save its motion as a file", size="sm", min_width=120, elem_id="save-motion"
                    )
                saved_motion = gr.File(label="Motion", visible=False, elem_id="saved-motion")
            with gr.Tab("A voice", id="voice") as voice_tab:
                gr.Markdown(text("voice"))
                voice = gr.Audio(
                    label="Voice", sources=["upload", "microphone"], type="filepath", buttons=[], elem_id="voice"
                )
                said_text = gr.Textbox(
                    label="What is said (may be left out)", lines=2, max_length=MAX_TEXT, elem_id="voice-text"
                )
                liveliness = gr.Slider(
                    0, MAX_LIVELINESS, 1, step=0.1, label="Liveliness", elem_id="liveliness",
                    info="0: the mouth alone; 1: head, eyes and brows as people move them.",
                )  # fmt: skip
            with gr.Tab("A motion file", id="file") as file_tab:
                gr.Markdown(text("motion_file"))
                motion_file = gr.File(
                    label="CSV of Live Link Face, JSON of MediaPipe or Audio2Face",
                    file_types=[".csv", ".json"],
                    height=140,
                    elem_id="motion-file",
                )
        with gr.Row(visible=False) as span:
            start = gr.Number(None, label="Start (s)", min_width=90, elem_id="start")
            end = gr.Number(None, label="End (s)", min_width=90, elem_id="end")
        chosen = gr.State("preset")
        with gr.Accordion("How much of the motion", open=False, elem_id="how-much"):
            motion = gr.Radio(
                [
                    ("relative: what changes in the driver's face", "relative"),
                    ("absolute: pose and expression as the driver's", "absolute"),
                ],
                value="relative",
                label="Kind",
            )
            with gr.Row():
                head, expression, gaze = (
                    gr.Slider(0, 2, 1, step=0.05, label=label, min_width=110)
                    for label in ("Head", "Expression", "Gaze")
                )
            parts = gr.CheckboxGroup(
                list(PARTS), label="Only these parts", info="None chosen: everything moves.", elem_id="parts"
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

        tabs = {"preset": preset_tab, "clip": clip_tab, "voice": voice_tab, "file": file_tab}
        for name, tab in tabs.items():
            select = functools.partial(lambda name: (name, gr.update(visible=name in ("clip", "file"))), name)
            tab.select(select, None, [chosen, span], show_progress="hidden", **PRIVATE)
        use_example.click(lambda: str(EXAMPLE), None, driving, **PRIVATE)
        requested = [
            chosen, preset, driving, motion_file, voice, said_text, liveliness, start, end, motion, head, expression,
            gaze, parts, output, label, self.detector, *self.frames,
        ]  # fmt: skip
        changing = [preset, driving, motion_file, voice, start, end, chosen, output, *self.frames]
        gr.on(
            [component.change for component in changing],
            self._plan,
            requested,
            plan,
            show_progress="hidden",
            **PRIVATE,
        )
        outputs = [progress, live, video, make_gif, gif]
        run: dict[str, Any] = {
            "fn": with_user_errors(self._animate),
            "inputs": [self.person, self.photos, self.consent, *requested],
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
                functools.partial(with_user_errors(self._example), photo), self.detector,
                [self.photos, self.person, self.seen, self.face, self.notice], **PRIVATE,
            )  # fmt: skip
            runs.append(filled.success(**run))
        for each in runs:
            each.failure(**tidy)
        # What is cancelled fails, and tidies the page then. Not when the button is pressed: until the server has
        # answered, the next press of Animate would be overlooked.
        cancel.click(None, None, None, cancels=runs, **PRIVATE)
        saving = save_motion.click(
            with_user_errors(self._save_motion), [driving, start, end, self.detector], [progress, saved_motion],
            show_progress="hidden", **RENDERS, **PRIVATE,
        )  # fmt: skip
        saving.failure(lambda: "", None, progress, **PRIVATE)
        cancel.click(None, None, None, cancels=[saving], **PRIVATE)
        make_gif.click(with_user_errors(self._gif), [video], gif, **LOOKS, **PRIVATE)

    def _example(self, photo: Path, detector: str) -> tuple[Any, ...]:
        return ([str(photo)], *self._shown(self.service.look([str(photo)], detector=detector)))

    def _request(
        self, chosen: str, preset: str, driving: str | None, motion_file: str | None, voice: str | None,
        said_text: str | None, liveliness: float, start: float | None, end: float | None, motion: Any, head: float,
        expression: float, gaze: float, parts: list[str], output: Any, label: bool, detector: Any, *frames: Any,
    ) -> AnimateRequest:  # fmt: skip
        if chosen == "clip" and not driving:
            raise LimitError("Add a driving clip, or choose a preset motion.")
        if chosen == "file" and not motion_file:
            raise LimitError("Add a motion file, or choose a preset motion.")
        if chosen == "voice" and not voice:
            raise LimitError("Add a voice: upload a sound file, or record one.")
        # An empty field may come as 0.
        span = {"start": start or None, "end": end or None}
        source: dict[str, Any] = {
            "preset": {"preset": preset},
            "clip": {"driving": driving, **span},
            "file": {"motion_file": motion_file, **span},
            "voice": {"voice": voice, "text": said_text or "", "liveliness": liveliness},
        }[chosen]
        return AnimateRequest(
            **source, motion=motion, head=head, expression=expression, gaze=gaze, parts=tuple(parts),
            output=output, label=label, detector=detector, frames=self._frames(*frames),
        )  # fmt: skip

    def _plan(self, *requested: Any) -> str:
        """What will be made, and how long that takes; or why it cannot be made."""
        chosen, preset, driving, motion_file, voice, *_ = requested
        if not {"preset": preset, "clip": driving, "file": motion_file, "voice": voice}[chosen]:
            return ""
        try:
            return self._about(self._request(*requested))
        except TalkingHeadsError as error:
            return f"⚠️ {sentence_of(error)}"

    def first_plan(self) -> str:
        """Of what is chosen when the page is opened."""
        return self._about(AnimateRequest(preset=next(iter(PRESETS))))

    def _about(self, request: AnimateRequest) -> str:
        frames = self.service.check_request(request)
        seconds = self.service.duration(request, frames)
        about = f"{PRESETS[request.preset]} " if request.preset else ""
        return f"{about}{frames} frames" + ("." if seconds is None else f": {in_words(seconds)} on this machine.")

    def _animate(
        self, person: Person, photos: list[tuple[str, str | None]] | None, consent: bool, *requested: Any
    ) -> Iterator[tuple[Any, ...]]:
        paths = [path for path, _caption in photos or []]
        request = self._request(*requested)
        if paths != [analysis.path for analysis in person.analyses]:  # asked before the photos were looked at
            person = self.service.look(paths, person, request.detector)
        self.service.check_consent(person, consent)
        same, hidden = gr.skip(), gr.update(visible=False)
        yield progress_bar(Report("starting")), hidden, gr.update(value=None), gr.update(interactive=False), hidden
        with own_folder(self.cache) as folder:
            for report in self.service.animate(person, request, folder):
                if isinstance(report, WorkResult):
                    made = report
                elif report.picture is None:
                    yield progress_bar(report), same, same, same, same
                else:
                    yield progress_bar(report), gr.update(value=report.picture, visible=True), hidden, same, same
        warn(made.warnings)
        yield "", hidden, gr.update(value=str(made.file), visible=True), gr.update(interactive=True), same

    def _save_motion(
        self, driving: str | None, start: float | None, end: float | None, detector: Any
    ) -> Iterator[tuple[Any, ...]]:
        yield progress_bar(Report("starting")), gr.update(value=None, visible=False)
        with own_folder(self.cache) as folder:
            for report in self.service.track(driving, start or None, end or None, detector, folder):
                if isinstance(report, WorkResult):
                    made = report
                else:
                    yield progress_bar(report), gr.skip()
        warn(made.warnings)
        yield "", gr.update(value=str(made.file), visible=True)

    def _gif(self, video: str | None) -> Any:
        if not video:
            raise LimitError("Animate first; then there is a video to make a GIF of.")
        with own_folder(self.cache) as folder:
            return gr.update(value=str(self.service.gif(video, folder)), visible=True)

    # ----------------------------------------------------------------------------------------------------------- live

    def _lay_out_live(self) -> None:
        if not self.service.can_live:
            gr.Markdown(text("live_elsewhere"))
            return
        gr.Markdown(text("live"))
        session = gr.State(None)  # closes itself when the visitor has left
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
            [camera, session, self.person, self.consent, self.label, self.detector, *self.frames],
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
                live = self.service.live(person, self._frames(*frames) if frames else FrameOptions(), detector)
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
            "fn": with_user_errors(self._edit),
            "inputs": [self.person, self.consent, *self.frames, *sliders],
            "outputs": picture,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "concurrency_id": "edit",
            "concurrency_limit": 2,
            **PRIVATE,
        }
        gr.on([slider.input for slider in sliders], **wired)
        again = wired | {"fn": self._edit_again, "inputs": [picture, *wired["inputs"]]}
        gr.on([component.change for component in self.frames], **again)
        reset.click(lambda: [0.0] * len(RANGES), None, sliders, **PRIVATE).then(**wired)

    def _edit(
        self, person: Person, consent: bool, size: str, background: str, colour: str, picture: str | None,
        *values: float,
    ) -> str:  # fmt: skip
        self.service.check_consent(person, consent)
        frames = self._frames(size, background, colour, picture)
        return self.edited(person, dict(zip(RANGES, values, strict=True)), frames)

    def _edit_again(self, shown: str | None, *edited: Any) -> Any:
        """With another background or size, where there is a picture already."""
        if shown is None:
            return gr.skip()
        try:
            return self._edit(*edited)
        except TalkingHeadsError:  # e.g. no picture has been added yet
            return gr.skip()

    def edited(self, person: Person, values: dict[str, Any], frames: FrameOptions) -> str:
        """The path of one picture. ``values`` are those of FaceControls. Raises LimitError for those out of range."""
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise LimitError(f"{missing[0]} must be a number.")
        try:
            controls = FaceControls(**values)
        except (ValueError, TypeError) as error:
            raise LimitError(f"{str(error).rstrip('.')}.") from None
        with own_folder(self.cache) as folder:
            path = folder / "talking-head.png"
            save_picture(self.service.edit(person, controls, frames), path, label=True)
            return str(path)

    # ---------------------------------------------------------------------------------------------------- personalise

    def _lay_out_personalise(self) -> None:
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
        tune = run.click(
            with_user_errors(self._personalise),
            [self.person, self.consent, steps],
            [progress, compare],
            show_progress="hidden",
            **RENDERS,
            **PRIVATE,
        )
        tune.failure(lambda: "", None, progress, **PRIVATE)
        cancel.click(None, None, None, cancels=[tune], **PRIVATE)
        make_file.click(with_user_errors(self._save_avatar), [self.person, self.consent], file, **LOOKS, **PRIVATE)
        pushing = self._push_signed_in if ON_SPACE else self._push
        pushed_by = [self.person, self.consent, name, private, token]
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
                # In place: whoever has chosen other photos meanwhile has another person, who is left alone.
                person.avatar = report.avatar
                yield "<p>Done. Animate and Edit use this avatar now.</p>", new
            else:
                yield progress_bar(report), new

    def _save_avatar(self, person: Person, consent: bool) -> Any:
        self.service.check_consent(person, consent)
        return gr.update(value=self.saved(self.service.avatar_of(person)), visible=True)

    def saved(self, avatar: Avatar) -> str:
        """The path of the avatar's file."""
        with own_folder(self.cache) as folder:
            return str(avatar.save_file(folder / "avatar.safetensors"))

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

    # --------------------------------------------------------------------------------------------------------- verify

    def _lay_out_verify(self) -> None:
        gr.Markdown(text("verify"))
        file = gr.File(label="Video or picture", height=140, elem_id="verify-file")
        found = gr.HTML("", elem_id="findings")
        file.clear(lambda: "", None, found, **PRIVATE)
        file.upload(with_user_errors(self._verify), file, found, **LOOKS, **PRIVATE)

    def _verify(self, file: str) -> str:
        # As text: names in a manifest are a stranger's.
        return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in self.found(file).sentences)}</ul>"

    def found(self, file: str) -> Findings:
        """What marks a file carries. Raises TalkingHeadsError."""
        self.service.check_file(file)
        check_pixels(file, self.service.limits.megapixels)
        return verify(file)
