"""From what is on a host to steps: what they show, what they do, in which order, and when a member has to be restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import FileFact, HostFacts
from tercet.deploy.plan.certificates import ensure_certificates, inspect
from tercet.deploy.plan.desired import Desired, desired, restart_marker_path, unit_files, wanted
from tercet.deploy.plan.engine_version import check_version_change
from tercet.deploy.plan.plan import Step
from tercet.deploy.plan.planning import HostChange, certificate_steps, host_steps
from tercet.deploy.ssh.remote import Host, HostError, RemoteFile
from tests.deploy.clusters import ABSENT, artifact_of, as_wanted, changed, cluster_of, fresh

UNIT = "/etc/systemd/system/etcd.service"


@dataclass
class NotedHost:
    """Takes down what it is requested to do, in order, and does nothing."""

    name: str = "node1"
    commands: list[str] = field(default_factory=list)
    written: dict[str, tuple[bytes, int, str]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    async def check(self, command: str, *, step: str, timeout: float = 60) -> bytes:
        self.commands.append(command)
        self.order.append(command)
        return b""

    async def write(self, path: str, content: bytes, *, mode: int, step: str, owner: str = "root", group: str = "root") -> None:
        self.written[path] = (content, mode, f"{owner}:{group}")
        self.order.append(path)

    async def write_all(self, files: Sequence[RemoteFile], *, step: str) -> None:
        for file in files:
            await self.write(file.path, file.content, mode=file.mode, step=step, owner=file.owner, group=file.group)

    async def upload(self, local: Path, path: str, *, mode: int, step: str, progress: Callable[[int, int], None]) -> None:
        progress(1, 2)
        progress(2, 2)
        self.order.append(f"upload {path}")


@dataclass
class Place:
    """A cluster, and one of its hosts as it should be."""

    cluster: Cluster
    desired: Desired
    host: NotedHost = field(default_factory=NotedHost)

    @property
    def good(self) -> HostFacts:
        return as_wanted(self.cluster, self.desired)

    def change(self, facts: HostFacts) -> HostChange:
        return host_steps(self.cluster, cast(Host, self.host), facts, self.desired, artifact_of(self.cluster))

    def carry_out(self, facts: HostFacts) -> HostChange:
        change = self.change(facts)
        run(change.steps)
        return change


def run(steps: tuple[Step, ...]) -> None:
    async def all_of_them() -> None:
        for step in steps:
            await step.work(lambda done, total, detail="": None)

    asyncio.run(all_of_them())


def place_of(tmp_path: Path, settings: str = "", *, with_certificates: bool = True) -> Place:
    cluster = cluster_of(tmp_path, settings)
    certificates = ensure_certificates(cluster) if with_certificates else inspect(cluster)
    return Place(cluster, desired(cluster, cluster.hosts[0], artifact_of(cluster), certificates))


def titles(change: HostChange) -> list[str]:
    return [step.title for step in change.steps]


def shown(steps: tuple[Step, ...]) -> str:
    return "\n".join(f"{step.title}\n{step.diff}" for step in steps)


def test_an_up_to_date_host_needs_no_steps(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    assert place.change(place.good) == HostChange((), False, (), False, True)


def test_all_compared_facts_are_requested(tmp_path: Path) -> None:
    """A path missing in `wanted` would be a KeyError, a missing content a spurious change."""
    place = place_of(tmp_path, "paths: {bin: /usr/local/etcd/bin, wal: /fast/wal, work: /srv/etcd}")
    requested = wanted(place.cluster, place.cluster.hosts[0], place.desired)
    assert set(requested.contents) <= set(requested.paths)
    assert not [path for path in requested.contents if "key" in path]
    assert place.change(place.good).steps == ()
    assert set(unit_files(place.cluster)) <= set(requested.paths)


def test_a_fresh_host_without_certificates(tmp_path: Path) -> None:
    place = place_of(tmp_path, with_certificates=False)
    change = place.change(fresh(place.cluster, place.desired))
    assert titles(change) == [
        "create group etcd",
        "create user etcd",
        "create /etc/etcd/cert",
        "create /opt/tercet",
        "create /var/backups/etcd",
        "create /var/lib/etcd",
        "copy tercet-1.2.3-0a1b2c3d",
        "activate tercet-1.2.3-0a1b2c3d",
        "write /etc/etcd/cert/ca.pem",
        "write /etc/etcd/cert/peer-ca.pem",
        "write /etc/etcd/cert/peer.pem and its key",
        "write /etc/etcd/cert/server.pem and its key",
        "write /etc/systemd/system/etcd.service",
        "daemon-reload",
        "enable etcd.service",
        "write /opt/tercet/backup.pyz",
        "write /etc/systemd/system/etcd-backup.service",
        "write /etc/systemd/system/etcd-backup.timer",
        "enable etcd-backup.timer",
    ]
    assert (change.is_first_start, change.is_running, change.needs_restart) == (True, False, False)
    text = shown(change.steps)
    assert "+ExecStart=/opt/tercet/current/bin/tercet \\" in text
    assert "names node1, localhost, 10.0.0.1, 127.0.0.1, ::1" in text
    assert "365 days" in text
    assert not (tmp_path / "pki").exists()


def test_certificates_created_during_execution_are_copied(tmp_path: Path) -> None:
    place = place_of(tmp_path, with_certificates=False)
    here = certificate_steps(place.cluster, inspect(place.cluster))
    assert [step.host for step in here] == [None] * 9
    there = place.change(fresh(place.cluster, place.desired)).steps
    run(here)
    run(there)
    pki = tmp_path / "pki"
    for path, source in {
        "ca.pem": "ca.pem",
        "peer-ca.pem": "peer-ca.pem",
        "server.pem": "hosts/node1/server.pem",
        "peer.pem": "hosts/node1/peer.pem",
    }.items():
        owner = "root:root" if "ca.pem" in path else "etcd:etcd"
        assert place.host.written[f"/etc/etcd/cert/{path}"] == ((pki / source).read_bytes(), 0o644, owner)
    for role in ("server", "peer"):
        key = (pki / f"hosts/node1/{role}-key.pem").read_bytes()
        assert place.host.written[f"/etc/etcd/cert/{role}-key.pem"] == (key, 0o600, "etcd:etcd")
    again = place_of(tmp_path)
    assert again.change(again.good).steps == ()


def test_secrets_reach_only_key_files_and_ca_keys_stay_local(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    change = place.carry_out(fresh(place.cluster, place.desired))
    secrets = [line for path in (tmp_path / "pki").rglob("*key.pem") for line in path.read_text().splitlines()[1:-1]]
    seen = shown(change.steps) + repr(change) + repr(place.desired) + "".join(place.host.commands)
    assert not [secret for secret in secrets if secret in seen]
    sent = b"".join(content for content, _, _ in place.host.written.values()).decode(errors="replace")
    for authority in ("ca-key.pem", "peer-ca-key.pem"):
        assert (tmp_path / "pki" / authority).read_text().splitlines()[1] not in sent
    assert {path for path, (content, _, _) in place.host.written.items() if b"PRIVATE" in content} == {
        "/etc/etcd/cert/server-key.pem",
        "/etc/etcd/cert/peer-key.pem",
    }


def test_a_changed_flag_is_one_line_of_diff_and_a_restart(tmp_path: Path) -> None:
    before = place_of(tmp_path).good
    place = place_of(tmp_path, "flags: {heartbeat-interval: '150'}")
    change = place.carry_out(before)
    assert titles(change) == ["write /etc/systemd/system/etcd.service", "daemon-reload"]
    lines = change.steps[0].diff.splitlines()
    assert [line for line in lines if line.startswith(("+ ", "- "))] == ["+  --heartbeat-interval=150 \\"]
    assert (change.needs_restart, change.restart_reasons) == (True, ("unit file changed",))
    mark, path = place.host.order[:2]
    assert path == UNIT
    assert restart_marker_path(place.cluster) in mark
    assert "InvocationID etcd.service" in mark


def test_an_interrupted_restart_is_pending_in_the_next_plan(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    noted = changed(place.good, restart_marker_path(place.cluster), kind="file", content="zzzz older\naaaa unit file changed\n")
    change = place.change(noted)
    assert (change.steps, change.needs_restart, change.restart_reasons) == ((), True, ("unit file changed",))
    restarted = replace(noted, unit=replace(noted.unit, invocation="bbbb"))
    assert not place.change(restarted).needs_restart
    stopped = replace(noted, unit=replace(noted.unit, active="inactive", invocation=""))
    assert not place.change(stopped).needs_restart


@pytest.mark.parametrize(
    ("path", "restarts"),
    [
        ("/etc/etcd/cert/server.pem", False),
        ("/etc/etcd/cert/server-key.pem", False),
        ("/etc/etcd/cert/peer.pem", True),
        ("/etc/etcd/cert/peer-key.pem", True),
        (UNIT, True),
        ("/opt/tercet/current", True),
        ("/etc/systemd/system/etcd-backup.timer", False),
    ],
)
def test_changes_that_a_member_cannot_reload_restart_it(tmp_path: Path, path: str, restarts: bool) -> None:
    place = place_of(tmp_path)
    change = place.carry_out(changed(place.good, path, sha256="0", content="old", target="old"))
    assert change.steps
    assert change.needs_restart == restarts
    assert any(restart_marker_path(place.cluster) in command for command in place.host.commands) == restarts


@pytest.mark.parametrize(
    ("state", "is_running", "needs_restart"),
    [("active", True, True), ("activating", False, True), ("failed", False, False), ("inactive", False, False)],
)
def test_only_a_member_with_a_process_needs_a_restart(
    tmp_path: Path, state: str, is_running: bool, needs_restart: bool
) -> None:
    place = place_of(tmp_path)
    facts = changed(place.good, UNIT, content="old")
    change = place.change(replace(facts, unit=replace(facts.unit, active=state)))
    assert (change.is_running, change.needs_restart) == (is_running, needs_restart)


def test_wrong_modes_and_owners_are_shown_and_corrected(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    facts = changed(place.good, "/var/lib/etcd", mode=0o755, owner="root")
    change = place.carry_out(changed(facts, "/etc/etcd/cert/server-key.pem", mode=0o644))
    assert shown(change.steps).splitlines() == [
        "set mode and owner of /var/lib/etcd",
        "mode 0755 -> 0700",
        "owner root:etcd -> etcd:etcd",
        "write /etc/etcd/cert/server-key.pem",
        "mode 0644 -> 0600",
    ]
    assert "install -d -m 0700 -o etcd -g etcd /var/lib/etcd" in place.host.commands[0]


def test_a_certificate_and_its_key_are_replaced_in_one_step(tmp_path: Path) -> None:
    """etcd reads both at each handshake: between two steps every listener of the cluster would refuse clients."""
    place = place_of(tmp_path)
    certificate, key = "/etc/etcd/cert/server.pem", "/etc/etcd/cert/server-key.pem"
    old = changed(changed(place.good, certificate, sha256="old"), key, sha256="old")
    change = place.carry_out(old)
    assert titles(change) == [f"write {certificate} and its key"]
    assert place.host.order == [key, certificate]
    assert titles(place.change(changed(place.good, key, sha256="old"))) == [f"write {key}"], "the rest of an interrupted step"


def test_a_symlinked_directory_is_left_alone(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    assert place.change(changed(place.good, "/var/lib/etcd", kind="link", target="/big/etcd", mode=0o777)).steps == ()


def test_a_file_instead_of_a_directory_is_an_error(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    with pytest.raises(HostError, match=r"node1: plan: /var/lib/etcd is a file, not a directory; move it away"):
        place.change(changed(place.good, "/var/lib/etcd", kind="file"))


def test_the_parent_of_a_separate_wal_belongs_to_the_member_until_the_wal_exists(tmp_path: Path) -> None:
    place = place_of(tmp_path, "paths: {wal: /fast/etcd/wal}")
    facts = changed(place.good, "/fast/etcd", owner="root", group="root")
    first = place.change(facts)
    assert shown(first.steps) == "set mode and owner of /fast/etcd\nowner root:root -> etcd:etcd"
    assert place.change(changed(facts, "/fast/etcd/wal", kind="directory", owner="etcd")).steps == ()


def test_a_wal_directly_below_a_system_directory_is_an_error(tmp_path: Path) -> None:
    place = place_of(tmp_path, "paths: {wal: /var/lib/etcd-wal}")
    with pytest.raises(HostError, match=r"node1: plan: /var/lib is a system directory.*set paths\.wal: /var/lib/etcd-wal/wal"):
        place.change(place.good)
    there = changed(place.good, "/var/lib/etcd-wal", kind="directory", owner="etcd")
    assert place.change(there).steps == ()


def test_a_wal_inside_the_data_needs_no_directory(tmp_path: Path) -> None:
    place = place_of(tmp_path, "paths: {wal: /var/lib/etcd/wal}")
    assert "create /var/lib/etcd" in titles(change := place.change(fresh(place.cluster, place.desired)))
    assert not [title for title in titles(change) if "wal" in title]


def test_an_upgrade_copies_installs_and_activates(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    release = place.desired.release
    old = changed(place.good, f"/opt/tercet/releases/{release}", kind="absent")
    change = place.carry_out(changed(old, "/opt/tercet/current", target="releases/tercet-1.2.2-ffffffff"))
    assert titles(change) == [f"copy {release}", f"activate {release}"]
    assert change.steps[1].diff == f"/opt/tercet/current: releases/tercet-1.2.2-ffffffff -> releases/{release}"
    assert change.restart_reasons == (f"release {release}",)
    upload, install, mark, activate = place.host.order
    assert upload == f"upload /opt/tercet/{release}.upload"
    assert f"/opt/tercet/{release}.upload" in install
    assert restart_marker_path(place.cluster) in mark
    assert 'point current "releases/$release"' in activate


def test_a_copy_reports_that_the_host_unpacks(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    change = place.change(changed(place.good, f"/opt/tercet/releases/{place.desired.release}", kind="absent"))
    reported: list[tuple[object, ...]] = []
    asyncio.run(change.steps[0].work(lambda *progress: reported.append(progress)))
    assert reported == [(1, 2, ""), (2, 2, "unpacking")]


def test_a_missing_program_link_is_created_without_a_restart(tmp_path: Path) -> None:
    place = place_of(tmp_path, "paths: {bin: /usr/local/etcd/bin}")
    change = place.change(changed(place.good, "/usr/local/etcd/bin/tercetctl", kind="absent", target=""))
    assert len(change.steps) == 1
    assert not change.needs_restart


def test_unloaded_units_cause_a_daemon_reload(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    stale = replace(place.good, unit=replace(place.good.unit, needs_reload=True, enabled=False))
    assert titles(place.change(stale)) == ["daemon-reload", "enable etcd.service"]


def test_the_initial_cluster_state_of_the_host_is_kept(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    joined = place.desired.unit_text.replace("--initial-cluster-state=new", "--initial-cluster-state=existing")
    assert place.change(changed(place.good, UNIT, content=joined)).steps == ()


def test_another_ca_under_a_running_member_is_an_error(tmp_path: Path) -> None:
    running = place_of(tmp_path).good
    (tmp_path / "pki").rename(tmp_path / "lost")
    place = place_of(tmp_path, with_certificates=False)
    with pytest.raises(HostError) as raised:
        place.change(running)
    for part in ("node1: plan: /etc/etcd/cert/ca.pem", "another CA", "CN=demo CA", str(tmp_path / "pki")):
        assert part in str(raised.value)
    stopped = replace(running, unit=replace(running.unit, active="inactive"))
    assert "write /etc/etcd/cert/ca.pem" in titles(place.change(stopped))


def test_an_external_ca_file_is_never_overwritten(tmp_path: Path) -> None:
    settings = "tls: {shared: true}\npaths: {ca: /etc/kubernetes/cert/ca.pem}"
    place = place_of(tmp_path, settings)
    path = "/etc/kubernetes/cert/ca.pem"
    facts = changed(fresh(place.cluster, place.desired), path, kind="file", content="not a certificate")
    with pytest.raises(HostError, match=r"node1: plan: /etc/kubernetes/cert/ca\.pem contains another CA.*tls\.ca_certificate"):
        place.change(facts)
    same = (tmp_path / "pki/ca.pem").read_text()
    theirs = FileFact(kind="file", sha256="x", mode=0o664, owner="k8s", group="k8s", content=f"# cfssl's\n{same}\n")
    assert place.change(replace(place.good, files={**place.good.files, path: theirs})).steps == ()


def test_disabled_backups_leave_no_units(tmp_path: Path) -> None:
    before = place_of(tmp_path).good
    place = place_of(tmp_path, "backups: {enabled: false}")
    change = place.carry_out(before)
    assert titles(change) == ["disable backups"]
    assert "rm -f /etc/systemd/system/etcd-backup.service /etc/systemd/system/etcd-backup.timer" in place.host.commands[0]
    gone = {
        path: ABSENT if "etcd-backup" in path or path.endswith("backup.pyz") else fact for path, fact in before.files.items()
    }
    assert place.change(replace(before, files=gone)).steps == ()


def test_a_changed_timer_is_disabled_until_it_is_complete(tmp_path: Path) -> None:
    before = place_of(tmp_path).good
    place = place_of(tmp_path, "backups: {every: hourly}")
    change = place.carry_out(before)
    assert titles(change) == ["write /etc/systemd/system/etcd-backup.timer", "enable etcd-backup.timer"]
    assert place.host.order == [
        "rm -f /etc/systemd/system/timers.target.wants/etcd-backup.timer",
        "/etc/systemd/system/etcd-backup.timer",
        "systemctl daemon-reload && systemctl restart etcd-backup.timer && systemctl enable etcd-backup.timer",
    ]
    assert not change.needs_restart


def test_users_are_created_only_if_requested(tmp_path: Path) -> None:
    place = place_of(tmp_path, "service: {user: k8s, group: kube}")
    facts = replace(place.good, users=frozenset(), groups=frozenset())
    place.carry_out(facts)
    assert place.host.commands[0] == "groupadd --system kube"
    assert place.host.commands[1].startswith("useradd --system --gid kube ")
    assert place.host.commands[1].endswith(" k8s")
    other = place_of(tmp_path, "service: {user: k8s, group: kube, create_user: false}")
    assert other.change(facts).steps == ()


def test_without_tls_there_are_no_certificates(tmp_path: Path) -> None:
    place = place_of(tmp_path, "tls: {enabled: false}")
    change = place.change(fresh(place.cluster, place.desired))
    assert not [title for title in titles(change) if ".pem" in title]
    assert place.change(place.good).steps == ()


def test_a_missing_local_certificate_is_a_one_line_error(tmp_path: Path) -> None:
    place = place_of(tmp_path, with_certificates=False)
    steps: tuple[Any, ...] = place.change(fresh(place.cluster, place.desired)).steps
    with pytest.raises(HostError, match=r"node1: write /etc/etcd/cert/ca\.pem: cannot read local file .*pki/ca\.pem"):
        run(tuple(step for step in steps if step.title == "write /etc/etcd/cert/ca.pem"))


def test_files_that_links_replace_are_in_the_plan(tmp_path: Path) -> None:
    """Of a manually installed engine, also the programs that are not in every release."""
    settings = "engine: {kind: etcd, source: e.tar.gz, version: 1.2.3}\npaths: {bin: /opt/k8s/bin}"
    place = place_of(tmp_path, settings)
    facts = changed(place.good, "/opt/k8s/bin/etcd", kind="file", target="")
    facts = changed(facts, "/opt/k8s/bin/etcdutl", kind="file")
    (step,) = place.change(facts).steps
    assert step.title.startswith("activate etcd-1.2.3")
    assert step.diff.splitlines()[1:] == [
        "/opt/k8s/bin/etcd: the existing file is kept as /opt/k8s/bin/etcd.replaced; destroy restores it",
        "/opt/k8s/bin/etcdutl: the existing file is kept as /opt/k8s/bin/etcdutl.replaced; destroy restores it",
    ]


@pytest.mark.parametrize(
    ("current", "target", "error"),
    [
        ("etcd Version: 3.5.1", "3.5.21", None),
        ("etcd Version: 3.5.21", "3.5.1", None),
        ("etcd Version: 3.5.1", "3.6.0", None),
        (
            "etcd Version: 3.5.1",
            "3.7.1",
            r"^node1: plan: cannot upgrade.*one minor version at a time; apply a release of 3\.6 first$",
        ),
        ("etcd Version: 3.6.16", "3.5.21", r"downgrade.*set engine\.source to a release of 3\.6 or newer$"),
        ("etcd Version: 3.5.1", "4.0.0", "cannot upgrade"),
        ("command not found", "3.7.1", None),
        ("", "3.7.1", None),
    ],
)
def test_engine_versions_change_by_one_minor(current: str, target: str, error: str | None) -> None:
    if error is None:
        check_version_change("node1", current=current, target=target)
        return
    with pytest.raises(HostError, match=error):
        check_version_change("node1", current=current, target=target)
