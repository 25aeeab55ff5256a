"""Logins like ssh's: host keys, user keys, agents, configuration files, jump hosts; and the errors of each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import HostSpec
from tercet.deploy.cluster.settings import SshSettings
from tercet.deploy.ssh.connections import Dialer, connect, connected
from tercet.deploy.ssh.login import _algorithms, _os_reason
from tercet.deploy.ssh.remote import Host, HostError
from tests.deploy.sshd import USER, Operator, fingerprint, make_key, public, running_sshd, wire_to
from tests.support.ports import free_port
from tests.support.waiting import scaled


def log_in(spec: HostSpec, *, accept_new: bool = False) -> str:
    """Connect and return the remote user."""

    async def scenario() -> str:
        host = await connect(spec, accept_new=accept_new)
        try:
            return (await host.check("id -un", step="who", root=False)).decode().strip()
        finally:
            await host.close()

    return asyncio.run(scenario())


def refusal(spec: HostSpec, *, accept_new: bool = False) -> HostError:
    with pytest.raises(HostError) as raised:
        log_in(spec, accept_new=accept_new)
    assert (raised.value.host, raised.value.step) == ("node1", "connect")
    assert "Traceback" not in str(raised.value)
    return raised.value


def test_a_known_host_and_a_default_key(operator: Operator) -> None:
    assert log_in(operator.spec()) == USER


def test_an_unknown_host_is_rejected_with_its_fingerprint(operator: Operator) -> None:
    operator.known_hosts.write_text("")
    error = refusal(operator.spec())
    assert f"[127.0.0.1]:{operator.sshd.port} presents ED25519 key {fingerprint(operator.sshd.host_key)}" in error.text
    assert "--accept-new" in error.remedy
    assert operator.known_hosts.read_text() == ""


def test_the_host_key_algorithms_of_unknown_hosts_are_in_sshs_order() -> None:
    kinds = _algorithms((), with_certificates=False)
    assert kinds[:2] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert len(kinds) == len(set(kinds))


def test_accept_new_adds_an_unknown_host(operator: Operator) -> None:
    operator.known_hosts.write_text("other ssh-ed25519 AAAA")  # without a newline, and not a valid key
    assert log_in(operator.spec(), accept_new=True) == USER
    assert operator.known_hosts.read_text() == "other ssh-ed25519 AAAA\n" + operator.sshd.known_hosts_line
    assert log_in(operator.spec()) == USER


def test_a_new_known_hosts_file_is_private(operator: Operator) -> None:
    operator.known_hosts.unlink()
    assert log_in(operator.spec(), accept_new=True) == USER
    assert operator.known_hosts.stat().st_mode & 0o777 == 0o600


def test_names_are_hashed_if_the_file_has_hashed_names(operator: Operator) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", operator.known_hosts], check=True, timeout=scaled(20), capture_output=True)
    assert operator.known_hosts.read_text().startswith("|1|")
    assert log_in(operator.spec()) == USER
    operator.configure(f"Host elsewhere\n  HostName 127.0.0.1\n  HostKeyAlias elsewhere\n  Port {operator.sshd.port}\n")
    spec = HostSpec(name="node1", address="elsewhere")
    refusal(spec)
    assert log_in(spec, accept_new=True) == USER
    assert operator.known_hosts.read_text().splitlines()[-1].startswith("|1|")
    name = f"[elsewhere]:{operator.sshd.port}"
    found = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", operator.known_hosts], timeout=scaled(20), capture_output=True, text=True
    )
    assert public(operator.sshd.host_key).split()[1] in found.stdout, "what we write, OpenSSH finds"


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_host_key_is_always_rejected(operator: Operator, tmp_path: Path, accept_new: bool) -> None:
    other = make_key(tmp_path / "other")
    text = f"# mine\n[127.0.0.1]:{operator.sshd.port} {public(other)}\n"
    operator.known_hosts.write_text(text)
    error = refusal(operator.spec(), accept_new=accept_new)
    assert "THE HOST KEY HAS CHANGED" in error.text
    assert fingerprint(other) in error.text
    assert fingerprint(operator.sshd.host_key) in error.text
    assert "~/.ssh/known_hosts line 2" in error.text
    assert f"ssh-keygen -f {operator.known_hosts} -R '[127.0.0.1]:{operator.sshd.port}'" in error.remedy
    assert operator.known_hosts.read_text() == text


def test_a_host_key_of_another_type_counts_as_changed(operator: Operator, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other", kind="ecdsa")
    operator.known_hosts.write_text(f"[127.0.0.1]:{operator.sshd.port} {public(other)}\n")
    assert "THE HOST KEY HAS CHANGED" in refusal(operator.spec(), accept_new=True).text


def test_a_revoked_host_key_is_rejected(operator: Operator) -> None:
    operator.known_hosts.write_text(f"{operator.sshd.known_hosts_line}@revoked * {public(operator.sshd.host_key)}\n")
    assert "revoked" in refusal(operator.spec(), accept_new=True).text


def test_a_host_key_known_for_port_22_is_accepted_on_another_port(operator: Operator) -> None:
    operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
    assert log_in(operator.spec()) == USER


@pytest.mark.parametrize(
    ("names", "is_known"),
    [
        ("[127.0.0.*]:{port}", True),
        ("[127.0.0.1]:1,[127.0.0.1]:{port}", True),
        ("[*]:{port},![127.0.0.1]:{port}", False),
        ("128.*", False),
    ],
)
def test_host_name_patterns(operator: Operator, names: str, is_known: bool) -> None:
    operator.known_hosts.write_text(f"{names.format(port=operator.sshd.port)} {public(operator.sshd.host_key)}\n")
    if is_known:
        assert log_in(operator.spec()) == USER
    else:
        refusal(operator.spec())


def test_an_unauthorized_key(operator: Operator, tmp_path: Path) -> None:
    operator.sshd.authorized.write_text(public(make_key(tmp_path / "other")) + "\n")
    error = refusal(operator.spec())
    assert f"permission denied for {USER}@127.0.0.1 port {operator.sshd.port}: tried {operator.key}" in error.text
    assert "authorized_keys" in error.remedy


def test_no_key_at_all(operator: Operator) -> None:
    operator.key.unlink()
    assert "no key available" in refusal(operator.spec()).text


def test_a_key_readable_by_others_is_not_used(operator: Operator) -> None:
    operator.key.chmod(0o644)
    assert f"readable by others (run chmod 600 {operator.key})" in refusal(operator.spec()).text


def test_a_configured_key_that_does_not_exist(operator: Operator, tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'} cannot be read" in refusal(operator.spec(key=tmp_path / "none")).text


def test_a_key_configured_in_the_cluster_file(operator: Operator, tmp_path: Path) -> None:
    operator.key.rename(tmp_path / "mine")
    assert log_in(operator.spec(key=tmp_path / "mine")) == USER


@contextlib.contextmanager
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = Path("/tmp") / f"tercet-agent-{os.getpid()}-{time.monotonic_ns()}"  # socket paths have a length limit
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(scaled(10))
        path.unlink(missing_ok=True)


def add_to_agent(key: Path, passphrase: str) -> None:
    ask = key.with_name("ask")
    ask.write_text(f"#!/bin/sh\necho {passphrase}\n")
    ask.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, timeout=scaled(20), env=environment, stdin=subprocess.DEVNULL)


def test_an_encrypted_key_is_used_through_the_agent(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.key.unlink()
    Path(f"{operator.key}.pub").unlink()
    key = make_key(operator.key, passphrase="open sesame")
    operator.sshd.authorized.write_text(public(key) + "\n")
    assert f"{key} is encrypted and not in the agent (run ssh-add {key})" in refusal(operator.spec()).text
    with agent(tmp_path, monkeypatch):
        add_to_agent(key, "open sesame")
        assert log_in(operator.spec()) == USER
    assert f"ssh-add {key}" in refusal(operator.spec()).text, "an agent that has gone is no agent"


def test_the_configured_key_is_offered_first(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server accepts six attempts (MaxAuthTries); an agent may have more keys."""
    with agent(tmp_path, monkeypatch):
        for number in range(7):
            add_to_agent(make_key(tmp_path / f"other{number}"), "")
        add_to_agent(operator.key, "")
        assert log_in(operator.spec(key=operator.key)) == USER


