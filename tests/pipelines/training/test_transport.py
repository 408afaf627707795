"""Do values arrive as they were sent?"""

from __future__ import annotations

import select
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch

from pipelines.training.transport import pack_arrays, unpack_arrays


@dataclass
class Crop:
    pixels: np.ndarray
    name: str


def test_arrays_of_any_kind_and_order_arrive_aligned_and_writable():
    arrays = [
        np.arange(7, dtype=np.uint8),
        np.arange(12, dtype=np.float64).reshape(3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.arange(20)[::3],
        np.zeros((0, 4), np.float32),
        np.array(3.5),
    ]
    sent = [Crop(pixels=array, name=str(n)) for n, array in enumerate(arrays)]
    received = unpack_arrays(pack_arrays(sent))
    assert [crop.name for crop in received] == [crop.name for crop in sent]
    for crop, array in zip(received, arrays, strict=True):
        assert crop.pixels.dtype == array.dtype
        np.testing.assert_array_equal(crop.pixels, array)
        assert crop.pixels.flags.aligned
        crop.pixels[...] = 1


def test_values_without_arrays_and_tensors_arrive():
    assert unpack_arrays(pack_arrays({"none": [1, "two", None]})) == {"none": [1, "two", None]}
    assert torch.equal(unpack_arrays(pack_arrays(torch.arange(5))), torch.arange(5))


def test_arrays_travel_in_the_shared_memory_and_not_in_the_head():
    packed = pack_arrays(np.zeros(100_000))
    assert packed.head.start == 800_000
    assert packed.head.stop - packed.head.start < 1000
    assert packed.memory.numel() == packed.head.stop
    assert packed.memory.is_shared()


def test_whatever_is_sent_the_message_is_short_enough_to_be_written_at_once():
    many = [Crop(pixels=np.zeros(7, np.uint8), name="x" * 1000) for _ in range(1000)]
    message = bytes(ForkingPickler.dumps(pack_arrays(many)))
    assert len(message) < select.PIPE_BUF // 2
