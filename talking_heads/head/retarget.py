"""One person's motion for another: what changes in the driver's face since it was neutral, added to the photo's.

Coefficients of two people mean the same, so another person's face cannot leak in: identity is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from .eyes import with_gaze
from .fit import MOUTH_AND_LIDS, FrameFit
from .lips import INNER_LIPS, gap_by_coefficient, gap_of_jaw, parting, residual_gap
from .model import FaceModel, face_model, rotation_by, rotation_vector
from .motion import COEFFICIENTS, INDEX, PARTS, Motion, gone_along, head_angles, head_rotation

if TYPE_CHECKING:
    from .head import Head

Mode = Literal["relative", "absolute"]
MODES: tuple[Mode, ...] = ("relative", "absolute")
BLINKS = (INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"])
COEFFICIENT_RANGE = (-0.6, 1.2)
"""How far a person's coefficients may go. Lips that part from a driver's pressed ones part where a photo's only touch;
eyes keep to 0..1."""
_OPENING = (
    *("jawOpen", "mouthFunnel", "mouthShrugUpper"),
    *(name + side for name in ("mouthUpperUp", "mouthLowerDown") for side in ("Left", "Right")),
)
RELAXED = 0.4
"""How much of a smile that shows teeth goes when its lips meet."""
TOUCHING = 0.03
"""cm between the landmarks of inner lips that touch, as fits of photos have them."""
OPEN = 0.5
"""cm more than at rest between the lips of a driver's neutral face, from which on they count as open."""
MAX_NEUTRAL_BLINK = 0.6
"""Limit of the blink in a driver's neutral face, for eyes that look half closed at rest; a larger one would make every
opening a stare."""


