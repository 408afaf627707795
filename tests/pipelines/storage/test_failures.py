"""Does each failure become the right error, one sentence that says what to do and keeps secrets?"""

from __future__ import annotations

import errno
import pickle

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from s3fs.errors import translate_boto_error

from pipelines.errors import (
    ImageError,
    ImageReason,
    InputError,
    StorageError,
    TransientStorageError,
)
from pipelines.storage.failures import absence_kept, explain, explain_image, explained


def refusal(code):
    error = ClientError({"Error": {"Code": code, "Message": "in its own words"}}, "GetObject")
    return translate_boto_error(error)


URL = "http://user:hidden@host/bucket?list-type=2&X-Amz-Signature=hidden"

FAILURES = [
    (refusal("NoSuchBucket"), InputError, ImageReason.NOT_FOUND, "bucket does not exist"),
    (refusal("NoSuchKey"), InputError, ImageReason.NOT_FOUND, "does not exist"),
    (refusal("404"), InputError, ImageReason.NOT_FOUND, "does not exist"),
    (refusal("InvalidBucketName"), InputError, ImageReason.NOT_FOUND, "check the name"),
    (refusal("AccessDenied"), StorageError, ImageReason.ACCESS_DENIED, "access denied"),
    (refusal("403"), StorageError, ImageReason.ACCESS_DENIED, "access denied"),
    (refusal("InvalidAccessKeyId"), StorageError, None, "AWS_ACCESS_KEY_ID"),
    (refusal("SignatureDoesNotMatch"), StorageError, None, "AWS_SECRET"),
    (refusal("ExpiredToken"), StorageError, None, "no valid credentials"),
    (NoCredentialsError(), StorageError, None, "FSSPEC_S3_ANON"),
    (
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        StorageError,
        None,
        "missing: AWS_SECRET_ACCESS_KEY",
    ),
    (ProfileNotFound(profile="x"), StorageError, None, "AWS_PROFILE"),
    (refusal("SlowDown"), TransientStorageError, ImageReason.UNAVAILABLE, "run the same command"),
    (refusal("InternalError"), TransientStorageError, ImageReason.UNAVAILABLE, "did not answer"),
    (refusal("503"), TransientStorageError, ImageReason.UNAVAILABLE, "did not answer"),
    (
        EndpointConnectionError(endpoint_url=URL),
        TransientStorageError,
        ImageReason.UNAVAILABLE,
        "AWS_ENDPOINT_URL",
    ),
    (
        ConnectTimeoutError(endpoint_url=URL),
        TransientStorageError,
        ImageReason.UNAVAILABLE,
        "network",
    ),
    (ReadTimeoutError(endpoint_url=URL), TransientStorageError, ImageReason.UNAVAILABLE, "network"),
    (ResponseParserError("<html>"), TransientStorageError, ImageReason.UNAVAILABLE, "network"),
    (aiohttp.ClientPayloadError("cut"), TransientStorageError, ImageReason.UNAVAILABLE, "cut"),
    (TimeoutError(), TransientStorageError, ImageReason.UNAVAILABLE, "TimeoutError"),
    (ConnectionResetError(), TransientStorageError, ImageReason.UNAVAILABLE, "network"),
    (SSLError(endpoint_url=URL, error="x"), StorageError, ImageReason.UNAVAILABLE, "SSL"),
    (refusal("EntityTooLarge"), StorageError, ImageReason.UNAVAILABLE, "EntityTooLarge"),
    (OSError(errno.ENOSPC, "No space"), StorageError, ImageReason.UNAVAILABLE, "free space"),
    (OSError(errno.EDQUOT, "Quota"), StorageError, ImageReason.UNAVAILABLE, "quota"),
    (OSError(errno.EROFS, "ro"), StorageError, ImageReason.UNAVAILABLE, "read-only"),
    (PermissionError(errno.EACCES, "no"), StorageError, ImageReason.ACCESS_DENIED, "denied"),
    (NotADirectoryError(errno.ENOTDIR, "no"), InputError, ImageReason.NOT_FOUND, "is no folder"),
    (OSError(errno.EIO, "I/O error"), StorageError, ImageReason.UNAVAILABLE, "I/O error"),
]
"""Error, what it becomes, its reason in an image's row (None: it is no row but fails the job)."""


def explain_both(error, reason):
    """As an error of the job, and where it can be one as an image's."""
    whole = explain(error, "s3://bucket/key")
    if reason is None:
        with pytest.raises(StorageError):
            explain_image(error, "s3://bucket/key")
        return [whole]
    return [whole, explain_image(error, "s3://bucket/key")]


@pytest.mark.parametrize(("error", "kind", "reason", "words"), FAILURES, ids=lambda v: str(v)[:30])
def test_a_failure_has_its_type_its_reason_and_a_sentence(error, kind, reason, words):
    explained_error = explain(error, "s3://bucket/key")
    assert type(explained_error) is kind
    assert explained_error.exit_code == (2 if kind is InputError else 1)
    assert str(explained_error).startswith("s3://bucket/key: ")
    assert words in str(explained_error)
    for shown in explain_both(error, reason):
        assert "hidden" not in str(shown)
        assert "\n" not in str(shown)
        assert len(str(shown)) < 700


@pytest.mark.parametrize(
    ("error", "reason"),
    [(case[0], case[2]) for case in FAILURES if case[2] is not None],
    ids=lambda v: str(v)[:30],
)
def test_a_failure_of_one_image_has_its_reason(error, reason):
    assert explain_image(error, "s3://bucket/key").reason is reason


@pytest.mark.parametrize(
    ("error", "reason"), [(case[0], case[2]) for case in FAILURES], ids=lambda v: str(v)[:30]
)
def test_what_crosses_processes_unpickles_as_it_was(error, reason):
    for original in explain_both(error, reason):
        copy = pickle.loads(pickle.dumps(original))
        assert type(copy) is type(original)
        assert copy.args == original.args
        assert str(copy) == str(original)


def test_an_image_error_is_not_explained_again():
    error = ImageError(ImageReason.CHANGED, "x")
    assert explain_image(error, "s3://bucket/key") is error


def test_the_cause_is_kept_for_a_traceback():
    cause = OSError(errno.EIO, "I/O error")
    with pytest.raises(StorageError) as caught, explained("/x"):
        raise cause
    assert caught.value.__cause__ is cause


def test_only_absence_stays_file_not_found():
    with pytest.raises(FileNotFoundError, match="/x"), absence_kept("/x"):
        raise FileNotFoundError(errno.ENOENT, "no")
    with pytest.raises(StorageError, match="/x"), absence_kept("/x"):
        raise PermissionError(errno.EACCES, "no")


def test_what_is_not_of_a_store_passes_through():
    with pytest.raises(KeyError), explained("/x"):
        raise KeyError("bug")
