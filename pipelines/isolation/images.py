"""What becomes of an image that the process working on it did not survive? A row with a reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pipelines.errors import ImageError, ImageReason
from pipelines.isolation.isolated import ChildDiedError, ChildTimeoutError

if TYPE_CHECKING:
    from pipelines.isolation.isolated import Isolated

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


def run_on_image(isolated: Isolated[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do something with one image in a child process, twice if the child dies.

    Once may be an accident: a machine out of memory kills whom it likes. A child that does not
    start says nothing of the image, and its error passes through.

    Args:
        isolated: What to do.
        *args: The image, and whatever else the function takes.
        **kwargs: As for the function.

    Returns:
        What the function returns.

    Raises:
        ImageError: `timeout` if the time was up once, `crashed` if the child died twice; or what
            the function raised.
    """
    try:
        try:
            return isolated(*args, **kwargs)
        except ChildDiedError as death:
            logger.warning("an image took its process down, once more to be sure: %s", death)
            return isolated(*args, **kwargs)
    except ChildTimeoutError as error:
        message = f"{error}; another run may give it more, with a longer --image-timeout"
        raise ImageError(ImageReason.TIMEOUT, message) from error
    except ChildDiedError as error:
        raise ImageError(ImageReason.CRASHED, f"{error}; twice") from error