@dataclass(frozen=True)
class MotionOptions:
    """Which parts of a motion are carried over, and how strongly. Raises ValueError for what makes no sense."""

    mode: Mode = "relative"
    """"relative": changes since the driver's neutral frame; "absolute": the driver's pose and expression."""
    head: float = 1.0
    """Strength of the head's turns and way; 0 leaves it as in the photo. So for the next two."""
    expression: float = 1.0
    gaze: float = 1.0
    parts: tuple[str, ...] = ()
    """Only these parts of the motion, of ``motion.PARTS``; all if none is named."""
    closed_lips: bool = False
    """Whether lips that meet in the driver's neutral frame meet in the person's face, too, if the photo shows a laugh:
    of relative motion, for drivers that were filmed."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown motion {self.mode!r}; choose one of {', '.join(MODES)}")
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"unknown part {part!r}; choose among {', '.join(PARTS)}")
        for name in ("head", "expression", "gaze"):
            if not 0 <= getattr(self, name) <= 4:
                raise ValueError(f"{name} must lie between 0 and 4, got {getattr(self, name)}")


def motion_of(frames: Sequence[FrameFit], fps: float, seen: np.ndarray | None = None) -> Motion:
    """Fitted frames -> the motion that they are; ``seen`` bool (T,), all if None."""
    expression = np.stack([frame.expression for frame in frames])
    coefficients = np.zeros((len(frames), len(COEFFICIENTS)), np.float32)
    coefficients[:, : expression.shape[1]] = expression  # the model has all but tongueOut, which comes last
    shoulders = [frame.shoulders for frame in frames if frame.shoulders is not None]
    return Motion(
        coefficients=coefficients,
        head=head_angles(np.stack([frame.rotation for frame in frames])),
        gaze=np.stack([frame.gaze.reshape(-1) for frame in frames]),
        translation=np.stack([frame.translation for frame in frames]),
        fps=fps,
        seen=np.ones(len(frames), bool) if seen is None else seen,
        detail=np.stack([frame.detail.reshape(-1) for frame in frames]),
        shoulders=np.stack(shoulders) if len(shoulders) == len(frames) else None,
    )


def frame_of(motion: Motion, index: int, num_expressions: int) -> FrameFit:
    """One frame of a motion as a renderer takes it."""
    return FrameFit(
        expression=motion.coefficients[index, :num_expressions],
        rotation=head_rotation(motion.head[index]),
        translation=motion.translation[index],
        gaze=motion.gaze[index].reshape(2, 2).astype(float),
        detail=motion.detail[index].reshape(len(MOUTH_AND_LIDS), 3),
        error=0.0,
        shoulders=None if motion.shoulders is None else motion.shoulders[index],
    )


def most_neutral(motion: Motion) -> int:
    """The frame with the most frontal head, the mouth closed and at rest, and the eyes open; of those that were seen,
    if any was. A frame of zeros wins: no real face fits to exact zeros, so the motion tells changes from a rest (a
    preset, a voice), which is its neutral frame."""
    c = motion.coefficients
    lids = lid_gaps(motion)
    closed = np.clip(1 - lids / max(float(np.median(lids)), 1e-3), 0, 1)
    mouth = 1.5 * lip_gaps(motion) + 0.1 * c[:, [INDEX[name] for name in PARTS["lips"]]].sum(axis=1)
    gaze = np.abs(motion.gaze).mean(axis=1) / 25
    unrest = np.radians(np.abs(motion.head[:, :2]).sum(axis=1)) + mouth + 3 * closed + 0.3 * gaze
    unrest = np.where(c.any(axis=1) | motion.head.any(axis=1) | motion.gaze.any(axis=1), unrest, -1)
    unrest = unrest + np.where(motion.seen | ~motion.seen.any(), 0, np.inf)
    return int(np.argmin(unrest))


def lips_apart(head: Head) -> Motion:
    """A motion of one frame: what keeps the lips apart in the photo. Counted from it, lips that meet in a motion
    meet in the face, even if the photo shows a laugh; else they would stay as far apart as in the photo."""
    model, view = head.model, head.primary_view
    upper, lower = (model.landmark_vertices[list(points)] for points in INNER_LIPS)
    by_coefficient = gap_by_coefficient(model, *INNER_LIPS)
    shown = view.fit.frame.expression
    gap = float((view.rest[upper, 1] - view.rest[lower, 1]).mean()) - TOUCHING
    opening = np.array([name in _OPENING for name in model.expression_names]) * shown.clip(0)
    apart = np.zeros((1, len(COEFFICIENTS)), np.float32)
    if gap > 0:
        by_opening = float(opening @ by_coefficient)
        apart[0, : len(shown)] = opening * min(gap / max(by_opening, 1e-6), 1.0)
        jaw = model.index("jawOpen")
        apart[0, jaw] += max(gap - by_opening, 0) / by_coefficient[jaw]  # the fit of a laugh is weaker than the laugh
        # Lips that are drawn as wide as in a laugh have next to no height once they meet.
        smiles = [model.index(f"mouthSmile{side}") for side in ("Left", "Right")]
        apart[0, smiles] = RELAXED * min(gap / 0.5, 1.0) * shown[smiles].clip(0)
    zeros = np.zeros((1, 3))
    return Motion(np.clip(apart, 0, 1), zeros, np.zeros((1, 4)), zeros, 25.0)


def with_closed_lips(head: Head, neutral: FrameFit) -> FrameFit:
    """A driver's neutral frame, such that the person's lips meet where the driver's do, though the photo shows a laugh.

    Without it they would stay as far apart as the photo has them. A driver whose own lips are never closed closes none.
    """
    apart = lips_apart(head)
    at_rest = lip_gaps(Motion.rest(1, 25.0))[0]
    if lip_gaps(apart)[0] <= at_rest:
        return neutral
    share = np.clip(1 - (lip_gaps(motion_of([neutral], 25.0))[0] - at_rest) / OPEN, 0, 1)
    change = share * apart.coefficients[0, : len(neutral.expression)]
    return replace(neutral, expression=(neutral.expression + change).astype(np.float32))


def lip_gaps(motion: Motion) -> np.ndarray:
    """(T,) cm between the inner lips of the mean face, from 0."""
    return _gaps(motion, *INNER_LIPS)


def lid_gaps(motion: Motion) -> np.ndarray:
    """(T,) cm between the lids of the mean face, from 0: mean of both eyes."""
    return _gaps(motion, (37, 38, 43, 44), (41, 40, 47, 46))


def _gaps(motion: Motion, upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    """How far landmarks of MOUTH_AND_LIDS are apart in height, on average."""
    model = face_model()
    above, below = (model.landmark_vertices[list(points)] for points in (upper, lower))
    by_coefficient = gap_by_coefficient(model, upper, lower)
    rest = float((model.mean[above, 1] - model.mean[below, 1]).mean())
    gaps: np.ndarray = rest + motion.coefficients[:, : len(by_coefficient)] @ by_coefficient
    return np.maximum(gaps + residual_gap(motion.detail.reshape(len(motion), -1, 3), upper, lower), 0)


class Retargeter:
    """Takes a driver's frames to those of one person. Holds what is constant; nothing changes from frame to frame."""

    def __init__(self, model: FaceModel, photo: FrameFit, neutral: FrameFit, options: MotionOptions) -> None:
        """``photo``: what the person's photo shows, where relative motion starts; ``neutral``: the driver at rest."""
        self.model, self.photo, self.options = model, photo, options
        self.neutral = neutral
        self._parts = set[str]()
        for part in options.parts or ("expression", "head"):
            self._parts.update(PARTS[part])
        self._moved = np.array([name in self._parts for name in model.expression_names])
        self._blinks = [model.index(COEFFICIENTS[k]) for k in BLINKS]
        eyes = np.array([name.startswith("eye") for name in model.expression_names])
        self._range = np.where(eyes, 0.0, COEFFICIENT_RANGE[0]), np.where(eyes, 1.0, COEFFICIENT_RANGE[1])
        lids = 12 if "eyeBlinkLeft" in self._parts else 0
        lips = 20 if "jawOpen" in self._parts else 0
        self._detailed = np.zeros((len(MOUTH_AND_LIDS), 1), np.float32)
        self._detailed[:lids] = 1
        self._detailed[len(MOUTH_AND_LIDS) - lips :] = 1
        self._jaw = model.index("jawOpen")

    def __call__(self, driver: FrameFit) -> FrameFit:
        """The person's frame for one of the driver's."""
        return self._absolute(driver) if self.options.mode == "absolute" else self._relative(driver)

    def _relative(self, driver: FrameFit) -> FrameFit:
        photo, neutral, options = self.photo, self.neutral, self.options
        change = options.expression * (driver.expression - neutral.expression)
        wanted = photo.expression + change
        blinks = self._blinks
        rest, shown = neutral.expression[blinks], driver.expression[blinks]
        wanted[blinks] = _blinked(photo.expression[blinks], rest, shown, options.expression)
        expression = np.where(self._moved, np.clip(wanted, *self._range), photo.expression).astype(np.float32)
        rotation, translation, gaze, shoulders = photo.rotation, photo.translation, photo.gaze, None
        if "head" in self._parts:
            rotation = _scaled(driver.rotation @ neutral.rotation.T, options.head) @ photo.rotation
            translation = photo.translation + options.head * (driver.translation - neutral.translation)
            if driver.shoulders is not None and neutral.shoulders is not None:
                shoulders = options.head * (driver.shoulders - neutral.shoulders)
        if "gaze" in self._parts:
            gaze = photo.gaze + options.gaze * (driver.gaze - neutral.gaze)
            expression = with_gaze(self.model, expression, gaze)
        detail = options.expression * self._detailed * (driver.detail - neutral.detail)
        self._open_jaw_as_lips_open(expression, detail)
        return FrameFit(expression, rotation, translation, gaze, detail.astype(np.float32), 0.0, shoulders)

    def _open_jaw_as_lips_open(self, expression: np.ndarray, detail: np.ndarray) -> None:
        """Changes both: as far as residuals part the lips, the jaw does. Lips alone would bare clenched teeth.

        A driver's neutral face may be fitted with an open jaw and lips that residuals close; then a mouth that opens is
        one whose residuals go.
        """
        before, (least, most) = expression[self._jaw], (limits[self._jaw] for limits in self._range)
        expression[self._jaw] = np.clip(before + residual_gap(detail) / gap_of_jaw(), least, most)
        detail[:, 1] -= (expression[self._jaw] - before) * gap_of_jaw() * parting()

    def _absolute(self, driver: FrameFit) -> FrameFit:
        photo, options = self.photo, self.options
        wanted = photo.expression + options.expression * (driver.expression - photo.expression)
        expression = np.where(self._moved, np.clip(wanted, 0, 1), photo.expression).astype(np.float32)
        rotation, translation, gaze, shoulders = photo.rotation, photo.translation, photo.gaze, None
        if "head" in self._parts:
            rotation = _scaled(driver.rotation @ photo.rotation.T, options.head) @ photo.rotation
            translation = photo.translation + options.head * (driver.translation - photo.translation)
            shoulders = self._shoulders_of(driver, translation)
        if "gaze" in self._parts:
            gaze = photo.gaze + options.gaze * (driver.gaze - photo.gaze)
            expression = with_gaze(self.model, expression, gaze)
        detail = options.expression * self._detailed * driver.detail
        return FrameFit(expression, rotation, translation, gaze, detail, 0.0, shoulders)

    def _shoulders_of(self, driver: FrameFit, translation: np.ndarray) -> np.ndarray | None:
        """In absolute motion: where the head's way leads them, and how much further the driver's have gone than that
        driver's head says."""
        neutral = self.neutral
        if driver.shoulders is None or neutral.shoulders is None:
            return None
        own = driver.shoulders - neutral.shoulders - gone_along(driver.translation - neutral.translation)[:2]
        shoulders: np.ndarray = gone_along(translation - self.photo.translation)[:2] + self.options.head * own
        return shoulders


