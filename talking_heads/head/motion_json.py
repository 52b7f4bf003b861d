"""Motion out of other programs' JSON: blendshapes of MediaPipe's Face Landmarker, and of NVIDIA's Audio2Face.

MediaPipe: a list of results, one a frame (or an object with such a list as "frames" and, if it knows, "fps"), each as
the library gives it: ``faceBlendshapes`` with ``categories`` of ``categoryName`` and ``score``, and, where it was asked
for, ``facialTransformationMatrixes`` with the 16 numbers of ``data``, column by column, in cm.

Audio2Face: one object with ``exportFps``, ``facsNames`` and ``weightMat``, a row a frame, exported for a face whose
blendshapes have ARKit's names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableMediaError
from ..files import unreadable
from .motion import COEFFICIENTS, GAZE_AT_ONE, MAX_ROWS, Motion, head_angles

_log = logging.getLogger(__name__)

MAX_BYTES = 500_000_000
_DEFAULT_FPS = 30.0
_PLACES = {name.lower(): place for place, name in enumerate(COEFFICIENTS)}


def read_json(path: Path, fps: float | None = None) -> Motion:
    """The motion in a JSON file. ``fps`` overrules what the file says; without either it is read at 30.

    Raises UnreadableMediaError with a sentence for a file of another kind, or with what is no number.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableMediaError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB. Cut it into shorter files.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UnreadableMediaError(_other(path)) from error
    try:
        if isinstance(content, Mapping) and "weightMat" in content:
            return _audio2face(content, path, fps)
        frames = content.get("frames") if isinstance(content, Mapping) else content
        if not isinstance(frames, list) or not frames:
            raise UnreadableMediaError(_other(path))
        told = content.get("fps") if isinstance(content, Mapping) else None
        return _mediapipe(frames, path, _rate(fps, told, path))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UnreadableMediaError(_other(path)) from error


def _other(path: Path) -> str:
    return (
        f"{path} holds no blendshapes of MediaPipe's Face Landmarker or of Audio2Face. "
        "Choose such a file, or a CSV of Live Link Face."
    )


def _rate(asked: float | None, told: Any, path: Path) -> float:
    if asked is not None:
        return asked
    if isinstance(told, (int, float)) and 0 < told < 10_000:
        return float(told)
    _log.warning("%s does not tell its rate: taken as %g a second.", path, _DEFAULT_FPS)
    return _DEFAULT_FPS


def _audio2face(content: Mapping[str, Any], path: Path, fps: float | None) -> Motion:
    names = [str(name) for name in content["facsNames"]]
    places = [_PLACES.get(name.lower()) for name in names]
    if sum(place is not None for place in places) < len(COEFFICIENTS) // 2:
        raise UnreadableMediaError(
            f"{path} has the poses {', '.join(names[:4])} and so on, which are not ARKit's. "
            "Export it for a face with ARKit's 52 blendshapes."
        )
    weights = _table(content["weightMat"], len(names), path)
    coefficients = np.zeros((len(weights), len(COEFFICIENTS)), np.float32)
    for column, place in enumerate(places):
        if place is not None:
            coefficients[:, place] = weights[:, column]
    return _motion(coefficients, None, _rate(fps, content.get("exportFps"), path), np.ones(len(weights), bool), path)


def _mediapipe(frames: Sequence[Mapping[str, Any]], path: Path, fps: float) -> Motion:
    if len(frames) > MAX_ROWS:
        raise UnreadableMediaError(f"{path} has more than {MAX_ROWS:,} frames. Cut it into shorter files.")
    coefficients = np.zeros((len(frames), len(COEFFICIENTS)), np.float32)
    poses = np.tile(np.eye(4), (len(frames), 1, 1))
    seen = np.zeros(len(frames), bool)
    for k, frame in enumerate(frames):
        faces = frame.get("faceBlendshapes", frame.get("face_blendshapes"))
        if faces is None:
            raise UnreadableMediaError(_other(path))
        seen[k] = bool(faces)
        if not faces:  # nobody: held from the frame before
            coefficients[k], poses[k] = coefficients[k - 1] * (k > 0), poses[max(k - 1, 0)]
            continue
        categories = faces[0]["categories"] if isinstance(faces[0], Mapping) else faces[0]
        for category in categories:
            name = category.get("categoryName", category.get("category_name", ""))
            if name.lower() in _PLACES:
                coefficients[k, _PLACES[name.lower()]] = float(category["score"])
        matrices = frame.get("facialTransformationMatrixes", frame.get("facial_transformation_matrixes"))
        if matrices:
            data = matrices[0]["data"] if isinstance(matrices[0], Mapping) else matrices[0]
            poses[k] = np.asarray(data, float).reshape(4, 4).T  # column by column
    if not seen.any():
        raise UnreadableMediaError(f"{path} has no frame in which a face was seen. Choose another file.")
    return _motion(coefficients, poses, fps, seen, path)


def _table(rows: Any, width: int, path: Path) -> np.ndarray:
    table = np.asarray(rows, float)
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise UnreadableMediaError(f"{path} has rows of weights that do not fit its {width} poses. Export it again.")
    if len(table) > MAX_ROWS:
        raise UnreadableMediaError(f"{path} has more than {MAX_ROWS:,} rows. Cut it into shorter files.")
    return table


def _motion(coefficients: np.ndarray, poses: np.ndarray | None, fps: float, seen: np.ndarray, path: Path) -> Motion:
    """Coefficients (T, 52) and matrices (T, 4, 4), or None for a head that does not move."""
    values = coefficients if poses is None else np.concatenate([coefficients.ravel(), poses.ravel()])
    if not np.isfinite(values).all():
        raise UnreadableMediaError(f"{path} has values that are no finite numbers. Export it again.")
    motion = Motion.rest(len(coefficients), fps)
    head, translation = motion.head, motion.translation
    if poses is not None:
        first = int(np.argmax(seen))
        head = head_angles(poses[:, :3, :3]).astype(np.float32)
        translation = (poses[:, :3, 3] - poses[first, :3, 3]).astype(np.float32)
    clipped = np.clip(coefficients, 0, 1)
    return Motion(clipped, head, _gaze(clipped), translation, fps, seen)


def _gaze(coefficients: np.ndarray) -> np.ndarray:
    """Coefficients (T, 52) -> degrees (T, 4) by which the eyes look aside and down, as ``Motion.gaze``."""

    def of(name: str) -> np.ndarray:
        values: np.ndarray = coefficients[:, COEFFICIENTS.index(name)]
        return values

    aside, down = GAZE_AT_ONE
    return np.stack(
        [
            aside * (of("eyeLookOutLeft") - of("eyeLookInLeft")),
            down * (of("eyeLookDownLeft") - of("eyeLookUpLeft")),
            aside * (of("eyeLookInRight") - of("eyeLookOutRight")),
            down * (of("eyeLookDownRight") - of("eyeLookUpRight")),
        ],
        axis=1,
    )
