"""Every example runs, prints what it says, and made the pictures that the documentation shows."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
JPEG_NOISE = 2.0
PICTURES = {
    "dense_evaluation": "dense_evaluation",
    "detect": "boxes",
    "filters": "filters",
    "heat_maps": "heat_maps",
    "merging": "merging",
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example in an empty folder, as `python examples/NAME.py` would; returns its output."""
    monkeypatch.chdir(tmp_path)

    def run_example(name, *arguments):
        path = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run_example


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_without_arguments_and_prints_a_result(name, run):
    assert run(name).strip()


@pytest.mark.parametrize(("name", "picture"), PICTURES.items())
def test_the_picture_of_the_documentation_is_what_its_example_draws(name, picture, run, tmp_path):
    run(name)
    (shown,) = (ROOT / "docs" / "images").glob(f"{picture}.*")
    assert f"images/{shown.name}" in (ROOT / "docs" / "model.md").read_text("utf-8")
    drawn = np.asarray(Image.open(tmp_path / f"{picture}.png"), dtype=float)
    published = np.asarray(Image.open(shown), dtype=float)
    assert drawn.shape == published.shape
    # A JPEG is not exact (1.2 to 1.5 grey levels, measured); one box more or less shows.
    assert np.abs(drawn - published).mean() < JPEG_NOISE


def test_the_documentation_shows_the_networks_as_they_are(run):
    assert run("networks").strip("\n") in (ROOT / "docs" / "model.md").read_text("utf-8")


def test_the_features_example_learns(run):
    right, _, seen, *_ = run("features").split()
    assert int(right) >= 0.8 * int(seen)


def test_detection_prints_boxes_by_evidence_and_draws_them(run, tmp_path):
    lines = run("detect").splitlines()
    evidence = [float(line.split()[2]) for line in lines]
    assert evidence == sorted(evidence, reverse=True)
    drawn = np.asarray(Image.open(tmp_path / "boxes.png"))
    plain = np.asarray(Image.open(ROOT / "examples" / "scene.jpg"))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