def _blinked(photo: np.ndarray, neutral: np.ndarray, driver: np.ndarray, strength: float) -> np.ndarray:
    """Lids (2,): a driver's lid that shuts shuts the person's, however far either is open at rest."""
    rest = np.minimum(neutral, MAX_NEUTRAL_BLINK)
    closing = strength * (driver - rest) / (1 - rest)
    opening = strength * np.minimum(driver - rest, 0) / np.maximum(rest, 0.1)
    result: np.ndarray = np.where(driver >= rest, photo + (1 - photo) * closing, photo + photo * opening)
    return result


def _scaled(rotation: np.ndarray, strength: float) -> np.ndarray:
    """A rotation by ``strength`` times its angle, about its own axis."""
    return rotation if strength == 1 else rotation_by(strength * rotation_vector(rotation))


def frames_of(motion: Motion, num_expressions: int) -> Iterator[FrameFit]:
    """All frames of a motion."""
    return (frame_of(motion, index, num_expressions) for index in range(len(motion)))


class HeadRetargeter:
    """Takes drivers' frames to the person of a head."""

    def __init__(self, head: Head, options: MotionOptions) -> None:
        self.head, self.options = head, options
        self._neutral: FrameFit | None = None
        self._retargeter: Retargeter | None = None

    def __call__(self, driver: FrameFit, neutral: FrameFit) -> FrameFit:
        """The person's frame for one of a driver's, and for the frame in which that driver is at rest."""
        if self._retargeter is None or self._neutral is not neutral:
            self._neutral = neutral
            if self.options.closed_lips and self.options.mode == "relative":
                neutral = with_closed_lips(self.head, neutral)
            self._retargeter = Retargeter(
                self.head.model, self.head.primary_view.fit.frame, neutral, self.options
            )  # fmt: skip
        return self._retargeter(driver)


def retargeted(head: Head, frames: Iterable[tuple[FrameFit, FrameFit]], options: MotionOptions) -> Iterator[FrameFit]:
    """A driver's frames, each with the driver's neutral one -> the person's."""
    retarget = HeadRetargeter(head, options)
    return (retarget(frame, neutral) for frame, neutral in frames)
