"""What can go wrong, as types: who has to act, and with which exit code the command ends.

Every message names the place, what was received, what was expected and what to do. All of these
survive pickling, because they travel from Ray workers to the driver.
"""

from __future__ import annotations

from enum import StrEnum


class PipelineError(Exception):
    """The job failed: exit code 1. Base of every error that a user sees as one sentence."""

    exit_code = 1


class InputError(PipelineError):
    """Nothing was started: bad arguments, a missing bucket or checkpoint, no image found."""

    exit_code = 2


class RunMismatchError(InputError):
    """The output holds a run of another configuration."""


class StorageError(PipelineError):
    """A store refused or failed: credentials, permissions, a full disk, an unreachable server."""


class TransientStorageError(StorageError):
    """A store failed in a way that may pass by itself: throttling, 5xx, resets, timeouts."""


class ObjectChangedError(TransientStorageError):
    """An object was replaced while it was read."""


class ResourceError(PipelineError):
    """The cluster does not have what the job needs."""


class ImageReason(StrEnum):
    """Why an image has an error row: the values of `images.error_type`."""

    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    UNAVAILABLE = "unavailable"
    CHANGED = "changed"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    NOT_AN_IMAGE = "not_an_image"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class ImageError(Exception):
    """One image cannot be annotated; its row says why and the run goes on."""

    def __init__(self, reason: ImageReason, message: str) -> None:
        # Both arguments go to Exception, so that the error unpickles with both.
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
