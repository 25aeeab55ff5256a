"""Parameters of a simulated cluster, drawn from the seed: small limits, so that a short run reaches all of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tercet.raft import RaftConfig
from tercet.replica.replica import Options

ELECTION_TICKS = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """The same for all members. Sizes in bytes."""

    uses_streams: bool = False
    joint_changes: bool = False
    pre_vote: bool = True
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 512
    max_committed_bytes: int = 1 << 20
    snapshot_entries: int = 25
    catch_up_entries: int = 3
    catch_up_bytes: int = 256 << 20
    quota_bytes: int = -1  # no quota
    apply_work: int = 8000
    lease_checkpoint_seconds: float = 0.0  # no checkpoints
    whole_bytes_max: int = 16 << 10  # of an entry; a larger Txn of another member is parsed in steps
    uses_auth: bool = False  # clients are users, whose permissions change

    @classmethod
    def draw(cls, random: Random) -> Settings:
        return cls(
            uses_streams=random.random() < 0.5,
            joint_changes=random.random() < 0.3,
            pre_vote=random.random() < 0.8,
            max_message_bytes=random.choice((1, 500, 3000, 1 << 20)),
            max_inflight_messages=random.choice((1, 2, 4, 512)),
            max_committed_bytes=random.choice((1, 2000, 1 << 20)),
            snapshot_entries=random.choice((10, 25, 50)),
            catch_up_entries=random.choice((0, 3, 10)),
            catch_up_bytes=random.choice((2000, 256 << 20, 256 << 20)),
            quota_bytes=random.choice((-1, -1, -1, 20_000)),
            apply_work=random.choice((1, 5, 50, 8000)),
            lease_checkpoint_seconds=random.choice((0.0, 1.0)),
            uses_auth=random.random() < 0.4,
            whole_bytes_max=random.choice((1, 300, 16 << 10)),
        )

    def raft(self, member_id: int, random: Random) -> RaftConfig:
        return RaftConfig(
            id=member_id,
            election_ticks=ELECTION_TICKS,
            pre_vote=self.pre_vote,
            max_message_bytes=self.max_message_bytes,
            max_inflight_messages=self.max_inflight_messages,
            max_committed_bytes=self.max_committed_bytes,
            defer_commit_broadcast=True,
            random=random,
        )

    def replica(self) -> Options:
        return Options(
            request_timeout_seconds=3.0,
            snapshot_entries=self.snapshot_entries,
            catch_up_entries=self.catch_up_entries,
            catch_up_bytes=self.catch_up_bytes,
            quota_bytes=self.quota_bytes,
            apply_work=self.apply_work,
            lease_checkpoint_seconds=self.lease_checkpoint_seconds,
            whole_bytes_max=self.whole_bytes_max,
        )
