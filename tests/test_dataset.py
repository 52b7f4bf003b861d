"""Episodes: a function of (seed, index), of one person, with landmarks that lie where the pixels say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from people import CROP, cropped, write_people
from torch.utils.data import default_collate

from talking_heads.drawing import draw_landmarks
from talking_heads.errors import UnreadableMediaError
from talking_heads.media.images import to_float
from talking_heads.models.generator import RENDER_CHANNELS
from talking_heads.tracking.detectors import LandmarkDetector
from train.config import MetaConfig, preset
from train.data.clips import Clip, ClipMeta, make_clip
from train.data.episodes import EpisodeDataset
from train.data.photo_animation import animatable_photo, animate
from train.data.store import load_clips

pytestmark = pytest.mark.slow

CONFIG = preset("tiny", num_shots=3)
PLAIN = replace(CONFIG, image_size=CROP, jitter=0.0, mirror=0.0)
TINTS = {"ada": 1.0, "bob": 0.8, "cy": 0.6, "dora": 0.4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips"))


def clip_of(folder: Path, source: str) -> Clip:
    (clip,) = [clip for clip in load_clips(folder) if clip.meta.source == source]
    return clip


def unconditioned(config: MetaConfig) -> MetaConfig:
    """The configuration for the paper's generator, which takes no render."""
    generator = config.model.generator | {"render_conditioned": False}
    return replace(config, model=replace(config.model, generator=generator))


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
        assert episode["render"].shape == (RENDER_CHANNELS, size, size)
        assert episode["chip"].shape == (2, 3)
        assert episode["weights"].shape == episode["known"].shape == (1, size, size)
        for name, value in episode.items():
            assert torch.isfinite(value).all(), name
            if name not in ("weights", "known", "identity", "chip"):
                assert value.dtype == torch.float32 and value.abs().max() <= 1 + 1e-5, name
        assert episode["render"][6].min() >= 0 and episode["render"][8].min() >= 0
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
    assert not torch.equal(forwards[0]["image"], forwards[4]["image"])


def test_shots_and_target_are_of_the_person_that_identity_says(folder: Path):
    data = episodes(folder, jitter=0.0)
    assert data.identities == {"ada": 0, "bob": 1, "cy": 2}
    usual = redness(to_float(clip_of(folder, "ada1.mp4").frame(0, CROP)[0])[0])
    seen = Counter()
    for index in range(0, 56, 4):
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


def test_a_group_shares_its_first_shot_and_not_its_targets(folder: Path):
    data = EpisodeDataset([clip_of(folder, "ada1.mp4")], replace(PLAIN, candidates=1), 100)
    for group in range(3):
        members = [data[4 * group + k] for k in range(4)]
        assert all(torch.equal(member["shots"][0], members[0]["shots"][0]) for member in members)
        assert len({member["image"].numpy().tobytes() for member in members}) == 4
        assert len(data._sources) <= PLAIN.batch_size


def test_a_group_with_more_members_than_pairs_is_seen_in_another_way(folder: Path):
    clip = clip_of(folder, "ada1.mp4")
    few = replace(make_clip(*(part[:2] for part in cropped(8, 1.0)), clip.meta), meta=clip.meta)
    data = EpisodeDataset([few], replace(CONFIG, image_size=CROP), 10)
    assert len({data[k]["image"].numpy().tobytes() for k in range(4)}) == 4


def test_shots_are_other_frames_than_the_target(folder: Path):
    """Real frames where there are enough; with fewer than K others they repeat; now and then one stands for all."""
    alone = []
    for clip in load_clips(folder):
        if len(clip) < 3:
            continue
        data = EpisodeDataset([clip], PLAIN, 100)
        for index in range(0, 40, 4):
            episode = data[index]
            assert all(not torch.equal(shot, episode["image"]) for shot in episode["shots"])
            distinct = len({shot.numpy().tobytes() for shot in episode["shots"]})
            alone.append(distinct == 1)
            assert distinct in ((1, 3) if len(clip) > 3 else (1, 2))
    assert 0 < sum(alone) < 0.6 * len(alone)


