"""Which member the corruption checks blame, for each way in which hashes can differ."""

from __future__ import annotations

import asyncio

import pytest

from tercet.errors import COMPACTED, FUTURE_REVISION, StorageFailure
from tercet.mvcc import KVHash
from tercet.peer import NoAnswer
from tercet.proto import rpc_pb2
from tercet.server.corruption_check import CorruptionChecker, PeerHash

OWN = 1
Answer = rpc_pb2.HashKVResponse


def answer(hash: int, compacted: int = 5, *, revision: int = 9, now: int = 0) -> Answer:
    header = rpc_pb2.ResponseHeader(revision=now or revision)
    return Answer(header=header, hash=hash, compact_revision=compacted, hash_revision=revision)


class FakeHasher:
    """own: the answers to `own`, in order. peers: by revision, or the same for all (key 0)."""

    def __init__(self, own: list[Answer], peers: dict[int, list[Answer | Exception | None]], taken: list[KVHash] | None = None):
        self.member_id = OWN
        self.alarms: list[int] = []
        self.asked: list[int] = []
        self._own = own
        self._peers = peers
        self._taken = taken or []

    def compactions(self) -> list[KVHash]:
        return self._taken

    async def own(self) -> Answer:
        return self._own.pop(0)

    async def of_peers(self, revision: int) -> list[PeerHash]:
        self.asked.append(revision)
        found = []
        for number, one in enumerate(self._peers.get(revision, self._peers.get(0, [])), start=OWN + 1):
            is_answer = isinstance(one, Answer)
            error = None if is_answer else one or NoAnswer("down")
            found.append(PeerHash(number, ["http://peer"], one if is_answer else None, error))  # type: ignore[arg-type]
        return found

    async def confirm(self) -> None: ...

    async def raise_alarm(self, member_id: int) -> None:
        self.alarms.append(member_id)


@pytest.mark.parametrize(
    ("peers", "refused"),
    [
        ([answer(7), answer(7)], False),
        ([answer(7), None], False),
        ([COMPACTED, FUTURE_REVISION], False),
        ([answer(8, compacted=6)], False),
        ([answer(7), answer(8)], True),
    ],
)
def test_a_member_refuses_to_start_if_a_peer_has_another_hash_after_the_same_compaction(
    peers: list[Answer | Exception | None], refused: bool
) -> None:
    hasher = FakeHasher([answer(7)], {9: peers})
    check = CorruptionChecker(hasher).initial_check()
    if refused:
        with pytest.raises(StorageFailure, match="1 found data inconsistency with peers"):
            asyncio.run(check)
    else:
        asyncio.run(check)
    assert hasher.alarms == []


@pytest.mark.parametrize(
    ("own", "peers", "alarms"),
    [
        ([answer(7), answer(7)], [answer(7), answer(7)], []),
        ([answer(7), answer(6, revision=10)], [answer(7), None], []),
        ([answer(7), answer(8)], [answer(7)], [OWN]),
        ([answer(7), answer(7)], [answer(7), answer(8)], [3]),
        ([answer(7), answer(7)], [answer(8), answer(8)], [2]),
        ([answer(7), answer(7)], [answer(8, compacted=4)], []),
        ([answer(7), answer(7)], [answer(7, compacted=6)], [2]),
        ([answer(7), answer(6, revision=12)], [answer(7, now=12)], []),
        ([answer(7), answer(6, revision=12)], [answer(7, now=13)], [2]),
    ],
)
def test_the_periodic_check_blames_the_first_member_that_cannot_be_right(
    own: list[Answer], peers: list[Answer | Exception | None], alarms: list[int]
) -> None:
    hasher = FakeHasher(list(own), {9: peers})
    asyncio.run(CorruptionChecker(hasher).periodic_check())
    assert hasher.alarms == alarms


@pytest.mark.parametrize(
    ("peers", "alarms"),
    [
        ([answer(7), answer(7)], []),
        ([answer(7), answer(8)], [3]),
        ([answer(8), answer(8)], [OWN]),
        ([answer(8), answer(9)], [0]),
        ([answer(8)], [0]),
        ([answer(7), answer(7), answer(8), answer(9)], [4, 5]),
        ([answer(8), None], [0]),
    ],
)
def test_d32_the_compact_hash_check_blames_the_minority(peers: list[Answer | Exception | None], alarms: list[int]) -> None:
    hasher = FakeHasher([], {0: peers}, [KVHash(7, 9, 5)])
    asyncio.run(CorruptionChecker(hasher).compact_hash_check())
    assert hasher.alarms == alarms


def test_the_compact_hash_check_looks_at_older_compactions_until_all_members_answer() -> None:
    hasher = FakeHasher([], {9: [answer(7), None], 5: [answer(6, 3), answer(6, 3)]}, [KVHash(7, 9, 5), KVHash(6, 5, 3)])
    checker = CorruptionChecker(hasher)
    asyncio.run(checker.compact_hash_check())
    assert hasher.asked == [9, 5]
    asyncio.run(checker.compact_hash_check())
    assert hasher.asked == [9, 5, 9], "revision 5 is checked"
    assert hasher.alarms == []
