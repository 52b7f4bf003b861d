"""One person, ready to be animated: embedding, AdaIN parameters, photos, the head that they show and, once fine-tuned,
a generator of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
from .files import check_writable, replacing, replacing_folder
from .head.filters import resized
from .head.head import Head
from .head.masks import ANALYSIS
from .head.model import face_model
from .head.person_fit import fit_person
from .head.photo import MARGIN, REACH
from .hub import FORMAT_VERSION, WEIGHTS_NAME, build_strictly, load_strictly, push, resolve
from .landmarks import NUM_LANDMARKS
from .models import Generator
from .models.layers import settings_of
from .tracking.crops import Crop, Portrait
from .tracking.motion_fitting import in_crop
from .tracking.points import HAIR, NUM_FOLLOWED, SHOULDERS
from .tracking.segmentation import person_mask

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def check_folder(folder: Path) -> None:
    """Find out before the work that an avatar cannot be saved in ``folder``. Raises OutputError."""
    if not folder.exists():
        check_writable(folder, (folder.suffix.lower(),))
    elif not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no avatar. Choose another folder.")


@dataclass(frozen=True)
class Shots:
    """Photos of one person as an avatar keeps them: the crop with a margin on every side (``head.head.REACH``)."""

    canvases: np.ndarray
    """uint8 RGB (K, C, C, 3)."""
    masks: np.ndarray
    """uint8 (K, C, C): where the person is."""
    landmarks: np.ndarray
    """float32 (K, L, 2) in sides of the crop."""
    followed: np.ndarray | None = None
    """float32 (K, NUM_FOLLOWED, 2) in sides of the crop: of frames of one film the points that were followed through
    it, see ``tracking.points``; NaN for what was not seen. None for other photos."""

    @classmethod
    def of(cls, portraits: Sequence[Portrait], followed: np.ndarray | None = None) -> Shots:
        """Cuts photos out, at the size of the largest face (256 to 1024 pixels a crop; of many photos at most 512).
        ``followed`` (K, NUM_FOLLOWED, 2) in pixels of the photos: of frames of one film, what its track has of them."""
        most = 1024 if len(portraits) <= 4 else 512
        side = max(portrait.crop.side for portrait in portraits)
        size = int(np.clip(256 * np.round(side / 256 + 0.2), 256, most))
        canvas = round(REACH * size)
        canvases, masks = [], []
        for portrait in portraits:
            crop = portrait.crop
            wide = Crop(crop.x, crop.y, REACH * crop.side, crop.angle)
            mask = np.rint(255 * person_mask(portrait.image)).astype(np.uint8)
            canvases.append(wide.cut(portrait.image, canvas))
            masks.append(wide.cut(np.repeat(mask[..., None], 3, axis=2), canvas)[..., 0])
        landmarks = np.stack([in_crop(portrait.crop, portrait.landmarks) for portrait in portraits])
        if followed is not None:
            pairs = zip(portraits, followed, strict=True)
            followed = np.stack([in_crop(portrait.crop, points) for portrait, points in pairs]).astype(np.float32)
        return cls(np.stack(canvases), np.stack(masks), landmarks.astype(np.float32), followed)

    def crops(self, size: int) -> np.ndarray:
        """The photos as a network sees them: uint8 (K, size, size, 3)."""
        side = self.canvases.shape[1]
        first, last = round(side * MARGIN / REACH), round(side * (1 + MARGIN) / REACH)
        crops = (np.ascontiguousarray(canvas[first:last, first:last]) for canvas in self.canvases)
        return np.stack([resized(crop, size) for crop in crops])

    def landmarks_at(self, size: int) -> np.ndarray:
        """float32 (K, L, 2) in pixels of ``crops(size)``."""
        return (self.landmarks * size - 0.5).astype(np.float32)


SHOTS = tuple(field.name for field in fields(Shots))


class Avatar(ModelMixin, ConfigMixin):
    """The stored data of a person. Made by ``TalkingHeadPipeline.create_avatar`` or ``train.fine_tune``.

    ``embedding`` (N,): e, the mean over the photos. ``style`` (S,): psi', P e at first. ``canvases`` uint8
    (K, C, C, 3), ``masks`` uint8 (K, C, C), ``landmarks`` float32 (K, L, 2) and ``followed`` (K, NUM_FOLLOWED, 2): see
    Shots. ``generator``: this person's own, or None to be painted by the base model. The head in three dimensions
    follows from the photos, see ``head``.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int,
        style_dim: int,
        num_photos: int,
        canvas_size: int = 768,
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
        self.register_buffer("canvases", torch.zeros(num_photos, canvas_size, canvas_size, 3, dtype=torch.uint8))
        self.register_buffer("masks", torch.zeros(num_photos, canvas_size, canvas_size, dtype=torch.uint8))
        self.register_buffer("landmarks", torch.zeros(num_photos, NUM_LANDMARKS, 2))
        self.register_buffer("followed", torch.full((num_photos, NUM_FOLLOWED, 2), torch.nan))
        self.generator = Generator(**own_generator) if own_generator is not None else None
        self._head: Head | None = None
        self._head_lock = threading.Lock()

    @classmethod
    def create(
        cls,
        embedding: Tensor,
        style: Tensor,
        shots: Shots,
        base_model: str,
        base_revision: str,
        generator: Generator | None = None,
        base_commit: str = "",
        head: Head | None = None,
    ) -> Self:
        """From values: embedding (N,), style (S,), the photos, and the head where it has been made of them already."""
        avatar = cls(
            embedding_dim=len(embedding),
            style_dim=len(style),
            num_photos=len(shots.canvases),
            canvas_size=shots.canvases.shape[1],
            base_model=base_model,
            base_revision=base_revision,
            base_commit=base_commit,
            own_generator=None if generator is None else settings_of(generator.config),
        )
        with torch.no_grad():
            avatar.embedding.copy_(embedding)
            avatar.style.copy_(style)
            for name in SHOTS:
                if getattr(shots, name) is not None:
                    getattr(avatar, name).copy_(torch.from_numpy(np.ascontiguousarray(getattr(shots, name))))
        if avatar.generator is not None and generator is not None:
            avatar.generator.load_state_dict(generator.state_dict())
        avatar._head = head
        return avatar.eval()

    def with_shots(self, shots: Shots) -> Self:
        """The same person, drawn from other photos."""
        return type(self).create(
            self.embedding, self.style.detach(), shots, self.config.base_model, self.config.base_revision,
            self.generator, self.config.base_commit,
        ).to(self.embedding.device)  # fmt: skip

    @property
    def shots(self) -> Shots:
        """The photos."""
        return Shots(*(getattr(self, name).cpu().numpy() for name in SHOTS))

    @property
    def head(self) -> Head:
        """The person's head in three dimensions, made of the photos when it is first asked for: 0.2 s a photo."""
        with self._head_lock:
            if self._head is None:
                self._head = make_head(self.shots)
            return self._head

    @property
    def photo_size(self) -> int:
        """Pixels of the side of the crop that the photos have."""
        return round(int(self.config.canvas_size) / REACH)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A lock cannot be copied; a head need not be."""
        return type(self).create(
            self.embedding, self.style.detach(), self.shots, self.config.base_model, self.config.base_revision,
            self.generator, self.config.base_commit, self._head,
        ).to(self.embedding.device)  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """State for other processes: without the lock, which cannot be sent, and with the head if it has been made."""
        return {k: v for k, v in self.__dict__.items() if k != "_head_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._head_lock = threading.Lock()

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Writes ``config.json`` and the weights into a folder; beside first, then renamed. Raises OutputError.

        An existing avatar in that folder is replaced; a folder with anything else in it is refused.
        """
        folder = Path(save_directory)
        check_folder(folder)
        with replacing_folder(folder) as beside:
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


def make_head(shots: Shots) -> Head:
    """Photos -> the head that they show."""
    if not np.isfinite(shots.landmarks).all():
        raise InvalidModelError("The avatar is damaged: it has no landmarks. Make it again from the photos.")
    model, canvases, masks, landmarks = face_model(), list(shots.canvases), list(shots.masks), list(shots.landmarks)
    # What was followed through a film says how each of its frames is turned, and where its shoulders are.
    hair, shoulders = (None if shots.followed is None else shots.followed[:, which] for which in (HAIR, SHOULDERS))
    person = fit_person(model, landmarks, hair=hair)
    return Head.of(model, person, canvases, masks, landmarks, ANALYSIS, shoulders)
