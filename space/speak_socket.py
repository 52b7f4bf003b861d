"""A WebSocket beside the page: sound in, pictures of a person who speaks with it out, at once.

A visitor's program opens ``/speak`` and sends

1. text, a JSON object: ``{"consent": true}``, and, if they shall differ, ``rate`` (16000), ``liveliness`` (1.0),
   ``seed`` (0), ``label`` (true: "AI-generated" is written into the pictures);
2. bytes: a photo of one person (jpg, png, webp), or an avatar (``.safetensors``) that this model made;
3. after the answer ``{"ready": true, "fps": 25, "size": 256, "rate": 16000, "seconds": 600}``, bytes: sound, s16le, one
   channel, in pieces of any length; and text: ``{"interrupt": true}`` drops what is still to be said, ``{"end": true}``
   ends it with the last of the sound.

What comes back 25 times a second, in silence as well, is bytes: a header of 12 (little-endian: float64, the second at
which the picture begins; uint32, the length of the JPEG), the JPEG, and the sound of the picture, s16le. What goes
wrong is said as text, ``{"error": "a sentence"}``, before the connection is closed. Nothing is kept.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import struct
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.errors import TalkingHeadsError
from talking_heads.media.marks import marked
from talking_heads.speaking import Speaker, SpokenFrame
from talking_heads.voice.streaming import FPS

from .person import check_pixels
from .service import ConsentError
from .settings import LimitError, Limits

PATH = "/speak"
HEADER = struct.Struct("<dI")
LONGEST_PIECE = 2**20
"""Bytes of sound in one message."""
PENDING = 60.0
"""Seconds of sound that may wait to be said."""
QUALITY = 85
TURN = 2.0
"""Seconds for which a visitor waits for the one before to be gone."""
_WORDS = {"consent": bool, "rate": int, "liveliness": float, "seed": int, "label": bool}


class SpeakSocket:
    """Serves one visitor at a time: two would halve the rate of both."""

    def __init__(self, pipe: TalkingHeadPipeline, limits: Limits) -> None:
        self._pipe, self._limits = pipe, limits
        self._turn = asyncio.Lock()

    def routes(self) -> list[WebSocketRoute]:
        """For the server of the page."""
        return [WebSocketRoute(PATH, self.serve)]

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection, from its beginning to its end."""
        await socket.accept()
        try:
            await self._serve(socket)
        except WebSocketDisconnect:
            return
        except (TalkingHeadsError, ValueError) as error:
            await _closed(socket, str(error))

    async def _serve(self, socket: WebSocket) -> None:
        wanted = _wishes(_text(await socket.receive()))
        person = _bytes(await socket.receive())
        try:
            await asyncio.wait_for(self._turn.acquire(), TURN)
        except TimeoutError:
            raise LimitError("Somebody else is speaking here. Try again in a minute.") from None
        try:
            speaker = await asyncio.to_thread(self._speaker, person, wanted)
            with speaker:
                size = self._pipe.image_size
                ready = {"ready": True, "fps": FPS, "size": size, "rate": speaker.rate, "seconds": self._limits.live}
                await socket.send_text(json.dumps(ready))
                await self._talk(socket, speaker, label=wanted["label"])
        finally:
            self._turn.release()

    def _speaker(self, person: bytes, wanted: dict[str, Any]) -> Speaker:
        """Raises TalkingHeadsError for what is no photo of one person and no avatar, ValueError for wrong numbers."""
        if len(person) > self._limits.megabytes * 1e6:
            raise LimitError(f"The person's file is larger than {self._limits.megabytes} MB. Make it smaller.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "the photo"
            path.write_bytes(person)
            if _is_avatar(person):
                avatar = Avatar.from_file(path).to(self._pipe.device)
            else:
                check_pixels(str(path), self._limits.megapixels)
                avatar = self._pipe.create_avatar([path])
        return self._pipe.speaker(
            avatar,
            rate=wanted["rate"],
            liveliness=wanted["liveliness"],
            seed=wanted["seed"],
            size=self._pipe.image_size,
        )

    async def _talk(self, socket: WebSocket, speaker: Speaker, *, label: bool) -> None:
        """Sends pictures and hears sound, until one of them ends, or the visitor's time."""
        sending = asyncio.create_task(self._send(socket, speaker, label=label))
        hearing = asyncio.create_task(_hear(socket, speaker))
        try:
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            speaker.close()
            hearing.cancel()
            results = await asyncio.gather(sending, hearing, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        await socket.close()

    async def _send(self, socket: WebSocket, speaker: Speaker, *, label: bool) -> None:
        frames = speaker.play()
        second = 0.0
        while (frame := await asyncio.to_thread(next, frames, None)) is not None:
            await socket.send_bytes(await asyncio.to_thread(_message, frame, second, label))
            second = speaker.seconds
            if second > self._limits.live:
                raise LimitError(f"{self._limits.live} seconds are the limit here. Connect again for more.")


def _message(frame: SpokenFrame, second: float, label: bool) -> bytes:
    picture, sound = frame
    file = io.BytesIO()
    # There is no watermark, as in the live view: it takes time in every frame.
    Image.fromarray(next(marked([picture], label=label, invisible=False))).save(file, "JPEG", quality=QUALITY)
    return HEADER.pack(second, file.tell()) + file.getvalue() + sound.astype("<i2").tobytes()


async def _hear(socket: WebSocket, speaker: Speaker) -> None:
    """Sound and words, until there is no more sound to come."""
    while True:
        message = await socket.receive()
        if message.get("bytes") is not None:
            if len(message["bytes"]) > LONGEST_PIECE or speaker.pending > PENDING:
                raise LimitError(f"More than {PENDING:g} seconds of sound are waiting. Send it as it is spoken.")
            speaker.push(message["bytes"])
            continue
        words = _json(_text(message))
        if words.get("interrupt"):
            speaker.interrupt()
        if words.get("end"):
            speaker.end()


def _text(message: Any) -> str:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if message.get("text") is None:
        raise ValueError("A text message with a JSON object was expected here, not bytes.")
    return str(message["text"])


def _bytes(message: Any) -> bytes:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    if not message.get("bytes"):
        raise ValueError("The bytes of a photo or an avatar were expected here, not text.")
    return bytes(message["bytes"])


def _json(text: str) -> dict[str, Any]:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, dict):
        raise ValueError("A text message must be a JSON object.")  # noqa: TRY004  (a visitor's mistake, not a type)
    return words


def _wishes(text: str) -> dict[str, Any]:
    """The first message, complete. Raises ConsentError, and ValueError for what is not known."""
    wanted = {"consent": False, "rate": 16_000, "liveliness": 1.0, "seed": 0, "label": True} | _json(text)
    for name, value in wanted.items():
        if name not in _WORDS:
            raise ValueError(f"There is no {name[:20]!r} here, only {', '.join(_WORDS)}.")
        kinds = (int, float) if _WORDS[name] is float else (_WORDS[name],)
        if type(value) not in kinds or not math.isfinite(value) or (name == "seed" and value < 0):
            raise ValueError(f"{name} must be {'true or false' if _WORDS[name] is bool else 'a number'} that fits.")
    if not wanted["consent"]:
        raise ConsentError("Confirm first that the person in the photo is you, or agrees: consent must be true.")
    return wanted


def _is_avatar(content: bytes) -> bool:
    """A safetensors file begins with the length of its header, and that."""
    return content[8:9] == b"{"


async def _closed(socket: WebSocket, sentence: str) -> None:
    await socket.send_text(json.dumps({"error": sentence}))
    await socket.close(1008)
