"""Every mutant still applies to the sources, so that `make mutants` tests what its list says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.catalogue import BUGS, EQUIVALENT, MUTANTS
from tests.mutants.mutant import SOURCE, DoesNotApply, Mutant
from tests.mutants.run import Result, Results, main, report, run


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_applies(mutant: Mutant) -> None:
    assert mutant.apply() != (SOURCE / mutant.file).read_text()


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_mutant_says_what_it_breaks() -> None:
    assert [mutant.name for mutant in MUTANTS if len(mutant.breaks) < 20] == []
    assert [mutant.name for mutant in EQUIVALENT if len(mutant.equivalent) < 40] == []


def test_there_are_at_least_sixty_bugs() -> None:
    assert len(BUGS) >= 60


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("gone.py", "a", "b", "there is no gone.py"),
        ("code.py", "missing", "b", "occurs 0 times in code.py"),
        ("code.py", "a", "b", "occurs 2 times in code.py"),
        ("code.py", "= a", "= (", "is no Python any more"),
    ],
)
def test_a_mutant_that_does_not_apply_says_why(tmp_path: Path, file: str, old: str, new: str, reason: str) -> None:
    (tmp_path / "code.py").write_text("x = a\ny = 'a'\n")
    with pytest.raises(DoesNotApply, match=reason):
        Mutant("planted", file, old, new, "breaks something").apply(tmp_path)


CAUGHT = Result("found", 3, "InvariantViolation: two leaders")
SURVIVED = Result("kept", 200, None)
BY_UNIT_TEST = Result("rare", 200, "a unit test fails", unit_test="tests/raft/test_log.py::test_append")
BROKEN = Result("broken", 1, None, "NameError: name 'x' is not defined")


@pytest.mark.parametrize(
    ("results", "status", "last"),
    [
        ([CAUGHT], 0, "caught 1 of 1"),
        ([CAUGHT, BY_UNIT_TEST], 0, "caught 2 of 2"),
        ([CAUGHT, SURVIVED], 1, "caught 1 of 2"),
        ([CAUGHT, BROKEN], 1, "caught 1 of 2"),
    ],
)
def test_the_last_line_counts_and_a_survivor_fails_the_run(
    capsys: pytest.CaptureFixture[str], results: list[Result], status: int, last: str
) -> None:
    assert report(results) == status
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_results_of_the_same_sources_and_mutant_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "build" / "results"
    mutants = [Mutant(one.name, "code.py", "a", "b", "breaks something") for one in (CAUGHT, SURVIVED, BROKEN)]
    results = Results(path, 200, mutants)
    assert results.read() == {}
    for one in (CAUGHT, SURVIVED, BROKEN):
        results.add(one)
    assert results.read() == {"found": CAUGHT, "kept": SURVIVED}, "what could not be run is run again"
    assert Results(path, 100, mutants).read() == {}
    changed = [Mutant("found", "code.py", "a", "c", "breaks something"), mutants[1]]
    assert Results(path, 200, changed).read() == {"kept": SURVIVED}


def test_a_mutant_is_run_once_and_then_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["version_not_incremented", "--seeds", "1", "--jobs", "1", "--results", str(tmp_path / "results")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "[  1 of 1," in first
    assert main([*arguments, "--resume"]) == 0
    again = capsys.readouterr().out
    assert "[  1 of 1," not in again
    assert (
        first.splitlines()[-2:]
        == again.splitlines()[-2:]
        == [
            "caught by the simulator: 1; seeds until then: median 1, at most 1",
            "caught 1 of 1",
        ]
    )


def test_a_bug_that_the_seeds_do_not_form_is_run_against_its_unit_test(tmp_path: Path) -> None:
    bug = next(one for one in BUGS if one.name == "acknowledges_the_whole_log")
    result = run(bug, seeds=0)
    assert (result.failure, result.unit_test, result.error) == ("a unit test fails", bug.unit_test, "")
    passing = replace(bug, unit_test="tests/raft/test_quorum.py")
    assert run(passing, seeds=0) == Result(bug.name, 0, None)
    missing = replace(bug, unit_test="tests/raft/test_gone.py")
    assert run(missing, seeds=0).error == "tests/raft/test_gone.py cannot be run"


def test_unit_tests_of_mutants_exist() -> None:
    names = [one.unit_test for one in BUGS if one.unit_test]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *names],
        cwd=SOURCE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout
