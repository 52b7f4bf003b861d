"""The pipeline end to end on a tiny model: real detector, real photo, real clips."""

from __future__ import annotations

import importlib.util
import json
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_clip
from safetensors.torch import load_file, save_file
from tiny import SIZE, save_tiny_model

import talking_heads
from talking_heads import Avatar, TalkingHeadPipeline, TalkingHeadVideo
from talking_heads.drawing import draw_landmarks
from talking_heads.errors import (
    IncompatibleAvatarError,
    InvalidModelError,
    NoFaceError,
    OutputError,
    SeveralFacesError,
)
from talking_heads.expressions import FaceControls, posed
from talking_heads.faces import Track
from talking_heads.images import to_float, to_uint8
from talking_heads.landmarks import LandmarkDetector
from talking_heads.motion import most_neutral
from talking_heads.presets import load_preset
from talking_heads.video import probe, read_frames
from talking_heads.warping import landmarks_to_tensor, source_planes

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
def avatar(pipe: TalkingHeadPipeline, astronaut: np.ndarray) -> Avatar:
    return pipe.create_avatar([astronaut])


@pytest.fixture(scope="module")
def track(pipe: TalkingHeadPipeline) -> Track:
    return pipe.track(DRIVING, start=1.0, end=1.8)


def test_public_names() -> None:
    assert set(talking_heads.__all__) == {"Avatar", "TalkingHeadPipeline", "TalkingHeadVideo", "__version__"}
    assert all(hasattr(talking_heads, name) for name in talking_heads.__all__)
    with pytest.raises(AttributeError):
        _ = talking_heads.Nothing


class TestAvatar:
    def test_holds_what_the_formulas_say(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, astronaut: np.ndarray
    ) -> None:
        crops, landmarks = pipe.look_at([astronaut])
        with torch.no_grad():
            e = pipe.embedder(to_float(crops)[None], to_float(draw_landmarks(landmarks, SIZE))[None]).mean(dim=1)
            psi = pipe.generator.projection(e)
        assert torch.allclose(avatar.embedding, e[0], rtol=0.05, atol=0.05 * float(e.abs().max()))  # made in 16 bit
        assert torch.allclose(avatar.style, psi[0], rtol=0.05, atol=0.05 * float(psi.abs().max()))
        assert np.array_equal(avatar.photo_images, crops)
        assert avatar.config.base_revision == pipe.fingerprint

    def test_does_not_depend_on_the_order_of_photos(self, pipe: TalkingHeadPipeline, astronaut: np.ndarray) -> None:
        other = np.ascontiguousarray(astronaut[:, ::-1])
        one, two = pipe.create_avatar([astronaut, other]), pipe.create_avatar([other, astronaut])
        assert torch.allclose(one.embedding, two.embedding, atol=1e-4 * float(one.embedding.abs().max()))

    def test_round_trip_is_bit_equal(
        self, avatar: Avatar, pipe: TalkingHeadPipeline, track: Track, tmp_path: Path
    ) -> None:
        avatar.save_pretrained(tmp_path / "ada")
        loaded = Avatar.from_pretrained(tmp_path / "ada")
        for name, value in avatar.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
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
        self, avatar: Avatar, track: Track, tmp_path: Path, detector: LandmarkDetector
    ) -> None:
        other = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "other", seed=1))
        with pytest.raises(IncompatibleAvatarError, match="make the avatar again"):
            other(avatar, track)

    def test_fits_its_model_in_every_precision(
        self, folder: Path, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track
    ) -> None:
        half = TalkingHeadPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
        assert half.generator.dtype == torch.bfloat16
        assert half.fingerprint == pipe.fingerprint
        frames = zip(half(avatar, track), pipe(avatar, track), strict=True)
        assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in frames]) < 4

    def test_one_file_holds_it_all(
        self, avatar: Avatar, pipe: TalkingHeadPipeline, track: Track, tmp_path: Path
    ) -> None:
        file = avatar.save_file(tmp_path / "ada.safetensors")
        loaded = Avatar.from_file(file)
        assert all(np.array_equal(a, b) for a, b in zip(pipe(avatar, track), pipe(loaded, track), strict=True))
        # Of the model only its name: where it lies on this machine is nobody's business.
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


