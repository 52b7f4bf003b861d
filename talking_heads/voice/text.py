"""Text as words that the recogniser's dictionary may have, and a guess of how the others are spoken."""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 20_000
"""Two hours of speech."""

# fmt: off
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at ", "=": " equals ", "°": " degrees "}


def words_of(text: str) -> list[str]:
    """Lower-case words of letters and apostrophes; numbers are spelled out, accents dropped, all else parts words."""
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = text.replace("\u2019", "'")
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    plain = re.sub(r"(?<=\d)[,'](?=\d{3})", "", plain)
    plain = re.sub(r"\d+", lambda found: f" {_number(found.group())} ", plain)
    found = (word.strip("'") for word in re.findall(r"[a-z']+", plain))
    return [word for word in found if word]


def _number(digits: str) -> str:
    """ "42" -> "forty two"; long ones, and those that begin with 0, digit by digit."""
    value = int(digits)
    if len(digits) > 6 or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_ONES[int(digit)] for digit in digits)
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens = _TENS[value // 10 - 2]
        return f"{tens} {_ONES[value % 10]}" if value % 10 else tens
    if value < 1000:
        rest = f" {_number(str(value % 100))}" if value % 100 else ""
        return f"{_ONES[value // 100]} hundred{rest}"
    rest = f" {_number(str(value % 1000))}" if value % 1000 else ""
    return f"{_number(str(value // 1000))} thousand{rest}"


# Letters -> phones, longest first. A mouth forgives much: what counts is where lips close, part and round.
_LETTERS = {
    "tch": "CH", "igh": "AY", "eau": "OW", "sch": "SH", "tion": "SH AH N", "sion": "ZH AH N", "ough": "OW",
    "augh": "AO", "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "wh": "W", "ck": "K", "qu": "K W", "ng": "NG",
    "gh": "G", "kn": "N", "wr": "R", "ee": "IY", "ea": "IY", "ie": "IY", "ei": "EY", "ai": "EY", "ay": "EY", "ey": "IY",
    "oa": "OW", "oo": "UW", "ou": "AW", "ow": "OW", "oi": "OY", "oy": "OY", "au": "AO", "aw": "AO", "eu": "Y UW",
    "ew": "Y UW", "ar": "AA R", "er": "ER", "ir": "ER", "or": "AO R", "ur": "ER", "ce": "S", "ci": "S IH", "cy": "S IY",
    "ge": "JH", "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH",
    "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH",
    "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z", "'": "",
}  # fmt: skip


def guessed_phones(word: str) -> str:
    """How a word of no dictionary may be spoken: phones with spaces between."""
    word = re.sub(r"([bcdfgklmnprstvz])\1", r"\1", word)
    if len(word) > 3 and word.endswith("e") and word[-2] not in "aeiouc":
        word = word[:-1]  # silent
    phones: list[str] = []
    while word:
        length = next(n for n in (4, 3, 2, 1) if word[:n] in _LETTERS)
        letters, word = word[:length], word[length:]
        spoken = "Y" if letters == "y" and not phones else _LETTERS[letters]
        phones += spoken.split()
    return " ".join(phones) or "AH"
