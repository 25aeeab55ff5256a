"""gRPC over HTTP/2: server and client, without knowing a single service.

Unary calls are plain callbacks, streams are coroutines; every connection is flushed once per loop turn; every queue is bounded.
"""

from tercet.rpc.channel import Channel, ChannelOptions
from tercet.rpc.client_call import RpcError
from tercet.rpc.client_streaming import ClientStream
from tercet.rpc.client_unary import ClientUnary, UnaryCallback
from tercet.rpc.connection import TrafficCount
from tercet.rpc.headers import Metadata
from tercet.rpc.http_exchange import HttpHandler, HttpResponse
from tercet.rpc.methods import (
    DURATION_BOUNDS,
    Handler,
    Kind,
    Method,
    bidi_stream,
    client_stream,
    malformed_request,
    server_stream,
    unary,
    unary_async,
    unmarshal,
)
from tercet.rpc.server import Server, ServerOptions
from tercet.rpc.server_connection import Peer, ServerConnection
from tercet.rpc.server_streaming import ServerStream, StreamOver
from tercet.rpc.unary_call import UnaryCall

__all__ = [
    "DURATION_BOUNDS",
    "Channel",
    "ChannelOptions",
    "ClientStream",
    "ClientUnary",
    "Handler",
    "HttpHandler",
    "HttpResponse",
    "Kind",
    "Metadata",
    "Method",
    "Peer",
    "RpcError",
    "Server",
    "ServerConnection",
    "ServerOptions",
    "ServerStream",
    "StreamOver",
    "TrafficCount",
    "UnaryCall",
    "UnaryCallback",
    "bidi_stream",
    "client_stream",
    "malformed_request",
    "server_stream",
    "unary",
    "unary_async",
    "unmarshal",
]
