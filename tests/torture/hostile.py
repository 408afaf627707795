"""Does a run over files made to break decoders give each its row, and lose no process?"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.annotate.run import annotate
from tests.builders import make_checkpoint, make_config, read_rows
from tests.hostile.corpus import HostileFile, list_all
from tests.hostile.decoding import decode_all, describe
from tests.hostile.verdict import OK
from tests.pipelines.annotate.processes import find_detect_actors
from tests.torture.apart import tell
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

_LOOK_S = 0.5
_SLICE = 32
_CPUS = 3


def torture_files(seed: int, *, files: int | None = None) -> Record:
    """Decode every file of the corpus in a child that is measured, then take all through a run."""
    corpus = list_all(seed)[:files]
    costs, wrong = decode_all(corpus)
    assert not wrong, wrong
    tell(f"{len(corpus):,} files decoded one by one, within their time and memory")
    with own_ray(_CPUS), TemporaryDirectory() as folder:
        names = write_corpus(Path(folder, "in"), corpus)
        weights = make_checkpoint(Path(folder, "weights"))
        config = make_config(folder, weights, slice_size=_SLICE, workers=1, max_failed_ratio=1.0)
        with actors_watched() as actors:
            annotate(config)
        rows = read_rows(config.output, "images").to_pylist()
        verdicts = judge_rows(rows, names)
    assert len(actors) == 1, f"{len(actors) - 1} detect actors died"
    return Record(
        faults={"hostile file": len(corpus)},
        rows=len(rows),
        lost=len(names) - len({row["image"] for row in rows}),
        doubled=len(rows) - len({row["image"] for row in rows}),
        notes=(
            ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.most_common()),
            *describe(costs),
        ),
    )


def write_corpus(folder: Path, corpus: Sequence[HostileFile]) -> dict[str, HostileFile]:
    """Write files under names that are good; returns which is which."""
    folder.mkdir()
    names = {f"{number:05d}.jpg": file for number, file in enumerate(corpus)}
    for name, file in names.items():
        (folder / name).write_bytes(file.write())
    return names


def judge_rows(rows: list[dict[str, str]], names: dict[str, HostileFile]) -> Counter[str]:
    """Count what became of the files; what is not right for one of them is an error."""
    verdicts = Counter[str]()
    for row in rows:
        file = names[Path(row["image"]).name]
        verdict = row["error_type"] or OK
        assert verdict in file.verdicts, f"{file.name}: {verdict}, expected {set(file.verdicts)}"
        verdicts[verdict] += 1
    return verdicts


@contextmanager
def actors_watched() -> Iterator[set[int]]:
    """Collect the process ids of all detect actors that are seen while the block lasts."""
    seen: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            seen.update(process.pid for process in find_detect_actors(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
