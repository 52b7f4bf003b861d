"""Faces moved by controls instead of by a clip: angles of the head, and strengths of expressions.

The controls move the mean face, which then drives a person's face as any driver does (motion.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from .face_pose import MEAN_FACE, rotation_matrix
from .landmarks import LOWER_LIDS, UPPER_LIDS, irises_within_lids
from .motion import mouth_openness, retarget

RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-25, 25),
    "pitch": (-15, 15),
    "roll": (-20, 20),
    "mouth": (0, 1),
    "lips": (-1, 1),
    "smile": (-1, 1),
    "eyelids": (-1, 1),
    "brows": (-1, 1),
    "gaze_x": (-1, 1),
    "gaze_y": (-1, 1),
}
"""Lowest and highest value of each control; 0 is as in the photo. Beyond them pictures are no longer believable."""

NECK = np.array([0.0, 0.45, -0.2])
"""About what the head turns, in the axes and units of MEAN_FACE."""


@dataclass(frozen=True)
class FaceControls:
    """A pose and an expression, relative to a photo's. Raises ValueError for a value out of RANGES.

    Right and down are the image's; the image's right is the person's left.
    """

    yaw: float = 0.0
    """Degrees; positive: to the right."""
    pitch: float = 0.0
    """Degrees; positive: down."""
    roll: float = 0.0
    """Degrees in the image; positive: clockwise."""
    mouth: float = 0.0
    """0 as in the photo, 1 wide open."""
    lips: float = 0.0
    """-1 drawn wide, as for "ee", 1 rounded, as for "oo"."""
    smile: float = 0.0
    """-1 corners of the mouth down, 1 up."""
    eyelids: float = 0.0
    """-1 closed, 0 as in the photo, 1 wide open."""
    brows: float = 0.0
    """-1 lowered, 1 raised."""
    gaze_x: float = 0.0
    """-1 to the left, 1 to the right."""
    gaze_y: float = 0.0
    """-1 up, 1 down."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), RANGES[field.name]
            if not low <= value <= high:  # so written, nan is refused as well
                raise ValueError(f"{field.name} must lie between {low} and {high}, got {value}")


def _load(path: Path) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8") as file:
        names = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",", dtype=np.float32).reshape(len(MEAN_FACE), -1, 3)
    return {name.removesuffix(".x"): table[:, k] for k, name in enumerate(names[::3])}


DISPLACEMENTS = _load(Path(__file__).parent / "expressions.csv")
"""How far the landmarks of MEAN_FACE move at full strength, float32 (L, 3) for "smile+", "smile-" and so on. Made by
train/expressions.py."""


def mean_face(controls: FaceControls) -> np.ndarray:
    """The mean face, moved: float32 (L, 2), the face's size being 1, around (0, 0) when it looks ahead."""
    shape = MEAN_FACE.astype(np.float64)
    for name, moved in DISPLACEMENTS.items():
        strength = getattr(controls, name[:-1])
        shape += max(strength if name.endswith("+") else -strength, 0.0) * moved
    turn = rotation_matrix(*np.radians([controls.yaw, controls.pitch, controls.roll]))
    return ((shape - NECK) @ turn.T + NECK)[:, :2].astype(np.float32)


_WIDE_OPEN = float(mouth_openness(mean_face(FaceControls(mouth=1.0))))


def posed(photo: np.ndarray, controls: FaceControls) -> np.ndarray:
    """A person's landmarks (L, 2) as the controls would have them: float32 (L, 2), in the same pixels.

    ``mouth`` opens what the photo leaves of a wide open mouth. At ``eyelids`` -1 upper lids lie on lower ones.
    """
    left = 1 - float(mouth_openness(photo)) / _WIDE_OPEN
    controls = replace(controls, mouth=controls.mouth * max(left, 0.0))
    shut = replace(controls, eyelids=-1.0)
    now, closed = retarget(np.stack([mean_face(controls), mean_face(shut)]), photo, neutral=mean_face(FaceControls()))
    # The person's lids are not those of the mean face: what is missing when they close is made up in proportion.
    now[UPPER_LIDS] += max(-controls.eyelids, 0.0) * (closed[LOWER_LIDS] - closed[UPPER_LIDS])
    return irises_within_lids(now)
