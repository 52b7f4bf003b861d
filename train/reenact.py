"""Reenactment: the methods that are compared, and people who are driven by others (cross-reenactment).

    python -m train.evaluate --model MODEL --clips FOLDER --portraits FOLDER --output FOLDER [--cross-frames 48]

Every portrait is driven by every clip, with relative motion and all of it, as the pipeline does unless told otherwise.
Painted are the consecutive frames of the clip from the first in which its face is seen. How they should look nobody
knows; measured is what should hold anyway:

* CSIM: the identity of each painted frame against that of the portrait's crop;
* landmark and head pose errors: between the landmarks that were asked for and those detected in the painted frame, over
  the eye distance of those asked for. Frames in which the driver's face is not seen (its pose is held there) are
  painted but not measured;
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
from talking_heads.errors import FaceError, NoFaceError, UnreadableMediaError
from talking_heads.faces import Crop, Gap, Track, crop_around
from talking_heads.images import to_uint8
from talking_heads.motion import choose_shots
from talking_heads.pipeline import warp_shots
from talking_heads.video import AI_GENERATED, VideoWriter, contact_sheet, read_frames, save_image
from talking_heads.warping import landmarks_to_tensor, warp_photo

from .metrics import Judge, clip_values, face_errors, following, jitter, stillest_run
from .prepare import find_jobs
from .report import (
    FACE_ERRORS,
    FACES,
    JITTER,
    Metric,
    comparison_table,
    link,
    means_by_identity,
    summarise,
    summary_table,
    wins,
    write_report,
)

Painter = Callable[[np.ndarray], np.ndarray]
"""Landmarks of consecutive frames (T, L, 2) -> uint8 RGB (T, H, H, 3)."""

MIN_FRAMES = 8
"""Frames with a face that a clip must have."""
MOMENTS = 3
"""Frames of a pair that its contact sheet shows."""
CELL = 160
"""Side of their pictures in pixels."""
WORST = 5
METHODS = ("warp", "render", "feed-forward")
"""Those of ``painters`` that drive portraits, as far as there are."""
CONTESTS = (("feed-forward", "render"), ("feed-forward", "warp"), ("render", "warp"))
METRICS = (
    Metric("csim", "CSIM to the portrait", 3, "higher"),
    *FACE_ERRORS,
    Metric("eyes_correlation", "eyes' opening, correlation with the driver's", 3, "higher"),
    Metric("eyes_gain", "eyes' opening, gain over the driver's", 3, "nearer to 1"),
    Metric("mouth_correlation", "mouth's opening, correlation with the driver's", 3, "higher"),
    Metric("mouth_gain", "mouth's opening, gain over the driver's", 3, "nearer to 1"),
    JITTER,
    FACES,
)

_WARP_BATCH = 8


# ------------------------------------------------------------------------------------------------------------- methods


def painters(pipe: TalkingHeadPipeline, avatar: Avatar, tuned: Avatar | None = None) -> dict[str, Painter]:
    """The methods that are compared, by name, without the truth."""

    def still(landmarks: np.ndarray) -> np.ndarray:
        return np.repeat(avatar.photo_images[:1], len(landmarks), axis=0)

    def warp(landmarks: np.ndarray) -> np.ndarray:
        weights = np.stack([shares for _, shares in choose_shots(landmarks, avatar.landmarks.cpu().numpy())])
        targets = landmarks_to_tensor(landmarks).to(avatar.shots.device)
        frames = []
        with torch.inference_mode():
            for first in range(0, len(landmarks), _WARP_BATCH):
                some = slice(first, first + _WARP_BATCH)
                frames.append(to_uint8(warp_shots(avatar.shots, avatar.landmarks, targets[some], weights[some], _bare)))
        return np.concatenate(frames)

    def painted_by(person: Avatar) -> Painter:
        return lambda landmarks: np.stack(list(pipe.paint(person, landmarks)))

    methods = {"still": still, "warp": warp, "feed-forward": painted_by(avatar)}
    return methods if tuned is None else methods | {"fine-tuned": painted_by(tuned)}


def _bare(photos: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The baseline is the warp alone, without what helps it where a head turns far."""
    return warp_photo(photos, source, target)[0]


