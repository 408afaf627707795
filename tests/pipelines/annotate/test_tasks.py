"""What becomes of guesses, features and what a committee says, without Ray?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from overfeat.merge import MERGES
from overfeat.predict_config import PredictConfig
from overfeat.scales import Canvas
from pipelines import storage
from pipelines.annotate.stages import detect_slice, write_slice
from pipelines.images import decode_image
from pipelines.receipts import RowCounts
from pipelines.tables import GUESSES_SCHEMA, features_schema, read_notes, slice_name
from tests.builders import (
    annotate_without_ray,
    list_all,
    make_checkpoint,
    make_config,
    open_model,
    read_file,
    read_numbered,
    read_rows,
    start_run,
    write_pictures,
)

ALL_TASKS = ("classify", "localize", "detect", "features")
LADDER = ("245x245", "281x317")
CORNERS = ["x_min", "y_min", "x_max", "y_max"]
CELL = ["scale", "row", "col"]


@pytest.fixture(scope="module")
def committee(tmp_path_factory):
    """Two checkpoints of other weights and other ladders."""
    folder = tmp_path_factory.mktemp("committee")
    return [
        make_checkpoint(folder / "one", seed=1),
        make_checkpoint(folder / "two", seed=2, scales=("281x317",)),
    ]


def annotate_pictures(root, *weights, count=4, **changes):
    """Annotate pictures, and give them as the model gets them."""
    uris = write_pictures(str(root / "in"), count)
    config = make_config(str(root), *weights, **changes)
    annotate_without_ray(config, config.output)
    limits = config.image_limits()
    return config, {uri: decode_image(storage.read_bytes(uri), limits) for uri in uris}


def predict_alone(config, image):
    """What the model says of an image in Python."""
    model, predict = open_model(config), config.predict_config()
    (prediction,) = model.predict([model.prepare(image, predict)], predict, config.tasks)
    return prediction


@pytest.mark.parametrize(("slice_size", "tolerance"), [(1, 0), (8, 1e-4)])
def test_guesses_are_what_the_model_localizes_in_python(
    tmp_path, checkpoint, slice_size, tolerance
):
    config, images = annotate_pictures(
        tmp_path, checkpoint, slice_size=slice_size, tasks=("localize",), scales=LADDER
    )
    rows = read_rows(config.output, "guesses").to_pandas()
    assert rows.image.unique().tolist() == list(images)
    for uri, image in images.items():
        expected = open_model(config).localize(image, config.predict_config())
        found = rows[rows.image == uri]
        assert found["rank"].tolist() == list(range(1, 1 + len(expected)))
        assert found.label.tolist() == list(expected.labels)
        assert found.label_id.tolist() == expected.label_ids.tolist()
        atol = tolerance * max(image.shape)
        np.testing.assert_allclose(found[CORNERS], expected.boxes_xyxy, rtol=0, atol=atol)
        np.testing.assert_allclose(found.score, expected.scores, rtol=0, atol=tolerance)


@pytest.mark.parametrize("pool", ["none", "mean", "max"])
def test_features_are_those_of_the_model_in_python(tmp_path, checkpoint, pool):
    config, images = annotate_pictures(
        tmp_path, checkpoint, slice_size=1, tasks=("features",), feature_pool=pool, scales=LADDER,
        feature_layer="fc7_relu", flips=pool == "mean", count=2,
    )  # fmt: skip
    rows = read_rows(config.output, "features").to_pandas()
    assert rows.image.unique().tolist() == list(images)
    for uri, image in images.items():
        expected = predict_alone(config, image).features
        found = rows[rows.image == uri]
        assert np.array_equal(np.stack(found.vector), expected.vectors)
        for column in CELL:
            assert np.array_equal(found[column], getattr(expected, column))
        assert expected.scale.max() == 1
        assert (len(found) == 2) == (pool != "none")


def test_features_of_a_slice_are_sorted_by_image_scale_row_and_column(tmp_path, checkpoint):
    config, _ = annotate_pictures(
        tmp_path, checkpoint, tasks=("features",), feature_pool="none", scales=LADDER
    )
    rows = read_rows(config.output, "features").to_pandas()
    keys = ["image", *CELL]
    assert not rows.duplicated(keys).any()
    pd.testing.assert_frame_equal(rows, rows.sort_values(keys, ignore_index=True))


def test_every_table_of_the_tasks_has_its_schema_and_tells_its_run(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 2)
    config = make_config(str(tmp_path), checkpoint, tasks=ALL_TASKS)
    stages = annotate_without_ray(config, config.output)
    folders = {name.split("/")[0] for name in list_all(config.output)}
    assert folders == {"boxes", "features", "guesses", "images", "manifest"}
    for table, schema in (("guesses", GUESSES_SCHEMA), ("features", features_schema(128))):
        uri = storage.join_uri(config.output, table, slice_name(0))
        assert read_file(uri).schema.equals(schema)
        assert read_notes(uri)["fingerprint"] == stages.fingerprint
    notes = read_notes(storage.join_uri(config.output, "images", slice_name(0)))
    counts = RowCounts.decode(notes["counts"])
    for table in ("boxes", "guesses", "features"):
        assert getattr(counts, table) == read_rows(config.output, table).num_rows > 0


def test_failed_images_have_no_rows_and_empty_tables_the_same_columns(tmp_path, checkpoint):
    for number in range(4):
        storage.write_bytes(str(tmp_path / "in" / f"bad-{number}.jpg"), b"no image")
    storage.write_bytes(str(tmp_path / "in" / "photo-001-bad.jpg"), b"no image")
    config, images = annotate_pictures(
        tmp_path, checkpoint, tasks=ALL_TASKS, feature_pool="none", count=3
    )
    for table, schema in (("guesses", GUESSES_SCHEMA), ("features", features_schema(128))):
        empty = read_file(storage.join_uri(config.output, table, slice_name(0)))
        assert empty.num_rows == 0
        assert empty.schema.equals(schema)
        frame = pd.read_parquet(f"{config.output}/{table}")
        assert frame.image.unique().tolist() == list(images)


def test_good_images_keep_their_features_beside_bad_ones(tmp_path, checkpoint):
    tables = []
    for name in ("mixed", "clean"):
        root = tmp_path / name
        if name == "mixed":
            storage.write_bytes(str(root / "in" / "photo-000-bad.jpg"), b"no image")
        changes = {"tasks": ALL_TASKS, "feature_pool": "none", "slice_size": 10}
        config, _ = annotate_pictures(root, checkpoint, count=3, **changes)
        rows = (read_rows(config.output, table) for table in ("guesses", "features"))
        tables.append([table.drop_columns(["image"]) for table in rows])
    assert tables[0][1].num_rows > 3
    for mixed, clean in zip(*tables, strict=True):
        assert mixed.equals(clean)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_alone_fills_its_table_alone(tmp_path, checkpoint, task):
    config, _ = annotate_pictures(tmp_path, checkpoint, count=1, tasks=(task,))
    table = {"localize": "guesses", "detect": "boxes", "features": "features"}.get(task, "images")
    folders = {name.split("/")[0] for name in list_all(config.output)}
    assert folders == {"images", "manifest", table}
    (row,) = read_rows(config.output, "images").to_pylist()
    assert (row["labels"] != []) == (row["scores"] != []) == (task == "classify")
    assert (row["n_boxes"] > 0) == (task == "detect")


def test_the_receipt_is_written_after_every_other_table(tmp_path, checkpoint, monkeypatch):
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint, tasks=ALL_TASKS)
    stages = start_run(config, config.output)
    detected = detect_slice(read_numbered(0, stages), open_model(config), stages)
    written = []
    monkeypatch.setattr(storage, "write_bytes", lambda uri, *_, **__: written.append(uri))
    write_slice(detected, stages)
    tables = [uri.split("/")[-2] for uri in written]
    assert sorted(tables) == ["boxes", "features", "guesses", "images"]
    assert tables[-1] == "images"


def test_all_answers_survive_a_way_through_arrow_chunks(tmp_path, checkpoint):
    """Ray hands a block over as a table whose columns may be cut into chunks."""
    write_pictures(str(tmp_path / "in"), 4)
    outputs = []
    for name in ("whole", "cut", "within"):
        config = make_config(
            str(tmp_path), checkpoint, tasks=ALL_TASKS, feature_pool="none",
            output=str(tmp_path / name),
        )  # fmt: skip
        stages = start_run(config, config.output)
        detected = detect_slice(read_numbered(0, stages), open_model(config), stages)
        if name == "cut":
            parts = [detected.slice(2, 2), detected.slice(0, 2), detected.slice(2, 2)]
            detected = pa.concat_tables(parts).slice(2)
        if name == "within":
            more = pa.concat_tables([detected.slice(2, 2), detected]).combine_chunks()
            detected = more.slice(2)
        write_slice(detected, stages)
        outputs.append(config.output)
    for table in ("guesses", "features"):
        one, *others = (read_rows(output, table) for output in outputs)
        assert one.num_rows > 4
        assert all(one.equals(other) for other in others)


def test_a_committee_annotates_what_it_says_in_python(tmp_path, committee):
    tasks = ("classify", "localize", "detect")
    config, images = annotate_pictures(tmp_path, *committee, slice_size=1, tasks=tasks, count=2)
    answers = {}
    for names in (committee, committee[:1]):
        asked = make_config(str(tmp_path), *names, tasks=tasks)
        answers[len(names)] = {uri: predict_alone(asked, image) for uri, image in images.items()}
    rows, boxes, guesses = (
        read_rows(config.output, table).to_pandas() for table in ("images", "boxes", "guesses")
    )
    for uri, row in rows.set_index("image").iterrows():
        expected, alone = answers[2][uri], answers[1][uri]
        assert row.labels.tolist() == list(expected.classification.labels)
        assert row.scores.tolist() == expected.classification.scores.tolist()
        assert row.scores.tolist() != alone.classification.scores.tolist()
        found = boxes[boxes.image == uri]
        assert np.array_equal(found[CORNERS], expected.detections.boxes_xyxy)
        assert np.array_equal(found.evidence, expected.detections.evidence)
        found = guesses[guesses.image == uri]
        assert np.array_equal(found[CORNERS], expected.guesses.boxes_xyxy)


def test_pixels_travel_as_the_largest_view_of_any_member_needs_them(tmp_path, committee):
    write_pictures(str(tmp_path / "in"), 3)
    # 300 x 280 pixels, third of the pictures; 281x317 is the second member's scale.
    for names, height, width in ((committee, 300, 280), (committee[:1], 245, 229)):
        config = make_config(str(tmp_path), *names, output=str(tmp_path / str(len(names))))
        table = read_numbered(0, start_run(config, config.output))
        assert table["pixel_width"].to_pylist()[2] == width
        assert len(table["pixels"][2].as_py()) == height * width * 3


@pytest.mark.parametrize("views", ["ten-view", "centre-crop", "original"])
def test_crops_of_older_protocols_are_annotated_as_in_python(tmp_path, checkpoint, views):
    config, images = annotate_pictures(
        tmp_path, checkpoint, slice_size=1, count=3, views=views, tasks=("classify", "features")
    )
    assert config.predict_config() == PredictConfig(
        views=views, score_threshold=config.score_threshold
    )
    rows = read_rows(config.output, "images").to_pandas().set_index("image")
    for uri, image in images.items():
        expected = open_model(config).classify(image, config.predict_config())
        assert rows.loc[uri].scores.tolist() == expected.scores.tolist()
    crops = 5 if views == "ten-view" else 1
    scales = read_rows(config.output, "features")["scale"].to_pylist()
    assert scales == list(range(crops)) * 3


@pytest.mark.parametrize("merge", MERGES)
def test_boxes_are_merged_as_was_asked(tmp_path, checkpoint, merge):
    config, images = annotate_pictures(
        tmp_path, checkpoint, slice_size=1, count=1, merge=merge, scales=LADDER
    )
    predict = PredictConfig(
        merge=MERGES[merge](),
        scales=tuple(map(Canvas.parse, LADDER)),
        score_threshold=config.score_threshold,
    )
    expected = open_model(config).detect(*images.values(), predict)
    boxes = read_rows(config.output, "boxes").to_pandas()
    assert np.array_equal(boxes[CORNERS], expected.boxes_xyxy)
    assert np.array_equal(boxes.n_windows, expected.n_windows)
