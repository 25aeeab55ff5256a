"""The synchronous client: the same calls without await, from threads, in forked processes, and not inside an event loop."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import tercet
from tercet import AsyncClient, Client
from tercet.client import generate_sync
from tercet.client.loop_thread import LoopThread, loop_thread
from tests.support.waiting import scaled

if TYPE_CHECKING:
    from tests.support.etcd import Etcd


@pytest.fixture
def client(shared_etcd: Etcd, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(shared_etcd.client_url, namespace=f"{request.node.name}/") as client:
        yield client
        client.delete_prefix("")


def test_the_synchronous_classes_are_generated_from_the_asynchronous_ones() -> None:
    assert generate_sync.main(["--check"]) == 0


def test_every_public_method_exists_in_both_with_the_same_parameters() -> None:
    for name, method in inspect.getmembers(AsyncClient):
        if name.startswith("_") or name in generate_sync.SKIPPED or not callable(method):
            continue
        parameters = str(inspect.signature(method)).partition(" -> ")[0]
        assert str(inspect.signature(getattr(Client, name))).partition(" -> ")[0] == generate_sync.synchronous(parameters), name


def test_all_kinds_of_calls_block_and_return(client: Client) -> None:
    put = client.put("a", "1")
    kv = client.get("a")
    assert kv is not None
    assert (kv.value, kv.mod_revision) == (b"1", put.header.revision)
    assert client.txn([client.value("a") == "1"], [client.put_op("a", "2"), client.get_op("a")])
    assert [kv.value for kv in client.scan("a")] == [b"2"]
    assert [kv.text() for kv in client.history("a")] == ["2", "1"]
    with client.scan("") as items:
        assert next(items).key == b"a"
    with pytest.raises(StopIteration):
        next(items)
    view = client.namespace("in/")
    view.put("x", "")
    assert [kv.key for kv in client.get_prefix("in/")] == [b"in/x"]
    lease = client.grant_lease(60)
    assert lease.id in client.list_leases()
    client.revoke_lease(lease)
    assert len(client.cluster.list_members()) == 1
    assert client.maintenance.status().errors == ()
    assert not client.auth.status().enabled
    with pytest.raises(tercet.LeaseNotFound):
        client.revoke_lease(lease)
    with Client.from_url("etcd://a:1?timeout=0.01") as other, pytest.raises(tercet.Timeout):
        other.get("a")


def test_watches_and_leases_live_in_the_background(client: Client) -> None:
    with client.watch("w", prefix=True) as watch, client.lease(60) as lease:
        client.put("w1", "1", lease=lease)
        client.delete("w1")
        batches = [next(watch), next(watch)]
        assert [event.kv.key for batch in batches for event in batch] == [b"w1", b"w1"]
        assert lease.remaining_seconds > 0
        assert not lease.is_lost
        assert lease.info().id == lease.id
    with pytest.raises(StopIteration):
        next(watch)
    with pytest.raises(tercet.LeaseNotFound):
        lease.info()
    client.put("l", "1")
    with client.watch_list("l") as changes:
        assert [event.kv.value for event in next(changes)] == [b"1"]
        client.put("l", "2")
        assert [event.kv.value for event in next(changes)] == [b"2"]


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each switch to the loop's thread."""
    made: list[str] = []
    run = LoopThread.run

    def counted(self: LoopThread, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__qualname__)
        return run(self, coroutine, **options)

    monkeypatch.setattr(LoopThread, "run", counted)
    return made


def test_a_scan_switches_threads_for_each_page_not_for_each_key(client: Client, switches: list[str]) -> None:
    keys = [b"%03d" % number for number in range(100)]
    client.txn(then=[client.put_op(key, "") for key in keys])
    switches.clear()
    assert [kv.key for kv in client.scan("", page_keys=50)] == keys
    assert len(switches) == 3, switches  # two pages, and the end


def test_a_watch_takes_what_has_arrived_without_switching_threads(client: Client, switches: list[str]) -> None:
    revisions = [client.put(f"{number}", "").header.revision for number in range(50)]
    for take in (iter, lambda watch: watch.events()):
        with client.watch("", prefix=True, since=revisions[0]) as watch:
            switches.clear()
            items = take(watch)
            seen = [next(items) for _ in revisions]
            assert [getattr(one, "revision", 0) or one.kv.mod_revision for one in seen] == revisions
            assert len(switches) < 25, switches  # one for each response: a server sends history in few


def test_a_closed_watch_yields_nothing_that_has_arrived(client: Client) -> None:
    first = client.put("a", "1").header.revision
    client.put("a", "2")
    for take in (iter, lambda watch: watch.events()):
        watch = client.watch("a", since=first)
        items = take(watch)
        assert next(items)
        watch.close()
        with pytest.raises(StopIteration):
            next(items)


def test_another_thread_may_close_a_watch_that_waits(client: Client) -> None:
    with client.watch("a") as watch, ThreadPoolExecutor() as threads:
        waiting = threads.submit(list, watch)
        time.sleep(0.01)
        watch.close()
        assert waiting.result(scaled(60)) == []


