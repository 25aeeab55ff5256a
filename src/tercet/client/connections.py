"""What carries a client's calls: a connection over HTTP/2, or one to a server in the same event loop. For type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.rpc import Channel, ClientStream, InProcessConnection, InProcessStream

    Connection = Channel | InProcessConnection
    Stream = ClientStream | InProcessStream
