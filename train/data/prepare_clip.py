"""One clip of one video, or of one person's photos: tracked, cropped as at inference, and refused where it teaches
nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from talking_heads.errors import (
    FaceError,
    NoFaceError,
    SeveralFacesError,
    TalkingHeadsError,
)
from talking_heads.media.images import read_photo
from talking_heads.media.reading import probe, read_frames
from talking_heads.tracking.crops import Crop, crop_around, face_size
from talking_heads.tracking.detectors import LandmarkDetector, load_detector
from talking_heads.tracking.finding import main_faces, only_face
from talking_heads.tracking.segmentation import person_mask
from talking_heads.tracking.tracks import track_face

from .clips import (
    Clip,
    ClipMeta,
    canvas_margin,
    canvas_side,
    cut_mask,
    in_crop,
    make_clip,
    widened,
)
from .jobs import Job

MIN_FACE_PIXELS = 64.0
"""Faces smaller than this (hairline to chin) are dropped: enlarged fourfold, they would teach blur."""
MIN_SEEN = 0.5
MIN_FRAMES = 8
MIN_SHARPNESS = 3.0
CUT = 40.0
"""Mean difference of two frames' thumbnails, 0 to 255, from which the one does not follow on the other."""
MAX_FROZEN = 0.5
"""Share of frames that may be like the one before."""
LOOKS = 5
"""Frames of a video that are looked at for other people and for blur."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``dropped`` is a reason, or empty for a clip that was kept."""

    name: str
    source: str
    frames: int
    dropped: str = ""
    notes: tuple[str, ...] = ()
    reason: str = ""
    """The reason in ``dropped`` in two words, to be counted."""


class RefusedError(FaceError):
    """A clip that shows a face, and of which nothing good could be learned; ``reason`` in two words."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Options:
    """How clips are made, and where they go."""

    output: Path
    detector: str = "mediapipe"
    size: int = 256
    max_frames: int = 250


def prepare_video(job: Job, detector: LandmarkDetector, size: int, max_frames: int) -> Clip:
    """Two passes over the file, so that it is never in memory: track, then crop at most ``max_frames`` frames."""
    path = job.files[0]
    fps = probe(path).fps
    steps: list[float] = []
    track = track_face(_watched(read_frames(path, fps=fps), steps), detector, fps, name=path.name)
    face = float(np.median([face_size(points) for points in track.landmarks[track.seen]]))
    if face < MIN_FACE_PIXELS:
        raise RefusedError("small face", f"The face is {face:.0f} px high; {MIN_FACE_PIXELS:.0f} are needed.")
    if track.seen.mean() < MIN_SEEN or track.seen.sum() < MIN_FRAMES:
        raise RefusedError("seldom seen", f"A face is seen in {track.seen.sum()} of {len(track)} frames only.")
    if max(steps) > CUT:
        raise RefusedError("cut", f"There is a cut at {(1 + int(np.argmax(steps))) / fps:.1f} s.")
    frozen = float(np.mean([step == 0 for step in steps]))
    if frozen > MAX_FROZEN:
        raise RefusedError("frozen", f"{100 * frozen:.0f} % of the frames are like the one before.")
    usable = np.flatnonzero(track.seen)
    kept = usable[np.linspace(0, len(usable) - 1, min(max_frames, len(usable))).round().astype(int)]
    looks = set(kept[np.linspace(0, len(kept) - 1, LOOKS).round().astype(int)].tolist())
    wanted, canvases, masks, crop, crowded = set(kept.tolist()), [], [], None, 0
    for i, frame in enumerate(read_frames(path, fps=fps)):
        crop = crop or crop_around(track.landmarks[track.seen], frame.shape[:2])
        if i in wanted:
            canvas, mask = _canvas(crop, frame, size)
            canvases.append(canvas)
            masks.append(mask)
        if i in looks:
            with contextlib.suppress(NoFaceError):  # a search without a hint may miss whom the track follows
                crowded += len(main_faces(frame, detector)) > 1
    if crowded > len(looks) // 2:
        raise RefusedError(
            "two people", f"Two people are seen in {crowded} of {len(looks)} frames that were looked at."
        )
    crops = [_crop_of(canvas, size) for canvas in canvases]
    _check_sharpness(crops)
    assert crop is not None
    landmarks = in_crop(crop.to_crop(track.landmarks[kept], size), size)
    return make_clip(canvases, masks, landmarks, _meta(job, "video", fps, face, crops, float(track.seen.mean())))


def _canvas(crop: Crop, image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop of ``size`` pixels with its margins, uint8 (C, C, 3), and the mask of the person, uint8 (C, C)."""
    wide, side = widened(crop), canvas_side(size)
    return wide.cut(image, side), cut_mask(wide, person_mask(image), side)


