"""The same requests to a real etcd 3.5.1 and to the store: both give the same responses, errors, revisions and hashes.

The store follows 3.7. The places where 3.5.1 differs are handled here and nowhere else:
  - keys_only without sorting by value clears the lease (R11): `_as_3_7`;
  - a rejected txn reports the first failing operation (T9); 3.5.1 checks all Puts before
    any Range, and the key of a Put before its lease: `_refusal_3_5`;
  - HashKV at exactly the compacted revision is answered (N23), so it is not requested here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from tercet.bolt import BoltFile
from tercet.errors import RequestError
from tercet.mvcc import Store, hash_all, hash_kv
from tercet.mvcc.compare import Comparisons
from tercet.mvcc.encoding import encode_revision_key
from tercet.mvcc.txn import Operations, PlanCheck
from tercet.mvcc.work import finish
from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend
from tests.mvcc.etcd import Etcd, connected_etcd
from tests.mvcc.histories import Histories
from tests.mvcc.member import Member

pytestmark = pytest.mark.server_process


class Twins:
    """An etcd and a store that receive the same requests."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.member = Member()

    def call(self, request: Message) -> None:
        expected = _refusal_3_5(self.member.store, request) if isinstance(request, rpc_pb2.TxnRequest) else None
        theirs, ours = _as_3_7(request, self.etcd.call(request)), self.member.call(request)
        if isinstance(ours, tuple) and isinstance(theirs, tuple) and ours != theirs and theirs == expected:
            return
        assert theirs == ours, f"\n{request}\n--- etcd ---\n{theirs}\n--- store ---\n{ours}"

    def compare_hash(self, revision: int = 0) -> None:
        store = self.member.store
        theirs = self.etcd.call(rpc_pb2.HashKVRequest(revision=revision))
        ours = hash_kv(self.member.backend.snapshot(), store.hash_revision(revision), store.compact_revision)
        assert (theirs.hash, theirs.compact_revision, theirs.header.revision) == (
            ours.hash,
            ours.compact_revision,
            store.revision,
        ), f"at revision {revision}"

    def compare_hash_while_compacting(self) -> None:
        self.compare_hash()
        while self.member.store.compaction_step(limit=1):
            self.compare_hash()
        self.compare_hash()


def _as_3_7(request: Message, answer: Message) -> Message:
    """3.5.1's response as 3.7 would give it."""
    if isinstance(request, rpc_pb2.RangeRequest) and isinstance(answer, rpc_pb2.RangeResponse):
        for kv in answer.kvs if request.keys_only and request.sort_target != rpc_pb2.RangeRequest.VALUE else ():
            kv.ClearField("lease")
    if isinstance(request, rpc_pb2.TxnRequest) and isinstance(answer, rpc_pb2.TxnResponse):
        for op, response in zip(request.success if answer.succeeded else request.failure, answer.responses, strict=True):
            kind = op.WhichOneof("request")
            if kind in ("request_range", "request_txn"):
                _as_3_7(getattr(op, kind), getattr(response, kind.replace("request", "response")))
    return answer


def _refusal_3_5(store: Store, request: rpc_pb2.TxnRequest) -> tuple[int, str] | None:
    """The error that 3.5.1 gives for a txn: of the first failing Put, its key before its lease; else of the first Range."""
    operations = _taken(store, request)
    for kind in ("request_put", "request_range"):
        for op in operations:
            if op.HasField(kind):
                without_lease = rpc_pb2.RequestOp()
                without_lease.CopyFrom(op)
                if kind == "request_put":
                    without_lease.request_put.lease = 0
                try:
                    for one in (without_lease, op):
                        PlanCheck(store._write, store._read(store.revision), store.compact_revision).check(kind, one)
                except RequestError as error:
                    return int(error.code), error.message
    return None


def _taken(store: Store, request: rpc_pb2.TxnRequest) -> list[rpc_pb2.RequestOp]:
    """The operations of the branches that run, in order."""
    comparisons = Comparisons(store._read(store.revision), request)
    finish(comparisons)
    operations = Operations(comparisons.plan)
    return list(iter(operations.next, None))


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with connected_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture(scope="module")
def twins(etcd: Etcd) -> Twins:
    twins = Twins(etcd)
    twins.compare_hash()  # N25: hash of an empty store
    return twins


