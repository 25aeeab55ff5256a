"""How the errors of the calls that locks and elections make reach the clients of these."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tercet import errors
from tercet.errors import Code, StatusError
from tercet.proto import election_pb2, lock_pb2
from tercet.replica.proposals import NEVER_PROPOSED
from tercet.rpc import Handler, InProcessChannel, RpcError, UnaryCall, method_table, unary
from tercet.services.election import queue_handlers
from tercet.services.lock import Cleanups
from tests.services.harness import run

OBSERVE = "/v3electionpb.Election/Observe"
UNARY = {
    "/v3lockpb.Lock/Lock": lock_pb2.LockRequest(name=b"name", lease=7),
    "/v3lockpb.Lock/Unlock": lock_pb2.UnlockRequest(key=b"name/7"),
    "/v3electionpb.Election/Campaign": election_pb2.CampaignRequest(name=b"name", lease=7),
    "/v3electionpb.Election/Leader": election_pb2.LeaderRequest(name=b"name"),
}


def refusing(error: StatusError) -> dict[str, Handler]:
    def refuse(call: UnaryCall, body: bytes) -> None:
        call.fail_with(error)

    return {f"/etcdserverpb.KV/{name}": unary(refuse) for name in ("Range", "Txn", "DeleteRange")}


def with_channel(error: StatusError, test: Callable[[InProcessChannel], object]) -> None:
    """Run a coroutine of `test` where all calls of KV fail with this error."""

    async def main() -> None:
        channel = InProcessChannel(method_table(queue_handlers(method_table(refusing(error)), Cleanups())))
        await test(channel)  # type: ignore[misc]
        channel.close()

    run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PERMISSION_DENIED, Code.UNKNOWN),
        (errors.NO_LEADER, Code.UNKNOWN),
        (NEVER_PROPOSED, Code.DEADLINE_EXCEEDED),
        (errors.STOPPED, Code.UNAVAILABLE),  # clients try another member
    ],
)
def test_an_error_of_a_call_that_another_one_makes(error: StatusError, code: Code) -> None:
    async def test(channel: InProcessChannel) -> None:
        for path, request in UNARY.items():
            with pytest.raises(RpcError) as refused:
                await channel.unary(path, request.SerializeToString())
            assert (refused.value.code, refused.value.message) == (code, error.message), path

    with_channel(error, test)


@pytest.mark.parametrize("error", [errors.PERMISSION_DENIED, NEVER_PROPOSED])
def test_an_observer_that_cannot_go_on_ends(error: StatusError) -> None:
    async def test(channel: InProcessChannel) -> None:
        stream = channel.stream(OBSERVE)
        stream.send_now(election_pb2.LeaderRequest(name=b"name").SerializeToString())
        stream.half_close()
        assert await stream.receive() is None

    with_channel(error, test)


def test_an_observer_goes_on_at_another_member_when_this_one_stops() -> None:
    async def test(channel: InProcessChannel) -> None:
        stream = channel.stream(OBSERVE)
        stream.send_now(election_pb2.LeaderRequest(name=b"name").SerializeToString())
        stream.half_close()
        with pytest.raises(RpcError) as refused:
            await stream.receive()
        assert refused.value.code is Code.UNAVAILABLE

    with_channel(errors.STOPPED, test)
