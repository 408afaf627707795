"""Does the driver say what it has listed?"""

from __future__ import annotations

import logging

from pipelines.annotate.planning import list_images, write_first_generation
from tests.builders import make_config, write_pictures


def test_one_image_in_one_slice_is_told_in_the_singular(tmp_path, caplog):
    write_pictures(str(tmp_path / "in"), 1)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    config = make_config(str(tmp_path), "unused")
    listing = list_images(config, config.output)
    with caplog.at_level(logging.INFO):
        write_first_generation(config, config.output, listing, check=lambda: None)
    assert "manifest: 1 image in 1 slice; 1 other object was left out" in caplog.text
