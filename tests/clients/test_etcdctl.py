"""etcdctl and etcdutl 3.5.1 on a cluster of ours, with mutual TLS."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import binary
from tests.support.processes import ETCD, Cluster, Member, etcdctl, wait_until
from tests.support.waiting import scaled


def ctl(asked: Cluster | Member, *words: str, stdin: str | None = None) -> str:
    """The output of etcdctl, which must succeed."""
    members = asked.members if isinstance(asked, Cluster) else [asked]
    done = etcdctl(members, *words) if stdin is None else _with_input(members, words, stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ctl_json(asked: Cluster | Member, *words: str) -> Any:
    return json.loads(ctl(asked, *words, "-w", "json"))


def _with_input(members: list[Member], words: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
    credentials = members[0].credentials
    assert credentials is not None
    tls = [f"--cacert={credentials.ca}", f"--cert={credentials.certificate}", f"--key={credentials.key}"]
    endpoints = "--endpoints=" + ",".join(member.endpoint for member in members)
    command = [binary("etcdctl"), endpoints, *tls, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=scaled(20), check=False)


def test_keys(cluster: Cluster) -> None:
    assert ctl(cluster, "put", "ctl/a", "1") == "OK\n"
    assert ctl(cluster, "put", "ctl/b", "2", "--prev-kv") == "OK\n"
    assert ctl(cluster, "put", "ctl/b", "3", "--prev-kv") == "OK\nctl/b\n2\n"
    for member in cluster.members:
        assert ctl(member, "get", "ctl/a") == "ctl/a\n1\n"
    assert ctl(cluster, "get", "ctl/", "--prefix", "--keys-only") == "ctl/a\n\nctl/b\n\n"
    assert ctl(cluster, "get", "ctl/", "--prefix", "--order=DESCEND", "--sort-by=VALUE", "--limit=1") == "ctl/b\n3\n"
    found = ctl_json(cluster, "get", "ctl/b")
    assert found["kvs"][0]["version"] == 2
    old = str(found["kvs"][0]["mod_revision"] - 1)
    assert ctl(cluster, "get", "ctl/b", f"--rev={old}") == "ctl/b\n2\n"
    assert ctl(cluster, "get", "ctl/", "--prefix", "--count-only", "-w", "fields").splitlines()[-1] == '"Count" : 2'
    assert ctl(cluster, "del", "ctl/a", "--prev-kv") == "1\nctl/a\n1\n"
    assert ctl(cluster, "del", "ctl/a") == "0\n"
    assert ctl(cluster, "del", "ctl/", "--prefix") == "1\n"


def test_txn(cluster: Cluster) -> None:
    ctl(cluster, "put", "txn", "x")
    script = 'value("txn") = "x"\nver("txn") > "0"\n\nput txn y\nget txn\n\nget txn\n\n'
    assert ctl(cluster, "txn", stdin=script) == "SUCCESS\n\nOK\n\ntxn\ny\n"
    assert ctl(cluster, "txn", stdin=script) == "FAILURE\n\ntxn\ny\n"


def test_errors_have_etcds_texts(cluster: Cluster) -> None:
    revision = ctl_json(cluster, "get", "none")["header"]["revision"]
    for words, text in (
        (("put", "", "v"), "etcdserver: key is not provided"),
        (("put", "none", "--ignore-value"), "etcdserver: key not found"),
        (("get", "a", f"--rev={revision + 100}"), "etcdserver: mvcc: required revision is a future revision"),
        (("compaction", str(revision + 100)), "etcdserver: mvcc: required revision is a future revision"),
        (("member", "remove", "1234"), "etcdserver: member not found"),
    ):
        done = etcdctl(cluster.members, *words)
        assert done.returncode != 0
        assert done.stderr.endswith(f"Error: {text}\n")


def test_endpoints(cluster: Cluster) -> None:
    health = etcdctl(cluster.members, "endpoint", "health")  # on stderr in 3.5
    lines = (health.stdout + health.stderr).splitlines()
    assert health.returncode == 0
    assert len([line for line in lines if "is healthy: successfully committed proposal" in line]) == 3
    statuses = ctl_json(cluster, "endpoint", "status")
    ids = {one["Status"]["header"]["member_id"] for one in statuses}
    assert len(ids) == 3
    assert {one["Status"]["leader"] for one in statuses} <= ids
    assert all(one["Status"]["dbSize"] > 0 for one in statuses)
    assert {one["Status"]["header"]["member_id"] for one in ctl_json(cluster["n1"], "endpoint", "status", "--cluster")} == ids
    ctl(cluster, "put", "hashed", "v")
    for member in cluster.members:
        ctl(member, "get", "hashed")  # linearizable: each has applied it
    assert len({one["HashKV"]["hash"] for one in ctl_json(cluster, "endpoint", "hashkv")}) == 1


def test_leases(cluster: Cluster) -> None:
    granted = ctl(cluster["n1"], "lease", "grant", "300").split()
    assert granted[2:] == ["granted", "with", "TTL(300s)"]
    lease = granted[1]
    ctl(cluster["n2"], "put", "leased", "v", f"--lease={lease}")
    for member in cluster.members:
        assert lease in ctl(member, "lease", "list").split()
        assert ctl(member, "lease", "keep-alive", "--once", lease) == f"lease {lease} keepalived with TTL(300)\n"
        told = ctl(member, "lease", "timetolive", lease, "--keys")
        assert told.startswith(f"lease {lease} granted with TTL(300s), remaining(")
        assert told.endswith("attached keys([leased])\n")
    assert ctl(cluster["n3"], "lease", "revoke", lease) == f"lease {lease} revoked\n"
    assert ctl(cluster["n1"], "get", "leased") == ""
    assert ctl(cluster["n2"], "lease", "timetolive", lease) == f"lease {lease} already expired\n"


def test_lock_runs_a_command_while_it_holds_the_lock(cluster: Cluster) -> None:
    shown = dict(line.split("=", 1) for line in ctl(cluster["n1"], "lock", "a-lock", "env").splitlines() if "=" in line)
    assert shown["ETCD_LOCK_KEY"].startswith("a-lock/")
    assert ctl(cluster["n2"], "get", "a-lock/", "--prefix") == ""


def test_elections_have_one_leader_until_it_resigns(cluster: Cluster) -> None:
    """`elect` leads until it is interrupted; then the other candidate leads."""
    candidates = {
        value: _begin(cluster[name], "elect", "ctl-election", value, stdout=subprocess.PIPE)
        for name, value in (("n1", "a"), ("n2", "b"))
    }
    try:
        wait_until(lambda: len(cluster["n3"].client.all(b"ctl-election/")) == 2, "both campaign")
        (leader,) = _leaders(cluster["n1"])
        shown = candidates[leader].stdout
        assert shown is not None
        assert shown.readline().startswith(b"ctl-election/")  # before that, SIGINT would cancel the campaign
        candidates[leader].send_signal(signal.SIGINT)
        assert candidates[leader].wait(scaled(20)) == 0
        wait_until(lambda: _leaders(cluster["n3"]) == ["b" if leader == "a" else "a"], "the other candidate leads")
    finally:
        for candidate in candidates.values():
            with candidate:  # closes its stdout, and waits
                candidate.kill()


def _leaders(member: Member) -> list[str]:
    """What a listener of the election is shown first."""
    found = sorted(member.client.all(b"ctl-election/").values(), key=lambda pair: pair.create_revision)
    return [found[0].value.decode()] if found else []


def _begin(member: Member, *words: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    credentials = member.credentials
    assert credentials is not None
    tls = [f"--cacert={credentials.ca}", f"--cert={credentials.certificate}", f"--key={credentials.key}"]
    return subprocess.Popen([binary("etcdctl"), f"--endpoints={member.endpoint}", *tls, *words], stdout=stdout)


def test_watch_prints_history_and_what_follows(cluster: Cluster) -> None:
    revision = ctl_json(cluster, "put", "ctl/watched", "1")["header"]["revision"]
    ctl(cluster, "del", "ctl/watched")
    for member in cluster.members:
        watching = _begin(member, "watch", "ctl/watched", f"--rev={revision}", "--prev-kv", stdout=subprocess.PIPE)
        assert watching.stdout is not None
        with watching, watching.stdout as lines:
            shown = b"".join(lines.readline() for _ in range(8))
            watching.kill()
        assert shown == b"PUT\nctl/watched\n1\nDELETE\nctl/watched\n1\nctl/watched\n\n"


def test_watch_of_a_compacted_revision_says_so(cluster: Cluster) -> None:
    revision = ctl_json(cluster, "put", "ctl/watched", "2")["header"]["revision"]
    ctl(cluster, "compact", str(revision))
    done = etcdctl([cluster.members[0]], "watch", "ctl/watched", f"--rev={revision - 1}")
    assert done.returncode == 5
    assert "watch was canceled (etcdserver: mvcc: required revision has been compacted)" in done.stderr


def test_members(cluster: Cluster) -> None:
    lines = ctl(cluster, "member", "list").splitlines()
    assert [line.split(", ")[1:3] for line in sorted(lines, key=lambda line: line.split(", ")[2])] == [
        ["started", name] for name in ("n1", "n2", "n3")
    ]


def test_compaction_and_defrag(cluster: Cluster) -> None:
    ctl(cluster, "put", "old", "1")
    revision = ctl_json(cluster, "put", "old", "2")["header"]["revision"]
    assert ctl(cluster, "compaction", str(revision), "--physical") == f"compacted revision {revision}\n"
    refused = etcdctl(cluster.members, "get", "old", f"--rev={revision - 1}")
    assert refused.stderr.endswith("Error: etcdserver: mvcc: required revision has been compacted\n")
    assert ctl(cluster, "defrag").count("Finished defragmenting etcd member") == 3
    assert ctl(cluster, "get", "old") == "old\n2\n"


def test_alarms(cluster: Cluster) -> None:
    assert ctl(cluster, "alarm", "list") == ""
    assert ctl(cluster, "alarm", "disarm") == ""


def test_move_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = cluster.others(leader)[0]
    old, new = (member.client.status().header.member_id for member in (leader, follower))
    told = ctl(cluster, "move-leader", f"{new:x}")
    assert told == f"Leadership transferred from {old:x} to {new:x}\n"
    assert cluster.leader() is follower


@pytest.mark.parametrize("tool", ["etcdctl", "etcdutl"])
def test_a_snapshot_restores_into_etcd(cluster: Cluster, tmp_path: Path, tool: str) -> None:
    """Saved from our member, checked and restored by etcd's tools, served by etcd with the same hash."""
    for number in range(200):
        cluster["n1"].client.put(b"kept/%03d" % number, b"v" * number)
    file = tmp_path / "saved.db"
    assert f"Snapshot saved at {file}" in ctl(cluster["n1"], "snapshot", "save", str(file))
    status = json.loads(_run(tool, "snapshot", "status", str(file), "-w", "json"))
    assert status["totalKey"] > 200
    assert status["totalSize"] % 4096 == 0
    expected = cluster["n1"].client.hash_kv(0)
    assert status["revision"] == expected.header.revision

    restored = Cluster.plan(tmp_path, ["restored"], ["--unsafe-no-fsync"], programs={"restored": ETCD})
    etcd = restored.members[0]
    peer = f"http://127.0.0.1:{etcd.peer_port}"
    words = [f"--data-dir={etcd.data}", "--name=restored", f"--initial-cluster=restored={peer}"]
    _run(tool, "snapshot", "restore", str(file), *words, f"--initial-advertise-peer-urls={peer}")
    try:
        etcd.start().wait_ready()
        found = etcd.client.hash_kv(expected.header.revision)
        assert (found.hash, found.compact_revision) == (expected.hash, expected.compact_revision)
        assert len(etcd.client.all(b"kept/")) == 200
    finally:
        restored.dispose()


def _run(tool: str, *words: str) -> str:
    done = subprocess.run([binary(tool), *words], capture_output=True, text=True, timeout=scaled(20), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
