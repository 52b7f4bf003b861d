"""Episodes: a function of (seed, index), of one person, with landmarks that lie where the pixels say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people import CROP, cropped, detector, write_people
from torch.utils.data import default_collate

from talking_heads.drawing import draw_landmarks
from talking_heads.errors import UnreadableMediaError
from talking_heads.faces import find_faces
from talking_heads.images import to_float, to_uint8
from talking_heads.landmarks import (
    INNER_LIP,
    LEFT_EYE,
    MIRROR,
    NOSE_BRIDGE,
    NUM_LANDMARKS,
    OUTER_LIP,
    RIGHT_EYE,
    eye_distance,
    mirror_landmarks,
)
from talking_heads.warping import SOURCE_CHANNELS, landmarks_to_tensor, warp_photo
from train.augment import (
    apply_similarity,
    random_colours,
    random_motion,
    random_similarity,
    weight_map,
    worn,
)
from train.clips import ClipMeta, load_clips, make_clip
from train.config import MetaConfig, preset
from train.dataset import REAL_SHOTS, REAL_TARGETS, EpisodeDataset
from train.prepare import sharpness

CONFIG = preset("tiny", num_shots=3)
TINTS = {"ada": 1.0, "bob": 0.8, "cy": 0.6, "dora": 0.4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips"))


def episodes(folder: Path, **changes) -> EpisodeDataset:
    return EpisodeDataset.from_folders([folder], replace(CONFIG, **changes), 100)


def redness(image: torch.Tensor) -> float:
    """Green over red: tells the people apart, whose pictures differ in tint."""
    red, green, _ = ((image + 1) / 2).mean(dim=(-1, -2))
    return float(green / red)


# ------------------------------------------------------------------------------------------------------- episodes


def test_an_episode_has_the_shapes_and_ranges_it_promises(folder: Path):
    size = CONFIG.image_size
    data = episodes(folder)
    for index in range(6):
        episode = data[index]
        assert episode["shots"].shape == episode["shot_landmarks"].shape == (3, 3, size, size)
        assert episode["image"].shape == episode["landmark_image"].shape == (3, size, size)
        assert episode["source"].shape == (SOURCE_CHANNELS, size, size)
        assert episode["weights"].shape == (1, size, size)
        torch.testing.assert_close(episode["source"][3:6], episode["shots"][0])
        for name, value in episode.items():
            assert torch.isfinite(value).all(), name
            if name not in ("weights", "identity"):
                assert value.dtype == torch.float32 and value.min() >= -1 and value.max() <= 1, name
        assert episode["source"][6:].min() >= 0
        assert episode["weights"].min() == 1 and episode["weights"].max() == 1 + CONFIG.mouth_weight
        assert episode["identity"].dtype == torch.int64 and episode["identity"].shape == ()


def test_an_episode_is_a_function_of_seed_and_index(folder: Path):
    ahead, behind = episodes(folder), episodes(folder)
    forwards = [ahead[i] for i in range(6)]
    torch.manual_seed(5)
    np.random.seed(5)  # it must not matter
    for i in reversed(range(6)):
        again = behind[i]
        assert all(torch.equal(forwards[i][name], again[name]) for name in again)
    others = episodes(folder, seed=1)
    assert not any(torch.equal(forwards[i]["image"], others[i]["image"]) for i in range(6))
    assert not torch.equal(forwards[0]["image"], forwards[1]["image"])


def test_shots_and_target_are_of_the_person_that_identity_says(folder: Path):
    data = episodes(folder, jitter=0.0, animated_share=0.3)
    assert data.identities == {"ada": 0, "bob": 1, "cy": 2}
    usual = redness(to_float(cropped(8, 1.0)[0][0])[0])
    seen = Counter()
    for index in range(14):
        episode = data[index]
        name = list(data.identities)[episode["identity"]]
        seen[name] += 1
        for image in [*episode["shots"], episode["image"]]:
            assert redness(image) == pytest.approx(usual * TINTS[name], rel=0.06)
    assert set(seen) == {"ada", "bob", "cy"}


def test_people_of_the_validation_split_never_come(folder: Path):
    train = episodes(folder)
    assert "dora" not in train.identities
    clips = [clip for group in train.videos + train.stills for clip in group]
    assert {clip.meta.split for clip in clips} == {"train"}
    held_out = EpisodeDataset.from_folders([folder], CONFIG, 4, split="validation")
    assert list(held_out.identities) == ["dora"]


def test_a_folder_without_the_split_does_not_hide_that_of_another(folder: Path, tmp_path: Path):
    only_train = tmp_path / "more"
    write_people(only_train)
    (only_train / "dora.npz").unlink()
    for folders in ([folder, only_train], [only_train, folder]):
        assert list(EpisodeDataset.from_folders(folders, CONFIG, 4, split="validation").identities) == ["dora"]
    with pytest.raises(UnreadableMediaError, match="no clips of the split 'validation'"):
        EpisodeDataset.from_folders([only_train], CONFIG, 4, split="validation")


def test_everybody_comes_once_an_epoch_and_so_do_the_clips_of_a_person(folder: Path):
    """Whatever number of processes share the indices: they do not ask each other."""
    data = episodes(folder, stills_share=0.5)
    drawn = [data.clip_of(index).meta.source for index in range(400)]
    videos, stills = drawn[0::2], drawn[1::2]
    assert set(videos) == {"ada1.mp4", "ada2.mp4"} and set(stills) == {"bob.mp4", "cy.mp4"}
    for start in range(0, 200, 2):
        assert set(stills[start : start + 2]) == {"bob.mp4", "cy.mp4"}
        assert set(videos[start : start + 2]) == {"ada1.mp4", "ada2.mp4"}  # two epochs of one person with two clips
    for one, other in (("bob.mp4", "cy.mp4"), ("ada1.mp4", "ada2.mp4")):  # in an order of its own
        order = [source == one for source in (stills if one == "bob.mp4" else videos)[::2]]
        assert 30 < sum(order) < 70, other
    assert drawn[::-1] == [data.clip_of(index).meta.source for index in reversed(range(400))]
    assert drawn != [episodes(folder, stills_share=0.5, seed=1).clip_of(index).meta.source for index in range(400)]


def test_a_person_counts_once_and_the_share_of_stills_is_kept(folder: Path):
    for share in (0.25, 0.3, 0.75):
        data = episodes(folder, stills_share=share)
        drawn = Counter(data.clip_of(index).meta.kind == "video" for index in range(1000))
        assert drawn[True] / 1000 == pytest.approx(1 - share, abs=0.002)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_with_one_kind_only_every_episode_comes_from_it(folder: Path, share: float):
    stills = [clip for clip in load_clips(folder) if clip.meta.kind == "stills"]
    data = EpisodeDataset(stills, replace(CONFIG, stills_share=share), 4)
    assert data[0]["identity"] == 0


def test_shots_are_other_frames_than_the_target(folder: Path):
    """Real frames where there are enough; with fewer than K others they repeat, and still none is the target."""
    for clip in load_clips(folder):
        if len(clip) == 1:
            continue
        data = EpisodeDataset([clip], replace(CONFIG, animated_share=0.0, jitter=0.0, mirror=0.0), 10)
        for index in range(4):
            episode = data[index]
            assert all(not torch.equal(shot, episode["image"]) for shot in episode["shots"])
            distinct = len({shot.numpy().tobytes() for shot in episode["shots"]})
            assert distinct == (3 if len(clip) > 3 else distinct)


def test_a_puppets_target_or_shot_is_mostly_the_untouched_photo(folder: Path):
    (clip,) = [clip for clip in load_clips(folder) if clip.meta.kind == "puppet"]
    assert len(clip) == 4
    data = EpisodeDataset([clip], replace(CONFIG, jitter=0.0, mirror=0.0, animated_share=0.0, candidates=1), 200)
    photo = to_float(clip.frame(0, CONFIG.image_size)[0])[0]
    targets = shots = both = 0
    for index in range(200):
        episode = data[index]
        is_target = torch.allclose(episode["image"], photo, atol=1e-5)
        is_shot = torch.allclose(episode["shots"][0], photo, atol=1e-5)
        targets, shots, both = targets + is_target, shots + is_shot, both + (is_target and is_shot)
    rest = 1 - REAL_TARGETS - REAL_SHOTS
    assert targets / 200 == pytest.approx(REAL_TARGETS + rest / 4, abs=0.1)
    assert shots / 200 == pytest.approx(REAL_SHOTS + rest / 4, abs=0.1)
    assert both == 0


def test_a_photo_that_stands_alone_is_set_in_motion(folder: Path):
    (clip,) = [clip for clip in load_clips(folder) if clip.meta.kind == "stills"]
    config = replace(CONFIG, animated_share=0.0, jitter=0.0, mirror=0.0)
    episode = EpisodeDataset([clip], config, 4)[0]
    photo = to_float(clip.frame(0, CONFIG.image_size)[0])[0]
    torch.testing.assert_close(episode["image"], photo, atol=1e-5, rtol=0)
    moved = [(shot - photo).abs().mean() for shot in episode["shots"]]
    assert all(0.01 < change < 0.5 for change in moved)


def test_landmark_images_and_warp_fit_the_target(folder: Path):
    """Without jitter, what is drawn is the clip's own landmarks, and warping undoes most of a shot's motion."""
    (clip,) = [clip for clip in load_clips(folder) if clip.meta.source == "ada1.mp4"]
    size = CROP
    config = replace(CONFIG, image_size=size, jitter=0.0, mirror=0.0, animated_share=1.0)
    data = EpisodeDataset([clip], config, 20)
    drawings = [to_float(draw_landmarks(clip.frame(k, size)[1][None], size))[0] for k in range(len(clip))]
    before, after = [], []
    for index in range(5):
        episode = data[index]
        assert any(torch.equal(episode["landmark_image"], drawing) for drawing in drawings)
        trust, shown = episode["source"][6:]
        trusted = trust * shown * (episode["weights"] > 1)  # mouth and eyes
        before.append(((episode["shots"][0] - episode["image"]).abs() * trusted).sum() / trusted.sum())
        after.append(((episode["source"][:3] - episode["image"]).abs() * trusted).sum() / trusted.sum())
    assert sum(after) < 0.5 * sum(before)


def test_a_lone_photo_gives_way_to_the_person_in_motion(folder: Path):
    clips = load_clips(folder)
    (puppet,) = [clip for clip in clips if clip.meta.kind == "puppet"]
    (still,) = [clip for clip in clips if clip.meta.kind == "stills"]
    same = replace(still, meta=replace(still.meta, identity=puppet.meta.identity))
    assert EpisodeDataset([puppet, same], CONFIG, 1).stills == [[puppet]]
    assert EpisodeDataset([same], CONFIG, 1).stills == [[same]]


def test_an_unmoved_shot_is_warped_to_itself():
    frames, landmarks = cropped(3, 1.0)
    image, points = to_float(frames[0]), landmarks_to_tensor(landmarks[:1])
    warped, trust, shown = warp_photo(image, points, points)
    torch.testing.assert_close(warped, image, atol=0.002, rtol=0)
    assert trust.min() > 0.99 and shown.min() > 0.99


def test_episodes_are_stacked_to_batches(folder: Path):
    data = episodes(folder)
    batch = default_collate([data[i] for i in range(4)])
    size = CONFIG.image_size
    assert batch["shots"].shape == (4, 3, 3, size, size)
    assert batch["weights"].shape == (4, 1, size, size)
    assert batch["identity"].shape == (4,)
    assert torch.equal(batch["image"][2], data[2]["image"])


def test_nothing_is_shared_between_episodes(folder: Path):
    data = episodes(folder)
    first = data[0]
    kept = {name: value.clone() for name, value in first.items()}
    for value in first.values():
        value.zero_()
    assert all(torch.equal(value, kept[name]) for name, value in data[0].items())


def test_fine_tuning_changes_neither_colours_nor_framing():
    frames, landmarks = cropped(3, 1.0)
    clip = make_clip(frames, landmarks, ClipMeta("ada", "photos", kind="stills"))
    config = replace(CONFIG, image_size=CROP, jitter=0.0, mirror=0.0, animated_share=0.0)
    episode = EpisodeDataset([clip], config, 1)[0]
    originals = [to_float(clip.frame(k, CROP)[0])[0] for k in range(3)]
    assert min(float((episode["image"] - original).abs().max()) for original in originals) < 1e-4


# --------------------------------------------------------------------------------------------------- augmentation


def test_mirroring_twice_changes_nothing():
    assert np.array_equal(MIRROR[MIRROR], np.arange(NUM_LANDMARKS))
    landmarks = cropped(3, 1.0)[1]
    mirrored = mirror_landmarks(landmarks, CROP)
    assert not np.allclose(mirrored, landmarks)
    np.testing.assert_allclose(mirror_landmarks(mirrored, CROP), landmarks, atol=1e-4)


def test_mirrored_landmarks_are_those_of_the_mirrored_picture():
    frames, landmarks = cropped(3, 1.0)
    for frame, points in zip(frames, landmarks, strict=True):
        again = find_faces(np.ascontiguousarray(frame[:, ::-1]), detector())[0]
        errors = np.linalg.norm(again - mirror_landmarks(points, CROP), axis=1) / eye_distance(points)
        assert errors.mean() < 0.04
        assert errors.max() < 0.15  # no pair is interchanged: the nearest ones lie further apart


def test_a_similarity_moves_pixels_and_landmarks_alike():
    frames, landmarks = cropped(3, 1.0)
    for seed in range(4):
        matrix = random_similarity(np.random.default_rng(seed), CROP, 1.0)
        moved, points = apply_similarity(to_float(frames), landmarks, matrix)
        assert points.dtype == np.float32 and moved.shape == (3, 3, CROP, CROP)
        again = find_faces(to_uint8(moved)[0], detector())[0]
        assert np.linalg.norm(again - points[0], axis=1).mean() < 0.04 * eye_distance(points[0])


def test_a_similarity_of_strength_zero_is_the_identity():
    frames, landmarks = cropped(3, 1.0)
    matrix = random_similarity(np.random.default_rng(0), CROP, 0.0)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    moved, points = apply_similarity(to_float(frames), landmarks, matrix)
    torch.testing.assert_close(moved, to_float(frames), atol=1e-4, rtol=0)
    np.testing.assert_allclose(points, landmarks, atol=1e-4)


def test_a_similarity_hits_the_exact_pixel():
    """A single bright pixel, moved by whole pixels and turned by a quarter about the centre."""
    image = torch.full((1, 3, 9, 9), -1.0)
    image[:, :, 2, 6] = 1.0
    points = np.tile(np.float32([6, 2]), (1, NUM_LANDMARKS, 1))
    quarter = np.array([[0.0, -1.0, 8.0], [1.0, 0.0, 0.0]])
    for matrix in (np.array([[1.0, 0, 2], [0, 1.0, -1]]), quarter):
        moved, there = apply_similarity(image, points, matrix)
        x, y = there[0, 0].round().astype(int)
        assert moved[0, 0, y, x] == pytest.approx(1.0, abs=1e-4)
        assert int((moved[0, 0] > 0).sum()) == 1


class Still(np.random.Generator):
    """Draws the middle of every distribution: no motion."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def normal(self, loc=0.0, scale=1.0, size=None):
        spread = np.broadcast_to(np.asarray(scale), np.shape(scale) if size is None else np.atleast_1d(size))
        return loc + 0 * spread if spread.shape else float(loc)

    def random(self, *_):
        return 0.99

    def uniform(self, *_):
        return 1.0


