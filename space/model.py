"""Which model the page runs: one of the Hub that is named for it, or else the bundled one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.repocard import metadata_load

from talking_heads import TalkingHeadPipeline
from talking_heads.errors import InvalidModelError

logger = logging.getLogger(__name__)

VARIABLE = "TALKING_HEADS_MODEL"
README = Path(__file__).parents[1] / "README.md"
SECONDS_TO_ANSWER = 5.0
"""The page waits no longer for the Hub before it does without."""


@dataclass(frozen=True)
class ChosenModel:
    """A model, and why it is not the one that was asked for."""

    pipe: TalkingHeadPipeline
    problem: str = ""

    @property
    def sentence(self) -> str:
        """For the foot of the page."""
        name, commit = self.pipe.name, self.pipe.commit
        which = "the bundled one" if name == "default" else Path(name).name if Path(name).exists() else name
        told = f"Model: {which}{f' at commit {commit[:7]}' if commit else ''} ({self.pipe.fingerprint})."
        return f"{told} {self.problem}".strip()


def choose_model(environment: Mapping[str, str] = os.environ, readme: Path = README) -> ChosenModel:
    """The model of ``TALKING_HEADS_MODEL``, else the first of ``models:`` in the README's metadata, else the bundled.

    One of the Hub that cannot be had is told of, and the bundled one takes its place. Raises InvalidModelError for a
    folder that holds no model, and where there is nothing to fall back on.
    """
    name = environment.get(VARIABLE) or model_in(readme)
    if not name or Path(name).exists():
        return ChosenModel(TalkingHeadPipeline.from_pretrained(name or None))
    try:
        return ChosenModel(_from_hub(name))
    except InvalidModelError as error:
        logger.warning("%s The bundled model takes its place.", error)
        try:
            bundled = TalkingHeadPipeline.from_pretrained()
        except InvalidModelError:
            raise error from None  # a Space that was pushed without weights of its own
        return ChosenModel(bundled, f"{name} cannot be used now: {error}")


def model_in(readme: Path) -> str | None:
    """The first of ``models:`` in a README's metadata."""
    metadata = metadata_load(readme) if readme.is_file() else None
    models = (metadata or {}).get("models") or [None]
    return str(models[0]) if models[0] else None


def _from_hub(name: str) -> TalkingHeadPipeline:
    """Asks once, with little patience, whether the Hub is there; if not, what the cache has is taken."""
    try:
        HfApi().model_info(name, timeout=SECONDS_TO_ANSWER)
    except (HfHubHTTPError, HFValidationError):
        pass  # there are sentences for that where the model is loaded
    except (HTTPError, ConnectionError, OfflineModeIsEnabled):
        try:
            return TalkingHeadPipeline.from_pretrained(name, local_files_only=True)
        except InvalidModelError:
            raise InvalidModelError("the Hub does not answer, and the model is not on this machine.") from None
    return TalkingHeadPipeline.from_pretrained(name)
