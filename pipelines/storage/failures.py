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
from pipelines.storage.uris import redact, scheme_of, takes_credentials


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

_LASTING_STATUSES = frozenset({501, 505, 506, 508, 510, 511})
"""What the server does not know how to do, and will not learn meanwhile."""

_CODES = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404", "410"), Fault.MISSING),
    "NoSuchBucket": Fault.MISSING_BUCKET,
    "507": Fault.DISK_FULL,
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
            # Those of Cloudflare, 520 and on, are in no standard.
            *(str(status) for status in {*range(500, 600)} - _LASTING_STATUSES - {507}),
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
    # A TLS connection that the other side cut; all else that TLS finds wrong stays wrong.
    "SSLEOFError": Fault.TRANSIENT,
    "SSLZeroReturnError": Fault.TRANSIENT,
    "SSLSyscallError": Fault.TRANSIENT,
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
    # A file of NFS that its server has moved: found when it is opened again.
    errno.ESTALE: Fault.TRANSIENT,
}

_WITHOUT_ERRNO = frozenset({"SSLError", "ClientConnectionError"})
"""Classes whose `errno` may be a number of OpenSSL, where 1, any failure, would be EPERM."""

_WEB_CAUSES = frozenset({"ClientError", "OSError"})
"""Classes of aiohttp and the system for whatever can go wrong with a request."""

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
    "https": "copy it to a store, or leave it out: https is read without credentials",
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
    code = find_code(error)
    for known in (code, _find_status(error)):
        if known in _CODES:
            return _CODES[known]
    cause = _find_cause(error)
    fault = classify(cause) if cause else Fault.OTHER
    if fault is not Fault.OTHER or _find_wrapped(error):
        return fault
    # s3fs makes an OSError of a status that is not known here: 405 would be EPERM.
    if code.isdecimal() and isinstance(error, OSError):
        return Fault.OTHER
    names, number = _class_names(error), getattr(error, "errno", None)
    if number in _ERRNOS and not names & _WITHOUT_ERRNO:
        return _ERRNOS[number]
    return next((fault for name, fault in _CLASSES.items() if name in names), Fault.OTHER)


def _class_names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _find_cause(error: BaseException) -> BaseException | None:
    """Find what caused an error; of a failure of TLS, botocore keeps it among the arguments."""
    kept = getattr(error, "kwargs", {}).get("error") if type(error).__name__ == "SSLError" else None
    return error.__cause__ or (kept if isinstance(kept, BaseException) else None)


def _find_wrapped(error: BaseException) -> BaseException | None:
    """Find what fsspec's https calls FileNotFoundError, as it does everything; None elsewhere."""
    cause = error.__cause__
    if cause is None or not isinstance(error, FileNotFoundError):
        return None
    code = find_code(cause)
    is_of_web = code.isdecimal() or (not code and _class_names(cause) & _WEB_CAUSES)
    return cause if is_of_web else None


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
            and a row that says so would stand for good. Over https none are sent.
    """
    if isinstance(error, ImageError):
        return error
    fault = classify(error)
    if fault in {Fault.CREDENTIALS, Fault.EXPIRED}:
        if takes_credentials(uri):
            failure = explain(error, uri)
            raise failure from error
        # None are sent there, so that there is nothing to mend.
        fault = Fault.DENIED
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
    told = _find_wrapped(error) or (error if str(error) else error.__cause__) or error
    words = redact(" ".join(str(getattr(told, "strerror", None) or told).split()))
    code = find_code(error)
    parts = [code] if code and code not in words else []
    parts += [words] if words else [type(error).__name__]
    return ": ".join(parts)[:_MAX_DETAIL]
