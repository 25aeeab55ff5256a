"""Compression and Content-Type of /metrics, for the headers that Prometheus and others send; a newer etcd answers the same."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from tercet.http.negotiation import accepts_gzip, escaping
from tests.http.fetch import fetch
from tests.http.member import make_routes, served
from tests.support.etcd import running_etcd
from tests.support.newer import needs_newer_etcd, newer_etcd

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
ACCEPTS = {
    "": "underscores",
    "*/*": "underscores",
    PROMETHEUS_2: "underscores",
    PROMETHEUS_3: "allow-utf-8",
    PROMETHEUS_3.replace("allow-utf-8", "underscores"): "underscores",
    PROMETHEUS_3.replace("allow-utf-8", "dots"): "dots",
    PROMETHEUS_3.replace("allow-utf-8", "values"): "values",
    PROMETHEUS_3.replace("allow-utf-8", "unknown"): "underscores",
    "text/plain;version=1.0.0;escaping=values": "values",
    "text/plain, text/html;escaping=values": "underscores",
    "text/plain;q=0.1, text/html;escaping=values": "values",
    " text / plain ; escaping = dots ; q=0.5 , *;escaping=values": "dots",
    "text/plain;escaping=dots;escaping==values;q=": "dots",
    "*/*;escaping=values, text/plain;q=0.5": "underscores",
    "/plain;escaping=dots": "dots",
    "text/;escaping=dots, text/x/y;escaping=dots, text;escaping=dots": "underscores",
    ",,;,/;,=;q=;": "underscores",
    "text/html;q=nonsense;escaping=dots, text/plain;q=0.1": "underscores",
}
CODINGS = {
    "": False,
    "gzip": True,
    "gzip, deflate, br": True,
    "deflate, gzip;q=1.0": True,
    "deflate,gzip ; q=0.1 ,zstd": True,
    "GZIP": False,
    "xgzip": False,
    "gzip;q=0": False,
    "gzip;q=0.000": False,
    "identity, gzip": False,
    "gzip;q=0.5, identity;q=0.4": True,
    "gzip;q=0.5, identity;q=0.6": False,
    "*": False,
    "gzip, *;q=0.5": True,
    "zstd": False,
    "zstd, gzip": True,
    "gzip;level=1": False,
    "br;level=1, gzip": False,
    "gzip;q=2": False,
    "gzip;q=1.5;x": True,
    "br gzip": False,
    "br,\tgzip": True,
    "(, gzip": False,
}


@pytest.mark.parametrize("accept", ACCEPTS)
def test_the_escaping_that_is_answered(accept: str) -> None:
    assert escaping([(b"accept", accept.encode())]) == ACCEPTS[accept].encode()


@pytest.mark.parametrize("coding", CODINGS)
def test_who_gets_gzip(coding: str) -> None:
    assert accepts_gzip([(b"accept-encoding", coding.encode())]) is CODINGS[coding]


def test_no_header_and_several() -> None:
    assert escaping([]) == b"underscores"
    assert not accepts_gzip([])
    assert accepts_gzip([(b"accept-encoding", b"br"), (b"accept-encoding", b"gzip")])


def test_a_header_of_many_ranges_is_read_as_far_as_it_costs_little() -> None:
    ranges = ",".join(f"a/b;q=0.{number:06d}" for number in range(20_000))
    assert escaping([(b"accept", f"{ranges},text/html;escaping=dots".encode())]) == b"underscores"
    assert accepts_gzip([(b"accept-encoding", b"gzip;q=0." + b"9" * 60_000)])


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    with served(make_routes()[0]) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_etcd(tmp_path_factory.mktemp("newer"), program=newer_etcd()) as running:
        yield running.client_url


@needs_newer_etcd
def test_a_newer_etcd_answers_the_same(ours: str, newer: str) -> None:
    for accept in ACCEPTS:
        asked = {"Accept": accept, "Accept-Encoding": "identity"}
        assert fetch(f"{ours}/metrics", headers=asked).headers == fetch(f"{newer}/metrics", headers=asked).headers, accept
    for coding, is_packed in CODINGS.items():
        answer = fetch(f"{newer}/metrics", headers={"Accept-Encoding": coding})
        assert (answer.headers.get("Content-Encoding") == "gzip") is is_packed, coding
        body = gzip.decompress(answer.body) if is_packed else answer.body
        assert body.startswith(b"# HELP"), coding
