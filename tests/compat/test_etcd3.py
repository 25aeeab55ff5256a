"""What `tercet.compat.etcd3` does beyond the released original: master's surface, contended locks, threads, forks, failover."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercet.compat import etcd3
from tercet.compat.etcd3 import events, exceptions
from tests.support.etcd import Etcd, running_etcd
from tests.support.ports import free_port
from tests.support.waiting import scaled

pytestmark = pytest.mark.server_process


@pytest.fixture
def client(shared_etcd: Etcd) -> Iterator[Any]:
    with etcd3.client("127.0.0.1", shared_etcd.client_port, timeout=scaled(10)) as made:
        yield made


@pytest.fixture
def prefix() -> str:
    return f"compat/{uuid.uuid4().hex}/"


def test_reads_take_all_keywords_of_a_range(client: Any, prefix: str) -> None:
    revisions = [client.put(f"{prefix}{name}", name).header.revision for name in "abc"]
    client.put(f"{prefix}a", "changed")
    assert client.get_prefix_response(prefix, limit=2).more
    assert client.get_prefix_response(prefix, count_only=True).count == 3
    assert not client.get_prefix_response(prefix, count_only=True).kvs
    assert client.get(f"{prefix}a", revision=revisions[0])[0] == b"a"
    named = {
        "min_mod_revision": (revisions[2], [b"changed", b"c"]),
        "max_mod_revision": (revisions[1], [b"b"]),
        "min_create_revision": (revisions[1], [b"b", b"c"]),
        "max_create_revision": (revisions[0], [b"changed"]),
    }
    for keyword, (revision, values) in named.items():
        assert [value for value, _ in client.get_prefix(prefix, **{keyword: revision})] == values, keyword
    with pytest.raises(Exception, match="future revision") as raised:
        client.get(prefix, revision=revisions[0] + 10**6)
    assert raised.value.code().name == "OUT_OF_RANGE"


def test_a_prefix_that_ends_with_ff_excludes_the_keys_after_it(client: Any, prefix: str) -> None:
    """The original's range end keeps the trailing 0xff, so its range has keys without the prefix."""
    start = prefix.encode()
    for key in (start + b"a\xff", start + b"a\xffz", start + b"b", start + b"b\x01"):
        client.put(key, "x")
    assert [pair.key for _, pair in client.get_prefix(start + b"a\xff")] == [start + b"a\xff", start + b"a\xffz"]
    assert client.delete_prefix(start + b"a\xff").deleted == 2
    assert etcd3.utils.prefix_range_end(b"a\xff") == b"b\xff"


def test_a_lock_is_handed_over_when_it_is_released(client: Any, prefix: str) -> None:
    first, second = client.lock(prefix), client.lock(prefix)
    assert first.acquire()
    assert not second.acquire(timeout=0)
    assert not second.acquire(timeout=0.1)
    acquired: queue.Queue[bool] = queue.Queue()
    waiting = threading.Thread(target=lambda: acquired.put(second.acquire(timeout=scaled(20))))
    waiting.start()
    assert first.release()
    assert acquired.get(timeout=scaled(20))
    waiting.join()
    assert (first.is_acquired(), second.is_acquired()) == (False, True)


def test_a_failed_attempt_leaves_no_lease_behind(client: Any, prefix: str, shared_etcd: Etcd) -> None:
    """The original leaves one for each attempt, until its TTL has passed."""
    holder, other = client.lock(prefix), client.lock(prefix)
    assert holder.acquire()
    before = len(shared_etcd.ctl_json("lease", "list").get("leases", []))
    assert not other.acquire(timeout=0)
    assert len(shared_etcd.ctl_json("lease", "list").get("leases", [])) <= before


def test_a_callback_may_call_the_client(client: Any, prefix: str) -> None:
    read: queue.Queue[Any] = queue.Queue()
    watch_id = client.add_watch_callback(f"{prefix}k", lambda response: read.put(client.get(response.events[0].key)[0]))
    client.put(f"{prefix}k", "v")
    assert read.get(timeout=scaled(20)) == b"v"
    client.cancel_watch(watch_id)


