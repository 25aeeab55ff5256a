"""A client's arguments from URLs and from etcdctl's variables."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tercet import AsyncClient, Client, ConfigurationError, InvalidArgument, Retry, Timeout, TLSFiles
from tercet.client.settings import options_of_environment, options_of_url


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("etcd://a", {"endpoints": ["http://a:2379"]}),
        ("etcd://a:1,[::1]:2,[::2]", {"endpoints": ["http://a:1", "http://[::1]:2", "http://[::2]:2379"]}),
        ("etcds://a/app%2Fx/?timeout=2.5", {"endpoints": ["https://a:2379"], "namespace": "app/x/", "timeout": 2.5}),
        (
            "etcd://u%40x:p%2F@a?retry=off",
            {"endpoints": ["http://a:2379"], "user": "u@x", "password": "p/", "retry": Retry.OFF},
        ),
        ("etcd://a/n@s", {"endpoints": ["http://a:2379"], "namespace": "n@s"}),
        ("etcd+unix:///run/etcd.sock", {"endpoints": ["unix:/run/etcd.sock"]}),
        ("etcds+unix://u:p@/s", {"endpoints": ["unixs:/s"], "user": "u", "password": "p"}),
        (
            "etcd+srv://u:p@example.com/n/?sync_interval=60",
            {"discovery_srv": "example.com", "user": "u", "password": "p", "namespace": "n/", "sync_interval": 60.0},
        ),
        ("etcds://a?cacert=/c&cert=/x&key=/k", {"endpoints": ["https://a:2379"], "tls": TLSFiles("/c", "/x", "/k")}),
    ],
)
def test_a_url_names_all_arguments(url: str, options: dict[str, Any]) -> None:
    assert options_of_url(url) == options


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://u:secret@a", "the scheme must be one of"),
        ("a:2379", "the scheme must be one of"),
        ("etcd://a?timeout=soon", "could not convert"),
        ("etcd://a?retry=maybe", "maybe"),
        ("etcd://a?colour=red", "unknown options: colour"),
    ],
)
def test_a_url_with_mistakes_is_refused_and_shows_no_password(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as raised:
        AsyncClient.from_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {}),
        ({"ETCDCTL_ENDPOINTS": "", "ETCDCTL_CACERT": "", "HOME": "/"}, {}),
        ({"ETCDCTL_ENDPOINTS": "a:1,b:2", "ETCDCTL_USER": "u:p:q"}, {"endpoints": "a:1,b:2", "user": "u", "password": "p:q"}),
        ({"ETCDCTL_USER": "u", "ETCDCTL_PASSWORD": "p"}, {"user": "u", "password": "p"}),
        ({"ETCDCTL_CACERT": "/c"}, {"tls": TLSFiles("/c")}),
    ],
)
def test_etcdctls_variables_name_the_arguments(variables: dict[str, str], options: dict[str, Any]) -> None:
    assert options_of_environment(variables) == options


def test_only_from_env_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "ftp://x")
    with pytest.raises(ConfigurationError):
        AsyncClient.from_env()
    client = AsyncClient.from_env(endpoints="a:1")
    client._is_open = False
    other = AsyncClient()
    other._is_open = False


def test_srv_records_without_dnspython_are_refused_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.client.settings.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"dnspython: pip install 'tercet-client\[srv\]'"):
        AsyncClient(discovery_srv="example.com")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry": "off"}, "retry is one of Retry.OFF"),
        ({"tls": "ca.pem"}, "tls is TLSFiles"),
        ({"password": "p"}, "a password needs a user"),
        ({"on_event": 5}, "on_event is a function"),
        ({"timeout": "5"}, "timeout is a number of seconds above 0, not '5'"),
        ({"dial_timeout": 0}, "dial_timeout is a number"),
        ({"sync_interval": -1}, "sync_interval is a number"),
        ({"endpoints": "a:99999"}, "does not have the form host:port"),
    ],
)
def test_options_that_cannot_be_used_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as refused:
        AsyncClient(**options)
    assert "\n\n" not in "".join(traceback.format_exception(refused.value))  # one exception, not a chain


def test_a_client_that_was_not_made_is_not_unclosed(recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()  # what earlier tests forgot warns here and not below
    recwarn.clear()
    warnings.simplefilter("always")
    with pytest.raises(TypeError, match="keys and values are bytes or str, not int"):
        AsyncClient(namespace=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'username'"):
        AsyncClient(username="u")  # type: ignore[call-arg]
    gc.collect()
    assert not [one for one in recwarn if "client" in str(one.message)]


def test_a_client_is_not_copied_into_another_process() -> None:
    async def test() -> None:
        async with AsyncClient() as client:
            for one in (client, client.lock("l")):
                for copying in (pickle.dumps, copy.deepcopy):
                    with pytest.raises(TypeError, match="AsyncClient cannot be pickled or copied: make one in each process"):
                        copying(one)

    asyncio.run(test())
    with Client() as client, pytest.raises(TypeError, match="Client cannot be pickled or copied"):
        pickle.dumps(client)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda client: client.txn(then=["x"]), InvalidArgument, "hold operations"),
        (lambda client: client.get_prefix("a", sort_by="name"), InvalidArgument, "sort_by is one of key"),
        (lambda client: client.put("a", "b", lease="x"), TypeError, "a lease is a number"),
        (lambda client: client.get("a", retry="off"), TypeError, "retry is one of Retry.OFF"),
        (lambda client: client.get("a", timeout=0.2), Timeout, "127.0.0.1:1: Connection refused"),
    ],
)
def test_a_call_that_fails_shows_one_exception(
    call: Callable[[AsyncClient], Awaitable[object]], kind: type[Exception], text: str
) -> None:
    async def test() -> None:
        async with AsyncClient("127.0.0.1:1", retry=Retry.OFF) as client:
            with pytest.raises(kind, match=text) as failed:
                await call(client)
            assert "\n\n" not in "".join(traceback.format_exception(failed.value))

    asyncio.run(test())
