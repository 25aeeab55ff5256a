"""Import of a manual deployment: its environment.sh, the unit file of a member, or both.

    imported = from_files([Path("environment.sh"), Path("etcd.service")])
    imported.text                       a valid cluster.yaml
    imported.notes                      what it cannot express; also in its comments

The files are parsed, not executed, and no other file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tercet.deploy.cluster.cluster_file import parse
from tercet.deploy.cluster.problems import ClusterFileError
from tercet.deploy.cluster.settings import EngineKind
from tercet.deploy.draft.draft import Draft, Imported
from tercet.deploy.draft.environment_import import read_environment
from tercet.deploy.draft.shell_assignments import Script
from tercet.deploy.draft.template import render, set_engine
from tercet.deploy.draft.unit_import import read_unit_of_etcd
from tercet.errors import ConfigError

_LOOKED_AT_BYTES = 1 << 17


def from_environment_sh(path: Path, *, engine: EngineKind | None = None) -> Imported:
    """The text of a cluster.yaml. engine: by default tercet. Raises ConfigError with file, line and variable."""
    draft, _ = read_environment(path)
    return _finish(draft, [path], engine)


def from_unit(path: Path, *, engine: EngineKind | None = None) -> Imported:
    """The text of a cluster.yaml. engine: by default the one of the unit. Raises ConfigError with file and line."""
    draft = read_unit_of_etcd(path)
    if not draft.hosts:
        raise ConfigError(
            f"{path}: no members: --initial-cluster with names and addresses is missing. Import a unit template "
            f"(##NODE_NAME##, ##NODE_IP##) together with the environment.sh that has the hosts"
        )
    return _finish(draft, [path], engine)


def from_files(paths: Sequence[Path], *, engine: EngineKind | None = None) -> Imported:
    """From one file of either kind, or one of each; the kind is detected from the content. Raises ConfigError."""
    units = [path for path in paths if is_unit(path)]
    scripts = [path for path in paths if path not in units]
    if not paths or len(units) > 1 or len(scripts) > 1:
        shown = ", ".join(map(str, paths)) or "nothing"
        raise ConfigError(f"cannot import {shown}: expected an environment.sh, a unit file, or one of each")
    if not units:
        return from_environment_sh(scripts[0], engine=engine)
    if not scripts:
        return from_unit(units[0], engine=engine)
    named, script = read_environment(scripts[0])
    unit = read_unit_of_etcd(units[0], _variables(script))
    return _finish(_merge(named, unit, scripts[0], units[0]), [scripts[0], units[0]], engine)


def is_unit(path: Path) -> bool:
    """Whether the file is a systemd unit, by its first line that is not a comment. Raises ConfigError if unreadable."""
    try:
        with path.open("rb") as file:
            text = file.read(_LOOKED_AT_BYTES).decode(errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and line[0] not in "#;"), "").startswith("[")


def _variables(script: Script) -> dict[str, str]:
    """The known variables of the script; an array is its first element, as in a shell."""
    return {
        name: variable.values[0].known
        for name, variable in script.variables.items()
        if variable.values and not variable.values[0].unknown
    }


def _merge(named: Draft, unit: Draft, script_path: Path, unit_path: Path) -> Draft:
    """Hosts from the script, settings from the unit. Raises ConfigError if their members differ."""
    if unit.hosts and set(unit.hosts) != set(named.hosts):
        ours, theirs = (", ".join(f"{name} ({address})" for name, address in hosts) for hosts in (unit.hosts, named.hosts))
        raise ConfigError(f"{unit_path} has the members {ours}, but {script_path} has {theirs}; correct one of them")
    unit.hosts = named.hosts
    for section, fields in named.settings.items():
        for name, value in fields.items():
            unit.settings.setdefault(section, {}).setdefault(name, value)
    unit.notes = [*named.notes, *unit.notes]
    return unit


def _finish(draft: Draft, paths: Sequence[Path], engine: EngineKind | None) -> Imported:
    given = draft.settings.get("engine", {}).get("kind")
    set_engine(draft, engine or ("etcd" if given == "etcd" else "tercet"))
    if given == "etcd" and engine == "tercet":
        draft.note("The unit runs etcd, and tercet cannot read its data directory; set another one (paths.data).")
    text = render(draft, origin=" and ".join(path.name for path in paths))
    try:
        parse(text, Path("cluster.yaml"))
    except ClusterFileError as error:
        reasons = "; ".join(f"{problem.field}: {problem.text}" for problem in error.problems)
        raise ConfigError(f"{paths[-1]}: not a valid cluster file after import: {reasons}") from error
    return Imported(text, tuple(draft.notes))
