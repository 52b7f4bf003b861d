"""Prepared clips and the networks of the losses -> one file of a given size, to train on another machine.

    python -m train.pack --clips PREPARED [--clips MORE] --feature-net squeezenet1_0.npz \\
        --identity-net dlib_face_resnet.npz --output pack.tar --megabytes 30
    python -m train.meta --pack pack.tar --minutes 8 --output RUN       there; see docs/rented-card.md

Every person stays. Left out are animated copies, which are drawn anew when the pack is unpacked (data/unpack.py), and
frames of videos beyond ``--frames``. Photos that several clips show are there once. Pictures are compressed as well as
the size allows; the last line of the output says how.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from talking_heads.errors import OutputError
from talking_heads.files import replacing_folder

from .data.clips import Clip
from .data.store import load_clips
from .data.unpack import CLIPS, FORMAT_VERSION, NETS
from .features import load_feature_net
from .files import written_beside
from .identity_net import IdentityNet
from .terminal import mistakes_in_one_line

CODECS: dict[str, dict[str, Any]] = {
    "avif": {"speed": 6},
    "webp": {"method": 6},
    "jpeg": {"optimize": True, "progressive": True},
}
"""The first takes half the bytes of the last for the same error, and 0.15 s a picture."""
QUALITIES = (30, 90)
MASK_QUALITY = 50
TRIED = 96
"""Pictures by which a quality's size is estimated."""
MARGIN = 0.02
MIN_FRAMES = 2
"""Fewest frames of a video that are packed."""


@dataclass(frozen=True)
class Summary:
    """Counts of the packed clips."""

    path: Path
    megabytes: float
    people: int
    clips: int
    photos: int
    video_frames: int
    video_frames_before: int
    copies: int
    codec: str
    quality: int
    network_megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.megabytes:.2f} MB, of which networks take {self.network_megabytes:.2f}. {self.people} "
            f"people in {self.clips} clips; {self.photos} pictures as {self.codec}, quality {self.quality}; "
            f"{self.video_frames} of {self.video_frames_before} frames of videos; {self.copies} animated copies are "
            "drawn again when it is unpacked."
        )


@dataclass(frozen=True)
class NetworkFiles:
    """Weights of the networks of the losses."""

    feature: Sequence[Path] = ()
    """For the content loss."""
    identity: Path | None = None
    """dlib's face recognition network."""


@dataclass
class _Photo:
    """A frame of a clip that travels."""

    clip: Clip
    frame: int
    weight: int
    """Bytes that it takes in the clip."""

    def picture(self) -> Image.Image:
        return _opened(self.clip.jpeg, self.clip.offsets, self.frame, "RGB")

    def mask(self) -> Image.Image:
        return _opened(self.clip.masks, self.clip.mask_offsets, self.frame, "L")


def _opened(data: np.ndarray, offsets: np.ndarray, frame: int, mode: str) -> Image.Image:
    return Image.open(io.BytesIO(data[offsets[frame] : offsets[frame + 1]].tobytes())).convert(mode)


def _selected(clips: Sequence[Clip], frames: int) -> tuple[list[_Photo], list[dict[str, Any]]]:
    """The photos that travel, each once, and of each clip what pack.json says."""
    photos: list[_Photo] = []
    known: dict[bytes, int] = {}
    rows = []
    for clip in clips:
        kind, number = clip.meta.kind, len(clip)
        kept, copies = list(range(number)), 0
        if kind == "animated":
            kept, copies = [0], number - 1
        elif kind == "video" and number > frames:
            kept = np.linspace(0, number - 1, frames).round().astype(int).tolist()
        places = []
        for frame in kept:
            data = clip.jpeg[clip.offsets[frame] : clip.offsets[frame + 1]].tobytes()
            if data not in known:
                known[data] = len(photos)
                photos.append(_Photo(clip, frame, len(data)))
            places.append(known[data])
        rows.append({"meta": clip.meta.to_record(), "photos": places, "copies": copies})
    return photos, rows


def _encoded(picture: Image.Image, codec: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec.upper(), quality=quality, **CODECS[codec])
    return buffer.getvalue()


