"""Members that other tools have deployed, read as if they were units of systemd.

    /etc/etcd.env                             kubespray: ETCD_... variables, which its unit reads by EnvironmentFile=
    /etc/kubernetes/manifests/etcd.yaml       kubeadm: a static pod, whose command line has the flags

Nothing is executed and no other file is read.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from tercet.deploy.draft.text_file import read_text
from tercet.deploy.draft.unit_reading import Entry, Unit
from tercet.errors import ConfigError

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_MEMBERS_LINE = re.compile(r"(?m)^ETCD_INITIAL_CLUSTER=")
_POD_LINE = re.compile(r"(?m)^kind:\s*Pod\s*$")
_POD_CERTIFICATES = re.compile(r"--(?:peer-)?(?:cert|key|trusted-ca)-file=.*")


def is_environment_file(text: str) -> bool:
    """Whether it has the members as an ETCD_... variable; a script for shells exports its variables."""
    return bool(_MEMBERS_LINE.search(text))


def is_static_pod(text: str) -> bool:
    return bool(_POD_LINE.search(text))


def read_environment_file(path: Path) -> list[Entry]:
    """The variables as Environment= entries. Raises ConfigError with file and line."""
    entries = []
    for number, raw in enumerate(read_text(path, "environment file").splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        found = _ASSIGNMENT.fullmatch(line)
        if found is None:
            raise ConfigError(f"{path}:{number}: {line[:60]!r} is not NAME=VALUE; not an environment file of systemd")
        value = found[2].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        entries.append(Entry("Environment", _quoted(f"{found[1]}={value}"), number))
    return entries


def unit_of_environment(path: Path) -> Unit:
    """A unit that runs etcd with the variables of this file."""
    return Unit(path, {"Service": [Entry("ExecStart", "etcd", 1), *read_environment_file(path)]})


def with_environment(unit: Unit, path: Path) -> Unit:
    """The unit, with the variables of the file that its EnvironmentFile= names on the hosts."""
    others = [
        entry
        for entry in unit.sections.get("Service", [])
        if entry.key != "EnvironmentFile" or Path(entry.value.lstrip("-")).name != path.name
    ]
    return Unit(unit.path, {**unit.sections, "Service": [*others, *read_environment_file(path)]})


def unit_of_static_pod(path: Path) -> Unit:
    """A unit with the command line of the pod, without its certificates: they belong to kubeadm. Raises ConfigError."""
    try:
        manifest: Any = yaml.safe_load(read_text(path, "manifest of a pod"))
        command = [str(word) for container in manifest["spec"]["containers"] for word in container["command"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the manifest of a static pod with a command: {error}") from error
    if not command or Path(command[0]).name != "etcd":
        raise ConfigError(f"{path}: the pod does not run etcd")
    words = [word for word in command if not _POD_CERTIFICATES.fullmatch(word)]
    return Unit(path, {"Service": [Entry("ExecStart", " ".join(map(_quoted, words)), 1), Entry("User", "root", 1)]})


def pod_directory(path: Path) -> str:
    """Directory of kubeadm's CA of etcd, from the pod's --trusted-ca-file; "" if it has none."""
    found = re.search(r"--trusted-ca-file=(\S+)/[^/\s]+", read_text(path, "manifest of a pod"))
    return shlex.split(found[1])[0] if found else ""


def _quoted(word: str) -> str:
    """One word in systemd's quotes."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'
