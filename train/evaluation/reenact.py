"""Reenactment: the methods that are compared, and people who are driven by others (cross-reenactment).

    python -m train.evaluate --model MODEL --clips FOLDER --portraits FOLDER --output FOLDER [--cross-frames 48]

Every portrait is driven by every clip, with relative motion and all of it, as the pipeline does unless told otherwise,
by three methods: ``warp`` bends the photo to the landmarks of the moved head, ``render`` is the drawn head alone,
``feed-forward`` the pipeline. All are compared at the size of the network: where the pipeline gives larger frames they
are made at that size and averaged down. Painted are the consecutive frames of the clip from the first in which its face
is seen. How they should look nobody knows; measured is what should hold anyway:

* CSIM and dlib distance: the identity of each painted frame against that of the portrait's crop;
* landmark and head pose errors: between the landmarks that were asked for, which are those of the moved head, and those
  detected in the painted frame, over the eye distance of those asked for. Frames in which the driver's face is not seen
  (its pose is held there) are painted but not measured;
* jitter: that of the landmarks detected in the 16 consecutive painted frames in which the driver's face moves least,
  over that of the landmarks detected in the same frames of the driver's own crop;
* correlation and gain of the openings of the eyes and of the mouth: those detected in the painted frames against those
  detected in the driver's own crops. A gain of 0.5 is half the driver's movement. Where the driver's opening hardly
  varies there is neither.

Means and intervals are over portraits: a portrait counts once, with its mean over the clips.

Writes ``cross.json``, ``cross.md``, ``cross/PORTRAIT.png`` (rows: clips, in the order of their names) and
``cross/clips/PORTRAIT/CLIP.mp4`` (the driver's crop, and beside it what was painted feed-forward).
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.errors import FaceError, NoFaceError, UnreadableMediaError
from talking_heads.head.fit import FrameFit
from talking_heads.head.head import Head
from talking_heads.head.motion import Motion
from talking_heads.head.render import PhotoChoice, PhotoChooser, Renderer
from talking_heads.head.retarget import MotionOptions, frame_of, frames_of, most_neutral, retargeted
from talking_heads.media.composing import contact_sheet
from talking_heads.media.images import save_image, to_float, to_uint8
from talking_heads.media.reading import read_frames
from talking_heads.media.writing import AI_GENERATED, VideoWriter
from talking_heads.tracking.crops import crop_around
from talking_heads.tracking.motion_fitting import motion_of_track
from talking_heads.tracking.tracks import Gap, Track

from ..data.jobs import find_jobs
from .metrics import FrameMetrics, clip_values, face_errors, following, jitter, stillest_run
from .report import (
    FACE_ERRORS,
    FACES,
    JITTER,
    Metric,
    comparison_table,
    link,
    means_by_person,
    summarise,
    summary_table,
    wins,
    write_report,
)
from .warp_baseline import warp_photo

MIN_FRAMES = 8
"""Frames with a face that a clip must have."""
MOMENTS = 3
"""Frames of a pair that its contact sheet shows."""
CELL = 160
"""Side of their pictures in pixels."""
WORST = 5
METHODS = ("warp", "render", "feed-forward")
"""Methods of ``methods_of`` that drive portraits."""
CONTESTS = (("feed-forward", "render"), ("feed-forward", "warp"), ("render", "warp"))
METRICS = (
    Metric("csim", "CSIM to the portrait", 3, "higher"),
    Metric("dlib_distance", "dlib distance to the portrait", 3, "lower"),
    *FACE_ERRORS,
    Metric("eyes_correlation", "eyes' opening, correlation with the driver's", 3, "higher"),
    Metric("eyes_gain", "eyes' opening, gain over the driver's", 3, "nearer to 1"),
    Metric("mouth_correlation", "mouth's opening, correlation with the driver's", 3, "higher"),
    Metric("mouth_gain", "mouth's opening, gain over the driver's", 3, "nearer to 1"),
    JITTER,
    FACES,
)


# ------------------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Targets:
    """Poses and landmarks that consecutive frames should show."""

    frames: Sequence[FrameFit]
    """The person's pose and expression in each of T frames."""
    landmarks: np.ndarray
    """float32 (T, L, 2): where the face should be, in pixels of the frames as they are compared."""

    def __len__(self) -> int:
        return len(self.frames)


