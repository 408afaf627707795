"""Does the witness of reads tell what was read, and own up when it has lost count?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.annotate.file_reads import FileReads

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


def test_only_what_was_read_is_named(tmp_path):
    for name in ("read.jpg", "listed.jpg"):
        (tmp_path / name).write_bytes(b"bytes")
    with FileReads(tmp_path) as reads:
        assert len(list(tmp_path.iterdir())) == 2
        (tmp_path / "read.jpg").read_bytes()
        assert reads.names() == {"read.jpg"}


def test_more_reads_than_the_kernel_keeps_are_an_error_and_not_none(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"bytes")
    # Two files by turns: the kernel keeps equal events that follow each other as one.
    with (
        (tmp_path / "one").open("rb", buffering=0) as one,
        (tmp_path / "other").open("rb", buffering=0) as other,
        FileReads(tmp_path) as reads,
    ):
        for _ in range(int(_QUEUE.read_text()) // 2 + 1):
            for file in (one, other):
                file.seek(0)
                file.read(1)
        with pytest.raises(AssertionError, match="more reads than the kernel keeps"):
            reads.names()
