"""GODEBUG=http2debug=2 prints the header fields of every request, in etcd's lines, and no token."""

from __future__ import annotations

import io
import re

import pytest

from tercet.rpc import Channel, ServerOptions
from tercet.server.header_trace import header_trace
from tests.rpc.harness import run, serving


@pytest.mark.parametrize("value", ["", "http2debug=1", "http2debug", "madvdontneed=1", "http2debug=20"])
def test_other_settings_print_nothing(value: str) -> None:
    assert header_trace({"GODEBUG": value}) is None


def test_every_request_is_printed_also_those_with_the_same_headers() -> None:
    out = io.StringIO()

    async def main() -> None:
        options = ServerOptions(trace_headers=header_trace({"GODEBUG": "madvdontneed=1,http2debug=2"}, out))
        async with serving(options=options) as (_, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            for _ in range(3):
                await channel.unary("/test.Test/Echo", b"x", metadata=(("token", "secret.7"), ("x", 'a"b')))
            await channel.close()
            lines = out.getvalue().splitlines()
            authority = f'http2: decoded hpack field header field ":authority" = "127.0.0.1:{port}"'
            assert sum(line.endswith(authority) for line in lines) == 3

    run(main())
    printed = out.getvalue()
    assert all(
        re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d http2: decoded hpack field header field \"", line)
        for line in printed.splitlines()
    )
    assert printed.count(' "x" = "a\\"b"') == 3
    assert printed.count(' "token" = "fingerprint ') == 3
    assert "secret" not in printed


@pytest.mark.parametrize("name", ["authorization", "grpcgateway-authorization", "proxy-authorization", "cookie"])
def test_what_carries_a_token_is_not_printed(name: str) -> None:
    out = io.StringIO()
    trace = header_trace({"GODEBUG": "http2debug=2"}, out)
    assert trace is not None
    trace(((name.encode(), b"Bearer secret.7"), (b"x", b"shown")))
    assert "secret" not in out.getvalue()
    assert "shown" in out.getvalue()
