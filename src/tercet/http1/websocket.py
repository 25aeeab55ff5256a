"""The server side of a WebSocket (RFC 6455) on a connection that an HTTP/1.1 request has upgraded.

    async def session(socket: WebSocket) -> None:
        while (message := await socket.receive()) is not None:
            await socket.send(answer(message))          # waits while the client does not read

The connection is closed when the session returns. At most `message_bytes_max` of received messages are buffered; beyond half of
that, and while the client does not read, reading pauses. Frames are handled in slices of a turn (intake.py): they may be empty.
Framing is wsproto's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, cast

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from tercet.http1.event_work import PIECE_WORK
from tercet.http1.messages import CLIENT_NAME, Headers
from tercet.http1.upgrade import BadUpgrade
from tercet.intake import BYTES_SHIFT, intake_of_running_loop

logger = logging.getLogger(__name__)
_WRITE_SECONDS: Final = 300.0
_EVENT_WORK: Final = 8  # about 40 us
_FRAME_BYTES: Final = 64  # of memory that a frame is counted with beyond its payload, which may be empty
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
        self._fragment_bytes = 0
        self._messages: deque[tuple[bytes, int]] = deque()  # with what they count in `_buffered`
        self._buffered = 0
        self._is_ended = False  # no message will follow
        self._intake = intake_of_running_loop()
        self._events: Iterator[Event] | None = None  # what is left for later turns
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
        message, size = self._messages.popleft()
        self._buffered -= size
        self._read_or_pause()
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
        except RemoteProtocolError as error:
            self._close(_PROTOCOL_ERROR, str(error))
            return
        if self._events is not None:
            return
        events: Iterator[Event] = self._machine.events()
        is_admitted = self._intake.admits()
        if not is_admitted or self._handle(events, self._intake.left):
            self._events = events
            self._intake.wait(self, has_begun=is_admitted)
        self._read_or_pause()

    def take_piece(self) -> bool:
        """Handle some of the frames that take several turns (intake.Waiting)."""
        if self._events is not None and self._handle(self._events, PIECE_WORK):
            return True
        self._events = None
        self._read_or_pause()
        return False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _handle(self, events: Iterator[Event], work: int) -> bool:
        """Handle events until there are no more. True: `work` has been done before that."""
        try:
            for event in events:
                cost = _EVENT_WORK
                if isinstance(event, TextMessage | BytesMessage):
                    cost += len(event.data) >> BYTES_SHIFT
                    self._take(event)
                elif isinstance(event, CloseConnection):
                    self._send_event(event.response())
                    self._end()
                elif isinstance(event, Ping):
                    self._send_event(event.response())
                work -= cost
                self._intake.spend(cost)
                if work <= 0:
                    return self._transport is not None
        except RemoteProtocolError as error:
            self._close(_PROTOCOL_ERROR, str(error))
        return False

    def _read_or_pause(self) -> None:
        """Read from the client unless it is ahead of the session, of this turn, or of its own reading."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._events is None and self._room.is_set() and self._buffered <= self._message_bytes_max // 2:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._room.set()
        self._end()
        if self._task is not None:
            self._task.cancel()
        self._intake.free(self)

    def pause_writing(self) -> None:
        self._room.clear()
        self._read_or_pause()

    def resume_writing(self) -> None:
        self._room.set()
        self._read_or_pause()

    # Internal

    def _take(self, event: TextMessage | BytesMessage) -> None:
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._fragments.append(data)
        self._fragment_bytes += len(data) + _FRAME_BYTES
        self._buffered += len(data) + _FRAME_BYTES
        if self._buffered > 2 * self._message_bytes_max:
            self._close(_TOO_BIG, "too much data")
            return
        if event.message_finished:
            self._messages.append((b"".join(self._fragments), self._fragment_bytes))
            self._fragments.clear()
            self._fragment_bytes = 0
            self._arrival.set()

    async def _run(self) -> None:
        try:
            await self._session(self)
        except ConnectionError:
            pass
        except Exception:
            logger.exception("WebSocket session failed")
        finally:
            self._task = None  # it refers to this connection: neither must wait for a garbage collection
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
