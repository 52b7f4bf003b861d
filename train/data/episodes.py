"""Episodes: K shots and one target of one person, as the networks take them.

An episode is a function of (seed, index): the same on every machine, whatever was drawn before it. A run that goes on
after an interruption asks for the indices that it has not seen. Consecutive indices form groups: one first shot, whose
head is built, and as many targets; heads are kept for the group's other members. Counted up, groups pass through
epochs: in each everybody comes once, in an order of its own, and each clip of a person once in as many epochs as there
are clips of that person.

The target is real wherever it can be: of an animated still it is mostly the untouched photo, and the first shot an
animated copy. So the generator learns what a render lacks, from pixels that no renderer made.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from talking_heads.drawing import draw_landmarks
from talking_heads.errors import UnreadableMediaError
from talking_heads.head.fit import FrameFit, FrameFitter, face_extent, pose_at_rest
from talking_heads.head.head import Head
from talking_heads.head.model import face_model
from talking_heads.head.motion import head_angles
from talking_heads.head.person_fit import PersonFit, fit_person
from talking_heads.head.photo import MARGIN
from talking_heads.head.render import Renderer
from talking_heads.landmarks import NAMED
from talking_heads.media.images import to_float

from ..config import MetaConfig
from ..identity_net import chip_transform
from .augment import View, degraded, face_mask, match_colours, unknown_parts, weight_map
from .clips import Clip, canvas_side
from .store import load_clips

ALONE = 0.25
"""Share of groups whose shots are all the first one, as when one photo is all there is."""
MAX_ERROR = 0.03
"""Limit for the error of a fit, and of the render's landmarks, in sizes of the face; pairs above it are replaced."""
MAX_DIFFERENCE = 0.06
"""Mean difference of the colours, 0..1, between another photo's face and the one that is drawn for it."""
TRIES = 6
STEPS, STEPS_BETWEEN_PHOTOS = 8, 24
"""Steps of the fit of a target: in the first shot's crop, and in a crop of its own."""
MIN_ANALYSIS = 128
"""Pixels at which a photo is taken apart, at least."""


class Episode(TypedDict):
    """One sample; the loader stacks B of them."""

    shots: Tensor
    """(K, 3, H, W): photos of the person."""
    shot_landmarks: Tensor
    """(K, 3, H, W): their landmark images."""
    image: Tensor
    """(3, H, W): the target x."""
    landmark_image: Tensor
    """(3, H, W): its landmark image y; of the posed head where there is one."""
    render: Tensor
    """(RENDER_CHANNELS, H, W): the head of the first shot, posed as the target, see ``Rendered.generator_planes``;
    (0, H, W) for a generator that takes none."""
    weights: Tensor
    """(1, H, W): of the pixel term."""
    known: Tensor
    """bool (1, H, W): where the target says how the person looks. Elsewhere whatever is painted is right."""
    chip: Tensor
    """(2, 3): where in the target the face is, see ``identity_net.chip_transform``."""
    identity: Tensor
    """(): which column of W."""


@dataclass(frozen=True)
class _Plan:
    """The frames and the augmentation of one episode."""

    clip: Clip
    view: View
    source: int
    """Frame of the first shot."""
    others: tuple[int, ...]
    """Frames of the other shots."""
    targets: tuple[int, ...]
    """Frames that the target may be; the first one that can be fitted is taken."""
    degrade: int | None
    """Seed of what the shots have lost, None for nothing."""
    turn: int
    """How often the group has been through its pairs."""


@dataclass(frozen=True)
class _Source:
    """Shots and head that the targets of a group share."""

    shots: np.ndarray
    """uint8 (K, H, W, 3)."""
    landmarks: np.ndarray
    """float32 (K, L, 2) in pixels."""
    renderer: Renderer | None
    """None without render conditioning, or where the fit fails."""
    fitter: FrameFitter | None
    start: FrameFit | None