def test_identities_only_limits_the_keys_to_files(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_key(tmp_path / "other")
    operator.configure(f"Host *\n  IdentitiesOnly yes\n  IdentityFile {other}\n  IdentityFile ~/.ssh/missing\n")
    with agent(tmp_path, monkeypatch):
        add_to_agent(operator.key, "")
        error = refusal(operator.spec())
    assert f"tried {other};" in str(error)


def test_the_ssh_configuration_is_used(operator: Operator, tmp_path: Path) -> None:
    operator.key.rename(tmp_path / "mine")
    operator.configure(
        f"Host kube-*\n  HostName 127.0.0.1\n  Port {operator.sshd.port}\n  User {USER}\n  IdentityFile {tmp_path / 'mine'}\n"
        f"  UserKnownHostsFile {tmp_path / 'known'}\n"
    )
    operator.known_hosts.rename(tmp_path / "known")
    assert log_in(HostSpec(name="node1", address="kube-node1")) == USER


def test_an_alias_and_another_configuration_file(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"Host front\n  HostName 127.0.0.1\n  Port {operator.sshd.port}\n")
    ssh = SshSettings(host="front", config=tmp_path / "config")
    assert log_in(HostSpec(name="node1", address="192.0.2.1", ssh=ssh)) == USER


def test_the_cluster_file_overrides_the_ssh_configuration(operator: Operator, tmp_path: Path) -> None:
    operator.configure("Host *\n  User nobody-of-this-name\n  Port 1\n")
    assert log_in(operator.spec(user=USER)) == USER
    assert "permission denied for nobody-of-this-name@127.0.0.1" in refusal(operator.spec()).text


def test_an_invalid_ssh_configuration(operator: Operator) -> None:
    operator.configure("Host *\n  Port twenty\n")
    assert re.search(r"\.ssh/config line 2: .*Port", refusal(HostSpec(name="node1", address="127.0.0.1")).text)


def test_through_a_proxy_command(operator: Operator, tmp_path: Path) -> None:
    relay = tmp_path / "relay"
    relay.write_text("exec 3<>/dev/tcp/$1/$2\ncat <&3 &\nexec cat >&3\n")
    operator.configure(f"Host node\n  HostName 127.0.0.1\n  ProxyCommand bash {relay} %h {operator.sshd.port}\n")
    operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
    assert log_in(HostSpec(name="node1", address="node")) == USER


@pytest.mark.parametrize("where", ["cluster file", "ssh's"])
def test_through_a_jump_host(operator: Operator, tmp_path: Path, where: str) -> None:
    """One login to the jump host serves all hosts behind it."""
    with running_sshd(tmp_path / "jump") as jump:
        jump.authorized.write_text(public(operator.key) + "\n")
        operator.known_hosts.write_text(operator.sshd.known_hosts_line + jump.known_hosts_line)
        operator.configure(
            f"Host bastion\n  HostName 127.0.0.1\n  Port {jump.port}\n"
            + ("Host *\n  ProxyJump bastion\n" if where == "ssh's" else "")
        )
        setting = {"jump": "bastion"} if where == "cluster file" else {}
        cluster = operator.cluster(*(operator.spec(f"node{number}", **setting) for number in (1, 2, 3)))

        async def scenario() -> list[bytes]:
            async with connected(cluster) as hosts:
                return [await host.check("true", step="try") for host in hosts.values() if isinstance(host, Host)]

        assert len(asyncio.run(scenario())) == 3
        assert jump.log().count("Accepted publickey") == 1


def test_an_unknown_jump_host_is_an_error(operator: Operator, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "jump") as jump:
        jump.authorized.write_text(public(operator.key) + "\n")
        spec = operator.spec(jump=f"{USER}@127.0.0.1:{jump.port}")
        error = refusal(spec)
        assert f"jump host {USER}@127.0.0.1:{jump.port}: unknown host key" in error.text
        assert fingerprint(jump.host_key) in error.text
        assert log_in(spec, accept_new=True) == USER


def test_a_host_that_the_jump_host_cannot_reach(operator: Operator) -> None:
    nowhere = free_port()
    spec = operator.spec(port=nowhere, jump=f"127.0.0.1:{operator.sshd.port}")
    assert f"cannot reach 127.0.0.1 port {nowhere} from there" in refusal(spec).text


def test_jump_hosts_in_a_loop(operator: Operator) -> None:
    operator.configure("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert "form a loop: a -> b -> a" in refusal(operator.spec(jump="a")).text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 22)"), "No route to host"),
        (
            OSError("Multiple exceptions: [Errno 113] Connect call failed ('::1', 22), [Errno 101] Network is unreachable"),
            "No route to host, Network is unreachable",
        ),
        (OSError("something else"), "something else"),
    ],
)
def test_asyncios_texts_are_replaced_by_the_systems(error: OSError, text: str) -> None:
    assert _os_reason(error) == text


