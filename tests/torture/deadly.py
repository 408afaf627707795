"""Do images that kill each process that touches them cost their own rows, and nothing else?"""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipelines import storage
from pipelines.annotate import graph
from pipelines.annotate.run import annotate
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    make_checkpoint,
    make_config,
    make_picture,
    read_rows,
    write_pictures,
)
from tests.pipelines.annotate import deadly
from tests.torture.comparison import compare_runs
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

_CPUS = 4
_SLICE = 4
_SIZES = {"kills its decoder": deadly.TO_DECODE, "kills its network": deadly.TO_DETECT}


def torture_deadly(seed: int, *, each: int, images: int = 48) -> Record:
    """Strew so many images of each kind into a bucket, more than one into some slices."""
    source = random.Random(seed)
    with own_ray(_CPUS), TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        names = write_pictures(str(Path(folder, "in")), images)
        kinds = [kind for kind in _SIZES for _ in range(each)]
        deadly_ones = dict(zip(source.sample(names, len(kinds)), kinds, strict=True))
        config = make_config(
            folder, make_checkpoint(Path(folder, "weights")), slice_size=_SLICE, workers=2
        )
        for name in deadly_ones:
            storage.write_bytes(name, b"no image")
        undisturbed = f"{config.output}-undisturbed"
        annotate_without_ray(config, undisturbed)
        for number, (name, kind) in enumerate(deadly_ones.items()):
            storage.write_bytes(name, encode_picture(make_picture(number, **_SIZES[kind])))
        patch.setattr(graph, "read_slice", deadly.read_slice)
        patch.setattr(graph, "DetectActor", deadly.VulnerableActor)
        report = annotate(config)
        rows = read_rows(config.output, "images").to_pylist()
        crashed = {row["image"] for row in rows if row["error_type"] == "crashed"}
        assert crashed == set(deadly_ones), crashed ^ set(deadly_ones)
        assert report.errors == {"crashed": len(deadly_ones)}
        # Their own rows name another reason in a run in which they are broken, not deadly.
        total = compare_runs(config.output, undisturbed, but=crashed)
        slices = len({row["slice"] for row in rows if row["image"] in crashed})
    return Record(
        faults={f"image that {kind}": each for kind in _SIZES},
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled + len(rows) - len({row["image"] for row in rows}),
        notes=(f"in {slices} of {images // _SLICE} slices, all of which were committed",),
    )
