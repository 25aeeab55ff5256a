"""Every mutant still applies to the sources, so that `make mutants` tests what its list says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import BUGS, EQUIVALENT, MUTANTS
from tests.mutants.mutant import SOURCE, DoesNotApply, Mutant


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
