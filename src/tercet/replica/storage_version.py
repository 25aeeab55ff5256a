"""The storage version: the schema that the database follows, which etcd's members and tools check before they use one.

It is the text of key `storageVersion` in bucket `meta`, "3.7.0" for example, and of no hash. It follows the cluster version, so
that a database of a 3.6 cluster stays one for 3.6: a member of 3.6 that receives a snapshot with 3.7.0 does not start again.
Until the cluster has decided on a version there is no key, as in etcd 3.5; a cluster version of 3.5 removes it.

Source: etcd server/etcdserver/version/monitor.go, server/storage/schema/schema.go. Departs in: follows in the apply of the
cluster version, instead of up to 4 s later.
"""

from __future__ import annotations

import re
from typing import Final

from tercet.storage.interfaces import Backend, Bucket

_KEY: Final = b"storageVersion"
_TERM: Final = b"term"
_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.")
_FIRST: Final = (3, 6)  # etcd's first version with the key
_WITHOUT: Final = (3, 5)


def stored_version(backend: Backend) -> str | None:
    """None in a database without a term, whose version is not known; one with a term and without the key is of etcd 3.5."""
    version = backend.get(Bucket.META, _KEY)
    if version is not None:
        return version.decode("utf-8", "replace")
    return "3.5.0" if any(backend.get(Bucket.META, _TERM) or b"") else None


def follow(backend: Backend, version: str | None) -> None:
    """Store the major and minor version; for 3.5 remove the key. No etcd migrates to an older one, which changes nothing."""
    match = _VERSION.match(version or "")
    if match is None:
        return
    major, minor = int(match[1]), int(match[2])
    text = f"{major}.{minor}.0".encode()
    stored = backend.get(Bucket.META, _KEY)
    if (major, minor) >= _FIRST and stored != text:
        backend.put(Bucket.META, _KEY, text)
    elif (major, minor) == _WITHOUT and stored is not None:
        backend.delete(Bucket.META, _KEY)


def persists_checkpoints(cluster_version: str | None) -> bool:
    """Whether members of a cluster of this version keep the checkpoints of leases over a restart; 3.5 does not by default."""
    return _is_since_first(cluster_version)


def accepts_unnamed_alarms(cluster_version: str | None) -> bool:
    """Whether members of a cluster of this version store an alarm of a type that they have no name for; 3.5 stops at one."""
    return _is_since_first(cluster_version)


def _is_since_first(cluster_version: str | None) -> bool:
    match = _VERSION.match(cluster_version or "")
    return match is not None and (int(match[1]), int(match[2])) >= _FIRST
