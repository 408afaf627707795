"""Which object does a text name, and which texts are refused before anything is started?

Keys are literal: nothing here decodes `%20`, and `#`, `*`, `[1]` and `?` are ordinary characters. A
message never repeats what may hold a secret (a query string, a password).
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipelines.errors import InputError

BACKENDS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "https": "aiohttp"}
"""Remote schemes, and the package without which each cannot be read."""

# A list names millions of objects, and a package is looked for on disk.
_find_package = cache(find_spec)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEME_WITHOUT_SLASHES = re.compile(rf"(?:{'|'.join(BACKENDS)}|file):", re.IGNORECASE)
_CHAIN = re.compile(r"[A-Za-z0-9+.-]+::|.*::.*://|.*://.*::/", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_MEMBER = re.compile(r"\.tar#", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUERY = re.compile(r"\?[^/?=]+=")
_ESCAPE = re.compile(r"\\udc(5c|[89a-f][0-9a-f])")
"""A byte that is not UTF-8, or a backslash that stands before what would read as one."""
_SECRETS = (
    (re.compile(r"(?<=//)[^/@\s]+@"), "***@"),
    (re.compile(r"\?[^/?=\s]+=\S*"), "?***"),
    (re.compile(r"(https?://[^?\s]*)\?\S+"), r"\1?***"),
)


def resolve_uri(text: str) -> str:
    """Turn what a user wrote into the form that the rest of the program, and its tables, use.

    Args:
        text: a local path (relative, `~` or `file://` too), or a URI of s3, gs, az, abfs or https.

    Returns:
        An absolute path without a scheme, or the URI with its scheme in lower case and its key as
        it was.

    Raises:
        InputError: the text is empty, a chained fsspec URL, a `pipe:`, of an unknown scheme, holds
            a query string or credentials, names no bucket, or needs a package that is not
            installed.
    """
    if not text or "\0" in text:
        raise InputError(
            f"{text!r} is not a path or URI: expected a local path or s3://bucket/prefix"
        )
    if text.lower().startswith("pipe:"):
        raise InputError("pipe: runs a program and is refused: name the objects themselves")
    if _CHAIN.match(text):
        raise InputError(
            f"{redact(text)}: chained URLs (with ::) are refused: name the objects themselves"
        )
    scheme = scheme_of(text)
    if scheme:
        return _resolve_remote(scheme, text)
    if _SCHEME_WITHOUT_SLASHES.match(text) and "://" not in text:
        raise InputError(
            f"{redact(text)}: expected :// after the scheme, or ./ before a local path"
        )
    return escape_surrogates(str(local_path(text)))


def scheme_of(uri: str) -> str:
    """Name the scheme of a URI in lower case; "" for a local path, with or without `file://`."""
    match = _SCHEME.match(uri)
    scheme = match.group(1).lower() if match else ""
    return "" if scheme == "file" else scheme


def is_local(uri: str) -> bool:
    """Say whether a URI is on local disk."""
    return scheme_of(uri) == ""


def takes_credentials(uri: str) -> bool:
    """Say whether a URI is read with credentials, on local disk the user's own: https is not."""
    return scheme_of(uri) != "https"


def local_path(uri: str) -> Path:
    """Make a local path or `file://` URI absolute; symbolic links are kept, unless it has a `..`.

    Args:
        uri: a local path or `file:///path`, escaped as by `escape_surrogates`.

    Returns:
        The absolute path, as Python names files.

    Raises:
        InputError: `file://` is followed by a host, or `~` by an unknown user.
    """
    text = _restore_surrogates(uri)
    if uri[:7].lower() == "file://":
        text = text[7:]
        if not text.startswith("/"):
            raise InputError(f"{uri}: expected file:///absolute/path, or a plain path")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(f"{uri}: {error}; write the folder out") from error
    # Without looking at the disk, `link/..` cannot be told from the folder that holds `link`.
    return path.resolve() if ".." in path.parts else path


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Cut a remote URI into its bucket (the host for https) and its literal key."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def join_uri(base: str, *parts: str) -> str:
    """Name an object below a folder.

    Args:
        base: a folder, with or without a slash at its end.
        parts: relative names, joined by slashes as they are.

    Returns:
        The URI.
    """
    return "/".join([base.removesuffix("/"), *parts])


