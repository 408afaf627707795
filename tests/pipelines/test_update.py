"""Does the next generation hold what is new, changed, gone or failed, and nothing else?"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from pipelines import storage
from pipelines.comparison import Changes, Comparison
from pipelines.errors import PipelineError, StorageError
from pipelines.manifest import ManifestSummary, open_manifest, read_summary
from pipelines.storage import ObjectInfo
from pipelines.update import write_update
from tests.builders import list_all
from tests.pipelines.manifest.updates import (
    SLICE_SIZE,
    begin,
    look_again,
    make_info,
    make_listing,
    read_todo,
    short_names,
    uris,
)
from tests.pipelines.manifest.written import (
    CountedReads,
    WatchedWrites,
    part_uri,
    read_back,
    without_digest,
)


def test_new_images_fill_new_slices_and_the_old_ones_stay(store_root):
    begin(store_root, make_listing("b1", "d1", "f1", "h1"))
    changes = look_again(store_root, make_listing(*(f"{x}1" for x in "abcdefghi")))
    assert changes == Changes(added=5)
    # The last old slice is not filled up: its images would be read again.
    assert short_names(store_root) == ["bdf", "h", "ace", "gi"]
    assert read_todo(store_root) == ({*"acegi"}, {2, 3})


def test_a_changed_image_is_done_again_in_its_slice(store_root):
    begin(store_root, make_listing("a1", "b1", "c1", "d1"))
    assert look_again(store_root, make_listing("a1", "b2", "c1", "d1")) == Changes(changed=1)
    assert read_todo(store_root) == ({"b"}, {0})
    assert [entry.info for entry in read_back(store_root)[0]] == make_listing("a1", "b2", "c1")


def test_an_image_that_is_gone_leaves_its_slice(store_root):
    begin(store_root, make_listing("a1", "b1", "c1", "d1"))
    assert look_again(store_root, make_listing("a1", "c1", "d1")) == Changes(vanished=1)
    assert short_names(store_root) == ["ac", "d"]
    assert read_todo(store_root) == (set(), {0})


def test_a_slice_that_loses_all_its_images_stays_empty_for_ever(store_root):
    begin(store_root, make_listing("a1", "b1", "c1", "d1"))
    look_again(store_root, make_listing("a1", "b1", "c1"))
    assert short_names(store_root) == ["abc", ""]
    look_again(store_root, make_listing("a1", "b1", "c1", "d1"))
    assert short_names(store_root) == ["abc", "", "d"]
    assert read_todo(store_root) == ({"d"}, {2})


def test_all_images_may_go_and_others_come(store_root):
    begin(store_root, make_listing("a1", "b1"))
    assert look_again(store_root, []) == Changes(vanished=2)
    assert look_again(store_root, make_listing("x1")) == Changes(added=1)
    assert short_names(store_root) == ["", "x"]
    assert (read_summary(store_root).images, read_summary(store_root).slices) == (1, 2)


def test_nothing_to_do_writes_nothing(store_root):
    begin(store_root, make_listing("a1", "b1"))
    before = list_all(store_root)
    assert look_again(store_root, make_listing("b1", "a1")) == Changes()
    assert list_all(store_root) == before


def test_failed_images_are_done_again_with_an_update(store_root):
    begin(store_root, make_listing("a1", "b1", "c1", "d1"))
    listing = make_listing("a1", "b1", "c1", "d2")
    changes = look_again(store_root, listing, {0: uris("b"), 1: uris("d")})
    assert changes == Changes(changed=1, retried=1)
    assert read_todo(store_root) == ({"b", "d"}, {0, 1})


def test_a_failed_image_that_is_gone_is_not_retried(store_root):
    begin(store_root, make_listing("a1", "b1"))
    assert look_again(store_root, make_listing("a1"), {0: uris("b")}) == Changes(vanished=1)
    assert read_todo(store_root) == (set(), {0})


def test_the_summary_is_of_the_whole_run(store_root):
    begin(store_root, [make_info(letter, size=100) for letter in "abcdefg"])
    listing = [make_info(letter, size=100) for letter in "abcde"]
    listing += [make_info("g", "2", size=900), make_info("x", size=30)]
    look_again(store_root, listing, count_skipped=lambda: 4)
    summary = read_summary(store_root)
    parts = tuple(map(without_digest, summary.parts))
    assert replace(summary, parts=parts) == ManifestSummary(
        generation=1, slices=4, images=7, size_bytes=5 * 100 + 900 + 30, skipped=4,
        touched=3, todo=2, parts=("part-00000.parquet", "part-00001.parquet"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "is_changed"),
    [
        (("e1", 5), ("e2", 5), True),
        (("e1", 5), ("e1", 6), True),
        (("", 5), ("", 6), True),
        (("e1", 5), ("e1", 5), False),
        (("", 0), ("", 0), False),
        (("", 0), ("e1", 5), True),
        (("e1", 5), ("", 0), False),
    ],
)
def test_an_image_without_a_version_counts_as_unchanged(tmp_path, old, new, is_changed):
    first, second = (ObjectInfo(uri="s3://b/a", size=s, etag=e) for e, s in (old, new))
    begin(str(tmp_path), [first])
    assert look_again(str(tmp_path), [second]) == Changes(changed=int(is_changed))
    (entry,) = read_back(str(tmp_path))[0]
    assert entry.info == (second if is_changed else first)


def test_a_version_that_a_list_tells_for_the_first_time_is_no_change(tmp_path):
    begin(str(tmp_path), [ObjectInfo(uri="s3://b/a")])
    listing = [ObjectInfo(uri="s3://b/a", size=5, etag="e1")]
    assert look_again(str(tmp_path), listing, is_list=True) == Changes()


def test_a_later_modification_alone_is_no_change(tmp_path):
    """Copying a bucket onto itself, or a rewrite of the same bytes, changes nothing."""
    info = make_info("a")
    begin(str(tmp_path), [info])
    assert look_again(str(tmp_path), [replace(info, mtime=9e9)]) == Changes()


def list_with(infos, etag):
    return [replace(info, etag=etag) for info in infos]


def test_a_list_with_an_old_version_is_checked_with_the_store(store_root):
    """Three updates in a row: what the list says never becomes true, and is found out once."""
    output = storage.join_uri(store_root, "out")
    infos = put_images(store_root, "ab")
    stale = [replace(infos[0], etag="old"), infos[1]]
    begin(output, stale)
    first = look_again(output, stale, is_list=True, doubted={infos[0].uri})
    assert first == Changes(changed=1)
    assert [entry.info.etag for entry in read_back(output)[0]] == [info.etag for info in infos]
    for _ in range(2):
        assert look_again(output, stale, is_list=True) == Changes()
    storage.write_bytes(infos[0].uri, b"written anew")
    assert look_again(output, stale, is_list=True) == Changes(changed=1)
    assert read_back(output)[0][0].info.size == 12


def test_failed_images_of_a_list_are_retried_in_the_version_that_is_there(store_root):
    output = storage.join_uri(store_root, "out")
    infos = put_images(store_root, "ab")
    begin(output, list_with(infos, "old"))
    failed = {0: {infos[1].uri}}
    found = look_again(output, list_with(infos, "old"), failed, is_list=True)
    assert found == Changes(changed=1)
    assert [entry.info.etag for entry in read_back(output)[0]] == ["old", infos[1].etag]


@pytest.mark.parametrize("is_update", [True, False])
def test_a_failed_image_of_a_list_without_versions_is_retried_and_not_called_changed(
    store_root, is_update
):
    output = storage.join_uri(store_root, "out")
    infos = put_images(store_root, "ab")
    bare = [ObjectInfo(uri=info.uri) for info in infos]
    begin(output, bare)
    listing = iter(bare) if is_update else None
    found = look_again(output, listing, {0: {infos[1].uri}}, is_list=True)
    assert found == Changes(retried=1)
    assert [entry.info.etag for entry in read_back(output)[0]] == ["", infos[1].etag]


def test_of_a_listing_of_the_store_nothing_is_looked_up(tmp_path, monkeypatch):
    begin(str(tmp_path), make_listing("a1", "b1"))
    monkeypatch.setattr("pipelines.lookup._look_up", lambda uri: 1 / 0)
    assert look_again(str(tmp_path), make_listing("a2", "b1")) == Changes(changed=1)


def test_each_generation_builds_on_the_one_before(tmp_path):
    output = str(tmp_path)
    begin(output, make_listing("a1", "b1", "c1"))
    look_again(output, make_listing("a2", "b1", "c1"))
    look_again(output, make_listing("a2", "b2", "c1", "d1"))
    # What the second generation did is not to be done again by the third.
    assert read_todo(output) == ({"b", "d"}, {0, 1})
    assert look_again(output, make_listing("a2", "b2", "c1", "d1")) == Changes()
    assert read_summary(output).generation == 2


def test_a_generation_that_was_cut_short_is_written_anew(store_root, monkeypatch):
    begin(store_root, make_listing("a1", "b1", "c1", "d1"))
    before = read_summary(store_root)
    calls = itertools.count()

    def fail_at_the_end(uri, _):
        if next(calls) == 2:
            raise StorageError("the store is gone")

    with monkeypatch.context() as patch:
        WatchedWrites(patch, fail_at_the_end)
        with pytest.raises(StorageError, match="gone"):
            look_again(store_root, make_listing("a2", "b1", "c1", "d2", "x1"))
    assert read_summary(store_root) == before
    assert short_names(store_root) == ["abc", "d"]
    assert storage.exists(part_uri(store_root, 1, generation=1))
    # Meanwhile the bucket has become what it was but for one image.
    assert look_again(store_root, make_listing("a1", "b1", "c1", "d2")) == Changes(changed=1)
    assert read_todo(store_root) == ({"d"}, {1})
    assert len(read_summary(store_root).parts) == 1


def test_a_listing_that_breaks_off_changes_nothing(tmp_path):
    output = str(tmp_path)
    begin(output, make_listing("a1", "b1"))

    def break_off():
        yield from make_listing("a2", "x1", "y1", "z1", "w1")
        raise StorageError("no answer")

    with pytest.raises(StorageError, match="no answer"):
        look_again(output, break_off())
    assert read_summary(output).generation == 0
    assert look_again(output, make_listing("a1", "b1")) == Changes()


def test_of_two_drivers_the_first_to_finish_decides(store_root):
    begin(store_root, make_listing("a1", "b1"))
    slower = open_manifest(store_root)
    look_again(store_root, make_listing("a1", "b2"))
    stands = read_summary(store_root)
    changes = write_update(
        Comparison(slower, {}, None),
        iter(make_listing("a1", "b2", "c1")),
        slice_size=SLICE_SIZE,
        slice_bytes=2**40,
        count_skipped=lambda: 0,
        check=lambda: None,
    )
    assert changes is None, "what stands is not what this one found"
    assert read_summary(store_root) == stands


def test_a_driver_that_has_lost_its_lease_writes_nothing(tmp_path):
    def check():
        raise PipelineError("taken over")

    begin(str(tmp_path), make_listing("a1"))
    before = list_all(str(tmp_path))
    with pytest.raises(PipelineError, match="taken over"):
        look_again(str(tmp_path), make_listing("a2"), check=check)
    assert list_all(str(tmp_path)) == before


def put_images(root, letters):
    """Real objects, as they are listed."""
    for letter in letters:
        storage.write_bytes(storage.join_uri(root, "in", letter), letter.encode())
    return list(storage.iter_objects(storage.join_uri(root, "in")))


def test_a_retry_looks_up_the_failed_images_alone(store_root):
    output = storage.join_uri(store_root, "out")
    infos = {info.uri[-1]: info for info in put_images(store_root, "abcdefg")}
    begin(output, infos.values())
    for letter in "ab":
        storage.write_bytes(infos[letter].uri, b"written anew")
    failed = {0: {infos["b"].uri, infos["c"].uri}, 2: {infos["g"].uri}}
    changes = look_again(output, None, failed, count_skipped=lambda: 1 / 0)
    assert changes == Changes(changed=1, retried=2)
    assert read_todo(output) == ({"b", "c", "g"}, {0, 2})
    now = {entry.info.uri[-1]: entry.info for entry in read_back(output)[0]}
    assert now["a"] == infos["a"], "was not looked at"
    assert now["c"] == infos["c"]
    assert (now["b"].size, now["b"].etag != infos["b"].etag) == (12, True)


def test_a_retry_of_what_is_gone_leaves_it_to_the_read_to_say_so(store_root):
    output = storage.join_uri(store_root, "out")
    infos = put_images(store_root, "ab")
    begin(output, infos)
    storage.delete([infos[1].uri])
    assert look_again(output, None, {0: {infos[1].uri}}) == Changes(retried=1)
    assert [entry.info for entry in read_back(output)[0]] == infos
    assert read_todo(output) == ({"b"}, {0})


def test_a_retry_takes_an_image_of_which_nothing_was_known_as_it_is_now(store_root):
    output = storage.join_uri(store_root, "out")
    (info,) = put_images(store_root, "a")
    begin(output, [ObjectInfo(uri=info.uri)])
    look_again(output, None, {0: {info.uri}})
    (entry,) = read_back(output)[0]
    assert (entry.info.size, entry.info.etag) == (info.size, info.etag)
    assert read_summary(output).size_bytes == 1


@pytest.mark.parametrize("uri", ["https://127.0.0.1:9/a.jpg", "s3://no-such-bucket-here/a.jpg"])
@pytest.mark.s3
def test_a_retry_goes_on_where_a_store_cannot_be_asked(tmp_path, s3_bucket, monkeypatch, uri):
    """Of a server or a bucket that is gone the read tells the reason."""

    def give_up(_, error):
        raise error

    monkeypatch.setattr("pipelines.storage.retries.Retries.pause_after", give_up)
    begin(str(tmp_path), [ObjectInfo(uri=uri, size=3, etag="e")])
    assert look_again(str(tmp_path), None, {0: {uri}}) == Changes(retried=1)


def test_a_retry_without_failed_images_reads_no_part(tmp_path, monkeypatch):
    begin(str(tmp_path), make_listing("a1"))
    counted = CountedReads(monkeypatch)
    assert look_again(str(tmp_path), None) == Changes()
    assert counted.opened == []
