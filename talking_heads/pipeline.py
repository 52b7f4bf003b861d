"""The pipeline: photos -> avatar, clip -> motion, avatar and motion -> frames."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch.nn import functional as F

from .avatar import Avatar, Shots, make_head
from .drawing import draw_landmarks
from .dubbing import DUBBED_PARTS, FilmedPerson, dubbed
from .engines import WORTH_CONVERTING, EngineName, Generate, check_engine, choose_engine, compile_openvino
from .errors import IncompatibleAvatarError, InvalidModelError
from .head.fit import FrameFit, fit_warnings
from .head.motion import Motion
from .head.person import Head
from .head.presets import FaceControls
from .head.render import PhotoChooser, Rendered, Renderer, finished
from .head.retarget import (
    HeadRetargeter,
    Mode,
    MotionOptions,
    frame_of,
    frames_of,
    lips_apart,
    most_neutral,
    retargeted,
)
from .hub import (
    BUNDLED_MODELS,
    FORMAT_VERSION,
    TRAINING,
    check_format,
    fingerprint,
    load_strictly,
    network_files,
    push_model,
    read_json,
    resolve,
    written_whole,
)
from .live import Live
from .media.background import Background
from .media.images import read_photo, to_float, to_uint8
from .media.pieces import SoundPiece
from .media.reading import ClipInfo, probe, read_frames
from .media.sound import sound_duration
from .media.streams import ahead
from .models import Discriminator, Embedder, Generator
from .pasting import paste_back, paste_group
from .result import FrameGenerator, ProgressCallback, TalkingHeadVideo
from .speaking import Speaker, SpokenFrames, speak
from .tracking.crops import Portrait
from .tracking.detectors import LandmarkDetector, load_detector
from .tracking.driver import motion_in_pieces, motion_of_track
from .tracking.finding import main_faces, only_face
from .tracking.tracks import Track, follow_face, held_gaps, track_face
from .voice.streaming import SpeechStream

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

Photo = str | Path | Image.Image | np.ndarray | Portrait
FramePieces = Iterable[tuple[FrameFit, FrameFit]]
"""A driver's frames, each with the neutral one."""
Size = int | Literal["photo"] | None
"""Side of the frames: pixels, as the photo, or what suits the photo."""

logger = logging.getLogger(__name__)

MAX_PHOTOS = 32


