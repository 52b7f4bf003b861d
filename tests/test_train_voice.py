"""Learning how lips move in speech, and measuring lips that a voice drives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import grey, write_clip

from talking_heads import TalkingHeadPipeline
from talking_heads.errors import UnreadableMediaError
from talking_heads.examples import EXAMPLE
from talking_heads.head.motion import INDEX, Motion
from talking_heads.media.sound import read_sound
from talking_heads.tracking.detectors import LandmarkDetector
from talking_heads.voice.mouth import LIPS, MouthModel, features, opening
from talking_heads.voice.phones import VOWELS, Phone
from talking_heads.voice.sound import BANDS, Voice, listen
from talking_heads.voice.streaming import STREAMED
from train.evaluate_voice import METHODS, Measured, correlation, measure, meetings, offset, table
from train.streamed_voice import Heard, hear
from train.streamed_voice import fit as fit_streamed
from train.voice import (
    WIDEST,
    Spoken,
    fit,
    follow,
    foretold,
    grid_clips,
    lips_of,
    ridge,
    save_mouth,
    scaled,
    sentence_of,
    weights_of,
)

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_grid = pytest.mark.skipif(not (DATA / "clips" / "grid").is_dir(), reason="needs ../shared/data/clips/grid")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bbaf2n", "bin blue at f two now"),
        ("s1_pwizzs.mpg", "place white in z zero soon"),
        ("a/P016_lrbi7p.mpg", "lay red by i seven please"),
        ("s16_test_gp", None),
        ("bbaw2n", None),  # W is no letter of GRID
        ("b", None),
    ],
)
def test_names_spell_sentences(name: str, sentence: str | None) -> None:
    assert sentence_of(name) == sentence


def test_clips_are_found_by_their_split(tmp_path: Path) -> None:
    rows = ["file,identity,split,licence"]
    for k, split in enumerate(["train", "train", "validation"]):
        path = write_clip(tmp_path / f"s{k}_bbaf2n.mp4", [grey(90)] * 2)
        rows.append(f"{path.name},s{k},{split},GRID corpus CC BY 4.0")
    rows += ["other.mp4,a,train,GRID corpus", "s0_bbaf2n.mp4,a,train,CC0", "gone_bbaf2n.mp4,a,train,GRID corpus"]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    assert [speaker for _, speaker in grid_clips(tmp_path, "train")] == ["s0", "s1"]
    assert [path.name for path, _ in grid_clips(tmp_path, "validation")] == ["s2_bbaf2n.mp4"]
    with pytest.raises(UnreadableMediaError, match="names no clip of GRID of the split test"):
        grid_clips(tmp_path, "test")
    with pytest.raises(UnreadableMediaError, match=r"has no clips\.csv"):
        grid_clips(tmp_path / "nowhere", "train")


def test_ridge_regression_by_hand() -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(400, 3)), np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    y, weights = x @ truth + [3.0, -1.0], rng.uniform(0.5, 1.0, 400)
    slope, bias = ridge(x, y, weights, penalty=1e-6)
    assert np.abs(slope - truth).max() < 1e-6 and np.abs(bias - [3, -1]).max() < 1e-6
    weak, _ = ridge(x, y, weights, penalty=1e4)
    assert np.abs(weak).max() < 0.2
    two = ridge(np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0), np.ones(800), 5.0)
    assert np.allclose(two[0], ridge(x, y, np.full(400, 2.0), 5.0)[0])  # a weight of two is to be there twice


def a_speaker(name: str, strength: float, seed: int) -> Spoken:
    """Says random vowels and b's, and opens the mouth as loudly as he speaks, shutting it for each b."""
    rng = np.random.default_rng(seed)
    times, phones, at = np.arange(100) / 25, [], 0.3
    bands, gap = np.zeros((400, BANDS), np.float32), np.zeros(100)
    while at < 3.6:
        sounds = [(rng.choice(VOWELS), rng.uniform(0.15, 0.25)), ("B", 0.08)]
        for sound, length in sounds:
            phones.append(Phone(at, at + length, str(sound)))
            level = 0.0 if sound == "B" else rng.uniform(0.5, 1)
            bands[round(at * 100) : round((at + length) * 100)] = level
            gap[(times >= at) & (times < at + length)] = level
            at += length
    lips = np.zeros((100, LIPS, 3))
    lips[:, [13, 14, 15], 1] = strength * gap[:, None]
    return Spoken(Path(name), name, Voice(tuple(phones), bands, 4.0), times, lips.reshape(100, -1))


def test_what_speakers_have_in_common_is_learned(tmp_path: Path) -> None:
    clips = [a_speaker(f"s{k}", strength, k) for k, strength in enumerate((0.5, 1.0, 2.0, 1.0))]
    assert np.quantile(opening(scaled(clips[:1]).reshape(-1, LIPS, 3)), 0.95) == pytest.approx(WIDEST)
    assert min(foretold(clips).values()) > 0.8
    save_mouth(fit(clips), clips, tmp_path / "mouth.safetensors")
    model = MouthModel.load(tmp_path / "mouth.safetensors")
    learned = fit(clips)  # again: nothing of it is left to chance
    assert np.allclose(model.weights[:, 1::3], 1.15 * learned.weights[:, 1::3], atol=1e-5)
    assert np.allclose(model.output[:, 1::3], 1.15 * learned.output[:, 1::3], atol=1e-4)
    other = a_speaker("s9", 1.0, 9)
    said = opening(model.shapes(other.voice, other.times).reshape(-1, LIPS, 3))
    assert np.corrcoef(said, other.opening)[0, 1] > 0.8
    assert features(other.voice, other.times).shape[1] == len(model.weights)
    assert not list(tmp_path.glob(".*"))


