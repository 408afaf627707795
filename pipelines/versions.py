"""Which versions of the software made a result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_PACKAGES: Final = ("overfeat-at-scale", "torch", "numpy", "ray", "pyarrow", "Pillow", "simplejpeg")


def describe_versions() -> dict[str, str]:
    """Look up the packages that can change a row.

    Returns:
        Names and versions, Python's too; a package that is not installed is left out.
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