def _crop_of(canvas: np.ndarray, size: int) -> np.ndarray:
    edge = canvas_margin(size)
    return np.ascontiguousarray(canvas[edge : edge + size, edge : edge + size])


def _watched(frames: Iterator[np.ndarray], steps: list[float]) -> Iterator[np.ndarray]:
    """The frames as they are; ``steps`` gets the mean difference of each to the one before, 0 where nothing moved."""
    before = None
    for frame in frames:
        now = np.asarray(Image.fromarray(frame).convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
        if before is not None:
            difference = np.abs(now - before)
            steps.append(float(difference.mean()) if difference.max() > 1 else 0.0)
        before = now
        yield frame


def _check_sharpness(frames: list[np.ndarray]) -> None:
    """RefusedError where most crops are blurred."""
    looks = [frames[i] for i in np.linspace(0, len(frames) - 1, min(LOOKS, len(frames))).round().astype(int)]
    measured = float(np.median([sharpness(frame) for frame in looks]))
    if measured < MIN_SHARPNESS:
        raise RefusedError("blurred", f"The face is blurred: sharpness {measured:.1f}, {MIN_SHARPNESS:.0f} is needed.")


def prepare_stills(job: Job, detector: LandmarkDetector, size: int) -> tuple[Clip, list[str]]:
    """Each photo on its own crop; photos that cannot be used are left out and named in the last value."""
    canvases, masks, landmarks, faces, notes = [], [], [], [], []
    for path in job.files:
        try:
            image = read_photo(path)
            points = only_face(image, detector, path.name)
        except TalkingHeadsError as error:
            notes.append(str(error))
            continue
        if face_size(points) < MIN_FACE_PIXELS:
            notes.append(f"The face in {path.name} is too small.")
            continue
        crop = crop_around(points, image.shape[:2])
        canvas, mask = _canvas(crop, image, size)
        canvases.append(canvas)
        masks.append(mask)
        landmarks.append(in_crop(crop.to_crop(points, size), size))
        faces.append(face_size(points))
    if not canvases:
        raise NoFaceError(" ".join(notes))
    crops = [_crop_of(canvas, size) for canvas in canvases]
    _check_sharpness(crops)
    meta = _meta(job, "stills", 0.0, float(np.median(faces)), crops, len(crops) / len(job.files))
    return make_clip(canvases, masks, np.stack(landmarks), meta), notes


def _meta(job: Job, kind: str, fps: float, face: float, frames: list[np.ndarray], seen: float) -> ClipMeta:
    extra = {"face_pixels": face, "sharpness": sharpness(frames[len(frames) // 2]), "seen": seen}
    return ClipMeta(job.person, job.source, job.split, fps, job.licence, kind, extra)


def sharpness(image: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey image: under about 3 is blurred."""
    grey = Image.fromarray(image).convert("L")
    kernel = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
    return float(np.asarray(grey.filter(kernel), dtype=np.float32)[1:-1, 1:-1].std())


_load_detector = cache(load_detector)  # one a process: loading costs more than a clip


def prepare_job(job: Job, options: Options) -> tuple[Outcome, Clip | None]:
    """The clip of a job, or none, and why."""
    detector = _load_detector(options.detector)
    notes: list[str] = []
    try:
        if job.is_video:
            clip = prepare_video(job, detector, options.size, options.max_frames)
        else:
            clip, notes = prepare_stills(job, detector, options.size)
    except TalkingHeadsError as error:
        return Outcome(job.name, job.source, 0, dropped=str(error), reason=_reason(error)), None
    return Outcome(job.name, job.source, len(clip), notes=tuple(notes)), clip


def _reason(error: TalkingHeadsError) -> str:
    if isinstance(error, RefusedError):
        return error.reason
    if isinstance(error, SeveralFacesError):
        return "two people"
    return "no face" if isinstance(error, NoFaceError) else "unreadable"
