"""Do runs over tars get over the death of their driver: first runs, updates and retries?

The command that finishes is watched: it must read no member of a committed slice.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipelines.annotate.config import AnnotateConfig
from pipelines.manifest import list_generations
from tests.builders import make_checkpoint, make_config
from tests.pipelines.annotate.killed import (
    assert_all_is_whole,
    count_moments,
    list_done,
    run_killed,
)
from tests.pipelines.annotate.recorded_reads import RecordedReads
from tests.pipelines.tar_files import draw, put_tar
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.record import Record

_TARS, _MEMBERS = 5, 6
_BAD = 0.2
"""Part of the members that are no pictures."""


def torture_tars(seed: int, *, kills: int, kills_each: int = 4) -> Record:
    """Run over tars and update twice, again and again, by commands that are killed."""
    source, total, struck, reread, commands = random.Random(seed), Comparison(), 0, 0, 0
    with TemporaryDirectory() as name:
        weights = make_checkpoint(Path(name, "weights"))
        while struck < kills:
            root = Path(name, f"{commands}")
            config = make_config(str(root), weights, images=f"{root}/in/*.tar", slice_size=3)
            again = replace(config, update=True, retry_failed=True)
            for asked in (config, again, again):
                change_tars(root / "in", source)
                kills_here, reads = torture_command(asked, source, kills_each)
                struck, reread, commands = struck + kills_here, reread + reads, commands + 1
                total += compare_runs(config.output, f"{config.output}-undisturbed")
            tell(f"{commands} commands ended well; {struck} kills, {total}")
    return Record(
        faults={"driver of a run over tars killed at an fsync": struck},
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        reread=reread,
        notes=(f"{commands} commands, two of three of them updates with retries",),
    )


def change_tars(folder: Path, source: random.Random) -> None:
    """Write some tars; later ones anew, one more, and one less."""
    old = sorted(folder.glob("*.tar"))
    first = int(old[-1].stem.removeprefix("t-")) + 1 if old else 0
    for path in source.sample(old, len(old) // 2):
        _write_tar(path, source)
    for number in range(first, first + (1 if old else _TARS)):
        _write_tar(folder / f"t-{number:03d}.tar", source)
    if old:
        source.choice(old).unlink()


def torture_command(asked: AnnotateConfig, source: random.Random, kills: int) -> tuple[int, int]:
    """Kill a command some times and let it end; counts the kills, and the images read again."""
    output, undisturbed = Path(asked.output), Path(f"{asked.output}-undisturbed")
    shutil.rmtree(undisturbed, ignore_errors=True)
    if output.exists():
        shutil.copytree(output, undisturbed)
    moments = count_moments(replace(asked, output=str(undisturbed)))
    before = max(list_generations(asked.output), default=-1)
    struck = 0
    for _ in range(kills):
        struck += run_killed(asked, source.randint(1, max(2, moments // (1 + struck))))
        if Path(output, "images").exists():
            assert_all_is_whole(asked.output)
    committed = list_done(asked.output, after=before)
    with pytest.MonkeyPatch.context() as patch:
        reads = RecordedReads(patch)
        count_moments(asked)
    return struck, len({Path(image).name for image in reads.images} & committed)


def _write_tar(path: Path, source: random.Random) -> None:
    files = [
        (name, b"bad" if name.endswith(".jpg") and source.random() < _BAD else data)
        for name, data in draw(*source.sample(range(100), _MEMBERS), size=(8, 8))
    ]
    put_tar(str(path), files)
