"""Where do the images of the demo come from?

A local folder like a small bucket: digit scenes, which the shipped weights know, and the real
photographs that come with scikit-image and scikit-learn, which they do not.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import InputError
from pipelines.shards.digit_scenes import TEST_SEED, make_scene
from pipelines.shards.photographs import PHOTOGRAPHS, find_photograph


def write_sample_bucket(
    folder: Path, *, scenes: int, photographs: bool = True, seed: int = TEST_SEED
) -> int:
    """Write `scenes/test-000000.jpg`, ... and `photographs/NAME.EXTENSION`.

    Args:
        folder: Made if it is missing; files of the same names are replaced.
        scenes: How many digit scenes of the split `test`, from index 0.
        photographs: Whether to copy the real photographs too.
        seed: Of the scenes; the default begins the published test set.

    Returns:
        The number of images written.

    Raises:
        InputError: `scenes` is negative, or a package that ships the pictures is missing.
    """
    if scenes < 0:
        raise InputError(f"sample bucket: scenes is {scenes}, expected at least 0")
    sources = [find_photograph(name) for name in PHOTOGRAPHS] if photographs else []
    for index in range(scenes):
        scene = make_scene(split="test", seed=seed, index=index)
        _write(folder / "scenes" / f"test-{index:06d}.jpg", scene.jpeg)
    for source in sources:
        _write(folder / "photographs" / source.name, source.read_bytes())
    return scenes + len(sources)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
