"""Who drives a run now: one driver at a time, by a heartbeat in `lease.json`.

A second driver watches the heartbeat for one lease time: if it moves it gives way, if not it takes
over, so that a killed run starts again by the same command. Where the store has conditional puts
two drivers cannot both begin, and one that was paused cannot take back what it has lost; where it
has not, the heartbeat still finds the other out, and a receipt tells whose the rows of a slice are.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pipelines import storage
from pipelines.errors import InputError, PipelineError, StorageError
from pipelines.storage import OvertakenError, Seen

logger = logging.getLogger(__name__)

LEASE_FILE: Final = "lease.json"
_FIELDS: Final = {"id": str, "host": str, "process": str, "heartbeat": int}
_PROCESS: Final = re.compile(r"(?P<machine>[^/]+/[^/]+)/(?P<pid>[0-9]{1,9})/[0-9]+")
_ZOMBIE: Final = "Z"
_START_TIME: Final = 19
"""Which word behind the name it is."""


class LeaseHeldError(InputError):
    """Another driver is at work on this run."""


class LeaseLostError(PipelineError):
    """Another driver took this run over while this one was out of touch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseTimes:
    """How patient drivers are with each other."""

    heartbeat: float = 10.0
    """Seconds between two renewals."""
    lease: float = 30.0
    """Seconds without a renewal after which a driver counts as gone."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat < self.lease:
            raise ValueError(
                f"heartbeat: received {self.heartbeat} s, expected above 0 and below the lease "
                f"time of {self.lease} s"
            )


DEFAULT_TIMES: Final = LeaseTimes()
"""Those of every command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """What `lease.json` says."""

    id: str
    """Random, new in every invocation."""
    host: str
    """For people: where the driver runs."""
    process: str
    """Which process it is, so that its end is seen at once on its own machine; "" elsewhere."""
    heartbeat: int
    """Counts up with every renewal."""


class Lease:
    """A run held by this driver, renewed by a thread until it is left."""

    def __init__(self, output: str, *, what: str = "run", times: LeaseTimes | None = None) -> None:
        """Name the run; nothing is written before the lease is entered.

        Args:
            output: The run, or what else one command at a time may write.
            what: It is called.
            times: Heartbeat and lease time; those of every command if None.
        """
        self.uri = storage.join_uri(output, LEASE_FILE)
        self._scratch = storage.join_uri(output, ".tmp")
        self._what = what
        self._times = times or DEFAULT_TIMES
        self._holder = Holder(
            id=secrets.token_hex(8),
            host=platform.node(),
            process=_identify_process(os.getpid()),
            heartbeat=0,
        )
        self._left = threading.Event()
        self._lost: str | None = None
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    @property
    def id(self) -> str:
        """What `lease.json` must say for this driver to go on."""
        return self._holder.id

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except StorageError:
            # What was put may stand even so: only its answer, or the disk's last word, is missing.
            self._give_back()
            raise
        self._renewer.start()
        # Of who held the run before, or of a process that does not write for a lease time.
        storage.clear_scratch(self._scratch, seconds=self._times.lease)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._renewer.join()
        self._give_back()

    def _give_back(self) -> None:
        try:
            there = read_holder(self.uri)
            if there is not None and there.id == self.id:
                storage.delete([self.uri])
        except PipelineError as failure:
            # No reason to fail: the next driver takes over from one that is silent.
            logger.warning("the lease could not be given back: %s", failure)

    def check(self) -> None:
        """Make sure that this driver still holds the run, as far as its last heartbeat knows.

        Raises:
            LeaseLostError: If it does not.
        """
        if self._lost is not None:
            raise LeaseLostError(self._lost)

    def confirm(self) -> None:
        """Look whether this driver still holds the run: it may have been paused since it last did.

        Raises:
            LeaseLostError: If it does not.
        """
        _check(self.uri, self.id)

    def _acquire(self) -> None:
        while not storage.create_bytes(self.uri, self._encode(), scratch=self._scratch):
            # Given back meanwhile: of all who waited for that, one can create it.
            with suppress(FileNotFoundError):
                self._take_over(self._wait_for_silence())
                return

    def _wait_for_silence(self) -> Seen:
        """Watch another driver's heartbeat for one lease time.

        Returns:
            What stands there once it counts as gone.

        Raises:
            FileNotFoundError: If it gives the run back.
            LeaseHeldError: If its heartbeat moves.
        """
        seen, first = storage.look(self.uri), _load_holder(self.uri)
        if first is None or _has_ended(first.process):
            return seen
        logger.info(
            "another driver (%s) holds this %s; watching its heartbeat for %.0f s",
            _describe(first),
            self._what,
            self._times.lease,
        )
        deadline = time.monotonic() + self._times.lease
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self._times.lease / 10))
            seen, now = storage.look(self.uri), _load_holder(self.uri)
            if now is None or _has_ended(now.process):
                return seen
            if now != first:
                raise LeaseHeldError(
                    f"{self.uri}: {_describe(now)} is at work on this {self._what}; wait "
                    "until it has ended, or end it: the same command then does what is left"
                )
        return seen

    def _take_over(self, seen: Seen) -> None:
        """Put this driver's name over one that is gone, and see whether it stays.

        Raises:
            FileNotFoundError: If the other one was not gone, and gave the run back.
            LeaseHeldError: If another driver did the same.
        """
        # Where a store takes both puts of two that take over at once, both read the name of the
        # later one after a moment.
        with suppress(OvertakenError):
            storage.write_bytes(self.uri, self._encode(), scratch=self._scratch, seen=seen)
        time.sleep(min(1.0, self._times.heartbeat / 10))
        there = _load_holder(self.uri)
        if there is not None and there.id != self.id:
            raise LeaseHeldError(
                f"{self.uri}: {_describe(there)} took this {self._what} over at the same moment; "
                "wait until it has ended"
            )

    def _renew(self) -> None:
        while not self._left.wait(self._times.heartbeat):
            try:
                # Looked at first: a thread that is paused from here on puts over nobody's lease.
                seen = storage.look(self.uri)
                self._lost = _find_loss(self.uri, self.id)
                if self._lost is not None:
                    return
                self._holder = replace(self._holder, heartbeat=self._holder.heartbeat + 1)
                storage.write_bytes(self.uri, self._encode(), scratch=self._scratch, seen=seen)
            except PipelineError as error:
                # The next renewal tries again, or finds out who has put another name there; a
                # driver silent for too long is found out by others.
                logger.warning("the lease could not be renewed: %s", error)

    def _encode(self) -> bytes:
        return json.dumps(asdict(self._holder), indent=2).encode()


