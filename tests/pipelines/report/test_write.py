"""From a run's folder to its page: everything is accounted for, and nothing stops it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.errors import InputError, StorageError
from pipelines.report import ReportConfig, write_report
from pipelines.storage import ObjectInfo
from tests.pipelines.manifest.written import write_later
from tests.pipelines.report.fake_run import FakeRun

LOADING_ATTRIBUTES = {"src", "srcset", "href", "action", "poster", "data", "background", "style"}
VOID = {"meta", "link", "img", "input"}


class PageReader(HTMLParser):
    """Collects what a browser would see, and refuses tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open[-1:]):
            self.words.append(data)

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def read_page(uri):
    reader = PageReader()
    reader.feed(Path(uri).read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def make_page(output, **settings):
    summary = write_report(ReportConfig(output=output, **settings))
    return summary, read_page(summary.page)


@pytest.fixture
def run(tmp_path):
    return FakeRun(tmp_path)


def test_every_image_of_the_tables_is_accounted_for(run):
    for index in range(7):
        run.add_ok(f"{index}.png", ("cat", 0.9), ("dog", 0.25), number=index // 3)
    for index in range(5):
        run.add_failed(f"s3://bucket/{index}.jpg", ["truncated", "corrupt"][index % 2], number=2)
    summary, page = make_page(run.write(), max_images=4)
    assert (summary.n_ok, summary.n_failed, summary.n_boxes) == (7, 5, 14)
    assert (summary.n_shown, summary.n_unreadable, summary.is_finished) == (4, 0, True)
    assert "images ok 7" in page.text
    assert "images failed, 41.7% of 12 5" in page.text
    assert "4 of 7 images" in page.text
    assert "7 of 14 boxes have a score of 0.5 or more" in page.text
    assert len(page.find("img")) == 4


def test_files_of_no_slice_do_not_count(run):
    """Somebody put them there."""
    run.add_ok("a.png", ("cat", 0.9), number=0)
    run.add_ok("b.png", ("dog", 0.9), number=1)
    output = run.write()
    for table in ("images", "boxes"):
        data = storage.read_bytes(f"{output}/{table}/slice-000001.parquet")
        storage.write_bytes(f"{output}/{table}/slice-000007.parquet", data)
    storage.write_bytes(f"{output}/boxes/slice-000008.parquet", data)
    summary, _ = make_page(output)
    assert (summary.n_ok, summary.n_boxes, summary.is_finished) == (2, 2, True)


def test_a_run_that_found_no_box_has_no_scores_to_show(run):
    run.add_ok("a.png")
    _, page = make_page(run.write())
    assert "There are none." in page.text
    assert "Scores" not in page.text


def test_the_page_stands_in_the_run_or_where_it_is_wanted(run, tmp_path):
    run.add_ok("a.png")
    output = run.write()
    elsewhere = str(tmp_path / "pages" / "a.html")
    assert write_report(ReportConfig(output=output)).page == f"{output}/report.html"
    assert write_report(ReportConfig(output=output, page=elsewhere)).page == elsewhere
    assert read_page(elsewhere).find("img")


def test_the_same_run_gives_the_same_bytes(run):
    for index in range(6):
        run.add_ok(f"{index}.png", ("cat", 0.9))
    output = run.write()
    page = Path(write_report(ReportConfig(output=output)).page)
    first = page.read_bytes()
    write_report(ReportConfig(output=output))
    assert page.read_bytes() == first


def test_what_data_says_is_never_markup(run):
    evil = "<script>alert('x')<&\">"
    run.add_ok(f"{evil}.png".replace("/", ""), (f"</td>{evil}", 0.9), classes=((evil, 0.9),))
    run.add_failed(f"s3://bucket/{evil}", evil, f"</style>{evil}")
    output = run.write()
    run.write_json("run.json", {evil: evil, "weights": evil, "tasks": [evil]})
    summary, page = make_page(output)
    assert summary.n_shown == 1
    assert len(page.find("script")) == 1
    assert page.text.count(evil) >= 8
    assert evil in page.find("img")[0]["alt"]
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_loads_nothing(run):
    run.add_ok("a.png", ("cat", 0.9))
    run.add_failed("https://host.example/a.jpg")
    output = run.write()
    run.write_json("run.json", {"images": "https://host.example/", "weights": "s3://models/a"})
    summary, page = make_page(output)
    for _, attributes in page.elements:
        for name in LOADING_ATTRIBUTES & set(attributes):
            assert attributes[name].startswith("data:")
    html = Path(summary.page).read_text(encoding="utf-8")
    style, script = (
        re.search(rf"<{x}>(.*?)</{x}>", html, re.DOTALL)[1] for x in ("style", "script")
    )
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"fetch|XMLHttp|import|https?:", script)
    policy = next(x["content"] for x in page.find("meta") if "http-equiv" in x)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_failed_images_are_listed_by_reason_with_their_messages(run):
    run.add_ok("a.png")
    for index in range(9):
        run.add_failed(f"s3://bucket/t{index}.jpg", "truncated", f"ends at byte {index}")
    run.add_failed("s3://bucket/c.jpg", "corrupt", "bad marker")
    page = make_page(run.write())[1].text
    assert page.index("truncated 9") < page.index("corrupt 1")
    assert "s3://bucket/t0.jpg ends at byte 0" in page
    assert "and 4 more" in page
    assert "s3://bucket/c.jpg bad marker" in page


def test_an_image_that_is_gone_leaves_a_placeholder_with_the_reason(run):
    run.add_ok("a.png", ("cat", 0.9))
    run.add_ok("gone.png", ("dog", 0.9)).unlink()
    summary, page = make_page(run.write())
    assert (summary.n_shown, summary.n_unreadable) == (2, 1)
    assert "No picture. not_found" in page.text
    assert "dog 0.90 10 20 40 50" in page.text, "its boxes are still listed"


def test_an_image_that_changed_is_not_shown_with_boxes_of_another(run):
    run.add_ok("a.png", ("cat", 0.9)).write_bytes(b"another image altogether")
    summary, page = make_page(run.write())
    assert summary.n_unreadable == 1
    assert "No picture. changed" in page.text


def test_an_image_of_another_size_is_not_shown_where_no_etag_is_known(run):
    path = run.add_ok("a.png", ("cat", 0.9))
    other = run.add_ok("b.png", size=(10, 20))
    path.write_bytes(other.read_bytes())
    run.images[0][1]["etag"] = ""
    assert "10 x 20 pixels, but 80 x 60 when" in make_page(run.write())[1].text


def test_bytes_that_do_not_decode_leave_a_placeholder(run):
    run.add_ok("a.png").write_bytes(b"no image")
    run.images[0][1]["etag"] = ""
    assert "No picture. not_an_image" in make_page(run.write())[1].text


def test_a_store_that_cannot_be_asked_leaves_placeholders(run, monkeypatch):
    run.add_ok("a.png", ("cat", 0.9))
    output = run.write()

    def read_tables_alone(objects, **options):
        if objects[0].uri.endswith(".png"):
            raise StorageError("no valid credentials")
        return read_objects(objects, **options)

    read_objects = storage.read_objects
    monkeypatch.setattr(storage, "read_objects", read_tables_alone)
    summary, page = make_page(output)
    assert (summary.n_shown, summary.n_unreadable) == (1, 1)
    assert "No picture. unavailable: no valid credentials" in page.text


def test_a_run_without_any_box_has_a_page(run):
    run.add_ok("a.png")
    summary, page = make_page(run.write())
    assert (summary.n_boxes, summary.n_shown) == (0, 1)
    assert "1 image has no box with a score of 0.5" in page.text
    assert page.find("img")[0]["alt"] == "a.png: cat 0.75"


def test_a_run_in_which_all_failed_has_a_page(run):
    run.add_failed("s3://bucket/a.jpg")
    summary, page = make_page(run.write())
    assert (summary.n_ok, summary.n_failed, summary.n_shown) == (0, 1, 0)
    assert "100.0% of 1" in page.text
    assert page.find("img") == []


def test_a_run_that_only_classified_shows_its_classes(run):
    run.add_ok("a.png", classes=(("cat", 0.75), ("dog", 0.25)))
    run.add_ok("b.png", classes=(("cat", 0.75),))
    page = make_page(run.write(with_boxes=False))[1].text
    assert "Images by their first class. Label Images cat 2" in page
    assert "Scores" not in page
    assert "box" not in page.partition("Configuration")[0].replace("boxes_", "")


def test_a_run_in_progress_says_so_and_counts_only_what_is_committed(run):
    run.add_ok("a.png", ("cat", 0.9), number=0)
    run.add_ok("b.png", ("dog", 0.9), ("dog", 0.8), number=1)
    summary, page = make_page(run.write(without_receipts=[1]))
    assert (summary.n_ok, summary.n_boxes, summary.is_finished) == (1, 1, False)
    assert "In progress" in page.text
    assert "1 of 2 slices to be done" in page.text
    assert "1 slice has boxes but no receipt yet" in page.text


def test_a_run_that_has_only_begun_has_a_page(run):
    run.write_json("run.json", {"weights": "demo"})
    summary, page = make_page(str(run.output))
    assert (summary.n_ok, summary.is_finished) == (0, None)
    assert "demo" in page.text


def test_an_update_in_progress_is_not_called_finished(run):
    run.add_ok("a.png", number=0)
    run.add_ok("b.png", number=1)
    output = run.write()
    run.write_update(1, [1])
    summary, page = make_page(output)
    assert summary.is_finished is False
    assert "1 of 2 slices to be done" in page.text


def test_a_slice_that_an_update_adds_is_to_be_done(run):
    run.add_ok("a.png", number=0)
    output = run.write()
    run.add_ok("b.png", number=1)
    write_later(output, 1, [(1, [ObjectInfo(uri=str(run.bucket / "b.png"))])])
    summary, page = make_page(output)
    assert (summary.n_ok, summary.is_finished) == (1, False)
    assert "1 of 2 slices to be done" in page.text


def test_a_slice_done_for_a_later_update_than_the_last_that_lists_it_is_done(run):
    """Never written so by a run, but no reason to call it unfinished."""
    run.add_ok("a.png", number=0)
    output = run.write(generation=2)
    run.write_update(1, [0])
    assert make_page(output)[0].is_finished is True


def test_an_update_that_was_never_planned_to_the_end_does_not_count(run):
    run.add_ok("a.png", number=0)
    output = run.write()
    run.write_update(1, [0], is_complete=False)
    assert make_page(output)[0].is_finished is True


def test_a_finished_update_is_finished(run):
    run.add_ok("a.png", number=0)
    output = run.write(generation=1)
    run.write_update(1, [0])
    assert make_page(output)[0].is_finished is True


def test_without_a_manifest_nothing_is_claimed(run):
    run.add_ok("a.png")
    summary, page = make_page(run.write(with_manifest=False))
    assert summary.is_finished is None
    assert "No manifest" in page.text
    assert "Finished" not in page.text


def test_what_the_run_wrote_about_itself_is_shown(run):
    run.add_ok("a.png")
    output = run.write()
    run.write_json(
        "run.json",
        {
            "config": {"weights": "s3://models/accurate", "scales": [[245, 245]]},
            "model": {"architectures": ["accurate", "fast"]},
        },
    )
    run.write_json("runs/2026-01-01.json", {"images_per_second": 1.0})
    run.write_json("runs/2026-01-02.json", {"images_per_second": 1234.56})
    page = make_page(output)[1].text
    assert "Model s3://models/accurate" in page
    assert "Architecture accurate, fast" in page
    assert "1,234.6" in page
    assert "config.scales [[245, 245]]" in page


def test_an_invocation_that_read_no_image_has_no_rate(run):
    run.add_ok("a.png")
    output = run.write()
    run.write_json("runs/2026-01-01.json", {"images_per_second": 0.0})
    assert "images/s" not in make_page(output)[1].text.partition("Labels")[0]


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_a_damaged_run_file_costs_only_its_facts(run, content):
    run.add_ok("a.png")
    output = run.write()
    run.write_json("run.json", content)
    assert "no readable run.json" in make_page(output)[1].text


def test_the_threshold_is_that_of_the_float32_column(run):
    run.add_ok("a.png", ("cat", 0.7), ("dog", 0.69))
    page = make_page(run.write(), score_threshold=0.7)[1].text
    assert "1 of 2 boxes have a score of 0.7 or more" in page
    assert "80 x 60 pixels, 1 box, 1 more below 0.7" in page


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run here, expected run"):
        write_report(ReportConfig(output=str(tmp_path)))


def test_a_damaged_table_is_named(run):
    run.add_ok("a.png")
    output = run.write()
    (run.output / "images" / "slice-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=r"slice-000000\.parquet: not a table"):
        write_report(ReportConfig(output=output))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_images": -1}, "max_images is -1, need at least 0"),
        ({"score_threshold": 1.5}, "score_threshold is 1.5, need 0 to 1"),
        ({"thumbnail_px": 10}, "thumbnail_px is 10 pixels, need 64 to 2048"),
    ],
)
def test_a_setting_without_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ReportConfig(output="out", **settings)


def test_a_page_without_pictures_can_be_asked_for(run):
    run.add_ok("a.png", ("cat", 0.9))
    summary, page = make_page(run.write(), max_images=0)
    assert (summary.n_ok, summary.n_shown) == (1, 0)
    assert page.find("img") == []
