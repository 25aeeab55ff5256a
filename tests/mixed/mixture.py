"""Clusters of tercet and etcd 3.5.1 members, and comparisons of their data.

The comparisons ask every member for HashKV at the current and at past revisions, all key-value pairs, leases and members.
Texts and ids in responses are compared in tests/differential.
"""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tercet.bolt import BoltFile
from tercet.pki import ClusterCertificates
from tercet.proto import rpc_pb2
from tests.support.processes import ETCD, Cluster, Member, wait_until
from tests.support.waiting import scaled

SNAPSHOT_ENTRIES = 100
CATCH_UP_ENTRIES = 10
PACE = ("--heartbeat-interval=100", "--election-timeout=1000")

_SECTIONS = {"peer-": "peer-transport-security", "": "client-transport-security"}
_TLS_KEYS = ("cert-file", "key-file", "client-cert-auth", "trusted-ca-file")


def mixture(
    directory: Path,
    kinds: Mapping[str, Sequence[str]],
    *,
    initial_members: Sequence[str] = (),
    certificates: ClusterCertificates | None = None,
    bytecode: Path | None = None,
) -> Cluster:
    """A cluster that is not started yet.

    kinds: the program of each member by name. initial_members: the initial members, if not all; the others join later, in the
    order of `kinds`.
    """
    cluster = Cluster.plan(directory, kinds, PACE, programs=kinds, certificates=certificates, bytecode=bytecode)
    scheme = "https" if certificates else "http"
    peers = [f"{member.name}={scheme}://127.0.0.1:{member.peer_port}" for member in cluster.members]
    for number, member in enumerate(cluster.members, start=1):
        if initial_members:
            known = len(initial_members) if member.name in initial_members else number
            flags = [flag for flag in member.flags if not flag.startswith("--initial-cluster=")]
            state = "new" if member.name in initial_members else "existing"
            flags += ["--initial-cluster=" + ",".join(peers[:known]), f"--initial-cluster-state={state}"]
            member.flags = [*flags, "--strict-reconfig-check=false"]  # which would wait 5 s before each change
        keep_little_log(member)
    return cluster


def is_etcd(member: Member) -> bool:
    return member.program == ETCD


def kill(member: Member) -> None:
    """Kill a member, one of etcd once its database is at rest and clients send nothing.

    etcd 3.5.1 can store the index of an entry before its effect. Killed between the two, it never applies the entry, and stays
    behind by a revision (etcd #13766). That fault is not what these tests look for.
    """
    if is_etcd(member):
        commits, looks = _commits(member), 0
        deadline = time.monotonic() + scaled(60)
        while looks < _LOOKS_AT_REST:
            assert time.monotonic() < deadline, f"{member.name} does not come to rest"
            time.sleep(0.05)
            now = _commits(member)
            commits, looks = now, looks + 1 if now == commits else 0
    member.kill()


_LOOKS_AT_REST = 12  # etcd commits 0.1 s after a write at the latest


def _commits(member: Member) -> bytes:
    """The count of database commits, as a line of /metrics."""
    with urllib.request.urlopen(f"http://{member.endpoint}/metrics", timeout=scaled(10)) as page:
        return next(line for line in page if line.startswith(b"etcd_disk_backend_commit_duration_seconds_count"))


def keep_little_log(member: Member) -> None:
    """Compact the log early, so that a follower that was down needs a snapshot.

    etcd 3.5.1 has SnapshotCatchUpEntries only in its configuration file, and with a file it ignores flags, so all flags become
    keys of the file.
    """
    flags = [*member.flags, f"--snapshot-count={SNAPSHOT_ENTRIES}"]
    if not is_etcd(member):
        member.flags = [*flags, f"--snapshot-catchup-entries={CATCH_UP_ENTRIES}"]
        return
    settings: dict[str, Any] = {"unsafe-no-fsync": True, "SnapshotCatchUpEntries": CATCH_UP_ENTRIES}
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        prefix = "peer-" if name.removeprefix("peer-") in _TLS_KEYS and name.startswith("peer-") else ""
        key = name.removeprefix(prefix)
        if key in _TLS_KEYS:
            settings.setdefault(_SECTIONS[prefix], {})[key] = value or True
        else:
            settings[key] = yaml.safe_load(value)
    member.directory.mkdir(parents=True, exist_ok=True)
    path = member.directory / f"{member.name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    member.flags = [f"--config-file={path}"]


