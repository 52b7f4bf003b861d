"""To and from the Hugging Face Hub; folders of models, strict loading, and the bundled default."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from .cards import Evaluation, model_card
from .errors import HubError, InvalidModelError
from .models.layers import settings_of

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

CHECKPOINTS = Path(__file__).parent / "checkpoints"
BUNDLED = CHECKPOINTS / "default"
"""The model that is meant where none is named."""
BUNDLED_MODELS = {name: CHECKPOINTS / name for name in ("default", "paper")}
"""All that come with the package: ``default`` paints over a rendered head, ``paper`` from landmarks alone."""
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
FORMAT_VERSION = 4
"""Version of the format of models and avatars. 4: generators paint over a head that is rendered in three dimensions;
avatars hold its photos with a margin."""
TRAINING = "training.json"
"""File in a model's folder: its training data and length, as ``train.meta`` writes it, for the card."""
TRAINING_FORMAT = 1

COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")
SECONDS_TO_ANSWER = 15

M = TypeVar("M", bound=ModelMixin)


def weights_name(variant: str | None = None) -> str:
    """The file of a network's weights, named as diffusers does: ``diffusion_pytorch_model.fp16.safetensors``."""
    return WEIGHTS_NAME if variant is None else WEIGHTS_NAME.replace(".", f".{variant}.", 1)


def network_files(name: str, variant: str | None = None) -> list[str]:
    """Files of a network of a pipeline, as paths in the model's folder."""
    return [f"{name}/config.json", f"{name}/{weights_name(variant)}"]


# ------------------------------------------------------------------------------------------------------------- loading


def resolve(
    source: str | Path,
    *,
    marker: str,
    files: Sequence[str],
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | Literal[False] | None = None,
) -> Path:
    """A folder that holds ``marker`` (a file name): a local one, or "org/name" of the Hub.

    Of the Hub ``marker`` and ``files`` are fetched into a folder that is named by the commit. Folders come first, so
    that nothing touches the network that need not. Raises InvalidModelError with a sentence.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise InvalidModelError(f"{folder} holds no {marker}. Give the folder that save_pretrained wrote.")
        return folder
    name = str(source)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise InvalidModelError(f"There is no folder {name}. Give a folder, or a Hub repository as org/name.")
    folder = _download(name, [marker, *files], revision, cache_dir, local_files_only, token)
    if not (folder / marker).is_file():
        raise InvalidModelError(f"The Hub repository {name} was not made by this software: it has no {marker}.")
    for path in (folder / file for file in files):
        _check_hash(path)
    return folder


def _download(
    name: str,
    files: Sequence[str],
    revision: str | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
    token: str | Literal[False] | None,
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        # The files of a known commit are asked for without any question before, and six times where there is no
        # network: one question that is not repeated finds that out.
        known = bool(COMMIT.fullmatch(revision or "")) and not local_files_only
        offline = local_files_only or (known and not _can_be_reached(name, revision, token))
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=offline,
                allow_patterns=list(files),
                token=token,
            )
        )
    except (HTTPError, HFValidationError, OSError) as error:
        # Errors of the file system keep their traceback, the Hub's are complete sentences.
        cause = error if isinstance(error, OSError) and error.errno is not None else None
        raise InvalidModelError(_why_not_loaded(error, name, revision, local_files_only)) from cause


def _can_be_reached(name: str, revision: str | None, token: str | Literal[False] | None) -> bool:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        HfApi().model_info(name, revision=revision, token=token, timeout=SECONDS_TO_ANSWER)
    except HfHubHTTPError:
        pass  # with a sentence from what follows, unless the cache has it
    except (HTTPError, ConnectionError):
        return False
    return True


def _why_not_loaded(error: Exception, name: str, revision: str | None, local_files_only: bool) -> str:
    """A sentence on what the Hub's client, or the file system, raised while ``name`` was fetched."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return f"Access to {name} must be granted first: ask for it on its Hub page."
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision}. See its branches and tags on the Hub."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder and no Hub repository {name}, or it is private: check the name, or log in "
            "with hf auth login."
        )
    if isinstance(error, HFValidationError):
        return f"{name} is neither a folder nor a name that the Hub knows (org/name)."
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return f"The Hub does not know the token that {name} was asked for with."
    if isinstance(error, LocalEntryNotFoundError) and local_files_only:
        at = f" at the revision {revision}" if revision else ""
        return f"{name}{at} is not on this machine, or not all of it. Load it once without local_files_only."
    if isinstance(error, OSError) and error.errno is not None:  # of the file system
        return f"{name} cannot be stored here: {error.strerror} ({error.filename})."
    return (
        f"{name} is no folder here, and the Hub cannot be reached ({type(error).__name__}). "
        "Check the name, connect to the network, or give a folder."
    )


