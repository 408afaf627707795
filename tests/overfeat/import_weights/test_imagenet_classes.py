"""The 1000 labels in the two orders in which published networks tell them."""

from __future__ import annotations

from collections import Counter

import pytest

from overfeat.import_weights import read_imagenet_classes


def test_the_labels_are_in_the_order_of_the_released_networks():
    labels = read_imagenet_classes()
    assert labels == read_imagenet_classes("ilsvrc2012")
    assert len(labels) == 1000
    assert labels[0].startswith("kit fox")
    assert labels[1].startswith("English setter")
    assert labels[7].startswith("Egyptian cat")
    assert labels[217].startswith("wombat")
    assert labels[218].startswith("revolver")
    assert labels[781] == "maillot"
    assert labels[976] == "maillot, tank suit"
    assert labels[999].startswith("dumbbell")


def test_the_other_order_is_that_of_caffe_and_torchvision():
    labels = read_imagenet_classes("sorted-wnid")
    known = {
        0: "tench",
        1: "goldfish",
        207: "golden retriever",
        281: "tabby",
        285: "Egyptian cat",
        388: "giant panda",
        817: "sports car",
        954: "banana",
        999: "toilet tissue",
    }
    assert len(labels) == 1000
    assert {place: labels[place].split(",")[0] for place in known} == known


@pytest.mark.parametrize(
    ("order", "places"), [("ilsvrc2012", [428, 544]), ("sorted-wnid", [134, 517])]
)
def test_the_crane_is_the_only_label_that_is_there_twice(order, places):
    """The bird comes first in both orders."""
    labels = read_imagenet_classes(order)
    assert [label for label, count in Counter(labels).items() if count > 1] == ["crane"]
    assert [place for place, label in enumerate(labels) if label == "crane"] == places


def test_both_orders_have_the_same_labels():
    assert sorted(read_imagenet_classes()) == sorted(read_imagenet_classes("sorted-wnid"))
