"""Brings in the renderer compiled: conftest.py turns numba's compiler off for the sake of face-alignment."""

import numba

switched_off = numba.config.DISABLE_JIT
numba.config.DISABLE_JIT = False
try:
    import train.face_model
    import train.puppets  # noqa: F401
finally:
    numba.config.DISABLE_JIT = switched_off