class _Encoder:
    """Compresses photos with some threads: codecs hold no lock."""

    def __init__(self, codec: str, workers: int, say: Callable[[str], None]) -> None:
        self.codec, self.say = codec, say
        self.pool = ThreadPoolExecutor(workers)

    def encode(self, photos: Sequence[_Photo], quality: int) -> list[bytes]:
        return list(self.pool.map(lambda photo: _encoded(photo.picture(), self.codec, quality), photos))

    def masks(self, photos: Sequence[_Photo]) -> list[bytes]:
        return list(self.pool.map(lambda photo: _encoded(photo.mask(), self.codec, MASK_QUALITY), photos))

    def fitting(self, photos: Sequence[_Photo], room: float) -> int | None:
        """The best quality at which all photos take ``room`` bytes, as some of them say; None if there is none."""
        some = [photos[i] for i in np.linspace(0, len(photos) - 1, min(TRIED, len(photos))).astype(int)]
        # Measured in bytes of the originals: sizes differ more between photos than between codecs.
        scale = sum(photo.weight for photo in photos) / sum(photo.weight for photo in some)
        low, high = QUALITIES[0] - 1, QUALITIES[1]
        while low < high:
            quality = (low + high + 1) // 2
            size = scale * sum(map(len, self.encode(some, quality)))
            self.say(f"quality {quality}: about {size / 1e6:.1f} MB of pictures, {room / 1e6:.1f} MB of room")
            low, high = (quality, high) if size * (1 + MARGIN) <= room else (low, quality - 1)
        return low if low >= QUALITIES[0] else None


