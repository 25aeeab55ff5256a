"""Client operations as requests to a replica, and its responses as results: what services/ does for a real client."""

from __future__ import annotations

from collections.abc import Callable

from tercet.errors import StatusError
from tercet.proto import rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica
from tercet.sim.history import Kind, Operation

Done = Callable[[StatusError | None], None]


def submit(replica: Replica, operation: Operation, done: Done) -> None:
    """Send to `replica`; `done` is called once, with None when the result is in `operation`, or with the error.

    Raises StatusError where the replica refuses at once; then nothing was done and `done` is not called.
    """
    _SUBMIT[operation.kind](replica, operation, done)


def _get(replica: Replica, operation: Operation, done: Done) -> None:
    request = rpc_pb2.RangeRequest(key=operation.key)

    def respond(error: StatusError | None) -> None:
        if error is None:
            store = replica.store
            response = rpc_pb2.RangeResponse.FromString(store.range(request))
            operation.revision = store.revision
            operation.took_effect = True
            if response.kvs:
                operation.found = response.kvs[0].value
                operation.mod_revision = response.kvs[0].mod_revision
        done(error)

    replica.read(respond)


def _put(replica: Replica, operation: Operation, done: Done) -> None:
    request = rpc_pb2.PutRequest(key=operation.key, value=operation.value or b"")

    def respond(outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            operation.took_effect = True
        _finish(replica, operation, outcome, done)

    replica.propose("put", request.SerializeToString(), request, respond)


def _delete(replica: Replica, operation: Operation, done: Done) -> None:
    request = rpc_pb2.DeleteRangeRequest(key=operation.key)

    def respond(outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            operation.took_effect = rpc_pb2.DeleteRangeResponse.FromString(outcome).deleted == 1
        _finish(replica, operation, outcome, done)

    replica.propose("delete_range", request.SerializeToString(), request, respond)


def _cas(replica: Replica, operation: Operation, done: Done) -> None:
    compare = rpc_pb2.Compare(key=operation.key, result=rpc_pb2.Compare.EQUAL)
    if operation.expected is None:
        compare.target, compare.create_revision = rpc_pb2.Compare.CREATE, 0
    else:
        compare.target, compare.value = rpc_pb2.Compare.VALUE, operation.expected
    put = rpc_pb2.PutRequest(key=operation.key, value=operation.value or b"")
    request = rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_put=put)])

    def respond(outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            operation.took_effect = rpc_pb2.TxnResponse.FromString(outcome).succeeded
        _finish(replica, operation, outcome, done)

    replica.propose("txn", request.SerializeToString(), request, respond)


def _finish(replica: Replica, operation: Operation, outcome: Outcome, done: Done) -> None:
    # The header of a real response is made at this point too: while the entry is applied.
    operation.revision = replica.revision
    done(None if isinstance(outcome, bytes) else outcome)


_SUBMIT = {Kind.GET: _get, Kind.PUT: _put, Kind.DELETE: _delete, Kind.CAS: _cas}
