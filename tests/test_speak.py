"""Speaking with sound that is still coming: lips, life, memory, the clock, and the command."""

from __future__ import annotations

import io
import threading
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from media import write_wav
from PIL import Image

from talking_heads import Avatar, TalkingHeadPipeline
from talking_heads.avatar import Shots
from talking_heads.cli import main
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import INDEX, Motion
from talking_heads.head.retarget import lip_gaps
from talking_heads.media.pieces import PieceReader, Resampler
from talking_heads.media.reading import probe
from talking_heads.media.sound import read_sound
from talking_heads.media.verifying import verify
from talking_heads.speak_benchmark import measure_speech
from talking_heads.speaking import Speaker
from talking_heads.voice.recogniser import LONGEST, RATE, PhoneStream
from talking_heads.voice.sound import listen
from talking_heads.voice.speech import spoken
from talking_heads.voice.streaming import FPS, SpeechStream
from train.example_clip import SENTENCE

AT_REST = lip_gaps(Motion.rest(1, 25.0))[0]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """int16 at RATE: the bundled clip's sentence."""
    return np.rint(32767 * np.concatenate(list(read_sound(EXAMPLE)))).astype(np.int16)


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> TalkingHeadPipeline:
    return TalkingHeadPipeline.from_pretrained(tiny_model, engine="torch")


@pytest.fixture(scope="module")
def avatar(pipe: TalkingHeadPipeline, shots: Shots) -> Avatar:
    return pipe.avatar_from_shots(shots)


def frames(stream: SpeechStream, pieces: list[np.ndarray]) -> Iterator[tuple[Motion, np.ndarray]]:
    for piece in pieces:
        stream.push(piece)
        while stream.ready:
            yield stream.step()
    while stream.pending > 0:
        stream.end()
        yield stream.step()


def said(stream: SpeechStream, pieces: list[np.ndarray]) -> tuple[Motion, np.ndarray]:
    motions, sounds = zip(*frames(stream, pieces), strict=True)
    parts = (np.concatenate([getattr(m, name) for m in motions]) for name in
             ("coefficients", "head", "gaze", "translation"))  # fmt: skip
    return Motion(*parts, 25.0), np.concatenate(sounds)


