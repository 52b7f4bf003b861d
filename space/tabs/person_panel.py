"""The left side of the page: photos or an avatar, whose face, consent, and what holds for all that is painted."""

from __future__ import annotations

import functools
import mimetypes
from pathlib import Path
from typing import Any

import gradio as gr

from talking_heads.tracking.detectors import DETECTORS

from ..examples import Examples
from ..handlers import KEPT_SECONDS, LOOKS, ON_SPACE, PRIVATE, text, with_user_errors
from ..person import Person
from ..requests import SIZES, FrameOptions
from ..visitor_files import VisitorFiles


class PersonPanel:
    """Panel for the person who is animated. The tabs take its components as inputs."""

    def __init__(self, files: VisitorFiles, examples: Examples) -> None:
        self.files, self.service, self.examples = files, files.service, examples

    def lay_out(self) -> None:
        self.person = gr.State(Person(), time_to_live=KEPT_SECONDS)
        gr.Markdown("### 1. A photo")
        self.photos = gr.Gallery(
            label="One photo, or several of one person",
            type="filepath",
            file_types=["image", "video"],
            sources=["upload", "webcam", "clipboard"],
            interactive=True,
            columns=4,
            height=200,
            buttons=[],
            elem_id="photos",
        )
        self.consent = gr.Checkbox(
            label="The person in the photos is me, or agrees to what is made here.", visible=False, elem_id="consent",
            elem_classes="th-consent",
        )  # fmt: skip
        self.seen = gr.Gallery(
            label="What the model sees", interactive=False, columns=2, height=300, buttons=[], visible=False,
            elem_id="seen", object_fit="contain",
        )  # fmt: skip
        self.face = gr.Radio([], label="Which face?", visible=False, elem_id="face")
        self.notice = gr.Markdown("", elem_id="notice")
        with gr.Row():
            self.try_buttons = [
                gr.Button(name, icon=str(photo), size="sm", min_width=120, elem_id=f"example-{k}")
                for k, (name, photo) in enumerate(zip(self.examples.names, self.examples.photos, strict=True))
            ]
        gr.Markdown(text("photos"))
        with gr.Accordion("More: background, size, detector", open=False, elem_id="more"):
            self._lay_out_more()
        with gr.Accordion("Use a saved avatar instead", open=False):
            file = gr.File(label="Avatar file", file_types=[".safetensors"], height=110, elem_id="avatar-file")
            name = gr.Textbox(label="or its name on the Hub", placeholder="name/avatar", elem_id="avatar-name")
            load = gr.Button("Load", size="sm", elem_id="avatar-load")
        self.shown = [self.person, self.seen, self.face, self.notice, self.consent]
        self._load = load, file, name

    def wire(self, film: gr.Video, tabs: gr.Tabs) -> None:
        """What happens with photos, an avatar, or an example. A film among the photos goes to the tab that dubs."""
        shown = [self.person, self.seen, self.face, self.notice, self.consent]
        looked = gr.on(
            [self.photos.change, self.detector.input],
            with_user_errors(self._look),
            [self.photos, self.person, self.consent, self.detector],
            [*shown, self.photos, film, tabs],
            show_progress_on=[self.seen],
            trigger_mode="always_last",
            **LOOKS,
            **PRIVATE,
        )
        picked = self.face.input(with_user_errors(self._pick), [self.face, self.person], shown, **PRIVATE)
        loading = self._load_avatar_signed_in if ON_SPACE else self._load_avatar
        load, *source = self._load
        loaded = load.click(with_user_errors(loading), source, [self.photos, *shown], **PRIVATE)
        self.tried = [
            button.click(
                functools.partial(with_user_errors(self._example), photo), self.detector, [self.photos, *shown],
                **PRIVATE,
            )
            for button, photo in zip(self.try_buttons, self.examples.photos, strict=True)
        ]  # fmt: skip
        self.changed = [looked, picked, loaded, *self.tried]
        """Events after which the person may be another."""

    def _lay_out_more(self) -> None:
        """Options for everything that is painted."""
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
            list(SIZES), value=self.service.usual_size, label="Size of the frames", elem_id="size",
            info="Pixels. Auto: 512 where the photo shows the face that large; photo: as the photo.",
        )  # fmt: skip
        self.detector = gr.Radio(
            list(DETECTORS), value="mediapipe", label="Detector", elem_id="detector",
            info="Finds the face. face-alignment is the paper's: slower, without the irises.",
        )  # fmt: skip
        self.label = gr.Checkbox(True, label="Write “AI-generated” into a corner", elem_id="label")
        background.change(
            lambda kind: (gr.update(visible=kind == "colour"), gr.update(visible=kind == "picture")),
            background, [colour, picture], show_progress="hidden", **PRIVATE,
        )  # fmt: skip
        self.frames: list[gr.Radio | gr.ColorPicker | gr.Image] = [size, background, colour, picture]

    def frames_of(self, size: str, background: str, colour: str | None, picture: str | None) -> FrameOptions:
        """What the components of ``frames`` say. Raises TalkingHeadsError."""
        word = (colour or "") if background == "colour" else background
        return self.service.frame_options(size, word, picture if background == "picture" else None)

    def _look(
        self, files: list[tuple[str, str | None]] | None, person: Person, consent: bool, detector: str
    ) -> tuple[Any, ...]:
        paths = [path for path, _caption in files or [] if not is_film(path)]
        films = [path for path, _caption in files or [] if is_film(path)]
        if not files and not person.analyses:
            return (gr.skip(),) * 8  # an avatar was loaded, or a film went its way, and the photos made way
        looked = self.service.look(paths, person, detector)
        notice = ""
        if person.avatar is not None and person.avatar.generator is not None and looked.avatar is None and paths:
            notice = "The photos changed: the avatar that was made of them is put aside."
        moved: tuple[Any, ...] = (gr.skip(),) * 3
        if looked.undecided() is not None:
            notice = "Several faces: choose one here, or move them all under *Several people*."
        if films:
            notice = "A film: choose under *Dub a film* what its lips shall say."
            moved = gr.update(value=paths), films[0], gr.Tabs(selected="dub")
        # A visitor who removes all photos may go on with photos of another person.
        agreed = consent and bool(paths or not person.analyses)
        return *self._shown(looked, notice, agreed), *moved

    def _pick(self, choice: str, person: Person) -> tuple[Any, ...]:
        number = person.asked()
        return (gr.skip(),) * 5 if number is None else self._shown(person.pick(number, int(choice.split()[1]) - 1))

    def _shown(self, person: Person, notice: str = "", agreed: bool | None = None) -> tuple[Any, ...]:
        """Consent is asked for where somebody could give it; what was said of it stays if ``agreed`` is None."""
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
        seen = gr.update(value=person.pictures(), visible=bool(person.analyses))
        consent: dict[str, Any] = {} if agreed is None else {"value": agreed}
        paths = [analysis.path for analysis in person.analyses]
        return person, seen, ask, notice, gr.update(visible=bool(paths) and not self.service.is_free(paths), **consent)

    def _load_avatar_signed_in(self, file: str | None, name: str, login: gr.OAuthToken | None) -> tuple[Any, ...]:
        return self._load_avatar(file, name, login.token if login else None)

    def _load_avatar(self, file: str | None, name: str, token: str | None = None) -> tuple[Any, ...]:
        avatar = self.files.read_avatar(file, name, token)
        photos = avatar.shots.crops(min(512, avatar.photo_size))
        pictures = [(photo, f"photo {k + 1} of the avatar") for k, photo in enumerate(photos)]
        person = Person(avatar=avatar)
        notice = "The avatar is loaded."
        nothing_to_ask, consent = gr.update(choices=[], visible=False), gr.update(value=False, visible=True)
        return [], person, gr.update(value=pictures, visible=True), nothing_to_ask, notice, consent

    def _example(self, photo: Path, detector: str) -> tuple[Any, ...]:
        return ([str(photo)], *self._shown(self.service.look([str(photo)], detector=detector)))


def is_film(path: str) -> bool:
    """By its name."""
    return (mimetypes.guess_type(path)[0] or "").startswith("video/")
