"""Where a file comes from: marks on what this software makes, and how to find them again.

Three marks, each of which survives what another does not. The comment in the metadata is what players and search
engines show, and any program may drop it. The C2PA manifest ("Content Credentials") is signed, so that a change to the
file shows, and is lost when the file is encoded anew. The invisible watermark lies in the pixels and outlives that,
but not a change of size. None of them withstands somebody who wants to be rid of it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from . import __version__
from .errors import OutputError, TalkingHeadsError, UnreadableMediaError
from .images import read_photo
from .video import AI_GENERATED, probe, read_frames, read_tags, replacing, save_image

LABEL = "AI-generated"
"""What the visible label says."""

SIGNED_SUFFIXES = (".mp4", ".mov", ".jpg", ".jpeg", ".png")
"""Files that ``sign`` signs."""

UNSIGNED_SUFFIXES = (".webm",)
"""Files that this software makes and C2PA has no place in: ``sign`` leaves them as they are."""

MAX_FRAMES = 60
"""How many frames of a clip ``verify`` looks at."""

MIN_AGREEMENT = 30 / 32
"""Share of the payload's bits from which on the invisible watermark counts as found."""

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_GENERATED = "trainedalgorithmicmedia"
"""How types of what a model made, alone or in parts, end."""


# ------------------------------------------------------------------------------------------------------ marking frames


def marked(frames: Iterable[np.ndarray], *, label: bool, invisible: bool = True) -> Iterator[np.ndarray]:
    """The frames, uint8 RGB (H, W, 3) or RGBA (H, W, 4) of one size, with marks on copies of them, one by one.

    ``label`` writes "AI-generated" into the upper right corner, which is opaque there; elsewhere alpha stays as it is.
    ``invisible`` hides 32 bits in the colours of the
    middle of the frame, at most 512 x 512 pixels. From 256 x 256 pixels on they outlast H.264 at crf 28; smaller frames
    carry them with less to spare, and frames with fewer than 32 blocks of 16 x 16 pixels not at all.
    """
    held: np.ndarray | None = None
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (3, 4):
            raise ValueError(f"expected uint8 (H, W, 3) or (H, W, 4), got {frame.dtype} {frame.shape}")
        height, width = frame.shape[:2]
        # Even, as the video will be: the middle must be the same for who looks for the mark.
        image = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if label:
            _draw_label(image)
        if invisible:
            held = _embed(image[..., :3], held)
        yield image[:height, :width]


def marked_picture(picture: np.ndarray, *, label: bool) -> np.ndarray:
    """One frame, as ``marked`` marks it."""
    return next(marked([picture], label=label))


def save_picture(picture: np.ndarray, path: str | Path, *, label: bool) -> None:
    """A generated picture, uint8 RGB (H, W, 3) or RGBA (H, W, 4), as a PNG: marked, and signed. Raises OutputError."""
    save_image(marked_picture(picture, label=label), path)
    sign(path)


