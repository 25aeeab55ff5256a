"""Which address of this host would its default route use?"""

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
