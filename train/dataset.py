"""Episodes: K shots and one target of one person, as the networks take them.

An episode is a function of (seed, index): the same on every machine, whatever was drawn before it. A run that goes on
after an interruption asks for the indices that it has not seen. Counted up, they pass through epochs: in each everybody
comes once, in an order of its own, and each clip of a person once in as many epochs as there are clips of that person.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from talking_heads.drawing import draw_landmarks
from talking_heads.errors import UnreadableMediaError
from talking_heads.images import to_float
from talking_heads.landmarks import mirror_landmarks
from talking_heads.motion import describe
from talking_heads.warping import landmarks_to_tensor, source_planes, warp_photo

from .augment import (
    apply_similarity,
    random_colours,
    random_motion,
    random_similarity,
    weight_map,
    worn,
)
from .clips import Clip, load_clips
from .config import MetaConfig

REAL_TARGETS, REAL_SHOTS = 0.35, 0.4
"""Shares of a puppet's episodes whose target, and whose first shot, is its frame 0, the untouched photo. The one
teaches what real pixels look like, the other is what happens in use: a photo that has to blink, speak and turn."""


class Episode(TypedDict):
    """One sample; the loader stacks B of them."""

    shots: Tensor
    """(K, 3, H, W): photos of the person."""
    shot_landmarks: Tensor
    """(K, 3, H, W): their landmark images."""
    image: Tensor
    """(3, H, W): the target x."""
    landmark_image: Tensor
    """(3, H, W): its landmark image y."""
    source: Tensor
    """(SOURCE_CHANNELS, H, W): what the generator sees of the first shot, see ``warping.source_planes``."""
    weights: Tensor
    """(1, H, W): of the pixel term."""
    identity: Tensor
    """(): which column of W."""


class EpisodeDataset(Dataset[Episode]):
    """Endless in principle: ``length`` only says how many a run will ask for."""

    def __init__(self, clips: list[Clip], config: MetaConfig, length: int) -> None:
        self.config = config
        self.length = length
        names = sorted({clip.meta.identity for clip in clips})
        self.identities = {name: i for i, name in enumerate(names)}
        self.contents = contents(clips)
        # A person counts once, however many clips there are of him or her.
        self.videos = _by_identity([clip for clip in clips if clip.meta.kind == "video"])
        self.stills = _by_identity([clip for clip in clips if clip.meta.kind != "video"])
        # A photo that stands alone could only be moved by the very warp that is to be corrected: where the person is
        # there in motion, that teaches more.
        self.stills = [[clip for clip in person if len(clip) > 1] or person for person in self.stills]

    @classmethod
    def from_folders(cls, folders: list[Path], config: MetaConfig, length: int, split: str = "train") -> EpisodeDataset:
        """All prepared clips of a split below the folders; one that holds none of it adds nothing."""
        clips = [clip for folder in folders for clip in load_clips(folder, split=None) if clip.meta.split == split]
        if not clips:
            places = ", ".join(map(str, folders))
            raise UnreadableMediaError(f"There are no clips of the split {split!r} in {places}. Prepare some.")
        return cls(clips, config, length)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Episode:
        config = self.config
        rng = np.random.default_rng([config.seed, index])
        clip = self.clip_of(index)
        frames, landmarks = self._draw_frames(clip, rng)
        size = config.image_size
        if rng.random() < config.mirror:
            frames, landmarks = frames.flip(-1), mirror_landmarks(landmarks, size)
        frames, landmarks = apply_similarity(frames, landmarks, random_similarity(rng, size, config.jitter))
        frames = random_colours(frames, rng, config.jitter)
        if rng.random() < config.worn_share:
            frames = torch.cat([worn(frames[:-1], rng), frames[-1:]])
        drawn = to_float(draw_landmarks(landmarks, size))  # (K + 1, 3, H, W)
        points = landmarks_to_tensor(landmarks)
        source = source_planes(frames[:1], points[:1], points[-1:])
        weights = weight_map(landmarks[-1], size, config.face_weight, config.mouth_weight, config.eye_weight)
        return Episode(
            shots=frames[:-1],
            shot_landmarks=drawn[:-1],
            image=frames[-1],
            landmark_image=drawn[-1],
            source=source[0],
            weights=torch.from_numpy(weights),
            identity=torch.tensor(self.identities[clip.meta.identity]),
        )

    def portraits(self, first: int = 0, every: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
        """One shot of each person: column of W, image (3, H, W) and landmark image (3, H, W).

        Of the people ``first``, ``first + every`` and so on: processes can share them out.
        """
        size = self.config.image_size
        clips = {person[0].meta.identity: person[0] for person in (*self.videos, *self.stills)}
        for name in islice(self.identities, first, None, every):
            pixels, points = clips[name].frame(0, size)
            drawn = draw_landmarks(points, size)
            yield self.identities[name], to_float(pixels)[0], to_float(drawn)[0]

    def clip_of(self, index: int) -> Clip:
        """The clip of an episode; photos and puppets come between the videos at even distances."""
        seed, share = self.config.seed, self.config.stills_share
        if not (self.stills and self.videos):
            share = 1.0 if self.stills else 0.0
        earlier = math.floor(index * share)  # episodes from stills
        stills = math.floor((index + 1) * share) > earlier
        people, turn = (self.stills, earlier) if stills else (self.videos, index - earlier)
        epoch, place = divmod(turn, len(people))
        person = _shuffled(len(people), seed, int(stills), epoch)[place]
        clips = people[person]
        again, place = divmod(epoch, len(clips))
        return clips[_shuffled(len(clips), seed, int(stills), again, int(person))[place]]

    def _draw_frames(self, clip: Clip, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
        """K shots, then the target: (K + 1, 3, H, W) and landmarks (K + 1, L, 2)."""
        size, shots = self.config.image_size, self.config.num_shots
        shot, target = self._draw_pair(clip, rng)
        pixels, points = clip.frame(target, size)
        image = to_float(pixels)
        if len(clip) == 1 or rng.random() < self.config.animated_share:
            moved = np.stack([random_motion(points, rng) for _ in range(shots)])
            start = landmarks_to_tensor(points).expand(shots, -1, -1)
            animated, _, _ = warp_photo(image.expand(shots, -1, -1, -1), start, landmarks_to_tensor(moved))
            return torch.cat([animated, image]), np.concatenate([moved, points[None]])
        others = np.setdiff1d(np.arange(len(clip)), [shot, target])
        others = others if len(others) else np.array([shot])
        more = rng.choice(others, shots - 1, replace=len(others) < shots - 1)
        pairs = [clip.frame(int(i), size) for i in (shot, *more)] + [(pixels, points)]
        return to_float(np.stack([pair[0] for pair in pairs])), np.stack([pair[1] for pair in pairs])

    def _draw_pair(self, clip: Clip, rng: np.random.Generator) -> tuple[int, int]:
        """The first shot, which is warped, and the target: of some random frames the one that differs most from it."""
        if len(clip) == 1:
            return 0, 0
        shot = int(rng.integers(len(clip)))
        if clip.meta.kind == "puppet":
            draw = rng.random()
            if draw < REAL_TARGETS:
                return int(rng.integers(1, len(clip))), 0
            if draw < REAL_TARGETS + REAL_SHOTS:
                shot = 0
        others = np.delete(np.arange(len(clip)), shot)
        candidates = rng.choice(others, min(self.config.candidates, len(others)), replace=False)
        start = describe(clip.landmarks[shot])
        return shot, int(max(candidates, key=lambda i: np.linalg.norm(describe(clip.landmarks[i]) - start)))


def contents(clips: Iterable[Clip]) -> list[dict[str, Any]]:
    """What a model card says of the data: clips, people and frames of each kind and licence."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.meta.kind, clip.meta.licence), []).append(clip)
    return [
        {
            "kind": kind,
            "licence": licence,
            "clips": len(group),
            "people": len({clip.meta.identity for clip in group}),
            "frames": sum(map(len, group)),
        }
        for (kind, licence), group in sorted(groups.items())
    ]


@lru_cache(maxsize=16)  # an epoch's order is asked for once a sample
def _shuffled(number: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(number)


def _by_identity(clips: list[Clip]) -> list[list[Clip]]:
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.meta.identity, []).append(clip)
    return [groups[name] for name in sorted(groups)]
