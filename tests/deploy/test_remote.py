"""Commands, files and logs on a host, including broken connections."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import hashlib
import os
import pwd
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.deploy.cluster.settings import Listen, TlsSettings
from tercet.deploy.members.members import MemberHealth, Members
from tercet.deploy.ssh.connections import connect
from tercet.deploy.ssh.remote import Completed, Host, HostError, RemoteFile
from tests.deploy.remote_calls import failure, with_host
from tests.deploy.sshd import USER, Operator, operator_of, public, running_sshd, wire_to
from tests.support.waiting import scaled

GROUP = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name


def left_over(directory: Path) -> list[str]:
    """The entries of a directory after all receivers have exited."""
    until = time.monotonic() + scaled(5)
    while any(directory.glob(".*.partial")) and time.monotonic() < until:
        time.sleep(0.02)
    return sorted(path.name for path in directory.iterdir())


def has_ended(pid_file: Path) -> bool:
    """Whether the process exits soon; zombies count as exited."""
    state = Path("/proc") / pid_file.read_text().strip() / "stat"
    until = time.monotonic() + scaled(5)
    while time.monotonic() < until:
        try:
            if state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


# Commands


def test_stdin_stdout_and_exit_code_of_a_command(operator: Operator) -> None:
    done = with_host(operator, lambda host: host.run("cat; echo oh >&2; exit 3", stdin=b"in\0put", step="try"))
    assert done == Completed(3, b"in\0put", b"oh\n")


def test_files_that_belong_together_are_replaced_only_if_all_are_there(operator: Operator, tmp_path: Path) -> None:
    names = ("key", "certificate")

    def files(content: bytes, owner: str = USER) -> list[RemoteFile]:
        owners = (USER, owner)
        return [
            RemoteFile(str(tmp_path / name), content + name.encode(), 0o640, one, GROUP)
            for name, one in zip(names, owners, strict=True)
        ]

    with_host(operator, lambda host: host.write_all(files(b"first "), step="write"))
    assert [(tmp_path / name).read_bytes() for name in names] == [b"first key", b"first certificate"]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o640
    error = failure(operator, lambda host: host.write_all(files(b"second ", owner="nobody-here"), step="write"))
    assert "user nobody-here does not exist" in str(error)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"first key", b"first certificate"]
    assert not [name for name in left_over(tmp_path) if name.endswith(".partial")]


def test_a_command_killed_by_a_signal(operator: Operator) -> None:
    assert with_host(operator, lambda host: host.run("kill -9 $$", step="try")).exit_code == 137


def test_a_failed_command_shows_the_end_of_stderr(operator: Operator) -> None:
    error = failure(operator, lambda host: host.check("for i in $(seq 30); do echo line $i >&2; done; exit 4", step="count"))
    assert str(error).startswith("node1: count: exit code 4:\nline 19\n")
    assert str(error).endswith("\nline 30")
    assert (
        str(failure(operator, lambda host: host.check("echo no >&2; exit 1", step="count"))) == "node1: count: exit code 1: no"
    )
    assert str(failure(operator, lambda host: host.check("exit 1", step="count"))) == "node1: count: exit code 1"


def test_unread_stdin(operator: Operator) -> None:
    assert with_host(operator, lambda host: host.run("exit 0", stdin=b"x" * 5_000_000, step="try")).exit_code == 0


def test_much_output(operator: Operator) -> None:
    assert len(with_host(operator, lambda host: host.check("head -c 8000000 /dev/zero", step="try"))) == 8_000_000


def test_commands_run_with_the_c_locale_and_sbin_in_path(operator: Operator) -> None:
    output = with_host(operator, lambda host: host.check('echo "$LC_ALL $PATH"', step="try")).decode()
    assert output.startswith("C ")
    assert "/usr/sbin" in output


def test_more_concurrent_commands_than_sessions(operator: Operator) -> None:
    async def many(host: Host) -> list[bytes]:
        return await asyncio.gather(*(host.check(f"sleep 0.05; echo {number}", step="try") for number in range(30)))

    assert with_host(operator, many) == [b"%d\n" % number for number in range(30)]


def test_a_command_is_killed_after_its_timeout(operator: Operator, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = f"echo $$ >{pid_file}; sleep 90"
    for seconds in (2.0, 10.0, 50.0):  # a busy machine may not have begun it by then
        error = failure(operator, lambda host, seconds=seconds: host.run(command, timeout=seconds, step="wait"))
        assert (error.step, error.text) == ("wait", f"not finished after {seconds:g} s")
        if pid_file.exists() and pid_file.read_text():
            break
    assert has_ended(pid_file)


def test_a_host_is_usable_after_a_cancelled_command(operator: Operator, tmp_path: Path) -> None:
    async def act(host: Host) -> bytes:
        tasks = [asyncio.ensure_future(host.run("sleep 60", step="wait")) for _ in range(8)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
        return await host.check("echo on", step="go on", timeout=scaled(20))

    assert with_host(operator, act) == b"on\n"


# A connection that breaks


@contextlib.asynccontextmanager
async def wired_host(operator: Operator, **settings: object) -> AsyncIterator[tuple[Host, Callable[[], None]]]:
    """A host, and a function that cuts its connection."""
    operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
    async with wire_to(operator.sshd.port) as wire:
        host = await connect(operator.spec(port=wire.port, **settings))
        try:
            yield host, wire.cut
        finally:
            await host.close()


def lost(operator: Operator, act: Callable[[Host], Awaitable[object]], *, after: float = 0.3) -> HostError:
    async def scenario() -> HostError:
        async with wired_host(operator) as (host, cut):
            asyncio.get_running_loop().call_later(after, cut)
            with pytest.raises(HostError) as raised:
                await act(host)
            return raised.value

    error = asyncio.run(asyncio.wait_for(scenario(), scaled(20)))
    assert "SSH connection lost" in error.text
    assert error.remedy.startswith("rerun the command")
    return error


def test_connection_lost_during_a_command(operator: Operator) -> None:
    assert lost(operator, lambda host: host.run("sleep 20", step="restart etcd")).step == "restart etcd"


def test_connection_lost_between_commands(operator: Operator) -> None:
    async def act(host: Host) -> None:
        await asyncio.sleep(0.3)
        await host.run("true", step="next")

    assert lost(operator, act, after=0.1).step == "next"


def test_connection_lost_while_following_a_log(operator: Operator) -> None:
    async def act(host: Host) -> None:
        async for line in host.lines("while echo tick; do sleep 0.05; done", step="logs"):
            assert line == "tick"

    assert lost(operator, act).step == "logs"


def test_connection_lost_during_an_upload_leaves_nothing(operator: Operator, tmp_path: Path) -> None:
    local, directory = tmp_path / "local", tmp_path / "there"
    local.write_bytes(os.urandom(20_000_000))
    directory.mkdir()
    (directory / "file").write_text("before")

    async def scenario() -> HostError:
        async with wired_host(operator) as (host, cut):
            with pytest.raises(HostError) as raised:
                await host.upload(
                    local, f"{directory}/file", mode=0o644, step="copy", progress=lambda done, _: done > 5_000_000 and cut()
                )
            return raised.value

    assert "SSH connection lost" in asyncio.run(asyncio.wait_for(scenario(), scaled(20))).text
    assert left_over(directory) == ["file"]
    assert (directory / "file").read_text() == "before"


def test_an_unresponsive_host(operator: Operator) -> None:
    async def scenario() -> HostError:
        operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
        async with wire_to(operator.sshd.port) as wire:
            host = await connect(operator.spec(port=wire.port))
            wire.dead = True
            with pytest.raises(HostError) as raised:
                await host.run("true", timeout=0.5, step="reload systemd")
            await host.close()
            return raised.value

    began = time.monotonic()
    assert str(asyncio.run(scenario())).startswith("node1: reload systemd: not finished after 0.5 s")
    assert time.monotonic() - began < scaled(20)


# Files


def test_a_file_is_written_with_mode_owner_and_group(operator: Operator, tmp_path: Path) -> None:
    place = tmp_path / "it's a file"
    content = os.urandom(100_000)
    with_host(operator, lambda host: host.write(str(place), content, mode=0o640, owner=USER, group=GROUP, step="write"))
    assert place.read_bytes() == content
    assert place.stat().st_mode & 0o7777 == 0o640
    assert left_over(tmp_path) == sorted(["home", place.name])


def test_a_file_replaces_another(operator: Operator, tmp_path: Path) -> None:
    """By rename: open descriptors keep the old file, and a symlink is replaced, not followed."""
    (tmp_path / "target").write_text("target")
    place = tmp_path / "link"
    place.symlink_to("target")
    with_host(operator, lambda host: host.write(str(place), b"", mode=0o600, owner=USER, group=GROUP, step="write"))
    assert (place.is_symlink(), place.read_bytes(), (tmp_path / "target").read_text()) == (False, b"", "target")


@pytest.mark.parametrize(
    ("place", "owner", "message"),
    [
        ("none/file", USER, "cannot write: No such file or directory: {}"),
        ("home", USER, "cannot write: Is a directory: {}"),
        ("file", "nobody-of-this-name", "cannot write: user nobody-of-this-name does not exist"),
    ],
)
def test_a_file_that_cannot_be_written(operator: Operator, tmp_path: Path, place: str, owner: str, message: str) -> None:
    path = str(tmp_path / place)
    error = failure(operator, lambda host: host.write(path, b"x", mode=0o600, owner=owner, group=GROUP, step="write the unit"))
    assert str(error) == f"node1: write the unit: {message.format(path)}"
    assert left_over(tmp_path) == ["home"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], timeout=scaled(10), capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True, timeout=scaled(10))


@pytest.mark.parametrize("how", ["write", "upload"])
def test_a_full_disk(operator: Operator, small_disk: Path, tmp_path: Path, how: str) -> None:
    (small_disk / "file").write_text("before")
    local = tmp_path / "local"
    local.write_bytes(bytes(3_000_000))

    async def act(host: Host) -> None:
        if how == "write":
            await host.write(f"{small_disk}/file", local.read_bytes(), mode=0o600, owner=USER, group=GROUP, step="copy")
        else:
            await host.upload(local, f"{small_disk}/file", mode=0o600, step="copy")

    assert str(failure(operator, act)) == f"node1: copy: cannot {how}: No space left on device: {small_disk}/file"
    assert left_over(small_disk) == ["file"]
    assert (small_disk / "file").read_text() == "before"


@pytest.mark.skipif(os.geteuid() != 0, reason="uploads belong to root")
def test_progress_of_an_upload(operator: Operator, tmp_path: Path) -> None:
    local, place = tmp_path / "local", tmp_path / "place"
    local.write_bytes(os.urandom(3_000_000))
    reported: list[tuple[int, int]] = []
    with_host(
        operator,
        lambda host: host.upload(
            local, str(place), mode=0o755, step="copy", progress=lambda *numbers: reported.append(numbers)
        ),
    )
    assert hashlib.sha256(place.read_bytes()).digest() == hashlib.sha256(local.read_bytes()).digest()
    assert place.stat().st_mode & 0o7777 == 0o755
    assert reported[-1] == (3_000_000, 3_000_000)
    assert reported == sorted(reported)
    assert len(reported) > 5


@pytest.mark.skipif(os.geteuid() != 0, reason="uploads belong to root")
def test_an_upload_that_is_cancelled_leaves_nothing(operator: Operator, tmp_path: Path) -> None:
    local, directory = tmp_path / "local", tmp_path / "there"
    local.write_bytes(bytes(30_000_000))
    directory.mkdir()

    async def act(host: Host) -> bytes:
        begun = asyncio.Event()
        task = asyncio.ensure_future(
            host.upload(local, f"{directory}/file", mode=0o644, step="copy", progress=lambda *_: begun.set())
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await host.check("echo on", step="go on")

    assert with_host(operator, act) == b"on\n"
    assert left_over(directory) == []


def test_a_missing_local_file(operator: Operator, tmp_path: Path) -> None:
    error = failure(operator, lambda host: host.upload(tmp_path / "none", "/none", mode=0o644, step="copy"))
    assert error.text == f"cannot read local file {tmp_path / 'none'}: No such file or directory"


def test_stale_temporary_files_are_removed(operator: Operator, tmp_path: Path) -> None:
    old, young, others = (tmp_path / name for name in (".file.abc.partial", ".file.def.partial", ".other.abc.partial"))
    for path in (old, young, others):
        path.touch()
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    os.utime(others, (time.time() - 3600, time.time() - 3600))
    place = str(tmp_path / "file")
    with_host(operator, lambda host: host.write(place, b"", mode=0o600, owner=USER, group=GROUP, step="write"))
    assert sorted(path.name for path in tmp_path.glob(".*")) == [young.name, others.name]


# Logs and tunnels


def test_lines_are_streamed(operator: Operator) -> None:
    async def act(host: Host) -> list[str]:
        return [line async for line in host.lines("printf 'one\\n\\ntwo\\377\\nend'", step="logs")]

    assert with_host(operator, act) == ["one", "", "two\ufffd", "end"]


def test_lines_of_a_command_that_fails(operator: Operator) -> None:
    async def act(host: Host) -> None:
        async for line in host.lines("echo one; echo no journal >&2; exit 1", step="logs"):
            assert line == "one"

    assert str(failure(operator, act)) == "node1: logs: exit code 1: no journal"


def test_closing_the_iterator_ends_the_command(operator: Operator, tmp_path: Path) -> None:
    async def act(host: Host) -> None:
        command = f"echo $$ >{tmp_path}/pid; while echo one; do sleep 0.05; done"
        async with contextlib.aclosing(host.lines(command, step="logs")) as lines:
            assert await anext(lines) == "one"

    with_host(operator, act)
    assert has_ended(tmp_path / "pid")


def test_port_forwarding(operator: Operator) -> None:
    async def act(host: Host) -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = await host.forward("127.0.0.1", server.sockets[0].getsockname()[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"through\n")
            data = await reader.read()
            writer.close()
        await host.close()
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port), 1):
            pass
        return data

    assert with_host(operator, act) == b"through\n"


def test_a_refused_connection_is_told_from_one_that_the_server_forbids(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a forbidden one a member may run and commit, so that it is not restarted as if nothing did."""

    async def act(host: Host) -> list[object]:
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            listens = await host.refuses("127.0.0.1", port)
        cluster = replace(operator.cluster(host.spec), tls=TlsSettings(enabled=False), listen=Listen(client_port=port))
        async with Members(cluster, {"node1": host}) as members:
            health = await members.health_of(host.spec)
        return [listens, await host.refuses("127.0.0.1", port), health.commits, health.error]

    listens, refuses, commits, error = with_host(operator, act)
    assert (listens, refuses, commits) == (False, True, False)
    assert str(error).endswith("refused")
    with (
        running_sshd(tmp_path / "strict", more="AllowTcpForwarding no") as strict,
        operator_of(strict, tmp_path / "strict-home", monkeypatch) as other,
    ):
        assert "AllowTcpForwarding" in str(failure(other, lambda host: host.refuses("127.0.0.1", 1)))

        async def forbidden(host: Host) -> MemberHealth:
            cluster = replace(other.cluster(host.spec), tls=TlsSettings(enabled=False))
            async with Members(cluster, {"node1": host}) as members:
                return await members.health_of(host.spec)

        found = with_host(other, forbidden)
    assert found.commits is None
    assert "forbidden by the SSH server" in found.error


def test_a_lost_connection_refuses_nothing(operator: Operator) -> None:
    async def scenario() -> list[str]:
        async with wired_host(operator) as (host, cut):
            asyncio.get_running_loop().call_soon(cut)  # while the channel is opened
            with pytest.raises(HostError) as before:
                await host.refuses("127.0.0.1", 1)
            with pytest.raises(HostError) as after:
                await host.refuses("127.0.0.1", 1)
            return [str(before.value), str(after.value)]

    assert all("SSH connection lost" in text for text in asyncio.run(asyncio.wait_for(scenario(), scaled(30))))
