from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import run_command
from tests.pipelines.shards.packed import read_metadata
from tests.pipelines.shards.pictures import make_jpeg, write
from tests.pipelines.shards.voc_files import build_voc2007


def run_shards(output, *flags):
    return run_command("shards", "--output", output, "--workers", "1", *flags)


def test_a_data_set_becomes_shards_and_a_report(tmp_path):
    year = build_voc2007(tmp_path / "in")
    write(year / "JPEGImages/000005.jpg", make_jpeg()[:-300])
    flags = ("--source", "voc", "--input", year)

    told = run_shards(tmp_path / "out", *flags)
    again = run_shards(tmp_path / "out", *flags, "--json")

    assert told.code == 0
    assert ": 1 sample, " in told.err
    assert " bytes, 1 reject\n" in told.err
    assert "samples            1  in 1 shard, " in told.out
    assert "rejects            1  (1 truncated): rejects.parquet names them" in told.out
    assert "packed             1  shard now\n" in told.out
    assert json.loads(again.out) == {
        "output": str(tmp_path / "out"),
        "split": "train",
        "shards": 1,
        "samples": 1,
        "bytes": (tmp_path / "out" / "train-000000.tar").stat().st_size,
        "rejects": 1,
        "reasons": {"truncated": 1},
        "packed": 0,
    }
    assert set(read_metadata(tmp_path / "out")) == {"000012"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--source", "voc", "--input", "no-such-folder"], "no-such-folder: does not exist"),
        (["--source", "voc", "--split", "val"], "--input: received none"),
        (["--source", "coco", "--input", "empty"], "nothing there; expected the folder"),
        (["--split", "val"], "expected one of train, validation, test"),
        (["--source", "imagenet"], "invalid choice 'imagenet'"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_sentence(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    ended = run_shards("out", *flags)

    assert ended.code == 2
    assert words in ended.refusal()
    assert not (tmp_path / "out").exists()


def test_the_commands_of_the_readme_are_understood():
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    commands = [line.split()[1:] for line in readme.splitlines() if "overfeat shards --" in line]
    assert len(commands) > 5
    for command in commands:
        # The unknown flag is the only thing that is wrong with the command.
        ended = run_command(*command, "--no-such-flag")
        assert ended.code == 2
        assert not [flag for flag in command if flag.startswith("--") and flag in ended.err]
