"""Where models and avatars come from: the bundled default, a folder, or the Hugging Face Hub; and strict loading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import InvalidModelError, OutputError
from .models.layers import settings_of

BUNDLED = Path(__file__).parent / "checkpoints" / "default"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
FORMAT_VERSION = 3
"""Of models and avatars. 2: a source-conditioned generator has a flow and sees the unmoved photo."""

M = TypeVar("M", bound=ModelMixin)


def resolve(
    source: str | Path | None,
    *,
    marker: str,
    patterns: list[str],
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """A folder that holds ``marker`` (a file name): the bundled model for None, a local one, or "org/name" of the Hub.

    Folders come first, so that nothing touches the network that need not. Raises InvalidModelError with a sentence.
    """
    if source is None:
        source = BUNDLED
    folder = Path(source)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise InvalidModelError(f"{folder} holds no {marker}. Give the folder that save_pretrained wrote.")
        return folder
    name = str(source)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise InvalidModelError(f"There is no folder {name}. Give a folder, or a Hub repository as org/name.")
    return _download(name, marker, patterns, revision, cache_dir, local_files_only)


def _download(
    name: str,
    marker: str,
    patterns: list[str],
    revision: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=[marker, *patterns],
            )
        )
    except GatedRepoError:
        raise InvalidModelError(f"Access to {name} must be granted first: ask for it on its Hub page.") from None
    except RevisionNotFoundError:
        raise InvalidModelError(f"{name} has no revision {revision}. See its branches and tags on the Hub.") from None
    except RepositoryNotFoundError:
        raise InvalidModelError(
            f"There is no folder and no Hub repository {name}, or it is private: check the name, or log in "
            "with hf auth login."
        ) from None
    except HFValidationError:
        raise InvalidModelError(f"{name} is neither a folder nor a name that the Hub knows (org/name).") from None
    except OSError as error:
        if error.errno is not None:  # of the file system
            raise InvalidModelError(f"{name} cannot be stored here: {error.strerror} ({error.filename}).") from error
        raise InvalidModelError(
            f"{name} is no folder here, and the Hub cannot be reached ({type(error).__name__}). "
            "Check the name, connect to the network, or give a folder."
        ) from None
    if not (folder / marker).is_file():
        raise InvalidModelError(f"The Hub repository {name} was not made by this software: it has no {marker}.")
    return folder


def check_format(settings: Mapping[str, Any], folder: Path) -> None:
    """InvalidModelError where a model or an avatar has the format of another version of this software."""
    version = settings.get("format_version", FORMAT_VERSION)
    if version > FORMAT_VERSION:
        raise InvalidModelError(f"{folder} was written by a newer version of this software. Update it.")
    if version < FORMAT_VERSION:
        raise InvalidModelError(
            f"{folder} was written by an older version of this software, for other networks. Make it again, or "
            "install that version."
        )


def load_strictly(kind: type[M], folder: Path) -> M:
    """A network from its folder, every weight accounted for, as float32 in eval mode.

    diffusers' own from_pretrained only warns of missing weights and leaves them random; here InvalidModelError names
    what does not fit.
    """
    settings = read_json(folder / "config.json")
    made_by = settings.get("_class_name")
    if made_by != kind.__name__:
        raise InvalidModelError(f"{folder} holds a {made_by or 'network of unknown kind'}, not a {kind.__name__}.")
    check_format(settings, folder)
    try:
        model = kind(**settings_of(settings))
    except (TypeError, ValueError) as error:
        raise InvalidModelError(f"The configuration in {folder} does not fit this software: {error}.") from error
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise InvalidModelError(f"{folder} has no {WEIGHTS_NAME}. Copy the folder again, with all of its files.")
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(f"{weights} is damaged ({error}). Copy or download it again.") from error
    own = model.state_dict()
    for what, names in (("lacks", own.keys() - state.keys()), ("has unknown", state.keys() - own.keys())):
        if names:
            raise InvalidModelError(f"{weights} {what} weights, e.g. {min(names)}. It belongs to another model.")
    for name, value in state.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(own[name].shape)}"
            raise InvalidModelError(f"{weights}: {name} has the shape {shapes}. It belongs to another architecture.")
    model.load_state_dict(state)
    return model.eval()


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, beside ``folder``, whose place it takes at the end: whole, or not at all.

    Files that were in ``folder`` and are not written anew (a card, say) stay. Raises OutputError with a sentence.
    """
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        yield beside
        if folder.exists():
            for kept in folder.iterdir():
                if not (beside / kept.name).exists():
                    (shutil.copytree if kept.is_dir() else shutil.copy2)(kept, beside / kept.name)
            folder.replace(old)
        beside.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder} cannot be written: {reason}. Choose another folder, or make room.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InvalidModelError where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidModelError(f"{path} is missing. Copy the folder again, with all of its files.") from None
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"{path} is damaged ({error}). Copy or download it again.") from error
    if not isinstance(value, dict):
        raise InvalidModelError(f"{path} does not hold a JSON object.")
    return value


def fingerprint(*models: torch.nn.Module) -> str:
    """16 hexadecimal digits that stand for the weights (as float16) of networks: which model made an avatar."""
    digest = hashlib.sha256()
    for model in models:
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
