"""What the leader does with leases: expiry, renewals, checkpoints; and what a member does not do that leads no more."""

from __future__ import annotations

from typing import Any

import pytest

from tercet import errors
from tercet.errors import StatusError
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import Message, MessageType
from tercet.replica.lease_keeper import REVOKES_PENDING_MAX
from tercet.replica.membership import Member
from tercet.replica.replica import Options
from tercet.replica.reset import reset
from tests.replica.lone_member import LEADER, SELF, LoneMember, append

ALONE = [Member(SELF, ("http://1:2380",))]


def leading(**options: Any) -> LoneMember:
    member = LoneMember(initial_members=ALONE, options=Options(**options))
    member.lead()
    return member


def propose(member: LoneMember, field: str, message: Any) -> Any:
    outcomes: list[Any] = []
    member.replica.propose(field, message.SerializeToString(), message, outcomes.append)
    member.settle()
    return outcomes[0] if outcomes else None


def grant(member: LoneMember, lease: int, ttl: int) -> None:
    assert isinstance(propose(member, "lease_grant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)), bytes)


def put(member: LoneMember, key: bytes, lease: int) -> None:
    assert isinstance(propose(member, "put", rpc_pb2.PutRequest(key=key, lease=lease)), bytes)


def wait(member: LoneMember, seconds: float) -> None:
    """Let time pass, tick by tick, as a driver does."""
    for _ in range(round(seconds * 10)):
        member.now += 0.1
        member.replica.tick()
        member.settle()


def renew(member: LoneMember, lease: int) -> list[Any]:
    outcomes: list[Any] = []
    member.replica.leases.renew(lease, outcomes.append)
    member.settle()
    return outcomes


def requests(member: LoneMember, field: str) -> list[Any]:
    """The requests of one field in the log."""
    found = [internal_pb2.InternalRaftRequest.FromString(entry.data) for entry in member.disk.entries if entry.data]
    return [getattr(one, field) for one in found if one.HasField(field)]


def test_a_lease_expires_through_the_log_with_its_keys_and_not_before_its_ttl() -> None:
    member = leading()
    grant(member, 7, 5)
    put(member, b"k", 7)
    wait(member, 4.8)
    assert member.replica.leases.renew_now(7) == 5
    wait(member, 4.8)
    assert member.replica.lessor.get(7) is not None
    wait(member, 0.5)
    assert member.replica.lessor.get(7) is None
    assert member.replica.revision == 3
    assert [one.ID for one in requests(member, "lease_revoke")] == [7]
    counts = member.replica.lease_counts
    assert (counts.granted, counts.renewed, counts.revoked, counts.expired) == (1, 1, 1, 1)


def test_d25_a_renewal_of_an_expired_lease_waits_for_the_revoke_and_fails() -> None:
    member = leading()
    grant(member, 7, 5)
    member.now += 5.0
    outcomes: list[Any] = []
    member.replica.leases._ticked_at = member.now  # no gap
    assert member.replica.leases.renew_now(7) == 0
    member.replica.leases.renew(7, outcomes.append)
    assert outcomes == []
    wait(member, 0.2)
    assert outcomes == [errors.LEASE_NOT_FOUND]
    assert renew(member, 7) == [errors.LEASE_NOT_FOUND]


def test_d25_a_failed_revoke_is_proposed_again() -> None:
    member = leading()
    grant(member, 7, 5)
    propose(member, "alarm", rpc_pb2.AlarmRequest(action=1, memberID=SELF, alarm=rpc_pb2.CORRUPT))
    wait(member, 6.0)
    assert member.replica.lessor.get(7) is not None
    propose(member, "alarm", rpc_pb2.AlarmRequest(action=2, memberID=SELF, alarm=rpc_pb2.CORRUPT))
    wait(member, 1.5)
    assert member.replica.lessor.get(7) is None


def test_the_deadline_of_a_lease_does_not_outlive_a_reset() -> None:
    member = leading()
    grant(member, 7, 5)
    grant(member, 8, 5)
    reset(member.replica)
    grant(member, 7, 100)
    wait(member, 10.0)
    assert member.replica.lessor.get(7) is not None
    assert requests(member, "lease_revoke") == []
    wait(member, 91.0)
    assert member.replica.lessor.get(7) is None


def test_a_renewal_that_waits_for_a_revoke_does_not_outlive_a_reset() -> None:
    member = leading()
    grant(member, 7, 5)
    member.now += 5.0
    member.replica.leases._ticked_at = member.now  # no gap
    outcomes: list[Any] = []
    member.replica.leases.renew(7, outcomes.append)
    reset(member.replica)
    assert outcomes == [errors.NOT_PRIMARY], "its caller asks again, and finds no lease"
    assert renew(member, 7) == [errors.LEASE_NOT_FOUND]


def test_thousands_of_renewals_that_wait_for_one_revoke_end_over_several_turns() -> None:
    member = leading()
    grant(member, 7, 5)
    member.now += 5.0
    leases = member.replica.leases
    leases._ticked_at = member.now  # no gap
    outcomes: list[Any] = []
    for _ in range(2000):
        leases.renew(7, outcomes.append)
    reset(member.replica)
    turns = 0
    while len(outcomes) < 2000:
        assert len(outcomes) <= 500 * (turns + 1)
        turns += 1
        assert leases.late.call_back() == (len(outcomes) < 2000)
    assert outcomes == [errors.NOT_PRIMARY] * 2000


def test_a_leader_takes_leases_over_once_it_has_applied_an_entry_of_its_term() -> None:
    """Before that, a revoke of the old leader may be in its log, and it would renew a lease that is to go."""
    member = LoneMember()
    member.lead()
    assert member.replica.is_leader
    assert not member.replica.leases.is_primary  # no other member has acknowledged its first entry
    assert renew(member, 7) == [errors.NOT_PRIMARY]
    acknowledge(member)
    assert member.replica.leases.is_primary


def acknowledge(member: LoneMember) -> None:
    """LEADER, a follower now, has everything in the log."""
    last = member.raft.log.last_index
    member.receive(Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=member.raft.term, index=last))
    member.settle()


def granted_by_three(lease: int, ttl: int) -> LoneMember:
    """A leader of three members with a lease."""
    member = LoneMember()
    member.lead()
    acknowledge(member)
    request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)
    member.replica.propose("lease_grant", request.SerializeToString(), request, lambda outcome: None)
    member.settle()
    acknowledge(member)
    assert member.replica.lessor.get(lease) is not None
    return member


