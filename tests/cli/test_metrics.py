"""`tercet metrics`: rules and dashboard parse, and ask only for what a member exposes."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from tercet.cli import tercet
from tercet.cli.metrics.alerts import ALERTS
from tercet.cli.metrics.dashboard import dashboard
from tercet.server.metrics.table import METRICS
from tests.support.etcd import Etcd, running_etcd
from tests.support.processes import TERCET
from tests.support.waiting import scaled

SHOWN = [target["expr"] for panel in json.loads(dashboard("SELECTOR"))["panels"] for target in panel["targets"]]
QUERIES = sorted({*(alert.expression for alert in ALERTS), *SHOWN})
WORDS = {"sum", "min", "max", "count", "by", "or", "and", "rate", "increase", "changes", "time"}
FUNCTIONS = {"histogram_quantile", "predict_linear", "last_over_time", "max_over_time"}
OF_PROMETHEUS = {"up", "job", "instance", "le"}
NEEDS_MORE = re.compile("etcd_network_peer_|tercet_tls_")  # peers, or TLS: exposed once there is one


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert tercet.main(["metrics", *words]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The metrics of a member that has served a client."""
    place = tmp_path_factory.mktemp("member")
    with running_etcd(place, "--metrics=extensive", program=list(TERCET)) as member:
        member.ctl("put", "a", "1")
        yield page_of(member)


def page_of(member: Etcd) -> str:
    """What a member answers to a scrape."""
    with urllib.request.urlopen(f"{member.client_url}/metrics", timeout=scaled(30)) as page:
        text: str = page.read().decode()
        return text


def identifiers(query: str) -> set[str]:
    plain = re.sub(r'"[^"]*"|\[[^]]*\]|\bSELECTOR\b|\d[\w.]*', " ", query)
    return set(re.findall(r"[a-z_A-Z]\w*", plain)) - WORDS - FUNCTIONS


def metrics_of(query: str) -> set[str]:
    return {name for name in identifiers(query) if name.startswith(("etcd_", "grpc_server_", "tercet_", "process_"))}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_balanced_and_selects_every_series(query: str) -> None:
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}") == query.count("SELECTOR")
    for name in metrics_of(query) | ({"up"} if "up{" in query else set()):
        assert f"{name}{{SELECTOR" in query


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_that_a_member_exposes(query: str, scrape: str) -> None:
    for name in metrics_of(query):
        family = METRICS[re.sub("_bucket$", "", name)]
        assert (family.kind == "histogram") == name.endswith("_bucket")
        assert NEEDS_MORE.match(name) or re.search(rf"(?m)^{name}[{{ ]", scrape) or family.labels, name
        assert NEEDS_MORE.match(name) or f"# TYPE {family.name} " in scrape, name


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_labels_that_its_metrics_have(query: str) -> None:
    known = {label for name in metrics_of(query) for label in METRICS[re.sub("_bucket$", "", name)].labels}
    assert identifiers(query) - metrics_of(query) <= known | OF_PROMETHEUS


def test_the_rules_are_etcds_thirteen_and_two_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    groups = yaml.safe_load(printed(capsys, "rules", "--job", 'a"b'))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules if rule["alert"].startswith("etcd")}) == 13
    assert {rule["alert"] for rule in rules if not rule["alert"].startswith("etcd")} == {
        *("tercetCertificateExpires", "tercetEventLoopBlocked")
    }
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert r'job=~"a\"b"' in rule["expr"]
        assert "SELECTOR" not in rule["expr"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_dashboard_is_json_without_overlapping_panels(capsys: pytest.CaptureFixture[str]) -> None:
    board = json.loads(printed(capsys, "dashboard"))
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not mine & cells
        assert all(0 <= x < 24 for x, _ in mine)
        cells |= mine
        assert all("SELECTOR" not in target["expr"] for target in panel["targets"])
