"""How do whole files break? By the network, the disk, a text-mode copy, a bit, or on purpose."""

from __future__ import annotations

import base64
import gzip
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
STAGES = (0, 1, 2, 3, 4, 8, 12, 20, 33, 0.1, 0.3, 0.5, 0.7, 0.9, -20, -4, -2, -1)
"""Where a file is cut: bytes from its start or end, or a part of it."""
EXTREMES = (b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1")


def truncate(data, stage):
    """Cut a file: an interrupted upload."""
    return data[: int(len(data) * stage)] if isinstance(stage, float) else data[:stage]


def repair_checksums(data):
    """Make the checksums of a PNG right again, without which no damage gets past them."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    repaired = bytearray(data)
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 8 + struct.unpack_from(">I", data, position)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", repaired, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(repaired)


def pick_run(data, random, longest=300):
    """Choose a part of a file; every other time one that begins in its header."""
    reach = len(data) if random.random() < 0.5 else min(len(data), 100)
    start = random.randrange(reach)
    return start, min(len(data), start + random.randint(1, longest))


def flip_bits(data, random):
    """Flip up to four bits."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place, _ = pick_run(data, random)
        changed[place] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(data, random):
    """Write up to eight bytes anew."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        place, _ = pick_run(data, random)
        changed[place] = random.randrange(256)
    return bytes(changed)


def zero_run(data, random):
    """Lose a run of bytes to zeros: a sparse file."""
    start, end = pick_run(data, random)
    return data[:start] + bytes(end - start) + data[end:]


def scramble_run(data, random):
    """Lose a run of bytes to noise."""
    start, end = pick_run(data, random)
    return data[:start] + random.randbytes(end - start) + data[end:]


def delete_run(data, random):
    """Lose a run of bytes."""
    start, end = pick_run(data, random)
    return data[:start] + data[end:]


def repeat_run(data, random):
    """Write a run of bytes twice."""
    start, end = pick_run(data, random)
    return data[:end] + data[start:]


def swap_halves(data, random):
    """Write a run of bytes before the one that precedes it: parts of an upload in a wrong order."""
    start, end = pick_run(data, random, longest=len(data))
    middle = (start + end) // 2
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def write_extreme(data, random):
    """Write the largest or smallest number somewhere into the header."""
    number = random.choice(EXTREMES)
    place = random.randrange(min(len(data), 120))
    return data[:place] + number + data[place + len(number) :]


def copy_as_text(data, random):
    """Copy in text mode: line ends are changed, or what is no UTF-8 is replaced."""
    if random.random() < 0.5:
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return data.decode("utf-8", "replace").encode()


def wrap(data, random):
    """Store in another container, or with bytes before or behind it."""
    wrappings = (gzip.compress(data), base64.b64encode(data), b"\n" + data, b"\xef\xbb\xbf" + data)
    return random.choice((*wrappings, data + random.randbytes(random.randint(1, 5000))))


MUTATIONS = (
    flip_bits,
    set_bytes,
    zero_run,
    scramble_run,
    delete_run,
    repeat_run,
    swap_halves,
    write_extreme,
    copy_as_text,
    wrap,
)