def test_motion_without_noise_leaves_a_face_as_it_is():
    for points in cropped(3, 1.0)[1]:
        np.testing.assert_allclose(random_motion(points, Still()), points, atol=1e-3)


def test_random_motion_is_finite_moderate_and_varied():
    points = cropped(3, 1.0)[1][0]
    before = points.copy()
    rng = np.random.default_rng(0)
    moved = np.stack([random_motion(points, rng) for _ in range(200)])
    assert moved.dtype == np.float32 and moved.shape == (200, NUM_LANDMARKS, 2)
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(points, before)
    shift = np.linalg.norm(moved - points, axis=-1).mean(axis=1) / eye_distance(points)
    assert 0.1 < np.median(shift) < 0.5
    assert shift.max() < 1.5
    sizes = eye_distance(moved) / eye_distance(points)
    assert sizes.min() > 0.7 and sizes.max() < 1.3
    gaps = np.linalg.norm(moved[:, 66] - moved[:, 62], axis=-1)
    assert gaps.min() < 1.0  # some mouths close
    own = np.linalg.norm(points[66] - points[62])
    assert (gaps > 1.2 * own).any()  # and some open further
    again = random_motion(points, np.random.default_rng(7))
    np.testing.assert_array_equal(again, random_motion(points, np.random.default_rng(7)))


