"""The probe, run on the local host."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import grp
import hashlib
import inspect
import os
import platform
import pwd
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tercet.deploy.facts import facts, probe
from tercet.deploy.facts.facts import FileFact, HostFacts, UnitFact, Wanted, gather
from tercet.deploy.ssh import receive
from tercet.deploy.ssh.connections import connect
from tercet.deploy.ssh.remote import Completed, Host, HostError
from tests.deploy.sshd import USER, Operator
from tests.support.ports import free_port
from tests.support.waiting import scaled

GROUP = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name


def found(operator: Operator, wanted: Wanted) -> HostFacts:
    async def scenario() -> HostFacts:
        host = await connect(operator.spec())
        try:
            return await gather(host, wanted)
        finally:
            await host.close()

    return asyncio.run(asyncio.wait_for(scenario(), scaled(30)))


def test_files_directories_and_links(operator: Operator, tmp_path: Path) -> None:
    text, key, link, directory, pipe = (tmp_path / name for name in ("text", "key", "link", "directory", "pipe"))
    text.write_bytes(b"caf\xc3\xa9\n")
    text.chmod(0o640)
    key.write_text("-----BEGIN EC PRIVATE KEY-----\n")
    link.symlink_to("nowhere")
    directory.mkdir(0o750)
    (directory / "one").touch()
    (directory / "lost+found").mkdir()
    os.mkfifo(pipe, 0o600)
    names = tuple(str(tmp_path / name) for name in ("text", "key", "link", "directory", "pipe", "absent", "text/below"))
    files = found(operator, Wanted(paths=names, contents=names)).files
    assert [files[name].kind for name in names] == ["file", "file", "link", "directory", "file", "absent", "absent"]
    assert files[str(text)] == FileFact(
        kind="file",
        sha256=hashlib.sha256(text.read_bytes()).hexdigest(),
        size=6,
        mode=0o640,
        owner=USER,
        group=GROUP,
        content="café\n",
    )
    assert files[str(key)].content is None, "never a key, whoever asks"
    assert files[str(key)].sha256 == hashlib.sha256(key.read_bytes()).hexdigest()
    assert files[str(link)].target == "nowhere"
    assert (files[str(directory)].size, files[str(directory)].mode) == (1, 0o750)
    assert not files[str(tmp_path / "absent")].exists


def test_contents_are_returned_only_on_request(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert found(operator, Wanted(paths=(str(tmp_path / "file"),))).files[str(tmp_path / "file")].content is None


@pytest.mark.skipif(os.geteuid() != 0, reason="owners can be changed by root only")
def test_an_unknown_owner_is_its_id(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 54321, 54322)
    fact = found(operator, Wanted(paths=(str(tmp_path / "file"),))).files[str(tmp_path / "file")]
    assert (fact.owner, fact.group) == ("54321", "54322")


def test_system_facts(operator: Operator) -> None:
    facts = found(operator, Wanted(users=(USER, "nobody-of-this-name"), groups=(GROUP, "none-of-this-name")))
    assert (facts.hostname, facts.arch) == (socket.gethostname(), platform.machine())
    assert (facts.users, facts.groups) == ({USER}, {GROUP})
    assert facts.is_root == (os.geteuid() == 0)
    assert facts.os_name in Path("/etc/os-release").read_text()
    assert facts.os_name in Path("/etc/os-release").read_text()


def test_the_clock_offset_to_the_local_host_is_zero(operator: Operator) -> None:
    facts = found(operator, Wanted())
    assert abs(facts.clock_offset_seconds) <= facts.clock_error_seconds < scaled(5)


def test_the_clock_offset_and_its_error() -> None:
    answer = {**probe.gather(vars(Wanted())), "began": 1105.0, "ended": 1105.5}
    ahead = facts._facts(answer, 1000.0, 1001.0)
    assert (ahead.clock_offset_seconds, ahead.clock_error_seconds) == (pytest.approx(104.75), pytest.approx(0.25))


@pytest.mark.parametrize(
    ("interpreter", "version"), [(sys.executable, sys.version_info[:3]), ("no-python-of-this-name", None), ("/bin/false", None)]
)
def test_the_version_of_the_requested_interpreter(
    operator: Operator, interpreter: str, version: tuple[int, int, int] | None
) -> None:
    assert found(operator, Wanted(python=interpreter)).python == version


def test_the_owner_of_a_listener(operator: Operator) -> None:
    with contextlib.ExitStack() as stack:
        ports = []
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            listener = stack.enter_context(socket.socket(family))
            try:
                listener.bind((address, 0))
            except OSError:
                continue  # no IPv6 here
            listener.listen()
            ports.append(listener.getsockname()[1])
        free = free_port()
        listeners = found(operator, Wanted(ports=(*ports, free))).listeners
    assert set(listeners) == set(ports)
    for who in listeners.values():
        assert who.endswith(f"(pid {os.getpid()})") or who.startswith("unit ")


@pytest.mark.parametrize(
    ("cgroup", "owner"),
    [
        ("0::/system.slice/etcd.service\n", "unit etcd.service"),
        ("1:name=systemd:/system.slice/system-etcd.slice/etcd@a.service/inner\n", "unit etcd@a.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope\n", "process etcd (pid 77)"),
        ("", "process etcd (pid 77)"),
    ],
)
def test_the_unit_of_a_listener(monkeypatch: pytest.MonkeyPatch, cgroup: str, owner: str) -> None:
    texts = {"/proc/77/cgroup": cgroup.splitlines(), "/proc/77/comm": ["etcd\n"]}
    monkeypatch.setattr(probe, "lines", texts.__getitem__)
    assert probe.owner_of("77") == owner


@pytest.mark.parametrize(
    ("active", "beside_unit", "is_measured"), [("active", True, True), ("active", False, False), ("failed", False, True)]
)
def test_the_disk_of_a_running_unit_is_measured_on_request_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, active: str, beside_unit: bool, is_measured: bool
) -> None:
    monkeypatch.setattr(probe, "unit_fact", lambda unit: {"active": active})
    asked = Wanted(unit="etcd", fdatasync=str(tmp_path), fdatasync_beside_unit=beside_unit)
    assert bool(probe.gather(asdict(asked))["fdatasync_seconds"]) is is_measured


def test_free_space_for_a_missing_path(operator: Operator, tmp_path: Path) -> None:
    path = str(tmp_path / "not" / "yet")
    before = sorted(tmp_path.iterdir())
    facts = found(operator, Wanted(disks=(path,), fdatasync=path))
    assert 0 < facts.disk_free[path] <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert list(facts.fdatasync_seconds) == sorted(facts.fdatasync_seconds)
    assert len(facts.fdatasync_seconds) > 0
    assert sorted(tmp_path.iterdir()) == before


def test_reachability(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = free_port()
    places = (("127.0.0.1", operator.sshd.port), ("127.0.0.1", refused), ("no-such-host.invalid", 1))
    reached = found(operator, Wanted(reach=places, addresses=("127.0.0.1", "192.0.2.1", "no-such-host.invalid"))).reached
    assert reached[f"127.0.0.1:{operator.sshd.port}"] == ""
    assert reached[f"127.0.0.1:{refused}"] == "", "refused is reached"
    assert reached["no-such-host.invalid:1"]


def test_a_filtered_port_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener with a full queue drops packets, like a firewall."""
    monkeypatch.setattr(probe, "REACH_SECONDS", 0.3)
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        time.sleep(0.05)
        place = full.getsockname()
        assert probe.Reachability([list(place)]).result() == {f"127.0.0.1:{place[1]}": "no answer within 0.3 s"}


