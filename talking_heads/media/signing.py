"""Content Credentials (C2PA): the signed manifest that says that a file was generated, and who signs."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import OutputError
from ..files import replacing
from .images import save_image
from .marks import marked_picture

SIGNED_SUFFIXES = (".mp4", ".mov", ".jpg", ".jpeg", ".png")
"""Files that ``sign`` signs."""

UNSIGNED_SUFFIXES = (".webm",)
"""Files that this software makes and C2PA has no place in: ``sign`` leaves them as they are."""

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


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


def save_picture(picture: np.ndarray, path: str | Path, *, label: bool) -> None:
    """A generated picture, uint8 RGB (H, W, 3) or RGBA (H, W, 4), as a PNG: marked, and signed. Raises OutputError."""
    save_image(marked_picture(picture, label=label), path)
    sign(path)
