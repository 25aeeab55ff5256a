"""HashKV at the revisions of the last compactions, as in etcd 3.6 and 3.7; the expected hashes are those of etcd 3.7.3."""

from __future__ import annotations

import asyncio

import pytest

from tercet.mvcc import KVHash, hash_kv
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError
from tercet.services import compaction_hasher
from tercet.services.compaction_hasher import CompactionHasher
from tercet.storage.interfaces import ReadView
from tests.services.harness import ServedMember, run, served

Answer = tuple[int, int, int] | str
COMPACTED = "etcdserver: mvcc: required revision has been compacted"


async def put(member: ServedMember, key: bytes, value: bytes = b"1") -> None:
    await member.call("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse)


async def compact(member: ServedMember, revision: int) -> None:
    await member.call("KV/Compact", rpc_pb2.CompactionRequest(revision=revision), rpc_pb2.CompactionResponse)
    await asyncio.sleep(0)
    while member.replica.compaction.step(1):
        await asyncio.sleep(0)


async def hashes(member: ServedMember, *revisions: int) -> list[Answer]:
    """(hash, compact_revision, hash_revision), or the text of the error."""
    found: list[Answer] = []
    for revision in revisions:
        try:
            request = rpc_pb2.HashKVRequest(revision=revision)
            answer = await member.call("Maintenance/HashKV", request, rpc_pb2.HashKVResponse)
            found.append((answer.hash, answer.compact_revision, answer.hash_revision))
        except RpcError as error:
            found.append(error.message)
    return found


async def with_history(member: ServedMember) -> None:
    await put(member, b"k")
    await put(member, b"k")
    await member.call("KV/DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"k"), rpc_pb2.DeleteRangeResponse)
    await put(member, b"z")


def test_a_compacted_revision_keeps_the_hash_from_before_the_compaction() -> None:
    async def test() -> None:
        async with served() as member:
            await with_history(member)
            before: list[Answer] = [(2597073002, -1, 3), (2890892509, -1, 4), (4161317146, -1, 5)]
            assert await hashes(member, 3, 4, 5) == before
            await compact(member, 4)
            after: list[Answer] = [COMPACTED, (2890892509, -1, 4), (3839208591, 4, 5), (3839208591, 4, 5)]
            assert await hashes(member, 3, 4, 5, 0) == after

    run(test())


def test_hashes_of_the_last_compactions_are_kept_with_their_previous_compaction() -> None:
    async def test() -> None:
        async with served() as member:
            await with_history(member)
            await compact(member, 4)
            for number in range(5):
                await put(member, b"y%d" % number, b"v")
                await put(member, b"k", b"n%d" % number)
            assert await hashes(member, 8, 10, 0) == [(1392184723, 4, 8), (2954179628, 4, 10), (153874020, 4, 15)]
            await compact(member, 8)
            assert await hashes(member, 4, 5, 7, 8, 9, 0) == [
                (2890892509, -1, 4),
                COMPACTED,
                COMPACTED,
                (1392184723, 4, 8),
                (733382576, 8, 9),
                (228709041, 8, 15),
            ]
            await compact(member, 10)
            assert await hashes(member, 4, 8, 9, 10, 11) == [
                (2890892509, -1, 4),
                (1392184723, 4, 8),
                COMPACTED,
                (634579896, 8, 10),
                (3150995128, 10, 11),
            ]

    run(test())


def test_a_compaction_removes_nothing_before_the_view_for_its_hash_is_open() -> None:
    """The backend opens a view when its commit ends; without waiting, the compaction would remove revisions before that."""

    async def test() -> None:
        async with served() as member:
            await with_history(member)
            opened: list[object] = []
            view = member.backend.view
            member.backend.view = opened.append  # type: ignore[method-assign, assignment]
            await member.call("KV/Compact", rpc_pb2.CompactionRequest(revision=4), rpc_pb2.CompactionResponse)
            size = member.backend.size()
            for _ in range(10):
                assert member.replica.compaction.step(1)
            assert member.backend.size() >= size
            member.backend.view = view  # type: ignore[method-assign]
            view(opened[0])  # type: ignore[arg-type]
            while member.replica.compaction.step(1):
                await asyncio.sleep(0)
            assert await hashes(member, 4) == [(2890892509, -1, 4)]

    run(test())


def test_of_many_compactions_at_once_the_last_ones_are_hashed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most = 0, 0

    def counted(view: ReadView, revision: int, previous: int) -> KVHash:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        taken = hash_kv(view, revision, previous)
        at_work -= 1
        return taken

    monkeypatch.setattr(compaction_hasher, "hash_kv", counted)

    async def test() -> None:
        async with served() as member:
            for number in range(40):
                await put(member, b"k%d" % number)
            hasher = CompactionHasher(member.replica)
            for revision in range(2, 42):
                hasher._compacted(revision, revision - 1)
            while hasher._hashing:
                await asyncio.sleep(0.01)
            assert [taken.revision for taken in hasher.hashes.all()] == list(range(41, 31, -1))
            assert most == 1

    run(test())
