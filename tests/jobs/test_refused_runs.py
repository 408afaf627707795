"""What is refused after Ray has started, or without it, and what must not be left behind then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import storage
from tests.builders import (
    annotate_flags,
    make_checkpoint,
    make_config,
    run_command,
    write_pictures,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "weights")


def write_list(root, lines):
    path = Path(root) / "list.txt"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.ray
def test_a_list_that_is_refused_in_the_middle_leaves_no_run(tmp_path, checkpoint, ray_cluster):
    """The corrected list was once refused as another configuration of a run that never began."""
    write_pictures(str(tmp_path / "in"), 2)
    uris = [str(path) for path in sorted((tmp_path / "in").rglob("*.*"))]
    assert len(uris) == 2
    config = make_config(str(tmp_path), checkpoint, images=write_list(tmp_path, [*uris, uris[0]]))
    ended = run_command(*annotate_flags(config))
    assert ended.code == 2
    assert "entries that are in it twice" in ended.err
    assert not storage.exists(storage.join_uri(config.output, "run.json"))


@pytest.mark.ray
def test_the_run_file_of_another_program_is_refused(tmp_path, checkpoint, ray_cluster):
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint)
    storage.write_bytes(storage.join_uri(config.output, "run.json"), b'{"name": "a web server"}')
    ended = run_command(*annotate_flags(config))
    assert ended.code == 2
    assert "not the run.json of an annotation run" in ended.err


@pytest.mark.s3
@pytest.mark.ray
def test_wrong_keys_while_reading_fail_the_job_and_commit_nothing(
    tmp_path, s3_bucket, checkpoint, monkeypatch
):
    """They once became rows with access_denied, in slices that counted as done."""
    write_pictures(f"s3://{s3_bucket}/in", 1)
    uris = [info.uri for info in storage.iter_objects(f"s3://{s3_bucket}/in")]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-one-of-some-length")
    config = make_config(str(tmp_path), checkpoint, images=write_list(tmp_path, uris))
    name, *flags = annotate_flags(config)
    ended = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "no valid credentials" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(Path(config.output).glob("images/*"))


def test_a_command_on_the_core_install_names_what_to_install():
    code = """
import sys
sys.modules["tyro"] = None
from jobs.cli import dispatch
sys.exit(dispatch(["annotate"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "needs the package tyro: pip install 'overfeat-at-scale[pipelines]'" in ended.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "--shards", "x", "--output", "y", "--architecture", "foo"], "architecture"),
        (["train", "--shards", "x", "--output", "y", "--checkpoint-steps", "0"], "at least 1"),
        (["train", "--shards", "x", "--output", "y", "--epochs", "0"], "above 0"),
        (["evaluate", "--shards", "x", "--score-threshold", "0"], "above 0"),
        (["evaluate", "--shards", "x", "--limit", "-1"], "at least 1"),
        (["demo", "--scenes", "-1"], "at least 0"),
    ],
)
def test_a_flag_out_of_range_starts_nothing(args, words):
    ended = run_command(*args)
    assert ended.code == 2
    assert words in ended.err


def test_the_training_commands_of_the_readme_are_understood():
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## Training\n")[1].split("\n## ")[0]
    lines = section.replace("\\\n", " ").splitlines()
    commands = [line.split()[1:] for line in lines if line.startswith("overfeat ")]
    names = ["shards", "shards", "shards", "train", "train", "evaluate", "train", "annotate"]
    assert [command[0] for command in commands] == names
    for command in commands:
        # The unknown flag is the only thing that is wrong with the command.
        ended = run_command(*command, "--no-such-flag")
        assert ended.code == 2
        assert "no-such-flag" in ended.err
        assert not [flag for flag in command if flag.startswith("--") and flag in ended.err]
