"""Start of a member: what its disk and backend hold becomes a running raft, as server/ does it in production."""

from __future__ import annotations

from random import Random
from typing import Final

from tercet.raft import Raft
from tercet.raft.types import HardState
from tercet.replica.membership import Member
from tercet.replica.recovery import is_blank, restore, write_bootstrap_entries
from tercet.sim.disk import SEGMENT_BYTES, Disk
from tercet.sim.environment import Environment
from tercet.storage.interfaces import Backend
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

LOG_DIRECTORY: Final = "wal"


def recover(member_id: int, disk: Disk, backend: Backend, random: Random, environment: Environment) -> tuple[WAL, Raft]:
    """Open the log, or create it, and restore raft from it. Raises PowerCut, or StorageFailure where the log is damaged."""
    wal, recovered = _open_log(member_id, disk, random, environment)
    if is_blank(recovered) and member_id in environment.initial_members:
        recovered = write_bootstrap_entries(wal, [initial_member(one) for one in environment.initial_members])
    config = environment.settings.raft(member_id, Random(random.getrandbits(64)))
    return wal, restore(config, wal, recovered, backend)


def initial_member(member_id: int) -> Member:
    """A member as it is added to the cluster: with a peer URL, not yet started."""
    return Member(member_id, (f"http://{member_id}:2380",))


def _open_log(member_id: int, disk: Disk, random: Random, environment: Environment) -> tuple[WAL, Recovered]:
    if not WAL.exists(disk, LOG_DIRECTORY):
        salt = random.randbytes(8)
        wal = WAL.create(disk, LOG_DIRECTORY, b"%d" % member_id, segment_bytes=SEGMENT_BYTES, salt=salt)
        return wal, Recovered(b"", HardState(), None, [], None)
    wal, recovered = WAL.open(disk, LOG_DIRECTORY, segment_bytes=SEGMENT_BYTES)
    if recovered.repaired:
        environment.trace(member_id, f"repaired its log: {recovered.repaired}")
    return wal, recovered
