"""Is a training's state found whole or not at all, whatever became of the ones before it?"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from pipelines import storage
from pipelines.errors import PipelineError, StorageError, TransientStorageError
from pipelines.training.checkpoints import (
    list_states,
    load_chosen_state,
    load_newest_state,
    prune_states,
    save_state,
)
from pipelines.training.state import (
    Position,
    TrainingState,
    capture_optimizer,
    restore_optimizer,
)
from tests.builders import list_all
from tests.pipelines.annotate.failing_writes import FailingWrites


def make_state(steps):
    generator = torch.Generator().manual_seed(steps)
    tensors = {
        kind: {"a.weight": torch.randn(3, 4, generator=generator), "b": torch.tensor([steps])}
        for kind in ("network", "average", "optimizer")
    }
    position = Position(epoch=1, step=2, steps=steps, samples=16 * steps, damaged=3)
    return TrainingState(position=position, tensors=tensors, facts={"workers": 2, "loss": 0.25})


def assert_same(one, other):
    assert (one.position, one.facts) == (other.position, other.facts)
    assert one.tensors.keys() == other.tensors.keys()
    for kind, tensors in one.tensors.items():
        assert tensors.keys() == other.tensors[kind].keys()
        assert all(torch.equal(value, other.tensors[kind][name]) for name, value in tensors.items())


def test_a_state_comes_back_bit_for_bit(store_root):
    save_state(store_root, make_state(7))
    assert_same(load_newest_state(store_root), make_state(7))


def test_without_a_state_there_is_none(store_root):
    assert load_newest_state(store_root) is None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_a_save_that_fails_leaves_the_state_before_it(tmp_path, monkeypatch, failing, after):
    output = str(tmp_path)
    save_state(output, make_state(7))
    with monkeypatch.context() as patch:
        FailingWrites(patch, failing=failing, after=after)
        with pytest.raises(StorageError):
            save_state(output, make_state(8))
    is_whole = failing == 3 and after
    assert_same(load_newest_state(output), make_state(8 if is_whole else 7))


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("network.safetensors", damage),
        ("optimizer.safetensors", Path.unlink),
        ("average.safetensors", lambda path: path.write_bytes(b"")),
        ("json", lambda path: path.write_bytes(b'{"position": {}}')),
        ("json", lambda path: path.write_bytes(b"{")),
    ],
)
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, caplog, name, harm):
    for steps in (7, 8):
        save_state(str(tmp_path), make_state(steps))
    harm(tmp_path / "checkpoints" / f"step-0000000008.{name}")
    with caplog.at_level(logging.WARNING):
        assert_same(load_newest_state(str(tmp_path)), make_state(7))
    assert "step-0000000008.json: damaged" in caplog.text


def test_states_of_which_none_can_be_read_are_no_fresh_start(tmp_path):
    save_state(str(tmp_path), make_state(7))
    damage(tmp_path / "checkpoints" / "step-0000000007.network.safetensors")
    with pytest.raises(PipelineError, match="none of the 1 states"):
        load_newest_state(str(tmp_path))


@pytest.mark.parametrize("harm", [damage, Path.unlink])
@pytest.mark.parametrize("name", ["network.safetensors", "json"])
def test_a_state_that_another_worker_has_chosen_is_read_or_worth_another_start(
    tmp_path, name, harm
):
    for steps in (7, 8):
        save_state(str(tmp_path), make_state(steps))
    assert_same(load_chosen_state(str(tmp_path), 8), make_state(8))
    harm(tmp_path / "checkpoints" / f"step-0000000008.{name}")
    with pytest.raises(TransientStorageError, match=r"step-0000000008\.json: the first worker"):
        load_chosen_state(str(tmp_path), 8)


def test_only_what_is_kept_stays(store_root):
    for steps in (1, 2, 30):
        save_state(store_root, make_state(steps))
    storage.write_bytes(storage.join_uri(store_root, "checkpoints", "notes.txt"), b"mine")
    prune_states(store_root, keep={2, 30})
    assert list_states(store_root) == {2, 30}
    assert len(list_all(store_root)) == 2 * 4 + 1


def test_a_state_that_is_deleted_in_part_is_none(tmp_path, monkeypatch):
    for steps in (1, 2):
        save_state(str(tmp_path), make_state(steps))
    delete = storage.delete

    def delete_one(uris):
        delete(uris)
        raise StorageError("killed")

    monkeypatch.setattr(storage, "delete", delete_one)
    with pytest.raises(StorageError, match="killed"):
        prune_states(str(tmp_path), keep={2})
    assert list_states(str(tmp_path)) == {2}


def step(network, optimizer, seed):
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    network(values).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.6, weight_decay=1e-5),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    ],
)
def test_an_optimizer_goes_on_as_if_it_had_not_been_restored(make):
    torch.manual_seed(1)
    one = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    two = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    one[1].bias.requires_grad_(False)
    first = make([parameter for parameter in one.parameters() if parameter.requires_grad])
    for seed in range(3):
        step(one, first, seed)
    two.load_state_dict(one.state_dict())
    two[1].bias.requires_grad_(False)
    second = make([parameter for parameter in two.parameters() if parameter.requires_grad])
    restore_optimizer(second, two, capture_optimizer(first, one))
    for seed in range(3, 6):
        step(one, first, seed)
        step(two, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_position_counts_epochs_and_steps():
    position = Position()
    for _ in range(7):
        position = position.advance(samples=4, damaged=1, steps_per_epoch=3)
    assert position == Position(epoch=2, step=1, steps=7, samples=28, damaged=7)
