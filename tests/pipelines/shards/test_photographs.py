from __future__ import annotations

import sys

import pytest

from pipelines.errors import InputError
from pipelines.shards import photographs
from pipelines.shards.photographs import (
    PHOTOGRAPHS,
    find_photograph,
    load_handwriting,
    load_photograph,
)

INSTALL_LINE = r"pip install 'overfeat-at-scale\[scenes\]'"


@pytest.mark.parametrize("name", sorted(PHOTOGRAPHS))
def test_every_photograph_ships_inside_an_installed_package(name):
    path = find_photograph(name)

    assert "site-packages" in path.parts
    assert load_photograph(name).mode == "RGB"
    assert min(load_photograph(name).size) >= 300


def test_handwriting_is_1797_digits_of_17_grey_levels():
    cells, labels = load_handwriting()

    assert cells.shape == (1797, 8, 8)
    assert (cells.min(), cells.max()) == (0, 16)
    assert sorted(set(labels.tolist())) == list(range(10))


def test_a_missing_package_of_photographs_names_the_install_line(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)

    with pytest.raises(InputError, match=rf"coffee.*skimage.*{INSTALL_LINE}"):
        find_photograph("coffee")


def test_a_package_without_the_photograph_names_the_install_line(monkeypatch):
    monkeypatch.setitem(PHOTOGRAPHS, "coffee", (("skimage", "data"), "tea.png"))

    with pytest.raises(InputError, match=rf"tea\.png.*{INSTALL_LINE}"):
        find_photograph("coffee")


def test_missing_handwriting_names_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(InputError, match=rf"sklearn.*{INSTALL_LINE}"):
        load_handwriting.__wrapped__()
