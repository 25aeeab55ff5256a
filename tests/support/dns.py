"""A DNS server on loopback, over UDP and TCP, with the records of a test; and processes that resolve names by it."""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

Records = Mapping[tuple[str, str], Sequence[str]]
"""Texts by name (without a trailing dot) and type: {("_etcd-server._tcp.example", "SRV"): ["0 0 2380 localhost."]}."""


class DnsServer:
    """udp_is_truncated: answers over UDP are empty and marked truncated, so that the client asks again over TCP."""

    def __init__(self, records: Records, *, host: str = "127.0.0.1", port: int = 0, udp_is_truncated: bool = False) -> None:
        self.records = records
        self.udp_is_truncated = udp_is_truncated
        self.asked: list[tuple[str, str]] = []
        """(udp or tcp, question) of each query."""
        server = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, channel = self.request
                channel.sendto(server.answer(data, "udp"), self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                (size,) = struct.unpack("!H", self.rfile.read(2))
                answer = server.answer(self.rfile.read(size), "tcp")
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

        socketserver.TCPServer.allow_reuse_address = True
        self._servers: list[socketserver.BaseServer] = []
        tcp = socketserver.ThreadingTCPServer((host, port), Tcp)
        self.host, self.port = host, tcp.server_address[1]
        self._servers = [tcp, socketserver.ThreadingUDPServer((host, self.port), Udp)]
        for each in self._servers:
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, query: bytes, transport: str) -> bytes:
        request = dns.message.from_wire(query)
        question = request.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((transport, f"{name} {kind}"))
        response = dns.message.make_response(request)
        texts = self.records.get((name, kind))
        if texts is None:
            known = any(each == name for each, _ in self.records)
            response.set_rcode(dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN)
        elif transport == "udp" and self.udp_is_truncated:
            response.flags |= dns.flags.TC
        else:
            response.answer.append(dns.rrset.from_text_list(question.name, 1, "IN", kind, texts))
        return response.to_wire()

    def resolver(self, *, seconds: float = 30.0) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [self.host]
        resolver.port = self.port
        resolver.timeout = resolver.lifetime = seconds  # asks once
        return resolver

    def close(self) -> None:
        for each in self._servers:
            each.shutdown()
            each.server_close()


@contextmanager
def dns_server(records: Records, **options: bool) -> Iterator[DnsServer]:
    server = DnsServer(records, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


@contextmanager
def system_resolver(directory: Path, records: Records) -> Iterator[tuple[str, ...]]:
    """A command prefix under which processes, of any language, resolve names by these records. Skips where this is not allowed.

    The kernel gives the process a mount namespace with an /etc/resolv.conf of its own; that file cannot name a port but 53.
    """
    configuration = directory / "resolv.conf"
    wrapper = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(configuration))
    try:
        server = DnsServer(records, host="127.53.0.1", port=53)
    except OSError as error:
        pytest.skip(f"a DNS server needs port 53: {error}")
    try:
        configuration.write_text(f"nameserver {server.host}\noptions timeout:2 attempts:2\n")
        allowed = subprocess.run([*wrapper, "true"], capture_output=True, text=True, timeout=60, check=False)
        if allowed.returncode:
            pytest.skip(f"mount namespaces are not allowed: {allowed.stderr.strip()}")
        yield wrapper
    finally:
        server.close()


def silent_port() -> tuple[socket.socket, int]:
    """A UDP socket that answers nothing, and its port."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    return listening, listening.getsockname()[1]
