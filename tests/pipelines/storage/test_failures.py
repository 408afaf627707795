"""Does each failure become the right error, one sentence that says what to do and keeps secrets?"""

from __future__ import annotations

import errno
import pickle
import ssl
from types import SimpleNamespace

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
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from pipelines.errors import (
    ImageError,
    ImageReason,
    InputError,
    StorageError,
    TransientStorageError,
)
from pipelines.storage.failures import (
    Fault,
    absence_kept,
    classify,
    describe,
    explain,
    explain_image,
    explained,
)


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
    (refusal("507"), StorageError, ImageReason.UNAVAILABLE, "free space"),
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


def answer_of(status):
    """What aiohttp makes of an HTTP status."""
    request = SimpleNamespace(real_url=URL)
    return aiohttp.ClientResponseError(request, (), status=status, message="in its own words")


def caused(error, cause):
    error.__cause__ = cause
    return error


def nameless(status):
    """What S3 says with a code that is not known here."""
    reply = {"Error": {"Code": "Odd"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(reply, "GetObject"))


@pytest.mark.parametrize("status", [500, 502, 520, 522, 524, 529, 599])
@pytest.mark.parametrize("say", [answer_of, lambda status: refusal(str(status)), nameless])
def test_a_server_that_fails_may_mend_on_every_store(say, status):
    assert classify(say(status)) is Fault.TRANSIENT


@pytest.mark.parametrize("status", [400, 405, 407, 418, 451, 501, 505, 508])
@pytest.mark.parametrize(
    "say",
    [
        answer_of,
        lambda status: refusal(str(status)),
        lambda status: caused(FileNotFoundError(URL), answer_of(status)),
    ],
)
def test_any_other_status_is_neither_absence_nor_denial(say, status):
    assert classify(say(status)) is Fault.OTHER


def test_what_is_gone_is_missing():
    assert classify(answer_of(410)) is Fault.MISSING


def test_credentials_that_a_status_alone_does_not_tell_of_are_told_by_their_class():
    class ClientAuthenticationError(Exception):
        status_code = 400

    assert classify(ClientAuthenticationError()) is Fault.CREDENTIALS


def test_an_absence_that_no_request_caused_is_one():
    assert classify(caused(FileNotFoundError("/x"), KeyError("/x"))) is Fault.MISSING
    assert describe(caused(FileNotFoundError("/x"), KeyError("/y"))) == "/x"


def test_what_fsspec_calls_not_found_is_told_in_the_words_of_its_cause():
    error = caused(FileNotFoundError(URL), answer_of(405))
    assert explain_image(error, "https://host/x.jpg").message.startswith(
        "https://host/x.jpg: 405, message='in its own words'"
    )


def test_an_error_without_words_has_those_of_its_cause():
    assert describe(caused(FSTimeoutError(), TimeoutError("too slow"))) == "too slow"
    assert describe(caused(TimeoutError(), KeyError())) == "TimeoutError"


HOST = SimpleNamespace(host="host", port=443, is_ssl=True, ssl=True)
NOT_VALID = ssl.SSLCertVerificationError(1, "certificate verify failed")
ALERT = ssl.SSLError(1, "handshake failure")
CUT = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")


def of_connector(kind, cause):
    return caused(kind(HOST, cause), cause)


@pytest.mark.parametrize(
    "error",
    [
        NOT_VALID,
        ALERT,
        of_connector(aiohttp.ClientConnectorCertificateError, NOT_VALID),
        of_connector(aiohttp.ClientConnectorSSLError, ALERT),
        aiohttp.ClientConnectorSSLError(HOST, ALERT),
        caused(
            FileNotFoundError(URL),
            of_connector(aiohttp.ClientConnectorCertificateError, NOT_VALID),
        ),
        SSLError(
            endpoint_url=URL,
            error=of_connector(aiohttp.ClientConnectorCertificateError, NOT_VALID),
        ),
    ],
    ids=lambda error: str(error)[:30],
)
def test_a_certificate_that_is_not_valid_is_neither_denial_nor_mended(error):
    """OpenSSL counts its failures by numbers that the system has for others: 1 would be EPERM."""
    assert classify(error) is Fault.OTHER


@pytest.mark.parametrize(
    "error",
    [
        CUT,
        ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"),
        ssl.SSLSyscallError(5, "Some I/O error occurred"),
        of_connector(aiohttp.ClientConnectorSSLError, CUT),
        of_connector(aiohttp.ClientConnectorError, ConnectionResetError(errno.ECONNRESET, "no")),
        caused(aiohttp.ClientOSError(1, "bad record"), ssl.SSLError(1, "bad record")),
        SSLError(endpoint_url=URL, error=of_connector(aiohttp.ClientConnectorSSLError, CUT)),
    ],
    ids=lambda error: str(error)[:30],
)
def test_a_tls_connection_that_was_cut_may_stand_again(error):
    assert classify(error) is Fault.TRANSIENT


@pytest.mark.parametrize("status", [401, 403])
def test_nobody_is_asked_for_credentials_to_https(status):
    message = str(explain(answer_of(status), "https://host/x.jpg"))
    assert "copy it to a store, or leave it out: https is read without credentials" in message
    assert "another user" not in message


def test_credentials_that_https_asks_for_cost_one_image():
    assert explain_image(answer_of(401), "https://host/x.jpg").reason is ImageReason.ACCESS_DENIED
    with pytest.raises(StorageError):
        explain_image(answer_of(401), "gs://bucket/x.jpg")