def _check_hash(path: Path) -> None:
    """The cache names a large file by its SHA-256, which the client does not compare with what has arrived."""
    blob = path.resolve()
    if not blob.is_file() or not SHA256.fullmatch(blob.name):
        return
    with blob.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == blob.name:
            return
    blob.unlink()
    path.unlink(missing_ok=True)
    raise InvalidModelError(f"{path.name} arrived damaged, and was deleted. Load it again.")


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


def load_strictly(kind: type[M], folder: Path, variant: str | None = None) -> M:
    """A network from its folder, every weight accounted for, as float32 in eval mode.

    diffusers' own from_pretrained only warns of missing weights and leaves them random; here InvalidModelError names
    what does not fit.
    """
    settings = read_json(folder / "config.json")
    weights = folder / weights_name(variant)
    if not weights.is_file():
        without = "" if variant is None else ", or load it without a variant"
        raise InvalidModelError(
            f"{folder} has no {weights.name}. Copy the folder again, with all of its files{without}."
        )
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(f"{weights} is damaged ({error}). Copy or download it again.") from error
    return build_strictly(kind, settings, state, folder, weights)


def build_strictly(
    kind: type[M], settings: Mapping[str, Any], state: dict[str, torch.Tensor], source: Path, weights: Path
) -> M:
    """A network of ``settings`` with the weights ``state``; messages name them ``source`` and ``weights``.

    What is there is compared with what the settings ask for before any memory is given to that: both may come from a
    stranger. Raises InvalidModelError.
    """
    made_by = settings.get("_class_name")
    if made_by != kind.__name__:
        raise InvalidModelError(f"{source} holds a {made_by or 'network of unknown kind'}, not a {kind.__name__}.")
    check_format(settings, source)
    try:
        with torch.device("meta"):
            model = kind(**settings_of(settings))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidModelError(f"The configuration in {source} does not fit this software: {error}.") from error
    own = model.state_dict()
    for what, names in (("lacks", own.keys() - state.keys()), ("has unknown", state.keys() - own.keys())):
        if names:
            raise InvalidModelError(f"{weights} {what} weights, e.g. {min(names)}. It belongs to another model.")
    for name, value in state.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(own[name].shape)}"
            raise InvalidModelError(f"{weights}: {name} has the shape {shapes}. It belongs to another architecture.")
        state[name] = value.to(own[name].dtype)
    model.load_state_dict(state, assign=True)
    return model.eval()


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


# ------------------------------------------------------------------------------------------------------------- pushing

Kind = Literal["model", "avatar", "space"]
MARKERS: dict[Kind, str] = {"model": "model_index.json", "avatar": "config.json", "space": "space/demo.py"}
"""The file by which a repository is known to hold such a thing."""
CLASSES: dict[Kind, str] = {"model": "TalkingHeadPipeline", "avatar": "Avatar"}
"""Value of ``_class_name`` in that file."""
FREE = {".gitattributes", ".gitignore", "README.md"}
"""Files that the Hub itself puts into a repository created on its pages."""


