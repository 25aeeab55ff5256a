"""Writers that record what was acknowledged, and a check of the store against their records.

Each write is one transaction that puts a unique key and the writer's counter. That shows later whether each write was applied,
and how often:

    acknowledged <= present <= attempted      no acknowledged write is lost, and no other appears
    version(unique key) == 1                  applied once
    version(counter) == number of unique keys     applied completely
    mod_revision(unique key) == the revision in the response
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tercet.proto import kv_pb2, rpc_pb2
from tests.support.client import Client
from tests.support.processes import Cluster, Member, wait_until
from tests.support.waiting import scaled

CALL_SECONDS = 1.0


@dataclass
class Writer:
    """A thread that sends one request at a time, to one member until it fails, then to the next."""

    name: str
    members: Sequence[Member]
    value_bytes: int = 100
    call_seconds: float = CALL_SECONDS
    acknowledged: dict[bytes, int] = field(default_factory=dict)  # unique key -> revision of the response
    attempted: set[bytes] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def counter(self) -> bytes:
        return b"counter/" + self.name.encode()

    @property
    def prefix(self) -> bytes:
        return b"unique/" + self.name.encode() + b"/"

    def start(self) -> Writer:
        self._thread = threading.Thread(target=self._run, name=f"writer-{self.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join(scaled(self.call_seconds + 5))
        assert not self._thread.is_alive()

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        """Wait until `count` more writes are acknowledged."""
        goal = len(self.acknowledged) + count
        wait_until(
            lambda: len(self.acknowledged) >= goal, f"writer {self.name} has {count} more acknowledged writes", seconds=seconds
        )

    def _run(self) -> None:
        clients = [Client(member.endpoint, member.credentials) for member in self.members]
        at, number = 0, 0
        while not self._stopping.is_set():
            number += 1
            key = self.prefix + b"%07d" % number
            self.attempted.add(key)
            try:
                answer = clients[at].put_all({key: b"v" * self.value_bytes, self.counter: b"%d" % number}, self.call_seconds)
            except Client.Error as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                at = (at + 1) % len(clients)
                time.sleep(0.02)
                continue
            self.acknowledged[key] = answer.header.revision
        for client in clients:
            client.close()


class Load:
    """Several writers; a context manager that stops them at its end. call_seconds: when they give a call up."""

    def __init__(
        self, cluster: Cluster, *, writers: int = 3, value_bytes: int = 100, call_seconds: float = CALL_SECONDS
    ) -> None:
        members = cluster.members
        self.writers = [
            Writer(
                f"w{number}", [*members[number % len(members) :], *members[: number % len(members)]], value_bytes, call_seconds
            )
            for number in range(writers)
        ]

    def __enter__(self) -> Load:
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for writer in self.writers:
            writer.stop()

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        """Wait until each writer has `count` more acknowledged writes: the cluster serves through the running members."""
        goals = [len(writer.acknowledged) + count for writer in self.writers]
        wait_until(
            lambda: all(len(writer.acknowledged) >= goal for writer, goal in zip(self.writers, goals, strict=True)),
            f"every writer has {count} more acknowledged writes",
            seconds=seconds,
        )

    @property
    def acknowledged(self) -> int:
        return sum(len(writer.acknowledged) for writer in self.writers)

    def check(self, cluster: Cluster) -> None:
        """Check that all members agree and no acknowledged write is lost."""
        check_agreement(cluster.running)
        for member in cluster.running:
            stored = member.client.all(b"unique/", serializable=True)
            counters = member.client.all(b"counter/", serializable=True)
            for writer in self.writers:
                _check_writer(member.name, writer, stored, counters)


def _check_writer(
    where: str, writer: Writer, stored: dict[bytes, kv_pb2.KeyValue], counters: dict[bytes, kv_pb2.KeyValue]
) -> None:
    present = {key: pair for key, pair in stored.items() if key.startswith(writer.prefix)}
    lost = sorted(set(writer.acknowledged) - set(present))
    assert not lost, f"{where} has lost {len(lost)} acknowledged writes of {writer.name}, the first {lost[0]!r}"
    assert set(present) <= writer.attempted
    twice = [key for key, pair in present.items() if pair.version != 1 or pair.create_revision != pair.mod_revision]
    assert not twice, f"{where} has applied more than once: {twice[:5]}"
    moved = [key for key, revision in writer.acknowledged.items() if present[key].mod_revision != revision]
    assert not moved, f"{where} has a revision that differs from the response: {moved[:5]}"
    if present:
        counter = counters[writer.counter]
        assert counter.version == len(present), f"{where}: {writer.counter!r} was written {counter.version} times"
        assert counter.mod_revision == max(pair.mod_revision for pair in present.values())


def check_agreement(members: Sequence[Member], seconds: float = 60.0) -> rpc_pb2.HashKVResponse:
    """Check that these members have the same revision and the same content up to it."""

    def revisions() -> set[int]:
        return {member.client.range(b"\0", timeout=scaled(10)).header.revision for member in members}

    wait_until(lambda: len(revisions()) == 1, "all members are at one revision", seconds=seconds)
    revision = revisions().pop()
    # Revision 0, since the hash at a compacted revision differs: a member that applied the compaction returns the hash taken
    # then, and one that installed a snapshot since returns the hash of what is left.
    hashes = {member.name: member.client.hash_kv(0) for member in members}
    values = {(one.hash, one.compact_revision, one.header.revision) for one in hashes.values()}
    assert len({value[:2] for value in values}) == 1, f"hashes differ at revision {revision}: {hashes}"
    return next(iter(hashes.values()))