FrameMethod = Callable[[Targets], np.ndarray]
"""Targets -> uint8 RGB (T, H, H, 3), H the size of the pipeline's network."""


def methods_of(pipe: TalkingHeadPipeline, avatar: Avatar, tuned: Avatar | None = None) -> dict[str, FrameMethod]:
    """The methods that are compared, by name, without the truth."""
    size, shots = pipe.image_size, avatar.shots
    photos, landmarks = shots.crops(size), torch.from_numpy(shots.landmarks_at(size))
    images = to_float(photos)
    renderer = Renderer(avatar.head, pipe.frame_size(avatar, None))

    def still(targets: Targets) -> np.ndarray:
        return np.repeat(photos[:1], len(targets), axis=0)

    @torch.inference_mode()
    def warp(targets: Targets) -> np.ndarray:
        frames = []
        for points, choice in zip(torch.from_numpy(targets.landmarks), _choices(avatar.head, targets), strict=True):
            chosen = [k for k, _ in choice.bases]
            warped = warp_photo(images[chosen], landmarks[chosen], points.expand(len(chosen), -1, -1))
            shares = torch.tensor([share for _, share in choice.bases])
            frames.append(torch.einsum("k,kchw->chw", shares, warped))
        return to_uint8(torch.stack(frames))

    def render(targets: Targets) -> np.ndarray:
        pairs = zip(targets.frames, _choices(avatar.head, targets), strict=True)
        return np.stack([reduced(renderer.draw(frame, choice).picture, size) for frame, choice in pairs])

    def generated_by(person: Avatar) -> FrameMethod:
        def generate(targets: Targets) -> np.ndarray:
            with contextlib.closing(pipe.generate(person, targets.frames)) as frames:
                return np.stack([reduced(frame, size) for frame in frames])

        return generate

    methods = {"still": still, "warp": warp, "render": render, "feed-forward": generated_by(avatar)}
    return methods if tuned is None else methods | {"fine-tuned": generated_by(tuned)}


def _choices(head: Head, targets: Targets) -> Iterator[PhotoChoice]:
    """Which photos each frame is drawn from, as the pipeline chooses them."""
    chooser = PhotoChooser(head)
    return (chooser.choose(frame) for frame in targets.frames)


