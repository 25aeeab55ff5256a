"""A cluster in memory with every fault that a client may meet.

    with Cluster(size=3) as cluster:
        with cluster.partition([cluster.leader()], cluster.followers()):
            ...                                              # the leader is alone
        cluster.fail_next("Put", after_commit=True)          # the write happens, its answer is lost
        cluster.advance(3600)                                # leases of up to an hour end

Each fault returns an `Undo`: a context manager that takes it back. All methods wait until the fault is there, and those that
take it back until the cluster works again. They may be called from any thread but the members' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from tercet.embed.clock import ClockKind
from tercet.embed.cluster import Cluster as EmbeddedCluster
from tercet.embed.leases import has_due
from tercet.embed.links import Link
from tercet.embed.member import StorageKind
from tercet.embed.settings import Setting
from tercet.embed.threaded import ThreadedServer
from tercet.embed.undo import Undo
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.replica.replica import Replica
from tercet.services.awaitables import propose
from tercet.services.leadership_transfer import transfer_leadership
from tercet.testing.call_faults import CallFault, CallFaults
from tercet.testing.history import History

_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.002
_LOST: Final = "error reading from server: EOF"

_PATIENT: Final[Mapping[str, Setting]] = {
    # Advanced time must not end the connections between members: their faults are `Links`.
    "raft_read_timeout": "100000h",
    "raft_write_timeout": "100000h",
}

Members = ThreadedServer | Iterable[ThreadedServer]


class Cluster(EmbeddedCluster):
    """`size` members. storage, directory, clock, tls, config: as of tercet.Cluster. seed: of dropped messages."""

    def __init__(
        self,
        size: int = 3,
        *,
        storage: StorageKind = "memory",
        directory: Path | None = None,
        clock: ClockKind = "real",
        tls: bool = False,
        config: Mapping[str, Setting] | None = None,
        seed: int | None = None,
    ) -> None:
        self._call_faults = CallFaults()
        self.history = History()
        """For clients that are to be recorded; the report of a failed test shows it, and a reset clears it."""
        super().__init__(
            size,
            storage=storage,
            directory=directory,
            clock=clock,
            tls=tls,
            config={**_PATIENT, **(config or {})},
            seed=seed,
            wrap_handlers=self._call_faults.wrap,
        )

    @property
    def endpoint(self) -> str:
        """Of the first member."""
        return self.members[0].endpoint

    def followers(self) -> list[ThreadedServer]:
        """All members but the leader."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def heal(self) -> None:
        """Take back all faults of the network and of calls, and start what is not running. Waits for a leader."""
        self.links.heal()
        self._call_faults.clear()
        for member in self.members:
            member.resume()
            if member.is_running and member.failure is not None:
                member.stop()
        for starting in [member.start_soon() for member in self.members if not member.is_running]:
            starting.result(_SECONDS_MAX)
        for member in self.members:
            member.accept_clients()
        self.leader()

    def reset(self) -> None:
        """Forget everything that clients have stored, and the history."""
        super().reset()
        self.history.clear()

    # --- the network between members

    def partition(self, one: Members, other: Members, *, oneway: bool = False) -> Undo:
        """What each of `one` sends to each of `other` does not arrive; without `oneway`, nor the other way round."""
        return self._set_links(one, other, Link(cut=True), both=not oneway)

    def isolate(self, member: ThreadedServer) -> Undo:
        """Cut a member off from all others."""
        return self.partition(member, [other for other in self.members if other is not member])

    def delay(self, one: Members, other: Members, seconds: float, *, oneway: bool = False) -> Undo:
        """Messages arrive so much later."""
        return self._set_links(one, other, Link(delay_seconds=seconds), both=not oneway)

    def drop(self, one: Members, other: Members, probability: float, *, oneway: bool = False) -> Undo:
        """Messages are lost with this probability."""
        return self._set_links(one, other, Link(drop=probability), both=not oneway)

    def _set_links(self, one: Members, other: Members, link: Link, *, both: bool) -> Undo:
        before = self.links.faults
        for sender in _several(one):
            for receiver in _several(other):
                self.links.set(sender.name, receiver.name, link)
                if both:
                    self.links.set(receiver.name, sender.name, link)
        return Undo(partial(self.links.restore, before))

    # --- calls of clients

    def fail_next(
        self,
        method: str,
        *,
        code: Code | str = Code.UNAVAILABLE,
        text: str = _LOST,
        after_commit: bool = False,
        times: int = 1,
    ) -> Undo:
        """Let the next calls of a method fail, at whichever member.

        method: `Put`, or a path such as `/etcdserverpb.KV/Put`. after_commit: only the answer is lost.
        """
        fault = CallFault(method, Code[code] if isinstance(code, str) else code, text, after_commit, times)
        self._call_faults.add(fault)
        return Undo(partial(self._call_faults.remove, fault))

    def disconnect_clients(self) -> None:
        """Break all connections of clients, which may connect again."""
        for member in self.running:
            member.disconnect_clients()

    def rotate_certs(self, *, authorities: bool = False) -> None:
        """Replace all certificates by new ones, which new connections use; those that are open stay. For tls=True.

        authorities: replace those that sign too, at once: who still has the old files is refused.
        Raises ConfigError without TLS.
        """
        if self.certificates is None:
            raise ConfigError("rotate_certs needs a cluster with tls=True")
        moved = self.running
        for member in moved:
            member.pause()  # a member must not read a certificate and the key of another
        try:
            self.certificates.rotate(authorities=authorities)
        finally:
            for member in moved:
                member.resume()

    # --- time

    def advance(self, seconds: float) -> None:
        """Move the time of all members forward, and wait until the leases that end by then are gone.

        It is one step. With clock="real" each timer that is due by then runs once, and the members tick once; with "manual"
        only leases, tokens and automatic compaction see the time. Paused members keep theirs.
        """
        moved = self.running
        for member in moved:
            member.pause()
        for member in moved:
            if member.server.clock.is_manual:
                member.call_paused(partial(member.server.advance_now, seconds))
            else:
                member.call_paused(partial(member.require_loop().advance, seconds))
        for member in moved:
            member.resume()
        for member in moved:
            member.call(lambda: None)
        self._wait(self._has_no_due_lease, "expired leases are revoked")

    def expire_lease(self, lease_id: int) -> None:
        """End a lease as its leader does when it has not been renewed. Raises LookupError if there is none."""
        leader = self.leader()
        if not leader.call(partial(leader.server.end_lease, lease_id)):
            raise LookupError(f"there is no lease {lease_id:016x}")
        self._wait(
            lambda: all(_replica(member).state_machine.lessor.get(lease_id) is None for member in self.running),
            f"lease {lease_id:016x} is gone",
        )

    def expire_tokens(self) -> None:
        """All tokens of clients become invalid, as after their TTL."""
        for member in self.running:
            member.call(_replica(member).state_machine.auth.tokens.revoke_all)

    def _has_no_due_lease(self) -> bool:
        leader = self.find_leader()
        if leader is None:
            return False
        return not leader.call(partial(has_due, _replica(leader)))

    # --- the store and the quorum

    def compact_all(self) -> int:
        """Compact all history up to the current revision, which is returned."""
        leader = self.leader()
        revision = leader.call(lambda: _replica(leader).revision)
        request = rpc_pb2.CompactionRequest(revision=revision)
        self._on_leader(lambda replica: propose(replica, "compaction", request, replica.auth.internal_identity()))
        return revision

    def no_space(self) -> Undo:
        """Raise the alarm NOSPACE: writes are refused. Taken back, it is disarmed."""
        member_id, alarm = self.members[0].member_id, rpc_pb2.NOSPACE
        self._alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member_id, alarm=alarm))
        lifted = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=alarm)
        return Undo(partial(self._alarm, lifted))

    def _alarm(self, request: rpc_pb2.AlarmRequest) -> None:
        self._on_leader(lambda replica: propose(replica, "alarm", request, replica.auth.internal_identity()))

    def move_leader(self, to: ThreadedServer | None = None) -> ThreadedServer:
        """Hand leadership to a member, by default to the next follower; returns the new leader."""
        target = to or self.followers()[0]
        target_id = target.member_id
        if self.leader() is not target:
            self._on_leader(lambda replica: transfer_leadership(replica, target_id, _SECONDS_MAX))
        self._wait(lambda: self.find_leader() is target, f"{target.name} leads")
        return self.leader()

    def lose_quorum(self, how: Literal["kill", "pause"] = "kill") -> Undo:
        """Take away as many members as leave no quorum, followers first. Taken back, all run and there is a leader."""
        spared = (len(self.members) - 1) // 2
        gone = [*self.followers(), self.leader()][: len(self.members) - spared]
        for member in gone:
            if how == "kill":
                member.kill()
            else:
                member.pause()

        def bring_back() -> None:
            for member in gone:
                member.resume()
            for starting in [member.start_soon() for member in gone if not member.is_running]:
                starting.result(_SECONDS_MAX)
            self.leader()

        return Undo(bring_back)

    def _on_leader(self, work: Callable[[Replica], Coroutine[Any, Any, object]]) -> None:
        """Run a request on the leader; once more if leadership moves meanwhile."""
        for is_last in (False, True):
            leader = self.leader()
            try:
                leader.run(work, _replica(leader))
                return
            except StatusError:
                if is_last:
                    raise

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS_MAX
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {_SECONDS_MAX:g} s: {what}")
            time.sleep(_POLL_SECONDS)


def _several(members: Members) -> list[ThreadedServer]:
    return [members] if isinstance(members, ThreadedServer) else list(members)


def _replica(member: ThreadedServer) -> Replica:
    driver = member.server.member
    if driver is None:
        raise LookupError(f"{member.name} is not running")
    return driver.replica
