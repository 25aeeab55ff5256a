"""What a test asks of a member's leases: end what is due, at once."""

from __future__ import annotations

from tercet.replica.replica import Replica


def end_due(replica: Replica) -> None:
    """Propose the end of the leases that have expired, without waiting for the next heartbeat interval."""
    replica.leases.tick()


def has_due(replica: Replica) -> bool:
    """Whether this member leads, and a lease has expired and still exists."""
    return any(replica.leases.remaining_seconds(lease) == 0 for lease in replica.state_machine.lessor)