def test_known_hosts_files_are_those_of_ssh(operator: Operator, tmp_path: Path) -> None:
    """ssh reads the system's file as well if another user's file is set."""
    system = tmp_path / "system"
    system.write_text(operator.known_hosts.read_text())
    operator.known_hosts.write_text("")
    config = tmp_path / "config"
    config.write_text(f"GlobalKnownHostsFile {system}\n")
    assert log_in(operator.spec(config=config, known_hosts=tmp_path / "empty")) == USER


def test_connection_refused(operator: Operator) -> None:
    port = free_port()
    assert refusal(operator.spec(port=port)).text == f"127.0.0.1 port {port}: connection refused"


def test_connection_timeout(operator: Operator) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        error = refusal(operator.spec(port=port, connect_timeout=0.3))
        assert error.text == f"no answer from 127.0.0.1 port {port} within 0.3 s"
        assert time.monotonic() - began < scaled(10)


def test_an_unknown_host_name(operator: Operator) -> None:
    assert refusal(operator.spec(address="no-such-host.invalid")).text == "cannot resolve host name no-such-host.invalid"


def test_a_server_that_is_not_sshd(operator: Operator) -> None:
    async def scenario() -> HostError:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            with pytest.raises(HostError) as raised:
                await connect(operator.spec(port=server.sockets[0].getsockname()[1]))
            return raised.value

    assert "closed the connection during login" in str(asyncio.run(scenario()))


