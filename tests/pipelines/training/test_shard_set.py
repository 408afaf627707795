"""Are the samples of a split read as the index says, and is anything else refused?"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from pipelines import storage
from pipelines.errors import InputError, StorageError
from pipelines.shards.samples import decode_metadata
from pipelines.shards.writer import pack_tar
from pipelines.training.shard_set import open_shard_set
from tests.builders import write_scenes
from tests.pipelines.training.tiny_shards import CLASSES, make_sample, write_index, write_shards

SIZES = (3, 1, 5)


@pytest.fixture
def tiny(tmp_path):
    return write_shards(tmp_path, SIZES)


def read_keys(shards, number, start, stop):
    return [sample.key for sample in shards.iter_samples(number, start, stop)]


def test_any_neighbouring_samples_of_a_shard_are_read(store_root):
    shards = write_shards(store_root, SIZES)
    assert read_keys(shards, 2, 0, 5) == [f"folder/key-{n:03d}" for n in range(4, 9)]
    assert read_keys(shards, 2, 1, 3) == ["folder/key-005", "folder/key-006"]
    assert read_keys(shards, 0, 2, 3) == ["folder/key-002"]


def test_a_sample_comes_with_its_image_whatever_the_extension_and_its_metadata(tiny):
    for number, sample in enumerate(tiny.iter_samples(0, 0, 3)):
        made = make_sample(number)
        assert sample.image == made.image
        assert decode_metadata(sample.metadata) == made.metadata


def test_a_member_that_is_no_image_does_not_hide_the_image(tmp_path):
    shards = write_shards(tmp_path, [1])
    sample = make_sample(0)
    data = pack_tar([replace(sample, image=b"7", extension="cls")])
    # Two tars in a row, without the end of the first: one sample of three members.
    replace_shard(shards, data[:1024] + pack_tar([sample]))
    (read,) = open_shard_set(shards.folder, "train").iter_samples(0, 0, 1)
    assert read.image == sample.image


def test_a_set_knows_its_numbers_and_classes(tiny):
    assert (tiny.shard_sizes, tiny.samples, tiny.first_numbers) == (SIZES, 9, (0, 3, 4))
    assert tiny.classes == CLASSES
    assert [shard.name for shard in tiny.shards] == [f"train-{n:06d}.tar" for n in range(3)]


def test_the_shards_of_the_writer_are_opened(tmp_path):
    shards = open_shard_set(write_scenes(tmp_path, 6), "train")
    assert shards.shard_sizes == (4, 2)
    assert read_keys(shards, 1, 0, 2) == ["train-0004", "train-0005"]


def test_the_digest_tells_content_and_not_place(tmp_path):
    one, other = (write_shards(tmp_path / name, SIZES) for name in ("one", "other"))
    assert one.digest == other.digest
    assert write_shards(tmp_path / "third", SIZES, damage={3}).digest != one.digest
    assert write_shards(tmp_path / "fourth", (1, 3, 5)).digest != one.digest


def test_names_of_keypoints_are_read(tmp_path):
    shards = write_shards(tmp_path, [1])
    entries = json.loads((tmp_path / "index.json").read_text())["shards"]
    write_index(tmp_path, entries, keypoints=["nose", "tail"])
    assert open_shard_set(shards.folder, "train").keypoints == ("nose", "tail")


def test_a_missing_index_or_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no index\.json there; make them with overfeat shards"):
        open_shard_set(str(tmp_path), "train")
    write_shards(tmp_path, [2])
    with pytest.raises(InputError, match="no split 'test' there; make it with overfeat shards"):
        open_shard_set(str(tmp_path), "test")


def test_an_index_without_sizes_is_refused(tmp_path):
    write_index(tmp_path, [{"name": "train-000000.tar", "split": "train"}])
    with pytest.raises(InputError, match=r"index\.json is damaged \(KeyError\('samples'\)\)"):
        open_shard_set(str(tmp_path), "train")


def shard_uri(shards, number=0):
    return storage.join_uri(shards.folder, shards.shards[number].name)


def replace_shard(shards, data, samples=None):
    """Put other bytes in the place of shard 0, and their length in the index."""
    storage.write_bytes(shard_uri(shards), data)
    one = shards.shards[0]
    entry = {name: getattr(one, name) for name in ("name", "samples", "objects", "sha256")}
    entry |= {"split": "train", "bytes": len(data), "samples": samples or one.samples}
    write_index(shards.folder, [entry])


def check_refused(shards, sentence, stop=3):
    """Reading shard 0 fails in one sentence that names it and travels between processes."""
    with pytest.raises(StorageError, match=sentence) as caught:
        read_keys(shards, 0, 0, stop)
    message = str(caught.value)
    assert message.startswith(shard_uri(shards))
    assert "0x" not in message
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_a_shard_that_is_gone_is_named(tiny):
    storage.delete([shard_uri(tiny)])
    check_refused(tiny, r"index\.json names it, but it is not there")


def test_a_shard_of_another_size_is_refused_before_it_is_read(tiny):
    data = storage.read_bytes(shard_uri(tiny))
    storage.write_bytes(shard_uri(tiny), data[:-512])
    check_refused(tiny, rf"{len(data) - 512} bytes, index\.json says {len(data)}; pack")


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [(4, r"holds 3 samples, index\.json says 4"), (2, "holds more than 2 samples, .* says 2")],
)
def test_a_shard_of_more_or_less_samples_is_refused(tiny, samples, sentence):
    replace_shard(tiny, storage.read_bytes(shard_uri(tiny)), samples=samples)
    check_refused(open_shard_set(tiny.folder, "train"), sentence, stop=samples)


def test_a_shard_with_a_damaged_header_in_its_middle_does_not_end_there(tiny):
    data = bytearray(storage.read_bytes(shard_uri(tiny)))
    second = data.index(b"folder/key-001")
    data[second : second + 512] = b"x" * 512
    replace_shard(tiny, bytes(data))
    check_refused(open_shard_set(tiny.folder, "train"), "holds 1 samples, index.json says 3")


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_refused(tiny, data):
    replace_shard(tiny, data)
    check_refused(open_shard_set(tiny.folder, "train"), "cannot be read as a shard")


def test_a_tar_that_ends_inside_a_sample_is_refused(tiny):
    data = storage.read_bytes(shard_uri(tiny))
    replace_shard(tiny, data[: data.index(b"folder/key-001") + 512 + 10])
    check_refused(open_shard_set(tiny.folder, "train"), "cannot be read as a shard")


def test_a_name_that_comes_twice_is_refused(tiny):
    sample = make_sample(0)
    twice = pack_tar([sample, sample])
    replace_shard(tiny, twice)
    check_refused(open_shard_set(tiny.folder, "train"), "duplicate file name")


class DeadStore:
    """A file whose store stops answering after the first header."""

    def __init__(self, file):
        self.file = file

    def read(self, size):
        if self.file.tell() > 0:
            raise StorageError("s3://bucket/train-000000.tar: the store did not answer")
        return self.file.read(size)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_an_error_of_the_store_keeps_its_own_sentence(tmp_path, monkeypatch):
    shards = write_shards(tmp_path, [40])
    read = storage.open_range_reader
    monkeypatch.setattr(storage, "open_range_reader", lambda *a, **k: DeadStore(read(*a, **k)))
    with pytest.raises(StorageError) as caught:
        read_keys(shards, 0, 0, 40)
    assert caught.value.args == ("s3://bucket/train-000000.tar: the store did not answer",)


def test_a_reader_that_is_left_closes_its_shard(tiny, monkeypatch):
    opened = []
    read = storage.open_range_reader

    def open_and_keep(*args, **options):
        opened.append(read(*args, **options))
        return opened[-1]

    monkeypatch.setattr(storage, "open_range_reader", open_and_keep)
    samples = tiny.iter_samples(0, 0, 3)
    next(samples)
    assert not opened[0].closed
    samples.close()
    assert opened[0].closed
