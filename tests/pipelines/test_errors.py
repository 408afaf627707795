"""Do errors reach the driver as what they were?"""

from __future__ import annotations

import pickle

import pytest

from pipelines import errors
from pipelines.errors import ImageError, ImageReason, PipelineError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
PIPELINE_ERRORS = [kind for kind in KINDS if issubclass(kind, PipelineError)]


@pytest.mark.parametrize("kind", PIPELINE_ERRORS)
def test_a_pipeline_error_survives_the_way_from_a_worker(kind):
    copy = pickle.loads(pickle.dumps(kind("bucket b: closed; open it")))
    assert type(copy) is kind
    assert str(copy) == "bucket b: closed; open it"


def test_an_image_error_survives_the_way_from_a_worker():
    copy = pickle.loads(pickle.dumps(ImageError(ImageReason.CORRUPT, "bad marker")))
    assert copy.reason is ImageReason.CORRUPT
    assert copy.message == "bad marker"
    assert str(copy) == "corrupt: bad marker"


def test_the_reasons_are_those_of_the_contract():
    assert " ".join(ImageReason) == (
        "not_found access_denied unavailable changed truncated corrupt not_an_image too_large "
        "unsupported timeout crashed"
    )


def test_only_mistakes_before_the_start_end_with_2():
    codes = {kind.__name__: kind.exit_code for kind in PIPELINE_ERRORS}
    assert {name for name, code in codes.items() if code == 2} == {"InputError", "RunMismatchError"}
    assert set(codes.values()) == {1, 2}
