"""`destroy` removes the files of the deployment from a host, and nothing of others."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.settings import Paths, ServiceSettings, TlsSettings
from tercet.deploy.run.destroy import destroy_plan
from tercet.deploy.run.executor import execute
from tercet.deploy.ssh.remote import Completed, Host
from tests.deploy.scripted_host import cluster_of
from tests.support.waiting import scaled

# destroy.


class Here:
    """A host that runs its commands on the local machine."""

    name = "m1"

    async def run(self, command: str, *, stdin: bytes = b"", **options: Any) -> Completed:
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, timeout=scaled(20), check=False)
        return Completed(done.returncode, done.stdout, done.stderr)

    async def check(self, command: str, **options: Any) -> bytes:
        done = await self.run(command)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    async def run_python(self, program: str, data: bytes, **options: Any) -> Completed:
        line = "import sys; scope = {'__name__': 'x'}; exec(sys.argv[1], scope); scope['main'](sys.stdin.buffer)"
        done = subprocess.run(
            ["python3", "-I", "-c", line, program], input=data, capture_output=True, timeout=scaled(20), check=False
        )
        return Completed(done.returncode, done.stdout, done.stderr)


@contextmanager
def laid_out(root: Path) -> Iterator[tuple[Cluster, list[Path]]]:
    """The state of a host after apply, below `root`; returns the files of others."""
    ours = [
        "etc/etcd/cert/server.pem",
        "etc/etcd/cert/server-key.pem",
        "etc/etcd/cert/peer.pem",
        "etc/etcd/cert/ca.pem",
        "opt/tercet/releases/tercet-1-a/bin/tercet",
        "var/lib/etcd/member/wal/0.wal",
        "var/lib/etcd/replaced-20260101T000000Z/wal/0.wal",
        "var/lib/etcd/before-recover-20260101T000000Z/snap/db",
        "var/lib/etcd/rejoined-1",
        "var/wal.replaced-20260101T000000Z/0.wal",
        "var/wal/0000-0000.wal",
        "backups/m1-20260101T000000Z.db",
    ]
    theirs = ["opt/tercet/releases/other/file", "backups/m10.db", "backups/notes", "etc/etcd/notes"]
    for name in (*ours, *theirs):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "opt/tercet/current").symlink_to("releases/tercet-1-a")
    cluster = replace(
        cluster_of(1),
        tls=TlsSettings(directory=root / "pki"),
        service=ServiceSettings(unit="tercet-test-of-destroy"),
        paths=Paths(
            install=f"{root}/opt/tercet",
            data=f"{root}/var/lib/etcd",
            wal=f"{root}/var/wal",
            certificates=f"{root}/etc/etcd/cert",
            backups=f"{root}/backups",
        ),
    )
    yield cluster, [root / name for name in theirs]


@pytest.mark.parametrize("keep_data", [True, False])
def test_destroy_removes_only_the_files_of_the_deployment(tmp_path: Path, keep_data: bool) -> None:
    with laid_out(tmp_path) as (cluster, theirs):
        hosts = {"m1": cast(Host, Here())}
        plan = asyncio.run(destroy_plan(cluster, hosts, keep_data=keep_data))
        data = {path for part in ("var", "backups") for path in (tmp_path / part).rglob("*") if not path.is_dir()}
        asyncio.run(execute(plan))
        left = {path for path in tmp_path.rglob("*") if not path.is_dir()}
        assert left == {*theirs, *(data if keep_data else ())}
        assert not (tmp_path / "etc/etcd/cert").exists()
        assert (tmp_path / "var/lib/etcd").exists() == keep_data
        again = asyncio.run(destroy_plan(cluster, hosts, keep_data=keep_data))
        titles = {step.title for step in again.steps}
        assert titles <= {"remove releases", "remove backups"}  # directories with files of others remain
        asyncio.run(execute(again))
        assert {path for path in tmp_path.rglob("*") if not path.is_dir()} == left


def test_destroy_of_an_empty_host_has_no_steps(tmp_path: Path) -> None:
    with laid_out(tmp_path / "a") as (cluster, _):
        away = replace(
            cluster,
            paths=Paths(install=f"{tmp_path}/1", data=f"{tmp_path}/2", certificates=f"{tmp_path}/3", backups=f"{tmp_path}/4"),
        )
        assert asyncio.run(destroy_plan(away, {"m1": cast(Host, Here())}, keep_data=False)).is_empty