def read_holder(uri: str) -> Holder | None:
    """Read who holds a run.

    Args:
        uri: Of its `lease.json`.

    Returns:
        The holder; None if nobody does, or the file is none of ours.
    """
    try:
        return _load_holder(uri)
    except FileNotFoundError:
        return None


def _load_holder(uri: str) -> Holder | None:
    """The holder; None if the file is none of ours."""
    try:
        values: Any = json.loads(storage.read_bytes(uri))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not all(
        isinstance(values.get(name), kind) for name, kind in _FIELDS.items()
    ):
        return None
    return Holder(**{name: values[name] for name in _FIELDS})


def check_holder(output: str, lease_id: str) -> None:
    """Make sure, from any process, that a driver still holds its run: asked before each object.

    Args:
        output: The run.
        lease_id: `Lease.id` of the driver.

    Raises:
        LeaseLostError: If it does not.
    """
    _check(storage.join_uri(output, LEASE_FILE), lease_id)


def _check(uri: str, lease_id: str) -> None:
    loss = _find_loss(uri, lease_id)
    if loss is not None:
        raise LeaseLostError(loss)


def _find_loss(uri: str, lease_id: str) -> str | None:
    """Why a driver does not hold its run any more; None while it does."""
    try:
        there = _load_holder(uri)
    except FileNotFoundError:
        # Who took over may have ended the run and gone, and begun another generation before.
        cause = "gone: another driver has ended this run meanwhile, or somebody deleted the lease"
    else:
        if there is None or there.id == lease_id:
            return None
        cause = f"{_describe(there)} has taken this run over"
    return (
        f"{uri}: {cause}; this driver commits no more. Nothing is lost: what it committed stands, "
        "and the same command does what is left"
    )


def _describe(holder: Holder) -> str:
    return f"driver {holder.id} on {holder.host}"


def _identify_process(pid: int) -> str:
    """Name a process as no other one is named, on any machine; "" where that cannot be read."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = Path("/proc/self/ns/pid").readlink().name
        # Behind the name in brackets, which may be of any bytes: state, parent, ...
        status = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return ""
    # One that has ended has a name that no driver has noted.
    return f"{boot}/{space}/{pid}/{_ZOMBIE if status[0] == _ZOMBIE else status[_START_TIME]}"


def _has_ended(process: str) -> bool:
    """Whether a driver of this machine is no more; of another machine's nothing is known."""
    theirs, ours = map(_PROCESS.fullmatch, (process, _identify_process(os.getpid())))
    if theirs is None or ours is None or theirs["machine"] != ours["machine"]:
        return False
    pid = int(theirs["pid"])
    now = _identify_process(pid)
    return now != process if now else not _is_there(pid)


def _is_there(pid: int) -> bool:
    """Whether a process has this number, though /proc hides it: another user's may be hidden."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
