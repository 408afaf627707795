"""Do workers together see each global batch once, however many they are and wherever they begin?"""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.images import ImageLimits
from pipelines.training.order import OrderConfig
from pipelines.training.shard_set import open_shard_set
from pipelines.training.stream_loader import Loader
from tests.pipelines.training.seen import see
from tests.pipelines.training.tiny_shards import write_shards

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)

SIZES = (1, 17, 2, 1, 9)
"""Very uneven: most streams read one shard, some read several."""
SAMPLES = sum(SIZES)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("tiny"), SIZES)


def make_order(streams=4, share=1, block=5, seed=3):
    return OrderConfig(seed=seed, streams=streams, batch_size=streams * share, shuffle_block=block)


def make_loader(shards, order=None, *, rank=0, world_size=1, processes=0, make_example=see):
    return Loader(
        shards,
        order or make_order(),
        make_example,
        rank=rank,
        world_size=world_size,
        processes=processes,
        limits=ImageLimits(),
    )


def see_global(shards, order, world_size, epoch=0, first_step=0):
    """Global batches, each as the sorted numbers and draws of all workers."""
    workers = [
        make_loader(shards, order, rank=rank, world_size=world_size).iter_epoch(epoch, first_step)
        for rank in range(world_size)
    ]
    batches = []
    for steps in zip(*workers, strict=True):  # strict: no worker ends before another
        assert len({(one.epoch, one.step, one.n_global) for one in steps}) == 1
        assert sum(one.samples for one in steps) == steps[0].n_global
        seen = sorted((one.number, one.draw) for step in steps for one in step.examples)
        batches.append((steps[0].step, seen))
    return batches


orders = st.builds(make_order, st.integers(1, 7), st.integers(1, 3), st.integers(1, 12))


@PROPERTY
@given(orders, st.data())
def test_any_number_of_workers_sees_the_global_batches_of_one(tiny, order, data):
    epoch = data.draw(st.integers(0, 2))
    world_size = data.draw(st.integers(1, order.streams))
    alone = see_global(tiny, order, 1, epoch)
    assert see_global(tiny, order, world_size, epoch) == alone
    assert sorted(number for _, seen in alone for number, _ in seen) == list(range(SAMPLES))


@PROPERTY
@given(orders, st.data())
def test_a_resume_gives_exactly_the_rest_with_any_number_of_workers(tiny, order, data):
    before, after = (data.draw(st.integers(1, order.streams)) for _ in range(2))
    whole = see_global(tiny, order, before)
    first_step = data.draw(st.integers(0, len(whole)))
    assert see_global(tiny, order, after, first_step=first_step) == whole[first_step:]


def test_the_last_global_batch_is_smaller(tiny):
    steps = list(make_loader(tiny, make_order(streams=4, share=2)).iter_epoch(0))
    assert [one.n_global for one in steps] == [8, 8, 8, 6]
    assert [len(one.examples) for one in steps] == [8, 8, 8, 6]


def test_a_worker_without_samples_gets_steps_without_examples(tmp_path):
    shards = write_shards(tmp_path, [2])
    loaders = [
        make_loader(shards, make_order(streams=3, share=2), rank=r, world_size=3) for r in range(3)
    ]
    assert [loader.steps_per_epoch for loader in loaders] == [1, 1, 1]
    (steps,) = zip(*(loader.iter_epoch(0) for loader in loaders), strict=True)
    assert sorted(one.samples for one in steps) == [0, 1, 1]
    assert [one.n_global for one in steps] == [2, 2, 2]


def test_epochs_and_seeds_have_orders_and_draws_of_their_own(tiny):
    def tell(seed, epoch):
        steps = make_loader(tiny, make_order(seed=seed)).iter_epoch(epoch)
        return [(one.number, one.draw) for step in steps for one in step.examples]

    first = tell(3, 0)
    assert tell(3, 0) == first
    for other in (tell(3, 1), tell(4, 0)):
        assert [number for number, _ in other] != [number for number, _ in first]
        assert not {draw for _, draw in other} & {draw for _, draw in first}


def test_several_epochs_in_one_go_are_those_of_one_after_the_other(tiny):
    loader = make_loader(tiny)
    expected = [*loader.iter_epoch(1, 5), *loader.iter_epoch(2), *loader.iter_epoch(3)]
    together = list(loader.iter_epochs(1, 4, first_step=5))
    assert [tell_step(one) for one in together] == [tell_step(one) for one in expected]


def tell_step(step):
    return step.epoch, step.step, step.n_global, [(one.number, one.draw) for one in step.examples]


def test_damaged_samples_are_counted_in_their_step_and_named_once(tmp_path, caplog):
    shards = write_shards(tmp_path, SIZES, damage={4, 20})
    loader = make_loader(shards)
    with caplog.at_level(logging.WARNING):
        steps = list(loader.iter_epochs(0, 2))
    assert sum(one.damaged for one in steps) == 4
    assert all(len(one.examples) == one.samples - one.damaged for one in steps)
    seen = Counter(one.number for step in steps for one in step.examples)
    assert seen == Counter({n: 2 for n in range(SAMPLES) if n not in {4, 20}})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert sum("sample folder/key-004 of train-000001.tar is left out" in m for m in messages) == 1


@pytest.mark.s3
def test_shards_are_read_from_a_bucket(tiny, s3_bucket):
    write_shards(f"s3://{s3_bucket}/set", SIZES)
    shards = open_shard_set(f"s3://{s3_bucket}/set", "train")
    assert shards.digest == tiny.digest
    assert see_global(shards, make_order(), 2) == see_global(tiny, make_order(), 1)
    here, apart = (make_loader(tiny), make_loader(shards, processes=1))
    assert [tell_step(one) for one in apart.iter_epoch(0)] == [
        tell_step(one) for one in here.iter_epoch(0)
    ]


@pytest.mark.parametrize("first_step", [-1, 9])
def test_a_step_that_the_epoch_has_not_is_refused(tiny, first_step):
    loader = make_loader(tiny)
    assert loader.steps_per_epoch == 8
    assert list(loader.iter_epoch(0, 8)) == []
    with pytest.raises(InputError, match=f"received step {first_step} to begin at, expected 0 to"):
        loader.iter_epoch(0, first_step)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"world_size": 5}, "--streams: received 4, expected at least the 5 workers"),
        ({"rank": 2, "world_size": 2}, "received rank 2, expected 0 to below 2 workers"),
        ({"processes": -1}, "received -1 processes"),
    ],
)
def test_workers_that_cannot_be_are_refused(tiny, wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        make_loader(tiny, **wrong)


def test_a_local_function_is_refused_for_other_processes(tiny):
    def see_here(image, metadata, rng, epoch):
        return see(image, metadata, rng, epoch)

    with pytest.raises(InputError, match=r"see_here.* define it at the top level of a module"):
        make_loader(tiny, processes=1, make_example=see_here)
    assert len(list(make_loader(tiny, make_example=see_here).iter_epoch(0))) == 8


def test_processes_without_a_stream_are_named(tiny, caplog):
    with caplog.at_level(logging.WARNING):
        make_loader(tiny, rank=1, world_size=4, processes=2)
    (record,) = caplog.records
    assert record.getMessage().startswith("--streams 4: 1 of 2 decoding processes of worker 1 have")
