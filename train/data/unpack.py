"""Unpacks what ``train.pack`` packed: prepared clips in a folder, and the networks of the losses, for ``train.meta``.

A pack is a folder, or the same in a tar:

    clips.npz    of all photos: ``pictures`` uint8, one file behind the other, ``picture_sizes`` (P,); ``masks`` and
                 ``mask_sizes``, the same of the person's masks; ``landmarks`` float16 (P, L, 2) in sides of the crop;
                 and a JSON text, ``description``: clips (photos by number, number of animated copies), networks
    nets/        weights of the content networks and of the identity network, in 16 bit

Photos are there once, whichever clips show them. Animated copies are not there at all: they are drawn here again, by as
many processes as train later. What was begun goes on where it stopped.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from talking_heads.errors import NoFaceError, UnreadableMediaError

from .clips import Clip, ClipMeta, make_clip, write_clip
from .loading import begin_worker
from .photo_animation import AnimatablePhoto, animate

FORMAT_VERSION = 1
CLIPS, NETS = "clips.npz", "nets"
SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Unpacked:
    """Where things lie, as options of ``train.meta`` name them."""

    clips: Path
    feature_net: str
    """Paths with commas between; empty where the pack has none."""
    identity_net: Path | None


class Stored:
    """The clips of a pack, restored one by one."""

    def __init__(self, folder: Path) -> None:
        """Raises UnreadableMediaError for a folder that is no pack."""
        path = folder / CLIPS
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            self.description: dict[str, Any] = json.loads(str(arrays["description"]))
            version = self.description["format"]
            self._pictures = _parts(arrays["pictures"], arrays["picture_sizes"])
            self._masks = _parts(arrays["masks"], arrays["mask_sizes"])
            self._landmarks = arrays["landmarks"].astype(np.float32)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UnreadableMediaError(f"{folder} is no pack ({error}). Make one: python -m train.pack.") from error
        if version != FORMAT_VERSION:
            raise UnreadableMediaError(f"{folder} was packed by another version of this software. Pack again.")
        self.rows: list[dict[str, Any]] = self.description["clips"]
        self.fingerprint = f"{crc32(path.read_bytes()):08x}"

    def __len__(self) -> int:
        return len(self.rows)

    def photo(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Canvas uint8 (C, C, 3), mask uint8 (C, C), and landmarks float32 (L, 2) in sides of the crop."""
        try:
            canvas = np.array(Image.open(io.BytesIO(self._pictures[number])).convert("RGB"))
            mask = Image.open(io.BytesIO(self._masks[number])).convert("L")
        except UnidentifiedImageError:
            codec = self.description["codec"]
            raise UnreadableMediaError(
                f"Pillow cannot read {codec} here. Install a newer one, or pack with --codec webp."
            ) from None
        return canvas, np.array(mask.resize(canvas.shape[:2], Image.Resampling.BICUBIC)), self._landmarks[number]

    def clip(self, index: int) -> Clip:
        """As it was prepared, with new copies where it is animated: the same ones each time."""
        row = self.rows[index]
        meta = ClipMeta.from_record(row["meta"])
        photos = [self.photo(number) for number in row["photos"]]
        canvases, masks = [canvas for canvas, _, _ in photos], [mask for _, mask, _ in photos]
        landmarks = np.stack([points for _, _, points in photos])
        if row["copies"] > 0:
            rng = np.random.default_rng([index, crc32(meta.source.encode())])
            try:
                photo = AnimatablePhoto.of_canvas(*photos[0])
                canvases, masks, landmarks, _ = animate(photo, None, 1 + row["copies"], rng)
            except NoFaceError:  # the photo stays what it is
                pass
        return make_clip(canvases, masks, landmarks, meta)


def _parts(joined: np.ndarray, sizes: np.ndarray) -> list[bytes]:
    ends = np.cumsum(sizes)
    if ends[-1] != len(joined):
        raise ValueError("its parts do not add up")
    return [joined[end - size : end].tobytes() for end, size in zip(ends, sizes, strict=True)]


def unpack(pack: Path, workers: int = 1, say: Callable[[str], None] = lambda _line: None) -> Unpacked:
    """Unpacks beside the pack, into ``NAME-unpacked``; what is there already is not made again.

    ``say`` hears a line every few seconds. Raises UnreadableMediaError for what is no pack.
    """
    target = pack.with_name(f"{pack.stem if pack.is_file() else pack.name}-unpacked")
    source = pack if pack.is_dir() else _extracted(pack, target)
    stored = Stored(source)
    clips, marker = target / "clips", target / f"clips-{stored.fingerprint}"
    if not marker.exists() and clips.exists():  # of another pack of this name
        shutil.rmtree(clips)
    clips.mkdir(parents=True, exist_ok=True)
    marker.touch()
    left = [i for i in range(len(stored)) if not (clips / f"{i:05d}.npz").is_file()]
    if left:
        _restore(stored, clips, left, workers, say)
    nets = stored.description["nets"]
    feature_net = ",".join(str(source / NETS / name) for name in nets["feature"])
    return Unpacked(clips, feature_net, source / NETS / nets["identity"] if nets["identity"] else None)


def _extracted(pack: Path, target: Path) -> Path:
    folder = target / "pack"
    try:
        with tarfile.open(pack) as file:
            folder.mkdir(parents=True, exist_ok=True)
            file.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise UnreadableMediaError(f"{pack} is no pack ({error}). Make one: python -m train.pack.") from None
    return folder


class _Restoring(Dataset[int]):
    """Writes a clip when it is asked for."""

    def __init__(self, stored: Stored, clips: Path) -> None:
        self.stored, self.clips = stored, clips

    def __getitem__(self, index: int) -> int:
        write_clip(self.clips / f"{index:05d}.npz", self.stored.clip(index))
        return index


def _restore(stored: Stored, clips: Path, left: list[int], workers: int, say: Callable[[str], None]) -> None:
    work = _Restoring(stored, clips)
    # One that is drawn comes first: what it compiles, the processes that are forked have.
    left.sort(key=lambda index: stored.rows[index]["copies"] == 0)
    begin = time.monotonic()
    work[left[0]]
    say(f"unpacking: 1 of {len(left)} clips, {time.monotonic() - begin:.0f} s to compile and draw it")
    begin = said = time.monotonic()
    loader = DataLoader(
        work, batch_size=None, sampler=left[1:], num_workers=workers, worker_init_fn=begin_worker,
    )  # fmt: skip
    for done, _ in enumerate(loader, start=1):
        now = time.monotonic()
        if now - said > SECONDS_BETWEEN_LINES or done == len(left) - 1:
            seconds = (now - begin) / done * (len(left) - 1 - done)
            say(f"unpacking: {done + 1} of {len(left)} clips, {seconds:.0f} s left")
            said = now
