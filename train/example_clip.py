"""The bundled driving clip: a person who does not exist, painted and lit by our own renderer, says one sentence.

    python -m train.example_clip --source FaceXModel --output talking_heads/examples/driving.mp4

Needs ``espeak-ng`` for the voice (only here, when the clip is made), and the face model before its reduction, which has
shoulders (reduce_face_model.py). Everything else is this page.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import typer
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from talking_heads.errors import MissingDependencyError
from talking_heads.head.kernels import interpolate, rasterise, vertex_normals
from talking_heads.head.model import Camera, neck_fade, pixels, smoothstep
from talking_heads.head.motion import head_rotation
from talking_heads.head.photo import inside_outline

from .facekit import PARTS, Source, load_source
from .reduce_face_model import gaze_angle, smooth_curve
from .terminal import mistakes_in_one_line

SENTENCE = "Hello. This face is painted by software, and it moves as I speak."
SIZE, SUPERSAMPLE, FPS, SECONDS = 320, 2, 25, 6.0
SPEECH_STARTS = 0.6  # seconds
NECK_JOINT = np.array([0.0, -6.0, -1.0])  # cm: the head turns about this point
NUM_IDENTITY = 60
ONE_SIDED = ("jawOpen", "mouthFunnel", "mouthPucker")
# Vertices of the full model, from one corner to the other. The lips' outline is closed.
BROWS_AT = ((268, 493, 1914, 2044, 1401), (3615, 4240, 4114, 2734, 2509))
LIDS_AT = ((1507, 1542, 1537, 1528), (3742, 3751, 3756, 3721))
LIPS_AT = (5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5708)

SKIN, LIPS = (0.74, 0.555, 0.47), (0.62, 0.36, 0.345)
HAIR, BROWS = (0.17, 0.115, 0.08), (0.22, 0.15, 0.11)
SCLERA, IRIS, PUPIL = (0.76, 0.73, 0.71), (0.33, 0.25, 0.16), (0.02, 0.02, 0.02)
TEETH, GUMS, SOCKET, SHIRT = (0.84, 0.80, 0.72), (0.62, 0.28, 0.28), (0.42, 0.17, 0.16), (0.20, 0.30, 0.40)
BACKGROUND_TOP, BACKGROUND_BOTTOM = (0.72, 0.74, 0.75), (0.52, 0.55, 0.58)

# Light. Directions point from the face to the lamp; colours are linear.
KEY, KEY_COLOUR, KEY_SPREAD = (-0.45, 0.55, 0.75), (1.75, 1.68, 1.58), 0.3
RIM, RIM_COLOUR = (0.95, 0.25, 0.1), (0.35, 0.4, 0.5)
SKY_COLOUR, GROUND_COLOUR = (0.42, 0.45, 0.5), (0.2, 0.17, 0.15)
WRAP = (0.32, 0.16, 0.12)  # light creeps round into the shade, red farthest: what blood does to skin


@dataclass(frozen=True)
class VertexAttributes:
    """Attributes of every vertex for shading, measured once on the face at rest (all (V,) or (V, 3), cm)."""

    position: np.ndarray
    lips: np.ndarray  # signed distance to the outline of the lips, positive inside
    brows: np.ndarray  # the same for the eyebrows
    lashes: np.ndarray  # distance to the edge of the upper lids
    hair: np.ndarray  # signed distance to the hairline, positive where hair grows
    gaze_angle: np.ndarray  # degrees from the middle of the pupil, 180 off the eyeballs
    kind: np.ndarray  # (V, 7) one-hot: skin, shirt, teeth, gums, mouth socket, eye socket, eyeball


# --- surface ---------------------------------------------------------------------------------------------------------


def vertex_attributes(model: Source) -> VertexAttributes:
    """Where lips, brows, lashes, hair and irises lie on the face at rest."""
    rest = model.mean
    part = np.array([*PARTS, "shell"])[model.part]
    body = np.isin(part, ["face", "head_neck"])
    below_collar = np.clip(0.5 - (rest[:, 1] + 12.2 + 0.35 * rest[:, 2]), 0, 1)
    kind = np.stack(
        [
            body * (1 - below_collar),
            body * below_collar,
            part == "teeth",
            part == "gums_tongue",
            part == "mouth_socket",
            np.char.startswith(part, "eye_socket"),
            np.char.startswith(part, "eyeball"),
        ],
        axis=1,
    ).astype(np.float32)

    brows = np.full(len(rest), -9.0)
    lashes = np.full(len(rest), 9.0)
    for side, (brow, lid) in enumerate(zip(BROWS_AT, LIDS_AT, strict=True)):
        line = smooth_curve(rest[list(brow)])
        outer = np.linspace(0, 1, len(line)) if side == 1 else np.linspace(1, 0, len(line))
        thickness = 0.44 - 0.24 * outer**2 - 0.22 * (1 - smoothstep(0.0, 0.22, outer))
        brows = np.maximum(brows, (thickness - distances(rest, line)).max(axis=1))
        lashes = np.minimum(lashes, distances(rest, smooth_curve(rest[list(lid)])).min(axis=1))

    return VertexAttributes(
        position=rest,
        lips=inside_outline(rest[:, :2], smooth_curve(rest[list(LIPS_AT)])[:, :2]),
        brows=brows,
        lashes=lashes,
        hair=hairline(rest, part),
        gaze_angle=gaze_angle(rest, model.part),
        kind=kind,
    )


def material(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated fields (N, 15) as ``shading_inputs`` lays them out -> albedo (N, 3) in sRGB and gloss (N,)."""
    position, kind = seen[:, :3], seen[:, 8:]
    lips, brows, lashes, hair, angle = seen[:, 3:8].T
    kind = smoothstep(0.4, 0.6, kind)  # crisp seams
    kind /= kind.sum(axis=1, keepdims=True) + 1e-6
    x, y, z = position.T

    # Skin: a broad mottle, a fine one, blood in cheeks, nose and ears, shade below the eyes.
    skin = np.array(SKIN) * (1 + 0.035 * noise(position * 1.1) + 0.03 * noise(position * 5.5))[:, None]
    flush = np.exp(-((np.abs(x) - 4.6) ** 2 + (y + 0.3) ** 2) / 5.0) + 0.8 * np.exp(-(x**2 + (y - 0.2) ** 2) / 1.2)
    flush = 0.09 * flush * smoothstep(5, 8, z) + 0.10 * smoothstep(7.9, 8.6, np.abs(x))
    skin = skin * (1 - flush[:, None] * np.array([0.1, 1.0, 0.9]))
    rings = np.exp(-(((np.abs(x) - 3.0) / 1.3) ** 2) - ((y - 2.35) / 0.45) ** 2) * smoothstep(6, 8, z)
    skin = skin * (1 - rings[:, None] * np.array([0.10, 0.12, 0.08]))

    mouth = smoothstep(-0.10, 0.10, lips) * (z > 6)
    crease = 1 + 0.07 * noise(np.stack([x * 9, y, z], axis=1))
    skin = mix(skin, np.array(LIPS) * crease[:, None], 0.85 * mouth)
    strokes = 0.85 + 0.4 * noise(np.stack([x * 8 + 5 * y, y * 2.5, z], axis=1))
    skin = mix(skin, np.array(BROWS), np.clip(smoothstep(-0.10, 0.22, brows) * strokes, 0, 1) * 0.9 * (z > 4))
    skin = mix(skin, np.array(BROWS) * 0.55, 0.85 * smoothstep(0.24, 0.09, lashes))

    strands = hair_strands(position)
    fringe = smoothstep(-0.35, 0.45, hair + 0.35 * strands)
    skin = mix(skin, np.array(HAIR) * (1 + 0.38 * strands)[:, None], fringe)

    spokes = noise(np.stack([np.arctan2(y - 3.6, np.abs(x) - 3.15) * 7, angle, z * 0], axis=1))
    eye = mix(np.array(SCLERA), np.array(IRIS) * (1.1 + 0.35 * spokes)[:, None], smoothstep(25.5, 22.5, angle))
    rim = 0.55 * np.exp(-(((angle - 24) / 2.2) ** 2))
    eye = mix(eye, np.array(PUPIL), np.maximum(smoothstep(10.5, 8.5, angle), rim))
    pink = smoothstep(1.0, 1.5, np.abs(np.abs(x) - 3.15))
    eye = eye * (1 - 0.3 * pink[:, None] * np.array([0.2, 0.8, 0.7]))

    colours = [skin, np.array(SHIRT) * (1 + 0.06 * noise(position * 14))[:, None]]
    inner = (TEETH, GUMS, SOCKET, np.array(SKIN) * [0.85, 0.6, 0.55])
    colours += [np.broadcast_to(colour, skin.shape) for colour in inner]
    albedo = sum(share[:, None] * colour for share, colour in zip(kind.T, [*colours, eye], strict=True))
    # The mouth is a cave: what lies deep gets no light, whatever its normal says.
    cave = kind[:, 2:5].sum(axis=1)
    albedo = albedo * (1 - cave * (1 - smoothstep(3.0, 9.8, z)))[:, None] ** np.array([0.8, 1.1, 1.1])
    gloss = kind @ np.array([0.30, 0.03, 0.6, 0.7, 0.3, 0.2, 0.0]) * (1 - 0.5 * fringe) + 0.5 * mouth * kind[:, 0]
    return np.clip(albedo, 0, 1), gloss


