"""Is a failure shown with its seed, and does the page keep what was not done again?"""

from __future__ import annotations

import pytest

from tests.torture import __main__ as program
from tests.torture.apart import ApartError, run_apart, run_limited
from tests.torture.record import Outcome, Record
from tests.torture.report import name_commit, tabulate, write_page
from tests.torture.victims import die, fail, hang, lose, succeed


def run_program(monkeypatch, *args, **parts):
    whole = {name: program.Part(function) for name, function in parts.items()}
    monkeypatch.setattr(program, "PARTS", whole)
    monkeypatch.setattr(program, "forget_environment", lambda: None)
    monkeypatch.setattr("sys.argv", ["torture", *args])
    return program.main()


def test_parts_that_end_well_give_their_counts(monkeypatch, capfd):
    assert run_program(monkeypatch, "--seed", "7", good=succeed) == 0
    said = capfd.readouterr()
    assert said.out.splitlines()[1].split()[:5] == ["good", "7", "7", "7", "10"]
    assert "in the middle" in said.err


@pytest.mark.parametrize(("part", "words"), [(fail, "wrong with 7"), (lose, "lost=1")])
def test_a_part_that_fails_is_told_with_its_seed(monkeypatch, capfd, part, words):
    assert run_program(monkeypatch, "--seed", "7", bad=part) == 1
    said = capfd.readouterr()
    assert "FAILED" in said.out
    assert "--only bad --seed 7" in said.err
    assert words in said.err


def test_an_unknown_part_is_refused(monkeypatch, capfd):
    with pytest.raises(SystemExit) as ended:
        run_program(monkeypatch, "--only", "bad", good=succeed)
    assert ended.value.code == 2
    assert "expected some of" in capfd.readouterr().err


def test_what_a_process_said_is_shown_if_it_fails(capfd):
    with pytest.raises(ApartError, match="a library spoke"):
        run_apart(fail, 1)
    assert "a library spoke" not in capfd.readouterr().err


def test_a_process_that_dies_or_hangs_is_an_error():
    with pytest.raises(ApartError, match="its process died"):
        run_apart(die, 1)
    with pytest.raises(ApartError, match="not done after 2 s"):
        run_limited(hang, 2, 1)


def outcome_of(part, record, *, seed=1, failure=""):
    return Outcome(part=part, seed=seed, seconds=12.3, record=record, failure=failure)


def test_the_page_keeps_the_lines_of_what_was_not_done_again(tmp_path):
    page = tmp_path / "page.md"
    sizes = (("images", "plan, s"), ("10", "1.0"), ("20", "2.0"))
    first = [
        outcome_of("workers", Record(faults={"kill": 3}, rows=1234)),
        outcome_of("scale", Record(table=sizes)),
    ]
    write_page(page, first, "first command")
    page.write_text(page.read_text() + "\n## Remarks\n\nBy hand.\n")
    again = [
        outcome_of("workers", None, seed=2, failure="Traceback\nValueError: odd"),
        outcome_of("scale", Record(table=(sizes[0], ("10", "3.0")))),
    ]
    write_page(page, again, "second command")
    lines = page.read_text().splitlines()
    (workers,) = [line for line in lines if line.startswith("| workers")]
    assert workers.startswith("| workers | 2 | FAILED |")
    assert "- `workers`: FAILED (ValueError: odd)" in lines
    assert [line[:12] for line in lines if line.startswith(("| 10", "| 20"))] == [
        "| 10 | 3.0 |",
        "| 20 | 2.0 |",
    ]
    assert "first command" not in page.read_text()
    assert page.read_text().endswith("\n\n## Remarks\n\nBy hand.\n")


def test_images_read_again_are_counted_only_where_somebody_looked():
    head, *lines = tabulate([outcome_of("a", Record()), outcome_of("b", Record(reread=0))])
    place = head.index("read again")
    assert [line[place] for line in lines] == ["-", "0"]


def test_each_line_names_the_commit_that_it_stands_for():
    head, line = tabulate([outcome_of("a", Record())])
    assert line[head.index("commit")].rstrip("+") in {name_commit().rstrip("+"), "-"}
