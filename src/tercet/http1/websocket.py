"""The server side of a WebSocket (RFC 6455) on a connection that an HTTP/1.1 request has upgraded.

    async def session(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            await socket.send(answer(message))          # waits while the client does not read

The connection is closed when the session returns. At most `message_bytes_max` of received messages are buffered; beyond half of
that, reading pauses. Framing is wsproto's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from tercet.http1.messages import CLIENT_NAME, Headers
from tercet.http1.upgrade import BadUpgrade

logger = logging.getLogger(__name__)
_WRITE_SECONDS: Final = 300.0
_NORMAL, _PROTOCOL_ERROR, _TOO_BIG = 1000, 1002, 1009

Session = Callable[["WebSocket"], Awaitable[None]]


class WebSocket(asyncio.Protocol):
    """subprotocols: those of the client's offers that are accepted. Raises BadUpgrade."""

    def __init__(
        self, session: Session, target: bytes, headers: Headers, *, message_bytes_max: int, subprotocols: Sequence[str] = ()
    ) -> None:
        self._session = session
        self._message_bytes_max = message_bytes_max
        self._machine = WSConnection(ConnectionType.SERVER)
        try:
            sent = [(name, value) for name, value in headers if name != CLIENT_NAME]
            self._machine.initiate_upgrade_connection(sent, target)
            (request,) = self._machine.events()
        except (RemoteProtocolError, LocalProtocolError, ValueError) as error:
            raise BadUpgrade(str(error)) from error
        chosen = next((one for one in getattr(request, "subprotocols", ()) if one in subprotocols), None)
        self._greeting = self._machine.send(AcceptConnection(subprotocol=chosen))
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._fragments: list[bytes] = []
        self._messages: deque[bytes] = deque()
        self._buffered = 0
        self._is_ended = False  # no message will follow
        self._arrival = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # For the session

    async def receive(self) -> bytes | None:
        """The next message, text as UTF-8; None when the client has closed."""
        while not self._messages:
            if self._is_ended:
                return None
            self._arrival.clear()
            await self._arrival.wait()
        message = self._messages.popleft()
        self._buffered -= len(message)
        if self._transport is not None and self._buffered <= self._message_bytes_max // 2:
            self._transport.resume_reading()
        return message

    async def send(self, text: str) -> None:
        """Send one text message; returns when the next may be sent. Raises ConnectionError when the client is gone."""
        self._send_event(TextMessage(data=text))
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._room.wait()
        except TimeoutError as late:
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionError("the client does not read") from late
        if self._transport is None:
            raise ConnectionError("the client has disconnected")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._greeting)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data)
            for event in self._machine.events():
                if isinstance(event, TextMessage | BytesMessage):
                    self._take(event)
                elif isinstance(event, CloseConnection):
                    self._send_event(event.response())
                    self._end()
                elif isinstance(event, Ping):
                    self._send_event(event.response())
        except RemoteProtocolError as error:
            self._close(_PROTOCOL_ERROR, str(error))

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._room.set()
        self._end()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    # Internal

    def _take(self, event: TextMessage | BytesMessage) -> None:
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._fragments.append(data)
        self._buffered += len(data)
        if self._buffered > 2 * self._message_bytes_max:
            self._close(_TOO_BIG, "too much data")
            return
        if event.message_finished:
            self._messages.append(b"".join(self._fragments))
            self._fragments.clear()
            self._arrival.set()
            if self._buffered > self._message_bytes_max // 2 and self._transport is not None:
                self._transport.pause_reading()

    async def _run(self) -> None:
        try:
            await self._session(self)
        except ConnectionError:
            pass
        except Exception:
            logger.exception("WebSocket session failed")
        self._close(_NORMAL, "")

    def _close(self, code: int, reason: str) -> None:
        self._send_event(CloseConnection(code=code, reason=reason or None))
        self._end()
        if self._transport is not None:
            self._transport.close()

    def _send_event(self, event: Event) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            data = self._machine.send(event)
        except LocalProtocolError:  # after the close
            return
        self._transport.write(data)

    def _end(self) -> None:
        self._is_ended = True
        self._arrival.set()
