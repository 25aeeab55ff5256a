"""The gateway over handlers of a test: conversion, streams, limits, and clients that are slow or disconnect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import Code, StatusError
from tercet.gateway.gateway import Gateway, call_timeout
from tercet.gateway.json_encode import RESPONSE, STREAM, encode
from tercet.gateway.json_syntax import JsonSyntaxError, NoValue, end_of_value
from tercet.gateway.paths import ROUTES
from tercet.http1.messages import Response
from tercet.proto import election_pb2, lock_pb2, rpc_pb2
from tercet.rpc import Handler, ServerStream, UnaryCall, bidi_stream, method_table, unary
from tests.support.waiting import scaled

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(scaled(60)):
            await test()

    asyncio.run(bounded())


async def post(handlers: dict[str, Handler], path: str, body: bytes, *headers: tuple[bytes, bytes]) -> Response:
    gateway = Gateway(method_table(handlers), message_bytes_max=1 << 20)
    return await gateway.handle(b"POST", path.encode(), headers, body)


def test_every_method_but_range_stream_has_a_path() -> None:
    modules = (rpc_pb2, lock_pb2, election_pb2)
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods - {route.method for route in ROUTES.values()} == {"/etcdserverpb.KV/RangeStream"}


def test_a_request_reaches_the_method_with_its_metadata() -> None:
    seen: list[tuple[rpc_pb2.PutRequest, bytes | None, bytes | None, float | None]] = []

    def put(call: UnaryCall, message: bytes) -> None:
        request = rpc_pb2.PutRequest.FromString(message)
        seen.append((request, call.header("authorization"), call.header("hasleader"), call.deadline))
        call.reply(b"")

    async def test() -> None:
        headers = (
            (b"authorization", b"token"),
            (b"grpc-metadata-hasleader", b"true"),
            (b"x-other", b"1"),
            (b"grpc-timeout", b"9S"),
        )
        status, fields, body = await post({PUT: unary(put)}, "/v3/kv/put", b'{"key":"YQ","lease":"5"}', *headers)
        assert (status, body) == (200, b"{}")
        assert (b"Content-Type", b"application/json") in fields

    run(test)
    ((request, token, leader, deadline),) = seen
    assert request == rpc_pb2.PutRequest(key=b"a", lease=5)
    assert (token, leader) == (b"token", b"true")
    assert deadline is not None


def test_a_timeout_may_have_any_number_of_zeros_but_not_of_digits() -> None:
    """Python refuses to convert more than 4,300 digits, zeros included."""
    assert call_timeout([(b"grpc-timeout", b"0" * 5000 + b"9S")]) == 9.0
    assert call_timeout([(b"grpc-timeout", b"-" + b"0" * 5000 + b"1S")]) == -1.0
    with pytest.raises(StatusError, match="invalid grpc-timeout"):
        call_timeout([(b"grpc-timeout", b"1" * 5000 + b"S")])


def test_errors_have_codes_and_statuses() -> None:
    def put(call: UnaryCall, message: bytes) -> None:
        call.fail(Code.UNAUTHENTICATED, 'say "who"')

    async def test() -> None:
        status, fields, body = await post({PUT: unary(put)}, "/v3/kv/put", b"{}")
        assert status == 401
        assert (b"Www-Authenticate", b'say "who"') in fields
        assert body == b'{"code":16, "message":"say \\"who\\""}'

    run(test)


def test_a_request_larger_than_grpc_accepts_is_refused() -> None:
    async def test() -> None:
        status, _, body = await post({}, "/v3/kv/put", f'{{"value":"{"YWFh" * (1 << 19)}"}}'.encode())
        assert status == 429
        assert isinstance(body, bytes)
        assert b"grpc: received message larger than max (" in body

    run(test)


def test_d38_deep_and_wide_bodies_are_refused_or_ignored() -> None:
    async def test() -> None:
        handlers = {PUT: unary(lambda call, message: call.reply(b""))}
        for body, expected in (
            (b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
            (b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}", 200),
            (b'{"x":[' + b"0," * 30_000 + b"0]}", 200),
            (b"{" + b",".join(b'"x%d":0' % number for number in range(20_000)) + b"}", 200),
        ):
            assert (await post(handlers, "/v3/kv/put", body))[0] == expected
        nested = b'{"success":[{"request_txn":' * 60 + b"{}" + b"}]}" * 60
        status, _, text = await post(handlers, "/v3/kv/txn", nested)
        assert (status, text) == (400, b'{"code":3, "message":"proto: exceeded max recursion depth"}')

    run(test)


def test_a_large_reply_is_streamed_and_other_tasks_run_meanwhile() -> None:
    kvs = [{"key": b"k%d" % number, "value": b"v" * 100, "mod_revision": number} for number in range(5_000)]
    reply = rpc_pb2.RangeResponse(kvs=kvs, count=len(kvs))  # type: ignore[arg-type]

    async def test() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        handlers = {RANGE: unary(lambda call, message: call.reply(reply.SerializeToString()))}
        _, _, body = await post(handlers, "/v3/kv/range", b"{}")
        assert not isinstance(body, bytes)
        parts = [part async for part in body]
        task.cancel()
        assert max(map(len, parts)) < 64 << 10
        assert turns > len(parts) // 2
        answered = json.loads(b"".join(parts))
        assert answered["count"] == "5000"
        assert [kv["mod_revision"] for kv in answered["kvs"][1:]] == [str(number) for number in range(1, 5_000)]

    run(test)


async def echo(stream: ServerStream) -> None:
    async for message in stream:
        request = rpc_pb2.WatchRequest.FromString(message)
        await stream.send(rpc_pb2.WatchResponse(watch_id=request.create_request.watch_id).SerializeToString())


async def lines(response: Response) -> list[bytes]:
    body = response[2]
    assert not isinstance(body, bytes)
    return [part async for part in body]


def test_a_stream_answers_each_request_of_the_body_with_a_line() -> None:
    async def test() -> None:
        body = b'{"create_request":{"watch_id":1}} {"createRequest":{"watchId":"2"}}\n'
        response = await post({WATCH: bidi_stream(echo)}, "/v3/watch", body)
        assert await lines(response) == [b'{"result":{"watch_id":"1"}}\n', b'{"result":{"watch_id":"2"}}\n']

    run(test)


def test_an_error_before_the_first_response_is_the_status_and_later_a_line() -> None:
    async def fails(stream: ServerStream) -> None:
        async for message in stream:
            if not rpc_pb2.WatchRequest.FromString(message).HasField("create_request"):
                raise StatusError(Code.UNAVAILABLE, "a <b> & c")
            await stream.send(b"")

    async def test() -> None:
        handlers = {WATCH: bidi_stream(fails)}
        error = b'{"error":{"code":14,"message":"a \\u003cb\\u003e \\u0026 c"}}\n'
        assert await post(handlers, "/v3/watch", b"{}") == (503, [(b"Content-Type", b"application/json")], error)
        assert await lines(await post(handlers, "/v3/watch", b'{"create_request":{}}{}')) == [b'{"result":{}}\n', error]

    run(test)


@pytest.mark.parametrize("timeout", [b"1n", b"-1S"])
def test_a_stream_that_is_too_late_fails_like_a_unary_call(timeout: bytes) -> None:
    async def unwanted(stream: ServerStream) -> None:
        raise AssertionError("the call has begun")

    async def test() -> None:
        handlers = {WATCH: bidi_stream(unwanted)}
        status, _, body = await post(handlers, "/v3/watch", b"{}", (b"grpc-timeout", timeout))
        assert (status, body) == (504, b'{"code":4, "message":"context deadline exceeded"}')

    run(test)


@pytest.mark.parametrize("received", [0, 1])
def test_the_call_is_cancelled_with_the_response(received: int) -> None:
    async def test() -> None:
        ended = asyncio.Event()

        async def endless(stream: ServerStream) -> None:
            try:
                while True:
                    await stream.send(b"")
            finally:
                ended.set()

        _, _, body = await post({WATCH: bidi_stream(endless)}, "/v3/watch", b"{}")
        assert not isinstance(body, bytes)
        for _ in range(received):
            await anext(body)
        await body.aclose()  # type: ignore[attr-defined]
        await ended.wait()

    run(test)


def test_a_client_that_does_not_read_stops_the_sender() -> None:
    async def test() -> None:
        sent = 0

        async def endless(stream: ServerStream) -> None:
            nonlocal sent
            while True:
                await stream.send(rpc_pb2.WatchResponse(cancel_reason="x" * 10_000).SerializeToString())
                sent += 1

        _, _, body = await post({WATCH: bidi_stream(endless)}, "/v3/watch", b"{}")
        assert isinstance(body, AsyncIterator)
        for _ in range(200):
            await asyncio.sleep(0)
        assert sent < 40  # what the stream buffers, 256 KiB
        await body.aclose()  # type: ignore[attr-defined]

    run(test)


def test_a_call_whose_client_disconnects_before_the_first_response_is_cancelled() -> None:
    async def test() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def silent(stream: ServerStream) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        task = asyncio.create_task(post({WATCH: bidi_stream(silent)}, "/v3/watch", b"bad"))
        await began.wait()
        task.cancel()
        await ended.wait()

    run(test)


MESSAGES = (
    rpc_pb2.RangeResponse(kvs=[{"key": b"\x00\xff", "version": 2}], more=True, count=3),  # type: ignore[list-item]
    rpc_pb2.TxnResponse(responses=[{"response_put": {}}, {"response_range": {}}]),  # type: ignore[list-item]
    rpc_pb2.AlarmResponse(alarms=[{"memberID": 7, "alarm": rpc_pb2.NOSPACE}]),  # type: ignore[list-item]
    rpc_pb2.MemberListResponse(members=[{"ID": 1, "name": 'é"\n<', "peerURLs": ["a", "b"], "isLearner": True}]),  # type: ignore[list-item]
    rpc_pb2.HashKVResponse(hash=4294967295, compact_revision=-1),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_are_encoded_as_by_protobufs_own_mapping(message: Message) -> None:
    from google.protobuf.json_format import MessageToDict

    expected = MessageToDict(message, preserving_proto_field_name=True)
    for style in (RESPONSE, STREAM):
        assert json.loads("".join(encode(type(message), [message.SerializeToString()], style))) == expected


@given(st.text(alphabet='{}[]",:\\ \n-.0123456789eEtrufalsn\x01x', max_size=12))
def test_syntax_is_accepted_and_refused_as_by_the_json_module(text: str) -> None:
    body = text.encode()
    try:
        begin, end = end_of_value(body, 0)
    except NoValue:
        assert not text.strip(" \n")
    except JsonSyntaxError:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    else:
        json.loads(body[begin:end])
