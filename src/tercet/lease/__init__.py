"""Leases: keys that end with whoever they speak for.

`Lessor` is the replicated part, applied from the log alike on every member.
"""

from tercet.lease.lessor import TTL_SECONDS_MAX, Lease, Lessor, Listener

__all__ = ["TTL_SECONDS_MAX", "Lease", "Lessor", "Listener"]
