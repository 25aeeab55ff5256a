"""A client's arguments: checked, read from a URL, or from etcdctl's environment variables.

etcd://user:password@a:2379,b:2379/namespace?timeout=5&retry=off
etcds://a:2379?cacert=/etc/ca.pem&cert=/etc/client.pem&key=/etc/client.key
etcd+unix:///run/etcd.sock
etcd+srv://user:password@example.com/namespace
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, unquote

from tercet.client.errors import ConfigurationError
from tercet.client.retry import Retry
from tercet.client.srv import SrvDomain
from tercet.client.tls import TLSFiles

_SCHEMES = {"etcd": "http://", "etcds": "https://", "etcd+unix": "unix:", "etcds+unix": "unixs:"}
_SRV = "etcd+srv"
_PORT = ":2379"


def options_of_url(url: str) -> dict[str, Any]:
    """Raises ConfigurationError."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in (*_SCHEMES, _SRV):
        raise ConfigurationError(f"{_without_password(url)}: the scheme must be one of {', '.join((*_SCHEMES, _SRV))}")
    rest, _, query = rest.partition("?")
    options = _options_of_query(query)
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if at:
        user, _, password = credentials.partition(":")
        options |= {"user": unquote(user), "password": unquote(password)}
    if scheme.endswith("+unix"):
        return options | {"endpoints": [_SCHEMES[scheme] + unquote(hosts + slash + path)]}
    if path:
        options["namespace"] = unquote(path)
    if scheme == _SRV:
        return options | {"discovery_srv": hosts}
    return options | {"endpoints": [_SCHEMES[scheme] + _with_port(host) for host in hosts.split(",")]}


def check_options(*, tls: object, user: str, password: str, token: str, retry: object, on_event: object) -> None:
    """Raises ConfigurationError."""
    if token and user:
        raise ConfigurationError("a token and a user exclude each other: give one of them")
    if password and not user:
        raise ConfigurationError("a password needs a user")
    if tls is not None and not isinstance(tls, TLSFiles | ssl.SSLContext):
        raise ConfigurationError(f"tls is TLSFiles(...) or an ssl.SSLContext, not {tls!r}")
    if not isinstance(retry, Retry):
        raise ConfigurationError(f"retry is one of {', '.join(map(str, Retry))}, not {retry!r}")
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event is a function, not {on_event!r}")


def check_seconds(**options: object) -> None:
    """None is allowed: what it means is said where it is used. Raises ConfigurationError."""
    for name, value in options.items():
        if value is not None and not (isinstance(value, int | float) and value > 0):
            raise ConfigurationError(f"{name} is a number of seconds above 0, not {value!r}")


def srv_domain(domain: str, name: str) -> SrvDomain:
    """Raises ConfigurationError if DNS cannot be asked for SRV records, which the standard library cannot do."""
    if find_spec("dns") is None:
        raise ConfigurationError("SRV records need the package dnspython: pip install 'tercet-client[srv]'")
    return SrvDomain(domain, name)


def _options_of_query(query: str) -> dict[str, Any]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    options: dict[str, Any] = {}
    files: dict[str, str] = {name: given.pop(name) for name in ("cacert", "cert", "key") if name in given}
    if files:
        options["tls"] = _tls(files)
    try:
        for name in ("timeout", "dial_timeout", "sync_interval"):
            if name in given:
                options[name] = float(given.pop(name))
        if "balance" in given:
            options["balance"] = given.pop("balance")
        if "retry" in given:
            options["retry"] = Retry(given.pop("retry"))
    except ValueError as error:
        raise ConfigurationError(f"option of the URL: {error}") from None
    if given:
        raise ConfigurationError(f"the URL has unknown options: {', '.join(given)}")
    return options


def _with_port(host: str) -> str:
    return host if host.rpartition("]")[2].count(":") else host + _PORT


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"...@{tail}" if at and head else url


def options_of_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Only of the variables that are set and not empty."""
    options: dict[str, Any] = {}
    if endpoints := variables.get("ETCDCTL_ENDPOINTS"):
        options["endpoints"] = endpoints
    if user := variables.get("ETCDCTL_USER"):
        name, colon, password = user.partition(":")
        options |= {"user": name, "password": password if colon else variables.get("ETCDCTL_PASSWORD", "")}
    files = {field: variables.get(f"ETCDCTL_{field.upper()}", "") for field in ("cacert", "cert", "key")}
    if any(files.values()):
        options["tls"] = _tls(files)
    return options


def _tls(files: dict[str, str]) -> TLSFiles:
    return TLSFiles(cacert=files.get("cacert", ""), cert=files.get("cert", ""), key=files.get("key", ""))
