"""Does everything come right through a network and a store that have a very bad day?

Objects by the thousand through the storage module alone, and beside that a whole run whose bucket
and tables both lie behind the faults.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest

from infra.local.s3_server import S3Server
from pipelines import storage
from pipelines.annotate.run import annotate
from tests.builders import encode_picture, make_checkpoint, make_config, make_picture
from tests.faults.plan import PLAN_RATES, Fault, Operation
from tests.faults.proxy import FaultProxy
from tests.faults.storage_torture import torture_storage
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.torture.apart import run_apart
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.record import Record

_SLICE = 5
FaultCounts = Counter[tuple[Fault, Operation]]
_WORDS = {
    Fault.SLOW_DOWN: "503 SlowDown",
    Fault.INTERNAL_ERROR: "500 InternalError",
    Fault.RESET: "connection reset",
    Fault.RESET_MIDWAY: "connection reset in a body",
    Fault.CUT_BODY: "body cut short",
    Fault.STALL: "stall",
    Fault.EXPIRED_TOKEN: "credentials expired",
}


def torture_store(seed: int, *, objects: int, images: int, stall_s: float = 30.0) -> Record:
    """Do both at the same time, for most of it is waiting."""
    with ThreadPoolExecutor(2) as pool:
        by_storage = pool.submit(
            run_apart, torture_storage, objects=objects, seed=seed, stall_s=stall_s
        )
        by_run = pool.submit(run_apart, torture_run, seed, images=images, stall_s=stall_s)
        compared, of_run = by_run.result()
        counts = by_storage.result() + of_run
    operations = Counter[str]()
    for (_, operation), count in counts.items():
        operations[operation.value] += count
    by_operation = ", ".join(f"{count:,} {name}" for name, count in operations.most_common())
    return Record(
        faults=_name_faults(counts, stall_s),
        rows=compared.rows,
        lost=compared.lost,
        doubled=compared.doubled,
        notes=(
            f"{objects:,} objects written, listed, read, asked for and deleted, and a run over "
            f"{images:,} images behind the same faults",
            f"by operation: {by_operation}",
        ),
    )


def _name_faults(counts: FaultCounts, stall_s: float) -> Mapping[str, int]:
    named = Counter[str]()
    for (fault, _), count in counts.items():
        is_stall = fault is Fault.STALL
        named[f"{_WORDS[fault]} of {stall_s:g} s" if is_stall else _WORDS[fault]] += count
    return dict(named.most_common())


def torture_run(seed: int, *, images: int, stall_s: float) -> tuple[Comparison, FaultCounts]:
    """Annotate a bucket behind a faulty proxy; the rows must be those of the bare server."""
    rates = replace(PLAN_RATES, internal_error=0.01, stall_s=stall_s)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(S3Server(folder / "s3"))
        stack.enter_context(mock.patch.dict(os.environ, server.environment()))
        server.make_bucket("bucket")
        install_plain_engine(patch, FakeModel())
        for number in range(images):
            data = encode_picture(make_picture(number, height=8, width=8))
            storage.write_bytes(f"s3://bucket/in/{number:04d}.jpg", data)
        weights = make_checkpoint(folder / "weights")
        config = make_config("s3://bucket", weights, slice_size=_SLICE)
        undisturbed = "s3://bucket/undisturbed"
        annotate(replace(config, output=undisturbed))
        proxy = stack.enter_context(FaultProxy(server.endpoint_url, rates, seed=seed))
        with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": proxy.endpoint_url}):
            assert annotate(config).images == images
            assert annotate(replace(config, update=True)).images_read == 0
        return compare_runs(config.output, undisturbed), proxy.counts
