"""Does a secret ever stand in the command line of a process, in a file, in a log or in a message?

While drivers on Ray work, are killed, are denied and are refused, all command lines of the machine
are looked at again and again; then all that was written is searched.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pyarrow.parquet as pq

from pipelines.annotate.config import AnnotateConfig
from pipelines.receipts import list_receipts
from tests.builders import annotate_without_ray, make_checkpoint, make_config, write_pictures
from tests.pipelines.annotate.drivers import start_driver
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.own_ray import own_ray
from tests.torture.record import Record
from tests.torture.stores import RCLONE, open_store

WRONG_KEY = "a-secret-that-the-server-does-not-know"
SIGNATURE = "a-signature-that-opens-a-bucket"
_LOOK_S = 0.02
_CPUS = 3
_IMAGES = 12
_SMALLEST_BYTES = 12
"""Of a secret that is searched for: shorter ones are found anywhere."""


@dataclass(slots=True)
class Lookout:
    """What was seen of the processes of this machine."""

    secrets: tuple[bytes, ...]
    looks: int = 0
    seen: set[bytes] = field(default_factory=set)
    """Command lines."""

    def look(self) -> None:
        """Read all command lines."""
        self.looks += 1
        for place in Path("/proc").iterdir():
            if place.name.isdigit():
                with suppress(OSError):
                    self.seen.add((place / "cmdline").read_bytes())

    def find_leaks(self) -> list[bytes]:
        """Name the programs whose command line held a secret."""
        found = [line for line in self.seen if any(secret in line for secret in self.secrets)]
        return sorted(line.split(b"\0")[0] for line in found)


@contextmanager
def keep_lookout(secrets: Iterable[str]) -> Iterator[Lookout]:
    """Look at all processes while the block lasts; it fails at its end if a secret was seen."""
    lookout, ended = Lookout(tuple(secret.encode() for secret in secrets)), threading.Event()
    assert all(len(secret) >= _SMALLEST_BYTES for secret in lookout.secrets)

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            lookout.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lookout
    finally:
        ended.set()
        thread.join()
    assert not (leaks := lookout.find_leaks()), f"a secret in the command line of {leaks}"


def search_files(folders: Iterable[Path], secrets: Iterable[str]) -> int:
    """Read every file below some folders, also what is packed in Parquet; fails if one has any.

    Returns:
        How many files there were.
    """
    secrets, count = list(secrets), 0
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        count += 1
        with suppress(OSError):  # a socket, or gone
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += repr(pq.read_table(path).to_pylist()).encode()
            assert not any(secret.encode() in data for secret in secrets), f"a secret in {path}"
    return count


def torture_secrets(seed: int, *, rounds: int) -> Record:
    """Let drivers end well and badly, in each way so often."""
    del seed  # nothing is drawn
    faults, total = Counter[str](), Comparison()
    with TemporaryDirectory() as name, open_store(RCLONE, Path(name, "s3")) as root:
        secrets = (os.environ["AWS_SECRET_ACCESS_KEY"], WRONG_KEY, SIGNATURE)
        weights, log = make_checkpoint(Path(name, "weights")), Path(name, "drivers.log")
        with keep_lookout(secrets) as lookout, own_ray(_CPUS):
            for number in range(rounds):
                config = make_config(f"{root}/{number}", weights, slice_size=2)
                total += disturb(config, Path(name), log, faults)
                tell(f"{dict(faults)}; {len(lookout.seen)} command lines seen")
            folders = [Path(os.environ["RAY_TMPDIR"]), Path(name)]
            files = search_files(folders, secrets)
    return Record(
        faults=dict(faults),
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        notes=(
            f"{len(lookout.seen):,} command lines seen in {lookout.looks:,} looks at all "
            f"processes, and {files:,} files searched, Ray's logs among them: no secret",
        ),
    )


def disturb(config: AnnotateConfig, folder: Path, log: Path, faults: Counter[str]) -> Comparison:
    """A run that is denied, then killed, then finished, and one that is refused."""
    write_pictures(config.images, _IMAGES)
    undisturbed = str(folder / f"undisturbed-{len(list(folder.iterdir()))}")
    annotate_without_ray(config, undisturbed)
    with mock.patch.dict(os.environ, {"AWS_SECRET_ACCESS_KEY": WRONG_KEY}):
        assert _finish(config, log) in {1, 2}, log.read_text()[-2000:]
    faults["driver denied for a wrong key"] += 1
    with start_driver(config, log) as driver:
        while len(list_receipts(config.output)) < 1:
            assert driver.poll() is None, log.read_text()[-2000:]
        driver.kill()
        driver.wait()
    faults["driver killed"] += 1
    assert _finish(config, log) == 0, log.read_text()[-2000:]
    listed = folder / "list.txt"
    listed.write_bytes(_write_list(config))
    refused = replace(config, images=str(listed), output=f"{config.output}-refused")
    assert _finish(refused, log) == 2, log.read_text()[-2000:]
    # It is the user's own, and stands where the user put it.
    listed.unlink()
    faults["list refused for a signed address"] += 1
    return compare_runs(config.output, undisturbed)


def _write_list(config: AnnotateConfig) -> bytes:
    return f"{config.images}/photo-000.jpg?X-Amz-Signature={SIGNATURE}\n".encode()


def _finish(config: AnnotateConfig, log: Path) -> int:
    with start_driver(config, log) as driver:
        return int(driver.wait())