def shading_inputs(attributes: VertexAttributes) -> np.ndarray:
    """(V, 15): position, lips, brows, lashes, hair, gaze angle, kind. The layout that ``material`` reads."""
    scalars = np.stack(
        [attributes.lips, attributes.brows, attributes.lashes, attributes.hair, attributes.gaze_angle], axis=1
    )
    return np.concatenate([attributes.position, scalars, attributes.kind], axis=1).astype(np.float32)


def hairline(rest: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(V, 3) -> (V,) cm, positive where hair grows: a line z(y) down the temple, before and behind the ear."""
    x, y, z = rest.T
    heights = [-9.0, -5.5, -3.0, 1.0, 3.5, 6.5, 8.5, 9.8, 10.8, 12.0]
    front = [-9.0, -6.0, -3.5, 2.6, 4.0, 5.3, 6.6, 8.2, 12.0, 16.0]
    field = np.interp(y, heights, front) - z
    ear = (part == "face") & (np.abs(x) > 7.55) & (y < 4.3) & (y > -4.5)
    grows = np.isin(part, ["face", "head_neck"]) & ~ear & (y > -6.5)
    return np.where(grows, np.clip(field, -3, 3), -3.0)


def hair_strands(position: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N,) about -1..1: fine across the head, long from front to back, the way it is combed."""
    x, y, z = position.T
    around = np.arctan2(x, y - 3.0) * 8.0
    fine = noise(np.stack([around * 5.0 + 0.6 * z, z * 0.7, y * 0], axis=1))
    locks = noise(np.stack([around * 1.1 + 0.3 * z, z * 0.35, y * 0 + 7], axis=1))
    return 0.6 * fine + 0.4 * locks


def noise(position: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N,) in about -1..1: random values on the unit grid, smoothly interpolated."""
    table = np.random.default_rng(0).uniform(-1, 1, 4096)
    cell = np.floor(position).astype(np.int64)
    t = position - cell
    t = t * t * (3 - 2 * t)
    value = np.zeros(len(position))
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (cell + corner).T
        weight = np.prod(np.where(corner, t, 1 - t), axis=1)
        value += weight * table[(x * 73 + y * 1151 + z * 2909) % 4096]
    return value


def distances(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """(N, D), (M, D) -> (N, M)."""
    return np.sqrt(((points[:, None] - curve[None]) ** 2).sum(axis=-1))


def mix(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lay ``above`` over ``below`` (N, 3) by ``share`` (N,)."""
    return below + share[:, None] * (above - below)


# --- light -----------------------------------------------------------------------------------------------------------


def visibility(vertices: np.ndarray, triangles: np.ndarray, direction: np.ndarray, size: int = 224) -> np.ndarray:
    """(V,) 1 where a vertex sees a far lamp in ``direction``, 0 in shadow: a shadow map, read with soft edges."""
    forward = direction / np.linalg.norm(direction)
    side = np.cross([0.0, 1.0, 0.0], forward)
    side /= np.linalg.norm(side)
    view = vertices @ np.stack([side, np.cross(forward, side), forward], axis=1)
    view = view - [0, -2, 0]
    points = np.column_stack([(view[:, :2] / 19 * 0.5 + 0.5) * size, view[:, 2]]).astype(np.float32)
    _, depth = nearest_surface(points, triangles, size)
    column, row = (np.clip(points[:, k].astype(int), 1, size - 2) for k in (0, 1))
    lit = [points[:, 2] > depth[row + i, column + j] - 0.35 for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.mean(lit, axis=0)


def nearest_surface(points: np.ndarray, triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) in pixels and depth -> (size, size) each: the triangle that a pixel sees, or -1, and its depth."""
    nearest, depth = np.empty((size, size), np.int32), np.empty((size, size), np.float32)
    rasterise(points, triangles, 0, size, nearest, depth)
    return nearest, depth


def light_directions() -> tuple[np.ndarray, np.ndarray]:
    """Directions of a broad key light (8, 3) and of the sky (14, 3), spread evenly."""
    turns = np.arange(8) * 2.4  # the golden angle
    spread = KEY_SPREAD * np.sqrt((np.arange(8) + 0.5) / 8)
    key = np.array(KEY) + spread[:, None] * np.stack([np.cos(turns), np.sin(turns), 0 * turns], axis=1)
    turns = np.arange(14) * 2.4
    height = 1 - 1.25 * (np.arange(14) + 0.5) / 14
    ring = np.sqrt(1 - height**2)
    sky = np.stack([ring * np.cos(turns), height, ring * np.abs(np.sin(turns))], axis=1)
    return key, sky


def shade(albedo: np.ndarray, gloss: np.ndarray, eyes: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """Albedo (N, 3) sRGB, gloss (N,), eyeballs (N,), normals, visible shares of key and sky (N, 5) -> sRGB (N, 3)."""
    normals, key, sky = lit[:, :3], lit[:, 3], lit[:, 4]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    colour = albedo**2.2
    lamp = np.array(KEY) / np.linalg.norm(KEY)
    wrap = np.array(WRAP)
    facing = np.clip((normals @ lamp[:, None] + wrap) / (1 + wrap), 0, None)
    light = facing * key[:, None] * np.array(KEY_COLOUR)
    rim = np.array(RIM) / np.linalg.norm(RIM)
    light = light + np.clip(normals @ rim, 0, None)[:, None] * np.array(RIM_COLOUR) * sky[:, None]
    up = 0.5 + 0.5 * normals[:, 1:2]
    light = light + (sky[:, None] ** 1.2) * (up * np.array(SKY_COLOUR) + (1 - up) * np.array(GROUND_COLOUR))
    half = lamp + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    shine = np.clip(normals @ half, 0, 1)
    colour = colour * light + (gloss * key * 0.35 * shine**24)[:, None]
    colour = colour + (eyes * 0.9 * smoothstep(0.975, 0.992, shine))[:, None]  # the lamp mirrored in the cornea
    return np.clip(colour, 0, None) ** (1 / 2.2)


# --- motion ----------------------------------------------------------------------------------------------------------


def track(times: np.ndarray, *keys: tuple[float, float]) -> np.ndarray:
    """Key values (second, value) -> (T,) eased between them, without overshoot."""
    when, value = zip(*keys, strict=True)
    return PchipInterpolator(when, value)(np.clip(times, when[0], when[-1]))


def blink(times: np.ndarray, at: float) -> np.ndarray:
    """(T,) 0..1: lids close in 0.1 s, rest for a moment, open in 0.2 s."""
    return track(times, (at - 0.12, 0), (at, 1), (at + 0.05, 1), (at + 0.26, 0))


def mouth_tracks(sound: np.ndarray, rate: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Sound (S,) in -1..1 -> loudness (T,) 0..1 and brightness (T,) 0..1: round vowels are dark, spread ones bright."""
    step = rate // FPS
    loudness, brightness = np.zeros(frames), np.full(frames, 0.5)
    window = np.hanning(2 * step)
    pitches = np.fft.rfftfreq(2 * step, 1 / rate)
    padded = np.pad(sound, (step, 2 * step))
    for t in range(frames):
        piece = padded[t * step + step // 2 :][: 2 * step]
        if len(piece) == 2 * step:
            power = np.abs(np.fft.rfft(piece * window)) ** 2
            low = power[(pitches > 250) & (pitches < 1100)].sum()
            high = power[(pitches > 1500) & (pitches < 3200)].sum()
            loudness[t] = np.sqrt(power[(pitches > 150) & (pitches < 3500)].sum())
            brightness[t] = (high + 1e-9) / (low + high + 1e-9)
    loudness = np.clip(loudness / np.percentile(loudness[loudness > 0], 92), 0, 1)
    brightness = brightness**0.5
    return gaussian_filter1d(loudness, 0.7), gaussian_filter1d(brightness, 1.0)


def performance(loudness: np.ndarray, brightness: np.ndarray) -> tuple[list[dict[str, float]], np.ndarray]:
    """Mouth tracks (T,) -> for each frame the strengths of expressions, by ICT's names, and head turns (T, 3, 3)."""
    frames = len(loudness)
    t = np.arange(frames) / FPS
    lids = np.maximum(blink(t, 1.35), blink(t, 4.25))
    smile = track(t, (0, 0.12), (0.5, 0.18), (1.2, 0.3), (1.8, 0.05), (4.6, 0.05), (5.35, 0.55), (6, 0.5))
    look = track(t, (1.2, 0), (1.5, -0.5), (2.2, -0.25), (2.6, 0.0), (3.0, 0.5), (3.9, 0.25), (4.4, 0), (6, 0))
    brow = track(t, (0.3, 0), (0.7, 0.45), (1.3, 0.05), (3.1, 0.0), (3.5, 0.4), (4.0, 0.0), (6, 0.1))
    sway = 0.8 * np.sin(1.9 * t) + 0.5 * np.sin(4.3 * t + 1)
    yaw = track(t, (0, 1), (1.2, 0), (2.35, -20), (2.6, -20), (3.75, 20), (4.0, 20), (5.1, 0), (6, -2)) + sway
    pitch = track(t, (0, 0), (0.6, -3), (0.95, 7), (1.3, 0), (3, -2), (4.6, 0), (5.0, 8), (5.4, 0), (6, 0))
    pitch = pitch + 3.0 + 1.5 * (gaussian_filter1d(loudness, 3.0) - 0.4)
    roll = track(t, (0, 0), (2.4, -3), (3.8, 4), (5.2, 0), (6, 2)) + 0.4 * np.sin(2.7 * t)
    spread = smoothstep(0.2, 0.6, brightness) * loudness
    round_ = smoothstep(0.42, 0.12, brightness) * loudness
    closed = smoothstep(0.25, 0.02, loudness)
    strengths = [
        both_sides(
            jawOpen=0.06 * (1 - closed[i]) + 0.46 * loudness[i] ** 1.2,
            mouthFunnel=0.45 * round_[i],
            mouthPucker=0.35 * round_[i],
            mouthStretch=0.25 * spread[i],
            mouthLowerDown=0.35 * loudness[i] * (1 - round_[i]),
            mouthUpperUp=0.28 * loudness[i] * (1 - round_[i]),
            mouthPress=0.15 * closed[i],
            mouthSmile=smile[i],
            cheekSquint=0.5 * smile[i],
            eyeSquint=0.3 * smile[i],
            browInnerUp=brow[i],
            browOuterUp=0.7 * brow[i],
            eyeBlink=lids[i],
            eyeLookOut_L=max(look[i], 0.0),
            eyeLookIn_R=max(look[i], 0.0),
            eyeLookIn_L=max(-look[i], 0.0),
            eyeLookOut_R=max(-look[i], 0.0),
        )
        for i in range(frames)
    ]
    # Roll leans to the viewer's left here, and the head's angles to the right.
    turns = [head_rotation([yaw[i], pitch[i], -roll[i]]) for i in range(frames)]
    return strengths, np.array(turns)


def both_sides(**strengths: float) -> dict[str, float]:
    """Strengths by name -> by ICT's name. A name without a side stands for the left and the right of what has two."""
    result = {}
    for name, strength in strengths.items():
        single = name.endswith(("_L", "_R")) or name in ONE_SIDED
        result.update(dict.fromkeys((name,) if single else (f"{name}_L", f"{name}_R"), strength))
    return result


# --- picture and sound -----------------------------------------------------------------------------------------------


class PersonRenderer:
    """Renders one person in one light before one background."""

    def __init__(self, model: Source, seed: int) -> None:
        self.model = model
        attributes = vertex_attributes(model)
        self.shading_inputs = shading_inputs(attributes)
        identity_coefficients = np.random.default_rng(seed).normal(0, 0.55, NUM_IDENTITY).astype(np.float32)
        self.body = model.mean + np.tensordot(identity_coefficients, model.identity[:NUM_IDENTITY], axes=1)
        # Hair stands off the scalp and grows in locks; shoulders reach out of the picture.
        lift = smoothstep(-0.2, 2.2, attributes.hair) * (0.85 + 0.25 * hair_strands(attributes.position))
        self.body += vertex_normals(self.body, model.triangles) * lift[:, None]
        down = smoothstep(-11.0, -17.0, self.body[:, 1]) * (model.part == PARTS.index("head_neck"))
        self.body[:, 0] *= 1 + 1.1 * down
        self.body[:, 1] -= 5 * smoothstep(-13.0, -18.0, attributes.position[:, 1])
        self.light_directions = light_directions()
        rows = np.linspace(0, 1, SIZE * SUPERSAMPLE)[:, None, None]
        columns = np.linspace(-1, 1, SIZE * SUPERSAMPLE)[None, :, None]
        glow = np.exp(-((columns + 0.15) ** 2 + (rows * 2 - 0.9) ** 2) / 1.1)
        self.background = (np.array(BACKGROUND_TOP) * (1 - rows) + np.array(BACKGROUND_BOTTOM) * rows) * (
            0.82 + 0.22 * glow
        )

    def render(self, expression: dict[str, float], turn: np.ndarray) -> np.ndarray:
        """Strengths of expressions by ICT's name, head turn (3, 3) -> uint8 RGB (SIZE, SIZE, 3)."""
        model = self.model
        vertices = self.body + model.pose(expression) - model.mean
        arms = vertices - NECK_JOINT
        vertices += neck_fade(model.mean[:, 1:2]) * (arms @ turn.T - arms)  # the shoulders stay
        key, sky = (
            np.mean([visibility(vertices, model.triangles, lamp) for lamp in group], axis=0)
            for group in self.light_directions
        )
        side = SIZE * SUPERSAMPLE
        camera = Camera(scale=1 / 33.5, centre=(0.5, 0.525), distance=110.0)
        points = pixels(camera, vertices, side)
        nearest, _ = nearest_surface(points, model.triangles, side)
        covered = nearest >= 0
        values = np.column_stack([self.shading_inputs, vertex_normals(vertices, model.triangles), key, sky]).astype(
            np.float32
        )
        seen = interpolate(points, model.triangles, nearest, values)[covered]
        albedo, gloss = material(seen[:, :15])
        picture = self.background.copy()
        picture[covered] = shade(albedo, gloss, seen[:, 14], seen[:, 15:])
        small = np.clip(picture, 0, 1).reshape(SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE, 3).mean(axis=(1, 3))
        return (small * 255 + 0.5).astype(np.uint8)


def speak(sentence: str) -> tuple[np.ndarray, int]:
    """Text -> mono sound (S,) in -1..1 and its rate in hertz."""
    if shutil.which("espeak-ng") is None:
        raise MissingDependencyError("The example clip's voice needs espeak-ng. Install it: apt install espeak-ng.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "voice.wav"
        subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "140", "-p", "42", "-w", str(path), sentence], check=True)
        with wave.open(str(path)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0, file.getframerate()


def write_clip(path: Path, frames: list[np.ndarray], sound: np.ndarray, rate: int) -> None:
    """Frames (T, H, W, 3) at FPS and mono sound (S,) -> H.264 + AAC in an mp4 that starts at once in a browser."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "21", "preset": "veryslow"})
        video.width, video.height, video.pix_fmt = SIZE, SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono", bit_rate=64_000)
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(block))
        container.mux(audio.encode())


def make_clip(source: Path, output: Path, seed: int) -> None:
    """Speak, move, render, write."""
    model = load_source(source)
    voice, rate = speak(SENTENCE)
    frames = int(SECONDS * FPS)
    sound = np.zeros(int(SECONDS * rate))
    start = int(SPEECH_STARTS * rate)
    spoken = voice[: len(sound) - start]
    sound[start : start + len(spoken)] = spoken * (0.7 / np.abs(spoken).max())
    expressions, turns = performance(*mouth_tracks(sound, rate, frames))
    renderer = PersonRenderer(model, seed)
    pictures = [renderer.render(expression, turn) for expression, turn in zip(expressions, turns, strict=True)]
    write_clip(output, pictures, sound, rate)


def main(
    source: Path = typer.Option(..., help="ICT-FaceKit's folder FaceXModel, or ict_facekit.npz"),
    output: Path = typer.Option(Path("talking_heads/examples/driving.mp4")),
    seed: int = typer.Option(1, help="which person"),
) -> None:
    """Render the bundled driving clip."""
    with mistakes_in_one_line():
        make_clip(source, output, seed)


if __name__ == "__main__":
    typer.run(main)
