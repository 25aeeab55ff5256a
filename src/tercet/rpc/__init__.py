"""gRPC over HTTP/2, or within one process: server and client, independent of any service.

Unary calls are plain callbacks, streams are coroutines. Every connection is flushed once per loop turn; every queue is bounded.
"""

from typing import TYPE_CHECKING

from tercet.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from tercet.rpc.call import Call, Peer, ServerStream, StreamOver, UnaryCall
    from tercet.rpc.channel import Channel
    from tercet.rpc.client_call import RpcError
    from tercet.rpc.client_connection import ChannelOptions
    from tercet.rpc.client_stream import ClientStream
    from tercet.rpc.client_traffic import TrafficCount
    from tercet.rpc.client_unary import ClientUnary, UnaryCallback
    from tercet.rpc.handlers import (
        Handler,
        StreamHandler,
        UnaryHandler,
        bidi_stream,
        malformed_request,
        method_table,
        server_stream,
        unary,
        unary_async,
        unmarshal,
        unmarshal_streamed,
    )
    from tercet.rpc.headers import Metadata
    from tercet.rpc.http_exchange import HttpHandler, HttpResponse
    from tercet.rpc.in_process import InProcessChannel, InProcessStream
    from tercet.rpc.in_process_connection import InProcessConnection
    from tercet.rpc.method import DURATION_BOUNDS, Kind, Method
    from tercet.rpc.server import Server
    from tercet.rpc.server_connection import ServerConnection
    from tercet.rpc.server_state import ServerOptions

__all__ = [
    "DURATION_BOUNDS",
    "Call",
    "Channel",
    "ChannelOptions",
    "ClientStream",
    "ClientUnary",
    "Handler",
    "HttpHandler",
    "HttpResponse",
    "InProcessChannel",
    "InProcessConnection",
    "InProcessStream",
    "Kind",
    "Metadata",
    "Method",
    "Peer",
    "RpcError",
    "Server",
    "ServerConnection",
    "ServerOptions",
    "ServerStream",
    "StreamHandler",
    "StreamOver",
    "TrafficCount",
    "UnaryCall",
    "UnaryCallback",
    "UnaryHandler",
    "bidi_stream",
    "malformed_request",
    "method_table",
    "server_stream",
    "unary",
    "unary_async",
    "unmarshal",
    "unmarshal_streamed",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "call": ("Call", "Peer", "ServerStream", "StreamOver", "UnaryCall"),
        "channel": ("Channel",),
        "client_call": ("RpcError",),
        "client_connection": ("ChannelOptions",),
        "client_stream": ("ClientStream",),
        "client_unary": ("ClientUnary", "UnaryCallback"),
        "client_traffic": ("TrafficCount",),
        "handlers": (
            "Handler",
            "StreamHandler",
            "UnaryHandler",
            "bidi_stream",
            "malformed_request",
            "method_table",
            "server_stream",
            "unary",
            "unary_async",
            "unmarshal",
            "unmarshal_streamed",
        ),
        "headers": ("Metadata",),
        "http_exchange": ("HttpHandler", "HttpResponse"),
        "in_process": ("InProcessChannel", "InProcessStream"),
        "in_process_connection": ("InProcessConnection",),
        "method": ("DURATION_BOUNDS", "Kind", "Method"),
        "server": ("Server",),
        "server_connection": ("ServerConnection",),
        "server_state": ("ServerOptions",),
    },
)
