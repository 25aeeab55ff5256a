"""GODEBUG=http2debug=2: the header fields of each gRPC and HTTP/2 request on standard error, in the lines that etcd prints.

    2026/11/29 14:38:18 http2: decoded hpack field header field ":authority" = "127.0.0.1:2379"

It shows what a client or a proxy before the member sends, such as `:authority` and `user-agent`. For debugging: each request
costs some ten lines. Departs in: frames are not printed, and of a token only its fingerprint.
Source: golang.org/x/net/http2 (frame.go, readMetaFrame).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, TextIO

from tercet.auth import fingerprint
from tercet.gotext.strconv import quote
from tercet.rpc.http2 import Headers

_SECRET: Final = frozenset({b"authorization", b"token", b"grpcgateway-authorization", b"proxy-authorization", b"cookie"})


def header_trace(environ: Mapping[str, str], out: TextIO | None = None) -> Callable[[Headers], None] | None:
    """What prints a request's headers to `out`, standard error by default; None if the environment does not ask for it."""
    settings = dict(part.partition("=")[::2] for part in environ.get("GODEBUG", "").split(","))
    if settings.get("http2debug") != "2":
        return None

    def trace(headers: Headers) -> None:
        stamp = time.strftime("%Y/%m/%d %H:%M:%S")
        target = out if out is not None else sys.stderr
        target.write("".join(f"{stamp} http2: decoded hpack field header field {_field(*one)}\n" for one in headers))
        target.flush()

    return trace


def _field(name: bytes, value: bytes) -> str:
    shown = f"fingerprint {fingerprint(value)}".encode() if name in _SECRET else value
    return f"{quote(name)} = {quote(shown)}"