def check_push(kind: Kind, repo_id: str, private: bool | None = None, token: str | None = None) -> None:
    """Finds out before the work that something cannot be pushed. Raises HubError, at once where there is no network."""
    from huggingface_hub import HfApi

    with _said_plainly(repo_id):
        _look_at(kind, repo_id, private, token)
        user = HfApi(token=token).whoami()
        own = {user["name"], *(organisation["name"] for organisation in user.get("orgs", ()))}
        role = user.get("auth", {}).get("accessToken", {}).get("role")  # none of a token that a page was given
        if repo_id.partition("/")[0] not in own or role == "read":
            raise HubError(_MAY_NOT.format(repo_id))


def push(
    kind: Kind,
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    private: bool | None = None,
    token: str | None = None,
    replaces: Sequence[str] = (),
    message: str | None = None,
) -> CommitInfo:
    """Puts ``files`` (by their path in the repository) into ``repo_id`` as one commit, which is the result.

    A repository that is not there is created, ``private`` or not (None: as the Hub does). One of another's, or one
    that holds something else, is refused, and so is a public one if ``private``. Of the folders in ``replaces`` what
    is not in ``files`` is deleted. ``token``: instead of the one of this machine, which stays as it is. Interrupted,
    the same call goes on: what has arrived is not sent again. Raises HubError with a sentence.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    repo_type = "space" if kind == "space" else "model"
    with _said_plainly(repo_id):
        there = _look_at(kind, repo_id, private, token)
        if there is None:
            sdk = "gradio" if kind == "space" else None
            api.create_repo(repo_id, repo_type=repo_type, private=private, space_sdk=sdk)
        gone = [path for path in there or () if path.split("/")[0] in replaces and path not in files]
        return api.create_commit(
            repo_id,
            [*(CommitOperationAdd(path, content) for path, content in sorted(files.items())),
             *(CommitOperationDelete(path) for path in gone)],
            commit_message=message or f"Upload {kind}",
            repo_type=repo_type,
        )  # fmt: skip


def check_is_model(name: str, token: str | None = None) -> bool:
    """Whether that model of the Hub is private. Raises HubError where there is none of this software."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _said_plainly(name):
        try:
            info = HfApi(token=token).model_info(name, timeout=SECONDS_TO_ANSWER)
        except RepositoryNotFoundError:
            raise HubError(f"There is no model {name} on the Hub. Push it first, or check the name.") from None
    if MARKERS["model"] not in [sibling.rfilename for sibling in info.siblings or ()]:
        raise HubError(f"{name} is no model of this software: it has no {MARKERS['model']}.")
    return bool(info.private)


def set_variable(space: str, name: str, value: str, token: str | None = None) -> None:
    """Sets a variable of a Space, which restarts it. Raises HubError."""
    from huggingface_hub import HfApi

    with _said_plainly(space):
        HfApi(token=token).add_space_variable(space, name, value)


def push_model(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    variant: str | None = None,
    message: str | None = None,
    base_model: str = "",
    evaluation: Evaluation | None = None,
) -> CommitInfo:
    """The model in a folder, its files as they are, to the Hub: config and safetensors of each network, nothing else.

    With them go files of one line by which ``DiffusionPipeline.from_pretrained`` of diffusers finds the classes in
    this package, and the README.md of the folder, or else a card. Raises HubError.
    """
    index = read_json(folder / "model_index.json")
    networks = [name for name in ("embedder", "generator", "discriminator") if (folder / name).is_dir()]
    names = ["model_index.json", *(file for name in networks for file in network_files(name, variant))]
    files: dict[str, Path | bytes] = {name: folder / name for name in names}
    files["pipeline.py"] = b"from talking_heads import TalkingHeadPipeline\n"
    for name in ("embedder", "generator"):
        module, kind = index[name]
        files[f"{name}/{module}.py"] = f"from {module} import {kind}\n".encode()
    training: dict[str, Any] = {}
    if (folder / TRAINING).is_file():
        files[TRAINING], training = folder / TRAINING, read_json(folder / TRAINING)
        if training.get("format_version") != TRAINING_FORMAT:
            raise InvalidModelError(f"{folder / TRAINING} is of another version of this software. Move it away.")
    if (folder / "README.md").is_file():
        files["README.md"] = folder / "README.md"
    else:
        sizes = {name: _number_of_weights(folder / name / weights_name(variant)) for name in networks}
        files["README.md"] = str(model_card(repo_id, sizes, training, evaluation, base_model)).encode()
    return push("model", repo_id, files, private=private, token=token, message=message)


