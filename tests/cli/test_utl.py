"""tercetutl on files of the real etcd and of tercet: the real tools are the judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.cli import tercetutl
from tests.support.etcd import binary, run_tool, running_etcd
from tests.support.waiting import scaled


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a real etcd that has ended: keys, a lease, a user, a compaction."""
    place = tmp_path_factory.mktemp("etcd")
    with running_etcd(place, "--bcrypt-cost=4") as etcd:
        for number in range(20):
            etcd.ctl("put", f"k{number % 7}", "v" * number)
        etcd.ctl("del", "k1")
        etcd.ctl("compaction", "8")
        etcd.ctl("lease", "grant", "6000")
        etcd.ctl("user", "add", "u:p")
        etcd.ctl("snapshot", "save", place / "saved.db")
    return place


def directory_of(data: Path) -> Path:
    return next(path.parent for path in data.rglob("member") if path.is_dir())


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """tercetutl in this process: exit code, stdout, stderr."""

    def once(*words: str | Path) -> tuple[int, str, str]:
        code = tercetutl.main([str(word) for word in words])
        found = capsysbinary.readouterr()
        return int(code), found.out.decode(), found.err.decode()

    return once


def test_status_is_etcdutls(data: Path, run: Run) -> None:
    """[3.6] Keys are those that exist, and the storage version is shown."""
    theirs = json.loads(run_tool("etcdutl", "snapshot", "status", data / "saved.db", "-w", "json"))
    code, out, _ = run("snapshot", "status", data / "saved.db", "-w", "json")
    ours = json.loads(out)
    assert code == 0
    assert [ours[name] for name in ("hash", "revision", "totalSize")] == [
        theirs[name] for name in ("hash", "revision", "totalSize")
    ]
    assert ours["totalKey"] == 6


