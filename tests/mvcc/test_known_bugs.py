"""Bugs that etcd had, numbered as in docs/known-bugs.md."""

from __future__ import annotations

import pytest

from tercet.errors import COMPACTED
from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.member import Member

Range, Put, Delete, Txn, Op = (
    rpc_pb2.RangeRequest,
    rpc_pb2.PutRequest,
    rpc_pb2.DeleteRangeRequest,
    rpc_pb2.TxnRequest,
    rpc_pb2.RequestOp,
)


@pytest.mark.parametrize("removed", ["nothing", "as 3.7 does", "as 3.5 does", "as 3.5 does, interrupted"])
def test_d06_the_revision_never_goes_back(removed: str) -> None:
    """etcd #17780: the newest revision is a compacted tombstone; after a crash the store must not start below it."""
    member = Member()
    member.call(Put(key=b"k"))
    member.call(Delete(key=b"k"))
    member.call(rpc_pb2.CompactionRequest(revision=3))
    if removed != "nothing":
        while member.store.compaction_step():
            pass
    if removed.startswith("as 3.5 does"):  # the database of a 3.5 member, which drops the tombstone too
        for key, _ in list(member.backend.scan(Bucket.KEY)):
            member.backend.delete(Bucket.KEY, key)
    if removed.endswith("interrupted"):
        member.backend.delete(Bucket.META, b"finishedCompactRev")
    member.backend.applied(3, 1)
    member.backend.commit_now()
    survivor = Member(member.backend.after_crash())
    assert (survivor.store.revision, survivor.store.compact_revision) == (3, 3)
    assert survivor.call(Range(key=b"k")) == rpc_pb2.RangeResponse(header=rpc_pb2.ResponseHeader(revision=3))
    assert survivor.call(Range(key=b"\0", range_end=b"\0", revision=3)).count == 0
    assert survivor.call(Range(key=b"k", revision=2)) == (int(COMPACTED.code), COMPACTED.message)
    assert survivor.call(Put(key=b"k")).header.revision == 4
    assert survivor.call(Range(key=b"k")).kvs[0].version == 1


@pytest.mark.parametrize("steps", [0, 1, 100])
@pytest.mark.parametrize("restarted", [False, True])
def test_d15_a_txn_with_a_range_at_a_compacted_revision(steps: int, restarted: bool) -> None:
    """etcd #18667: all members reject it and write nothing, whatever each has already removed of the compacted revisions."""
    member = Member()
    for value in (b"1", b"2", b"3"):
        member.call(Put(key=b"k", value=value))
    member.call(rpc_pb2.CompactionRequest(revision=3))
    for _ in range(steps):
        member.store.compaction_step(limit=1)
    if restarted:
        member = Member(member.backend.reopened())
    for revision in (1, 2):
        request = Txn(success=[Op(request_put=Put(key=b"l")), Op(request_range=Range(key=b"k", revision=revision))])
        assert member.call(request) == (int(COMPACTED.code), COMPACTED.message)
    assert member.store.revision == 4
    request = Txn(success=[Op(request_put=Put(key=b"l")), Op(request_range=Range(key=b"k", revision=3))])
    answer = member.call(request)
    assert (answer.header.revision, answer.responses[1].response_range.kvs[0].value) == (5, b"2")
