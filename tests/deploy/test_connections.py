"""Logins as `ssh` would make them: host keys, keys, agents, configuration files, jump hosts; and each refusal in words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import HostSpec
from tercet.deploy.cluster.settings import SshSettings
from tercet.deploy.ssh.connections import Dialer, connect, connected
from tercet.deploy.ssh.login import _algorithms
from tercet.deploy.ssh.remote import Host, HostError
from tests.deploy.sshd import USER, Operator, fingerprint, make_key, public, running_sshd, wire_to
from tests.support.ports import free_port
from tests.support.waiting import scaled


def log_in(spec: HostSpec, *, accept_new: bool = False) -> str:
    """Connect, and who one is there."""

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


def test_a_known_host_and_ones_own_key(operator: Operator) -> None:
    assert log_in(operator.spec()) == USER


def test_an_unknown_host_is_refused_with_its_fingerprint(operator: Operator) -> None:
    operator.known_hosts.write_text("")
    error = refusal(operator.spec())
    assert f"[127.0.0.1]:{operator.sshd.port} shows the ED25519 key {fingerprint(operator.sshd.host_key)}" in error.text
    assert "--accept-new" in error.remedy
    assert operator.known_hosts.read_text() == ""


def test_an_unknown_host_is_asked_for_the_kind_of_key_that_ssh_would_show() -> None:
    kinds = _algorithms((), with_certificates=False)
    assert kinds[:2] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert len(kinds) == len(set(kinds))


def test_an_unknown_host_is_remembered_where_that_is_wished(operator: Operator) -> None:
    operator.known_hosts.write_text("other ssh-ed25519 AAAA")  # without an end of line, and no key at all
    assert log_in(operator.spec(), accept_new=True) == USER
    assert operator.known_hosts.read_text() == "other ssh-ed25519 AAAA\n" + operator.sshd.known_hosts_line
    assert log_in(operator.spec()) == USER


def test_the_file_of_known_hosts_is_made_for_its_owner_alone(operator: Operator) -> None:
    operator.known_hosts.unlink()
    assert log_in(operator.spec(), accept_new=True) == USER
    assert operator.known_hosts.stat().st_mode & 0o777 == 0o600


def test_names_are_hashed_where_the_file_hashes_them(operator: Operator) -> None:
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
def test_another_key_than_the_known_one_is_always_refused(operator: Operator, tmp_path: Path, accept_new: bool) -> None:
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


def test_a_key_of_another_kind_counts_as_changed(operator: Operator, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other", kind="ecdsa")
    operator.known_hosts.write_text(f"[127.0.0.1]:{operator.sshd.port} {public(other)}\n")
    assert "THE HOST KEY HAS CHANGED" in refusal(operator.spec(), accept_new=True).text


def test_a_revoked_key_is_refused(operator: Operator) -> None:
    operator.known_hosts.write_text(f"{operator.sshd.known_hosts_line}@revoked * {public(operator.sshd.host_key)}\n")
    assert "revoked" in refusal(operator.spec(), accept_new=True).text


def test_a_key_known_without_the_port_will_do(operator: Operator) -> None:
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
def test_patterns_of_names(operator: Operator, names: str, is_known: bool) -> None:
    operator.known_hosts.write_text(f"{names.format(port=operator.sshd.port)} {public(operator.sshd.host_key)}\n")
    if is_known:
        assert log_in(operator.spec()) == USER
    else:
        refusal(operator.spec())


def test_a_key_that_is_not_authorized(operator: Operator, tmp_path: Path) -> None:
    operator.sshd.authorized.write_text(public(make_key(tmp_path / "other")) + "\n")
    error = refusal(operator.spec())
    assert f"permission denied for {USER}@127.0.0.1 port {operator.sshd.port}: tried {operator.key}" in error.text
    assert "authorized_keys" in error.remedy


def test_no_key_at_all(operator: Operator) -> None:
    operator.key.unlink()
    assert "there was no key to try" in refusal(operator.spec()).text


def test_a_key_that_others_can_read_is_not_used(operator: Operator) -> None:
    operator.key.chmod(0o644)
    assert f"others can read it (chmod 600 {operator.key})" in refusal(operator.spec()).text


def test_a_key_that_is_named_and_is_not_there(operator: Operator, tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'} cannot be read" in refusal(operator.spec(key=tmp_path / "none")).text


def test_a_key_that_is_named_in_the_cluster_file(operator: Operator, tmp_path: Path) -> None:
    operator.key.rename(tmp_path / "mine")
    assert log_in(operator.spec(key=tmp_path / "mine")) == USER


@contextlib.contextmanager
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = Path("/tmp") / f"tercet-agent-{os.getpid()}-{time.monotonic_ns()}"  # sockets' paths are short
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
    assert f"{key} is encrypted and the agent does not have it (ssh-add {key})" in refusal(operator.spec()).text
    with agent(tmp_path, monkeypatch):
        add_to_agent(key, "open sesame")
        assert log_in(operator.spec()) == USER
    assert f"ssh-add {key}" in refusal(operator.spec()).text, "an agent that has gone is no agent"


def test_the_named_key_comes_first_of_many(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server hears six keys (MaxAuthTries); an agent may have more."""
    with agent(tmp_path, monkeypatch):
        for number in range(7):
            add_to_agent(make_key(tmp_path / f"other{number}"), "")
        add_to_agent(operator.key, "")
        assert log_in(operator.spec(key=operator.key)) == USER


