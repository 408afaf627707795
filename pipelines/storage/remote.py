"""How are objects read and put in Google and Azure storage, and read over https, through fsspec?

The etag comes with the bytes of a whole object over https, as on S3. All else is asked about before
it is read, and again after.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, BinaryIO, TypeVar, cast

import aiohttp
from fsspec import AbstractFileSystem, get_filesystem_class

from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.storage.failures import Fault, absence_kept, classify, explain_image, explained
from pipelines.storage.objects import (
    CreateUnsupportedError,
    ObjectBytes,
    ObjectInfo,
    OvertakenError,
    Seen,
    describe_overtaken,
)
from pipelines.storage.ranges import check_range
from pipelines.storage.retries import repeat
from pipelines.storage.web import read_etag, read_object, read_range

_ERROR_CLASSES = {
    "google.auth": ("google.auth.exceptions", "GoogleAuthError"),
    "gcsfs": ("gcsfs.retry", "HttpError"),
    "azure.core": ("azure.core.exceptions", "AzureError"),
}
_HTTPS_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
"""Seconds, as for S3. aiohttp's own limit, 300 s for a whole body, would cut large checkpoints."""

_ETAG_KEYS = ("etag", "ETag", "md5Hash")
_MTIME_KEYS = ("mtime", "updated", "last_modified", "LastModified")

_Result = TypeVar("_Result")


