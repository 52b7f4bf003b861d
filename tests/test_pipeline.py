"""The pipeline end to end on a tiny model: real detector, real photo, real clips."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from media import write_clip
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import SIZE, save_tiny_model

import talking_heads
from talking_heads import Avatar, TalkingHeadPipeline, TalkingHeadVideo
from talking_heads.avatar import Shots
from talking_heads.drawing import draw_landmarks
from talking_heads.errors import (
    IncompatibleAvatarError,
    InvalidModelError,
    NoFaceError,
    OutputError,
    SeveralFacesError,
    UnreadableMediaError,
)
from talking_heads.head.head import Head
from talking_heads.head.motion import INDEX, Motion, head_angles, head_rotation
from talking_heads.head.presets import FaceControls, load_preset
from talking_heads.head.render import Renderer
from talking_heads.head.retarget import HeadRetargeter, MotionOptions, frame_of, most_neutral
from talking_heads.landmarks import mouth_openness
from talking_heads.media.background import Background, parse_background
from talking_heads.media.images import to_float
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.sound import read_sound
from talking_heads.tracking.crops import Portrait
from talking_heads.tracking.detectors import LandmarkDetector
from train.example_clip import SENTENCE

pytestmark = pytest.mark.slow

needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is optional")
DRIVING = Path(talking_heads.__file__).parent / "examples" / "driving.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pipe(folder: Path, detector: LandmarkDetector) -> TalkingHeadPipeline:
    pipe = TalkingHeadPipeline.from_pretrained(folder)
    pipe.detector = detector
    return pipe


@pytest.fixture(scope="module")
def avatar(pipe: TalkingHeadPipeline, shots: Shots, head: Head) -> Avatar:
    return pipe.avatar_from_shots(shots, head)


@pytest.fixture(scope="module")
def track(pipe: TalkingHeadPipeline) -> Motion:
    return pipe.track(DRIVING, start=1.0, end=1.8)


def stacked(frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(list(frames)).astype(int)


def test_public_names() -> None:
    assert {"Avatar", "Motion", "TalkingHeadPipeline", "TalkingHeadVideo"} <= set(talking_heads.__all__)
    assert all(hasattr(talking_heads, name) for name in talking_heads.__all__)
    with pytest.raises(AttributeError):
        _ = talking_heads.Nothing


class TestAvatar:
    def test_holds_what_the_formulas_say(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, astronaut: np.ndarray
    ) -> None:
        shots = avatar.shots
        crops, landmarks = shots.crops(SIZE), shots.landmarks_at(SIZE)
        with torch.no_grad():
            e = pipe.embedder(to_float(crops)[None], to_float(draw_landmarks(landmarks, SIZE))[None]).mean(dim=1)
            psi = pipe.generator.projection(e)
        assert torch.allclose(avatar.embedding, e[0], rtol=0.05, atol=0.05 * float(e.abs().max()))  # made in 16 bit
        assert torch.allclose(avatar.style, psi[0], rtol=0.05, atol=0.05 * float(psi.abs().max()))
        again = pipe.create_avatar([astronaut])
        for name in ("canvases", "masks", "landmarks"):
            assert np.array_equal(getattr(again.shots, name), getattr(shots, name)), name
        assert again.photo_size == avatar.photo_size == 256
        assert avatar.config.base_revision == pipe.fingerprint

    def test_round_trip_is_bit_equal(
        self, avatar: Avatar, pipe: TalkingHeadPipeline, track: Motion, tmp_path: Path
    ) -> None:
        avatar.save_pretrained(tmp_path / "ada")
        loaded = Avatar.from_pretrained(tmp_path / "ada")
        for name, value in avatar.state_dict().items():
            assert np.array_equal(value, loaded.state_dict()[name], equal_nan=True), name
        assert all(np.array_equal(a, b) for a, b in zip(pipe(avatar, track), pipe(loaded, track), strict=True))

    def test_saving_replaces_an_avatar_and_nothing_else(self, avatar: Avatar, tmp_path: Path) -> None:
        avatar.save_pretrained(tmp_path / "ada")
        avatar.save_pretrained(tmp_path / "ada")
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "thesis.txt").write_text("years")
        with pytest.raises(OutputError, match="Choose another folder"):
            avatar.save_pretrained(tmp_path / "work")
        assert [p.name for p in (tmp_path / "work").iterdir()] == ["thesis.txt"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["ada", "work"]

    def test_photos_are_named_by_their_number(self, pipe: TalkingHeadPipeline, astronaut: np.ndarray) -> None:
        with pytest.raises(NoFaceError, match="photo 2"):
            pipe.create_avatar([astronaut, np.full((200, 200, 3), 90, np.uint8)])
        with pytest.raises(SeveralFacesError, match="2 faces"):
            pipe.create_avatar([np.hstack([astronaut, astronaut])])
        with pytest.raises(ValueError, match="at least one"):
            pipe.create_avatar([])

    def test_of_another_model_is_refused(
        self, avatar: Avatar, track: Motion, tmp_path: Path, detector: LandmarkDetector
    ) -> None:
        other = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "other", seed=1))
        with pytest.raises(IncompatibleAvatarError, match="make the avatar again"):
            other(avatar, track)

    def test_fits_its_model_in_every_precision(
        self, folder: Path, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion
    ) -> None:
        half = TalkingHeadPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
        assert half.generator.dtype == torch.bfloat16
        assert half.fingerprint == pipe.fingerprint
        frames = zip(half(avatar, track), pipe(avatar, track), strict=True)
        assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in frames]) < 4

    def test_one_file_holds_it_all(
        self, avatar: Avatar, pipe: TalkingHeadPipeline, track: Motion, tmp_path: Path
    ) -> None:
        file = avatar.save_file(tmp_path / "ada.safetensors")
        loaded = Avatar.from_file(file)
        assert all(np.array_equal(a, b) for a, b in zip(pipe(avatar, track), pipe(loaded, track), strict=True))
        # The file holds the model's name and not its path on this machine.
        assert str(Path(pipe.name).parent).encode() not in file.read_bytes()
        with pytest.raises(OutputError, match=r"must end in \.safetensors"):
            avatar.save_file(tmp_path / "ada.zip")
        assert [path.name for path in tmp_path.iterdir()] == ["ada.safetensors"]

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ({"num_photos": 10**9}, "the shape"),
            ({"style_dim": 10**12}, "the shape"),
            ({"own_generator": {"channels": [10**8, 10**8], "image_size": 64}}, "lacks weights"),
            ({"own_generator": {"num_middle_blocks": 10**9}}, "num_middle_blocks"),
            ({"num_photos": "many"}, "does not fit this software"),
            ({"_class_name": "Generator"}, "holds a Generator"),
            ({"format_version": 99}, "newer version"),
            ({"format_version": 3}, "older version"),
        ],
    )
    def test_a_strangers_file_gets_no_memory_that_it_does_not_fill(
        self, avatar: Avatar, tmp_path: Path, config: dict[str, object], sentence: str
    ) -> None:
        settings = json.loads(avatar.to_json_string()) | config
        save_file(dict(avatar.state_dict()), tmp_path / "x.safetensors", metadata={"avatar": json.dumps(settings)})
        with pytest.raises(InvalidModelError, match=sentence) as caught:
            Avatar.from_file(tmp_path / "x.safetensors")
        assert str(tmp_path) not in str(caught.value)

    def test_copies_keep_the_head(self, avatar: Avatar, pipe: TalkingHeadPipeline, track: Motion) -> None:
        expected = stacked(pipe(avatar, track[:3]))
        for again in (copy.deepcopy(avatar), pickle.loads(pickle.dumps(avatar))):
            assert np.array_equal(stacked(pipe(again, track[:3])), expected)
            assert again.head is again.head

    def test_an_old_avatar_is_refused(self, avatar: Avatar, tmp_path: Path) -> None:
        """An avatar of format 3 holds crops instead of canvases."""
        settings = {"_class_name": "Avatar", "embedding_dim": 4, "style_dim": 8, "num_photos": 1, "image_size": 64}
        settings |= {"format_version": 3}
        state = {"embedding": torch.zeros(4), "style": torch.zeros(8), "photos": torch.zeros(1, 64, 64, 3)}
        save_file(state, tmp_path / "old.safetensors", metadata={"avatar": json.dumps(settings)})
        with pytest.raises(InvalidModelError, match=r"older version of this software.*Make it again"):
            Avatar.from_file(tmp_path / "old.safetensors")
        folder = tmp_path / "old"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(settings))
        save_file(state, folder / "diffusion_pytorch_model.safetensors")
        with pytest.raises(InvalidModelError, match="older version of this software"):
            Avatar.from_pretrained(folder)

    @pytest.mark.parametrize("content", [b"", b"no avatar", b"\x00" * 100])
    def test_a_file_of_something_else(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "photo.jpg").write_bytes(content)
        with pytest.raises(InvalidModelError, match=r"photo\.jpg is no avatar"):
            Avatar.from_file(tmp_path / "photo.jpg")
        with pytest.raises(InvalidModelError, match="does not exist"):
            Avatar.from_file(tmp_path / "none.safetensors")

    def test_folder_of_something_else(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidModelError, match=r"config\.json"):
            Avatar.from_pretrained(tmp_path)
        with pytest.raises(InvalidModelError, match="holds a Generator"):
            Avatar.from_pretrained(folder / "generator")


class TestMotion:
    def test_a_clip_becomes_coefficients(self, pipe: TalkingHeadPipeline, track: Motion) -> None:
        assert (len(track), track.fps) == (20, 25.0) and track.seen.all()
        assert np.ptp(track.coefficients[:, INDEX["jawOpen"]]) > 0.1  # he speaks
        assert np.abs(track.head).max() < 45
        steps = np.abs(np.diff(track.head, axis=0))
        assert steps.max() < 5  # degrees a frame
        stages: list[tuple[str, int, int | None]] = []
        part = pipe.track(DRIVING, start=1.0, end=1.4, on_progress=lambda *event: stages.append(event))
        assert len(part) == 10 and stages[-1] == ("tracking", 10, 10)

    def test_a_file_of_motion_drives_as_the_clip_does(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion, tmp_path: Path
    ) -> None:
        """All but the detail of lids and lips, for which Live Link Face has no columns."""
        track.save(tmp_path / "ada.csv")
        loaded = Motion.load(tmp_path / "ada.csv")
        assert len(loaded) == len(track) and loaded.fps == pytest.approx(track.fps)
        # Absolute motion: without the detail another frame may be the neutral one.
        whole, without = (stacked(pipe(avatar, each, motion="absolute")) for each in (track, loaded))
        assert np.abs(whole - without).mean() < 3

    def test_driving_oneself(self, pipe: TalkingHeadPipeline, avatar: Avatar, shots: Shots) -> None:
        """The avatar's own photo as a clip, absolutely: the pose of the photo."""
        side = round(shots.canvases.shape[1] / 1.5)
        photo = shots.crops(side)[0]
        moved = [np.roll(photo, k, axis=1) for k in (0, 0, 1, 1, 2, 2, 1, 1)]
        with TemporaryDirectory() as folder:
            motion = pipe.track(write_clip(Path(folder) / "me.mp4", moved))
        frame = avatar.head.primary_view.fit.frame
        own = head_angles(frame.rotation)
        assert np.abs(motion.head[0] - own).max() < 6  # the model guesses how long noses are
        smile = avatar.head.model.index("mouthSmileLeft")
        assert motion.coefficients[0, smile] == pytest.approx(frame.expression[smile], abs=0.3)


