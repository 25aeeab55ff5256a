"""Health endpoints: /health as since etcd 3.3, /livez and /readyz for Kubernetes.

/livez fails if a restart would help, /readyz if the member cannot serve now. A member without a leader is live but not ready;
one that is out of space is live and ready, and /health names the alarm.

Source: etcd server/etcdserver/api/etcdhttp/health.go.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from tercet.errors import TIMEOUT, StatusError, strip_traceback
from tercet.http1.messages import TEXT, Response, error, plain

logger = logging.getLogger(__name__)
Query = Mapping[str, Sequence[str]]
Check = Callable[[], Awaitable[None]]
_NAMED_ALARMS = frozenset({"NOSPACE", "CORRUPT"})


class Probes(Protocol):
    """The member's state."""

    async def linearizable_read(self) -> None:
        """Read one key, confirmed by a quorum. Raises StatusError."""

    async def serializable_read(self) -> None:
        """Read one key from the local store. Raises StatusError."""

    def alarms(self) -> Iterable[str]:
        """Names of the active alarms: NOSPACE, CORRUPT; the number of any other."""

    def has_leader(self) -> bool: ...

    def is_learner(self) -> bool: ...


class CheckFailed(Exception):
    """A check failed; the text is shown to the client."""


class HealthCounters:
    """Plain integers, read when /metrics is scraped."""

    __slots__ = ("checks", "failures", "state", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.state: dict[tuple[str, ...], int] = {}
        """(livez or readyz, check): 1 if it passed the last time, else 0."""
        self.checks: dict[tuple[str, ...], int] = {}
        """(livez or readyz, check, success or error): count."""

    def record(self, kind: str, check: str, *, ok: bool) -> None:
        self.state[kind, check] = int(ok)
        key = (kind, check, "success" if ok else "error")
        self.checks[key] = self.checks.get(key, 0) + 1


class Health:
    """timeout_seconds: a read that takes longer has failed."""

    def __init__(self, probes: Probes, *, timeout_seconds: float = 7.0) -> None:
        self._probes = probes
        self._timeout_seconds = timeout_seconds
        self.counters = HealthCounters()
        serializable, linearizable = self._serializable_read, self._linearizable_read
        self._checks: dict[str, dict[str, Check]] = {
            "livez": {"serializable_read": serializable},
            "readyz": {
                "data_corruption": self._data_corruption,
                "serializable_read": serializable,
                "linearizable_read": linearizable,
                "non_learner": self._non_learner,
            },
        }

    async def health(self, query: Query) -> Response:
        """GET /health[?serializable=true][&exclude=ALARM]."""
        serializable = query.get("serializable", [""])[0] == "true"
        reason = await self._unhealthy_reason(frozenset(query.get("exclude", ())), serializable=serializable)
        body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":")).encode()
        if reason:
            self.counters.failures += 1
            logger.warning("serving /health false", extra={"fields": {"reason": reason}})
            return error(503, body)
        self.counters.successes += 1
        return plain(200, body)

    async def _unhealthy_reason(self, excluded: frozenset[str], *, serializable: bool) -> str:
        """Why the member is unhealthy, in etcd's words; "" if it is healthy."""
        for alarm in self._probes.alarms():
            if alarm not in excluded:
                return f"ALARM {alarm if alarm in _NAMED_ALARMS else 'UNKNOWN'}"
        if not serializable and not self._probes.has_leader():
            return "RAFT NO LEADER"
        try:
            await (self._serializable_read() if serializable else self._linearizable_read())
        except CheckFailed as failed:
            return f"RANGE ERROR:{failed}"
        return ""

    def has(self, path: str) -> bool:
        """Whether `path` is /livez, /readyz, or one of their checks."""
        kind, _, name = path[1:].partition("/")
        return kind in self._checks and path != f"/{kind}/" and (not name or name in self._checks[kind])

    async def check(self, path: str, query: Query) -> Response:
        """GET of a path for which `has` is true. Runs its checks one after the other."""
        kind, _, name = path[1:].partition("/")
        names = [name] if name else [check for check in self._checks[kind] if check not in query.get("exclude", ())]
        lines = [await self._run(kind, check) for check in names]
        report = "".join(lines).encode()
        if any(line.startswith("[-]") for line in lines):
            logger.error("health check failed", extra={"fields": {"path": path, "reason": report.decode(), "status-code": 503}})
            return error(503, report)
        head = [(b"Content-Type", TEXT), (b"X-Content-Type-Options", b"nosniff")]
        return 200, head, (report if "verbose" in query else b"") + b"ok\n"

    async def _run(self, kind: str, check: str) -> str:
        try:
            await self._checks[kind][check]()
        except CheckFailed as failed:
            self.counters.record(kind, check, ok=False)
            return f"[-]{check} failed: {failed}\n"
        self.counters.record(kind, check, ok=True)
        return f"[+]{check} ok\n"

    async def _serializable_read(self) -> None:
        await self._read(self._probes.serializable_read)

    async def _linearizable_read(self) -> None:
        await self._read(self._probes.linearizable_read)

    async def _read(self, read: Check) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await read()
        except TimeoutError as late:
            raise CheckFailed(TIMEOUT.message) from late
        except StatusError as refused:
            raise CheckFailed(strip_traceback(refused).message) from None

    async def _data_corruption(self) -> None:
        if "CORRUPT" in self._probes.alarms():
            raise CheckFailed("alarm activated: CORRUPT")

    async def _non_learner(self) -> None:
        if self._probes.is_learner():
            raise CheckFailed("not supported for learner")
