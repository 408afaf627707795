"""Where in a data set's folder does something lie? People unpack the same archives differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from pipelines import storage
from pipelines.errors import InputError
from pipelines.images import IMAGE_SUFFIXES
from pipelines.storage import ObjectInfo


def open_input(text: str | None, flag: str = "--input") -> str:
    """Resolve the folder of a data set and check that something lies in it.

    Args:
        text: What the user wrote.
        flag: Behind which flag, for the message.

    Returns:
        A path or URI.

    Raises:
        InputError: There is no such folder or bucket, or it is empty.
    """
    root = storage.resolve_uri(text or "")
    if next(storage.iter_objects(root), None) is None:
        raise InputError(f"{flag} {root}: nothing there; expected the folder of a data set")
    return root


def find_folder(root: str, candidates: Sequence[str]) -> str | None:
    """Find the first folder that holds anything.

    Args:
        root: Of the data set.
        candidates: Relative paths, the likeliest first.

    Returns:
        Its path or URI; None if none does.
    """
    for candidate in candidates:
        folder = storage.join_uri(root, candidate)
        with suppress(InputError):
            if next(storage.iter_objects(folder), None) is not None:
                return folder
    return None


def find_file(root: str, candidates: Sequence[str]) -> str | None:
    """Find the first file that is there.

    Args:
        root: Of the data set.
        candidates: Relative paths, the likeliest first.

    Returns:
        Its path or URI; None if none is.
    """
    uris = (storage.join_uri(root, candidate) for candidate in candidates)
    return next((uri for uri in uris if storage.exists(uri)), None)


def require_folder(root: str, candidates: Sequence[str]) -> str:
    """Find a folder that the data set cannot be without.

    Args:
        root: Of the data set.
        candidates: Relative paths, the likeliest first.

    Returns:
        Its path or URI.

    Raises:
        InputError: None is there.
    """
    found = find_folder(root, candidates)
    if found is None:
        expected = " or ".join(f"{candidate}/" for candidate in candidates)
        raise InputError(f"--input {root}: no folder {expected} there; unpack the images first")
    return found


def list_images(folder: str) -> Iterator[tuple[str, ObjectInfo]]:
    """List the files of a folder that are images by their suffix.

    Args:
        folder: A path or URI.

    Yields:
        The name relative to the folder, and the object, in the store's order.
    """
    for info in storage.iter_objects(folder):
        if info.uri.lower().endswith(IMAGE_SUFFIXES):
            yield storage.relative_to(info.uri, folder), info


def locate(folder: str, name: str, images: Mapping[str, ObjectInfo]) -> ObjectInfo:
    """Find an image that a list names.

    Args:
        folder: Of the images.
        name: Relative to it.
        images: What is there.

    Returns:
        The object. One that is not there is to become a reject when it is read.

    Raises:
        InputError: The list leads out of the folder.
    """
    if ".." in name.split("/") or name.startswith("/"):
        raise InputError(f"{name}: not in {folder}; expected names of images inside it")
    return images.get(name) or ObjectInfo(uri=storage.join_uri(folder, name))


def read_lines(uri: str) -> list[str]:
    """Read the lines of a list that are not blank.

    Args:
        uri: Of a text file that is there.

    Returns:
        Lines without the space around them.

    Raises:
        InputError: It is not text.
    """
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{uri}: is not UTF-8 text ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
