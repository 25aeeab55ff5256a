"""Addresses of hosts: the one that this host's default route uses, and the one behind a name."""

from __future__ import annotations

import socket


def default_host() -> str:
    """The source address of a packet to the world; "" without a default route. Connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that documentation uses (RFC 5737); no host has it
        except OSError:
            return ""
        address = probe.getsockname()
    return str(address[0])


def resolve(host: str) -> str:
    """The first address of a host name, an IPv4 one if there is one. May wait for DNS. Raises OSError."""
    found = sorted(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])
