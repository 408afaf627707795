from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import storage
from pipelines.errors import InputError, StorageError
from pipelines.evaluate import read_truth
from pipelines.shards import run
from pipelines.shards.config import ShardsConfig
from pipelines.shards.digit_scenes import TEST_SEED, make_sample
from pipelines.shards.index import INDEX_VERSION
from pipelines.shards.packing import pack_shard
from pipelines.shards.run import write_shards
from pipelines.shards.samples import decode_metadata
from pipelines.shards.sources.voc import CLASSES
from tests.pipelines.shards.imagenet_files import build_det
from tests.pipelines.shards.packed import (
    digest_shards,
    pack,
    read_index,
    read_metadata,
    read_rejects,
    read_with_webdataset,
)
from tests.pipelines.shards.pictures import make_jpeg, write
from tests.pipelines.shards.voc_files import build_voc2007

ROOT = Path(__file__).parents[3]


def build_folders(root):
    """Eight images of two classes, one of them damaged: four shards of two."""
    for seed in range(8):
        write(root / "ab"[seed % 2] / f"{seed}.jpg", make_jpeg(20, 10, seed))
    write(root / "a" / "6.jpg", make_jpeg()[:200])
    return root


def pack_folders(data, output, **settings):
    return pack("class-folders", data, output, **{"samples_per_shard": 2, **settings})


def pack_scenes(folder, **changes):
    config = ShardsConfig(output=str(folder), split="test", count=3, samples_per_shard=2, workers=1)
    return write_shards(replace(config, **changes))


def count_packing(monkeypatch):
    """The numbers of the shards that are packed from now on."""
    packed = []

    def count(number, config):
        packed.append(number)
        return pack_shard(number, config)

    monkeypatch.setattr(run, "pack_shard", count)
    return packed


def test_webdataset_alone_reads_every_scene_back(tmp_path):
    pack_scenes(tmp_path)

    read = read_with_webdataset(tmp_path)

    expected = [make_sample(split="test", seed=TEST_SEED, index=index) for index in range(3)]
    assert [record["__key__"] for record in read] == [sample.key for sample in expected]
    for record, sample in zip(read, expected, strict=True):
        assert record["jpg"] == sample.image
        assert decode_metadata(record["json"]) == sample.metadata
        size = Image.open(io.BytesIO(record["jpg"])).size
        assert size == (sample.metadata.width, sample.metadata.height)


def test_augmented_scenes_are_spread_evenly(tmp_path):
    pack_scenes(tmp_path, split="train", count=2, augment=0.5)

    expected = [
        make_sample(split="train", seed=TEST_SEED, index=index, augment=index == 1).image
        for index in range(2)
    ]
    assert [record["jpg"] for record in read_with_webdataset(tmp_path)] == expected


def test_webdataset_alone_reads_a_data_set_with_its_annotations(tmp_path):
    year = build_voc2007(tmp_path / "in")
    pack("voc", year, tmp_path / "out")

    records = {record["__key__"]: record for record in read_with_webdataset(tmp_path / "out")}

    assert set(records) == {"000005", "000012"}
    assert records["000005"]["jpg"] == (year / "JPEGImages/000005.jpg").read_bytes()
    told = json.loads(records["000005"]["json"])
    assert told["boxes"] == [[12, 21, 45, 40], [0, 0, 10, 10]]
    assert (told["box_labels"], told["difficult"]) == ([8, 8], [False, True])
    parts = json.loads(records["000012"]["json"])["parts"]
    assert parts[0][0] == {"name": "head", "box": [10, 10, 14, 15]}


def test_the_ground_truth_of_a_data_set_is_read_from_its_shards(tmp_path):
    pack("voc", build_voc2007(tmp_path / "in"), tmp_path / "out")

    truth, classes = read_truth(str(tmp_path / "out"), "train")
    samples = {sample.key: sample for sample in truth}

    assert classes == tuple(CLASSES)
    assert samples["000005"].boxes_xyxy.tolist() == [[12, 21, 45, 40], [0, 0, 10, 10]]
    assert samples["000012"].labels.tolist() == [CLASSES.index("person")]


def test_equal_input_gives_equal_bytes_wherever_it_lies(tmp_path):
    data = build_folders(tmp_path / "in")
    shutil.copytree(data, tmp_path / "copy")
    pack_folders(data, tmp_path / "one")
    pack_folders(tmp_path / "copy", tmp_path / "two")

    assert len(digest_shards(tmp_path / "one")) == 4
    assert digest_shards(tmp_path / "one") == digest_shards(tmp_path / "two")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_one_and_two_workers_write_the_same_bytes(tmp_path):
    data = build_folders(tmp_path / "in")
    here = pack_folders(data, tmp_path / "one")
    there = pack_folders(data, tmp_path / "two", workers=2)

    assert digest_shards(tmp_path / "two") == digest_shards(tmp_path / "one")
    assert read_index(tmp_path / "two") == read_index(tmp_path / "one")
    assert (
        read_rejects(tmp_path / "two") == read_rejects(tmp_path / "one") == {"a/6.jpg": "truncated"}
    )
    assert there == replace(here, output=str(tmp_path / "two"))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_goes_wrong_in_a_worker_reaches_the_user_as_our_own_error(tmp_path):
    data = build_folders(tmp_path / "in")
    pack_folders(data, tmp_path / "out")
    for place in (tmp_path / "out").glob("packing/train/r*"):
        place.write_bytes(b"damaged") if place.suffix == ".parquet" else place.unlink()
    (tmp_path / "out" / "train-000000.tar").unlink()

    with pytest.raises(StorageError, match=r"records-\w+\.parquet: not a plan"):
        pack_folders(data, tmp_path / "out", workers=None)