def _number_of_weights(file: Path) -> int:
    with safe_open(file, framework="np") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def _look_at(kind: Kind, repo_id: str, private: bool | None, token: str | None) -> list[str] | None:
    """The files of a repository that may be pushed to, or None where there is none. HubError, or the client's own."""
    from huggingface_hub import HfApi, get_token, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    if token is None and get_token() is None:
        raise HubError("To push needs a token of the Hub that may write. Log in with hf auth login, or pass a token.")
    if repo_id.count("/") != 1:
        raise HubError(f"{repo_id} is no repository of the Hub. Give your name there and one for this, as in me/ada.")
    api = HfApi(token=token)
    ask = api.space_info if kind == "space" else api.model_info
    try:
        info = ask(repo_id, timeout=SECONDS_TO_ANSWER)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise HubError(
            f"{repo_id} is there already, and everybody can see it. Make it private in its settings, take another "
            "name, or say that this shall be public."
        )
    files = [sibling.rfilename for sibling in info.siblings or ()]
    marker = MARKERS[kind]
    ours = marker in files
    if ours and kind in CLASSES:
        with TemporaryDirectory() as cache:  # it may be a visitor's, and is not to stay here
            index = hf_hub_download(repo_id, marker, revision=info.sha, token=token, cache_dir=cache)
            ours = read_json(Path(index)).get("_class_name") == CLASSES[kind]
    if not ours and not FREE.issuperset(files):
        other = min(set(files) - FREE)
        raise HubError(f"{repo_id} holds something else ({other}), not {_ARTICLES[kind]}. Take another name.")
    return files


_MAY_NOT = "This token may not write to {}. Take one that may write, or push under your own name."
_ARTICLES: dict[Kind, str] = {"model": "a model of this software", "avatar": "an avatar", "space": "this page"}


@contextlib.contextmanager
def _said_plainly(repo_id: str) -> Iterator[None]:
    """Within: what the Hub's client raises becomes HubError, a sentence on what to do."""
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    try:
        yield
    except RuntimeError as error:  # the client's own words about a file, the reason behind them
        _complain(error.__cause__ or error, repo_id)
    except (HTTPError, ConnectionError, LocalEntryNotFoundError, ValueError) as error:
        _complain(error, repo_id)


def _complain(error: BaseException, repo_id: str) -> NoReturn:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        sentence = "The Hub is switched off by HF_HUB_OFFLINE. Set it to 0."
    elif isinstance(error, HFValidationError):
        sentence = f"{repo_id} is no name that the Hub allows. Use letters, digits, '-', '_' and '.'."
    elif isinstance(error, HfHubHTTPError):
        status, said = error.response.status_code, (error.server_message or "").strip().rstrip(".")
        sentences = {
            401: "The Hub does not know this token. Log in with hf auth login, or pass one that is valid.",
            403: _MAY_NOT.format(repo_id),
            404: f"{repo_id} cannot be found any more. Push again.",
            409: f"{repo_id} is there already, and this token does not see it. Take another name.",
        }
        sentence = sentences.get(
            status, f"The Hub refuses {repo_id} ({status}{': ' if said else ''}{said}). Push again later."
        )
    elif isinstance(error, ValueError):  # of the metadata in a README.md
        sentence = f"The Hub does not take it: {error}"
    else:
        sentence = (
            f"The Hub cannot be reached, or the connection to it broke ({type(error).__name__}). Connect to the "
            "network and push again: what has arrived is not sent twice."
        )
    raise HubError(sentence) from error
