"""The command: gathers facts, judges, prints findings with remedies."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.doctor import checks, conditions
from tercet.cli.ctl.doctor.facts import Facts, gather
from tercet.cli.ctl.doctor.finding import CRITICAL, Check, Finding, merged
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.global_flags import SECOND
from tercet.cli.ctl.report import Report

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _doctor(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("doctor command accepts no arguments")
    window_seconds = session.values.int("window") / SECOND
    if window_seconds <= 0:
        raise bad_arguments("--window must be positive")
    report = Report(session, has_columns=False)
    session.is_quiet = True  # what a member does not answer is a finding
    facts = await gather(session, window_seconds)
    found = merged(chain(checks.judge(facts), conditions.judge(facts)))
    findings = sorted((finding for check in found for finding in check.findings), key=lambda one: one.severity != CRITICAL)
    if report.is_json:
        report.json(_json(found, findings))
    else:
        _print(report, facts, found, findings)
    if any(finding.severity == CRITICAL for finding in findings):
        raise CommandError(Exit.ERROR)


def _print(report: Report, facts: Facts, found: list[Check], findings: list[Finding]) -> None:
    colours = report.colours
    for finding in findings:
        paint = colours.red if finding.severity == CRITICAL else colours.yellow
        report.line(f"{paint(finding.severity.upper())}  {finding.where}: {finding.what}")
        report.line(f"    remedy: {finding.remedy}")
    if findings:
        report.line()
    well = [check.name for check in found if not check.findings and not check.not_judged]
    report.line(f"{colours.green('OK')}  {', '.join(well)}" if well else "nothing is OK")
    for check in found:
        if check.not_judged:
            report.line(f"not judged  {check.name}: {check.not_judged}")
    critical = sum(finding.severity == CRITICAL for finding in findings)
    counts = ((len(facts.members), "member"), (critical, "critical finding"), (len(findings) - critical, "warning"))
    report.line(", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts))


def _json(found: list[Check], findings: list[Finding]) -> dict[str, object]:
    return {
        "healthy": not findings,
        "findings": [finding._asdict() for finding in findings],
        "checks": [
            {
                "name": check.name,
                "state": "finding" if check.findings else "not judged" if check.not_judged else "ok",
                "reason": check.not_judged,
            }
            for check in found
        ],
    }


DOCTOR = Command(
    "doctor",
    "Examine the cluster, and say how to mend what is wrong",
    "[options]",
    (Flag("window", "duration", 3 * SECOND, "time between the two readings of the metrics that rates come from"),),
    _doctor,
    description=(
        "Asks every member of the cluster for its status, a linearizable read, its alarms, its certificate and its\n"
        "metrics, and judges the conditions of etcd's alert rules without Prometheus. Works with members of etcd and tercet.\n"
        "Exits with 1 if a finding is critical."
    ),
    examples=("tercetctl doctor", "tercetctl doctor --window 60s -w json"),
)
