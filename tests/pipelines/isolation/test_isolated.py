"""A child process: what goes in and out, which limits hold, and that nothing of it stays behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.isolation import ChildDiedError, ChildStartError, ChildTimeoutError, Isolated
from tests.pipelines.isolation import victims

MEMORY_BYTES = 128 * 2**20


def isolate(function, *, seconds=20.0, memory_bytes=MEMORY_BYTES, **options):
    return Isolated(function, seconds=seconds, memory_bytes=memory_bytes, **options)


def find_state(pid):
    """The letter that the kernel has for the state of a process; None if there is no such one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_there(pid):
    """Whether a process runs, or is a zombie that nobody has waited for."""
    return find_state(pid) is not None


def wait_until_dead(pid, seconds=2.0):
    """Wait for a process that is not our child: if it is a zombie, that is for its new parent."""
    deadline = time.monotonic() + seconds
    while find_state(pid) not in {None, "Z"}:
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def mirror():
    with isolate(victims.give_back, memory_bytes=2**29) as child:
        yield child


VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(value=VALUES)
def test_a_value_comes_back_as_it_was(mirror, value):
    assert mirror(value) == value


@settings(deadline=None, max_examples=40, derandomize=True)
@given(arrays=st.lists(stn.arrays(np.uint8, stn.array_shapes(min_side=0, max_side=40)), max_size=4))
def test_arrays_come_back_as_they_were_and_writable(mirror, arrays):
    for array, returned in zip(arrays, mirror(arrays), strict=True):
        assert returned.shape == array.shape
        assert (returned == array).all()
        assert returned.flags.writeable


def test_values_of_any_size_take_turns_on_one_channel(mirror):
    for n_bytes in (10, 80 * 2**20, 5, 66 * 2**20, 0, 2**20):
        array = np.arange(n_bytes // 4, dtype=np.int32)
        assert (mirror(array) == array).all()


def test_a_received_array_is_not_changed_by_the_next_call(mirror):
    first = mirror(np.full(1000, 1))
    mirror(np.full(1000, 2))
    assert (first == 1).all()


def test_one_child_serves_many_calls(mirror):
    mirror(1)
    pid = mirror.pid
    for number in range(50):
        assert mirror(number) == number
    assert mirror.pid == pid
    assert pid != os.getpid()


def test_threads_share_a_child_without_mixing_up_answers(mirror):
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(mirror, range(200))) == list(range(200))


def test_an_image_error_comes_back_as_itself_and_the_child_lives_on():
    with isolate(victims.call) as child:
        with pytest.raises(ImageError) as caught:
            child("refuse", "damaged at byte 7")
        assert caught.value.reason is ImageReason.CORRUPT
        assert caught.value.message == "damaged at byte 7"
        pid = child.pid
        assert child("tell_pid") == pid


def test_what_the_function_prints_reaches_neither_stream_of_the_parent(capfd):
    with isolate(victims.print_and_give_back) as child:
        assert child("words") == "words"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("segfault", (), "ended by SIGSEGV"),
        ("leave", (3,), "ended by exit code 3"),
        ("leave", (0,), "ended by exit code 0"),
        ("abort_with_a_message", (), r"ended by SIGABRT: free\(\): invalid pointer"),
        ("raise_value_error", (), "ended by exit code 1: ValueError: nobody thought of this"),
        ("allocate_python_objects", (), "exit code 1: MemoryError"),
        ("allocate_untouched_pages", (), "exit code 1: .*MemoryError: Unable to allocate"),
        ("allocate_by_malloc", (), "SIGSEGV"),
    ],
    ids=str,
)
def test_a_death_is_told_and_the_next_call_is_served_by_another_child(name, args, words):
    with isolate(victims.call) as child:
        before = child("tell_pid")
        with pytest.raises(ChildDiedError, match=words):
            child(name, *args)
        assert not is_there(before)
        assert child("tell_pid") != before


def test_a_death_is_not_explained_by_what_an_earlier_call_printed():
    with isolate(victims.call) as child:
        child("print_and_give_back", "innocent")
        with pytest.raises(ChildDiedError) as caught:
            child("leave", 3)
    assert "innocent" not in str(caught.value)