def cut_frames(clip: Path, fps: float, crop: Crop, wanted: Iterable[int], size: int) -> dict[int, np.ndarray]:
    """The ``wanted`` frames of a clip, by their numbers, cropped to uint8 (size, size, 3). One pass over the file."""
    numbers = set(wanted)
    pictures = enumerate(islice(read_frames(clip, fps=fps), max(numbers) + 1))
    return {k: crop.cut(picture, size) for k, picture in pictures if k in numbers}


# ----------------------------------------------------------------------------------------------- portraits and drivers


@dataclass(frozen=True)
class Portrait:
    """A photo of somebody, as the model sees it."""

    name: str
    """Path inside of the folder."""
    file: str
    """What its files are called, without a suffix."""
    image: np.ndarray
    """uint8 RGB (H, H, 3)."""
    landmarks: np.ndarray
    """float32 (L, 2) in its pixels."""


@dataclass(frozen=True)
class Driver:
    """A clip that drives portraits."""

    clip: str
    """Path inside of the folder."""
    file: str
    """What its files are called, without a suffix."""
    path: Path


def find_portraits(pipe: TalkingHeadPipeline, folder: Path, leave_out: Path) -> tuple[list[Portrait], dict[str, str]]:
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
            images, landmarks = pipe.look_at([path])
        except (FaceError, UnreadableMediaError) as error:
            left_out[source] = str(error)
        else:
            portraits.append(Portrait(source, name, images[0], landmarks[0]))
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
        gaps=tuple(gap for gap in gaps if gap.last >= 0),
    )


# ------------------------------------------------------------------------------------------------------------- driving


@dataclass(frozen=True)
class Pair:
    """A portrait driven by a clip: ``values[method][metric]``, each the mean over the frames, or NaN."""

    portrait: str
    clip: str
    frames: int
    """That were measured."""
    video: str
    """Path inside of the output folder."""
    values: dict[str, dict[str, float]]
    painted: np.ndarray = field(repr=False, compare=False)
    """Feed-forward at the moments of the contact sheet, uint8 RGB (MOMENTS, h, h, 3)."""

    @property
    def identity(self) -> str:
        return self.portrait


@dataclass(frozen=True)
class Driven:
    """What a clip drove: ``dropped`` is a reason, or empty."""

    clip: str
    pairs: tuple[Pair, ...] = ()
    frames: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)
    """Its own crops at the moments of the contact sheet, each uint8 RGB (h, h, 3)."""
    dropped: str = ""


def drive(
    pipe: TalkingHeadPipeline, judge: Judge, driver: Driver, portraits: Sequence[Portrait], frames: int, output: Path
) -> Driven:
    """All portraits with the first ``frames`` frames of one clip, which is tracked once; writes the pairs' videos.

    Raises UnreadableMediaError and NoFaceError for the clip, OutputError for the videos.
    """
    first, track = first_frames(pipe.track(driver.path), frames)
    seen = np.flatnonzero(track.seen)
    if len(seen) < MIN_FRAMES:
        raise NoFaceError(f"A face is seen in {len(seen)} of {len(track)} frames only; {MIN_FRAMES} are needed.")
    crop = crop_around(track.landmarks, track.frame_size)  # the pipeline's own
    numbers = range(first, first + len(track))
    own_frames = np.stack(list(cut_frames(driver.path, track.fps, crop, numbers, pipe.image_size).values()))
    run = stillest_run(crop.to_crop(track.landmarks, pipe.image_size), seen)
    own = judge.detect(own_frames)
    moments = seen[np.linspace(0, len(seen) - 1, MOMENTS).round().astype(int)]
    pairs = []
    for portrait in portraits:
        avatar = pipe.avatar_from_shots(portrait.image[None], portrait.landmarks[None])
        asked = pipe.target_landmarks(avatar, track, "relative", head=1.0, expression=1.0, gaze=1.0)
        person = judge.identify(portrait.image[None], portrait.landmarks[None])[0]
        painted, values = {}, {}
        for method, paint in painters(pipe, avatar).items():
            if method in METHODS:
                painted[method] = paint(asked)
                values[method] = _pair_values(judge, painted[method], asked, person, seen, run, own)
        ours = painted["feed-forward"]
        video = f"cross/clips/{portrait.file}/{driver.file}.mp4"
        _save_video(own_frames, ours, track.fps, output / video)
        small = np.stack([_small(frame) for frame in ours[moments]])
        pairs.append(Pair(portrait.name, driver.clip, len(seen), video, values, small))
    return Driven(driver.clip, tuple(pairs), tuple(_small(frame) for frame in own_frames[moments]))


