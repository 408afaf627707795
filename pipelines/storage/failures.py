"""What went wrong in a store, in one sentence that says what to do, and never shows a secret?

Failures are told apart by error code, HTTP status, class name and errno, so that no backend has to
be imported to explain an error of another.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from pipelines.errors import (
    ImageError,
    ImageReason,
    InputError,
    PipelineError,
    StorageError,
    TransientStorageError,
)
from pipelines.storage.uris import redact, scheme_of


class Fault(Enum):
    """Kinds of failure that call for different answers."""

    MISSING = auto()
    MISSING_BUCKET = auto()
    NO_FOLDER = auto()
    INVALID_NAME = auto()
    CREDENTIALS = auto()
    EXPIRED = auto()
    """Credentials that were valid, or could not be looked up: looking again may find new ones."""

    DENIED = auto()
    TRANSIENT = auto()
    DISK_FULL = auto()
    READ_ONLY = auto()
    OTHER = auto()


_MAX_DETAIL = 300
"""Characters of the store's own words in a message: they end in tables and logs."""

_CODES = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404"), Fault.MISSING),
    "NoSuchBucket": Fault.MISSING_BUCKET,
    **dict.fromkeys(("InvalidBucketName", "KeyTooLongError", "InvalidURI"), Fault.INVALID_NAME),
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "AuthorizationHeaderMalformed",
            "401",
        ),
        Fault.CREDENTIALS,
    ),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
        Fault.EXPIRED,
    ),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), Fault.DENIED),
    **dict.fromkeys(
        (
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeout",
            "OperationAborted",
            "ConditionalRequestConflict",
            "408",
            "429",
            "500",
            "502",
            "503",
            "504",
        ),
        Fault.TRANSIENT,
    ),
}

# Classes of botocore, aiohttp, google-auth and azure-core, the most special first.
_CLASSES = {
    "NoCredentialsError": Fault.EXPIRED,
    "PartialCredentialsError": Fault.CREDENTIALS,
    "CredentialRetrievalError": Fault.EXPIRED,
    "TokenRetrievalError": Fault.EXPIRED,
    "ProfileNotFound": Fault.CREDENTIALS,
    "GoogleAuthError": Fault.CREDENTIALS,
    "ClientAuthenticationError": Fault.CREDENTIALS,
    "ParamValidationError": Fault.INVALID_NAME,
    "ResourceNotFoundError": Fault.MISSING,
    "FileNotFoundError": Fault.MISSING,
    "SSLError": Fault.OTHER,
    "ClientSSLError": Fault.OTHER,
    "PermissionError": Fault.DENIED,
    "TimeoutError": Fault.TRANSIENT,
    "HTTPClientError": Fault.TRANSIENT,
    "ConnectionError": Fault.TRANSIENT,
    "IncompleteReadError": Fault.TRANSIENT,
    "ChecksumError": Fault.TRANSIENT,
    "FlexibleChecksumError": Fault.TRANSIENT,
    "ResponseParserError": Fault.TRANSIENT,
    "ClientConnectionError": Fault.TRANSIENT,
    "ClientPayloadError": Fault.TRANSIENT,
    "ServiceRequestError": Fault.TRANSIENT,
    "ServiceResponseError": Fault.TRANSIENT,
}

_ERRNOS = {
    **dict.fromkeys((errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP), Fault.MISSING),
    errno.ENOTDIR: Fault.NO_FOLDER,
    **dict.fromkeys((errno.EACCES, errno.EPERM), Fault.DENIED),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), Fault.DISK_FULL),
    errno.EROFS: Fault.READ_ONLY,
}

_ABSENT = frozenset({Fault.MISSING, Fault.MISSING_BUCKET, Fault.NO_FOLDER})

_REASONS = {
    Fault.MISSING: ImageReason.NOT_FOUND,
    Fault.MISSING_BUCKET: ImageReason.NOT_FOUND,
    Fault.NO_FOLDER: ImageReason.NOT_FOUND,
    Fault.INVALID_NAME: ImageReason.NOT_FOUND,
    Fault.DENIED: ImageReason.ACCESS_DENIED,
}

_AZURE_HINT = "set AZURE_STORAGE_ACCOUNT_NAME and its key, or use a managed identity"
_CREDENTIALS_HINT = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or an instance role, on the"
    " workers too (FSSPEC_S3_ANON=true for a public bucket)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS or use a service account, on the workers too",
    "az": f"{_AZURE_HINT}, on the workers too",
    "abfs": f"{_AZURE_HINT}, on the workers too",
}