def make_leader(cluster: Cluster, target: Member) -> None:
    """Transfer leadership to `target`, unless it leads already, and wait until all running members follow it.

    A member that still follows the old leader forwards proposals to it, which drops them during a transfer.
    """
    target_id = target.client.status().header.member_id

    def leads() -> bool:
        if target.client.status().leader == target_id:
            return all(member.client.status().leader == target_id for member in cluster.running)
        leader = cluster.leader()
        request = rpc_pb2.MoveLeaderRequest(targetID=target_id)
        leader.client.call("Maintenance/MoveLeader", request, rpc_pb2.MoveLeaderResponse, 30)
        return False

    wait_until(leads, f"{target.name} leads")


def wait_level(members: Sequence[Member], seconds: float = 60.0) -> int:
    """Wait until all have applied the same index; returns the revision."""

    points: dict[str, tuple[int, int, int]] = {}

    def level() -> int:
        for member in members:
            status = member.client.status()
            points[member.name] = (status.raftIndex, status.raftAppliedIndex, status.header.revision)
        (commit_index, applied_index, revision), *more = set(points.values())
        return revision if commit_index == applied_index and not more else 0

    try:
        return wait_until(level, "all members have applied the same index", seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; committed, applied, revision: {points}") from None


def check_same(members: Sequence[Member], seed: int = 0) -> None:
    """Check that HashKV at several revisions, all pairs, the members and all other stored data are the same on all."""
    members[0].client.put(b"alive", b"")
    now = wait_level(members)
    for revision in (0, *_past_revisions(members[0], now, random.Random(seed))):
        hashes = {}
        for member in members:
            answer = member.client.hash_kv(revision)
            hashes[member.name] = (answer.hash, answer.compact_revision, answer.header.revision)
        assert len(set(hashes.values())) == 1, f"HashKV at {revision}: {hashes}"
    everything = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", serializable=True)
    first, *more = [member.client.call("KV/Range", everything, rpc_pb2.RangeResponse, 30).kvs for member in members]
    assert all(list(one) == list(first) for one in more)
    beside = {member.name: stored_beside_keys(member) for member in members}
    for name in beside:
        assert beside[name] == beside[members[0].name], f"{name} differs from {members[0].name}: {beside}"
    wait_until(lambda: len({_members_seen_by(member) for member in members}) == 1, "all members list the same members")


def stored_beside_keys(member: Member) -> dict[bytes, Any]:
    """Leases, members, alarms, users, roles, cluster version and raft's configuration, read from a snapshot of the database."""
    method = member.client.channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=rpc_pb2.SnapshotResponse.FromString,
    )
    content = b"".join(chunk.blob for chunk in method(rpc_pb2.SnapshotRequest(), timeout=scaled(10)))
    path = member.directory / f"{member.name}.snapshot"
    path.write_bytes(content[:-32])  # without the SHA-256 at the end
    found: dict[bytes, Any] = {}
    with BoltFile(path) as file:
        for bucket in (b"lease", b"alarm", b"auth", b"authUsers", b"authRoles", b"cluster", b"members", b"members_removed"):
            found[bucket] = dict(file.items(bucket)) if bucket in file.buckets() else {}
        marks = (b"confState", b"term", b"consistent_index")
        found[b"meta"] = {key: value for key, value in file.items(b"meta") if key in marks}
    # The voters are a set; an etcd that came back may hold them in another order.
    conf_state = json.loads(found[b"meta"][b"confState"])
    found[b"meta"][b"confState"] = conf_state | {"voters": sorted(conf_state["voters"])}
    # 3.5.1 stores names and client URLs of members that joined later elsewhere.
    found[b"members"] = {key: json.loads(record)["peerURLs"] for key, record in found[b"members"].items()}
    return found


def _past_revisions(member: Member, now: int, chance: random.Random) -> list[int]:
    """Some revisions that are not compacted and have at least one key.

    Where no key exists, HashKV covers superseded records too. A 3.5.1 that was restored from a newer member then differs: it
    includes the tombstones at the compacted revision, which only members from 3.5.16 on keep.
    """
    oldest = max(member.client.hash_kv(0).compact_revision, 0) + 1
    some = chance.sample(range(oldest, now), min(5, now - oldest))
    return [revision for revision in some if _count(member, revision)]


def _count(member: Member, revision: int) -> int:
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision, count_only=True)
    return member.client.call("KV/Range", request, rpc_pb2.RangeResponse, 30).count


def _members_seen_by(member: Member) -> tuple[Any, ...]:
    seen = member.client.members()
    return tuple((one.ID, one.name, tuple(one.peerURLs), tuple(one.clientURLs), one.isLearner) for one in seen)


def complaints(member: Member, *, but: Sequence[str] = ()) -> list[str]:
    """Errors and panics in the log of an etcd, over all its runs, except lines that contain one of `but`."""
    found = []
    for line in member.log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            if record["level"] in ("debug", "info", "warn"):
                continue
        elif not line.startswith(("panic", "goroutine", "fatal")):
            continue
        if not any(text in line for text in but):
            found.append(line)
    return found
