"""How do the arrays of a process reach another without passing through a pipe?

Side by side in one piece of shared memory, which the receiver maps: one file descriptor, whatever
there is in it. *Measured* for 224 x 224 pixels: the receiver spends a third of the processor time
that reading them from a pipe takes. All else lies behind them: what goes through the pipe is short
enough to be written at once. Of a longer message a process that is killed leaves a part, and who
reads it would wait for the rest for ever. What is unpickled comes from a process that this one
started.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT: Final = 64
"""Bytes of a cache line: arrays begin where they would in memory of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A value in shared memory, its arrays apart from the rest."""

    memory: Tensor
    """Bytes, uint8: of the arrays, and behind them of the head."""
    head: slice
    """Which bytes are the value without its arrays, and where each of these is, pickled."""


def pack_arrays(value: object) -> Packed:
    """Prepare a value to be sent.

    Args:
        value: Anything that pickle takes.

    Returns:
        What a queue of torch sends; making it is the only copy of the arrays.
    """
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    *starts, end = accumulate((_pad(array.size) for array in arrays), initial=0)
    spans = [slice(start, start + array.size) for start, array in zip(starts, arrays, strict=True)]
    head = np.frombuffer(pickle.dumps((rest, spans)), np.uint8)
    # As torch's own collation does: filled in place, which no public function allows. Sharing a
    # finished tensor copies it again, for twice the processor time, *measured*.
    size = end + head.size
    shared = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]  # untyped
    memory = torch.empty(0, dtype=torch.uint8).set_(shared)
    for span, array in zip([*spans, slice(end, size)], [*arrays, head], strict=True):
        memory.numpy()[span] = array
    return Packed(memory=memory, head=slice(end, size))


def unpack_arrays(packed: Packed) -> Any:  # noqa: ANN401 (whatever was packed)
    """Take a value that was sent.

    Args:
        packed: Made by `pack_arrays`.

    Returns:
        The value. Its arrays are writable and keep all of the shared memory as long as one lives.
    """
    memory = packed.memory.numpy().data
    rest, spans = pickle.loads(memory[packed.head])
    return pickle.loads(rest, buffers=[memory[span] for span in spans])


def _pad(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
