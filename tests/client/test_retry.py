"""Which calls are repeated, on which member, and what is known of a write whose answer did not arrive."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet import AsyncClient, Retry
from tercet.client import methods
from tercet.client.retry import Attempts
from tercet.errors import (
    AUTH_OLD_REVISION,
    LEASE_EXISTS,
    LEASE_NOT_FOUND,
    NO_LEADER,
    NOT_SUPPORTED_FOR_LEARNER,
    TIMEOUT,
    Code,
    StatusError,
)
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError, UnaryCall
from tests.client.member import Answer, member, run
from tests.support.ports import free_port
from tests.support.waiting import until

PUT, RANGE, TXN = methods.PUT.path, methods.RANGE.path, methods.TXN.path
GRANT, REVOKE, TTL = methods.LEASE_GRANT.path, methods.LEASE_REVOKE.path, methods.LEASE_TIME_TO_LIVE.path


def answer(message: object) -> Answer:
    return lambda call, _: call.reply(message.SerializeToString())  # type: ignore[attr-defined]


def fail(error: StatusError) -> Answer:
    return lambda call, _: call.fail(error.code, error.message)


def hang_up(call: UnaryCall, _: bytes) -> None:
    """As a member that is killed while it works."""
    call.connection.abort()


def silent(call: UnaryCall, _: bytes) -> None:
    """As a member that is paused."""


DONE = answer(rpc_pb2.PutResponse(header={"revision": 5}))
FOUND = answer(rpc_pb2.RangeResponse(count=1))


@pytest.mark.parametrize(
    ("first", "raised"),
    [
        (hang_up, tercet.Indeterminate),
        (fail(TIMEOUT), tercet.Indeterminate),
        (silent, tercet.Indeterminate),
        (fail(NO_LEADER), tercet.NoLeader),
    ],
)
def test_d35_a_put_is_never_repeated_after_it_was_sent(first: Answer, raised: type[tercet.TercetError]) -> None:
    async def test() -> None:
        async with member({PUT: first}) as broken, member({PUT: DONE}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint]) as client:
                await client.channel._connector.connected(1e9)
                with pytest.raises(raised) as caught:
                    await client.put("a", "1", timeout=0.5 if first is silent else 60)
                if isinstance(caught.value, tercet.Indeterminate):
                    assert caught.value.request == rpc_pb2.PutRequest(key=b"a", value=b"1")
            await until(lambda: broken.asked)
            assert (broken.asked, up.asked) == (["Put"], [])

    run(test())


def test_a_put_that_may_be_repeated_is() -> None:
    async def test() -> None:
        async with member({PUT: hang_up}) as broken, member({PUT: DONE}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint]) as client:
                assert (await client.put("a", "1", retry=Retry.ALWAYS)).header.revision == 5
            assert (broken.asked, up.asked) == (["Put"], ["Put"])

    run(test())


def test_after_a_repeated_put_a_refusal_leaves_the_first_one_open() -> None:
    async def test() -> None:
        no_space = fail(StatusError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"))
        async with (
            member({PUT: hang_up}) as broken,
            member({PUT: no_space}) as full,
            AsyncClient([broken.endpoint, full.endpoint], retry=Retry.ALWAYS) as client,
        ):
            with pytest.raises(tercet.Indeterminate):
                await client.put("a", "1")

    run(test())


def test_without_retries_the_first_failure_is_raised() -> None:
    async def test() -> None:
        async with member({RANGE: hang_up}) as broken, member({RANGE: FOUND}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint], retry=Retry.OFF) as client:
                with pytest.raises(tercet.Unavailable):
                    await client.count("a")
                assert await client.count("a") == 1
            assert (broken.asked, up.asked) == (["Range"], ["Range"])

    run(test())


def test_a_txn_that_only_reads_is_repeated() -> None:
    async def test() -> None:
        done = answer(rpc_pb2.TxnResponse(succeeded=True))
        async with member({TXN: hang_up}) as broken, member({TXN: done}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint]) as client:
                assert await client.txn([client.version("a") == 0], [client.get_op("a")], [client.txn_op(then=[])])
            async with AsyncClient([broken.endpoint, up.endpoint]) as client:
                with pytest.raises(tercet.Indeterminate):
                    await client.txn([], [client.get_op("a")], [client.txn_op(then=[client.delete_op("a")])])
            assert up.asked == ["Txn"]

    run(test())


def test_a_grant_without_an_answer_is_repeated_with_the_same_id() -> None:
    async def test() -> None:
        granted: list[int] = []

        def lose(call: UnaryCall, message: bytes) -> None:
            granted.append(rpc_pb2.LeaseGrantRequest.FromString(message).ID)
            hang_up(call, message)

        def exists(call: UnaryCall, message: bytes) -> None:
            granted.append(rpc_pb2.LeaseGrantRequest.FromString(message).ID)
            fail(LEASE_EXISTS)(call, message)

        def remaining(call: UnaryCall, message: bytes) -> None:
            asked = rpc_pb2.LeaseTimeToLiveRequest.FromString(message)
            answer(rpc_pb2.LeaseTimeToLiveResponse(ID=asked.ID, TTL=9, grantedTTL=10))(call, message)

        async with (
            member({GRANT: lose}) as broken,
            member({GRANT: exists, TTL: remaining}) as up,
            AsyncClient([broken.endpoint, up.endpoint]) as client,
        ):
            lease = await client.grant_lease(10)
            assert (lease.granted_ttl_seconds, granted) == (10, [lease.id] * 2)
            with pytest.raises(tercet.LeaseExists):
                await client.grant_lease(10)  # a first attempt, so the ID is another's

    run(test())


def test_a_revoke_without_an_answer_is_repeated_and_then_finds_no_lease() -> None:
    async def test() -> None:
        async with member({REVOKE: hang_up}) as broken, member({REVOKE: fail(LEASE_NOT_FOUND)}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint]) as client:
                await client.revoke_lease(1)
                with pytest.raises(tercet.LeaseNotFound):
                    await client.revoke_lease(1)
            assert up.asked == ["LeaseRevoke"] * 2

    run(test())


def test_a_learner_is_left_for_a_voting_member() -> None:
    async def test() -> None:
        async with member({PUT: fail(NOT_SUPPORTED_FOR_LEARNER)}) as learner, member({PUT: DONE}) as up:
            async with AsyncClient([learner.endpoint, up.endpoint]) as client:
                await client.put("a", "1")
            async with AsyncClient([learner.endpoint]) as client:
                with pytest.raises(tercet.FailedPrecondition, match="not supported for learner"):
                    await client.put("a", "1")

    run(test())


def test_what_was_never_sent_is_not_indeterminate() -> None:
    async def test() -> None:
        endpoint = f"127.0.0.1:{free_port()}"
        async with AsyncClient(endpoint, timeout=2.0) as client:
            with pytest.raises(tercet.Timeout) as caught:
                await client.put("a", "1")
            assert isinstance(caught.value, TimeoutError)
            assert "Connection refused" in caught.value.message or "Connect call failed" in caught.value.message
            assert caught.value.message.startswith(f"{endpoint}: ")

    run(test())


def test_a_read_without_an_answer_times_out() -> None:
    async def test() -> None:
        async with member({RANGE: silent}) as paused, AsyncClient(paused.endpoint) as client:
            with pytest.raises(tercet.Timeout):
                await client.get("a", timeout=0.2)

    run(test())


def test_there_is_no_pause_until_a_quorum_of_endpoints_has_failed() -> None:
    lost = RpcError(Code.UNAVAILABLE, "lost")
    attempts = Attempts(is_repeatable=True)
    pauses = [attempts.pause_after(lost, 5) for _ in range(9)]
    assert [pause == 0 for pause in pauses] == [True, True, False] * 3
    assert pauses[2] == pytest.approx(0.025, rel=0.11)
    assert pauses[8] == pytest.approx(0.1, rel=0.11)
    assert max(attempts.pause_after(lost, 1) or 0 for _ in range(100)) < 1.11


@pytest.mark.parametrize(
    ("policy", "is_repeatable", "error", "is_repeated", "is_unknown"),
    [
        (Retry.SAFE, True, RpcError(Code.UNAVAILABLE, ""), True, True),
        (Retry.SAFE, False, RpcError(Code.UNAVAILABLE, ""), False, True),
        (Retry.SAFE, False, RpcError(Code.UNAVAILABLE, "", unprocessed=True), True, False),
        (Retry.SAFE, False, RpcError(Code.UNAVAILABLE, NO_LEADER.message), False, False),
        (Retry.ALWAYS, False, RpcError(Code.UNAVAILABLE, ""), True, True),
        (Retry.ALWAYS, False, RpcError(Code.DEADLINE_EXCEEDED, ""), False, True),
        (Retry.ALWAYS, True, RpcError(Code.INVALID_ARGUMENT, ""), False, False),
        (Retry.OFF, True, RpcError(Code.UNAVAILABLE, "", unprocessed=True), False, False),
        (Retry.OFF, True, RpcError(Code.FAILED_PRECONDITION, NOT_SUPPORTED_FOR_LEARNER.message), False, False),
    ],
)
def test_the_table_of_retries(policy: Retry, is_repeatable: bool, error: RpcError, is_repeated: bool, is_unknown: bool) -> None:
    attempts = Attempts(policy, is_repeatable=is_repeatable)
    assert (attempts.pause_after(error, 3) is not None) == is_repeated
    assert attempts.is_unknown == is_unknown


@pytest.mark.parametrize(("user", "token"), [("", ""), ("u", ""), ("", "given")])
def test_a_write_is_repeated_while_users_change_under_it(user: str, token: str) -> None:
    """Without a user its name comes from the certificate. A given token that is too old cannot become newer."""
    answers = [*[fail(AUTH_OLD_REVISION)] * 3, DONE]
    logged_in = answer(rpc_pb2.AuthenticateResponse(token="t"))

    async def test() -> None:
        async with (
            member({PUT: lambda call, body: answers.pop(0)(call, body), methods.AUTHENTICATE.path: logged_in}) as up,
            AsyncClient(up.endpoint, user=user, password=user, token=token) as client,
        ):
            await client.put("a", "1", timeout=60)

    if token:
        with pytest.raises(tercet.TercetError, match="revision of auth store is old"):
            run(test())
        assert len(answers) == 3
    else:
        run(test())
        assert not answers


class Guarded:
    """A member with authentication, whose tokens can be made invalid."""

    def __init__(self) -> None:
        self.logins = 0
        self.is_enabled = True
        self.valid = ""
        self.answers = {methods.AUTHENTICATE.path: self._login, RANGE: self._range}

    def _login(self, call: UnaryCall, message: bytes) -> None:
        if not self.is_enabled:
            call.fail(Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
            return
        self.logins += 1
        self.valid = f"token-{self.logins}"
        answer(rpc_pb2.AuthenticateResponse(token=self.valid))(call, message)

    def _range(self, call: UnaryCall, message: bytes) -> None:
        token = b"".join(call.metadata.get("token", ())).decode()
        if self.is_enabled and not token:
            call.fail(Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
        elif self.is_enabled and token != self.valid:
            call.fail(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
        else:
            FOUND(call, message)


def test_a_hundred_calls_with_an_expired_token_log_in_once() -> None:
    async def test() -> None:
        guard = Guarded()
        async with member(guard.answers) as up, AsyncClient(up.endpoint, user="u", password="p") as client:
            await client.count("a")
            for login in (2, 3):
                guard.valid = "expired"
                await asyncio.gather(*(client.count("a") for _ in range(100)))
                assert guard.logins == login

    run(test())


def test_a_user_logs_in_when_authentication_is_enabled_later() -> None:
    async def test() -> None:
        guard = Guarded()
        guard.is_enabled = False
        async with member(guard.answers) as up, AsyncClient(up.endpoint, user="u", password="p") as client:
            await client.count("a")
            guard.is_enabled = True
            assert await client.count("a") == 1
            assert guard.logins == 1

    run(test())


def test_hooks_see_each_attempt_and_cannot_break_a_call() -> None:
    async def test() -> None:
        seen: list[tuple[str, object, object]] = []

        def hook(name: str, info: dict[str, object]) -> None:
            seen.append((name, info.get("attempt"), info["endpoint"]))
            raise ZeroDivisionError

        async with member({RANGE: hang_up}) as broken, member({RANGE: FOUND}) as up:
            async with AsyncClient([broken.endpoint, up.endpoint], on_event=hook) as client:
                assert await client.count("a") == 1
            assert seen == [
                ("connect.started", None, broken.endpoint),
                ("connect.complete", None, broken.endpoint),
                ("call.started", 0, broken.endpoint),
                ("call.failed", 0, broken.endpoint),
                ("connect.started", None, up.endpoint),
                ("connect.complete", None, up.endpoint),
                ("call.started", 1, up.endpoint),
                ("call.complete", 1, up.endpoint),
            ]

    run(test())
