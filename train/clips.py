"""A prepared clip: one person's face, cropped as at inference, with landmarks, in one file.

``<name>.npz``, not compressed (its frames already are): ``jpeg`` uint8, all frames one behind the other; ``offsets``
int64 (T + 1,) into it; ``landmarks`` float32 (T, L, 2) in pixels of the frames; ``meta`` a JSON text.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from talking_heads.errors import UnreadableMediaError
from talking_heads.landmarks import NUM_LANDMARKS

FORMAT_VERSION = 2


@dataclass(frozen=True)
class ClipMeta:
    """What is known of a clip beside its pixels."""

    identity: str
    """Clips of one person share it; an episode takes its shots from one identity's clip."""
    source: str
    """File that the clip came from, relative to the folder that was prepared."""
    split: str = "train"
    fps: float = 25.0
    licence: str = ""
    kind: str = "video"
    """"video", "stills" (unordered photos of one person), or "puppet" (rendered; frame 0 is the untouched photo)."""
    extra: dict[str, float] = field(default_factory=dict)
    """Measured qualities, for filtering: face size in pixels, sharpness, share of frames in which a face was seen."""


@dataclass(frozen=True)
class Clip:
    """A clip in memory: frames stay JPEG until they are asked for."""

    jpeg: np.ndarray
    offsets: np.ndarray
    landmarks: np.ndarray
    meta: ClipMeta

    def __len__(self) -> int:
        return len(self.landmarks)

    def frame(self, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (size, size, 3) and landmarks float32 (L, 2) in its pixels."""
        data = self.jpeg[self.offsets[index] : self.offsets[index + 1]].tobytes()
        with Image.open(io.BytesIO(data)) as image:
            side = image.width
            image.draft("RGB", (size, size))  # decodes at a fraction of the size where that is enough
            smooth = Image.Resampling.BOX if image.width % size == 0 else Image.Resampling.BICUBIC
            pixels = np.array(image.convert("RGB").resize((size, size), smooth))  # a copy where nothing changes
        scale = size / side
        return pixels, (self.landmarks[index] + 0.5) * scale - 0.5


def make_clip(frames: Sequence[np.ndarray] | np.ndarray, landmarks: np.ndarray, meta: ClipMeta) -> Clip:
    """A clip of T square uint8 frames (S, S, 3) and landmarks (T, L, 2) in their pixels, or ValueError."""
    if len(frames) != len(landmarks) or landmarks.shape[1:] != (NUM_LANDMARKS, 2) or len(frames) == 0:
        raise ValueError(f"{len(frames)} frames and landmarks {landmarks.shape} do not make a clip")
    parts = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling=0)
        parts.append(np.frombuffer(buffer.getvalue(), dtype=np.uint8))
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Clip(np.concatenate(parts), offsets, landmarks.astype(np.float32), meta)


def save_clip(path: Path, frames: Sequence[np.ndarray] | np.ndarray, landmarks: np.ndarray, meta: ClipMeta) -> None:
    """Writes what make_clip makes."""
    write_clip(path, make_clip(frames, landmarks, meta))


def write_clip(path: Path, clip: Clip) -> None:
    """One file for a clip, whole or not at all."""
    text = json.dumps({"format": FORMAT_VERSION, **asdict(clip.meta)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez(file, jpeg=clip.jpeg, offsets=clip.offsets, landmarks=clip.landmarks, meta=np.array(text))


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` if the block ends well and vanishes if it does not.

    It ends in .tmp: what a process leaves there that is killed is taken for no clip, shard or report.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_clip(path: Path) -> Clip:
    """Reads one clip. Raises UnreadableMediaError for a file that is none, or of a newer format."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            meta = dict(json.loads(str(data["meta"])))
            jpeg, offsets, landmarks = data["jpeg"], data["offsets"], data["landmarks"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UnreadableMediaError(
            f"{path} is not a prepared clip ({error}). Run python -m train.prepare again."
        ) from error
    version = meta.pop("format", 0)
    if version > FORMAT_VERSION:
        raise UnreadableMediaError(f"{path} was prepared by a newer version. Update this software.")
    if version < FORMAT_VERSION:
        raise UnreadableMediaError(f"{path} was prepared by an older version. Run python -m train.prepare again.")
    try:
        return Clip(jpeg, offsets, landmarks, ClipMeta(**meta))
    except TypeError:
        raise UnreadableMediaError(f"{path} is not a prepared clip: its description is not one.") from None


def load_clips(folder: Path, split: str | None = "train") -> list[Clip]:
    """All clips below a folder, of files and of shards, in the order of their names, of one split (None: of all).

    Files are read into memory; what shards hold stays there until it is asked for.
    """
    from .shards import load_shard  # which imports this

    clips = [load_clip(path) for path in sorted(folder.rglob("*.npz"))]
    clips += [clip for path in sorted(folder.rglob("shard-*.json")) for clip in load_shard(path)]
    clips = [clip for clip in clips if split is None or clip.meta.split == split]
    if not clips:
        raise UnreadableMediaError(f"There are no prepared clips in {folder}. Run python -m train.prepare first.")
    return clips
