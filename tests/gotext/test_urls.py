"""URLs and host:port as etcd accepts them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.gotext.host_port import is_ip, join_host_port, split_host_port
from tercet.gotext.urls import Url, parse_url


def test_urls_of_unix_sockets() -> None:
    assert parse_url("unix:///run/etcd.sock") == Url("unix:///run/etcd.sock", "unix", "/run/etcd.sock")
    assert parse_url("unixs:/run/etcd.sock").address == "/run/etcd.sock"
    assert parse_url("unix://localhost:17").address == "localhost:17"


def test_ipv6_hosts_have_brackets_in_addresses() -> None:
    assert parse_url("http://[::1]:5").host == "::1"
    assert split_host_port(join_host_port("::1", 5)) == ("::1", "5")
    assert (is_ip("::1"), is_ip("fe80::1%lo"), is_ip("localhost")) == (True, False, False)


def test_the_scheme_is_lowered_and_the_host_is_not() -> None:
    assert str(parse_url("HTTP://Host:2")) == "http://Host:2"
    assert str(parse_url("Unixs:/run/Peer")) == "unixs:/run/Peer"


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert url.scheme in ("http", "https", "unix", "unixs")
    if not url.is_unix:
        split_host_port(url.address)