def test_local_addresses(operator: Operator) -> None:
    addresses = ("127.0.0.1", "192.0.2.1", "no-such-host.invalid")
    assert found(operator, Wanted(addresses=addresses)).addresses == {"127.0.0.1"}


SHOWN = """LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
UnitFileState=enabled
MainPID=0
NeedDaemonReload=yes
NRestarts=3
DropInPaths=/usr/lib/systemd/system/service.d/10-abort.conf /etc/systemd/system/etcd.service.d/a.conf
ExecStart={ path=/opt/etcd/current/etcd ; argv[]=/opt/etcd/current/etcd --name=a --data-dir=/var/lib/etcd ; pid=0 }
InvocationID=0123456789abcdef
ActiveEnterTimestampMonotonic=1000000
InactiveEnterTimestampMonotonic=%d
"""


def test_properties_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def output(command: list[str]) -> str:
        commands.append(command)
        return SHOWN % ((time.monotonic() - 60) * 1e6)

    monkeypatch.setattr(probe, "output", output)
    fact = UnitFact(**probe.unit_fact("etcd"))
    assert commands[0][:3] == ["systemctl", "show", "etcd.service"]
    assert fact == UnitFact(
        load="loaded",
        active="failed",
        sub="failed",
        result="exit-code",
        enabled=True,
        needs_reload=True,
        exec_line="/opt/etcd/current/etcd --name=a --data-dir=/var/lib/etcd",
        since=pytest.approx(time.time() - 60, abs=30),
        invocation="0123456789abcdef",
        restarts=3,
        drop_ins=("/etc/systemd/system/etcd.service.d/a.conf",),
    )


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "output", lambda command: "")
    assert UnitFact(**probe.unit_fact("etcd.service")) == UnitFact()


def test_one_round_trip(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    run = Host.run

    async def counting(host: Host, command: str, **settings: object) -> Completed:
        commands.append(command)
        return await run(host, command, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "run", counting)
    found(operator, Wanted(paths=("/etc/hosts",), unit="etcd", ports=(2379,), users=("root",), disks=("/",)))
    assert len(commands) == 1


def test_unexpected_output_of_the_probe(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    for program, said in (
        ("def main(source): print('welcome')", "unexpected output of the probe: b'welcome"),
        ("def main(source): raise RuntimeError('odd')", "the probe failed:\n"),
    ):
        monkeypatch.setattr(inspect, "getsource", lambda module, program=program: program)
        with pytest.raises(HostError, match=f"^node1: gather facts: {said}"):
            found(operator, Wanted())


@pytest.mark.parametrize("module", [probe, receive])
def test_remote_programs_use_python_3_7_and_the_standard_library(module: object) -> None:
    tree = ast.parse(inspect.getsource(module), feature_version=(3, 7))  # type: ignore[arg-type]
    imported = [
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert set(imported) <= sys.stdlib_module_names
