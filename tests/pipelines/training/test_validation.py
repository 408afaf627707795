"""Is a network measured on held-out samples by every worker alike, and without a trace?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import overfeat
from overfeat.predictions import Classification, Detections, Guesses, Prediction
from overfeat.predictor import Predictor
from pipelines.errors import InputError, PipelineError, RunMismatchError
from pipelines.evaluate import EvaluateConfig, evaluate
from pipelines.images import ImageLimits, decode_image
from pipelines.training import run, validation
from pipelines.training.checkpoints import list_states
from pipelines.training.config import ValidationConfig
from pipelines.training.events import Picture
from pipelines.training.journal import Journal, read_journal
from pipelines.training.milestones import Milestones
from pipelines.training.run import plan_job
from pipelines.training.shard_set import ShardSet, open_shard_set
from pipelines.training.validation import (
    Measured,
    Validator,
    choose_samples,
    iter_chosen,
    take_share,
)
from tests.builders import make_checkpoint, write_scenes
from tests.pipelines.drivers import wait_until
from tests.pipelines.training.tiny_shards import write_shards
from tests.pipelines.training.tiny_training import make_train_config, train_here


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Four scenes to learn from."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 4)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Six others."""
    return write_scenes(tmp_path_factory.mktemp("held-out"), 6, split="validation")


def make_config(scenes, held_out, output, *, task="classify", **changes):
    said = {name: changes.pop(name) for name in list(changes) if name.startswith("validation_")}
    return make_train_config(
        scenes,
        output,
        task=task,
        held_out=ValidationConfig(validation=str(held_out), **said),
        **changes,
    )


def measure(config, weights):
    job = plan_job(config, config.output)
    return Validator(job, job.held_out, torch.device("cpu")).measure(weights)


def make_weights(tmp_path, background):
    folder = make_checkpoint(tmp_path / "weights", classes=("red", "green"))
    tensors = overfeat.load(folder).members[0].network.state_dict()
    if not background:
        tensors["classifier.fc9.weight"] = tensors["classifier.fc9.weight"][:2]
        tensors["classifier.fc9.bias"] = tensors["classifier.fc9.bias"][:2]
        tensors = {name: value for name, value in tensors.items() if "regressor" not in name}
    return tensors


def test_a_classifier_that_knows_one_class_has_half_the_images_wrong(scenes, held_out, tmp_path):
    tensors = make_weights(tmp_path, background=False)
    tensors["classifier.fc9.weight"] = torch.zeros_like(tensors["classifier.fc9.weight"])
    tensors["classifier.fc9.bias"] = torch.tensor([0.0, 3.0])
    found = measure(make_config(scenes, held_out, tmp_path / "out"), tensors)
    right, wrong = np.log1p(np.exp(-3)), np.log1p(np.exp(3))
    assert found.values == pytest.approx({"top1_error": 0.5, "loss": (right + wrong) / 2}, abs=1e-5)


def see_red(predictor, images, config, tasks):
    """Find, in every image, a red thing where the first scene has one."""
    box = np.array([[100, 40, 200, 130]], np.float32)
    one = {"label_ids": np.array([0], np.int32), "labels": ("red",)}
    one["scores"] = np.array([0.9], np.float32)
    windows = {"evidence": one["scores"], "n_windows": np.array([1], np.int32)}
    found = Prediction(
        classification=Classification(**one),
        guesses=Guesses(**one, boxes_xyxy=box),
        detections=Detections(**one, **windows, boxes_xyxy=box, truncated_boxes=False),
    )
    return [found] * len(images)


def test_a_detector_is_measured_as_evaluate_does_and_shown(scenes, held_out, tmp_path, monkeypatch):
    tensors = make_weights(tmp_path, background=True)
    monkeypatch.setattr(Predictor, "predict", see_red)
    config = make_config(scenes, held_out, tmp_path / "out", task="joint", validation_pictures=1)
    found = measure(config, tensors)
    assert set(found.values) == {
        "map_50", "map_50_95", "top1_error", "localization_error", "loss",
    }  # fmt: skip
    (picture,) = found.pictures
    assert (picture.name, picture.pixels.shape) == ("validation-0000", (240, 320, 3))
    assert (picture.pixels != read_pixels(held_out)).any()
    weights = (str(tmp_path / "weights"),)
    known = evaluate(EvaluateConfig(shards=held_out, split="validation", weights=weights))
    assert known.map_50 > 0
    assert (found.values["map_50"], found.values["map_50_95"]) == (known.map_50, known.map_50_95)
    errors = [found.values[name] for name in ("top1_error", "localization_error")]
    assert errors == [1 / 2, 4 / 6]


@pytest.mark.parametrize("task", ["detect", "joint"])
def test_held_out_samples_on_which_nobody_drew_boxes_measure_no_detection(scenes, tmp_path, task):
    tensors = make_weights(tmp_path, background=True)
    if task == "detect":
        tensors = {name: of for name, of in tensors.items() if "regressor" not in name}
    (tmp_path / "named").mkdir()
    named = write_scenes(tmp_path / "named", 2, split="validation", objects=0, named=True)
    config = make_config(scenes, named, tmp_path / "out", task=task)
    found = measure(config, tensors)
    assert "map_50" not in found.values
    assert set(found.values) == {"loss"} | ({"top1_error"} if task == "joint" else set())


