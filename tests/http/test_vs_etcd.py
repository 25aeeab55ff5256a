"""The same request to etcd 3.5.1 and to our routes gets the same response, where 3.7 agrees with 3.5."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tercet.http import Access
from tests.http.fetch import Answer, fetch
from tests.http.member import make_routes, served
from tests.support.etcd import running_etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_etcd(tmp_path_factory.mktemp("etcd"), "--host-whitelist", "127.0.0.1,good.example") as running:
        yield running.client_url


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    routes, _ = make_routes(access=Access(hosts=frozenset(("127.0.0.1", "good.example"))))
    with served(routes) as port:
        yield f"http://127.0.0.1:{port}"


def head(answer: Answer) -> tuple[int, dict[str, str]]:
    return answer.status, answer.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/health", "/health?serializable=true&exclude=NOSPACE", "/nope", "/", "/version/", "/debug/pprof/"]
)
def test_same_answer(etcd: str, ours: str, method: str, path: str) -> None:
    assert fetch(ours + path, method) == fetch(etcd + path, method)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/version", "/debug/vars", "/metrics"])
def test_same_head_where_bodies_differ(etcd: str, ours: str, method: str, path: str) -> None:
    theirs, own = (head(fetch(url + path, method)) for url in (etcd, ours))
    if theirs[1].get("Content-Type", "").startswith("text/plain; version="):
        theirs[1]["Content-Type"] += "; escaping=underscores"  # new in 3.7
    assert own == theirs


@pytest.mark.parametrize("path", ["//version", "/./version", "/a/../version?x=1", "/version/..", "//nope/"])
def test_same_redirect(etcd: str, ours: str, path: str) -> None:
    theirs, own = fetch(etcd + path), fetch(ours + path)
    assert own.headers == theirs.headers
    assert (theirs.status, own.status) == (301, 307)  # the Go version of etcd 3.7 redirects temporarily
    assert own.body == theirs.body.replace(b"Moved Permanently", b"Temporary Redirect")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:2379", "good.example", "good.example:1", "GOOD.example", "[::1]:5"]
)
def test_the_same_hosts_are_accepted(etcd: str, ours: str, host: str) -> None:
    assert head(fetch(f"{ours}/health", headers={"Host": host})) == head(fetch(f"{etcd}/health", headers={"Host": host}))


def test_versions_have_the_same_shape(etcd: str, ours: str) -> None:
    theirs, own = (json.loads(fetch(f"{url}/version").body) for url in (etcd, ours))
    assert own == {"etcdserver": "3.7.1", "etcdcluster": "3.7.0", "storage": "3.7.0"}
    assert set(own) - set(theirs) == {"storage"}  # new in 3.6


def test_debug_vars_have_the_same_shape(etcd: str, ours: str) -> None:
    theirs, own = (fetch(f"{url}/debug/vars").body for url in (etcd, ours))
    assert set(json.loads(own)) == set(json.loads(theirs))
    assert own.startswith(b'{\n"cmdline": [')
    assert own.endswith(b"\n}\n")
    assert json.loads(own)["memstats"]["Alloc"] > 0
