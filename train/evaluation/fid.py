"""FID (Heusel et al., arXiv 1706.08500) compares two sets of frames, not pairs.

It needs the network that most code for it uses, ``inception-2015-12-05.pt`` as NVIDIA's StyleGAN releases publish it.
With few frames it is biased upwards, the more so the fewer there are: it says something about the order of methods, and
only at the same number of frames.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from talking_heads.errors import InvalidModelError

InceptionNet = Callable[..., Tensor]
"""uint8 RGB (B, 3, H, W) of any size, ``return_features=True`` -> float (B, 2048)."""
INCEPTION_FEATURES = 2048
_INCEPTION_BATCH = 16


def load_inception(path: str | Path, device: torch.device | str = "cpu") -> InceptionNet:
    """The TorchScript file ``inception-2015-12-05.pt`` -> the network for ``inception_features``.

    It is tried at once. Raises InvalidModelError for anything that does not answer as that file does.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidModelError(f"There is no Inception network at {path}. Check the path.")
    advice = f"{path.name} is not the TorchScript file inception-2015-12-05.pt. Give NVIDIA's file as it is published."
    try:
        with warnings.catch_warnings():
            # TorchScript is what is published, whatever torch thinks of it now.
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated", category=DeprecationWarning)
            net = torch.jit.load(path, map_location=device).eval()
        tried = inception_features(net, np.zeros((2, 64, 64, 3), np.uint8))
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise InvalidModelError(advice) from error
    if tried.shape != (2, INCEPTION_FEATURES):  # the VGG16 that lies beside it answers too, in 4096 numbers
        raise InvalidModelError(advice)
    return net


@torch.inference_mode()
def inception_features(net: InceptionNet, frames: np.ndarray) -> np.ndarray:
    """uint8 RGB (T, H, H, 3) -> float64 (T, 2048): the network's last layer before the classes. It resizes by itself.

    Raises ValueError where the network gives something else than one row of numbers for each frame.
    """
    weights = chain(net.parameters(), net.buffers()) if isinstance(net, nn.Module) else ()
    device = next((weight.device for weight in weights), torch.device("cpu"))
    rows = []
    for first in range(0, len(frames), _INCEPTION_BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(frames[first : first + _INCEPTION_BATCH].transpose(0, 3, 1, 2)))
        features = net(batch.to(device), return_features=True)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(batch):
            raise ValueError("expected one row of features for each frame")
        rows.append(features.double().cpu().numpy())
    return np.concatenate(rows)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians through two sets of features, (N, D) and (M, D) with N, M > 1; >= 0.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^0.5), with the unbiased covariances. Of a (D, D) matrix product with
    fewer samples than dimensions the root is lost in rounding errors, so it is never taken: with S = X^T X, where X is
    the centred features, tr (S_a S_b)^0.5 is the sum of the singular values of X_a X_b^T.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected (N, D) and (M, D) with two rows at least, got {a.shape} and {b.shape}")
    (mean_a, one), (mean_b, other) = _mean_and_factor(a), _mean_and_factor(b)
    spread = np.square(one).sum() + np.square(other).sum()
    common = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + spread - 2 * common))


def _mean_and_factor(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,), and X (at most D rows, D) whose X^T X is the covariance."""
    features = features.astype(np.float64)
    centre = features.mean(axis=0)
    factor = (features - centre) / math.sqrt(len(features) - 1)
    # A turn of the rows changes no product X^T X: with more samples than dimensions this is the smaller factor.
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return centre, factor
