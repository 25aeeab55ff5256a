"""Random histories of valid and invalid KV requests, sent to both: responses, codes, texts, revisions and hashes agree."""

from __future__ import annotations

import random

import pytest

from tercet.proto import rpc_pb2
from tests.differential.twins import Twins, ask, streamed
from tests.differential.wild import wild_request
from tests.mvcc.histories import Histories
from tests.support.processes import Member

STEPS = 250


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_get_the_same_responses(twins: Twins, seed: int) -> None:
    histories = Histories(1000 + seed)
    chance = histories.random
    twins.call(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
    answered = 0
    for step in range(STEPS):
        histories.revision, histories.compacted = twins.revision, twins.compacted
        request = histories.request()
        answered += not isinstance(twins.call(request), tuple)
        if isinstance(request, rpc_pb2.RangeRequest):
            check_stream(twins, request)
        if step % 25 == 0:
            twins.compare_hash()
            twins.compare_hash(chance.randint(max(1, twins.compacted), twins.revision))
    assert answered > STEPS / 3


@pytest.mark.parametrize("seed", range(4))
def test_random_requests_get_the_same_responses(twins: Twins, seed: int) -> None:
    chance = random.Random(seed)
    answered = 0
    for step in range(300):
        answered += not isinstance(twins.call(wild_request(chance, twins.revision)), tuple)
        if step % 50 == 0:
            twins.compare_hash()
            twins.call(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
    assert answered > 100


def test_a_killed_tercet_resumes_with_the_same_responses(twins: Twins, tercet: Member) -> None:
    """After each kill, every acknowledged write is there, and the next responses equal those of an etcd that kept running."""
    histories = Histories(77)
    for step in range(160):
        histories.revision, histories.compacted = twins.revision, twins.compacted
        twins.call(histories.request())
        if step % 40 == 20:
            tercet.kill()
            tercet.restart()
            twins.compare_hash()


def check_stream(twins: Twins, request: rpc_pb2.RangeRequest) -> None:
    """The merged messages of RangeStream, which only 3.7 has, equal the Range response; sorts and filters are rejected."""
    merged = streamed(twins.tercet, request)
    whole = ask(twins.tercet, request)
    is_ordered = request.sort_order != rpc_pb2.RangeRequest.NONE
    is_by_key = request.sort_order == rpc_pb2.RangeRequest.ASCEND and request.sort_target == rpc_pb2.RangeRequest.KEY
    if whole == (3, "etcdserver: key is not provided"):
        assert merged == whole
    elif is_ordered and not is_by_key:
        assert merged == (12, "RangeStream does not support custom sort orders")
    elif request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision:
        assert merged == (12, "RangeStream does not support revision filters")
    elif request.sort_target == rpc_pb2.RangeRequest.KEY or isinstance(whole, tuple):
        assert merged == whole
