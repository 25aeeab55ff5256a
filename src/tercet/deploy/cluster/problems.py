"""Errors and warnings of a cluster file, each with line and field.

cluster.yaml:12: hosts[1].address: '172.27.129.300' is not an IP address ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tercet.deploy.cluster.yaml_document import Location, YamlDocument
from tercet.errors import ConfigError

SHOWN_MAX = 40


@dataclass(frozen=True, order=True)
class Problem:
    """One error or warning."""

    line: int
    field: str
    text: str


class ClusterFileError(ConfigError):
    """An invalid cluster file. str() has one line per error."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [describe(path, problem) for problem in problems[:SHOWN_MAX]]
        if len(problems) > SHOWN_MAX:
            lines.append(f"{path}: and {len(problems) - SHOWN_MAX} more")
        super().__init__("\n".join(lines))


def describe(path: Path, problem: Problem) -> str:
    where = f"{path}:{problem.line}: "
    return f"{where}{problem.field}: {problem.text}" if problem.field else where + problem.text


def field_name(location: Location) -> str:
    """hosts[1].address"""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Findings:
    """Collects the errors and warnings of the checks."""

    document: YamlDocument
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, location: Location, text: str, *, line: int | None = None) -> None:
        problem = Problem(line or self.document.line(location), field_name(location), text)
        if problem not in self.errors:
            self.errors.append(problem)

    def warning(self, location: Location, text: str) -> None:
        self.warnings.append(Problem(self.document.line(location), field_name(location), text))
