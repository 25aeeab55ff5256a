"""host:port as Go's net package splits and joins it.

Source: net.SplitHostPort, net.JoinHostPort, net.ParseIP.
"""

from __future__ import annotations

import ipaddress


def split_host_port(address: str) -> tuple[str, str]:
    """(host without brackets, port as text). Raises ValueError with Go's text."""
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        raise ValueError(f"address {address}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if ":" in host:
        raise ValueError(f"address {address}: too many colons in address")
    return host, port


def join_host_port(host: str, port: int) -> str:
    """An IPv6 address gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unmapped(host: str) -> str:
    """`::ffff:10.0.0.1` as `10.0.0.1`, as Go's listeners bind and print it; any other host unchanged."""
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def is_ip(host: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
