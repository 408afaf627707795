from __future__ import annotations

import jaxtyping
import pytest
import torch

from tests.overfeat.builders import make_predictor


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """The nets here are small: on a busy machine waiting threads cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def without_shape_checks(monkeypatch):
    """Production has no type checker in front of our own validation."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="package")
def model():
    return make_predictor(background=True, regressor="single")


@pytest.fixture(scope="package")
def window_model():
    """A classifier alone: no background, no regressor."""
    return make_predictor()
