"""The networks of a pipeline: loaded, saved, pushed to the Hub, and computed by an engine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakKeyDictionary

import torch
from diffusers import DiffusionPipeline

from .engines import EngineName, Generate, autocast, check_engine, choose_engine, compile_openvino
from .errors import IncompatibleAvatarError, InvalidModelError
from .files import replacing_folder
from .hub import (
    BUNDLED_MODELS,
    FORMAT_VERSION,
    TRAINING,
    check_format,
    fingerprint,
    load_strictly,
    network_files,
    push_model,
    read_json,
    resolve,
)
from .models import Discriminator, Embedder, Generator

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from .avatar import Avatar

Size = int | Literal["photo"] | None
"""Side of the frames: pixels, as the photo, or what suits the photo."""


class NetworkPipeline(DiffusionPipeline):
    """The networks of a pipeline: loading, saving, devices and engines. ``TalkingHeadPipeline`` uses them."""

    def __init__(self, embedder: Embedder, generator: Generator, format_version: int = FORMAT_VERSION) -> None:
        super().__init__()
        self.register_modules(embedder=embedder, generator=generator)
        self.register_to_config(format_version=format_version)
        self.name = ""
        """Where it was loaded from, as avatars remember it: "default", "paper", a folder, or "org/name" of the Hub."""
        self.commit = ""
        """The commit of ``name``, if that is of the Hub."""
        self._folder: Path | None = None
        self._variant: str | None = None
        self._locate_discriminator: Callable[[], Path] | None = None
        self._engine = "auto"
        self._compiled: WeakKeyDictionary[Generator, Generate] = WeakKeyDictionary()
        self._fingerprint: str | None = None

    # ------------------------------------------------------------------------------------------------ loading, saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | None = None,
        engine: str = "auto",
    ) -> Self:
        """A bundled model (None or "default"; "paper": the paper's design), a folder, or "org/name" of the Hub.

        ``variant``: of the weights' files, e.g. "fp16"; their precision in memory is ``torch_dtype``, float32 if None.
        ``revision``: branch, tag or commit. ``engine``: see there. Raises InvalidModelError with a sentence where it is
        missing, incomplete, or another thing.
        """
        check_engine(engine)
        source = "default" if pretrained_model_name_or_path is None else os.fspath(pretrained_model_name_or_path)
        named = pretrained_model_name_or_path is not None and Path(source).exists()  # a folder of that name goes before
        place = BUNDLED_MODELS.get(source, source) if not named else source
        locate = partial(
            resolve,
            place,
            marker="model_index.json",
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            local_files_only=local_files_only,
            token=token,
        )
        networks = [*network_files("embedder", variant), *network_files("generator", variant)]
        folder = locate(files=networks, revision=revision)
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise InvalidModelError(f"{folder} holds a {index.get('_class_name')}, not a {cls.__name__}.")
        check_format(index, folder)
        embedder = load_strictly(Embedder, folder / "embedder", variant)
        generator = load_strictly(Generator, folder / "generator", variant)
        if embedder.embedding_dim != generator.config.embedding_dim:
            raise InvalidModelError(f"Embedder and generator in {folder} do not belong together.")
        pipe = cls(embedder, generator)
        pipe.name = next((name for name, bundled in BUNDLED_MODELS.items() if bundled == folder), source)
        if folder not in (
            *BUNDLED_MODELS.values(),
            Path(source),
        ):  # a snapshot of the Hub, which is named by its commit
            pipe.commit = folder.name
        # The discriminator is downloaded only when it is asked for, and then from the same commit.
        files = network_files("discriminator", variant)
        pipe._locate_discriminator = partial(locate, files=files, revision=pipe.commit or None)
        pipe._folder, pipe._variant = folder, variant
        pipe.engine = engine
        if torch_dtype is not None:
            pipe._fingerprint = pipe.fingerprint  # of what was published: an avatar fits in every precision
            pipe.to(torch_dtype)
        return pipe

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, variant: str | None = None) -> None:
        """Writes ``model_index.json`` and a folder for each network; whole or not at all. Raises OutputError.

        ``variant`` goes into the names of the weights' files; their precision is the pipeline's.
        """
        with replacing_folder(Path(save_directory)) as beside:
            super().save_pretrained(beside, variant=variant)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str | None = None,
    ) -> CommitInfo:
        """Uploads the model, the discriminator that came with it, and a card to ``repo_id``, and gives the commit.

        Variants of one model share a repository. ``token``: instead of this machine's. The card is that of the folder
        which the model was loaded from, or is written anew, see ``cards.model_card``. Raises HubError.
        """
        with TemporaryDirectory() as work:
            folder = Path(work) / "model"
            self.save_pretrained(folder, variant=variant)
            if self.has_discriminator:
                discriminator: Any = torch.nn.Module.to(self.load_discriminator(), self.dtype)
                discriminator.save_pretrained(folder / "discriminator", variant=variant)
            for name in ("README.md", TRAINING):
                if self._folder is not None and (self._folder / name).is_file():
                    shutil.copy2(self._folder / name, folder / name)
            return push_model(
                folder, repo_id, private=private, token=token, variant=variant, message=commit_message,
                base_model=self.name if self.commit else "",
            )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """16 digits that stand for the weights; avatars carry those of the model that made them."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.embedder, self.generator)
        return self._fingerprint

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator came with this model; of a model of the Hub it is fetched for that."""
        return self._discriminator_folder() is not None

    def load_discriminator(self) -> Discriminator:
        """The discriminator that was trained with this model; only fine-tuning needs it. Raises InvalidModelError."""
        folder = self._discriminator_folder()
        if folder is None:
            raise InvalidModelError("This model came without its discriminator, which fine-tuning needs.")
        return load_strictly(Discriminator, folder, self._variant)

    def _discriminator_folder(self) -> Path | None:
        folder = self._locate_discriminator() / "discriminator" if self._locate_discriminator else None
        return folder if folder is not None and folder.is_dir() else None

    # ----------------------------------------------------------------------------------------------------- computing

    @property
    def engine(self) -> str:
        """The engine that computes the generator: "torch", "openvino" or "auto" (``engines.choose_engine``).

        Assigning what is not installed raises MissingDependencyError.
        """
        return self._engine

    @engine.setter
    def engine(self, engine: str) -> None:
        check_engine(engine)
        self._engine = engine

    @property
    def engine_name(self) -> EngineName:
        """The engine that is chosen for a long clip on the pipeline's device."""
        return choose_engine(self.engine, self.generator)

    @property
    def image_size(self) -> int:
        """Side of the frames in pixels."""
        return int(self.generator.config.image_size)

    def check_fits(self, avatar: Avatar) -> None:
        """Raises IncompatibleAvatarError where another model's generator is needed to paint the avatar."""
        if avatar.generator is not None:
            return  # it brings everything that paints it
        if avatar.config.base_revision != self.fingerprint:
            name, commit = avatar.config.base_model or "unknown", avatar.config.base_commit
            raise IncompatibleAvatarError(
                f"This avatar was made with the model {name}{' at the commit ' * bool(commit)}{commit} "
                f"({avatar.config.base_revision}), not with this one ({self.fingerprint}). "
                "Load that model, or make the avatar again from the photos."
            )

    def frame_size(self, avatar: Avatar, size: Size) -> int:
        """Pixels of the side of the avatar's frames for a wanted size, see a call.

        ValueError for one that cannot be.
        """
        own = int((avatar.generator or self.generator).config.image_size)
        if not (avatar.generator or self.generator).config.render_conditioned:
            if isinstance(size, int) and size != own:
                raise ValueError(f"this model paints frames of {own} pixels; leave the size out")
            return own  # painted from nothing: in the network's size
        if size is None:
            return 2 * own if avatar.photo_size >= 2 * own else own
        if size == "photo":
            return max(own, avatar.photo_size // own * own)
        if not isinstance(size, int) or size < own or size % own:
            raise ValueError(f"size must be a multiple of {own}, or 'photo', got {size!r}")
        return size

    def _forward(self, generator: Generator, num_frames: int | None) -> Generate:
        """``generator`` as the chosen engine computes it; what was compiled is kept for as long as the generator is."""
        many = None if generator in self._compiled else num_frames
        if choose_engine(self.engine, generator, many) == "torch":
            return lambda lines, style, render: generator(lines, style=style, render=render)
        if generator not in self._compiled:
            # Only the model is cached on disk: an avatar's own generator is personal data.
            self._compiled[generator] = compile_openvino(generator, keep=generator is self.generator)
        return self._compiled[generator]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.generator.dtype != torch.float32:
            return contextlib.nullcontext()
        return autocast(self.device)
