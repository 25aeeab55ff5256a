"""Import of a deployment: its environment.sh, the unit file of a member, or both; or of kubespray's or kubeadm's files.

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
from tercet.deploy.draft.foreign_layouts import (
    is_environment_file,
    is_static_pod,
    pod_directory,
    unit_of_environment,
    unit_of_static_pod,
    with_environment,
)
from tercet.deploy.draft.shell_assignments import Script
from tercet.deploy.draft.template import render, set_engine
from tercet.deploy.draft.text_file import read_text
from tercet.deploy.draft.unit_import import draft_of_unit, read_unit_of_etcd
from tercet.deploy.draft.unit_reading import Unit, read_unit
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
    """From an environment.sh, a member's files, or both; the kinds are detected from the content. Raises ConfigError.

    A member's files are its unit, its environment file (kubespray's etcd.env), both, or the manifest of its static pod.
    """
    kinds: dict[str, Path] = {}
    for path in paths:
        if _kind(path) in kinds:
            raise _unexpected(paths)
        kinds[_kind(path)] = path
    script, unit, variables, pod = (kinds.get(kind) for kind in ("script", "unit", "environment file", "pod"))
    if not paths or (pod and (unit or variables)):
        raise _unexpected(paths)
    if pod is None and variables is None:
        return _from_script_and_unit(script, unit, engine)
    known = _variables(read_environment(script)[1]) if script else {}
    draft = _draft_of_pod(pod) if pod else draft_of_unit(_unit(unit, variables), known)
    if script:
        draft = _merge(read_environment(script)[0], draft, script, paths[-1])
    if not draft.hosts:
        raise ConfigError(f"{paths[0]}: no members: the initial cluster with names and addresses is missing")
    return _finish(draft, list(paths), engine)


def _from_script_and_unit(script: Path | None, unit: Path | None, engine: EngineKind | None) -> Imported:
    if unit is None:
        return from_environment_sh(script or Path(), engine=engine)
    if script is None:
        return from_unit(unit, engine=engine)
    named, variables = read_environment(script)
    draft = read_unit_of_etcd(unit, _variables(variables))
    return _finish(_merge(named, draft, script, unit), [script, unit], engine)


def _kind(path: Path) -> str:
    if is_unit(path):
        return "unit"
    text = read_text(path, "file of a deployment")
    if is_static_pod(text):
        return "pod"
    return "environment file" if is_environment_file(text) else "script"


def _unexpected(paths: Sequence[Path]) -> ConfigError:
    shown = ", ".join(map(str, paths)) or "nothing"
    return ConfigError(
        f"cannot import {shown}: expected an environment.sh, a unit file, or one of each; or an etcd.env; or a pod's manifest"
    )


def _unit(unit: Path | None, variables: Path | None) -> Unit:
    if unit is None:
        return unit_of_environment(variables or Path())
    return with_environment(read_unit(unit), variables) if variables else read_unit(unit)


def _draft_of_pod(path: Path) -> Draft:
    draft = draft_of_unit(unit_of_static_pod(path))
    directory = pod_directory(path)
    if directory:
        draft.note(
            f"kubeadm's certificates in {directory} are left alone. Copy ca.crt and ca.key from there, and name them in "
            "tls.ca_certificate and tls.ca_key, so that the API servers' certificates stay valid."
        )
    draft.note(
        "The member runs as a static pod: move its manifest out of the manifests directory, on one host after the other, and "
        "run `tercet deploy apply --limit NAME` for that host."
    )
    draft.note("kubeadm names only the members that were there when a host joined: take the manifest of the last one.")
    return draft


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
    if engine not in (None, given):
        draft.settings.get("", {}).pop("adopted", None)
    if draft.settings.get("", {}).get("adopted"):
        draft.note(
            "adopted: true: apply changes nothing on the hosts. Set tls.ca_certificate and tls.ca_key, so that the operator "
            "gets a certificate; adopted: false lets apply manage units, programs and certificates."
        )
    if given == "etcd" and engine == "tercet":
        draft.note("The unit runs etcd, and tercet cannot read its data directory; set another one (paths.data).")
    text = render(draft, origin=" and ".join(path.name for path in paths))
    try:
        parse(text, Path("cluster.yaml"))
    except ClusterFileError as error:
        reasons = "; ".join(f"{problem.field}: {problem.text}" for problem in error.problems)
        raise ConfigError(f"{paths[-1]}: not a valid cluster file after import: {reasons}") from error
    return Imported(text, tuple(draft.notes))
