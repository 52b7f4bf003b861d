"""The pipeline: photos -> avatar, clip -> track, avatar and track -> frames."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, repeat, tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from .avatar import Avatar
from .drawing import draw_landmarks
from .engines import WORTH_CONVERTING, EngineName, Generate, check_engine, choose_engine, compile_openvino
from .errors import IncompatibleAvatarError, InvalidModelError
from .expressions import FaceControls, posed
from .faces import STRETCH, Crop, Portrait, Track, crop_around, follow_face, held_gaps, only_face, track_face
from .hub import (
    BUNDLED,
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
from .images import read_photo, to_float, to_uint8
from .landmarks import LandmarkDetector, load_detector
from .live import Live
from .models import Discriminator, Embedder, Generator
from .motion import MOTIONS, Motion, choose_shots, most_neutral, retarget
from .pasting import paste_back
from .provenance import check_credentials, marked, sign
from .streams import ahead
from .video import (
    AI_GENERATED,
    ClipInfo,
    VideoWriter,
    check_writable,
    compose_side_by_side,
    probe,
    read_frames,
)
from .warping import landmarks_to_tensor, source_planes

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

Photo = str | Path | Image.Image | np.ndarray | Portrait
ProgressCallback = Callable[[str, int, int | None], None]
"""Called with (stage, how many are done, how many there are if that is known); what it raises cancels the work."""

FrameGenerator = abc.Generator[np.ndarray, None, None]

MAX_PHOTOS = 32


@dataclass(frozen=True)
class TalkingHeadVideo:
    """The result of a pipeline call. Frames are painted when they are asked for, a few at a time, and never kept."""

    frames: Callable[[], FrameGenerator] = field(repr=False)
    """Starts painting from the first frame: uint8 RGB (H, W, 3) each."""
    num_frames: int
    """Of a clip that is followed while it is painted, what its file says, which may be one more or less; where it says
    nothing, a guess."""
    fps: float
    driving: Path | None = None
    """The clip whose sound belongs to the video."""
    start: float = 0.0
    """Seconds of the clip that were skipped."""
    warnings: Sequence[str] = ()
    """Sentences on what the viewer may notice, e.g. a held pose; complete when the last frame is painted."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def __len__(self) -> int:
        return self.num_frames

    def save(self, path: str | Path, on_progress: ProgressCallback | None = None, *, label: bool = False) -> Path:
        """Paints and writes an mp4 (H.264, the driver's sound in sync); whole or not at all.

        It is marked as generated in its metadata, invisibly in its frames, and by a signed C2PA manifest; ``label``
        also writes "AI-generated" into a corner (see ``provenance``). Raises OutputError. ``on_progress`` hears of the
        stage "painting".
        """
        path = Path(path)
        check_writable(path)
        check_credentials()
        finish = partial(sign, title=path.name)
        with (
            VideoWriter(
                path, self.fps, audio_from=self.driving, audio_start=self.start, metadata=AI_GENERATED, finish=finish
            ) as writer,
            contextlib.closing(ahead(self.frames())) as frames,
        ):
            for i, frame in enumerate(marked(frames, label=label)):
                writer.write(frame)
                if on_progress is not None:
                    on_progress("painting", i + 1, max(i + 1, self.num_frames))
        return path

    def save_side_by_side(
        self, path: str | Path, on_progress: ProgressCallback | None = None, *, label: bool = False
    ) -> Path:
        """As ``save``, with the driving clip beside it; the label is on the result alone.

        Raises OutputError, and ValueError for a video that no clip drives.
        """
        if self.driving is None:
            raise ValueError("no clip drives this video: there is nothing to show beside it")
        path = Path(path)
        check_writable(path)
        check_credentials()

        def count(done: int) -> None:
            if on_progress is not None:
                on_progress("painting", done, max(done, self.num_frames))

        with contextlib.closing(self.frames()) as frames:
            compose_side_by_side(
                self.driving, marked(frames, label=label, invisible=False), path, self.fps,
                start=self.start,
                on_frame=count,
                mark=partial(marked, label=False),
                finish=partial(sign, title=path.name),
            )  # fmt: skip
        return path


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
        """Where it was loaded from, as avatars remember it: "default", a folder, or "org/name" of the Hub."""
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
        """The bundled model (None or "default"), a folder of ``save_pretrained``, or "org/name" of the Hub.

        ``variant``: of the weights' files, e.g. "fp16"; their precision in memory is ``torch_dtype``, float32 if None.
        ``revision``: branch, tag or commit. ``engine``: see there. Raises InvalidModelError with a sentence where it is
        missing, incomplete, or another thing.
        """
        check_engine(engine)
        source = "default" if pretrained_model_name_or_path is None else os.fspath(pretrained_model_name_or_path)
        named = pretrained_model_name_or_path is not None and Path(source).exists()  # a folder of that name goes before
        place = BUNDLED if source == "default" and not named else source
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
        pipe.name = "default" if folder == BUNDLED else source
        if folder not in (BUNDLED, Path(source)):  # a snapshot of the Hub, which is named by its commit
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

    def portraits(self, photos: Sequence[Photo]) -> list[Portrait]:
        """Where the person is in each of 1 to 32 photos; what is a Portrait already stays as it is.

        Raises NoFaceError, SeveralFacesError, UnreadableMediaError, each naming the photo by its number.
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
                photo = Portrait.of(image, only_face(image, self.detector, name))  # noqa: PLW2901
            result.append(photo)
        return result

    def look_at(self, photos: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray]:
        """Photos -> crops uint8 (K, H, H, 3) and landmarks float32 (K, L, 2): what the model sees.

        Raises what ``portraits`` raises.
        """
        crops, landmarks = zip(*(portrait.shot(self.image_size) for portrait in self.portraits(photos)), strict=True)
        return np.stack(crops), np.stack(landmarks)

    def create_avatar(self, photos: Sequence[Photo]) -> Avatar:
        """1 to 32 photos of one person -> avatar: detect, crop, then ``avatar_from_shots``.

        ``photos`` are paths, PIL images, uint8 RGB arrays, or Portraits, where the face is known already.
        """
        if isinstance(photos, Photo):
            photos = [photos]
        return self.avatar_from_shots(*self.look_at(photos))

    @torch.inference_mode()
    def avatar_from_shots(self, crops: np.ndarray, landmarks: np.ndarray) -> Avatar:
        """What the model sees -> avatar: draw, embed, mean over photos, project (psi' = P e).

        ``crops`` uint8 (K, H, H, 3) of side ``image_size`` and ``landmarks`` float32 (K, L, 2), as of ``look_at``.
        """
        drawn = draw_landmarks(landmarks, self.image_size)
        dtype = self.embedder.dtype
        shots, lines = (to_float(images).to(self.device, dtype)[None] for images in (crops, drawn))
        with self._autocast():
            embedding = self.embedder(shots, lines).mean(dim=1)  # (1, N)
        style = self.generator.projection(embedding.to(self.generator.dtype))  # (1, S)
        # Out of inference mode's tensors, so that the avatar can be trained.
        with torch.inference_mode(False):
            return Avatar.create(
                embedding[0].float().clone(), style[0].float().clone(), crops, landmarks, self.name, self.fingerprint,
                base_commit=self.commit,
            ).to(self.device)  # fmt: skip

    # ---------------------------------------------------------------------------------------------------------- motion

    def track(
        self,
        clip: str | Path,
        *,
        start: float | None = None,
        end: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Track:
        """Follows the face through a clip, or through its seconds ``start`` to ``end``; frames are not kept.

        Raises UnreadableMediaError and NoFaceError. ``on_progress`` hears of the stage "tracking".
        """
        info = probe(clip)
        total = _num_frames(info, start, end)

        def count(done: int) -> None:
            if on_progress is not None:
                on_progress("tracking", done, None if total is None else max(total, done))

        with contextlib.closing(ahead(read_frames(clip, start=start, end=end, fps=info.fps))) as frames:
            return track_face(frames, self.detector, info.fps, count)

    def target_landmarks(
        self, avatar: Avatar, track: Track, motion: Motion, head: float, expression: float, gaze: float
    ) -> np.ndarray:
        """Where the avatar's landmarks go in each frame, (T, L, 2) in pixels of the output."""
        carry = _carrier(avatar, track.landmarks, track.frame_size, motion, head, expression, gaze)
        return carry(track.landmarks)

    # -------------------------------------------------------------------------------------------------------- painting

    def __call__(
        self,
        avatar: Avatar,
        driving: str | Path | Track,
        *,
        motion: Motion = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        into: Portrait | None = None,
        stream: bool = False,
        batch_size: int = 4,
        on_progress: ProgressCallback | None = None,
    ) -> TalkingHeadVideo:
        """The avatar, moving like the clip.

        ``driving``: a clip, which is tracked now, or a Track. ``motion``: "relative" carries over what changes in the
        driver's face and keeps the person's own shape; "absolute" takes the driver's landmarks as they are. ``head``,
        ``expression`` and ``gaze`` scale relative motion (1: as in the clip). ``start``/``end``: seconds of the clip.
        ``into``: a photo of the person (``portraits``); frames are then that whole photo with the head in motion.
        ``stream``: a clip is followed while its first frames are painted already; they come at once and all of them
        sooner, in constant memory, but crop and neutral pose are those of its first second instead of its best ones.
        Frames are painted ``batch_size`` at a time when the result is iterated or saved.
        Raises IncompatibleAvatarError, and what ``track`` raises; with ``stream``, what concerns faces, start and end
        comes with the frames.
        """
        _check_motion(motion)
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self.check_fits(avatar)
        if into is not None:
            avatar = avatar.with_shots(*(shot[None] for shot in into.shot(int(avatar.config.image_size))))
        held: list[str] = []
        how = (motion, head, expression, gaze)
        targets: Callable[[], FrameGenerator]
        if isinstance(driving, Track) or not stream:
            track = driving if isinstance(driving, Track) else self.track(
                driving, start=start, end=end, on_progress=on_progress
            )  # fmt: skip
            number, fps = len(track), track.fps
            held += track.warnings
            carry = _carrier(avatar, track.landmarks, track.frame_size, *how)
            parts = range(0, number, STRETCH)
            targets = lambda: (face for k in parts for face in carry(track.landmarks[k : k + STRETCH]))  # noqa: E731
        else:
            info = probe(driving)
            number, fps = _num_frames(info, start, end) or WORTH_CONVERTING, info.fps
            targets = partial(self._followed, avatar, info, start, end, how, held)

        def frames() -> FrameGenerator:
            with contextlib.closing(targets()) as faces:
                if into is None:
                    yield from self.paint(avatar, faces, batch_size, number)
                else:
                    faces_to_paint, faces_to_paste = tee(faces)
                    yield from paste_back(self.paint(avatar, faces_to_paint, batch_size, number), faces_to_paste, into)

        return TalkingHeadVideo(
            frames=frames,
            num_frames=number,
            fps=fps,
            driving=None if isinstance(driving, Track) else Path(driving),
            start=start or 0.0,
            warnings=held,
        )

    def _followed(
        self,
        avatar: Avatar,
        info: ClipInfo,
        start: float | None,
        end: float | None,
        how: tuple[Motion, float, float, float],
        warnings: list[str],
    ) -> FrameGenerator:
        """Where the avatar's landmarks go, (L, 2) frame by frame, while the clip is followed in other threads."""
        warnings.clear()
        seen, carry = [], None
        with (
            contextlib.closing(ahead(read_frames(info.path, start=start, end=end, fps=info.fps))) as frames,
            contextlib.closing(
                ahead(follow_face(frames, self.detector, info.fps, name=info.path.name), 1)
            ) as stretches,
        ):
            for stretch in stretches:
                carry = carry or _carrier(avatar, stretch.known, stretch.frame_size, *how)
                seen.append(stretch.seen)
                yield from carry(stretch.landmarks)
        warnings += [gap.sentence(info.fps) for gap in held_gaps(np.concatenate(seen), info.fps)]

    def live(
        self,
        avatar: Avatar,
        *,
        motion: Motion = "relative",
        head: float = 1.0,
        expression: float = 1.0,
        gaze: float = 1.0,
    ) -> Live:
        """The avatar, moving like whoever is before a camera: see ``live.Live``. Arguments as for a call.

        The networks are the result's until it is closed. Raises IncompatibleAvatarError.
        """
        _check_motion(motion)
        self.check_fits(avatar)
        if len(avatar.landmarks) > 1:  # frame by frame nothing can fade from one photo to another
            best = most_neutral(avatar.landmarks.cpu().numpy())
            shots = avatar.photo_images[best : best + 1], avatar.landmarks[best : best + 1].cpu().numpy()
            avatar = avatar.with_shots(*shots)
        self._computing(avatar.generator or self.generator, None)  # converts now what would hold up the first frame
        size, photo = int(avatar.config.image_size), _neutral_photo(avatar)

        def paint(face: np.ndarray, reference: np.ndarray, crop: Crop) -> np.ndarray:
            driving = crop.to_crop(face, size)[None]
            if motion == "relative":
                neutral = crop.to_crop(reference, size)
                driving = retarget(driving, photo, neutral, head=head, expression=expression, gaze=gaze)
            return next(self.paint(avatar, driving, batch_size=1))

        return Live(paint, self.detector)

    def edit(self, avatar: Avatar, controls: FaceControls) -> np.ndarray:
        """One picture of the avatar, moved by controls: uint8 RGB (H, H, 3).

        The controls count from the most neutral of the avatar's photos. Raises IncompatibleAvatarError.
        """
        self.check_fits(avatar)
        return next(self.paint(avatar, posed(_neutral_photo(avatar), controls)[None]))

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

    def paint(
        self, avatar: Avatar, landmarks: Iterable[np.ndarray], batch_size: int = 4, num_frames: int | None = None
    ) -> Iterator[np.ndarray]:
        """The avatar with its landmarks at each (L, 2), in pixels of the output: uint8 RGB (H, H, 3), one by one.

        ``num_frames``: about how many these are, which chooses the engine; else their ``len``, else many.
        """
        if num_frames is None and isinstance(landmarks, Sized):
            num_frames = len(landmarks)
        generator = avatar.generator or self.generator
        size = int(generator.config.image_size)
        conditioned = bool(generator.config.source_conditioned)
        generate = self._computing(generator, num_frames)
        shots = avatar.shots
        chosen = choose_shots(landmarks, avatar.landmarks.cpu().numpy())
        sizes = chain([1], repeat(batch_size))  # the first frame is waited for
        while batch := list(islice(chosen, next(sizes))):
            points, shares = (np.stack(values) for values in zip(*batch, strict=True))
            # Within the loop: a generator that is left in the middle must not leave inference mode switched on.
            with torch.inference_mode(), self._autocast():
                lines = to_float(draw_landmarks(points, size)).to(self.device, generator.dtype)
                source: torch.Tensor | None = None
                if conditioned:
                    targets = landmarks_to_tensor(points).to(self.device)
                    source = warp_shots(shots, avatar.landmarks, targets, shares).to(generator.dtype)
                painted = to_uint8(generate(lines, avatar.style, source))
            yield from painted

    def _computing(self, generator: Generator, num_frames: int | None) -> Generate:
        """``generator`` as the chosen engine computes it; what was compiled is kept for as long as the generator is."""
        many = None if generator in self._compiled else num_frames
        if choose_engine(self.engine, generator, many) == "torch":
            return lambda lines, style, source: generator(lines, style=style, source=source)
        if generator not in self._compiled:
            # On disk only the model: an avatar's own generator is a face, and not to be left behind somewhere.
            self._compiled[generator] = compile_openvino(generator, keep=generator is self.generator)
        return self._compiled[generator]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.generator.dtype != torch.float32:
            return contextlib.nullcontext()
        return autocast(self.device)


def _check_motion(motion: str) -> None:
    if motion not in MOTIONS:
        raise ValueError(f"unknown motion {motion!r}; choose one of {', '.join(MOTIONS)}")


def _num_frames(info: ClipInfo, start: float | None, end: float | None) -> int | None:
    """How many frames its file promises of a part of a clip."""
    if info.duration is None:
        return None
    last = info.duration if end is None else min(end, info.duration)
    return max(1, round((last - (start or 0.0)) * info.fps))


def _carrier(
    avatar: Avatar,
    known: np.ndarray,
    frame_size: tuple[int, int],
    motion: Motion,
    head: float,
    expression: float,
    gaze: float,
) -> Callable[[np.ndarray], np.ndarray]:
    """What takes a driver's faces (T, L, 2) to where the avatar's landmarks go, in pixels of the output.

    ``known``: faces (N, L, 2) of that driver, in frames of ``frame_size``, from which crop and neutral pose are taken.
    """
    crop, size = crop_around(known, frame_size), int(avatar.config.image_size)  # of its own generator, if it has one
    if motion == "absolute":
        return partial(crop.to_crop, size=size)
    neutral = crop.to_crop(known[most_neutral(known)], size)
    strengths = {"head": head, "expression": expression, "gaze": gaze}
    photo = _neutral_photo(avatar)
    return lambda faces: retarget(crop.to_crop(faces, size), photo, neutral, **strengths)


def _neutral_photo(avatar: Avatar) -> np.ndarray:
    """Landmarks (L, 2) of the avatar's photo from which relative motion starts."""
    photos: np.ndarray = avatar.landmarks.cpu().numpy()
    return photos[most_neutral(photos)]


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 arithmetic on float32 weights where the device has instructions for it, else none."""
    if device.type == "cuda" or (device.type == "cpu" and fast_bf16()):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def warp_shots(
    shots: torch.Tensor,
    landmarks: torch.Tensor,
    targets: torch.Tensor,
    weights: np.ndarray,
    look: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = source_planes,
) -> torch.Tensor:
    """``look`` (B, C, H, H) at the chosen shots, or a cross-fade of two; unless told else, ``source_planes``."""
    rows = len(targets)
    result: Any = 0.0
    for k in np.flatnonzero(weights.any(axis=0)):
        one = look(shots[k].expand(rows, -1, -1, -1), landmarks[k].expand(rows, -1, -1), targets)
        result = result + torch.from_numpy(weights[:, k]).to(one)[:, None, None, None] * one
    return result
