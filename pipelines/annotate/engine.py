"""Ray, joined once there is something to do: a command that is refused, or done, starts none."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from overfeat.member import Dtype
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.graph import resolve_device
from pipelines.cluster import Placement, join_cluster, place_workers, watch_cluster


@dataclass(frozen=True, kw_only=True, slots=True)
class Machines:
    """What the cluster gives to a run."""

    placement: Placement
    """Where the detect actors run."""
    device: str
    """Kind of device that each has: `cpu` or `cuda`."""
    dtype: Dtype
    """Number format of the network."""


class Engine:
    """The cluster of one command."""

    def __init__(self, config: AnnotateConfig, stack: ExitStack) -> None:
        """Say which cluster; nothing is joined before `join`.

        Args:
            config: What the user said.
            stack: Whose end leaves the cluster, and explains what workers raised.
        """
        self._config = config
        self._stack = stack
        self._machines: Machines | None = None

    def join(self) -> Machines:
        """Join the cluster, or start one here, unless that is done.

        Returns:
            What it gives to the run.

        Raises:
            ResourceError: If there is none, or it is too small.
        """
        if self._machines is None:
            self._machines = self._join()
        return self._machines

    def _join(self) -> Machines:
        config = self._config
        is_ours = self._stack.enter_context(join_cluster(config.address))
        placement = place_workers(
            workers=config.workers,
            threads=config.threads,
            cpus_per_read=config.cpus_per_read,
            # Nothing can join an instance of our own.
            wait_seconds=0 if is_ours else config.wait_for_resources,
        )
        device, dtype = resolve_device(placement, config.dtype)
        self._stack.enter_context(watch_cluster(placement, cpus_per_read=config.cpus_per_read))
        return Machines(placement=placement, device=device, dtype=dtype)
