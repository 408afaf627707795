"""Tars that tests write, well formed and damaged."""

from __future__ import annotations

import io
import tarfile

import pytest
import webdataset

from pipelines import storage
from pipelines.errors import InputError
from pipelines.storage import ObjectInfo
from pipelines.tar_headers import iter_members
from pipelines.tars import TarIndex
from tests.builders import encode_picture, make_picture

FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}
MTIME = 1_700_000_000


def make_tar(files, *, tar_format=tarfile.PAX_FORMAT, ends=True):
    """A tar of these files; pairs of name and bytes, or members that are ready.

    One that does not end has no zeros after the last member, as what a killed process leaves.
    """
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tar_format) as tar:
        for file in files:
            if isinstance(file, tarfile.TarInfo):
                tar.addfile(file)
            else:
                member = tarfile.TarInfo(file[0])
                member.size = len(file[1])
                member.mtime = MTIME
                tar.addfile(member, io.BytesIO(file[1]))
        end = tar.offset
    return sink.getvalue() if ends else sink.getvalue()[:end]


def put_tar(uri, files, **options):
    """Put a tar, and give its URI."""
    storage.write_bytes(uri, make_tar(files, **options))
    return uri


def write_shard(path, samples):
    """Let webdataset itself write a shard of samples."""
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return str(path)


def index(uri, *, suffixes=(".jpg",), **options):
    return TarIndex(ObjectInfo(uri=uri), suffixes=suffixes, **options)


def refusal(uri):
    """Why a tar is refused."""
    with pytest.raises(InputError) as error:
        list(index(uri))
    message = str(error.value)
    assert uri in message
    assert "\n" not in message
    return message


def headers(data):
    """Names of a tar's members."""
    return [member.name for member in iter_members(io.BytesIO(data), "t.tar")]


def draw(*numbers, size=(40, 48)):
    """Files of pictures, and what a sample of a data set has beside them."""
    height, width = size
    files = []
    for number in numbers:
        picture = encode_picture(make_picture(number, height=height, width=width))
        files += [(f"{number:03d}.jpg", picture), (f"{number:03d}.cls", b"7")]
    return files


def extract(data):
    """What Python's own reading of a tar gives: bytes by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}


def change_header(data, at, **fields):
    """Write over fields of the header at a byte, and make its checksum right again."""
    places = {"size": 124, "type": 156, "extended": 482}
    header = bytearray(data[at : at + 512])
    for name, value in fields.items():
        header[places[name] : places[name] + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]
