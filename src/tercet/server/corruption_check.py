"""Compares the store's hash with those of the other members: at start, periodically, and at the last compactions.

    initial check       a member that has run before, before it takes part   InitialCorruptCheck; a mismatch refuses the start
    periodic check      the leader, each --corrupt-check-time                CORRUPT alarm for the first member that differs
    compact hash check  the leader, each --compact-hash-check-time           CompactHashCheck; CORRUPT alarm for the minority

Members are at different revisions while they run. The periodic check compares what may be compared: a follower is not ahead of
a leader that has since confirmed its leadership, and at equal compaction the hashes at one revision are equal. The compact hash
check compares hashes that each member took when it applied the same compaction; without a majority for one hash, the alarm has
member ID 0, which is no member's.

Source: etcd server/etcdserver/corrupt.go, for the rules and the log lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from tercet.errors import COMPACTED, FUTURE_REVISION, StorageFailure, TercetError
from tercet.log_fields import fields
from tercet.mvcc import KVHash
from tercet.proto import rpc_pb2
from tercet.replica.membership import hex_id
from tercet.replica.replica import Replica

logger = logging.getLogger(__name__)


class PeerHash(NamedTuple):
    """The answer of one other member; None with `error` if no URL of it gave one."""

    member_id: int
    urls: Sequence[str]
    answer: rpc_pb2.HashKVResponse | None
    error: TercetError | None = None


class Hasher(Protocol):
    """What the checks ask of this member and of its peers."""

    @property
    def member_id(self) -> int: ...

    def compactions(self) -> list[KVHash]:
        """The hashes of the last compactions, newest first."""
        ...

    async def own(self) -> rpc_pb2.HashKVResponse:
        """The hash at the current revision. Raises StatusError."""
        ...

    async def of_peers(self, revision: int) -> list[PeerHash]:
        """The hashes of all other members at a revision."""
        ...

    async def confirm(self) -> None:
        """A linearizable read. Raises Unavailable."""
        ...

    async def raise_alarm(self, member_id: int) -> None:
        """Propose the CORRUPT alarm for a member; 0: not known which."""
        ...


class CorruptionChecker:
    """The three checks of one member."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._checked_revision = 0  # newest compaction at which all members have been found equal

    async def initial_check(self) -> None:
        """Raises StorageFailure if another member has a different hash at this member's revision."""
        hasher = self._hasher
        own = hex_id(hasher.member_id)
        logger.info("starting initial corruption check", extra=fields(local_member_id=own))
        ours = await hasher.own()
        mismatches = 0
        for peer in await hasher.of_peers(ours.hash_revision):
            if peer.answer is None:
                logger.warning(_why_no_hash(peer), extra=_both(hasher, ours, peer))
            elif peer.answer.hash != ours.hash:
                comparable = peer.answer.compact_revision == ours.compact_revision
                mismatches += comparable
                kind = "hash" if comparable else "compact revision"
                logger.warning("found different %s values from remote peer", kind, extra=_both(hasher, ours, peer))
        if mismatches:
            raise StorageFailure(
                f"{own} found data inconsistency with peers: stop this member, remove it from the cluster (etcdctl member "
                f"remove {own}), and add it again with an empty data directory"
            )
        logger.info("initial corruption checking passed; no corruption", extra=fields(local_member_id=own))

    async def periodic_check(self) -> None:
        """On the leader. Raises StatusError if this member cannot answer or confirm its leadership."""
        hasher = self._hasher
        before = await hasher.own()
        peers = await hasher.of_peers(before.hash_revision)
        await hasher.confirm()
        after = await hasher.own()
        blamed: int | None = None
        if after.hash != before.hash and _place(after) == _place(before):
            logger.warning("found hash mismatch", extra=fields(revision=after.hash_revision))
            blamed = hasher.member_id
        answered = [peer for peer in peers if peer.answer is not None]
        for peer in answered:
            problem = _problem_of_follower(peer, before, after)
            if problem:
                logger.warning(problem, extra=_both(hasher, before, peer))
                blamed = peer.member_id if blamed is None else blamed
        if blamed is not None:
            await hasher.raise_alarm(blamed)
        logger.info("finished peer corruption check", extra=fields(number_of_peers_checked=len(answered)))

    async def compact_hash_check(self) -> None:
        """On the leader: compare the newest compaction at which every member answers."""
        logger.info("starting compact hash check", extra=fields(local_member_id=hex_id(self._hasher.member_id)))
        checked = 0
        for taken in self._hasher.compactions():
            if taken.revision <= self._checked_revision:
                break
            checked += 1
            peers = await self._hasher.of_peers(taken.revision)
            if peers and await self._compare(taken, peers):
                break
        logger.info("finished compaction hash check", extra=fields(number_of_hashes_checked=checked))

    async def _compare(self, ours: KVHash, peers: Sequence[PeerHash]) -> bool:
        """True: compared, nothing more to do. False: some members had no such hash, so an older compaction may tell more."""
        by_hash: dict[int, list[int]] = {ours.hash: [self._hasher.member_id]}
        skipped = 0
        for peer in peers:
            if peer.answer is not None and peer.answer.compact_revision == ours.compact_revision:
                by_hash.setdefault(peer.answer.hash, []).append(peer.member_id)
                continue
            skipped += 1
            reason = "no response" if peer.answer is None else "the compact revision differs from the leader's"
            logger.warning("Skipped peer's hash", extra=fields(peer_id=hex_id(peer.member_id), reason=reason))
        if len(by_hash) > 1:
            await self._blame(ours, by_hash, quorum=(len(peers) + 1) // 2 + 1)
            return True
        more = {"number-of-peers-checked": len(peers) - skipped, "revision": ours.revision}
        if skipped:
            text = "skipped revision in compaction hash check; was not able to check all peers"
            logger.warning(text, extra=fields(more, number_of_peers=len(peers)))
            return False
        logger.info("successfully checked hash on whole cluster", extra=fields(more, compactRevision=ours.compact_revision))
        self._checked_revision = max(self._checked_revision, ours.revision)
        return True

    async def _blame(self, ours: KVHash, by_hash: dict[int, list[int]], *, quorum: int) -> None:
        right = next((value for value, members in by_hash.items() if len(members) >= quorum), None)
        place = fields(leader_revision=ours.revision, leader_compact_revision=ours.compact_revision, leader_hash=ours.hash)
        if right is None:
            logger.error(
                "Detected compaction hash mismatch but cannot identify the corrupted members, "
                "so intentionally set the memberID as 0",
                extra=place,
            )
            await self._hasher.raise_alarm(0)
        for value, members in by_hash.items():
            if value == right:
                continue
            wrong = fields(
                leader_revision=ours.revision,
                leader_hash=ours.hash,
                peer_hash=value,
                peer_ids=[hex_id(one) for one in members],
                quorum_exist=right is not None,
            )
            logger.error("Detected compaction hash mismatch", extra=wrong)
            for member in members if right is not None else ():
                await self._hasher.raise_alarm(member)


async def check_while_leader(replica: Replica, check: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Run `check` each so many seconds while this member leads. Runs until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        if not replica.is_leader:
            continue
        try:
            await check()
        except TercetError as error:
            logger.warning("failed to check hash KV: %s", error)


def _place(answer: rpc_pb2.HashKVResponse) -> tuple[int, int]:
    return answer.hash_revision, answer.compact_revision


def _problem_of_follower(peer: PeerHash, before: rpc_pb2.HashKVResponse, after: rpc_pb2.HashKVResponse) -> str:
    """Why a follower's answer cannot be right, or "". before, after: the leader's hash before the answer, and after a
    linearizable read that began after it.
    """
    answer = peer.answer
    assert answer is not None
    if answer.compact_revision == before.compact_revision and answer.hash != before.hash:
        return "same compact revision then hashes must match"
    if answer.header.revision > after.hash_revision:
        return "revision from follower must be less than or equal to leader's"
    if answer.compact_revision > after.compact_revision:
        return "compact revision from follower must be less than or equal to leader's"
    return ""


def _why_no_hash(peer: PeerHash) -> str:
    if peer.error is FUTURE_REVISION:
        return "cannot fetch hash from slow remote peer"
    if peer.error is COMPACTED:
        return "cannot fetch hash from remote peer; local member is behind"
    return "cannot fetch hash from remote peer"


def _both(hasher: Hasher, ours: rpc_pb2.HashKVResponse, peer: PeerHash) -> dict[str, object]:
    """The fields that name both hashes in a log line."""
    named = {
        "local-member-id": hex_id(hasher.member_id),
        "local-member-revision": ours.hash_revision,
        "local-member-compact-revision": ours.compact_revision,
        "local-member-hash": ours.hash,
        "remote-peer-id": hex_id(peer.member_id),
        "remote-peer-endpoints": list(peer.urls),
    }
    if peer.answer is None:
        return fields(named, error=str(peer.error))
    return fields(
        named,
        remote_peer_revision=peer.answer.header.revision,
        remote_peer_compact_revision=peer.answer.compact_revision,
        remote_peer_hash=peer.answer.hash,
    )