def test_memory_up_to_the_limit_is_granted_and_beyond_it_is_not():
    with isolate(victims.fill_bytes, warm_up=victims.import_numpy) as child:
        assert child(MEMORY_BYTES * 3 // 4) == MEMORY_BYTES * 3 // 4 // 4096
        with pytest.raises(ChildDiedError, match="MemoryError"):
            child(MEMORY_BYTES * 5 // 4)


def test_what_the_child_holds_when_it_is_ready_does_not_count():
    with isolate(victims.fill_bytes, warm_up=victims.hold_more_than_the_limit) as child:
        assert child(MEMORY_BYTES * 3 // 4)


@pytest.mark.parametrize("name", ["loop_in_python", "loop_in_c", "loop_deaf"])
def test_a_call_that_takes_too_long_is_killed_in_time(name):
    with isolate(victims.call, seconds=0.3) as child:
        pid = child("tell_pid")
        started = time.monotonic()
        with pytest.raises(ChildTimeoutError, match=r"took longer than 0\.3 s"):
            child(name)
        assert 0.3 <= time.monotonic() - started < 2
        assert not is_there(pid)
        assert child("tell_pid") != pid


def test_a_call_within_its_time_passes_and_its_clock_is_stopped():
    with isolate(victims.sleep, seconds=0.5) as child:
        assert child(0.3) == 0.3
        pid = child.pid
        time.sleep(2)  # longer than the limit of the child's own clock
        assert child(0) == 0
        assert child.pid == pid


def test_a_child_that_dies_between_two_calls_costs_neither():
    with isolate(victims.tell_pid) as child:
        before = child()
        os.kill(before, signal.SIGKILL)
        time.sleep(0.1)
        assert child() != before


def test_an_interrupted_call_leaves_no_answer_to_the_next_one():
    with isolate(victims.call) as child:
        child("tell_pid")
        before = signal.signal(signal.SIGUSR1, interrupt)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                child("sleep", 1)
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, before)
        assert child("give_back", "mine") == "mine"


def interrupt(*_):
    raise KeyboardInterrupt


def test_closing_ends_the_child_and_a_call_starts_another():
    child = isolate(victims.tell_pid)
    assert child.pid is None
    before = child()
    child.close()
    child.close()
    assert not is_there(before)
    assert child() != before
    child.close()


def test_an_interrupt_from_the_keyboard_is_for_the_parent_alone(mirror):
    mirror(1)
    assert os.getpgid(mirror.pid) != os.getpgid(0)


def test_a_forgotten_child_ends():
    child = isolate(victims.tell_pid)
    pid = child()
    del child
    gc.collect()
    assert not is_there(pid)


# In a program of its own: threads of the test session open and close descriptors at any moment.
COUNTING = """
import subprocess
from pathlib import Path
from pipelines.isolation import ChildStartError, Isolated
from tests.pipelines.isolation import victims

def count_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())

child = Isolated(victims.tell_pid, seconds=20, memory_bytes=2**30)
child()
child.close()
before = count_descriptors()
"""
CLOSING = """
for _ in range(3):
    child()
    child.close()
print(count_descriptors() - before)
"""
REFUSING = """
def refuse(*args, **options):
    raise BlockingIOError(11, "Resource temporarily unavailable")

start, subprocess.Popen = subprocess.Popen, refuse
try:
    child()
except ChildStartError as error:
    assert "Resource temporarily unavailable" in str(error), error
    print(count_descriptors() - before)
subprocess.Popen = start
assert child() > 0
child.close()
"""


@pytest.mark.parametrize("work", [CLOSING, REFUSING], ids=["a closed child", "no room for a child"])
def test_no_descriptor_stays_open_after(work):
    found = subprocess.run(
        [sys.executable, "-c", COUNTING + work],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("0\n", "")


def test_a_child_that_cannot_get_ready_is_no_fault_of_a_call():
    with (
        isolate(victims.tell_pid, warm_up=victims.fail_to_warm_up) as child,
        pytest.raises(ChildStartError, match="FileNotFoundError: no such model before it was rea"),
    ):
        child()
    with (
        isolate(victims.tell_pid, warm_up=victims.loop_in_c, start_seconds=0.3) as child,
        pytest.raises(ChildStartError, match=r"not ready after 0\.3 s"),
    ):
        child()


def test_getting_ready_happens_once_and_is_not_counted_as_a_call():
    with isolate(victims.count_warm_ups, warm_up=victims.warm_up_slowly, seconds=0.3) as child:
        assert [child(), child()] == [1, 1]


@pytest.mark.parametrize(
    "limits", [{"seconds": 0}, {"memory_bytes": -1}, {"seconds": float("nan")}], ids=str
)
def test_a_limit_that_is_not_positive_is_refused(limits):
    with pytest.raises(InputError, match="expected a number above 0"):
        isolate(victims.tell_pid, **limits)


PARENT = """
import sys
from pipelines.isolation import Isolated
from tests.pipelines.isolation import victims

child = Isolated(victims.call, memory_bytes=2**28, seconds=float(sys.argv[2]))
print(child("tell_pid"), flush=True)
if sys.argv[1] != "nothing":
    child(sys.argv[1])
sys.stdin.read()
"""


def start_parent(work, seconds=60.0):
    """Start a program with a child that is busy with something; it and the child's pid."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, work, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.1)
    return parent, pid


def end(parent):
    parent.kill()
    parent.communicate()


@pytest.mark.parametrize("work", ["nothing", "loop_in_python", "loop_in_c", "loop_deaf"])
def test_a_parent_killed_outright_leaves_no_child(work):
    parent, pid = start_parent(work)
    assert is_there(pid)
    end(parent)
    wait_until_dead(pid)


def test_a_parent_that_returns_leaves_no_child():
    parent, pid = start_parent("nothing")
    parent.communicate(b"")
    assert parent.returncode == 0
    wait_until_dead(pid)


def test_a_call_ends_in_time_even_while_its_parent_is_stopped():
    parent, pid = start_parent("loop_in_c", seconds=0.5)
    parent.send_signal(signal.SIGSTOP)
    try:
        wait_until_dead(pid, seconds=5)
    finally:
        end(parent)


def test_a_process_that_was_forked_from_the_parent_starts_its_own_child():
    with isolate(victims.tell_pid) as child:
        before = child()
        reader, writer = os.pipe()
        forked = os.fork()
        if forked == 0:
            os.write(writer, str(child()).encode())
            child.close()
            os._exit(0)
        os.waitpid(forked, 0)
        other = int(os.read(reader, 100))
        os.close(reader)
        os.close(writer)
        assert other != before
        assert child() == before
        assert not is_there(other)
