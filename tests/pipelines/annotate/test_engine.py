"""Ray is joined only where there is something to do."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from pipelines.annotate import run
from pipelines.annotate.engine import Engine, Machines
from pipelines.annotate.run import annotate
from pipelines.cluster import Placement
from pipelines.errors import PipelineError, RunMismatchError
from tests.builders import annotate_flags, list_all, make_config, run_command, write_pictures

pytestmark = pytest.mark.usefixtures("plain_engine")


@pytest.fixture
def finished(tmp_path, checkpoint):
    """A run of five images, all committed."""
    write_pictures(str(tmp_path / "in"), 5)
    config = make_config(str(tmp_path), checkpoint)
    assert annotate(config).images_read == 5
    return config


@pytest.fixture
def no_ray(monkeypatch):
    """Whoever joins a cluster fails."""

    def join(_):
        pytest.fail("a cluster was joined")

    monkeypatch.setattr(Engine, "join", join)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("flags", [[], ["--update"], ["--retry-failed"], ["--update", "--json"]])
def test_a_command_with_nothing_to_do_starts_no_ray(finished, flags):
    ended = run_command(*annotate_flags(finished), *flags)
    assert ended.code == 0
    if "--json" in flags:
        assert json.loads(ended.out)["images"] == 5


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--slice-size", "3"], "slice_size (there: 4, here: 3)"), (["--dtype", "bfloat16"], "dtype")],
)
def test_another_configuration_is_refused_before_ray_starts(finished, flags, named):
    ended = run_command(*annotate_flags(finished), *flags)
    assert ended.code == 2
    assert named in ended.err


def test_a_cluster_with_another_kind_of_device_is_refused_before_any_work(finished, monkeypatch):
    write_pictures(finished.images, 7)
    placement = Placement(workers=1, gpus_per_worker=1, cpus_per_worker=1)
    machines = Machines(placement=placement, device="cuda", dtype="bfloat16")
    monkeypatch.setattr(Engine, "join", lambda _: machines)
    before = list_all(finished.output)
    ended = run_command(*annotate_flags(finished), "--update")
    assert ended.code == 2
    assert 'device (there: "cpu", here: "cuda"), dtype (there: "float32"' in ended.err
    assert list_all(finished.output) == before


def test_of_two_first_commands_the_slower_one_takes_the_others_run_or_is_refused(
    finished, monkeypatch
):
    monkeypatch.setattr("pipelines.annotate.run.find_run", lambda *_: None)
    assert annotate(finished).images_read == 0
    with pytest.raises(RunMismatchError, match="score_threshold"):
        annotate(replace(finished, score_threshold=0.9))


def test_an_engine_that_ends_well_and_leaves_slices_out_fails_the_command(
    tmp_path, checkpoint, monkeypatch
):
    write_pictures(str(tmp_path / "in"), 5)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    run_graph = run.run_graph

    def leave_one_out(*args, **placement):
        yield from itertools.islice(run_graph(*args, **placement), 2)

    monkeypatch.setattr(run, "run_graph", leave_one_out)
    with pytest.raises(PipelineError, match="2 of 3 slices were committed though the engine ended"):
        annotate(config)
    # What was left out is all that is done then.
    report = annotate(config)
    assert (report.images, report.slices_done) == (5, 1)
