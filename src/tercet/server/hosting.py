"""What a program that embeds a member gives it, beyond a configuration; the defaults are those of a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from tercet.http1.messages import HttpHandler
from tercet.rpc import Handler
from tercet.server.member_storage import MemberStorage
from tercet.server.replica_driver import Peers


class Hosting(NamedTuple):
    """storage: None for the disk that the configuration names.

    sockets: bound already, by the address of the listen URL, since a port that the kernel chooses must be known before the
    start. They become the member's.
    services: gRPC handlers beside etcd's, by path. Their calls are neither authenticated nor counted as etcd's.
    routes: HTTP handlers beside etcd's, by path, on the client listeners.
    is_new_cluster: the members of --initial-cluster have never run: they are not asked, nor are their names resolved.
    notifies: tell the service manager in $NOTIFY_SOCKET that the member is ready.
    stops_at_once: stop without waiting for running requests, and without handing over leadership.
    measures_turns: measure how long each turn of the event loop takes; in virtual time none takes long.
    clock: seconds, of leases, tokens and automatic compaction; None for the event loop's.
    wrap_peers: what sends to the peers, in place of the transport.
    reaches: whether a peer's `host:port` can be reached now.
    wrap_handlers: what serves the calls of clients, in place of the given handlers.
    """

    storage: MemberStorage | None = None
    sockets: Mapping[str, socket.socket] = MappingProxyType({})
    services: Mapping[str, Handler] = MappingProxyType({})
    routes: Mapping[str, HttpHandler] = MappingProxyType({})
    is_new_cluster: bool = False
    notifies: bool = True
    stops_at_once: bool = False
    measures_turns: bool = True
    clock: Callable[[], float] | None = None
    wrap_peers: Callable[[Peers], Peers] | None = None
    reaches: Callable[[str], bool] | None = None
    wrap_handlers: Callable[[dict[str, Handler]], dict[str, Handler]] | None = None
