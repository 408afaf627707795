"""What the papers say, as plain loops over views and windows: slow, and hard to get wrong.

For images that are not shrunk: enlarging them needs no antialiasing.
"""

from __future__ import annotations

from math import hypot, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

WINDOWS = {"tiny": 221, "fast": 231, "alexnet-2012": 227}
STEPS = {
    ("tiny", "fine"): 12,
    ("tiny", "coarse"): 36,
    ("fast", "fine"): 16,
    ("fast", "coarse"): 32,
    ("alexnet-2012", "fine"): 16,
    ("alexnet-2012", "coarse"): 32,
}


class Window(NamedTuple):
    """What one window of one view says."""

    view: int
    """Which view, in the order scale, then flip."""
    row: int
    col: int
    square: list[float]
    """The window, in pixels of the image; it may reach beyond it."""
    is_counted: bool
    """Whether it holds a part of the image."""
    probabilities: list[float]
    """Of the classes, after a softmax over all outputs."""
    boxes: list[list[float]]
    """Of each class, cut at the border of the image."""


class Drawn(NamedTuple):
    """An image on a canvas."""

    pixels: torch.Tensor
    """Normalised, (3, height, width)."""
    left: int
    top: int
    width: int
    height: int


def draw(image, canvas, normalization):
    """Enlarge an image into the middle of a canvas; the rest is zero."""
    height, width = image.shape[:2]
    rows, cols = (canvas.height, canvas.width)
    if height > width:
        rows, cols = cols, rows
    factor = min(rows / height, cols / width)
    assert factor >= 1, "only enlarging is plain"
    fitted = round(height * factor), round(width * factor)
    pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1).float()[None]
    if fitted != (height, width):
        pixels = F.interpolate(pixels, size=fitted, mode="bilinear", align_corners=False)
    top, left = (rows - fitted[0]) // 2, (cols - fitted[1]) // 2
    drawn = torch.zeros(3, rows, cols)
    for channel, (mean, std) in enumerate(zip(normalization.mean, normalization.std, strict=True)):
        inside = (pixels[0, channel] - mean) / std
        drawn[channel, top : top + fitted[0], left : left + fitted[1]] = inside
    return Drawn(drawn, left, top, fitted[1], fitted[0])


def look(member, image, ladder, *, flips=False, stride="fine"):
    """List every window of every view of an image."""
    found = []
    view = 0
    for canvas in ladder:
        drawn = draw(image, canvas, member.config.normalization)
        for flipped in (False, True) if flips else (False,):
            pixels = drawn.pixels.flip(-1) if flipped else drawn.pixels
            with torch.inference_mode():
                values = member.network(pixels[None], stride)
            said = list_windows(member.config, values, image, drawn, flipped, stride)
            found.extend(Window(view, *window) for window in said)
            view += 1
    return found


def list_windows(config, values, image, drawn, flipped, stride):
    """List what the windows of one view say."""
    window = WINDOWS[config.architecture]
    step = STEPS[config.architecture, stride]
    logits = values.logits[0].double().numpy()
    edges = None if values.codes is None else values.codes[0].double().numpy()
    for row in range(logits.shape[1]):
        for col in range(logits.shape[2]):
            exponentials = np.exp(logits[:, row, col] - logits[:, row, col].max())
            probabilities = exponentials / exponentials.sum()
            y, x = step * row, step * col
            square = [x, y, x + window, y + window]
            boxes = []
            for label in range(len(config.classes)):
                box = square
                if edges is not None:
                    first = 4 * label if len(edges) > 4 else 0
                    up, left, down, right = edges[first : first + 4, row, col] * window
                    across, along = sorted((x + left, x + right)), sorted((y + up, y + down))
                    box = [across[0], along[0], across[1], along[1]]
                boxes.append(cut_at_border(to_image(box, image, drawn, flipped=flipped), image))
            square = to_image(square, image, drawn, flipped=flipped)
            is_counted = area(cut_at_border(square, image)) > 0
            yield row, col, square, is_counted, probabilities[: len(config.classes)].tolist(), boxes


def to_image(box, image, drawn, *, flipped):
    """Turn a box on a canvas into one in the image."""
    x_min, y_min, x_max, y_max = box
    if flipped:
        side = drawn.pixels.shape[-1]
        x_min, x_max = side - x_max, side - x_min
    height, width = image.shape[:2]
    x, y = width / drawn.width, height / drawn.height
    return [
        (x_min - drawn.left) * x,
        (y_min - drawn.top) * y,
        (x_max - drawn.left) * x,
        (y_max - drawn.top) * y,
    ]


def cut_at_border(box, image):
    height, width = image.shape[:2]
    limits = (width, height, width, height)
    return [min(max(side, 0.0), float(limit)) for side, limit in zip(box, limits, strict=True)]


def area(box):
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def average_maxima(windows, classes):
    """Section 3.3: the spatial maximum of each class in each view, and their mean."""
    views = sorted({window.view for window in windows})
    total = [0.0] * classes
    for view in views:
        for label in range(classes):
            total[label] += max(
                window.probabilities[label]
                for window in windows
                if window.view == view and window.is_counted
            )
    return np.array(total) / len(views)


class Merged(NamedTuple):
    """A box that windows were merged into."""

    box: list[float]
    evidence: float
    best: float
    """Highest probability of its windows."""
    members: tuple[int, ...]
    """Which of the boxes that were given."""


def merge_pairs(boxes, probabilities, *, threshold):
    """Section 4.3: replace the nearest pair until none is near; weighed by evidence.

    The match score is the distance of the centres over the mean side, plus 1 - IoU.
    """
    left = [
        Merged(list(box), probability, probability, (index,))
        for index, (box, probability) in enumerate(zip(boxes, probabilities, strict=True))
    ]
    while len(left) > 1:
        pairs = [(one, other) for one in range(len(left)) for other in range(one + 1, len(left))]
        scores = [measure_match(left[one].box, left[other].box) for one, other in pairs]
        nearest = min(scores)
        if nearest > threshold:
            break
        one, other = pairs[scores.index(nearest)]
        first, second = left[one], left.pop(other)
        evidence = first.evidence + second.evidence
        left[one] = Merged(
            box=[
                (a * first.evidence + b * second.evidence) / evidence
                for a, b in zip(first.box, second.box, strict=True)
            ],
            evidence=evidence,
            best=max(first.best, second.best),
            members=(*first.members, *second.members),
        )
    return left


def measure_match(first, second):
    low = [max(pair) for pair in zip(first[:2], second[:2], strict=True)]
    high = [min(pair) for pair in zip(first[2:], second[2:], strict=True)]
    shared = area([*low, *high])
    x = (first[0] + first[2] - second[0] - second[2]) / 2
    y = (first[1] + first[3] - second[1] - second[3]) / 2
    side = (sqrt(area(first)) + sqrt(area(second))) / 2
    return hypot(x, y) / side + 1 - shared / (area(first) + area(second) - shared)
