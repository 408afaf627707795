"""Which WordNet id is which label of ImageNet? Told by files of the challenge's development kit."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Final

from pipelines.errors import InputError
from pipelines.shards.sources.layout import find_file, read_lines

_DEVKITS: Final = (
    "",
    "devkit/data/",
    "ILSVRC/devkit/data/",
    "ILSVRC2014_devkit/data/",
    "ILSVRC2015_devkit/data/",
)


def place_in_devkit(name: str) -> tuple[str, ...]:
    """Name the places where a file of the development kit may lie.

    Args:
        name: Of the file.

    Returns:
        Paths relative to the data set's folder.
    """
    return tuple(f"{folder}{name}" for folder in _DEVKITS)


def find_cls_loc_ids(root: str, folders: Iterable[str]) -> tuple[str, ...]:
    """Find the WordNet ids of the 1000 classes, in the order of the shipped labels.

    Args:
        root: Of the data set.
        folders: Names of the training folders; only looked at where no list is there.

    Returns:
        1000 ids; that of label 0 (ILSVRC2012_ID 1, "kit fox") is n02119789.

    Raises:
        InputError: Neither a list nor all training folders are there.
    """
    if uri := find_file(root, place_in_devkit("map_clsloc.txt")):
        return _read_numbered_ids(uri, count=1000)
    if uri := find_file(root, ("LOC_synset_mapping.txt", "../LOC_synset_mapping.txt")):
        return _order_ids(sorted(line.split()[0] for line in read_lines(uri)), uri)
    return _order_ids(sorted(set(folders)), f"--input {root}")


def read_det_classes(root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the 200 classes of the detection challenge.

    Args:
        root: Of the data set.

    Returns:
        Names and WordNet ids, in the order of the challenge's numbers.

    Raises:
        InputError: The list of the development kit is not there.
    """
    uri = find_file(root, place_in_devkit("map_det.txt"))
    if uri is None:
        raise InputError(
            f"--input {root}: no map_det.txt there or in devkit/data/; copy it from the "
            "development kit: it names the 200 classes"
        )
    ids = _read_numbered_ids(uri, count=200)
    names = {line.split()[0]: line.split(maxsplit=2)[2] for line in read_lines(uri)}
    return tuple(names[one].replace("_", " ") for one in ids), ids


# Reads lines such as `n02119789 1 kit_fox` in the order of their numbers.
def _read_numbered_ids(uri: str, *, count: int) -> tuple[str, ...]:
    try:
        numbered = {int(number): wnid for wnid, number, _ in map(_split_line, read_lines(uri))}
    except ValueError as error:
        raise InputError(f"{uri}: expected lines such as n02119789 1 kit_fox ({error})") from error
    if sorted(numbered) != list(range(1, count + 1)):
        raise InputError(f"{uri}: {len(numbered)} numbers, expected 1 to {count}")
    return tuple(numbered[number] for number in range(1, count + 1))


def _split_line(line: str) -> list[str]:
    return line.split(maxsplit=2)


# Puts sorted ids in the order of the shipped labels, whose table knows their sorted places.
def _order_ids(sorted_ids: Sequence[str], where: str) -> tuple[str, ...]:
    text = (resources.files("overfeat") / "data" / "imagenet_classes.csv").read_text("utf-8")
    rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row["nyu_index"]))
    if len(sorted_ids) != len(rows):
        raise InputError(
            f"{where}: {len(sorted_ids)} WordNet ids, expected {len(rows)}; put map_clsloc.txt of "
            "the development kit or LOC_synset_mapping.txt there, or pack a part of the classes "
            "with --source class-folders"
        )
    return tuple(sorted_ids[int(row["sorted_wnid_index"])] for row in rows)
