"""Do large photographs stay out of the object store? `python -m tests.torture` takes 256."""

from __future__ import annotations

import pytest

from tests.torture.big_pictures import PIXELS_BYTES, annotate_photographs


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_photographs_pass_through_the_object_store_without_their_pixels():
    record, use = annotate_photographs(4)
    assert (record.rows, record.lost, record.doubled) == (4, 0, 0)
    assert 0 < use.peak_bytes < PIXELS_BYTES
    assert use.spilled_bytes == 0
