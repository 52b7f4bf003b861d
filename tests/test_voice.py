"""A voice drives a face: the real recogniser on real sound, the lips and the life that come of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from media import beep, beep_time, write_wav

from talking_heads.errors import InvalidModelError, UnreadableMediaError
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import COEFFICIENTS, INDEX, PARTS, Motion
from talking_heads.head.retarget import lip_gaps, most_neutral
from talking_heads.media.reading import has_pictures
from talking_heads.media.sound import read_sound, sound_duration
from talking_heads.media.writing import VideoWriter
from talking_heads.voice.liveliness import life, stresses
from talking_heads.voice.mouth import ASSET, LIPS, MouthModel, closures, lip_shapes, mouth_coefficients, opening
from talking_heads.voice.phones import BILABIALS, SILENCE, Phone, write_phones
from talking_heads.voice.recogniser import RATE, STRETCH, _Cutter, _stretches
from talking_heads.voice.sound import BANDS, Voice, _Meter, listen
from talking_heads.voice.speech import spoken
from train.example_clip import SENTENCE
from train.voice import sentence_of

GRID = Path(__file__).parents[2] / "shared" / "data" / "clips" / "grid"


@pytest.fixture(scope="module")
def heard() -> Voice:
    """The bundled clip's voice, with its text."""
    return listen(EXAMPLE, SENTENCE)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return np.concatenate(list(read_sound(EXAMPLE)))


def names(phones: tuple[Phone, ...]) -> list[str]:
    return [phone.name for phone in phones if phone.name != SILENCE]


def a_voice(*phones: tuple[float, float, str], seconds: float = 2.0) -> Voice:
    """A voice as loud in its phones as it gets, and quiet in between."""
    bands = np.zeros((round(seconds * 100), BANDS), np.float32)
    for start, end, _ in phones:
        bands[round(start * 100) : round(end * 100)] = 1
    return Voice(tuple(Phone(*phone) for phone in phones), bands, seconds)