def test_an_error_in_a_callback_does_not_end_the_watch(client: Any, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    seen: queue.Queue[bytes] = queue.Queue()

    def fail_once(response: Any) -> None:
        seen.put(response.events[0].value)
        if seen.qsize() == 1:
            raise ValueError("the callback's own")

    client.add_watch_callback(f"{prefix}k", fail_once)
    for value in ("1", "2"):
        client.put(f"{prefix}k", value)
    first = seen.get(timeout=scaled(20))
    assert (first, seen.get(timeout=scaled(20))) == (b"1", b"2")


def test_all_watches_of_a_client_share_one_stream_and_threads_share_the_client(client: Any, prefix: str) -> None:
    found: queue.Queue[tuple[int, bytes]] = queue.Queue()

    def watch(number: int) -> None:
        iterator, cancel = client.watch(f"{prefix}{number}")
        ready.wait()
        event = next(iterator)
        cancel()
        found.put((number, event.value))

    ready = threading.Barrier(6)
    threads = [threading.Thread(target=watch, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    ready.wait()
    for number in range(5):
        client.put(f"{prefix}{number}", str(number))
    for thread in threads:
        thread.join()
    assert sorted(found.get() for _ in range(5)) == [(number, b"%d" % number) for number in range(5)]


def test_filters_and_deletes(client: Any, prefix: str) -> None:
    nodelete = etcd3.etcdrpc.WatchCreateRequest.FilterType.Value("NODELETE")
    iterator, cancel = client.watch_prefix(prefix, filters=[nodelete])
    client.put(f"{prefix}a", "1")
    client.delete(f"{prefix}a")
    client.put(f"{prefix}a", "2")
    assert [type(event) for event in (next(iterator), next(iterator))] == [events.PutEvent, events.PutEvent]
    cancel()
    assert list(iterator) == []


def test_a_child_process_connects_by_itself(client: Any, prefix: str) -> None:
    client.put(f"{prefix}k", "parent")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pytest must not continue here
        try:
            os.write(write, client.get(f"{prefix}k")[0])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"parent"
    os.waitpid(child, 0)
    assert client.get(f"{prefix}k")[0] == b"parent"


def test_a_failed_call_marks_the_endpoint_and_a_watch_is_not_created_without_a_server(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as etcd:
        client = etcd3.client("127.0.0.1", etcd.client_port, timeout=scaled(10))
        client.put("k", "v")
        etcd.member.stop()
        with pytest.raises(exceptions.ConnectionFailedError, match="etcd connection failed"):
            client.watch("k")
        assert client.endpoint_in_use.is_failed()
        with pytest.raises(ValueError, match="failed node"):
            client.get("k")
        client.close()


def test_with_failover_the_next_call_goes_to_another_endpoint(shared_etcd: Etcd, prefix: str) -> None:
    dead = etcd3.Endpoint("127.0.0.1", free_port(), secure=False)
    alive = etcd3.Endpoint("127.0.0.1", shared_etcd.client_port, secure=False)
    with etcd3.MultiEndpointEtcd3Client([dead], timeout=scaled(10), failover=True) as client:
        client.endpoints[alive.netloc] = alive
        assert client.endpoint_in_use is dead
        with pytest.raises(exceptions.ConnectionFailedError):
            client.put(prefix, "1")
        client.put(prefix, "2")
        assert client.endpoint_in_use is alive
        assert str(alive) == f"Endpoint(http://127.0.0.1:{shared_etcd.client_port})"


def test_without_an_endpoint_that_has_not_failed_there_is_no_server() -> None:
    endpoints = [etcd3.Endpoint("127.0.0.1", free_port(), secure=False) for _ in range(2)]
    with etcd3.MultiEndpointEtcd3Client(endpoints, timeout=scaled(10), failover=True) as client:
        for _ in endpoints:
            with pytest.raises(exceptions.ConnectionFailedError):
                client.get("k")
        with pytest.raises(exceptions.NoServerAvailableError):
            client.get("k")


def test_a_call_without_an_answer_times_out() -> None:
    with subprocess.Popen([sys.executable, "-c", _SILENT], stdout=subprocess.PIPE, text=True) as silent:
        try:
            assert silent.stdout is not None
            port = int(silent.stdout.readline())
            with pytest.raises(exceptions.ConnectionTimeoutError, match="etcd connection timeout"):
                etcd3.client("127.0.0.1", port, timeout=0.2).get("k")
        finally:
            silent.terminate()


_SILENT = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_a_user_gets_a_token_at_construction(tmp_path: Path) -> None:
    with running_etcd(tmp_path, "--bcrypt-cost=4") as etcd:
        for words in ("user add root:horse", "user grant-role root root", "auth enable"):
            etcd.ctl(*words.split())
        where = {"host": "127.0.0.1", "port": etcd.client_port, "timeout": scaled(10)}
        with etcd3.client(**where, user="root", password="horse") as client:
            client.put("k", "v")
            assert client.get("k")[0] == b"v"
            assert client.call_credentials is not None
            assert client.metadata[0][0] == "token"
        with pytest.raises(Exception, match="authentication failed") as raised:
            etcd3.client(**where, user="root", password="wrong")
        assert raised.value.code().name == "INVALID_ARGUMENT"
        with pytest.raises(Exception, match="user name is empty"):
            etcd3.client(**where).get("k")


def test_an_unknown_channel_option_is_reported() -> None:
    with pytest.warns(UserWarning, match="grpc.no_such_option has no effect"):
        etcd3.client(grpc_options={"grpc.no_such_option": 1}.items())
    options = [("grpc.max_receive_message_length", 1 << 20), ("grpc.ssl_target_name_override", "name")]
    etcd3.client(grpc_options=options)
    with pytest.raises(TypeError, match="SSLContext"):
        etcd3.Endpoint("127.0.0.1", 1, secure=True, creds=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TLS credentials"):
        etcd3.Endpoint("127.0.0.1", 1)


def test_grpcio_is_not_imported_and_its_names_are_matched_where_it_is() -> None:
    program = """
import sys
from tercet.compat import etcd3
assert "grpc" not in sys.modules
from tercet.compat.grpc_errors import StatusCode, RpcError, rpc_error
from tercet.errors import Code
error = rpc_error(Code.NOT_FOUND, "text")
assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "text")
import grpc
error = rpc_error(Code.NOT_FOUND, "text")
assert isinstance(error, grpc.RpcError) and isinstance(error, RpcError)
assert error.code() is grpc.StatusCode.NOT_FOUND
assert [(code.name, code.value) for code in StatusCode] == [(code.name, code.value) for code in grpc.StatusCode]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=scaled(60))


def test_stubs_take_iterators_that_block(client: Any, prefix: str) -> None:
    """As with grpcio: each request of a stream is sent when the iterator gives it."""
    requests: queue.Queue[Any] = queue.Queue()
    answers = etcd3.etcdrpc.WatchStub(client.channel).Watch(iter(requests.get, None))
    create = etcd3.etcdrpc.WatchCreateRequest(key=prefix.encode())
    requests.put(etcd3.etcdrpc.WatchRequest(create_request=create))
    created = next(answers)
    assert created.created
    client.put(prefix, "1")
    assert next(answers).events[0].kv.value == b"1"
    cancel = etcd3.etcdrpc.WatchCancelRequest(watch_id=created.watch_id)
    requests.put(etcd3.etcdrpc.WatchRequest(cancel_request=cancel))
    assert next(answers).canceled
    requests.put(None)
    answers.close()


def test_a_second_watcher_has_a_stream_of_its_own(client: Any, prefix: str) -> None:
    seen: queue.Queue[Any] = queue.Queue()
    watcher = client.get_watcher()
    assert watcher is not client.watcher
    watcher.add_callback(prefix, seen.put)
    client.put(prefix, "1")
    assert seen.get(timeout=scaled(20)).events[0].value == b"1"
    watcher.close()
    assert seen.get(timeout=scaled(20)) is None


def test_operations_as_messages(client: Any) -> None:
    (message,) = client._ops_to_requests([client.transactions.get("k")])
    assert message.request_range.key == b"k"
    with pytest.raises(Exception, match="Unknown request class"):
        client._ops_to_requests(["no operation"])


def test_calls_inside_an_event_loop_block_it(client: Any, prefix: str) -> None:
    """As the original's do; programs with handlers that are coroutines use it so."""

    async def handler() -> Any:
        client.put(prefix, "1")
        return client.get(prefix)[0]

    assert asyncio.run(handler()) == b"1"
