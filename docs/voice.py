"""Makes docs/voice.jpg: a portrait that speaks with the voice of the bundled clip, at some of its sounds.

python -m docs.voice
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from talking_heads import TalkingHeadPipeline
from talking_heads.examples import EXAMPLE
from talking_heads.media.composing import contact_sheet
from talking_heads.voice.sound import listen
from talking_heads.voice.speech import spoken
from train.example_clip import SENTENCE

SOUNDS = {"B": "b", "AY": "ah", "UW": "oo", "IY": "ee", "F": "f", "S": "s", "P": "p", "W": "w"}
CROP = 0.29, 0.27, 0.71, 0.69
"""Left, top, right, bottom of the face, in sides of the frame."""


def main() -> None:
    """Write the picture."""
    pipe = TalkingHeadPipeline.from_pretrained()
    photo = np.asarray(Image.fromarray(astronaut()).resize((1024, 1024), Image.Resampling.LANCZOS))
    voice = listen(EXAMPLE, SENTENCE)
    frames = list(pipe(pipe.create_avatar([photo]), spoken(voice, seed=2), sound=EXAMPLE))
    row, labels = [], []
    for name, label in SOUNDS.items():
        phone = next(phone for phone in voice.phones if phone.name == name)
        frame = frames[round((phone.start + phone.end) / 2 * 25)]
        left, top, right, bottom = (round(edge * len(frame)) for edge in CROP)
        row.append(frame[top:bottom, left:right])
        labels.append(label)
    Image.fromarray(contact_sheet([row], labels, 200)).save(Path(__file__).parent / "voice.jpg", quality=88)


if __name__ == "__main__":
    main()
