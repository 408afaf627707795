"""The process boundary of every command: flags in, result on stdout, logs on stderr, an exit code.

Here alone any exception is caught: a user's mistake becomes one sentence, never a traceback.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn, TypeVar

import tyro

from jobs.streams import fill_closed_streams
from pipelines.errors import InputError, PipelineError

logger = logging.getLogger(__name__)

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
TOO_MANY_FAILED: Final = 3

_MISSING: Final = "Missing from"
"""How tyro begins what it says of flags that were not given."""
_HELP_INDENT: Final = " " * 9
"""How far it indents their help texts."""

_Config = TypeVar("_Config")


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How a command talks."""

    json: bool = False
    """Print the result as one JSON object."""
    verbose: bool = False
    """Log more, and show the traceback of an unexpected error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a command hands back."""

    values: dict[str, object]
    """Printed as one JSON object with `--json`."""
    text: str
    """Printed otherwise."""
    exit_code: int = DONE
    """0, or 3 if more images failed than allowed."""


def make_main(
    config_type: type[_Config],
    run: Callable[[_Config], Result],
    *,
    name: str,
    description: str | None,
    default: Callable[[Sequence[str]], _Config] | None = None,
) -> Callable[..., int]:
    """Make the `main` of a job.

    Args:
        config_type: Dataclass that the flags are derived from.
        run: The command.
        name: Its name, for the help text.
        description: What it does, for the help text.
        default: What the flags are if they are not given, where one depends on another; by default
            what the dataclass says.

    Returns:
        A function of the flags (by default the process's own) that returns the exit code.
    """

    def main(args: Sequence[str] | None = None) -> int:
        return run_command(
            config_type, run, name=name, description=description or "", default=default, args=args
        )

    return main


def run_command(
    config_type: type[_Config],
    run: Callable[[_Config], Result],
    *,
    name: str,
    description: str,
    default: Callable[[Sequence[str]], _Config] | None = None,
    args: Sequence[str] | None = None,
) -> int:
    """Parse the flags of a command, run it, print its result.

    Args:
        config_type: Dataclass that the flags are derived from.
        run: The command.
        name: Its name, for the help text.
        description: What it does, for the help text.
        default: As in `make_main`.
        args: Flags; None for the process's own.

    Returns:
        The exit code: 0 done, 1 failed, 2 nothing was started, 3 too many failed images.
    """
    fill_closed_streams()
    try:
        config, output = _parse(
            config_type, name=name, description=description, default=default, args=args
        )
        _set_up_logging(verbose=output.verbose)
        # Ray, for one, tells on stdout of workers that died: there stands the result, and no more.
        with _termination_as_interrupt(), contextlib.redirect_stdout(sys.stderr):
            result = run(config)
        _print(json.dumps(result.values) if output.json else result.text)
    except PipelineError as error:
        return _complain(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where it stood\n")
        return INTERRUPTED
    except Exception as error:  # the process boundary: nothing leaves as a traceback
        logger.debug("unexpected error", exc_info=True)
        kind, words = type(error).__name__, " ".join(str(error).split())
        sys.stderr.write(f"error: unexpected {kind}: {words}; --verbose shows where\n")
        return FAILED
    return result.exit_code


def _print(text: str) -> None:
    """Write the result to stdout, in its encoding; a reader that is not there is no failure.

    Raises:
        PipelineError: If it cannot be written; what was to be done is done.
    """
    if sys.stdout is None:
        return  # as by >&-
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when the process ends.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        raise PipelineError(f"stdout: the work is done, its result is lost: {error}") from error


# Raises what tyro has to say of wrong flags as one sentence, like every other mistake of a user.
def _parse(
    config_type: type[_Config],
    *,
    name: str,
    description: str,
    default: Callable[[Sequence[str]], _Config] | None,
    args: Sequence[str] | None,
) -> tuple[_Config, Output]:
    said = io.StringIO()
    flags_unsaid: Any = tyro.MISSING_NONPROP
    try:
        with contextlib.redirect_stderr(said):
            if default is not None:
                flags_unsaid = (default(sys.argv[1:] if args is None else args), Output())
            parsed: tuple[_Config, Output] = tyro.cli(
                tuple[
                    Annotated[config_type, tyro.conf.arg(name="")],  # type: ignore[valid-type]  # tyro reads it at run time
                    Annotated[Output, tyro.conf.arg(name="")],
                ],
                prog=f"overfeat {name}",
                description=description,
                args=args,
                default=flags_unsaid,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if end.code != InputError.exit_code:
            raise
        flags = f"overfeat {name} --help lists the flags"
        raise InputError(f"{_unbox(said.getvalue())}; {flags}") from None
    return parsed


def _unbox(text: str) -> str:
    """Write what tyro puts in a box, parts between rules, in one line; its hint at help is left.

    Where a terminal has no boxes, the box's title is the first part.
    """
    rows = [row.strip("│").rstrip() for row in text.splitlines() if not row.startswith(("╭", "╰"))]
    parts = itertools.groupby(rows, key=lambda row: not row.strip("─- "))
    told = [_join_rows(list(part)) for is_rule, part in parts if not is_rule]
    told = told if text.startswith("╭") else told[1:]
    sentences = [part for part in told if not part.startswith("For full helptext")]
    # A flag that is not known may be what is missing, in other letters.
    return "; ".join(sorted(sentences, key=lambda part: part.startswith(_MISSING)))


def _join_rows(rows: list[str]) -> str:
    """Write a part in one line; of a flag that is missing, without its help text."""
    if rows[0].strip().startswith(_MISSING):
        rows = [row for row in rows if not row.startswith(_HELP_INDENT)]
    return " ".join(row.strip() for row in rows).removesuffix(".")


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a command as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(error: PipelineError) -> int:
    logger.debug("where it failed", exc_info=error)
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code


def _set_up_logging(*, verbose: bool) -> None:
    """Send our own log lines to stderr; other libraries' only from warnings on."""
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(stream=sys.stderr, format=form, level=logging.WARNING, force=True)
    for package in ("pipelines", "overfeat", "jobs"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)
