"""Import of the systemd unit of an etcd member, or of a template for such units.

--initial-cluster in the unit lists all members; name and address are specific to each host. In a template, ##NODE_NAME## and
##NODE_IP## are placeholders for these. Settings that a cluster file cannot express become notes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tercet.deploy.cluster.command_flags import CommandFlags, other_variables, read_flags, shown
from tercet.deploy.cluster.engine_flags import InvalidFlag, check_name, check_value
from tercet.deploy.cluster.field_types import check_own_directory, check_unit
from tercet.deploy.draft.draft import Draft
from tercet.deploy.draft.member_list import MemberList, parse_member_list
from tercet.deploy.draft.unit_listeners import take_listeners
from tercet.deploy.draft.unit_reading import PLACEHOLDER, Entry, Unit, fill_in, read_unit, split_words, unknown_variable
from tercet.deploy.draft.unit_service import take_service
from tercet.errors import ConfigError

_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh"))
_DEFAULT_QUOTA = 2 << 30
_SYSTEM_BIN = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")


def read_unit_of_etcd(path: Path, variables: Mapping[str, str] | None = None) -> Draft:
    """variables: values for ${NAME} in addition to the unit's Environment=. Raises ConfigError with file and line."""
    return draft_of_unit(read_unit(path), variables)


def draft_of_unit(unit: Unit, variables: Mapping[str, str] | None = None) -> Draft:
    """As `read_unit_of_etcd`, of a unit that has been read."""
    command = _command(unit)
    own = _environment(unit)
    words = _words(unit, command, {**(variables or {}), **own})
    draft = Draft()
    program = _program(unit, command, words)
    _take_program(program, draft)
    flags = read_flags(words[1:], own)
    _reject_unknown_variables(unit, command, flags)
    members = _take_members(unit, command, flags, draft)
    take_listeners(flags, members, draft, f"{unit.path}:{command.line}")
    _take_tls(flags, draft)
    _take_paths(unit, command, flags, draft)
    is_running = bool(draft.hosts) and not PLACEHOLDER.search(command.value)
    _take_store(flags, draft, is_running=is_running)
    take_service(unit, draft, is_running=is_running and ".service" in unit.path.name)  # an etcd.env has no unit to keep
    if is_running:
        draft.set("", "adopted", not _is_release(program))
        draft.set("backups", "enabled", False)
        draft.note("No snapshots are taken on the hosts; backups.enabled: true is recommended.")
    _take_unit_name(unit, draft)
    _take_other_flags(flags, draft)
    _note_environment(unit, own, draft)
    return draft


def _command(unit: Unit) -> Entry:
    commands = unit.all("Service", "ExecStart")
    if not commands:
        raise ConfigError(f"{unit.path}: no ExecStart= in [Service]; not the unit of a member")
    if len(commands) > 1:
        raise ConfigError(f"{unit.path}:{commands[1].line}: second ExecStart=; exactly one is supported")
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
        raise ConfigError(f"{unit.path}:{command.line}: ExecStart: no program")
    words[0] = words[0][prefix.end() :]
    if "@" in prefix[0]:
        del words[1:2]  # argv[0] of the program
    return words


def _program(unit: Unit, command: Entry, words: list[str]) -> PurePosixPath:
    program = PurePosixPath(words[0])
    if program.name in _SHELLS:
        raise ConfigError(
            f"{unit.path}:{command.line}: ExecStart: runs the shell {program}, whose script is not parsed; "
            f"replace it with etcd's command line, as in ExecStart=/usr/local/bin/etcd --name=..., before the import"
        )
    if program.name == "env":
        raise ConfigError(
            f"{unit.path}:{command.line}: ExecStart: runs {program}; replace it with etcd's command line before the import"
        )
    return program


def _take_program(program: PurePosixPath, draft: Draft) -> None:
    draft.set("engine", "kind", "tercet" if program.name == "tercet" else "etcd")
    if program.name not in ("etcd", "tercet"):
        draft.note(f"The unit runs {program}, which is assumed to be etcd.")
    directory = str(program.parent)
    is_foreign = directory in _SYSTEM_BIN or bool(PLACEHOLDER.search(directory))
    if program.is_absolute() and not _is_release(program) and not is_foreign:
        draft.set("paths", "bin", directory)


def _is_release(program: PurePosixPath) -> bool:
    """Whether tercet deploy has installed it."""
    return program.parts[-3:-1] == ("current", "bin")


