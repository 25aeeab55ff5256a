"""Watches of clients that read nothing: they cost bounded memory, and nobody else notices."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from pathlib import Path

from tercet.pki import ClusterCertificates
from tests.cluster.conftest import Planned
from tests.support.processes import QUICK, Member
from tests.support.waiting import scaled

STREAMS, PUTS, VALUE_BYTES = 20, 40, 1 << 20
GROWTH_BYTES_MAX = 500 << 20  # without a bound it is STREAMS * PUTS * VALUE_BYTES * 4 / 3, more than 1 GB


def resident_bytes(member: Member) -> int:
    status = Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def open_watch(member: Member) -> ssl.SSLSocket:
    """A watch through the gateway whose first response has been read, and nothing after it."""
    assert member.credentials is not None
    plain = socket.create_connection(("127.0.0.1", member.client_port), timeout=scaled(10))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    watching = member.credentials.context().wrap_socket(plain, server_hostname="127.0.0.1")
    body = b'{"create_request":{"key":"' + base64.b64encode(b"big") + b'"}}'
    watching.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    received = b""
    while b'"created":true' not in received:
        part = watching.recv(4096)
        assert part, received
        received += part
    return watching


def test_d37_unread_watches_over_tls_use_bounded_memory(plan: Planned, certificates: ClusterCertificates) -> None:
    member = plan(["n1"], [*QUICK, "--unsafe-no-fsync"], certificates=certificates).start()["n1"]
    value = bytes(VALUE_BYTES)
    member.client.put(b"big", value)
    before = resident_bytes(member)
    watching = [open_watch(member) for _ in range(STREAMS)]
    slowest = 0.0
    for _ in range(PUTS):
        began = time.monotonic()
        member.client.put(b"big", value, timeout=scaled(5))
        assert member.client.get(b"absent") is None
        slowest = max(slowest, time.monotonic() - began)
    assert resident_bytes(member) - before < GROWTH_BYTES_MAX
    assert slowest < scaled(5)
    for one in watching:
        one.close()
    member.client.put(b"big", b"small")
