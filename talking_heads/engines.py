"""Engines that compute the generator: torch, as for everything else, or OpenVINO on a CPU; and its export.

All give the same frames, to a level or two of 255 in float32. OpenVINO and ONNX Runtime stay behind this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import __version__
from .drawing import draw_landmarks
from .errors import MissingDependencyError, OutputError
from .files import replacing_folder
from .head.fit import FrameFit
from .head.model import face_model
from .head.motion import head_rotation
from .head.render import Renderer, finished
from .hub import fingerprint
from .media.images import to_float, to_uint8
from .models import Generator
from .models.generator import RENDER_CHANNELS
from .models.layers import settings_of

if TYPE_CHECKING:
    from .avatar import Avatar
    from .head.head import Head

logger = logging.getLogger(__name__)

EngineName = Literal["torch", "openvino"]
ENGINES = ("auto", "torch", "openvino")
Format = Literal["onnx", "openvino"]
Generate = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(landmark images, style, render or None) -> frames, as ``Generator.forward``; with OpenVINO, in float32."""

WORTH_CONVERTING = 125
"""Frames below which "auto" stays with torch: converting a network takes as long as it saves on about so many."""
MOST_APART = 2 / 127.5
"""How far frames of an exported network may lie from torch's: two levels of 255."""
EXAMPLE_FRAME = "example.npz"
"""The example in an export with an avatar: the inputs of one of its frames, and the frame."""


def check_engine(wanted: str) -> None:
    """ValueError for what is none of ENGINES, MissingDependencyError for one that is not installed."""
    if wanted not in ENGINES:
        raise ValueError(f"unknown engine {wanted!r}; choose one of {', '.join(ENGINES)}")
    if wanted == "openvino" and not _installed("openvino"):
        raise MissingDependencyError("OpenVINO is not installed. Install it: pip install talking-heads[openvino].")


def choose_engine(wanted: str, generator: Generator, num_frames: int | None = None) -> EngineName:
    """Chooses the engine for ``generator``: ``wanted``, or for "auto" what suits device, precision and frame count.

    OpenVINO is for CPUs and weights in float32; ``num_frames`` None stands for many. Raises what ``check_engine`` does,
    and ValueError where OpenVINO is asked for and cannot be.
    """
    check_engine(wanted)
    fits = generator.device.type == "cpu" and generator.dtype == torch.float32
    if wanted == "openvino" and not fits:
        raise ValueError("openvino is for a CPU and weights in float32; choose the engine torch")
    if wanted == "auto":
        many = num_frames is None or num_frames >= WORTH_CONVERTING
        return "openvino" if fits and many and _installed("openvino") else "torch"
    return "torch" if wanted == "torch" else "openvino"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _openvino() -> Any:
    # OpenVINO reports each start to its makers through this module, and does without where it cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def _core() -> Any:
    """OpenVINO's one core. Its CPU plugin lends the thread that first needs it a stack for signals, and frees that when
    it is unloaded, from whatever thread: the next signal, say of a child that ends, would crash the process. So it
    stays."""
    return _openvino().Core()


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 arithmetic on float32 weights where the device has instructions for it, else none."""
    if device.type == "cuda" or (device.type == "cpu" and fast_bf16()):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


# --------------------------------------------------------------------------------------------------------- converting


class _WithStyle(nn.Module):
    """The generator with its inputs in a row; the style is one of them, so that one network serves every avatar."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, landmark_images: Tensor, style: Tensor, render: Tensor | None = None) -> Tensor:
        return self.generator(landmark_images, style=style, render=render)


