"""Resolve a host to connection parameters: the cluster file's SSH settings over ~/.ssh/config and /etc/ssh/ssh_config.

The cluster file takes precedence, like an option on ssh's command line, and may name another configuration file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import asyncssh

from tercet.deploy.cluster.settings import SshSettings
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.known_hosts import KnownHosts

# Default for ServerAliveInterval and ServerAliveCountMax: a dead connection is detected after 45 s.
_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 15, 3


@dataclass(frozen=True)
class Target:
    """The destination of an SSH connection.

    name: as given; host: after HostName; known_as: name in known_hosts. jumps: jump hosts in order. key_files: configured ones,
    without ssh's defaults. only_files: IdentitiesOnly. has_host_key_algorithms: HostKeyAlgorithms is configured.
    """

    name: str
    host: str
    port: int
    user: str
    options: asyncssh.SSHClientConnectionOptions
    known_hosts: KnownHosts
    known_as: str
    jumps: tuple[str, ...]
    key_files: tuple[Path, ...]
    agent_path: str
    only_files: bool
    has_host_key_algorithms: bool

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f" port {self.port}" if self.port != 22 else "")


def resolve(name: str, ssh: SshSettings, *, host: str) -> Target:
    """The destination of `ssh NAME`. host: the member, for errors. Raises HostError for unreadable ssh configuration."""
    try:
        options = asyncssh.SSHClientConnectionOptions(
            config=[str(path) for path in _config_files(ssh)],
            host=name,
            port=ssh.port if ssh.port is not None else (),
            username=ssh.user if ssh.user is not None else (),
            connect_timeout=ssh.connect_timeout,
            **_DISABLED,
        )
    except (asyncssh.ConfigParseError, asyncssh.Error, OSError, ValueError) as error:
        raise HostError(host, "connect", f"invalid ssh configuration: {error}") from error
    config = cast("Mapping[str, Any]", _Configured(options))
    if config["ServerAliveInterval"] is None:
        options.keepalive_interval, options.keepalive_count_max = _KEEPALIVE_SECONDS, _KEEPALIVE_COUNT
    return Target(
        name=name,
        host=options.host,
        port=options.port,
        user=options.username,
        options=options,
        known_hosts=KnownHosts(_known_hosts_files(ssh, config)),
        known_as=config["HostKeyAlias"] or options.host,
        jumps=_jumps(ssh.jump or config["ProxyJump"]),
        key_files=_key_files(ssh, config),
        agent_path=_agent_path(config),
        only_files=bool(config["IdentitiesOnly"]),
        has_host_key_algorithms=config["HostKeyAlgorithms"] is not None,
    )


def resolve_jump(text: str, ssh: SshSettings, *, host: str) -> Target:
    """A jump host, [user@]host[:port] or ssh://...; it uses the key and the files of the target host."""
    user, name, port = _split(text.removeprefix("ssh://").rstrip("/"))
    return resolve(name, replace(ssh, host=None, jump=None, user=user, port=port), host=host)


# Keys are loaded by `identities`; the other options would change the command's environment or prompt.
_DISABLED: dict[str, Any] = {
    "client_keys": None,
    "agent_path": None,
    "pkcs11_provider": None,
    "password_auth": False,
    "kbdint_auth": False,
    "gss_kex": False,
    "gss_auth": False,
    "x11_forwarding": False,
    "agent_forwarding": False,
    "request_pty": False,
    "command": None,
    "env": {},
    "send_env": [],
    "encoding": None,
}


class _Configured:
    """Values of the ssh configuration by keyword; None if not set."""

    def __init__(self, options: asyncssh.SSHClientConnectionOptions) -> None:
        self._options = options

    def __getitem__(self, keyword: str) -> object:
        return self._options.config.get(keyword)


def _config_files(ssh: SshSettings) -> Sequence[Path]:
    if ssh.config is not None:
        return [ssh.config.expanduser()]
    usual = [Path.home() / ".ssh" / "config", Path("/etc/ssh/ssh_config")]
    return [path for path in usual if os.access(path, os.R_OK)]


def _known_hosts_files(ssh: SshSettings, config: Mapping[str, Any]) -> list[Path]:
    """The user's files, then the system's, as ssh reads them; `ssh.known_hosts` replaces the user's."""
    home = Path.home() / ".ssh"
    configured = [ssh.known_hosts] if ssh.known_hosts is not None else config["UserKnownHostsFile"] or ()
    users = [Path(file).expanduser() for file in configured] or [home / "known_hosts", home / "known_hosts2"]
    system = config["GlobalKnownHostsFile"] or ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    return [*users, *map(Path, system)]


def _key_files(ssh: SshSettings, config: Mapping[str, Any]) -> tuple[Path, ...]:
    """From the cluster file, even if missing (reported at login); then existing ones from ssh's configuration."""
    named = [ssh.key.expanduser()] if ssh.key is not None else []
    configured = [Path(text).expanduser() for text in config["IdentityFile"] or ()]
    return (*named, *(path for path in configured if path.exists() and path not in named))


def _agent_path(config: Mapping[str, Any]) -> str:
    path = config["IdentityAgent"]
    if path is None or path == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    return "" if path == "none" else str(Path(str(path)).expanduser())


def _jumps(text: str | None) -> tuple[str, ...]:
    if text is None or text.lower() == "none":
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _split(text: str) -> tuple[str | None, str, int | None]:
    """user@host:port, user@[v6]:port, each part but the host optional."""
    user, at, rest = text.rpartition("@")
    if rest.startswith("["):
        name, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif rest.count(":") == 1:
        name, _, port = rest.partition(":")
    else:
        name, port = rest, ""
    return (user if at else None), name, (int(port) if port.isdigit() else None)
