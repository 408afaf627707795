"""A store that takes no more: does a sentence end the command, and the next one finish its work?"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pipelines import lease, storage
from pipelines.annotate.run import annotate
from pipelines.errors import StorageError
from tests.builders import (
    assert_same_rows,
    encode_picture,
    make_config,
    make_picture,
)
from tests.pipelines.annotate.outages import SENTENCES, Countdown, assert_whole

IMAGES = 7


def put_pictures(root):
    for number in range(IMAGES):
        data = encode_picture(make_picture(number, height=8, width=8))
        storage.write_bytes(storage.join_uri(root, "in", f"{number}.jpg"), data)


@pytest.fixture(autouse=True)
def impatient_drivers(monkeypatch):
    """A lease that cannot be given back is waited for, unless its process has ended."""
    times = lease.LeaseTimes(heartbeat=0.1, lease=0.3)
    monkeypatch.setattr(lease, "DEFAULT_TIMES", times)


@pytest.mark.usefixtures("plain_engine")
@pytest.mark.parametrize("code", SENTENCES)
@pytest.mark.parametrize("calls", [0, 3, 7, 16])
def test_a_disk_that_takes_no_more_ends_the_command_and_the_next_one_finishes(
    tmp_path, checkpoint, monkeypatch, code, calls
):
    put_pictures(str(tmp_path))
    config = make_config(str(tmp_path), checkpoint, slice_size=3)
    undisturbed = replace(config, output=str(tmp_path / "undisturbed"))
    annotate(undisturbed)

    def fail():
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Countdown(os.fsync, calls, fail))
        with pytest.raises(StorageError, match=SENTENCES[code]):
            annotate(config)
    assert_whole(config.output)
    annotate(config)
    assert_same_rows(config.output, undisturbed.output)


@pytest.mark.s3
@pytest.mark.usefixtures("plain_engine")
@pytest.mark.parametrize("calls", [1, 4, 8])
def test_a_key_that_is_revoked_ends_the_command_and_a_new_one_finishes(
    s3_bucket, checkpoint, monkeypatch, calls
):
    root = f"s3://{s3_bucket}/run"
    put_pictures(root)
    config = make_config(root, checkpoint, slice_size=3)
    undisturbed = replace(config, output=storage.join_uri(root, "undisturbed"))
    annotate(undisturbed)

    with monkeypatch.context() as patch:

        def revoke():
            patch.setenv("AWS_SECRET_ACCESS_KEY", "one-that-is-no-longer-good")

        patch.setattr(storage, "write_bytes", Countdown(storage.write_bytes, calls, revoke))
        with pytest.raises(StorageError, match=r"no valid credentials|access denied"):
            annotate(config)
    assert_whole(config.output)
    annotate(config)
    assert_same_rows(config.output, undisturbed.output)
