"""Makes docs/paper.jpg: the paper's own design on one photo, feed-forward and while it is fine-tuned.

python -m docs.paper --feature-net squeezenet1_0.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from skimage.data import astronaut

from talking_heads import Avatar, FaceControls, TalkingHeadPipeline
from talking_heads.media.composing import contact_sheet
from train.finetune import Previews, fine_tune_avatar

POSES = (
    FaceControls(),
    FaceControls(smile=0.8, mouth=0.2),
    FaceControls(mouth=0.6, brows=0.5),
    FaceControls(yaw=18, mouth=0.2),
    FaceControls(yaw=-18, smile=0.4),
)
STEPS, SHOWN = 160, 40


def poses(pipe: TalkingHeadPipeline, avatar: Avatar) -> list[np.ndarray]:
    """The avatar in each of POSES, uint8 (128, 128, 3)."""
    return [pipe.edit(avatar, pose) for pose in POSES]


def main(
    feature_net: Annotated[Path, typer.Option(help="Weights of the content loss.", exists=True)],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path(__file__).parent / "paper.jpg",
) -> None:
    """Write the picture."""
    pipe = TalkingHeadPipeline.from_pretrained("paper")
    avatar = pipe.create_avatar([astronaut()])
    photo = avatar.shots.crops(pipe.image_size)[0]
    columns = {"feed-forward": poses(pipe, avatar)}

    def look(steps: int, tuned: Avatar) -> None:
        columns[f"{steps} steps"] = poses(pipe, tuned)

    fine_tune_avatar(pipe, avatar, STEPS, feature_net=feature_net, previews=Previews(look, SHOWN))
    rows = [[photo, *row] for row in zip(*columns.values(), strict=True)]
    Image.fromarray(contact_sheet(rows, labels=["photo", *columns])).save(output, quality=88)


if __name__ == "__main__":
    typer.run(main)