def test_a_restored_directory_holds_the_snapshots_history(data: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "restored"
    assert run("snapshot", "restore", data / "saved.db", "--data-dir", target)[0] == 0
    database = target / "member" / "snap" / "db"
    hashes = [json.loads(run("hashkv", path, "-w", "json")[1]) for path in (data / "saved.db", database)]
    assert hashes[0] == hashes[1]
    assert json.loads(run("snapshot", "status", database, "-w", "json")[1])["totalKey"] == 6


def test_a_restore_logs_the_new_members_as_etcdutl_does(data: Path, tmp_path: Path, run: Run) -> None:
    words = [
        "snapshot",
        "restore",
        str(data / "saved.db"),
        "--name",
        "a",
        "--initial-advertise-peer-urls",
        "http://127.0.0.1:1,http://127.0.0.1:2",
    ]
    words += ["--initial-cluster", "a=http://127.0.0.1:1,a=http://127.0.0.1:2,b=http://127.0.0.1:3", "--data-dir"]
    command = [str(binary("etcdutl")), *words, str(tmp_path / "theirs")]
    theirs = subprocess.run(command, check=True, capture_output=True, timeout=scaled(20), text=True).stderr
    code, _, ours = run(*words, tmp_path / "ours")
    assert code == 0
    assert logged(ours, "added member") == logged(theirs, "added member")
    assert len(logged(ours, "restoring snapshot")) == len(logged(ours, "restored snapshot")) == 1


def logged(text: str, message: str) -> list[list[object]]:
    """The fields of the lines with that message which every version of etcdutl logs."""
    lines = [line.split("\t") for line in text.splitlines()]
    found = [json.loads(parts[-1]) for parts in lines if message in parts]
    return [[one.get(name) for name in ("path", "cluster-id", "added-peer-id", "added-peer-peer-urls")] for one in found]


def test_a_restore_with_a_bump_compacts_all_before(data: Path, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "restored"
    words = ("--data-dir", target, "--bump-revision", "1000", "--mark-compacted")
    assert run("snapshot", "restore", data / "saved.db", *words)[0] == 0
    found = json.loads(run("hashkv", target / "member" / "snap" / "db", "-w", "json")[1])
    assert found["hashRevision"] == found["compactRevision"] > 1000


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["snapshot", "restore"], 128, "snapshot restore requires exactly one argument"),
        (["snapshot", "restore", "SAVED", "--bump-revision", "5"], 128, "--mark-compacted required if --revision-bump > 0"),
        (["snapshot", "restore", "SAVED", "--name", "x"], 1, 'couldn\'t find local name "x" in the initial cluster'),
        (["snapshot", "restore", "SAVED", "--data-dir", "FULL"], 1, "not empty or could not be read"),
        (["snapshot", "restore", "RAW"], 1, "snapshot missing hash but --skip-hash-check=false"),
        (["snapshot", "restore", "DAMAGED"], 1, "expected sha256 ["),
        (["snapshot", "status"], 128, "snapshot status requires exactly one argument"),
        (["snapshot", "status", "/nonexistent"], 1, "stat /nonexistent: no such file or directory"),
        (["snapshot", "status", "SAVED", "-w", "protobuf"], 4, "protobuf not supported as output format"),
        (["snapshot", "status", "SAVED", "-w", "bogus"], 4, "unsupported output format"),
        (["hashkv"], 1, "accepts 1 arg(s), received 0"),
        (["hashkv", "SAVED", "--rev", "100000"], 1, "mvcc: required revision is a future revision"),
        (["hashkv", "SAVED", "--rev", "3"], 1, "mvcc: required revision has been compacted"),
        (["defrag"], 1, 'required flag(s) "data-dir" not set'),
        (["migrate", "--data-dir", "x"], 1, 'required flag(s) "target-version" not set'),
        (["migrate", "--data-dir", "x", "--target-version", "3"], 128, 'wrong target version format, expected "X.Y", got "3"'),
        (["migrate", "--data-dir", "x", "--target-version", "3.4"], 128, 'target version "3.4" not supported. Minimal "3.5"'),
        (["convert", "--data-dir", "DATA", "--output-dir", "FULL"], 1, "exists"),
    ],
)
def test_errors_leave_nothing_behind(data: Path, tmp_path: Path, run: Run, words: list[str], code: int, text: str) -> None:
    raw, damaged, full = tmp_path / "raw.db", tmp_path / "damaged.db", tmp_path / "full"
    content = (data / "saved.db").read_bytes()
    raw.write_bytes(content[:-32])
    damaged.write_bytes(content[:5000] + b"x" + content[5001:])
    full.mkdir()
    (full / "kept").write_text("kept")
    places = {"SAVED": data / "saved.db", "RAW": raw, "DAMAGED": damaged, "FULL": full, "DATA": directory_of(data)}
    more = [] if "--data-dir" in words or words[:2] != ["snapshot", "restore"] else ["--data-dir", str(tmp_path / "new")]
    found, out, err = run(*(places.get(word, word) for word in words), *more)
    assert (found, out) == (code, "")
    assert text in err
    assert {path.name for path in tmp_path.iterdir()} <= {"damaged.db", "full", "raw.db", "new"}
    assert not list(tmp_path.glob("new/member"))


def test_a_directory_converted_there_and_back_boots_the_real_etcd(data: Path, tmp_path: Path, run: Run) -> None:
    source = directory_of(data)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    there, back = tmp_path / "there", tmp_path / "back"
    assert run("convert", "--data-dir", source, "--output-dir", there)[0] == 0
    assert run("convert", "--data-dir", there, "--output-dir", back)[0] == 0
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    status = [run("snapshot", "status", place / "member" / "snap" / "db", "-w", "json")[1] for place in (source, there, back)]
    assert len({json.loads(one)["hash"] for one in status}) == 1
    with running_etcd(tmp_path, "--force-new-cluster", data=back) as etcd:
        assert etcd.ctl("get", "k2").startswith("k2\n")
        assert etcd.ctl("lease", "list").startswith("found 1 leases")
        assert etcd.ctl("user", "list") == "u\n"


def test_defrag_shrinks_etcds_database_and_keeps_it_whole(data: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(directory_of(data), copy)
    db = copy / "member" / "snap" / "db"
    hashes = [json.loads(run("snapshot", "status", db, "-w", "json")[1])["hash"]]
    code, _, said = run("defrag", "--data-dir", copy)
    assert code == 0
    assert [path for path, *_ in logged(said, "finished defragmenting directory")] == [str(db)]
    hashes.append(json.loads(run("snapshot", "status", db, "-w", "json")[1])["hash"])
    assert hashes[0] == hashes[1]
    subprocess.run([binary("etcdutl"), "snapshot", "status", db], check=True, capture_output=True, timeout=scaled(20))
