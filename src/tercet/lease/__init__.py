"""Leases: keys that are deleted when their owner stops renewing them.

`Lessor` is the replicated part, applied from the log in the same way on every member.
"""

from tercet.lease.lessor import TTL_SECONDS_MAX, Lease, Lessor, Listener

__all__ = ["TTL_SECONDS_MAX", "Lease", "Lessor", "Listener"]
