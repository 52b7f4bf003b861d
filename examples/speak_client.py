"""A person who speaks with a sound file, by the WebSocket of a running page: pictures and sound come while it is sent.

    python app.py
    python examples/speak_client.py ada.jpg speech.wav --url ws://127.0.0.1:7860/speak --output pictures

Needs ``pip install websockets``. The wav has one channel of 16 bits.
"""

import argparse
import json
import struct
import threading
import time
import wave
from pathlib import Path

from websockets.sync.client import connect

HEADER = struct.Struct("<dI")
PIECE = 0.04  # seconds


def speak(photo: Path, speech: Path, url: str, output: Path) -> int:
    """Writes a JPEG for each picture and the sound that came with them; how many pictures there were."""
    with wave.open(str(speech)) as file, connect(url, max_size=None) as socket:
        rate, sound = file.getframerate(), file.readframes(file.getnframes())
        socket.send(json.dumps({"consent": True, "rate": rate}))
        socket.send(photo.read_bytes())
        answer = json.loads(socket.recv())
        if "error" in answer:
            raise SystemExit(answer["error"])

        def send() -> None:  # as a microphone would, in real time
            step = 2 * round(PIECE * rate)
            for start in range(0, len(sound), step):
                socket.send(sound[start : start + step])
                time.sleep(PIECE)
            socket.send(json.dumps({"end": True}))

        threading.Thread(target=send, daemon=True).start()
        output.mkdir(parents=True, exist_ok=True)
        said = bytearray()
        for message in socket:
            second, length = HEADER.unpack_from(message)
            jpeg, piece = message[HEADER.size : HEADER.size + length], message[HEADER.size + length :]
            (output / f"{second:08.2f}.jpg").write_bytes(jpeg)
            said += piece
    with wave.open(str(output / "sound.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(said)
    return len(list(output.glob("*.jpg")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("photo", "speech"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--url", default="ws://127.0.0.1:7860/speak")
    parser.add_argument("--output", type=Path, default=Path("pictures"))
    print(speak(**vars(parser.parse_args())), "pictures")
