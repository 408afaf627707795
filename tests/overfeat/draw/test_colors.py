"""Colours of labels: the same everywhere, and easy to read on."""

from __future__ import annotations

import subprocess
import sys

from overfeat.draw import PALETTE, color_of, text_color_on
from tests.overfeat.draw.builders import relative_luminance


def test_every_tag_is_easy_to_read():
    for color in PALETTE:
        text, background = relative_luminance(text_color_on(color)), relative_luminance(color)
        lighter, darker = max(text, background), min(text, background)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_label_keeps_its_colour_in_another_process():
    labels = ["cat", "dog", "7", "café", ""]
    script = f"from overfeat.draw import color_of; print([color_of(x) for x in {labels!r}])"
    # The hash of Python's own texts differs between these processes; the colours must not.
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str([color_of(label) for label in labels])


def test_digits_use_most_of_the_palette():
    assert len({color_of(str(digit)) for digit in range(10)}) >= 4
