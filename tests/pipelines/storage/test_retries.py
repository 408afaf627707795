"""How often is a request made, and how long is waited in between?"""

from __future__ import annotations

import logging
import random
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from pipelines.storage.retries import TRIES, Retries

BUSY = ClientError({"Error": {"Code": "SlowDown", "Message": "busy"}}, "GetObject")
REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")


def pauses_of(retries, error=BUSY):
    """All pauses until the error is raised."""
    pauses = []
    with suppress(type(error)):
        while True:
            pauses.append(retries.pause_after(error))
    return pauses


def test_a_request_is_made_eight_times_with_growing_pauses():
    longest = [0.5, 1, 2, 4, 8, 16, 20]
    for _ in range(50):
        pauses = pauses_of(Retries("s3://bucket/x"))
        assert len(pauses) == TRIES - 1 == 7
        assert all(limit / 2 <= p <= limit for p, limit in zip(pauses, longest, strict=True))
        assert 25 < sum(pauses) < 52


def test_those_who_failed_together_do_not_come_back_together():
    firsts = {Retries("s3://bucket/x").pause_after(BUSY) for _ in range(20)}
    assert len(firsts) == 20


def test_the_pauses_do_not_depend_on_a_seed_nor_move_the_generator_of_others():
    random.seed(1)
    first, state = pauses_of(Retries("x")), random.getstate()
    random.seed(1)
    assert pauses_of(Retries("x")) != first
    assert random.getstate() == state


@pytest.mark.parametrize("error", [REFUSED, KeyError("bug")])
def test_what_will_not_pass_is_raised_at_once(error):
    with pytest.raises(type(error)) as caught:
        Retries("s3://bucket/x").pause_after(error)
    assert caught.value is error


def test_a_timeout_is_tried_again():
    assert len(pauses_of(Retries("x"), ReadTimeoutError(endpoint_url="http://x"))) == TRIES - 1


def test_the_number_of_tries_can_be_chosen():
    assert pauses_of(Retries("x", tries=1)) == []
    assert len(pauses_of(Retries("x", tries=3))) == 2


def test_a_request_that_keeps_failing_is_told_of_once_and_without_secrets(caplog):
    with caplog.at_level(logging.WARNING):
        pauses_of(Retries("s3://bucket/x?X-Amz-Signature=hidden"))
    (record,) = caplog.records
    assert "failed 4 times, 4 tries are left: " in record.getMessage()
    assert "SlowDown" in record.getMessage()
    assert "hidden" not in record.getMessage()
