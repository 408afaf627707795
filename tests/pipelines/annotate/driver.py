"""`overfeat` with other patience: `python -m tests.pipelines.annotate.driver HEARTBEAT LEASE ...`.

Only the driver's process needs to know: its workers look at the lease and hold none.
"""

from __future__ import annotations

import sys

from jobs.cli import dispatch
from pipelines import lease
from pipelines.lease import LeaseTimes

if __name__ == "__main__":
    heartbeat, silence, *args = sys.argv[1:]
    lease.DEFAULT_TIMES = LeaseTimes(heartbeat=float(heartbeat), lease=float(silence))
    sys.exit(dispatch(args))
