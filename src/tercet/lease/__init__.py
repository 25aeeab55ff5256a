"""Leases: keys that are deleted when their owner stops renewing them.

`Lessor` is the replicated part, applied from the log in the same way on every member. `Expiry` and `Checkpoints` are the
leader's: they know the time, and what they decide goes through the log.
"""

from tercet.lease.checkpoints import Checkpoints
from tercet.lease.counts import LeaseCounts
from tercet.lease.expiry import Expiry
from tercet.lease.lease import Lease
from tercet.lease.lessor import TTL_SECONDS_MAX, Lessor, Listener

__all__ = ["TTL_SECONDS_MAX", "Checkpoints", "Expiry", "Lease", "LeaseCounts", "Lessor", "Listener"]
