"""Is what speaks of all splits changed without a loss, when two splits are packed at once?"""

from __future__ import annotations

import pytest

from pipelines import storage
from pipelines.errors import StorageError
from pipelines.shards.places import change
from tests.pipelines.shards.packed import pack, read_index, read_rejects
from tests.pipelines.shards.pictures import make_jpeg, write


def build_folders(root):
    """Four images of two classes, one of them damaged, for each of two splits."""
    for split in ("train", "val"):
        for seed in range(4):
            write(root / split / "ab"[seed % 2] / f"{split}{seed}.jpg", make_jpeg(20, 10, seed))
        write(root / split / "a" / f"{split}2.jpg", make_jpeg()[:200])
    return root


@pytest.mark.parametrize("name", ["index.json", "rejects.parquet"])
def test_a_split_that_ends_while_another_one_is_entered_is_not_lost(name, tmp_path, monkeypatch):
    data, output = build_folders(tmp_path / "in"), tmp_path / "out"
    write_bytes, late = storage.write_bytes, []

    def write_late(uri, *args, **options):
        if uri.endswith(name) and not late:
            late.append(uri)
            pack("class-folders", data, output, split="val")
        write_bytes(uri, *args, **options)

    monkeypatch.setattr(storage, "write_bytes", write_late)
    pack("class-folders", data, output, split="train")

    assert late
    assert {shard["split"] for shard in read_index(output)["shards"]} == {"train", "val"}
    assert set(read_index(output)["recipes"]) == {"train", "val"}
    assert {name[:4] for name in read_rejects(output)} == {"a/tr", "a/va"}


def test_a_change_is_made_again_of_what_stands_there_by_then(tmp_path):
    place, made = tmp_path / "sum", []

    def add_one():
        total = int(place.read_text()) if place.exists() else 0
        made.append(total)
        if len(made) < 3:
            place.write_text(str(total + 10))
        return str(total + 1).encode()

    change(str(tmp_path), str(place), add_one)

    assert place.read_text() == "21"
    assert made == [0, 10, 20]


def test_changes_without_end_end_in_one_sentence(tmp_path):
    place, made = tmp_path / "sum", []

    def be_late():
        made.append(None)
        place.write_text(str(len(made)))
        return b"mine"

    with pytest.raises(StorageError, match="others change it without end; run the same command"):
        change(str(tmp_path), str(place), be_late)