def write_pack(
    folders: Sequence[Path],
    output: Path,
    megabytes: float = 30.0,
    networks: NetworkFiles = NetworkFiles(),
    frames: int = 12,
    codec: str = "avif",
    workers: int = 1,
    say: Callable[[str], None] = lambda _line: None,
) -> Summary:
    """Writes a tar, or a folder where ``output`` does not end in .tar; ``frames``: of a video at most.

    Raises OutputError where the size is too small for the worst quality.
    """
    Image.init()
    if codec.upper() not in Image.SAVE:
        raise OutputError(f"Pillow cannot write {codec} here. Choose another --codec.")
    clips = [clip for folder in folders for clip in load_clips(folder, split=None)]
    encoder = _Encoder(codec, workers, say)
    with TemporaryDirectory() as name:
        work = Path(name)
        nets = _write_nets(work / NETS, networks)
        network_size = sum(path.stat().st_size for path in (work / NETS).iterdir())
        quality = None
        while True:
            photos, rows = _selected(clips, frames)
            masks = encoder.masks(photos)
            while True:
                fixed = _write(work, rows, photos, masks, [b""] * len(photos), nets, codec)
                room = 1e6 * megabytes - fixed
                quality = encoder.fitting(photos, room) if quality is None else quality - 1
                if quality is None or quality < QUALITIES[0]:
                    break
                say(f"{len(photos)} pictures are compressed with quality {quality}")
                size = _write(work, rows, photos, masks, encoder.encode(photos, quality), nets, codec)
                if size <= 1e6 * megabytes:
                    _publish(work, output)
                    return _summary(output, size, network_size, clips, rows, photos, codec, quality)
            if frames <= MIN_FRAMES:
                raise OutputError(
                    f"{megabytes:g} MB are too few: {fixed / 1e6:.2f} MB go to networks, masks and landmarks alone. "
                    "Allow more, or pack fewer clips."
                )
            frames, quality = max(MIN_FRAMES, frames // 2), None
            say(f"still too large: {frames} frames of each video stay")


def _write_nets(folder: Path, networks: NetworkFiles) -> dict[str, Any]:
    """In 16 bit, and of the content networks only what is used."""
    folder.mkdir()
    names = []
    for path in networks.feature:
        weights = load_feature_net(path).state_dict()
        names.append(f"{path.stem}.npz")
        np.savez_compressed(folder / names[-1], **{key: value.half().numpy() for key, value in weights.items()})
    if networks.identity is None:
        return {"feature": names, "identity": None}
    IdentityNet(networks.identity)  # says so if it is none
    with np.load(networks.identity) as data:
        arrays = {key: data[key].astype(np.float16) for key in data.files}
    np.savez_compressed(folder / f"{networks.identity.stem}.npz", **arrays)
    return {"feature": names, "identity": f"{networks.identity.stem}.npz"}


def _write(
    work: Path,
    rows: list[dict[str, Any]],
    photos: Sequence[_Photo],
    masks: Sequence[bytes],
    pictures: Sequence[bytes],
    nets: dict[str, Any],
    codec: str,
) -> int:
    """All but the networks, which are there; returns the bytes of a tar of everything."""
    description = {"format": FORMAT_VERSION, "codec": codec, "nets": nets, "clips": rows}
    np.savez_compressed(
        work / CLIPS,
        description=np.array(json.dumps(description)),
        pictures=np.frombuffer(b"".join(pictures), np.uint8),
        picture_sizes=np.array([len(picture) for picture in pictures], np.int32),
        masks=np.frombuffer(b"".join(masks), np.uint8),
        mask_sizes=np.array([len(mask) for mask in masks], np.int32),
        landmarks=np.stack([photo.clip.landmarks[photo.frame] for photo in photos]).astype(np.float16),
    )
    files = [path for path in work.rglob("*") if path.is_file()]
    blocks = sum(1 + -(-path.stat().st_size // tarfile.BLOCKSIZE) for path in files) + 2
    return -(-blocks * tarfile.BLOCKSIZE // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _publish(work: Path, output: Path) -> None:
    """Puts what was written where it was asked for, whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix != ".tar":
        if output.exists() and not (output / CLIPS).is_file():
            raise OutputError(f"{output} exists and is no pack. Choose another folder.")
        with replacing_folder(output) as beside:
            shutil.copytree(work, beside, dirs_exist_ok=True)
        return
    with written_beside(output) as beside, tarfile.open(beside, "w") as file:
        for path in sorted(path for path in work.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(str(path.relative_to(work)))
            entry.size = path.stat().st_size
            with path.open("rb") as data:
                file.addfile(entry, data)


def _summary(
    output: Path,
    size: int,
    network_size: int,
    clips: Sequence[Clip],
    rows: list[dict[str, Any]],
    photos: Sequence[_Photo],
    codec: str,
    quality: int,
) -> Summary:
    videos = [i for i, clip in enumerate(clips) if clip.meta.kind == "video"]
    return Summary(
        path=output,
        megabytes=size / 1e6,
        people=len({clip.meta.person for clip in clips}),
        clips=len(clips),
        photos=len(photos),
        video_frames=sum(len(rows[i]["photos"]) for i in videos),
        video_frames_before=sum(len(clips[i]) for i in videos),
        copies=sum(row["copies"] for row in rows),
        codec=codec,
        quality=quality,
        network_megabytes=network_size / 1e6,
    )


def main(
    clips: Annotated[list[Path], typer.Option(help="Folder of prepared clips; may be given several times.")],
    output: Annotated[Path, typer.Option(help="A .tar to write, or a folder.")],
    feature_net: Annotated[str, typer.Option(help="Weights for the content loss; several with commas.")] = "",
    identity_net: Annotated[
        Path | None, typer.Option(help="Weights of dlib's face recognition network (.npz).", exists=True)
    ] = None,
    megabytes: Annotated[float, typer.Option(help="Size at most, in 1,000,000 bytes.", min=0.01)] = 30.0,
    frames: Annotated[int, typer.Option(help="Of a video, at most.", min=MIN_FRAMES)] = 12,
    codec: Annotated[str, typer.Option(help="avif, webp or jpeg: what Pillow can read there.")] = "avif",
    workers: Annotated[int, typer.Option(help="Threads that compress.", min=1)] = 2,
) -> None:
    """Pack prepared clips and networks into one file of a given size."""
    if codec not in CODECS:
        raise typer.BadParameter(f"choose one of {', '.join(CODECS)}", param_hint="--codec")
    with mistakes_in_one_line(ValueError):
        networks = NetworkFiles([Path(path) for path in feature_net.split(",") if path], identity_net)
        typer.echo(write_pack(clips, output, megabytes, networks, frames, codec, workers, typer.echo))


if __name__ == "__main__":
    typer.run(main)
