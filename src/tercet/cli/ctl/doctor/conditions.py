"""The conditions of etcd's alert rules, from two scrapes instead of a Prometheus.

Rates and latencies are those between the scrapes, or since the member's start if nothing happened in between; a condition that
needs more than that is named as not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tercet.cli.ctl.doctor.facts import Facts, MemberFacts
from tercet.cli.ctl.doctor.finding import CRITICAL, WARNING, Check, Finding
from tercet.cli.ctl.scrape import Scrape, quantile
from tercet.cli.metrics.alerts import REMEDIES
from tercet.gotext.duration import format_seconds

_FAILED_CODES = frozenset(
    ("Unknown", "FailedPrecondition", "ResourceExhausted", "Internal", "Unavailable", "DataLoss", "DeadlineExceeded")
)
_FAILED_SHARES = ((0.05, CRITICAL), (0.01, WARNING))
_REQUESTS_MIN = 20  # fewer make no share
_CHANGES_MAX = 4
_CHANGES_SECONDS = 900.0
_GROWTH_WINDOW_SECONDS_MIN = 60.0
_GROWTH_SECONDS = 4 * 3600
_FAILED_PROPOSALS_RATE_MAX = 5.0
_SEND_FAILURES_RATE_MAX = 0.01

Judge = Callable[[MemberFacts, Scrape, Scrape, float], Iterator[Finding]]


def judge(facts: Facts) -> Iterator[Check]:
    """One check for each condition, named like its alert."""
    without = [member.title for member in facts.answering if not member.metrics]
    measured = [member for member in facts.answering if member.metrics]
    for name, condition in _CONDITIONS:
        findings = [
            finding
            for member in measured
            for finding in condition(member, member.metrics[0], member.metrics[1], facts.window_seconds)
        ]
        reason = _why_not(name, facts, measured)
        if not reason and without:
            error = next((member.metrics_error for member in facts.answering if not member.metrics), "")
            reason = f"no metrics of {', '.join(without)}: {error}"
        yield Check(name, findings, reason)


def _why_not(name: str, facts: Facts, measured: list[MemberFacts]) -> str:
    if not measured:
        return "no member's metrics could be read"
    if name == "etcdExcessiveDatabaseGrowth" and facts.window_seconds < _GROWTH_WINDOW_SECONDS_MIN:
        return f"needs --window of at least {_GROWTH_WINDOW_SECONDS_MIN:.0f}s"
    if name == "etcdGRPCRequestsSlow" and not any(f"{_HANDLING}_bucket" in member.metrics[1] for member in measured):
        return "no member runs with --metrics=extensive"
    if name == "etcdMemberCommunicationSlow" and len(facts.members) == 1:
        return "the cluster has one member"
    return ""


def _increase(name: str, before: Scrape, after: Scrape) -> float:
    return max(after.value(name) - before.value(name), 0.0)


def _unreachable_peers(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
    name = "etcd_network_peer_sent_failures_total"
    past = before.by(name, "To")
    for peer, count in after.by(name, "To").items():
        rate = (count - past.get(peer, 0.0)) / window
        if rate > _SEND_FAILURES_RATE_MAX:
            yield Finding(WARNING, member.title, f"cannot send to {peer}: {rate:.2g} failures/s", REMEDIES["etcdMembersDown"])


def _leader_changes(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
    """Within 15 minutes for a younger member; of an older one the mean since its start, since its past is not recorded."""
    changes = after.value("etcd_server_leader_changes_seen_total")
    uptime = _uptime(after)
    recent = changes * min(_CHANGES_SECONDS / uptime, 1.0) if uptime else changes
    recent = max(recent, _increase("etcd_server_leader_changes_seen_total", before, after))
    if recent >= _CHANGES_MAX:
        text = f"has seen {changes:.0f} leader changes in {format_seconds(round(uptime))}"
        yield Finding(WARNING, member.title, text, REMEDIES["etcdHighNumberOfLeaderChanges"])


def _uptime(scrape: Scrape) -> float:
    import time

    started = scrape.value("process_start_time_seconds")
    return max(time.time() + (scrape.clock_skew_seconds or 0.0) - started, 1.0) if started else 0.0


def _failed_requests(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
    handled: dict[str, list[float]] = {}
    for sign, scrape in ((1, after), (-1, before)):
        for labels, count in scrape.each("grpc_server_handled_total"):
            method = f"{labels.get('grpc_service', '')}/{labels.get('grpc_method', '')}"
            counts = handled.setdefault(method, [0.0, 0.0])
            counts[0] += sign * count
            counts[1] += sign * count if labels.get("grpc_code") in _FAILED_CODES else 0.0
    for method, (total, failed) in sorted(handled.items()):
        severity = next((severity for limit, severity in _FAILED_SHARES if total and failed / total > limit), None)
        if severity and total >= _REQUESTS_MIN:
            text = f"{failed:.0f} of {total:.0f} requests of {method} failed in {format_seconds(window)}"
            yield Finding(severity, member.title, text, REMEDIES["etcdHighNumberOfFailedGRPCRequests"])


def _failed_proposals(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
    rate = _increase("etcd_server_proposals_failed_total", before, after) / window
    if rate > _FAILED_PROPOSALS_RATE_MAX:
        yield Finding(WARNING, member.title, f"{rate:.0f} proposals/s fail", REMEDIES["etcdHighNumberOfFailedProposals"])


def _growth(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
    name = "etcd_mvcc_db_total_size_in_bytes"
    quota = after.value("etcd_server_quota_backend_bytes")
    expected = after.value(name) + _increase(name, before, after) / window * _GROWTH_SECONDS
    if window >= _GROWTH_WINDOW_SECONDS_MIN and quota and expected > quota:
        text = "at the present growth the database reaches its quota within four hours"
        yield Finding(WARNING, member.title, text, REMEDIES["etcdExcessiveDatabaseGrowth"])


def _slow(alert: str, histogram: str, what: str, limits: tuple[tuple[float, str], ...]) -> Judge:
    """The 99th percentile of a histogram, in seconds, against limits, the highest first."""

    def judge_one(member: MemberFacts, before: Scrape, after: Scrape, window: float) -> Iterator[Finding]:
        recent = quantile(histogram, before, after)
        found = recent if recent is not None else quantile(histogram, None, after)
        severity = next((severity for limit, severity in limits if found is not None and found > limit), None)
        if severity and found is not None:
            since = f"in {format_seconds(window)}" if recent is not None else "since its start"
            took = f"more than {limits[-1][0]} s" if found == float("inf") else f"up to {format_seconds(found)}"
            yield Finding(severity, member.title, f"{what} took {took} {since} (99th percentile)", REMEDIES[alert])

    return judge_one


_HANDLING = "grpc_server_handling_seconds"
_CONDITIONS: tuple[tuple[str, Judge], ...] = (
    ("etcdMembersDown", _unreachable_peers),
    ("etcdHighNumberOfLeaderChanges", _leader_changes),
    ("etcdHighNumberOfFailedGRPCRequests", _failed_requests),
    ("etcdGRPCRequestsSlow", _slow("etcdGRPCRequestsSlow", _HANDLING, "a request", ((0.15, CRITICAL),))),
    (
        "etcdMemberCommunicationSlow",
        _slow(
            "etcdMemberCommunicationSlow",
            "etcd_network_peer_round_trip_time_seconds",
            "a round trip to a peer",
            ((0.15, WARNING),),
        ),
    ),
    ("etcdHighNumberOfFailedProposals", _failed_proposals),
    (
        "etcdHighFsyncDurations",
        _slow(
            "etcdHighFsyncDurations",
            "etcd_disk_wal_fsync_duration_seconds",
            "an fsync of the log",
            ((1.0, CRITICAL), (0.5, WARNING)),
        ),
    ),
    (
        "etcdHighCommitDurations",
        _slow(
            "etcdHighCommitDurations",
            "etcd_disk_backend_commit_duration_seconds",
            "a commit of the database",
            ((0.25, WARNING),),
        ),
    ),
    ("etcdExcessiveDatabaseGrowth", _growth),
)
