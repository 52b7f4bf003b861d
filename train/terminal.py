"""Error messages of the commands of this package."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from talking_heads.errors import TalkingHeadsError


@contextmanager
def mistakes_in_one_line(*more: type[Exception]) -> Iterator[None]:
    """Within: what a user can put right becomes one sentence on stderr and exit code 2; Ctrl-C is 130.

    That is TalkingHeadsError, what the system says of files, and ``more``.
    """
    ours: tuple[type[Exception], ...] = (TalkingHeadsError, *more)
    try:
        yield
    except ours as error:
        _complain(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _complain("The disk is full. Free some space and give the same command again.")
        if error.filename is None:  # not about a file
            raise
        _complain(f"{error.filename}: {error.strerror}. Check the path and its permissions.")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _complain(sentence: str) -> NoReturn:
    typer.echo(f"Error: {' '.join(sentence.split())}", err=True)
    raise typer.Exit(2) from None