class TestPainting:
    def test_frames_are_those_of_the_generator(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track) -> None:
        video = pipe(avatar, track)
        targets = pipe.target_landmarks(avatar, track, "relative", 1.0, 1.0, 1.0)
        points = landmarks_to_tensor(targets[:1])
        source = source_planes(avatar.shots, avatar.landmarks, points)
        with torch.no_grad():
            expected = pipe.generator(to_float(draw_landmarks(targets[0], SIZE)), style=avatar.style, source=source)
        difference = np.abs(next(iter(video)).astype(int) - to_uint8(expected)[0])
        assert difference.mean() < 2  # 16-bit arithmetic
        assert len(list(video)) == len(video) == len(track)

    def test_do_not_depend_on_the_batch(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track) -> None:
        for a, b in zip(pipe(avatar, track, batch_size=3), pipe(avatar, track, batch_size=8), strict=True):
            assert np.abs(a.astype(int) - b).max() <= 4

    def test_motion_moves_the_face(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track) -> None:
        moving = list(pipe(avatar, track))
        still = list(pipe(avatar, track, head=0.0, expression=0.0, gaze=0.0))
        assert np.abs(moving[0].astype(int) - moving[-1]).mean() > 1
        assert np.abs(still[0].astype(int) - still[-1]).max() <= 1

    def test_absolute_motion_takes_the_drivers_landmarks(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track
    ) -> None:
        relative = pipe.target_landmarks(avatar, track, "relative", 1.0, 1.0, 1.0)
        absolute = pipe.target_landmarks(avatar, track, "absolute", 1.0, 1.0, 1.0)
        assert np.abs(relative - absolute).max() > 1
        with pytest.raises(ValueError, match="absolute"):
            pipe(avatar, track, motion="sideways")  # type: ignore[arg-type]

    def test_without_source_conditioning(
        self, detector: LandmarkDetector, astronaut: np.ndarray, track: Track, tmp_path: Path
    ) -> None:
        pipe = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "direct", source_conditioned=False))
        pipe.detector = detector
        frames = list(pipe(pipe.create_avatar([astronaut]), track))
        assert frames[0].shape == (SIZE, SIZE, 3) and frames[0].std() > 0

    def test_nothing_is_painted_before_it_is_asked_for(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track
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

    def test_memory_does_not_grow_with_the_clip(self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track) -> None:
        def peak(repeats: int) -> int:
            long = Track(
                np.tile(track.landmarks, (repeats, 1, 1)), track.fps, track.frame_size, np.tile(track.seen, repeats)
            )
            video = pipe(avatar, long)
            next(iter(video))  # whatever is made once is there
            tracemalloc.start()
            for _ in video:
                pass
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return top

        short, long = peak(2), peak(12)
        assert long - short < 200_000  # neither the frames (9 MB) nor the points (0.4 MB) to which the face moves


class TestControls:
    def test_an_edit_is_the_frame_of_the_posed_landmarks(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        controls = FaceControls(yaw=15, smile=1)
        picture = pipe.edit(avatar, controls)
        assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, pipe.edit(avatar, controls))
        target = posed(avatar.landmarks[0].numpy(), controls)
        assert np.array_equal(picture, next(pipe.paint(avatar, target[None])))
        assert np.abs(picture.astype(int) - pipe.edit(avatar, FaceControls())).mean() > 1

    def test_no_controls_give_the_most_neutral_photo(self, pipe: TalkingHeadPipeline, astronaut: np.ndarray) -> None:
        avatar = pipe.create_avatar([astronaut, np.ascontiguousarray(astronaut[:, ::-1])])
        photos = avatar.landmarks.numpy()
        expected = next(pipe.paint(avatar, photos[most_neutral(photos)][None]))
        assert np.abs(pipe.edit(avatar, FaceControls()).astype(int) - expected).max() <= 1

    def test_of_another_model_is_refused(self, avatar: Avatar, tmp_path: Path, detector: LandmarkDetector) -> None:
        other = TalkingHeadPipeline.from_pretrained(save_tiny_model(tmp_path / "other", seed=1))
        with pytest.raises(IncompatibleAvatarError, match="make the avatar again"):
            other.edit(avatar, FaceControls())

    def test_a_preset_drives_and_leaves_the_photo_at_rest(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        video = pipe(avatar, load_preset("nod"))
        assert (video.fps, video.driving, list(video.warnings)) == (25.0, None, [])
        targets = pipe.target_landmarks(avatar, load_preset("nod"), "relative", 1.0, 1.0, 1.0)
        own = avatar.landmarks[0].numpy()
        np.testing.assert_allclose(targets[[0, -1]], np.stack([own, own]), atol=0.05)
        frames = list(video)
        assert np.array_equal(frames[0], frames[-1])
        assert np.abs(frames[18].astype(int) - frames[0]).mean() > 1


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
        for motion in ("relative", "absolute"):
            whole = pipe(avatar, DRIVING, end=1.2, motion=motion)
            stream = pipe(avatar, DRIVING, end=1.2, motion=motion, stream=True)
            assert len(whole) == len(stream) == 30
            painted = np.stack(list(stream)).astype(int)
            assert painted.std() > 5
            assert np.abs(painted - np.stack(list(whole))).mean() < 3
            np.testing.assert_array_equal(np.stack(list(stream)), painted)  # followed anew

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
    pipe: TalkingHeadPipeline, avatar: Avatar, track: Track, engine: str, monkeypatch: pytest.MonkeyPatch
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
        assert info.has_audio and (info.width, info.height) == (SIZE, SIZE)
        assert sum(1 for _ in read_frames(path)) == 25
        assert [event for event in stages if event[0] == "tracking"][-1] == ("tracking", 25, 25)
        assert [event for event in stages if event[0] == "painting"][-1] == ("painting", 25, 25)

    def test_cancelling_leaves_nothing(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, track: Track, tmp_path: Path
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
