"""Verification of files: finds the marks that this software puts on what it makes.

Three marks, each of which survives what another does not. The comment in the metadata is what players and search
engines show, and any program may drop it. The C2PA manifest ("Content Credentials") is signed, so that a change to the
file shows, and is lost when the file is encoded anew. The invisible watermark lies in the pixels and outlives that,
but not a change of size. None of them withstands somebody who wants to be rid of it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import TalkingHeadsError, UnreadableMediaError
from .images import read_photo
from .marks import watermark_agreement
from .reading import probe, read_frames, read_tags
from .writing import AI_GENERATED

MAX_FRAMES = 60
"""How many frames of a clip ``verify`` looks at."""

MIN_AGREEMENT = 30 / 32
"""Share of the payload's bits from which on the invisible watermark counts as found."""

_GENERATED = "trainedalgorithmicmedia"
"""Endings of the digital source types for media that a model made, alone or in part."""


@dataclass(frozen=True)
class Manifest:
    """Contents of a file's C2PA manifest, and whether its signature is valid."""

    state: Literal["none", "trusted", "unknown signer", "broken"]
    """"unknown signer": unchanged since it was signed, but nobody vouches for the certificate; "broken": it does not
    hold, for most often the file was changed after signing."""
    generated: bool = False
    """Whether it says that a trained model made the content or a part of it."""
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
    agreement, count = watermark_agreement(frames)
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
