"""Leases on etcd and tercet: random histories with keys, expiry, and what clients are told in each case."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tests.differential.twins import Refusal, refusal
from tests.support.client import Client
from tests.support.newer import VARIABLE, newer_etcd
from tests.support.processes import ETCD, Cluster, Member, wait_until

STEPS = 150
SECONDS = 20.0
IDS = [7, 8, 0x7FFFFFFFFFFFFFFF, -3, 99]
KEYS = [b"lease/%d" % number for number in range(6)]
TTLS = [5000, 100_000, 9_000_000_000, 9_000_000_001]

_METHODS: dict[type[Message], tuple[str, type[Any]]] = {
    rpc_pb2.LeaseGrantRequest: ("Lease/LeaseGrant", rpc_pb2.LeaseGrantResponse),
    rpc_pb2.LeaseRevokeRequest: ("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeResponse),
    rpc_pb2.LeaseTimeToLiveRequest: ("Lease/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveResponse),
    rpc_pb2.LeaseLeasesRequest: ("Lease/LeaseLeases", rpc_pb2.LeaseLeasesResponse),
    rpc_pb2.PutRequest: ("KV/Put", rpc_pb2.PutResponse),
    rpc_pb2.RangeRequest: ("KV/Range", rpc_pb2.RangeResponse),
    rpc_pb2.DeleteRangeRequest: ("KV/DeleteRange", rpc_pb2.DeleteRangeResponse),
    rpc_pb2.TxnRequest: ("KV/Txn", rpc_pb2.TxnResponse),
}
_EVERYTHING = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")


class Pair:
    """Both get the same requests, and what they answer must be equal."""

    def __init__(self, etcd: Client, tercet: Client) -> None:
        self.members = (etcd, tercet)

    def call(self, request: Message) -> Any:
        theirs, ours = (_ask(member, request) for member in self.members)
        assert ours == theirs, f"\n{request}\n--- etcd ---\n{theirs}\n--- tercet ---\n{ours}"
        return ours

    def renew(self, ids: Sequence[int]) -> list[tuple[int, int, int]]:
        """(id, TTL, revision) of the answers on one stream, which is half-closed after the last request."""
        theirs, ours = (_renew(member, ids) for member in self.members)
        assert ours == theirs
        return ours


def _ask(member: Client, request: Message) -> Any:
    """The response with its header reduced to the revision; a remaining TTL counts in steps, keys and ids are in order."""
    method, answer_type = _METHODS[type(request)]
    try:
        answer: Any = member.call(method, request, answer_type, SECONDS)
    except grpc.RpcError as error:
        return refusal(error)
    answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision))
    if isinstance(answer, rpc_pb2.LeaseTimeToLiveResponse):
        keys = sorted(answer.keys)
        del answer.keys[:]
        answer.keys.extend(keys)
        if answer.TTL > 0:
            assert answer.grantedTTL - 60 < answer.TTL <= answer.grantedTTL
            answer.TTL = answer.grantedTTL
    if isinstance(answer, rpc_pb2.LeaseLeasesResponse):
        answer.leases.sort(key=lambda lease: lease.ID)
    return answer


def _renew(member: Client, ids: Sequence[int]) -> list[tuple[int, int, int]]:
    method = member.channel.stream_stream(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
    )
    requests = [rpc_pb2.LeaseKeepAliveRequest(ID=lease) for lease in ids]
    return [(answer.ID, answer.TTL, answer.header.revision) for answer in method(iter(requests), timeout=SECONDS)]


@pytest.fixture(
    scope="module",
    params=[list(ETCD), pytest.param(newer_etcd(), marks=pytest.mark.skipif(newer_etcd() == [""], reason=VARIABLE))],
    ids=["3.5.1", "newer"],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("leases")
    etcd = Cluster.plan(directory, ["etcd"], ["--unsafe-no-fsync"], programs={"etcd": request.param})
    tercet = Cluster.plan(directory, ["tercet"])
    try:
        members: list[Member] = [cluster.members[0].start() for cluster in (etcd, tercet)]
        for member in members:
            member.wait_ready()
        yield Pair(members[0].client, members[1].client)
    finally:
        etcd.dispose()
        tercet.dispose()


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_of_leases_and_keys_agree(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)
    answered = 0
    for _ in range(STEPS):
        request = _request(chance)
        if request is None:
            pair.renew([chance.choice([*IDS, 0]) for _ in range(chance.randint(0, 4))])
        else:
            answered += not isinstance(pair.call(request), tuple)
    assert answered > STEPS / 3
    pair.call(_EVERYTHING)
    hashes = {member.hash_kv(0).hash for member in pair.members}
    assert len(hashes) == 1


def _request(chance: random.Random) -> Message | None:
    """None: renewals."""
    lease, key = chance.choice(IDS), chance.choice(KEYS)
    kind = chance.choices(
        ["grant", "revoke", "live", "list", "put", "txn", "get", "delete", "renew"], [4, 2, 3, 1, 8, 3, 2, 2, 2]
    )[0]
    if kind == "grant":
        return rpc_pb2.LeaseGrantRequest(ID=lease, TTL=chance.choice(TTLS))
    if kind == "revoke":
        return rpc_pb2.LeaseRevokeRequest(ID=lease)
    if kind == "live":
        return rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=chance.random() < 0.7)
    if kind == "list":
        return rpc_pb2.LeaseLeasesRequest()
    if kind == "get":
        return rpc_pb2.RangeRequest(key=KEYS[0], range_end=b"lease0")
    if kind == "delete":
        return rpc_pb2.DeleteRangeRequest(key=key, prev_kv=True)
    if kind == "renew":
        return None
    put = rpc_pb2.PutRequest(key=key, value=b"%d" % chance.randrange(9), lease=chance.choice([lease, lease, 0]))
    if chance.random() < 0.2:
        put.lease, put.ignore_lease = 0, True
    if kind == "put":
        return put
    compare = rpc_pb2.Compare(key=key, target=rpc_pb2.Compare.LEASE, result=rpc_pb2.Compare.EQUAL, lease=lease)
    other = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=chance.choice(KEYS)))
    return rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_put=put)], failure=[other])


def test_a_short_lease_expires_with_its_keys_in_one_revision(pair: Pair) -> None:
    assert pair.call(rpc_pb2.LeaseGrantRequest(ID=999, TTL=0)).TTL >= 1
    pair.call(rpc_pb2.LeaseGrantRequest(ID=1000, TTL=5))
    for number in range(3):
        pair.call(rpc_pb2.PutRequest(key=b"short/%d" % number, lease=1000))
    before = pair.call(_EVERYTHING).header.revision
    for member in pair.members:
        wait_until(lambda member=member: not member.all(b"short/"), "the lease has expired")  # type: ignore[misc]
    assert pair.call(_EVERYTHING).header.revision == before + 1
    assert pair.call(rpc_pb2.LeaseTimeToLiveRequest(ID=1000, keys=True)).TTL == -1
    assert pair.renew([1000, 1000]) == [(1000, 0, before + 1)] * 2
    pair.call(rpc_pb2.LeaseGrantRequest(ID=1000, TTL=5000))  # the id is free
    pair.call(rpc_pb2.LeaseRevokeRequest(ID=1000))


def test_a_renewal_of_an_expired_lease_is_answered_after_the_revoke(pair: Pair) -> None:
    """L4: sent shortly before the lease expires, and again until it is gone: each answer is the TTL, then 0 for good."""
    for member in pair.members:
        grant = rpc_pb2.LeaseGrantRequest(ID=2000, TTL=0)
        ttl = member.call("Lease/LeaseGrant", grant, rpc_pb2.LeaseGrantResponse, SECONDS).TTL
        assert [answer[1] for answer in _renew(member, [2000])] == [ttl]
        wait_until(partial(_renew_late, member, ttl), "the lease has expired", seconds=30)


def _renew_late(member: Client, ttl: int) -> bool:
    """Wait for the TTL, then renew: the answer is 0."""
    time.sleep(ttl + 0.02)
    return [answer[1] for answer in _renew(member, [2000])] == [0]


def test_a_chosen_id_is_positive_and_fresh(pair: Pair) -> None:
    ids = set()
    for member in pair.members:
        for _ in range(20):
            request = rpc_pb2.LeaseGrantRequest(TTL=1000)
            granted = member.call("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse, SECONDS)
            assert granted.ID > 0
            ids.add(granted.ID)
            member.call("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=granted.ID), rpc_pb2.LeaseRevokeResponse, SECONDS)
    assert len(ids) == 40


def test_a_malformed_renewal_ends_the_stream_alike(pair: Pair) -> None:
    codes: list[Refusal] = []
    for member in pair.members:
        method = member.channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")
        with pytest.raises(grpc.RpcError) as caught:
            list(method(iter([b"\x08"]), timeout=SECONDS))
        codes.append((caught.value.code().value[0], ""))
    assert codes[0] == codes[1]
