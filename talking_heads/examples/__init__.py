"""Example files of the demo, the benchmark and the page."""

from pathlib import Path

EXAMPLE = Path(__file__).with_name("driving.mp4")
"""A driving clip of 6 s with sound, rendered for this project (train/example_clip.py): it shows nobody."""
