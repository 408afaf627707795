from __future__ import annotations

import pytest

from tests.builders import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a small checkpoint with random weights."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "weights")
