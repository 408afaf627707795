"""Does the demo make a bucket, annotate it and write a page, once?"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

from pipelines import demo
from pipelines.demo import DemoConfig, run_demo
from pipelines.errors import InputError
from tests.builders import run_command


@pytest.mark.ray
def test_the_demo_leaves_pictures_tables_and_a_page_and_the_next_one_reads_no_image(
    tmp_path, ray_cluster
):
    flags = ["demo", "--folder", tmp_path / "demo", "--scenes", 3]
    ended = run_command(*flags)
    assert ended.code == 0, ended.err
    (bucket,) = (tmp_path / "demo").glob("bucket*")
    pictures = [path for path in bucket.rglob("*") if path.is_file()]
    assert len(list(bucket.glob("scenes/*.jpg"))) == 3
    (output,) = (tmp_path / "demo").glob("annotations*")
    images, boxes = pd.read_parquet(output / "images"), pd.read_parquet(output / "boxes")
    assert sorted(images.image) == sorted(str(path) for path in pictures)
    assert (images.status == "ok").all()
    assert f"images  {len(images):>10,}" in ended.out
    assert f"boxes   {len(boxes):>10,}" in ended.out
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "test-000000.jpg" in page
    assert "<html" in page
    for label, count in boxes.query(demo.SURE).label.value_counts().items():
        assert re.search(rf"^{label} +{count} ", ended.out, re.MULTILINE)

    again = run_command(*flags)
    assert again.code == 0, again.err
    assert "read no image" in again.out
    shown = ended.out.split("\n\n", 1)[1]
    assert again.out.split("\n\n", 1)[1] == shown


def test_without_the_packages_of_the_pictures_it_says_what_to_install(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else find_spec(name)
    )
    with pytest.raises(InputError, match="pip install"):
        run_demo(DemoConfig(folder=tmp_path / "demo"))
    assert not (tmp_path / "demo").exists()


def test_a_bucket_that_was_not_finished_is_made_anew(tmp_path, monkeypatch):
    def fail(folder, *, scenes):
        folder.mkdir(parents=True)
        (folder / "half.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    config = DemoConfig(folder=tmp_path, scenes=1)
    with monkeypatch.context() as patch:
        patch.setattr(demo, "write_sample_bucket", fail)
        with pytest.raises(KeyboardInterrupt):
            run_demo(config)
    bucket = demo._make_bucket(config)
    assert not list(Path(bucket).rglob("half.jpg"))
    assert len(list(Path(bucket).glob("scenes/*.jpg"))) == 1


def test_boxes_are_shown_best_first_and_counted_by_label():
    boxes = pd.DataFrame(
        {
            "image": ["/b/x.jpg", "/b/y.jpg", "/b/x.jpg", "/b/x.jpg"],
            "label": ["bee", "bee", "ant", "bee"],
            "score": [0.9, 0.95, 0.99, 0.89],
            "evidence": [1.0, 3.0, 2.0, 0.5],
            **{name: [1.0] * 4 for name in ("x_min", "y_min", "x_max", "y_max")},
            "n_windows": [1] * 4,
        }
    )
    rows = demo._show_boxes(boxes).splitlines()
    assert [row.split()[:2] for row in rows[1:4]] == [
        ["y.jpg", "bee"], ["x.jpg", "ant"], ["x.jpg", "bee"],
    ]  # fmt: skip
    counted = demo._count_labels(boxes).splitlines()
    assert [line.split() for line in counted[-2:]] == [["ant", "1", "1"], ["bee", "2", "2"]]