def test_the_target_of_an_animated_still_is_mostly_the_untouched_photo(folder: Path):
    clip = clip_of(folder, "cy.mp4")
    photo = to_float(clip.frame(0, CROP)[0])[0]
    data = EpisodeDataset([clip], unconditioned(PLAIN), 1000)
    targets = shots = 0
    for index in range(0, 400, 4):
        episode = data[index]
        is_target, is_shot = (torch.equal(episode[name][..., :, :, :].reshape(-1, 3, CROP, CROP)[0], photo)
                              for name in ("image", "shots"))  # fmt: skip
        assert is_target != is_shot
        targets, shots = targets + is_target, shots + is_shot
    assert targets / 100 == pytest.approx(PLAIN.real_targets, abs=0.12)
    # All targets of a group are the photo, and their shots are different copies.
    always = EpisodeDataset([clip], unconditioned(replace(PLAIN, real_targets=1.0)), 100)
    members = [always[k] for k in range(3)]
    assert all(torch.equal(member["image"], photo) for member in members)
    assert len({member["shots"][0].numpy().tobytes() for member in members}) == 3


def test_films_and_drawn_pictures_do_not_say_what_is_between_lips_nor_drawn_ones_what_lids_are_like(folder: Path):
    animated = clip_of(folder, "cy.mp4")
    film = replace(animated, meta=replace(animated.meta, kind="video"))
    photos, copies = ((replace(PLAIN, real_targets=share), animated) for share in (1.0, 0.0))
    for config, clip, lips, eyes in ((*photos, True, True), (*copies, False, False), (PLAIN, film, False, True)):
        episode = EpisodeDataset([clip], config, 4)[0]
        known = episode["known"][0]
        # Landmarks of the target, found again by its picture.
        (points,) = [
            points for points in (clip.frame(k, CROP) for k in range(len(clip)))
            if torch.equal(to_float(points[0])[0], episode["image"])
        ]  # fmt: skip
        x, y = np.round(points[1]).astype(int).T
        assert known[y[60:68], x[60:68]].all() == lips and known[y[60:68], x[60:68]].any() == lips
        assert known[y[36:48], x[36:48]].all() == eyes and known[y[36:48], x[36:48]].any() == eyes
        assert known[y[:17].clip(max=CROP - 1), x[:17]].all() and known[y[30], x[30]]


def test_a_lone_photo_is_its_own_target_and_gives_way_to_the_person_in_motion(folder: Path):
    animated, still = clip_of(folder, "cy.mp4"), clip_of(folder, "bob.mp4")
    episode = EpisodeDataset([still], PLAIN, 4)[0]
    photo = to_float(still.frame(0, CROP)[0])[0]
    torch.testing.assert_close(episode["image"], photo)
    assert ((episode["render"][:3] - photo).abs() < 0.02).float().mean() > 0.98
    same = replace(still, meta=replace(still.meta, person=animated.meta.person))
    assert EpisodeDataset([animated, same], CONFIG, 1).stills == [[animated]]
    assert EpisodeDataset([same], CONFIG, 1).stills == [[same]]


def test_the_render_lies_on_the_target(astronaut: np.ndarray, detector: LandmarkDetector):
    """Nearer than the first shot does, and so do its landmarks."""
    canvases, masks, landmarks, _ = animate(
        animatable_photo(astronaut, detector), detector, 6, np.random.default_rng(0)
    )
    clip = make_clip(canvases, masks, landmarks, ClipMeta("ada", "ada.png", kind="animated"))
    size = 128
    data = EpisodeDataset([clip], replace(PLAIN, image_size=size, num_shots=1, real_targets=0.0), 100)
    images = [to_float(clip.frame(k, size)[0])[0] for k in range(len(clip))]
    for index in range(3):
        episode = data[index]
        weights = episode["weights"]
        (target,) = [k for k, image in enumerate(images) if torch.equal(image, episode["image"])]
        before = ((episode["shots"][0] - episode["image"]).abs() * weights).mean()
        after = ((episode["render"][:3] - episode["image"]).abs() * weights).mean()
        assert after < 0.5 * before
        assert (episode["render"][3:6] - episode["shots"][0]).abs().mean() < 0.01
        drawn = to_float(draw_landmarks(clip.frame(target, size)[1], size))[0]
        lines = [(image - drawn).abs().mean() for image in (episode["landmark_image"], episode["shot_landmarks"][0])]
        assert lines[0] < 0.7 * lines[1]


def test_a_mirrored_episode_is_the_mirror_image(folder: Path):
    clip = clip_of(folder, "ada1.mp4")
    plain, mirrored = (EpisodeDataset([clip], replace(PLAIN, mirror=share), 4)[0] for share in (0.0, 1.0))
    for name in ("image", "shots"):
        torch.testing.assert_close(mirrored[name].flip(-1), plain[name])
    assert (mirrored["render"][:3].flip(-1) - plain["render"][:3]).abs().mean() < 0.02
    assert (mirrored["weights"].flip(-1) - plain["weights"]).abs().mean() < 0.1
    red_and_green = [1, 0, 2]  # brows and eyes have colours of their own: what was red is green
    swapped = mirrored["landmark_image"].flip(-1)[red_and_green]
    assert (swapped - plain["landmark_image"]).abs().mean() < 0.4 * (plain["landmark_image"] + 1).mean()


