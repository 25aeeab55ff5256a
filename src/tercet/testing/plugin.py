"""The pytest plugin: fixtures with an etcd inside the test process, in a process of its own, or elsewhere.

pytest loads this module in every project that has tercet installed, so it imports nothing but pytest and the standard library;
servers are loaded by the fixtures that need them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tercet.client import Client
    from tercet.testing.servers import Settings, TestServer

MARK = "tercet"
_USED = pytest.StashKey[list[Any]]()
_MODES = ("inprocess", "process", "external")
_STORAGES = ("memory", "disk")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tercet", "etcd for tests")
    for name, text, more in (
        ("mode", "where the server of the fixtures runs (default: inprocess)", {"choices": _MODES}),
        ("endpoints", "endpoints of a server that runs already, separated by commas; implies --tercet-mode=external", {}),
        ("bin", "server to run instead of tercet, such as /usr/bin/etcd; implies --tercet-mode=process", {}),
        ("storage", "memory or disk, for servers in this process (default: memory)", {"choices": _STORAGES}),
        ("log-level", "level of the servers' log lines that failed tests show, such as info (default: warning)", {}),
    ):
        group.addoption(f"--tercet-{name}", default=None, help=text, **more)
        parser.addini(f"tercet_{name.replace('-', '_')}", f"default of --tercet-{name}", default="")
    group.addoption("--tercet-keep-data", action="store_true", help="keep the data directories of servers in processes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}(size=3, auth=False, tls=False, config={{}}): the cluster of the fixture tercet_cluster"
    )
    if level := _option(config, "log-level"):
        import logging

        logging.getLogger("tercet").setLevel(level.upper())
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.import_plugin("tercet.testing.asyncio_fixtures")
    elif config.pluginmanager.hasplugin("anyio"):
        config.pluginmanager.import_plugin("tercet.testing.anyio_fixtures")


def _option(config: pytest.Config, name: str) -> str:
    """Command line before configuration file."""
    given = config.getoption(f"--tercet-{name}")
    return str(given if given is not None else config.getini(f"tercet_{name.replace('-', '_')}"))


def _settings(config: pytest.Config) -> Settings:
    from tercet.testing.servers import Settings

    endpoints, program = _option(config, "endpoints"), _option(config, "bin")
    mode = _option(config, "mode") or ("external" if endpoints else "process" if program else "inprocess")
    storage = _option(config, "storage") or "memory"
    if mode not in _MODES or storage not in _STORAGES:
        raise pytest.UsageError(f"tercet_mode is one of {', '.join(_MODES)}, and tercet_storage memory or disk")
    if mode == "external" and not endpoints:
        raise pytest.UsageError("--tercet-mode=external needs --tercet-endpoints")
    return Settings(mode, endpoints.split(","), program, storage, bool(config.getoption("--tercet-keep-data")))


# --- servers


@pytest.fixture(scope="session")
def tercet_server(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    """One server for all tests of a run (with xdist: of a worker), of the kind that --tercet-mode names."""
    with _settings(request.config).open_server() as server:
        yield server


@pytest.fixture(scope="session")
def tercet_proc(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    """One server in a process of its own, for all tests of a run."""
    with _settings(request.config).open_process() as server:
        yield server


@pytest.fixture(scope="session")
def tercet_noproc(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    """The server at --tercet-endpoints."""
    settings = _settings(request.config)
    if not any(settings.endpoints):
        pytest.skip("--tercet-endpoints is not given")
    with settings.open_external() as server:
        yield server


@pytest.fixture
def tercet_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clusters, which end with the test: `tercet_cluster(size=3, auth=False, tls=False, reuse=False, **config)`.

    Defaults come from the mark `tercet`. reuse=True: one cluster of these settings for the whole run, reset for each test.
    """
    settings = _settings(request.config)
    mark = request.node.get_closest_marker(MARK)
    marked = dict(mark.kwargs) if mark is not None else {}
    if unknown := marked.keys() - {"size", "auth", "tls", "config"}:
        raise pytest.UsageError(f"the mark {MARK} has no argument {', '.join(sorted(unknown))}")
    with ExitStack() as closing:

        def make(
            size: int | None = None, *, auth: bool | None = None, tls: bool | None = None, reuse: bool = False, **config: Any
        ) -> Any:
            size = marked.get("size", 3) if size is None else size
            auth = marked.get("auth", False) if auth is None else auth
            tls = bool(marked.get("tls", False)) if tls is None else tls
            config = {**marked.get("config", {}), **config}
            if reuse:
                cluster = _reused(request, settings, size, tls, config)
            else:
                cluster = closing.enter_context(settings.open_cluster(size, config, tls=tls))
            if auth:
                settings.enable_auth(cluster)
            return use(request, cluster)

        yield make


def _reused(request: pytest.FixtureRequest, settings: Settings, size: int, tls: bool, config: dict[str, Any]) -> Any:
    known: dict[object, Any]
    known, closing = request.getfixturevalue("_tercet_reused")
    key = (size, tls, tuple(sorted(config.items())))
    if key not in known:
        known[key] = closing.enter_context(settings.open_cluster(size, config, tls=tls))
    known[key].reset()
    return known[key]


@pytest.fixture(scope="session")
def _tercet_reused() -> Iterator[tuple[dict[object, Any], ExitStack]]:
    """The clusters with reuse=True, by settings, and what closes them."""
    with ExitStack() as closing:
        yield {}, closing


# --- clients


@pytest.fixture
def tercet_namespace(request: pytest.FixtureRequest) -> bytes:
    """A prefix that no other test uses, in no other worker or run either: for tests that share a server in parallel."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    digest = hashlib.sha256(f"{request.node.nodeid} {os.getpid()} {os.urandom(8).hex()}".encode()).hexdigest()[:16]
    return f"/tercet-test/{worker}/{digest}/".encode()


@pytest.fixture
def tercet_client(request: pytest.FixtureRequest, tercet_server: TestServer) -> Iterator[Client]:
    """A client of `tercet_server`. After the test everything that it stored is gone.

    In external mode it sees only `tercet_namespace`, and nothing else is deleted.
    """
    use(request, tercet_server)
    with tercet_server.client(request.getfixturevalue("tercet_namespace")) as client:
        yield client
        tercet_server.clean(client)


@pytest.fixture
def tercet_async_client(request: pytest.FixtureRequest, tercet_server: TestServer) -> Iterator[Any]:
    """An AsyncClient of `tercet_server`, not entered yet: `async with tercet_async_client as client`.

    With pytest-asyncio or anyio it is an asynchronous fixture instead, which closes the client.
    """
    namespace = request.getfixturevalue("tercet_namespace")
    yield use(request, tercet_server).async_client(namespace)
    tercet_server.clean_namespace(namespace)


# --- reports


def use(request: pytest.FixtureRequest, server: Any) -> Any:
    """Let the report of a failed test show this server. Returns it."""
    request.node.stash.setdefault(_USED, []).append(server)
    return server


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed and (used := item.stash.get(_USED, None)):
        from tercet.testing.report import sections

        for server in used:
            report.sections.extend(sections(server))
