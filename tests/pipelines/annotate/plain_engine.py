"""The whole command in this process: Ray's part is played by a loop over the plain stages."""

from __future__ import annotations

from pipelines.annotate import run
from pipelines.annotate.engine import Engine, Machines
from pipelines.annotate.stages import detect_slice, read_slice, write_slice
from pipelines.cluster import Placement


def install_plain_engine(patch, model):
    """Let `annotate` do slices one after the other, with a model that is there already."""

    def run_graph(slices, files, config, **placement):
        del files, placement
        for place in slices:
            detected = detect_slice(read_slice(place, config), model, config)
            yield write_slice(detected, config)

    placement = Placement(workers=1, gpus_per_worker=0, cpus_per_worker=1)
    patch.setattr(run, "run_graph", run_graph)
    machines = Machines(placement=placement, device="cpu", dtype="float32")
    patch.setattr(Engine, "join", lambda _: machines)
