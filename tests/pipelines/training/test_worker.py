"""Does a worker learn each task, and go on as if it had never stopped?"""

from __future__ import annotations

import json
import math
import re
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import torch

import overfeat
from pipelines import storage
from pipelines.errors import InputError, PipelineError
from pipelines.lease import Holder, Lease, LeaseLostError
from pipelines.training import milestones, worker
from pipelines.training.checkpoints import list_states
from pipelines.training.config import ValidationConfig
from pipelines.training.journal import read_journal
from pipelines.training.learner import Learner
from pipelines.training.run import plan_job
from pipelines.training.state import Position
from pipelines.training.validation import Measured
from tests.builders import make_checkpoint, write_scenes
from tests.pipelines.training.side_by_side import train_side_by_side
from tests.pipelines.training.tiny_training import make_train_config, train_here


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten scenes: three steps an epoch, the last one smaller."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 10)


@pytest.fixture(scope="module")
def undisturbed(scenes, tmp_path_factory):
    """A training of two epochs that ran through: its folder and where it ended."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train_here(make_train_config(scenes, folder))


def read_weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_an_epoch_sees_every_sample_once(undisturbed):
    _, position = undisturbed
    assert position == Position(epoch=2, step=0, steps=6, samples=20, damaged=0)


def test_the_checkpoint_loads_and_looks_at_a_picture(undisturbed):
    folder, _ = undisturbed
    model = overfeat.load(folder, device="cpu")
    assert model.classes == ("red", "green")
    config = model.members[0].config
    assert (config.background, config.regressor) == (True, "single")
    model.detect(np.zeros((240, 320, 3), np.uint8))


def test_the_checkpoint_tells_where_it_comes_from_and_no_place(undisturbed, scenes):
    folder, position = undisturbed
    text = (folder / "config.json").read_text()
    provenance = overfeat.load(folder).members[0].config.provenance
    assert provenance["position"] == asdict(position)
    assert provenance["config"]["recipe"]["batch_size"] == 4
    assert str(scenes) not in text
    assert str(folder) not in text


def test_twelve_steps_lower_the_loss(scenes, tmp_path, monkeypatch):
    losses = []
    monkeypatch.setattr(worker, "_TELL_SECONDS", 0.0)
    config = make_train_config(scenes, tmp_path, recipe={"epochs": 5})
    train_here(config, lambda moment: losses.append(moment.loss["total"]))
    assert len(losses) == 15
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_the_same_seed_gives_the_same_weights_and_another_one_others(scenes, tmp_path, undisturbed):
    folder, _ = undisturbed
    train_here(make_train_config(scenes, tmp_path / "same", decoders=1))
    train_here(make_train_config(scenes, tmp_path / "other", seed=1))
    assert read_weights(tmp_path / "same") == read_weights(folder)
    assert read_weights(tmp_path / "other") != read_weights(folder)


@pytest.mark.parametrize("calls", [[2], [5, 4, 9]])
def test_a_killed_training_ends_with_the_weights_of_one_that_ran_through(
    scenes, tmp_path, undisturbed, calls
):
    """More kills at random moments, on Ray, are in the long form."""
    folder, position = undisturbed
    config = make_train_config(scenes, tmp_path)
    for call in calls:
        assert train_side_by_side(config, 1, dies_at=call) == [-signal.SIGKILL]
    assert train_here(config) == position
    assert read_weights(tmp_path) == read_weights(folder)


def test_a_training_that_is_done_sees_no_sample_again(scenes, tmp_path, monkeypatch):
    config = make_train_config(scenes, tmp_path, recipe={"epochs": 1})
    position = train_here(config)
    weights = read_weights(tmp_path)
    monkeypatch.setattr(worker._Run, "take", None)
    assert train_here(config) == position
    assert read_weights(tmp_path) == weights


def test_only_the_last_states_stay(scenes, tmp_path):
    train_here(make_train_config(scenes, tmp_path, keep=1, checkpoint_steps=1))
    assert list_states(str(tmp_path)) == {6}


def test_a_damaged_state_pushes_no_later_one_out(scenes, tmp_path, monkeypatch):
    """Saved more often than before, states come between the damaged one and that before it."""
    train_here(make_train_config(scenes, tmp_path))
    (tmp_path / "checkpoints" / "step-0000000006.json").write_text("{")
    take_step = Learner.take_step

    def take_or_die(self, batch, turn):
        if turn.steps == 5:
            raise KeyboardInterrupt
        return take_step(self, batch, turn)

    monkeypatch.setattr(Learner, "take_step", take_or_die)
    with pytest.raises(KeyboardInterrupt):
        train_here(make_train_config(scenes, tmp_path, keep=1, checkpoint_steps=1))
    assert list_states(str(tmp_path)) == {5}


def test_a_loss_that_is_no_number_stops_with_the_last_good_state(scenes, tmp_path):
    train_here(make_train_config(scenes, tmp_path, recipe={"epochs": 1}))
    wild = {"epochs": 3, "learning_rate": 1e30, "clip_norm": None, "warm_up": 0.0}
    with pytest.raises(PipelineError, match="the state of step 3 is the last good one") as caught:
        train_here(make_train_config(scenes, tmp_path, recipe=wild))
    assert "lower --learning-rate (now 1e+30)" in str(caught.value)


def test_how_the_loss_went_before_it_was_no_number_is_written_down(scenes, tmp_path):
    wild = {"epochs": 3, "learning_rate": 1e30, "clip_norm": None, "warm_up": 0.0}
    settings = {"recipe": wild, "checkpoint_steps": 100, "log_steps": 1}
    with pytest.raises(PipelineError, match="no finite number") as caught:
        train_here(make_train_config(scenes, tmp_path, **settings))
    assert list_states(str(tmp_path)) == set()
    lines = read_journal(str(tmp_path))
    assert [line["step"] for line in lines] == [*range(1, len(lines) + 1)]
    assert re.search(f"step {len(lines)} of epoch 0", str(caught.value))
    # The same again writes them once.
    with pytest.raises(PipelineError, match="no finite number"):
        train_here(make_train_config(scenes, tmp_path, **settings))
    assert [line["step"] for line in read_journal(str(tmp_path))] == [*range(1, len(lines) + 1)]


def test_weights_that_are_no_numbers_are_not_saved(scenes, tmp_path, monkeypatch):
    """The loss is that before the step, so that it tells only at the next one."""
    take_step = Learner.take_step

    def spoil(self, batch, turn):
        loss = take_step(self, batch, turn)
        if turn.steps == 3:
            next(self.network.parameters()).data[0] = math.inf
        return loss

    monkeypatch.setattr(Learner, "take_step", spoil)
    config = make_train_config(scenes, tmp_path, task="classify", checkpoint_steps=1)
    with pytest.raises(PipelineError, match="the state of step 3 is the last good one") as caught:
        train_here(config)
    assert "what step 0 of epoch 1 made of the weights is no finite number" in str(caught.value)
    shards = plan_job(config, config.output).name_shards(1, 0)
    assert f"its samples are from {', '.join(shards)} of" in str(caught.value)
    assert shards
    assert max(list_states(config.output)) == 3


def test_a_measured_number_that_is_none_stops_the_training_with_a_sentence(
    scenes, tmp_path, monkeypatch
):
    measured = Measured(values={"top1_error": 0.5, "loss": math.inf}, pictures=[])
    monkeypatch.setattr(milestones.Validator, "measure", lambda self, weights: measured)
    held_out = write_scenes(tmp_path / "held-out", 2, split="validation")
    config = make_train_config(
        scenes,
        tmp_path / "out",
        task="classify",
        log_steps=1,
        held_out=ValidationConfig(validation=held_out),
    )
    with pytest.raises(PipelineError, match="the state of step 2 is the last good one") as caught:
        train_here(config)
    assert "the loss of held-out samples after step 3 is inf, no finite" in str(caught.value)
    assert [line["step"] for line in read_journal(config.output)] == [1, 2, 3]


@pytest.fixture(scope="module")
def classifier(scenes, tmp_path_factory):
    """A training of one epoch and where it is."""
    folder = tmp_path_factory.mktemp("classifier")
    config = make_train_config(scenes, folder, task="classify", recipe={"epochs": 1})
    train_here(config)
    return config, folder


def read_loss(config):
    return read_journal(config.output)[-1]["loss_total"]


def test_the_metrics_of_a_classifier_say_nothing_of_boxes(classifier):
    _, folder = classifier
    losses = {name for name in read_journal(str(folder))[-1] if name.startswith("loss_")}
    assert losses == {"loss_objects", "loss_total"}


def test_bfloat16_learns_nearly_the_same_and_leaves_float32(classifier, tmp_path):
    plain, _ = classifier
    config = replace(plain, output=str(tmp_path), dtype="bfloat16")
    train_here(config)
    assert read_loss(config) != read_loss(plain)
    assert read_loss(config) == pytest.approx(read_loss(plain), rel=0.1)
    assert {value.dtype for value in load_tensors(tmp_path).values()} == {torch.float32}


def test_a_compiled_network_learns_the_same(classifier, tmp_path):
    """In a process of its own: what checks the shapes of arrays here cannot be compiled."""
    plain, folder = classifier
    config = replace(plain, output=str(tmp_path), compile=True)
    graphs = tmp_path / "graphs"
    assert train_side_by_side(config, 1, graphs=graphs) == [0]
    assert "conv2d" in graphs.read_text()
    assert read_loss(config) == pytest.approx(read_loss(plain), rel=1e-4)
    assert load_tensors(tmp_path).keys() == load_tensors(folder).keys()


def load_tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def names_that_differ(one, other):
    return {
        name.partition(".")[0]
        for name, value in one.items()
        if name not in other or not torch.equal(value, other[name])
    }


def test_classify_learns_the_class_of_whole_images(scenes, tmp_path):
    shards = write_scenes(tmp_path / "scenes", 8)
    train_here(make_train_config(shards, tmp_path, task="classify"))
    model = overfeat.load(tmp_path)
    config = model.members[0].config
    assert (config.background, config.regressor) == (False, "none")
    labels = model.classify(np.zeros((240, 320, 3), np.uint8)).labels
    assert sorted(labels) == ["green", "red"]


def test_images_that_have_no_class_stop_a_classification(tmp_path):
    shards = write_scenes(tmp_path / "scenes", 8, objects=0)
    with pytest.raises(PipelineError, match="none of the 4 samples of step 0 could be used"):
        train_here(make_train_config(shards, tmp_path, task="classify"))


@pytest.fixture(scope="module")
def trained_boxes(tmp_path_factory):
    """A checkpoint with a regressor that says edges."""
    folder = tmp_path_factory.mktemp("boxes")
    make_checkpoint(folder, classes=("red", "green"))
    return folder


@pytest.mark.parametrize("regressor", ["single", "per-class"])
def test_localize_trains_the_regressor_alone(scenes, tmp_path, regressor):
    base = make_checkpoint(tmp_path / "base", classes=("red", "green"))
    config = make_train_config(
        scenes, tmp_path / "out", task="localize", weights=base, regressor=regressor
    )
    train_here(config)
    differ = names_that_differ(load_tensors(tmp_path / "out"), load_tensors(tmp_path / "base"))
    assert differ == {"regressor"}
    assert overfeat.load(tmp_path / "out").members[0].config.regressor == regressor


def test_boxes_in_another_coding_are_learnt_anew_and_said_in_it(scenes, trained_boxes, tmp_path):
    config = make_train_config(
        scenes,
        tmp_path / "out",
        task="localize",
        weights=str(trained_boxes),
        box_coding="centre-size",
        recipe={"epochs": 1, "learning_rate": 1e-9, "averaging": 0.0},
    )
    train_here(config)
    assert overfeat.load(tmp_path / "out").members[0].config.box_coding == "centre-size"
    # At this rate what it began with is what came out.
    one, other = load_tensors(tmp_path / "out"), load_tensors(trained_boxes)
    assert not torch.allclose(one["regressor.box7.weight"], other["regressor.box7.weight"])
    again = replace(config, output=str(tmp_path / "again"), box_coding="edges")
    train_here(again)
    kept = load_tensors(tmp_path / "again")["regressor.box7.weight"]
    assert torch.allclose(kept, other["regressor.box7.weight"], atol=1e-6)


def test_detect_trains_the_classes_alone(scenes, tmp_path):
    config = make_train_config(scenes, tmp_path, task="detect")
    train_here(config)
    model = overfeat.load(tmp_path)
    assert (model.members[0].config.background, model.members[0].config.regressor) == (True, "none")


def test_localize_needs_a_checkpoint_that_knows_the_classes(scenes, tmp_path):
    with pytest.raises(InputError, match="--task localize"):
        make_train_config(scenes, tmp_path, task="localize")
    base = make_checkpoint(tmp_path / "base", classes=("ant", "cat"))
    config = make_train_config(scenes, tmp_path, task="localize", weights=base)
    with pytest.raises(InputError, match="knows other classes"):
        plan_job(config, str(tmp_path))


def test_a_training_that_another_driver_has_taken_over_saves_no_more(scenes, tmp_path, monkeypatch):
    config = make_train_config(scenes, tmp_path, task="classify", checkpoint_steps=1)
    lease, save = Lease(config.output), milestones.save_state
    other = Holder(id="another", host="elsewhere", process="", heartbeat=0)

    def save_and_lose(output, state):
        """Another driver takes a paused one over; its workers are not paused."""
        save(output, state)
        storage.write_bytes(lease.uri, json.dumps(asdict(other)).encode())

    monkeypatch.setattr(milestones, "save_state", save_and_lose)
    job = replace(plan_job(config, config.output), lease_id=lease.id)
    with lease, pytest.raises(LeaseLostError, match="elsewhere has taken this run over"):
        worker.train_worker(job, lambda moment: None)
    assert list(list_states(config.output)) == [1]
    assert not (tmp_path / "model.safetensors").exists()
