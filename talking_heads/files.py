"""Files and folders that are written whole or not at all, and what the system says about them in a sentence.

``replacing`` gives a name to write to, ``written_whole`` an open text file, ``replacing_folder`` a folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

from .errors import OutputError, UnreadableMediaError

Kinds = tuple[Any, ...]
"""Types of errors that have ``errno`` and ``strerror``, as OSError has."""


@contextlib.contextmanager
def written_whole(path: Path, encoding: str = "ascii") -> Iterator[TextIO]:
    """A file to write to, beside ``path``, whose name it takes if the block ends well. Raises OutputError."""
    part = beside(path)
    try:
        with renamed(part, path), part.open("w", encoding=encoding, newline="") as file:
            yield file
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}. Choose another place, or make room.") from error


def unreadable(path: Path, error: OSError) -> UnreadableMediaError:
    """The error for a file that the system cannot open."""
    return UnreadableMediaError(f"{path} cannot be read: {_reason(error)}. Choose another file.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def check_writable(path: str | Path, suffixes: Sequence[str] = (".mp4",)) -> None:
    """Find out before the work, not after it, that its result cannot be written. Leaves no trace.

    Raises OutputError if the suffix is none of ``suffixes``, the folder is missing or refuses files, or the disk is
    full.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"The output {path.name} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the path of a file.")
    with output_errors(path), tempfile.TemporaryFile(dir=path.parent):
        pass


def beside(path: Path) -> Path:
    """A hidden name in the same folder: on the same disk, so that taking the final name is one step."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path, kinds: Kinds = (OSError,)) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` if the block ends well and vanishes if it does not.

    What the system says about writing, ``kinds`` of errors, is an OutputError.
    """
    part = beside(path)
    with output_errors(path, kinds), renamed(part, path):
        yield part


@contextlib.contextmanager
def renamed(part: Path, path: Path) -> Iterator[None]:
    """``part`` is written within; it becomes ``path`` if the block ends well and vanishes if it does not."""
    try:
        yield
        part.replace(path)
    finally:
        remove(part)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, beside ``folder``, whose place it takes at the end: whole, or not at all.

    Files that were in ``folder`` and are not written anew (a card, say) stay. Raises OutputError with a sentence.
    """
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        yield beside
        if folder.exists():
            for kept in folder.iterdir():
                if not (beside / kept.name).exists():
                    (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, beside / kept.name)
            folder.replace(old)
        beside.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder} cannot be written: {reason}. Choose another folder, or make room.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove(part: Path) -> None:
    """Takes a file away that may be there."""
    with contextlib.suppress(OSError):  # nothing there, or an error under way that says more
        part.unlink()


@contextlib.contextmanager
def output_errors(path: Path, kinds: Kinds = (OSError,)) -> Iterator[None]:
    """Turns the system's errors of ``kinds`` in writing ``path`` into an OutputError with a sentence."""
    try:
        yield
    except kinds as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"The disk is full: {path} could not be written. Free some space and try again."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"The folder {path.parent} may not be written to. Choose another one."
        elif error.errno in (errno.ENOENT, errno.ENOTDIR) and not path.parent.is_dir():
            message = f"The folder {path.parent} does not exist. Create it first, or choose another one."
        else:
            message = f"{path} could not be written ({error.strerror})."
        raise OutputError(message) from error