def test_without_render_conditioning_no_head_is_built(folder: Path):
    clip = clip_of(folder, "ada1.mp4")
    episode = EpisodeDataset([clip], unconditioned(PLAIN), 4)[0]
    assert episode["render"].shape == (0, CROP, CROP)
    drawings = [to_float(draw_landmarks(clip.frame(k, CROP)[1], CROP))[0] for k in range(len(clip))]
    assert any(torch.equal(episode["landmark_image"], drawing) for drawing in drawings)


def bent(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks of no face."""
    result = landmarks.copy()
    result[..., 0] += 0.1 * np.sin(40 * result[..., 1])
    return result


def test_what_cannot_be_fitted_is_replaced(folder: Path):
    """A target that the face model misses never comes; a clip of nothing else gives way to another one."""
    canvases, masks, landmarks = cropped(8, 1.0)
    spoiled = landmarks.copy()
    spoiled[1:4] = bent(spoiled[1:4])
    clip = make_clip(canvases, masks, spoiled, ClipMeta("ada", "ada.mp4"))
    bad = [to_float(clip.frame(k, CROP)[0])[0] for k in (1, 2, 3)]
    data = EpisodeDataset([clip], replace(PLAIN, candidates=4), 100)
    for index in range(0, 32, 4):
        episode = data[index]
        assert not any(torch.equal(image, other) for image in bad for other in (episode["image"], episode["shots"][0]))
    hopeless = make_clip(canvases, masks, bent(landmarks), ClipMeta("bob", "bob.mp4"))
    both = EpisodeDataset([clip, hopeless], PLAIN, 100)
    assert {int(both[index]["identity"]) for index in range(0, 16, 4)} == {0}
    assert torch.isfinite(EpisodeDataset([hopeless], PLAIN, 4)[0]["render"]).all()  # there is nothing else


def test_another_photo_is_a_target_within_the_face_alone(folder: Path):
    canvases, masks, landmarks = cropped(8, 1.0)
    darker = (canvases * 0.8).astype(np.uint8)
    meta = ClipMeta("ada", "photos", kind="stills")
    clip = make_clip([canvases[0], darker[5]], masks[[0, 5]], landmarks[[0, 5]], meta)
    data = EpisodeDataset([clip], PLAIN, 8)
    for index in range(2):
        episode = data[index]
        outside = (episode["weights"] == 0).expand(3, -1, -1)
        assert 0.3 < outside.float().mean() < 0.95
        torch.testing.assert_close(episode["image"][outside], episode["render"][:3][outside], atol=0.01, rtol=0)
        face = ~outside
        difference = (episode["image"] - episode["render"][:3])[face]
        assert difference.abs().mean() < 0.1  # in the light of the first shot
    assert not torch.equal(data[0]["shots"][0], data[1]["shots"][0])


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


def test_without_jitter_pictures_are_those_of_the_clip():
    clip = make_clip(*cropped(3, 1.0), ClipMeta("ada", "photos", kind="video"))
    episode = EpisodeDataset([clip], PLAIN, 1)[0]
    originals = [to_float(clip.frame(k, CROP)[0])[0] for k in range(3)]
    for image in (episode["image"], episode["shots"][0]):
        assert min(float((image - original).abs().max()) for original in originals) < 1e-4


def test_only_shots_are_degraded_never_the_target():
    clip = make_clip(*cropped(3, 1.0), ClipMeta("ada", "photos", kind="video"))
    plain, poor = (
        EpisodeDataset([clip], replace(CONFIG, image_size=CROP, degraded_share=share), 1)[0] for share in (0.0, 1.0)
    )
    assert (plain["shots"] - poor["shots"]).abs().mean() > 0.005
    assert (plain["render"][:3] - poor["render"][:3]).abs().mean() > 0.005
    torch.testing.assert_close(plain["image"], poor["image"], atol=0, rtol=0)


def test_a_configuration_is_a_value():
    assert preset("tiny") == preset("tiny") and preset("tiny") != preset("tiny", seed=1)
    assert preset("paper") == MetaConfig(discriminator_steps=2, mirror=0.0, jitter=0.0)  # as the paper trains
    with pytest.raises(ValueError, match="unknown preset 'huge'; choose one of tiny, default, paper"):
        preset("huge")