def test_only_the_files_keys_where_ssh_is_told_so(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_key(tmp_path / "other")
    operator.configure(f"Host *\n  IdentitiesOnly yes\n  IdentityFile {other}\n  IdentityFile ~/.ssh/missing\n")
    with agent(tmp_path, monkeypatch):
        add_to_agent(operator.key, "")
        error = refusal(operator.spec())
    assert f"tried {other};" in str(error)


def test_what_ssh_reads_we_read(operator: Operator, tmp_path: Path) -> None:
    operator.key.rename(tmp_path / "mine")
    operator.configure(
        f"Host kube-*\n  HostName 127.0.0.1\n  Port {operator.sshd.port}\n  User {USER}\n  IdentityFile {tmp_path / 'mine'}\n"
        f"  UserKnownHostsFile {tmp_path / 'known'}\n"
    )
    operator.known_hosts.rename(tmp_path / "known")
    assert log_in(HostSpec(name="node1", address="kube-node1")) == USER


def test_an_alias_to_dial_and_another_configuration(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"Host front\n  HostName 127.0.0.1\n  Port {operator.sshd.port}\n")
    ssh = SshSettings(host="front", config=tmp_path / "config")
    assert log_in(HostSpec(name="node1", address="192.0.2.1", ssh=ssh)) == USER


def test_the_cluster_file_wins_over_sshs(operator: Operator, tmp_path: Path) -> None:
    operator.configure("Host *\n  User nobody-of-this-name\n  Port 1\n")
    assert log_in(operator.spec(user=USER)) == USER
    assert "permission denied for nobody-of-this-name@127.0.0.1" in refusal(operator.spec()).text


def test_a_configuration_that_cannot_be_read(operator: Operator) -> None:
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
    """One login to the jump host serves all the hosts behind it."""
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


def test_a_jump_host_that_is_not_known_is_named(operator: Operator, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "jump") as jump:
        jump.authorized.write_text(public(operator.key) + "\n")
        spec = operator.spec(jump=f"{USER}@127.0.0.1:{jump.port}")
        error = refusal(spec)
        assert f"jump host {USER}@127.0.0.1:{jump.port}: the host key is not known" in error.text
        assert fingerprint(jump.host_key) in error.text
        assert log_in(spec, accept_new=True) == USER


def test_a_host_that_the_jump_host_cannot_reach(operator: Operator) -> None:
    nowhere = free_port()
    spec = operator.spec(port=nowhere, jump=f"127.0.0.1:{operator.sshd.port}")
    assert f"cannot reach 127.0.0.1 port {nowhere} from there" in refusal(spec).text


def test_jump_hosts_in_a_circle(operator: Operator) -> None:
    operator.configure("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert "in a circle: a to b to a" in refusal(operator.spec(jump="a")).text


def test_nobody_listens(operator: Operator) -> None:
    port = free_port()
    assert refusal(operator.spec(port=port)).text == f"127.0.0.1 port {port} refuses the connection"


def test_nobody_answers(operator: Operator) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        error = refusal(operator.spec(port=port, connect_timeout=0.3))
        assert error.text == f"no answer from 127.0.0.1 port {port} within 0.3 s"
        assert time.monotonic() - began < 2


def test_a_name_that_is_none(operator: Operator) -> None:
    assert refusal(operator.spec(address="no-such-host.invalid")).text == "there is no host named no-such-host.invalid"


def test_something_else_than_sshd(operator: Operator) -> None:
    async def scenario() -> HostError:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            with pytest.raises(HostError) as raised:
                await connect(operator.spec(port=server.sockets[0].getsockname()[1]))
            return raised.value

    assert "closed the connection during the login" in str(asyncio.run(scenario()))


def test_cut_off_in_the_login(operator: Operator) -> None:
    async def scenario() -> HostError:
        async with wire_to(operator.sshd.port) as wire:
            wire.limit = 1500
            operator.known_hosts.write_text(f"127.0.0.1 {public(operator.sshd.host_key)}\n")
            with pytest.raises(HostError) as raised:
                await connect(operator.spec(port=wire.port))
            return raised.value

    assert "closed the connection during the login" in asyncio.run(scenario()).text


def test_three_hosts_of_which_one_is_not_there(operator: Operator) -> None:
    specs = [operator.spec("node1"), operator.spec("node2", port=free_port()), operator.spec("node3")]

    async def scenario() -> dict[str, type]:
        async with connected(operator.cluster(*specs)) as hosts:
            assert list(hosts) == ["node1", "node2", "node3"]
            return {name: type(host) for name, host in hosts.items()}

    assert asyncio.run(scenario()) == {"node1": Host, "node2": HostError, "node3": Host}


def test_passwords_are_asked_for_one_after_the_other(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_only_some_of_the_hosts(operator: Operator) -> None:
    async def scenario() -> list[str]:
        async with connected(operator.cluster(operator.spec("node1"), operator.spec("node2")), names=["node2"]) as hosts:
            return list(hosts)

    assert asyncio.run(scenario()) == ["node2"]
