"""What the API alone shows: members, quorum, leader, reads, alarms, versions, space, progress, clocks, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tercet.cli.ctl.doctor.facts import Facts
from tercet.cli.ctl.doctor.finding import CRITICAL, WARNING, Check, Finding
from tercet.cli.metrics.alerts import REMEDIES
from tercet.gotext.duration import format_seconds
from tercet.gotext.strconv import humanize_bytes

_LAG_ENTRIES_MAX = 5000  # a member with more committed entries to apply rejects writes
_READ_SECONDS_MAX = 0.5
_SKEW_SECONDS_MAX = 2.0  # the header that shows the clock has whole seconds
_CERTIFICATE_DAYS = ((1, CRITICAL), (14, WARNING))
_QUOTA_SHARES = ((0.95, CRITICAL), (0.8, WARNING))
_FRAGMENTED_BYTES_MIN = 100 << 20
_ALARM_REMEDIES = {
    "NOSPACE": "compact, defragment every member, then `alarm disarm`: the cluster rejects writes until then",
    "CORRUPT": "compare `endpoint hashkv --cluster`; replace the member that differs, with an empty data directory",
}


def judge(facts: Facts) -> Iterator[Check]:
    """All checks that need no metrics. A condition of etcd's alert rules has the alert's name."""
    silent = "" if facts.answering else "no member answers"
    yield Check("etcdMembersDown", list(_members(facts)))
    yield Check("client URLs", list(_client_urls(facts)), silent)
    yield Check("etcdInsufficientMembers", list(_quorum(facts)))
    yield Check("etcdNoLeader", list(_leader(facts)), silent)
    yield Check("linearizable reads", list(_reads(facts)), silent)
    yield Check("alarms", list(_alarms(facts)), f"no alarm list: {facts.list_error}" if facts.list_error else "")
    yield Check("versions", list(_versions(facts)), silent)
    yield Check("etcdDatabaseQuotaLowSpace", list(_quota(facts)), silent)
    yield Check("etcdDatabaseHighFragmentationRatio", list(_fragmentation(facts)), silent)
    yield Check("members keep up", list(_lag(facts)), silent)
    yield _clocks(facts)
    yield _certificates(facts)


def _members(facts: Facts) -> Iterator[Finding]:
    for member in facts.members:
        if member.status is None:
            yield Finding(WARNING, member.title, f"does not answer: {member.error}", REMEDIES["etcdMembersDown"])


def _client_urls(facts: Facts) -> Iterator[Finding]:
    """Addresses in the member list that clients are sent to, and that do not answer here though the member runs."""
    for member in facts.answering:
        for url, reason in member.failed.items():
            text = f"its client URL {url} does not answer from here: {reason}"
            yield Finding(WARNING, member.title, text, "set --advertise-client-urls to addresses that clients reach")


def _quorum(facts: Facts) -> Iterator[Finding]:
    if facts.list_error:
        yield Finding(CRITICAL, "cluster", f"no member list: {facts.list_error}", "check --endpoints, certificates and user")
        return
    voters = facts.voters
    healthy = sum(member.read_seconds is not None for member in voters)
    needed = len(voters) // 2 + 1
    if healthy < needed:
        text = f"{healthy} of {len(voters)} voters serve linearizable reads, {needed} are needed: no quorum"
        yield Finding(CRITICAL, "cluster", text, REMEDIES["etcdInsufficientMembers"])
    elif healthy == needed and len(voters) > 2:
        text = f"{healthy} of {len(voters)} voters are healthy: the next failure stops the cluster"
        yield Finding(WARNING, "cluster", text, REMEDIES["etcdMembersDown"])
    elif len(voters) == 2:
        text = "two voters need each other: the failure of either stops the cluster"
        yield Finding(WARNING, "cluster", text, "add a third member: tercetctl member add --learner, then promote")


def _leader(facts: Facts) -> Iterator[Finding]:
    leaders = {}
    for member in facts.answering:
        status = member.status
        if status is not None and not status.leader:
            yield Finding(CRITICAL, member.title, "knows no leader", REMEDIES["etcdNoLeader"])
        elif status is not None:
            leaders[status.leader] = status.raftTerm
    if len(leaders) > 1:
        shown = ", ".join(f"{leader:x} in term {term}" for leader, term in leaders.items())
        yield Finding(
            WARNING, "cluster", f"members name different leaders: {shown}", "run doctor again; an election may be under way"
        )


def _reads(facts: Facts) -> Iterator[Finding]:
    for member in facts.answering:
        if member.read_error:
            yield Finding(CRITICAL, member.title, f"cannot read: {member.read_error}", REMEDIES["etcdNoLeader"])
        elif member.read_seconds is not None and member.read_seconds > _READ_SECONDS_MAX:
            took = format_seconds(member.read_seconds)
            yield Finding(WARNING, member.title, f"a linearizable read took {took}", REMEDIES["etcdMemberCommunicationSlow"])


def _alarms(facts: Facts) -> Iterator[Finding]:
    names = {member.id: member.title for member in facts.members}
    for member_id, alarm in facts.alarms:
        remedy = _ALARM_REMEDIES.get(alarm, "see the member's log")
        yield Finding(CRITICAL, names.get(member_id, f"{member_id:x}"), f"alarm {alarm} is active", remedy)


def _versions(facts: Facts) -> Iterator[Finding]:
    versions = {member.title: member.status.version for member in facts.answering if member.status is not None}
    if len(set(versions.values())) > 1:
        shown = ", ".join(f"{title}: {version}" for title, version in versions.items())
        yield Finding(
            WARNING, "cluster", f"members have different versions: {shown}", "finish the upgrade: one version for all"
        )
    for member in facts.answering:
        if member.status is not None and member.status.downgradeInfo.enabled:
            target = member.status.downgradeInfo.targetVersion
            text = f"a downgrade to {target} is enabled"
            yield Finding(WARNING, "cluster", text, "replace the members' programs, or end it: tercetctl downgrade cancel")
            return


def _quota(facts: Facts) -> Iterator[Finding]:
    for member in facts.answering:
        status = member.status
        share = status.dbSize / status.dbSizeQuota if status is not None and status.dbSizeQuota else 0.0
        severity = next((severity for limit, severity in _QUOTA_SHARES if share > limit), None)
        if severity and status is not None:
            text = f"the database has {share:.0%} of its quota of {humanize_bytes(status.dbSizeQuota)}"
            yield Finding(severity, member.title, text, REMEDIES["etcdDatabaseQuotaLowSpace"])


def _fragmentation(facts: Facts) -> Iterator[Finding]:
    for member in facts.answering:
        status = member.status
        if status is not None and status.dbSize > _FRAGMENTED_BYTES_MIN and status.dbSizeInUse < status.dbSize / 2:
            text = f"{humanize_bytes(status.dbSize - status.dbSizeInUse)} of {humanize_bytes(status.dbSize)} are unused"
            yield Finding(WARNING, member.title, text, REMEDIES["etcdDatabaseHighFragmentationRatio"])


def _lag(facts: Facts) -> Iterator[Finding]:
    newest = max((member.status.raftIndex for member in facts.answering if member.status is not None), default=0)
    for member in facts.answering:
        applied = member.status.raftAppliedIndex if member.status is not None else newest
        if newest - applied > _LAG_ENTRIES_MAX:
            text = f"has {newest - applied:,} entries to apply"
            yield Finding(
                WARNING, member.title, text, "it receives or applies too slowly: check its disk, processor and network"
            )


def _clocks(facts: Facts) -> Check:
    """Between members and against this host; a lease's end and a certificate's validity depend on them."""
    skews = {member.title: member.metrics[0].clock_skew_seconds for member in facts.answering if member.metrics}
    known = {title: skew for title, skew in skews.items() if skew is not None}
    if not known:
        return Check("clocks", (), "no member's clock could be read (it is in the answer to /metrics)")
    findings = [
        Finding(
            WARNING, title, f"its clock differs from this host's by {skew:+.0f} s", "run chrony or another NTP client on both"
        )
        for title, skew in known.items()
        if abs(skew) > _SKEW_SECONDS_MAX
    ]
    return Check("clocks", findings)


def _certificates(facts: Facts) -> Check:
    ends = {member.title: member.certificate_ends for member in facts.answering if member.certificate_ends is not None}
    if not ends:
        return Check("certificates", (), "no member presented a certificate that was verified")
    findings = []
    for title, end in ends.items():
        days = (end - datetime.now(UTC)).total_seconds() / 86400
        severity = next((severity for limit, severity in _CERTIFICATE_DAYS if days < limit), None)
        if severity:
            text = f"its certificate ends on {end:%Y-%m-%d %H:%M} UTC, in {days:.1f} days"
            findings.append(Finding(severity, title, text, REMEDIES["tercetCertificateExpires"]))
    return Check("certificates", findings)
