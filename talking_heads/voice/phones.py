"""Phones and their times: the 39 of American English in ARPAbet, as recognisers and aligners give them, and silence."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnreadableMediaError
from ..files import unreadable, written_whole

SILENCE = "SIL"
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG"),
    *("P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES = (*VOWELS, *CONSONANTS)
BILABIALS = ("P", "B", "M")
"""Phones for which the lips meet."""

MAX_ROWS = 200_000
"""Rows that a file may have: some four hours of speech."""
_SHORTEST = 1e-4  # s

# Other names of silence, and IPA, which aligners of other languages write. Sounds that English lacks go to the one
# that looks most like them.
_QUIET = ("", "sil", "sp", "spn", "pau", "h#", "<eps>", "<sil>", "+spn+", "+nsn+", "silence", "#")
_IPA = {
    "AA": "ɑ ɑː a aː ɒ ɐ ä", "AE": "æ", "AH": "ʌ ə ɜ ɘ", "AO": "ɔ ɔː", "AW": "aʊ aw", "AY": "aɪ aj", "EH": "ɛ e ɛː œ",
    "ER": "ɝ ɚ ɜː əɹ", "EY": "eɪ ej eː", "IH": "ɪ ɨ ʏ", "IY": "i iː", "OW": "oʊ əʊ o oː əw ow", "OY": "ɔɪ ɔj",
    "UH": "ʊ ʊə", "UW": "u uː ʉ ʉː y yː ø øː", "B": "b bʲ β", "CH": "tʃ tɕ t͡ʃ", "D": "d ɖ dʲ d̪ ɾ", "DH": "ð",
    "F": "f fʲ ɸ pf", "G": "ɡ g ɟ ɣ", "HH": "h ç x χ ɦ", "JH": "dʒ dʑ d͡ʒ", "K": "k c kʰ q", "L": "l ɫ ʎ ɭ",
    "M": "m mʲ ɱ", "N": "n ɲ n̩ nʲ ɳ", "NG": "ŋ", "P": "p pʲ pʰ", "R": "ɹ r ʁ ɻ ʀ", "S": "s sʲ ts", "SH": "ʃ ɕ ʂ",
    "T": "t ʈ tʲ t̪ tʰ ʔ", "TH": "θ", "V": "v vʲ ʋ", "W": "w ʍ ɥ", "Y": "j ʝ", "Z": "z zʲ dz", "ZH": "ʒ ʑ ʐ",
}  # fmt: skip
# One-letter names of ARPAbet mean the same in IPA, except Y, which is the vowel of "über" there.
_KNOWN: dict[str, str] = (
    {symbol: name for name, symbols in _IPA.items() for symbol in symbols.split()}
    | {name.lower(): name for name in PHONES}
    | dict.fromkeys(_QUIET, SILENCE)
)


@dataclass(frozen=True)
class Phone:
    """One sound of speech, or a silence."""

    start: float
    """Seconds."""
    end: float
    name: str
    """One of PHONES, or SILENCE."""


def phone_name(symbol: str) -> str | None:
    """ARPAbet in any case, with or without a digit of stress, or IPA -> one of PHONES or SILENCE; None: unknown."""
    symbol = symbol.strip()
    plain = symbol.lower().rstrip("0123456789")
    return _KNOWN.get(plain, _KNOWN.get(plain.strip("ˈˌ")))


def in_order(phones: Iterable[Phone]) -> tuple[Phone, ...]:
    """Sorted by time; of two that overlap the first is cut."""
    ordered = sorted(phones, key=lambda phone: (phone.start, phone.end))
    cut = []
    for number, phone in enumerate(ordered, start=1):
        end = min(phone.end, ordered[number].start) if number < len(ordered) else phone.end
        if end - phone.start > _SHORTEST:
            cut.append(Phone(phone.start, end, phone.name))
    return tuple(cut)


def write_phones(phones: Sequence[Phone], path: str | os.PathLike[str]) -> None:
    """A CSV with the columns start, end (seconds) and phone; whole or not at all. Raises OutputError."""
    with written_whole(Path(path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "end", "phone"))
        writer.writerows((f"{phone.start:.3f}", f"{phone.end:.3f}", phone.name) for phone in phones)


def read_phones(path: str | os.PathLike[str]) -> tuple[Phone, ...]:
    """A CSV as ``write_phones`` and any aligner can make it: the columns start, end (seconds) and phone.

    Phones are ARPAbet, with or without digits of stress, or IPA; silences may be left out. Rows may come in any order.
    Raises UnreadableMediaError with a sentence that names the row.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return in_order(_rows(csv.reader(file), path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableMediaError(f"{path} is no CSV. Give one with the columns start, end, phone.") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _rows(rows: Iterable[list[str]], path: Path) -> list[Phone]:
    rows = iter(rows)
    header = [cell.strip().lower() for cell in next(rows, [])]
    if not {"start", "end", "phone"} <= set(header):
        raise UnreadableMediaError(f"{path} lacks the columns start, end and phone in its first row. Add them.")
    columns = [header.index(name) for name in ("start", "end", "phone")]
    phones = []
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if number > MAX_ROWS:
            raise UnreadableMediaError(f"{path} has more than {MAX_ROWS:,} rows. Cut it into shorter files.")
        if len(row) <= max(columns):
            raise UnreadableMediaError(f"{path} has too few cells in row {number}. Correct or remove that row.")
        start, end = (_second(row[column], path, number) for column in columns[:2])
        if end <= start:
            raise UnreadableMediaError(f"{path} has an end before its start in row {number}. Correct that row.")
        name = phone_name(row[columns[2]])
        if name is None:
            raise UnreadableMediaError(
                f"{path} has the unknown phone {row[columns[2]].strip()[:20]!r} in row {number}. Use ARPAbet or IPA."
            )
        phones.append(Phone(start, end, name))
    if not phones:
        raise UnreadableMediaError(f"{path} has no rows. Choose another file.")
    return phones


def _second(cell: str, path: Path, row: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UnreadableMediaError(
            f"{path} has {cell.strip()[:20]!r} in row {row} where a number of seconds is needed. Correct that row."
        )
    return value
