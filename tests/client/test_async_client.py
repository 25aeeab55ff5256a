"""The typed client beside real servers: what each method sends, returns and raises."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import tercet
from tercet import AsyncClient
from tests.support.waiting import scaled

if TYPE_CHECKING:
    from tests.support.etcd import Etcd

Body = Callable[[AsyncClient], Awaitable[None]]


@pytest.fixture
def etcd(shared_etcd: Etcd) -> Etcd:
    return shared_etcd


@asynccontextmanager
async def fresh(etcd: Etcd, request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    """A client whose keys no other test uses."""
    async with AsyncClient(etcd.client_url, namespace=f"{request.node.name}/") as client:
        yield client
        await client.delete_prefix("")


@pytest.fixture
def run(etcd: Etcd, request: pytest.FixtureRequest) -> Callable[[Body], None]:
    """Runs a test's body with a client."""

    async def whole(body: Body) -> None:
        async with fresh(etcd, request) as client:
            await body(client)

    return lambda body: asyncio.run(asyncio.wait_for(whole(body), 60))


Run = Callable[[Body], None]


def test_a_value_is_read_back_as_it_was_put(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        assert await client.get("a") is None
        first = await client.put("a", "väl")
        second = await client.put(b"a", b'{"n": 2}', prev_kv=True)
        assert first.prev_kv is None
        assert second.prev_kv is not None
        assert second.prev_kv.text() == "väl"
        kv = await client.get(bytearray(b"a"))
        assert kv is not None
        assert (kv.key, kv.value, kv.version, kv.lease) == (b"a", b'{"n": 2}', 2, 0)
        assert (kv.create_revision, kv.mod_revision) == (first.header.revision, second.header.revision)
        assert kv.json() == {"n": 2}
        old = await client.get("a", revision=first.header.revision)
        assert old is not None
        assert old.value == "väl".encode()
        assert kv.raw.key.endswith(b"/a")
        with pytest.raises(AttributeError):
            kv.value = b"x"  # type: ignore[misc]
        with pytest.raises(TypeError, match="not int"):
            await client.put("a", 1)  # type: ignore[arg-type]

    run(body)


def test_ranges_are_limited_sorted_and_bounded(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        puts = [await client.put(key, value) for key, value in (("p1", "c"), ("p2", "b"), ("p3", "a"), ("q", ""))]
        found = await client.get_prefix("p")
        assert [kv.key for kv in found] == [b"p1", b"p2", b"p3"]
        assert (len(found), found.count, found.more, found[0].value) == (3, 3, False, b"c")
        assert [kv.key for kv in await client.get_prefix("p", sort_by="value")] == [b"p3", b"p2", b"p1"]
        assert [kv.key for kv in await client.get_prefix("p", descending=True, limit=1)] == [b"p3"]
        assert [kv.key for kv in await client.get_range("p2")] == [b"p2", b"p3", b"q"]
        assert [kv.key for kv in await client.get_range("p1", "p3", keys_only=True)] == [b"p1", b"p2"]
        second = puts[1].header.revision
        assert [kv.key for kv in await client.get_prefix("", min_mod_revision=second)] == [b"p2", b"p3", b"q"]
        assert [kv.key for kv in await client.get_prefix("", max_create_revision=second)] == [b"p1", b"p2"]
        assert await client.count("p") == 3

    run(body)


def test_a_scan_reads_all_pages_at_one_revision(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        for number in range(7):
            await client.put(f"s{number}", "old")
        seen = []
        async for kv in client.scan("s", page_keys=3):
            if not seen:
                await client.put("s6", "new")
                await client.delete("s5")
            seen.append((kv.key, kv.value))
        assert seen == [(f"s{number}".encode(), b"old") for number in range(7)]

    run(body)


def test_deletes_count_what_they_deleted(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        for key in ("a", "b", "c1", "c2"):
            await client.put(key, key)
        gone = await client.delete("a", prev_kv=True)
        assert [kv.value for kv in gone.prev_kvs] == [b"a"]
        assert not await client.delete("a")
        assert (await client.delete_range("b", "c2")).deleted == 2
        assert (await client.delete_prefix("c")).deleted == 1

    run(body)


def test_a_txn_runs_the_branch_that_its_compares_choose(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        await client.put("seat", "free")
        when = [client.value("seat") == "free", client.version("seat") >= 1, client.create_revision("none") == 0]
        nested = client.txn_op([client.version("seat") > 5], [], [client.get_op("s", prefix=True, count_only=True)])
        done = await client.txn(when, [client.put_op("seat", "taken"), client.get_op("seat"), nested], [client.get_op("x")])
        assert done
        put, read, inner = done.results
        assert isinstance(put, tercet.Put)
        assert isinstance(read, tercet.Range)
        assert read[0].value == b"taken"
        assert isinstance(inner, tercet.Txn)
        assert not inner.succeeded
        again = await client.txn(when, [client.delete_op("seat")], [client.get_op("seat")])
        assert not again
        assert isinstance(again[0], tercet.Range)
        assert await client.txn([client.mod_revision("seat") <= done.header.revision], [client.delete_op("seat")])
        assert await client.put_if_absent("seat", "1")
        assert not await client.put_if_absent("seat", "2")
        assert await client.replace("seat", "1", "2")
        assert not await client.replace("seat", "1", "3")

    run(body)


def test_a_compare_is_no_condition_of_python(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        with pytest.raises(TypeError, match="pass it to txn"):
            bool(client.value("a") == b"1")
        with pytest.raises(TypeError, match="not with a number"):
            _ = client.version("a") == "1"
        with pytest.raises(tercet.InvalidArgument, match="compares"):
            await client.txn([True])  # type: ignore[list-item]

    run(body)


def test_a_guarded_txn_changes_nothing_once_the_lock_is_lost(run: Run) -> None:
    class Lock:
        key = b"lock"

        def __init__(self, token: int) -> None:
            self.token = token

    async def body(client: AsyncClient) -> None:
        lock = Lock((await client.put("lock", "")).header.revision)
        assert await client.txn([], [client.put_op("a", "1")], guard=lock)
        assert not await client.txn([client.value("a") == "2"], [], [client.put_op("a", "3")], guard=lock)
        await client.delete("lock")
        await client.put("lock", "")
        with pytest.raises(tercet.LockLost):
            await client.txn([], [client.put_op("a", "4")], guard=lock)
        kv = await client.get("a")
        assert kv is not None
        assert kv.value == b"3"

    run(body)


def test_history_goes_back_to_the_creation_or_the_compaction(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        await client.put("other", "")
        await client.delete("h")
        revisions = [(await client.put("h", str(number))).header.revision for number in range(4)]
        assert [kv.text() async for kv in client.history("h")] == ["3", "2", "1", "0"]
        await client.compact(revisions[2])
        assert [kv.text() async for kv in client.history("h")] == ["3", "2"]
        with pytest.raises(tercet.Compacted) as raised:
            await client.get("h", revision=revisions[0])
        assert raised.value.message == "etcdserver: mvcc: required revision has been compacted"
        assert raised.value.code == 11
        with pytest.raises(tercet.FutureRevision):
            await client.get("h", revision=1 << 60)

    run(body)


def test_a_namespace_hides_all_other_keys(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        inner = client.namespace("in/")
        await client.put("out", "1")
        await inner.put("x", "2")
        assert [kv.key for kv in await inner.get_prefix("")] == [b"x"]
        assert [kv.key for kv in await inner.get_range("")] == [b"x"]
        assert [kv.key for kv in await inner.namespace("x").get_prefix("")] == [b""]
        assert await inner.txn([inner.value("x") == "2"], [inner.get_op("x")])
        assert (await inner.delete_range("")).deleted == 1
        assert await client.count("") == 1
        await inner.close()  # of a view: nothing
        assert await client.count("") == 1

    run(body)


def test_a_lease_ends_with_its_keys(run: Run) -> None:
    async def body(client: AsyncClient) -> None:
        lease = await client.grant_lease(60)
        assert lease.id > 0
        await client.put("a", "1", lease=lease)
        info = await client.lease_info(lease, keys=True)
        assert (info.id, info.granted_ttl_seconds, info.keys) == (lease.id, 60, (b"a",))
        assert lease.id in await client.list_leases()
        with pytest.raises(tercet.LeaseExists):
            await client.grant_lease(60, id=lease.id)
        await client.revoke_lease(lease)
        assert await client.get("a") is None
        with pytest.raises(tercet.LeaseNotFound):
            await client.revoke_lease(lease.id)
        with pytest.raises(tercet.LeaseNotFound):
            await client.lease_info(lease.id)
        with pytest.raises(LookupError):
            await client.put("a", "1", lease=lease.id)

    run(body)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"endpoints": []}, "no endpoints"),
        ({"endpoints": "ftp://x:1"}, "scheme ftp"),
        ({"user": "u", "password": "p", "token": "t"}, "exclude each other"),
        ({"tls": tercet.TLSFiles(cacert="/none.pem")}, "open /none.pem"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(tercet.ConfigurationError, match=text):
        AsyncClient(**arguments)


def test_a_client_that_is_forgotten_warns() -> None:
    gc.collect()  # what earlier tests forgot warns here and not below
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AsyncClient()
        gc.collect()
    said = [str(one.message) for one in caught if "client" in str(one.message)]
    assert said == ["unclosed client of 127.0.0.1:2379: use it in a `with` block, or close it"]


@pytest.mark.parametrize("balance", ["preferred", "round-robin"])
def test_a_closed_client_refuses_calls_and_connects_no_more(balance: Any) -> None:
    connects: list[str] = []

    async def test() -> None:
        async with tercet.Server() as server:
            client = AsyncClient(
                server.endpoint, balance=balance, on_event=lambda name, _: connects.append(name) if "connect" in name else None
            )
            await client.put("a", "1")
            dialing = AsyncClient("127.0.0.1:1", timeout=None)
            waiting = asyncio.ensure_future(dialing.get("a"))
            await asyncio.sleep(0)
            await client.close()
            await dialing.close()
            connects.clear()
            with pytest.raises(tercet.ClientClosed, match="the client is closed"):
                await client.get("a")
            with pytest.raises(tercet.ClientClosed, match="the client is closed"):
                await client.lock("l").acquire()
            with pytest.raises(tercet.ClientClosed, match="the client is closed"):
                await anext(client.watch("a"))
            with pytest.raises(tercet.ClientClosed, match="the client is closed"):
                await waiting
            await client.close()
            assert not connects

    asyncio.run(asyncio.wait_for(test(), scaled(60)))


def test_importing_tercet_loads_nothing_else() -> None:
    code = "import sys, tercet; print([m for m in sys.modules if m.startswith(('tercet.', 'asyncio', 'google'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert set(tercet.__all__) <= set(dir(tercet))
    for name in tercet.__all__:
        assert getattr(tercet, name).__name__ == name


EXCEPTIONS = [
    kind for name in tercet.__all__ if isinstance(kind := getattr(tercet, name), type) and issubclass(kind, Exception)
]


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_every_exception_is_made_from_a_text_and_shows_it(kind: type[tercet.TercetError]) -> None:
    error = kind("what happened")
    assert str(error) == error.message == "what happened"
    assert isinstance(error, tercet.TercetError)
    assert isinstance(error.code, int)
