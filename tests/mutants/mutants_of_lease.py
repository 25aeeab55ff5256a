"""Mutants of lease/."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "expiring_lease_renewed",
        "lease/expiry.py",
        "            return lease.is_ending or lease.expires_at <= now\n",
        "            return False\n",
        "a client is told that a lease lives on whose revoke is in the log",
    ),
    Mutant(
        "leases_expire_a_second_early",
        "lease/expiry.py",
        "        deadline = now + lease.ttl_seconds\n",
        "        deadline = now + lease.ttl_seconds - 1\n",
        "a lease ends before its TTL is over",
    ),
    Mutant(
        "expired_leases_not_revoked",
        "lease/expiry.py",
        "            heap.remove(lease)\n            lease.is_ending = True\n            expired.append(lease)\n",
        "            heap.remove(lease)\n            lease.is_ending = True\n",
        "an expired lease and its keys stay for ever",
    ),
    Mutant(
        "lease_granted_without_a_deadline",
        "replica/lease_keeper.py",
        "            self._expiry.renew(lease, now)\n            self._checkpoints.schedule(lease, now)\n",
        "            self._checkpoints.schedule(lease, now)\n",
        "a lease that is granted while this member leads never expires",
    ),
    Mutant(
        "renewals_trusted_after_a_transfer",
        "replica/lease_keeper.py",
        "if elapsed > self._stall_seconds or self._raft.leader_transferee:",
        "if elapsed > self._stall_seconds:",
        "a leader that has been deposed by its own transfer renews leases for longer than its successor extends them",
        unit_test="tests/replica/test_lease_keeper.py"
        "::test_a_leader_whose_transfer_of_leadership_has_ended_confirms_that_it_leads",
    ),
)