def _reject_unknown_variables(unit: Unit, command: Entry, flags: CommandFlags) -> None:
    """Reject flags with variables that are set elsewhere."""
    for name, text in flags.values.items():
        unknown = unknown_variable(text)
        if unknown:
            files = [entry.value.lstrip("-") for entry in unit.all("Service", "EnvironmentFile")]
            where = f" (perhaps {', '.join(files)} on the host does)" if files else ""
            raise ConfigError(
                f"{unit.path}:{command.line}: ExecStart: {shown(name, text)}: {unknown} is not set in the unit{where}; "
                f"write the value, or import the environment.sh that sets it together with the unit"
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
        draft.note(f"All certificates and keys are stored in {directory}; the unit has some elsewhere ({elsewhere[0]}).")
    if certificate and files["cert-file"] == files["peer-cert-file"]:
        draft.set("tls", "shared", True)
        draft.note("tls.shared: the unit uses one certificate for clients and peers; false gives each host and role its own.")
    if authorities["peer-trusted-ca-file"] not in ("", ca):
        other = authorities["peer-trusted-ca-file"]
        draft.note(f"One CA is used for clients and peers; the unit has another CA for peers ({other}).")
    if ca:
        draft.note(
            f"The hosts trust {ca}. To keep that CA, set tls.ca_certificate and tls.ca_key; otherwise a new CA is created, and "
            f"clients need new certificates. New keys are then of the type that the CA has."
        )
    # A trusted CA file makes etcd require client certificates even without --client-cert-auth.
    lax = [
        who for who in ("", "peer-") if asks[who + "client-cert-auth"] != "true" and not authorities[who + "trusted-ca-file"]
    ]
    if certificate and lax:
        names = " and ".join("peers" if who else "clients" for who in lax)
        draft.note(f"The unit requires no certificate from {names}; the deployed members do.")


def _take_paths(unit: Unit, command: Entry, flags: CommandFlags, draft: Draft) -> None:
    work = unit.last("Service", "WorkingDirectory").lstrip("-")
    for name, flag in (("data", "data-dir"), ("wal", "wal-dir")):
        text = flags.take(flag)
        if text and not PLACEHOLDER.search(text):
            text = str(PurePosixPath(work or "/", text))
            draft.set("paths", name, _directory(unit, command.line, f"ExecStart: --{flag}", text))
        elif text:
            draft.note(f"--{flag}={text} differs between hosts; all hosts use one directory, paths.{name}.")
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


def _take_store(flags: CommandFlags, draft: Draft, *, is_running: bool) -> None:
    """What a running member's unit does not set stays as etcd has it; a template gets the defaults of a cluster file."""
    quota = flags.take("quota-backend-bytes")
    if quota.lstrip("-").isdigit() and int(quota) < 0:
        draft.note("The unit disables the quota, which a cluster file cannot; the default is used.")
    elif quota.isdigit() or is_running:
        draft.set("", "quota_backend_bytes", int(quota) if quota.isdigit() and int(quota) else _DEFAULT_QUOTA)
    mode, retention = flags.take("auto-compaction-mode"), flags.take("auto-compaction-retention")
    if mode and mode != "periodic":
        draft.set("", "auto_compaction_mode", mode)
    if retention:
        draft.set("", "auto_compaction_retention", retention)
    else:
        if mode == "revision":
            draft.set("", "auto_compaction_retention", "0")
        elif is_running:
            draft.set("", "auto_compaction_retention", "0")
            draft.note("The unit has no auto-compaction, so it stays off; auto_compaction_retention: 1h is recommended.")
        else:
            draft.note("The unit has no auto-compaction; the default of auto_compaction_retention is used.")


def _take_unit_name(unit: Unit, draft: Draft) -> None:
    """service.unit from the file name: etcd.service, etcd.service.template and etcd-kube-node1.service are all `etcd`."""
    name, suffix, _ = unit.path.name.partition(".service")
    if not suffix:
        return
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
                raise InvalidFlag("differs between hosts; set it under hosts[].flags")
            check_value(name, text)
        except InvalidFlag as error:
            draft.note(f"Not imported: {shown(name, text)} ({error}).")
        else:
            draft.flags[name] = text
    for argument in flags.unknown:
        draft.note(f"Not imported: {argument} (not a flag of etcd).")


def _note_environment(unit: Unit, variables: Mapping[str, str], draft: Draft) -> None:
    for entry in unit.all("Service", "EnvironmentFile"):
        path = entry.value.lstrip("-")
        draft.note(f"{path} is on the hosts and was not read: its ETCD_... variables are not imported.")
    others = other_variables(variables)
    if others:
        draft.note(f"Not imported from Environment=: {', '.join(others)}; use a drop-in of the unit.")
