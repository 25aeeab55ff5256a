"""Requests and state that this version cannot apply or serve.

A member that skipped an entry, or served a store without the access rules in it, would silently diverge from the others. It
stops instead, with one line that says what to do.
"""

from __future__ import annotations

from typing import Final

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Backend, Bucket, ReadView

_AUTH_ENABLED_KEY: Final = b"authEnabled"  # etcd: one byte, 1 or 0


class UnsupportedRequest(StorageFailure):
    """A log entry that this version cannot apply. The text names the request."""


class UnsupportedState(StorageFailure):
    """A store that this version cannot serve. The text is one line, for the operator."""


def refuse_entry(index: int, member_id: int, error: UnsupportedRequest) -> StorageFailure:
    """The failure that stops a member at an entry it cannot apply."""
    return StorageFailure(
        f"cannot apply log entry {index}: {error}; this member stops so that it does not diverge. Replace it by a member of a "
        f"version that supports the request: remove this one (etcdctl member remove {member_id:x}), then add the other "
        "(etcdctl member add)"
    )


def check_supported(source: Backend | ReadView) -> None:
    """Raises UnsupportedState for a store with authentication enabled."""
    if source.get(Bucket.AUTH, _AUTH_ENABLED_KEY) == b"\x01":
        raise UnsupportedState(
            "authentication is enabled in this cluster, and this version does not support it: it would serve all keys to "
            "everyone. Disable it on an etcd member (etcdctl auth disable) and start this member again, with an empty data "
            "directory if it was started before; or run etcd instead"
        )
