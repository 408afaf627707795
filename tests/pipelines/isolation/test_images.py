"""When does an image get the reason `timeout` or `crashed`, and when not?"""

from __future__ import annotations

import pytest

from pipelines.errors import ImageError, ImageReason
from pipelines.isolation import ChildStartError, Isolated, run_on_image
from tests.pipelines.isolation import victims


def isolate(function, *, seconds=20.0, **options):
    return Isolated(function, memory_bytes=2**28, seconds=seconds, **options)


def count_calls(path):
    return path.stat().st_size


def test_an_image_that_harms_nobody_is_worked_on_once(tmp_path):
    with isolate(victims.die_until) as child:
        assert run_on_image(child, tmp_path / "calls", times=0) == "lived"
    assert count_calls(tmp_path / "calls") == 1


def test_one_death_is_forgiven(tmp_path):
    with isolate(victims.die_until) as child:
        assert run_on_image(child, tmp_path / "calls", times=1) == "lived"
    assert count_calls(tmp_path / "calls") == 2


def test_two_deaths_make_an_image_crashed(tmp_path):
    with (
        isolate(victims.die_until) as child,
        pytest.raises(ImageError, match="ended by exit code 1; twice") as caught,
    ):
        run_on_image(child, tmp_path / "calls", times=10)
    assert caught.value.reason is ImageReason.CRASHED
    assert count_calls(tmp_path / "calls") == 2


def test_one_timeout_is_enough(tmp_path):
    with (
        isolate(victims.count_then_loop, seconds=0.3) as child,
        pytest.raises(ImageError, match=r"took longer than 0\.3 s") as caught,
    ):
        run_on_image(child, tmp_path / "calls")
    assert caught.value.reason is ImageReason.TIMEOUT
    assert count_calls(tmp_path / "calls") == 1


def test_what_the_function_says_of_the_image_stands(tmp_path):
    with (
        isolate(victims.refuse) as child,
        pytest.raises(ImageError, match="corrupt: at byte 7"),
    ):
        run_on_image(child, "at byte 7")


def test_a_child_that_does_not_start_is_no_fault_of_the_image():
    with (
        isolate(victims.tell_pid, warm_up=victims.fail_to_warm_up) as child,
        pytest.raises(ChildStartError),
    ):
        run_on_image(child)
