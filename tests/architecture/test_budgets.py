"""Small parts: what no module and no function may exceed."""

from __future__ import annotations

import statistics

import pytest

from tests.architecture.source_tree import (
    FOLDERS,
    PACKAGES,
    ROOT,
    count_lines,
    iter_functions,
    iter_modules,
)

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 400
MAX_MEDIAN_LINES = 10
BANNED_NAMES = {"utils", "util", "misc", "common", "helpers", "manager", "core", "base"}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{function.name}": count_lines(function)
        for path in iter_modules(*FOLDERS)
        for function in iter_functions(path)
        if count_lines(function) > MAX_FUNCTION_LINES
    }
    assert not long


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in iter_modules(*FOLDERS)
    }
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_the_median_function_has_at_most_10_lines() -> None:
    lengths = [
        count_lines(function)
        for path in iter_modules(*PACKAGES)
        for function in iter_functions(path)
    ]
    assert statistics.median(lengths) <= MAX_MEDIAN_LINES


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_a_bag(folder: str) -> None:
    names = {
        part
        for path in (ROOT / folder).rglob("*.py")
        for part in path.relative_to(ROOT).with_suffix("").parts
    }
    assert not names & BANNED_NAMES
