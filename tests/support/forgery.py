"""Changes a stored value together with its checksum, like a bug or faulty memory: only comparing members finds it."""

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
    """Wait until the newest value of a key is in the file, and return it."""
    found = member.client.range(key).kvs[0]  # linearizable: the member has applied the put
    wait_until(lambda: found.SerializeToString() in database(member).read_bytes(), f"{member.name} has committed {key!r}")
    return found


def forge(member: Member, stored: kv_pb2.KeyValue) -> None:
    """Change the last byte of a value in the database of a stopped member. The value must be shorter than a page."""
    before = stored.SerializeToString()
    after = before[:-1] + bytes([before[-1] ^ 1])
    revision_key = stored.mod_revision.to_bytes(8, "big") + b"_" + bytes(8)
    ((_, record),) = protect(seed_of(Bucket.KEY), [(revision_key, after)])
    data = bytearray(database(member).read_bytes())
    at = data.index(before)
    data[at : at + len(record)] = record
    database(member).write_bytes(data)
