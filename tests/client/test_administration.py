"""Users, members and maintenance through the typed client, on a real etcd of its own."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

import tercet
from tercet import AsyncClient
from tercet.client.snapshot_file import save_snapshot
from tercet.proto import rpc_pb2
from tests.support.etcd import Etcd, run_tool, running_etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd"), "--strict-reconfig-check=false") as etcd:
        yield etcd


def test_users_get_what_their_roles_allow(etcd: Etcd) -> None:
    async def whole() -> None:
        async with AsyncClient(etcd.client_url) as open_client:
            await open_client.auth.add_user("root", "r")
            await open_client.auth.add_role("reader")
            await open_client.auth.grant_permission("reader", "read", "app/", prefix=True)
            await open_client.auth.grant_permission("reader", "readwrite", "one")
            await open_client.auth.add_user("ann", "a")
            await open_client.auth.grant_role("ann", "reader")
            with pytest.raises(tercet.AlreadyExists):
                await open_client.auth.add_user("ann", "b")
            with pytest.raises(tercet.NotFound):
                await open_client.auth.user_roles("bob")
            permissions = await open_client.auth.role_permissions("reader")
            assert [(one.access, one.key, one.range_end) for one in permissions] == [
                ("read", b"app/", b"app0"),
                ("readwrite", b"one", b""),
            ]
            assert await open_client.auth.user_roles("ann") == ("reader",)
            assert not (await open_client.auth.status()).enabled
            await open_client.auth.add_role("root")
            await open_client.auth.grant_role("root", "root")
            await open_client.auth.enable()
        try:
            await as_users(etcd)
        finally:
            async with AsyncClient(etcd.client_url, user="root", password="r") as root:
                await root.auth.disable()
                await root.auth.revoke_permission("reader", "app/", prefix=True)
                await root.auth.revoke_role("ann", "reader")
                await root.auth.delete_user("ann")
                await root.auth.delete_role("reader")
                assert (await root.auth.list_users(), await root.auth.list_roles()) == (("root",), ("root",))

    asyncio.run(asyncio.wait_for(whole(), 60))


async def as_users(etcd: Etcd) -> None:
    async with AsyncClient(etcd.client_url, user="ann", password="a") as ann:
        await ann.put("one", "1")
        assert await ann.get_prefix("app/") is not None
        with pytest.raises(PermissionError) as denied:
            await ann.put("app/x", "1")
        assert isinstance(denied.value, tercet.PermissionDenied)
        assert denied.value.message == "etcdserver: permission denied"
    async with AsyncClient(etcd.client_url, user="root", password="r") as root:
        await root.auth.change_password("ann", "new")
        assert (await root.auth.status()).enabled
        lease = await root.grant_lease(60)
        assert lease.id in await root.list_leases()
        assert len(await root.cluster.list_members()) == 1
    async with AsyncClient(etcd.client_url, user="ann", password="a") as ann:
        with pytest.raises(tercet.Unauthenticated) as refused:
            await ann.get("one")
        assert refused.value.message == "etcdserver: authentication failed, invalid user ID or password"
    async with AsyncClient(etcd.client_url) as nobody:
        with pytest.raises(tercet.Unauthenticated, match="user name is empty"):
            await nobody.get("one")


def test_members_are_listed_added_and_removed(etcd: Etcd) -> None:
    async def whole() -> None:
        async with AsyncClient(etcd.client_url) as client:
            (member,) = await client.cluster.list_members()
            assert (member.id, member.name, member.client_urls) == (etcd.id, "default", (etcd.client_url,))
            learner = await client.cluster.add_member(["http://127.0.0.1:1"], is_learner=True)
            assert learner.is_learner
            with pytest.raises(tercet.AlreadyExists):
                await client.cluster.add_member(["http://127.0.0.1:1"])
            with pytest.raises(tercet.FailedPrecondition):
                await client.cluster.promote_member(learner.id)
            changed = await client.cluster.update_member(learner.id, ["http://127.0.0.1:2"])
            assert ("http://127.0.0.1:2",) in [one.peer_urls for one in changed]
            assert len(await client.cluster.list_members(serializable=True)) == 2
            assert await client.cluster.remove_member(learner.id) == (member,)
            with pytest.raises(tercet.NotFound):
                await client.cluster.remove_member(learner.id)

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_maintenance_reports_and_acts(etcd: Etcd) -> None:
    async def whole() -> None:
        async with AsyncClient(etcd.client_url) as client:
            status = await client.maintenance.status()
            assert (status.version, status.leader, status.is_learner, status.errors) == ("3.5.1", etcd.id, False, ())
            assert 0 < status.db_bytes_in_use <= status.db_bytes
            assert await client.maintenance.list_alarms() == ()
            await client.maintenance.raise_alarm("NOSPACE", etcd.id)
            with pytest.raises(tercet.NoSpace):
                await client.put("a", "1")
            (alarm,) = await client.maintenance.list_alarms()
            assert (alarm.name, alarm.member_id) == ("NOSPACE", etcd.id)
            assert await client.maintenance.disarm_alarm("NOSPACE", etcd.id) == (alarm,)
            revision = (await client.put("a", "1")).header.revision
            hashed = await client.maintenance.hash_kv(revision)
            assert (await client.maintenance.hash_kv()).hash == hashed.hash
            await client.maintenance.defragment()
            with pytest.raises(tercet.FailedPrecondition):
                await client.maintenance.move_leader(1)

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_a_snapshot_is_checked_and_etcdutl_reads_it(etcd: Etcd, tmp_path: Path) -> None:
    async def whole() -> None:
        async with AsyncClient(etcd.client_url) as client:
            for number in range(40):
                await client.put(f"big{number}", b"x" * 100_000)
            path = tmp_path / "db.snapshot"
            path.write_bytes(b"older")
            saved = await client.maintenance.snapshot(path)
            data = path.read_bytes()
            assert (saved.path, saved.file_bytes) == (str(path), len(data))
            assert data[-32:] == saved.sha256 == hashlib.sha256(data[:-32]).digest()
            assert len(data) > 4_000_000
            with pytest.raises(FileNotFoundError):
                await client.maintenance.snapshot(tmp_path / "none" / "db")
            with pytest.raises(OSError, match="is a device"):
                await client.maintenance.snapshot("/dev/null")
        assert [one.name for one in tmp_path.iterdir()] == ["db.snapshot"]
        assert "REVISION" in run_tool("etcdutl", "snapshot", "status", path, "-w", "table").upper()

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_a_snapshot_that_a_full_disk_cuts_is_an_error(tmp_path: Path) -> None:
    """The kernel writes the part that fits, and fails only when it is asked for the rest."""

    async def pieces() -> AsyncGenerator[rpc_pb2.SnapshotResponse]:
        database = bytes(3 << 19)
        yield rpc_pb2.SnapshotResponse(blob=database)
        yield rpc_pb2.SnapshotResponse(blob=hashlib.sha256(database).digest())

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            asyncio.run(save_snapshot(pieces(), str(tmp_path / "db")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