def test_weights_stress_face_mouth_and_eyes():
    points = cropped(3, 1.0)[1][0]
    weights = weight_map(points, CROP, face=2.0, mouth=8.0, eyes=5.0)
    assert weights.dtype == np.float32 and weights.shape == (1, CROP, CROP)
    assert set(np.unique(weights)) == {1.0, 3.0, 6.0, 9.0}
    for part, value in ((INNER_LIP, 9), (OUTER_LIP, 9), (RIGHT_EYE, 6), (LEFT_EYE, 6), (NOSE_BRIDGE, 3)):
        x, y = points[part].mean(axis=0).round().astype(int)
        assert weights[0, y, x] == value
    assert weights[0, 0, 0] == 1
    outside = weight_map(points + 10 * CROP, CROP, face=2.0, mouth=8.0, eyes=5.0)
    assert (outside == 1).all()
    assert (weight_map(points, CROP, face=0.0, mouth=0.0, eyes=0.0) == 1).all()


def test_worn_photos_lose_detail_and_nothing_else():
    images = to_float(cropped(3, 1.0)[0])
    for seed in range(4):
        poor = worn(images, np.random.default_rng(seed))
        assert poor.shape == images.shape and poor.dtype == images.dtype
        torch.testing.assert_close(poor.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.03, rtol=0)
        assert 0.005 < (poor - images).abs().mean() < 0.2
        assert sharpness(to_uint8(poor)[0]) < sharpness(to_uint8(images)[0])
        torch.testing.assert_close(worn(images, np.random.default_rng(seed)), poor, atol=0, rtol=0)