def test_what_has_arrived_is_refused_inside_an_event_loop_as_well(client: Client) -> None:
    client.txn(then=[client.put_op("a", ""), client.put_op("b", "")])
    items = client.scan("")
    assert next(items).key == b"a"

    async def inside() -> None:
        with pytest.raises(RuntimeError, match="AsyncClient"):
            next(items)

    asyncio.run(inside())
    assert next(items).key == b"b"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_a_watch_stays_with_the_parent(client: Client) -> None:
    def child() -> None:
        with pytest.raises(tercet.ForkedError):
            next(watch)
        with pytest.raises(tercet.ForkedError):
            lease.info()
        with client.watch("b") as own, client.lease(60) as second:
            client.put("b", "", lease=second)
            assert next(own).events[0].kv.lease == second.id

    with client.watch("a") as watch, client.lease(60) as lease:
        in_child(child)
        client.put("a", "")
        assert next(watch).events[0].kv.key == b"a"
        assert lease.info().ttl_seconds > 0


def test_a_hundred_threads_share_one_client_and_one_loop(client: Client) -> None:
    start = threading.Barrier(100)

    def work(number: int) -> bytes:
        start.wait()
        client.put(f"k{number}", str(number))
        kv = client.get(f"k{number}")
        assert kv is not None
        return kv.value

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(work, range(100))) == [str(number).encode() for number in range(100)]
    assert client.count("k") == 100
    assert sum(thread.name == "tercet-client" for thread in threading.enumerate()) == 1


def test_inside_an_event_loop_it_refuses_and_names_the_other_client(client: Client) -> None:
    async def call() -> None:
        client.get("a")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match=r"use tercet\.AsyncClient"):
            asyncio.run(call())
    with pytest.raises(RuntimeError, match=r"use tercet\.AsyncClient"):
        loop_thread().call(client.count, "")


def test_ctrl_c_cancels_the_call(client: Client) -> None:
    entered = threading.Event()
    ended: list[bool] = []

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    def interrupt() -> None:
        entered.wait()
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        loop_thread().run(wait())
    client.count("")  # the loop has gone on, and has run what was cancelled
    assert ended == [True]


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked process; fail with its traceback."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with closing(os.fdopen(reader)) as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_both_processes_go_on(client: Client) -> None:
    client.put("a", "parent")
    items = client.scan("")
    next(items)

    def child() -> None:
        kv = client.get("a")
        assert kv is not None
        assert kv.value == b"parent"
        client.namespace("n/").put("a", "child")
        with pytest.raises(tercet.ForkedError):
            next(items)
        with Client(client._inner.channel.endpoints) as own:
            own.count("")
        in_child(lambda: client.put("b", "grandchild") and None)

    for _ in range(3):
        in_child(child)
        assert client.put("a", "parent").prev_kv is None
    assert [kv.value for kv in client.scan("")] == [b"parent", b"grandchild", b"child"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pool_of_forked_workers_uses_the_parents_client(client: Client) -> None:
    global _shared
    _shared = client
    client.count("")  # connected when the workers are forked
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(put_in_worker, range(12)) == list(range(12))
    assert client.count("w") == 12


_shared: Client


def put_in_worker(number: int) -> int:
    _shared.put(f"w{number}", "")
    return number


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_calls_of_other_threads_leaves_both_usable(client: Client) -> None:
    stop = threading.Event()
    done = []

    def work() -> None:
        while not stop.is_set():
            client.put("busy", "1")
            done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        in_child(lambda: client.put("child", "1") and None)
    stop.set()
    for thread in threads:
        thread.join()
    assert client.count("") == 2
    assert len(done) > 0


def test_a_process_exits_with_a_client_open_and_a_call_in_flight() -> None:
    program = """
import socket, threading, time, tercet
listener = socket.create_server(("127.0.0.1", 0))
client = tercet.Client(f"127.0.0.1:{listener.getsockname()[1]}")
threading.Thread(target=lambda: client.get("a"), daemon=True).start()
listener.accept()
print("bye")
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "bye\n", "")


def test_a_call_after_the_loop_thread_has_ended_fails() -> None:
    """Handlers of atexit run in reverse order: one that was registered before the import runs after the client's."""
    program = """
import atexit
def last():
    try:
        client.get("a")
    except ConnectionError as error:
        print(type(error).__name__, error)
atexit.register(last)
import tercet
client = tercet.Client("127.0.0.1:1")
try:
    client.get("a", timeout=0.1)
except tercet.TercetError:
    pass
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (outcome.returncode, outcome.stdout) == (0, "ClientClosed the process exits, and has closed its clients\n")


def test_the_base_of_stm_can_be_imported_first() -> None:
    """As tools do that import all modules in alphabetical order."""
    subprocess.run([sys.executable, "-c", "import tercet.client.facade_stm"], timeout=scaled(60), check=True)
