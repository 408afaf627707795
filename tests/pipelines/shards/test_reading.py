from __future__ import annotations

import io

import pytest
from PIL import Image

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, StorageError, TransientStorageError
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.reading import make_sample, read_samples
from pipelines.shards.records import Annotation, Record
from pipelines.shards.rejects import Reject
from pipelines.shards.samples import ObjectMetadata
from pipelines.storage import ObjectBytes, ObjectInfo
from tests.pipelines.shards.pictures import encode, make_jpeg, make_png, write

RECORD = Record(key="a", name="a.JPEG")
ONE_BOX = Annotation(label=3, objects=(ObjectMetadata(label=1, box_xyxy=(0, 0, 10, 20)),))


def test_bytes_are_kept_and_the_extension_follows_them():
    for data, extension in ((make_jpeg(), "jpg"), (make_png(), "png")):
        sample = make_sample(RECORD, data, ONE_BOX, None)
        assert (sample.image, sample.extension) == (data, extension)
        assert (sample.metadata.original_name, sample.metadata.label) == ("a.JPEG", 3)


@pytest.mark.parametrize(("form", "extension"), [("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif")])
def test_other_formats_have_their_own_extensions(form, extension):
    sample = make_sample(RECORD, encode(Image.new("RGB", (9, 9)), form), Annotation(), None)

    assert sample.extension == extension


def test_an_image_that_lies_on_its_side_keeps_its_bytes_and_is_described_as_seen():
    data = make_jpeg(50, 40, orientation=6)
    sample = make_sample(RECORD, data, ONE_BOX, None)

    metadata = sample.metadata
    assert sample.image == data
    assert decode_image(data, ImageLimits()).shape == (metadata.height, metadata.width, 3)
    assert (metadata.width, metadata.height) == (40, 50)
    assert metadata.objects[0].box_xyxy == (20, 0, 40, 10)


def test_a_larger_image_is_shrunk_upright_with_its_boxes():
    sample = make_sample(RECORD, make_png(50, 40), ONE_BOX, 25)

    picture = Image.open(io.BytesIO(sample.image))
    assert (sample.extension, picture.format, picture.size) == ("jpg", "JPEG", (25, 20))
    assert (sample.metadata.width, sample.metadata.height) == (25, 20)
    assert sample.metadata.objects[0].box_xyxy == (0, 0, 5, 10)

    turned = make_sample(RECORD, make_jpeg(50, 40, orientation=6), ONE_BOX, 25)
    picture = Image.open(io.BytesIO(turned.image))
    assert (picture.size, dict(picture.getexif())) == ((20, 25), {})


def test_a_smaller_image_is_not_touched():
    data = make_png(50, 40)

    assert make_sample(RECORD, data, ONE_BOX, 50).image == data


def test_a_store_that_does_not_answer_ends_the_job_and_rejects_nothing(monkeypatch):
    error = ImageError(ImageReason.UNAVAILABLE, "s3://b/a.jpg: 503")
    monkeypatch.setattr(storage, "read_objects", lambda infos, **_: [error for _ in infos])
    record = Record(key="a", name="a", image=ObjectInfo(uri="s3://b/a.jpg"))

    with pytest.raises(TransientStorageError, match="503; run the same command again"):
        list(read_samples([record], {}, None, read_annotation=lambda *_: ONE_BOX))


@pytest.mark.parametrize("denied", [0, 1])
def test_an_image_or_a_file_beside_it_that_is_denied_ends_the_job(monkeypatch, denied):
    """The same is answered to credentials that may read nothing."""
    answers = [ObjectBytes(data=make_jpeg(), etag=""), ObjectBytes(data=b"cat", etag="")]
    answers[denied] = ImageError(ImageReason.ACCESS_DENIED, "s3://b/a: access denied")
    monkeypatch.setattr(storage, "read_objects", lambda infos, **_: answers)
    image = ObjectInfo(uri="s3://b/a.jpg")
    record = Record(key="a", name="a", image=image, beside=("s3://b/a.xml",), label=1)

    with pytest.raises(StorageError, match="s3://b/a: access denied; mend the credentials"):
        list(read_samples([record], {}, None, read_annotation=lambda *_: ONE_BOX))


def test_each_image_gets_the_files_that_lie_beside_it(tmp_path):
    records = []
    for at in range(150):
        beside = tuple(str(tmp_path / f"{at}-{part}.txt") for part in range(at % 3))
        for uri in beside:
            (tmp_path / uri).write_text(uri)
        uri = tmp_path / f"{at}.jpg"
        uri.write_bytes(make_jpeg(8, 8) if at != 7 else b"no")
        info = ObjectInfo(uri=str(uri))
        records.append(Record(key=f"k{at}", name=f"{at}", image=info, beside=beside))

    def check(record, files, _labels):
        assert [data.decode() for data in files] == list(record.beside)
        return Annotation()

    made = list(read_samples(records, {}, None, read_annotation=check))

    assert isinstance(made[7], Reject)
    assert [one.key for at, one in enumerate(made) if at != 7] == [
        record.key for at, record in enumerate(records) if at != 7
    ]


def test_an_image_that_changed_after_the_plan_is_rejected(tmp_path):
    write(tmp_path / "in" / "a.jpg", make_jpeg(seed=1))
    (info,) = storage.iter_objects(str(tmp_path / "in"))
    write(tmp_path / "in" / "a.jpg", make_jpeg(seed=2) + b"more")
    record = Record(key="a", name="a.jpg", image=info)

    (made,) = read_samples([record], {}, None, read_annotation=lambda *_: ONE_BOX)

    assert (made.name, made.reason) == ("a.jpg", "changed")
