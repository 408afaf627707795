"""Whatever happens to a bucket and to the runs over it: do the tables hold what they must?"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.pipelines.annotate.update_machine import UpdateMachine

SETTINGS = settings(
    max_examples=30,
    stateful_step_count=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def test_the_tables_hold_what_the_model_says_after_any_history(checkpoint):
    machine = type("Machine", (UpdateMachine,), {"checkpoint": checkpoint})
    run_state_machine_as_test(machine, settings=SETTINGS)
