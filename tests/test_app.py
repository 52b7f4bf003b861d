"""The page's endpoints through its own server, as clients of gradio_client and MCP meet them."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult
from PIL import Image
from served import Served

from space import demo
from space.demo import KEPT_SECONDS, launch_options
from space.requests import AnimateRequest
from space.service import Service
from space.settings import Limits
from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.head.motion import Motion
from talking_heads.head.presets import PRESETS
from talking_heads.media.reading import probe, read_frames
from talking_heads.media.verifying import verify
from talking_heads.tracking.detectors import MediapipeDetector

# Turned into an error, a warning within gradio's own threads stops its queue, and the client waits for ever.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ENDPOINTS = [
    "animate", "animate_voice", "dub", "animate_group", "create_avatar", "animate_avatar", "personalise", "edit",
    "track", "preview_landmarks", "verify",
]  # fmt: skip

SIDE = 64
"""Pixels of a frame's side: twice the tiny model's, since the photo has them."""


@pytest.fixture(scope="module")
def client(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(server.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def ask(client: Client, visitors: Path, endpoint: str, photos: list[str] | None = None, **options: Any) -> Any:
    """Calls an endpoint; with ``photos``, consent is given unless the options say otherwise."""
    given: dict[str, Any] = {}
    if photos is not None:
        given = {"photos": [handle_file(visitors / name) for name in photos], "consent": True}
    for name in ("driving", "voice", "motion_file", "background_picture", "film", "photo"):
        if isinstance(options.get(name), str):
            options[name] = handle_file(visitors / options[name])
    return client.submit(**(given | options), api_name=f"/{endpoint}").result(timeout=100)


class TestAnimate:
    def test_photos_and_a_clip_become_a_video(self, client: Client, visitors: Path, server: Served) -> None:
        before = server.results()
        paths = [ask(client, visitors, "animate", ["ada.png", "ada2.png"], driving="moving.mp4") for _ in range(2)]
        info = probe(paths[0])
        assert (info.width, info.height, info.num_frames, info.has_audio) == (SIDE, SIDE, 10, True)
        assert len(server.results() - before) == 2  # a file for each request, and no copies
        assert verify(Path(paths[0])).generated

    def test_a_preset_drives_as_a_clip_does(self, client: Client, visitors: Path) -> None:
        frames = [
            np.stack(list(read_frames(ask(client, visitors, "animate", ["ada.png"], preset=preset))))
            for preset in ("nod", "talking")
        ]
        assert all(np.abs(np.diff(clip.astype(int), axis=0)).max() > 8 for clip in frames)
        assert len(frames[0]) != len(frames[1]) or (frames[0] != frames[1]).any()

    def test_options_reach_the_video(self, client: Client, visitors: Path) -> None:
        plain, absolute, still, silent = (
            np.stack(list(read_frames(ask(client, visitors, "animate", ["ada.png"], driving="speaker.mp4", **options))))
            for options in ({}, {"motion": "absolute"}, {"head": 0, "expression": 0, "gaze": 0}, {"label": False})
        )
        assert (plain != absolute).any() and (plain != silent).any()
        moved = [np.abs(clip.astype(int) - clip[0]).mean(axis=(1, 2, 3)).max() for clip in (still, plain)]
        assert 2 * moved[0] < moved[1]

    def test_start_and_end_trim_the_clip(self, client: Client, visitors: Path) -> None:
        path = ask(client, visitors, "animate", ["ada.png"], driving="slow.mp4", start=1.0, end=1.4)
        assert probe(path).num_frames == 10

    def test_the_head_goes_back_into_the_photo(self, client: Client, visitors: Path) -> None:
        path = ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4", output="in the photo", label=False)
        frames = list(read_frames(path))
        photo = np.asarray(Image.open(visitors / "ada.png")).astype(int)
        assert frames[0].shape == photo.shape
        assert np.abs(frames[5][400:].astype(int) - photo[400:]).mean() < 6  # the suit: as encoded
        assert np.abs(frames[5][:200].astype(int) - photo[:200]).max() > 30  # the head

    def test_side_by_side(self, client: Client, visitors: Path) -> None:
        info = probe(ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4", output="side by side"))
        assert (info.width, info.height, info.has_audio) == (2 * SIDE, SIDE, True)

    def test_progress_is_told(self, client: Client, visitors: Path) -> None:
        job = client.submit(
            photos=[handle_file(visitors / "ada.png")], consent=True, driving=handle_file(visitors / "slow.mp4"),
            api_name="/animate",
        )  # fmt: skip
        units = []
        while not job.done():
            units += job.status().progress_data or []
            time.sleep(0.05)
        assert {unit.unit for unit in units} == {"frames"}
        assert {unit.desc for unit in units} >= {"painting"} or {unit.desc for unit in units} >= {"tracking"}

    def test_cancelling_stops_the_work_and_leaves_nothing(self, client: Client, visitors: Path, server: Served) -> None:
        before = server.results()
        folders = {path for path in server.cache.iterdir() if path.is_dir()}
        job = client.submit(
            photos=[handle_file(visitors / "ada.png")], consent=True, driving=handle_file(visitors / "slow.mp4"),
            api_name="/animate",
        )  # fmt: skip
        while not job.outputs():
            time.sleep(0.02)
        job.cancel()
        # The next one does not wait for the rest of the cancelled one.
        assert probe(ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4")).num_frames == 10
        assert len(server.results() - before) == 1
        new = {path for path in server.cache.iterdir() if path.is_dir()} - folders
        assert all(any(path.iterdir()) for path in new)


class TestVoice:
    def test_a_photo_speaks_with_a_voice(self, client: Client, visitors: Path, server: Served) -> None:
        before = server.results()
        path = ask(client, visitors, "animate_voice", ["ada.png"], voice="speech.wav", text="Hello.")
        info = probe(path)
        assert (info.width, info.num_frames, info.fps, info.has_audio) == (SIDE, 31, 25, True)
        assert len(server.results() - before) == 1 and verify(Path(path)).generated

    def test_options_reach_the_video(self, client: Client, visitors: Path) -> None:
        still, lively = (
            frames_of(ask(client, visitors, "animate_voice", ["ada.png"], voice="speech.wav", **options)).astype(int)
            for options in ({"liveliness": 0, "label": False}, {"liveliness": 2, "label": False})
        )
        hair = (slice(None), slice(0, 12))  # above the mouth and the eyes
        assert np.abs(still - still[1])[hair].mean() < np.abs(lively - lively[1])[hair].mean()
        whole = ask(client, visitors, "animate_voice", ["ada.png"], voice="speech.wav", output="in the photo")
        assert probe(whole).width == 512

    def test_progress_is_told(self, client: Client, visitors: Path) -> None:
        job = client.submit(
            photos=[handle_file(visitors / "ada.png")], voice=handle_file(visitors / "sentence.wav"), consent=True,
            api_name="/animate_voice",
        )  # fmt: skip
        stages = set()
        while not job.done():
            stages |= {unit.desc for unit in job.status().progress_data or []}
            time.sleep(0.02)
        assert stages & {"listening", "painting"}


class TestDub:
    def test_a_films_lips_follow_a_voice_and_all_else_stays(
        self, client: Client, visitors: Path, server: Served
    ) -> None:
        before = server.results()
        path = ask(
            client, visitors, "dub", film="moving.mp4", voice="speech.wav", text="Hello.", consent=True, label=False
        )
        info = probe(path)
        assert (info.width, info.height, info.num_frames, info.fps, info.has_audio) == (240, 240, 10, 25, True)
        assert len(server.results() - before) == 1 and verify(Path(path)).generated
        change = np.abs(frames_of(path).astype(int) - frames_of(str(visitors / "moving.mp4"))).max(axis=(0, 3))
        assert np.quantile(change[:90], 0.99) < 20 and change[130:200].max() > 60

    def test_a_clip_drives_the_parts_that_are_named(self, client: Client, visitors: Path) -> None:
        def change(*parts: str) -> np.ndarray:
            path = ask(
                client,
                visitors,
                "dub",
                film="moving.mp4",
                driving="speaker.mp4",
                parts=parts,
                consent=True,
                label=False,
            )
            return np.abs(frames_of(path).astype(int) - frames_of(str(visitors / "moving.mp4"))).max(axis=(0, 3))

        lips, eyes = change("lips"), change("eyes")
        assert np.quantile(lips[:90], 0.99) < 20 < lips[130:200].max() and np.quantile(eyes[130:200], 0.99) < 20

    def test_progress_is_told_and_cancelling_leaves_nothing(
        self, client: Client, visitors: Path, server: Served
    ) -> None:
        before = server.results()
        job = client.submit(
            film=handle_file(visitors / "slow.mp4"), voice=handle_file(visitors / "speech.wav"), consent=True,
            api_name="/dub",
        )  # fmt: skip
        while not job.outputs():
            time.sleep(0.02)
        assert {unit.desc for unit in job.status().progress_data or []} <= {"looking", "tracking", "listening"}
        job.cancel()
        ask(client, visitors, "dub", film="moving.mp4", voice="speech.wav", consent=True)
        assert len(server.results() - before) == 1


class TestGroup:
    def test_each_moves_in_their_own_way(self, client: Client, visitors: Path, server: Served) -> None:
        before = server.results()
        speech = handle_file(visitors / "speech.wav")
        path = ask(
            client, visitors, "animate_group", photo="two.png", drivers=[None, speech], consent=True, label=False
        )
        info = probe(path)
        assert (info.width, info.height, info.fps, info.has_audio) == (480, 240, 25, True)
        assert len(server.results() - before) == 1 and verify(Path(path)).generated
        change = np.ptp(frames_of(path).astype(int), axis=0).max(axis=2)
        assert np.quantile(change[:, :200], 0.99) < 16 and change[130:200, 300:420].max() > 60
        path = ask(client, visitors, "animate_group", photo="two.png", drivers=["shake", "nod"], consent=True)
        change = np.ptp(frames_of(path).astype(int), axis=0).max(axis=2)
        assert min(np.quantile(change[:, half], 0.9) for half in (slice(0, 240), slice(240, 480))) > 40

    def test_of_several_faces_one_is_meant(self, client: Client, visitors: Path) -> None:
        two = handle_file(visitors / "two.png")
        seen = [client.predict([two], face=face, api_name="/preview_landmarks") for face in (None, 1, 2)]
        assert [pictures[0]["caption"] for pictures in seen] == [
            "1: 2 faces. Choose one below.", "1: ready, face 1", "1: ready, face 2",
        ]  # fmt: skip
        first, second = (
            np.asarray(Image.open(ask(client, visitors, "edit", ["two.png"], face=face))).astype(int) for face in (1, 2)
        )
        assert np.abs(first - second).mean() > 2 * np.abs(first - second[:, ::-1]).mean()  # the other is in a mirror


def frames_of(path: str) -> np.ndarray:
    return np.stack(list(read_frames(path)))


class TestMore:
    @pytest.mark.parametrize(("size", "side"), [("256", 256), ("512", 512), ("photo", 256)])
    def test_sizes(self, client: Client, visitors: Path, size: str, side: int) -> None:
        assert Image.open(ask(client, visitors, "edit", ["ada.png"], size=size)).size == (side, side)
        if size == "256":
            info = probe(ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4", size=size))
            assert (info.width, info.height) == (side, side)

    def test_backgrounds(self, client: Client, visitors: Path) -> None:
        kept, blurred, green, pictured = (
            frames_of(ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4", label=False, **options))
            for options in (
                {},
                {"background": "blur"},
                {"background": "#00C800"},
                {"background_picture": "red.png"},
            )
        )
        corners = [clip[:, 2:10, 2:10].reshape(-1, 3).mean(axis=0) for clip in (kept, blurred, green, pictured)]
        assert np.abs(corners[2] - [0, 200, 0]).max() < 40 and np.abs(corners[3] - [220, 0, 0]).max() < 40
        assert np.abs(corners[0] - [0, 200, 0]).max() > 60
        assert (kept != blurred).any()
        middle = (slice(None), slice(24, 40), slice(24, 40))
        assert np.abs(kept[middle].astype(int) - green[middle]).mean() < 8  # the face

    def test_a_transparent_background_gives_a_webm(self, client: Client, visitors: Path) -> None:
        options = {"driving": "moving.mp4", "background": "transparent"}
        path = ask(client, visitors, "animate", ["ada.png"], label=False, **options)
        assert path.endswith(".webm") and probe(path).num_frames == 10
        picture = np.asarray(Image.open(ask(client, visitors, "edit", ["ada.png"], background="transparent")))
        assert picture.shape == (SIDE, SIDE, 4)
        assert picture[SIDE // 2, SIDE // 2, 3] == 255 and picture[24:32, 1:5, 3].mean() < 60  # below the label

    def test_parts(self, client: Client, visitors: Path) -> None:
        def motion(*parts: str) -> np.ndarray:
            clip = frames_of(ask(client, visitors, "animate", ["ada.png"], preset="nod", label=False, parts=parts))
            return np.abs(clip.astype(int) - clip[0]).mean(axis=(1, 2, 3)).max()

        assert motion("brows") < 0.5 * motion("head")

    def test_the_motion_of_a_clip_is_a_file_that_drives(self, client: Client, visitors: Path, tmp_path: Path) -> None:
        path = ask(client, visitors, "track", driving="moving.mp4")
        motion = Motion.load(path)
        assert Path(path).name == "motion.csv" and (len(motion), motion.fps) == (10, 25)
        motion.save(visitors / "tracked.csv")
        driven = ask(client, visitors, "animate", ["ada.png"], motion_file="tracked.csv", label=False)
        direct = ask(client, visitors, "animate", ["ada.png"], driving="moving.mp4", label=False)
        info = probe(driven)
        assert (info.num_frames, info.fps, info.has_audio) == (10, 25, False)
        assert np.abs(frames_of(driven).astype(int) - frames_of(direct)).mean() < 4  # but for what files do not keep

    def test_start_and_end_trim_a_motion_file(self, client: Client, visitors: Path) -> None:
        path = ask(client, visitors, "animate", ["ada.png"], motion_file="nod.csv", start=1.0, end=1.4)
        assert probe(path).num_frames == 10

    def test_single_coefficients(self, client: Client, visitors: Path) -> None:
        plain, opened, again = (
            np.asarray(Image.open(ask(client, visitors, "edit", ["ada.png"], size="256", coefficients=coefficients)))
            for coefficients in (None, {"jawOpen": 0.8}, {"jawOpen": 0.8})
        )
        moved = np.abs(plain.astype(int) - opened).max(axis=2)
        assert moved[150:].max() > 40 and moved[:60].max() < 20 and (opened == again).all()


def test_a_photo_that_is_hard_to_follow_is_told_of(
    tiny_model: Path, detector: MediapipeDetector, visitors: Path, tmp_path: Path
) -> None:
    class Bent:
        """Sees a face that no head has."""

        name, has_irises = "bent", True

        def detect(self, image: np.ndarray) -> list[np.ndarray]:
            faces = detector.detect(image)
            for face in faces:
                height = np.ptp(face[:, 1])
                face[:, 0] += 0.12 * height * np.sin(9 * face[:, 1] / height)
            return faces

    pipe = TalkingHeadPipeline.from_pretrained(tiny_model, engine="torch")
    pipe.detector = Bent()
    service = Service(pipe, Limits())
    person = service.look([str(visitors / "ada.png")])
    *_, made = service.animate(person, AnimateRequest(preset="blink"), tmp_path)
    assert made.warnings[0].startswith("The photo is hard to follow")


def test_notes_on_a_motion_file_are_told(tiny_model: Path, visitors: Path) -> None:
    service = Service(TalkingHeadPipeline.from_pretrained(tiny_model), Limits())
    lines = (visitors / "nod.csv").read_text().splitlines()
    lines[1] = lines[1].replace(",61,0.000000,", ",61,1.500000,", 1)
    (visitors / "beyond.csv").write_text("\n".join(lines))
    motion, notes = service.motions.without_clip(AnimateRequest(motion_file=str(visitors / "beyond.csv")))
    assert len(motion) == 76 and len(notes) == 1 and "1 coefficients beyond 0 and 1: clipped" in notes[0]


class TestAvatars:
    def test_an_avatar_is_made_once_and_animated_often(self, client: Client, visitors: Path) -> None:
        file = ask(client, visitors, "create_avatar", ["ada.png", "ada2.png"])
        avatar = Avatar.from_file(file)
        assert len(avatar.shots.canvases) == 2 and avatar.generator is None
        path = ask(client, visitors, "animate_avatar", avatar=handle_file(file), consent=True, driving="moving.mp4")
        direct = ask(client, visitors, "animate", ["ada.png", "ada2.png"], driving="moving.mp4")
        for one, other in zip(read_frames(path), read_frames(direct), strict=True):
            assert (one == other).all()

    def test_personalise_gives_an_avatar_of_its_own(self, client: Client, visitors: Path) -> None:
        file = ask(client, visitors, "personalise", ["ada.png"], steps=2)
        assert Avatar.from_file(file).generator is not None
        moving = ask(client, visitors, "animate_avatar", avatar=handle_file(file), consent=True, preset="blink")
        assert probe(moving).width == SIDE


class TestPictures:
    def test_edit(self, client: Client, visitors: Path) -> None:
        plain, turned, again = (
            np.asarray(Image.open(ask(client, visitors, "edit", ["ada.png"], yaw=yaw))) for yaw in (0, 15, 15)
        )
        assert plain.shape == (SIDE, SIDE, 3)
        assert (plain != turned).any() and (turned == again).all()

    def test_what_was_made_is_recognised(self, client: Client, visitors: Path) -> None:
        made = ask(client, visitors, "edit", ["ada.png"], yaw=5)
        assert ask(client, visitors, "verify", file=handle_file(made))["generated"] is True
        found = ask(client, visitors, "verify", file=handle_file(visitors / "ada.png"))
        assert found["generated"] is False and found["sentences"]

    def test_preview_shows_every_photo_with_a_sentence(self, client: Client, visitors: Path) -> None:
        names = ["ada.png", "two.png", "nobody.png"]
        photos = [handle_file(visitors / name) for name in names]
        seen = client.submit(photos, api_name="/preview_landmarks").result(timeout=100)
        captions = [item["caption"] for item in seen]
        assert captions[:2] == ["1: ready", "2: 2 faces. Choose one below."]
        assert captions[2].startswith("3: No face found in the photo.")
        assert all(Image.open(item["image"]).size[0] > 100 for item in seen)


TWO: dict[str, Any] = {"photo": "two.png", "consent": True}
MISTAKES: dict[str, tuple[str, list[str] | None, dict[str, Any], str]] = {
    "no consent": ("animate", ["ada.png"], {"driving": "moving.mp4", "consent": False}, "Confirm first that the"),
    "no consent to an avatar": ("create_avatar", ["ada.png"], {"consent": False}, "Confirm first that the"),
    "no consent to edit": ("edit", ["ada.png"], {"consent": False}, "Confirm first that the"),
    "no photo": ("animate", [], {"driving": "moving.mp4"}, "Add at least one photo"),
    "4 photos": ("animate", ["ada.png"] * 4, {"driving": "moving.mp4"}, "These are 4 photos. Give at most 3."),
    "text as photo": ("animate", ["text.jpg"], {"driving": "moving.mp4"}, "text.jpg is not a picture that can be"),
    "nobody in photo 2": ("animate", ["ada.png", "nobody.png"], {"driving": "moving.mp4"}, "No face found in photo 2."),
    "two people": ("animate", ["two.png"], {"driving": "moving.mp4"}, "There are 2 faces in the photo."),
    "large photo": ("animate", ["large.png"], {"driving": "moving.mp4"}, "large.png has 2 million pixels; 2 million"),
    "photo as clip": ("animate", ["ada.png"], {"driving": "ada.png"}, "ada.png is no clip that can be read"),
    "broken clip": ("animate", ["ada.png"], {"driving": "broken.mp4"}, "broken.mp4 is no clip that can be read"),
    "long clip": ("animate", ["ada.png"], {"driving": "long.mp4"}, "12 s of the clip are too many: 4 s are the limit"),
    "nobody in the clip": ("animate", ["ada.png"], {"driving": "long.mp4", "end": 3}, "No face found in the clip"),
    "nothing drives": ("animate", ["ada.png"], {}, "Choose what drives the person"),
    "both drive": ("animate", ["ada.png"], {"driving": "moving.mp4", "preset": "nod"}, "Choose what drives"),
    "unknown preset": ("animate", ["ada.png"], {"preset": "dance"}, "Value: dance is not in the list of choices"),
    "preset beside itself": ("animate", ["ada.png"], {"preset": "nod", "output": "side by side"}, "A preset has no"),
    "head of 3": ("animate", ["ada.png"], {"preset": "nod", "head": 3}, "head must lie between 0 and 2."),
    "end before start": ("animate", ["ada.png"], {"driving": "moving.mp4", "start": 2, "end": 1}, "The end must lie"),
    "too many steps": ("personalise", ["ada.png"], {"steps": 51}, "Choose 1 to 50 steps."),
    "photo as avatar": ("animate_avatar", None, {"avatar": "ada.png", "preset": "nod"}, "ada.png is no avatar"),
    "large picture to check": ("verify", None, {"file": "large.png"}, "large.png has 2 million pixels; 2 million"),
    "unknown colour": ("animate", ["ada.png"], {"preset": "nod", "background": "greenish"}, '"greenish" is no back'),
    "a path as background": ("animate", ["ada.png"], {"preset": "nod", "background": "/etc/hosts"}, '"hosts" is no b'),
    "text as background": ("edit", ["ada.png"], {"background_picture": "text.jpg"}, "text.jpg is not a picture"),
    "large background": ("edit", ["ada.png"], {"background_picture": "large.png"}, "large.png has 2 million pixels"),
    "background in the photo": (
        "animate", ["ada.png"], {"preset": "nod", "output": "in the photo", "background": "blur"}, "A background goes",
    ),
    "transparent side by side": (
        "animate", ["ada.png"], {"driving": "moving.mp4", "output": "side by side", "background": "transparent"},
        "Side by side nothing can be transparent",
    ),
    "unknown size": ("edit", ["ada.png"], {"size": "300"}, "Value: '300'"),
    "unknown part": ("animate", ["ada.png"], {"preset": "nod", "parts": ["ears"]}, "Value: 'ears'"),
    "unknown detector": ("edit", ["ada.png"], {"detector": "eyes"}, "Value: 'eyes'"),
    "detector without weights": ("edit", ["ada.png"], {"detector": "face-alignment"}, "The detector face-alignment is"),
    "photo as motion": ("animate", ["ada.png"], {"motion_file": "ada.png"}, "ada.png is no CSV of Live Link Face"),
    "motion of 9 s": ("animate", ["ada.png"], {"motion_file": "long.csv"}, "9 s of the motion file are too many: 4 s"),
    "motion that ended": ("animate", ["ada.png"], {"motion_file": "nod.csv", "start": 3.5}, "The motion file has 3.0"),
    "motion beside itself": (
        "animate", ["ada.png"], {"motion_file": "nod.csv", "output": "side by side"}, "A motion file has no clip",
    ),
    "no consent to a voice": ("animate_voice", ["ada.png"], {"voice": "speech.wav", "consent": False}, "Confirm first"),
    "no voice": ("animate_voice", ["ada.png"], {"voice": None}, "Add a voice"),
    "voice of 6 s": ("animate_voice", ["ada.png"], {"voice": "long.wav"}, "6 s of the voice are too many: 4 s are the"),
    "photo as voice": ("animate_voice", ["ada.png"], {"voice": "red.png"}, "red.png is no sound that can be read"),
    "silent clip as voice": ("animate_voice", ["ada.png"], {"voice": "slow.mp4"}, "slow.mp4 holds no sound"),
    "another text": ("animate_voice", ["ada.png"], {"voice": "speech.wav", "text": "Nobody"}, "The text does not fit"),
    "a book": ("animate_voice", ["ada.png"], {"voice": "speech.wav", "text": "a" * 6000}, "The text has 6000 letters"),
    "liveliness of 3": ("animate_voice", ["ada.png"], {"voice": "speech.wav", "liveliness": 3}, "liveliness must lie"),
    "no film": ("dub", None, {"film": None, "voice": "speech.wav", "consent": True}, "Add a film of one person"),
    "no consent to a film": ("dub", None, {"film": "moving.mp4", "voice": "speech.wav"}, "Confirm first that the pers"),
    "a film that nothing drives": ("dub", None, {"film": "moving.mp4", "consent": True}, "Choose what drives"),
    "long film": ("dub", None, {"film": "long.mp4", "voice": "speech.wav", "consent": True}, "12 s of the film are"),
    "nobody in the film": (
        "dub", None, {"film": "long.mp4", "voice": "speech.wav", "end": 3, "consent": True}, "No face found in the",
    ),
    "head of a film": (
        "dub", None, {"film": "moving.mp4", "voice": "speech.wav", "parts": ["head"], "consent": True}, "Value: 'head'",
    ),
    "no photo of a group": ("animate_group", None, {"photo": None, "drivers": ["nod"]}, "Add a photo of several"),
    "no consent of a group": ("animate_group", None, {"photo": "two.png", "drivers": ["nod"]}, "Confirm first"),
    "nobody moves": ("animate_group", None, TWO | {"drivers": [None]}, "Choose for 1 to 4"),
    "a third of two": ("animate_group", None, TWO | {"drivers": [None, None, "nod"]}, "There are 2 faces"),
    "no such preset": ("animate_group", None, TWO | {"drivers": ["jump"]}, "A driver could not be fetched"),
    "a file of this machine drives": (
        "animate_group", None, TWO | {"drivers": ["/etc/hosts"]}, "A driver could not be fetched",
    ),
    "nobody in a group": (
        "animate_group", None, TWO | {"photo": "nobody.png", "drivers": ["nod"]}, "No face found in the photo",
    ),
    "face 3 of two": ("animate", ["two.png"], {"preset": "nod", "face": 3}, "There are 2 faces in the photo, and no"),
    "face 0": ("edit", ["two.png"], {"face": 0}, "There are 2 faces in the photo, and no face 0"),
    "no clip to track": ("track", None, {"driving": None}, "Add a clip."),
    "long clip to track": ("track", None, {"driving": "long.mp4"}, "12 s of the clip are too many: 4 s are the limit"),
    "nobody to track": ("track", None, {"driving": "long.mp4", "end": 3}, "No face found in the clip"),
    "unknown coefficient": ("edit", ["ada.png"], {"coefficients": {"jaw": 1}}, "There is no coefficient 'jaw'."),
    "coefficient of 2": ("edit", ["ada.png"], {"coefficients": {"jawOpen": 2}}, "jawOpen must lie between -1 and 1"),
    "coefficient in words": ("edit", ["ada.png"], {"coefficients": {"jawOpen": "wide"}}, "Give coefficients as a JSON"),
    "coefficients as a list": ("edit", ["ada.png"], {"coefficients": [1, 2]}, "Give coefficients as a JSON"),
    "no number": ("edit", ["ada.png"], {"yaw": None}, "yaw must"),
    "turned too far": ("edit", ["ada.png"], {"yaw": 90}, "yaw must"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered_with_a_sentence(
    client: Client, visitors: Path, server: Served, mistake: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    endpoint, photos, options, sentence = MISTAKES[mistake]
    sent = {name: handle_file(visitors / options[name]) for name in ("avatar", "file") if name in options}
    monkeypatch.setenv("TORCH_HOME", str(visitors))  # no weights there
    options = options | sent
    before = server.results()
    with pytest.raises(AppError) as caught:
        ask(client, visitors, endpoint, photos, **options)
    assert str(caught.value).startswith(sentence)
    assert server.results() == before
    if not sentence.startswith("Value: "):  # those gradio finds
        assert "Traceback" not in capfd.readouterr().err


def test_files_of_the_server_are_nobodys_photos(client: Client, server: Served) -> None:
    """A path that was not uploaded is refused, with and without the mark of a file."""
    for photo in (
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"path": "/etc/passwd"}, "/etc/passwd",
        "file:///etc/passwd", "http://127.0.0.1:1/",
    ):  # fmt: skip
        with pytest.raises((AppError, ValueError)):
            client.submit([photo], True, api_name="/create_avatar").result(timeout=60)


def test_every_endpoint_is_described(client: Client) -> None:
    endpoints = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert sorted(endpoints) == sorted(f"/{name}" for name in ENDPOINTS)
    types = {p["parameter_name"]: p["python_type"]["type"] for p in endpoints["/animate"]["parameters"]}
    assert list(types)[:4] == ["photos", "consent", "driving", "preset"]
    assert types["photos"] == "list[filepath]" and types["driving"] == "filepath" and types["consent"] == "bool"
    assert all(repr(name) in types["preset"] for name in PRESETS)
    assert types["output"] == "Literal['head', 'side by side', 'in the photo']"


def call_tools(url: str, *calls: tuple[str, dict[str, Any]]) -> tuple[Any, list[CallToolResult]]:
    """An MCP client's tools, and what it gets for each call."""

    async def talk() -> tuple[Any, list[CallToolResult]]:
        async with (
            streamablehttp_client(f"{url.rstrip('/')}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return (await session.list_tools()).tools, [await session.call_tool(*call) for call in calls]

    return asyncio.run(talk())


def test_the_endpoints_are_tools_of_mcp(server: Served, visitors: Path) -> None:
    photo = "data:image/png;base64," + base64.b64encode((visitors / "ada.png").read_bytes()).decode()
    tools, (edited, animated, refused) = call_tools(
        server.url,
        ("edit", {"photos": [photo], "consent": True, "yaw": 10, "coefficients": {"jawOpen": 0.3}}),
        ("animate", {"photos": [photo], "consent": True, "preset": "blink"}),
        ("animate", {"photos": [photo], "preset": "blink"}),
    )
    assert sorted(tool.name for tool in tools) == sorted(ENDPOINTS)
    animate = next(tool for tool in tools if tool.name == "animate")
    assert animate.inputSchema["properties"]["consent"]["description"].startswith(
        "That the person in the photos agrees"
    )
    edit = next(tool for tool in tools if tool.name == "edit").inputSchema["properties"]
    assert "degrees, -25 to 25" in edit["yaw"]["description"] and edit["coefficients"]["type"] == "object"
    assert edited.content[0].type == "image" and not edited.isError, edited.content
    assert "talking-head.mp4" in animated.content[0].text  # type: ignore[union-attr]
    assert refused.isError and "Confirm first that the person" in refused.content[0].text  # type: ignore[union-attr]


PRINTED = {
    "page": (Path(demo.__file__).parent / "texts" / "api.md").read_text(encoding="utf-8"),
    "docs": (Path(demo.__file__).parents[1] / "docs" / "programs.md")
    .read_text(encoding="utf-8")
    .split("## The web")[1],
}


@pytest.mark.parametrize("where", PRINTED)
def test_printed_code_runs(
    server: Served, visitors: Path, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text as it stands there, but for the port."""
    code = PRINTED[where].split("```python\n")[1].split("```")[0]
    assert "http://127.0.0.1:7860" in code
    for name, photo in (("ada1.jpg", "ada.png"), ("ada2.jpg", "ada2.png")):
        Image.open(visitors / photo).crop((160, 0, 400, 240)).save(tmp_path / name)  # less around the head to encode
    Image.open(visitors / "two.png").save(tmp_path / "two.jpg")
    (tmp_path / "speech.wav").write_bytes((visitors / "speech.wav").read_bytes())
    (tmp_path / "clip.mp4").write_bytes((visitors / "moving.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:7860", server.url), names)
    if where == "page":
        assert probe(names["video"]).num_frames > 25 and names["found"]["generated"] is True
    else:
        assert probe(names["path"]).width == 240


def test_nothing_of_visitors_is_kept(server: Served) -> None:
    options = launch_options(Limits())
    assert options["run_history"] is False and options["enable_monitoring"] is False
    assert server.demo.analytics_enabled is False
    assert server.demo.delete_cache == (KEPT_SECONDS, KEPT_SECONDS) == (3600, 3600)


def test_app_py_serves_the_model_that_the_environment_names(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TALKING_HEADS_MODEL", str(tiny_model))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    app = importlib.import_module("app")
    assert app.pipe.name == str(tiny_model)
    assert {dep.api_name for dep in app.demo.fns.values() if dep.api_visibility == "public"} == set(ENDPOINTS)


def test_a_gpu_is_asked_for_by_the_call(tiny_model: Path, visitors: Path, tmp_path: Path) -> None:
    """On hosts that lend a GPU networks and renderer run in forks, detector, masks and fits before; see lent.py."""
    names = [str(visitors / name) for name in ("ada.png", "ada2.png", "moving.mp4")]
    command = [sys.executable, str(Path(__file__).with_name("lent.py")), str(tiny_model), *names, str(tmp_path)]
    root = Path(demo.__file__).parents[1]
    run = subprocess.run(
        [*command, "--tune"], env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    asked = json.loads(run.stdout.splitlines()[-1])
    assert set(asked) == {"embed", "paint", "paint_film", "paint_group", "pose", "tune"} and len(asked["embed"]) == 4
    clip, preset, _ = asked["paint"]
    assert 0 < clip < preset < 60  # 10 and 76 frames


def test_where_a_gpu_is_lent_the_page_has_no_camera(
    tiny_model: Path, detector: MediapipeDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two frames no GPU is lent: the page says so in its place, and compiles in another process."""
    pipe = TalkingHeadPipeline.from_pretrained(tiny_model)
    pipe.detector = detector
    began = {thread.ident for thread in threading.enumerate()}
    blocks = demo.build_demo(pipe, Limits(), lambda function, _seconds: function).blocks.values()
    assert not any(block.elem_id == "camera" for block in blocks)
    assert any("Run the page on" in str(getattr(block, "value", "")) for block in blocks)
    (warm_up,) = (t for t in threading.enumerate() if t.name == "warm-up" and t.ident not in began)
    warm_up.join(120)
    assert not warm_up.is_alive()