@pytest.mark.s3
def test_a_bucket_gives_the_bytes_that_local_files_give(tmp_path, s3_bucket):
    data = build_folders(tmp_path / "in")
    for path in data.rglob("*.jpg"):
        uri = f"s3://{s3_bucket}/in/{path.relative_to(data)}"
        storage.write_bytes(uri, path.read_bytes())
    pack_folders(data, tmp_path / "out")

    output = f"s3://{s3_bucket}/out"
    report = pack_folders(f"s3://{s3_bucket}/in", output)

    assert (report.shards, report.samples, report.rejects) == (4, 7, 1)
    for name, digest in digest_shards(tmp_path / "out").items():
        data = storage.read_bytes(f"{output}/{name}")
        assert hashlib.sha256(data).hexdigest() == digest
    assert pack_folders(f"s3://{s3_bucket}/in", output).packed == 0


def test_a_killed_job_goes_on_where_it_stood(tmp_path, monkeypatch):
    data = build_folders(tmp_path / "in")
    code = f"""
import os, signal
from pipelines.shards import run
from tests.pipelines.shards.test_run import pack_folders
pack = run.pack_shard
def pack_two(number, config):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return pack(number, config)
run.pack_shard = pack_two
pack_folders({str(data)!r}, {str(tmp_path / "out")!r})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "index.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert set(before) == {"train-000000.tar", "train-000001.tar"}

    packed = count_packing(monkeypatch)
    report = pack_folders(data, tmp_path / "out")

    assert packed == [2, 3]
    assert (report.shards, report.packed) == (4, 2)
    for name, time in before.items():
        assert (tmp_path / "out" / name).stat().st_mtime_ns == time
    pack_folders(data, tmp_path / "fresh")
    assert digest_shards(tmp_path / "out") == digest_shards(tmp_path / "fresh")
    assert read_index(tmp_path / "out") == read_index(tmp_path / "fresh")
    assert read_rejects(tmp_path / "out") == read_rejects(tmp_path / "fresh")


def test_the_same_command_again_does_nothing(tmp_path, monkeypatch):
    data = build_folders(tmp_path / "in")
    first = pack_folders(data, tmp_path / "out")
    monkeypatch.setattr(run, "SOURCES", None)
    packed = count_packing(monkeypatch)

    assert pack_folders(data, tmp_path / "out") == replace(first, packed=0)
    assert packed == []


def test_what_came_after_the_plan_is_not_in_the_shards(tmp_path):
    data = build_folders(tmp_path / "in")
    pack_folders(data, tmp_path / "out")
    (tmp_path / "out" / "index.json").unlink()
    write(data / "a" / "new.jpg", make_jpeg())

    assert pack_folders(data, tmp_path / "out").samples == 7


def test_a_shard_that_is_gone_or_cut_short_is_packed_again_and_no_other(tmp_path, monkeypatch):
    data = build_folders(tmp_path / "in")
    pack_folders(data, tmp_path / "out")
    before = digest_shards(tmp_path / "out")
    (tmp_path / "out" / "train-000001.tar").unlink()
    (tmp_path / "out" / "train-000003.tar").write_bytes(b"short")

    packed = count_packing(monkeypatch)
    pack_folders(data, tmp_path / "out")

    assert packed == [1, 3]
    assert digest_shards(tmp_path / "out") == before


def test_a_shard_without_its_receipt_or_of_another_plan_is_packed_again(tmp_path, monkeypatch):
    data = build_folders(tmp_path / "in")
    pack_folders(data, tmp_path / "out")
    (tmp_path / "out" / "index.json").unlink()
    receipts = tmp_path / "out" / "packing" / "train"
    (receipts / "receipt-000000.json").unlink()
    other = json.loads((receipts / "receipt-000002.json").read_text())
    (receipts / "receipt-000002.json").write_text(json.dumps({**other, "plan": "another"}))

    packed = count_packing(monkeypatch)
    pack_folders(data, tmp_path / "out")

    assert packed == [0, 2]


def test_a_damaged_receipt_is_named(tmp_path):
    data = build_folders(tmp_path / "in")
    pack_folders(data, tmp_path / "out")
    (tmp_path / "out" / "index.json").unlink()
    (tmp_path / "out" / "packing" / "train" / "receipt-000002.json").write_text("{")

    with pytest.raises(StorageError, match=r"receipt-000002\.json: not a receipt"):
        pack_folders(data, tmp_path / "out")


def test_the_index_counts_and_digests_every_shard(tmp_path):
    report = pack_folders(build_folders(tmp_path / "in"), tmp_path / "out")

    index = read_index(tmp_path / "out")
    assert sum(shard["samples"] for shard in index["shards"]) == 7
    for shard in index["shards"]:
        data = (tmp_path / "out" / shard["name"]).read_bytes()
        assert shard["split"] == "train"
        assert shard["bytes"] == len(data)
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
    assert (report.shards, report.samples, report.packed) == (4, 7, 4)
    assert report.bytes == sum(shard["bytes"] for shard in index["shards"])
    assert (index["classes"], index["rejects"]) == (["a", "b"], {"train": {"truncated": 1}})
    assert "class_ids" not in index


def test_the_index_has_the_sources_own_words_for_classes(tmp_path):
    pack("ilsvrc-det", build_det(tmp_path / "in"), tmp_path / "out")

    index = read_index(tmp_path / "out")
    assert (index["classes"][6], index["class_ids"][6]) == ("baby bed", "n02764044")


def test_rejects_of_several_splits_stand_in_one_table_with_reasons(tmp_path):
    build_folders(tmp_path / "in" / "train")
    write(tmp_path / "in" / "val" / "a" / "1.jpg", "<html>")
    write(tmp_path / "in" / "val" / "b" / "1.jpg", make_jpeg())
    for split in ("train", "val", "train"):
        pack_folders(tmp_path / "in", tmp_path / "out", split=split)
        # So that the third time there is something to do again.
        (tmp_path / "out" / "train-000000.tar").unlink(missing_ok=True)

    rows = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [(row["split"], row["name"], row["reason"]) for row in rows] == [
        ("train", "a/6.jpg", "truncated"),
        ("val", "a/1.jpg", "not_an_image"),
    ]
    assert all(row["message"] for row in rows)


def test_a_set_without_rejects_has_an_empty_table(tmp_path):
    pack("voc", build_voc2007(tmp_path / "in"), tmp_path / "out")

    assert read_rejects(tmp_path / "out") == {}


def test_a_shard_of_rejects_alone_is_not_written(tmp_path):
    write(tmp_path / "in" / "a" / "1.jpg", "no")
    write(tmp_path / "in" / "a" / "2.jpg", make_jpeg())
    report = pack_folders(tmp_path / "in", tmp_path / "out", split="val", samples_per_shard=1)

    assert (report.shards, report.samples, report.rejects) == (1, 1, 1)
    assert set(digest_shards(tmp_path / "out")) == {"val-000001.tar"}
    assert set(read_metadata(tmp_path / "out")) == {"a/2"}
    again = pack_folders(tmp_path / "in", tmp_path / "out", split="val", samples_per_shard=1)
    assert again.packed == 0


def test_shards_are_cut_by_bytes_too(tmp_path):
    data = build_folders(tmp_path / "in")
    report = pack_folders(data, tmp_path / "out", samples_per_shard=99, shard_bytes=1)

    assert report.shards == 7


def test_another_split_joins_the_same_folder(tmp_path):
    pack_scenes(tmp_path, count=1)
    pack_scenes(tmp_path, split="train", count=1)

    index = read_index(tmp_path)
    assert sorted(index["recipes"]) == ["test", "train"]
    assert [shard["name"] for shard in index["shards"]] == ["test-000000.tar", "train-000000.tar"]


@pytest.mark.parametrize("finished", [True, False])
def test_the_same_split_made_otherwise_is_refused(finished, tmp_path):
    pack_scenes(tmp_path, count=1)
    if not finished:
        (tmp_path / "index.json").unlink()

    with pytest.raises(InputError, match=r"\(seed 2013 there, 7 here\); choose another output"):
        pack_scenes(tmp_path, count=1, seed=7)


def test_other_classes_in_the_folder_are_refused_before_anything_is_packed(tmp_path):
    index = {"version": INDEX_VERSION, "classes": ["cat"], "recipes": {}, "shards": []}
    (tmp_path / "index.json").write_text(json.dumps(index))

    with pytest.raises(InputError, match="1 other classes than the 10"):
        pack_scenes(tmp_path)
    assert digest_shards(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 99}', "version 99, expected 2"),
        ("{", r"index\.json: is not JSON .*choose another output"),
        ("[]", r"index\.json: version None"),
    ],
)
def test_an_index_of_something_else_is_refused(text, message, tmp_path):
    (tmp_path / "index.json").write_text(text)

    with pytest.raises(InputError, match=message):
        pack_scenes(tmp_path)


def test_shards_that_belong_to_nothing_are_named(tmp_path, caplog):
    (tmp_path / "test-000003.tar").write_bytes(b"from a run with more samples")

    pack_scenes(tmp_path, count=1)

    assert "1 shard is not in index.json, test-000003.tar for one" in caplog.text


def test_a_split_without_images_is_refused(tmp_path):
    year = build_voc2007(tmp_path / "in")
    write(year / "ImageSets/Main/train.txt", "")

    with pytest.raises(InputError, match="no image in split 'train'"):
        pack("voc", year, tmp_path / "out")
    assert not (tmp_path / "out").exists()