class TalkingHeadPipeline(DiffusionPipeline):
    """Embedder and generator, and everything between them and files.

    Any number of avatars and clips can go through one pipeline, from several threads if need be; it remembers nothing
    of them.
    """

    def __init__(self, embedder: Embedder, generator: Generator, format_version: int = FORMAT_VERSION) -> None:
        super().__init__()
        self.register_modules(embedder=embedder, generator=generator)
        self.register_to_config(format_version=format_version)
        self.name = ""
        """Where it was loaded from, as avatars remember it: "default", "paper", a folder, or "org/name" of the Hub."""
        self.commit = ""
        """The commit of ``name``, if that is of the Hub."""
        self._folder: Path | None = None
        self._variant: str | None = None
        self._locate_discriminator: Callable[[], Path] | None = None
        self._detector: LandmarkDetector | None = None
        self._engine = "auto"
        self._compiled: WeakKeyDictionary[Generator, Generate] = WeakKeyDictionary()
        self._fingerprint: str | None = None

    # ------------------------------------------------------------------------------------------------ loading, saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        engine: str = "auto",
    ) -> Self:
        """A bundled model (None or "default"; "paper": the paper's design), a folder, or "org/name" of the Hub.

        ``variant``: of the weights' files, e.g. "fp16"; their precision in memory is ``torch_dtype``, float32 if None.
        ``revision``: branch, tag or commit. ``engine``: see there. Raises InvalidModelError with a sentence where it is
        missing, incomplete, or another thing.
        """
        check_engine(engine)
        source = "default" if pretrained_model_name_or_path is None else os.fspath(pretrained_model_name_or_path)
        named = pretrained_model_name_or_path is not None and Path(source).exists()  # a folder of that name goes before
        place = BUNDLED_MODELS.get(source, source) if not named else source
        locate = partial(
            resolve,
            place,
            marker="model_index.json",
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            local_files_only=local_files_only,
            token=token,
        )
        networks = [*network_files("embedder", variant), *network_files("generator", variant)]
        folder = locate(files=networks, revision=revision)
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise InvalidModelError(f"{folder} holds a {index.get('_class_name')}, not a {cls.__name__}.")
        check_format(index, folder)
        embedder = load_strictly(Embedder, folder / "embedder", variant)
        generator = load_strictly(Generator, folder / "generator", variant)
        if embedder.embedding_dim != generator.config.embedding_dim:
            raise InvalidModelError(f"Embedder and generator in {folder} do not belong together.")
        pipe = cls(embedder, generator)
        pipe.name = next((name for name, bundled in BUNDLED_MODELS.items() if bundled == folder), source)
        if folder not in (
            *BUNDLED_MODELS.values(),
            Path(source),
        ):  # a snapshot of the Hub, which is named by its commit
            pipe.commit = folder.name
        # Of the Hub only when it is asked for, and then of the same commit.
        files = network_files("discriminator", variant)
        pipe._locate_discriminator = partial(locate, files=files, revision=pipe.commit or None)
        pipe._folder, pipe._variant = folder, variant
        pipe.engine = engine
        if torch_dtype is not None:
            pipe._fingerprint = pipe.fingerprint  # of what was published: an avatar fits in every precision
            pipe.to(torch_dtype)
        return pipe

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, variant: str | None = None) -> None:
        """Writes ``model_index.json`` and a folder for each network; whole or not at all. Raises OutputError.

        ``variant`` goes into the names of the weights' files; their precision is the pipeline's.
        """
        with written_whole(Path(save_directory)) as beside:
            super().save_pretrained(beside, variant=variant)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str | None = None,
    ) -> CommitInfo:
        """Uploads the model, the discriminator that came with it, and a card to ``repo_id``, and gives the commit.

        Variants of one model share a repository. ``token``: instead of this machine's. The card is that of the folder
        which the model was loaded from, or is written anew, see ``cards.model_card``. Raises HubError.
        """
        with TemporaryDirectory() as work:
            folder = Path(work) / "model"
            self.save_pretrained(folder, variant=variant)
            if self._discriminator_folder() is not None:
                discriminator: Any = torch.nn.Module.to(self.load_discriminator(), self.dtype)
                discriminator.save_pretrained(folder / "discriminator", variant=variant)
            for name in ("README.md", TRAINING):
                if self._folder is not None and (self._folder / name).is_file():
                    shutil.copy2(self._folder / name, folder / name)
            return push_model(
                folder, repo_id, private=private, token=token, variant=variant, message=commit_message,
                base_model=self.name if self.commit else "",
            )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """16 digits that stand for the weights; avatars carry those of the model that made them."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.embedder, self.generator)
        return self._fingerprint

    def load_discriminator(self) -> Discriminator:
        """The discriminator that was trained with this model; only fine-tuning needs it. Raises InvalidModelError."""
        folder = self._discriminator_folder()
        if folder is None:
            raise InvalidModelError("This model came without its discriminator, which fine-tuning needs.")
        return load_strictly(Discriminator, folder, self._variant)

    def _discriminator_folder(self) -> Path | None:
        folder = self._locate_discriminator() / "discriminator" if self._locate_discriminator else None
        return folder if folder is not None and folder.is_dir() else None

    # ------------------------------------------------------------------------------------------------------- detector

    @property
    def detector(self) -> LandmarkDetector:
        """The landmark detector, mediapipe unless another one is assigned."""
        if self._detector is None:
            self._detector = load_detector()
        return self._detector

    @detector.setter
    def detector(self, detector: LandmarkDetector) -> None:
        self._detector = detector

    @property
    def engine(self) -> str:
        """What computes the generator: "torch", "openvino" or "auto" (``engines.choose_engine``).

        Assigning what is not installed raises MissingDependencyError.
        """
        return self._engine

    @engine.setter
    def engine(self, engine: str) -> None:
        check_engine(engine)
        self._engine = engine

    @property
    def engine_name(self) -> EngineName:
        """What ``engine`` comes to for a long clip on the pipeline's device."""
        return choose_engine(self.engine, self.generator)

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""
        return int(self.generator.config.image_size)

    # --------------------------------------------------------------------------------------------------------- person

    def portraits(self, photos: Sequence[Photo], face: int | None = None) -> list[Portrait]:
        """Where the person is in each of 1 to 32 photos; what is a Portrait already stays as it is.

        ``face``: which one is meant where there are several, from 1, counted from the left. Raises NoFaceError,
        SeveralFacesError, UnreadableMediaError, each naming the photo by its number.
        """
        if not photos:
            raise ValueError("give at least one photo")
        if len(photos) > MAX_PHOTOS:
            raise ValueError(f"give at most {MAX_PHOTOS} photos")
        result = []
        for number, photo in enumerate(photos, start=1):
            if not isinstance(photo, Portrait):
                image = read_photo(photo)
                name = "the photo" if len(photos) == 1 else f"photo {number}"
                photo = Portrait.of(image, only_face(image, self.detector, name, face))  # noqa: PLW2901
            result.append(photo)
        return result

    def people(self, photo: str | Path | Image.Image | np.ndarray) -> list[Portrait]:
        """Everybody in a photo, from left to right, without people in the far background. Raises NoFaceError."""
        image = read_photo(photo)
        return [Portrait.of(image, face) for face in main_faces(image, self.detector)]

    def create_avatar(self, photos: Sequence[Photo], face: int | None = None) -> Avatar:
        """1 to 32 photos of one person -> avatar: detect, crop, cut out, fit, then embed.

        ``photos`` are paths, PIL images, uint8 RGB arrays, or Portraits, where the face is known already. Raises what
        ``portraits`` raises; what to expect of photos that are hard to follow is logged as a warning.
        """
        if isinstance(photos, Photo):
            photos = [photos]
        return self.avatar_from_shots(Shots.of(self.portraits(photos, face)))

    @torch.inference_mode()
    def avatar_from_shots(self, shots: Shots, head: Head | None = None) -> Avatar:
        """What is kept of the photos -> avatar: draw, embed, mean over photos, project (psi' = P e); fit the head.

        ``head``: what ``make_head`` has made of them already; ``fit_warnings`` are then the caller's to give.
        """
        drawn = draw_landmarks(shots.landmarks_at(self.image_size), self.image_size)
        dtype = self.embedder.dtype
        images, lines = (to_float(x).to(self.device, dtype)[None] for x in (shots.crops(self.image_size), drawn))
        with self._autocast():
            embedding = self.embedder(images, lines).mean(dim=1)  # (1, N)
        style = self.generator.projection(embedding.to(self.generator.dtype))  # (1, S)
        if head is None:
            head = make_head(shots)
            for sentence in fit_warnings(head, list(shots.landmarks)):
                logger.warning(sentence)
        # Out of inference mode's tensors, so that the avatar can be trained.
        with torch.inference_mode(False):
            return Avatar.create(
                embedding[0].float().clone(), style[0].float().clone(), shots, self.name, self.fingerprint,
                base_commit=self.commit, head=head,
            ).to(self.device)  # fmt: skip

    # ---------------------------------------------------------------------------------------------------------- motion

    def track(
        self,
        clip: str | Path,
        *,
        start: float | None = None,
        end: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Motion:
        """How the face moves in a clip, or in its seconds ``start`` to ``end``; frames are not kept.

        Raises UnreadableMediaError and NoFaceError. ``on_progress`` hears of the stage "tracking".
        """
        return motion_of_track(self.track_landmarks(clip, start=start, end=end, on_progress=on_progress))

    def track_landmarks(
        self,
        clip: str | Path,
        *,
        start: float | None = None,
        end: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Track:
        """The first half of ``track``: the landmarks of the face in each frame. Arguments and errors are the same."""
        info = probe(clip)
        total = _num_frames(info, start, end)

        def count(done: int) -> None:
            if on_progress is not None:
                on_progress("tracking", done, None if total is None else max(total, done))

        with contextlib.closing(ahead(read_frames(clip, start=start, end=end, fps=info.fps))) as frames:
            return track_face(frames, self.detector, info.fps, count)

    # ------------------------------------------------------------------------------------------------------ generating

    def __call__(
        self,
        avatar: Avatar,
        driving: str | Path | Motion,
        *,
        motion: Mode = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        parts: Sequence[str] = (),
        start: float | None = None,
        end: float | None = None,
        into: Portrait | None = None,
        size: Size = None,
        background: Background | None = None,
        stream: bool = False,
        batch_size: int = 4,
        neutral: Motion | None = None,
        sound: str | Path | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> TalkingHeadVideo:
        """The avatar, moving like a clip, or as a Motion says.

        ``motion``: "relative" carries over what changes in the driver's face since its most neutral frame; "absolute"
        takes its pose and expression as they are. ``head``, ``expression`` and ``gaze`` scale what is carried over;
        ``parts`` restricts it ("lips", "eyes", "brows", "expression", "head"). ``start``/``end``: seconds of the clip.
        ``into``: a photo of the person (``portraits``); frames are then that whole photo with the head in motion.
        ``size``: side of the frames, 256 or 512 for the bundled model, or "photo": as the photo; None: 512 where the
        photo's face has the pixels. ``background``: what is behind the person; frames are RGBA where it is transparent.
        ``stream``: a clip is followed while its first frames are painted already; they come at once and all of them
        sooner, but the neutral frame is one of its first second. ``neutral``: one frame from which the
        changes of a Motion count; its own most neutral one if None. ``sound``: a sound file, or a clip, whose sound is
        the video's, as that of ``Motion.from_voice``; that of a driving clip if None. With a Motion it also means that
        somebody speaks: lips that meet in the motion do so in a laughing face as well. Frames are made ``batch_size``
        at a time when the result is iterated or saved. Raises ValueError for what cannot be combined,
        IncompatibleAvatarError, and what ``track`` raises; with ``stream``, what concerns faces, start and end comes
        with the frames.
        """
        options = MotionOptions(motion, head, expression, gaze, tuple(parts))
        if sound is not None:
            sound_duration(sound)  # said before the work, not after it
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self.check_fits(avatar)
        if into is not None:
            if background is not None and not background.keeps:
                raise ValueError("a background goes with the head alone, not with the whole photo")
            avatar, size = avatar.with_shots(Shots.of([into])), "photo"
        pixels = self.frame_size(avatar, size)
        held: list[str] = []
        pieces: Callable[[], FramePieces]
        if isinstance(driving, Motion) or not stream:
            whole = driving if isinstance(driving, Motion) else self.track(
                driving, start=start, end=end, on_progress=on_progress
            )  # fmt: skip
            number, fps = len(whole), whole.fps
            held += [gap.sentence(fps) for gap in held_gaps(whole.seen, fps)]
            count = len(avatar.head.model.expression_names)
            speech = sound is not None and isinstance(driving, Motion)
            rest = whole if neutral is None else neutral
            if neutral is None and speech:
                rest = lips_apart(avatar.head)
            start_frame = frame_of(rest, most_neutral(rest), count)
            filmed = neutral is None and not speech and bool(start_frame.expression.any())
            options = replace(options, closed_lips=filmed)  # what counts from zero are changes, of whatever face
            pieces = lambda: ((frame, start_frame) for frame in frames_of(whole, count))  # noqa: E731
        else:
            info = probe(driving)
            number, fps = _num_frames(info, start, end) or WORTH_CONVERTING, info.fps
            options = replace(options, closed_lips=True)
            pieces = partial(self._followed, avatar, info, start, end, held)

        def frames() -> FrameGenerator:
            targets = retargeted(avatar.head, pieces(), options)
            with contextlib.closing(self.generate(avatar, targets, pixels, background, batch_size, number)) as made:
                yield from made if into is None else paste_back(made, into)

        return TalkingHeadVideo(
            frames=frames,
            num_frames=number,
            fps=fps,
            driving=None if isinstance(driving, Motion) else Path(driving),
            start=start or 0.0,
            warnings=held,
            sound=None if sound is None else Path(sound),
        )

    def _followed(
        self, avatar: Avatar, info: ClipInfo, start: float | None, end: float | None, warnings: list[str]
    ) -> FramePieces:
        """The driver's frames, each with the neutral one, while the clip is followed in other threads."""
        warnings.clear()
        seen, count = [], len(avatar.head.model.expression_names)
        with (
            contextlib.closing(ahead(read_frames(info.path, start=start, end=end, fps=info.fps))) as frames,
            contextlib.closing(ahead(follow_face(frames, self.detector, info.fps, name=info.path.name), 1)) as found,
        ):
            for motion, neutral in motion_in_pieces(found, info.fps):
                seen.append(motion.seen)
                yield from ((frame, neutral) for frame in frames_of(motion, count))
        warnings += [gap.sentence(info.fps) for gap in held_gaps(np.concatenate(seen), info.fps)]

    def dub(
        self,
        film: str | Path,
        driving: str | Path | Motion,
        *,
        parts: Sequence[str] = ("lips",),
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        sound: str | Path | None = None,
        batch_size: int = 4,
        on_progress: ProgressCallback | None = None,
    ) -> TalkingHeadVideo:
        """A film of one person (or its seconds ``start`` to ``end``) in which ``parts`` (of DUBBED_PARTS) move like a
        clip or as a Motion says. All else is the film's, at its size; ``driving`` begins with its first frame.

        ``sound``: a file whose sound belongs to the result; the clip's if None, the film's with a Motion. Raises
        ValueError for other parts, and what ``track`` raises. ``on_progress`` hears of the stage "tracking".
        """
        _check_dubbed_parts(parts)
        person = FilmedPerson.of(self.track_landmarks(film, start=start, end=end, on_progress=on_progress))
        driver = driving if isinstance(driving, Motion) else self.track(driving, on_progress=on_progress)
        if sound is None and not isinstance(driving, Motion):
            sound = driving
        return self.dub_followed(
            film, person, self.avatar_from_shots(person.shots(film, start, end)), driver, parts=parts,
            expression=expression, gaze=gaze, start=start, end=end, sound=sound, batch_size=batch_size,
        )  # fmt: skip

    def dub_followed(
        self,
        film: str | Path,
        person: FilmedPerson,
        avatar: Avatar,
        driver: Motion,
        *,
        parts: Sequence[str] = ("lips",),
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        sound: str | Path | None = None,
        batch_size: int = 4,
    ) -> TalkingHeadVideo:
        """The second half of ``dub``: the film was followed, and ``avatar`` is of ``person.shots``.

        The sound is the film's if ``sound`` is None. Raises ValueError for other parts.
        """
        _check_dubbed_parts(parts)
        options = MotionOptions("relative", 1.0, expression, gaze, tuple(parts), closed_lips=True)
        track, motion = person.track, driver.resampled(person.track.fps)
        pixels = self.frame_size(avatar, "photo")

        def frames() -> FrameGenerator:
            with contextlib.closing(ahead(read_frames(film, start=start, end=end, fps=track.fps))) as pictures:
                paint = partial(self.generate, avatar, size=pixels, batch_size=batch_size, num_frames=len(track))
                yield from dubbed(pictures, person, avatar.head, motion, options, paint, pixels)

        return TalkingHeadVideo(
            frames=frames,
            num_frames=len(track),
            fps=track.fps,
            driving=Path(film if sound is None else sound),
            start=(start or 0.0) if sound is None else 0.0,
            warnings=track.warnings,
        )

    def animate_group(
        self,
        people: Sequence[Portrait],
        drivers: Sequence[str | Path | Motion | None],
        *,
        motion: Mode = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        parts: Sequence[str] = (),
        speaking: Sequence[bool] = (),
        sound: str | Path | None = None,
        avatars: Sequence[Avatar | None] = (),
        on_progress: ProgressCallback | None = None,
    ) -> TalkingHeadVideo:
        """Everybody in one photo (``people``), each moved by a clip or Motion of their own; None stays as in the photo.

        Frames are the whole photo, at the first driver's rate, until the last driver has ended; who has ended keeps the
        last pose. ``speaking``: whose Motion is that of a voice: lips that meet in it meet in a laughing face as well.
        ``sound``: a file whose sound belongs to the result; the first clip's if None. ``avatars``: of those people of
        whom there is one already. Raises ValueError, and what ``track`` raises.
        """
        if len(people) != len(drivers) or all(driver is None for driver in drivers):
            raise ValueError(f"give one driver or None for each of the {len(people)} people, and one driver at least")
        motions: dict[str | Path | Motion, Motion] = {}
        for driver in drivers:
            if driver is not None and driver not in motions:
                motions[driver] = driver if isinstance(driver, Motion) else self.track(driver, on_progress=on_progress)
        fps = next(iter(motions.values())).fps
        flags = [*speaking, *[False] * len(people)]
        made = [*avatars, *[None] * len(people)]
        moved = [(person, motions[driver].resampled(fps), speaks, avatar)
                 for person, driver, speaks, avatar in zip(people, drivers, flags, made, strict=False)
                 if driver is not None]  # fmt: skip
        still = [person for person, driver in zip(people, drivers, strict=True) if driver is None]
        videos = []
        for person, driver, speaks, known in moved:
            avatar = self.create_avatar([person]) if known is None else known
            videos.append(
                self(
                    avatar, driver, motion=motion, head=head, expression=expression, gaze=gaze, parts=parts,
                    size="photo", neutral=lips_apart(avatar.head) if speaks else None,
                )
            )  # fmt: skip
        clips = [driver for driver in drivers if driver is not None and not isinstance(driver, Motion)]
        return TalkingHeadVideo(
            frames=partial(paste_group, videos, [person for person, *_ in moved], still),
            num_frames=max(len(video) for video in videos),
            fps=fps,
            driving=Path(sound) if sound is not None else Path(clips[0]) if clips else None,
            warnings=list(dict.fromkeys(chain.from_iterable(video.warnings for video in videos))),
        )

    def live(
        self,
        avatar: Avatar,
        *,
        motion: Mode = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        parts: Sequence[str] = (),
        size: Size = None,
        background: Background | None = None,
    ) -> Live:
        """The avatar, moving like whoever is before a camera: see ``live.Live``. Arguments as for a call, but ``size``
        is that of the model if None.

        The networks are the result's until it is closed. Raises IncompatibleAvatarError.
        """
        options = MotionOptions(motion, head, expression, gaze, tuple(parts), closed_lips=True)
        return Live(self._at_once(avatar, options, size, background), self.detector)

    def speak(
        self,
        avatar: Avatar,
        chunks: Iterable[SoundPiece | None],
        *,
        rate: int = 16_000,
        liveliness: float = 1.0,
        seed: int = 0,
        size: Size = None,
        background: Background | None = None,
    ) -> SpokenFrames:
        """The avatar, speaking with sound that is still coming: pairs of a frame, uint8 RGB (S, S, 3), and the piece of
        sound that goes with it, int16 (n,), 25 a second, 160 ms of sound later.

        ``chunks``: one channel at ``rate``, in pieces of any length: bytes of s16le, int16 arrays, or floating point in
        [-1, 1]; None, or an empty piece, is a frame of silence, in which life goes on. ``liveliness``, ``seed``: as for
        ``Motion.from_voice``; ``size`` as for ``live``. By the clock, and with interruptions, see ``speaker``. Raises
        ValueError, and IncompatibleAvatarError.
        """
        speaker = self.speaker(avatar, rate=rate, liveliness=liveliness, seed=seed, size=size, background=background)
        return speak(speaker, chunks)

    def speaker(
        self,
        avatar: Avatar,
        *,
        rate: int = 16_000,
        liveliness: float = 1.0,
        seed: int = 0,
        size: Size = None,
        background: Background | None = None,
    ) -> Speaker:
        """What ``speak`` is made of, for sound that other threads push: see ``speaking.Speaker``. Arguments alike."""
        stream = SpeechStream(rate, liveliness, seed)
        paint = self._at_once(avatar, MotionOptions(), size, background)
        count = len(avatar.head.model.expression_names)
        rest = frame_of(lips_apart(avatar.head), 0, count)
        return Speaker(stream, lambda motion: paint(frame_of(motion, 0, count), rest))

    def _at_once(
        self, avatar: Avatar, options: MotionOptions, size: Size, background: Background | None
    ) -> Callable[[FrameFit, FrameFit], np.ndarray]:
        """(a driver's frame, the neutral one) -> the avatar's picture. What takes long the first time is done here."""
        self.check_fits(avatar)
        self._forward(avatar.generator or self.generator, None)  # converts now what would hold up the first frame
        pixels = self.frame_size(avatar, self.image_size if size is None else size)
        renderer, chooser = Renderer(avatar.head, pixels, background), PhotoChooser(avatar.head)
        retarget = HeadRetargeter(avatar.head, options)

        def show(frame: FrameFit, neutral: FrameFit) -> np.ndarray:
            target = retarget(frame, neutral)
            return self._generate(avatar, [renderer.draw(target, chooser.choose(target))], pixels, None, background)[0]

        show(avatar.head.primary_view.fit.frame, avatar.head.primary_view.fit.frame)  # compiles what is not compiled
        return show

    def edit(
        self, avatar: Avatar, controls: FaceControls, *, size: Size = None, background: Background | None = None
    ) -> np.ndarray:
        """One picture of the avatar, moved by controls: uint8 RGB (S, S, 3), RGBA where the background is transparent.

        The controls count from the most neutral of the avatar's photos. Raises IncompatibleAvatarError.
        """
        return next(
            iter(self(avatar, controls.motion(), size=size, background=background, neutral=controls.opposite()))
        )

    def imitate(
        self,
        avatar: Avatar,
        photo: Photo,
        *,
        parts: Sequence[str] = (),
        size: Size = None,
        background: Background | None = None,
    ) -> np.ndarray:
        """One picture of the avatar with the pose and expression of another picture, anybody's; else as ``edit``.

        ``parts`` restricts what is taken, as in a call. Raises what ``portraits`` raises.
        """
        (portrait,) = self.portraits([photo])
        height, width = portrait.image.shape[:2]
        motion = motion_of_track(Track(portrait.landmarks[None], 25.0, (height, width), np.ones(1, bool)))
        start = avatar.head.primary_view.fit.frame.translation
        motion = replace(motion, translation=np.array(start, np.float32)[None])  # where a face stands is no pose
        return next(iter(self(avatar, motion, motion="absolute", parts=parts, size=size, background=background)))

    def check_fits(self, avatar: Avatar) -> None:
        """Raises IncompatibleAvatarError where another model's generator is needed to paint the avatar."""
        if avatar.generator is not None:
            return  # it brings everything that paints it
        if avatar.config.base_revision != self.fingerprint:
            name, commit = avatar.config.base_model or "unknown", avatar.config.base_commit
            raise IncompatibleAvatarError(
                f"This avatar was made with the model {name}{' at the commit ' * bool(commit)}{commit} "
                f"({avatar.config.base_revision}), not with this one ({self.fingerprint}). "
                "Load that model, or make the avatar again from the photos."
            )

    def frame_size(self, avatar: Avatar, size: Size) -> int:
        """Pixels of the side of the avatar's frames for a wanted size, see a call.

        ValueError for one that cannot be.
        """
        own = int((avatar.generator or self.generator).config.image_size)
        if not (avatar.generator or self.generator).config.render_conditioned:
            if isinstance(size, int) and size != own:
                raise ValueError(f"this model paints frames of {own} pixels; leave the size out")
            return own  # painted from nothing: in the network's size
        if size is None:
            return 2 * own if avatar.photo_size >= 2 * own else own
        if size == "photo":
            return max(own, avatar.photo_size // own * own)
        if not isinstance(size, int) or size < own or size % own:
            raise ValueError(f"size must be a multiple of {own}, or 'photo', got {size!r}")
        return size

    def generate(
        self,
        avatar: Avatar,
        targets: Iterable[FrameFit],
        size: int | None = None,
        background: Background | None = None,
        batch_size: int = 4,
        num_frames: int | None = None,
    ) -> FrameGenerator:
        """The avatar in each pose of ``targets``: uint8 (size, size, 3), one by one; RGBA for no background.

        ``num_frames``: about how many these are, which chooses the engine; else their ``len``, else many.
        """
        if num_frames is None and isinstance(targets, Sized):
            num_frames = len(targets)
        pixels = self.frame_size(avatar, size)
        conditioned = (avatar.generator or self.generator).config.render_conditioned
        if background is not None and not background.keeps and not conditioned:
            raise ValueError("this model paints whole pictures; leave the background out")
        renderer, chooser = Renderer(avatar.head, pixels, background), PhotoChooser(avatar.head)
        rendered = (renderer.draw(target, chooser.choose(target)) for target in targets)
        sizes = chain([1], repeat(batch_size))  # the first frame is waited for
        while batch := list(islice(rendered, next(sizes))):
            yield from self._generate(avatar, batch, pixels, num_frames, background)

    @torch.inference_mode()
    def _generate(
        self,
        avatar: Avatar,
        rendered: Sequence[Rendered],
        size: int,
        num_frames: int | None,
        background: Background | None,
    ) -> list[np.ndarray]:
        """Rendered heads -> frames: the network's correction, made at its own size, enlarged over the full render."""
        generator = avatar.generator or self.generator
        own = int(generator.config.image_size)
        forward = self._forward(generator, num_frames)
        marks = np.stack([one.landmarks_at(own) for one in rendered])
        lines = to_float(draw_landmarks(marks, own)).to(self.device, generator.dtype)
        if not generator.config.render_conditioned:
            with self._autocast():
                return list(to_uint8(forward(lines, avatar.style, None)))
        planes = torch.from_numpy(np.stack([one.generator_planes(own) for one in rendered])).to(self.device)
        with self._autocast():
            painted = forward(lines, avatar.style, planes.to(generator.dtype))
        correction = painted.float() - planes[:, :3]
        if size != own:
            correction = F.interpolate(correction, size=(size, size), mode="bilinear", align_corners=False)
        change = (127.5 * correction).permute(0, 2, 3, 1).cpu().numpy()
        return [finished(one, add, background) for one, add in zip(rendered, change, strict=True)]

    def _forward(self, generator: Generator, num_frames: int | None) -> Generate:
        """``generator`` as the chosen engine computes it; what was compiled is kept for as long as the generator is."""
        many = None if generator in self._compiled else num_frames
        if choose_engine(self.engine, generator, many) == "torch":
            return lambda lines, style, render: generator(lines, style=style, render=render)
        if generator not in self._compiled:
            # On disk only the model: an avatar's own generator is a face, and not to be left behind somewhere.
            self._compiled[generator] = compile_openvino(generator, keep=generator is self.generator)
        return self._compiled[generator]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.generator.dtype != torch.float32:
            return contextlib.nullcontext()
        return autocast(self.device)


def _check_dubbed_parts(parts: Sequence[str]) -> None:
    unknown = [part for part in parts if part not in DUBBED_PARTS]
    if unknown or not parts:
        raise ValueError(f"choose parts among {', '.join(DUBBED_PARTS)}, got {', '.join(unknown) or 'none'}")


def _num_frames(info: ClipInfo, start: float | None, end: float | None) -> int | None:
    """How many frames its file promises of a part of a clip."""
    if info.duration is None:
        return None
    last = info.duration if end is None else min(end, info.duration)
    return max(1, round((last - (start or 0.0)) * info.fps))


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 arithmetic on float32 weights where the device has instructions for it, else none."""
    if device.type == "cuda" or (device.type == "cpu" and fast_bf16()):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