def _pair_values(
    judge: Judge,
    painted: np.ndarray,
    asked: np.ndarray,
    person: np.ndarray,
    seen: np.ndarray,
    run: np.ndarray,
    own: np.ndarray,
) -> dict[str, float]:
    """The mean of each metric over the frames ``seen``; ``own``: landmarks detected in the driver's crops (T, L, 2)."""
    look = judge.look(painted)
    metrics = face_errors(look.landmarks, asked)
    if judge.identity_net is not None:
        metrics["csim"] = look.identities @ person
    means = clip_values(
        {name: values[seen] for name, values in metrics.items()}, jitter(look.landmarks[run]), jitter(own[run])
    )
    return means | following(look.landmarks[seen], own[seen])


def _save_video(left: np.ndarray, right: np.ndarray, fps: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps, metadata=AI_GENERATED) as writer:
        for frame in np.concatenate([left, right], axis=2):
            writer.write(frame)


def _small(frame: np.ndarray) -> np.ndarray:
    """At most CELL pixels: those of all pairs are in memory until the sheets are drawn."""
    return np.asarray(ImageOps.contain(Image.fromarray(frame), (min(CELL, len(frame)),) * 2))


# -------------------------------------------------------------------------------------------------------------- report


def write_cross(
    driven: Sequence[Driven],
    portraits: Sequence[Portrait],
    left_out: Mapping[str, str],
    options: Mapping[str, Any],
    output: Path,
    seed: int = 0,
) -> None:
    """``cross.json`` and ``cross.md`` of what has been measured so far.

    ``left_out``: why other photos are no portraits. ``options`` are of ``train.evaluate``, by name.
    """
    driven = sorted(driven, key=lambda one: one.clip)
    pairs = [pair for one in driven for pair in one.pairs]
    report = {
        "options": dict(options),
        "notes": ["No CSIM: --identity-net was not given."] if options["identity_net"] is None else [],
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


def _markdown(pairs: Sequence[Pair], portraits: Sequence[Portrait], report: Mapping[str, Any]) -> Iterator[str]:
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
        people = means_by_identity(pairs)
        shown = [metric for metric in METRICS if metric.name in pairs[0].values["feed-forward"]]
        ranking = shown[0]
        yield f"\n## The worst pairs by {ranking.title}\n\nFeed-forward (warp).\n"
        ranked = sorted(pairs, key=lambda pair: _badness(ranking, pair.values), reverse=True)
        rows = [(link(f"{pair.portrait} by {pair.clip}", pair.video), pair.values) for pair in ranked[:WORST]]
        yield from comparison_table(rows, shown)
        yield "\n## Portrait by portrait\n\nMean over the clips, feed-forward (warp), the worst first.\n"
        sheets = {portrait.name: link(portrait.name, _sheet(portrait)) for portrait in portraits}
        ranked = sorted(people, key=lambda name: _badness(ranking, people[name]), reverse=True)
        yield from comparison_table([(sheets[name], people[name]) for name in ranked], shown)
    for title, dropped in (("Portraits", report["portraits_left_out"]), ("Clips", report["dropped"])):
        if dropped:
            yield f"\n## {title} left out\n"
            for name, reason in dropped.items():
                yield f"* {name}: {reason}"
    yield ""


def _badness(metric: Metric, values: Mapping[str, Mapping[str, float]]) -> float:
    """Of the feed-forward frames; most of all where no face is found in any."""
    value = values["feed-forward"][metric.name]
    return metric.cost(value) if math.isfinite(value) else math.inf


def _sheet(portrait: Portrait) -> str:
    return f"cross/{portrait.file}.png"


def save_sheets(driven: Iterable[Driven], portraits: Iterable[Portrait], output: Path) -> None:
    """A contact sheet for each portrait. Rows: clips, by their names; columns: the portrait, and for each moment the
    driver and what was painted. Raises OutputError."""
    driven = sorted((one for one in driven if one.pairs), key=lambda one: one.clip)
    labels = ["portrait", *(["driver", "painted"] * MOMENTS)]
    for portrait in portraits:
        rows = []
        for one in driven:
            pair = next(pair for pair in one.pairs if pair.portrait == portrait.name)
            moments = [picture for two in zip(one.frames, pair.painted, strict=True) for picture in two]
            rows.append([portrait.image, *moments])
        if rows:
            save_image(contact_sheet(rows, labels, CELL), output / _sheet(portrait))