@pytest.mark.parametrize("seed", range(10))
def test_random_histories_get_the_same_responses(twins: Twins, seed: int) -> None:
    histories = Histories(seed)
    member = twins.member
    twins.call(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
    for step in range(250):
        histories.revision, histories.compacted = member.store.revision, member.store.compact_revision
        twins.call(histories.request())
        if histories.random.random() < 0.1:
            member.store.compaction_step(limit=histories.random.choice([1, 5, 1000]))
        if step % 25 == 0:
            twins.compare_hash()
            if member.store.revision > member.store.compact_revision + 1:
                twins.compare_hash(histories.random.randint(max(1, member.store.compact_revision + 1), member.store.revision))
    member.store.index.check()


def test_c3_a_kept_tombstone_does_not_change_the_hash(twins: Twins) -> None:
    """C3: 3.5.1 drops the tombstone exactly at the compacted revision, 3.7 keeps it; members of both must agree."""
    twins.call(rpc_pb2.PutRequest(key=b"c3/stays", value=b"v"))
    twins.call(rpc_pb2.PutRequest(key=b"c3/goes", value=b"v"))
    twins.call(rpc_pb2.DeleteRangeRequest(key=b"c3/goes"))
    store = twins.member.store
    tombstone = encode_revision_key(store.revision, 0) + b"t"
    twins.call(rpc_pb2.CompactionRequest(revision=store.revision, physical=True))
    twins.compare_hash_while_compacting()
    assert twins.member.backend.get(Bucket.KEY, tombstone) is not None
    twins.call(rpc_pb2.PutRequest(key=b"c3/later", value=b"v"))
    twins.compare_hash()
    twins.call(rpc_pb2.CompactionRequest(revision=store.revision, physical=True))
    twins.compare_hash_while_compacting()
    assert twins.member.backend.get(Bucket.KEY, tombstone) is None


def test_a_reopened_store_still_agrees(twins: Twins) -> None:
    histories = Histories(77)
    for step in range(120):
        histories.revision, histories.compacted = twins.member.store.revision, twins.member.store.compact_revision
        twins.call(histories.request())
        if step % 10 == 0:
            twins.member = Member(twins.member.backend.reopened())
            twins.compare_hash()


@pytest.mark.parametrize("shape", ["nested", "wide"])
@pytest.mark.parametrize(("outer", "inner"), [(1, 127), (1, 128), (64, 64), (64, 65), (128, 0), (129, 0)])
def test_operations_are_counted_as_etcd_counts_them(twins: Twins, shape: str, outer: int, inner: int) -> None:
    delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"none"))
    nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=[delete] * inner))
    if shape == "wide":
        nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(failure=[delete] * inner))
    twins.call(rpc_pb2.TxnRequest(success=[delete] * (outer - 1) + [nested]))


def test_the_database_of_an_etcd_opens_as_a_store(twins: Twins, tmp_path: Path) -> None:
    """etcd's database equals ours byte for byte, opens as a store, and has the hashes that etcd reports."""
    twins.call(rpc_pb2.PutRequest(key=b"last", value=b"v" * 1000))
    while twins.member.store.compaction_step():
        pass
    (tmp_path / "db").write_bytes(twins.etcd.snapshot())
    theirs = DictBackend()
    with BoltFile(tmp_path / "db") as file:
        assert set(file.buckets()) == {bucket.value for bucket in Bucket}
        for bucket in Bucket:
            for key, value in file.items(bucket.value):
                theirs.put(bucket, key, value)
    for bucket in (Bucket.KEY, Bucket.LEASE):
        kept = encode_revision_key(twins.member.store.compact_revision, 0)[:8]  # C3: kept as by 3.7, dropped by 3.5.1
        ours = [item for item in twins.member.backend.scan(bucket) if not (item[0][:8] == kept and item[0].endswith(b"t"))]
        assert list(theirs.scan(bucket)) == ours
    for name in (b"scheduledCompactRev", b"finishedCompactRev"):
        assert theirs.get(Bucket.META, name) == twins.member.backend.get(Bucket.META, name)
    assert hash_all(theirs.snapshot()) == twins.etcd.call(rpc_pb2.HashRequest()).hash
    twins.member = Member(theirs)
    twins.compare_hash()
    twins.call(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
    twins.call(rpc_pb2.PutRequest(key=b"last", ignore_value=True, prev_kv=True))
