"""Several networks that answer as one."""

from __future__ import annotations

import numpy as np
import pytest

from overfeat import Canvas, GreedyMerge, LocalizeConfig, PredictConfig
from overfeat.predictor import Predictor
from overfeat.zoo import ALEXNET_2012, FAST, TINY
from tests.overfeat import literal
from tests.overfeat.builders import (
    ALWAYS,
    NEVER,
    assert_equal_detections,
    describe,
    make_image,
    make_member,
)

LADDER = (Canvas(245, 245), Canvas(281, 317))
COMMITTEES = {
    "seeds": [{"seed": 1}, {"seed": 2}, {"seed": 3}],
    "ladders": [{"scales": LADDER}, {"seed": 2, "scales": LADDER[1:]}],
    "architectures": [
        {"architecture": TINY, "scales": LADDER},
        {"architecture": FAST, "scales": (Canvas(263, 279),)},
        {"architecture": ALEXNET_2012, "scales": (Canvas(259, 243),)},
    ],
    "heads": [{"regressor": "single", "background": True}, {"context": True, "seed": 4}],
}


def make_members(name):
    """Networks with ladders of their own, none larger than needed."""
    return [make_member(**{"scales": LADDER[:1]} | fields) for fields in COMMITTEES[name]]


def by_class(classification):
    return classification.scores[np.argsort(classification.label_ids)]


@pytest.mark.parametrize("name", sorted(COMMITTEES))
@pytest.mark.parametrize("flips", [False, True])
def test_the_scores_of_a_committee_are_the_mean_of_its_networks(name, flips):
    """Each network counts alike, however many scales it has."""
    members, image = make_members(name), make_image(200, 240)
    config = PredictConfig(flips=flips)
    alone = [by_class(Predictor([member]).classify(image, config)) for member in members]
    assert not np.allclose(alone[0], alone[1], atol=0.05)
    found = Predictor(members).classify(image, config)
    assert np.allclose(by_class(found), np.mean(alone, axis=0), atol=1e-6)
    assert (np.diff(found.scores) <= 0).all()


