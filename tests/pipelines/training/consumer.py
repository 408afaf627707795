"""A training that is killed: `python -m tests.pipelines.training.consumer FOLDER`.

Prints the ids of its decoding processes, then waits in the middle of an epoch. Its examples are
large, so that the processes stand before full queues.
"""

from __future__ import annotations

import multiprocessing
import sys
import time

from pipelines.images import ImageLimits
from pipelines.training.order import OrderConfig
from pipelines.training.shard_set import open_shard_set
from pipelines.training.stream_loader import Loader


def enlarge(image, metadata, rng, epoch):
    """Make an example that no pipe holds, in a form that goes through it."""
    del image, metadata
    return rng.bytes(2**20)


def main():
    loader = Loader(
        open_shard_set(sys.argv[1], "train"),
        OrderConfig(seed=1, streams=2, batch_size=2),
        enlarge,
        rank=0,
        world_size=1,
        processes=2,
        limits=ImageLimits(),
    )
    steps = loader.iter_epoch(0)
    next(steps)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)  # noqa: T201 (the test reads it)
    time.sleep(600)


if __name__ == "__main__":
    main()
