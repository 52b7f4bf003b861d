"""Paint a frame of an exported avatar with numpy and ONNX Runtime alone: neither torch nor talking_heads is needed.

    python -m talking_heads export --format onnx --avatar ada --output exported
    pip install numpy onnxruntime pillow
    python examples/paint_with_onnx.py exported frame.png

docs/export.md says what the planes mean and how to make those of other frames.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """(h, h, C) -> (size, size, C), bilinear; pixel centres lie at +0.5, edges go on."""
    for axis in (0, 1):
        length = image.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = image.take(low, axis=axis) * (1 - share) + image.take(high, axis=axis) * share
    return image


def paint(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """An exported folder -> the frame painted here, and the one that was painted when it was exported, uint8 RGB."""
    example = np.load(folder / "example.npz")
    network = onnxruntime.InferenceSession(str(folder / "generator.onnx"), providers=["CPUExecutionProvider"])
    inputs = {given.name: example[given.name] for given in network.get_inputs()}
    painted = network.run(["frames"], inputs)[0]  # (1, 3, H, H) in -1..1
    if "render" not in example:  # a network that paints from nothing, in its own size
        picture = 127.5 * (painted[0].transpose(1, 2, 0) + 1)
    else:
        # The network's change of the render that it saw, added to the render at full size.
        correction = 127.5 * (painted - example["render"][:, :3])[0].transpose(1, 2, 0)
        picture = example["picture"] + enlarge(correction, len(example["picture"]))
    return (picture + 0.5).clip(0, 255).astype(np.uint8), example["frame"]


def main(folder: str, output: str) -> None:
    """Writes the frame as a picture and says how far it is from the expected one."""
    from PIL import Image

    frame, expected = paint(Path(folder))
    Image.fromarray(frame).save(output)
    apart = np.abs(frame.astype(int) - expected).max()
    print(f"{output}: {frame.shape[1]} x {frame.shape[0]} pixels, at most {apart} levels of 255 from the original")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python examples/paint_with_onnx.py EXPORTED_FOLDER PICTURE.png")
    main(sys.argv[1], sys.argv[2])
