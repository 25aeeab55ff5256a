"""A method that a server offers: its path, its kind, the function that serves it, and its counters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from enum import Enum
from typing import Any

from tercet.errors import Code

# prometheus' default buckets, which go-grpc-prometheus uses for grpc_server_handling_seconds.
DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Kind(Enum):
    """The value is the label `grpc_type` of the metrics."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"


class Method:
    """One method. Its counters are plain integers, read when /metrics is scraped.

    call: a function of (UnaryCall, message) for unary methods, a coroutine function of (ServerStream) for others (handlers.py).
    timed: measure durations (--metrics=extensive).
    """

    __slots__ = (
        "call",
        "duration_counts",
        "duration_sum",
        "handled",
        "is_unary",
        "kind",
        "name",
        "path",
        "received",
        "sent",
        "service",
        "started",
    )

    def __init__(self, path: str, kind: Kind, call: Any, *, timed: bool) -> None:
        if not path.startswith("/") or path.count("/") != 2:
            raise ValueError(f"a method's path is /service/method, not {path!r}")
        self.path = path.encode("ascii")
        self.service, self.name = path[1:].split("/")
        self.kind = kind
        self.is_unary = kind is Kind.UNARY
        self.call: Any = call
        self.started = 0
        self.handled = [0] * len(Code)  # by code
        self.received = 0  # messages of requests and of answers, streams only
        self.sent = 0
        # Calls that took at most DURATION_BOUNDS[i] seconds (not cumulative), the last for longer ones; None: not measured.
        self.duration_counts: list[int] | None = [0] * (len(DURATION_BOUNDS) + 1) if timed else None
        self.duration_sum = 0.0

    # A unary call receives one message and, if it succeeds, sends one: its hot path counts no messages.

    @property
    def messages_received(self) -> int:
        return self.started if self.is_unary else self.received

    @property
    def messages_sent(self) -> int:
        return self.handled[Code.OK] if self.is_unary else self.sent

    def observe(self, seconds: float) -> None:
        """Count one duration (grpc_server_handling_seconds)."""
        if self.duration_counts is not None:
            self.duration_counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
            self.duration_sum += seconds


def unknown_method(path: str, methods: Iterable[Method]) -> str:
    """grpc-go's status text for a path that is none of `methods`."""
    service, slash, name = path.removeprefix("/").rpartition("/")
    if not slash:
        return f'malformed method name: "{path}"'
    if any(method.service == service for method in methods):
        return f"unknown method {name} for service {service}"
    return f"unknown service {service}"
