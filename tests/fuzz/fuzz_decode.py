"""Which bytes break the decoder? A search guided by coverage, with atheris, as long as you like.

    python -m pip install atheris
    python -m tests.fuzz.fuzz_decode FOLDER -max_total_time=600 -timeout=10 -rss_limit_mb=2048

FOLDER keeps the corpus between runs; an empty one is filled with a file of every kind. All other
arguments are libFuzzer's. A finding is left in the working directory as `crash-...`, `timeout-...`
or `oom-...`: give its name in place of FOLDER to run it alone, mend the decoder, add a test.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

MAX_PIXELS = 1_000_000
"""A header that asks for more costs time and finds nothing new."""
MAX_SEED_BYTES = 50_000


def fill_corpus(folder: Path) -> None:
    """Write a file of every kind, and the small ones of the known hostile, into an empty folder."""
    from tests.hostile.corpus import iter_known
    from tests.pipelines.images.image_files import every_kind_of_file

    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return
    for name, data in every_kind_of_file().items():
        (folder / name.replace(" ", "-")).write_bytes(data)
    for number, file in enumerate(iter_known()):
        if not file.is_heavy and len(data := file.write()) <= MAX_SEED_BYTES:
            (folder / f"hostile-{number}").write_bytes(data)


def main() -> None:
    """Fuzz until a finding, or until libFuzzer's limits."""
    import atheris

    with atheris.instrument_imports(include=["pipelines", "PIL"]):
        from pipelines.images import ImageLimits
        from tests.hostile.mutations import MUTATIONS, repair_checksums
        from tests.hostile.verdict import judge_twice

    for argument in sys.argv[1:]:
        if not argument.startswith("-") and not Path(argument).is_file():
            fill_corpus(Path(argument))
    limits = ImageLimits(max_pixels=MAX_PIXELS, max_bytes=2**20, max_frames=50)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        source = random.Random(seed)
        if data and source.random() < 0.2:
            data = source.choice(MUTATIONS)(data, source)[:max_size]
        else:
            data = atheris.Mutate(data, max_size)
        return repair_checksums(data) if source.random() < 0.7 else data

    def test_one_input(data: bytes) -> None:
        judge_twice(data, limits)

    atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
