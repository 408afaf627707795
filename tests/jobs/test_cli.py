"""Do all commands answer alike: help, wrong flags, results, errors?"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import cli, entrypoint
from jobs.cli import COMMANDS
from jobs.entrypoint import Result
from pipelines.errors import InputError, StorageError
from tests.builders import run_command

ROOT = Path(__file__).parents[2]
REQUIRED = {
    "demo": [],
    "annotate": ["--images", "in", "--output", "out"],
    "status": ["--output", "out"],
    "compact": ["--output", "out", "--to", "copy"],
    "shards": ["--output", "out"],
    "train": ["--shards", "in", "--output", "out"],
    "evaluate": ["--shards", "in"],
    "report": ["--output", "out"],
    "import-weights": ["--input", "in", "--output", "out"],
}
"""Flags without which a command says what is missing."""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_missing_flags_are_named_without_their_help_and_after_those_that_are_unknown():
    """An unknown flag may be what is missing, mistyped."""
    missing = "Missing from overfeat annotate: --images STR --output STR"
    hint = "overfeat annotate --help lists the flags"
    assert run_command("annotate").refusal() == f"{missing}; {hint}"
    mistyped = run_command("annotate", "--imagez", "in")
    assert mistyped.refusal() == f"Unrecognized options: --imagez in; {missing}; {hint}"


def test_every_command_is_a_module_and_every_module_a_command():
    names = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} == names - {
        "__init__",
        "cli",
        "entrypoint",
        "streams",
    }
    assert COMMANDS.keys() == REQUIRED.keys()


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_overfeat_lists_its_commands(args):
    ended = run_command(*args)
    assert (ended.code, ended.err) == (0, "")
    assert all(f"  {name} " in ended.out and what in ended.out for name, what in COMMANDS.items())


def test_an_unknown_command_is_refused():
    ended = run_command("anotate", "--images", "x")
    assert ended.code == 2
    assert "'anotate'" in ended.refusal()
    assert "annotate" in ended.refusal()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_every_flag_on_stdout(command):
    ended = run_command(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"usage: overfeat {command}" in ended.out
    assert all(flag in ended.out for flag in REQUIRED[command] if flag.startswith("--"))
    assert "--json" in ended.out


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_one_sentence_that_names_it(command, tmp_path):
    ended = run_command(command, *REQUIRED[command], "--nonsense", "3")
    assert ended.code == 2
    assert "--nonsense" in ended.refusal()
    assert f"overfeat {command} --help" in ended.refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [name for name, flags in REQUIRED.items() if flags])
def test_missing_flags_are_named(command):
    ended = run_command(command)
    assert ended.code == 2
    assert all(flag in ended.refusal() for flag in REQUIRED[command] if flag.startswith("--"))


@pytest.mark.parametrize(
    ("command", "code"), [("status", 2), ("compact", 2), ("report", 2), ("train", 2),
                          ("evaluate", 2), ("import-weights", 2), ("annotate", 2)],
)  # fmt: skip
def test_a_missing_input_is_one_sentence_and_leaves_nothing(command, code, tmp_path):
    ended = run_command(command, *REQUIRED[command])
    assert ended.code == code
    assert ended.refusal()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--slice-size", "many"], "--slice-size"),
        (["--tasks", "draw"], "'draw'"),
        (["--dtype", "int8"], "'int8'"),
        (["--slice-size"], "--slice-size"),
        (["--flips", "perhaps"], "perhaps"),
    ],
)
def test_a_value_that_cannot_be_read_is_one_sentence(args, words):
    ended = run_command("annotate", *REQUIRED["annotate"], *args)
    assert ended.code == 2
    assert words in ended.refusal()


def test_the_console_script_and_the_module_take_the_same_flags():
    script = Path(sys.executable).with_name("overfeat")
    commands = [[script, "annotate"], [sys.executable, "-m", "jobs.annotate"]]
    helps = [
        subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        for command in commands
    ]
    assert helps[0].stdout == helps[1].stdout
    assert "usage: overfeat annotate" in helps[0].stdout


def test_the_list_of_commands_does_not_wait_for_torch_and_ray():
    code = "import sys, jobs.cli; jobs.cli.dispatch([]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class NothingConfig:
    """A command without flags."""


def run_with(run, *args):
    """Run a command whose work is a given function."""

    class Module:
        @staticmethod
        def main(flags):
            return entrypoint.run_command(
                NothingConfig, run, name="nothing", description="", args=flags
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMMANDS, "nothing", "")
        patch.setattr(cli.importlib, "import_module", lambda _: Module)
        return run_command("nothing", *args)


def raising(error):
    def run(_):
        raise error

    return run


def report(_):
    logging.getLogger("pipelines.anything").info("on the way")
    return Result(values={"images": 3, "rate": None}, text="3 images", exit_code=3)


def test_the_result_is_on_stdout_and_the_log_on_stderr():
    ended = run_with(report)
    assert (ended.code, ended.out) == (3, "3 images\n")
    assert "INFO on the way" in ended.err


def test_json_is_one_object_on_stdout():
    ended = run_with(report, "--json")
    assert json.loads(ended.out) == {"images": 3, "rate": None}
    assert len(ended.out.splitlines()) == 1
    assert "on the way" in ended.err


def test_what_libraries_say_of_the_work_is_not_on_stdout():
    def chatter(config):
        print("(raylet) A worker died or was killed while executing a task")  # noqa: T201
        return report(config)

    ended = run_with(chatter, "--json")
    assert json.loads(ended.out) == {"images": 3, "rate": None}
    assert "(raylet) A worker died" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("no image there"), 2, "no image there"),
        (StorageError("the disk is full"), 1, "the disk is full"),
        (KeyError("x"), 1, "unexpected KeyError: 'x'; --verbose shows where"),
        (ValueError("one\n  two\nTraceback"), 1, "unexpected ValueError: one two Traceback"),
    ],
)
def test_an_error_is_one_sentence_with_its_exit_code(error, code, sentence):
    ended = run_with(raising(error))
    (line,) = ended.err.splitlines()
    assert (ended.code, ended.out) == (code, "")
    assert line.startswith(f"error: {sentence}")


@pytest.mark.parametrize("error", [KeyError("x"), StorageError("the disk is full")])
def test_verbose_shows_where_it_failed(error):
    ended = run_with(raising(error), "--verbose")
    assert "Traceback" in ended.err
    assert "test_cli.py" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")


def test_an_interrupt_is_no_traceback():
    ended = run_with(raising(KeyboardInterrupt()))
    assert ended.code == 130
    assert "Traceback" not in ended.err


PRINTER = (
    "import dataclasses, sys; from jobs import entrypoint;"
    "config = dataclasses.make_dataclass('Nothing', [], frozen=True);"
    "result = entrypoint.Result(values={}, text='b\u00fccher ');"
    "sys.exit(entrypoint.run_command("
    "config, lambda _: result, name='nothing', description='', args=[]))"
)
"""A command whose result is not ASCII."""


def print_result(*, stdout=subprocess.PIPE, **environment):
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-c", PRINTER],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_result_that_cannot_be_written_is_one_sentence():
    with Path("/dev/full").open("w") as full, print_result(stdout=full) as process:
        err = process.communicate()[1]
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("error: stdout: the work is done, its result is lost: [Errno 28]")


def test_a_reader_that_has_gone_is_no_failure():
    with print_result() as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


def test_a_command_without_stdout_does_its_work():
    command = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, PRINTER]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "code"), [("status --output missing", 2), ("nothing-of-ours", 2), ("--help", 0)]
)
def test_a_command_without_stderr_ends_as_with_it(tmp_path, command, code):
    start = "from jobs.cli import main; main()"
    shell = f'exec "{sys.executable}" -c "{start}" {command} 2>&-'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        ["sh", "-c", shell], check=False, cwd=tmp_path, env=environment, capture_output=True
    )
    assert ended.returncode == code
    assert (ended.stdout == b"") is (code != 0)


HOLDER = (
    "import os, sys, tempfile; from jobs.streams import fill_closed_streams;"
    "fill_closed_streams();"
    "file = tempfile.TemporaryFile();"
    "os.system('echo of a child >&2; echo of a child');"
    "print('ours', file=sys.stderr, flush=True); os.write(2, b'of a library');"
    "sys.exit(10 * (file.fileno() < 3) + file.seek(0, 2))"
)
"""Opens a file, then prints."""


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_a_closed_stream_comes_into_no_file(closed):
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, HOLDER]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True)
    assert ended.returncode == 0


def test_a_result_is_written_where_stdout_knows_only_ascii():
    with print_result(PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith(r"b\xfccher")
