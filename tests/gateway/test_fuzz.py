"""Whatever a body holds, each path answers with JSON and a client's status, and the call underneath parses its request."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from tercet.gateway.gateway import Gateway
from tercet.gateway.paths import ROUTES, Route
from tercet.rpc import Handler, ServerStream, UnaryCall, bidi_stream, method_table, server_stream, unary
from tests.support.properties import examples
from tests.support.waiting import scaled


def parsed(route: Route) -> Handler:
    """A handler that parses each request and answers with an empty message."""

    def answer(call: UnaryCall, message: bytes) -> None:
        route.request.FromString(message)
        call.reply(b"")

    async def answer_all(stream: ServerStream) -> None:
        async for message in stream:
            route.request.FromString(message)
            await stream.send(b"")

    if not route.server_streams:
        return unary(answer)
    return bidi_stream(answer_all) if route.client_streams else server_stream(answer_all)


HANDLERS = {route.method: parsed(route) for route in ROUTES.values()}
NAMES = sorted(
    {name for route in ROUTES.values() for field in route.request.DESCRIPTOR.fields for name in (field.name, field.json_name)}
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["YQ==", "NOSPACE", "77"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
TREES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5).map(lambda tree: json.dumps(tree).encode())
BODIES = TREES | st.tuples(TREES, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] :]
)


@examples(150)
@given(path=st.sampled_from(sorted(ROUTES)), body=BODIES)
def test_any_body_is_answered(path: str, body: bytes) -> None:
    async def ask() -> tuple[int, bytes]:
        gateway = Gateway(method_table(HANDLERS), message_bytes_max=1 << 20)
        async with asyncio.timeout(scaled(10)):
            status, _, answer = await gateway.handle(b"POST", path.encode(), [], body)
            return status, answer if isinstance(answer, bytes) else b"".join([part async for part in answer])

    status, answer = asyncio.run(ask())
    assert status in (200, 400)
    for line in answer.splitlines():
        json.loads(line)