def reduced(image: np.ndarray, size: int) -> np.ndarray:
    """uint8, or float in 0..255, (n * size, n * size, 3) -> uint8 (size, size, 3), by averaging n x n pixels."""
    n = len(image) // size
    means = image.reshape(size, n, size, n, 3).mean(axis=(1, 3), dtype=np.float32)
    return (means + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def numbered_frames(clip: Path, fps: float, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The ``wanted`` frames of a clip, uint8 RGB, with their numbers. One pass over the file, one frame in memory."""
    numbers = set(wanted)
    pictures = enumerate(islice(read_frames(clip, fps=fps), max(numbers) + 1))
    return ((k, picture) for k, picture in pictures if k in numbers)


# ----------------------------------------------------------------------------------------------- portraits and drivers


@dataclass(frozen=True)
class DrivenPortrait:
    """A photo of somebody who is driven."""

    name: str
    """Path inside of the folder."""
    file: str
    """What its files are called, without a suffix."""
    shots: Shots
    """The photo's face, cut out: one shot."""


@dataclass(frozen=True)
class Driver:
    """A clip that drives portraits."""

    clip: str
    """Path inside of the folder."""
    file: str
    """What its files are called, without a suffix."""
    path: Path


def find_portraits(
    pipe: TalkingHeadPipeline, folder: Path, leave_out: Path
) -> tuple[list[DrivenPortrait], dict[str, str]]:
    """All photos of a folder, save what lies in ``leave_out`` -> portraits, and why others cannot be used, by name.

    Raises UnreadableMediaError and NoFaceError where no photo is left.
    """
    jobs = find_jobs(folder, None, leave_out)
    paths = sorted(path for job in jobs if not job.is_video for path in job.files)
    if not paths:
        raise UnreadableMediaError(f"There are no photos in {folder}. Give a folder that holds some.")
    sources = [path.relative_to(folder).as_posix() for path in paths]
    portraits, left_out = [], {}
    for path, source, name in zip(paths, sources, file_names(sources), strict=True):
        try:
            shots = Shots.of(pipe.portraits([path]))
        except (FaceError, UnreadableMediaError) as error:
            left_out[source] = str(error)
        else:
            portraits.append(DrivenPortrait(source, name, shots))
    if not portraits:
        source, reason = next(iter(left_out.items()))
        raise NoFaceError(f"None of the portraits can be used. {source}: {reason}")
    return portraits, left_out


def file_names(sources: Sequence[str]) -> list[str]:
    """Paths inside of a folder -> names for files: without suffix, unless two would be called the same."""
    short = [flat(source).rpartition(".")[0] for source in sources]
    number = Counter(short)
    return [name if number[name] == 1 else flat(source) for name, source in zip(short, sources, strict=True)]


def flat(source: str) -> str:
    """A path as the name of one file."""
    return source.replace("/", "__")


def first_frames(track: Track, number: int) -> tuple[int, Track]:
    """Its frames from the first in which the face is seen, at most ``number``: the first one's number, and the track.

    Before that frame there is only its pose, held.
    """
    first = int(np.argmax(track.seen))
    end = min(first + number, len(track))
    gaps = (Gap(max(gap.first - first, 0), min(gap.last, end - 1) - first) for gap in track.gaps if gap.first < end)
    return first, replace(
        track,
        landmarks=track.landmarks[first:end],
        seen=track.seen[first:end],
        followed=None if track.followed is None else track.followed[first:end],
        gaps=tuple(gap for gap in gaps if gap.last >= 0),
    )


# ------------------------------------------------------------------------------------------------------------- driving


@dataclass(frozen=True)
class Pair:
    """A portrait driven by a clip: ``values[method][metric]``, each the mean over the frames, or NaN."""

    portrait: str
    clip: str
    frames: int
    """The number of frames that were measured."""
    video: str
    """Path inside of the output folder."""
    values: dict[str, dict[str, float]]
    painted: np.ndarray = field(repr=False, compare=False)
    """Feed-forward at the moments of the contact sheet, uint8 RGB (MOMENTS, h, h, 3)."""

    @property
    def person(self) -> str:
        return self.portrait


@dataclass(frozen=True)
class DrivenByClip:
    """What a clip drove: ``dropped`` is a reason, or empty."""

    clip: str
    pairs: tuple[Pair, ...] = ()
    frames: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)
    """Its own crops at the moments of the contact sheet, each uint8 RGB (h, h, 3)."""
    dropped: str = ""


def drive(
    pipe: TalkingHeadPipeline,
    metrics: FrameMetrics,
    driver: Driver,
    portraits: Sequence[DrivenPortrait],
    frames: int,
    output: Path,
) -> DrivenByClip:
    """All portraits with the first ``frames`` frames of one clip, which is tracked once; writes the pairs' videos.

    Raises UnreadableMediaError and NoFaceError for the clip, OutputError for the videos.
    """
    first, track = first_frames(pipe.track_landmarks(driver.path), frames)
    seen = np.flatnonzero(track.seen)
    if len(seen) < MIN_FRAMES:
        raise NoFaceError(f"A face is seen in {len(seen)} of {len(track)} frames only; {MIN_FRAMES} are needed.")
    motion, size = motion_of_track(track), pipe.image_size
    crop = crop_around(track.landmarks, track.frame_size)
    numbered = numbered_frames(driver.path, track.fps, range(first, first + len(track)))
    driver_frames = np.stack([crop.cut(picture, size) for _, picture in numbered])
    run = stillest_run(crop.to_crop(track.landmarks, size), seen)
    driver_landmarks = metrics.detect(driver_frames)
    moments = seen[np.linspace(0, len(seen) - 1, MOMENTS).round().astype(int)]
    pairs = []
    for portrait in portraits:
        avatar = pipe.avatar_from_shots(portrait.shots)
        targets = relative_targets(avatar.head, motion, size)
        known = portrait.shots.crops(size), portrait.shots.landmarks_at(size)
        embedding, descriptor = metrics.embed_faces(*known)[0], metrics.describe(*known)[0]
        painted, values = {}, {}
        for name, method in methods_of(pipe, avatar).items():
            if name in METHODS:
                painted[name] = method(targets)
                values[name] = _pair_values(
                    metrics, painted[name], targets.landmarks, embedding, descriptor, seen, run, driver_landmarks
                )
        ours = painted["feed-forward"]
        video = f"cross/clips/{portrait.file}/{driver.file}.mp4"
        _save_video(driver_frames, ours, track.fps, output / video)
        small = np.stack([_small(frame) for frame in ours[moments]])
        pairs.append(Pair(portrait.name, driver.clip, len(seen), video, values, small))
    return DrivenByClip(driver.clip, tuple(pairs), tuple(_small(frame) for frame in driver_frames[moments]))


def relative_targets(head: Head, motion: Motion, size: int) -> Targets:
    """A driver's motion for the person of ``head``, as ``pipe(avatar, motion)`` carries it over.

    Landmarks are the moved head's, in pixels of frames of ``size``.
    """
    count = len(head.model.expression_names)
    neutral, options = frame_of(motion, most_neutral(motion), count), MotionOptions(closed_lips=True)
    frames = list(retargeted(head, ((frame, neutral) for frame in frames_of(motion, count)), options))
    renderer = Renderer(head, size)
    return Targets(frames, np.stack([renderer.landmarks(frame) for frame in frames]))


def _pair_values(
    metrics: FrameMetrics,
    painted: np.ndarray,
    asked: np.ndarray,
    embedding: np.ndarray,
    descriptor: np.ndarray,
    seen: np.ndarray,
    run: np.ndarray,
    driver: np.ndarray,
) -> dict[str, float]:
    """The mean of each metric over the frames ``seen``; ``driver``: landmarks detected in its own crops (T, L, 2)."""
    observation = metrics.observe(painted)
    values = face_errors(observation.landmarks, asked)
    if metrics.mobilefacenet is not None:
        values["csim"] = observation.face_embeddings @ embedding
    if metrics.dlib_net is not None:
        values["dlib_distance"] = np.linalg.norm(observation.descriptors - descriptor, axis=1)
    means = clip_values(
        {name: value[seen] for name, value in values.items()}, jitter(observation.landmarks[run]), jitter(driver[run])
    )
    return means | following(observation.landmarks[seen], driver[seen])


def _save_video(left: np.ndarray, right: np.ndarray, fps: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps, metadata=AI_GENERATED) as writer:
        for frame in np.concatenate([left, right], axis=2):
            writer.write(frame)


def _small(frame: np.ndarray) -> np.ndarray:
    """The frame at CELL pixels at most: all pairs are in memory until the contact sheets are drawn."""
    return np.asarray(ImageOps.contain(Image.fromarray(frame), (min(CELL, len(frame)),) * 2))


# -------------------------------------------------------------------------------------------------------------- report


def write_cross(
    driven: Sequence[DrivenByClip],
    portraits: Sequence[DrivenPortrait],
    left_out: Mapping[str, str],
    options: Mapping[str, Any],
    notes: Sequence[str],
    output: Path,
    seed: int = 0,
) -> None:
    """``cross.json`` and ``cross.md`` of what has been measured so far.

    ``left_out``: why other photos are no portraits. ``options`` are of ``train.evaluate``, by name; ``notes`` are
    sentences above the table.
    """
    driven = sorted(driven, key=lambda one: one.clip)
    pairs = [pair for one in driven for pair in one.pairs]
    report = {
        "options": dict(options),
        "notes": list(notes),
        "summary": summarise(pairs, seed),
        "wins": {f"{a} against {b}": {m.name: wins(pairs, a, b, m) for m in METRICS} for a, b in CONTESTS},
        "pairs": [_record(pair) for pair in pairs],
        "dropped": {one.clip: one.dropped for one in driven if one.dropped},
        "portraits_left_out": dict(left_out),
    }
    write_report(output, "cross", report, _markdown(pairs, portraits, report))


def _record(pair: Pair) -> dict[str, Any]:
    record = asdict(replace(pair, painted=np.empty(0)))
    del record["painted"]
    return record


def _markdown(pairs: Sequence[Pair], portraits: Sequence[DrivenPortrait], report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Cross-reenactment with {report['options']['model'] or 'the bundled model'}\n"
    yield (
        "Every portrait driven by every clip, relative motion. Mean and 95 % bootstrap interval over portraits. Errors "
        "are between the landmarks that were asked for and those that are detected in the painted frames."
    )
    for sentence in report["notes"]:
        yield f"\n{sentence}"
    if pairs:
        people, clips = (len({getattr(pair, name) for pair in pairs}) for name in ("portrait", "clip"))
        yield f"\n## {people} portraits, {clips} clips: {len(pairs)} pairs\n"
        yield from summary_table(pairs, report["summary"], METRICS, CONTESTS)
    pairs = [pair for pair in pairs if "feed-forward" in pair.values]
    if pairs:
        means = means_by_person(pairs)
        shown = [metric for metric in METRICS if metric.name in pairs[0].values["feed-forward"]]
        ranking = shown[0]
        yield f"\n## The worst pairs by {ranking.title}\n\nFeed-forward (warp).\n"
        ranked = sorted(pairs, key=lambda pair: _badness(ranking, pair.values), reverse=True)
        rows = [(link(f"{pair.portrait} by {pair.clip}", pair.video), pair.values) for pair in ranked[:WORST]]
        yield from comparison_table(rows, shown)
        yield "\n## Portrait by portrait\n\nMean over the clips, feed-forward (warp), the worst first.\n"
        links = {portrait.name: link(portrait.name, _file_name(portrait)) for portrait in portraits}
        names = sorted(means, key=lambda name: _badness(ranking, means[name]), reverse=True)
        yield from comparison_table([(links[name], means[name]) for name in names], shown)
    for title, dropped in (("Portraits", report["portraits_left_out"]), ("Clips", report["dropped"])):
        if dropped:
            yield f"\n## {title} left out\n"
            for name, reason in dropped.items():
                yield f"* {name}: {reason}"
    yield ""


def _badness(metric: Metric, values: Mapping[str, Mapping[str, float]]) -> float:
    """Cost of the feed-forward frames by which pairs are ranked; infinite where no face is found in any."""
    value = values["feed-forward"][metric.name]
    return metric.cost(value) if math.isfinite(value) else math.inf


def _file_name(portrait: DrivenPortrait) -> str:
    return f"cross/{portrait.file}.png"


def save_contact_sheets(driven: Iterable[DrivenByClip], portraits: Iterable[DrivenPortrait], output: Path) -> None:
    """A contact sheet for each portrait. Rows: clips, by their names; columns: the portrait, and for each moment the
    driver and what was painted. Raises OutputError."""
    driven = sorted((one for one in driven if one.pairs), key=lambda one: one.clip)
    labels = ["portrait", *(["driver", "painted"] * MOMENTS)]
    for portrait in portraits:
        rows = []
        for one in driven:
            pair = next(pair for pair in one.pairs if pair.portrait == portrait.name)
            moments = [picture for two in zip(one.frames, pair.painted, strict=True) for picture in two]
            rows.append([portrait.shots.crops(CELL)[0], *moments])
        if rows:
            save_image(contact_sheet(rows, labels, CELL), output / _file_name(portrait))
