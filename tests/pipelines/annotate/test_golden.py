"""Do fixed pictures and fixed weights still give the rows that they gave?"""

from __future__ import annotations

import json

import pytest

from pipelines.fingerprint import RESULTS_VERSION
from tests.pipelines.annotate.agreement import CORNERS, is_same_box
from tests.pipelines.annotate.golden import PICTURES, ROWS, make_golden

ADVICE = (
    "the same settings give other rows than before: if that is meant, raise RESULTS_VERSION in "
    "pipelines/fingerprint.py and run python -m tests.pipelines.annotate.golden; if not, mend it"
)
SCORES = {"score", "scores", "evidence"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return make_golden(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden():
    return json.loads(ROWS.read_text())


def without_numbers(row):
    return {name: value for name, value in row.items() if name not in {*SCORES, *CORNERS}}


def test_the_golden_rows_are_of_this_version_of_the_results(golden):
    assert golden["results_version"] == RESULTS_VERSION, (
        "RESULTS_VERSION was changed: run python -m tests.pipelines.annotate.golden"
    )


def test_the_golden_pictures_are_of_many_kinds_and_have_boxes(golden):
    assert {row["image"] for row in golden["images"]} == {p.name for p in PICTURES.iterdir()}
    reasons = {row["error_type"] for row in golden["images"]}
    assert reasons == {None, "truncated", "not_an_image", "too_large"}
    assert len(golden["boxes"]) >= 40


def test_every_image_has_the_row_that_it_had(found, golden):
    structure = [list(map(without_numbers, rows["images"])) for rows in (found, golden)]
    assert structure[0] == structure[1], ADVICE
    for row, expected in zip(found["images"], golden["images"], strict=True):
        assert row["scores"] == pytest.approx(expected["scores"], abs=1e-3), ADVICE


def test_boxes_agree_within_the_tolerance_of_the_contract(found, golden):
    unpaired = list(found["boxes"])
    paired = 0
    for expected in golden["boxes"]:
        same_image = [row for row in unpaired if row["image"] == expected["image"]]
        match = next((row for row in same_image if is_same_box(row, expected)), None)
        if match is not None:
            unpaired.remove(match)
            paired += 1
    assert paired >= 0.995 * max(len(found["boxes"]), len(golden["boxes"])), ADVICE


def test_ranks_and_window_counts_are_those_that_were(found, golden):
    structure = [list(map(without_numbers, rows["boxes"])) for rows in (found, golden)]
    assert structure[0] == structure[1], ADVICE