def _draw_label(image: np.ndarray) -> None:
    """Blends the label into ``image`` (H, W, 3) or (H, W, 4)."""
    alpha, colour = _label(image.shape[0], image.shape[1])
    height, width = alpha.shape[:2]
    margin = min(image.shape[0] - height, image.shape[1] - width, height // 3)
    corner = image[margin : margin + height, image.shape[1] - width - margin : image.shape[1] - margin]
    if image.shape[2] == 4:
        corner[:] = _opaque(corner, alpha, colour)
    else:
        corner[:] = (corner * (255 - alpha) + colour + 127) // 255


def _opaque(corner: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """RGBA (h, w, 4) with the label (see ``_label``) over it, and black behind the label where one would look through.

    What a transparent pixel hides does not show under the label.
    """
    own = corner[..., 3:] / 255
    pill = np.minimum(alpha / _PILL, 1)
    total = own + pill - own * pill
    seen = corner[..., :3] * own * (1 - alpha / 255) + colour / 255
    labelled = np.concatenate([seen / np.maximum(total, 1e-6), 255 * total], axis=-1)
    return np.where(alpha > 0, np.rint(labelled).clip(0, 255), corner).astype(np.uint8)


_PILL = 150  # alpha of what lies behind the label's letters


@cache
def _label(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The label for frames of this size: alpha in 0..255 and RGB times alpha, uint16 (h, w, 1) and (h, w, 3)."""
    font = ImageFont.load_default(max(13, min(height, width) // 20))
    left, top, right, bottom = font.getbbox(LABEL)
    space = round(0.35 * (bottom - top))
    pill = Image.new("RGBA", (math.ceil(right - left) + 4 * space, math.ceil(bottom - top) + 2 * space), (0, 0, 0, 0))
    draw = ImageDraw.Draw(pill)
    draw.rounded_rectangle((0, 0, pill.width - 1, pill.height - 1), radius=pill.height / 2, fill=(0, 0, 0, _PILL))
    draw.text((2 * space - left, space - top), LABEL, fill=(255, 255, 255, 255), font=font)
    pill.thumbnail((width, height))  # for frames smaller than the label
    pixels = np.asarray(pill).astype(np.uint16)
    alpha = pixels[..., 3:]
    return alpha, pixels[..., :3] * alpha


# --------------------------------------------------------------------------------------------------------- invisible
#
# The method is dwtDctSvd of the library invisible-watermark, with its parameters block=8 and scales=[0, 72, 0]: in each
# 8 x 8 block of the Haar approximation of U, which is 16 x 16 pixels, the largest singular value s becomes 18 (bit 0)
# or 54 (bit 1) modulo 72; bit k of the payload is in blocks k, k + 32, ... The library reads them. It does not write
# them: it takes one block at a time, eight times as long, and exchanges horizontal and vertical details of U on the way
# back, which shows at edges. Its DCT does not change singular values and is left out.

_PAYLOAD = np.unpackbits(np.frombuffer(hashlib.sha256(b"talking_heads").digest()[:4], np.uint8))
_STEP = 72
_BLOCK = 8
_CELL = 2 * _BLOCK  # pixels
_REGION = 512  # pixels
_HOLD = 0.6 * _STEP  # a value this near to the previous frame's stays there: less flicker
_U = np.array([-0.147, -0.289, 0.436], np.float32)
_U_TO_GREEN, _U_TO_BLUE = -0.395, 2.032


def _region(height: int, width: int) -> tuple[slice, slice] | None:
    """The middle of a frame, in whole blocks; None where it has not one for each bit."""
    rows, columns = (min(side, _REGION) // _CELL * _CELL for side in (height, width))
    if rows * columns < _PAYLOAD.size * _CELL**2:
        return None
    y, x = (height - rows) // 4 * 2, (width - columns) // 4 * 2  # even: the chroma of 4:2:0 stays together
    return slice(y, y + rows), slice(x, x + columns)


def _embed(image: np.ndarray, held: np.ndarray | None) -> np.ndarray | None:
    """Writes the payload into ``image`` (H, W, 3) and returns the singular values; ``held`` are the last frame's."""
    region = _region(*image.shape[:2])
    if region is None:
        return None
    pixels = image[region]
    rows, columns = pixels.shape[0] // _CELL, pixels.shape[1] // _CELL
    approximation = _approximation(pixels)
    blocks = approximation.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)
    left, values, right = _first_singular(blocks)
    offset = 0.25 + 0.5 * np.resize(_PAYLOAD, len(values))
    goal = (np.rint(values / _STEP - offset) + offset) * _STEP
    if held is not None:
        goal = np.where(np.abs(values - held) < _HOLD, held, goal)
    change = (goal - values).astype(np.float32)[:, None, None] * left @ right.transpose(0, 2, 1) / 2
    change = change.reshape(rows, columns, _BLOCK, _BLOCK).transpose(0, 2, 1, 3).reshape(approximation.shape)
    change = change.repeat(2, axis=0).repeat(2, axis=1)
    green, blue = pixels[..., 1] + _U_TO_GREEN * change, pixels[..., 2] + _U_TO_BLUE * change
    # Where a channel leaves 0..255 the pixel becomes darker or lighter instead of losing the change of U.
    beyond = np.minimum(np.minimum(green, blue), 0) + np.maximum(np.maximum(green, blue) - 255, 0)
    for channel, level in enumerate((pixels[..., 0], green, blue)):
        pixels[..., channel] = np.rint(level - beyond).clip(0, 255)
    return goal


def _approximation(pixels: np.ndarray) -> np.ndarray:
    """Pixels (2h, 2w, 3) -> the Haar approximation of their U, float32 (h, w)."""
    pairs = pixels[::2].astype(np.uint16) + pixels[1::2]
    return (pairs[:, ::2] + pairs[:, 1::2]) @ (_U / 2) + 256


def _first_singular(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks (N, n, n) of positive numbers -> left vectors (N, n, 1), largest singular values (N,), right vectors.

    By power iteration; the second value is so much smaller, the blocks being nearly constant, that two rounds do.
    """
    right = np.ones((*blocks.shape[:2], 1), blocks.dtype)
    for _ in range(2):
        left = blocks @ right
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        right = blocks.transpose(0, 2, 1) @ left
        values = np.linalg.norm(right, axis=1, keepdims=True)
        right /= values
    return left, values[:, 0, 0], right


def _agreement(frames: Iterable[np.ndarray]) -> tuple[float, int]:
    """Share of the payload's bits that a vote of all blocks of all frames gets right, and the number of frames."""
    from imwatermark.dwtDctSvd import EmbedDwtDctSvd  # brings torch

    decoder = EmbedDwtDctSvd(wmLen=_PAYLOAD.size, block=_BLOCK)
    votes: list[list[int]] = [[] for _ in _PAYLOAD]
    count = 0
    for frame in frames:
        region = _region(*frame.shape[:2])
        if region is not None:
            decoder.decode_frame(_approximation(frame[region]), _STEP, votes)
        count += 1
    if not votes[0]:
        return 0.0, count
    bits = np.array([np.mean(scores) > 0.5 for scores in votes])
    return float(np.mean(bits == _PAYLOAD)), count


# ------------------------------------------------------------------------------------------------------------- signing


def sign(path: str | Path, title: str | None = None) -> None:
    """Puts a C2PA manifest into an mp4, mov, jpg or png that says that it was generated; whole or not at all.

    C2PA defines no place for a manifest in a webm: such a file stays as it is, and what says that it was generated are
    its metadata and the invisible watermark.

    ``title`` is the file's name unless given. The certificate chain and the key (ES256: NIST P-256) are the PEM files
    that the environment variables TALKING_HEADS_C2PA_CERTIFICATE and TALKING_HEADS_C2PA_KEY name. Without them it is a
    development certificate, made at first use in TALKING_HEADS_HOME (unless set, ~/.local/share/talking_heads):
    it shows that a file was not changed, but not, to others, who made it.

    Raises OutputError if the file or the certificate is not as it should be, or the disk is full.
    """
    path = Path(path)
    if path.suffix.lower() not in SIGNED_SUFFIXES + UNSIGNED_SUFFIXES:
        raise OutputError(f"{path.name} cannot be signed: it must end in {', '.join(SIGNED_SUFFIXES)}.")
    if not path.is_file():
        raise OutputError(f"{path} cannot be signed: there is no such file.")
    if path.suffix.lower() in UNSIGNED_SUFFIXES:
        return
    chain, key = _credentials()
    # In a thread, since the library reads and writes by calling Python back: Ctrl-C would be lost in there.
    with replacing(path) as part, ThreadPoolExecutor(1) as thread:
        thread.submit(_sign, path, part, title or path.name, chain, key).result()


def check_credentials() -> None:
    """Find out before the work, not after it, that its result cannot be signed. Raises OutputError."""
    _credentials()


def _sign(path: Path, signed: Path, title: str, chain: bytes, key: bytes) -> None:
    import c2pa

    created = {
        "action": "c2pa.created",
        "when": _now().isoformat(timespec="seconds"),
        "digitalSourceType": _SOURCE_TYPE,
    }
    manifest = {
        "claim_generator_info": [{"name": "talking_heads", "version": __version__}],
        "title": title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    # Copies of the file wait on the disk: in memory they would grow with the film.
    settings = {"builder": {"thumbnail": {"enabled": False}}, "core": {"backing_store_memory_threshold_in_mb": 1}}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain, key, None)) as signer,
            c2pa.Builder(manifest, context) as builder,
        ):
            builder.sign_file(path, signed, signer)
    except c2pa.C2paError as error:
        raise OutputError(
            f"{title} could not be signed ({error}). Check that the disk has room, that the file is what its name "
            "says, and that the certificate is one for C2PA."
        ) from error


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _credentials() -> tuple[bytes, bytes]:
    """The certificate chain, leaf first, and its key, both PEM. Raises OutputError."""
    names = ("TALKING_HEADS_C2PA_CERTIFICATE", "TALKING_HEADS_C2PA_KEY")
    given = [os.environ.get(name) for name in names]
    if not any(given):
        chain, marker, key = _development_pem().partition(b"-----BEGIN PRIVATE KEY-----")
        return chain, marker + key
    pems = []
    for name, other, file in zip(names, reversed(names), given, strict=True):
        if not file:
            raise OutputError(f"{other} is set and {name} is not. Set both, or neither to sign for development.")
        try:
            pems.append(Path(file).read_bytes())
        except OSError as error:
            raise OutputError(f"{name}: {file} cannot be read ({error.strerror}). Give a PEM file.") from None
    return pems[0], _key_of(*pems)


def _key_of(chain: bytes, key: bytes) -> bytes:
    """The key, as PKCS #8, if it is one for ES256 and of the first certificate of ``chain``. Raises OutputError."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        leaf = load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise OutputError("TALKING_HEADS_C2PA_CERTIFICATE names no PEM file with certificates.") from None
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):  # TypeError: it wants a password
        raise OutputError("TALKING_HEADS_C2PA_KEY names no PEM file with a private key without password.") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise OutputError("The key that TALKING_HEADS_C2PA_KEY names is not for ES256. Make one on the curve P-256.")
    if private.public_key() != leaf.public_key():
        raise OutputError(
            "The key that TALKING_HEADS_C2PA_KEY names does not belong to the first certificate in the file that "
            "TALKING_HEADS_C2PA_CERTIFICATE names."
        )
    return _pkcs8(private)


def _pkcs8(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _development_pem() -> bytes:
    """Chain and key of the development certificate, from its file or made now."""
    try:
        folder = Path(os.environ.get("TALKING_HEADS_HOME") or Path("~/.local/share/talking_heads").expanduser())
        file = folder / "c2pa-development.pem"
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_once(file, _temporary_pem())
        return file.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return _temporary_pem()


def _write_once(file: Path, content: bytes) -> None:
    """Writes a file that only its owner may read; of several processes that try, the first does."""
    descriptor, beside = tempfile.mkstemp(dir=file.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        with contextlib.suppress(FileExistsError):
            os.link(beside, file)  # unlike a rename, never replaces
    finally:
        Path(beside).unlink()


@cache
def _temporary_pem() -> bytes:
    """Chain and key of a development certificate of this process: a leaf, signed by an authority whose key is gone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, authority_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("talking_heads development authority")
    certificates = []
    for name, own, is_authority in (
        (_name("talking_heads development certificate"), key, False),
        (issuer, authority_key, True),
    ):
        builder = (
            x509.CertificateBuilder(issuer, name, own.public_key(), x509.random_serial_number())
            .not_valid_before(_now() - datetime.timedelta(days=1))
            .not_valid_after(_now() + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
                    content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
                    encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )  # fmt: skip
        if not is_authority:
            purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        certificates.append(certificate.public_bytes(serialization.Encoding.PEM))
    return b"".join([*certificates, _pkcs8(key)])


def _name(common_name: str) -> Any:
    from cryptography.x509 import Name, NameAttribute
    from cryptography.x509.oid import NameOID

    return Name(
        [NameAttribute(NameOID.ORGANIZATION_NAME, "talking_heads"), NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


# ----------------------------------------------------------------------------------------------------------- verifying


@dataclass(frozen=True)
class Manifest:
    """What the C2PA manifest of a file says, and whether it may be believed."""

    state: Literal["none", "trusted", "unknown signer", "broken"]
    """"unknown signer": unchanged since it was signed, but nobody vouches for the certificate; "broken": it does not
    hold, for most often the file was changed after signing."""
    generated: bool = False
    """It says that a trained model made the content, or a part of it."""
    signer: str | None = None
    generator: str | None = None
    """The software that made the claim."""
    time: str | None = None
    """ISO 8601: of a time stamp, or else what the signer claims."""
    problem: str | None = None
    """Why it is broken."""


@dataclass(frozen=True)
class Findings:
    """What ``verify`` found in a file."""

    comment: bool
    """The metadata say what AI_GENERATED says."""
    manifest: Manifest
    mark: bool
    """The invisible watermark was found."""
    agreement: float
    """Share of its 32 bits that are right; half of them are by chance."""
    frames: int
    """How many frames were looked at."""

    @property
    def generated(self) -> bool:
        """A mark says that the content is generated; one that is broken does not count."""
        return self.comment or self.mark or (self.manifest.state != "broken" and self.manifest.generated)

    @property
    def sentences(self) -> list[str]:
        """The findings for a person to read, the conclusion first."""
        if self.generated:
            conclusion = "This was generated: at least one mark says so."
        else:
            conclusion = "No mark of generated media was found. That proves nothing: marks can be removed."
        comment = "say that talking_heads made it with AI" if self.comment else "do not say that AI made it"
        looked = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        found = "is there" if self.mark else "was not found"
        return [
            conclusion,
            f"Its metadata {comment}.",
            self._about_the_manifest(),
            f"The invisible watermark of talking_heads {found} ({round(32 * self.agreement)} of 32 bits in {looked}).",
        ]

    def _about_the_manifest(self) -> str:
        manifest = self.manifest
        if manifest.state == "none":
            return "It carries no Content Credentials (C2PA)."
        if manifest.state == "broken":
            return (
                f"Its Content Credentials (C2PA) are broken ({manifest.problem}): it was changed after it was signed, "
                "or the signature was never good. What they say cannot be believed."
            )
        says = "it was generated" if manifest.generated else "nothing about being generated"
        signer = f"Its Content Credentials (C2PA) are valid, signed by {manifest.signer or 'somebody without a name'}"
        vouched = "who is trusted here" if manifest.state == "trusted" else "for whom nobody vouches here"
        made = f"made with {manifest.generator or 'unnamed software'}, {manifest.time or 'at a time not stated'}"
        return f"{signer}, {vouched}, and say: {says}, {made}."


def verify(path: str | Path) -> Findings:
    """Looks for the three marks in a clip (mp4, mov, webm, mkv, avi, mpg, gif) or a picture (png, jpg, webp, ...).

    Of a clip at most MAX_FRAMES frames are looked at, spread over its length. A C2PA manifest is trusted if its
    certificate comes from one of the authorities in the PEM file that TALKING_HEADS_C2PA_ANCHORS names. Nothing is
    fetched from a network.

    The invisible watermark counts as found if at least 30 of its 32 bits are right. Whatever bits an unmarked file
    shows, a payload drawn at random agrees with them that well with a probability of (1 + 32 + 496) / 2^32 = 1.2e-7,
    and the payload was drawn once, by hashing this software's name: one unmarked file in eight million is taken for a
    marked one.

    Raises UnreadableMediaError for anything else than a clip or a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableMediaError(f"The file {path} does not exist, or is a folder. Check the path.")
    comment = False
    if _is_picture(path):
        frames: Iterable[np.ndarray] = [read_photo(path, max_side=1 << 20)]
    else:
        frames = _spread(path)
        comment = AI_GENERATED["comment"] in read_tags(path).get("comment", "")
    agreement, count = _agreement(frames)
    return Findings(comment, _manifest(path), agreement >= MIN_AGREEMENT, agreement, count)


def _is_picture(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.format != "GIF"
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return False


def _spread(path: Path) -> Iterator[np.ndarray]:
    """At most MAX_FRAMES frames of a clip, in full size."""
    try:
        info = probe(path)
    except UnreadableMediaError as error:
        raise UnreadableMediaError(
            f"{path.name} is neither a picture nor a clip that can be read. Give an mp4, mov, webm, gif, png or jpg."
        ) from error
    rate = info.fps if not info.duration else min(info.fps, max(0.01, MAX_FRAMES / info.duration))
    return islice(read_frames(path, fps=rate, max_side=1 << 20), MAX_FRAMES)


def _manifest(path: Path) -> Manifest:
    import c2pa

    # A manifest may name an address to read the rest from: whoever sends a file must not send us anywhere.
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    anchors = os.environ.get("TALKING_HEADS_C2PA_ANCHORS")
    try:
        if anchors:
            settings["trust"] = {"trust_anchors": Path(anchors).read_text()}
        context = c2pa.Context.from_dict(settings)
    except (OSError, ValueError, c2pa.C2paError) as error:
        raise TalkingHeadsError(f"TALKING_HEADS_C2PA_ANCHORS: {anchors} is no PEM file of certificates.") from error
    try:
        with context, path.open("rb") as stream, c2pa.Reader(None, stream, context=context) as reader:
            state, report = reader.get_validation_state(), json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return Manifest("none")
    except c2pa.C2paError as error:
        return Manifest("broken", problem=str(error))
    active = report.get("manifests", {}).get(report.get("active_manifest"), {})
    signature = active.get("signature_info") or {}
    actions = [
        action
        for assertion in active.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    generators = active.get("claim_generator_info") or [{"name": active.get("claim_generator")}]
    generator = " ".join(str(generators[0][part]) for part in ("name", "version") if generators[0].get(part))
    failures = [
        status.get("explanation") or status["code"]
        for status in report.get("validation_status") or ()
        if status["code"] != "signingCredential.untrusted"
    ]
    believed: dict[str | None, Literal["trusted", "unknown signer"]] = {"Trusted": "trusted", "Valid": "unknown signer"}
    return Manifest(
        state=believed.get(state, "broken"),
        generated=any(str(action.get("digitalSourceType")).lower().endswith(_GENERATED) for action in actions),
        signer=signature.get("common_name") or signature.get("issuer"),
        generator=generator or None,
        time=signature.get("time") or next((action["when"] for action in actions if action.get("when")), None),
        problem=None if state in believed else "; ".join(failures) or "the library does not say why",
    )
