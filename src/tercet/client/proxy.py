"""HTTP proxies from the environment, as grpcio and Go's gRPC use them: CONNECT host:port, then TLS or HTTP/2.

    HTTPS_PROXY=http://user:password@proxy:3128    also grpc_proxy and https_proxy
    NO_PROXY=.internal,10.0.0.0/8,db1              also no_grpc_proxy and no_proxy; * for all hosts

Loopback addresses and Unix sockets are never reached through a proxy.
Source: gRFC A1; golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tercet.client.dial import dial
from tercet.errors import ConfigError

_HEAD_BYTES_MAX = 16 << 10
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "HTTPS_PROXY")
_EXCEPT_VARIABLES = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


class Proxy(NamedTuple):
    """credentials: `user:password` in base64, "" for none."""

    host: str
    port: int
    credentials: str = ""


def parse_proxy(url: str) -> Proxy:
    """Raises ConfigError for anything but `http://[user:password@]host[:port]`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise ConfigError(f"proxy: {error}") from error
    if parts.scheme != "http" or not host:
        raise ConfigError(f"proxy: only http://host:port is supported, not {parts.scheme}://{host or ''}")
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(host, port, base64.b64encode(user.encode()).decode() if user else "")


def proxy_for(host: str, port: int, variables: Mapping[str, str]) -> Proxy | None:
    """The proxy to reach `host` with; None for none. Raises ConfigError."""
    url = next((variables[name] for name in _PROXY_VARIABLES if variables.get(name)), "")
    exceptions = next((variables[name] for name in _EXCEPT_VARIABLES if variables.get(name)), "")
    if not url or _is_loopback(host) or any(_matches(host, port, one.strip()) for one in exceptions.split(",")):
        return None
    return parse_proxy(url)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _matches(host: str, port: int, exception: str) -> bool:
    """Whether an entry of NO_PROXY is for this host: a name and its subdomains, an address, a network; with `:port` for one."""
    if not exception:
        return False
    if exception == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            pass
    name, colon, number = exception.rpartition(":")
    if colon and number.isdigit() and "]" not in number:
        exception = name.strip("[]")
        if int(number) != port:
            return False
    host, exception = host.lower().rstrip("."), exception.lower()
    return host == exception.lstrip("*.") or host.endswith(f".{exception.lstrip('*.')}")


async def dial_through(proxy: Proxy, host: str, port: int, *, timeout: float) -> socket.socket:
    """A connection to host:port, which the proxy resolves. Raises OSError, TimeoutError."""
    made = await dial(proxy.host, proxy.port, timeout=timeout)
    try:
        async with asyncio.timeout(timeout):
            await _tunnel(made, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except BaseException:
        made.close()
        raise
    return made


async def _tunnel(made: socket.socket, proxy: Proxy, target: str) -> None:
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials:
        lines.append(f"Proxy-Authorization: Basic {proxy.credentials}")
    await loop.sock_sendall(made, "\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(made, 1)  # not more: what follows belongs to the server
        if not byte or len(head) > _HEAD_BYTES_MAX:
            raise ConnectionError(f"proxy {proxy.host}:{proxy.port} closed the connection")
        head += byte
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise ConnectionError(f"proxy {proxy.host}:{proxy.port} refused to connect to {target}: {status}")
