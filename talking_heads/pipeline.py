"""The pipeline: photos -> avatar, clip -> motion, avatar and motion -> frames.

The way of one frame of a driving clip, each step a call in this file or in one that it names:

    detect      ``track_landmarks``: the landmarks of the face in each picture
    fit         ``motion_of_track``: pose, expression and gaze of the head that explains them
    retarget    ``retargeted``: the same motion for the avatar's head
    render      ``Renderer.draw``: that head with the photos' colours
    draw        ``draw_landmarks``: its landmarks as lines
    generate    ``TalkingHeadPipeline.generate``: what the network corrects, added to the render
    write       ``TalkingHeadVideo.save``: marked, encoded, with its sound
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .avatar import Avatar, Shots, make_head
from .drawing import draw_landmarks
from .dubbing import Film, FilmedPerson, check_dubbed_parts, dubbed
from .group import Member, group_video, members
from .head.fit import FrameFit
from .head.fit_checks import fit_warnings
from .head.head import Head
from .head.motion import Motion
from .head.presets import FaceControls
from .head.render import PhotoChooser, Rendered, Renderer, finished
from .head.retarget import HeadRetargeter, Mode, MotionOptions, frame_of, lips_apart
from .live import Live
from .media.background import Background
from .media.images import read_photo, to_float, to_uint8
from .media.pieces import SoundPiece
from .media.reading import probe, read_frames
from .media.sound import sound_duration
from .media.streams import ahead
from .motion_source import MotionSource, clip_being_tracked, known_motion
from .networks import NetworkPipeline, Size
from .pasting import paste_back
from .result import FrameGenerator, ProgressCallback, TalkingHeadVideo
from .speaking import Speaker, SpokenFrames, speak
from .tracking.crops import Portrait
from .tracking.detectors import LandmarkDetector, load_detector
from .tracking.finding import main_faces, only_face
from .tracking.motion_fitting import motion_of_track
from .tracking.tracks import Track, track_face
from .voice.streaming import SpeechStream

Photo = str | Path | Image.Image | np.ndarray | Portrait
MAX_PHOTOS = 32
logger = logging.getLogger(__name__)


class TalkingHeadPipeline(NetworkPipeline):
    """Embedder and generator, and everything between them and files.

    Any number of avatars and clips can go through one pipeline, from several threads if need be; it remembers nothing
    of them.
    """

    _detector: LandmarkDetector | None = None

    @property
    def detector(self) -> LandmarkDetector:
        """The landmark detector, mediapipe unless another one is assigned."""
        if self._detector is None:
            self._detector = load_detector()
        return self._detector

    @detector.setter
    def detector(self, detector: LandmarkDetector) -> None:
        self._detector = detector

    def portraits(self, photos: Sequence[Photo], face: int | None = None) -> list[Portrait]:
        """Where the person is in each of 1 to 32 photos; what is a Portrait already stays as it is.

        ``face``: which one is meant where there are several, from 1, counted from the left. Raises NoFaceError,
        SeveralFacesError, UnreadableMediaError, each naming the photo by its number.
        """
        if not photos:
            raise ValueError("give at least one photo")
        if len(photos) > MAX_PHOTOS:
            raise ValueError(f"give at most {MAX_PHOTOS} photos")
        names = ["the photo"] if len(photos) == 1 else [f"photo {number}" for number in range(1, len(photos) + 1)]
        return [photo if isinstance(photo, Portrait) else self._portrait(read_photo(photo), name, face)
                for photo, name in zip(photos, names, strict=True)]  # fmt: skip

    def _portrait(self, image: np.ndarray, name: str, face: int | None) -> Portrait:
        return Portrait.of(image, only_face(image, self.detector, name, face))

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
        total = info.frames_between(start, end)

        def count(done: int) -> None:
            if on_progress is not None:
                on_progress("tracking", done, None if total is None else max(total, done))

        with contextlib.closing(ahead(read_frames(clip, start=start, end=end, fps=info.fps))) as frames:
            return track_face(frames, self.detector, info.fps, count)

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
        sooner, but the neutral frame is one of its first second. ``neutral``: one frame from which the changes of a
        Motion count; its own most neutral one if None. ``sound``: a sound file, or a clip, whose sound is the video's,
        as that of ``Motion.from_voice``; that of a driving clip if None. With a Motion it also means that somebody
        speaks: lips that meet in the motion do so in a laughing face as well. Frames are made ``batch_size`` at a time
        when the result is iterated or saved. Raises ValueError for what cannot be combined, IncompatibleAvatarError,
        and what ``track`` raises; with ``stream``, what concerns faces, start and end comes with the frames.
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
        if isinstance(driving, Motion):
            source = known_motion(driving, avatar.head, neutral, spoken=sound is not None)
        elif stream:
            source = clip_being_tracked(driving, avatar.head, lambda: self.detector, start, end)
        else:
            tracked = self.track(driving, start=start, end=end, on_progress=on_progress)
            source = known_motion(tracked, avatar.head, neutral)
        return TalkingHeadVideo(
            frames=partial(self._frames, avatar, source, options, pixels, background, batch_size, into),
            num_frames=source.num_frames, fps=source.fps, warnings=source.warnings, start=start or 0.0,
            driving=None if isinstance(driving, Motion) else Path(driving), sound=Path(sound) if sound else None,
        )  # fmt: skip

    def _frames(
        self, avatar: Avatar, source: MotionSource, options: MotionOptions, size: int, background: Background | None,
        batch_size: int, into: Portrait | None,
    ) -> FrameGenerator:  # fmt: skip
        """The frames of a call."""
        targets = source.targets(avatar.head, options)
        painted = self.generate(avatar, targets, size, background, batch_size, source.num_frames)
        with contextlib.closing(painted):
            yield from painted if into is None else paste_back(painted, into)

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
        check_dubbed_parts(parts)
        track = self.track_landmarks(film, start=start, end=end, on_progress=on_progress)
        person = FilmedPerson.of(Film(film, start, end), track)
        driver = driving if isinstance(driving, Motion) else self.track(driving, on_progress=on_progress)
        if sound is None and not isinstance(driving, Motion):
            sound = driving
        return self.dub_followed(
            person, self.avatar_from_shots(person.shots()), driver, parts=parts, expression=expression, gaze=gaze,
            sound=sound, batch_size=batch_size,
        )  # fmt: skip

    def dub_followed(
        self,
        person: FilmedPerson,
        avatar: Avatar,
        driver: Motion,
        *,
        parts: Sequence[str] = ("lips",),
        expression: float = 1.0,
        gaze: float = 1.0,
        sound: str | Path | None = None,
        batch_size: int = 4,
    ) -> TalkingHeadVideo:
        """The second half of ``dub``: the film was followed, and ``avatar`` is of ``person.shots``.

        The sound is the film's if ``sound`` is None. Raises ValueError for other parts.
        """
        check_dubbed_parts(parts)
        options = MotionOptions("relative", 1.0, expression, gaze, tuple(parts), closed_lips=True)
        film, track, pixels = person.film, person.track, self.frame_size(avatar, "photo")
        paint = partial(self.generate, avatar, size=pixels, batch_size=batch_size, num_frames=len(track))
        return TalkingHeadVideo(
            frames=partial(dubbed, person, avatar.head, driver.resampled(track.fps), options, paint, pixels),
            num_frames=len(track),
            fps=track.fps,
            driving=Path(film.path if sound is None else sound),
            start=(film.start or 0.0) if sound is None else 0.0,
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
        group = members(people, drivers, speaking, avatars, partial(self.track, on_progress=on_progress))

        def video(member: Member, driver: Motion) -> TalkingHeadVideo:
            avatar = self.create_avatar([member.portrait]) if member.avatar is None else member.avatar
            return self(
                avatar, driver, motion=motion, head=head, expression=expression, gaze=gaze, parts=parts,
                size="photo", neutral=lips_apart(avatar.head) if member.speaks else None,
            )  # fmt: skip

        videos = [video(member, member.motion) for member in group if member.motion is not None]
        return group_video(group, videos, drivers, sound)

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
        neutral = controls.opposite()
        return next(iter(self(avatar, controls.motion(), size=size, background=background, neutral=neutral)))

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
        motion = motion_of_track(Track.of_picture(portrait.landmarks, portrait.image.shape))
        start = avatar.head.primary_view.fit.frame.translation
        motion = replace(motion, translation=np.array(start, np.float32)[None])  # where a face stands is no pose
        return next(iter(self(avatar, motion, motion="absolute", parts=parts, size=size, background=background)))

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
        drawn = draw_landmarks(np.stack([one.landmarks_at(own) for one in rendered]), own)
        lines = to_float(drawn).to(self.device, generator.dtype)
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
