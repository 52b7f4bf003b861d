"""One person, ready to be painted: embedding, AdaIN parameters, photos and, once fine-tuned, a generator of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import safetensors.torch
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .cards import avatar_card
from .errors import InvalidModelError, OutputError
from .hub import FORMAT_VERSION, WEIGHTS_NAME, build_strictly, load_strictly, push, resolve, written_whole
from .images import to_float
from .landmarks import NUM_LANDMARKS
from .models import Generator
from .models.layers import settings_of
from .video import check_writable, replacing

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def check_folder(folder: Path) -> None:
    """Find out before the work that an avatar cannot be saved in ``folder``. Raises OutputError."""
    if not folder.exists():
        check_writable(folder, (folder.suffix.lower(),))
    elif not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no avatar. Choose another folder.")


class Avatar(ModelMixin, ConfigMixin):
    """What is kept of a person. Made by ``TalkingHeadPipeline.create_avatar`` or ``train.fine_tune``.

    ``embedding`` (N,): e, the mean over the photos. ``style`` (S,): psi', P e at first. ``photos`` uint8
    (K, 3, H, H) and ``landmarks`` float32 (K, L, 2) in their pixels: what source conditioning warps, and the geometry
    that relative motion is carried over to. ``generator``: this person's own, or None to be painted by the base model.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int,
        style_dim: int,
        num_photos: int,
        image_size: int = 256,
        base_model: str = "",
        base_revision: str = "",
        own_generator: dict[str, Any] | None = None,
        format_version: int = FORMAT_VERSION,
        base_commit: str = "",
    ) -> None:
        """``base_revision`` is the fingerprint of the base model's weights; ``own_generator`` its configuration.

        ``base_commit``: the commit of ``base_model`` on the Hub, if it came from there.
        """
        super().__init__()
        if num_photos < 1:
            raise ValueError("an avatar needs at least one photo")
        self.style = nn.Parameter(torch.zeros(style_dim))
        self.register_buffer("embedding", torch.zeros(embedding_dim))
        self.register_buffer("photos", torch.zeros(num_photos, 3, image_size, image_size, dtype=torch.uint8))
        self.register_buffer("landmarks", torch.zeros(num_photos, NUM_LANDMARKS, 2))
        self.generator = Generator(**own_generator) if own_generator is not None else None

    @classmethod
    def create(
        cls,
        embedding: Tensor,
        style: Tensor,
        photos: np.ndarray,
        landmarks: np.ndarray,
        base_model: str,
        base_revision: str,
        generator: Generator | None = None,
        base_commit: str = "",
    ) -> Self:
        """From values: embedding (N,), style (S,), photos uint8 (K, H, H, 3), landmarks float32 (K, L, 2)."""
        avatar = cls(
            embedding_dim=len(embedding),
            style_dim=len(style),
            num_photos=len(photos),
            image_size=photos.shape[1],
            base_model=base_model,
            base_revision=base_revision,
            base_commit=base_commit,
            own_generator=None if generator is None else settings_of(generator.config),
        )
        with torch.no_grad():
            avatar.embedding.copy_(embedding)
            avatar.style.copy_(style)
            avatar.photos.copy_(torch.from_numpy(np.ascontiguousarray(photos)).permute(0, 3, 1, 2))
            avatar.landmarks.copy_(torch.from_numpy(np.ascontiguousarray(landmarks)))
        if avatar.generator is not None and generator is not None:
            avatar.generator.load_state_dict(generator.state_dict())
        return avatar.eval()

    def with_shots(self, photos: np.ndarray, landmarks: np.ndarray) -> Self:
        """The same person, painted over other photos: uint8 (K, H, H, 3) and landmarks float32 (K, L, 2)."""
        return type(self).create(
            self.embedding, self.style.detach(), photos, landmarks, self.config.base_model, self.config.base_revision,
            self.generator, self.config.base_commit,
        ).to(self.photos.device)  # fmt: skip

    @property
    def photo_images(self) -> np.ndarray:
        """The photos as the model sees them: uint8 RGB (K, H, H, 3)."""
        return self.photos.permute(0, 2, 3, 1).cpu().numpy()

    @property
    def shots(self) -> Tensor:
        """The photos as network inputs: float32 (K, 3, H, H) in [-1, 1]."""
        return to_float(self.photo_images).to(self.photos.device)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Writes ``config.json`` and the weights into a folder; beside first, then renamed. Raises OutputError.

        An existing avatar in that folder is replaced; a folder with anything else in it is refused.
        """
        folder = Path(save_directory)
        check_folder(folder)
        with written_whole(folder) as beside:
            super().save_pretrained(beside)

    def _public_config(self) -> dict[str, Any]:
        """The configuration to give away: a folder on this machine is nobody's business."""
        config: dict[str, Any] = json.loads(self.to_json_string())
        if not self.config.base_commit:
            config["base_model"] = Path(self.config.base_model).name
        return config

    def save_file(self, path: str | Path) -> Path:
        """Writes the avatar as one file, for a download: safetensors with the configuration inside; whole or not.

        Raises OutputError. ``from_file`` reads it.
        """
        path = Path(path)
        check_writable(path, (".safetensors",))
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        with replacing(path) as part:
            part.write_bytes(safetensors.torch.save(state, metadata={"avatar": json.dumps(self._public_config())}))
        return path

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """An avatar that ``save_file`` wrote. Raises InvalidModelError."""
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                settings = dict(json.loads((file.metadata() or {})["avatar"]))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        except FileNotFoundError:
            raise InvalidModelError(f"The avatar {path} does not exist. Check the path.") from None
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            raise InvalidModelError(f"{path.name} is no avatar. Give a file that an avatar was saved as.") from None
        return build_strictly(cls, settings, state, Path(path.name), Path(path.name))

    def push_to_hub(
        self, repo_id: str, private: bool = True, token: str | None = None, commit_message: str | None = None
    ) -> CommitInfo:
        """Uploads the avatar and a card to ``repo_id`` of the Hub, and gives the commit.

        Private unless asked otherwise, because a face is personal data: a repository that is public is refused then.
        ``token``: of whom it is pushed for, instead of this machine's. Raises HubError.
        """
        with TemporaryDirectory() as work:
            folder = Path(work) / "avatar"
            self.save_pretrained(folder)
            config = self._public_config()
            (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
            files: dict[str, Path | bytes] = {name: folder / name for name in ("config.json", WEIGHTS_NAME)}
            files["README.md"] = str(avatar_card(repo_id, config)).encode()
            return push("avatar", repo_id, files, private=private, token=token, message=commit_message)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | Literal[False] | None = None,
    ) -> Self:
        """A saved avatar from a folder or "org/name" of the Hub.

        ``token`` is for a private one of somebody else's; False: without any, not even this machine's.
        Raises InvalidModelError where it is missing, damaged, or something else.
        """
        folder = resolve(
            os.fspath(pretrained_model_name_or_path),
            marker="config.json",
            files=[WEIGHTS_NAME],
            revision=revision,
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            local_files_only=local_files_only,
            token=token,
        )
        return load_strictly(cls, folder)
