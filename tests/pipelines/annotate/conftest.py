from __future__ import annotations

import pytest

from pipelines.annotate.run import annotate
from tests import builders
from tests.builders import make_checkpoint, make_config, write_pictures
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a small checkpoint with random weights."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "weights")


@pytest.fixture
def fake_model(monkeypatch):
    """Stages with a model that takes no time; its answers follow from an image's pixels alone."""
    monkeypatch.setattr(builders, "open_model", lambda _: FakeModel())


@pytest.fixture
def plain_engine(monkeypatch):
    """`annotate` in this process, without Ray, with a model that takes no time."""
    install_plain_engine(monkeypatch, FakeModel())


@pytest.fixture
def finished(tmp_path, checkpoint, plain_engine):
    """What a finished run was asked for, over six pictures in three slices."""
    write_pictures(str(tmp_path / "in"), 6)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    annotate(config)
    return config
