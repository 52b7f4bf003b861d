"""Brings the tables of a model's card up to date.

    python -m docs.card results.json talking_heads/checkpoints/default/README.md

``results.json`` is that of ``train.evaluate``. Replaced are the tables of each T that both have, the sentences on
turned heads below them, and the same numbers in the card's front matter; all other words stay.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from talking_heads.files import written_whole

ROWS = (
    ("ssim", "SSIM (higher)", 3),
    ("psnr", "PSNR, dB (higher)", 1),
    ("l1", "L1 of 0..1 (lower)", 4),
    ("perceptual", "perceptual distance (SqueezeNet, unweighted) (lower)", 3),
    ("csim_share", "identity (CSIM, MobileFaceNet) over that of real frames (higher)", 3),
    ("dlib_ratio", "identity (dlib distance) over that of real frames (lower)", 3),
    ("landmarks", "landmark error over the eye distance (lower)", 4),
    ("mouth", "- mouth", 4),
    ("eyes", "- eyes", 4),
    ("irises", "- irises", 4),
    ("lids", "error of the eyes' opening (height over width) (lower)", 3),
    ("mouth_open", "error of the mouth's opening (gap over width) (lower)", 3),
    ("pose", "head pose error, degrees (lower)", 2),
    ("sharpness", "sharpness over truth (nearer to 1)", 2),
    ("jitter", "jitter over the driver's (lower)", 2),
)
METHODS = {
    "still": "still photo",
    "warp": "bare warp",
    "render": "render",
    "feed-forward": "feed-forward",
    "fine-tuned": "fine-tuned",
}
WITH_INTERVAL = ("render", "feed-forward", "fine-tuned")
TURNED = (("ssim", "SSIM", 3), ("l1", "L1", 3), ("perceptual", "perceptual distance", 3))


def table(report: dict[str, Any], shots: str) -> str:
    """The table of one T."""
    summary, wins = report["summary"][shots], report["wins"][shots]
    methods = [method for method in METHODS if method in summary]
    contests = [pair for pair in (("feed-forward", "render"), ("fine-tuned", "feed-forward")) if pair[0] in summary]
    head = [f"T = {shots}, mean [95 % over people]", *(METHODS[method] for method in methods)]
    head += [f"{METHODS[a]} beats {METHODS[b]} on" for a, b in contests]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, title, digits in ROWS:
        if name not in summary["feed-forward"]:
            continue
        cells = [title]
        for method in methods:
            value = summary[method].get(name)
            text = "-" if value is None else f"{value['mean']:.{digits}f}"
            if value is not None and method in WITH_INTERVAL:
                text += f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
            cells.append(text)
        for a, b in contests:
            won, clips = wins[f"{a} against {b}"][name]
            cells.append(f"{won} of {clips}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def turned(report: dict[str, Any], shots: str) -> str:
    """The sentence on turned heads, or nothing where there were none."""
    methods = report["turned"][shots]
    if not methods:
        return ""
    parts = []
    for method in ("warp", "render", "feed-forward", "fine-tuned"):
        if values := methods.get(method):
            parts.append(
                f"{method}: "
                + ", ".join(f"{title} {values[name]['mean']:.{digits}f}" for name, title, digits in TURNED)
            )
    number = methods["feed-forward"]["ssim"]["frames"]
    return (
        "Frames of these in which the head is turned by 12 degrees and more from the nearest source "
        f"({number}): {'; '.join(parts)}."
    )


def with_results(card: str, report: dict[str, Any]) -> str:
    """The card with the numbers of a report."""
    for shots in report["summary"]:
        pattern = rf"\| T = {shots}, mean .*?\n\n(Frames of these[^\n]*\n)?"
        sentence = turned(report, shots)
        block = table(report, shots) + "\n" + (sentence + "\n" if sentence else "")
        card = re.sub(pattern, block, card, flags=re.DOTALL)
        values = report["summary"][shots]["feed-forward"]
        for name, _, digits in ROWS:
            if name in values:
                before = rf"config: T = {shots}\n    metrics:\n(?:    - type.*\n      value.*\n      name.*\n)*?"
                entry = rf"({before}    - type: {name}\n      value: )\S+"
                card = re.sub(entry, rf"\g<1>{values[name]['mean']:.{digits}f}", card)
    return card


def main() -> None:
    """Rewrites the card."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    results, card = map(Path, sys.argv[1:])
    text = with_results(card.read_text(encoding="utf-8"), json.loads(results.read_text(encoding="utf-8")))
    with written_whole(card, "utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
