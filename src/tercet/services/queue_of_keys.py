"""The queue behind locks and elections, in the layout of etcd's client library: clients may join it without these services.

    name/<lease id in hex>      one key for each session that wants the lock or campaigns

The key that was created first owns the lock, or leads. The others wait until all keys that were created before their own are
deleted, each watching only the one right before it, so that a deletion wakes one of them. The search for that one looks at all
keys of the queue, so a member makes a few searches at a time: ten thousand clients that wait together keep out no reader.

A key is attached to the session's lease: a client that dies leaves the queue when its lease expires.
Source: etcd client/v3/concurrency (key.go, mutex.go, election.go), by its behaviour.
"""

from __future__ import annotations

from typing import Final

from tercet.proto import kv_pb2, rpc_pb2
from tercet.services.own_client import DELETE, OwnClient
from tercet.slots import Slots

SEARCHES_MAX: Final = 32
"""How many searches a member makes at a time."""

SESSION_SECONDS: Final = 60  # etcd: the TTL of a session without a lease of its own

_Compare = rpc_pb2.Compare
_Range = rpc_pb2.RangeRequest


def prefix_of(name: bytes) -> bytes:
    """The prefix of the keys of one lock or election."""
    return name + b"/"


def key_of(name: bytes, lease_id: int) -> bytes:
    """The key of a session; Go writes a negative id with a minus sign."""
    return prefix_of(name) + b"%x" % lease_id


async def session_of(client: OwnClient, lease_id: int) -> int:
    """The lease of a request; 0: a new one, which nothing keeps alive."""
    return lease_id or await client.grant(SESSION_SECONDS)


def created_at(key: bytes, revision: int) -> rpc_pb2.Compare:
    """Whether `key` was created at this revision; 0: whether it does not exist."""
    return _Compare(key=key, target=_Compare.CREATE, result=_Compare.EQUAL, create_revision=revision)


def put_op(key: bytes, value: bytes, lease_id: int) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease_id))


def get_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=_Range(key=key))


def first_created(name: bytes) -> rpc_pb2.RangeRequest:
    """The owner of the lock, or the leader."""
    start = prefix_of(name)
    return _Range(key=start, range_end=end_of(start), limit=1, sort_order=_Range.ASCEND, sort_target=_Range.CREATE)


def end_of(prefix: bytes) -> bytes:
    """The end of the range of a prefix, which ends with a slash."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


async def wait_for_turn(client: OwnClient, name: bytes, create_revision: int, searches: Slots) -> None:
    """Return when no key is left that was created before `create_revision`. Raises StatusError.

    searches: limits those of this member.
    """
    start = prefix_of(name)
    request = _Range(
        key=start,
        range_end=end_of(start),
        limit=1,
        sort_order=_Range.DESCEND,
        sort_target=_Range.CREATE,
        max_create_revision=create_revision - 1,
    )
    while True:
        async with searches:
            found = await client.range(request)
        if not found.kvs:
            return
        await _wait_deleted(client, found.kvs[0].key, found.header.revision)


async def _wait_deleted(client: OwnClient, key: bytes, revision: int) -> None:
    async with client.watch(key, start_revision=revision) as watch:
        while True:
            response = await watch.next()
            if any(event.type == DELETE for event in response.events):
                return


def kv_in(response: rpc_pb2.ResponseOp) -> kv_pb2.KeyValue | None:
    """The first pair that a Range operation of a Txn has found."""
    kvs = response.response_range.kvs
    return kvs[0] if kvs else None
