"""A program that prints what the messages do, to be compared between versions and implementations of protobuf."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import scaled

SOURCES = Path(__file__).parents[2] / "src"

PROGRAM = """
import pickle
from tercet.proto import auth_pb2, election_pb2, health_pb2, internal_pb2, kv_pb2, lock_pb2, raft_pb2, rpc_pb2, stored_pb2
from tercet.proto.fields import is_repeated

put = rpc_pb2.PutRequest(key=b"k", value=bytes(300), lease=-3, prev_kv=True)
txn = rpc_pb2.TxnRequest(
    compare=[rpc_pb2.Compare(target=rpc_pb2.Compare.VERSION, result=rpc_pb2.Compare.LESS, key=b"a", version=1 << 62)],
    success=[rpc_pb2.RequestOp(request_put=put), rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(sort_order=1))],
)
print(txn.SerializeToString().hex())
assert rpc_pb2.TxnRequest.FromString(txn.SerializeToString()) == txn
assert [op.WhichOneof("request") for op in txn.success] == ["request_put", "request_range"]
print(raft_pb2.Message(type=raft_pb2.MsgApp, to=1, entries=[raft_pb2.Entry(Index=5)]).SerializeToString().hex())
print(internal_pb2.InternalRaftRequest(put=put).SerializeToString().hex())
print(rpc_pb2.NOSPACE, rpc_pb2.AlarmType.Name(1), rpc_pb2.WatchCreateRequest.NOPUT, kv_pb2.Event.EventType.Value("DELETE"))
print(pickle.loads(pickle.dumps(put)) == put, repr(rpc_pb2.RangeResponse), str(kv_pb2.KeyValue(key=b"k")).strip())
for module in (auth_pb2, election_pb2, health_pb2, internal_pb2, kv_pb2, lock_pb2, raft_pb2, rpc_pb2, stored_pb2):
    for name, message in module.DESCRIPTOR.message_types_by_name.items():
        fields = [(field.name, field.number, field.type, is_repeated(field), field.json_name) for field in message.fields]
        print(name, getattr(module, name).__name__, fields)
    print(sorted(module.DESCRIPTOR.services_by_name), sorted(module.DESCRIPTOR.enum_types_by_name))
try:
    rpc_pb2.PutRequest.FromString(b"\\xff")
except Exception as error:
    print(type(error).__name__)
"""


_OLD_PROTOBUF = "ignore:Type google._upb:DeprecationWarning"  # of the C module of 4.25, on Python 3.12 and newer


def output(protobuf: Path | None = None, **variables: str) -> str:
    """What the program prints; with the protobuf installed in a directory, and nothing else, or with this environment's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    path = os.pathsep.join(map(str, [protobuf, SOURCES] if protobuf else [SOURCES]))
    done = subprocess.run(
        [sys.executable, *(["-S"] if protobuf else []), "-W", "error", "-W", _OLD_PROTOBUF, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        env={**kept, "PYTHONPATH": path, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
