"""A stored value changed with its checksum: what a bug or a bad memory leaves, which only a comparison of members finds."""

from __future__ import annotations

from pathlib import Path

from tercet.proto import kv_pb2
from tercet.storage.checksums import protect, seed_of
from tercet.storage.interfaces import Bucket
from tests.support.processes import Member, wait_until


def database(member: Member) -> Path:
    """The file of a tercet's backend."""
    (path,) = (member.data / "member" / "snap" / "db").glob("*.lmdb")
    return path


def stored_value(member: Member, key: bytes) -> kv_pb2.KeyValue:
    """The newest value of a key, once it is in the file."""
    found = member.client.range(key, serializable=True).kvs[0]
    wait_until(lambda: found.SerializeToString() in database(member).read_bytes(), f"{member.name} has committed {key!r}")
    return found


def forge(member: Member, stored: kv_pb2.KeyValue) -> None:
    """Change the last byte of a value in the database of a member that does not run. The value must be shorter than a page."""
    before = stored.SerializeToString()
    after = before[:-1] + bytes([before[-1] ^ 1])
    revision_key = stored.mod_revision.to_bytes(8, "big") + b"_" + bytes(8)
    ((_, record),) = protect(seed_of(Bucket.KEY), [(revision_key, after)])
    data = bytearray(database(member).read_bytes())
    at = data.index(before)
    data[at : at + len(record)] = record
    database(member).write_bytes(data)
