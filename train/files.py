"""Files of training runs, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talking_heads.files import renamed


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` if the block ends well and vanishes if it does not.

    It ends in .tmp: what a process leaves there that is killed is taken for no clip, shard or report. What the system
    says about writing is raised as it is: a full disk ends the run, and is not one bad clip.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with renamed(beside, path):
        yield beside
