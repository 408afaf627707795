"""Does the graph on Ray keep what the stages rely on: whole slices, threads of their own?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray
import torch
from ray.data import DataContext

from pipelines.annotate import graph
from pipelines.annotate.graph import DetectActor
from pipelines.annotate.run import annotate
from pipelines.errors import PipelineError
from pipelines.receipts import list_receipts
from pipelines.weights import fetch_model
from tests.builders import (
    annotate_without_ray,
    assert_same_rows,
    make_config,
    read_numbered,
    start_run,
    write_pictures,
)


@pytest.fixture
def small_blocks(ray_cluster):
    """An engine that cuts blocks above ten kilobytes, unless it is told otherwise."""
    context = DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = 10_000
    yield
    context.target_max_block_size = before


@pytest.mark.ray
def test_a_slice_stays_whole_and_the_number_of_workers_changes_no_row(
    tmp_path, checkpoint, small_blocks
):
    write_pictures(str(tmp_path / "in"), 14)
    tasks = ("classify", "localize", "detect", "features")
    config = make_config(
        str(tmp_path), checkpoint, slice_size=3, workers=2, tasks=tasks, feature_pool="none"
    )
    plain = str(tmp_path / "plain")
    annotate_without_ray(config, plain)
    report = annotate(config)
    assert report.slices_done == 5
    assert_same_rows(config.output, plain)


@pytest.mark.ray
def test_a_slice_that_the_engine_splits_all_the_same_ends_the_run_and_leaves_no_receipt(
    tmp_path, checkpoint, small_blocks, monkeypatch
):
    write_pictures(str(tmp_path / "in"), 6)
    config = make_config(str(tmp_path), checkpoint, slice_size=6, workers=1)
    monkeypatch.setattr(graph, "SLICE_PIXEL_BYTES", 10_000)
    with pytest.raises(PipelineError, match=r"slice 0: \d of its 6 images came to be written"):
        annotate(config)
    assert list_receipts(config.output) == set()


def test_a_detect_actor_computes_on_the_threads_that_it_is_given(tmp_path, checkpoint, monkeypatch):
    """Ray would give it one thread for each reserved CPU; the last bits of a row depend on it."""
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    counter = SimpleNamespace(begin=lambda number, generation, stage: 1)
    try:
        actor = DetectActor(
            fetch_model([checkpoint]), stages, counter, device="cpu", dtype="float32", threads=2
        )
        assert torch.get_num_threads() == 2
        assert actor(read_numbered(0, stages)).num_rows == 1
    finally:
        torch.set_num_threads(1)
