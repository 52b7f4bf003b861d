"""Model cards for the Hub, of a model or of a person's avatar, written from recorded facts and measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

TASK = "image-to-video"
TAGS = ["talking-head", "few-shot", "image-animation"]

USE = """\
## Use and misuse

For animating yourself or people who agreed. Not for making anybody say or do what they did not, not for harassing, not
for impersonating, not for recognising people. Videos carry "AI-generated" in their metadata, which is easily lost: say
so as well where you show them. In many places the law asks for consent, for a label, or for both."""

LIMITS = """\
## Limits

* One face, head and shoulders. What the network mends is 256 pixels wide; all else has the photo's own detail.
* What no photo shows is invented: teeth behind closed lips, the far side of a turned head. More photos help.
* Heads turn by some 25 degrees before their outlines and hair look cut out.
* Hands, hair over the face and glasses are moved with it, as if painted on it.
* Photos from the side, and faces that are half covered, are followed badly; a warning says so.
* People unlike those in the data come out worse."""


@dataclass(frozen=True)
class Evaluation:
    """Measurements of ``train.evaluate``: numbers for the card's metadata, and the same as tables in Markdown."""

    results: list[EvalResult]
    tables: str


def model_card(
    repo_id: str,
    sizes: Mapping[str, int],
    training: Mapping[str, Any],
    evaluation: Evaluation | None = None,
    base_model: str = "",
) -> ModelCard:
    """The card of a model.

    ``sizes``: of its networks, in numbers of weights. ``training``: what ``train.meta`` wrote into training.json, or
    nothing. ``base_model``: the repository that it was loaded from. What is not known is said to be unknown.
    """
    data = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        pipeline_tag=TASK,
        tags=TAGS,
        base_model=base_model or None,
        model_name=repo_id,
        eval_results=None if evaluation is None else evaluation.results,
    )
    parts = [
        f"# {repo_id}",
        "Few-shot talking heads: photos of a person and a driving clip in, a video of that person moving like the clip "
        "out. Embedder, generator and projection discriminator of *Few-Shot Adversarial Learning of Realistic Neural "
        "Talking Head Models* (Zakharov et al., ICCV 2019), as the package `talking_heads` has them. Unless it was "
        "trained without renders, the generator paints over a head in three dimensions, which the package makes of the "
        "photos and moves as the clip says (its face model is ICT-FaceKit's, MIT). "
        f"Weights: {', '.join(f'{name} {number:,}' for name, number in sizes.items())}; safetensors.",
        "## Run it",
        _code(
            "from skimage.data import astronaut  # a portrait of the public domain",
            "",
            "from talking_heads import TalkingHeadPipeline",
            "from talking_heads.examples import EXAMPLE",
            "",
            f'pipe = TalkingHeadPipeline.from_pretrained("{repo_id}")',
            "avatar = pipe.create_avatar([astronaut()])  # or paths of 1 to 32 photos of one person",
            'pipe(avatar, EXAMPLE, end=2.0).save("talking-head.mp4")  # or the path of a clip',
        ),
        "## Data",
        "\n".join(_data(training.get("data", ()))),
        "## Training",
        "\n".join(_training(training)),
        "## Measured",
        "Not measured yet." if evaluation is None else evaluation.tables,
        LIMITS,
        USE,
    ]
    return _card(data, parts)


def avatar_card(repo_id: str, config: Mapping[str, Any]) -> ModelCard:
    """The card of a person, from an avatar's config.json."""
    name, commit = config["base_model"], config["base_commit"]
    tuned = config["own_generator"] is not None
    data = ModelCardData(library_name="talking_heads", tags=["avatar", *TAGS], base_model=name if commit else None)
    base, size = f"`{name or 'unnamed'}`", config["canvas_size"]
    if commit:
        base += f" at the commit `{commit}`"
        load = f'from_pretrained("{name}", revision="{commit}")'
    elif tuned or name == "default":
        load = "from_pretrained()"
    else:
        load = 'from_pretrained("FOLDER")  # of the base model'
    parts = [
        f"# {repo_id}",
        f"One person for the package `talking_heads`, made of {config['num_photos']} photo(s), which are in it "
        f"({size} x {size} pixels).",
        "**Consent.** Whoever pushed this avatar says that the person it shows agreed to it. Ask that person before "
        "you use it, and delete it when he or she asks for that.",
        "## Base model",
        f"{base}; the fingerprint of its weights is `{config['base_revision']}`.",
        "Fine-tuned: it brings a generator of its own, and any model of the package can load it."
        if tuned
        else "Not fine-tuned: only its base model can paint it.",
        "## Run it",
        _code(
            "from talking_heads import Avatar, TalkingHeadPipeline",
            "from talking_heads.examples import EXAMPLE",
            "",
            f"pipe = TalkingHeadPipeline.{load}",
            f'avatar = Avatar.from_pretrained("{repo_id}")',
            'pipe(avatar, EXAMPLE, end=2.0).save("talking-head.mp4")  # or the path of a clip',
        ),
        USE,
    ]
    return _card(data, parts)


def _card(data: ModelCardData, parts: Sequence[str]) -> ModelCard:
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _data(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """``rows``: of training.json, one for each kind of clip and licence."""
    if not rows:
        yield "Not recorded."
        return
    yield "| clips | people | frames | licence |"
    yield "|---|---|---|---|"
    for row in rows:
        clips = f"{row['clips']} ({row['kind']})"
        yield f"| {clips} | {row['people']} | {row['frames']} | {row['licence'] or 'not stated'} |"


def _training(facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts:
        yield "Not recorded."
        return
    yield (
        f"`train.meta`: {facts['steps']} steps, {facts['samples']} samples at {facts['image_size']} x "
        f"{facts['image_size']} pixels, K = {facts['num_shots']}, in {facts['hours']:.2f} hours, with "
        f"{facts['hardware']}."
    )
    if facts["start_from"]:
        yield f"Begun with the weights of an earlier run ({facts['start_from']})."
    if facts["content"]:
        yield f"Networks of the content loss, which are not part of the model: {', '.join(facts['content'])}."
