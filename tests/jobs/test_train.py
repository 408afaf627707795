"""Does a training say how far it is, and how good?"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from jobs import train as command
from pipelines.training.job import Best, Moment
from pipelines.training.own_images import LeftOut
from pipelines.training.run import TrainReport
from pipelines.training.state import Position
from tests.builders import run_command


def make_moment(samples, measured=None):
    position = Position(epoch=2, steps=samples // 4, samples=samples)
    return Moment(
        position=position, total_samples=40, loss={"total": 0.75}, rate=0.1, measured=measured
    )


def make_report(**changes):
    usual = {
        "output": "out", "epochs": 2, "steps": 6, "samples": 20, "damaged": 0, "seconds": 1.0,
        "loss": None, "step": 6, "measured": None, "best": None, "is_new": False, "left_out": None,
    }  # fmt: skip
    return TrainReport(**usual | changes)


def test_progress_has_rate_time_left_epoch_and_loss(caplog):
    with caplog.at_level(logging.INFO), command._Meter() as meter:
        meter.tell(make_moment(8))
        meter.tell(make_moment(20))
    line = caplog.messages[-1]
    assert line.startswith("20/40 samples, ")
    assert "samples/s, 0:00:0" in line
    assert line.endswith("left, epoch 2, loss 0.750")


def test_what_was_measured_is_said_once(caplog):
    found = {"step": 4, "map_50": 0.5, "loss": 1.0}
    with caplog.at_level(logging.INFO), command._Meter() as meter:
        for samples, measured in ((16, None), (20, found), (24, found)):
            meter.tell(make_moment(samples, measured))
    said = [line for line in caplog.messages if line.startswith("held-out")]
    assert said == ["held-out samples: map_50 0.5000, loss 1.0000 after step 4"]


def test_the_report_names_what_was_measured_and_the_best_state():
    best = Best(step=4, metric="map_50", value=0.5)
    report = make_report(
        measured={"step": 6, "map_50": 0.25},
        best={"step": best.step, "metric": best.metric, "value": best.value},
    )
    assert command.describe(report).splitlines() == [
        "2 epochs, 6 steps over 20 samples, done before: out",
        "held-out samples: map_50 0.2500 after step 6",
        "best after step 4: map_50 0.5000",
        "the checkpoint is that of step 6; the same command with --result best makes it the best "
        "one",
    ]
    chosen = command.describe(replace(report, step=4)).splitlines()
    assert chosen[-1] == "the checkpoint is the best state"


@pytest.mark.parametrize(
    ("flags", "received"),
    [
        (["--output", "out"], "none"),
        ([], "none"),
        (["--output", "out", "--shards", "a", "--images", "b", "--task", "classify"], "both"),
    ],
)
def test_what_to_learn_from_is_asked_for_by_both_flags(flags, received):
    ended = run_command("train", *flags)
    assert ended.code == 2
    assert ended.refusal().startswith(
        f"--shards, --images: received {received}, expected one of them: "
    )


@pytest.mark.parametrize(("flag", "value"), [("--architecture", "resnet"), ("--task", "segment")])
def test_a_choice_that_other_flags_depend_on_is_refused_in_a_sentence(flag, value):
    ended = run_command("train", "--shards", "in", "--output", "out", flag, value)
    assert ended.code == 2
    assert value in ended.refusal()
    assert "overfeat train --help lists the flags" in ended.refusal()


def test_a_training_on_images_still_needs_an_output():
    assert "--output" in run_command("train", "--images", "in").refusal()


def test_the_report_says_which_images_were_left_out():
    left_out = LeftOut(reasons={"truncated": 1, "unlabelled": 2}, table="out/rejects.parquet")
    assert command.describe(make_report(left_out=left_out)).splitlines()[1:] == [
        "3 images were left out (1 truncated, 2 unlabelled): out/rejects.parquet names them"
    ]


def test_one_step_over_one_sample_is_told_in_the_singular():
    report = make_report(epochs=1, steps=1, samples=1)
    assert command.describe(report) == "1 epoch, 1 step over 1 sample, done before: out"
