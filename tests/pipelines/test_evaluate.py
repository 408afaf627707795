"""Is average precision what it should be, from a model and from the tables of a run?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overfeat.checkpoint import read_config
from overfeat.predict_config import PredictConfig
from pipelines.average_precision import FoundBox, KnownImage, measure
from pipelines.errors import InputError
from pipelines.evaluate import EvaluateConfig, evaluate, read_truth
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.index import INDEX_VERSION
from pipelines.shards.samples import ObjectMetadata, Sample, SampleMetadata
from tests.builders import (
    CLASSES,
    annotate_without_ray,
    encode_picture,
    make_checkpoint,
    make_config,
    make_picture,
    open_model,
    pack_shards,
    run_command,
)

BOX = (10.0, 20.0, 110.0, 120.0)
FAR = (200.0, 200.0, 260.0, 260.0)


def make_truth(*images):
    """Samples with objects given as (label, box)."""
    return [
        KnownImage(
            key=f"test-{number}",
            image=b"",
            boxes_xyxy=np.array([box for _, box in objects], np.float32).reshape(-1, 4),
            labels=np.array([label for label, _ in objects], np.int64),
        )
        for number, objects in enumerate(images)
    ]


def find(image, label, box, evidence=1.0):
    return FoundBox(image=image, label_id=label, rank_by=evidence, box_xyxy=box)


def find_truth(samples):
    return [
        find(image, int(label), tuple(box))
        for image, sample in enumerate(samples)
        for label, box in zip(sample.labels, sample.boxes_xyxy.tolist(), strict=True)
    ]


def test_the_truth_itself_has_a_precision_of_one():
    samples = make_truth([(0, BOX), (1, FAR)], [(1, BOX)], [])
    found = measure(samples, find_truth(samples), ["ant", "bee"])
    assert (found.map_50, found.map_50_95, found.recall_50) == pytest.approx((1.0, 1.0, 1.0))
    assert found.per_class_50 == pytest.approx({"ant": 1.0, "bee": 1.0})
    assert (found.images, found.objects, found.boxes) == (3, 3, 3)


def test_nothing_found_has_a_precision_of_zero():
    samples = make_truth([(0, BOX)])
    found = measure(samples, [], ["ant", "bee"])
    assert (found.map_50, found.map_50_95, found.recall_50, found.boxes) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("is_unboxed", [False, True])
def test_where_there_is_nothing_to_find_the_precision_is_zero(is_unboxed):
    samples = [replace(sample, is_unboxed=is_unboxed) for sample in make_truth([], [])]
    found = measure(samples, [find(0, 0, BOX)], ["ant", "bee"])
    assert (found.map_50, found.recall_50, found.per_class_50) == (0.0, 0.0, {})
    assert (found.images, found.objects, found.boxes) == ((0, 0, 0) if is_unboxed else (2, 0, 1))


def test_one_object_of_two_is_found_at_half_the_recalls():
    samples = make_truth([(0, BOX)], [(0, BOX)])
    found = measure(samples, [find(0, 0, BOX)], ["ant"])
    # Precision is 1 at the recalls 0, 0.01, ... 0.5 and 0 at the fifty above.
    assert found.map_50 == pytest.approx(51 / 101)
    assert found.recall_50 == 0.5


def test_a_class_without_objects_does_not_count():
    samples = make_truth([(0, BOX)])
    found = measure(samples, [find(0, 0, BOX), find(0, 1, FAR)], ["ant", "bee"])
    assert found.map_50 == pytest.approx(1.0)
    assert found.per_class_50 == pytest.approx({"ant": 1.0})


def test_the_wrong_class_is_not_found():
    samples = make_truth([(0, BOX)])
    assert measure(samples, [find(0, 1, BOX)], ["ant", "bee"]).map_50 == 0.0


def test_evidence_ranks():
    samples = make_truth([(0, BOX)])
    right_first = [find(0, 0, BOX, 5.0), find(0, 0, FAR, 4.0)]
    wrong_first = [find(0, 0, BOX, 4.0), find(0, 0, FAR, 5.0)]
    assert measure(samples, right_first, ["ant"]).map_50 == pytest.approx(1.0)
    assert measure(samples, wrong_first, ["ant"]).map_50 == pytest.approx(0.5)


def test_a_second_box_on_the_same_object_is_a_mistake():
    samples = make_truth([(0, BOX)], [(0, BOX)])
    found = [find(0, 0, BOX, 3.0), find(0, 0, BOX, 2.0), find(1, 0, BOX, 1.0)]
    # Precision 1 up to a recall of 0.5, then 2/3.
    assert measure(samples, found, ["ant"]).map_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_loose_box_is_found_at_the_low_thresholds_alone():
    samples = make_truth([(0, (0.0, 0.0, 100.0, 100.0))])
    found = measure(samples, [find(0, 0, (0.0, 0.0, 100.0, 62.0))], ["ant"])
    assert found.map_50 == pytest.approx(1.0)
    assert found.map_50_95 == pytest.approx(0.3)  # 0.50, 0.55 and 0.60


FLAGS = ["crowds", "difficult"]


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("extra", [[], [BOX], [BOX, BOX]])
def test_an_object_that_is_ignored_may_be_found_or_missed_or_found_twice(flag, extra):
    """Two others, of which one is found behind a mistake: its precision is 1/2 up to 0.5."""
    samples = make_truth([(0, BOX), (0, FAR)], [(0, FAR)])
    samples[0] = replace(samples[0], **{flag: np.array([True, False])})
    found = [find(1, 0, BOX, 4.0), find(0, 0, FAR, 3.0)]
    found += [find(0, 0, box, 5.0) for box in extra]
    reached = measure(samples, found, ["ant"])
    assert reached.map_50 == pytest.approx(51 / 101 / 2)
    assert (reached.recall_50, reached.objects) == (0.5, 2)


@pytest.mark.parametrize(("flag", "precision"), [("crowds", 1.0), ("difficult", 0.5)])
def test_a_part_of_a_crowd_is_no_mistake_and_a_part_of_a_difficult_object_is_one(flag, precision):
    samples = make_truth([(0, BOX), (0, FAR)])
    samples[0] = replace(samples[0], **{flag: np.array([True, False])})
    part = (10.0, 20.0, 40.0, 50.0)
    found = [find(0, 0, part, 5.0), find(0, 0, FAR, 3.0)]
    assert measure(samples, found, ["ant"]).map_50 == pytest.approx(precision)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_class_whose_objects_are_all_ignored_does_not_count(flag):
    samples = make_truth([(0, BOX), (1, FAR)])
    samples[0] = replace(samples[0], **{flag: np.array([False, True])})
    found = measure(samples, [find(0, 0, BOX), find(0, 1, FAR)], ["ant", "bee"])
    assert found.per_class_50 == pytest.approx({"ant": 1.0})


def test_a_box_on_an_image_where_nobody_drew_boxes_is_no_mistake():
    samples = make_truth([], [(0, BOX)], [])
    found = [find(0, 0, BOX, 5.0), find(1, 0, BOX, 4.0)]
    assert measure(samples, found, ["ant"]).map_50 == pytest.approx(0.5)
    samples[0] = replace(samples[0], is_unboxed=True)
    reached = measure(samples, found, ["ant"])
    assert reached.map_50 == pytest.approx(1.0)
    assert (reached.images, reached.objects, reached.boxes) == (2, 1, 1)


@pytest.mark.parametrize(
    ("label", "objects", "is_unboxed"), [(0, 0, True), (None, 0, False), (0, 1, False)]
)
def test_what_is_known_of_a_sample_has_its_flags(label, objects, is_unboxed):
    hard = ObjectMetadata(label=1, box_xyxy=BOX, difficult=True)
    many = ObjectMetadata(label=0, box_xyxy=FAR, crowd=True)
    metadata = SampleMetadata(
        width=300, height=300, original_name="", label=label, objects=(hard, many) * objects
    )
    known = KnownImage.of("a", b"", metadata)
    assert known.difficult.tolist() == [True, False] * objects
    assert known.crowds.tolist() == [False, True] * objects
    assert known.is_unboxed == is_unboxed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Pictures whose objects are every other box that a model finds."""
    folder = tmp_path_factory.mktemp("scenes")
    checkpoint = make_checkpoint(folder / "weights", scales=("245x245", "281x317"))
    model = open_model(make_config(str(folder), checkpoint))
    samples = []
    (folder / "in").mkdir()
    for number in range(5):
        key, image = f"test-{number}", encode_picture(make_picture(number))
        (folder / "in" / f"{key}.jpg").write_bytes(image)
        found = model.detect(
            decode_image(image, ImageLimits()), PredictConfig(score_threshold=0.25)
        )
        # Every other box is no object: then it matters how boxes are ranked.
        objects = tuple(
            ObjectMetadata(label=int(label), box_xyxy=tuple((box + 1).tolist()))
            for label, box in zip(found.label_ids[::2], found.boxes_xyxy[::2], strict=True)
        )
        metadata = SampleMetadata(width=128, height=96, original_name=key, objects=objects)
        samples.append(Sample(key=key, image=image, extension="jpg", metadata=metadata))
    shards = pack_shards(str(folder), split="test", samples=samples, samples_per_shard=10)
    index = {"version": INDEX_VERSION, "classes": list(CLASSES), "recipes": {}, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def write_run(
    scenes, output, *, slices=None, classes=CLASSES, tasks=("classify", "detect"), images="in"
):
    """A run over the pictures, each in a slice of its own."""
    config = make_config(
        str(scenes),
        str(scenes / "weights"),
        images=str(scenes / images),
        slice_size=1,
        tasks=tasks,
    )
    annotate_without_ray(config, str(output), slices=slices)
    run = {"settings": {"tasks": list(tasks)}, "model": {"classes": list(classes)}}
    Path(output, "run.json").write_text(json.dumps(run))
    return str(output)


def make_evaluate_config(scenes, **changes):
    settings = {"weights": (str(scenes / "weights"),), "score_threshold": 0.25}
    return EvaluateConfig(shards=str(scenes), **settings | changes)


def test_the_tables_of_a_run_and_its_model_measure_the_same(scenes, tmp_path):
    by_model = evaluate(make_evaluate_config(scenes))
    by_tables = evaluate(make_evaluate_config(scenes, output=write_run(scenes, tmp_path)))
    assert by_tables == by_model
    assert 0.2 < by_model.map_50 < 0.95
    assert by_model.images == 5
    assert by_model.boxes > by_model.objects > 10


def test_a_run_over_the_shards_themselves_is_measured(scenes, tmp_path):
    output = write_run(scenes, tmp_path, images="*.tar")
    by_tables = evaluate(make_evaluate_config(scenes, output=output))
    assert by_tables == evaluate(make_evaluate_config(scenes))


def test_a_limit_takes_the_first_samples(scenes, tmp_path):
    output = write_run(scenes, tmp_path)
    by_model = evaluate(make_evaluate_config(scenes, limit=2))
    assert by_model.images == 2
    assert evaluate(make_evaluate_config(scenes, limit=2, output=output)) == by_model


def refusal(config):
    with pytest.raises(InputError) as error:
        evaluate(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_split_on_which_no_boxes_are_drawn_is_refused(tmp_path):
    metadata = SampleMetadata(width=128, height=96, original_name="a", label=1)
    sample = Sample(
        key="a", image=encode_picture(make_picture(0)), extension="jpg", metadata=metadata
    )
    shards = pack_shards(str(tmp_path), split="test", samples=[sample], samples_per_shard=10)
    index = {"version": INDEX_VERSION, "classes": list(CLASSES), "recipes": {}, "shards": shards}
    (tmp_path / "index.json").write_text(json.dumps(index))
    words = "on none of the 1 samples of split test are boxes drawn"
    assert words in refusal(EvaluateConfig(shards=str(tmp_path)))


def test_a_missing_run_is_refused(scenes, tmp_path):
    assert "no run there" in refusal(make_evaluate_config(scenes, output=str(tmp_path)))


def test_a_run_that_is_not_done_is_refused(scenes, tmp_path):
    output = write_run(scenes, tmp_path, slices=[0, 1, 2, 3])
    sentence = refusal(make_evaluate_config(scenes, output=output))
    assert "0 images named like the sample test-4" in sentence


def test_a_run_without_boxes_is_refused(scenes, tmp_path):
    output = write_run(scenes, tmp_path, tasks=("classify",))
    assert "without boxes" in refusal(make_evaluate_config(scenes, output=output))


def test_a_run_of_other_classes_is_refused(scenes, tmp_path):
    output = write_run(scenes, tmp_path, classes=("dog", "bee", "cat"))
    assert "same names in the same order" in refusal(make_evaluate_config(scenes, output=output))


def test_a_model_of_other_classes_is_refused(scenes, tmp_path):
    other = make_checkpoint(tmp_path / "other", classes=("bee", "ant", "cat"))
    assert "same names in the same order" in refusal(make_evaluate_config(scenes, weights=(other,)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score_threshold": 0.0}, "--score-threshold: received 0.0"),
        ({"limit": 0}, "--limit: received 0"),
        ({"threads": 0}, "--threads: received 0"),
        ({"weights": ()}, "--weights: received none"),
        ({"weights": ("a", "b"), "record": True}, "--record: numbers of a run or committee"),
        ({"output": "out", "record": True}, "--record: numbers of a run or committee"),
    ],
)
def test_a_setting_out_of_range_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        EvaluateConfig(shards="scenes", **changes)


def test_a_committee_is_measured_as_one_model(scenes):
    weights = str(scenes / "weights")
    alone, twice = (
        evaluate(make_evaluate_config(scenes, weights=names, limit=2))
        for names in ((weights,), (weights, weights))
    )
    # Twice the windows at the same places: other evidence, much the same boxes.
    assert twice.map_50 == pytest.approx(alone.map_50, abs=0.2)


def test_numbers_are_recorded_beside_those_of_other_splits(scenes, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "weights")
    config = make_evaluate_config(scenes, weights=(checkpoint,), record=True)
    evaluation = evaluate(config)
    recorded = read_config(Path(checkpoint)).provenance["evaluations"]["test"]
    assert recorded["map_50"] == evaluation.map_50
    assert recorded["score_threshold"] == 0.25
    assert evaluate(replace(config, record=False)) == evaluation


def test_the_command_tells_its_numbers_as_json_and_for_people(scenes):
    flags = ["evaluate", "--shards", scenes, "--weights", scenes / "weights"]
    flags += ["--score-threshold", 0.25]
    expected = evaluate(make_evaluate_config(scenes))
    told = json.loads(run_command(*flags, "--json").out)
    assert told["map_50"] == expected.map_50
    assert told["per_class_50"] == expected.per_class_50
    ended = run_command(*flags)
    assert ended.code == 0
    assert f"mAP at IoU 0.50       {expected.map_50:.3f}" in ended.out
    assert all(f"  {name} " in ended.out for name in expected.per_class_50)


def test_samples_of_the_shards_are_those_that_were_packed(scenes):
    assert [sample.key for sample in read_truth(str(scenes), "test")[0]] == [
        f"test-{number}" for number in range(5)
    ]
