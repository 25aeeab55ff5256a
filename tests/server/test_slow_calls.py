"""Slow unary calls are reported once, with their request but without values and secrets; fast ones are not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tercet.intake import intake_of_running_loop
from tercet.proto import rpc_pb2
from tercet.rpc import Kind, Method, Peer, unary
from tercet.server.slow_calls import SlowCalls
from tercet.server.slow_requests import SlowApplies
from tests.support.waiting import settled


class Call:
    def __init__(self, path: str, request: bytes) -> None:
        self.method = Method(path, Kind.UNARY, None, timed=False)
        self.finished = False
        self.request = request
        self.peer = Peer("127.0.0.1:5", None)


class Watched:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Call] = []
        self.applies = SlowApplies(0.1)
        self.slow = SlowCalls(
            lambda: [call for call in self.calls if not call.finished], 0.3, self.applies, clock=lambda: self.now
        )

    def add(self, path: str, request: bytes) -> Call:
        self.calls.append(Call(path, request))
        return self.calls[-1]

    def look(self, after: float) -> None:
        self.now += after
        self.slow.look()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == "request stats"]  # type: ignore[attr-defined]


def test_a_slow_call_is_reported_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    watched = Watched()
    put = rpc_pb2.PutRequest(key=b"k", value=b"secret").SerializeToString()
    slow, fast = watched.add("/etcdserverpb.KV/Put", put), watched.add("/etcdserverpb.KV/Put", put)
    watched.look(0)
    fast.finished = True
    watched.look(0.1)
    watched.look(1.0)
    assert lines(caplog) == []
    slow.finished = True
    watched.look(0.1)
    watched.look(0.1)
    (line,) = lines(caplog)
    assert line["time spent"] == "1.2s"
    assert (line["remote"], line["response type"]) == ("127.0.0.1:5", "/etcdserverpb.KV/Put")
    assert (line["request count"], line["request size"]) == (1, len(put))
    assert line["request content"] == 'key:"k" value_size:6'


def test_many_calls_that_end_at_once_are_reported_over_several_turns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    watched = Watched()
    put = rpc_pb2.PutRequest(key=b"k").SerializeToString()
    for _ in range(120):
        watched.add("/etcdserverpb.KV/Put", put)
    watched.look(0)
    for call in watched.calls:
        call.finished = True
    reported = []
    for _ in range(3):
        watched.look(1.0)
        reported.append(len(lines(caplog)))
    assert reported == [50, 100, 120]
    assert {line["time spent"] for line in lines(caplog)} == {"1s"}


def test_only_requests_for_keys_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    watched = Watched()
    login = rpc_pb2.AuthenticateRequest(name="root", password="secret").SerializeToString()
    for path, request in (
        ("/etcdserverpb.Auth/Authenticate", login),
        ("/etcdserverpb.KV/Range", b"\xff\xff"),
        ("/etcdserverpb.KV/Put", bytes(100_000)),
    ):
        watched.add(path, request)
    watched.look(0)
    for call in watched.calls:
        call.finished = True
    watched.look(1)
    assert [line["request content"] for line in lines(caplog)] == ["", "", ""]
    assert "secret" not in str(lines(caplog))


def test_a_read_that_takes_longer_than_an_apply_may_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    watched = Watched()
    scan = rpc_pb2.RangeRequest(key=b"a", range_end=b"b")
    reads = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range=scan)])
    write = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a"))])
    for path, request in (
        ("/etcdserverpb.KV/Range", scan),
        ("/etcdserverpb.KV/Txn", reads),
        ("/etcdserverpb.KV/Txn", write),
        ("/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=b"a")),
    ):
        watched.add(path, request.SerializeToString())
    quick = watched.add("/etcdserverpb.KV/Range", scan.SerializeToString())
    watched.look(0)
    quick.finished = True
    watched.look(0.05)
    for call in watched.calls:
        call.finished = True
    watched.look(0.1)
    said = [record.fields for record in caplog.records if record.getMessage() == "apply request took too long"]  # type: ignore[attr-defined]
    assert [line["prefix"] for line in said] == ["read-only range ", "read-only txn "]
    assert (said[0]["took"], said[0]["expected-duration"]) == ("150ms", "100ms")
    assert said[0]["request"] == 'key: "a" range_end: "b"'
    assert watched.applies.count == 2


def test_below_the_smallest_interval_each_call_is_noted_as_it_arrives(caplog: pytest.LogCaptureFixture) -> None:
    """--warning-unary-request-duration=1us: a call that ends within the turn in which it began is reported, too."""
    caplog.set_level(logging.WARNING)
    now = 0.0
    slow = SlowCalls(list, 1e-6, SlowApplies(0.1), clock=lambda: now)

    def handle(call: Any, body: bytes) -> None:
        nonlocal now
        now += 0.002
        call.finished = True

    path = "/etcdserverpb.KV/Put"
    wrapped = slow.wrap({path: unary(handle)})[path]
    wrapped.call(Call(path, b""), b"")  # type: ignore[arg-type]
    slow.look()
    slow.look()
    assert [line["time spent"] for line in lines(caplog)] == ["2ms"]
    ordinary = SlowCalls(list, 0.3, SlowApplies(0.1))
    assert ordinary.wrap({path: unary(handle)})[path].call is handle


def test_an_idle_member_does_not_look() -> None:
    """Of 40 looks a second, an idle member woke as often."""
    looks, call = 0, Call("/etcdserverpb.KV/Put", b"")
    open_calls: list[Call] = []

    def calls() -> list[Call]:
        nonlocal looks
        looks += 1
        return open_calls

    async def looks_are(number: int) -> None:
        while looks < number:
            await asyncio.sleep(0.001)

    async def scenario() -> None:
        running = asyncio.get_running_loop().create_task(SlowCalls(calls, 0.3, SlowApplies(0.02)).run())
        assert await settled(lambda: looks, quiet_seconds=0.2) == 1
        open_calls.append(call)
        intake_of_running_loop().spend(1)
        await looks_are(4)  # while the call is open
        call.finished = True
        open_calls.clear()
        before = await settled(lambda: looks, quiet_seconds=0.2)
        intake_of_running_loop().spend(1)
        await looks_are(before + 1)
        running.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))
