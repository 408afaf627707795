"""Does a run on Ray get over the death of its driver, in first runs, updates and retries?

Drivers are processes of their own on one Ray, killed by -9 once so many objects were put; the same
command goes on. One driver is paused instead, relieved by another one, and woken behind its back.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.annotate.config import AnnotateConfig
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    make_checkpoint,
    make_config,
    make_picture,
    write_pictures,
)
from tests.pipelines.annotate.drivers import torture_drivers, torture_first_run
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

_CPUS = 4
"""A paused driver's actors keep theirs, and another one has to go on beside it."""
_KILLS_BEFORE_PAUSE = 8
"""At most: enough slices must be left for the driver that relieves the paused one."""
_UPDATE = ("--update", "--retry-failed", "--max-failed-ratio", "1")


def torture_all_drivers(seed: int, *, kills_each: int) -> Record:
    """A first run and an update with retries, each killed so often, and one that is paused too."""
    with own_ray(_CPUS), TemporaryDirectory() as name:
        folder = Path(name)
        weights = make_checkpoint(folder / "weights")
        total = _torture_first(folder / "first", weights, seed, kills_each)
        tell(f"a first run ended well after {kills_each} kills")
        updates = 0
        for pause in (False, True):
            update = folder / f"update-{pause}"
            kills = min(kills_each, _KILLS_BEFORE_PAUSE) if pause else kills_each
            total += _torture_update(update, weights, seed, kills, pause=pause)
            tell(f"an update ended well after {kills} kills{', and a pause' * pause}")
            updates += kills
    return Record(
        faults={
            "driver of a first run killed": kills_each,
            "driver of an update and retry killed": updates,
            "driver paused and relieved": 1,
        },
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        # Each driver is watched, and stops the part if it reads what is committed.
        reread=0,
    )


def _configure(folder: Path, weights: str) -> AnnotateConfig:
    write_pictures(str(folder / "in"), 24)
    return make_config(str(folder), weights, slice_size=2, max_failed_ratio=1.0)


def _torture_first(folder: Path, weights: str, seed: int, kills: int) -> Comparison:
    config = _configure(folder, weights)
    undisturbed = torture_first_run(config, folder / "log", kills=kills, seed=seed)
    return compare_runs(config.output, undisturbed)


def _torture_update(
    folder: Path, weights: str, seed: int, kills: int, *, pause: bool
) -> Comparison:
    """Some images come, two go, one is mended and two are spoilt."""
    config = _configure(folder, weights)
    bad = [folder / "in" / f"photo-{number:03d}.jpg" for number in (5, 6)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:100])
    stages = annotate_without_ray(config, config.output)
    write_pictures(str(folder / "in"), 20, start=50)
    for number in (1, 2):
        (folder / "in" / f"photo-{number:03d}.jpg").unlink()
    bad[0].write_bytes(encode_picture(make_picture(5)))
    undisturbed = torture_drivers(
        config,
        stages,
        folder / "log",
        kills=kills,
        seed=seed + pause,
        pause=pause,
        flags=_UPDATE,
    )
    return compare_runs(config.output, undisturbed)
