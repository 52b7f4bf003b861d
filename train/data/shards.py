"""Shards: many prepared clips in one tar file each, as webdataset reads them, for data that no memory holds.

``shard-000012.tar`` has of each clip ``KEY.jpeg.npy`` (uint8, all frames one behind the other), ``KEY.offsets.npy``
(int64 (T + 1,) into it), the same of its masks (``KEY.masks.npy``, ``KEY.mask_offsets.npy``), ``KEY.landmarks.npy``
(float32 (T, L, 2)) and ``KEY.json`` (identity, split, quality and the rest of its description). ``shard-000012.json``
says what became of each source, and where in the tar a clip's arrays lie, so that training reads no more than the
frames it wants. It is written last: a tar without it does not count.
"""

from __future__ import annotations

import io
import json
import mmap
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from talking_heads.errors import UnreadableMediaError
from talking_heads.landmarks import NUM_LANDMARKS

from ..files import written_beside
from .clips import ARRAYS, FORMAT_VERSION, Clip, ClipMeta

OPEN_AT_ONCE = 64
"""Shards that a process has mapped: each takes a file descriptor."""


class StoredClip(Clip):
    """A clip that stays in its shard; what is asked for is read from there."""

    tar: Path
    places: dict[str, int]
    frames: int

    def __init__(self, tar: Path, places: dict[str, int], frames: int, meta: ClipMeta) -> None:
        """``places``: where in the tar the values of each of ``clips.ARRAYS`` begin, in bytes."""
        for name, value in (("tar", tar), ("places", places), ("frames", frames), ("meta", meta)):
            object.__setattr__(self, name, value)  # frozen, as all clips are

    def __len__(self) -> int:
        return self.frames

    @property
    def offsets(self) -> np.ndarray:
        return np.frombuffer(_mapped(self.tar), np.int64, self.frames + 1, self.places["offsets"])

    @property
    def jpeg(self) -> np.ndarray:
        return np.frombuffer(_mapped(self.tar), np.uint8, int(self.offsets[-1]), self.places["jpeg"])

    @property
    def mask_offsets(self) -> np.ndarray:
        return np.frombuffer(_mapped(self.tar), np.int64, self.frames + 1, self.places["mask_offsets"])

    @property
    def masks(self) -> np.ndarray:
        return np.frombuffer(_mapped(self.tar), np.uint8, int(self.mask_offsets[-1]), self.places["masks"])

    @property
    def landmarks(self) -> np.ndarray:
        values = np.frombuffer(_mapped(self.tar), np.float32, self.frames * NUM_LANDMARKS * 2, self.places["landmarks"])
        return values.reshape(self.frames, NUM_LANDMARKS, 2)


@lru_cache(maxsize=OPEN_AT_ONCE)
def _mapped(tar: Path) -> mmap.mmap:
    with tar.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def save_shard(folder: Path, number: int, clips: dict[str, Clip], sources: Sequence[dict[str, Any]]) -> None:
    """Writes clips by key, and what became of the sources that the shard was made of; both beside, then renamed."""
    tar, index = shard_paths(folder, number)
    rows = []
    with written_beside(tar) as beside, tarfile.open(beside, "w") as file:
        for key, clip in clips.items():
            text = json.dumps({"format": FORMAT_VERSION, "frames": len(clip), **clip.meta.to_record()})
            places = {name: _add_array(file, f"{key}.{name}.npy", getattr(clip, name)) for name in ARRAYS}
            _add(file, f"{key}.json", text.encode())
            rows.append({"key": key, "frames": len(clip), "places": places, "meta": clip.meta.to_record()})
    with written_beside(index) as beside:
        text = json.dumps({"format": FORMAT_VERSION, "sources": list(sources), "clips": rows})
        beside.write_text(text, encoding="utf-8")


def _add_array(file: tarfile.TarFile, name: str, array: np.ndarray) -> int:
    """Where its values begin in the tar: at the end of what is added, save what fills the last block."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    header = buffer.tell() - array.nbytes
    return _add(file, name, buffer.getvalue()) + header


def _add(file: tarfile.TarFile, name: str, data: bytes) -> int:
    """Where it begins in the tar. No times and owners: equal clips make equal shards."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    file.addfile(entry, io.BytesIO(data))
    return file.offset - tarfile.BLOCKSIZE * -(-len(data) // tarfile.BLOCKSIZE)


def shard_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """Paths of the tar and of the JSON that describes it."""
    return folder / f"shard-{number:06d}.tar", folder / f"shard-{number:06d}.json"


def read_index(path: Path) -> dict[str, Any]:
    """What ``save_shard`` wrote beside a tar. Raises UnreadableMediaError where it is none or of another format."""
    try:
        index = dict(json.loads(path.read_text(encoding="utf-8")))
        version, _ = index["format"], (index["sources"], index["clips"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableMediaError(
            f"{path} does not describe a shard ({error}). Delete it and prepare again."
        ) from None
    if version != FORMAT_VERSION:
        raise UnreadableMediaError(f"{path} was prepared by another version of this software. Prepare again.")
    return index


def load_shard(path: Path) -> list[Clip]:
    """The clips of a shard, by the path of its json. Raises UnreadableMediaError."""
    index, tar = read_index(path), path.with_suffix(".tar")
    if index["clips"] and not tar.is_file():
        raise UnreadableMediaError(f"There is no {tar}, which {path.name} describes. Delete it and prepare again.")
    try:
        return [
            StoredClip(tar, row["places"], row["frames"], ClipMeta.from_record(row["meta"])) for row in index["clips"]
        ]
    except (KeyError, TypeError) as error:
        raise UnreadableMediaError(
            f"{path} does not describe a shard ({error}). Delete it and prepare again."
        ) from None