_NO_CREDENTIALS = (StorageError, "no valid credentials ({reply}); {credentials}")
_SENTENCES: dict[Fault, tuple[type[PipelineError], str]] = {
    Fault.MISSING: (InputError, "does not exist ({reply}); check the name"),
    Fault.MISSING_BUCKET: (
        InputError,
        "the bucket does not exist ({reply}); check its name, the region and AWS_ENDPOINT_URL",
    ),
    Fault.NO_FOLDER: (
        InputError,
        "is no folder, or lies in what is none ({reply}); choose another name",
    ),
    Fault.INVALID_NAME: (InputError, "the store takes no such bucket or key; check the name"),
    Fault.CREDENTIALS: _NO_CREDENTIALS,
    Fault.EXPIRED: _NO_CREDENTIALS,
    Fault.DENIED: (StorageError, "access denied ({reply}); ask for permission, or {credentials}"),
    Fault.TRANSIENT: (
        TransientStorageError,
        "the store did not answer, after retries ({reply}); check the network and the endpoint"
        " (AWS_ENDPOINT_URL), then run the same command again",
    ),
    Fault.DISK_FULL: (StorageError, "the disk or quota is full ({reply}); free space, run again"),
    Fault.READ_ONLY: (StorageError, "the file system is read-only; choose another folder"),
    Fault.OTHER: (StorageError, "the store failed ({reply})"),
}


def find_code(error: BaseException) -> str:
    """Find the store's own error code, or the HTTP status, in an error or in what caused it.

    Args:
        error: what was caught.

    Returns:
        The code, "" without one.
    """
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        for name in ("status", "status_code", "code"):
            status = getattr(cause, name, None)
            if isinstance(status, int | str) and str(status).isdigit():
                return str(status)
        cause = cause.__cause__
    return ""


def _find_status(error: BaseException) -> str:
    """Find the HTTP status that came with a code that is not known here, "" without one."""
    response = getattr(error.__cause__ or error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return str(metadata.get("HTTPStatusCode", ""))


def classify(error: BaseException) -> Fault:
    """Tell which kind of failure an error of a storage library or of the system is.

    Args:
        error: what was caught.

    Returns:
        The kind, `Fault.OTHER` for what is not known here.
    """
    for code in (find_code(error), _find_status(error)):
        if code in _CODES:
            return _CODES[code]
    # fsspec's https calls everything FileNotFoundError: what caused it tells more.
    fault = classify(error.__cause__) if error.__cause__ else Fault.OTHER
    if fault is not Fault.OTHER:
        return fault
    number = getattr(error, "errno", None)
    if number in _ERRNOS:
        return _ERRNOS[number]
    names = [cls.__name__ for cls in type(error).__mro__]
    return next((fault for name, fault in _CLASSES.items() if name in names), Fault.OTHER)


def explain(error: BaseException, uri: str) -> PipelineError:
    """Turn an error of a storage library or of the system into one of ours.

    Args:
        error: what was caught.
        uri: the object or folder that was asked for.

    Returns:
        The error to raise; its message is one sentence that says what to do.
    """
    kind, sentence = _SENTENCES[classify(error)]
    credentials = _CREDENTIALS_HINT.get(scheme_of(uri), "run it as another user")
    return kind(f"{redact(uri)}: {sentence.format(reply=describe(error), credentials=credentials)}")


def explain_image(error: BaseException, uri: str) -> ImageError:
    """Turn an error of reading one object into the reason in its row.

    Args:
        error: what was caught; an `ImageError` is returned as it is.
        uri: the object.

    Returns:
        The reason and a short message.

    Raises:
        StorageError: the credentials are wrong or have expired: that is no property of an image,
            and a row that says so would stand for good.
    """
    if isinstance(error, ImageError):
        return error
    fault = classify(error)
    if fault in {Fault.CREDENTIALS, Fault.EXPIRED}:
        failure = explain(error, uri)
        raise failure from error
    reason = _REASONS.get(fault, ImageReason.UNAVAILABLE)
    return ImageError(reason, f"{redact(uri)}: {describe(error)}")


@contextmanager
def explained(uri: str, errors: tuple[type[BaseException], ...] = (OSError,)) -> Iterator[None]:
    """Translate these errors of the body into ours.

    Args:
        uri: the object or folder that the body asks for.
        errors: what may be raised by the library that the body calls.

    Yields:
        Nothing.

    Raises:
        failure: what `explain` makes of the error.
    """
    try:
        yield
    except errors as error:
        failure = explain(error, uri)
        raise failure from error


@contextmanager
def absence_kept(uri: str, errors: tuple[type[BaseException], ...] = (OSError,)) -> Iterator[None]:
    """Do as `explained`, but give the absence of an object as FileNotFoundError.

    Args:
        uri: the object that the body asks for.
        errors: what may be raised by the library that the body calls.

    Yields:
        Nothing.

    Raises:
        FileNotFoundError: there is no such object or no such bucket.
        InputError: the store takes no such name, or the endpoint is not valid.
    """
    try:
        with explained(uri, errors):
            yield
    except InputError as failure:
        cause = failure.__cause__
        if cause is None or classify(cause) not in _ABSENT:
            raise
        raise FileNotFoundError(f"{redact(uri)}: no such object") from cause


def describe(error: BaseException) -> str:
    """Give the store's own words, with its code: one line, bounded, without secrets."""
    words = redact(" ".join(str(getattr(error, "strerror", None) or error).split()))
    code = find_code(error)
    parts = [code] if code and code not in words else []
    parts += [words] if words else [type(error).__name__]
    return ": ".join(parts)[:_MAX_DETAIL]
