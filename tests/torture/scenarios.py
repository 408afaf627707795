"""What is disturbed: a first run, an update or a retry, over one bucket that changes in between."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.stages import StageConfig
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    finish_without_ray,
    look_again,
    make_picture,
)

FIRST, UPDATE, RETRY = KINDS = ("first run", "update", "retry")
_PICTURES = 4
"""That are not alike; the bucket holds each many times, as one file with many names."""
_KEPT_OF = 3
"""One of so many images stays what it is: a slice of as many has both kinds."""
_NEW, _GONE = 6, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A command, what it goes on from, and what it must come to."""

    kind: str
    """One of `KINDS`."""
    config: AnnotateConfig
    """The command; `begin` says where it works."""
    start: str | None = None
    """The finished run that it goes on from; None for a first run."""
    undisturbed: str
    """The run that it must come to."""
    kept: frozenset[str] = frozenset()
    """Names of images that it must not read at all."""

    def begin(self, output: str) -> AnnotateConfig:
        """Put what it goes on from at a place; gives the command that works there."""
        if self.start is not None:
            shutil.copytree(self.start, output, copy_function=shutil.copy2)
        return replace(self.config, output=output)


def live_through(config: AnnotateConfig, kinds: Iterable[str] = KINDS) -> Iterator[Scenario]:
    """Change a bucket step by step, and stop wherever there is a command to disturb.

    Args:
        config: Of a first run over a folder that `write_large_pictures` filled; its output is a
            prefix of the places where the undisturbed runs stand.
        kinds: Those to stop at, in the order of `KINDS`.

    Yields:
        What to disturb, as long as the bucket is as it is.
    """
    folder = Path(config.images)
    first = f"{config.output}-first"
    stages = annotate_without_ray(config, first)
    if FIRST in kinds:
        yield Scenario(kind=FIRST, config=config, undisturbed=first)
    kept = frozenset(change_pictures(folder))
    asked = replace(config, update=True)
    updated = _go_on(asked, stages, first, f"{config.output}-updated")
    if UPDATE in kinds:
        yield Scenario(kind=UPDATE, config=asked, start=first, undisturbed=updated, kept=kept)
    if RETRY in kinds:
        spoil_pictures(folder, kept)
        failed = _go_on(asked, stages, updated, f"{config.output}-failed")
        mend_pictures(folder, kept)
        asked = replace(config, retry_failed=True, max_failed_ratio=1.0)
        retried = _go_on(asked, stages, failed, f"{config.output}-retried")
        yield Scenario(kind=RETRY, config=asked, start=failed, undisturbed=retried, kept=kept)


def write_large_pictures(folder: str, count: int) -> None:
    """Fill a folder with three megapixels a picture: to read a slice of them takes its time."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = Path(folder, _name(number))
        if number < _PICTURES:
            path.write_bytes(encode_picture(make_picture(number, height=1500, width=2000)))
        else:
            path.hardlink_to(Path(folder, _name(number % _PICTURES)))


def change_pictures(folder: Path) -> list[str]:
    """Two of three images become other ones, some are new, some go; names those that stay."""
    count = len(list(folder.iterdir()))
    pictures = _keep_pictures(folder)
    for number in range(count + _NEW):
        if number % _KEPT_OF or number >= count:
            _link(folder, number, pictures[(number + 1) % _PICTURES])
    kept = [_name(number) for number in range(0, count, _KEPT_OF)]
    for name in kept[:_GONE]:
        (folder / name).unlink()
    return kept[_GONE:]


def spoil_pictures(folder: Path, kept: Iterable[str]) -> None:
    """Cut all off but those that are kept."""
    for path in _others(folder, kept):
        data = path.read_bytes()[:100]
        path.unlink()
        path.write_bytes(data)


def mend_pictures(folder: Path, kept: Iterable[str]) -> None:
    """Make all but those that are kept pictures again, other ones than before."""
    pictures = _keep_pictures(folder)
    for path in _others(folder, kept):
        number = int(path.stem.rpartition("-")[2])
        _link(folder, number, pictures[(number + 2) % _PICTURES])


def _go_on(asked: AnnotateConfig, stages: StageConfig, start: str, output: str) -> str:
    """Do a command to its end, with the plain stages, on a copy of a finished run."""
    shutil.copytree(start, output, copy_function=shutil.copy2)
    look_again(asked, output, update=asked.update, retry_failed=asked.retry_failed)
    finish_without_ray(asked, replace(stages, output=output))
    return output


def _others(folder: Path, kept: Iterable[str]) -> list[Path]:
    names = set(kept)
    return [path for path in sorted(folder.iterdir()) if path.name not in names]


def _keep_pictures(folder: Path) -> list[Path]:
    """Give the pictures names beside the folder, which nobody takes from them."""
    aside = folder.with_name(f"{folder.name}-pictures")
    if not aside.exists():
        aside.mkdir()
        for number in range(_PICTURES):
            (aside / _name(number)).hardlink_to(folder / _name(number))
    return sorted(aside.iterdir())


def _link(folder: Path, number: int, picture: Path) -> None:
    path = folder / _name(number)
    path.unlink(missing_ok=True)
    path.hardlink_to(picture)


def _name(number: int) -> str:
    return f"photo-{number:05d}.jpg"
