"""What do a run's tables say, when they may hold millions of rows?

Two passes. The first reads each file once, a few columns of it, and keeps sums: it costs the bytes
of `images` and `boxes`, and the memory of `SLICES_AT_ONCE` slices and the shortlist. The second
reads whole rows, those of the shown images alone. *Measured* on two cores: 500,000 images with
4,000,000 boxes on local disk take 7 seconds and 110 MB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import ImageError, StorageError
from pipelines.manifest import iter_slices, open_manifest, read_summary
from pipelines.progress import follow
from pipelines.receipts import list_receipts
from pipelines.report.choose import WITHOUT_LABEL, Candidate, Shortlist
from pipelines.storage import ObjectBytes, ObjectInfo
from pipelines.tables import BOXES, IMAGES, slice_name, slice_number

SCORE_BINS = 20
EXAMPLES_PER_REASON = 5
SLICES_AT_ONCE = 16

UNKNOWN_REASON = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedImage:
    """One image that the run could not annotate."""

    image: str
    """Its URI."""
    message: str
    """What the run wrote about it."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """Sums over the tables, with what is needed to choose the shown images."""

    score_threshold: float
    """Boxes with at least this score are counted in `n_kept_boxes`."""
    shortlist: Shortlist
    """The ok images that may be shown."""
    has_boxes: bool = False
    """Whether the run has a `boxes` table at all."""
    receipts: dict[int, int] = field(default_factory=dict)
    """By the number of each slice that has a receipt, the generation that it is of."""
    n_ahead: int = 0
    """Slices with boxes and without a receipt: in flight, or left so by a killed run."""
    n_ok: int = 0
    """Images with the status "ok"."""
    n_without_kept_box: int = 0
    """Ok images without a box that has the threshold as score."""
    n_truncated: int = 0
    """Images that had more boxes than the run keeps."""
    n_boxes: int = 0
    """Boxes of committed slices."""
    n_kept_boxes: int = 0
    """Those with at least the threshold as score."""
    labels: Counter[str] = field(default_factory=Counter)
    """Boxes by label; in a run without boxes, ok images by their first class."""
    score_counts: np.ndarray = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))
    """Boxes by score: `SCORE_BINS` bins of equal width from 0 to 1."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Failed images by reason."""
    examples: dict[str, list[FailedImage]] = field(default_factory=dict)
    """The first `EXAMPLES_PER_REASON` failed images of each reason."""

    @property
    def n_failed(self) -> int:
        """Images with the status "error"."""
        return self.reasons.total()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownBox:
    """One row of the `boxes` table."""

    label: str
    score: float
    evidence: float
    xyxy: tuple[float, float, float, float]
    """Half-open pixels of the original image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownImage:
    """An ok image with all that the tables know of it."""

    listed: ObjectInfo
    """Where it is read: its URI, its place in a tar, and the etag of the bytes that were annotated,
    "" when unknown."""
    width: int
    height: int
    """Pixels, after EXIF orientation."""
    classes: tuple[tuple[str, float], ...]
    """Labels and scores, best first."""
    boxes: tuple[ShownBox, ...]
    """Those that have the threshold as score, by rank, best first."""
    n_below: int
    """Boxes with a lower score."""

    @property
    def image(self) -> str:
        """Its URI."""
        return self.listed.uri


def tally_tables(output: str, *, max_images: int, score_threshold: float) -> Tally:
    """Add up the tables of a run, finished or not.

    Args:
        output: URI of the run.
        max_images: how many images will be shown at most.
        score_threshold: from 0 to 1; see `Tally.n_kept_boxes`.

    Returns:
        The sums over all committed slices.

    Raises:
        StorageError: a table cannot be read.
    """
    # Receipts first: a slice's boxes are there before its receipt, so none is missed between.
    receipts, boxes = list_receipts(output), _list_boxes(output)
    manifest = read_summary(output)
    if manifest is not None:
        # Files that are no slice's: somebody put them there, and no command calls them the run's.
        listed = set(range(manifest.slices))
        receipts, boxes = receipts & listed, boxes & listed
    tally = Tally(
        score_threshold=score_threshold,
        shortlist=Shortlist(max_images=max_images),
        has_boxes=bool(boxes),
        n_ahead=len(boxes - receipts),
    )
    images_columns = ["image", "status", "error_type", "error", "truncated_boxes"]
    images_columns += [] if boxes else ["labels"]
    boxes_columns = ["image", "label", "score"]
    slices = _read_slices(output, sorted(receipts), boxes, images_columns, boxes_columns)
    for number, images_rows, boxes_rows in follow(
        slices, total=len(receipts), unit="slices", doing="reading tables"
    ):
        tally.receipts[number] = images_rows.attrs["generation"]
        _add_failures(tally, images_rows)
        first_labels = _find_first_labels(boxes_rows, score_threshold)
        groups = _add_ok_images(tally, images_rows, first_labels)
        tally.shortlist.add(groups, slice_number=number)
        _add_boxes(tally, boxes_rows)
    return tally


def read_shown(
    output: str, candidates: Sequence[Candidate], *, score_threshold: float
) -> list[ShownImage]:
    """Read all that the tables know of some images.

    Args:
        output: URI of the run.
        candidates: the images, with the slices that hold their rows.
        score_threshold: from 0 to 1; boxes below it are only counted.

    Returns:
        One for each candidate, in their order; fewer where a slice was rewritten in between.

    Raises:
        StorageError: a table cannot be read.
    """
    numbers = sorted({candidate.slice_number for candidate in candidates})
    wanted = [candidate.image for candidate in candidates]
    offsets = _find_offsets(output, candidates)
    shown: dict[str, ShownImage] = {}
    for _, images_rows, boxes_rows in _read_slices(
        output, numbers, _list_boxes(output), None, None
    ):
        boxes: dict[str, list[ShownBox]] = {}
        if boxes_rows is not None:
            kept = boxes_rows[_is_kept(boxes_rows["score"], score_threshold)]
            for row in _iterate_rows(kept, wanted):
                boxes.setdefault(row["image"], []).append(_make_box(row))
        for row in _iterate_rows(images_rows, wanted):
            offset = offsets.get(row["image"])
            shown[row["image"]] = _make_image(row, offset, boxes.get(row["image"], []))
    return [shown[image] for image in wanted if image in shown]


def _find_offsets(output: str, candidates: Sequence[Candidate]) -> dict[str, int]:
    """Where the bytes of those begin that are members of tars: the manifest alone knows."""
    numbers = {at.slice_number for at in candidates if storage.split_member(at.image) is not None}
    # Most runs have no members, and are spared the manifest.
    manifest = open_manifest(output) if numbers else None
    if manifest is None:
        return {}
    listed = numbers.intersection(range(manifest.summary.slices))
    return {
        entry.info.uri: entry.info.offset
        for _, entries in iter_slices(manifest, listed)
        for entry in entries
        if entry.info.offset is not None
    }


def _list_boxes(output: str) -> set[int]:
    names = storage.list_names(storage.join_uri(output, BOXES))
    return {number for name in names if (number := slice_number(name)) is not None}


def _read_slices(
    output: str,
    numbers: Sequence[int],
    with_boxes: set[int],
    images_columns: list[str] | None,
    boxes_columns: list[str] | None,
) -> Iterator[tuple[int, pd.DataFrame, pd.DataFrame | None]]:
    """Both tables of each slice, `SLICES_AT_ONCE` in memory; None where it has no boxes."""
    for start in range(0, len(numbers), SLICES_AT_ONCE):
        some = numbers[start : start + SLICES_AT_ONCE]
        images = _read_tables(output, IMAGES, some, images_columns)
        boxes = _read_tables(output, BOXES, [x for x in some if x in with_boxes], boxes_columns)
        for number in some:
            yield number, images[number], boxes.get(number)


def _find_first_labels(boxes_rows: pd.DataFrame | None, score_threshold: float) -> dict[str, str]:
    """The label of the first box of each image that has one with the threshold as score."""
    if boxes_rows is None:
        return {}
    kept = boxes_rows[_is_kept(boxes_rows["score"], score_threshold)]
    first = kept.drop_duplicates("image")
    return dict(zip(first["image"], first["label"], strict=True))


def _is_kept(scores: pd.Series[float], score_threshold: float) -> pd.Series[bool]:
    # The column is float32, where 0.7 is a little less than the 0.7 of Python.
    return scores >= np.float32(score_threshold)


def _add_failures(tally: Tally, images_rows: pd.DataFrame) -> None:
    failed = images_rows[images_rows["status"] != "ok"]
    reasons = failed["error_type"].fillna(UNKNOWN_REASON)
    for image, reason, message in zip(
        failed["image"], reasons, failed["error"].fillna(""), strict=True
    ):
        tally.reasons[reason] += 1
        examples = tally.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES_PER_REASON:
            examples.append(FailedImage(image=image, message=message))


def _add_ok_images(
    tally: Tally, images_rows: pd.DataFrame, first_labels: dict[str, str]
) -> list[tuple[str, str]]:
    """Count them; give each with its group."""
    ok = images_rows[images_rows["status"] == "ok"]
    tally.n_ok += len(ok)
    tally.n_truncated += int(ok["truncated_boxes"].sum())
    if tally.has_boxes:
        groups = [first_labels.get(image, WITHOUT_LABEL) for image in ok["image"]]
        tally.n_without_kept_box += groups.count(WITHOUT_LABEL)
    else:
        groups = [labels[0] if len(labels) else WITHOUT_LABEL for labels in ok["labels"]]
        tally.labels.update(group for group in groups if group != WITHOUT_LABEL)
    return list(zip(ok["image"], groups, strict=True))


def _add_boxes(tally: Tally, boxes_rows: pd.DataFrame | None) -> None:
    if boxes_rows is None:
        return
    scores = boxes_rows["score"]
    tally.n_boxes += len(scores)
    tally.n_kept_boxes += int(_is_kept(scores, tally.score_threshold).sum())
    edges = np.linspace(0, 1, SCORE_BINS + 1, dtype=np.float32)
    tally.score_counts += np.histogram(scores, bins=edges)[0]
    for label, number in boxes_rows["label"].value_counts().items():
        tally.labels[str(label)] += int(number)


def _make_image(
    row: dict[Hashable, Any], offset: int | None, boxes: Sequence[ShownBox]
) -> ShownImage:
    return ShownImage(
        listed=ObjectInfo(uri=row["image"], size=row["size"], etag=row["etag"], offset=offset),
        width=int(row["width"]),
        height=int(row["height"]),
        classes=tuple(zip(row["labels"], row["scores"], strict=True)),
        boxes=tuple(boxes),
        # A slice that an update rewrites has its new boxes before its new receipt.
        n_below=max(0, int(row["n_boxes"]) - len(boxes)),
    )


def _make_box(row: dict[Hashable, Any]) -> ShownBox:
    return ShownBox(
        label=row["label"],
        score=row["score"],
        evidence=row["evidence"],
        xyxy=(row["x_min"], row["y_min"], row["x_max"], row["y_max"]),
    )


def _iterate_rows(rows: pd.DataFrame, images: Sequence[str]) -> Iterator[dict[Hashable, Any]]:
    """The rows of these images, in the order of the table: by image, then rank."""
    yield from rows[rows["image"].isin(images)].to_dict("records")


def _read_tables(
    output: str, table: str, numbers: Sequence[int], columns: list[str] | None
) -> dict[int, pd.DataFrame]:
    uris = [storage.join_uri(output, table, slice_name(number)) for number in numbers]
    answers = storage.read_objects([ObjectInfo(uri=uri) for uri in uris])
    return {
        number: _decode_table(uri, answer, columns)
        for number, uri, answer in zip(numbers, uris, answers, strict=True)
    }


def _decode_table(
    uri: str, answer: ObjectBytes | ImageError, columns: list[str] | None
) -> pd.DataFrame:
    if isinstance(answer, ImageError):
        raise StorageError(f"{uri}: the table cannot be read: {answer}")
    try:
        table = pq.read_table(pa.BufferReader(answer.data), columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: not a table of this program: {error}") from error
    rows: pd.DataFrame = table.to_pandas()
    # An attribute of the frame, because it is no column and belongs to all rows of a file.
    rows.attrs["generation"] = int((table.schema.metadata or {}).get(b"generation", 0))
    return rows
