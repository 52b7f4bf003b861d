"""The demo as a web page: ``python app.py``, or a Space of the Hugging Face Hub."""

import os

if lent := bool(os.environ.get("SPACES_ZERO_GPU")):  # a Space that is lent a GPU by the call
    import spaces  # before torch

import torch

from space.demo import build_demo, launch_options
from space.model import choose_model
from space.settings import Limits
from talking_heads.errors import TalkingHeadsError


def on_gpu(function, seconds):
    """``function``, run where a GPU is lent, for at most ``seconds`` of the same arguments."""
    return spaces.GPU(duration=seconds)(function)


try:
    model = choose_model()
except TalkingHeadsError as error:
    raise SystemExit(f"Error: {error}") from None
pipe = model.pipe
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
limits = Limits.from_environment()
demo = build_demo(pipe, limits, on_gpu if lent else None, model.sentence)

if __name__ == "__main__":
    demo.launch(**launch_options(limits, None if lent else pipe))
