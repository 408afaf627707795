from __future__ import annotations

import tarfile

import pytest

from pipelines.errors import InputError
from pipelines.shards.samples import Sample, SampleMetadata
from pipelines.shards.writer import pack_shards
from tests.pipelines.shards.packed import read_with_webdataset


def build_sample(key):
    metadata = SampleMetadata(width=1, height=1, original_name=key)
    return Sample(key=key, image=b"image of " + key.encode(), extension="png", metadata=metadata)


def test_keys_with_folders_survive_webdataset(tmp_path):
    keys = ["n01/a-1", "n01/a_2", "n02/a-1", "n02/a--2ejpg"]
    pack_shards(str(tmp_path), split="train", samples=map(build_sample, keys), samples_per_shard=9)

    read = read_with_webdataset(tmp_path)

    assert [(record["__key__"], record["png"]) for record in read] == [
        (key, b"image of " + key.encode()) for key in keys
    ]


def test_nothing_of_the_machine_is_in_a_shard(tmp_path):
    pack_shards(str(tmp_path), split="test", samples=[build_sample("a")], samples_per_shard=1)

    with tarfile.open(tmp_path / "test-000000.tar") as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}

    assert facts == {(0, 0, 0, "", "", 0o644)}


def test_a_key_that_comes_twice_is_refused(tmp_path):
    samples = [build_sample("a"), build_sample("b"), build_sample("a")]

    with pytest.raises(InputError, match="two samples have the key a"):
        pack_shards(str(tmp_path), split="train", samples=samples, samples_per_shard=2)