def _example(generator: Generator, batch: int = 1) -> dict[str, Tensor]:
    """Inputs of the right shapes in their order: lines of a face, and noise for the style and the render."""
    size = int(generator.config.image_size)
    model = face_model()
    face = model.mean[model.landmark_vertices, :2] * [0.03, -0.03] + 0.5  # sides of the image
    lines = to_float(draw_landmarks((face * size).astype(np.float32), size))
    noise = torch.Generator().manual_seed(0)
    style = torch.randn(generator.style_dim, generator=noise)
    result = {"landmark_images": lines.expand(batch, -1, -1, -1).contiguous(), "style": style}
    if generator.config.render_conditioned:
        result["render"] = torch.rand(batch, RENDER_CHANNELS, size, size, generator=noise)
    return result


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """Runs without gradients, which selects the forward's fastest form; tracers warn of what is rightly constant."""
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _converted(generator: Generator) -> Any:
    """An OpenVINO model with named inputs and any batch size."""
    ov = _openvino()
    example = _example(generator)
    with _tracing():
        model = ov.convert_model(_WithStyle(generator), example_input=tuple(example.values()))
    for port, name in zip([*model.inputs, model.outputs[0]], [*example, "frames"], strict=True):
        port.tensor.set_names({name})
    model.reshape({
        name: tuple(value.shape) if name == "style" else (-1, *value.shape[1:]) for name, value in example.items()
    })  # fmt: skip
    return model


def cache_folder() -> Path:
    """Where converted networks are kept: ``~/.cache/talking_heads``, or in XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talking_heads"


def compile_openvino(generator: Generator, *, keep: bool) -> Generate:
    """The generator as OpenVINO computes it: in 16 bit where the processor has instructions for that.

    With ``keep`` the converted network is looked up in ``cache_folder``, and kept there. Raises MissingDependencyError.
    """
    check_engine("openvino")
    core = _core()
    model = _kept(core, generator) if keep else _converted(generator)
    example = _example(generator)
    # One frame at a time: known shapes are half as fast again as open ones, and a batch gains next to nothing.
    model.reshape({name: tuple(value.shape) for name, value in example.items()})
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _precision(core)}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    turn = threading.Lock()  # a request computes for one thread at a time; two would share the same cores

    def generate(landmark_images: Tensor, style: Tensor, render: Tensor | None) -> Tensor:
        frames = []
        for k in range(len(landmark_images)):
            given = [landmark_images[k : k + 1], style.detach(), *(() if render is None else (render[k : k + 1],))]
            with turn:
                # Copied by numpy, alone: torch would wake threads for it that OpenVINO's contend with (4 ms, not 0.2).
                request.infer([np.ascontiguousarray(tensor.float().numpy()) for tensor in given])
                frames.append(request.get_output_tensor().data.copy())
        return torch.from_numpy(np.concatenate(frames))

    return generate


def _precision(core: Any) -> str:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in able else "f16" if "FP16" in able else "f32"


def _kept(core: Any, generator: Generator) -> Any:
    """The converted network from the cache, or else converted and put there."""
    settings = json.dumps(settings_of(generator.config), sort_keys=True)
    key = [fingerprint(generator), settings, __version__, version("openvino")]
    folder = cache_folder() / hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    if (folder / "generator.xml").is_file():
        try:
            return core.read_model(folder / "generator.xml")
        except RuntimeError as error:
            logger.info("The converted network in %s is damaged (%s) and made anew.", folder, error)
    model = _converted(generator)
    # A cache that cannot be written costs time and nothing else.
    with contextlib.suppress(OutputError), replacing_folder(folder) as beside:
        beside.mkdir(parents=True)
        _save(model, beside)
    return model


def _save(model: Any, folder: Path) -> None:
    _openvino().save_model(model, folder / "generator.xml", compress_to_fp16=False)


# ---------------------------------------------------------------------------------------------------------- exporting


def export(generator: Generator, folder: Path, format: Format, avatar: Avatar | None = None) -> None:
    """Writes the generator for other programs: ``generator.onnx``, or ``generator.xml`` and ``.bin``; whole or not.

    Inputs are landmark_images float32 (B, 3, H, H), style (S,) and, where it is render-conditioned, render
    (B, 9, H, H); output is frames (B, 3, H, H); ``export.json`` says so. With an ``avatar``, which must fit, its style
    goes beside as style.npy, and one of its frames with all that goes into it as EXAMPLE_FRAME, see docs/export.md.
    What was written is read again and compared with torch. Raises MissingDependencyError and OutputError.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"{folder} cannot be written: {folder.parent} does not exist. Choose another folder.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty. Choose another folder.")
    needed = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}[format]
    missing = [package for package in needed if not _installed(package)]
    if missing:
        extra = "openvino" if format == "openvino" else "onnx"
        raise MissingDependencyError(
            f"An export to {format} needs {' and '.join(missing)}. Install: pip install talking-heads[{extra}]."
        )
    with replacing_folder(folder) as beside:
        beside.mkdir()
        if format == "onnx":
            _write_onnx(generator, beside / "generator.onnx")
        else:
            _save(_converted(generator), beside)
        apart = _apart(generator, _reading(beside, format))
        if apart > MOST_APART:
            raise OutputError(
                f"The exported network paints other frames ({127.5 * apart:.1f} levels of 255 apart). "
                f"Export to another format, or install another version of {needed[-1]}."
            )
        shapes = {name: list(value.shape) for name, value in _example(generator).items()}
        facts = {"format": format, "first_axis_but_of_style": "any batch size", "inputs": shapes, "output": "frames"}
        (beside / "export.json").write_text(json.dumps(facts, indent=2) + "\n")
        if avatar is not None:
            example = example_frame(generator, avatar)
            np.save(beside / "style.npy", example["style"])
            np.savez_compressed(beside / EXAMPLE_FRAME, allow_pickle=False, **example)


