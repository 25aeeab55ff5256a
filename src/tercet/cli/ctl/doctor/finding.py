"""What doctor reports: findings with remedies, and for every condition whether it could be judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CRITICAL = "critical"
WARNING = "warning"


class Finding(NamedTuple):
    """severity: CRITICAL: clients suffer or soon will; WARNING: to mend in time. where: a member, or "cluster"."""

    severity: str
    where: str
    what: str
    remedy: str


class Check(NamedTuple):
    """A condition, and what was found. not_judged: why it could not be examined, "" if it was."""

    name: str
    findings: Sequence[Finding] = ()
    not_judged: str = ""


def merged(checks: Iterable[Check]) -> list[Check]:
    """One check for each name: a condition may be judged by the API and by metrics."""
    found: dict[str, Check] = {}
    for check in checks:
        before = found.get(check.name, Check(check.name))
        found[check.name] = Check(check.name, [*before.findings, *check.findings], before.not_judged or check.not_judged)
    return list(found.values())
