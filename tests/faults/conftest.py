"""The proxy for the tests of the proxy."""

from __future__ import annotations

from tests.faults.fixtures import start_proxy

__all__ = ["start_proxy"]
