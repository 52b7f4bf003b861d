"""The demo as a web page: ``python app.py``, or a Space of the Hugging Face Hub."""

import os

try:
    import spaces  # only there on a Space, and to be imported before torch

    on_gpu = spaces.GPU(duration=120)
except ImportError:
    on_gpu = None

import torch

from space.demo import LAUNCH, build_demo
from talking_heads import TalkingHeadPipeline

pipe = TalkingHeadPipeline.from_pretrained(os.environ.get("TALKING_HEADS_MODEL"))
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
demo = build_demo(pipe, on_gpu)

if __name__ == "__main__":
    demo.launch(**LAUNCH)
