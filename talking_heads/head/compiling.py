"""Functions in machine code, by numba.

The first call of each is compiled, which takes seconds; the result is kept in numba's cache where a folder can be
written to, and in memory alone where none can.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NUMBA_DISABLE_PERFORMANCE_WARNINGS", "1")
from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` in machine code, without the interpreter's lock; from the cache where there is one."""
    options: dict[str, Any] = {
        "nogil": True,
        "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
        "error_model": "numpy",
    }
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for a cache can be written to
        return njit(**options)(function)