def test_each_network_of_a_committee_looks_through_its_own_windows():
    """Windows one by one: those of `tiny`, 221 wide, and of `alexnet-2012`, 227 wide."""
    members, image = make_members("architectures"), make_image(200, 240)
    windows = [literal.look(member, image, member.config.ladder) for member in members]
    means = [literal.average_maxima(each, 3) for each in windows]
    found = Predictor(members).classify(image)
    assert np.allclose(by_class(found), np.mean(means, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", sorted(COMMITTEES))
def test_the_windows_of_all_networks_become_candidates_for_detection(name):
    members, image = make_members(name), make_image(200, 240)
    config = PredictConfig(score_threshold=0.5, merge=NEVER, max_boxes=10_000)
    found = Predictor(members).detect(image, config)
    rows = []
    for member in members:
        alone = Predictor([member]).detect(image, config)
        assert len(alone) > 0
        columns = alone.label_ids, alone.scores, *alone.boxes_xyxy.T
        rows += zip(*(column.tolist() for column in columns), strict=True)
    columns = found.label_ids, found.scores, *found.boxes_xyxy.T
    assert sorted(rows) == sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_boxes_of_several_networks_merge():
    members, image = make_members("ladders"), make_image(200, 240)
    config = PredictConfig(score_threshold=0.5, merge=ALWAYS)
    alone = [Predictor([member]).detect(image, config) for member in members]
    found = Predictor(members).detect(image, config)
    for rank, label in enumerate(found.label_ids):
        own = [each.evidence[each.label_ids == label].sum() for each in alone]
        best = max(each.scores[each.label_ids == label].max(initial=0) for each in alone)
        assert found.evidence[rank] == pytest.approx(sum(own), rel=1e-5)
        assert found.scores[rank] == pytest.approx(best)


def test_the_views_of_all_networks_speak_in_localization():
    """Each view of each network with its own best classes; classes merged over all of them."""
    members, image = make_members("ladders"), make_image(200, 240)
    localize = LocalizeConfig(classes_per_scale=1, merge=GreedyMerge(threshold=1e6))
    found = Predictor(members).localize(image, PredictConfig(localize=localize))
    boxes = {}
    for member in members:
        windows = literal.look(member, image, member.config.ladder)
        for view in {window.view for window in windows}:
            own = [window for window in windows if window.view == view]
            best = np.max([window.probabilities for window in own], axis=0).argmax()
            boxes.setdefault(best, []).extend(
                (window.boxes[best], window.probabilities[best]) for window in own
            )
    assert sorted(found.label_ids.tolist()) == sorted(boxes)
    for rank, label in enumerate(found.label_ids):
        (merged,) = literal.merge_pairs(*zip(*boxes[label], strict=True), threshold=1e6)
        assert np.allclose(found.boxes_xyxy[rank], merged.box, atol=0.05)
        assert found.scores[rank] == pytest.approx(merged.best, abs=1e-5)


def test_twice_the_same_network_is_as_sure_as_once():
    fields = {"background": True, "regressor": "single"}
    image, config = make_image(200, 240), PredictConfig(scales=LADDER, flips=True)
    once = Predictor([make_member(**fields)])
    twice = Predictor([make_member(**fields), make_member(**fields)])
    expected, found = once.classify(image, config), twice.classify(image, config)
    assert np.array_equal(found.label_ids, expected.label_ids)
    assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("merge", [ALWAYS, GreedyMerge()])
def test_twice_the_same_network_has_twice_the_evidence(merge):
    fields = {"background": True, "regressor": "single"}
    image = make_image(200, 240)
    config = PredictConfig(scales=LADDER, score_threshold=0.4, merge=merge)
    once = Predictor([make_member(**fields)]).detect(image, config)
    twice = Predictor([make_member(**fields), make_member(**fields)]).detect(image, config)
    assert len(once) > 0
    assert np.array_equal(twice.label_ids, once.label_ids)
    assert np.array_equal(twice.scores, once.scores)
    assert np.array_equal(twice.n_windows, 2 * once.n_windows)
    assert np.allclose(twice.evidence, 2 * once.evidence, rtol=1e-6)
    assert np.allclose(twice.boxes_xyxy, once.boxes_xyxy, atol=1e-3)


def test_a_committee_of_one_is_its_network(model):
    image, config = make_image(200, 240), PredictConfig(scales=LADDER, score_threshold=0.4)
    again = Predictor(list(model.members))
    assert_equal_detections(again.detect(image, config), model.detect(image, config))


def test_an_image_is_kept_as_large_as_the_largest_network_needs():
    members, image = make_members("architectures"), make_image(900, 1100)
    # 281x317 fits 900x1100 as 259x317, 263x279 as 228x279, 259x243 as 199x243.
    for ordered in (members, members[::-1]):
        prepared = Predictor(ordered).prepare(image, PredictConfig())
        assert prepared.pixels.shape == (259, 317, 3)


def test_the_class_map_of_a_committee_is_that_of_its_first_network():
    members, image = make_members("architectures"), make_image(200, 240)
    (first, second) = Predictor(members).map_classes(image)
    expected = Predictor(members[:1]).map_classes(image)
    assert np.array_equal(first.probabilities, expected[0].probabilities)
    assert np.array_equal(second.windows_xyxy, expected[1].windows_xyxy)


@pytest.mark.parametrize("classes", [("ant", "bee"), ("bee", "ant", "cat"), ("ant", "bee", "cow")])
def test_networks_of_other_classes_are_refused(classes):
    members = [make_member(), make_member(seed=2), make_member(classes=classes)]
    with pytest.raises(ValueError, match=r"committee: checkpoint 3 has other classes") as error:
        Predictor(members)
    describe(error)


def test_a_model_needs_a_network():
    with pytest.raises(ValueError, match="expected at least one") as error:
        Predictor([])
    describe(error)


def test_features_of_a_committee_are_refused():
    model, image = Predictor(make_members("seeds")), make_image(230, 230)
    with pytest.raises(ValueError, match="a committee has no common layers") as error:
        model.extract(image)
    describe(error)
    config = PredictConfig()
    with pytest.raises(ValueError, match="a committee has no common layers") as error:
        model.predict([model.prepare(image, config)], config, ("classify", "features"))
    describe(error)
