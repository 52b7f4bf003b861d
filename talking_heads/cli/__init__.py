"""The command line: ``talking-heads`` or ``python -m talking_heads``.

Exit codes: 0, done; 1, ``verify`` found no mark; 2, something the user can put right, said in one line on stderr; 130,
stopped with Ctrl-C. An output file is whole or not there. Torch and the models are imported within the commands: help
comes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from ..errors import TalkingHeadsError
from . import animate, batch, live, motion, person, speak, tools  # noqa: F401  (they add their commands)
from .options import MANY, app

__all__ = ["app", "main", "spread"]


def spread(arguments: Sequence[str]) -> list[str]:
    """``--photos a b`` -> ``--photos a --photos b``: shells expand ``*.jpg`` this way. So for all of MANY.

    Commands with such options have no bare words. A photo whose name begins with a dash is given as ``./-name.jpg``.
    """
    result: list[str] = []
    option: str | None = None
    fresh = False
    for word in arguments:
        if word.startswith("-") and word != "-":
            option, fresh = (word if word in MANY else None), True
        elif option is not None and not fresh:
            result.append(option)
        else:
            fresh = False
        result.append(word)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: runs ``arguments`` (the process's own when None) and returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(spread(arguments) or ["--help"], prog_name="talking-heads", standalone_mode=False)
    except TalkingHeadsError as error:
        return _complain(str(error))
    except typer.TyperException as error:  # a wrong command, option or value
        return _complain(getattr(error, "format_message", error.__str__)())
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    return int(code or 0)


def _complain(sentence: str) -> int:
    typer.echo(f"Error: {' '.join(sentence.split())}", err=True)
    return 2
