"""Which library decodes photographs fastest? `python -m benchmarks.decode`, about two minutes.

Every round decodes each file once with every decoder, in an order that changes from file to file,
so that a busy machine slows all of them alike; what counts is the ratio within a round. Times are
of the processor, all threads together, so that waiting for a turn does not count.
"""

from __future__ import annotations

import importlib.util
import io
import math
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from PIL import Image

from pipelines.images import ImageLimits, decode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Decoder = Callable[[bytes], NDArray[np.uint8]]

ROUNDS = {0.19: 60, 0.3: 60, 2.0: 20, 12.0: 10}
"""How often each file is decoded, by its size in megapixels. 0.19 is 500 x 375, the usual size in
ImageNet."""
QUALITIES = (60, 75, 85, 95)
REFERENCE = "simplejpeg"


def load_photographs() -> list[Image.Image]:
    """Load the photographs that scikit-image and scikit-learn are shipped with.

    Returns:
        Six RGB pictures of about 0.2 megapixels.
    """
    from skimage import data
    from sklearn.datasets import load_sample_images

    shipped: Any = data  # scikit-image has no types for its pictures
    pictures = [shipped.astronaut(), shipped.coffee(), shipped.rocket(), shipped.chelsea()]
    return [Image.fromarray(picture) for picture in (*pictures, *load_sample_images().images)]


def encode_photographs(megapixels: float) -> list[bytes]:
    """Encode every photograph at every quality, as 4:2:0 JPEG.

    Args:
        megapixels: Size to resize the photographs to.

    Returns:
        The files.
    """
    files = []
    for photograph in load_photographs():
        factor = math.sqrt(megapixels * 1e6 / (photograph.width * photograph.height))
        size = (round(photograph.width * factor), round(photograph.height * factor))
        resized = photograph.resize(size, Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            buffer = io.BytesIO()
            resized.save(buffer, "JPEG", quality=quality)
            files.append(buffer.getvalue())
    return files


def list_decoders() -> dict[str, Decoder]:
    """List the decoders to compare; OpenCV only where it is installed.

    Returns:
        Functions from a file to uint8 (height, width, 3), RGB, by name; the reference comes first.
    """
    limits = ImageLimits()
    decoders: dict[str, Decoder] = {
        REFERENCE: simplejpeg.decode_jpeg,
        "decode_image": lambda file: decode_image(file, limits),
        "Pillow": lambda file: np.array(Image.open(io.BytesIO(file))),
    }
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        decoders["OpenCV"] = lambda file: np.asarray(
            cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8
        )
    return decoders


def time_round(files: list[bytes], decoders: dict[str, Decoder]) -> dict[str, float]:
    """Decode every file once with every decoder.

    Args:
        files: What to decode.
        decoders: What to decode with.

    Returns:
        Seconds of processor time for all files, by decoder.
    """
    names = list(decoders)
    seconds = dict.fromkeys(names, 0.0)
    for index, file in enumerate(files):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.process_time()
            decoders[name](file)
            seconds[name] += time.process_time() - start
    return seconds


def compare(megapixels: float, decoders: dict[str, Decoder]) -> str:
    """Compare the decoders at one size.

    Args:
        megapixels: Size of the files.
        decoders: What to compare; the first is the reference.

    Returns:
        A row of a Markdown table.
    """
    files = encode_photographs(megapixels)
    time_round(files, decoders)  # the first calls also load code
    rounds = [time_round(files, decoders) for _ in range(ROUNDS[megapixels])]
    milliseconds = 1000 * statistics.median(r[REFERENCE] for r in rounds) / len(files)
    # Quartiles: the machine may be doing something else during a few rounds.
    cells = [f"{megapixels:g}", f"{milliseconds:.2f}"]
    for name in decoders:
        if name != REFERENCE:
            ratios = [r[name] / r[REFERENCE] for r in rounds]
            lowest, middle, highest = statistics.quantiles(ratios, n=4)
            cells.append(f"{middle:.2f} ({lowest:.2f} to {highest:.2f})")
    return f"| {' | '.join(cells)} |"


def find_largest_difference(decoders: dict[str, Decoder]) -> dict[str, int]:
    """Find by how much the pixels of the decoders differ from those of the reference.

    Args:
        decoders: What to compare; the first is the reference.

    Returns:
        Largest absolute difference in levels of 255, by decoder.
    """
    largest = dict.fromkeys(decoders, 0)
    for file in encode_photographs(min(ROUNDS)):
        expected = decoders[REFERENCE](file).astype(np.int16)
        for name, decode in decoders.items():
            largest[name] = max(largest[name], int(np.abs(decode(file) - expected).max()))
    return largest


def describe_versions() -> str:
    """Name the versions that were measured.

    Returns:
        One line.
    """
    names = [f"Python {platform.python_version()}"]
    for package in ("simplejpeg", "Pillow", "opencv-python-headless", "numpy"):
        try:
            names.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            names.append(f"{package} absent")
    return ", ".join(names)


def main() -> None:
    """Print the table."""
    decoders = list_decoders()
    print(describe_versions())
    columns = [f"{name} / {REFERENCE}" for name in decoders if name != REFERENCE]
    print(f"| megapixels | {REFERENCE}, ms | {' | '.join(columns)} |")
    print("|---" * (2 + len(columns)) + "|")
    for megapixels in ROUNDS:
        print(compare(megapixels, decoders), flush=True)
    print(f"largest difference in levels: {find_largest_difference(decoders)}")


if __name__ == "__main__":
    main()