def test_samples_are_decoded_while_the_network_looks_at_others(
    scenes, held_out, tmp_path, monkeypatch
):
    decoded, looked_at = [], []
    decode = Validator._decode

    def note(self, number, encoded):
        decoded.append(number)
        return decode(self, number, encoded)

    def look(predictor, images, config, tasks):
        looked_at.extend(images)
        wait_until(lambda: len(decoded) > len(looked_at) or len(looked_at) == 6)
        return see_red(predictor, images, config, tasks)

    monkeypatch.setattr(validation, "_BATCH", 1)
    monkeypatch.setattr(Validator, "_decode", note)
    monkeypatch.setattr(Predictor, "predict", look)
    config = make_config(scenes, held_out, tmp_path / "out", task="joint", decoders=2)
    measure(config, make_weights(tmp_path, background=True))
    assert sorted(decoded) == list(range(6))
    assert len(looked_at) == 6


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_flags_of_held_out_objects_are_heeded(scenes, held_out, tmp_path, monkeypatch, flag):
    """All but the objects of the first image, whose red thing is found there, are flagged."""
    tensors = make_weights(tmp_path, background=True)
    monkeypatch.setattr(Predictor, "predict", see_red)
    config = make_config(scenes, held_out, tmp_path / "out", task="joint")
    plain = measure(config, tensors).values["map_50"]
    real = ShardSet.iter_samples

    def raise_flags(self, number, start, stop):
        for place, sample in enumerate(real(self, number, start, stop), start=start):
            metadata = json.loads(sample.metadata)
            metadata[flag] = [place > 0 for _ in metadata["boxes"]]
            yield replace(sample, metadata=json.dumps(metadata).encode())

    monkeypatch.setattr(ShardSet, "iter_samples", raise_flags)
    assert measure(config, tensors).values["map_50"] > 1.5 * plain > 0


def read_pixels(folder):
    sample = next(open_shard_set(folder, "validation").iter_samples(0, 0, 1))
    return decode_image(sample.image, ImageLimits())


def test_a_limit_takes_samples_from_everywhere(tmp_path):
    shards = write_shards(tmp_path, [5, 1, 4])
    numbers = choose_samples(10, 4)
    assert numbers == [0, 2, 5, 7]
    found = list(iter_chosen(shards, numbers))
    assert [number for number, _ in found] == numbers
    assert [sample.key for _, sample in found] == [f"folder/key-{number:03d}" for number in numbers]


@pytest.mark.parametrize(
    ("count", "limit", "chosen"), [(3, None, [0, 1, 2]), (2, 9, [0, 1]), (5, 0, [])]
)
def test_no_limit_takes_all(count, limit, chosen):
    assert choose_samples(count, limit) == chosen


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_workers_share_the_samples(count, world):
    shares = [take_share(range(count), rank, world) for rank in range(world)]
    assert [number for share in shares for number in share] == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def cut_off(sample):
    return replace(sample, image=sample.image[:50])


def claim_another_class(sample):
    return replace(sample, metadata=json.dumps(json.loads(sample.metadata) | {"label": 2}).encode())


@pytest.mark.parametrize("damage", [cut_off, claim_another_class])
def test_a_damaged_sample_is_left_out_and_named(tmp_path, caplog, monkeypatch, damage):
    shards = write_scenes(tmp_path / "scenes", 4)
    held_out = write_scenes(tmp_path / "held-out", 3, split="validation")
    config = make_config(shards, held_out, tmp_path / "out")
    job = plan_job(config, config.output)
    validator = Validator(job, job.held_out, torch.device("cpu"))
    harmed = open_shard_set(held_out, "validation")
    real = type(harmed).iter_samples

    def harm(self, number, start, stop):
        for place, sample in enumerate(real(self, number, start, stop), start=start):
            yield damage(sample) if place in places else sample

    monkeypatch.setattr(type(harmed), "iter_samples", harm)
    weights = make_weights(tmp_path, background=False)
    places = {1}
    assert set(validator.measure(weights).values) == {"top1_error", "loss"}
    assert "held-out sample validation-0001 is left out" in caplog.text
    places = {0, 1, 2}
    with pytest.raises(PipelineError, match="none of its 3 samples could be read"):
        validator.measure(weights)


def test_what_is_learnt_from_is_not_held_out(scenes, tmp_path):
    config = make_config(scenes, scenes, tmp_path, validation_split="train")
    with pytest.raises(InputError, match="is what is learnt from"):
        plan_job(config, str(tmp_path))


def test_other_shards_and_other_held_out_samples_are_refused_by_their_flags(
    scenes, held_out, tmp_path
):
    config = make_config(scenes, held_out, tmp_path / "out")
    run._create(plan_job(config, config.output))
    others = write_scenes(tmp_path / "others", 3)
    for flag, other in {
        "shards": replace(config, shards=others),
        "validation": replace(config, held_out=ValidationConfig()),
    }.items():
        with pytest.raises(RunMismatchError, match=rf"configuration: {flag} \(there: \S+, here: "):
            run._is_known(plan_job(other, config.output))