class RemoteStore:
    """Any fsspec filesystem, with literal paths; https can only be read."""

    def __init__(self, scheme: str, filesystem: AbstractFileSystem | None = None) -> None:
        """Make a store.

        Args:
            scheme: of the URIs that it will be asked for.
            filesystem: what to use; one made from the environment if None.
        """
        self._scheme = scheme
        self._filesystem = filesystem
        self._errors: tuple[type[Exception], ...] = (
            OSError,
            aiohttp.ClientError,
            *_load_error_classes(),
        )

    def iter_objects(self, uri: str, name_start: str = "") -> Iterator[ObjectInfo]:
        """Stream the listing, folder by folder, in key order.

        Raises:
            InputError: https has no listing.
        """
        if self._scheme == "https":
            raise InputError(f"{uri}: https has no listing; give a list of URIs instead")
        root = uri.removesuffix("/")
        if not uri.endswith("/") and (info := self._find(uri)) and info["type"] == "file":
            yield self._describe(info)
        # Not walk(): below the first folder it leaves out what it cannot list, without a word.
        pending = self._list(root, name_start)
        while pending:
            info = pending.pop()
            if info["type"] == "directory":
                pending += self._list(self._uri_of(info), "")
            else:
                yield self._describe(info)

    def list_names(self, uri: str) -> set[str]:
        """Name the objects directly in a folder; none if it does not exist."""
        folder = uri.removesuffix("/")
        infos = [info for info in self._list(folder, "") if info["type"] == "file"]
        return {self._uri_of(info)[len(folder) + 1 :] for info in infos} - {""}

    def read_objects(
        self, objects: Sequence[ObjectInfo], *, concurrency: int, max_bytes: int | None
    ) -> list[ObjectBytes | ImageError]:
        """Read whole objects, several at a time."""
        with ThreadPoolExecutor(max_workers=concurrency) as pool:
            return list(pool.map(lambda info: self._read_object(info, max_bytes), objects))

    def read(self, uri: str) -> bytes:
        """Read one whole object; FileNotFoundError if there is none."""
        with absence_kept(uri, self._errors):
            filesystem, path = self._locate(uri)
            return self._repeat(uri, lambda: cast("bytes", filesystem.cat_file(path)))

    def open(self, uri: str, *, buffer_bytes: int) -> BinaryIO:
        """Open one object for ranged reads; FileNotFoundError if there is none."""
        with absence_kept(uri, self._errors):
            filesystem, path = self._locate(uri)
            file = self._repeat(uri, lambda: filesystem.open(path, "rb", block_size=buffer_bytes))
        self._repeat_fetches(uri, file)
        return cast("BinaryIO", file)

    def find_object(self, uri: str) -> ObjectInfo | None:
        """Ask for what the store knows of an object."""
        info = self._find(uri)
        return self._describe(info) if info is not None and info["type"] == "file" else None

    def write(
        self, uri: str, data: bytes, *, scratch: str | None, seen: Seen | None = None
    ) -> None:
        """Put finished bytes; what was seen is looked at right before.

        Where nothing was seen, the store's own precondition decides, if it has one.

        Raises:
            OvertakenError: something else stands there.
        """
        self._refuse_to_write(uri)
        if seen is not None and seen.etag is None:
            with suppress(CreateUnsupportedError):
                if not self.create(uri, data, scratch=scratch):
                    raise OvertakenError(describe_overtaken(uri))
                return
        if seen is not None:
            info = self.find_object(uri)
            if Seen(etag=None if info is None else info.etag) != seen:
                if not self._holds(uri, data):
                    raise OvertakenError(describe_overtaken(uri))
                return
        with explained(uri, self._errors):
            filesystem, path = self._locate(uri)
            self._repeat(uri, partial(filesystem.pipe_file, path, data))

    def create(self, uri: str, data: bytes, *, scratch: str | None) -> bool:
        """Put with the store's own precondition, where fsspec offers it.

        As on S3, a put whose answer got lost finds itself there when it is made again.

        Raises:
            CreateUnsupportedError: it does not.
        """
        del scratch
        self._refuse_to_write(uri)
        with explained(uri, self._errors):
            filesystem, path = self._locate(uri)
            try:
                self._repeat(uri, partial(filesystem.pipe_file, path, data, mode="create"))
            except FileExistsError:
                return self._holds(uri, data)
            except (NotImplementedError, TypeError, ValueError) as error:
                raise CreateUnsupportedError(f"{uri}: the store has no conditional put") from error
        return True

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects one by one."""
        for uri in uris:
            with explained(uri, self._errors):
                filesystem, path = self._locate(uri)
                try:
                    self._repeat(uri, partial(filesystem.rm_file, path))
                except FileNotFoundError:
                    continue

    def _locate(self, uri: str) -> tuple[AbstractFileSystem, str]:
        """Give the filesystem for a URI, and the path that it knows the object by."""
        if self._filesystem is not None:
            return self._filesystem, self._filesystem._strip_protocol(uri)
        cls = get_filesystem_class(self._scheme)
        options = frozenset(cls._get_kwargs_from_urls(uri).items())
        return _make_filesystem(os.getpid(), self._scheme, options), cls._strip_protocol(uri)

    def _repeat(self, uri: str, attempt: Callable[[], _Result]) -> _Result:
        return repeat(uri, attempt, self._errors)

    def _repeat_fetches(self, uri: str, file: Any) -> None:  # noqa: ANN401 (each backend's own)
        """Let the range requests of an open file be repeated, too; some files make none."""
        cache = getattr(file, "cache", None)
        if cache is None:
            return
        fetch = cache.fetcher

        def fetch_repeatedly(start: int, end: int) -> bytes:
            with explained(uri, self._errors):
                return cast("bytes", self._repeat(uri, lambda: fetch(start, end)))

        cache.fetcher = fetch_repeatedly

    def _holds(self, uri: str, data: bytes) -> bool:
        """Say whether an object is of exactly these bytes."""
        try:
            return self.read(uri) == data
        except FileNotFoundError:
            return False

    def _find(self, uri: str) -> dict[str, Any] | None:
        # fsspec's https says FileNotFoundError for a server that is down, too.
        with explained(uri, self._errors):
            filesystem, path = self._locate(uri)
            try:
                return self._repeat(uri, lambda: cast("dict[str, Any]", filesystem.info(path)))
            except FileNotFoundError as error:
                if classify(error) is Fault.MISSING:
                    return None
                raise

    def _list(self, folder: str, name_start: str) -> list[dict[str, Any]]:
        """List one folder, last key first; nothing if it does not exist."""
        with explained(folder, self._errors):
            filesystem, path = self._locate(folder)
            try:
                infos = self._repeat(folder, lambda: filesystem.ls(path, detail=True))
            except FileNotFoundError:
                return []
        path = path.rstrip("/")
        # Once each: an object that is replaced meanwhile is listed twice by some stores (rclone).
        below = {
            _listing_key(info): info
            for info in infos
            if info["name"].startswith(f"{path}/{name_start}")
        }
        return [below[key] for key in sorted(below, reverse=True)]

    def _uri_of(self, info: dict[str, Any]) -> str:
        name = str(info["name"])
        return name if "://" in name else f"{self._scheme}://{name}"

    def _describe(self, info: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(
            uri=self._uri_of(info),
            size=int(info.get("size") or 0),
            etag=_find_etag(info),
            mtime=_find_mtime(info),
        )

    def _read_object(self, listed: ObjectInfo, max_bytes: int | None) -> ObjectBytes | ImageError:
        """Read one object or member; what goes wrong is the answer."""
        try:
            return self._repeat(listed.uri, lambda: self._read_once(listed, max_bytes))
        except ImageError as error:
            return error
        except self._errors as error:
            return explain_image(error, listed.uri)

    def _read_once(self, listed: ObjectInfo, max_bytes: int | None) -> ObjectBytes:
        uri = listed.uri
        filesystem, path = self._locate(listed.object_uri)
        if self._scheme == "https" and listed.offset is None:
            return read_object(filesystem, path, listed, max_bytes)
        info = filesystem.info(path)
        there, etag = int(info.get("size") or 0), _find_etag(info)
        if listed.etag and etag and etag != listed.etag:
            raise ImageError(ImageReason.CHANGED, f"{uri}: changed since it was listed")
        size = there if listed.offset is None else listed.size
        if max_bytes is not None and size > max_bytes:
            raise ImageError(
                ImageReason.TOO_LARGE, f"{uri}: {size} bytes, at most {max_bytes} are read"
            )
        if listed.offset is None:
            data = filesystem.cat_file(path)
        else:
            check_range(listed, there)
            # Of no bytes there is no range.
            data = self._read_range(filesystem, path, listed.offset, size) if size else b""
            if len(data) != size:
                raise ConnectionError(f"{len(data)} bytes came of a range of {size}")
        if etag and _find_etag(filesystem.info(path)) != etag:
            raise ImageError(ImageReason.CHANGED, f"{uri}: changed while it was read")
        return ObjectBytes(data=data, etag=etag)

    def _read_range(
        self, filesystem: AbstractFileSystem, path: str, start: int, size: int
    ) -> bytes:
        if self._scheme == "https":
            return read_range(filesystem, path, start, size)
        return cast("bytes", filesystem.cat_file(path, start=start, end=start + size))

    def _refuse_to_write(self, uri: str) -> None:
        if self._scheme == "https":
            raise InputError(f"{uri}: https is read-only; write to local disk, s3, gs or az")


@lru_cache(maxsize=8)
def _make_filesystem(
    process_id: int, scheme: str, options: frozenset[tuple[str, Any]]
) -> AbstractFileSystem:
    """Make a filesystem; one is never shared over a fork."""
    del process_id
    cls = get_filesystem_class(scheme)
    own = {"client_kwargs": {"timeout": _HTTPS_TIMEOUT}} if scheme == "https" else {}
    return cls(**own, **dict(options), skip_instance_cache=True, use_listings_cache=False)


def _load_error_classes() -> list[type[Exception]]:
    """Load what the optional backends raise besides OSError."""
    classes: list[type[Exception]] = []
    for package, (module, name) in _ERROR_CLASSES.items():
        if find_spec(package.partition(".")[0]) and find_spec(package):
            classes.append(getattr(import_module(module), name))
    return classes


def _listing_key(info: dict[str, Any]) -> str:
    name = str(info["name"]).rstrip("/")
    return name + "/" if info["type"] == "directory" else name


def _find_etag(info: dict[str, Any]) -> str:
    found = next((info[key] for key in _ETAG_KEYS if info.get(key)), "")
    return read_etag(str(found))


def _find_mtime(info: dict[str, Any]) -> float:
    """Seconds since 1970 UTC, from whatever the backend calls it; 0 when it does not say."""
    found = next((info[key] for key in _MTIME_KEYS if info.get(key)), None)
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            return 0.0
    if isinstance(found, datetime):
        return found.timestamp()
    return float(found) if isinstance(found, int | float) else 0.0
