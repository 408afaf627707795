"""Is each step written down once, and can TensorBoard read it?"""

from __future__ import annotations

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from pipelines.training import milestones
from pipelines.training.events import Picture
from pipelines.training.journal import Journal, forget_after, read_journal
from tests.builders import list_all, write_scenes
from tests.pipelines.training.tiny_training import make_train_config, train_here


def read_events(data):
    """Read the records of an event file: length, its check, the event, its check."""
    events = []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def write_part(root, steps):
    journal = Journal(root)
    for step in steps:
        journal.note("training", step, {"loss": 1 / step})
    journal.write(steps[-1])


def test_lines_come_back_in_the_order_of_the_steps(store_root):
    write_part(store_root, [1, 2])
    write_part(store_root, [3])
    lines = read_journal(store_root)
    assert [(line["kind"], line["step"], line["loss"]) for line in lines] == [
        ("training", 1, 1.0), ("training", 2, 0.5), ("training", 3, 1 / 3),
    ]  # fmt: skip


def test_steps_that_are_done_again_are_forgotten(store_root):
    for steps in ([1, 2], [3, 4], [5]):
        write_part(store_root, steps)
    forget_after(store_root, 2)
    assert list_all(store_root) == [
        "metrics/step-0000000002.jsonl",
        "tensorboard/events.out.tfevents.0000000002",
    ]


def test_nothing_to_tell_writes_nothing(tmp_path):
    Journal(str(tmp_path)).write(5)
    assert list_all(str(tmp_path)) == []


def test_a_number_that_is_none_is_not_written(tmp_path):
    journal = Journal(str(tmp_path))
    journal.note("training", 1, {"loss": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.write(1)


def test_tensorboard_finds_numbers_and_pictures(tmp_path):
    journal = Journal(str(tmp_path))
    journal.note("training", 7, {"loss": 0.25})
    journal.show(7, [Picture(name="a/b", pixels=np.full((5, 6, 3), 200, np.uint8))])
    journal.write(7)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert "tfevents" in file.name
    values = [
        (event.step, value.tag, value.simple_value, value.image.width)
        for event in read_events(file.read_bytes())
        for value in event.summary.value
    ]
    assert values == [(7, "training/loss", 0.25, 0), (7, "validation/a/b", 0.0, 6)]


def test_a_part_whose_state_was_not_saved_is_written_anew(tmp_path, monkeypatch):
    """Killed between the two, and gone on with by states at other steps."""
    scenes = write_scenes(tmp_path / "scenes", 10)
    save, folder = milestones.save_state, tmp_path / "out"

    def save_or_die(output, state):
        if state.position.steps == 4:
            raise KeyboardInterrupt
        save(output, state)

    monkeypatch.setattr(milestones, "save_state", save_or_die)
    settings = {"task": "classify", "log_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        train_here(make_train_config(scenes, folder, checkpoint_steps=2, **settings))
    assert [line["step"] for line in read_journal(str(folder))] == [1, 2, 3, 4]
    monkeypatch.undo()
    train_here(make_train_config(scenes, folder, checkpoint_steps=5, **settings))
    assert [line["step"] for line in read_journal(str(folder))] == [1, 2, 3, 4, 5, 6]


def test_a_training_writes_down_some_steps_and_the_end_of_each_epoch(tmp_path):
    scenes = write_scenes(tmp_path / "scenes", 10)
    config = make_train_config(scenes, tmp_path / "out", task="classify", log_steps=2)
    train_here(config)
    lines = read_journal(config.output)
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert [line["samples"] for line in lines] == [8, 10, 14, 20]
    assert [line["epoch"] for line in lines] == pytest.approx([2 / 3, 1, 4 / 3, 2])
    assert all(line["loss_total"] == line["loss_objects"] > 0 for line in lines)
    assert all(line["samples_per_second"] > 0 and line["rate"] >= 0 for line in lines)
