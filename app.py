"""The demo as a web page: ``python app.py``, or a Space of the Hugging Face Hub."""

import os

try:
    import spaces  # only there on a Space, and to be imported before torch
except ImportError:
    on_gpu = None
else:

    def on_gpu(handler, seconds):
        return spaces.GPU(duration=seconds)(handler)


import torch

from space.demo import build_demo, launch_options
from space.settings import Limits
from talking_heads import TalkingHeadPipeline

pipe = TalkingHeadPipeline.from_pretrained(os.environ.get("TALKING_HEADS_MODEL"))
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
limits = Limits.from_environment()
demo = build_demo(pipe, limits, on_gpu)

if __name__ == "__main__":
    demo.launch(**launch_options(limits))
