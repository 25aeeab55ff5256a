"""Members as processes, of tercet or of a real etcd, with the faults that a process can have.

A test that asks for another fault is skipped, so the same tests run in this process and in others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

from tercet.client import Client, TercetError, Unauthenticated
from tercet.client.maintenance_calls import AlarmName
from tercet.embed.addresses import Port
from tercet.embed.certificates import Certificates
from tercet.embed.cluster_clients import ClusterClients
from tercet.embed.process import ServerProcess
from tercet.embed.settings import Setting
from tercet.embed.threaded import ThreadedServer
from tercet.embed.undo import Undo
from tercet.testing.cluster import Cluster

ROOT: Final = "root"
"""Name and password of the user with which the plugin enables authentication."""

_SECONDS_MAX: Final = 60.0
_ANSWER_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02


def skip(reason: str) -> None:
    """End the running test as skipped: what it needs cannot be had in this mode."""
    import pytest

    pytest.skip(reason)


def _lacks(owner: object, of: type, name: str) -> AttributeError:
    """Skip the test if this is a method of the same object in this process; else what `__getattr__` raises."""
    if hasattr(of, name):
        skip(f"{name} needs servers in this process: --tercet-mode=inprocess")
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")


class Member(ServerProcess):
    """A member of a ProcessCluster."""

    def __getattr__(self, name: str) -> Any:
        raise _lacks(self, ThreadedServer, name)


class ProcessCluster(ClusterClients):
    """`size` members named m0, m1 and so on. program: the server's path, "" for tercet. tls, config: as of Cluster."""

    def __init__(
        self,
        size: int,
        config: Mapping[str, Setting],
        program: str = "",
        *,
        tls: bool = False,
        keep_data: bool = False,
    ) -> None:
        self._program = program
        ports = {f"m{number}": Port(secure=tls) for number in range(size)}
        self._ports = list(ports.values())
        self.certificates = Certificates(list(ports)) if tls else None
        more: dict[str, Any] = {"program": [program]} if program else {}
        self.members: list[Member] = []
        try:
            for name in ports:
                own = self.certificates.settings(name) if self.certificates is not None else {}
                settings = {"unsafe_no_fsync": True, **own, **config}
                self.members.append(Member(name=name, members=ports, config=settings, keep_data=keep_data, **more))
        except BaseException:  # a setting that cannot be used
            self.close()
            raise

    # --- state

    def __getitem__(self, number: int) -> Member:
        return self.members[number]

    def __getattr__(self, name: str) -> Any:
        raise _lacks(self, Cluster, name)

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def running(self) -> list[Member]:
        """Members that are neither stopped nor paused."""
        return [member for member in self.members if member.is_running and not member.is_paused]

    def leader(self) -> Member:
        """Wait for a leader that a quorum of the members knows. Raises TimeoutError after a minute."""
        leader: list[Member] = []

        def is_known() -> bool:
            leader[:] = self._known_leaders()
            return bool(leader)

        _wait(is_known, "a quorum of the members knows a leader")
        return leader[0]

    def _known_leaders(self) -> list[Member]:
        """The running member that more than half of all call leader; none if there is no such one."""
        ids: dict[int, Member] = {}
        votes: list[int] = []
        for member in self.running:
            try:
                with self.client(endpoints=member.endpoints, timeout=_ANSWER_SECONDS) as client:
                    status = client.maintenance.status()
            except TercetError:
                continue
            ids[status.header.member_id] = member
            votes.append(status.leader)
        return [member for member_id, member in ids.items() if 2 * votes.count(member_id) > len(self.members)]

    def followers(self) -> list[Member]:
        """All members but the leader."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    # --- faults

    def lose_quorum(self, how: Literal["kill", "pause"] = "kill") -> Undo:
        """Kill or pause as many members as leave no quorum. Taken back, all run and there is a leader."""
        gone = self.members[(len(self.members) - 1) // 2 :]
        for member in gone:
            if how == "kill":
                member.kill()
            else:
                member.pause()
        return Undo(self.heal)

    def heal(self) -> None:
        """Resume and start all members. Waits for a leader."""
        for member in self.members:
            member.resume()
        starting = [member for member in self.members if not member.is_running]
        for member in starting:
            member.start_soon()
        for member in starting:
            member.wait_ready()
        self.leader()

    def compact_all(self) -> int:
        """Compact all history up to the current revision, which is returned."""
        with self.client() as client:
            revision = client.maintenance.status().header.revision
            client.compact(revision)
        return revision

    def no_space(self) -> Undo:
        """Raise the alarm NOSPACE: writes are refused. Taken back, it is disarmed."""
        with self.client() as client:
            member_id = client.maintenance.status().header.member_id
            client.maintenance.raise_alarm("NOSPACE", member_id)

        def disarm() -> None:
            with self.client() as client:
                client.maintenance.disarm_alarm("NOSPACE", member_id)

        return Undo(disarm)

    def move_leader(self, to: Member | None = None) -> Member:
        """Hand leadership to a member, by default to the next follower; returns the new leader."""
        target = to or self.followers()[0]
        leader = self.leader()
        if leader is not target:
            with self.client(endpoints=leader.endpoints) as client:
                target_id = next(member.id for member in client.cluster.list_members() if member.name == target.name)
                client.maintenance.move_leader(target_id)
        _wait(lambda: self.leader() is target, f"{target.name} leads")
        return target

    def rotate_certs(self, *, authorities: bool = False) -> None:
        """See `Cluster.rotate_certs`; etcd reads its authorities at its start only, so `authorities` skips the test there."""
        if authorities and self._program:
            skip("rotate_certs(authorities=True) needs servers of tercet")
        if self.certificates is not None:
            self.certificates.rotate(authorities=authorities)

    def reset(self) -> None:
        """Delete keys, leases, users, roles and alarms. The revision goes on; watches see the deletions.

        Authentication is disabled by the user root with the password root, if it is enabled.
        """
        with self.client() as client:
            if _has_users(client):
                with self.client(user=ROOT, password=ROOT) as root:
                    root.auth.disable()
            for alarm in client.maintenance.list_alarms():
                client.maintenance.disarm_alarm(cast(AlarmName, alarm.name), alarm.member_id)
            client.delete_prefix("")
            for lease_id in client.list_leases():
                client.revoke_lease(lease_id)
            for user in client.auth.list_users():
                client.auth.delete_user(user)
            for role in client.auth.list_roles():
                client.auth.delete_role(role)

    # --- start and stop

    def close(self) -> None:
        for member in self.members:
            member.close()
        for port in self._ports:
            port.close()
        if self.certificates is not None:
            self.certificates.close()

    def __enter__(self) -> ProcessCluster:
        try:
            for member in self.members:
                member.start_soon()
            for member in self.members:
                member.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _has_users(client: Client) -> bool:
    """Whether authentication is enabled; etcd 3.5 tells that to users only."""
    try:
        return client.auth.status().enabled
    except Unauthenticated:
        return True


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_SECONDS_MAX:g} s: {what}")
        time.sleep(_POLL_SECONDS)
