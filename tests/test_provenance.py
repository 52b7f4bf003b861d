"""The marks on what is made: that they are there, that they last as far as is promised, and that nothing else has them.

Videos are written, signed and encoded anew for real; nothing is a stand-in.
"""

from __future__ import annotations

import datetime
import os
import signal
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from media import beep, counted, grey, write_clip, write_gif, write_sound_only
from PIL import Image

from talking_heads import TalkingHeadVideo, __version__
from talking_heads.errors import OutputError, TalkingHeadsError, UnreadableMediaError
from talking_heads.examples import EXAMPLE
from talking_heads.media import signing
from talking_heads.media.composing import compose_side_by_side
from talking_heads.media.marks import marked
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.signing import sign
from talking_heads.media.verifying import verify
from talking_heads.media.writing import AI_GENERATED, VideoWriter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def filmed(photo: np.ndarray, number: int, width: int, height: int) -> Iterator[np.ndarray]:
    """A photo seen by a camera that moves to the right and shakes."""
    picture = Image.fromarray(photo)
    for k in range(number):
        x, y = 40 + 0.8 * k, 20 + 2 * np.sin(k)
        scale = min(400 / width, 400 / height)
        box = (x, y, x + scale * width, y + scale * height)
        yield np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, box=box))


def encoded_anew(path: Path, crf: int) -> Path:
    other = path.with_name(f"{path.stem}-{crf}.mp4")
    with VideoWriter(other, probe(path).fps, crf=crf) as writer:
        for frame in read_frames(path, max_side=10_000):
            writer.write(frame)
    return other


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A video as users get it: 50 frames of 256 x 256 pixels with sound. Copy before changing."""
    folder = tmp_path_factory.mktemp("made")
    driving = write_clip(folder / "driving.mp4", counted(50), sound=beep(2, 0.5))
    made = TalkingHeadVideo(lambda: filmed(astronaut, 50, 256, 256), 50, 25.0, driving=driving)
    return made.save(folder / "ada.mp4")


def copy(path: Path, folder: Path) -> Path:
    other = folder / path.name
    other.write_bytes(path.read_bytes())
    return other


# ----------------------------------------------------------------------------------------------------------- all marks


def test_a_saved_video_carries_all_three_marks(video: Path) -> None:
    found = verify(video)
    assert found.generated and found.comment and found.mark and found.agreement == 1.0 and found.frames == 50
    assert (found.manifest.state, found.manifest.generated) == ("unknown signer", True)
    assert found.manifest.generator == f"talking_heads {__version__}"
    assert found.manifest.signer == "talking_heads development certificate"
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found.manifest.time or "")
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=10)
    text = "\n".join(found.sentences)
    assert "This was generated" in text and "nobody vouches" in text and "32 of 32 bits in 50 frames" in text
    assert probe(video).has_audio and sum(1 for _ in read_frames(video)) == 50
    assert video.read_bytes().index(b"moov") < video.read_bytes().index(b"mdat")  # plays before it is loaded
    assert sorted(path.name for path in video.parent.iterdir() if path.suffix == ".mp4") == ["ada.mp4", "driving.mp4"]


def test_side_by_side_can_carry_all_three_marks(tmp_path: Path, astronaut: np.ndarray) -> None:
    driving = write_clip(tmp_path / "driving.mp4", filmed(astronaut, 10, 256, 256))
    mark = partial(marked, label=False)
    result = filmed(astronaut, 10, 256, 256)
    compose_side_by_side(driving, result, tmp_path / "both.mp4", 25, mark=mark, finish=sign)
    found = verify(tmp_path / "both.mp4")
    assert found.comment and found.mark and found.manifest.state == "unknown signer" and found.frames == 10


def test_encoding_anew_drops_the_manifest_and_not_the_watermark(video: Path) -> None:
    found = verify(encoded_anew(video, 28))
    assert found.mark and found.agreement >= 31 / 32 and found.generated
    assert found.manifest.state == "none" and not found.comment
    assert any("no Content Credentials" in sentence for sentence in found.sentences)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (301, 255), (512, 256)])
def test_the_watermark_lasts_in_every_size(tmp_path: Path, astronaut: np.ndarray, width: int, height: int) -> None:
    with VideoWriter(tmp_path / "v.mp4", 25) as writer:
        for frame in marked(filmed(astronaut, 15, width, height), label=True):
            assert frame.shape == (height, width, 3)
            writer.write(frame)
    assert verify(encoded_anew(tmp_path / "v.mp4", 28)).agreement >= 30 / 32


def test_the_watermark_is_in_small_frames(tmp_path: Path, astronaut: np.ndarray) -> None:
    """With two blocks for each bit the mark survives in a saved file, but not much more compression."""
    made = TalkingHeadVideo(lambda: filmed(astronaut, 30, 128, 128), 30, 25.0)
    assert verify(made.save(tmp_path / "v.mp4")).mark


def test_white_and_black_leave_no_gap(tmp_path: Path) -> None:
    """There blue is at its limit already."""
    screen = grey(255, 256, 256)
    screen[:128] = 0
    with VideoWriter(tmp_path / "v.mp4", 25) as writer:
        for frame in marked([screen] * 10, label=False):
            assert np.abs(frame.astype(int) - screen).max() <= 12
            writer.write(frame)
    assert verify(encoded_anew(tmp_path / "v.mp4", 28)).mark


def test_the_watermark_can_hardly_be_seen(astronaut: np.ndarray) -> None:
    plain = list(filmed(astronaut, 10, 256, 256))
    error = np.stack(list(marked(plain, label=False))).astype(float) - np.stack(plain)
    luma = error @ [0.299, 0.587, 0.114]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 42
    assert np.abs(luma).mean() < 0.3 and np.abs(error).max() <= 12  # it is in the colours


def test_a_still_scene_does_not_flicker(astronaut: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (10, 256, 256, 3))
    first = next(filmed(astronaut, 1, 256, 256)).astype(int)
    plain = np.clip(first + noise, 0, 255).astype(np.uint8)
    error = np.stack(list(marked(plain, label=False))).astype(int) - plain
    assert np.mean(np.abs(np.diff(error, axis=0)) > 4) < 1e-3


def test_the_library_reads_the_watermark(astronaut: np.ndarray) -> None:
    from imwatermark import WatermarkDecoder

    frame = next(marked(filmed(astronaut, 1, 256, 256), label=False))
    decoder = WatermarkDecoder("bytes", 32)
    settings = {"scales": [0, 72, 0], "block": 8}
    read = decoder.decode(np.ascontiguousarray(frame[..., ::-1]), "dwtDctSvd", **settings)
    assert read == bytes.fromhex("fce993e8")


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_the_marks_of_transparent_films(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    """A mov is signed; a webm cannot be, and keeps the two other marks."""
    alpha = np.zeros((256, 256, 1), np.uint8)
    alpha[64:, 40:200] = 255
    path = tmp_path / f"a{suffix}"
    frames = [np.concatenate([frame, alpha], axis=2) for frame in filmed(astronaut, 20, 256, 256)]
    with VideoWriter(path, 25, metadata=AI_GENERATED, finish=partial(sign, title=path.name)) as writer:
        for frame in marked(frames, label=False):
            assert np.array_equal(frame[..., 3:], alpha)
            writer.write(frame)
    found = verify(path)
    assert found.comment and found.mark and found.generated and found.frames == 20
    if suffix == ".mov":
        assert (found.manifest.state, found.manifest.generated) == ("unknown signer", True)
    else:
        assert found.manifest.state == "none"
        assert "no Content Credentials" in found.sentences[2]
        content = path.read_bytes()
        sign(path)
        assert path.read_bytes() == content
    assert verify(encoded_anew(path, 28)).mark  # what was transparent is not any more
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, "a-28.mp4"])


def test_the_colours_of_transparent_frames_are_marked_as_others(astronaut: np.ndarray) -> None:
    plain = list(filmed(astronaut, 3, 300, 256))
    alpha = np.random.default_rng(0).integers(0, 256, (256, 300, 1), dtype=np.uint8)
    got = marked([np.concatenate([frame, alpha], axis=2) for frame in plain], label=False)
    for one, two in zip(got, marked(plain, label=False), strict=True):
        assert np.array_equal(one, np.concatenate([two, alpha], axis=2))


def test_small_frames_stay_as_they_are() -> None:
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(next(marked([small], label=False)), small)


# --------------------------------------------------------------------------------------------------------------- label


@pytest.mark.parametrize(("width", "height"), [(256, 256), (1280, 720), (32, 32)])
def test_the_label_is_in_one_corner(width: int, height: int) -> None:
    plain = grey(120, width, height)
    frame = next(marked([plain], label=True, invisible=False))
    rows, columns = np.nonzero((frame != plain).any(axis=2))
    assert rows.max() < max(32, 0.15 * height) and columns.min() > min(0.6 * width, width - 32) - 1
    assert (plain == 120).all()  # the caller's frame
    if width > 32:
        changed = frame[rows.min() : rows.max(), columns.min() : columns.max()]
        assert changed.max() > 240 and np.median(changed) < 70  # white on dark
        assert rows.max() - rows.min() >= 15
    assert np.array_equal(frame, next(marked([plain], label=True, invisible=False)))


def test_the_label_is_opaque() -> None:
    hidden = np.dstack([grey(250, 256, 256), np.zeros((256, 256), np.uint8)])
    frame = next(marked([hidden], label=True, invisible=False))
    rows, columns = np.nonzero(frame[..., 3])
    label = frame[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.median(label[..., 3]) == 255 and (label[..., 3] == 255).mean() > 0.85  # its corners are round
    assert np.median(label[..., :3]) == 0 and label.max() == 255  # what the pixels hid does not show
    outside = frame[..., 3] == 0
    assert np.array_equal(frame[outside], hidden[outside])
    solid = np.dstack([grey(120, 256, 256), np.full((256, 256), 255, np.uint8)])
    plain = next(marked([solid[..., :3]], label=True, invisible=False)).astype(int)
    over = next(marked([solid], label=True, invisible=False))
    assert np.abs(over[..., :3] - plain).max() <= 1 and (over[..., 3] == 255).all()


def test_the_label_is_in_the_video_if_wanted(tmp_path: Path) -> None:
    made = TalkingHeadVideo(lambda: iter([grey(120, 256, 256)] * 3), 3, 25.0)
    plain, labelled = made.save(tmp_path / "a.mp4"), made.save(tmp_path / "b.mp4", label=True)
    one, two = (next(read_frames(path)).astype(int) for path in (plain, labelled))
    difference = np.abs(one - two).max(axis=2)
    assert difference[:32, 150:].max() > 80 and difference[64:].max() < 16 and difference[:, :128].max() < 16


# ------------------------------------------------------------------------------------------------------------- nothing


@pytest.mark.parametrize("name", ["astronaut", "cat", "coffee", "rocket", "retina", "camera", "moon", "page", "brick"])
def test_photos_have_no_marks(tmp_path: Path, name: str) -> None:
    Image.fromarray(getattr(skimage.data, name)()).convert("RGB").save(tmp_path / "photo.png")
    found = verify(tmp_path / "photo.png")
    assert not found.generated and not found.mark and found.manifest.state == "none" and found.agreement < 27 / 32
    assert "No mark" in found.sentences[0]


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tiff", ".ppm", ".jp2", ".ico"])
def test_pictures_of_every_kind_are_looked_at(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    Image.fromarray(astronaut[:256, :256]).save(tmp_path / f"a{suffix}")
    found = verify(tmp_path / f"a{suffix}")
    assert not found.generated and found.manifest.state == "none" and found.frames == 1


def test_clips_have_no_marks(tmp_path: Path, astronaut: np.ndarray) -> None:
    assert not verify(EXAMPLE).generated
    assert verify(EXAMPLE).agreement < 27 / 32
    write_clip(tmp_path / "a.webm", filmed(astronaut, 10, 320, 240))
    write_clip(tmp_path / "a.mov", [grey(level, 256, 256) for level in (0, 90, 255)])
    write_gif(tmp_path / "a.gif", list(filmed(astronaut, 4, 200, 200)), [100] * 4)
    write_clip(tmp_path / "a.avi", filmed(astronaut, 10, 320, 240))
    write_clip(tmp_path / "a.mpg", filmed(astronaut, 10, 320, 240))
    write_clip(tmp_path / "a.mkv", filmed(astronaut, 10, 320, 240))
    for name in ("a.webm", "a.mov", "a.gif", "a.avi", "a.mpg", "a.mkv"):
        found = verify(tmp_path / name)
        assert not found.generated and found.manifest.state == "none" and found.frames >= 3, name


def test_long_clips_are_sampled(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mp4", counted(300))
    assert 55 <= verify(tmp_path / "long.mp4").frames <= 60


def test_marks_are_found_in_other_containers(tmp_path: Path, astronaut: np.ndarray) -> None:
    frames = list(marked(filmed(astronaut, 20, 256, 256), label=False))
    for suffix in (".webm", ".mov"):
        assert verify(write_clip(tmp_path / f"a{suffix}", frames)).mark, suffix


@pytest.mark.parametrize("name", ["text.mp4", "text.png", "sound.mp4", "empty.jpg", "folder.png", "gone.mp4"])
def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("This is no clip.\n")
    (tmp_path / "text.png").write_text("This is no picture.\n")
    write_sound_only(tmp_path / "sound.mp4")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableMediaError, match=name):
        verify(tmp_path / name)


# ------------------------------------------------------------------------------------------------------------- signing


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".mp4", ".mov"])
def test_a_change_after_signing_shows(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in (".mp4", ".mov"):
        write_clip(path, filmed(astronaut, 5, 64, 64), faststart=True)
    else:
        Image.fromarray(astronaut).save(path)
    sign(path)
    found = verify(path)
    assert found.manifest.state == "unknown signer" and found.generated and not found.mark
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    content = path.read_bytes()
    if suffix == ".png":  # a note in a chunk of its own, or the picture could not be opened
        note = b"tEXtComment\0hello"
        content = content[:-12] + struct.pack(">I", 13) + note + struct.pack(">I", zlib.crc32(note)) + content[-12:]
    else:
        content = content[:-200] + bytes([content[-200] ^ 1]) + content[-199:]  # in the pixels
    path.write_bytes(content)
    found = verify(path)
    assert found.manifest.state == "broken" and not found.generated
    assert any("broken" in sentence for sentence in found.sentences)


def test_other_kinds_of_files_are_not_signed(tmp_path: Path) -> None:
    (tmp_path / "a.gif").touch()
    with pytest.raises(OutputError, match=r"must end in \.mp4"):
        sign(tmp_path / "a.gif")
    with pytest.raises(OutputError, match="no such file"):
        sign(tmp_path / "gone.mp4")
    with pytest.raises(OutputError, match="no such file"):
        sign(tmp_path / "gone.webm")


def test_what_cannot_be_signed_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("This is no clip.\n")
    with pytest.raises(OutputError, match=r"a\.mp4 could not be signed"):
        sign(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_text() == "This is no clip.\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_that_cannot_be_signed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Iterator[np.ndarray]:
        raise AssertionError("painted for nothing")
        yield

    monkeypatch.setenv("TALKING_HEADS_C2PA_KEY", "key.pem")
    with pytest.raises(OutputError, match="TALKING_HEADS_C2PA_CERTIFICATE is not"):
        TalkingHeadVideo(never, 3, 25.0).save(tmp_path / "a.mp4")
    driving = write_clip(tmp_path / "driving.mp4", counted(3))
    with pytest.raises(OutputError):
        compose_side_by_side(driving, iter([grey(0)] * 3), tmp_path / "a.mp4", 25, finish=sign)
    assert [entry.name for entry in tmp_path.iterdir()] == ["driving.mp4"]


def test_ctrl_c_while_signing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sign_file(*arguments)  # type: ignore[arg-type]

    sign_file = signing._sign
    monkeypatch.setattr(signing, "_sign", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TalkingHeadVideo(lambda: iter([grey(0)] * 3), 3, 25.0).save(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------- certificates


def pem_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of somebody's own: chain.pem, root.pem, key.pem, and keys that do not fit."""
    folder = tmp_path_factory.mktemp("studio")
    now = datetime.datetime.now(datetime.UTC)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = []
    for subject, own, root in (("Studio Ada", key, False), ("Root of Trust", root_key, True)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ada Ltd"),
                        x509.NameAttribute(NameOID.COMMON_NAME, subject),
                    ]
                )
            )
            .issuer_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ada Ltd"),
                        x509.NameAttribute(NameOID.COMMON_NAME, "Root of Trust"),
                    ]
                )
            )
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(root, None), critical=True)
            .add_extension(x509.KeyUsage(not root, False, False, False, False, root, root, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )
        if not root:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        chain.append(builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "root.pem").write_bytes(chain[1])
    (folder / "key.pem").write_bytes(pem_of(key))
    sec1 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "sec1.pem").write_bytes(sec1)
    (folder / "other.pem").write_bytes(pem_of(root_key))
    (folder / "locked.pem").write_bytes(pem_of(key, b"secret"))
    (folder / "ed25519.pem").write_bytes(pem_of(ed25519.Ed25519PrivateKey.generate()))
    (folder / "p384.pem").write_bytes(pem_of(ec.generate_private_key(ec.SECP384R1())))
    (folder / "text.pem").write_text("This is no certificate.\n")
    return folder


