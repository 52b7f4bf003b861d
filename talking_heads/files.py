"""Small text files: written whole or not at all, and what the system says about them in a sentence."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .errors import OutputError, UnreadableMediaError


@contextlib.contextmanager
def written_whole(path: Path, encoding: str = "ascii") -> Iterator[TextIO]:
    """A file to write to, beside ``path``, whose name it takes if the block ends well. Raises OutputError."""
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("w", encoding=encoding, newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}. Choose another place, or make room.") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            part.unlink()


def unreadable(path: Path, error: OSError) -> UnreadableMediaError:
    """What to raise for a file that the system does not give."""
    return UnreadableMediaError(f"{path} cannot be read: {_reason(error)}. Choose another file.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
