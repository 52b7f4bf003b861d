"""Makes docs/way.jpg: a photo, the head that is fitted to it, that head in another pose, and the finished frame.

python -m docs.way
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from talking_heads import FaceControls, TalkingHeadPipeline
from talking_heads.head.fit import FrameFit
from talking_heads.head.head import Head
from talking_heads.head.kernels import interpolate, rasterise, vertex_normals
from talking_heads.head.model import pixels
from talking_heads.head.render import Renderer
from talking_heads.head.retarget import MotionOptions, Retargeter, frame_of

SIZE = 512
CONTROLS = FaceControls(yaw=18, smile=0.5, mouth=0.35, brows=0.4)


def shaded(head: Head, frame: FrameFit) -> np.ndarray:
    """The mesh alone, in one colour under one light: uint8 (SIZE, SIZE, 3)."""
    renderer, model = Renderer(head, SIZE), head.model
    points, _ = renderer._points(frame, head.primary_view)
    nearest, depth = np.empty((SIZE, SIZE), np.int32), np.empty((SIZE, SIZE), np.float32)
    rasterise(points, model.triangles, 0, SIZE, nearest, depth)
    flat = points * np.array([1, -1, pixels(head.primary_view.fit.camera, np.eye(3), SIZE)[0, 0] / 20], np.float32)
    normals = vertex_normals(np.ascontiguousarray(flat), model.triangles)
    light = 0.35 + 0.65 * np.abs(normals @ np.array([-0.3, 0.4, 0.87], np.float32))
    values = interpolate(points, model.triangles, nearest, np.repeat(light[:, None], 3, axis=1).astype(np.float32))
    return np.where(nearest[..., None] >= 0, 60 + 180 * values, 255).clip(0, 255).astype(np.uint8)


def main() -> None:
    """Write the picture."""
    pipe = TalkingHeadPipeline.from_pretrained()
    photo = np.asarray(Image.fromarray(astronaut()).resize((1536, 1536), Image.Resampling.LANCZOS))
    avatar = pipe.create_avatar([photo])
    head = avatar.head
    view = head.primary_view
    rest = frame_of(FaceControls().motion(), 0, len(head.model.expression_names))
    moved = frame_of(CONTROLS.motion(), 0, len(head.model.expression_names))
    target = Retargeter(head.model, view.fit.frame, rest, MotionOptions())(moved)
    drawn = Renderer(head, SIZE).draw(target).picture.clip(0, 255).astype(np.uint8)
    columns = [avatar.shots.crops(SIZE)[0], shaded(head, view.fit.frame), shaded(head, target), drawn]
    columns.append(next(iter(pipe.generate(avatar, [target], SIZE))))
    sheet = np.concatenate(columns, axis=1)
    picture = Image.fromarray(sheet).resize((1600, 320), Image.Resampling.LANCZOS)
    picture.save(Path(__file__).parent / "way.jpg", quality=88)


if __name__ == "__main__":
    main()
