"""The WebSocket beside the page, on the real server."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from served import Served
from websockets.sync.client import ClientConnection, connect

from talking_heads import TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.examples import EXAMPLE
from talking_heads.media.sound import read_sound

# gradio and uvicorn warn of their own dependencies.
pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[1]
HEADER = struct.Struct("<dI")
CONSENT = json.dumps({"consent": True})


@pytest.fixture
def address(server: Served) -> str:
    return server.url.replace("http", "ws").rstrip("/") + "/speak"


@pytest.fixture
def photo(visitors: Path) -> bytes:
    return (visitors / "ada.png").read_bytes()


@pytest.fixture
def connection(address: str) -> Iterator[ClientConnection]:
    with connect(address, max_size=None) as socket:
        yield socket


@pytest.fixture(scope="module")
def client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speak_client", ROOT / "examples" / "speak_client.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["speak_client"] = module
    spec.loader.exec_module(module)
    return module


def refused(socket: ClientConnection, *messages: str | bytes) -> str:
    for message in messages:
        socket.send(message)
    return str(json.loads(socket.recv(timeout=30))["error"])


def test_the_example(client: ModuleType, address: str, visitors: Path, tmp_path: Path) -> None:
    count = client.speak(visitors / "ada.png", visitors / "speech.wav", address, tmp_path / "pictures")
    pictures = sorted((tmp_path / "pictures").glob("*.jpg"))
    assert count == len(pictures) > 5
    assert Image.open(pictures[0]).size == (32, 32)
    with wave.open(str(tmp_path / "pictures" / "sound.wav")) as file, wave.open(str(visitors / "speech.wav")) as given:
        assert file.getframerate() == 16_000
        assert given.readframes(20_000) in file.readframes(1_000_000)
    assert (ROOT / "examples" / "speak_client.py").read_text(encoding="utf-8").count("\n") <= 60


def test_it_lives_in_silence_and_can_be_interrupted(connection: ClientConnection, photo: bytes) -> None:
    speech = np.rint(32767 * np.concatenate(list(read_sound(EXAMPLE)))).astype("<i2")
    connection.send(CONSENT)
    connection.send(photo)
    ready = json.loads(connection.recv(timeout=60))
    assert ready == {"ready": True, "fps": 25, "size": 32, "rate": 16_000, "seconds": 600}

    def sound() -> bytes:
        message = connection.recv(timeout=10)
        assert isinstance(message, bytes)
        second, length = HEADER.unpack_from(message)
        seconds.append(second)
        return message[HEADER.size + length :]

    seconds: list[float] = []
    assert not any(any(sound()) for _ in range(5))
    connection.send(speech.tobytes())
    assert any(any(sound()) for _ in range(40))
    connection.send(json.dumps({"interrupt": True}))
    assert any(not any(sound()) and not any(sound()) for _ in range(40))
    connection.send(json.dumps({"end": True}))
    with pytest.raises(Exception, match="1000"):
        while True:
            sound()
    assert seconds == sorted(seconds) and seconds[0] == 0


def test_an_avatar_instead_of_a_photo(
    connection: ClientConnection, tiny_model: Path, shots: Shots, tmp_path: Path
) -> None:
    path = (
        TalkingHeadPipeline.from_pretrained(tiny_model).avatar_from_shots(shots).save_file(tmp_path / "a.safetensors")
    )
    connection.send(CONSENT)
    connection.send(path.read_bytes())
    assert json.loads(connection.recv(timeout=60))["ready"]


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ("{}", "Confirm first that the person in the photo is you"),
        (json.dumps({"consent": False}), "Confirm first"),
        ("no json", "must be a JSON object"),
        (json.dumps({"consent": True, "voice": 1}), "There is no 'voice' here"),
        (json.dumps({"consent": True, "rate": "fast"}), "rate must be a number"),
        (b"photo", "A text message with a JSON object was expected"),
    ],
)
def test_what_is_refused_at_once(connection: ClientConnection, first: str | bytes, sentence: str) -> None:
    assert sentence in refused(connection, first)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("red.png", "No face found"),
        ("text.jpg", "photo"),
        ("large.png", "2 million are the limit here"),
    ],
)
def test_photos_that_cannot_be_used(connection: ClientConnection, visitors: Path, file: str, sentence: str) -> None:
    assert sentence in refused(connection, CONSENT, (visitors / file).read_bytes())


def test_numbers_out_of_range(connection: ClientConnection, photo: bytes) -> None:
    assert "rate must lie between" in refused(connection, json.dumps({"consent": True, "rate": 10}), photo)


def test_one_visitor_at_a_time(address: str, photo: bytes) -> None:
    with connect(address, max_size=None, close_timeout=1) as one:
        one.send(CONSENT)
        one.send(photo)
        assert json.loads(one.recv(timeout=60))["ready"]
        with connect(address, max_size=None) as other:
            assert "Somebody else is speaking here" in refused(other, CONSENT, photo)


def test_sound_must_not_pile_up(connection: ClientConnection, photo: bytes) -> None:
    connection.send(CONSENT)
    connection.send(photo)
    assert json.loads(connection.recv(timeout=60))["ready"]
    for _ in range(4):
        connection.send(bytes(2**20))  # 33 s
    while isinstance(message := connection.recv(timeout=10), bytes):
        pass
    assert "seconds of sound are waiting" in json.loads(message)["error"]
