"""A Ray of a part's own, that no other program of this machine finds or is found by."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def own_folder() -> Iterator[None]:
    """Let Ray keep its sockets, its logs and the address of its cluster in a folder of its own.

    In the usual one the address would lead every `ray.init()` of the machine to this cluster.
    """
    # Short: the path of a Unix socket ends at 107 characters, and Ray's part takes 80.
    folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    with folder as name, mock.patch.dict(os.environ, {"RAY_TMPDIR": name}):
        yield


@contextmanager
def own_ray(cpus: int, *, store_bytes: int | None = None) -> Iterator[None]:
    """Run Ray in this process for the length of a block.

    Args:
        cpus: CPUs that it gives out, whatever the machine has.
        store_bytes: Size of its object store; Ray's own choice if None.

    Yields:
        Nothing: Ray is ready.
    """
    import ray

    with own_folder():
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=0,
            object_store_memory=store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield
        finally:
            ray.shutdown()
