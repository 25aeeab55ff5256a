"""What doctor reports: findings with remedies, and for every condition whether it could be judged."""

from __future__ import annotations

from collections.abc import Sequence
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