def test_d23_a_deposed_leader_revokes_nothing_and_forwards_nothing() -> None:
    """The old leader does not run for a minute, and another is elected. Its first tick comes before any message."""
    member = granted_by_three(7, 5)
    term = member.raft.term
    member.sent.clear()
    member.now += 60.0
    member.replica.tick()
    # In the same turn it hears of the new leader.
    member.receive(append(member.raft.log.last_index, term, commit=0, term=term + 5))
    member.settle()
    assert not member.replica.is_leader
    assert member.take_sent(MessageType.PROP) == []
    wait(member, 3.0)
    assert member.take_sent(MessageType.PROP) == []
    assert member.replica.lessor.get(7) is not None


def test_a_leader_that_did_not_run_confirms_its_leadership_before_it_renews() -> None:
    member = granted_by_three(7, 50)
    assert member.replica.leases.renew_now(7) == 50
    member.now += 2.0  # stopped; others may have elected a leader
    assert member.replica.leases.renew_now(7) == 0
    member.replica.tick()
    assert member.replica.leases.renew_now(7) == 0
    assert renew_confirmed(member, 7) == [50]
    assert member.replica.leases.renew_now(7) == 50


def renew_confirmed(member: LoneMember, lease: int) -> list[Any]:
    """Renew a lease, and confirm the leadership."""
    outcomes: list[Any] = []
    member.replica.leases.renew(lease, outcomes.append)
    member.settle()
    assert outcomes == []
    for heartbeat in member.take_sent(MessageType.HEARTBEAT):
        if heartbeat.context:
            answer = Message(
                MessageType.HEARTBEAT_RESP, to=SELF, from_=LEADER, term=member.raft.term, context=heartbeat.context
            )
            member.receive(answer)
            member.settle()
    return outcomes


def test_a_leader_whose_transfer_of_leadership_has_ended_confirms_that_it_leads() -> None:
    """Its successor may have been elected at once. If the two are cut off from each other then, check-quorum deposes the old
    leader only after two election timeouts, and the new one extends all leases by one.
    """
    member = granted_by_three(7, 50)
    member.replica.transfer_leadership(LEADER)
    assert member.raft.leader_transferee == LEADER
    ticks = 0
    while member.raft.leader_transferee:
        ticks += 1
        wait(member, 0.1)
    assert member.replica.is_leader
    assert ticks == member.raft.config.election_ticks
    assert member.replica.leases.renew_now(7) == 0
    assert renew_confirmed(member, 7) == [50]
    assert member.replica.leases.renew_now(7) == 50


def test_renewals_that_wait_are_failed_when_the_leader_is_deposed_or_stops() -> None:
    for stop in (False, True):
        member = granted_by_three(7, 5)
        wait_for_expiry: list[Any] = []
        for _ in range(52):
            member.now += 0.1
            member.replica.leases.tick()
        member.replica.leases.renew(7, wait_for_expiry.append)
        assert wait_for_expiry == []
        if stop:
            member.replica.stop()
        else:
            member.receive(append(member.raft.log.last_index, member.raft.term, term=member.raft.term + 1))
            member.settle()
        assert wait_for_expiry == [errors.STOPPED if stop else errors.NOT_PRIMARY]


