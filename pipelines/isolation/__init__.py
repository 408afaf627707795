"""Work that may kill its process, done in one that may be killed."""

from pipelines.isolation.images import run_on_image
from pipelines.isolation.isolated import (
    ChildDiedError,
    ChildStartError,
    ChildTimeoutError,
    Isolated,
)

__all__ = ["ChildDiedError", "ChildStartError", "ChildTimeoutError", "Isolated", "run_on_image"]