@pytest.mark.parametrize("key", ["key.pem", "sec1.pem"])
def test_ones_own_certificate(
    tmp_path: Path, studio: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TALKING_HEADS_C2PA_CERTIFICATE", str(studio / "chain.pem"))
    monkeypatch.setenv("TALKING_HEADS_C2PA_KEY", str(studio / key))
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    sign(tmp_path / "a.png", title="Eileen")
    found = verify(tmp_path / "a.png")
    assert (found.manifest.state, found.manifest.signer) == ("unknown signer", "Studio Ada")
    monkeypatch.setenv("TALKING_HEADS_C2PA_ANCHORS", str(studio / "root.pem"))
    found = verify(tmp_path / "a.png")
    assert found.manifest.state == "trusted" and any("trusted here" in sentence for sentence in found.sentences)
    monkeypatch.setenv("TALKING_HEADS_C2PA_ANCHORS", str(studio / "text.pem"))
    with pytest.raises(TalkingHeadsError, match="TALKING_HEADS_C2PA_ANCHORS"):
        verify(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("chain.pem", None, "TALKING_HEADS_C2PA_KEY is not. Set both"),
        (None, "key.pem", "TALKING_HEADS_C2PA_CERTIFICATE is not. Set both"),
        ("gone.pem", "key.pem", "gone.pem cannot be read"),
        ("chain.pem", "gone.pem", "gone.pem cannot be read"),
        ("text.pem", "key.pem", "no PEM file with certificates"),
        ("chain.pem", "text.pem", "no PEM file with a private key"),
        ("chain.pem", "locked.pem", "without password"),
        ("chain.pem", "other.pem", "does not belong"),
        ("chain.pem", "ed25519.pem", "not for ES256"),
        ("chain.pem", "p384.pem", "not for ES256"),
    ],
)
def test_certificates_that_do_not_do(
    tmp_path: Path,
    studio: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: str | None,
    key: str | None,
    sentence: str,
) -> None:
    if certificate:
        monkeypatch.setenv("TALKING_HEADS_C2PA_CERTIFICATE", str(studio / certificate))
    if key:
        monkeypatch.setenv("TALKING_HEADS_C2PA_KEY", str(studio / key))
    Image.fromarray(grey(0)).save(tmp_path / "a.png")
    with pytest.raises(OutputError, match=sentence):
        sign(tmp_path / "a.png")
    assert verify(tmp_path / "a.png").manifest.state == "none"


def test_the_development_certificate_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes do so at the same time."""
    home = tmp_path / "home" / "talking_heads"
    program = "import sys; from talking_heads.media.signing import sign; sign(sys.argv[1])"
    pictures = [tmp_path / f"{k}.png" for k in range(2)]
    for picture in pictures:
        Image.fromarray(grey(0)).save(picture)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TALKING_HEADS_HOME": str(home)}

    def start(picture: Path) -> None:
        subprocess.run([sys.executable, "-c", program, picture], env=environment, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, pictures))
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("TALKING_HEADS_C2PA_ANCHORS", str(file))
    assert [verify(picture).manifest.state for picture in pictures] == ["trusted"] * 2  # all by the same authority


def test_signing_works_where_no_certificate_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKING_HEADS_HOME", "/proc/nowhere")
    Image.fromarray(grey(0)).save(tmp_path / "a.png")
    sign(tmp_path / "a.png")
    assert verify(tmp_path / "a.png").manifest.state == "unknown signer"


def test_metadata_alone_count(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, metadata=AI_GENERATED) as writer:
        writer.write(grey(0))
    found = verify(tmp_path / "a.mp4")
    assert found.generated and found.comment and not found.mark and found.manifest.state == "none"
