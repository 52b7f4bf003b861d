"""Models, avatars and the page on the Hub, through the real client and a double of its server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import yaml
from hub_double import HubClient, HubDouble
from people import write_people
from PIL import Image
from safetensors.torch import load, save
from skimage.data import astronaut
from tiny import save_tiny_model

from talking_heads import TalkingHeadPipeline
from talking_heads.hub import BUNDLED

pytestmark = pytest.mark.slow

WEIGHTS = "diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[1]
SHARED = """
import hashlib, os, time
from pathlib import Path
import numpy as np, torch
from huggingface_hub import get_token
from typer.testing import CliRunner
from people import astronaut, detector
from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.head.presets import load_preset
from talking_heads.errors import HubError, InvalidModelError, TalkingHeadsError

def load(*source, **options):
    pipe = TalkingHeadPipeline.from_pretrained(*source, **options)
    pipe.detector = detector()
    return pipe

def pictures(pipe, avatar):
    "Two frames of a nod."
    return list(pipe(avatar, load_preset("nod")[17:19], neutral=load_preset("nod")[:1]))

def frames(pipe, avatar):
    "The same, as a hash."
    return hashlib.sha256(b"".join(frame.tobytes() for frame in pictures(pipe, avatar))).hexdigest()

def complaint(call, *arguments, **options):
    "What the user is told, and that this took no longer than he or she would wait."
    started = time.monotonic()
    try:
        call(*arguments, **options)
    except TalkingHeadsError as error:
        print(type(error).__name__ + ": " + str(error))
    else:
        raise AssertionError("no complaint")
    assert time.monotonic() - started < 15  # the client's own patience is 23 s

def command(app, *arguments):
    result = CliRunner().invoke(app, arguments)
    print(result.exit_code, result.output.strip())
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubDouble, HubClient]]:
    with HubDouble() as hub, HubClient(hub, tmp_path_factory.mktemp("client")) as client:
        yield hub, client


@pytest.fixture
def hub(everything: tuple[HubDouble, HubClient], tiny_model: Path) -> HubDouble:
    """A Hub with the tiny model in it."""
    everything[0].forget()
    everything[0].add("org/tiny", tiny_model)
    return everything[0]


@pytest.fixture
def client(everything: tuple[HubDouble, HubClient], tmp_path: Path):
    """Runs a program after SHARED, in which ``here`` is an empty folder; gives the lines that it prints."""

    def run(program: str, **names: object) -> list[str]:
        return everything[1].run(SHARED + dedent(program), here=tmp_path, **names)

    return run