class EpisodeDataset(Dataset[Episode]):
    """Endless in principle: ``length`` only says how many a run will ask for."""

    def __init__(self, clips: list[Clip], config: MetaConfig, length: int) -> None:
        self.config = config
        self.length = length
        self.rendered = bool(config.model.generator.get("render_conditioned", False))
        names = sorted({clip.meta.person for clip in clips})
        self.identities = {name: i for i, name in enumerate(names)}
        self.contents = contents(clips)
        # A person counts once, however many clips there are of him or her.
        self.videos = _by_person([clip for clip in clips if clip.meta.kind == "video"])
        self.stills = _by_person([clip for clip in clips if clip.meta.kind != "video"])
        # A photo that stands alone teaches no movement.
        self.stills = [[clip for clip in person if len(clip) > 1] or person for person in self.stills]
        self._sources: OrderedDict[tuple[int, ...], _Source] = OrderedDict()

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
        group, member = divmod(index, self.config.targets_per_head)
        for attempt in range(TRIES):
            plan = self._plan(group, member, attempt)
            episode = self._episode(plan, (group, attempt), math.inf if attempt == TRIES - 1 else MAX_ERROR)
            if episode is not None:
                return episode
        raise AssertionError("any error is accepted in the end")

    def _plan(self, group: int, member: int, attempt: int) -> _Plan:
        config = self.config
        clip = self.clip_of(group + attempt)
        number, kind = len(clip), clip.meta.kind
        draw = np.random.default_rng([config.seed, group, attempt]).random()
        real_target = kind == "animated" and number > 1 and draw < config.real_targets
        # Frames left for other shots than the first one, and for targets; a target is no shot.
        left = number - 1 - real_target
        spare = max(0, min(config.num_shots - 1, left if real_target else left - 1))
        pairs = number - real_target if kind == "stills" or real_target else left - spare
        # The same for all members, save where there are more members than pairs.
        turn, member = divmod(member, max(1, pairs))
        rng = np.random.default_rng([config.seed, group, attempt, turn])
        view = View.random(rng, config.mirror, config.jitter)
        degrade, degraded_too = int(rng.integers(2**31)), rng.random() < config.degraded_share
        alone = rng.random() < ALONE
        order = rng.permutation(number)
        if real_target:
            order = np.roll(order[order > 0], -member)
            source, others, targets = order[0], order[1 : 1 + spare], np.array([0])
        else:
            if kind == "animated":  # the photo is the first shot
                order = np.concatenate([[0], order[order > 0]])
            elif kind == "stills":  # few pairs: each photo is the first shot once
                order = np.roll(order, -member)
            source, others, targets = order[0], order[1 : 1 + spare], order[1 + spare :]
            if kind != "stills":
                targets = np.roll(targets, -member)
        if kind == "video":
            targets = self._most_different(clip, int(source), targets[: config.candidates])
        if alone or not len(others):
            others = np.array([source])
        return _Plan(
            clip,
            view,
            source=int(source),
            others=tuple(int(others[i % len(others)]) for i in range(config.num_shots - 1)),
            targets=tuple(map(int, targets)) or (int(source),),
            degrade=degrade if degraded_too else None,
            turn=turn,
        )

    def _most_different(self, clip: Clip, source: int, candidates: np.ndarray) -> np.ndarray:
        """The candidates, the one that differs most in pose and expression first: frames of a speaking person are much
        alike, and what is alike teaches nothing."""
        if len(candidates) < 2:
            return candidates
        start = _described(clip, source)
        return np.array(sorted(candidates, key=lambda i: -np.linalg.norm(_described(clip, int(i)) - start)))

    def _episode(self, plan: _Plan, group: tuple[int, ...], limit: float) -> Episode | None:
        """None where the head, or every target, is further off than ``limit``."""
        config, clip, view = self.config, plan.clip, plan.view
        size = config.image_size
        source = self._source(plan, group, limit)
        if self.rendered and source.renderer is None:
            return None
        for target in plan.targets[: config.candidates]:
            points = view.landmarks(clip.landmarks[target])  # sides of the crop
            if source.renderer is None:
                break
            assert source.fitter is not None and source.start is not None
            steps = STEPS if clip.meta.kind != "stills" else STEPS_BETWEEN_PHOTOS
            frame = source.start if target == plan.source else source.fitter.fit(points, source.start, steps)
            if frame.error > limit:
                continue
            drawn = source.renderer.draw(frame)
            off = np.linalg.norm((drawn.landmarks + 0.5) / size - points, axis=1)[NAMED].mean() / face_extent(points)
            if off <= limit:
                break
        else:
            return None
        image = view.picture(clip.canvas(target, size), 0.0, 1.0, size)
        pixels = points * size - np.float32(0.5)
        weights = weight_map(pixels, size, config.face_weight, config.mouth_weight, config.eye_weight)
        drawing, render = pixels, torch.empty(0, size, size)
        known = np.ones((1, size, size), bool)
        if source.renderer is not None:
            drawing, render = drawn.landmarks_at(size), torch.from_numpy(drawn.generator_planes(size))
            drawn_target = clip.meta.kind == "animated" and target > 0
            if drawn_target or clip.meta.kind == "video":
                # Teeth of films are small and blurred: what they teach is to fill a mouth with grey. What was drawn
                # between lips and on lids teaches nothing.
                known = ~unknown_parts([pixels, drawing], size, eyes=drawn_target)
            if clip.meta.kind == "stills" and target != plan.source:
                # Another photo has another light, and other things around the face.
                face = face_mask(pixels, size)
                matched = match_colours(image, drawn.picture, face[0]).astype(np.float32)
                if np.abs(matched - drawn.picture)[face[0] > 0].mean() > 255 * limit * MAX_DIFFERENCE / MAX_ERROR:
                    return None  # another haircut, a beard, other glasses
                soft = ndimage.gaussian_filter(face[0], size / 64)[..., None] * face[0][..., None]
                blended = drawn.picture + soft * (matched - drawn.picture)
                image, weights = (blended + 0.5).clip(0, 255).astype(np.uint8), weights * face
        lines = to_float(draw_landmarks(np.concatenate([source.landmarks, drawing[None]]), size))  # (K + 1, 3, H, W)
        return Episode(
            shots=to_float(source.shots),
            shot_landmarks=lines[:-1],
            image=to_float(image)[0],
            landmark_image=lines[-1],
            render=render,
            weights=torch.from_numpy(weights),
            known=torch.from_numpy(known),
            chip=torch.from_numpy(chip_transform(points)),
            identity=torch.tensor(self.identities[clip.meta.person]),
        )

    def _source(self, plan: _Plan, group: tuple[int, ...], limit: float) -> _Source:
        """The shots and the head of the first one, made once for all members of a group."""
        key = (*group, plan.turn, plan.source)
        if key in self._sources:
            self._sources.move_to_end(key)
            return self._sources[key]
        made = self._sources[key] = self._make_source(plan, limit)
        while len(self._sources) > self.config.batch_size:
            self._sources.popitem(last=False)
        return made

    def _make_source(self, plan: _Plan, limit: float) -> _Source:
        clip, view, size = plan.clip, plan.view, self.config.image_size
        side, edge = canvas_side(size), round(MARGIN * size)
        frames = (plan.source, *plan.others)
        canvases = {i: view.picture(clip.canvas(i, size), -MARGIN, 1 + MARGIN, side) for i in dict.fromkeys(frames)}
        if plan.degrade is not None:
            rng = np.random.default_rng(plan.degrade)
            canvases = {i: degraded(canvas, rng) for i, canvas in canvases.items()}
        points = {i: view.landmarks(clip.landmarks[i]) for i in canvases}
        crops = np.stack([canvases[i][edge : edge + size, edge : edge + size] for i in frames])
        pixels = np.stack([points[i] * size - np.float32(0.5) for i in frames])
        if not self.rendered:
            return _Source(crops, pixels, None, None, None)
        model = face_model()
        person = fit_person(model, list(points.values()))
        first = person.photos[0]
        if first.frame.error > limit:
            return _Source(crops, pixels, None, None, None)
        mask = view.picture(clip.mask(plan.source, size), -MARGIN, 1 + MARGIN, side)
        alone = PersonFit(person.identity_coefficients, (first,))
        canvas, unit = canvases[plan.source], points[plan.source]
        head = Head.of(model, alone, [canvas], [mask], [unit], analysis=max(size, MIN_ANALYSIS))
        rest = pose_at_rest([photo.frame.rotation for photo in person.photos])
        fitter = FrameFitter(
            model, person.identity_coefficients, first.camera, head.views[0].fit.offset, rest=rest
        )  # fmt: skip
        return _Source(crops, pixels, Renderer(head, size, kept=0.0), fitter, first.frame)

    def portraits(self, first: int = 0, every: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
        """One shot of each person: column of W, image (3, H, W) and landmark image (3, H, W).

        Of the people ``first``, ``first + every`` and so on: processes can share them out.
        """
        size = self.config.image_size
        clips = {person[0].meta.person: person[0] for person in (*self.videos, *self.stills)}
        for name in islice(self.identities, first, None, every):
            pixels, points = clips[name].frame(0, size)
            drawn = draw_landmarks(points, size)
            yield self.identities[name], to_float(pixels)[0], to_float(drawn)[0]

    def clip_of(self, group: int) -> Clip:
        """The clip of a group; photos and animated ones come between the videos at even distances."""
        seed, share = self.config.seed, self.config.stills_share
        if not (self.stills and self.videos):
            share = 1.0 if self.stills else 0.0
        earlier = math.floor(group * share)  # groups from stills
        stills = math.floor((group + 1) * share) > earlier
        people, turn = (self.stills, earlier) if stills else (self.videos, group - earlier)
        epoch, place = divmod(turn, len(people))
        person = _shuffled(len(people), seed, int(stills), epoch)[place]
        clips = people[person]
        again, place = divmod(epoch, len(clips))
        return clips[_shuffled(len(clips), seed, int(stills), again, int(person))[place]]


def contents(clips: Iterable[Clip]) -> list[dict[str, Any]]:
    """Facts on the data for a model card: clips, people and frames of each kind and licence."""
    groups: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.meta.kind, clip.meta.licence), []).append(clip)
    return [
        {
            "kind": kind,
            "licence": licence,
            "clips": len(group),
            "people": len({clip.meta.person for clip in group}),
            "frames": sum(map(len, group)),
        }
        for (kind, licence), group in sorted(groups.items())
    ]


