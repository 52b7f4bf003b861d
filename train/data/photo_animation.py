"""Animated stills: the head of a photo that talks, falls silent, smiles, blinks, looks round and sways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from talking_heads.errors import NoFaceError
from talking_heads.head.eyes import with_gaze
from talking_heads.head.filters import resized
from talking_heads.head.fit import FrameFit
from talking_heads.head.head import Head
from talking_heads.head.masks import ANALYSIS
from talking_heads.head.model import FaceModel, face_model, smoothstep
from talking_heads.head.motion import head_rotation
from talking_heads.head.person_fit import fit_person
from talking_heads.head.photo import MARGIN, REACH
from talking_heads.head.render import Renderer
from talking_heads.landmarks import eye_distance
from talking_heads.tracking.crops import crop_around, face_size
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.tracking.finding import only_face
from talking_heads.tracking.segmentation import person_mask

from .clips import canvas_margin, canvas_side, cut_mask, in_crop, widened
from .speech import Speech

SIZE = 256
FPS = 10.0
STRIDE = 3
"""Moments of the motion from one frame of the clip to the next: few frames show much."""

MAX_YAW, MAX_PITCH = 35.0, 18.0
MAX_SHIFT = np.array([4.5, 2.5, 10.0], np.float32)
"""cm: to the side, up, towards the camera."""
MAX_DEVIATION = 0.05
"""Largest distance between drawn and detected landmarks, in eye distances."""
MIN_FACE_PIXELS = 96.0
MAX_FIT_ERROR = 0.03


@dataclass(frozen=True)
class AnimatablePhoto:
    """A photo that can move with margins around it."""

    head: Head
    """Its crop is the canvas."""
    canvas: np.ndarray
    """uint8 (C, C, 3): the photo."""
    mask: np.ndarray
    """uint8 (C, C): the person."""
    landmarks: np.ndarray
    """float32 (L, 2) in sides of the crop in the middle of the canvas."""

    @classmethod
    def of(
        cls, canvas: np.ndarray, mask: np.ndarray, landmarks: np.ndarray, analysis: int = ANALYSIS
    ) -> AnimatablePhoto:
        """From the photo with double margins, uint8 (REACH * C, REACH * C, 3), the person's mask there, and landmarks
        (L, 2) in sides of the crop. NoFaceError for a face that the model cannot follow."""
        # The canvas is the head's crop: what is drawn has margins then.
        unit = (landmarks + np.float32(MARGIN)) / np.float32(REACH)
        person = fit_person(face_model(), [unit])
        error = person.photos[0].frame.error
        if error > MAX_FIT_ERROR:
            raise NoFaceError(f"The face model misses the face by {100 * error:.1f} % of its size.")
        head = Head.of(face_model(), person, [canvas], [mask], [unit], analysis)
        side = round(len(canvas) / REACH)
        edge = (len(canvas) - side) // 2
        middle = slice(edge, edge + side)
        return cls(head, canvas[middle, middle], mask[middle, middle], landmarks)

    @classmethod
    def of_canvas(cls, canvas: np.ndarray, mask: np.ndarray, landmarks: np.ndarray) -> AnimatablePhoto:
        """From the photo with single margins, as clips keep it; beyond them its edge goes on. See ``of``."""
        edge = canvas_margin(len(canvas))
        wider = np.pad(canvas, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
        return cls.of(wider, np.pad(mask, edge, mode="edge"), landmarks, analysis=64 * max(1, round(len(canvas) / 64)))

    @property
    def start(self) -> FrameFit:
        """Pose and expression as photographed."""
        return self.head.views[0].fit.frame

    @property
    def size(self) -> int:
        """Pixels of the crop in the middle."""
        return round(len(self.canvas) / REACH)


def animatable_photo(image: np.ndarray, detector: LandmarkDetector) -> AnimatablePhoto:
    """A photo, uint8 RGB (H, W, 3), of one person.

    Raises NoFaceError where there is no face, or one that the model cannot follow.
    """
    points = only_face(image, detector)
    if face_size(points) < MIN_FACE_PIXELS:
        raise NoFaceError(f"The face is {face_size(points):.0f} px high; {MIN_FACE_PIXELS:.0f} are needed.")
    crop = crop_around(points, image.shape[:2])
    faces = detector.detect(crop.cut(image, SIZE))
    landmarks = faces[0] if faces else crop.to_crop(points, SIZE)
    beyond, side = widened(widened(crop)), round(REACH * canvas_side(SIZE))
    mask = cut_mask(beyond, person_mask(image), side)
    return AnimatablePhoto.of(beyond.cut(image, side), mask, in_crop(landmarks, SIZE))


def animate(
    photo: AnimatablePhoto,
    detector: LandmarkDetector | None,
    frames: int,
    rng: np.random.Generator,
    own_background: bool = True,
    speech: Speech | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, int]:
    """A photo -> canvases (T, C, C, 3), masks (T, C, C), landmarks (T, L, 2) in sides of the crop, and how many frames
    were dropped. Without a detector none are, and landmarks are those of the posed model.

    Unless ``own_background``, the person is put before an invented background, in frame 0, too. ``speech`` has
    STRIDE * (frames - 1) moments: in frame 0 the person is as photographed.
    """
    side, size = len(photo.canvas), photo.size
    edge = canvas_margin(size)
    renderer = Renderer(photo.head, side)
    canvas, mask, backgrounds = photo.canvas, photo.mask, None
    if not own_background:
        backgrounds = (
            resized(photo.head.views[0].background, side).astype(np.float32),
            255 * invented_background(rng, side),
        )
        unmoved = renderer.draw(photo.start)
        canvas, mask = _before(canvas.astype(np.float32), unmoved.planes[..., 3:], backgrounds)
    canvases, masks, points, dropped = [canvas], [mask], [photo.landmarks], 0
    motion = random_motion(photo.head.model, photo.start, STRIDE * (frames - 1), rng, speech)
    for frame in motion[::STRIDE]:
        drawn = renderer.draw(frame)
        canvas, mask = _before(drawn.picture, drawn.planes[..., 3:], backgrounds)
        seen = drawn.landmarks - np.float32(edge)
        if detector is not None:
            faces = detector.detect(np.ascontiguousarray(canvas[edge : edge + size, edge : edge + size]))
            if not faces or _deviation(faces[0], seen) > MAX_DEVIATION:
                dropped += 1
                continue
            seen = faces[0]
        canvases.append(canvas)
        masks.append(mask)
        points.append(in_crop(seen, size))
    return canvases, masks, np.stack(points), dropped


def _before(
    picture: np.ndarray, opacity: np.ndarray, backgrounds: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """A picture float32 (S, S, 3) in 0..255 and the person's opacity (S, S, 1) -> both uint8, with the second
    background in the place of the first."""
    if backgrounds is not None:
        picture = picture + (1 - opacity) * (backgrounds[1] - backgrounds[0])
    return _bytes(picture), _bytes(255 * opacity[..., 0])


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values + 0.5).clip(0, 255).astype(np.uint8)


def _deviation(detected: np.ndarray, drawn: np.ndarray) -> float:
    """Mean distance in eye distances, without the jaw: its detected outline slides over the skin as the head turns."""
    return float(np.linalg.norm(detected[17:68] - drawn[17:68], axis=1).mean() / eye_distance(detected))


def invented_background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A background (side, side, 3) in 0..1: a wall with things before it, more or less out of focus."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    colour = rng.uniform(0.05, 0.9) + rng.normal(0, 0.08, 3)
    slope = rng.normal(0, 0.25, (2, 1, 1, 1)) + rng.normal(0, 0.05, (2, 1, 1, 3))
    background = colour + slope[0] * (x - 0.5)[..., None] + slope[1] * (y - 0.5)[..., None]
    for _ in range(rng.integers(3, 16)):
        centre, half = rng.uniform(0, 1, 2), np.exp(rng.normal(-2.3, 0.8, 2))
        u, v = np.abs(x - centre[0]) / half[0], np.abs(y - centre[1]) / half[1]
        thing = np.maximum(u, v) < 1 if rng.random() < 0.7 else np.hypot(u, v) < 1
        background[thing] = (
            rng.uniform(0, 1) + rng.normal(0, 0.1, 3) + rng.normal(0, 0.2) * (y[thing, None] - centre[1])
        )
    grain = np.zeros((side, side))
    for step in (2, 8, 32):
        cells = -(-side // step)
        noise = ndimage.zoom(rng.standard_normal((cells, cells)), step, order=1)[:side, :side]
        grain += rng.exponential(0.02) * noise
    background = ndimage.gaussian_filter(background + grain[..., None], (s := rng.exponential(4.0), s, 0))
    return np.ascontiguousarray(background.clip(0, 1), dtype=np.float32)


# --- motion ----------------------------------------------------------------------------------------------------------


def wander(rng: np.random.Generator, frames: int, slowness: float) -> np.ndarray:
    """(T,) smooth noise of unit variance; ``slowness`` in frames."""
    margin = int(4 * slowness) + 1
    noise = ndimage.gaussian_filter1d(rng.standard_normal(frames + 2 * margin), slowness)[margin : margin + frames]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * slowness)


def weights(model: FaceModel, tracks: dict[str, np.ndarray]) -> np.ndarray:
    """(T, E) from tracks (T,) by ARKit's names; a name without Left or Right is of both sides where there are two."""
    result = np.zeros((len(next(iter(tracks.values()))), len(model.expression_names)), np.float32)
    for name, track in tracks.items():
        columns = [i for i, full in enumerate(model.expression_names) if full in (name, f"{name}Left", f"{name}Right")]
        result[:, columns] = np.maximum(track, 0)[:, None]
    return result


