"""Ray is joined only where there is something to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.annotate.engine import Engine, Machines
from pipelines.annotate.run import annotate
from pipelines.cluster import Placement
from pipelines.errors import RunMismatchError
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
