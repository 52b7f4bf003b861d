"""Phones in files, and words that become phones."""

from __future__ import annotations

from pathlib import Path

import pytest

from talking_heads.errors import OutputError, UnreadableMediaError
from talking_heads.voice.phones import PHONES, Phone, in_order, phone_name, read_phones, write_phones
from talking_heads.voice.text import guessed_phones, words_of


def written(folder: Path, text: str) -> Path:
    path = folder / "phones.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    phones = (Phone(0.0, 0.25, "SIL"), Phone(0.25, 0.31, "B"), Phone(0.4, 0.5, "IY"))
    write_phones(phones, tmp_path / "phones.csv")
    assert read_phones(tmp_path / "phones.csv") == phones
    assert (tmp_path / "phones.csv").read_text().splitlines()[:2] == ["start,end,phone", "0.000,0.250,SIL"]
    with pytest.raises(OutputError, match="cannot be written"):
        write_phones(phones, tmp_path / "nowhere" / "phones.csv")


def test_columns_and_rows_may_come_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffword,Phone,END,start\nbee,IY1,0.3,0.2\n\nbee,b,0.2,0.1\n")
    assert read_phones(path) == (Phone(0.1, 0.2, "B"), Phone(0.2, 0.3, "IY"))


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AA1", "AA"), ("aa", "AA"), ("Hh", "HH"), ("ʃ", "SH"), ("ˈiː", "IY"), ("ŋ", "NG"), ("a", "AA"), ("y", "Y"),
        ("yː", "UW"),
        ("sp", "SIL"), ("", "SIL"), ("<eps>", "SIL"), ("p", "P"), ("tʃ", "CH"), ("☂", None), ("AAA", None),
    ],
)  # fmt: skip
def test_names_of_other_aligners(symbol: str, name: str | None) -> None:
    assert phone_name(symbol) == name


def test_every_phone_keeps_its_name() -> None:
    assert [phone_name(name.lower()) for name in PHONES] == list(PHONES)


def test_what_overlaps_is_cut() -> None:
    assert in_order([Phone(0.2, 0.5, "S"), Phone(0.0, 0.3, "B")]) == (Phone(0.0, 0.2, "B"), Phone(0.2, 0.5, "S"))
    assert in_order([]) == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lacks the columns start, end and phone"),
        ("start,end\n0,1\n", "lacks the columns start, end and phone"),
        ("start,end,phone\n", "has no rows"),
        ("start,end,phone\n0,1\n", "has too few cells in row 2"),
        ("start,end,phone\n0,1,B\none,2,B\n", "has 'one' in row 3 where a number of seconds is needed"),
        ("start,end,phone\nnan,2,B\n", "has 'nan' in row 2"),
        ("start,end,phone\n-1,2,B\n", "has '-1' in row 2"),
        ("start,end,phone\n2,1,B\n", "has an end before its start in row 2"),
        ("start,end,phone\n0,1,QQ\n", "has the unknown phone 'QQ' in row 2"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UnreadableMediaError, match=sentence):
        read_phones(written(tmp_path, text))


def test_what_is_no_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(UnreadableMediaError, match="is no CSV"):
        read_phones(tmp_path / "a.csv")
    with pytest.raises(UnreadableMediaError, match="cannot be read"):
        read_phones(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, WORLD! It's 'fine'.", "hello world it's fine"),
        ("Peter's café — co-op & 50%", "peter's cafe co op and fifty percent"),
        ("In 1984, 007 met 1,250,000 or 30 215 or 19", "in one thousand nine hundred eighty four zero zero seven met "
         "one two five zero zero zero zero or thirty two hundred fifteen or nineteen"),
        ("… ?!", ""),
        ("日本", ""),
    ],
)  # fmt: skip
def test_text_becomes_words(text: str, words: str) -> None:
    assert words_of(text) == words.split()


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("zoom", "Z UW M"),
        ("bopple", "B AA P L"), ("yip", "Y IH P"), ("chim", "CH IH M"), ("phot", "F AA T"), ("'", "AH"),
    ],
)  # fmt: skip
def test_unknown_words_are_spoken_as_they_are_spelled(word: str, phones: str) -> None:
    assert guessed_phones(word) == phones


def test_guesses_are_phones() -> None:
    for word in ("zyzzyva", "qwxq", "aeiou", "x", "thoughtfulness", "brrr"):
        assert set(guessed_phones(word).split()) <= set(PHONES)
