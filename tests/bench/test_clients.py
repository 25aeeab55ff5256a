"""`make bench-clients`: our own clients are measured, others where they are installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tercet.bench.client_worker import ASYNCHRONOUS, BLOCKING
from tercet.bench.clients import missing, table
from tests.support.etcd import Etcd
from tests.support.waiting import scaled


@pytest.mark.server_process
@pytest.mark.parametrize("name", ["tercet.AsyncClient", "tercet.Client", "tercet.compat.etcd3"])
def test_a_client_is_measured_in_every_load(name: str, shared_etcd: Etcd) -> None:
    revision = json.loads(shared_etcd.ctl("-w", "json", "put", "watched/1", "v"))["header"]["revision"]
    shared_etcd.ctl("put", "watched-txns/1", "v")
    words = [sys.executable, "-m", "tercet.bench.client_worker", name, shared_etcd.endpoint, "0.1", str(revision), "1"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=scaled(60))
    figures = json.loads(done.stdout)
    assert figures.keys() == {
        *(
            f"{what} {in_flight}{suffix}"
            for what in ("put", "get")
            for in_flight in (1, 256)
            for suffix in ("", " p99", " cpu")
        ),
        "watch",
        "watch cpu",
        "watch of transactions",
        "watch of transactions cpu",
        "watch bytes",
        "import",
        "modules",
    }
    assert min(figures.values()) > 0
    assert table({name: figures}).row_count == 1


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.bench.clients.find_spec", lambda name: None)
    assert [name for name in (*ASYNCHRONOUS, *BLOCKING) if missing(name)] == ["aetcd", "etcd-client-py", "etcd3"]
    assert missing("aetcd") == "aetcd is not installed: pip install 'tercet[bench-clients]'"
