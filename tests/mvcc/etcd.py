"""The judge: one real etcd 3.5.1, spoken to by a gRPC library that is not ours."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tests.mvcc.member import ANSWERS

PATHS: dict[type[Message], str] = {
    rpc_pb2.PutRequest: "/etcdserverpb.KV/Put",
    rpc_pb2.RangeRequest: "/etcdserverpb.KV/Range",
    rpc_pb2.DeleteRangeRequest: "/etcdserverpb.KV/DeleteRange",
    rpc_pb2.TxnRequest: "/etcdserverpb.KV/Txn",
    rpc_pb2.CompactionRequest: "/etcdserverpb.KV/Compact",
    rpc_pb2.LeaseGrantRequest: "/etcdserverpb.Lease/LeaseGrant",
    rpc_pb2.LeaseRevokeRequest: "/etcdserverpb.Lease/LeaseRevoke",
    rpc_pb2.HashKVRequest: "/etcdserverpb.Maintenance/HashKV",
    rpc_pb2.HashRequest: "/etcdserverpb.Maintenance/Hash",
}
HASHES = {rpc_pb2.HashKVRequest: rpc_pb2.HashKVResponse, rpc_pb2.HashRequest: rpc_pb2.HashResponse}
ETCD = Path(sysconfig.get_path("scripts")) / "etcd"


class Etcd:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, request: Message) -> Any:
        """The answer with a header that tells only the revision, or (code, text)."""
        answer_type = {**ANSWERS, **HASHES}[type(request)]
        method = self._channel.unary_unary(
            PATHS[type(request)],
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=answer_type.FromString,
        )
        try:
            answer = method(request, timeout=10)
        except grpc.RpcError as error:
            return error.code().value[0], error.details()
        answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision))
        return answer

    def snapshot(self) -> bytes:
        """The database file, without the digest at its end."""
        method = self._channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=rpc_pb2.SnapshotResponse.FromString,
        )
        return b"".join(chunk.blob for chunk in method(rpc_pb2.SnapshotRequest(), timeout=20))[:-32]


@contextlib.contextmanager
def running_etcd(directory: Path) -> Iterator[Etcd]:
    client, peer = _free_ports(2)
    with (directory / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(ETCD),
                f"--data-dir={directory / 'data'}",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{client}") as channel:
            etcd = Etcd(channel)
            _wait_until_ready(etcd, process, directory / "etcd.log")
            yield etcd
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(etcd: Etcd, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while isinstance(etcd.call(rpc_pb2.RangeRequest(key=b"ready")), tuple):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"etcd did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()