@lru_cache(maxsize=64)
def _fitter_of(clip: _ById) -> tuple[FrameFitter, FrameFit]:
    """A fitter for the person as the clip's first frame shows him or her, and that frame's fit."""
    person = fit_person(face_model(), [clip.clip.landmarks[0]])
    first = person.photos[0]
    return FrameFitter(
        face_model(), person.identity_coefficients, first.camera, first.offset, rest=first.frame.rotation
    ), first.frame  # fmt: skip


def _described(clip: Clip, frame: int) -> np.ndarray:
    """(D,) pose and expression in numbers of comparable weight."""
    return _description(_ById(clip), frame)


@lru_cache(maxsize=16384)
def _description(clip: _ById, frame: int) -> np.ndarray:
    fitter, start = _fitter_of(clip)
    fit = fitter.fit(clip.clip.landmarks[frame], start, steps=6)
    return np.concatenate([2 * np.radians(head_angles(fit.rotation)), fit.expression, fit.gaze.ravel() / 60])


class _ById:
    """A clip as a key."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __hash__(self) -> int:
        return id(self.clip)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.clip is self.clip


@lru_cache(maxsize=16)  # an epoch's order is asked for once a sample
def _shuffled(number: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(number)


def _by_person(clips: list[Clip]) -> list[list[Clip]]:
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.meta.person, []).append(clip)
    return [groups[name] for name in sorted(groups)]