def _random_face(frames: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tracks (T,) by ARKit's names, and how silent the person is, (T,) from 0 to 1."""

    def now_and_then(strength: float, slowness: float, threshold: float = 0.6) -> np.ndarray:
        return np.clip(strength * (wander(rng, frames, slowness) - threshold), 0, 1)

    # Now and then lips are closed and at rest, whatever they do in the photo: a smile, or speech, out of a closed mouth
    # is what photos are asked for most.
    silent = smoothstep(0.3, 0.6, wander(rng, frames, 2.5))
    talks = np.clip(0.75 + 0.7 * wander(rng, frames, 4.0), 0, 1) * (1 - silent)
    jaw = talks * np.clip(0.15 + 0.22 * wander(rng, frames, 1.0), 0, 0.6)
    shape = wander(rng, frames, 1.2)  # from round vowels to spread ones
    smiles = (1 - silent) * now_and_then(0.6, 3.0, 0.3)
    tracks = {
        "jawOpen": jaw,
        "mouthFunnel": talks * np.clip(0.4 * shape - 0.1, 0, 0.6),
        "mouthPucker": talks * np.clip(0.4 * shape - 0.2, 0, 0.6),
        "mouthStretch": talks * np.clip(-0.3 * shape - 0.1, 0, 0.5),
        "mouthUpperUp": 0.6 * jaw + 0.35 * smiles + (1 - silent) * now_and_then(0.25, 2.0),
        "mouthLowerDown": 0.7 * jaw + 0.2 * smiles + (1 - silent) * now_and_then(0.25, 2.0),
        "mouthSmile": smiles,
        "mouthFrown": now_and_then(0.3, 3.0),
        "mouthPress": now_and_then(0.3, 2.0),
        "browInnerUp": now_and_then(0.6, 2.0),
        "browOuterUp": now_and_then(0.6, 2.0),
        "browDown": now_and_then(0.5, 2.0),
        "cheekSquint": now_and_then(0.4, 3.0) + 0.3 * smiles,
        "eyeSquint": now_and_then(0.4, 2.0),
        "eyeWide": now_and_then(0.4, 2.0),
        "noseSneer": now_and_then(0.2, 2.0, 0.9),
        "mouthLeft": now_and_then(0.2, 2.0),
        "mouthRight": now_and_then(0.2, 2.0),
    }
    blinks = np.zeros(frames)
    for at in rng.uniform(0, frames, size=max(1, frames // 9)):
        blinks = np.maximum(blinks, smoothstep(2.0, 0.6, np.abs(np.arange(frames) - at)))
    tracks["eyeBlink"] = blinks
    return tracks, silent


def random_motion(
    model: FaceModel, start: FrameFit, frames: int, rng: np.random.Generator, speech: Speech | None = None
) -> list[FrameFit]:
    """T moments of somebody photographed as ``start`` who talks, falls silent, smiles, blinks, looks round and sways.

    ``speech``, of as many moments, takes the place of the invented face but for gaze and blinks, which it adds to; and
    its nods are added to the head's.
    """

    nods = np.zeros((frames, 3)) if speech is None else speech.angles
    yaw = np.clip(16 * wander(rng, frames, 2.2) + nods[:, 0], -MAX_YAW, MAX_YAW)
    pitch = np.clip(8 * wander(rng, frames, 2.2) + nods[:, 1], -MAX_PITCH, MAX_PITCH)
    roll = 5 * wander(rng, frames, 4.0) + nods[:, 2]

    tracks, silent = _random_face(frames, rng)

    # The photo's own expression comes and goes; the direction of its gaze stays the zero of the eyes.
    names = np.array(model.expression_names)
    about_eyes = np.char.startswith(names, "eye")
    lips = np.char.startswith(names, "mouth") | np.char.startswith(names, "jaw")
    remains = np.clip(0.5 + 0.6 * wander(rng, frames, 3.0), 0, 1)[:, None]
    remains = np.where(lips, remains * (1 - silent[:, None]), remains)
    kept = np.where(about_eyes, 1.0, remains) * start.expression
    added = np.clip(weights(model, tracks), 0, 1)
    if speech is not None:
        added = np.maximum(added * np.char.startswith(names, "eyeBlink"), speech.expression)
        # Somebody who speaks with a smile does not shout: of two demands on one muscle the greater counts.
        kept = np.where(about_eyes, kept, np.maximum(kept - added, 0))
    expressions = np.clip(kept + added, 0, 1).astype(np.float32)

    to_side = np.clip(12 * wander(rng, frames, 1.5) + 0.3 * yaw, -20, 20)  # eyes lead where the head goes
    down = np.clip(6 * wander(rng, frames, 1.5), -10, 10)
    sway = np.stack([wander(rng, frames, 3.0) for _ in range(3)], axis=1) * MAX_SHIFT / 2
    shifts = np.clip(sway, -MAX_SHIFT, MAX_SHIFT)
    result = []
    for i in range(frames):
        gaze = start.gaze + np.array([to_side[i], down[i]])
        result.append(
            FrameFit(
                expression=with_gaze(model, expressions[i], gaze).astype(np.float32),
                rotation=head_rotation(np.array([yaw[i], pitch[i], roll[i]])) @ start.rotation,
                translation=start.translation + shifts[i],
                gaze=gaze,
                detail=np.zeros_like(start.detail),
                error=0.0,
            )
        )
    return result
