"""A cluster file from the systemd unit of an etcd member, or from the template that such units are made of.

One unit tells of all members, through --initial-cluster; what it says of itself (name, address) each of them has of its own.
In a template ##NODE_NAME## and ##NODE_IP## stand for these. What a cluster file cannot say becomes a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tercet.deploy.cluster.engine_flags import UnfitFlag, check_name, check_value
from tercet.deploy.cluster.field_types import check_own_directory, check_unit
from tercet.deploy.draft.command_flags import CommandFlags, other_variables, read_flags, shown
from tercet.deploy.draft.draft import Draft
from tercet.deploy.draft.member_list import MemberList, parse_member_list
from tercet.deploy.draft.unit_listeners import take_listeners
from tercet.deploy.draft.unit_reading import PLACEHOLDER, Entry, Unit, fill_in, read_unit, split_words, unknown_variable
from tercet.deploy.draft.unit_service import take_service
from tercet.errors import ConfigError

_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh"))
_DEFAULT_QUOTA = 2 << 30
_LINKS_BELONG_TO_THE_SYSTEM = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")


def read_unit_of_etcd(path: Path, variables: Mapping[str, str] | None = None) -> Draft:
    """variables: what ${NAME} in the unit stands for beside its own Environment=. Raises ConfigError with file and line."""
    unit = read_unit(path)
    command = _command(unit)
    own = _environment(unit)
    words = _words(unit, command, {**(variables or {}), **own})
    draft = Draft()
    program = _program(unit, command, words)
    _take_program(program, draft)
    flags = read_flags(words[1:], own)
    _refuse_unknown(unit, command, flags)
    members = _take_members(unit, command, flags, draft)
    take_listeners(flags, members, draft, f"{unit.path}:{command.line}")
    _take_tls(flags, draft)
    _take_paths(unit, command, flags, draft)
    _take_store(flags, draft)
    take_service(unit, draft)
    _take_unit_name(unit, draft)
    _take_other_flags(flags, draft)
    _note_environment(unit, own, draft)
    return draft


def _command(unit: Unit) -> Entry:
    commands = unit.all("Service", "ExecStart")
    if not commands:
        raise ConfigError(f"{unit.path}: has no ExecStart= under [Service]; this is no unit of a member")
    if len(commands) > 1:
        raise ConfigError(f"{unit.path}:{commands[1].line}: a second ExecStart=; one command must run the member")
    return commands[0]


def _environment(unit: Unit) -> dict[str, str]:
    variables: dict[str, str] = {}
    for entry in unit.all("Service", "Environment"):
        try:
            words = split_words(entry.value)
        except ValueError as error:
            raise ConfigError(f"{unit.path}:{entry.line}: Environment: {error}") from error
        for word in words:
            name, _, value = word.partition("=")
            variables[name] = value.replace("%%", "%")
    return variables


def _words(unit: Unit, command: Entry, variables: Mapping[str, str]) -> list[str]:
    try:
        words = fill_in(split_words(command.value), variables)
    except ValueError as error:
        raise ConfigError(f"{unit.path}:{command.line}: ExecStart: {error}") from error
    prefix = re.match(r"[@:+!-]*", words[0]) if words else None
    if not words or prefix is None or not words[0][prefix.end() :]:
        raise ConfigError(f"{unit.path}:{command.line}: ExecStart: names no program")
    words[0] = words[0][prefix.end() :]
    if "@" in prefix[0]:
        del words[1:2]  # the name that the program is to see as its own
    return words


def _program(unit: Unit, command: Entry, words: list[str]) -> PurePosixPath:
    program = PurePosixPath(words[0])
    if program.name in _SHELLS:
        raise ConfigError(
            f"{unit.path}:{command.line}: ExecStart: runs the shell {program}, whose script is not interpreted; "
            f"write etcd's own command there, as in ExecStart=/usr/local/bin/etcd --name=... and import that"
        )
    if program.name == "env":
        raise ConfigError(
            f"{unit.path}:{command.line}: ExecStart: runs {program}; write etcd's own command there and import that"
        )
    return program


def _take_program(program: PurePosixPath, draft: Draft) -> None:
    draft.set("engine", "kind", "tercet" if program.name == "tercet" else "etcd")
    if program.name not in ("etcd", "tercet"):
        draft.note(f"The unit runs {program}, which is taken for etcd.")
    directory = str(program.parent)
    is_release = program.parts[-3:-1] == ("current", "bin")  # made by a deployment like this one
    is_foreign = directory in _LINKS_BELONG_TO_THE_SYSTEM or bool(PLACEHOLDER.search(directory))
    if program.is_absolute() and not is_release and not is_foreign:
        draft.set("paths", "bin", directory)


def _refuse_unknown(unit: Unit, command: Entry, flags: CommandFlags) -> None:
    """A variable that is set elsewhere would be taken for text."""
    for name, text in flags.values.items():
        unknown = unknown_variable(text)
        if unknown:
            files = [entry.value.lstrip("-") for entry in unit.all("Service", "EnvironmentFile")]
            where = f" (perhaps {', '.join(files)} on the host does)" if files else ""
            raise ConfigError(
                f"{unit.path}:{command.line}: ExecStart: {shown(name, text)}: the unit does not set {unknown}{where}; "
                f"write the value there, or import the environment.sh that sets it together with the unit"
            )


def _take_members(unit: Unit, command: Entry, flags: CommandFlags, draft: Draft) -> MemberList | None:
    text = flags.take("initial-cluster")
    name = flags.take("name")
    token = flags.take("initial-cluster-token")
    if token and not PLACEHOLDER.search(token):
        draft.set("", "token", token)
    flags.take("initial-cluster-state")
    if not text or PLACEHOLDER.search(text):
        return None
    try:
        members = parse_member_list(text)
    except ValueError as error:
        raise ConfigError(f"{unit.path}:{command.line}: ExecStart: --initial-cluster: {error}") from error
    names = [member for member, _ in members.hosts]
    if name and not PLACEHOLDER.search(name) and name not in names:
        raise ConfigError(
            f"{unit.path}:{command.line}: ExecStart: --name={name} is not in --initial-cluster ({', '.join(names)})"
        )
    draft.hosts = list(members.hosts)
    return members


def _take_tls(flags: CommandFlags, draft: Draft) -> None:
    files = {name: flags.take(name) for name in ("cert-file", "key-file", "peer-cert-file", "peer-key-file")}
    authorities = {name: flags.take(name) for name in ("trusted-ca-file", "peer-trusted-ca-file")}
    asks = {name: flags.take(name) for name in ("client-cert-auth", "peer-client-cert-auth")}
    if draft.settings.get("tls", {}).get("enabled") is False:
        return
    certificate, ca = files["cert-file"] or files["peer-cert-file"], authorities["trusted-ca-file"]
    directory = str(PurePosixPath(certificate).parent)
    if certificate:
        draft.set("paths", "certificates", directory)
    if ca and ca != f"{directory}/ca.pem":
        draft.set("paths", "ca", ca)
    elsewhere = [path for path in files.values() if path and str(PurePosixPath(path).parent) != directory]
    if elsewhere:
        draft.note(
            f"Certificates and keys are all kept in {directory}, also those that the unit has elsewhere ({elsewhere[0]})."
        )
    if certificate and files["cert-file"] == files["peer-cert-file"]:
        draft.set("tls", "shared", True)
        draft.note(
            "tls.shared: the unit uses one certificate for clients and peers. With false each host and role has its own."
        )
    if authorities["peer-trusted-ca-file"] not in ("", ca):
        other = authorities["peer-trusted-ca-file"]
        draft.note(f"One authority signs for clients and peers; the unit has another one for peers ({other}).")
    if ca:
        draft.note(
            f"The hosts trust {ca}. To go on with that authority name its certificate and key under tls.ca_certificate and "
            f"tls.ca_key; otherwise a new one is made, and clients need certificates of it."
        )
    # Naming an authority makes etcd ask for certificates, also without the other flag.
    lax = [
        who for who in ("", "peer-") if asks[who + "client-cert-auth"] != "true" and not authorities[who + "trusted-ca-file"]
    ]
    if certificate and lax:
        names = " and ".join("peers" if who else "clients" for who in lax)
        draft.note(f"The unit asks no certificate of {names}; the members set up from here do.")


def _take_paths(unit: Unit, command: Entry, flags: CommandFlags, draft: Draft) -> None:
    work = unit.last("Service", "WorkingDirectory").lstrip("-")
    for name, flag in (("data", "data-dir"), ("wal", "wal-dir")):
        text = flags.take(flag)
        if text and not PLACEHOLDER.search(text):
            text = str(PurePosixPath(work or "/", text))
            draft.set("paths", name, _directory(unit, command.line, f"ExecStart: --{flag}", text))
        elif text:
            draft.note(f"--{flag}={text} differs between the hosts; all have one directory, see paths.{name}.")
    if work and not work.startswith("~") and not PLACEHOLDER.search(work):
        line = unit.all("Service", "WorkingDirectory")[-1].line
        directory = _directory(unit, line, "WorkingDirectory", work)
        if directory != draft.settings.get("paths", {}).get("data", "/var/lib/etcd"):
            draft.set("paths", "work", directory)


def _directory(unit: Unit, line: int, name: str, text: str) -> str:
    try:
        return check_own_directory(text)
    except ValueError as error:
        raise ConfigError(f"{unit.path}:{line}: {name}: {error}") from error


def _take_store(flags: CommandFlags, draft: Draft) -> None:
    quota = flags.take("quota-backend-bytes")
    if quota.lstrip("-").isdigit() and int(quota) < 0:
        draft.note("The unit turns the quota off, which no cluster file does; the default counts.")
    elif quota.isdigit():
        draft.set("", "quota_backend_bytes", int(quota) or _DEFAULT_QUOTA)
    mode, retention = flags.take("auto-compaction-mode"), flags.take("auto-compaction-retention")
    if mode and mode != "periodic":
        draft.set("", "auto_compaction_mode", mode)
    if retention:
        draft.set("", "auto_compaction_retention", retention)
    else:
        if mode == "revision":
            draft.set("", "auto_compaction_retention", "0")
        else:
            draft.note("The unit keeps all history for ever; here auto_compaction_retention has its default.")


def _take_unit_name(unit: Unit, draft: Draft) -> None:
    """etcd.service, etcd.service.template, etcd-172.27.129.105.service and etcd-kube-node1.service are all `etcd`."""
    name = unit.path.name.partition(".service")[0]
    for host in draft.hosts:
        for part in host:
            name = name.removesuffix(f"-{part}").removesuffix(f"@{part}")
    try:
        name = check_unit(PLACEHOLDER.sub("", name).rstrip("@-"))
    except ValueError:
        return
    if name != "etcd":
        draft.set("service", "unit", name)


def _take_other_flags(flags: CommandFlags, draft: Draft) -> None:
    kind = str(draft.settings["engine"]["kind"])
    for name, text in flags.values.items():
        try:
            check_name(name, engine=kind)
            if PLACEHOLDER.search(text):
                raise UnfitFlag("differs between the hosts; write it under their own flags")
            check_value(name, text)
        except UnfitFlag as unfit:
            draft.note(f"Left out: {shown(name, text)} ({unfit}).")
        else:
            draft.flags[name] = text
    for stranger in flags.strangers:
        draft.note(f"Left out: {stranger} (no flag of etcd).")


def _note_environment(unit: Unit, variables: Mapping[str, str], draft: Draft) -> None:
    for entry in unit.all("Service", "EnvironmentFile"):
        path = entry.value.lstrip("-")
        draft.note(f"{path} is on the hosts and was not read: what it sets as ETCD_... is missing here.")
    others = other_variables(variables)
    if others:
        draft.note(f"Not taken over from Environment=: {', '.join(others)}; a drop-in of the unit can set them.")
