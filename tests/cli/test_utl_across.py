"""Snapshots and data directories between tercet and the real etcd, end to end: what one writes, the other boots from."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tercet.proto import rpc_pb2
from tests.support.etcd import Etcd, binary, running_etcd
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import ETCD, TERCET, Cluster, Member, environment, wait_until
from tests.support.waiting import scaled

TERCETUTL = (sys.executable, "-c", "import sys; from tercet.cli.tercetutl import main; sys.exit(main())")
TERCETCTL = (sys.executable, "-c", "import sys; from tercet.cli.tercetctl import main; sys.exit(main())")
VALUE = "v" * 1000


def run(*words: str | Path, code: int = 0, setup: Callable[[], None] | None = None) -> str:
    """A command line. Returns stdout, with a failure stderr."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        env=environment({}, None),
        preexec_fn=setup,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def content(endpoint: str) -> dict[str, Any]:
    """Keys with all revisions, leases and their keys, users with their roles, and the hash of the history, by etcdctl."""

    def ctl(*words: str) -> Any:
        return json.loads(run(binary("etcdctl"), f"--endpoints={endpoint}", "-w", "json", *words))

    (lease,) = ctl("lease", "list")["leases"]
    return {
        "keys": ctl("get", "", "--prefix")["kvs"],
        "old": ctl("get", "k1", "--rev", "5")["kvs"],
        "leases": [lease["id"], ctl("lease", "timetolive", f"{lease['id']:x}", "--keys")["keys"]],
        "users": [ctl("user", "list")["users"], ctl("user", "get", "u")["roles"]],
        "hash": ctl("endpoint", "hashkv")[0]["HashKV"]["hash"],
    }


def fill(server: Etcd) -> None:
    for number in range(8):
        server.ctl("put", f"k{number % 3}", f"{number} {VALUE}")
    server.ctl("del", "k0")
    server.ctl("lease", "grant", "6000", "-w", "json")
    (lease,) = server.ctl_json("lease", "list")["leases"]
    server.ctl("put", "leased", "x", f"--lease={lease['id']:x}")
    server.ctl("role", "add", "r")
    server.ctl("user", "add", "u:p")
    server.ctl("user", "grant-role", "u", "r")
    server.ctl("compaction", "4")


