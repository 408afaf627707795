"""Does an image that is denied cost its own row, and a credential that is revoked the whole job?"""

from __future__ import annotations

import pytest

from pipelines import storage
from pipelines.annotate.denied import check_credentials
from pipelines.annotate.run import annotate
from pipelines.errors import ImageError, ImageReason, StorageError
from pipelines.manifest import ManifestEntry, SlicePlace
from pipelines.receipts import list_receipts
from tests.builders import (
    annotate_without_ray,
    assert_same_rows,
    do_slice,
    finish_without_ray,
    look_again,
    make_config,
    read_rows,
    start_run,
    write_pictures,
)

pytestmark = pytest.mark.usefixtures("fake_model")

REVOKED = "the credentials may read none; mend them, on the workers too, then run the same command"


class Denial:
    """Denies images by their number, and from a certain moment on all of them."""

    def __init__(self, monkeypatch, *, numbers=(), reads=10**6, reason=ImageReason.ACCESS_DENIED):
        self.numbers, self.left, self.reason = numbers, reads, reason
        self.asked = []
        self._read = storage.read_objects
        monkeypatch.setattr(storage, "read_objects", self.read)

    def read(self, objects, **options):
        answers = self._read(objects, **options)
        return [self._answer(info.uri, got) for info, got in zip(objects, answers, strict=True)]

    def _answer(self, uri, answer):
        self.asked.append(number_of(uri))
        self.left -= 1
        if self.left < 0 or number_of(uri) in self.numbers:
            return ImageError(self.reason, f"{uri}: AccessDenied: Access Denied")
        return answer


def number_of(uri):
    return int(uri.removesuffix(".jpg")[-3:])


def begin(tmp_path, checkpoint, images, **changes):
    write_pictures(str(tmp_path / "in"), images)
    config = make_config(str(tmp_path), checkpoint, **changes)
    return config, start_run(config, config.output)


def reasons(output):
    return read_rows(output, "images")["error_type"].to_pylist()


def test_where_nothing_can_be_read_the_job_fails_and_commits_nothing(
    tmp_path, checkpoint, monkeypatch
):
    config, stages = begin(tmp_path, checkpoint, 8)
    Denial(monkeypatch, numbers=range(8))
    with pytest.raises(StorageError, match=REVOKED) as error:
        do_slice(config, stages)
    told = (
        "photo-000.jpg: AccessDenied: Access Denied; so were 4 of 4 images of slice 0, and 4 others"
    )
    assert told in str(error.value)
    assert list(list_receipts(config.output)) == []


def test_a_slice_that_nobody_may_read_among_others_costs_its_own_rows(
    tmp_path, checkpoint, monkeypatch
):
    config, stages = begin(tmp_path, checkpoint, 12)
    Denial(monkeypatch, numbers=range(4, 8))
    finish_without_ray(config, stages)
    assert reasons(config.output) == [None] * 4 + ["access_denied"] * 4 + [None] * 4


def test_a_denied_image_among_readable_ones_costs_its_own_row_and_a_few_questions(
    tmp_path, checkpoint, monkeypatch
):
    config, stages = begin(tmp_path, checkpoint, 12, slice_size=12)
    denial = Denial(monkeypatch, numbers=[2])
    do_slice(config, stages)
    assert reasons(config.output) == [None] * 2 + ["access_denied"] + [None] * 9
    assert denial.asked == [*range(12), *range(8, 12)]


def test_nothing_is_asked_twice_where_nothing_is_denied(tmp_path, checkpoint, monkeypatch):
    config, stages = begin(tmp_path, checkpoint, 4)
    denial = Denial(monkeypatch, numbers=[2], reason=ImageReason.UNAVAILABLE)
    do_slice(config, stages)
    assert denial.asked == [0, 1, 2, 3]


@pytest.mark.parametrize("reads", [0, 1, 3, 4, 7])
def test_a_slice_in_whose_middle_the_credentials_are_revoked_is_not_committed(
    tmp_path, checkpoint, monkeypatch, reads
):
    config, stages = begin(tmp_path, checkpoint, 8)
    Denial(monkeypatch, reads=reads)
    with pytest.raises(StorageError, match=REVOKED):
        finish_without_ray(config, stages)
    assert len(list_receipts(config.output)) == reads // 4


@pytest.mark.parametrize(("images", "is_row"), [(1, True), (2, False)])
def test_an_image_that_is_alone_is_taken_at_its_word(
    tmp_path, checkpoint, monkeypatch, images, is_row
):
    config, stages = begin(tmp_path, checkpoint, images, slice_size=1)
    Denial(monkeypatch, numbers=range(images))
    if is_row:
        do_slice(config, stages)
        assert reasons(config.output) == ["access_denied"]
    else:
        with pytest.raises(StorageError, match=REVOKED):
            do_slice(config, stages)


def test_others_that_are_gone_are_no_evidence(tmp_path, checkpoint, monkeypatch):
    config, stages = begin(tmp_path, checkpoint, 4, slice_size=1)
    storage.delete(f"{config.images}/photo-{number:03d}.jpg" for number in range(1, 4))
    Denial(monkeypatch, numbers=[0])
    do_slice(config, stages)
    assert reasons(config.output) == ["access_denied"]


def test_a_retry_that_is_denied_as_before_ends_as_before(tmp_path, checkpoint, monkeypatch):
    config, stages = begin(tmp_path, checkpoint, 4)
    Denial(monkeypatch, numbers=[1, 3])
    do_slice(config, stages)
    assert look_again(config, config.output, update=False, retry_failed=True).retried == 2
    finish_without_ray(config, stages)
    assert reasons(config.output) == [None, "access_denied"] * 2


def test_slices_of_a_later_generation_have_others_to_ask(tmp_path, checkpoint, monkeypatch):
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint)
    stages = annotate_without_ray(config, config.output)
    write_pictures(str(tmp_path / "in"), 6)
    look_again(config, config.output)
    Denial(monkeypatch, numbers=[4, 5])
    finish_without_ray(config, stages)
    assert reasons(config.output) == [None] * 4 + ["access_denied"] * 2


@pytest.mark.usefixtures("plain_engine")
@pytest.mark.parametrize("reads", [0, 5, 12])
def test_reads_that_are_denied_from_a_moment_on_end_the_command_and_the_next_one_finishes(
    tmp_path, checkpoint, monkeypatch, reads
):
    write_pictures(str(tmp_path / "in"), 14)
    config = make_config(str(tmp_path), checkpoint)
    whole = make_config(str(tmp_path), checkpoint, output=str(tmp_path / "undisturbed"))
    annotate(whole)
    with monkeypatch.context() as patch:
        Denial(patch, reads=reads)
        with pytest.raises(StorageError, match=REVOKED):
            annotate(config)
    annotate(config)
    assert_same_rows(config.output, whole.output)


def test_images_of_the_web_that_are_all_denied_keep_their_rows(tmp_path):
    """No credentials are sent there, so that there are none to mend."""
    place = SlicePlace(number=0, generation=0, part="", group=0)
    infos = [storage.ObjectInfo(uri=f"https://127.0.0.1:9/{n}.jpg") for n in range(3)]
    denial = ImageError(ImageReason.ACCESS_DENIED, "401: Unauthorized")
    entries = [ManifestEntry(info) for info in infos]
    check_credentials(str(tmp_path), place, entries, [(info, denial) for info in infos])
