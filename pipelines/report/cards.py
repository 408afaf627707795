"""What does the page show of one image?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.report.charts import draw_swatch
from pipelines.report.load import ShownBox, ShownImage
from pipelines.report.markup import Html, element
from pipelines.report.pictures import Picture
from pipelines.report.words import name_of
from pipelines.wording import tell_count

BOXES_IN_WORDS = 5


def write_card(
    shown: ShownImage, picture: Picture, *, score_threshold: float, has_boxes: bool
) -> Html:
    """Write one image's card: its picture, name, boxes and classes.

    Args:
        shown: what the tables know of it.
        picture: the picture with its boxes, or why there is none.
        score_threshold: the score that the listed boxes have at least.
        has_boxes: whether the run looked for boxes at all.

    Returns:
        A list item.
    """
    labels = {box.label for box in shown.boxes} | {label for label, _ in shown.classes[:1]}
    return element(
        "li",
        element("div", _show_picture(shown, picture), class_="picture"),
        element(
            "div",
            element("h3", name_of(shown.image)),
            element("p", shown.image, class_="uri muted"),
            element(
                "p",
                f"{shown.width} x {shown.height} pixels",
                f", {_tell_boxes(shown, score_threshold)}" if has_boxes else None,
                class_="muted small",
            ),
            _list_boxes(shown.boxes) if shown.boxes else None,
            _list_classes(shown.classes) if shown.classes else None,
            class_="body",
        ),
        class_="card",
        data_text=" ".join([shown.image, *sorted(labels)]).lower(),
    )


def _show_picture(shown: ShownImage, picture: Picture) -> Html:
    if picture.data_uri is None:
        return element("p", element("strong", "No picture. "), picture.problem)
    return element(
        "img",
        src=picture.data_uri,
        width=picture.width,
        height=picture.height,
        alt=_describe(shown),
        loading="lazy",
        decoding="async",
    )


def _describe(shown: ShownImage) -> str:
    """The picture in words: its boxes or, without any, its first class."""
    boxes = shown.boxes
    found = [f"{box.label} {box.score:.2f}" for box in boxes[:BOXES_IN_WORDS]]
    if len(boxes) > BOXES_IN_WORDS:
        found.append(f"{len(boxes) - BOXES_IN_WORDS} more")
    found = found or [f"{label} {score:.2f}" for label, score in shown.classes[:1]]
    return f"{name_of(shown.image)}: {', '.join(found)}"


def _tell_boxes(shown: ShownImage, score_threshold: float) -> str:
    boxes = tell_count(len(shown.boxes), "box", "boxes") if shown.boxes else "no box"
    if not shown.n_below:
        return boxes
    return f"{boxes}, {shown.n_below:,} more below {score_threshold:g}"


def _list_boxes(boxes: Sequence[ShownBox]) -> Html:
    head = (
        element("th", name, scope="col", class_=css)
        for name, css in (("Box", None), ("Score", "number"), ("Corners", "number"))
    )
    table = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *(_write_box(box) for box in boxes)),
    )
    # A region that scrolls needs the focus to be scrolled without a mouse.
    return element(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label="Boxes of this image"
    )


def _write_box(box: ShownBox) -> Html:
    corners = " ".join(f"{value:.0f}" for value in box.xyxy)
    return element(
        "tr",
        element("th", draw_swatch(box.label), box.label, scope="row"),
        element("td", f"{box.score:.2f}", class_="number", title=f"evidence {box.evidence:.2f}"),
        element("td", corners, class_="number", title="x_min y_min x_max y_max in pixels"),
    )


def _list_classes(classes: Iterable[tuple[str, float]]) -> Html:
    rows = (
        element("li", element("span", label), element("span", f"{score:.2f}", class_="number"))
        for label, score in classes
    )
    return element(
        "div",
        element("p", "Classes of the whole image", class_="muted small"),
        element("ol", *rows, class_="classes"),
    )
