"""Output of `tercet deploy`: plans with diffs, preflight findings, member status and health.

Functions return strings with click's colours, which click strips where stdout is not a terminal. JSON is for programs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tercet.cli.ctl.output import EndpointHealth
from tercet.cli.ctl.table import draw
from tercet.cli.deploy.folding import folded
from tercet.deploy.plan.plan import Phase, Plan, Step
from tercet.gotext.duration import format_duration
from tercet.gotext.strconv import humanize_bytes

if TYPE_CHECKING:
    from tercet.deploy.deployment import MemberHealth, MemberStatus
    from tercet.deploy.facts.preflight import Finding

_LOCAL = "local"
_LEVELS = {"error": "red", "warning": "yellow", "ok": "green"}
_STATUS_HEADER = (
    "host",
    "unit",
    "member id",
    "version",
    "db size",
    "quota used",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "certificate",
)
_ALARM_REMEDIES = {
    "NOSPACE": "writes are refused; `tercet deploy compact`, then `tercet deploy defrag`, which disarms it when there is room",
    "CORRUPT": "its data differs from the other members'; `tercet deploy member replace` copies it again",
}


# Plans.


def plan_text(plan: Plan, *, diffs: bool = True, hosts: Mapping[str, str] | None = None) -> str:
    """An overview, then all phases and steps in execution order. hosts: name to address, to show identical ones once."""
    names = [*(hosts or {}), *(hosts or {}).values()]
    phases = [phase for phase in plan.phases if phase.steps]
    lines = [*_overview(phases), *(line for phase in phases for line in _phase_lines(phase, names, diffs=diffs))]
    return "".join(f"{line}\n" for line in lines)


def plan_summary(plan: Plan) -> str:
    """`24 steps on 3 hosts`."""
    return _extent(plan.steps)


def _extent(steps: Collection[Step]) -> str:
    hosts = {step.host for step in steps if step.host is not None}
    where = f" on {_count(len(hosts), 'host')}" if hosts else ""
    return f"{_count(len(steps), 'step')}{where}"


def _overview(phases: Sequence[Phase]) -> Iterator[str]:
    """One line for each of several phases, before the page of steps."""
    if len(phases) < 2:
        return
    width = max(len(phase.title) for phase in phases)
    for phase in phases:
        how = ", one at a time" if phase.one_at_a_time else ""
        yield f"{click.style(phase.title.ljust(width), bold=True)}  {_extent(phase.steps)}{how}"
    yield ""


def plan_facts(plan: Plan) -> object:
    return {
        "phases": [
            {
                "title": phase.title,
                "one_at_a_time": phase.one_at_a_time,
                "steps": [{"host": step.host, "title": step.title, "diff": step.diff} for step in phase.steps],
            }
            for phase in plan.phases
        ],
        "notes": list(plan.notes),
        "blockers": list(plan.blockers),
    }


def _phase_lines(phase: Phase, names: Collection[str], *, diffs: bool) -> Iterator[str]:
    how = click.style("  one at a time", dim=True) if phase.one_at_a_time else ""
    yield click.style(phase.title, bold=True) + how
    if phase.one_at_a_time:
        width = max(len(step.host or _LOCAL) for step in phase.steps)
        for step in phase.steps:
            yield f"  {click.style((step.host or _LOCAL).ljust(width), fg='cyan')}  {step.title}"
            yield from _diff_lines(step, diffs=diffs)
    else:
        lanes = _by_host(phase.steps)
        for host, same in folded(lanes, lambda step: (step.title, step.diff), names):
            yield f"  {click.style(host, fg='cyan')}"
            for step in lanes[host]:
                yield f"    {step.title}"
                yield from _diff_lines(step, diffs=diffs)
            if same:
                what = _count(len(lanes[host]), "step")
                yield f"  {click.style(', '.join(same), fg='cyan')}  the same {what}, with their own names and addresses"
    yield ""


def _by_host(steps: Iterable[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.host or _LOCAL, []).append(step)
    return found


def _diff_lines(step: Step, *, diffs: bool) -> Iterator[str]:
    if diffs:
        for line in step.diff.splitlines():
            yield f"      {_coloured(line)}".rstrip()


def _coloured(line: str) -> str:
    if line.startswith(("+++", "---")):
        return click.style(line, bold=True)
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


# Preflight.


def findings_text(findings: Sequence[Finding]) -> str:
    """One line per finding, and its remedy on the next line. Hosts that pass the same checks as an earlier one share a line."""
    hosts = max((len(finding.host) for finding in findings), default=0)
    checks = max((len(finding.check) for finding in findings), default=0)
    by_host: dict[str, list[Finding]] = {}
    for finding in findings:
        by_host.setdefault(finding.host, []).append(finding)
    lines: list[str] = []
    for host, same in folded(by_host, _passed, ()):
        for finding in by_host[host]:
            level = click.style(finding.level.ljust(len("warning")), fg=_LEVELS[finding.level])
            first, *more = finding.text.splitlines() or [""]
            lines.append(f"{finding.host.ljust(hosts)}  {finding.check.ljust(checks)}  {level}  {first}")
            indent = " " * (hosts + checks + len("warning") + 6)
            lines += [indent + line for line in (*more, *([f"-> {finding.remedy}"] if finding.remedy else []))]
        if same:
            lines.append(f"{', '.join(same)}: the same {_count(len(by_host[host]), 'check')} passed")
    return "".join(f"{line}\n" for line in lines)


def _passed(finding: Finding) -> tuple[str, ...]:
    """What is compared between hosts: of a passed check only its name, since measured values differ."""
    return (finding.check, "ok") if finding.level == "ok" else (finding.host, finding.check, finding.text)


def findings_summary(findings: Sequence[Finding]) -> str:
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if not errors and not warnings:
        return f"{_count(len(findings), 'check')} passed."
    return f"{_count(len(findings), 'check')}: {_count(errors, 'error')}, {_count(warnings, 'warning')}."


# Members.


def status_table(statuses: Sequence[MemberStatus]) -> str:
    return draw(_STATUS_HEADER, [_status_row(status) for status in statuses])


def status_lines(statuses: Sequence[MemberStatus]) -> str:
    return "".join(", ".join(_status_row(status)) + "\n" for status in statuses)


def _status_row(status: MemberStatus) -> tuple[str, ...]:
    if not status.member_id:
        return (status.name, status.unit or "unknown", *[""] * (len(_STATUS_HEADER) - 3), _certificate(status.certificate_days))
    return (
        status.name,
        status.unit,
        f"{status.member_id:x}",
        status.version,
        humanize_bytes(status.db_size),
        f"{100 * status.db_size / status.quota:.0f} %" if status.quota else "",
        str(status.is_leader).lower(),
        str(status.is_learner).lower(),
        str(status.raft_term),
        str(status.raft_index),
        _certificate(status.certificate_days),
    )


def _certificate(days: float | None) -> str:
    if days is None:
        return ""
    return _count(math.floor(days), "day") if days >= 0 else f"expired {_count(math.floor(-days), 'day')} ago"


def status_remarks(statuses: Sequence[MemberStatus], renewal_days: float, *, operator_days: float | None = None) -> list[str]:
    """Remarks below the table: why a member did not answer, alarms, and certificates that are due.

    operator_days: until the operator's own certificate expires.
    """
    remarks = [f"{status.name}: {status.error}" for status in statuses if status.error]
    remarks += [_left_behind(status) for status in statuses if status.left_behind]
    remarks += [f"{status.name}: alarm {alarm}: {_ALARM_REMEDIES[alarm]}" for status in statuses for alarm in status.alarms]
    days_of = {status.name: status.certificate_days for status in statuses} | {"operator": operator_days}
    for name, days in days_of.items():
        if days is not None and days <= renewal_days:
            when = f"expires in {_count(math.floor(days), 'day')}" if days >= 0 else _certificate(days)
            remarks.append(f"{name}: the certificate {when}; `tercet deploy certs renew --due` renews it")
    return remarks


def _left_behind(status: MemberStatus) -> str:
    """What to do about a member that a recovery or a restore left behind."""
    if status.unit:
        return f"{status.name}: {status.left_behind}; `tercet deploy recover` stops it ({status.unit}) and joins it again"
    advice = "keep it off the network until `tercet deploy recover` has joined it again; if it is wiped, delete its entry"
    return f"{status.name}: {status.left_behind}; {advice}"


def endpoint_health(member: MemberHealth) -> EndpointHealth:
    """In the form of tercetctl's printers."""
    took = format_duration(round(member.took_seconds * 1e9))
    return EndpointHealth(member.endpoint, member.is_healthy, took, member.error)


def environment_text(variables: Mapping[str, str]) -> str:
    """Lines for a shell's eval; every value is quoted."""
    return "".join(f"export {name}={_quoted(value)}\n" for name, value in variables.items())


def json_text(value: object) -> str:
    return json.dumps(value, indent=2, default=asdict) + "\n"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\"'\"'") + "'"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
