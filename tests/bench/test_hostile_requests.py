"""The rows about leases: each request is complete, and a connection sends them in an order that works."""

from __future__ import annotations

from tercet.bench.hostile_requests import rows
from tercet.bench.requests import GRANT_PATH, REVOKE_PATH, TXN_PATH
from tercet.proto import rpc_pb2


def test_a_lease_is_granted_before_its_keys_and_revoked_after_them() -> None:
    row = next(row for row in rows(1) if row.name.startswith("attach 100,000 keys"))
    assert (row.clients, row.times) == (1, len(row.requests))
    sent = list(reversed(row.requests))  # a connection sends the last one first
    assert [path for path, _ in (sent[0], sent[1], sent[-1])] == [GRANT_PATH, TXN_PATH, REVOKE_PATH]
    lease = rpc_pb2.LeaseGrantRequest.FromString(sent[0][1]).ID
    puts = [op.request_put for path, body in sent if path == TXN_PATH for op in rpc_pb2.TxnRequest.FromString(body).success]
    assert (len(puts), {put.lease for put in puts}) == (100_000, {lease})
    assert lease == rpc_pb2.LeaseRevokeRequest.FromString(sent[-1][1]).ID


def test_leases_that_expire_together_are_waited_for() -> None:
    row = next(row for row in rows(1) if row.name.startswith("10,000 leases expire"))
    ((path, body),) = row.requests
    assert path == GRANT_PATH
    assert 0 < rpc_pb2.LeaseGrantRequest.FromString(body).TTL < row.rest_seconds
