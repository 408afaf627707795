"""How does a test get a proxy, started and stopped for it? To be imported by a `conftest.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from tests.faults.plan import FaultRates
from tests.faults.proxy import FaultProxy


class StartProxy(Protocol):
    """What the fixture `start_proxy` gives."""

    def __call__(self, rates: FaultRates | None = None, *, seed: int = 0) -> FaultProxy:
        """Put a proxy in front of the server that the environment names, and name it there."""
        ...


@pytest.fixture
def start_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartProxy]:
    """Proxies of this test's own; the environment leads this process and its children to them."""
    with ExitStack() as stack:

        def start(rates: FaultRates | None = None, *, seed: int = 0) -> FaultProxy:
            upstream = os.environ["AWS_ENDPOINT_URL"]
            proxy = stack.enter_context(FaultProxy(upstream, rates, seed=seed))
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
            return proxy

        yield start
