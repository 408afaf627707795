"""Every command in the documents has flags that exist and values that are taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from jobs import cli, entrypoint
from tests.architecture.source_tree import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"```(?:bash|text)\n(.*?)```", re.DOTALL)


def list_commands() -> Iterator[str]:
    for document in DOCUMENTS:
        for block in FENCE.findall(document.read_text("utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if line.startswith("overfeat "))


@pytest.mark.parametrize("command", sorted(set(list_commands())))
def test_a_documented_command_is_understood(command, monkeypatch):
    monkeypatch.setattr(entrypoint, "run_command", parse_alone)
    _, name, *flags = shlex.split(command, comments=True)
    if "--help" in flags:
        with pytest.raises(SystemExit, match="0"):
            cli.dispatch([name, *flags])
    else:
        assert cli.dispatch([name, *flags]) == 0


def parse_alone(config_type, run, **how):
    """Understand a command without running it."""
    del run
    entrypoint._parse(config_type, **how)
    return 0


def test_commands_are_found_in_both_kinds_of_documents():
    commands = set(list_commands())
    assert any("annotate" in command for command in commands)
    assert any("--task localize" in command for command in commands)
