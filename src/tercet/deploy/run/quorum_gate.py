"""The quorum gate: whether a member may be restarted, added or removed, from the health of all members.

A member that answers a linearizable read proves that a majority commits. The gate asks whether a majority still commits while
the member is down. If nothing commits, a restart cannot make it worse; this must be certain, so a member that could not be
asked (SSH, TLS, timeout) keeps the gate closed: it may be serving other clients.

Pure function of the health; `rolling` polls it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tercet.deploy.members.members import MemberHealth

Keep: TypeAlias = Literal["all", "majority"]
"""What must stay healthy during a restart: all other members, or a majority of the cluster."""


@dataclass(frozen=True)
class Verdict:
    """blockers: members to wait for; empty if the restart is allowed. commits: whether a majority commits now."""

    blockers: tuple[MemberHealth, ...]
    commits: bool

    @property
    def is_allowed(self) -> bool:
        return not self.blockers


def may_remove(voters: Collection[MemberHealth], name: str) -> bool:
    """Whether the members that remain after the removal of `name` commit. voters: all present ones."""
    others = [one for one in voters if one.name != name]
    return bool(others) and sum(bool(one.commits) for one in others) >= len(others) // 2 + 1


def may_add(voters: Collection[MemberHealth]) -> bool:
    """Whether one more voter leaves a majority even if the new one fails; or all are healthy, as in a cluster of one."""
    healthy = sum(bool(one.commits) for one in voters)
    return bool(voters) and (healthy == len(voters) or healthy >= (len(voters) + 1) // 2 + 1)


def judge(health: Collection[MemberHealth], name: str, *, keep: Keep = "majority") -> Verdict:
    """Whether member `name` may be restarted. health: of every member of the cluster."""
    others = [one for one in health if one.name != name]
    quorum = len(health) // 2 + 1
    behind = tuple(one for one in others if not one.commits)
    if not any(one.commits for one in health):
        return Verdict(tuple(one for one in others if one.commits is None), commits=False)
    if len(others) < quorum:  # one or two members: every restart costs the majority
        return Verdict((), commits=True)
    keeps_majority = len(others) - len(behind) >= quorum
    return Verdict(() if keeps_majority and (keep == "majority" or not behind) else behind, commits=True)