@pytest.fixture(scope="module", params=["etcd", "tercet"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A snapshot that tercetctl saved of a server, and what the server held."""
    place = tmp_path_factory.mktemp(request.param)
    program = [binary("etcd")] if request.param == "etcd" else list(TERCET)
    with running_etcd(place, "--bcrypt-cost=4", program=program) as server:
        fill(server)
        held = content(server.endpoint)
        run(*TERCETCTL, f"--endpoints={server.endpoint}", "snapshot", "save", place / "saved.db")
        yield place / "saved.db", held


@pytest.mark.parametrize("version", ["3.5", pytest.param("3.7", marks=needs_newer_etcd)])
def test_etcdutl_restores_the_snapshot_and_etcd_boots_from_it(
    saved: tuple[Path, dict[str, Any]], tmp_path: Path, version: str
) -> None:
    programs = {"3.5": binary("etcd"), "3.7": "".join(newer_etcd())}
    tool = Path(programs[version]).with_name("etcdutl")
    snapshot, held = saved
    run(tool, "snapshot", "restore", snapshot, "--data-dir", tmp_path / "restored")
    with running_etcd(tmp_path, data=tmp_path / "restored", program=[programs[version]]) as etcd:
        assert content(etcd.endpoint) == held
        etcd.ctl("put", "k1", "goes on")


def restored_cluster(tmp_path: Path, snapshot: Path) -> Cluster:
    """Three members of tercet, each with a directory that tercetutl has restored from the same file."""
    cluster = Cluster.plan(tmp_path)
    for member in cluster.members:
        wanted = ("--name", "--data-dir", "--initial-cluster", "--initial-cluster-token", "--initial-advertise-peer-urls")
        flags = [flag for flag in member.flags if flag.partition("=")[0] in wanted]
        assert len(flags) == len(wanted)
        run(*TERCETUTL, "snapshot", "restore", snapshot, *flags)
    return cluster


@pytest.mark.parametrize("saved", ["etcd"], indirect=True)
def test_tercetutl_restores_three_members(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    snapshot, held = saved
    cluster = restored_cluster(tmp_path, snapshot)
    try:
        cluster.start()
        assert {json.dumps(content(member.endpoint)) for member in cluster.members} == {json.dumps(held)}
        listed = json.loads(
            run(binary("etcdctl"), f"--endpoints={cluster.members[0].endpoint}", "member", "list", "-w", "json")
        )
        assert sorted(member["name"] for member in listed["members"]) == ["n1", "n2", "n3"]
        for member in cluster.members:
            run(binary("etcdctl"), f"--endpoints={member.endpoint}", "put", member.name, "goes on")
    finally:
        cluster.dispose()


def restored(tmp_path: Path, snapshot: Path, *words: str) -> Cluster:
    """A tercet on a directory that tercetutl has restored."""
    cluster = Cluster.plan(tmp_path, ["n1"])
    (member,) = cluster.members
    run(*TERCETUTL, "snapshot", "restore", snapshot, "--name", "n1", "--data-dir", member.data, *_initial(member), *words)
    return cluster


def _initial(member: Member) -> list[str]:
    url = f"http://127.0.0.1:{member.peer_port}"
    return [f"--initial-cluster=n1={url}", f"--initial-advertise-peer-urls={url}"]


@pytest.mark.parametrize("saved", ["etcd"], indirect=True)
def test_d33_a_watch_newer_than_a_restored_snapshot_is_cancelled(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """A client has seen revisions after the snapshot. With the revision bumped and all before compacted it gets an error."""
    cluster = restored(tmp_path, saved[0], "--bump-revision=1000", "--mark-compacted")
    try:
        (member,) = cluster.start().members
        create = rpc_pb2.WatchCreateRequest(key=b"k1", start_revision=200)
        watch = member.client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )(iter([rpc_pb2.WatchRequest(create_request=create)]), timeout=scaled(30))
        created, cancelled = next(watch), next(watch)
        watch.cancel()
        assert created.created
        assert cancelled.canceled
        assert cancelled.compact_revision > 1000
    finally:
        cluster.dispose()


def test_d39_a_snapshot_is_restored_with_auth_enabled_unless_it_is_damaged(tmp_path: Path) -> None:
    saved, damaged = tmp_path / "saved.db", tmp_path / "damaged.db"
    with running_etcd(tmp_path, "--bcrypt-cost=4") as etcd:
        etcd.ctl("user", "add", "root:secret")
        etcd.ctl("user", "grant-role", "root", "root")
        etcd.ctl("put", "k", VALUE)
        etcd.ctl("auth", "enable")
        etcd.ctl("--user=root:secret", "snapshot", "save", saved)
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for words in ((), ("--bump-revision=10", "--mark-compacted")):
        command = (*TERCETUTL, "snapshot", "restore", damaged, "--data-dir", tmp_path / "refused", *words)
        assert "expected sha256" in run(*command, code=1)
    assert not (tmp_path / "refused").exists()
    cluster = restored(tmp_path / "restored", saved)
    try:
        (member,) = cluster.start().members
        etcdctl = (binary("etcdctl"), f"--endpoints={member.endpoint}")
        assert "user name is empty" in run(*etcdctl, "get", "k", code=1)
        assert run(*etcdctl, "--user=root:secret", "get", "k", "--print-value-only").strip() == VALUE
        assert "authentication failed" in run(*etcdctl, "--user=root:wrong", "get", "k", code=2)
    finally:
        cluster.dispose()


def test_a_member_of_a_larger_cluster_is_converted_and_takes_its_place(tmp_path: Path) -> None:
    """There and back: a member of etcd becomes one of tercet, catches up, and becomes one of etcd again."""
    cluster = Cluster.plan(tmp_path, programs=dict.fromkeys(("n1", "n2", "n3"), ETCD), flags=("--unsafe-no-fsync",))
    member, other = cluster["n2"], cluster["n1"]

    def put(key: str) -> None:
        run(binary("etcdctl"), f"--endpoints={other.endpoint}", "put", key, VALUE)

    def value_at_member(key: str) -> str:
        words = (f"--endpoints={member.endpoint}", "get", key, "--print-value-only", "--consistency=s")
        return run(binary("etcdctl"), *words).strip()

    def hashes() -> set[int]:
        endpoints = f"--endpoints={','.join(one.endpoint for one in cluster.members)}"
        found = json.loads(run(binary("etcdctl"), endpoints, "endpoint", "hashkv", "-w", "json"))
        return {one["HashKV"]["hash"] for one in found}

    try:
        cluster.start()
        put("before")
        for program, key in ((TERCET, "as tercet"), (ETCD, "as etcd")):
            member.stop(signal.SIGTERM)
            put(f"without: {key}")
            converted = tmp_path / key.replace(" ", "-")
            run(*TERCETUTL, "convert", "--data-dir", member.data, "--output-dir", converted)
            member.data.rename(tmp_path / f"before-{converted.name}")
            converted.rename(member.data)
            member.program = program
            member.start().wait_ready()
            put(key)
            wait_until(lambda key=key: value_at_member(key) == VALUE, f"the member has {key}")  # type: ignore[misc]
            assert value_at_member(f"without: {key}") == VALUE
            wait_until(lambda: len(hashes()) == 1, "all members have the same history")
    finally:
        cluster.dispose()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a real etcd that has ended."""
    place = tmp_path_factory.mktemp("stopped")
    with running_etcd(place, "--bcrypt-cost=4") as etcd:
        fill(etcd)
    return etcd.data


def files_of(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_conversion_that_is_killed_leaves_the_source_untouched_and_can_be_repeated(stopped: Path, tmp_path: Path) -> None:
    """It is held while it reads the log: a FIFO that nobody writes stands for a slow disk."""
    before = files_of(stopped)
    wal = tmp_path / "wal"
    wal.mkdir()
    subprocess.run(["mkfifo", str(wal / f"{0:016x}-{0:016x}.wal")], check=True)
    target = tmp_path / "converted"
    words = ("convert", "--data-dir", str(stopped), "--output-dir", str(target))
    process = subprocess.Popen(
        [*TERCETUTL, *words, "--wal-dir", str(wal)], env=environment({}, None), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(target.with_name("converted.tmp").exists, "the conversion has begun")
    finally:
        process.kill()
        process.wait()
    assert not target.exists()
    assert files_of(stopped) == before
    run(*TERCETUTL, *words)
    assert (target / "member" / "snap" / "db").is_dir()
    assert files_of(stopped) == before
    assert not target.with_name("converted.tmp").exists()


def full_after(byte_count: int) -> Callable[[], None]:
    """No file may grow beyond this: what a full disk does, at a place that does not depend on the disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, byte_count))

    return limit


def test_a_conversion_on_a_full_disk_leaves_nothing_but_the_source(stopped: Path, tmp_path: Path) -> None:
    before = files_of(stopped)
    target = tmp_path / "converted"
    words = ("convert", "--data-dir", stopped, "--output-dir", target)
    said = run(*TERCETUTL, *words, code=1, setup=full_after(4096))
    assert said.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert files_of(stopped) == before


@pytest.mark.parametrize("saved", ["tercet"], indirect=True)
def test_a_restore_on_a_full_disk_leaves_the_snapshot_and_no_half_made_member(
    saved: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    snapshot, _ = saved
    before = snapshot.read_bytes()
    target = tmp_path / "restored"
    said = run(*TERCETUTL, "snapshot", "restore", snapshot, "--data-dir", target, code=1, setup=full_after(4096))
    assert said.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said
    assert snapshot.read_bytes() == before
    assert not list(target.glob("*"))
    run(*TERCETUTL, "snapshot", "restore", snapshot, "--data-dir", target)


def test_a_snapshot_on_a_full_disk_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    with running_etcd(tmp_path, program=list(TERCET)) as server:
        target = tmp_path / "saved.db"
        target.write_bytes(b"old")
        words = (f"--endpoints={server.endpoint}", "snapshot", "save", target)
        said = run(*TERCETCTL, *words, code=5, setup=full_after(4096))
        assert said.splitlines()[-1] == "Error: could not write snapshot (file too large)"
        assert target.read_bytes() == b"old"
        assert not list(tmp_path.glob("*.part"))


@needs_newer_etcd
@pytest.mark.parametrize("target", ["3.5", "3.6", "3.7", "3.8", "4.0"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_migrate_does_what_etcdutl_does(tmp_path: Path, stopped_newer: Path, target: str, force: list[str]) -> None:
    tools = {"theirs": [str(Path("".join(newer_etcd())).with_name("etcdutl"))], "ours": list(TERCETUTL)}
    outcomes = {}
    for name, tool in tools.items():
        copy = tmp_path / name
        subprocess.run(["cp", "-a", str(stopped_newer), str(copy)], check=True)
        words = [*tool, "migrate", "--data-dir", str(copy), "--target-version", target, *force]
        done = subprocess.run(words, capture_output=True, text=True, timeout=scaled(60), env=environment({}, None), check=False)
        shown = run(*tools["theirs"], "snapshot", "status", copy / "member" / "snap" / "db", "-w", "json")
        outcomes[name] = (done.returncode, done.stdout, _said(done.stderr), json.loads(shown)["version"])
    assert outcomes["ours"] == outcomes["theirs"]


@needs_newer_etcd
@pytest.mark.parametrize(
    "target", ["abc", "3", "3.6.0", "3.a", "a.5", "3.-1", "3.", ".5", "3.5-x", "3.6+", "+3.6", " 3.6", "3." + "9" * 20, "3.4"]
)
def test_migrate_refuses_a_version_as_etcdutl_does(target: str) -> None:
    theirs = str(Path("".join(newer_etcd())).with_name("etcdutl"))
    words = ("migrate", "--data-dir", "nowhere", f"--target-version={target}")
    assert run(*TERCETUTL, *words, code=128) == run(theirs, *words, code=128)


def _said(stderr: str) -> list[list[str]]:
    """Errors, and the lines of the log that tell what was done to the version, without time and place in the source."""
    told = []
    for line in stderr.splitlines():
        parts = line.split("\t")
        if line.startswith("Error: ") or any(part.endswith("storage version") for part in parts):
            told.append([part for part in parts[1:] if ".go:" not in part] or parts)
    return told


@pytest.fixture(scope="module")
def stopped_newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a real etcd 3.7 that has ended: its log sets the cluster version to 3.7."""
    with running_etcd(tmp_path_factory.mktemp("newer"), program=newer_etcd()) as etcd:
        etcd.ctl("put", "k", "v")
        wait_until(lambda: '"etcdcluster":"3.7' in etcd.member.http("/version")[1], "the cluster version is set")
    return etcd.data
