"""The README is true: its tree is the real one, and its commands run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.s3_server import S3Server
from pipelines.sample_bucket import write_sample_bucket
from tests.architecture.source_tree import ROOT

README = (ROOT / "README.md").read_text("utf-8")
NOT_LISTED = {"__init__.py", "py.typed", "__pycache__"}


def listed_paths() -> set[str]:
    """Paths of the README's tree, read off its indentation."""
    block = README.split("## The tree")[1].split("\n\n")[1]
    paths: set[str] = set()
    parents: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip()) - 4) // 2
        name = line.split()[0]
        parents[depth:] = [name]
        paths.add("".join(parents))
    return paths


def tracked_files() -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listing.stdout.splitlines())


def test_everything_in_the_tree_exists() -> None:
    assert {path for path in listed_paths() if not (ROOT / path).exists()} == set()


def test_every_module_of_a_folder_that_the_tree_opens_is_listed() -> None:
    listed = listed_paths()
    opened = {f"{path.rpartition('/')[0]}/" for path in listed if path.endswith(".py")}
    missing = {
        str(child.relative_to(ROOT))
        for folder in opened
        for child in (ROOT / folder).iterdir()
        if child.name not in NOT_LISTED
        and str(child.relative_to(ROOT)) not in listed
        and f"{child.relative_to(ROOT)}/" not in listed
    }
    assert missing == set()


def test_every_top_level_folder_is_listed() -> None:
    folders = {f"{path.split('/')[0]}/" for path in tracked_files() if "/" in path}
    assert {folder for folder in folders if folder != ".ci/"} <= listed_paths()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def user_environment(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A user's shell: this environment's programs, the buckets that the README names."""
    pictures = s3_server.folder / "photos" / "2026"
    write_sample_bucket(pictures, scenes=4, photographs=False)
    s3_server.make_bucket("annotations")
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", programs)
    yield tmp_path
    shutil.rmtree(pictures.parent)
    shutil.rmtree(s3_server.folder / "annotations")


@pytest.mark.s3
@pytest.mark.ray
def test_the_commands_and_programs_run_as_they_stand(user_environment: Path) -> None:
    shell, python = code_blocks("bash"), code_blocks("python")
    assert shell
    assert python
    for block in shell:
        run(["bash", "-e", "-c", block], user_environment)
    for block in python:
        run([sys.executable, "-c", block], user_environment)
    assert (user_environment / "report.html").is_file()


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_the_readme_leads_with_the_two_commands() -> None:
    head = README.split("\n\n")[1]
    assert re.findall(r"make \w+", head) == ["make demo", "make test"]
