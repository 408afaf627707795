"""What do fixed pictures and fixed weights give?

`python -m tests.pipelines.annotate.golden` writes the answer anew, after results were changed on
purpose and `RESULTS_VERSION` was raised.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pipelines.fingerprint import RESULTS_VERSION
from tests.builders import annotate_without_ray, make_checkpoint, make_config, read_rows

FOLDER = Path(__file__).parent / "golden_files"
PICTURES = FOLDER / "pictures"
ROWS = FOLDER / "rows.json"
_LEFT_OUT = {"etag", "fingerprint"}
"""Columns that tell when a file was copied, and where it lies."""


def make_golden(folder):
    """Annotate the pictures; image names stand without their folder."""
    config = make_config(
        str(folder),
        make_checkpoint(folder / "weights", scales=("245x245", "281x317")),
        images=str(PICTURES),
        flips=True,
        max_pixels=200_000,
    )
    annotate_without_ray(config, config.output)
    tables = {}
    for table in ("images", "boxes"):
        rows = read_rows(config.output, table).to_pylist()
        tables[table] = [
            {name: value for name, value in row.items() if name not in _LEFT_OUT}
            | {"image": Path(row["image"]).name}
            for row in rows
        ]
    for row in tables["images"]:
        # The decoders' own words may change with their versions.
        row["error"] = row["error"] is not None
    return {"results_version": RESULTS_VERSION, **tables}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        ROWS.write_text(json.dumps(make_golden(Path(scratch)), indent=1) + "\n")
