"""Random histories against a model that keeps every state: responses, restarts, crashes, reads at all revisions."""

from __future__ import annotations

import google_crc32c
import pytest

from tercet.mvcc import hash_kv
from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.histories import Histories
from tests.mvcc.member import Member
from tests.mvcc.model import Model


@pytest.mark.parametrize("seed", range(12))
def test_every_response_equals_the_models(seed: int) -> None:
    histories, member, model = Histories(1000 + seed), Member(), Model()
    chance = histories.random
    for _ in range(300):
        histories.revision, histories.compacted = model.revision, model.compacted
        request = histories.request()
        assert member.call(request) == model.call(request), request
        assert member.store.revision == model.revision
        if chance.random() < 0.1:
            member.store.compaction_step(limit=chance.choice([1, 3, 1000]))
        if chance.random() < 0.03:
            member = Member(member.backend.reopened())
    member.store.index.check()
    _compare_history(member, model)


def _compare_history(member: Member, model: Model) -> None:
    for revision in range(max(1, model.compacted), model.revision + 1):
        for limit in (0, 2):
            request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision, limit=limit)
            assert member.call(request) == model.call(request), revision


@pytest.mark.parametrize("seed", range(4))
def test_replay_after_a_crash_restores_the_same_state(seed: int) -> None:
    """Entries after the last durable one are applied again and give the same bytes."""
    histories, member = Histories(2000 + seed), Member()
    log = []
    for index in range(1, 200):
        histories.revision, histories.compacted = member.store.revision, member.store.compact_revision
        log.append(histories.request())
        member.call(log[-1])
        if histories.random.random() < 0.2:
            member.store.compaction_step(limit=3)
        member.backend.applied(index, 1)
        if histories.random.random() < 0.1:
            member.backend.commit_now()
    survivor = Member(member.backend.after_crash())
    for request in log[member.backend.applied_index :]:
        survivor.call(request)
    for each in (member, survivor):
        while each.store.compaction_step():
            pass
    assert survivor.store.revision == member.store.revision
    assert survivor.store.compact_revision == member.store.compact_revision
    assert list(survivor.backend.scan(Bucket.KEY)) == list(member.backend.scan(Bucket.KEY))
    assert list(survivor.backend.scan(Bucket.LEASE)) == list(member.backend.scan(Bucket.LEASE))
    assert dict(survivor.lessor.leased.items()) == dict(member.lessor.leased.items())


@pytest.mark.parametrize("seed", range(6))
def test_the_hash_does_not_depend_on_the_progress_of_a_compaction(seed: int) -> None:
    histories, slow, fast = Histories(3000 + seed), Member(), Member()
    for _ in range(150):
        histories.revision, histories.compacted = fast.store.revision, fast.store.compact_revision
        request = histories.request()
        assert slow.call(request) == fast.call(request)
        if histories.random.random() < 0.3:
            slow.store.compaction_step(limit=1)
        while fast.store.compaction_step():
            pass
        compacted, revision = fast.store.compact_revision, fast.store.revision
        for asked in {max(1, compacted), revision, histories.random.randint(max(1, compacted), revision)}:
            hashes = {hash_kv(member.backend.snapshot(), asked, compacted) for member in (slow, fast)}
            assert len(hashes) == 1, f"at {asked}, compacted {compacted}"


def test_without_a_compaction_the_hash_covers_all_revisions() -> None:
    member = Member()
    for number in range(5):
        member.call(rpc_pb2.PutRequest(key=b"k%d" % (number % 2), value=b"v"))
    member.call(rpc_pb2.DeleteRangeRequest(key=b"k0"))
    everything = b"key" + b"".join(key + pair for key, pair in member.backend.scan(Bucket.KEY))
    assert hash_kv(member.backend.snapshot(), member.store.revision, -1).hash == google_crc32c.value(everything)
