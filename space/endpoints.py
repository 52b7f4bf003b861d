"""The page's work as named endpoints, for gradio_client and MCP."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal

import gradio as gr

from talking_heads.head.motion import PARTS
from talking_heads.head.presets import PRESETS, RANGES

from .endpoint_parts import (
    add_endpoint,
    consent,
    detector,
    face,
    file,
    followed,
    label,
    numbers,
    numbers_by_name,
    photo_files,
    video,
)
from .handlers import LOOKS, RENDERS, own_folder, warn
from .person import Person
from .reports import WorkResult
from .requests import (
    OUTPUTS,
    SIZES,
    AnimateRequest,
    Detector,
    FrameSize,
    Output,
    Part,
)
from .scene_endpoints import SceneEndpoints
from .settings import LimitError
from .visitor_files import VisitorFiles


def movement() -> list[gr.components.Component]:
    """What moves the person, and how strongly."""
    return [
        gr.File(label="Driving"),
        gr.Dropdown(list(PRESETS), value=None, label="Preset"),
        gr.Radio(["relative", "absolute"], value="relative", label="Motion"),
        *numbers(1.0, "Head", "Expression", "Gaze"),
        *numbers(None, "Start", "End"),
    ]


def more_movement() -> list[gr.components.Component]:
    """What came later, and so stands behind what was there."""
    return [file("Motion file"), gr.CheckboxGroup(list(PARTS), label="Parts")]


def frames() -> list[gr.components.Component]:
    """How the frames look."""
    return [
        gr.Radio(list(SIZES), value="auto", label="Size"),
        gr.Textbox("keep", label="Background"),
        gr.File(label="Background picture"),
    ]


class Endpoints:
    """Named endpoints, hung at components that nobody sees: gradio checks files and describes types by components."""

    def __init__(self, files: VisitorFiles) -> None:
        self.files, self.service = files, files.service

    def add(self) -> None:
        """Puts them into the Blocks that is open."""
        photos = functools.partial(photo_files, str(self.files.cache))
        with gr.Row(visible=False):
            output = gr.Radio(list(OUTPUTS), value="head", label="Output")
            steps = gr.Number(40, label="Steps", precision=0)
            controls = [gr.Number(0.0, label=name) for name in RANGES]
            picture = gr.Image(label="Picture", type="filepath", format="png")
            seen, findings = gr.Gallery(label="Seen", format="png"), gr.JSON(label="Findings")
            add_endpoint(
                self.animate,
                [photos(), consent(), *movement(), output, label(), *more_movement(), *frames(), detector(), face()],
                video(),
                RENDERS,
            )
            spoken = [
                *(photos(), file("Voice"), consent(), gr.Textbox("", label="Text"), gr.Number(1.0, label="Liveliness")),
                gr.Radio(["head", "in the photo"], value="head", label="Output"),
                *(label(), *frames(), detector(), face()),
            ]
            add_endpoint(self.animate_voice, spoken, video(), RENDERS)
            add_endpoint(self.create_avatar, [photos(), consent(), detector(), face()], file("Avatar"), LOOKS)
            add_endpoint(
                self.animate_avatar,
                [file("Avatar"), consent(), *movement(), label(), *more_movement(), *frames(), detector()],
                video(),
                RENDERS,
            )
            add_endpoint(self.personalise, [photos(), consent(), steps, detector(), face()], file("Avatar"), RENDERS)
            add_endpoint(
                self.edit,
                [photos(), consent(), *controls, numbers_by_name("Coefficients"), *frames(), detector(), face()],
                picture,
                LOOKS,
            )
            add_endpoint(
                self.track, [file("Driving"), *numbers(None, "Start", "End"), detector()], file("Motion"), RENDERS
            )
            add_endpoint(self.preview_landmarks, [photos(), detector(), face()], seen, LOOKS)
            add_endpoint(self.verify, [file("File")], findings, LOOKS)
            SceneEndpoints(self.files).add()

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
        motion_file: str | None = None,
        parts: list[Part] | None = None,
        size: FrameSize = "auto",
        background: str = "keep",
        background_picture: str | None = None,
        detector: Detector = "mediapipe",
        face: int | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (this is how gradio finds it)
    ) -> Iterator[str | None]:
        """Make a video of a person who moves like a driving clip, like a preset motion, or as a motion file says.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            driving: A clip in which one face is seen; its motion and its sound are taken. Leave out for a preset.
            preset: A motion that comes with the software, instead of a clip.
            motion: "relative" carries over what changes in the driver's face, "absolute" its pose and expression.
            head: How much of the head's motion is carried over, 0 to 2, without unit.
            expression: How much of the expression is carried over, 0 to 2, without unit.
            gaze: How much of the gaze is carried over, 0 to 2, without unit.
            start: Second of the clip or motion file to begin at, 0 or more.
            end: Second of the clip or motion file to end at, above start.
            output: "head", "side by side" with the clip, or "in the photo": the head back in the first photo.
            label: Whether the video says to the eye that it is AI-generated.
            motion_file: A CSV of Live Link Face (as track makes them), or JSON of MediaPipe or Audio2Face, instead of
                a clip or preset.
            parts: Only these parts move: lips, eyes, brows, expression (all three and the cheeks), head. None: all.
            size: Side of the frames in pixels: 256, 512, photo (as the photo), auto (512 where the photo has them).
            background: Behind the person: keep, blur, transparent (a webm), or a colour such as "#20a040" or "green".
            background_picture: A picture to put behind the person, instead of the background's name.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            An mp4, or a webm where it is transparent, with the clip's sound, marked as AI-generated.
        """
        request = AnimateRequest(
            driving=driving, preset=preset, motion_file=motion_file, start=start, end=end, detector=detector,
            motion=motion, head=head, expression=expression, gaze=gaze, parts=tuple(parts or ()), output=output,
            label=label, frames=self.service.frame_options(size, background, background_picture),
        )  # fmt: skip
        person = self.service.look(photos or [], detector=detector, face=face)
        self.service.check_consent(person, consent)
        yield from self._rendered(person, request, progress)

    def animate_voice(
        self,
        photos: list[str],
        voice: str,
        consent: bool = False,
        text: str = "",
        liveliness: float = 1.0,
        output: Literal["head", "in the photo"] = "head",
        label: bool = True,
        size: FrameSize = "auto",
        background: str = "keep",
        background_picture: str | None = None,
        detector: Detector = "mediapipe",
        face: int | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make a video of a person who speaks with a voice: lips by the sound, and a head that nods and blinks.

        Args:
            photos: Photos of one person, each with one face.
            voice: A sound file, or a clip with sound, in which one person speaks, best in English.
            consent: That the person in the photos agrees; without it nothing is made.
            text: What the voice says, word by word: lips become more exact. Leave out what is not known.
            liveliness: How much head, eyes and brows move: 0 the mouth alone, 1 as people do, to 2.
            output: "head", or "in the photo": the head back in the first photo.
            label: Whether the video says to the eye that it is AI-generated.
            size: Side of the frames in pixels: 256, 512, photo (as the photo), auto (512 where the photo has them).
            background: Behind the person: keep, blur, transparent (a webm), or a colour such as "#20a040" or "green".
            background_picture: A picture to put behind the person, instead of the background's name.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            An mp4, or a webm where it is transparent, with the voice in sync, marked as AI-generated.
        """
        if not voice:
            raise LimitError("Add a voice: a sound file, or a clip with sound.")
        request = AnimateRequest(
            voice=voice, text=text or "", liveliness=liveliness, output=output, label=label, detector=detector,
            frames=self.service.frame_options(size, background, background_picture),
        )  # fmt: skip
        person = self.service.look(photos or [], detector=detector, face=face)
        self.service.check_consent(person, consent)
        yield from self._rendered(person, request, progress)

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
        motion_file: str | None = None,
        parts: list[Part] | None = None,
        size: FrameSize = "auto",
        background: str = "keep",
        background_picture: str | None = None,
        detector: Detector = "mediapipe",
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make a video of an avatar that moves like a driving clip, like a preset motion, or as a motion file says.

        Args:
            avatar: A file that create_avatar or personalise has made.
            consent: That the person agrees; without it nothing is made.
            driving: A clip in which one face is seen; its motion and its sound are taken. Leave out for a preset.
            preset: A motion that comes with the software, instead of a clip.
            motion: "relative" carries over what changes in the driver's face, "absolute" its pose and expression.
            head: How much of the head's motion is carried over, 0 to 2, without unit.
            expression: How much of the expression is carried over, 0 to 2, without unit.
            gaze: How much of the gaze is carried over, 0 to 2, without unit.
            start: Second of the clip or motion file to begin at, 0 or more.
            end: Second of the clip or motion file to end at, above start.
            label: Whether the video says to the eye that it is AI-generated.
            motion_file: A CSV of Live Link Face (as track makes them), or JSON of MediaPipe or Audio2Face, instead of
                a clip or preset.
            parts: Only these parts move: lips, eyes, brows, expression (all three and the cheeks), head. None: all.
            size: Side of the frames in pixels: 256, 512, photo (as the photo), auto (512 where the photo has them).
            background: Behind the person: keep, blur, transparent (a webm), or a colour such as "#20a040" or "green".
            background_picture: A picture to put behind the person, instead of the background's name.
            detector: What finds the face in the clip: mediapipe, or face-alignment where it is installed.

        Returns:
            An mp4, or a webm where it is transparent, with the clip's sound, marked as AI-generated.
        """
        request = AnimateRequest(
            driving=driving, preset=preset, motion_file=motion_file, start=start, end=end, detector=detector,
            motion=motion, head=head, expression=expression, gaze=gaze, parts=tuple(parts or ()), label=label,
            frames=self.service.frame_options(size, background, background_picture),
        )  # fmt: skip
        person = Person(avatar=self.files.read_avatar(avatar))
        self.service.check_consent(person, consent)
        yield from self._rendered(person, request, progress)

    def _rendered(self, person: Person, request: AnimateRequest, progress: gr.Progress) -> Iterator[str | None]:
        with own_folder(self.files.cache) as folder:
            yield from followed(self.service.animate(person, request, folder), progress)

    def create_avatar(
        self, photos: list[str], consent: bool = False, detector: Detector = "mediapipe", face: int | None = None
    ) -> str:
        """Make an avatar of a person, to be animated as often as you like.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            The avatar, a .safetensors file.
        """
        person = self.service.look(photos or [], detector=detector, face=face)
        self.service.check_consent(person, consent)
        avatar = self.service.avatar_of(person)
        warn(self.service.notes_on(avatar))
        return self.files.saved(avatar)

    def personalise(
        self,
        photos: list[str],
        consent: bool = False,
        steps: int = 40,
        detector: Detector = "mediapipe",
        face: int | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make an avatar of a person and fine-tune it to the photos.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            steps: Steps of fine-tuning, 1 or more; 40 are a good start.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            The avatar with a generator of its own, a .safetensors file.
        """
        person = self.service.look(photos or [], detector=detector, face=face)
        self.service.check_consent(person, consent)
        for report in self.service.personalise(person, int(steps or 0)):
            if isinstance(report, WorkResult):
                assert report.avatar is not None
                yield self.files.saved(report.avatar)
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
        coefficients: dict[str, float] | None = None,
        size: FrameSize = "auto",
        background: str = "keep",
        background_picture: str | None = None,
        detector: Detector = "mediapipe",
        face: int | None = None,
    ) -> str:
        """Change pose and expression of a person: one picture. All zero is the pose and expression of the photo.

        Args:
            photos: Photos of one person, each with one face.
            consent: That the person in the photos agrees; without it nothing is made.
            yaw: Turn of the head to the right of the picture, degrees, -25 to 25.
            pitch: Nod downwards, degrees, -15 to 15.
            roll: Lean of the head clockwise, degrees, -20 to 20.
            mouth: 0 as in the photo to 1 wide open.
            lips: -1 drawn wide to 1 rounded.
            smile: -1 corners of the mouth down to 1 up.
            eyelids: -1 closed to 1 wide open.
            brows: -1 lowered to 1 raised.
            gaze_x: -1 (25 degrees to the left of the picture) to 1 (to its right).
            gaze_y: -1 (20 degrees up) to 1 (down).
            coefficients: Added to single coefficients of ARKit, -1 to 1 each, by name: {"jawOpen": 0.4}.
            size: Side of the picture in pixels: 256, 512, photo (as the photo), auto (512 where the photo has them).
            background: Behind the person: keep, blur, transparent, or a colour such as "#20a040" or "green".
            background_picture: A picture to put behind the person, instead of the background's name.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            A picture of the head, marked as AI-generated.
        """
        frames = self.service.frame_options(size, background, background_picture)
        person = self.service.look(photos or [], detector=detector, face=face)
        self.service.check_consent(person, consent)
        values = (yaw, pitch, roll, mouth, lips, smile, eyelids, brows, gaze_x, gaze_y)
        controls: dict[str, Any] = dict(zip(RANGES, values, strict=True))
        if coefficients:
            controls["coefficients"] = _numbers_by_name(coefficients)
        path = self.files.edited(person, controls, frames)
        warn(self.service.notes_on(self.service.avatar_of(person)))
        return path

    def track(
        self,
        driving: str,
        start: float | None = None,
        end: float | None = None,
        detector: Detector = "mediapipe",
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Take the motion of the face in a clip: 52 ARKit coefficients (0 to 1), head and eyes (radians) a frame.

        Args:
            driving: A clip in which one face is seen.
            start: Second of the clip to begin at, 0 or more.
            end: Second of the clip to end at, above start.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.

        Returns:
            A CSV as Live Link Face writes it, which animate takes as motion_file; the head's way in cm is added.
        """
        with own_folder(self.files.cache) as folder:
            yield from followed(self.service.track(driving, start, end, detector, folder), progress)

    def preview_landmarks(
        self, photos: list[str], detector: Detector = "mediapipe", face: int | None = None
    ) -> list[tuple[Any, str]]:
        """What the model sees in photos: the crop and the landmarks, or what is wrong.

        Args:
            photos: Photos.
            detector: What finds the face: mediapipe, or face-alignment where it is installed.
            face: Which face is meant where a photo shows several, from 1, from the left. None: each photo has one.

        Returns:
            The photos, drawn on, each with a sentence: "1: ready" if it can be used.
        """
        person = self.service.look(photos or [], detector=detector, face=face)
        if not person.analyses:
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
        found = self.files.found(file)
        return {"generated": found.generated, "sentences": list(found.sentences)}


def _numbers_by_name(value: Any) -> dict[str, float]:
    """A JSON object of numbers. Raises LimitError for anything else."""
    if not isinstance(value, dict) or not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value.values()
    ):
        raise LimitError('Give coefficients as a JSON object of numbers, such as {"jawOpen": 0.4}.')
    return value
