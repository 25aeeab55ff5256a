"""Health checks, the metrics listener, origins and hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable

import pytest

from tercet import errors
from tercet.http import Access, Response, Routes, Versions
from tests.http.member import FakeMember, make_routes
from tests.support.waiting import scaled


def ask(routes: Routes, target: bytes, method: bytes = b"GET", *headers: tuple[bytes, bytes], secure: bool = True) -> Response:
    handle: Awaitable[Response] = (routes.handle if secure else routes.handle_plain)(method, target, headers, b"")

    async def answer() -> Response:
        async with asyncio.timeout(scaled(5)):
            return await handle

    return asyncio.run(answer())


def body(response: Response) -> bytes:
    assert isinstance(response[2], bytes)
    return response[2]


@pytest.mark.parametrize(
    ("member", "target", "reason"),
    [
        (FakeMember(), b"/health", ""),
        (FakeMember(alarm_names=["NOSPACE"]), b"/health", "ALARM NOSPACE"),
        (FakeMember(alarm_names=["NOSPACE"]), b"/health?exclude=NOSPACE", ""),
        (FakeMember(alarm_names=["NOSPACE", "CORRUPT"]), b"/health?exclude=NOSPACE", "ALARM CORRUPT"),
        (FakeMember(alarm_names=["NOSPACE", "CORRUPT"]), b"/health?exclude=NOSPACE&exclude=CORRUPT", ""),
        (FakeMember(alarm_names=["17"]), b"/health", "ALARM UNKNOWN"),
        (FakeMember(leader=False), b"/health", "RAFT NO LEADER"),
        (FakeMember(leader=False), b"/health?serializable=true", ""),
        (FakeMember(leader=False), b"/health?serializable=1", "RAFT NO LEADER"),
        (FakeMember(error=errors.TIMEOUT), b"/health", "RANGE ERROR:etcdserver: request timed out"),
        (FakeMember(hangs=True), b"/health", "RANGE ERROR:etcdserver: request timed out"),
        (FakeMember(hangs=True), b"/health?serializable=true", ""),
    ],
)
def test_health(member: FakeMember, target: bytes, reason: str) -> None:
    routes, health = make_routes(member, timeout_seconds=0.02)
    status, fields, answer = ask(routes, target)
    assert isinstance(answer, bytes)
    assert json.loads(answer) == {"health": "false" if reason else "true", "reason": reason}
    assert status == (503 if reason else 200)
    assert answer.endswith(b"\n") is bool(reason)
    assert ((b"X-Content-Type-Options", b"nosniff") in fields) is bool(reason)
    assert (health.counters.failures, health.counters.successes) == (int(bool(reason)), int(not reason))


def test_live_and_ready() -> None:
    routes, health = make_routes()
    assert body(ask(routes, b"/livez")) == b"ok\n"
    assert body(ask(routes, b"/livez?verbose")) == b"[+]serializable_read ok\nok\n"
    assert body(ask(routes, b"/readyz?verbose")) == (
        b"[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    )
    assert body(ask(routes, b"/readyz/linearizable_read?verbose")) == b"[+]linearizable_read ok\nok\n"
    assert health.counters.state["readyz", "non_learner"] == 1
    assert health.counters.checks["livez", "serializable_read", "success"] == 2


def test_live_but_not_ready() -> None:
    routes, health = make_routes(FakeMember(hangs=True, learner=True, alarm_names=["CORRUPT"]), timeout_seconds=0.02)
    assert ask(routes, b"/livez")[0] == 200
    status, _, answer = ask(routes, b"/readyz")
    assert (status, answer) == (
        503,
        b"[-]data_corruption failed: alarm activated: CORRUPT\n"
        b"[+]serializable_read ok\n"
        b"[-]linearizable_read failed: etcdserver: request timed out\n"
        b"[-]non_learner failed: not supported for learner\n"
        b"\n",
    )
    assert health.counters.state["readyz", "linearizable_read"] == 0
    assert health.counters.checks["readyz", "linearizable_read", "error"] == 1
    excluded = b"/readyz?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner"
    assert body(ask(routes, excluded)) == b"ok\n"
    assert ask(routes, b"/readyz/non_learner?exclude=non_learner")[0] == 503


def test_nospace_does_not_make_a_member_unready() -> None:
    routes, _ = make_routes(FakeMember(alarm_names=["NOSPACE"]))
    assert ask(routes, b"/readyz")[0] == 200


@pytest.mark.parametrize(
    "path",
    [b"/livez/", b"/livez/linearizable_read", b"/readyz/x", b"/livezx", b"/v3/kv/range", b"/v2/keys", b"/v3alpha/kv/range"],
)
def test_unknown_paths_are_404(path: bytes) -> None:
    status, _, answer = ask(make_routes()[0], path)
    assert (status, answer) == (404, b"404 page not found\n")


@pytest.mark.parametrize("path", [b"/health", b"/livez", b"/readyz/non_learner", b"/version", b"/debug/vars"])
def test_methods_other_than_get_are_405(path: bytes) -> None:
    status, fields, answer = ask(make_routes()[0], path, b"POST")
    assert (status, answer) == (405, b"Method Not Allowed\n")
    assert (b"Allow", b"GET") in fields


def test_versions_before_they_are_known() -> None:
    routes, _ = make_routes(versions=Versions("3.7.1", "", ""))
    assert body(ask(routes, b"/version")) == b'{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}'


def test_the_metrics_listener_serves_metrics_and_health_only() -> None:
    routes, _ = make_routes(metrics_only=True, access=Access(hosts=frozenset(("other",))))
    for path, status in (
        (b"/metrics", 200),
        (b"/health", 200),
        (b"/livez", 200),
        (b"/readyz", 200),
        (b"/version", 404),
        (b"/debug/vars", 404),
    ):
        answered, fields, _ = ask(routes, path, b"GET", (b"host", b"evil"), (b"origin", b"http://x"), secure=False)
        assert answered == status
        assert not [name for name, _ in fields if name.startswith(b"Access-Control")]


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        (("*",), b"", b"*"),
        (("*",), b"http://a:1", b"*"),
        ((), b"http://a:1", b"*"),
        (("http://a:1",), b"http://a:1", b"http://a:1"),
        (("http://a:1",), b"http://b:1", b""),
        (("http://a:1",), b"", b""),
    ],
)
def test_origins(allowed: tuple[str, ...], origin: bytes, answer: bytes) -> None:
    routes, _ = make_routes(access=Access(cors=frozenset(allowed)))
    _, fields, _ = ask(routes, b"/version", b"GET", *([(b"origin", origin)] if origin else []))
    assert dict(fields).get(b"Access-Control-Allow-Origin", b"") == answer
    assert (b"Access-Control-Allow-Methods" in dict(fields)) is bool(answer)


def test_every_host_is_accepted_over_tls() -> None:
    routes, _ = make_routes(access=Access(hosts=frozenset(("good",))))
    assert ask(routes, b"/version", b"GET", (b":authority", b"evil:1"), secure=True)[0] == 200
    status, fields, answer = ask(routes, b"/version", b"GET", (b"host", b"<evil>"), secure=False)
    assert status == 421
    assert not [name for name, _ in fields if name.startswith(b"Access-Control")]
    assert isinstance(answer, bytes)
    assert b'--host-whitelist "<evil>"' in answer
    assert (b"X-Content-Type-Options", b"nosniff") in fields


def test_too_many_query_fields_are_refused() -> None:
    assert ask(make_routes()[0], b"/health?" + b"exclude=x&" * 200)[0] == 400


def test_d28_out_of_space_health_names_the_alarm_and_liveness_stays_green() -> None:
    routes, _ = make_routes(FakeMember(alarm_names=["NOSPACE"]))
    status = {path: asyncio.run(routes.handle(b"GET", path, [], b""))[0] for path in (b"/health", b"/livez", b"/readyz")}
    assert status == {b"/health": 503, b"/livez": 200, b"/readyz": 200}