class TestStream:
    def test_lips_follow_the_voice_as_with_the_whole_file(self, speech: np.ndarray) -> None:
        motion, sound = said(SpeechStream(liveliness=0), [speech])
        offline = lip_gaps(spoken(listen(EXAMPLE, SENTENCE), liveliness=0))
        gaps = lip_gaps(motion)[: len(offline)]
        by_lag = [np.corrcoef(np.roll(gaps, lag), offline)[0, 1] for lag in range(-4, 5)]
        assert max(by_lag) > 0.55 and abs(int(np.argmax(by_lag)) - 4) <= 1  # in time, to a frame
        assert gaps.max() > AT_REST + 0.5
        assert np.array_equal(sound[: len(speech)], speech) and len(sound) - len(speech) < 640

    def test_pieces_of_any_length_give_the_same(self, speech: np.ndarray) -> None:
        whole, _ = said(SpeechStream(seed=3), [speech])
        rng = np.random.default_rng(0)
        cuts = np.sort(rng.integers(0, len(speech), 150))
        cut, sound = said(SpeechStream(seed=3), np.split(speech, cuts))
        assert np.array_equal(whole.coefficients, cut.coefficients) and np.array_equal(whole.head, cut.head)
        assert np.array_equal(sound[: len(speech)], speech)
        other, _ = said(SpeechStream(seed=4), [speech])
        assert not np.array_equal(whole.head, other.head)

    def test_a_frame_waits_for_180_ms_of_sound_and_no_longer(self, speech: np.ndarray) -> None:
        stream = SpeechStream()
        stream.push(speech[: round(0.17 * RATE)])
        assert not stream.ready
        stream.push(speech[round(0.17 * RATE) : round(0.18 * RATE)])
        assert stream.ready
        stream.step()
        assert not stream.ready
        with pytest.raises(ValueError, match="push more sound first"):
            stream.step()

    @pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
    def test_other_rates(self, rate: int, speech: np.ndarray) -> None:
        resampler = Resampler(RATE, rate)
        sound = np.concatenate([resampler.push(piece) for piece in np.array_split(speech, 20)])
        motion, out = said(SpeechStream(rate, liveliness=0), np.array_split(sound, 50))
        usual, _ = said(SpeechStream(liveliness=0), [speech])
        length = min(len(motion), len(usual)) - 1
        assert abs(len(motion) - len(usual)) <= 1 and np.array_equal(out[: len(sound)], sound)
        likeness = np.corrcoef(lip_gaps(motion)[:length], lip_gaps(usual)[:length])[0, 1]
        assert likeness > (0.5 if rate == 8000 else 0.8)

    def test_lips_are_closed_in_silence_and_the_head_lives(self, speech: np.ndarray) -> None:
        silence = np.zeros(6 * RATE, np.int16)
        motion, _ = said(SpeechStream(), [np.concatenate([silence, speech, silence])])
        lips = np.abs(lip_gaps(motion) - AT_REST)
        after = round((6 + len(speech) / RATE + 0.4) * FPS)
        assert lips[: 6 * FPS - 5].max() < 0.02 and lips[after:].max() < 0.02 and lips.max() > 0.5
        for part in (slice(25, 6 * FPS), slice(after, None)):
            assert motion.head[part].std(axis=0).min() > 0.1
            assert motion.coefficients[part, INDEX["eyeBlinkLeft"]].max() > 0.95
        assert np.abs(np.diff(motion.head, axis=0)).max() < 3
        still, _ = said(SpeechStream(liveliness=0), [silence])
        assert not still.head.any() and not still.gaze.any() and not still.coefficients.any()

    @pytest.mark.parametrize("loudness", [0.002, 0.02, 0.2])
    def test_lips_do_not_follow_noise(self, loudness: float) -> None:
        noise = (32767 * loudness * np.random.default_rng(0).standard_normal(4 * RATE)).clip(-32768, 32767)
        motion, _ = said(SpeechStream(liveliness=0), [noise.astype(np.int16)])
        assert np.abs(lip_gaps(motion)[25:] - AT_REST).max() < 0.1

    def test_an_interruption_closes_the_lips_at_once(self, speech: np.ndarray) -> None:
        stream = SpeechStream(liveliness=0)
        stream.push(speech)
        before = [stream.step() for _ in range(60)]
        assert lip_gaps(before[-1][0])[0] > AT_REST + 0.1 or lip_gaps(before[-2][0])[0] > AT_REST + 0.1
        stream.interrupt()
        assert stream.pending == 0 and not stream.ready
        after = []
        for _ in range(10):
            stream.rest()
            motion, sound = stream.step()
            after.append(lip_gaps(motion)[0] - AT_REST)
            assert not sound.any()
        assert abs(after[4]) < 0.02 and max(np.abs(np.diff(after))) < 0.5
        stream.push(speech)  # and it can speak again
        assert lip_gaps(said(stream, [])[0]).max() > AT_REST + 0.5

    def test_silence_that_is_put_in_does_not_part_what_follows(self, speech: np.ndarray) -> None:
        stream = SpeechStream()
        for _ in range(5):
            stream.rest()
            stream.step()
        stream.push(speech[:200])
        stream.rest()  # before these, not behind them
        first = stream.step()[1]
        _, rest = said(stream, [speech[200:]])
        out = np.concatenate([first, rest])
        begin = int(np.flatnonzero(out)[0]) - int(np.flatnonzero(speech)[0])
        assert np.array_equal(out[begin : begin + len(speech)], speech)

    def test_nothing_grows(self, speech: np.ndarray) -> None:
        """Neither in speech nor in silence: half a minute after half a minute, in pieces of 40 ms."""
        stream = SpeechStream()
        sound = np.concatenate([speech, np.zeros(4 * RATE, np.int16)])

        def run(times: int) -> None:
            for piece in np.array_split(np.tile(sound, times), times * len(sound) // 640):
                stream.push(piece)
                while stream.ready:
                    stream.step()

        run(2)
        resident = psutil.Process().memory_info().rss
        tracemalloc.start()
        run(1)
        begun = tracemalloc.get_traced_memory()[0]
        run(3)
        grown = tracemalloc.get_traced_memory()[0] - begun
        tracemalloc.stop()
        assert stream.seconds > 50
        assert grown < 50_000
        assert psutil.Process().memory_info().rss - resident < 11e6

    def test_wrong_numbers(self) -> None:
        for wrong in ({"rate": 4000}, {"rate": 200_000}, {"liveliness": 3}, {"liveliness": float("nan")}):
            with pytest.raises(ValueError, match="must lie between"):
                SpeechStream(**wrong)


class TestPieces:
    def test_what_sound_may_be(self) -> None:
        reader = PieceReader()
        assert reader.read(b"\x01\x00\x02").tolist() == [1] and reader.read(b"\x00\xff\xff").tolist() == [2, -1]
        assert reader.read(np.array([0.0, 1.0, -2.0, np.nan])).tolist() == [0, 32767, -32767, 0]
        for wrong in (np.zeros((2, 4), np.int16), np.zeros(4, np.int32)):
            with pytest.raises(ValueError, match="sound must be"):
                reader.read(wrong)


def test_utterances_end_and_phones_go_on(speech: np.ndarray) -> None:
    """The voice has no pause and is longer than an utterance may be."""
    stream = PhoneStream()
    loud = np.flatnonzero(np.abs(speech) > 1000)
    voice = np.tile(speech[loud[0] : loud[-1]], 4)
    names: list[str] = []
    begun = 0
    for start in range(0, len(voice), 640):
        stream.push(voice[start : start + 640])
        now = (start + 640) / RATE
        found = stream.phones(now - 0.4)
        assert all(a.end <= b.start + 1e-6 for a, b in pairwise(found))
        begun += stream._start == now - 0.4
        names += [phone.name for phone in found if phone.start <= now - 0.2 < phone.end]
    assert len(voice) > LONGEST * RATE and begun >= 1
    assert len(set(names)) > 15 and names.count("SIL") < 0.3 * len(names)


class TestSpeak:
    def test_frames_and_sound_go_together(self, pipe: TalkingHeadPipeline, avatar: Avatar, speech: np.ndarray) -> None:
        pieces = [None, b"", *np.array_split(speech[: 2 * RATE], 37)]
        pairs = list(pipe.speak(avatar, pieces, seed=1))
        assert len(pairs) == 56  # two in silence, and what is to come of it when the sound begins
        assert all(frame.shape == (32, 32, 3) and frame.dtype == np.uint8 for frame, _ in pairs)
        out = np.concatenate([sound for _, sound in pairs])
        assert speech[: 2 * RATE].tobytes() in out.tobytes()
        again = list(pipe.speak(avatar, pieces, seed=1))
        assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(pairs, again, strict=True))
        assert any(not np.array_equal(pairs[0][0], frame) for frame, _ in pairs)

    def test_wrong_sound_is_told(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        with pytest.raises(ValueError, match="one channel"):
            list(pipe.speak(avatar, [np.zeros((100, 2))]))
        with pytest.raises(ValueError, match="rate must lie between"):
            pipe.speak(avatar, [], rate=10)

    def test_size_and_background(self, pipe: TalkingHeadPipeline, avatar: Avatar) -> None:
        from talking_heads.media.background import parse_background

        frame, _ = next(pipe.speak(avatar, [None], size=64, background=parse_background("#20a040")))
        assert frame.shape == (64, 64, 3)
        assert np.abs(frame[:3, :3].mean(axis=(0, 1)) - [0x20, 0xA0, 0x40]).max() < 20

    def test_by_the_clock_it_lives_speaks_and_is_interrupted(
        self, pipe: TalkingHeadPipeline, avatar: Avatar, speech: np.ndarray
    ) -> None:
        with pipe.speaker(avatar) as speaker:
            play = speaker.play()
            begin = time.perf_counter()
            idle = [next(play) for _ in range(25)]
            assert 0.9 < time.perf_counter() - begin < 4  # by the clock; slower where the machine is busy
            assert not any(sound.any() for _, sound in idle)
            speaker.push(speech)
            seen = sum(bool(next(play)[1].any()) for _ in range(40))
            assert seen > 10 and speaker.pending > 1
            speaker.interrupt()
            assert speaker.pending == 0
            assert not any(next(play)[1].any() for _ in range(10))
            speaker.push(speech[RATE : RATE * 3 // 2])  # from the middle of a word
            speaker.end()
            assert sum(len(sound) for _, sound in play) >= RATE // 2  # ends with the sound
            with pytest.raises(ValueError, match="ended"):
                speaker.push(speech)

    def test_a_stalled_microphone_is_made_up_for_in_silence(self, speech: np.ndarray) -> None:
        """Silence that took the place of late sound is left out where the sound is silent; speech never is."""
        speaker = Speaker(SpeechStream(), lambda _: np.zeros((8, 8, 3), np.uint8))
        play = speaker.play()
        for _ in range(10):
            next(play)  # no sound comes
        quiet = np.random.default_rng(0).integers(-3, 4, RATE // 5).astype(np.int16)
        spoken = speech[RATE : RATE + RATE // 5]
        speaker.push(np.concatenate([quiet, spoken]))
        held = speaker.pending
        speaker.end()
        out = np.concatenate([sound for _, sound in play])
        assert spoken.tobytes() in out.tobytes()
        assert len(out) / RATE < held + 0.05 - 0.08 and speaker.pending == 0

    def test_a_slow_machine_leaves_pictures_out_and_no_sound(self, speech: np.ndarray) -> None:
        def paint(_: Motion) -> np.ndarray:
            time.sleep(0.12)
            return np.zeros((8, 8, 3), np.uint8)

        speaker = Speaker(SpeechStream(), paint)
        speaker.push(speech[: 2 * RATE])
        speaker.end()
        begin = time.perf_counter()
        pairs = list(speaker.play())
        out = np.concatenate([sound for _, sound in pairs])
        assert np.array_equal(out[: 2 * RATE], speech[: 2 * RATE])
        assert len(pairs) < 35 and time.perf_counter() - begin < 4

    def test_closing_ends_it_from_another_thread(self) -> None:
        speaker = Speaker(SpeechStream(), lambda _: np.zeros((8, 8, 3), np.uint8))
        thread = threading.Timer(0.2, speaker.close)
        thread.start()
        assert len(list(speaker.play())) < 100
        thread.join()


def test_the_benchmark(pipe: TalkingHeadPipeline, astronaut: np.ndarray) -> None:
    measured = measure_speech(pipe, astronaut, 2.0)
    assert 0 < measured["frames_per_second"] < 40 and measured["size"] == 32
    assert 160 < measured["delay_median_ms"] <= measured["delay_95_of_100_ms"]


class TestCommand:
    @pytest.fixture
    def photo(self, tmp_path: Path, astronaut: np.ndarray) -> Path:
        Image.fromarray(astronaut).save(tmp_path / "ada.png")
        return tmp_path / "ada.png"

    def run(self, tiny_model: Path, *words: object) -> int:
        return main(["speak", "--model", str(tiny_model), "--engine", "torch", *map(str, words)])

    def test_raw_sound_on_stdin(
        self, tiny_model: Path, photo: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = photo.with_name("sound.raw")
        raw.write_bytes(speech[: 2 * RATE].astype("<i2").tobytes())
        with raw.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            assert self.run(tiny_model, "--photos", photo, "--input", "-", "--output", photo.with_name("v.mp4")) == 0
        film = photo.with_name("v.mp4")
        info = probe(film)
        assert info.num_frames in (50, 51) and info.has_audio and verify(film).generated
        heard = np.concatenate(list(read_sound(film)))[: 2 * RATE]
        wanted = speech[: len(heard)] / 32767
        assert np.corrcoef(heard, wanted)[0, 1] > 0.98  # the same sound, in the same place

    def test_a_file(self, tiny_model: Path, photo: Path, speech: np.ndarray) -> None:
        wav = write_wav(photo.with_name("said.wav"), speech[:RATE] / 32768)
        film = photo.with_name("v.mp4")
        assert self.run(tiny_model, "--photos", photo, "--input", wav, "--output", film) == 0
        assert probe(film).num_frames in (25, 26)

    def test_ctrl_c_keeps_what_was_said(
        self, tiny_model: Path, photo: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pieces = [speech[:RATE].tobytes()]

        def read(_file: int, _most: int) -> bytes:
            if pieces:
                return pieces.pop()
            raise KeyboardInterrupt

        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
        monkeypatch.setattr("sys.stdin.fileno", lambda: 0, raising=False)
        monkeypatch.setattr("talking_heads.cli.speak.os.read", read)
        film = photo.with_name("v.mp4")
        assert self.run(tiny_model, "--photos", photo, "--input", "-", "--output", film) == 0
        assert probe(film).num_frames in (20, 21) and sorted(p.name for p in photo.parent.glob("*v*")) == ["v.mp4"]

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--input", "-"], "there is no screen here"),
            (["--input", "nothing.wav", "--output", "v.mp4"], "nothing.wav does not exist"),
            (["--input", "said.wav", "--rate", "8000", "--output", "v.mp4"], "a file says its own"),
            (["--output", "v.mp4", "--pass-sound"], "it goes with the window"),
            (["--output", "v.mp4", "--background", "transparent"], "something behind it"),
            (["--output", "v.txt"], "must end in .mp4"),
        ],
    )
    def test_mistakes_are_told_in_a_line(
        self,
        words: list[str],
        sentence: str,
        tiny_model: Path,
        photo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(photo.parent)
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        write_wav(photo.with_name("said.wav"), np.zeros(1600))
        assert self.run(tiny_model, "--photos", photo, *words) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
