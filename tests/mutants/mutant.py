"""A planted bug, and how it is applied to a copy of the sources."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[2] / "src" / "tercet"


class DoesNotApply(Exception):
    """The sources have changed so that a mutant has to be adapted."""


@dataclass(frozen=True)
class Mutant:
    """file: below src/tercet. breaks: the guarantee that is lost, in one sentence.

    unit_test: the test, by pytest's name for it, that fails where no fault forms the bug's condition often enough for the
    simulator; "" for a bug that the simulator catches.
    equivalent: why no run can differ from the original's, for a change that only looks like a bug; "" for a bug.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    unit_test: str = ""
    equivalent: str = ""

    def apply(self, source: Path = SOURCE) -> str:
        """The changed text of the file. Raises DoesNotApply with what is wrong."""
        path = source / self.file
        if not path.exists():
            raise DoesNotApply(f"{self.name}: there is no {self.file}")
        text = path.read_text()
        count = text.count(self.old)
        if count != 1:
            raise DoesNotApply(f"{self.name}: this text occurs {count} times in {self.file}, not once:\n{self.old}")
        changed = text.replace(self.old, self.new)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise DoesNotApply(f"{self.name}: {self.file} is no Python any more: {error}") from error
        return changed
