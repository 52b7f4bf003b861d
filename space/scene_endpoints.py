"""Endpoints of whole scenes: a person's film, and a photo of several people."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from talking_heads.dubbing import DUBBED_PARTS
from talking_heads.head.motion import PARTS

from .endpoint_parts import add_endpoint, consent, detector, driver_files, file, followed, label, numbers, video
from .handlers import RENDERS, own_folder
from .requests import Detector, DriverRequest, DubbedPart, DubRequest, GroupRequest, Part
from .settings import LimitError
from .visitor_files import VisitorFiles


class SceneEndpoints:
    """For gradio_client and MCP, as ``Endpoints``."""

    def __init__(self, files: VisitorFiles) -> None:
        self.files, self.service = files, files.service

    def add(self) -> None:
        """Puts them into the Blocks that is open."""
        film = [
            *(file("Film"), consent(), file("Driving"), file("Voice"), gr.Textbox("", label="Text")),
            gr.CheckboxGroup(list(DUBBED_PARTS), value=["lips"], label="Parts"),
            *(*numbers(1.0, "Expression", "Gaze"), *numbers(None, "Start", "End"), label(), detector()),
        ]
        add_endpoint(self.dub, film, video(), RENDERS)
        group = [
            *(file("Photo"), driver_files(str(self.files.cache)), consent()),
            *numbers(1.0, "Head", "Expression", "Gaze"),
            *(gr.CheckboxGroup(list(PARTS), label="Parts"), label(), detector()),
        ]
        add_endpoint(self.animate_group, group, video(), RENDERS)

    def dub(
        self,
        film: str,
        consent: bool = False,
        driving: str | None = None,
        voice: str | None = None,
        text: str = "",
        parts: list[DubbedPart] | None = None,
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        label: bool = True,
        detector: Detector = "mediapipe",
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Move the lips (or eyes, brows, the whole expression) of a person's own film; all else stays the film's.

        Args:
            film: A film of one person.
            consent: That the person in the film agrees; without it nothing is made.
            driving: A clip in which one face is seen, whose parts move and whose sound is taken; or give a voice.
            voice: A sound file, or a clip with sound, in which one person speaks, best in English.
            text: What the voice says, word by word: lips become more exact. Leave out what is not known.
            parts: What is moved: lips, eyes, brows, expression (all three and the cheeks). None: the lips.
            expression: How much of the expression is carried over, 0 to 2, without unit.
            gaze: How much of the gaze is carried over, 0 to 2, without unit.
            start: Second of the film to begin at, 0 or more.
            end: Second of the film to end at, above start.
            label: Whether the video says to the eye that it is AI-generated.
            detector: What finds the faces: mediapipe, or face-alignment where it is installed.

        Returns:
            An mp4 of the film's size, with the sound of the clip or voice, marked as AI-generated.
        """
        driver = DriverRequest(driving=driving, voice=voice, text=text or "", liveliness=0, detector=detector)
        request = DubRequest(film, driver, tuple(parts or ("lips",)), expression, gaze, start, end, label)
        self.service.check_dub(request, consent)
        with own_folder(self.files.cache) as folder:
            yield from followed(self.service.dub(request, folder), progress)

    def animate_group(
        self,
        photo: str,
        drivers: list[str | None],
        consent: bool = False,
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        parts: list[Part] | None = None,
        label: bool = True,
        detector: Detector = "mediapipe",
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[str | None]:
        """Make a video of a photo of several people, each moved by a driver of their own.

        Args:
            photo: A photo of several people.
            drivers: For each face, from the left: a clip, a sound file with a voice, a motion file, the name of a
                preset motion, or null for who stays as in the photo; up to four that move.
            consent: That everybody in the photo agrees; without it nothing is made.
            head: How much of the head's motion is carried over, 0 to 2, without unit.
            expression: How much of the expression is carried over, 0 to 2, without unit.
            gaze: How much of the gaze is carried over, 0 to 2, without unit.
            parts: Only these parts move: lips, eyes, brows, expression (all three and the cheeks), head. None: all.
            label: Whether the video says to the eye that it is AI-generated.
            detector: What finds the faces: mediapipe, or face-alignment where it is installed.

        Returns:
            An mp4 of the whole photo, with the sound of the first driver that has any, marked as AI-generated.
        """
        if not photo:
            raise LimitError("Add a photo of several people.")
        person = self.service.look([photo], detector=detector)
        self.service.check_consent(person, consent)
        ask = self.service.motions.request_for
        wanted = tuple(None if source is None else ask(source, detector) for source in drivers or [])
        request = GroupRequest(wanted, head, expression, gaze, tuple(parts or ()), label)
        with own_folder(self.files.cache) as folder:
            yield from followed(self.service.animate_group(person, 0, request, folder), progress)
