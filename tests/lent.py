"""A host that lends its GPU by the call: the service runs the networks in forks of a process that has used mediapipe.

``python tests/lent.py MODEL PHOTO ANOTHER_PHOTO CLIP FOLDER`` prints what was asked for, as JSON. In a process of its
own, because whoever rendered before must not fork.
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from space.reports import WorkResult
from space.requests import AnimateRequest, DriverRequest, DubRequest, FrameOptions, GroupRequest
from space.service import Service
from space.settings import Limits
from talking_heads import TalkingHeadPipeline, avatar, dubbing
from talking_heads.head import person_fit
from talking_heads.head.presets import FaceControls
from talking_heads.media.background import Background
from talking_heads.media.reading import probe
from talking_heads.tracking.detectors import MediapipeDetector
from train import finetune

LONG = 100  # s
PAGE = os.getpid()
asked: dict[str, list[int]] = {}


def only_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which fails in a fork."""

    def guarded(*args: Any, **options: Any) -> Any:
        assert os.getpid() == PAGE, f"{function} was called where the GPU is lent"
        return function(*args, **options)

    return guarded


def in_fork(function: Callable[..., Any], sent: bytes, answers: Any) -> None:
    """Runs a function in a fork; arguments and results travel by pickle."""
    try:
        result = function(*pickle.loads(sent))
        for item in result if inspect.isgenerator(result) else [result]:
            answers.send_bytes(pickle.dumps(("item", item)))
        answers.send_bytes(pickle.dumps(("end", None)))
    except BaseException as error:
        answers.send_bytes(pickle.dumps(("error", repr(error))))
        raise


def on_gpu(function: Callable[..., Any], seconds: Callable[..., int]) -> Callable[..., Any]:
    """As ``spaces.GPU`` does it."""
    fork = multiprocessing.get_context("fork")

    def call(*args: Any) -> Iterator[Any]:
        asked.setdefault(function.__name__, []).append(seconds(*args))
        answers, there = fork.Pipe(duplex=False)
        process = fork.Process(target=in_fork, args=(function, pickle.dumps(args), there), daemon=True)
        process.start()
        while True:
            assert answers.poll(LONG), f"{function.__name__} hangs"
            kind, item = pickle.loads(answers.recv_bytes())
            if kind != "item":
                break
            yield item
        process.join(LONG)
        assert kind == "end", item

    if inspect.isgeneratorfunction(function):
        return call
    return lambda *args: next(call(*args))


def result_of(work: Iterator[Any]) -> WorkResult:
    """The last of the reports."""
    *_, made = work
    assert isinstance(made, WorkResult)
    return made


def main(model: str, photo: str, another: str, clip: str, folder: str) -> None:
    torch.set_num_threads(1)
    dubbing.PHOTOS, finetune.COPIES = 2, 4  # a head is fitted to each
    avatar.ANALYSIS = 256  # coarse outlines, in a third of the time
    pipe = TalkingHeadPipeline.from_pretrained(model, engine="torch")
    detector: Any = MediapipeDetector()
    detector.detect = only_here(detector.detect)
    pipe.detector = detector
    for module, name in ((avatar, "person_mask"), (avatar, "fit_person"), (person_fit, "fit_person")):
        setattr(module, name, only_here(getattr(module, name)))
    service = Service(pipe, Limits(), on_gpu=on_gpu)
    assert not service.can_live
    person = service.look([photo, another])
    size = FrameOptions("256")
    for number, request in enumerate((
        AnimateRequest(driving=clip, frames=size), AnimateRequest(preset="blink"),
        AnimateRequest(driving=clip, output="in the photo"),
    )):  # fmt: skip
        place = Path(folder) / str(number)
        place.mkdir()
        made = result_of(service.animate(person, request, place))
        assert made.file is not None and probe(made.file).num_frames
    dub = DubRequest(clip, DriverRequest(preset="talking"))
    made = result_of(service.dub(dub, Path(folder)))
    assert made.file is not None and probe(made.file).num_frames
    group = GroupRequest((DriverRequest(preset="blink"),))
    made = result_of(service.animate_group(service.look([photo]), 0, group, Path(folder)))
    assert made.file is not None and probe(made.file).num_frames
    green = FrameOptions("auto", Background("colour", colour=(0, 200, 0)))
    picture = service.edit(person, FaceControls(yaw=5), green)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    if "--tune" in sys.argv:
        tuned = result_of(service.personalise(person, 2)).avatar
        assert tuned is not None and tuned.generator is not None
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("render")]
    print(json.dumps(asked))


if __name__ == "__main__":
    main(*sys.argv[1:6])