def test_held_out_samples_of_other_classes_are_refused(scenes, tmp_path):
    others = write_scenes(tmp_path / "others", 4, split="validation", classes=("ant",))
    with pytest.raises(InputError, match="has other classes"):
        plan_job(make_config(scenes, others, tmp_path / "out"), str(tmp_path / "out"))


def test_measuring_leaves_no_trace_in_the_weights(scenes, held_out, tmp_path):
    recipe = {"epochs": 1, "dropout": 0.5}
    train_here(make_train_config(scenes, tmp_path / "alone", task="classify", recipe=recipe))
    config = make_config(scenes, held_out, tmp_path / "measured", recipe=recipe, validation_steps=1)
    train_here(config)
    alone, measured = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "measured")
    )
    assert alone == measured


def give_values(monkeypatch, values):
    """Let the held-out samples say what they are told."""
    said = iter(values)
    picture = Picture(name="a", pixels=np.zeros((4, 4, 3), np.uint8))

    def say(self, weights):
        return Measured(values={"top1_error": next(said), "loss": 1.0}, pictures=[picture])

    monkeypatch.setattr(Validator, "measure", say)


def read_best(folder):
    return json.loads((folder / "checkpoints" / "best.json").read_text())


def test_the_best_state_stays_beside_the_last_ones(scenes, held_out, tmp_path, monkeypatch):
    give_values(monkeypatch, [0.5, 0.2, 0.3, 0.2, 0.4])
    config = make_config(scenes, held_out, tmp_path, recipe={"epochs": 5}, keep=1, result="best")
    train_here(config)
    assert list_states(config.output) == {2, 5}
    assert read_best(tmp_path) == {"step": 2, "metric": "top1_error", "value": 0.2}
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["step"], result["position"]["steps"]) == (2, 5)
    assert (result["measured"]["step"], result["measured"]["top1_error"]) == (5, 0.4)
    lines = [line for line in read_journal(config.output) if line["kind"] == "validation"]
    assert [(line["step"], line["top1_error"]) for line in lines] == [
        (1, 0.5), (2, 0.2), (3, 0.3), (4, 0.2), (5, 0.4),
    ]  # fmt: skip


def test_a_training_that_has_ended_still_hands_out_another_of_its_states(
    scenes, held_out, tmp_path, monkeypatch
):
    """As the message on a damaged best state says: a day's work is not lost with it."""
    give_values(monkeypatch, [0.2, 0.5])
    last = make_config(scenes, held_out, tmp_path)
    train_here(last)
    weights = (tmp_path / "model.safetensors").read_bytes()
    best = replace(last, result="best")
    jobs = [plan_job(config, last.output) for config in (last, best)]
    assert run._settings(jobs[0]) == run._settings(jobs[1])
    assert [run._read_result(job) is None for job in jobs] == [False, True]
    train_here(best)
    assert [run._read_result(job) is None for job in jobs] == [True, False]
    assert run._read_result(jobs[1])["step"] == 1
    assert (tmp_path / "model.safetensors").read_bytes() != weights
    train_here(last)
    assert (tmp_path / "model.safetensors").read_bytes() == weights


def test_samples_that_say_nothing_of_the_task_stop_no_training(
    scenes, held_out, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(
        Validator, "measure", lambda self, weights: Measured(values={"loss": 1.0}, pictures=[])
    )
    config = make_config(scenes, held_out, tmp_path, recipe={"epochs": 1}, result="best")
    train_here(config)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["best"], result["measured"]["loss"], result["step"]) == (None, 1.0, 1)
    assert "no sample has what gives the top1_error" in caplog.text


class KilledError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("calls", [0, 1])
def test_a_resumed_training_decides_alike_which_state_is_best(
    scenes, held_out, tmp_path, monkeypatch, calls
):
    """Killed before or after the save of the best state, whose file `best.json` is behind."""
    give_values(monkeypatch, [0.5, 0.2])
    config = make_config(scenes, held_out, tmp_path, recipe={"epochs": 4})
    save, left = Milestones._save, [2]

    def save_or_die(self, *args):
        left[0] -= 1
        if not left[0]:
            with monkeypatch.context() as patch:
                patch.setattr(Milestones, "_prune", lambda self, newest: None)
                save(self, *args) if calls else None
            raise KilledError
        save(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Milestones, "_save", save_or_die)
        with pytest.raises(KilledError):
            train_here(config)
    assert read_best(tmp_path)["step"] == 1
    # Of a step whose state was not saved, by a command with other --checkpoint-steps.
    stray = Journal(config.output)
    stray.note("training", 3, {"loss": 1.0})
    stray.write(3_000)
    give_values(monkeypatch, [0.3, 0.4] if calls else [0.2, 0.3, 0.4])
    train_here(config)
    assert read_best(tmp_path) == {"step": 2, "metric": "top1_error", "value": 0.2}
    steps = [(line["kind"], line["step"]) for line in read_journal(config.output)]
    assert steps == [(kind, step) for step in (1, 2, 3, 4) for kind in ("training", "validation")]
