"""Models and avatars of the Hub, through the real client and a double of its server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_double import HubDouble

from talking_heads import TalkingHeadPipeline

PIPE = "from talking_heads import Avatar, TalkingHeadPipeline\npipe = TalkingHeadPipeline.from_pretrained('org/tiny')\n"


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[HubDouble]:
    """With the tiny model in it."""
    with HubDouble() as hub:
        hub.add("org/tiny", tiny_model)
        yield hub


def run(hub: HubDouble, home: Path, program: str, *arguments: str) -> str:
    """What a program prints whose Hub is the double."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=hub.environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_loaded_and_its_discriminator_only_when_asked_for(
    hub: HubDouble, tiny_model: Path, tmp_path: Path
) -> None:
    program = PIPE + (
        "import urllib.request as request\n"
        "print(pipe.name, pipe.fingerprint, request.urlopen(sys.argv[1]).status)\n"
        "print(pipe.load_discriminator().w0.sum().item())\n"
    )
    expected = TalkingHeadPipeline.from_pretrained(tiny_model)
    mark = "README.md"  # fetched between the two
    hub.repositories["org/tiny"][mark] = b""
    loaded, total = run(hub, tmp_path, "import sys\n" + program, f"{hub.url}/org/tiny/resolve/main/{mark}").splitlines()
    assert loaded == f"org/tiny {expected.fingerprint} 200"
    assert float(total) == pytest.approx(expected.load_discriminator().w0.sum().item(), rel=1e-4)
    before, after = hub.fetched[: hub.fetched.index(mark)], hub.fetched[hub.fetched.index(mark) + 1 :]
    weights = "diffusion_pytorch_model.safetensors"
    assert {"model_index.json", f"embedder/{weights}", f"generator/{weights}"} <= set(before)
    assert set(after) == {"discriminator/config.json", f"discriminator/{weights}"}
    assert not set(after) & set(before)


def test_an_avatar_is_pushed_privately_and_comes_back(hub: HubDouble, tmp_path: Path) -> None:
    program = PIPE + (
        "from skimage.data import astronaut\nimport torch\n"
        "avatar = pipe.create_avatar([astronaut()])\n"
        "avatar.push_to_hub('me/ada')\n"
        "again = Avatar.from_pretrained('me/ada')\n"
        "assert all(torch.equal(v, again.state_dict()[k]) for k, v in avatar.state_dict().items())\n"
    )
    run(hub, tmp_path, program)
    assert hub.private == {"me/ada"}
    assert {"config.json", "diffusion_pytorch_model.safetensors"} <= set(hub.repositories["me/ada"])


def test_what_is_not_there_gets_a_sentence(hub: HubDouble, tmp_path: Path) -> None:
    program = (
        "from talking_heads import Avatar, TalkingHeadPipeline\nfrom talking_heads.errors import InvalidModelError\n"
        "for kind, name, revision in ((TalkingHeadPipeline, 'org/none', None),\n"
        "                             (TalkingHeadPipeline, 'org/tiny', 'v9'), (Avatar, 'org/tiny', None)):\n"
        "    try:\n        kind.from_pretrained(name, revision=revision)\n"
        "    except InvalidModelError as error:\n        print(error)\n"
    )
    no_repository, no_revision, no_avatar = run(hub, tmp_path, program).splitlines()
    assert no_repository.startswith("There is no folder and no Hub repository org/none")
    assert no_revision == "org/tiny has no revision v9. See its branches and tags on the Hub."
    assert no_avatar == "The Hub repository org/tiny was not made by this software: it has no config.json."
