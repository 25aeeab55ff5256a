"""Import of an environment.sh, the file in which manual deployments keep names and addresses.

    export NODE_IPS=(172.27.129.105 172.27.129.111 172.27.129.112)
    export NODE_NAMES=(kube-node1 kube-node2 kube-node3)
    export ETCD_NODES="kube-node1=https://172.27.129.105:2380,..."

The arrays may contain hosts without a member; ETCD_NODES then lists the members. Contradictions are errors, since it is unknown
which of the values the hosts use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tercet.deploy.cluster.field_types import check_address, check_host_path, check_name, check_own_directory
from tercet.deploy.cluster.server_facts import parse_urls
from tercet.deploy.draft.draft import Draft
from tercet.deploy.draft.member_list import MemberList, check_unique, parse_member_list
from tercet.deploy.draft.shell_assignments import Script, read_script
from tercet.errors import ConfigError

Value = TypeVar("Value")
_IPS, _NAMES, _MEMBERS, _ENDPOINTS = "NODE_IPS", "NODE_NAMES", "ETCD_NODES", "ETCD_ENDPOINTS"
_DIRECTORIES = {"ETCD_DATA_DIR": "data", "ETCD_WAL_DIR": "wal", "ETCD_CERT_DIR": "certificates"}
_READ = {_IPS, _NAMES, _MEMBERS, _ENDPOINTS, "PATH", *_DIRECTORIES}
_NAMES_SHOWN_MAX = 30
_SYSTEM_BIN = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def read_environment(path: Path) -> tuple[Draft, Script]:
    """The settings of etcd in the file, and all its variables. Raises ConfigError with file, line and variable."""
    script = read_script(path)
    draft = Draft(hosts=_hosts(script))
    members = _members(script)
    if members is not None:
        _take_members(members, draft, script)
    if not draft.hosts:
        raise ConfigError(
            f"{path}: no hosts: neither {_IPS} and {_NAMES} nor {_MEMBERS} is assigned. "
            f'Expected lines such as {_IPS}=(10.0.0.1 10.0.0.2 10.0.0.3), or {_MEMBERS}="node1=https://10.0.0.1:2380,..."'
        )
    _take_endpoints(draft, script)
    _take_directories(draft, script)
    _note_other_variables(draft, script)
    return draft, script


def _checked(script: Script, name: str, check: Callable[[str], Value], given: str) -> Value:
    try:
        return check(given)
    except ValueError as error:
        raise ConfigError(f"{script.where(name)}: {error}") from error


def _hosts(script: Script) -> list[tuple[str, str]]:
    """From the two arrays, paired by position."""
    addresses, names = script.array(_IPS), script.array(_NAMES)
    if not addresses and not names:
        return []
    if len(addresses) != len(names):
        if not addresses or not names:
            there, missing = (_IPS, _NAMES) if addresses else (_NAMES, _IPS)
            raise ConfigError(f"{script.where(there)}: has {len(addresses or names)} entries, but {missing} has none")
        line = script.variables[_IPS].line
        raise ConfigError(
            f"{script.where(_NAMES)}: has {len(names)} entries, but {_IPS} (line {line}) has {len(addresses)}; "
            f"they are paired by position and must have the same length"
        )
    hosts = [
        (_checked(script, _NAMES, check_name, name), _checked(script, _IPS, check_address, address))
        for name, address in zip(names, addresses, strict=True)
    ]
    _checked(script, _NAMES, lambda _: check_unique(names, "name"), "")
    _checked(script, _IPS, lambda _: check_unique(addresses, "address"), "")
    return hosts


def _members(script: Script) -> MemberList | None:
    text = script.text(_MEMBERS)
    return _checked(script, _MEMBERS, parse_member_list, text) if text else None


def _take_members(members: MemberList, draft: Draft, script: Script) -> None:
    known = dict(draft.hosts)
    for name, address in members.hosts:
        if known and name not in known:
            raise ConfigError(f"{script.where(_MEMBERS)}: {name} is not in {_NAMES}; correct one of them")
        if known and known[name] != address:
            raise ConfigError(
                f"{script.where(_MEMBERS)}: {name} has address {address}, but {known[name]} in {_IPS}; correct one of them"
            )
    others = [name for name in known if name not in dict(members.hosts)]
    if others:
        draft.note(f"Not members: {', '.join(others)} (in {_NAMES}, but not in {_MEMBERS}).")
    draft.hosts = list(members.hosts)
    if members.peer_port != 2380:
        draft.set("listen", "peer_port", members.peer_port)
    if not members.is_secure:
        draft.set("tls", "enabled", False)
        draft.note(f"TLS is disabled, since {_MEMBERS} has http:// URLs; set tls.enabled: true to enable it.")


def _take_endpoints(draft: Draft, script: Script) -> None:
    text = script.text(_ENDPOINTS)
    if not text:
        return
    urls = _checked(script, _ENDPOINTS, parse_urls, text)
    unknown = [url.text for url in urls if url.host not in dict(draft.hosts).values()]
    if unknown:
        draft.note(f"{_ENDPOINTS} has addresses of no member: {', '.join(unknown)}.")
    ports = sorted({url.port for url in urls})
    if len(ports) > 1:
        raise ConfigError(
            f"{script.where(_ENDPOINTS)}: has the ports {', '.join(map(str, ports))}; all members must use the same port"
        )
    if ports != [2379]:
        draft.set("listen", "client_port", ports[0])


def _take_directories(draft: Draft, script: Script) -> None:
    for variable, name in _DIRECTORIES.items():
        text = script.text(variable)
        if text:
            draft.set("paths", name, _checked(script, variable, check_own_directory, text))
    first = _first_on_path(script)
    if first:
        draft.set("paths", "bin", _checked(script, "PATH", check_host_path, first))


def _first_on_path(script: Script) -> str:
    """The directory of the programs, from PATH=/opt/k8s/bin:$PATH; "" if PATH starts with a system directory."""
    variable = script.variables.get("PATH")
    value = variable.values[0] if variable is not None and variable.values else None
    first, colon, _ = value.known.partition(":") if value is not None else ("", "", "")
    return first if colon and first not in _SYSTEM_BIN else ""


def _note_other_variables(draft: Draft, script: Script) -> None:
    """By name only: other values may be secrets."""
    others = [name for name in script.variables if name not in _READ]
    if others:
        shown = ", ".join(others[:_NAMES_SHOWN_MAX]) + (", ..." if len(others) > _NAMES_SHOWN_MAX else "")
        draft.note(f"Not imported from {script.path.name}: {shown}.")
    sourced = [str(line) for line, word in script.commands.items() if word in (".", "source")]
    if sourced:
        draft.note(f"{script.path.name} sources other files (line {', '.join(sourced)}), which were not read.")
