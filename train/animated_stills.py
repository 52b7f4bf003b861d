"""People in motion out of still photos: photo + head -> a clip whose frame 0 is the untouched photo.

    python -m train.animated_stills --stills DIR [--index stills.csv] --output DIR

For each photo: landmarks -> a head in three dimensions (``talking_heads.head``), of the photo with its margins ->
random motion -> frames with margins of their own. Every frame goes through the same detector as real clips do; frames
in which it sees something else than what was drawn are dropped. A photo's second clip, and every other one after it,
stands before an invented background: studio portraits have plain ones, before which nothing can be seen to swim with a
head. With ``--speech`` the faces do what those of real speakers did (data/speech.py), on heads that turn more.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from talking_heads.errors import TalkingHeadsError
from talking_heads.head.model import face_model
from talking_heads.media.images import read_photo
from talking_heads.tracking.crops import face_size
from talking_heads.tracking.detectors import DETECTORS, load_detector

from .data.clips import ClipMeta, canvas_margin, load_clip, save_clip
from .data.jobs import find_jobs
from .data.photo_animation import FPS, SIZE, STRIDE, animatable_photo, animate
from .data.prepare_clip import sharpness
from .data.speech import follow_speech, speech_clips
from .terminal import mistakes_in_one_line

_load_detector = lru_cache(maxsize=1)(load_detector)


@dataclass(frozen=True)
class ClipTask:
    """One clip to make."""

    path: Path
    source: str  # relative to the folder of stills
    person: str
    split: str
    licence: str
    seed: tuple[int, ...]
    own_background: bool
    target: Path
    speech: Path | None = None  # the prepared clip whose speaker the head follows


def _run(task: ClipTask, detector: str, frames: int) -> tuple[int, int, str]:
    """-> frames kept, frames dropped, and why there is no clip, if so."""
    if task.target.is_file():
        return 0, 0, ""
    landmark_detector = _load_detector(detector)
    rng, speech, licence = np.random.default_rng(task.seed), None, task.licence
    try:
        image = read_photo(task.path)
        if task.speech is not None:
            clip = load_clip(task.speech)
            speech = follow_speech(face_model(), clip, STRIDE * (frames - 1), FPS, rng)
            if clip.meta.licence:
                licence = f"{licence}; motion: {clip.meta.licence}".removeprefix("; ")
        photo = animatable_photo(image, landmark_detector)
        canvases, masks, points, dropped = animate(photo, landmark_detector, frames, rng, task.own_background, speech)
    except TalkingHeadsError as error:
        return 0, 0, str(error)
    edge = canvas_margin(SIZE)
    extra = {
        "face_pixels": face_size(points[0]) * SIZE,
        "sharpness": sharpness(canvases[0][edge:-edge, edge:-edge]),
        "dropped": float(dropped),
    }
    meta = ClipMeta(task.person, task.source, task.split, FPS / STRIDE, licence, "animated", extra)
    save_clip(task.target, canvases, masks, points, meta)
    return len(canvases), dropped, ""


def _run_all(
    todo: list[ClipTask], detector: str, frames: int, workers: int
) -> Iterator[tuple[ClipTask, int, int, str]]:
    if workers == 1:
        for task in todo:
            yield task, *_run(task, detector, frames)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_run, task, detector, frames): task for task in todo}
        for future in as_completed(running):
            yield running[future], *future.result()


def main(
    *,
    stills: Annotated[Path, typer.Option(help="Folder of photos, searched through and through.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for the clips.")],
    index: Annotated[Path | None, typer.Option(help="CSV: file, identity, split, licence.", exists=True)] = None,
    split: Annotated[str, typer.Option(help="Only photos of this split.")] = "train",
    clips_per_still: Annotated[int, typer.Option(min=1)] = 1,
    first_clip: Annotated[
        int, typer.Option(help="Number of a photo's first clip, to add clips to a folder that has some.", min=0)
    ] = 0,
    speech: Annotated[
        Path | None,
        typer.Option(
            help="Folder of prepared videos: in all of a photo's clips the face moves as those of the speakers of "
            "split train. Without it, mouths move at random.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames of a clip, the photo included.", min=2)] = 6,
    seed: Annotated[int, typer.Option()] = 0,
    detector: Annotated[str, typer.Option(help="mediapipe or face-alignment.")] = "mediapipe",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Turn photos into clips of people who talk and look round."""
    if detector not in DETECTORS:
        raise typer.BadParameter(f"choose one of {', '.join(DETECTORS)}", param_hint="--detector")
    with mistakes_in_one_line():
        speakers = [] if speech is None else speech_clips(speech)
        todo = []
        for job in find_jobs(stills, index):
            if job.is_video or job.split != split:
                continue
            for path in job.files:
                source = str(path.relative_to(stills))
                name = "__".join([job.person, *path.relative_to(stills).with_suffix("").parts])
                for k in range(first_clip, first_clip + clips_per_still):
                    # The seed depends on the photo's name, not on its place in the list: more photos change no clip.
                    seeds = (seed, k, *source.encode())
                    target = output / f"{name}__animated{k}.npz"
                    task = ClipTask(path, source, job.person, job.split, job.licence, seeds, k % 2 == 0, target)
                    if speakers:  # drawn apart from the clip's motion: 256 is no byte of a name
                        draw = np.random.default_rng((*seeds, 256))
                        task = replace(task, speech=speakers[draw.integers(len(speakers))])
                    todo.append(task)
        kept = dropped = 0
        outcomes = _run_all(todo, detector, frames, workers)
        for count, (task, good, bad, reason) in enumerate(outcomes, start=1):
            kept, dropped = kept + good, dropped + bad
            if reason:
                typer.echo(f"{task.source}: {reason}")
            if count % 20 == 0 or count == len(todo):
                typer.echo(f"{count} of {len(todo)} clips, {kept} frames kept, {dropped} dropped")


if __name__ == "__main__":
    typer.run(main)
