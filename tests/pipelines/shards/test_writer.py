from __future__ import annotations

import gc
import hashlib
import io
import json
import tarfile
import warnings
from dataclasses import replace

import pytest
import webdataset
from PIL import Image

from pipelines.errors import InputError
from pipelines.shards.digit_scenes import TEST_SEED, make_samples
from pipelines.shards.samples import Sample, SampleMetadata, decode_metadata
from pipelines.shards.writer import ShardsConfig, pack_shards, write_shards


def write_small(folder, **changes):
    config = ShardsConfig(output=str(folder), split="test", count=5, samples_per_shard=2)
    return write_shards(replace(config, **changes))


def read_with_webdataset(folder):
    with warnings.catch_warnings():
        # webdataset leaves the files it opened to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        records = list(webdataset.WebDataset(shards, shardshuffle=False))
        gc.collect()
    return records


def read_index(folder):
    return json.loads((folder / "index.json").read_bytes())


def build_sample(key):
    metadata = SampleMetadata(width=1, height=1, original_name=key)
    return Sample(key=key, image=b"image of " + key.encode(), extension="png", metadata=metadata)


def test_webdataset_alone_reads_every_sample_back(tmp_path):
    write_small(tmp_path)

    read = read_with_webdataset(tmp_path)

    expected = list(make_samples(split="test", seed=TEST_SEED, count=5))
    assert [record["__key__"] for record in read] == [sample.key for sample in expected]
    for record, sample in zip(read, expected, strict=True):
        assert record["jpg"] == sample.image
        assert decode_metadata(record["json"]) == sample.metadata
        size = Image.open(io.BytesIO(record["jpg"])).size
        assert size == (sample.metadata.width, sample.metadata.height)


def test_keys_with_folders_survive_webdataset(tmp_path):
    keys = ["n01/a-1", "n01/a_2", "n02/a-1"]
    pack_shards(str(tmp_path), split="train", samples=map(build_sample, keys), samples_per_shard=9)

    read = read_with_webdataset(tmp_path)

    assert [(record["__key__"], record["png"]) for record in read] == [
        (key, b"image of " + key.encode()) for key in keys
    ]


def test_equal_input_gives_equal_bytes(tmp_path):
    write_small(tmp_path / "a")
    write_small(tmp_path / "b")

    names = sorted(path.name for path in (tmp_path / "a").glob("*.*"))
    assert names == [
        "index.json",
        "test-000000.tar",
        "test-000001.tar",
        "test-000002.tar",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_of_the_machine_is_in_a_shard(tmp_path):
    write_small(tmp_path)

    with tarfile.open(tmp_path / "test-000000.tar") as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}

    assert facts == {(0, 0, 0, "", "", 0o644)}


def test_the_index_counts_and_digests_every_shard(tmp_path):
    report = write_small(tmp_path)

    index = read_index(tmp_path)
    assert index["classes"] == [str(digit) for digit in range(10)]
    assert [shard["samples"] for shard in index["shards"]] == [2, 2, 1]
    for shard in index["shards"]:
        data = (tmp_path / shard["name"]).read_bytes()
        assert shard["bytes"] == len(data)
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
    assert (report.shards, report.samples, report.was_there) == (3, 5, False)
    assert report.bytes == sum(shard["bytes"] for shard in index["shards"])


def test_the_same_command_again_does_nothing(tmp_path, monkeypatch):
    first = write_small(tmp_path)
    monkeypatch.setattr("pipelines.shards.digit_scenes.make_samples", None)

    assert write_small(tmp_path) == replace(first, was_there=True)


def test_the_same_split_made_otherwise_is_refused(tmp_path):
    write_small(tmp_path)

    with pytest.raises(InputError, match=r"seed 2013 there, 7 here"):
        write_small(tmp_path, seed=7)


def test_another_split_joins_the_same_folder(tmp_path):
    write_small(tmp_path)
    write_small(tmp_path, split="train", count=2, augment=1.0)

    index = read_index(tmp_path)
    assert sorted(index["recipes"]) == ["test", "train"]
    assert [shard["name"] for shard in index["shards"]] == [
        "test-000000.tar",
        "test-000001.tar",
        "test-000002.tar",
        "train-000000.tar",
    ]


def test_other_classes_in_the_folder_are_refused(tmp_path):
    index = {"version": 1, "classes": ["cat"], "recipes": {}, "shards": []}
    (tmp_path / "index.json").write_text(json.dumps(index))

    with pytest.raises(InputError, match="1 other classes than the 10"):
        write_small(tmp_path)


def test_an_index_of_another_version_is_refused(tmp_path):
    (tmp_path / "index.json").write_text('{"version": 99}')

    with pytest.raises(InputError, match="version 99, expected 1"):
        write_small(tmp_path)


def test_a_killed_run_leaves_whole_shards_and_no_index_and_can_be_repeated(tmp_path):
    config = ShardsConfig(output=str(tmp_path), split="test", count=5, samples_per_shard=2)

    def stop_at_third(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(config, progress=stop_at_third)
    assert [path.name for path in tmp_path.glob("*.*") if path.is_file()] == ["test-000000.tar"]

    write_shards(config)
    fresh = tmp_path / "fresh"
    write_small(fresh)
    assert read_index(tmp_path) == read_index(fresh)


def test_shards_that_a_killed_run_left_are_named(tmp_path, caplog):
    (tmp_path / "test-000003.tar").write_bytes(b"from a run with more samples")

    write_small(tmp_path)

    assert "1 shards are not in index.json, test-000003.tar for one" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]"])
def test_an_index_of_something_else_is_refused(text, tmp_path):
    (tmp_path / "index.json").write_text(text)

    with pytest.raises(InputError, match=r"index\.json: .*choose another output"):
        write_small(tmp_path)


def test_progress_counts_every_sample(tmp_path):
    calls = []
    config = ShardsConfig(output=str(tmp_path), split="test", count=3, samples_per_shard=2)

    write_shards(config, progress=lambda done, total: calls.append((done, total)))

    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_key_that_comes_twice_is_refused(tmp_path):
    samples = [build_sample("a"), build_sample("b"), build_sample("a")]

    with pytest.raises(InputError, match="two samples have the key a"):
        pack_shards(str(tmp_path), split="train", samples=samples, samples_per_shard=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"samples_per_shard": 0}, "samples_per_shard is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"augment": 1.5}, "augment is 1.5"),
        ({"split": "test", "augment": 0.5}, "expected 'train'"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ShardsConfig(output="x", **changes)