def card_of(hub: HubDouble, name: str) -> tuple[dict, str]:
    """Metadata and text of a repository's card."""
    _, metadata, text = hub.repositories[name]["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(metadata), text


def code_of(text: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return code


# ------------------------------------------------------------------------------------------------------------- loading


def test_a_model_is_loaded_and_its_discriminator_only_when_asked_for(hub: HubDouble, client, tiny_model: Path) -> None:
    expected = TalkingHeadPipeline.from_pretrained(tiny_model)
    hub.repositories["org/tiny"] |= {"mark": b"", "embedder/diffusion_pytorch_model.fp16.safetensors": b"not wanted"}
    loaded, total = client(
        """
        from urllib.request import Request, urlopen
        pipe = load("org/tiny", cache_dir=here)
        urlopen(url + "/org/tiny/resolve/main/mark").close()
        print(pipe.name, pipe.commit, pipe.fingerprint)
        print(pipe.load_discriminator().w0.sum().item())
        """,
        url=hub.url,
    )
    assert loaded == f"org/tiny {hub.sha('org/tiny')} {expected.fingerprint}"
    assert float(total) == pytest.approx(expected.load_discriminator().w0.sum().item(), rel=1e-4)
    before, after = hub.fetched[: hub.fetched.index("mark")], hub.fetched[hub.fetched.index("mark") + 1 :]
    networks = [f"{name}/{file}" for name in ("embedder", "generator") for file in ("config.json", WEIGHTS)]
    assert set(before) == {"model_index.json", *networks}
    assert set(after) == {"discriminator/config.json", f"discriminator/{WEIGHTS}"}


def test_what_cannot_be_loaded_gets_a_sentence(hub: HubDouble, client) -> None:
    def variation(name: str, **changed: bytes | None) -> None:
        files = hub.repositories["org/tiny"] | {path.replace("__", "/"): value for path, value in changed.items()}
        hub.repositories[name] = {path: value for path, value in files.items() if value is not None}

    path = f"generator/{WEIGHTS}"
    state = load(hub.repositories["org/tiny"][path])
    less = {name: value for name, value in state.items() if name != "to_rgb.weight"}
    index = json.loads(hub.repositories["org/tiny"]["model_index.json"])
    variation("org/less", **{path: save(less)})
    variation("org/more", **{path: save(state | {"extra": torch.zeros(1)})})
    variation("org/newer", **{"model_index.json": json.dumps(index | {"format_version": 99}).encode()})
    variation("org/pickle", **{path: None, "generator/diffusion_pytorch_model.bin": b"a pickle"})
    variation("org/wrong")
    hub.private.add("you/secret")
    hub.repositories["you/secret"] = hub.repositories["org/tiny"]
    lines = client(
        """
        def at(name, **options):
            complaint(load, name, cache_dir=here, **options)
        at("org/none")
        at("org/tiny", revision="v9")
        at("org/tiny", revision="0" * 40)
        complaint(Avatar.from_pretrained, "org/tiny", cache_dir=here)
        at("org/less")
        at("org/more")
        at("org/newer")
        at("org/pickle")
        at("org/tiny", variant="fp16")
        at("org/tiny", local_files_only=True, revision="v2")
        at("you/secret")
        at("org/none", token="hf_of_nobody")
        print(load("you/secret", token="hf_you", cache_dir=here).commit)
        """
    )
    expected = [
        "There is no folder and no Hub repository org/none, or it is private",
        "org/tiny has no revision v9. See its branches and tags on the Hub.",
        "org/tiny has no revision 0000",
        "The Hub repository org/tiny was not made by this software: it has no config.json.",
        "lacks weights, e.g. to_rgb.weight",
        "has unknown weights, e.g. extra",
        "was written by a newer version of this software. Update it.",
        f"has no {WEIGHTS}",
        "has no diffusion_pytorch_model.fp16.safetensors. Copy the folder again, with all of its files, or load it",
        "org/tiny at the revision v2 is not on this machine",
        "There is no folder and no Hub repository you/secret, or it is private",
        "The Hub does not know the token that org/none was asked for with.",
    ]
    assert lines.pop() == hub.sha("you/secret")
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith("InvalidModelError: ") and words in line
    assert "generator/diffusion_pytorch_model.bin" not in hub.fetched


def test_a_download_that_breaks_goes_on_and_one_that_is_damaged_is_refused(hub: HubDouble, client) -> None:
    path = f"generator/{WEIGHTS}"
    hub.breaks = [f"GET {path}"]
    hub.corrupt = {f"embedder/{WEIGHTS}"}
    lines = client('complaint(load, "org/tiny", cache_dir=here)')
    assert lines == [f"InvalidModelError: {WEIGHTS} arrived damaged, and was deleted. Load it again."]
    assert hub.breaks == [] and hub.fetched.count(path) == 2
    hub.corrupt = set()
    (fingerprint,) = client('print(load("org/tiny", cache_dir=here).fingerprint)')
    assert hub.fetched.count(path) == 2  # the rest was fetched, and not a third time
    hub.corrupt = {path}
    (other,) = client('print(load("org/tiny", cache_dir=here).fingerprint)')
    assert other == fingerprint  # of the cache


def test_without_a_network_what_is_known_loads_and_the_rest_is_told_at_once(hub: HubDouble, client) -> None:
    (commit,) = client('print(load("org/tiny", cache_dir=here).commit)')
    program = """
        for options in ({}, {"revision": commit}, {"local_files_only": True}):
            print(load("org/tiny", cache_dir=here, **options).commit)
        complaint(load, "org/other", cache_dir=here)
        complaint(load, "org/other", cache_dir=here, revision=commit)
        complaint(load("org/tiny", cache_dir=here, revision=commit).load_discriminator)
        complaint(load("org/tiny", cache_dir=here).push_to_hub, "me/tiny")
        """
    with hub.out_of_reach():
        lines = client(program, commit=commit)
    assert lines[:3] == [commit] * 3
    assert all("the Hub cannot be reached" in line for line in lines[3:6]) and len(lines) == 7
    assert "Hub cannot be reached" in lines[6]


# ------------------------------------------------------------------------------------------------------------- pushing


def test_a_model_comes_back_bit_equal_with_a_card_whose_code_runs(hub: HubDouble, client, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    training = {"steps": 3, "samples": 6, "hours": 0.5, "hardware": "1 x 2 threads of a lamp", "image_size": 64}
    training |= {"num_shots": 2, "content": ["squeezenet1_0.npz"], "start_from": "128/model", "format_version": 1}
    data = {"kind": "video", "licence": "CC BY 4.0", "clips": 9, "people": 4, "frames": 120}
    (folder / "training.json").write_text(json.dumps(training | {"data": [data]}))
    lines = client(
        """
        pipe = load(folder)
        avatar = pipe.create_avatar([astronaut()])
        commit = pipe.push_to_hub("me/model", private=True)
        print(commit.oid)
        for options in ({}, {"revision": commit.oid}):
            again = load("me/model", cache_dir=here, **options)
            for ours, theirs in (
                (pipe.embedder, again.embedder), (pipe.generator, again.generator),
                (pipe.load_discriminator(), again.load_discriminator()),
            ):
                theirs = theirs.state_dict()
                assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())
            # Equal weights, but where they lie in memory can change the last digit of a sum.
            pairs = zip(pictures(pipe, avatar), pictures(again, again.create_avatar([astronaut()])), strict=True)
            assert max(np.abs(one.astype(int) - other).max() for one, other in pairs) <= 1
        """,
        folder=folder,
    )
    assert lines[0] == hub.sha("me/model") and "me/model" in hub.private
    files = hub.repositories["me/model"]
    assert {"model_index.json", "README.md", "pipeline.py", "training.json", f"discriminator/{WEIGHTS}"} <= set(files)
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    metadata, text = card_of(hub, "me/model")
    assert metadata["license"] == "apache-2.0" and metadata["pipeline_tag"] == "image-to-video"
    assert "model-index" not in metadata and "Not measured yet." in text
    assert "| 9 (video) | 4 | 120 | CC BY 4.0 |" in text
    assert "3 steps, 6 samples at 64 x 64 pixels, K = 2, in 0.50 hours, with 1 x 2 threads of a lamp." in text
    assert "(128/model)" in text and "squeezenet1_0.npz" in text
    client("os.chdir(here)\n" + code_of(text))
    assert (tmp_path / "talking-head.mp4").stat().st_size > 1000


def test_a_variant_lies_beside_the_other_and_diffusers_loads_both(hub: HubDouble, client, tiny_model: Path) -> None:
    lines = client(
        """
        from diffusers import DiffusionPipeline
        pipe = load(folder)
        pipe.push_to_hub("me/model")
        half = load(folder, torch_dtype=torch.float16)
        half.push_to_hub("me/model", variant="fp16")
        for options in ({}, {"variant": "fp16"}):
            again = load("me/model", cache_dir=here + str(options.get("variant")), **options)
            avatar = again.create_avatar([astronaut()])
            generic = DiffusionPipeline.from_pretrained(
                "me/model", custom_pipeline="me/model", trust_remote_code=True, cache_dir=here + "generic", **options
            )
            assert type(generic) is TalkingHeadPipeline
            print(frames(again, avatar))
            print(frames(generic, avatar))
        print(load("me/model", variant="fp16", cache_dir=here, torch_dtype=torch.float16).dtype)
        """,
        folder=tiny_model,
    )
    assert lines[0] == lines[1] and lines[2] == lines[3] and lines[4] == "torch.float16"
    files = hub.repositories["me/model"]
    for name in ("embedder", "generator", "discriminator"):
        full, half = files[f"{name}/{WEIGHTS}"], files[f"{name}/diffusion_pytorch_model.fp16.safetensors"]
        assert len(half) < len(full)


def test_an_avatar_is_pushed_with_a_visitors_token_and_comes_back(hub: HubDouble, client, tmp_path: Path) -> None:
    lines = client(
        """
        del os.environ["HF_TOKEN"]  # of the machine that the page runs on
        pipe = load("org/tiny", cache_dir=here)
        avatar = pipe.create_avatar([astronaut(), np.ascontiguousarray(astronaut()[:, ::-1])])
        complaint(avatar.push_to_hub, "you/ada")
        avatar.push_to_hub("you/ada", token="hf_you")
        assert get_token() is None and "HF_TOKEN" not in os.environ
        complaint(Avatar.from_pretrained, "you/ada", cache_dir=here)
        again = Avatar.from_pretrained("you/ada", token="hf_you", cache_dir=here)
        theirs = again.state_dict()  # NaN: nothing was followed in photos
        assert all(np.array_equal(value, theirs[name], equal_nan=True) for name, value in avatar.state_dict().items())
        print(frames(pipe, avatar))
        print(frames(load(again.config.base_model, revision=again.config.base_commit, cache_dir=here), again))
        """
    )
    assert lines[0].startswith("HubError: To push needs a token") and "or it is private" in lines[1]
    assert lines[2] == lines[3]
    assert hub.private == {"you/ada"}
    assert set(hub.repositories["you/ada"]) == {".gitattributes", "README.md", "config.json", WEIGHTS}
    config = json.loads(hub.repositories["you/ada"]["config.json"])
    assert (config["base_model"], config["base_commit"]) == ("org/tiny", hub.sha("org/tiny"))
    metadata, text = card_of(hub, "you/ada")
    assert metadata["base_model"] == "org/tiny"
    assert hub.sha("org/tiny") in text and "2 photo(s)" in text and "**Consent.**" in text
    client("os.environ['HF_TOKEN'] = 'hf_you'\nos.chdir(here)\n" + code_of(text))
    assert (tmp_path / "talking-head.mp4").stat().st_size > 1000


def test_what_cannot_be_pushed_gets_a_sentence_and_leaves_no_trace(hub: HubDouble, client, tiny_model: Path) -> None:
    hub.repositories["me/llama"] = {"config.json": b'{"_class_name": "Llama"}', "model.safetensors": b""}
    hub.repositories["me/ada"] = {"README.md": b"mine"}
    hub.repositories["you/ada"] = {"README.md": b"yours"}
    hub.repositories["you/secret"] = {"README.md": b"yours"}
    hub.private.add("you/secret")
    before = {name: dict(files) for name, files in hub.repositories.items()}
    lines = client(
        """
        pipe = load(folder)
        avatar = pipe.create_avatar([astronaut()])
        complaint(pipe.push_to_hub, "me/model", token="hf_of_nobody")
        complaint(pipe.push_to_hub, "me/model", token="hf_reader")
        complaint(avatar.push_to_hub, "you/ada", private=False)
        complaint(avatar.push_to_hub, "you/new")
        complaint(avatar.push_to_hub, "me/llama", private=False)
        complaint(pipe.push_to_hub, "me/llama")
        complaint(avatar.push_to_hub, "me/ada")
        complaint(avatar.push_to_hub, "ada")
        complaint(avatar.push_to_hub, "me/a da")
        complaint(avatar.push_to_hub, "you/secret")
        """,
        folder=tiny_model,
    )
    expected = [
        "The Hub does not know this token.",
        "This token may not write to me/model.",
        "This token may not write to you/ada.",
        "This token may not write to you/new.",
        "me/llama holds something else (config.json), not an avatar. Take another name.",
        "me/llama holds something else (config.json), not a model of this software. Take another name.",
        "me/ada is there already, and everybody can see it.",
        "ada is no repository of the Hub.",
        "me/a da is no name that the Hub allows.",
        "This token may not write to you/secret.",
    ]
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith(f"HubError: {words}")
    assert hub.repositories == before


def test_an_upload_that_breaks_goes_on_and_one_that_is_damaged_is_refused(
    hub: HubDouble, client, tiny_model: Path
) -> None:
    hub.breaks = ["PUT", "commit"]
    (line,) = client('complaint(load(folder).push_to_hub, "me/model")', folder=tiny_model)
    assert line.startswith("HubError: The Hub cannot be reached, or the connection to it broke")
    assert hub.breaks == [] and set(hub.repositories["me/model"]) == {".gitattributes"}
    stored = list(hub.stored)
    assert len(stored) == 3  # the one that broke was sent again
    client('load(folder).push_to_hub("me/model")', folder=tiny_model)
    assert hub.stored == stored and f"generator/{WEIGHTS}" in hub.repositories["me/model"]
    hub.blobs.clear()
    hub.loses = True
    del hub.repositories["me/model"]
    (line,) = client('complaint(load(folder).push_to_hub, "me/model")', folder=tiny_model)
    assert line == (
        "HubError: The Hub refuses me/model (422: the hash of this object is another one). Push again later."
    )


# ------------------------------------------------------------------------------------------------------- command lines


def test_the_commands_push_what_they_made(hub: HubDouble, client, tiny_model: Path, tmp_path: Path) -> None:
    Image.fromarray(astronaut()).save(tmp_path / "ada.png")
    write_people(tmp_path / "clips")
    (tmp_path / "clips" / "dora.npz").unlink()  # no validation
    lines = client(
        """
        import typer
        from train import finetune, meta, push
        os.chdir(here)
        single = typer.Typer()
        single.command()(finetune.main)
        ada = ["--photos", "ada.png", "--output", "ada", "--steps", "1", "--model", folder]
        command(single, *ada, "--push", "you/ada")
        assert not Path("ada").exists()  # known before the work
        command(single, *ada, "--push", "me/ada")
        run = typer.Typer()
        run.command()(meta.main)
        command(run, "--clips", "clips", "--output", "run", "--preset", "tiny", "--steps", "1", "--workers", "0",
                "--mixed-precision", "no", "--push", "me/meta")
        command(push.app, "avatar", "ada", "me/again", "--public")
        command(push.app, "model", "run/model", "me/meta")
        command(push.app, "model", "ada", "me/none")
        command(push.app, "space", "me/page", "--private")
        command(push.app, "space", "you/page")
        """,
        folder=tiny_model,
    )
    assert lines[0].startswith("2 Error: This token may not write to you/ada.")
    text = "\n".join(lines)
    for name in ("me/ada", "me/meta", "me/again", "spaces/me/page"):
        assert f"{hub.url}/{name}" in text
    assert hub.private == {"me/ada", "me/meta", "spaces/me/page"}
    assert hub.repositories["me/again"][WEIGHTS] == hub.repositories["me/ada"][WEIGHTS]
    config = json.loads(hub.repositories["me/ada"]["config.json"])
    assert config["own_generator"] and config["base_model"] == tiny_model.name  # and not where it lies
    files, local = hub.repositories["me/meta"], tmp_path / "run" / "model"
    assert all(files[name] == (local / name).read_bytes() for name in (f"generator/{WEIGHTS}", "training.json"))
    _, card = card_of(hub, "me/meta")
    assert "| 2 (video) | 1 | 11 | not stated |" in card and "1 steps, 2 samples at 32 x 32 pixels" in card
    assert "2 Error: " in text and "model_index.json" in text and "me/none" not in hub.repositories
    assert lines[-1].startswith("2 Error: This token may not write to you/page.")


def test_a_space_has_what_the_page_needs_and_nothing_else(hub: HubDouble, client, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "train", tmp_path / "train", ignore=shutil.ignore_patterns("__pycache__"))
    lines = client(
        """
        from train import push
        command(push.app, "space", "me/page")
        complaint(push.space_files, Path(here))
        """
    )
    assert lines == [
        f"0 {hub.url}/spaces/me/page",
        f"HubError: {tmp_path} is no checkout of this project: it has no README.md. "
        "Clone it and give the command there.",
    ]
    files = hub.repositories["spaces/me/page"]
    metadata, _ = card_of(hub, "spaces/me/page")
    assert metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py"
    weights = f"talking_heads/checkpoints/default/generator/{WEIGHTS}"
    assert files[weights] == (BUNDLED / "generator" / WEIGHTS).read_bytes()
    assert {"app.py", "requirements.txt", "packages.txt", "space/texts/head.md", "train/finetune.py"} <= set(files)
    folders = {name.split("/")[0] for name in files if "/" in name}
    assert folders == {"docs", "space", "talking_heads", "train"}
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in files)
    # A file that this software no longer has goes with the next push; what the owner added beside it stays.
    files |= {"train/old.py": b"", "owner.txt": b""}
    client('from train import push\ncommand(push.app, "space", "me/page")')
    assert "train/old.py" not in files and "owner.txt" in files


def test_a_space_of_a_model_of_the_hub_does_not_hold_its_weights_again(hub: HubDouble, client) -> None:
    hub.add("me/other", ROOT / "docs")
    lines = client(
        """
        from train import push
        command(push.app, "space", "me/page", "--model", "org/tiny")
        for name in ("org/none", "me/other"):
            command(push.app, "space", "me/none", "--model", name)
        """
    )
    assert lines[0] == f"0 {hub.url}/spaces/me/page"
    assert "There is no model org/none on the Hub" in lines[1] and "me/other is no model of this" in lines[2]
    assert "spaces/me/none" not in hub.repositories
    files = hub.repositories["spaces/me/page"]
    assert card_of(hub, "spaces/me/page")[0]["models"] == ["org/tiny"]
    assert hub.variables == {"spaces/me/page": {"TALKING_HEADS_MODEL": "org/tiny"}}
    assert not [name for name in files if name.startswith("talking_heads/checkpoints/") and "safetensors" in name]
    assert "talking_heads/head/face_model.safetensors" in files


def test_the_page_runs_the_named_model_or_the_bundled_one(hub: HubDouble, client, tiny_model: Path) -> None:
    for name in ("org/slow", "org/gone", "org/secret"):
        hub.add(name, tiny_model)
    hub.private.add("org/secret")
    hub.add("org/wrong", ROOT / "docs")
    shared = """
    from space import model
    model.SECONDS_TO_ANSWER = 0.5
    def choose(name):
        started = time.monotonic()
        chosen = model.choose_model({"TALKING_HEADS_MODEL": name}, Path("none"))
        assert time.monotonic() - started < 12
        print(chosen.pipe.name, chosen.pipe.commit, "|", chosen.sentence)
    """

    def run(program: str, **names: object) -> list[str]:
        return client(dedent(shared) + dedent(program), **names)

    reached, by_readme, private, wrong, gone = run(
        """
        choose("org/tiny")
        Path(here, "README.md").write_text("---\\nmodels:\\n- org/tiny\\n---\\nA page.\\n")
        print(model.choose_model({}, Path(here, "README.md")).sentence)
        choose("org/secret")
        choose("org/wrong")
        choose("org/none")
        """
    )
    commit = hub.sha("org/tiny")
    assert reached.startswith(f"org/tiny {commit} | Model: org/tiny at commit {commit[:7]} (")
    assert by_readme == reached.split(" | ")[1]
    for line, name, reason in ((private, "org/secret", "or it is private"), (wrong, "org/wrong", "has no model_index"),
                               (gone, "org/none", "no Hub repository org/none")):  # fmt: skip
        assert line.startswith("default  | Model: the bundled one (") and f"{name} cannot be used now: " in line
        assert reason in line
    hub.silent = 3.0
    (slow,) = run('choose("org/slow")')
    (known,) = run('choose("org/tiny")')
    hub.silent = 0.0
    assert "org/slow cannot be used now: the Hub does not answer" in slow and known == reached
    with hub.out_of_reach():
        unreachable, nothing = run(
            """
            choose("org/gone")
            from talking_heads import networks
            bundled, networks.BUNDLED_MODELS = networks.BUNDLED_MODELS, {"default": Path("none")}
            complaint(model.choose_model, {"TALKING_HEADS_MODEL": "org/gone"}, Path("none"))
            networks.BUNDLED_MODELS = bundled
            """
        )
    assert unreachable.startswith("default  | ") and "the Hub does not answer" in unreachable
    assert nothing.startswith("InvalidModelError: the Hub does not answer")


def test_the_page_acts_for_the_visitor_and_never_for_its_owner(hub: HubDouble, client, tmp_path: Path) -> None:
    """The page's machine is logged in as "me"; the visitor is "you"."""
    lines = client(
        """
        from space.tabs.personalise import PersonaliseTab
        from space.visitor_files import VisitorFiles
        from space.person import Person
        from space.settings import Limits
        from space.service import Service
        pipe = load("org/tiny", cache_dir=here)
        avatar = pipe.create_avatar([astronaut()])
        avatar.push_to_hub("me/ada")
        page = VisitorFiles(Service(pipe, Limits()), Path(here) / "cache")
        page.cache.mkdir()
        tab = PersonaliseTab(page, None)
        complaint(page.read_avatar, None, "me/ada")
        avatar.save_pretrained(Path(here) / "ada")
        home = os.getcwd()
        os.chdir(Path(here).parent)
        complaint(page.read_avatar, None, f"{Path(here).name}/ada")
        os.chdir(home)
        person = Person(avatar=avatar)
        complaint(tab._push, person, False, "you/ada", True, "hf_you")
        complaint(tab._push, person, True, "you/ada", True, "")
        complaint(tab._push, person, True, "me/ada", True, "hf_you")
        print(tab._push(person, True, "you/ada", True, "hf_you"))
        complaint(page.read_avatar, None, "you/ada")
        again = page.read_avatar(None, "you/ada", "hf_you")
        page.service.limits = Limits(megabytes=0)
        complaint(page.read_avatar, None, "you/ada", "hf_you")
        assert torch.equal(again.embedding, avatar.embedding)
        assert not list(page.cache.iterdir())  # nothing of it is kept
        """
    )
    assert "or it is private" in lines[0] and "owner/name" in lines[1]
    assert lines[2].startswith("ConsentError") and "access token" in lines[3] and "may not write to" in lines[4]
    assert lines[5] == f"Pushed: {hub.url}/you/ada"
    assert "or it is private" in lines[6] and "0 MB are the limit here" in lines[7]
    assert hub.private == {"me/ada", "you/ada"}
