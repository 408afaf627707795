"""What does every store answer with, and what must a store be able to do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pipelines.errors import ImageError, StorageError
from pipelines.storage.uris import split_member


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One object as a listing shows it."""

    uri: str
    """Absolute local path, or scheme://bucket/key with the key as it is, never percent-encoded; of
    a member of a tar, that of the tar, `#` and the member's name."""

    size: int = 0
    """Bytes; 0 when unknown."""

    etag: str = ""
    """The store's version mark without quotes, "SIZE-MTIME_NS" on local disk; "" when unknown.
    Of a member, the tar's."""

    mtime: float = 0.0
    """Last modification in seconds since 1970 UTC; 0 when unknown. Of a member, the tar's."""

    offset: int | None = None
    """Where the bytes of a member begin in its tar; None for a whole object."""

    @property
    def is_folder_key(self) -> bool:
        """Whether this is the placeholder that some tools put where a folder would be."""
        return self.uri.endswith("/")

    @property
    def object_uri(self) -> str:
        """The object that is asked for the bytes: the tar of a member."""
        parts = None if self.offset is None else split_member(self.uri)
        return self.uri if parts is None else parts[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectBytes:
    """The bytes of one object or member of a tar, and the version that they are of."""

    data: bytes
    """All of them."""

    etag: str
    """The etag of exactly these bytes, a member's tar's; "" when the store has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What stood under a name when somebody looked."""

    etag: str | None
    """Its version, "" where the store tells none; None if nothing stood there."""


class OvertakenError(StorageError):
    """Another object stands under a name than was seen there, so that nothing was put."""


def describe_overtaken(uri: str) -> str:
    """Say that a put was refused.

    Args:
        uri: the object.

    Returns:
        The message.
    """
    return f"{uri}: something else was put there since it was looked at; it was left as it is"


class CreateUnsupportedError(StorageError):
    """This store has no create-if-absent; `create_bytes` then looks first and puts after."""


class Store(Protocol):
    """One kind of storage. Keys are literal everywhere: nothing globs, nothing decodes."""

    def iter_objects(self, uri: str, name_start: str = "") -> Iterator[ObjectInfo]:
        """Stream the object `uri` and those in the folder `uri` whose path starts so."""
        ...

    def find_object(self, uri: str) -> ObjectInfo | None:
        """Describe the object that stands at exactly this URI."""
        ...

    def list_names(self, uri: str) -> set[str]:
        """Name the objects that lie directly in a folder."""
        ...

    def read_objects(
        self, objects: Sequence[ObjectInfo], *, concurrency: int, max_bytes: int | None
    ) -> list[ObjectBytes | ImageError]:
        """Read whole objects, and ranges for members of tars; one answer for each, in order."""
        ...

    def read(self, uri: str) -> bytes:
        """Read one whole object."""
        ...

    def open(self, uri: str, *, buffer_bytes: int) -> BinaryIO:
        """Open one object for ranged reads."""
        ...

    def write(
        self, uri: str, data: bytes, *, scratch: str | None, seen: Seen | None = None
    ) -> None:
        """Put finished bytes under a name, whole or not at all; only over what was seen there."""
        ...

    def create(self, uri: str, data: bytes, *, scratch: str | None) -> bool:
        """Put finished bytes where nothing stands; False where something does."""
        ...

    def delete(self, uris: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...