def test_no_more_revokes_are_in_the_log_than_may_be() -> None:
    """Without a quorum revokes do not pile up."""
    member = granted_by_three(1, 5)
    for lease in range(2, 400):
        request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=5)
        member.replica.propose("lease_grant", request.SerializeToString(), request, lambda outcome: None)
    member.settle()
    acknowledge(member)
    assert len(member.replica.lessor) == 399
    for _ in range(80):
        member.now += 0.1
        member.replica.leases.tick()
        member.settle()
    assert len(requests(member, "lease_revoke")) == REVOKES_PENDING_MAX


def test_d24_checkpoints_record_what_is_left_and_a_renewal_clears_them() -> None:
    member = leading(lease_checkpoint_seconds=10.0)
    grant(member, 7, 30)
    grant(member, 8, 8)  # shorter than the interval
    wait(member, 10.2)
    lease = member.replica.lessor.get(7)
    assert lease is not None
    assert lease.remaining_seconds == 20
    assert member.replica.leases.renew_now(7) == 0  # the checkpoint must be cleared through the log first
    assert renew(member, 7) == [30]
    assert lease.remaining_seconds == 0
    checkpoints = [(one.ID, one.remaining_TTL) for entry in requests(member, "lease_checkpoint") for one in entry.checkpoints]
    assert checkpoints == [(7, 20), (7, 0)]
    wait(member, 10.2)
    assert lease.remaining_seconds == 20


def test_d24_changes_of_the_leader_do_not_extend_a_checkpointed_lease_without_limit() -> None:
    """Every 15 s the leader changes; nobody renews. Without checkpoints the lease would live forever."""
    member = leading(lease_checkpoint_seconds=10.0)
    grant(member, 7, 60)
    lived = 0.0
    while member.replica.lessor.get(7) is not None and lived < 300:
        wait(member, 15.0)
        lived += 15.0
        member = member.after_power_cut()
        member.replica.leases._checkpoints._interval_seconds = 10.0
        member.lead()
    assert 60 <= lived <= 135


def test_a_renewal_during_a_checkpoint_clears_it() -> None:
    """The entry with the checkpoint is not committed yet when the lease is renewed."""
    member = granted_by_three(7, 30)
    member.replica.leases._checkpoints._interval_seconds = 10.0
    member.replica.leases.granted(member.replica.lessor.get(7))  # type: ignore[arg-type]
    for _ in range(102):
        member.now += 0.1
        member.replica.leases.tick()
    assert requests(member, "lease_checkpoint") == []
    member.settle()
    assert len(requests(member, "lease_checkpoint")) == 1
    assert member.replica.leases.renew_now(7) == 0
    outcomes: list[Any] = []
    member.replica.leases.renew(7, outcomes.append)
    member.settle()
    assert outcomes == []
    acknowledge(member)
    assert outcomes == [30]
    lease = member.replica.lessor.get(7)
    assert lease is not None
    assert lease.remaining_seconds == 0


def test_without_fast_renewal_what_is_committed_is_applied_first() -> None:
    member = leading(fast_lease_renewal=False)
    grant(member, 7, 30)
    assert member.replica.leases.renew_now(7) == 0
    assert renew(member, 7) == [30]


@pytest.mark.parametrize("lag", [0, 1])
def test_an_unknown_lease_is_looked_for_after_what_is_committed_is_applied(lag: int) -> None:
    member = leading()
    member.raft.commit_index += lag
    outcomes: list[Any] = []
    member.replica.leases.renew(9, outcomes.append)
    assert outcomes == ([] if lag else [errors.LEASE_NOT_FOUND])
    if lag:
        member.now += 1.1
        member.replica.leases.tick()
        assert outcomes == [errors.TIMEOUT_WAIT_APPLIED]


def test_d26_the_remaining_ttl_is_neither_negative_nor_longer_than_promised() -> None:
    member = leading()
    grant(member, 7, 30)
    lease = member.replica.lessor.get(7)
    assert lease is not None
    member.now += 10
    assert member.replica.leases.remaining_seconds(lease) == pytest.approx(20)
    member.now += 100
    assert member.replica.leases.remaining_seconds(lease) == 0
    again = member.after_power_cut()
    found = again.replica.lessor.get(7)
    assert found is not None
    assert again.replica.leases.remaining_seconds(found) is None
    again.lead()
    assert again.replica.leases.remaining_seconds(found) == pytest.approx(31)


def test_the_error_texts_are_etcds() -> None:
    texts: list[tuple[StatusError, str]] = [
        (errors.NOT_PRIMARY, "not a primary lessor"),
        (errors.LEADER_CHANGED, "etcdserver: leader changed"),
        (errors.TIMEOUT_WAIT_APPLIED, "etcdserver: request timed out, waiting for the applied index took too long"),
    ]
    assert [error.message for error, _ in texts] == [text for _, text in texts]