@torch.no_grad()
def example_frame(generator: Generator, avatar: Avatar) -> dict[str, np.ndarray]:
    """A frame of ``avatar`` that turns and speaks, twice as large as the network paints, and what it is made of.

    ``landmark_images`` (1, 3, H, H), ``style`` (S,) and ``frame`` uint8 (S, S, 3); of a render-conditioned generator
    also ``render`` (1, 9, H, H) and ``picture`` float32 (S, S, 3) in 0..255, the render at full size.
    """
    own = int(generator.config.image_size)
    drawn = Renderer(avatar.head, 2 * own).draw(_speaking(avatar.head))
    lines = to_float(draw_landmarks(drawn.landmarks_at(own), own))
    style = avatar.style.detach().float().cpu()
    inputs = {"landmark_images": lines.numpy(), "style": style.numpy()}
    network = Generator.from_config(generator.config)  # in float32 on the CPU, whatever the given one is in
    network.load_state_dict({name: value.float().cpu() for name, value in generator.state_dict().items()})
    network.eval()
    if not generator.config.render_conditioned:
        return inputs | {"frame": to_uint8(network(lines, style=style))[0]}
    render = torch.from_numpy(drawn.generator_planes(own)[None])
    correction = network(lines, style=style, render=render) - render[:, :3]
    change = F.interpolate(127.5 * correction, scale_factor=2, mode="bilinear", align_corners=False)
    frame = finished(drawn, change[0].permute(1, 2, 0).numpy(), None)
    return inputs | {"render": render.numpy(), "picture": drawn.picture, "frame": frame}


def _speaking(head: Head) -> FrameFit:
    """The photo's own pose, turned somewhat, with the mouth open."""
    photo = head.primary_view.fit.frame
    expression = photo.expression.copy()
    expression[head.model.index("jawOpen")] = 0.4
    turned = head_rotation((10.0, 0.0, 0.0)) @ photo.rotation
    return FrameFit(expression, turned, photo.translation, photo.gaze, photo.detail, 0.0)


def _write_onnx(generator: Generator, path: Path) -> None:
    example = _example(generator)
    axes = {name: {0: "batch"} for name in (*example, "frames") if name != "style"}
    with _tracing():
        torch.onnx.export(
            _WithStyle(generator), tuple(example.values()), path, input_names=list(example), output_names=["frames"],
            dynamic_axes=axes, opset_version=18, dynamo=False,
        )  # fmt: skip


def _reading(folder: Path, format: Format) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "generator.onnx", providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)[0]
    network = _core().compile_model(folder / "generator.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: network(inputs)[0]


@torch.no_grad()
def _apart(generator: Generator, read: Callable[[dict[str, np.ndarray]], np.ndarray]) -> float:
    """The largest difference between the frames of both, in batches of one and of two."""
    differences = []
    for batch in (1, 2):
        example = _example(generator, batch)
        expected = generator(example["landmark_images"], style=example["style"], render=example.get("render"))
        got = read({name: value.numpy() for name, value in example.items()})
        differences.append(float(np.abs(got - expected.numpy()).max()))
    return max(differences)