class TestPainting:
    def test_frames_are_those_of_the_generator(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        """Render at full size, and over it the network's correction at its own."""
        size = 4 * SIZE
        video = pipe(avatar, track, size=size)
        count = len(avatar.head.model.expression_names)
        neutral = frame_of(track, most_neutral(track), count)
        target = HeadRetargeter(avatar.head, MotionOptions(closed_lips=True))(frame_of(track, 0, count), neutral)
        drawn = Renderer(avatar.head, size).draw(target)
        render = torch.from_numpy(drawn.generator_planes(SIZE)[None])
        lines = to_float(draw_landmarks(drawn.landmarks_at(SIZE), SIZE))
        with torch.no_grad():
            correction = pipe.generator(lines, style=avatar.style, render=render) - render[:, :3]
        change = torch.nn.functional.interpolate(127.5 * correction, size=size, mode="bilinear")[0].permute(1, 2, 0)
        expected = (drawn.picture + change.numpy()).round().clip(0, 255)
        assert np.abs(next(iter(video)) - expected).mean() < 2  # 16-bit arithmetic
        assert change.abs().mean() > 1
        assert len(list(video)) == len(video) == len(track)

    def test_do_not_depend_on_the_batch(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        for a, b in zip(pipe(avatar, track, batch_size=3), pipe(avatar, track, batch_size=8), strict=True):
            assert np.abs(a.astype(int) - b).max() <= 4

    def test_motion_moves_the_face(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        moving = list(pipe(avatar, track))
        still = list(pipe(avatar, track, head=0.0, expression=0.0, gaze=0.0))
        assert np.abs(moving[0].astype(int) - moving[-1]).mean() > 1
        assert np.abs(still[0].astype(int) - still[-1]).max() <= 1

    def test_an_unmoved_head_is_the_photo(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        size = avatar.photo_size
        still = next(iter(pipe(avatar, track, head=0.0, expression=0.0, gaze=0.0, size=size)))
        difference = np.abs(still.astype(int) - avatar.shots.crops(size)[0])
        assert (difference.max(axis=2) <= 1).mean() > 0.9

    def test_parts_move_alone(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        size = 4 * SIZE
        still = stacked(pipe(avatar, track, head=0, expression=0, gaze=0, size=size))
        marks = Renderer(avatar.head, size).landmarks(avatar.head.primary_view.fit.frame).astype(int)

        def moves(frames: np.ndarray, points: list[int]) -> float:
            x, y = marks[points].mean(axis=0).astype(int)
            return float(np.abs(frames - still)[:, y - 8 : y + 8, x - 8 : x + 8].mean())

        lips = stacked(pipe(avatar, track, parts=["lips"], size=size))
        head = stacked(pipe(avatar, track, parts=["head"], size=size))
        mouth, brow = [57], [19]
        assert moves(lips, mouth) > 2 > 1 > moves(lips, brow)
        assert moves(head, brow) > 1

    def test_absolute_motion_takes_the_drivers_pose(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion
    ) -> None:
        relative, absolute = (stacked(pipe(avatar, track, motion=mode)) for mode in ("relative", "absolute"))  # type: ignore[arg-type]
        assert np.abs(relative - absolute).mean() > 1
        with pytest.raises(ValueError, match="absolute"):
            pipe(avatar, track, motion="sideways")  # type: ignore[arg-type]

    def test_another_pictures_pose_and_expression(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, detector: LandmarkDetector
    ) -> None:
        """The driver looks aside with an open mouth."""
        (other,) = [frame for k, frame in enumerate(read_frames(DRIVING, end=5)) if k == 100]
        shown = pipe.imitate(avatar, other)
        head = avatar.head
        asked = Renderer(head, 256).landmarks(head.primary_view.fit.frame)
        seen, theirs = (detector.detect(picture)[0] for picture in (shown, other))

        def aside(face: np.ndarray) -> float:  # the nose's tip between the sides of the face
            return float((face[30, 0] - face[0, 0]) / (face[16, 0] - face[0, 0]))

        assert abs(aside(seen) - aside(theirs)) < 0.5 * abs(aside(asked) - aside(theirs))
        lips = pipe.imitate(avatar, other, parts=["lips"])
        assert abs(aside(detector.detect(lips)[0]) - aside(asked)) < 0.06

    def test_without_a_render(
        self, detector: LandmarkDetector, shots: Shots, head: Head, track: Motion, tmp_path: Path
    ) -> None:
        """The paper's own way: painted from nothing, in the network's size."""
        pipe = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "direct", render_conditioned=False))
        pipe.detector = detector
        avatar = pipe.avatar_from_shots(shots, head)
        frames = list(pipe(avatar, track))
        assert frames[0].shape == (SIZE, SIZE, 3) and frames[0].std() > 0
        with pytest.raises(ValueError, match=f"frames of {SIZE} pixels; leave the size out"):
            pipe(avatar, track, size=2 * SIZE)
        with pytest.raises(ValueError, match="leave the background out"):
            next(iter(pipe(avatar, track, background=Background("blur"))))

    def test_sizes(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        assert pipe.frame_size(avatar, None) == 2 * SIZE  # the photo has the pixels
        assert pipe.frame_size(avatar, "photo") == 256
        frames = {
            size: next(iter(pipe(avatar, load_preset("nod"), size=size)))
            for size in (SIZE, 2 * SIZE, 256, "photo", None)
        }
        assert [len(frame) for frame in frames.values()] == [SIZE, 2 * SIZE, 256, 256, 2 * SIZE]
        assert np.array_equal(frames[256], frames["photo"]) and np.array_equal(frames[2 * SIZE], frames[None])
        averaged = frames[256].reshape(SIZE, 4, SIZE, 4, 3).mean(axis=(1, 3))
        assert np.abs(averaged - frames[SIZE]).mean() < 3
        for wrong in (SIZE + 1, 0, SIZE // 2, "large", 2.5):
            with pytest.raises(ValueError, match="must be a multiple of 64, or 'photo'"):
                pipe(avatar, load_preset("nod"), size=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="batch_size"):
            pipe(avatar, load_preset("nod"), batch_size=0)

    def test_before_nothing(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion, tmp_path: Path) -> None:
        video = pipe(avatar, track, background=parse_background("transparent"))
        frame = next(iter(video))
        assert frame.shape == (2 * SIZE, 2 * SIZE, 4) and frame.dtype == np.uint8
        assert frame[:8, :8, 3].max() < 10 and frame[SIZE - 4 : SIZE + 4, SIZE - 4 : SIZE + 4, 3].min() > 245
        video.save(tmp_path / "ada.webm")
        assert probe(tmp_path / "ada.webm").width == 2 * SIZE
        picture = pipe.edit(avatar, FaceControls(yaw=5), background=parse_background("#00ff00"))
        assert np.abs(picture[:8, :8].astype(int) - (0, 255, 0)).max() <= 1

    def test_several_photos_and_no_order_of_them(
        self, pipe: TalkingHeadPipeline, portrait: Portrait, track: Motion
    ) -> None:
        mirrored = pipe.portraits([np.ascontiguousarray(portrait.image[:, ::-1])])[0]
        one, two = pipe.create_avatar([portrait, mirrored]), pipe.create_avatar([mirrored, portrait])
        assert torch.allclose(one.embedding, two.embedding, atol=1e-4 * float(one.embedding.abs().max()))
        assert len(one.head.views) == 2 and one.head.primary == 1 - two.head.primary
        frames = stacked(pipe(one, track))
        assert np.abs(frames - stacked(pipe(two, track))).mean() < 2
        again = stacked(pipe(one, track))  # what one video chose does not change the next one
        assert np.array_equal(frames, again)

    def test_nothing_is_painted_before_it_is_asked_for(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion
    ) -> None:
        calls = []
        handle = pipe.generator.register_forward_hook(lambda *_: calls.append(1))
        try:
            video = pipe(avatar, track, batch_size=2)
            assert not calls
            frames = iter(video)
            next(frames)
            assert len(calls) == 1
        finally:
            handle.remove()
        assert not torch.is_inference_mode_enabled()

    def test_memory_does_not_grow_with_the_clip(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion) -> None:
        def peak(repeats: int) -> int:
            video = pipe(avatar, track.looped(repeats * track.duration), size=SIZE)
            next(iter(video))  # whatever is made once is there
            tracemalloc.start()
            for _ in video:
                pass
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return top

        short = max(peak(2), peak(2))  # what threads hold at a moment differs from one time to the next
        # Neither the frames (5 MB) nor the poses that they show are kept.
        assert any(peak(22) - short < 300_000 for _ in range(2))


class TestControls:
    def test_an_edit_moves_what_it_says(
        self, tiny_model: Path, shots: Shots, head: Head, detector: LandmarkDetector
    ) -> None:
        pipe = TalkingHeadPipeline.from_pretrained(tiny_model)  # whose network leaves the render as it is
        avatar = pipe.avatar_from_shots(shots, head)
        controls = FaceControls(yaw=15, mouth=1)
        picture = pipe.edit(avatar, controls, size=256)
        assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, pipe.edit(avatar, controls, size=256))
        rest = pipe.edit(avatar, FaceControls(), size=256)
        assert np.abs(picture.astype(int) - rest).mean() > 1
        (moved,), (still,) = (detector.detect(one) for one in (picture, rest))
        aside = [(face[30] - 0.5 * (face[36] + face[45]))[0] for face in (moved, still)]
        assert aside[0] > aside[1] + 4
        assert mouth_openness(moved) > mouth_openness(still) + 0.2

    def test_no_controls_give_the_most_neutral_photo(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        frame = avatar.head.primary_view.fit.frame
        expected = next(pipe.generate(avatar, [frame]))
        assert np.abs(pipe.edit(avatar, FaceControls()).astype(int) - expected).max() <= 1

    def test_of_another_model_is_refused(self, avatar: Avatar, tmp_path: Path, detector: LandmarkDetector) -> None:
        other = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "other", seed=1))
        with pytest.raises(IncompatibleAvatarError, match="make the avatar again"):
            other.edit(avatar, FaceControls())

    def test_a_preset_drives_and_leaves_the_photo_at_rest(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        video = pipe(avatar, load_preset("nod"))
        assert (video.fps, video.driving, list(video.warnings)) == (25.0, None, [])
        frames = list(video)
        assert np.array_equal(frames[0], frames[-1])
        assert np.abs(frames[0].astype(int) - pipe.edit(avatar, FaceControls())).max() <= 1
        assert np.abs(frames[18].astype(int) - frames[0]).mean() > 1


def black_half(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The left half of the face covered."""
    photo = photo.copy()
    x0, y0, x1, y1 = (int(v) for v in (*face.min(axis=0), *face.max(axis=0)))
    photo[y0 : y1 + 10, x0 - 10 : (x0 + x1) // 2] = 0
    return photo


def black_mouth(photo: np.ndarray, face: np.ndarray) -> np.ndarray:
    photo = photo.copy()
    photo[int(face[33, 1]) : int(face[8, 1]) + 10, int(face[0, 0]) : int(face[16, 0])] = 0
    return photo


def at_size(photo: np.ndarray, face: np.ndarray, pixels: int) -> np.ndarray:
    """Enlarged or reduced so that the face is ``pixels`` high."""
    side = round(len(photo) * pixels / np.ptp(face[:77, 1]))
    return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS))


HARD: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "half the face is covered": black_half,
    "the mouth is covered": black_mouth,
    "a face of 40 pixels": lambda photo, face: at_size(photo, face, 40),
    "a face of 16 pixels": lambda photo, face: at_size(photo, face, 16),
    "cut at the forehead": lambda photo, face: np.ascontiguousarray(photo[int(face[17:27, 1].min()) - 4 :]),
    "cut at the chin": lambda photo, face: np.ascontiguousarray(photo[: int(face[8, 1]) - 2]),
    "nothing but the face": lambda photo, face: np.ascontiguousarray(
        photo[int(face[:77, 1].min()) : int(face[8, 1]), int(face[0, 0]) : int(face[16, 0])]
    ),
    "grey, as of an old film": lambda photo, face: np.repeat(photo.mean(axis=2, keepdims=True), 3, 2).astype(np.uint8),
    "hardly any light": lambda photo, face: (photo // 12).astype(np.uint8),
    "on its side": lambda photo, face: np.ascontiguousarray(np.rot90(photo)),
}


class TestHardPhotos:
    def painted(self, pipe: TalkingHeadPipeline, photo: np.ndarray, caplog: pytest.LogCaptureFixture) -> bool:
        """The photo becomes an avatar that moves, or there is one sentence."""
        try:
            avatar = pipe.create_avatar([photo])
        except (NoFaceError, SeveralFacesError) as error:
            assert str(error).endswith(".")
            return False
        assert all(record.getMessage().endswith(".") for record in caplog.records)
        frames = stacked(pipe(avatar, load_preset("look-around")[30:36], size=SIZE))
        assert frames.shape == (6, SIZE, SIZE, 3)
        return True

    @pytest.mark.parametrize("name", HARD)
    def test_hard_photos_come_out_or_get_a_sentence(
        self,
        pipe: TalkingHeadPipeline,
        astronaut: np.ndarray,
        astronaut_face: np.ndarray,
        caplog: pytest.LogCaptureFixture,
        name: str,
    ) -> None:
        photo = HARD[name](astronaut, astronaut_face)
        done = self.painted(pipe, photo, caplog)
        assert done or name in ("a face of 16 pixels", "half the face is covered", "nothing but the face")

    @pytest.mark.parametrize("degrees", [35, 60, 85])
    def test_a_profile(
        self, pipe: TalkingHeadPipeline, head: Head, caplog: pytest.LogCaptureFixture, degrees: int
    ) -> None:
        photo = head.primary_view.fit.frame
        turned = replace(photo, rotation=head_rotation((degrees, 0, 0)) @ photo.rotation)
        picture = Renderer(head, 512).draw(turned).picture
        done = self.painted(pipe, picture.clip(0, 255).astype(np.uint8), caplog)
        assert done or degrees > 35


class TestIntoThePhoto:
    def test_only_the_crop_changes(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, portrait: Portrait, track: Motion
    ) -> None:
        frames = stacked(pipe(avatar, track[:6], into=portrait))
        assert frames.shape == (6, *portrait.image.shape)
        crop = portrait.crop
        y, x = np.mgrid[: len(portrait.image), : portrait.image.shape[1]]
        inside = crop.to_crop(np.stack([x, y], axis=-1), 1000)
        outside = (inside < -2).any(axis=-1) | (inside > 1001).any(axis=-1)
        assert 0.3 < outside.mean() < 0.95
        for frame in frames:
            assert np.array_equal(frame[outside], portrait.image[outside])
        assert np.abs(frames[0] - frames[-1]).mean() > 0.1

    def test_another_photo_of_the_person_than_the_avatars(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, astronaut: np.ndarray, track: Motion
    ) -> None:
        (mirrored,) = pipe.portraits([np.ascontiguousarray(astronaut[:, ::-1])])
        (frame,) = pipe(avatar, track[:1], into=mirrored, head=0, expression=0, gaze=0)
        assert (np.abs(frame.astype(int) - mirrored.image).max(axis=2) <= 1).mean() > 0.97

    def test_no_other_background(self, pipe: TalkingHeadPipeline, avatar: Avatar, portrait: Portrait) -> None:
        with pytest.raises(ValueError, match="with the head alone"):
            pipe(avatar, load_preset("nod"), into=portrait, background=parse_background("red"))


class TestStreams:
    def test_frames_come_before_the_clip_was_followed_to_its_end(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = 0
        detect = pipe.detector.detect

        def counted(image: np.ndarray) -> list[np.ndarray]:
            nonlocal looks
            looks += 1
            return detect(image)

        monkeypatch.setattr(pipe.detector, "detect", counted)
        video = pipe(avatar, DRIVING, stream=True)
        assert looks == 0
        frames = video.frames()
        next(frames)
        assert 20 < looks < 100 < len(video)
        frames.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]

    def test_motion_is_that_of_the_whole_clip_but_for_its_start(
        self, pipe: TalkingHeadPipeline, avatar: Avatar
    ) -> None:
        """In a clip no longer than the time that is looked ahead the same face is the most neutral one."""
        # An absolute place is where the driver's face is against where it mostly is, of which the start knows less.
        for motion, limit in (("relative", 5), ("absolute", 15)):
            whole = pipe(avatar, DRIVING, end=1.2, motion=motion)  # type: ignore[arg-type]
            stream = pipe(avatar, DRIVING, end=1.2, motion=motion, stream=True)  # type: ignore[arg-type]
            assert len(whole) == len(stream) == 30
            painted = stacked(stream)
            assert painted.std() > 5
            assert np.abs(painted - stacked(whole)).mean() < limit
        np.testing.assert_array_equal(stacked(stream), painted)  # followed anew

    def test_gaps_are_told_in_the_end_and_every_way_to_save_works(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, astronaut: np.ndarray, tmp_path: Path
    ) -> None:
        still = [astronaut[:300, :320]] * 30 + [np.zeros_like(astronaut[:300, :320])] * 20
        clip = write_clip(tmp_path / "leaving.mp4", still)
        video = pipe(avatar, clip, into=pipe.portraits([astronaut])[0], stream=True)
        assert list(video.warnings) == []
        said: list[tuple[int, int | None]] = []
        video.save(tmp_path / "photo.mp4", lambda _stage, done, total: said.append((done, total)))
        assert said[-1] == (50, 50)
        assert probe(tmp_path / "photo.mp4").width == 512
        assert list(video.warnings) == ["No face between 0:01 and 0:02: the last pose is held."]
        pipe(avatar, clip, stream=True).save_side_by_side(tmp_path / "both.mp4")
        assert sum(1 for _ in read_frames(tmp_path / "both.mp4")) == 50

    def test_nobody_in_the_clip(self, pipe: TalkingHeadPipeline, avatar: Avatar, tmp_path: Path) -> None:
        clip = write_clip(tmp_path / "empty.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
        with pytest.raises(NoFaceError, match=r"No face found in empty\.mp4"):
            pipe(avatar, clip, stream=True).save(tmp_path / "ada.mp4")
        assert [path.name for path in tmp_path.iterdir()] == ["empty.mp4"]


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_threads_may_paint_at_once(
    pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is stored in the networks, so that an edit need not wait for a render."""
    monkeypatch.setattr(pipe, "_engine", engine)
    alone = list(pipe(avatar, track))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: list(pipe(avatar, track)), range(4)))
    for frames in together:
        assert all(np.array_equal(a, b) for a, b in zip(frames, alone, strict=True))


class TestVideo:
    def test_saves_with_the_drivers_sound(self, pipe: TalkingHeadPipeline, avatar: Avatar, tmp_path: Path) -> None:
        stages: list[tuple[str, int, int | None]] = []
        video = pipe(avatar, DRIVING, start=0.5, end=1.5, on_progress=lambda *event: stages.append(event))
        path = video.save(tmp_path / "ada.mp4", on_progress=lambda *event: stages.append(event))
        info = probe(path)
        assert info.has_audio and (info.width, info.height) == (2 * SIZE, 2 * SIZE)
        assert sum(1 for _ in read_frames(path)) == 25
        assert [event for event in stages if event[0] == "tracking"][-1] == ("tracking", 25, 25)
        assert [event for event in stages if event[0] == "painting"][-1] == ("painting", 25, 25)

    def test_a_voice_is_heard_in_sync_with_the_lips(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, tmp_path: Path
    ) -> None:
        motion = Motion.from_voice(DRIVING, SENTENCE, liveliness=0)
        video = pipe(avatar, motion, sound=DRIVING)
        path = video.save(tmp_path / "ada.mp4")
        sounds = [np.concatenate(list(read_sound(file))) for file in (DRIVING, path)]
        assert len(sounds[1]) == pytest.approx(len(motion) / 25 * 16_000, abs=1000)
        first, again = (np.argmax(np.abs(sound) > 0.1) / 16_000 for sound in sounds)
        assert first == pytest.approx(again, abs=0.01)
        frames = stacked(read_frames(path)).astype(int)
        assert len(frames) == len(motion)
        moved = np.abs(frames[1:] - frames[1]).mean(axis=(1, 2, 3))
        assert moved[: round(25 * first) - 12].max() < 1.5 < moved.max()  # still before the first word

    def test_a_sound_is_checked_before_the_work(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion, tmp_path: Path
    ) -> None:
        (tmp_path / "a.wav").write_text("no sound")
        with pytest.raises(UnreadableMediaError, match=r"a\.wav is no sound that can be read"):
            pipe(avatar, track, sound=tmp_path / "a.wav")

    def test_cancelling_leaves_nothing(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Motion, tmp_path: Path
    ) -> None:
        def stop(_stage: str, done: int, _total: int | None) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pipe(avatar, track).save(tmp_path / "ada.mp4", on_progress=stop)
        assert not list(tmp_path.iterdir())

    def test_output_is_checked_before_the_work(self, tmp_path: Path) -> None:
        def never() -> Iterator[np.ndarray]:
            raise AssertionError("painted for nothing")
            yield

        with pytest.raises(OutputError):
            TalkingHeadVideo(never, 1, 25.0).save(tmp_path / "missing" / "ada.mp4")


class TestModelFolders:
    def test_round_trip(self, pipe: TalkingHeadPipeline, folder: Path, tmp_path: Path) -> None:
        pipe.save_pretrained(tmp_path / "again")
        again = TalkingHeadPipeline.from_pretrained(tmp_path / "again")
        assert again.fingerprint == pipe.fingerprint

    def test_saving_replaces_and_keeps_what_is_not_its_own(self, pipe: TalkingHeadPipeline, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path / "model", seed=1)
        (folder / "README.md").write_text("A card.")
        pipe.save_pretrained(folder)
        assert TalkingHeadPipeline.from_pretrained(folder).fingerprint == pipe.fingerprint
        assert (folder / "README.md").read_text() == "A card."
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_saving_where_nothing_can_be_written(self, pipe: TalkingHeadPipeline, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(OutputError, match="Choose another folder"):
            pipe.save_pretrained(tmp_path / "file" / "model")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize(
        ("breakage", "sentence"),
        [
            ("missing weight", "lacks weights"),
            ("unknown weight", "has unknown weights"),
            ("other shape", "another architecture"),
            ("no weights", "Copy the folder again"),
            ("no config", "is missing"),
            ("damaged", "damaged"),
            ("newer", "newer version"),
            ("older", "older version"),
            ("no index", r"model_index\.json"),
            ("other pipeline", "not a TalkingHeadPipeline"),
        ],
    )
    def test_broken_ones_get_a_sentence(self, tmp_path: Path, breakage: str, sentence: str) -> None:
        folder = save_tiny_model(tmp_path / "model")
        weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
        index = folder / "model_index.json"
        state = load_file(weights)
        if breakage == "missing weight":
            del state["to_rgb.weight"]
        elif breakage == "unknown weight":
            state["extra"] = torch.zeros(1)
        elif breakage == "other shape":
            state["to_rgb.weight"] = torch.zeros(3, 5, 3, 3)
        save_file(state, weights)
        if breakage == "no weights":
            weights.unlink()
        elif breakage == "no config":
            (folder / "generator" / "config.json").unlink()
        elif breakage == "damaged":
            weights.write_bytes(weights.read_bytes()[:1000])
        elif breakage == "no index":
            index.unlink()
        elif breakage in ("newer", "older", "other pipeline"):
            content = json.loads(index.read_text())
            versions = {"newer": {"format_version": 99}, "older": {"format_version": 1}}
            content |= versions.get(breakage, {"_class_name": "DDPMPipeline"})
            index.write_text(json.dumps(content))
        with pytest.raises(InvalidModelError, match=sentence):
            TalkingHeadPipeline.from_pretrained(folder)

    def test_unknown_places_get_a_sentence_at_once(self) -> None:
        with pytest.raises(InvalidModelError, match="no folder"):
            TalkingHeadPipeline.from_pretrained("./nowhere")
        with pytest.raises(InvalidModelError, match="Hub cannot be reached"):
            TalkingHeadPipeline.from_pretrained("somebody/something")
