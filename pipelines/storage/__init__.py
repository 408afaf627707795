"""What can the program do with objects, on local disk and in object stores? The one door to both.

URIs are text and keys are literal: nothing globs but `iter_glob`. What goes wrong is one of
`pipelines.errors`, never an error of a library. An object appears whole or not at all. Clients
belong to the process that uses them and take their credentials from the environment.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

from pipelines.errors import ImageError, PipelineError
from pipelines.storage.globs import compile_glob, is_glob, split_glob
from pipelines.storage.local import LocalStore, remove_leftovers
from pipelines.storage.objects import (
    CreateUnsupportedError,
    ObjectBytes,
    ObjectInfo,
    OvertakenError,
    Seen,
    Store,
    describe_overtaken,
)
from pipelines.storage.uris import (
    escape_surrogates,
    is_local,
    join_member,
    join_uri,
    local_path,
    relative_to,
    resolve_uri,
    scheme_of,
    split_member,
    takes_credentials,
)

__all__ = [
    "ObjectBytes",
    "ObjectInfo",
    "OvertakenError",
    "Seen",
    "clear_scratch",
    "create_bytes",
    "delete",
    "describe_overtaken",
    "escape_surrogates",
    "exists",
    "find_object",
    "is_glob",
    "is_local",
    "iter_glob",
    "iter_objects",
    "join_member",
    "join_uri",
    "list_names",
    "local_path",
    "look",
    "open_range_reader",
    "read_bytes",
    "read_objects",
    "relative_to",
    "resolve_uri",
    "split_member",
    "supports_create_if_absent",
    "takes_credentials",
    "write_bytes",
]

_RANGE_BUFFER_BYTES = 1 << 20
"""One request reads at least this much; assumed to cover a Parquet footer."""


def iter_objects(prefix: str) -> Iterator[ObjectInfo]:
    """Stream what lies under a prefix; S3's listing is never held whole, nor that of a deep tree.

    The names directly in a folder are, but for S3: some 300 bytes each (measured on local disk).
    `photos` and `photos/` both mean the folder, never `photos-old/`; the first also means an object
    of exactly that name. Folder keys are given too (`ObjectInfo.is_folder_key`). On local disk only
    regular files are given, links are followed unless they lead to a folder above themselves, and a
    broken one is given without size and etag.

    Args:
        prefix: a folder or an object.

    Yields:
        One entry an object, in the order of its key on local disk and on AWS; always the same order
        for the same content.

    Raises:
        InputError: the bucket or local folder does not exist.
        StorageError: the store refused, or a local folder is not the one any more that it was.
        TransientStorageError: the store did not answer, after retries.
    """
    yield from _store_of(prefix).iter_objects(prefix)


def iter_glob(pattern: str) -> Iterator[ObjectInfo]:
    """Stream what a glob names: the literal start is listed, the rest is matched here.

    Args:
        pattern: `*` and `?` stay within a segment, `**` crosses them, `[a-c]`, `[!a-c]`; `[*]` is a
            literal star.

    Yields:
        One entry an object, in the order of `iter_objects`.

    Raises:
        InputError: the bucket or the local folder before the first magic character does not exist.
        StorageError: the store refused.
        TransientStorageError: the store did not answer, after retries.
    """
    absolute = escape_surrogates(str(local_path(pattern))) if is_local(pattern) else pattern
    expression = compile_glob(absolute)
    folder, name_start = split_glob(absolute)
    for info in _store_of(absolute).iter_objects(folder, name_start):
        if expression.fullmatch(info.uri):
            yield info


def read_objects(
    objects: Sequence[ObjectInfo], *, concurrency: int = 16, max_bytes: int | None = None
) -> list[ObjectBytes | ImageError]:
    """Read whole objects, and members of tars by a range each.

    What cannot be read costs its own answer and nothing else.

    Args:
        objects: what to read; an entry without an etag cannot be found `changed`.
        concurrency: how many are read at a time, at least 1.
        max_bytes: what is larger is not read but `too_large`.

    Returns:
        One answer an object, in order: its bytes with the etag that they are of, or an error with
        one of the reasons not_found, access_denied, unavailable, changed, too_large, not_an_image,
        and for a member that goes beyond the end of its tar truncated.

    Raises:
        InputError: a URI or the endpoint is not valid.
        StorageError: there is no client to ask with, as with a profile that does not exist.
    """
    answers: dict[int, ObjectBytes | ImageError] = {}
    for scheme in sorted({scheme_of(info.uri) for info in objects}):
        places = [at for at, info in enumerate(objects) if scheme_of(info.uri) == scheme]
        chosen = [objects[at] for at in places]
        store = _store_of(chosen[0].uri)
        found = store.read_objects(chosen, concurrency=concurrency, max_bytes=max_bytes)
        answers.update(zip(places, found, strict=True))
    return [answers[at] for at in range(len(objects))]


def read_bytes(uri: str) -> bytes:
    """Read one whole object.

    Args:
        uri: the object.

    Returns:
        Its bytes.

    Raises:
        FileNotFoundError: there is no such object, or no such bucket.
        StorageError: the store refused, or did not answer after retries.
    """
    return _store_of(uri).read(uri)


def open_range_reader(uri: str, *, buffer_bytes: int = _RANGE_BUFFER_BYTES) -> BinaryIO:
    """Open an object for seeking and reading; every read is of the version that was opened.

    Args:
        uri: the object.
        buffer_bytes: the least that one request reads.

    Returns:
        A seekable binary file, to be closed by the caller.

    Raises:
        FileNotFoundError: there is no such object, or no such bucket.
        StorageError: the store refused, or did not answer after retries.
    """
    return _store_of(uri).open(uri, buffer_bytes=buffer_bytes)


def find_object(uri: str) -> ObjectInfo | None:
    """Describe the object that stands at exactly this URI, over https too.

    Args:
        uri: the object.

    Returns:
        As a listing shows it; None if there is none. A folder is none.

    Raises:
        StorageError: the store refused, or did not answer after retries.
    """
    return _store_of(uri).find_object(uri)


def exists(uri: str) -> bool:
    """Say whether an object stands at exactly this URI; a folder is none.

    Args:
        uri: the object.

    Returns:
        Whether it is there.

    Raises:
        StorageError: the store refused, or did not answer after retries.
    """
    return find_object(uri) is not None


def list_names(folder: str) -> set[str]:
    """Name the objects that lie directly in a folder.

    Args:
        folder: with or without a slash at its end.

    Returns:
        Names without the folder; empty if the folder does not exist.

    Raises:
        InputError: the bucket does not exist.
        StorageError: the store refused, or did not answer after retries.
    """
    return _store_of(folder).list_names(folder)


def look(uri: str) -> Seen:
    """See what stands under a name, so that `write_bytes` puts nothing over anything else.

    Args:
        uri: the object.

    Returns:
        Its version.

    Raises:
        StorageError: the store refused, or did not answer after retries.
    """
    info = find_object(uri)
    return Seen(etag=None if info is None else info.etag)


def write_bytes(
    uri: str, data: bytes, *, scratch: str | None = None, seen: Seen | None = None
) -> None:
    """Put finished bytes under a name, over whatever stands there; they appear whole or not at all.

    With `seen` they are put only over what was seen. S3 decides that in the moment of the put,
    however late it arrives. So do local disk, Google and Azure of an object where nothing was seen;
    of others there, and where a store ignores the condition, it is looked at right before, and a
    put may pass within a moment.

    On local disk a temporary file is written, synced and renamed, and missing folders are made. A
    killed process can leave a temporary file, in `scratch`. On an object store it is one put.

    Args:
        uri: the object.
        data: its bytes.
        scratch: folder for the temporary file, on the same disk; beside the object if None. Not
            used by an object store.
        seen: from `look`; None to put over anything.

    Raises:
        InputError: the bucket does not exist.
        OvertakenError: something else stands there than was seen, and than these bytes.
        StorageError: the store refused (permissions, a full disk), or did not answer after retries.
    """
    _store_of(uri).write(uri, data, scratch=scratch, seen=seen)


def create_bytes(uri: str, data: bytes, *, scratch: str | None = None) -> bool:
    """Put finished bytes where no object stands yet.

    Two processes that try at the same time cannot both succeed, where `supports_create_if_absent`;
    elsewhere this looks first and puts after. A put whose answer got lost is told from somebody
    else's by its bytes, so they have to differ: who needs to be the only one puts an id in them.

    Args:
        uri: the object.
        data: its bytes.
        scratch: as in `write_bytes`.

    Returns:
        False if an object stood there; it is left as it was.

    Raises:
        InputError: the bucket does not exist.
        StorageError: the store refused, or did not answer after retries.
    """
    store = _store_of(uri)
    # A store that ignores the condition would overwrite: looking first makes that a race, not a
    # rule.
    if store.find_object(uri) is not None:
        return False
    try:
        return store.create(uri, data, scratch=scratch)
    except CreateUnsupportedError:
        store.write(uri, data, scratch=scratch, seen=None)
        return True


def supports_create_if_absent(folder: str, *, scratch: str | None = None) -> bool:
    """Find out by trying whether `create_bytes` is atomic here.

    Args:
        folder: where to try: an object `create-probe-RANDOM` is created there twice, then deleted.
        scratch: as in `write_bytes`.

    Returns:
        Whether the second creation was refused.

    Raises:
        InputError: the bucket does not exist.
        StorageError: the store refused, or did not answer after retries.
    """
    probe = join_uri(folder, f"create-probe-{secrets.token_hex(8)}")
    store = _store_of(probe)
    try:
        store.create(probe, b"first", scratch=scratch)
        return not store.create(probe, b"second", scratch=scratch)
    except CreateUnsupportedError:
        return False
    finally:
        # Who may write but not delete keeps a small object in a folder for temporary ones.
        with suppress(PipelineError):
            store.delete([probe])


def delete(uris: Iterable[str]) -> None:
    """Delete objects; one that is not there is no error.

    Args:
        uris: objects, all in the same kind of store.

    Raises:
        StorageError: the store refused, or did not answer after retries.
    """
    doomed = list(uris)
    if doomed:
        _store_of(doomed[0]).delete(doomed)


def clear_scratch(scratch: str, *, seconds: float) -> None:
    """Remove the temporary files that killed processes left; an object store has none.

    Args:
        scratch: folder for temporary files; it need not be there.
        seconds: how long nobody has written to them. Younger files may be of a process that is
            writing, and other files are nobody's: they stay.
    """
    if is_local(scratch):
        remove_leftovers(local_path(scratch), seconds)


def _store_of(uri: str) -> Store:
    """Choose the store; the libraries of the others are not imported."""
    scheme = scheme_of(uri)
    if not scheme:
        return LocalStore()
    if scheme == "s3":
        from pipelines.storage.s3 import S3Store

        return S3Store()
    from pipelines.storage.remote import RemoteStore

    return RemoteStore(scheme)
