"""Host addresses from the operating system: that of the default route, and the address of a name."""

from __future__ import annotations

import socket


def default_host() -> str:
    """The source address of the default route, "" without one. Connecting a UDP socket sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation (RFC 5737): no host has it
        except OSError:
            return ""
        address = probe.getsockname()
    return str(address[0])


def resolve(host: str) -> str:
    """The first address of a host name, IPv4 preferred as by Go's net.ResolveTCPAddr. May wait for DNS. Raises OSError."""
    found = sorted(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])