def test_only_shots_are_worn_never_the_target():
    frames, landmarks = cropped(3, 1.0)
    clip = make_clip(frames, landmarks, ClipMeta("ada", "photos", kind="stills"))
    plain, poor = (
        EpisodeDataset([clip], replace(CONFIG, image_size=CROP, worn_share=share), 1)[0] for share in (0.0, 1.0)
    )
    assert (plain["shots"] - poor["shots"]).abs().mean() > 0.005
    torch.testing.assert_close(plain["image"], poor["image"], atol=0, rtol=0)


def test_colours_change_alike_in_all_frames_and_stay_in_range():
    images = to_float(cropped(3, 1.0)[0])
    twice = torch.cat([images, images])
    changed = random_colours(twice, np.random.default_rng(3), 1.0)
    assert changed.min() >= -1 and changed.max() <= 1
    torch.testing.assert_close(changed[:3], changed[3:])
    assert (changed - twice).abs().mean() > 0.01
    torch.testing.assert_close(random_colours(twice, np.random.default_rng(3), 0.0), twice, atol=1e-5, rtol=0)


def test_a_configuration_is_a_value():
    assert preset("tiny") == preset("tiny") and preset("tiny") != preset("tiny", seed=1)
    assert preset("paper") == MetaConfig()
    with pytest.raises(ValueError, match="unknown preset 'huge'; choose one of tiny, default, paper"):
        preset("huge")
