"""What becomes of a slice, good images and bad ones, without Ray?"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from overfeat.predict_config import PredictConfig
from pipelines import storage
from pipelines.annotate.stages import READ_SCHEMA, detect_slice, write_slice
from pipelines.errors import PipelineError
from pipelines.images import ImageLimits, decode_image
from pipelines.receipts import RowCounts, list_receipts
from pipelines.tables import BOXES_SCHEMA, IMAGES_SCHEMA, read_notes, slice_name
from tests.builders import (
    CLASSES,
    annotate_without_ray,
    do_slice,
    encode_picture,
    list_all,
    make_checkpoint,
    make_config,
    make_picture,
    open_model,
    read_file,
    read_numbered,
    read_rows,
    start_run,
    write_pictures,
)

JPEG = encode_picture(make_picture(50))


def damage_scan(jpeg):
    """Overwrite coefficients in the middle of the scan; the file keeps its end."""
    middle = len(jpeg) * 3 // 4
    return jpeg[:middle] + b"\xff\xc4" * 20 + jpeg[middle + 40 :]


BAD_FILES = {
    "truncated": JPEG[: len(JPEG) // 2],
    "corrupt": damage_scan(JPEG),
    "not_an_image": b"<html>404 Not Found</html>",
    "not_an_image empty": b"",
    "too_large": encode_picture(make_picture(51, height=401, width=400)),
    "unsupported": b"\0\0\0\x18ftypheic" + bytes(100),
}
"""Files by the reason that their rows must give, in a run with at most 160,000 pixels."""


def put(root, name, data):
    uri = storage.join_uri(root, name)
    storage.write_bytes(uri, data)
    return uri


def name_of(uri):
    return uri.rpartition("/")[2]


def put_one_of_each(root):
    """Good pictures among a bad file for each reason; what happens after the listing comes last."""
    for name, data in BAD_FILES.items():
        put(root, f"in/{name}.jpg", data)
    for name in ("a", "k", "z"):
        put(root, f"in/{name}.jpg", encode_picture(make_picture(ord(name))))
    put(root, "in/not_found.jpg", JPEG)
    put(root, "in/changed.jpg", JPEG)


def spoil_after_listing(root):
    storage.delete([storage.join_uri(root, "in/not_found.jpg")])
    put(root, "in/changed.jpg", encode_picture(make_picture(52)))


def test_each_bad_image_costs_one_row_with_its_reason(store_root, checkpoint):
    put_one_of_each(store_root)
    config = make_config(store_root, checkpoint, slice_size=100, max_pixels=160_000)
    stages = start_run(config, config.output)
    spoil_after_listing(store_root)
    do_slice(config, stages)
    rows = read_rows(config.output, "images").to_pylist()
    found = {name_of(row["image"]).removesuffix(".jpg"): row for row in rows}
    assert len(rows) == len(found) == 11
    for name, row in found.items():
        expected = None if name in "akz" else name.split()[0]
        assert row["error_type"] == expected, (name, row["error"])
        assert row["status"] == ("ok" if expected is None else "error")
        assert (row["error"] is None) == (expected is None)
        assert (row["width"] is None) == (row["height"] is None) == (expected is not None)
        if expected:
            assert (row["n_boxes"], row["labels"], row["scores"]) == (0, [], [])
            assert "\n" not in row["error"]
    boxed = {name_of(row["image"]) for row in read_rows(config.output, "boxes").to_pylist()}
    assert boxed == {"a.jpg", "k.jpg", "z.jpg"}


def test_good_images_do_not_notice_the_bad_ones_beside_them(tmp_path, checkpoint):
    mixed, clean = str(tmp_path / "mixed"), str(tmp_path / "clean")
    put_one_of_each(mixed)
    for name in ("a", "k", "z"):
        put(clean, f"in/{name}.jpg", encode_picture(make_picture(ord(name))))
    tables = []
    for root in (mixed, clean):
        config = make_config(root, checkpoint, slice_size=100, max_pixels=160_000, max_bytes=10**6)
        stages = start_run(config, config.output)
        for name in ("in/not_found.jpg", "in/changed.jpg"):
            storage.delete([storage.join_uri(root, name)])
        do_slice(config, stages)
        boxes = read_rows(config.output, "boxes")
        tables.append(boxes.drop_columns(["image"]))
    assert tables[0].num_rows > 0
    assert tables[0].equals(tables[1])


def test_an_encoded_size_above_the_limit_is_too_large_without_being_read(store_root, checkpoint):
    put(store_root, "in/a.jpg", JPEG)
    config = make_config(store_root, checkpoint, max_bytes=len(JPEG) - 1)
    do_slice(config, start_run(config, config.output))
    (row,) = read_rows(config.output, "images").to_pylist()
    assert row["error_type"] == "too_large"
    assert row["size"] == len(JPEG)


def test_the_files_are_those_of_the_contract(store_root, checkpoint):
    write_pictures(storage.join_uri(store_root, "in"), 6)
    config = make_config(store_root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    assert [name for name in list_all(config.output) if "manifest" not in name] == [
        "boxes/slice-000000.parquet", "boxes/slice-000001.parquet",
        "images/slice-000000.parquet", "images/slice-000001.parquet",
    ]  # fmt: skip
    for table, schema in (("images", IMAGES_SCHEMA), ("boxes", BOXES_SCHEMA)):
        for number in (0, 1):
            uri = storage.join_uri(config.output, table, slice_name(number))
            assert read_file(uri).schema.equals(schema)
            notes = read_notes(uri)
            assert notes["schema_version"] == "1"
            assert notes["fingerprint"] == stages.fingerprint
            assert notes["generation"] == "0"


def test_rows_are_sorted_by_image_then_rank_and_know_their_slice(store_root, checkpoint):
    uris = write_pictures(storage.join_uri(store_root, "in"), 6)
    config = make_config(store_root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    images = read_rows(config.output, "images")
    assert images["image"].to_pylist() == uris
    assert images["slice"].to_pylist() == [0, 0, 0, 0, 1, 1]
    assert set(images["fingerprint"].to_pylist()) == {stages.fingerprint}
    boxes = read_rows(config.output, "boxes")
    keys = list(zip(boxes["image"].to_pylist(), boxes["box"].to_pylist(), strict=True))
    expected = [
        (uri, rank)
        for uri, count in zip(uris, images["n_boxes"].to_pylist(), strict=True)
        for rank in range(count)
    ]
    assert keys == expected
    assert max(images["n_boxes"].to_pylist()) > 1


def test_a_row_tells_size_etag_and_shape_of_the_bytes_that_were_read(store_root, checkpoint):
    uri = put(store_root, "in/a.jpg", JPEG)
    (info,) = storage.iter_objects(uri)
    config = make_config(store_root, checkpoint)
    do_slice(config, start_run(config, config.output))
    (row,) = read_rows(config.output, "images").to_pylist()
    assert (row["size"], row["etag"]) == (len(JPEG), info.etag)
    assert (row["width"], row["height"]) == (128, 96)


def test_an_image_of_a_list_without_sizes_gets_those_of_its_bytes(store_root, checkpoint):
    uri = put(store_root, "in/a.jpg", JPEG)
    listing = put(store_root, "list.txt", f"{uri}\n".encode())
    config = make_config(store_root, checkpoint, images=listing)
    do_slice(config, start_run(config, config.output))
    (row,) = read_rows(config.output, "images").to_pylist()
    (info,) = storage.iter_objects(uri)
    assert (row["size"], row["etag"]) == (info.size, info.etag)


def test_an_image_of_a_list_that_is_not_there_has_no_size_and_no_etag(store_root, checkpoint):
    absent = storage.join_uri(store_root, "in/absent.jpg")
    listing = put(store_root, "list.txt", f"{absent}\n".encode())
    config = make_config(store_root, checkpoint, images=listing)
    do_slice(config, start_run(config, config.output))
    (row,) = read_rows(config.output, "images").to_pylist()
    assert (row["error_type"], row["size"], row["etag"]) == ("not_found", 0, "")


def test_boxes_lie_inside_the_image_and_rank_by_evidence(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 8)
    config = make_config(str(tmp_path), checkpoint, score_threshold=0.01)
    annotate_without_ray(config, config.output)
    images = read_rows(config.output, "images").to_pandas().set_index("image")
    boxes = read_rows(config.output, "boxes").to_pandas().join(images[["width", "height"]], "image")
    assert len(boxes) > 20
    assert ((boxes.x_min >= 0) & (boxes.x_min < boxes.x_max) & (boxes.x_max <= boxes.width)).all()
    assert ((boxes.y_min >= 0) & (boxes.y_min < boxes.y_max) & (boxes.y_max <= boxes.height)).all()
    assert ((boxes.score >= 0.01) & (boxes.score <= 1) & (boxes.n_windows >= 1)).all()
    assert (boxes.evidence >= boxes.score - 1e-6).all()
    assert [CLASSES[label] for label in boxes.label_id] == boxes.label.tolist()
    for _, found in boxes.groupby("image"):
        assert (np.diff(found.evidence) <= 0).all()


def test_the_best_classes_come_first_and_background_is_none(tmp_path, checkpoint):
    (uri,) = write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint)
    do_slice(config, start_run(config, config.output))
    (row,) = read_rows(config.output, "images").to_pylist()
    image = decode_image(storage.read_bytes(uri), config.image_limits())
    expected = open_model(config).classify(image)
    assert row["labels"] == list(expected.labels)
    assert row["scores"] == expected.scores.tolist()
    assert sorted(row["labels"]) == sorted(CLASSES)
    assert row["scores"] == sorted(row["scores"], reverse=True)


@pytest.mark.parametrize(("slice_size", "tolerance"), [(1, 0), (8, 1e-4)])
def test_a_row_is_what_the_model_says_in_python(tmp_path, checkpoint, slice_size, tolerance):
    uris = write_pictures(str(tmp_path / "in"), 8)
    config = make_config(str(tmp_path), checkpoint, slice_size=slice_size)
    annotate_without_ray(config, config.output)
    boxes = read_rows(config.output, "boxes").to_pandas()
    model, predict = open_model(config), PredictConfig(score_threshold=config.score_threshold)
    for uri in uris:
        image = decode_image(storage.read_bytes(uri), config.image_limits())
        expected = model.detect(image, predict)
        found = boxes[boxes.image == uri]
        assert found.label.tolist() == list(expected.labels)
        assert found.n_windows.tolist() == expected.n_windows.tolist()
        corners = found[["x_min", "y_min", "x_max", "y_max"]].to_numpy()
        size = max(image.shape)
        np.testing.assert_allclose(corners, expected.boxes_xyxy, rtol=0, atol=tolerance * size)
        np.testing.assert_allclose(found.score, expected.scores, rtol=0, atol=tolerance)
        np.testing.assert_allclose(found.evidence, expected.evidence, rtol=tolerance)


def test_an_image_turned_by_its_exif_is_annotated_as_it_is_seen(tmp_path, checkpoint):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = encode_picture(make_picture(1), exif=exif)
    config = make_config(str(tmp_path), checkpoint, slice_size=1)
    put(str(tmp_path), "in/a.jpg", turned)
    put(str(tmp_path), "in/b.png", encode_picture(decode_image(turned, ImageLimits()), "PNG"))
    annotate_without_ray(config, config.output)
    images = read_rows(config.output, "images").to_pandas()
    assert images.width.tolist() == [96, 96]
    assert images.height.tolist() == [128, 128]
    boxes = read_rows(config.output, "boxes").to_pandas()
    one, other = (
        boxes[boxes.image == image].drop(columns="image").reset_index(drop=True)
        for image in images.image
    )
    assert len(one) > 0
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_more_boxes_than_the_limit_are_marked(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint, max_boxes=1, score_threshold=0.01)
    annotate_without_ray(config, config.output)
    images = read_rows(config.output, "images")
    assert images["n_boxes"].to_pylist() == [1] * 4
    assert images["truncated_boxes"].to_pylist() == [True] * 4
    assert read_rows(config.output, "boxes").num_rows == 4


def test_pixels_travel_no_larger_than_the_largest_scale_needs(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    table = read_numbered(0, stages)
    assert table.schema.equals(READ_SCHEMA)
    sizes = [len(value) for value in table["pixels"].to_pylist()]
    shapes = zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True)
    assert list(shapes) == [(96, 128), (128, 96), (300, 280), (64, 200)]
    assert sizes == [96 * 128 * 3, 128 * 96 * 3, 245 * 229 * 3, 64 * 200 * 3]
    detected = detect_slice(table, open_model(config), stages)
    assert "pixels" not in detected.column_names


def test_a_strip_that_crops_would_keep_whole_costs_one_row_with_its_reason(
    tmp_path, checkpoint, monkeypatch
):
    write_pictures(str(tmp_path / "in"), 2)
    strip = np.zeros((20, 3000, 3), np.uint8)
    put(str(tmp_path), "in/strip.png", encode_picture(strip, "PNG"))
    config = make_config(str(tmp_path), checkpoint, views="centre-crop")
    monkeypatch.setattr("pipelines.annotate.stages.SLICE_PIXEL_BYTES", 3 * strip.nbytes)
    do_slice(config, start_run(config, config.output))
    assert read_rows(config.output, "images")["status"].to_pylist() == ["ok"] * 3
    output = str(tmp_path / "smaller")
    monkeypatch.setattr("pipelines.annotate.stages.SLICE_PIXEL_BYTES", 3 * strip.nbytes - 1)
    do_slice(config, start_run(config, output))
    images = read_rows(output, "images")
    assert images["error_type"].to_pylist() == [None, None, "too_large"]
    assert "3000 x 20 pixels" in images["error"][2].as_py()


def test_a_part_of_a_slice_is_not_committed(tmp_path, checkpoint):
    """Its receipt would stand for the whole."""
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    part = read_numbered(0, stages).slice(0, 2)
    with pytest.raises(PipelineError, match="slice 0: 2 of its 3 images"):
        write_slice(detect_slice(part, open_model(config), stages), stages)
    assert list_receipts(config.output) == set()


def test_slices_without_boxes_are_read_together_with_the_others(store_root, checkpoint):
    for number in range(4):
        put(store_root, f"in/bad-{number}.jpg", b"no image")
    write_pictures(storage.join_uri(store_root, "in"), 4)
    config = make_config(store_root, checkpoint)
    annotate_without_ray(config, config.output)
    assert list_receipts(config.output) == {0, 1}
    first = storage.join_uri(config.output, "boxes", slice_name(0))
    assert read_file(first).num_rows == 0
    frame = pd.read_parquet(config.output + "/boxes")
    assert len(frame) == read_rows(config.output, "boxes").num_rows > 4
    assert len(pd.read_parquet(config.output + "/images")) == 8


def test_a_model_that_finds_nothing_still_gives_every_image_a_row(tmp_path):
    write_pictures(str(tmp_path / "in"), 4)
    silent = make_checkpoint(tmp_path / "silent", silent=True)
    config = make_config(str(tmp_path), silent)
    annotate_without_ray(config, config.output)
    assert read_rows(config.output, "boxes").num_rows == 0
    images = read_rows(config.output, "images")
    assert images["status"].to_pylist() == ["ok"] * 4
    assert images["n_boxes"].to_pylist() == [0] * 4


def test_the_summary_adds_up_rows_bytes_and_seconds(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 3)
    put(str(tmp_path), "in/bad.jpg", b"no image")
    config = make_config(str(tmp_path), checkpoint)
    (row,) = do_slice(config, start_run(config, config.output)).to_pylist()
    counts = RowCounts.decode(row["counts"])
    assert row["slice"] == 0
    assert (counts.images, counts.errors) == (4, {"not_an_image": 1})
    assert counts.boxes == read_rows(config.output, "boxes").num_rows
    seconds = json.loads(row["seconds"])
    assert seconds.keys() == {"read", "decode", "detect", "write"}
    assert all(0 < spent < 60 for spent in seconds.values())
    uri = storage.join_uri(config.output, "images", slice_name(0))
    assert RowCounts.decode(read_notes(uri)["counts"]) == counts


def test_a_slice_written_twice_stands_once_with_the_same_bytes(store_root, checkpoint):
    write_pictures(storage.join_uri(store_root, "in"), 3)
    config = make_config(store_root, checkpoint)
    stages = start_run(config, config.output)
    uris = [storage.join_uri(config.output, name, slice_name(0)) for name in ("images", "boxes")]
    contents = []
    for _ in range(2):
        do_slice(config, stages)
        contents.append([storage.read_bytes(uri) for uri in uris])
    assert contents[0] == contents[1]
    assert read_rows(config.output, "images").num_rows == 3


def test_the_rows_survive_a_way_through_arrow_chunks(tmp_path, checkpoint):
    """Ray hands a block over as a table whose columns may be cut into chunks."""
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    table = read_numbered(0, stages)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1, 3)])
    model = open_model(config)
    one, other = (
        detect_slice(t, model, stages).drop_columns("detect_seconds") for t in (table, chunked)
    )
    assert one.to_pylist() == other.to_pylist()
