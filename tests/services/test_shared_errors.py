"""Shared error instances (errors.py) keep no frames of the requests that they ended: each of those would leak its call."""

from __future__ import annotations

from tercet import errors
from tercet.errors import StatusError, strip_traceback
from tercet.proto import rpc_pb2
from tests.services.harness import run, served

SHARED = [error for error in vars(errors).values() if isinstance(error, StatusError)]


def test_requests_that_end_with_a_shared_error_leave_no_traceback() -> None:
    async def test() -> None:
        async with served() as member:
            renewals = member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
            await renewals.send(rpc_pb2.LeaseKeepAliveRequest(ID=9).SerializeToString())
            await renewals.receive()
            missing = rpc_pb2.LeaseTimeToLiveRequest(ID=9)
            await member.call("Lease/LeaseTimeToLive", missing, rpc_pb2.LeaseTimeToLiveResponse)
            watches = member.channel.stream("/etcdserverpb.Watch/Watch")
            create = rpc_pb2.WatchCreateRequest(key=b"a", start_revision=-1)
            await watches.send(rpc_pb2.WatchRequest(create_request=create).SerializeToString())
            await watches.receive()
            assert [error for error in SHARED if error.__traceback__ is not None] == []
            for stream in (renewals, watches):
                stream.cancel()

    for error in SHARED:
        strip_traceback(error)
    run(test())
