"""Is the endless bucket listed by the real client, and does the measurement check its results?"""

from __future__ import annotations

import pytest

from pipelines import storage
from tests.torture import scale
from tests.torture.endless_bucket import BUCKET, PREFIX, BucketState, serve_endless
from tests.torture.scale import ScaleCost, check_costs, measure_size


def test_a_bucket_that_changes_is_listed_page_by_page():
    state = BucketState(count=2500, step=1000, added=3)
    with serve_endless(state):
        infos = list(storage.iter_objects(f"s3://{BUCKET}/{PREFIX}"))
    gone = {1, 1001, 2001}
    expected = [number for number in range(2503) if number not in gone]
    assert [info.uri for info in infos] == [
        f"s3://{BUCKET}/{PREFIX}{number:010d}.jpg" for number in expected
    ]
    changed = [info.uri[-14:-4] for info in infos if info.etag.endswith("b")]
    assert changed == ["0000000000", "0000001000", "0000002000"]


def test_ten_thousand_images_are_planned_resumed_updated_and_counted():
    cost = measure_size(10_000)
    assert cost.images == 10_000
    assert 0 < cost.resume_s < cost.plan_s
    assert cost.processor_s > 0.1, "of this process, whoever else uses the machine"


def make_cost(images, seconds, peak_bytes=2**29):
    each = dict.fromkeys(("plan_s", "resume_s", "update_s", "status_s"), seconds)
    return ScaleCost(images=images, processor_s=seconds, peak_bytes=peak_bytes, **each)


@pytest.mark.parametrize(
    "costs",
    [
        [make_cost(100_000, 20), make_cost(1_000_000, 20 * 10 * scale.MAX_SLOWDOWN + 1)],
        [make_cost(100_000, 20, peak_bytes=scale.MAX_RSS_BYTES)],
    ],
)
def test_a_size_that_takes_more_than_its_share_is_a_failure(costs):
    with pytest.raises(AssertionError):
        check_costs(costs)


def test_sizes_that_take_their_share_pass():
    check_costs([make_cost(10_000, 20), make_cost(100_000, 20), make_cost(1_000_000, 250)])
