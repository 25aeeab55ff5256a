"""Commands that write are killed before each of their changes to the file system: nothing half-made has a final name, and the
same command, run again, completes or says what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tercet
from tercet.errors import ConfigError
from tercet.server.member_storage import Paths
from tests.support.etcd import binary
from tests.support.waiting import scaled

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.server_process


def killed(events: str, program: str, source: Path, *words: str) -> list[dict[str, Any]]:
    """Rows of tests/cli/killed.py; the last is the run that was not killed."""
    command = [sys.executable, "-m", "tests.cli.killed", events, program, str(source), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=scaled(100), check=False)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[-1]["event"] is None
    assert any(row["event"].startswith("os.rename") for row in rows[:-1])
    for row in rows:
        assert "Traceback" not in row["said"], row
    return rows


def below(files: dict[str, int], directory: str) -> dict[str, int]:
    return {path: size for path, size in files.items() if path.startswith(f"{directory}/")}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the data directory `data` of a real etcd that has ended, and a snapshot of it, `saved.db`."""
    source = tmp_path_factory.mktemp("stopped") / "source"
    with tercet.ServerProcess(data_dir=source, program=[binary("etcd")]) as server, tercet.Client(server.endpoints) as client:
        client.put("k", "v")
        client.maintenance.snapshot(source / "saved.db")
    server.log_file.unlink()
    return source


def test_a_killed_restore_leaves_no_member_and_is_repeated(stopped: Path) -> None:
    rows = killed("all", "tercetutl", stopped, "snapshot", "restore", "saved.db", "--data-dir=made")
    complete = below(rows[-1]["left"], "made")
    assert {"made/member/snap/db", "made/member/wal"} <= complete.keys()
    for row in rows:
        found = below(row["left"], "made/member")
        if not found:
            assert row["code"] == 0, row
        else:
            assert below(row["left"], "made") == complete, row
            assert (row["code"], "not empty" in row["said"]) == (1, True), row


def test_a_killed_restore_with_another_directory_for_the_log_says_what_to_delete(stopped: Path) -> None:
    words = ("snapshot", "restore", "saved.db", "--data-dir=made", "--wal-dir=logs/wal")
    rows = killed("os.rename", "tercetutl", stopped, *words)
    complete = rows[-1]["left"]
    for row in rows:
        left = row["left"]
        if not below(left, "made/member"):
            assert row["code"] == 0, row
            assert "logs/wal" not in left  # the database is there before the log: a member refuses a database without one
        elif "logs/wal" not in left:
            assert below(left, "made") == below(complete, "made"), row
            assert 'interrupted restore has left "logs/wal.tmp"; delete both and restore again' in row["said"], row
        else:
            assert left == complete, row


def test_no_member_starts_in_the_place_of_an_interrupted_restore(tmp_path: Path) -> None:
    (tmp_path / "member.tmp").mkdir()
    paths = Paths(tmp_path, tmp_path / "member" / "wal", tmp_path / "member" / "snap")
    with pytest.raises(ConfigError, match=r"member\.tmp is left by an interrupted restore: restore again, or delete it"):
        paths.create()
    assert [path.name for path in tmp_path.iterdir()] == ["member.tmp"]
    (tmp_path / "member.tmp").rmdir()
    paths.create()


def test_a_killed_conversion_leaves_the_source_and_no_target_and_is_repeated(stopped: Path) -> None:
    rows = killed("os.rename", "tercetutl", stopped, "convert", "--data-dir=data", "--output-dir=made")
    complete = rows[-1]["left"]
    for row in rows:
        assert below(row["left"], "data/member") == below(complete, "data/member"), row
        if below(row["left"], "made"):
            assert below(row["left"], "made") == below(complete, "made"), row
            assert (row["code"], "exists" in row["said"]) == (1, True), row
        else:
            assert row["code"] == 0, row


def test_a_killed_migration_leaves_the_old_database_or_the_new_one(stopped: Path) -> None:
    rows = killed("all", "tercetutl", stopped, "migrate", "--data-dir=data", "--target-version=3.6", "--force")
    for row in rows:
        assert row["code"] == 0, row
        assert '"new-storage-version": "3.6.0"' in row["said"] or '"storage-version": "3.6"' in row["said"], row
    assert "storage version up-to-date" in rows[-1]["said"]


def test_a_killed_save_leaves_the_old_snapshot_or_the_new_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "saved.db").write_bytes(b"old")
    with tercet.Server.start_in_thread() as server:
        rows = killed("open,os.rename", "tercetctl", source, f"--endpoints={server.endpoint}", "snapshot", "save", "saved.db")
    complete = rows[-1]["left"]["saved.db"]
    assert complete > 3
    for row in rows:
        assert row["left"]["saved.db"] in (3, complete), row
        assert row["code"] == 0, row