def test_nobody_counts_for_more_than_others_by_many_clips() -> None:
    clips = [a_speaker("much", 1.0, k) for k in range(8)] + [a_speaker("little", 1.0, 9)]
    weights = weights_of(clips)
    assert weights[:800].sum() == pytest.approx(400) and weights[800:].sum() == 100


def test_lips_are_counted_from_where_they_meet() -> None:
    motion = Motion.rest(20, 25)
    motion.coefficients[5:15, INDEX["jawOpen"]] = 0.3
    motion.coefficients[5:15, INDEX["mouthLeft"]] = 0.5  # not symmetric: no speech
    lips = lips_of(motion).reshape(20, LIPS, 3)
    assert np.abs(lips[:5]).max() < 1e-6
    assert opening(lips)[10] == pytest.approx(0.3 * 3.12, abs=0.1)
    assert np.abs(lips[10, 0, 0] + lips[10, 6, 0]) < 1e-6  # the corners of the mouth


def measured(shift: int, closed: bool) -> Measured:
    filmed = np.abs(np.sin(np.arange(100) * 0.35))
    painted = np.roll(filmed, shift) + (0 if closed else 0.5)
    return Measured("a", "s", 25.0, (Phone(1.8, 1.84, "B"),), filmed, dict.fromkeys(METHODS, painted))


def test_what_is_heard_while_it_comes_is_learned() -> None:
    """From the bundled clip's voice: the features of each hearing, and lips that follow from them."""
    samples = np.concatenate(list(read_sound(EXAMPLE)))
    voice = listen(EXAMPLE)
    times = np.arange(round(voice.seconds * 25)) / 25
    lips = np.zeros((len(times), LIPS, 3))
    lips[:, 13:16, 1] = np.interp(times * 100, np.arange(len(voice.bands)), voice.loudness)[:, None]
    rng = np.random.default_rng(0)
    heard = []
    for hearing, speaker in enumerate("abc"):
        clip = Spoken(Path(speaker), speaker, voice, times, lips.reshape(len(times), -1))
        heard.append(Heard(clip, hear(clip, samples, hearing, rng), scaled([clip])))
    assert heard[0].features.shape == (len(times), STREAMED.features)
    assert not np.array_equal(heard[0].features, heard[1].features)  # another loudness, and noise
    model = fit_streamed(heard[:2])
    said = opening(model.lips(heard[2].features).reshape(-1, LIPS, 3))
    assert np.corrcoef(said, heard[2].clip.opening)[0, 1] > 0.8


def test_lateness_is_found() -> None:
    for shift in (-2, 0, 3):
        assert offset([measured(shift, True)] * 2, "text") == pytest.approx(40 * shift, abs=8)
    one = measured(2, True)
    assert correlation(one.painted["text"], one.filmed, 2) == pytest.approx(1)
    assert correlation(one.filmed, one.painted["text"], -2) == pytest.approx(1)


def test_lips_that_meet_are_counted() -> None:
    clips = [measured(0, True), measured(0, False)]
    assert meetings((clip, clip.painted["text"]) for clip in clips) == (1, 2)
    assert meetings((clip, clip.filmed) for clip in clips) == (2, 2)
    text = table(clips)
    assert "| voice, with the text | 1.00 | 1.00 | +0 | 1 of 2 |" in text and text.count("\n") == 6


@needs_grid
def test_a_filmed_person_is_followed(detector: LandmarkDetector) -> None:
    spoken = follow(DATA / "clips" / "grid" / "bbaf2n.mpg", "s1", detector)
    assert spoken.lips.shape == (75, 3 * LIPS) and 0.5 < spoken.opening.max() < 3
    foreseen = opening((MouthModel.load().shapes(spoken.voice, spoken.times)).reshape(-1, LIPS, 3))
    assert np.corrcoef(foreseen, spoken.opening)[0, 1] > 0.6


@needs_grid
def test_a_film_is_measured_in_what_is_painted(detector: LandmarkDetector) -> None:
    """With the bundled model a speaker who was not in training speaks in time with the film."""
    pipe = TalkingHeadPipeline.from_pretrained(engine="torch")
    pipe.detector = detector
    found = measure(pipe, DATA / "clips" / "grid" / "lbax4n.mpg", "P009")
    assert correlation(found.painted["film"], found.filmed) > 0.9
    assert correlation(found.painted["text"], found.filmed) > 0.65
    assert correlation(found.painted["sound"], found.filmed) > 0.5
    assert abs(offset([found], "text")) < 40
    met, total = meetings([(found, found.painted["text"])])
    assert met == total > 0
