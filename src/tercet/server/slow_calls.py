"""Log lines about unary calls that take longer than --warning-unary-request-duration, and about reads that take longer than
--warning-apply-duration (slow_requests.py).

    {"msg":"request stats","time spent":"412ms","remote":"127.0.0.1:51724","response type":"/etcdserverpb.KV/Range",
     "request size":8,"request content":"key: \\"a\\" range_end: \\"b\\""}

The open calls are looked at several times a period instead of timing each call, which would cost every call: times are exact to
the interval of these looks. While nothing is received, there are none. Only where the limit is below the smallest interval is
each call noted as it arrives, and looked at each millisecond. Counts and sizes of responses are not known, and shown as -1.
Gateway calls are skipped.

Source: etcd server/etcdserver/api/v3rpc/interceptor.go (logUnaryRequestStats).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError, Message

from tercet.gotext.duration import format_seconds
from tercet.intake import intake_of_running_loop
from tercet.log_fields import fields
from tercet.mvcc.check import is_read_only
from tercet.proto import rpc_pb2
from tercet.rpc import Handler, Kind, Method, Peer, UnaryCall, UnaryHandler
from tercet.server.slow_requests import SlowApplies, describe

logger = logging.getLogger(__name__)
_LOOKS: Final = 4  # in the time that a call may take
_INTERVAL_SECONDS: Final = (0.02, 0.25)  # smallest and largest
_SHORT_INTERVAL_SECONDS: Final = 0.001
_REPORTS_PER_TURN: Final = 50
_CHARACTERS_MAX: Final = 2000
_DESCRIBED_BYTES_MAX: Final = 64 << 10
_REQUESTS: Final[dict[str, type[Message]]] = {
    "Range": rpc_pb2.RangeRequest,
    "Put": rpc_pb2.PutRequest,
    "DeleteRange": rpc_pb2.DeleteRangeRequest,
    "Txn": rpc_pb2.TxnRequest,
}


class OpenCall(Protocol):
    """What is read of a call."""

    method: Method
    finished: bool
    request: bytes

    @property
    def peer(self) -> Peer: ...


class SlowCalls:
    """calls: the unary calls that are open now."""

    def __init__(
        self,
        calls: Callable[[], Iterable[OpenCall]],
        slow_seconds: float,
        applies: SlowApplies,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._slow_seconds = slow_seconds
        self._applies = applies
        self._clock = clock
        self._seen: dict[OpenCall, float] = {}
        self._slow: deque[tuple[OpenCall, float]] = deque()  # have ended, after so many seconds; still to be reported
        self._notes_each = slow_seconds < _INTERVAL_SECONDS[0]

    def wrap(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The same methods, noted here as they are called if that is necessary."""
        if not self._notes_each:
            return dict(handlers)
        return {
            path: Handler(handler.kind, self._noted(handler.call)) if handler.kind is Kind.UNARY else handler  # type: ignore[arg-type]
            for path, handler in handlers.items()
        }

    def _noted(self, handle: UnaryHandler) -> UnaryHandler:
        def note(call: UnaryCall, body: bytes) -> None:
            if hasattr(call, "request"):  # not a gateway's
                self._seen.setdefault(call, self._clock())
            handle(call, body)

        return note

    async def run(self) -> None:
        """Look at the calls until cancelled."""
        smallest, largest = _INTERVAL_SECONDS
        if self._notes_each:
            smallest = _SHORT_INTERVAL_SECONDS
        intake = intake_of_running_loop()
        while True:
            self.look()
            while self._slow:
                await asyncio.sleep(0)
                self._report_some()
            shortest = min(self._slow_seconds, self._applies.slow_seconds)
            await asyncio.sleep(min(max(shortest / _LOOKS, smallest), largest))
            if not self._seen:
                await intake.next_work()

    def look(self) -> None:
        """Report the calls that have ended since they were seen, if they were slow; some of them if they are many."""
        now = self._clock()
        shortest = min(self._slow_seconds, self._applies.slow_seconds)
        for call, since in list(self._seen.items()):
            if call.finished:
                del self._seen[call]
                if now - since >= shortest:
                    self._slow.append((call, now - since))
        for call in self._calls():
            self._seen.setdefault(call, now)
        self._report_some()

    def _report_some(self) -> None:
        """Thousands may end at once, with their connection or their leader."""
        for _ in range(min(len(self._slow), _REPORTS_PER_TURN)):
            call, seconds = self._slow.popleft()
            if seconds >= self._slow_seconds:
                self._report(call, seconds)
            if seconds >= self._applies.slow_seconds:
                self._report_read(call, seconds)

    def _report_read(self, call: OpenCall, seconds: float) -> None:
        request = _request(call.method, call.request) if call.method.name in ("Range", "Txn") else None
        if request is not None and (isinstance(request, rpc_pb2.RangeRequest) or is_read_only(request)):
            self._applies.report_read(request, seconds)

    def _report(self, call: OpenCall, seconds: float) -> None:
        began = datetime.fromtimestamp(time.time() - seconds, UTC)
        line = {
            "start time": began.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "time spent": format_seconds(seconds),
            "remote": call.peer.address,
            "response type": call.method.path.decode(),
            "request count": {"Put": 1, "Range": 0, "DeleteRange": 0}.get(call.method.name, -1),
            "request size": len(call.request),
            "response count": -1,
            "response size": -1,
            "request content": _content(call.method, call.request),
        }
        logger.warning("request stats", extra=fields(line))


def _content(method: Method, request: bytes) -> str:
    """The request without its values, as far as etcd shows it."""
    parsed = _request(method, request)
    return describe(parsed).strip()[:_CHARACTERS_MAX] if parsed is not None else ""


def _request(method: Method, request: bytes) -> Any:
    kind = _REQUESTS.get(method.name) if method.service == "etcdserverpb.KV" else None
    if kind is None or len(request) > _DESCRIBED_BYTES_MAX:
        return None
    try:
        return kind.FromString(request)
    except DecodeError:
        return None
