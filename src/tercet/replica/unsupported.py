"""Requests that this version cannot apply.

A member that skipped an entry would silently diverge from the others. It stops instead, with one line that says what to do.
"""

from __future__ import annotations

from typing import Final

from tercet.errors import StorageFailure

JOINT_CHANGE: Final = "a joint configuration change, which etcd members neither propose nor apply"


class UnsupportedRequest(StorageFailure):
    """A log entry that this version cannot apply. The text names the request."""


def refuse_entry(index: int, member_id: int, error: UnsupportedRequest) -> StorageFailure:
    """The failure that stops a member at an entry it cannot apply."""
    return StorageFailure(
        f"cannot apply log entry {index}: {error}; this member stops so that it does not diverge. Replace it by a member of a "
        f"version that supports the request: remove this one (etcdctl member remove {member_id:x}), then add the other "
        "(etcdctl member add)"
    )