def relative_to(uri: str, base: str) -> str:
    """Name an object relative to a folder that holds it.

    Args:
        uri: an object below the folder.
        base: the folder, with or without a slash at its end.

    Returns:
        What has to be joined to `base` to get `uri`.

    Raises:
        ValueError: `uri` is not below `base`.
    """
    folder = base.removesuffix("/") + "/"
    if not uri.startswith(folder):
        raise ValueError(f"{uri} is not below {folder}")
    return uri[len(folder) :]


def join_member(tar: str, member: str) -> str:
    """Name a member of a tar; its name is taken as it is.

    Args:
        tar: the tar's URI, ending in `.tar`, with no `.tar#` in it.
        member: its name in the tar.

    Returns:
        The URI, `TAR#MEMBER`.
    """
    return f"{tar}#{member}"


def split_member(uri: str) -> tuple[str, str] | None:
    """Take the name of a member of a tar apart: the inverse of `join_member`.

    A whole object may have such a name, too: whether one is meant is told by `ObjectInfo.offset`.

    Args:
        uri: any URI.

    Returns:
        The tar and the member, cut at the first `.tar#`; None where there is none.
    """
    cut = _MEMBER.search(uri)
    return None if cut is None else (uri[: cut.end() - 1], uri[cut.end() :])


def escape_surrogates(name: str) -> str:
    r"""Make text of a name that is not UTF-8: no table takes it otherwise.

    No two names have the same text. So in a name that has such text itself, `\udcff` say, the
    backslash becomes `\udc5c`, which stands for no byte that is not UTF-8.

    Args:
        name: as Python decodes file names, what is not UTF-8 as surrogates.

    Returns:
        The name with each of these as `\udcXX`.
    """
    literal = _ESCAPE.sub(lambda match: r"\udc5c" + match[0][1:], name)
    return literal.encode("utf-8", "backslashreplace").decode()


def _restore_surrogates(text: str) -> str:
    """The inverse of `escape_surrogates`."""
    return _ESCAPE.sub(
        lambda match: "\\" if match[1] == "5c" else chr(0xDC00 + int(match[1], 16)), text
    )


def redact(text: str) -> str:
    """Make a text fit to be shown or stored, in one line, without passwords and query strings.

    Args:
        text: a URI, or a sentence with URIs.

    Returns:
        The text with stars for what may be secret, and control characters escaped.
    """
    for secret, stars in _SECRETS:
        text = secret.sub(stars, text)
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)


def _resolve_remote(scheme: str, text: str) -> str:
    # The key is left exactly as it is.
    shown = redact(text)
    if scheme not in BACKENDS:
        known = ", ".join(f"{name}://" for name in BACKENDS)
        raise InputError(f"{shown}: unknown scheme; expected a local path or one of {known}")
    rest = text.partition("://")[2]
    bucket, slash, key = rest.partition("/")
    # A secret can hold a slash: with a colon before the first one, an @ anywhere ends it.
    holds_secret = ":" in bucket and "@" in rest and not bucket.rpartition(":")[2].isdecimal()
    if holds_secret or ("@" in bucket and scheme != "abfs"):
        raise InputError(
            f"{scheme}://...: credentials in a URI are refused: set the environment variables of "
            "the store"
        )
    if _QUERY.search(key) or (scheme == "https" and "?" in rest):
        raise InputError(
            f"{shown}: a query string is refused, it may hold a secret: name the object alone"
        )
    if not bucket:
        raise InputError(f"{shown}: names no bucket; expected {scheme}://bucket/prefix")
    if scheme == "s3" and not _BUCKET.fullmatch(bucket):
        raise InputError(
            f"{shown}: {bucket!r} is not the name of a bucket; expected s3://bucket/prefix"
        )
    if _find_package(BACKENDS[scheme]) is None:
        package = BACKENDS[scheme]
        raise InputError(f"{shown}: {scheme}:// needs the package {package}: pip install {package}")
    return f"{scheme}://{bucket}{slash or '/'}{key}"
