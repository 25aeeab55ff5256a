"""A blocking client on grpcio, with one channel per endpoint; it shares only the message definitions with the members."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]

from tercet.proto import kv_pb2, rpc_pb2

Answer = TypeVar("Answer")

_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # time to connect, also on a busy machine
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True)
class Credentials:
    """PEM files of a client."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.key)
        return context


def prefix_end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Client:
    """Every method waits at most `timeout` seconds and raises `Client.Error` (grpc.RpcError)."""

    Error = grpc.RpcError

    def __init__(self, endpoint: str, credentials: Credentials | None = None) -> None:
        if credentials is None:
            self.channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        else:
            secret = grpc.ssl_channel_credentials(
                credentials.ca.read_bytes(), credentials.key.read_bytes(), credentials.certificate.read_bytes()
            )
            self.channel = grpc.secure_channel(endpoint, secret, options=_OPTIONS)

    def close(self) -> None:
        self.channel.close()

    def wait_connected(self, seconds: float) -> None:
        """Wait for a connection: after a restart of the member, a channel fails calls until its next attempt to connect."""
        grpc.channel_ready_future(self.channel).result(timeout=seconds)

    def call(self, path: str, request: Any, answer: type[Answer], timeout: float) -> Answer:
        method = self.channel.unary_unary(
            "/etcdserverpb." + path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        found: Answer = method(request, timeout=timeout)
        return found

    # --- KV

    def put(self, key: bytes, value: bytes, timeout: float = 30) -> rpc_pb2.PutResponse:
        return self.call("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse, timeout)

    def range(
        self, key: bytes, *, prefix: bool = False, serializable: bool = False, revision: int = 0, timeout: float = 30
    ) -> rpc_pb2.RangeResponse:
        request = rpc_pb2.RangeRequest(key=key, serializable=serializable, revision=revision)
        if prefix:
            request.range_end = prefix_end(key)
        return self.call("KV/Range", request, rpc_pb2.RangeResponse, timeout)

    def get(self, key: bytes, *, serializable: bool = False, timeout: float = 30) -> bytes | None:
        found = self.range(key, serializable=serializable, timeout=timeout).kvs
        return found[0].value if found else None

    def all(self, prefix: bytes, *, serializable: bool = False, timeout: float = 10) -> dict[bytes, kv_pb2.KeyValue]:
        found = self.range(prefix, prefix=True, serializable=serializable, timeout=timeout)
        return {pair.key: pair for pair in found.kvs}

    def delete(self, key: bytes, *, prefix: bool = False, timeout: float = 30) -> rpc_pb2.DeleteRangeResponse:
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=prefix_end(key) if prefix else b"")
        return self.call("KV/DeleteRange", request, rpc_pb2.DeleteRangeResponse, timeout)

    def put_all(self, pairs: dict[bytes, bytes], timeout: float = 30) -> rpc_pb2.TxnResponse:
        """Put all in one transaction, that is at one revision."""
        request = rpc_pb2.TxnRequest()
        for key, value in pairs.items():
            request.success.add().request_put.CopyFrom(rpc_pb2.PutRequest(key=key, value=value))
        return self.call("KV/Txn", request, rpc_pb2.TxnResponse, timeout)

    def compact(self, revision: int, *, physical: bool = True, timeout: float = 30) -> None:
        request = rpc_pb2.CompactionRequest(revision=revision, physical=physical)
        self.call("KV/Compact", request, rpc_pb2.CompactionResponse, timeout)

    # --- Maintenance and Cluster

    def status(self, timeout: float = 10) -> rpc_pb2.StatusResponse:
        return self.call("Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse, timeout)

    def hash_kv(self, revision: int, timeout: float = 10) -> rpc_pb2.HashKVResponse:
        return self.call("Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=revision), rpc_pb2.HashKVResponse, timeout)

    def defragment_later(self, timeout: float = 20) -> grpc.Future:
        """Start a defragmentation; the future completes with it."""
        method = self.channel.unary_unary("/etcdserverpb.Maintenance/Defragment")
        return method.future(b"", timeout=timeout)

    def members(self, timeout: float = 30) -> list[rpc_pb2.Member]:
        return list(self.call("Cluster/MemberList", rpc_pb2.MemberListRequest(), rpc_pb2.MemberListResponse, timeout).members)
