"""All prepared clips of a folder, whatever they are stored in."""

from __future__ import annotations

from pathlib import Path

from talking_heads.errors import UnreadableMediaError

from .clips import Clip, load_clip
from .shards import load_shard


def load_clips(folder: Path, split: str | None = "train") -> list[Clip]:
    """All clips below a folder, of files and of shards, in the order of their names, of one split (None: of all).

    Files are read into memory; what shards hold stays there until it is asked for.
    """
    clips = [load_clip(path) for path in sorted(folder.rglob("*.npz"))]
    clips += [clip for path in sorted(folder.rglob("shard-*.json")) for clip in load_shard(path)]
    clips = [clip for clip in clips if split is None or clip.meta.split == split]
    if not clips:
        raise UnreadableMediaError(f"There are no prepared clips in {folder}. Run python -m train.prepare first.")
    return clips