class TestHearing:
    def test_the_phones_of_a_text(self, heard: Voice) -> None:
        # Dictionaries differ in "hello" and "the", and words may have two pronunciations: the rest is fixed.
        said = " ".join(names(heard.phones))
        for word in ("F EY S", "P EY N T", "B AY", "M UW V Z", "S P IY K"):
            assert word in said
        assert all(a.end <= b.start + 1e-9 for a, b in zip(heard.phones, heard.phones[1:], strict=False))
        first = next(phone for phone in heard.phones if phone.name != SILENCE)
        assert first.start == pytest.approx(0.6, abs=0.1) and heard.phones[-1].end <= heard.seconds

    def test_without_the_text_most_is_heard(self, heard: Voice) -> None:
        kinds = {name: kind for kind in ("PBM", "FV", "SZ") for name in kind}
        guessed = listen(EXAMPLE)
        loud = [(p.name != SILENCE) for p in guessed.phones]
        assert 35 <= sum(loud) <= 65 and len(names(heard.phones)) > 40
        found = [kinds[p.name] for p in guessed.phones if p.name in kinds]
        assert {"PBM", "FV", "SZ"} <= set(found)

    def test_progress_is_told_in_seconds(self, tmp_path: Path, speech: np.ndarray) -> None:
        path = write_wav(tmp_path / "long.wav", np.tile(speech, 6))
        told: list[tuple[str, int, int | None]] = []
        listen(path, on_progress=lambda *report: told.append(report))
        assert {stage for stage, _, _ in told} == {"listening"} and told[-1][1:] == (36, 36)
        assert [done for _, done, _ in told] == sorted(done for _, done, _ in told) and len(told) >= 3

    def test_a_text_that_does_not_fit(self) -> None:
        for text in ("Somewhere far beyond the hills there was a little village.", "bin blue at f two now", "No."):
            with pytest.raises(UnreadableMediaError, match="The text does not fit the sound"):
                listen(EXAMPLE, text)

    def test_a_text_without_words(self) -> None:
        with pytest.raises(UnreadableMediaError, match="The text holds no words"):
            listen(EXAMPLE, " ?! ")

    def test_words_that_the_dictionary_lacks_are_guessed(self, caplog: pytest.LogCaptureFixture, heard: Voice) -> None:
        voice = listen(EXAMPLE, SENTENCE.replace("painted", "payntid").replace("software", "sofftwere"))
        assert "The dictionary lacks payntid, sofftwere: spoken as they are spelled." in caplog.text
        assert "P EY N T IH D" in " ".join(names(voice.phones))

    @pytest.mark.parametrize("kind", ["silence", "noise", "hiss", "a click"])
    def test_where_nobody_speaks_the_mouth_rests(
        self, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        rng = np.random.default_rng(0)
        samples = {"silence": 0, "noise": 0.2, "hiss": 0.002, "a click": 0.1}[kind] * rng.standard_normal(3 * RATE)
        path = write_wav(tmp_path / "quiet.wav", samples[:150] if kind == "a click" else samples)
        motion = Motion.from_voice(path)
        assert "No speech is heard in quiet.wav: the mouth rests." in caplog.text
        assert np.ptp(lip_gaps(motion)) < 0.15
        if kind != "a click":
            assert motion.head.std(axis=0).min() > 0.1 and np.abs(np.diff(motion.head, axis=0)).max() < 3
            with pytest.raises(UnreadableMediaError, match="The text does not fit the sound"):
                listen(path, "hello there")

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [(b"", "is no sound that can be read"), (b"RIFF" + bytes(60), "is no sound that can be read")],
    )
    def test_what_is_no_sound(self, content: bytes, sentence: str, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(content)
        with pytest.raises(UnreadableMediaError, match=sentence):
            listen(path)
        with pytest.raises(UnreadableMediaError, match="does not exist"):
            listen(tmp_path / "none.wav")

    def test_a_sound_of_no_samples(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableMediaError, match=r"No sound of empty\.wav can be decoded"):
            listen(write_wav(tmp_path / "empty.wav", np.zeros(0)))

    def test_phones_of_another_aligner(self, heard: Voice, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_phones(heard.phones, tmp_path / "phones.csv")
        again = listen(EXAMPLE, phones=tmp_path / "phones.csv")
        assert names(again.phones) == names(heard.phones) and (again.bands == heard.bands).all()
        assert not caplog.records
        listen(EXAMPLE, phones=[*heard.phones, Phone(7, 8, "AA")])
        assert "The phones go on to 8.0 s, the sound of driving.mp4 to 6.0 s." in caplog.text
        with pytest.raises(UnreadableMediaError, match=r"The phones begin after the 6\.0 s"):
            listen(EXAMPLE, phones=[Phone(7, 8, "AA")])
        with pytest.raises(ValueError, match="not both"):
            listen(EXAMPLE, SENTENCE, tmp_path / "phones.csv")

    @pytest.mark.skipif(not GRID.is_dir(), reason="needs ../shared/data/clips/grid")
    @pytest.mark.parametrize("name", ["bbaf2n", "lrwp9a", "s1_pbav2n", "s1_lrwz5a"])
    def test_filmed_people_say_what_their_names_spell(self, name: str) -> None:
        path = GRID / f"{name}.mpg"
        voice = listen(path, sentence_of(path))
        spoken_seconds = sum(phone.end - phone.start for phone in voice.phones if phone.name != SILENCE)
        assert len(names(voice.phones)) in range(14, 22) and 0.8 < spoken_seconds < 2.6


class TestPieces:
    """A long sound is never held as a whole."""

    def blocks(self, seconds: float) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(round(2 * seconds)):
            yield (1000 * rng.standard_normal(RATE // 2)).astype(np.int16)

    def test_stretches_are_bounded_and_lose_nothing(self) -> None:
        whole = np.concatenate(list(self.blocks(100)))
        pieces = list(_stretches(self.blocks(100)))
        assert (np.concatenate(pieces) == whole).all()
        assert max(map(len, pieces)) <= (STRETCH[1] + 0.5) * RATE
        assert min(map(len, pieces[:-1])) >= STRETCH[0] * RATE and all(len(p) % 160 == 0 for p in pieces[:-1])

    def test_stretches_are_cut_where_it_is_quiet(self) -> None:
        quiet = np.concatenate(list(self.blocks(40)))
        quiet[12 * RATE : round(12.3 * RATE)] = 0
        first = next(_stretches(iter([quiet])))
        assert 12 * RATE <= len(first) <= 12.3 * RATE

    def test_a_cutter_forgets(self) -> None:
        whole = np.concatenate(list(self.blocks(100)))
        cutter = _Cutter(self.blocks(100))
        for start in range(0, 96 * RATE, 4 * RATE):
            assert (cutter.view(start, start + 5 * RATE) == whole[start : start + 5 * RATE]).all()
            assert len(cutter._held) <= (2 * STRETCH[1] + 6) * RATE

    def test_loudness_does_not_depend_on_blocks(self, speech: np.ndarray) -> None:
        samples = (32767 * speech).astype(np.int16)
        bands = []
        for parts in ([samples], np.array_split(samples, 77)):
            meter = _Meter()
            list(meter.passing(iter(parts)))
            bands.append(meter.bands())
        assert bands[0].shape == (len(samples) // 160 + (len(samples) % 160 > 0), BANDS)
        assert np.abs(bands[0] - bands[1]).max() < 1e-4


class TestMouth:
    def test_lips_meet_at_every_p_b_and_m(self, heard: Voice) -> None:
        gaps = lip_gaps(spoken(heard, liveliness=0))
        gaps = gaps - gaps[0]
        bilabials = [phone for phone in heard.phones if phone.name in BILABIALS]
        assert len(bilabials) >= 4
        for phone in bilabials:
            near = gaps[int(phone.start * 25) : int(np.ceil(phone.end * 25)) + 1]
            assert near.min() < 0.1 * gaps.max(), phone

    @pytest.mark.parametrize("fps", [12, 25, 60])
    def test_however_short_they_are(self, fps: int) -> None:
        voice = a_voice((0.5, 0.71, "AA"), (0.71, 0.74, "B"), (0.74, 1.0, "AA"))
        times = np.arange(2 * fps) / fps
        assert closures(voice, times).max() == 1
        motion = spoken(voice, 0, fps=fps)
        gaps = lip_gaps(motion) - lip_gaps(motion)[0]
        around = (times > 0.6) & (times < 0.85)
        assert gaps[around].min() < 0.1 * gaps.max()

    def test_vowels_look_like_themselves(self) -> None:
        def at(name: str) -> dict[str, float]:
            voice = a_voice((0.5, 1.5, name))
            values = mouth_coefficients(voice, np.arange(50) / 25)[25]
            return dict(zip(COEFFICIENTS, values, strict=True))

        open_, round_, wide = at("AA"), at("UW"), at("IY")
        assert open_["jawOpen"] > 0.15
        assert round_["mouthPucker"] > 0.3 > wide["mouthPucker"]
        assert wide["mouthStretchLeft"] + wide["mouthSmileLeft"] > round_["mouthStretchLeft"] + round_["mouthSmileLeft"]
        assert wide["mouthSmileLeft"] == wide["mouthSmileRight"]

    def test_loud_speech_opens_the_mouth_further(self) -> None:
        loud = a_voice((0.5, 1.5, "AA"))
        soft = Voice(loud.phones, 0.4 * loud.bands, loud.seconds)
        gaps = [lip_gaps(spoken(voice, 0)).max() for voice in (loud, soft)]
        assert gaps[0] > gaps[1] + 0.1

    def test_coefficients_put_lips_where_they_are_asked(self) -> None:
        lips = lip_shapes()
        wanted = np.zeros((2, lips.basis.shape[1]))
        wanted[0, 0], wanted[1, 3] = 0.3, 0.4  # jawOpen, mouthPucker
        shapes = wanted @ lips.basis.T
        found = lips.coefficients(shapes) @ lips.basis.T
        assert np.abs(found - shapes).max() < 0.1
        assert opening(found.reshape(2, LIPS, 3))[0] == pytest.approx(0.3 * lips.gap[0], abs=0.1)

    def test_the_file_names_its_maker(self, tmp_path: Path) -> None:
        from safetensors import safe_open

        with safe_open(ASSET, framework="np") as file:
            words = file.metadata()
        assert words["maker"] == "python -m train.voice" and "CC BY 4.0" in words["source"]
        assert ASSET.stat().st_size < 400_000
        (tmp_path / "other.safetensors").write_bytes(b"no such thing")
        with pytest.raises(InvalidModelError, match="is no model of a mouth"):
            MouthModel.load(tmp_path / "other.safetensors")


class TestLife:
    def test_the_first_frame_is_the_rest(self, heard: Voice) -> None:
        motion = spoken(heard, 2.0, seed=3)
        for values in (motion.coefficients, motion.head, motion.gaze, motion.translation):
            assert not values[0].any()
        assert most_neutral(motion) == 0

    def test_without_liveliness_the_mouth_alone_moves(self, heard: Voice) -> None:
        motion = spoken(heard, 0)
        lips = [name in PARTS["lips"] for name in COEFFICIENTS]
        assert motion.coefficients[:, lips].max() > 0.2
        assert not motion.coefficients[:, np.logical_not(lips)].any()
        assert not motion.head.any() and not motion.gaze.any() and not motion.translation.any()

    def test_liveliness_scales_and_a_seed_repeats(self, heard: Voice) -> None:
        half, one, two, again, other = (
            spoken(heard, amount, seed) for amount, seed in ((0.5, 0), (1, 0), (2, 0), (1, 0), (1, 1))
        )
        assert half.head.std() < one.head.std() < two.head.std() < 12
        assert np.allclose(2 * one.head, two.head, atol=1e-4)
        assert (one.head == again.head).all() and (one.coefficients == again.coefficients).all()
        assert np.abs(one.head - other.head).max() > 0.5
        assert np.abs(one.head).max() < 10 and np.abs(two.gaze).max() < 35

    def test_blinks_come_every_two_to_five_seconds(self) -> None:
        voice = a_voice((1.0, 2.0, "AA"), seconds=60.0)
        lids = life(voice, np.arange(1500) / 25, 1.0, 0).coefficients[:, INDEX["eyeBlinkLeft"]]
        starts = np.flatnonzero((lids[1:] > 0.5) & (lids[:-1] <= 0.5)) / 25
        assert lids.max() > 0.95 and (lids == 0).mean() > 0.8
        assert np.diff(starts).min() > 1.8 and np.diff(starts).max() < 5.2

    def test_a_nod_marks_what_is_stressed(self) -> None:
        voice = a_voice((1.0, 1.1, "AH"), (1.1, 1.4, "AA"), (1.4, 1.5, "AH"), seconds=4.0)
        voice.bands[110:140] *= 1.5
        assert [round(second, 1) for second, _ in stresses(voice)] == [1.1]
        times = np.arange(100) / 25
        down = np.mean([life(voice, times, 1.0, seed).head[:, 1] for seed in range(30)], axis=0)
        assert times[np.argmax(down)] == pytest.approx(1.2, abs=0.25)

    def test_breath_is_taken_before_words(self) -> None:
        voice = a_voice((2.0, 3.0, "AA"), seconds=4.0)
        times = np.arange(100) / 25
        height = life(voice, times, 1.0, 0).translation[:, 1]
        assert 1.6 < times[np.argmax(height)] < 2.1

    def test_the_rate_of_frames_changes_nothing_else(self, heard: Voice) -> None:
        slow, fast = spoken(heard, 1.0, fps=25), spoken(heard, 1.0, fps=50)
        assert len(fast) == pytest.approx(2 * len(slow), abs=1)
        assert np.abs(fast.head[::2][: len(slow)] - slow.head).max() < 0.6
        assert np.corrcoef(lip_gaps(fast)[::2][: len(slow)], lip_gaps(slow))[0, 1] > 0.98

    def test_numbers_out_of_range(self) -> None:
        for values, sentence in (
            ({"liveliness": 2.1}, "liveliness must lie between 0 and 2"),
            ({"liveliness": float("nan")}, "liveliness must"),
            ({"fps": 0.5}, "fps must lie between 1 and 60"),
        ):
            with pytest.raises(ValueError, match=sentence):
                Motion.from_voice(EXAMPLE, **values)  # type: ignore[arg-type]

    def test_a_motion_of_a_voice_is_saved_as_any_other(self, heard: Voice, tmp_path: Path) -> None:
        motion = spoken(heard)
        motion.save(tmp_path / "motion.csv")
        again = Motion.load(tmp_path / "motion.csv")
        assert (len(again), again.fps) == (len(motion), 25) and most_neutral(again) == 0
        assert np.abs(again.coefficients - motion.coefficients).max() < 1e-5


def encoded(path: Path, samples: np.ndarray, codec: str) -> Path:
    """A sound file of another kind: float (channels, n) at 48 kHz."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class TestSoundFiles:
    @pytest.mark.parametrize(
        ("suffix", "codec"),
        [(".wav", "pcm_s16le"), (".mp3", "libmp3lame"), (".m4a", "aac"), (".flac", "flac"), (".ogg", "libopus")],
    )
    def test_they_are_heard_and_written_in_sync(self, suffix: str, codec: str, tmp_path: Path) -> None:
        path = encoded(tmp_path / f"beep{suffix}", beep(2.0, 1.0), codec)
        assert not has_pictures(path) and sound_duration(path) == pytest.approx(2, abs=0.1)
        samples = np.concatenate(list(read_sound(path)))
        assert samples.ndim == 1 and samples.dtype == np.float32
        heard_at = np.argmax(np.abs(samples) > 0.1) / RATE
        assert heard_at == pytest.approx(1.0, abs=0.06)  # mp3 and aac begin with some silence
        with VideoWriter(tmp_path / "film.mp4", 25, audio_from=path) as writer:
            for _ in range(50):
                writer.write(np.zeros((32, 32, 3), np.uint8))
        assert beep_time(tmp_path / "film.mp4") == pytest.approx(heard_at, abs=0.03)

    def test_of_a_clip_time_is_counted_from_the_first_picture(self) -> None:
        assert has_pictures(EXAMPLE)
        samples = np.concatenate(list(read_sound(EXAMPLE)))
        assert len(samples) / RATE == pytest.approx(6.0, abs=0.1)

    def test_a_clip_without_sound(self, tmp_path: Path) -> None:
        from media import counted, write_clip

        path = write_clip(tmp_path / "silent.mp4", counted(5))
        for ask in (lambda: list(read_sound(path)), lambda: sound_duration(path), lambda: listen(path)):
            with pytest.raises(UnreadableMediaError, match="holds no sound"):
                ask()

    def test_text_is_no_sound(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp3").write_text("no sound at all\n" * 99)
        with pytest.raises(UnreadableMediaError, match=re.escape("a.mp3 is no file that can be read")):
            has_pictures(tmp_path / "a.mp3")


def test_the_recogniser_is_not_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, talking_heads, talking_heads.head.motion; assert not {'pocketsphinx', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