def test_connection_lost_during_login(operator: Operator) -> None:
    async def scenario() -> HostError:
        async with wire_to(operator.sshd.port) as wire:
            wire.limit = 1500
            operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
            with pytest.raises(HostError) as raised:
                await connect(operator.spec(port=wire.port))
            return raised.value

    assert "closed the connection during login" in asyncio.run(scenario()).text


def test_one_of_three_hosts_is_unreachable(operator: Operator) -> None:
    specs = [operator.spec("node1"), operator.spec("node2", port=free_port()), operator.spec("node3")]

    async def scenario() -> dict[str, type]:
        async with connected(operator.cluster(*specs)) as hosts:
            assert list(hosts) == ["node1", "node2", "node3"]
            return {name: type(host) for name, host in hosts.items()}

    assert asyncio.run(scenario()) == {"node1": Host, "node2": HostError, "node3": Host}


def test_password_prompts_are_serialised(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    asking: list[str] = []

    async def ask(prompt: str) -> str:
        assert not asking
        asking.append(prompt)
        await asyncio.sleep(0.01)
        return asking.pop()

    async def scenario() -> list[str]:
        dialer = Dialer(ask_password=ask)
        assert dialer.ask_password is not None
        return await asyncio.gather(*(dialer.ask_password(f"node{number}: ") for number in range(3)))

    assert asyncio.run(scenario()) == ["node0: ", "node1: ", "node2: "]


def test_connecting_to_selected_hosts(operator: Operator) -> None:
    async def scenario() -> list[str]:
        async with connected(operator.cluster(operator.spec("node1"), operator.spec("node2")), names=["node2"]) as hosts:
            return list(hosts)

    assert asyncio.run(scenario()) == ["node2"]


def test_asyncssh_is_imported_without_compilers() -> None:
    """Its search for optional libraries would link programs with gcc and ld at the start of every command."""
    program = (
        "import sys; seen = []; sys.addaudithook(lambda name, arguments: seen.append(arguments[0]) "
        "if name == 'subprocess.Popen' else None); import tercet.deploy.ssh, ctypes.util; "
        "assert ctypes.util.find_library.__name__ == 'find_library'; "
        "print(*{str(program).rsplit('/', 1)[-1] for program in seen})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=scaled(60))
    assert set(done.stdout.split()) <= {"ldconfig"}
